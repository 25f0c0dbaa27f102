#!/bin/bash
# inst_guest: what inst's doors into a container promise beyond lxc_inside: proxies of every kind, custom
# volumes, watched devices, restarts of the agent under them, events of /dev/lxd, odd files, metadata.
E2E_LEAKS=1
. "$(dirname "$0")/lib.sh"
e2e_begin
need gcc socat losetup mkfs.ext4
daemon_start
e2e_defaults
must lxc launch busybox c1
in_c1() { lxc exec c1 -- "$@"; }
put() { lxc config device add "$@"; }
T=$E2E_DIR
rest() { curl -s --unix-socket "$LXD_DIR/unix.socket" "$@"; }
F=http://x/1.0/instances/c1/files

# ---- proxies ----
in_c1 sh -c 'nc -ll -p 7000 -e cat >/dev/null 2>&1 & nc -ll -p 7001 -e cat >/dev/null 2>&1 &' >/dev/null 2>&1
said() { test "$( (echo "$1"; sleep 0.4) | timeout 3 socat - "$2")" = "$1"; }
claim 'a range of ports' put c1 range proxy listen=tcp:127.0.0.1:17000-17001 connect=tcp:127.0.0.1:7000-7001
claim 'reaches the first' wait_for 5 said one TCP:127.0.0.1:17000
claim 'and the second' said two TCP:127.0.0.1:17001
refuse 'a port that is in use is refused' 'in use' put c1 twice proxy listen=tcp:127.0.0.1:17000 connect=tcp:127.0.0.1:7000
claim 'and leaves no device behind' sh -c '! lxc config device list c1 | grep -q twice'
claim 'with it the container starts again' lxc restart -f c1
in_c1 sh -c 'nc -ll -p 7000 -e cat >/dev/null 2>&1 & nc -ll -p 7001 -e cat >/dev/null 2>&1 &' >/dev/null 2>&1
claim 'and it carries' wait_for 5 said anew TCP:127.0.0.1:17000
claim 'the agent restarts' daemon_restart
claim 'the proxy goes on' said again TCP:127.0.0.1:17000
claim 'is still known' lxc config device remove c1 range
claim 'and gone' sh -c '! timeout 2 socat - TCP:127.0.0.1:17000 </dev/null'
claim 'a unix socket of the host' put c1 us proxy listen=unix:"$T/px.sock" connect=tcp:127.0.0.1:7000 mode=0666 uid=1234 gid=1235
same 'has the mode and owner that were asked for' '666 1234 1235' stat -c '%a %u %g' "$T/px.sock"
claim 'carries bytes' said three "UNIX-CONNECT:$T/px.sock"
must lxc config device remove c1 us
claim 'is removed' test ! -e "$T/px.sock"
socat TCP-LISTEN:17500,bind=127.0.0.1,reuseaddr,fork EXEC:cat &
claim 'a unix socket inside, to the host' put c1 ui proxy bind=instance listen=unix:/tmp/in.sock connect=tcp:127.0.0.1:17500 mode=0600
same 'belongs to the root inside' '600 0 0' in_c1 stat -c '%a %u %g' /tmp/in.sock
must lxc config device remove c1 ui
claim 'and is removed' in_c1 test ! -e /tmp/in.sock
nsenter -n -t "$(lxc info c1 | awk '/^PID:/{print $2}')" socat UDP-LISTEN:7053,bind=127.0.0.1,fork EXEC:cat &
must wait_for 20 in_c1 sh -c 'netstat -uln | grep -q :7053'
claim 'udp' put c1 ud proxy listen=udp:127.0.0.1:17053 connect=udp:127.0.0.1:7053
claim 'answers come back' sh -c 'test "$( (echo dg; sleep 1) | timeout 3 socat - UDP:127.0.0.1:17053)" = dg'
must lxc config device remove c1 ud
in_c1 sh -c 'nc -l -p 7002 >/tmp/header 2>/dev/null &' >/dev/null 2>&1
claim 'the PROXY header' put c1 pp proxy listen=tcp:127.0.0.1:17002 connect=tcp:127.0.0.1:7002 proxy_protocol=true
echo body | timeout 2 socat - TCP:127.0.0.1:17002
shows 'names the client' '^PROXY TCP4 127.0.0.1 127.0.0.1 [0-9]+ 17002' in_c1 cat /tmp/header
must lxc config device remove c1 pp
claim 'a reduced proxy' put c1 lo proxy listen=tcp:127.0.0.1:17003 connect=tcp:127.0.0.1:7000 security.uid=1000 security.gid=1000
claim 'works' said low TCP:127.0.0.1:17003
must lxc config device remove c1 lo
refuse 'a host name is no address' 'Not an IP' put c1 bad proxy listen=tcp:localhost:1 connect=tcp:127.0.0.1:1
refuse 'more targets than ports' 'single port to multiple' put c1 bad proxy listen=tcp:127.0.0.1:1 connect=tcp:127.0.0.1:1-2
claim 'a fixed address for nat' lxc config device override c1 eth0 ipv4.address=10.94.7.77
must lxc restart -f c1
claim 'is taken' wait_for 20 sh -c 'lxc list -f csv -c 4 c1 | grep -q 10.94.7.77'
in_c1 sh -c 'nc -ll -p 7000 -e cat >/dev/null 2>&1 &' >/dev/null 2>&1
ip addr add 10.99.99.1/32 dev lo
claim 'nat' put c1 nat proxy nat=true listen=tcp:10.99.99.1:80 connect=tcp:10.94.7.77:7000
shows 'is a chain of the lxd table' 'chain prert.c1.nat' nft list table inet lxd
claim 'and carries bytes' wait_for 5 said nat TCP:10.99.99.1:80
must lxc config device remove c1 nat
hides 'its chains are gone' 'c1.nat' nft list ruleset

