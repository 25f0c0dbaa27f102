#!/bin/bash
# lxc_projects: profiles and projects: features, limits, restrictions, what is shared and what is not, as the
# unmodified lxc client sees it.
E2E_LEAKS=1
. "$(dirname "$0")/lib.sh"
e2e_begin
daemon_start
e2e_defaults
T=$E2E_DIR

# ---- profiles ----
claim 'a profile' lxc profile create web
refuse 'twice is refused' 'already exists' lxc profile create web
refuse 'a bad name is refused' '' lxc profile create a/b
claim 'a key' lxc profile set web limits.processes 321
same 'is read' 321 lxc profile get web limits.processes
refuse 'an unknown key is refused' 'nknown' lxc profile set web no.such 1
refuse 'an unknown device type is refused' '' lxc profile device add web odd nosuch
claim 'a device' lxc profile device add web data disk source="$T" path=/mnt/data
claim 'edited as YAML' sh -c 'lxc profile show web | sed "s/^description:.*/description: of the web/" | lxc profile edit web'
shows 'is kept' '^description: of the web' lxc profile show web
claim 'a container with two profiles' lxc launch busybox p1 -p default -p web
shows 'has the key' 'limits.processes: "321"' lxc config show -e p1
claim 'and the device' lxc exec p1 -- test -d /mnt/data
shows 'used by is shown' '/1.0/instances/p1' lxc profile show web
refuse 'one in use is kept' 'in use' lxc profile delete web
claim 'a change reaches the running container' lxc profile set web user.live yes
shows 'at once' 'user.live: "yes"' lxc config show -e p1
claim 'a device taken from the profile' lxc profile device remove web data
same 'leaves the running container' 1 status_of lxc exec p1 -- test -d /mnt/data/home
claim 'assigned' lxc profile assign p1 default
hides 'and gone' 'user.live' lxc config show -e p1
claim 'added' lxc profile add p1 web
claim 'removed' lxc profile remove p1 web
claim 'copied' lxc profile copy web web2
same 'with its keys' 321 lxc profile get web2 limits.processes
claim 'renamed' lxc profile rename web2 web3
refuse 'default is not deleted' '' lxc profile delete default
refuse 'nor renamed' '' lxc profile rename default other
claim 'deleted' sh -c 'lxc profile delete web && lxc profile delete web3'
must lxc delete -f p1

# ---- projects ----
must lxc profile create bare
must lxc profile device add bare root disk path=/ pool=default
claim 'a project' lxc project create one
refuse 'twice is refused' 'already exists' lxc project create one
refuse 'a bad name is refused' '' lxc project create 'a b'
refuse 'an unknown key is refused' '' lxc project set one colour red
shows 'is listed' '^one,YES,YES' lxc project list -f csv
claim 'a project that shares images and profiles' lxc project create two -c features.images=false -c features.profiles=false
claim 'switch' lxc project switch two
claim 'a container of the shared image and profile' lxc launch busybox same -p bare
lxc project switch default
claim 'the same name in the default project' lxc launch busybox same -p bare
same 'both run' 2 sh -c 'lxc list --all-projects -f csv -c ns | grep -c ^same,RUNNING'
same 'each lists its own' 1 sh -c 'lxc list --project two -f csv -c n | wc -l'
claim 'the directory carries the project' test -d "$LXD_DIR/storage-pools/default/containers/two_same/rootfs"
same 'exec reaches the right one' same lxc exec same --project two -- hostname
claim 'no image in a project with its own' sh -c 'test -z "$(lxc image list --project one -f csv -c f)"'
claim 'its own default profile' lxc profile show default --project one
hides 'is empty' 'pool: default' lxc profile show default --project one
claim 'the same image in another project' lxc image import "$T/busybox.tar.gz" --project one --alias bb
claim 'a container moves between projects' sh -c 'lxc stop -f same --project two && lxc move same --project two --target-project default --instance-only 2>/dev/null || lxc copy same moved --project two --target-project default'
quiet lxc delete -f moved
refuse 'one with content is kept' 'empty|in use' lxc project delete two
refuse 'default is kept' '' lxc project delete default
refuse 'nor is it renamed' 'empty' lxc project rename one uno
must lxc image delete bb --project one
claim 'an empty one is renamed' lxc project rename one uno
shows 'shows its name' '^uno' lxc project list -f csv
must lxc image import "$T/busybox.tar.gz" --project uno --alias bb

# ---- limits ----
must lxc profile device add default root disk path=/ pool=default --project uno
claim 'a limit of instances' lxc project set uno limits.containers 1
claim 'one fits' lxc init bb a --project uno
refuse 'a second is refused' 'limit|[Rr]eached' lxc init bb b --project uno
claim 'a limit of memory needs it everywhere' sh -c '! lxc project set uno limits.memory 1GiB'
must lxc config set a limits.memory 512MiB --project uno
claim 'and is taken then' lxc project set uno limits.memory 1GiB
refuse 'more is refused' 'exceed|limit|maximum' lxc config set a limits.memory 2GiB --project uno
claim 'less is fine' lxc config set a limits.memory 1GiB --project uno
shows 'info shows the use' 'CONTAINERS|containers' lxc project info uno
claim 'a limit of processes is checked, too' sh -c '! lxc project set uno limits.processes abc'
claim 'limits go' lxc project unset uno limits.memory

# ---- restrictions ----
claim 'restricted' lxc project set uno restricted true
refuse 'no privileged containers' '[Pp]rivileged|forbid' lxc config set a security.privileged true --project uno
refuse 'no raw.lxc' 'forbid|raw' lxc config set a raw.lxc 'lxc.foo = 1' --project uno
refuse 'no nesting' 'forbid|nest' lxc config set a security.nesting true --project uno
refuse 'no disk of the host' 'forbid|[Dd]isk' lxc config device add a d disk source="$T" path=/mnt --project uno
claim 'allowed again' lxc project set uno restricted.containers.nesting allow
claim 'is allowed' lxc config set a security.nesting true --project uno
claim 'a project with content goes by force of emptying it' sh -c 'lxc delete -f a --project uno; lxc image delete bb --project uno; lxc project delete uno'
must lxc delete -f same
quiet lxc delete -f same --project two
claim 'and the other' lxc project delete two

# ---- custom volumes and networks of a project ----
must lxc project create net -c features.networks=false -c features.storage.volumes=true
claim 'a volume of a project' lxc storage volume create default vol --project net
hides 'is not seen by others' vol lxc storage volume list default -f csv
claim 'lies where LXD has it' test -d "$LXD_DIR/storage-pools/default/custom/net_vol"
claim 'and goes' lxc storage volume delete default vol --project net
must lxc project delete net
e2e_end
