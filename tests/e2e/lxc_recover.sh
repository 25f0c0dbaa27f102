#!/bin/bash
# lxc_recover: the database is lost, whole or in part: 'lxd recover' and 'hawser recover' find what lies on the pools and take
# it in, running instances, snapshots, custom volumes and pools included; nothing of it is removed meanwhile.
. "$(dirname "$0")/lib.sh"
only_hawser || e2e_skip_all "takes rows out of Hawser's database"
e2e_begin
need sqlite3
daemon_start
e2e_defaults
DB=$LXD_DIR/database/hawser.db
sql() { sqlite3 "$DB" "PRAGMA foreign_keys=ON; $1"; }
hawser=$(hawser_path)
# What LXD's own tool is answered, one line each; without that tool ours does the same.
recover() {
    if [ -x /usr/bin/lxd ]; then printf '%s\n' "$@" | timeout 60 /usr/bin/lxd recover; return; fi
    case $* in
    yes*) "$hawser" recover --yes --pool "$2:$3:$4" ;;
    *'yes yes') "$hawser" recover --yes ;;
    *) "$hawser" recover -f csv 2>&1 ;;
    esac
}
in_c1() { lxc exec c1 --project test -- "$@"; }
config() { lxc config show c1 --project test | grep -v '^  volatile.last_state.power\|^  volatile.*host_name\|^  volatile.uuid.generation'; }

# ---- an instance and a custom volume ----
must lxc project create test -c features.images=false -c features.profiles=false
must lxc launch busybox c1 --project test -c user.note=kept
must lxc storage volume create default v1 --project test
must lxc storage volume attach default v1 c1 /mnt --project test
must in_c1 sh -c 'echo hello >/mnt/file; echo root >/root/file'
must lxc snapshot c1 s0 --project test
must lxc storage volume snapshot default v1 vs0 --project test
must lxc stop -f c1 --project test
before=$(config)
shows 'nothing is unknown at first' 'No unknown volumes found' recover no yes
daemon_stop
sql "DELETE FROM instances WHERE name='c1'; DELETE FROM volumes WHERE name IN ('c1', 'v1')"
daemon_start
shows 'their directories stay' 'test_c1' ls "$LXD_DIR/storage-pools/default/containers"
shows 'with the snapshots' 's0' ls "$LXD_DIR/storage-pools/default/containers-snapshots/test_c1"
refuse 'they are no instance' 'not found' lxc info c1 --project test
refuse 'a new one does not take their place' 'recover' lxc init busybox c1 --project test
shows "'hawser recover' lists them" '^default,test,container,c1,1$' "$hawser" recover -f csv
hides 'and changes nothing' c1 lxc list --project test
[ ! -x /usr/bin/lxd ] || shows "'lxd recover' finds them" 'Container "c1" on pool "default" in project "test" .includes 1 snapshots' recover no yes no
claim 'and takes them in' recover no yes yes
same 'the instance is as it was' "$before" config
shows 'with its snapshot' s0 lxc info c1 --project test
claim 'it starts' lxc start c1 --project test
same 'with its files' root in_c1 cat /root/file
same 'and the volume' hello in_c1 cat /mnt/file
claim 'which has its snapshot' lxc storage volume show default v1/vs0 --project test
must in_c1 rm /root/file
must lxc stop -f c1 --project test
claim 'the snapshot can be restored' lxc restore c1 s0 --project test
must lxc start c1 --project test
same 'and brings the file back' root in_c1 cat /root/file

# ---- while it runs ----
pid=$(lxc query /1.0/instances/c1/state?project=test | jq .pid)
daemon_stop
sql "DELETE FROM instances WHERE name='c1'; DELETE FROM volumes WHERE name = 'c1'"
daemon_start
claim 'what runs is recovered' recover no yes yes
same 'and runs on' "$pid" sh -c 'lxc query "/1.0/instances/c1/state?project=test" | jq .pid'
same 'commands reach it' root in_c1 cat /root/file

# ---- something is lacking ----
must lxc profile create extra
must lxc profile add c1 extra --project test
daemon_stop
sql "DELETE FROM instances WHERE name='c1'; DELETE FROM volumes WHERE name = 'c1'; DELETE FROM profiles WHERE name = 'extra'"
daemon_start
refuse 'a profile that is missing is named' 'Profile "extra" in project "test"' "$hawser" recover --yes
hides 'and nothing is taken in' c1 lxc list --project test
must lxc profile create extra
claim 'once it is there' "$hawser" recover --yes
claim 'a killed instance is cleaned up as any' lxc delete -f c1 --project test
hides 'and leaves nothing on the pool' test_c1 ls "$LXD_DIR/storage-pools/default/containers"

# ---- the whole database ----
must lxc launch busybox c2
must lxc snapshot c2 one
must lxc stop -f c2
must lxc storage set default user.pool=mine
must lxc config set c2 user.last=yes
source=$(lxc storage get default source)
daemon_stop
mkdir "$LXD_DIR/lost" && mv "$LXD_DIR/database/"* "$LXD_DIR/lost/"
daemon_start
same 'a new database has no pool' '[]' sh -c 'lxc query /1.0/storage-pools | tr -d " \n"'
refuse 'the network is missing' 'Network "e2ebr0"' "$hawser" recover --pool "default:$E2E_POOL_DRIVER:$source" --yes
same 'and the pool is forgotten again' '[]' sh -c 'lxc query /1.0/storage-pools | tr -d " \n"'
must ip link delete e2ebr0 # the new database does not know it
must lxc network create e2ebr0 ipv4.address=10.94.7.1/24 ipv4.nat=true ipv6.address=none
must lxc project create test -c features.images=false -c features.profiles=false
claim 'the pool is named and everything comes back' recover yes default "$E2E_POOL_DRIVER" "$source" '' no yes yes
same 'the pool with its keys' mine lxc storage get default user.pool
shows 'the custom volume' v1 lxc storage volume list default --project test
claim 'the instance starts' lxc start c2
shows 'with its snapshot' one lxc info c2
must lxc stop -f c2

# ---- killed in the middle ----
for step in 1 2; do
    daemon_stop
    sql "DELETE FROM instances WHERE name='c2'; DELETE FROM volumes WHERE name = 'c2'"
    DAEMON_ENV="HAWSER_CRASH=recover:$step" daemon_start
    quiet "$hawser" recover --yes
    daemon_wait_end main 10
    daemon_start
    quiet "$hawser" recover --yes
    claim "killed at step $step: the next import goes on" lxc start c2
    shows 'with its snapshot' one lxc info c2
    must lxc stop -f c2
done
must lxc delete c2
e2e_end