# ---- disks ----
must lxc launch busybox c2
must lxc storage volume create default vol1
claim 'a custom volume, live' put c1 v disk pool=default source=vol1 path=/mnt/vol
claim 'is written by the root inside' in_c1 sh -c 'echo mine >/mnt/vol/f'
claim 'in a second container' put c2 v disk pool=default source=vol1 path=/mnt/vol
same 'shows the same ids' '0 mine' lxc exec c2 -- sh -c 'echo $(stat -c %u /mnt/vol/f) $(cat /mnt/vol/f)'
refuse 'it is in use' '' lxc storage volume delete default vol1
must lxc restart -f c2
same 'and back after a restart' mine lxc exec c2 -- cat /mnt/vol/f
must daemon_restart
claim 'unplugged after a restart of the agent' lxc config device remove c1 v
same 'gone' 1 status_of in_c1 test -e /mnt/vol/f
on_disk() { stat -c %u "$LXD_DIR/storage-pools/default/custom/default_vol1/f"; }
host_root() { lxc exec "$1" -- awk 'NR == 1 {print $2}' /proc/self/uid_map; }
same 'its files are the containers on disk' "$(host_root c2)" on_disk
must lxc config set c1 security.idmap.isolated=true
must lxc restart -f c1
refuse 'another map is refused while somebody has it' 'not identical' put c1 v disk pool=default source=vol1 path=/mnt/vol
must lxc delete -f c2
claim 'alone, any map is right' put c1 v disk pool=default source=vol1 path=/mnt/vol
same 'the files follow it' "$(host_root c1)" on_disk
same 'and are the root inside its own' 0 in_c1 stat -c %u /mnt/vol/f
must lxc storage volume copy default/vol1 default/vol2
claim 'a copy knows whose its files are' put c1 w disk pool=default source=vol2 path=/mnt/copy
same 'and has them right' '0 mine' in_c1 sh -c 'echo $(stat -c %u /mnt/copy/f) $(cat /mnt/copy/f)'
must lxc config device remove c1 w
must lxc config device remove c1 v
must lxc storage volume set default vol1 security.shifted=true
must lxc launch busybox c2
claim 'a volume that is shared by any map' put c1 v disk pool=default source=vol1 path=/mnt/vol
claim 'is' put c2 v disk pool=default source=vol1 path=/mnt/vol
same 'with plain ids on disk' 0 on_disk
same 'which both see' '0 0' sh -c 'echo $(lxc exec c1 -- stat -c %u /mnt/vol/f) $(lxc exec c2 -- stat -c %u /mnt/vol/f)'
must lxc delete -f c2
must lxc config device remove c1 v
must lxc config unset c1 security.idmap.isolated
must lxc restart -f c1
must lxc storage volume delete default vol2
claim 'free again' lxc storage volume delete default vol1
for n in 1 2 3 4; do must lxc init busybox iso$n -c security.idmap.isolated=true; done
must lxc start iso1 iso2 iso3 iso4
same 'isolated ones that start at once have ids of their own' 4 sh -c \
    'for n in 1 2 3 4; do lxc exec iso$n -- cat /proc/self/uid_map; done | awk "{print \$2}" | sort -u | wc -l'
must lxc delete -f iso1 iso2 iso3 iso4
mkdir -p "$T/top/below" "$T/sh"; mount -t tmpfs none "$T/top/below"; echo deep >"$T/top/below/f"; echo own >"$T/sh/f"
claim 'a tree with its mounts' put c1 rec disk source="$T/top" path=/mnt/rec recursive=true
same 'has them' deep in_c1 cat /mnt/rec/below/f
must lxc config device remove c1 rec
umount "$T/top/below"
mkdir -p "$T/closed/in"; chmod 700 "$T/closed"; echo closed >"$T/closed/in/f"; echo one >"$T/closed/one"
must put c1 cl disk source="$T/closed/in" path=/mnt/closed
must put c1 cf disk source="$T/closed/one" path=/etc/onefile
must lxc restart -f c1
same 'a directory that only the host may walk to, from the start' closed in_c1 cat /mnt/closed/f
same 'and a file there' one in_c1 cat /etc/onefile
must lxc config device remove c1 cl
must lxc config device remove c1 cf
claim 'shifted ids' put c1 sh disk source="$T/sh" path=/mnt/sh shift=true
same 'are the root inside' 0 in_c1 stat -c %u /mnt/sh/f
must lxc restart -f c1
same 'also from the start' 0 in_c1 stat -c %u /mnt/sh/f
must lxc config device remove c1 sh
claim 'a source that may be missing' put c1 opt disk source="$T/none" path=/mnt/opt required=false
claim 'does not stop a start' lxc restart -f c1
must lxc config device remove c1 opt
truncate -s 64M "$T/ext4.img"; mkfs.ext4 -q "$T/ext4.img"; loop=$(losetup -f --show "$T/ext4.img")
claim 'a block device with a file system' put c1 blk disk source="$loop" path=/mnt/blk
shows 'is mounted' lost.found in_c1 ls /mnt/blk
must lxc config device remove c1 blk
claim 'and let go' losetup -d "$loop"
claim 'no mount is left of any of them' sh -c "! grep -q '$LXD_DIR/devices' /proc/self/mountinfo"

# ---- device nodes ----
loop=$(losetup -f --show "$T/ext4.img")
claim 'a block node' put c1 b unix-block source="$loop" path=/dev/blk mode=0600
claim 'can be read' in_c1 dd if=/dev/blk of=/dev/null bs=512 count=1
must lxc config device remove c1 b
losetup -d "$loop"
claim 'a node that may come later' put c1 late unix-char source="$T/late" path=/dev/late required=false
same 'is not there yet' 1 status_of in_c1 test -e /dev/late
mknod "$T/late" c 1 5
claim 'appears with its source' wait_for 5 lxc exec c1 -- test -c /dev/late
rm "$T/late"
claim 'and leaves with it' wait_for 5 lxc exec c1 -- test ! -e /dev/late
must lxc config device remove c1 late
refuse 'one that must be there' "doesn't exist" put c1 must unix-char source=/dev/nosuch path=/dev/x
refuse 'a block device is no character device' 'not a block' put c1 kind unix-block source=/dev/null path=/dev/x
claim 'hotplugged devices that are not there' put c1 hp unix-hotplug vendorid=dead productid=beef
claim 'usb devices that are not there' put c1 us usb vendorid=dead
refuse 'a gpu that is not there' 'GPU' put c1 g gpu pci=0000:ff:1f.0
refuse 'infiniband without hardware' 'exist' put c1 ib infiniband nictype=physical parent=ib0
claim 'a start with them' lxc restart -f c1
must lxc config device remove c1 hp
must lxc config device remove c1 us

# ---- files ----
same 'a directory over REST' directory sh -c "curl -s -D - -o /dev/null --unix-socket '$LXD_DIR/unix.socket' '$F?path=/etc' | tr -d '\r' | awk 'tolower(\$1)==\"x-lxd-type:\"{print \$2}'"
claim 'a symbolic link' sh -c "curl -s --unix-socket '$LXD_DIR/unix.socket' -H 'X-LXD-type: symlink' --data-binary /etc/passwd -X POST '$F?path=/root/l' | grep -q Success"
same 'is one' /etc/passwd in_c1 readlink /root/l
same 'is answered as one' /etc/passwd rest "$F?path=/root/l"
claim 'a directory with a mode' sh -c "curl -s --unix-socket '$LXD_DIR/unix.socket' -H 'X-LXD-type: directory' -H 'X-LXD-mode: 0711' -H 'X-LXD-uid: 7' -X POST '$F?path=/root/d' | grep -q Success"
same 'has it' '711 7' in_c1 stat -c '%a %u' /root/d
claim 'a file of procfs' sh -c "curl -s --unix-socket '$LXD_DIR/unix.socket' '$F?path=/proc/1/status' | grep -q ^Name:"
in_c1 mkfifo /root/fifo
same 'a pipe is refused, not waited for' 400 sh -c "curl -s -m 5 -o /dev/null -w '%{http_code}' --unix-socket '$LXD_DIR/unix.socket' '$F?path=/root/fifo'"
same 'nor written' 400 sh -c "curl -s -m 5 -o /dev/null -w '%{http_code}' --unix-socket '$LXD_DIR/unix.socket' -H 'X-LXD-type: file' --data-binary x -X POST '$F?path=/root/fifo'"
same 'no path' 400 sh -c "curl -s -o /dev/null -w '%{http_code}' --unix-socket '$LXD_DIR/unix.socket' '$F'"
same 'a bad type' 400 sh -c "curl -s -o /dev/null -w '%{http_code}' --unix-socket '$LXD_DIR/unix.socket' -H 'X-LXD-type: odd' -X POST '$F?path=/x'"
same 'a bad mode' 400 sh -c "curl -s -o /dev/null -w '%{http_code}' --unix-socket '$LXD_DIR/unix.socket' -H 'X-LXD-mode: 9z' -X POST '$F?path=/x'"
in_c1 ln -sfn / /root/up
echo secret >"$T/outside"
same 'a link to the root cannot name a host file' 404 sh -c "curl -s -o /dev/null -w '%{http_code}' --unix-socket '$LXD_DIR/unix.socket' '$F?path=/root/up/$T/outside'"
claim 'nor be written through' sh -c "curl -s --unix-socket '$LXD_DIR/unix.socket' --data-binary evil -X POST '$F?path=/root/up/$T/outside'; grep -q secret $T/outside"
head -c 60000000 /dev/urandom >"$T/big"
claim 'sixty megabytes' sh -c "lxc file push $T/big c1/root/big && lxc file pull c1/root/big $T/big2 && cmp $T/big $T/big2"
must lxc stop -f c1
claim 'a stopped container: the link stays inside' sh -c "curl -s --unix-socket '$LXD_DIR/unix.socket' --data-binary evil -X POST '$F?path=/root/up/$T/outside'; grep -q secret $T/outside"
claim 'owners there, too' sh -c "echo x | lxc file push - c1/root/s --uid 12 --gid 13 --mode 0604"
must lxc start c1
same 'are right once it runs' '12 13 604' in_c1 stat -c '%u %g %a' /root/s

# ---- metadata, logs ----
shows 'metadata' architecture api GET /1.0/instances/c1/metadata
same 'a property' 200 api_code PATCH /1.0/instances/c1/metadata '{"properties":{"color":"red"}}'
shows 'is kept' red api GET /1.0/instances/c1/metadata
same 'no object' 400 api_code PUT /1.0/instances/c1/metadata '{"templates":{"x":1}}'
same 'a template' 200 sh -c "curl -s -o /dev/null -w '%{http_code}' --unix-socket '$LXD_DIR/unix.socket' -X POST --data-binary hello 'http://x/1.0/instances/c1/metadata/templates?path=t.tpl'"
same 'is listed and read' 'hello' rest 'http://x/1.0/instances/c1/metadata/templates?path=t.tpl'
same 'a name that climbs' 400 sh -c "curl -s -o /dev/null -w '%{http_code}' --unix-socket '$LXD_DIR/unix.socket' 'http://x/1.0/instances/c1/metadata/templates?path=../metadata.yaml'"
claim 'goes away' sh -c "curl -s --unix-socket '$LXD_DIR/unix.socket' -X DELETE 'http://x/1.0/instances/c1/metadata/templates?path=t.tpl' | grep -q Success"
same 'lxc.conf is not deleted' 400 api_code DELETE /1.0/instances/c1/logs/lxc.conf
same 'an unknown log' 400 api_code GET /1.0/instances/c1/logs/secret

# ---- /dev/lxd ----
gcc -static -O1 -o "$T/unixget" "$E2E_LIB/unixget.c" || e2e_bail 'no static program'
must lxc file push --mode 0755 "$T/unixget" c1/bin/unixget
shows 'who is not root there' ' 401 ' lxc exec c1 --user 1000 -- unixget /dev/lxd/sock /1.0
(lxc exec c1 -- sh -c 'timeout 5 unixget /dev/lxd/sock /1.0/events' >"$T/events" 2>&1 &)
claim 'a listener is let in' wait_for 5 grep -q '101 Switching\|200 OK' "$T/events"
must lxc config set c1 user.tick tock
must put c1 n none
claim 'events arrive' wait_for 6 grep -q '"action": *"added"' "$T/events"
shows 'a change is an event' '"key": ?"user.tick"' cat "$T/events"
shows 'so is a device' '"action": ?"added"' cat "$T/events"
must lxc config device remove c1 n
shows 'a guest says that it is ready' ' 200 ' lxc exec c1 -- unixget /dev/lxd/sock /1.0 PATCH '{"state":"Ready"}'
same 'and the server knows' true lxc config get c1 volatile.last_state.ready
shows 'another word is refused' ' 400 ' lxc exec c1 -- unixget /dev/lxd/sock /1.0 PATCH '{"state":"Lazy"}'
busybox_image "$T/whole.tar.gz" split
mkdir "$T/split"; tar -C "$T/split" -xzf "$T/whole.tar.gz"
tar -C "$T/split" -czf "$T/meta.tar.gz" metadata.yaml templates
tar -C "$T/split/rootfs" -czf "$T/root.tar.gz" .
must lxc image import "$T/meta.tar.gz" "$T/root.tar.gz" --alias split --public
fp=$(lxc image list split -f json | jq -r '.[0].fingerprint')
shows 'images are not for every guest' ' 403 ' lxc exec c1 -- unixget /dev/lxd/sock "/1.0/images/$fp/export"
must lxc config set c1 security.devlxd.images true
lxc exec c1 -- unixget /dev/lxd/sock "/1.0/images/$fp/export" >"$T/parts"
shows 'a split image comes in two parts' 'name="rootfs"; filename=' grep -a rootfs "$T/parts"
claim 'whole' python3 - "$T" <<'END'
import sys
top = sys.argv[1]
head, body = open(top + "/parts", "rb").read().split(b"\r\n\r\n", 1)
length = int([l for l in head.split(b"\r\n") if l.lower().startswith(b"content-length")][0].split(b":")[1])
assert length == len(body), (length, len(body))
assert open(top + "/meta.tar.gz", "rb").read() in body and open(top + "/root.tar.gz", "rb").read() in body
END

# ---- backups ----
must lxc config device remove c1 eth0
in_c1 sh -c 'echo first >/root/kept; chown 5:6 /root/kept'
must lxc snapshot c1 s1
in_c1 sh -c 'echo second >/root/kept'
claim 'a running container is exported' lxc export c1 "$T/c1.tar.gz"
shows 'with its snapshot' 'backup/snapshots/s1/rootfs/root/kept' tar tzf "$T/c1.tar.gz"
shows 'and ids of its own' '^[^ ]+ 5/6 .*backup/container/rootfs/root/kept' tar tzvf "$T/c1.tar.gz" --numeric-owner
same 'the backup on the server is gone then' '[]' sh -c 'lxc query /1.0/instances/c1/backups | tr -d "\n"'
claim 'and imported under another name' lxc import "$T/c1.tar.gz" c8
must lxc start c8
same 'with its files and owners' 'second 5:6' lxc exec c8 -- sh -c 'echo $(cat /root/kept) $(stat -c %u:%g /root/kept)'
must lxc stop -f c8
must lxc restore c8 s1
must lxc start c8
same 'and its snapshot' first lxc exec c8 -- cat /root/kept
refuse 'not over one that is there' 'already exists' lxc import "$T/c1.tar.gz" c8
must lxc delete -f c8
head -c 5000 "$T/c1.tar.gz" >"$T/half"
refuse 'half an archive' '' lxc import "$T/half" c8
echo junk >"$T/junk"
refuse 'no archive' '' lxc import "$T/junk" c8
hides 'neither leaves anything' c8 lxc list -f csv -c n
claim 'a named backup' sh -c "lxc query --wait -X POST -d '{\"name\":\"b1\",\"instance_only\":true}' /1.0/instances/c1/backups | grep -q Success"
same 'is renamed' '/1.0/instances/c1/backups/b2' sh -c "lxc query --wait -X POST -d '{\"name\":\"b2\"}' /1.0/instances/c1/backups/b1 >/dev/null; lxc query /1.0/instances/c1/backups | jq -r '.[]'"
same 'twice is refused' 409 sh -c "curl -s -o /dev/null -w '%{http_code}' --unix-socket '$LXD_DIR/unix.socket' -X POST -d '{\"name\":\"b2\"}' http://x/1.0/instances/c1/backups/b2"
claim 'and deleted' sh -c "lxc query --wait -X DELETE /1.0/instances/c1/backups/b2 >/dev/null; test ! -e $LXD_DIR/backups/instances/c1/b2"
must lxc delete c1/s1

# ---- agent gone and back; privileged ----
claim 'the agent is killed' daemon_kill
claim 'and back' daemon_start
same 'exec works on what ran through it' hi in_c1 echo hi
claim 'files, too' sh -c 'lxc file pull c1/etc/passwd - | grep -q root'
shows 'the guest socket, too' '"api_version"' in_c1 unixget /dev/lxd/sock /1.0
must lxc launch busybox p1 -c security.privileged=true
same 'exec in a privileged one' 0 lxc exec p1 -- id -u
claim 'files of it' sh -c 'echo p | lxc file push - p1/root/p && lxc file pull p1/root/p - | grep -q p'
claim 'a device in it' put p1 z unix-char source=/dev/zero path=/dev/z2
claim 'is open to it' lxc exec p1 -- dd if=/dev/z2 of=/dev/null bs=1 count=1
claim 'until removed' lxc config device remove p1 z
claim 'a link of it cannot lead out either' sh -c "lxc exec p1 -- ln -sfn /../.. /root/up; curl -s --unix-socket '$LXD_DIR/unix.socket' --data-binary evil -X POST 'http://x/1.0/instances/p1/files?path=/root/up/$T/outside'; grep -q secret $T/outside"
e2e_end
