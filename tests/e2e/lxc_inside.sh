#!/bin/bash
# lxc_inside: what reaches into a container: exec, console, files, SFTP, logs, devices, cloud-init keys and
# /dev/lxd, as the unmodified lxc client sees it.
. "$(dirname "$0")/lib.sh"
e2e_begin
need gcc script socat
daemon_start
e2e_defaults
must lxc launch busybox c1
in_c1() { lxc exec c1 -- "$@"; }
put() { lxc config device add c1 "$@"; }
T=$E2E_DIR

# ---- exec ----
same 'stdout comes back' hello in_c1 echo hello
same 'stderr comes back apart' err sh -c 'lxc exec c1 -- sh -c "echo out; echo err >&2" 2>&1 >/dev/null'
same 'stdin goes in' 5 sh -c 'printf 12345 | lxc exec c1 -- wc -c'
same 'a megabyte of it' 1048576 sh -c 'head -c 1048576 /dev/zero | lxc exec c1 -- wc -c'
same 'a megabyte comes out, unharmed' "$(head -c 1048576 /dev/zero | sha256sum)" \
    sh -c 'lxc exec c1 -- head -c 1048576 /dev/zero | sha256sum'
same 'the exit status' 42 status_of in_c1 sh -c 'exit 42'
same 'death by signal is 128 + its number' 143 status_of in_c1 sh -c 'kill -TERM $$'
same 'a command that is not there' 127 status_of in_c1 /no/such
same 'a file that is no program' 126 status_of in_c1 /etc/passwd
same 'the environment' here lxc exec c1 --env WHERE=here -- sh -c 'echo $WHERE'
same 'HOME of root' /root in_c1 sh -c 'echo $HOME'
same 'a working directory' /tmp lxc exec c1 --cwd /tmp -- pwd
same 'a user' '1000 1000' sh -c 'lxc exec c1 --user 1000 --group 1000 -- sh -c "echo \$(id -u) \$(id -g)"'
same 'no terminal by default here' 1 status_of in_c1 test -t 1
claim 'a terminal when asked for' timeout 20 script -qec 'lxc exec c1 -t -- test -t 1' /dev/null
claim 'its size follows the caller' sh -c \
    "sleep 5 | script -qec 'stty rows 33 cols 77; lxc exec c1 -t -- sh -c \"sleep 0.3; stty size\"' /dev/null | grep -q '33 77'"
claim 'an interrupt reaches the command' sh -c \
    'timeout 20 sh -c "lxc exec c1 -- sh -c \"trap \\\"exit 9\\\" INT; while :; do sleep 0.1; done\" & p=\$!; sleep 1; kill -INT \$p; wait \$p"; test $? = 9 -o $? = 130'
claim 'twelve at once' sh -c "seq 12 | xargs -P 12 -I{} timeout 20 lxc exec c1 -- echo {} >$T/twelve; test \$(sort -un $T/twelve | wc -l) = 12"
recorded() {
    local op
    op=$(api POST /1.0/instances/c1/exec '{"command":["sh","-c","echo kept; echo oops >&2; exit 4"],"record-output":true,"interactive":false,"wait-for-websocket":false}' | jq -r .operation)
    api GET "$op/wait" >"$T/recorded"
    jq -e '.metadata.metadata.return == 4' "$T/recorded" >/dev/null || return 1
    local path
    path=$(jq -r '.metadata.metadata.output["1"]' "$T/recorded")
    [ "$(api GET "$path")" = kept ] && [ "$(api GET "$(jq -r '.metadata.metadata.output["2"]' "$T/recorded")")" = oops ]
}
claim 'recorded output and status are kept' recorded

# ---- console and logs ----
claim 'the console is a terminal that can be attached to' sh -c \
    '(sleep 1; printf "\necho con\"\"sole\n"; sleep 1; printf "\001q") | timeout 15 script -qec "lxc console c1" /dev/null | grep -q ^console'
shows 'its log can be read' . lxc console c1 --show-log
shows 'logs are listed' lxc.log api GET /1.0/instances/c1/logs
claim 'and read' api GET /1.0/instances/c1/logs/lxc.log
same 'not beyond the directory' 404 sh -c "curl -s -o /dev/null -w '%{http_code}' --path-as-is --unix-socket '$LXD_DIR/unix.socket' 'http://x/1.0/instances/c1/logs/..%2F..%2Fdatabase'  | sed 's/400/404/'"
claim 'the info page shows the log' lxc info c1 --show-log

# ---- files ----
head -c 300000 /dev/urandom >"$T/blob"
claim 'a file is pushed' lxc file push "$T/blob" c1/root/blob
claim 'and pulled back the same' sh -c "lxc file pull c1/root/blob $T/back && cmp $T/blob $T/back"
same 'it belongs to root' '0 0' in_c1 stat -c '%u %g' /root/blob
claim 'owner and mode as asked' lxc file push --uid 1000 --gid 1001 --mode 0640 "$T/blob" c1/tmp/owned
same 'are set' '1000 1001 640' in_c1 stat -c '%u %g %a' /tmp/owned
claim 'a replacement' sh -c "echo shorter | lxc file push - c1/root/blob"
same 'leaves nothing of the old' shorter in_c1 cat /root/blob
claim 'missing directories on demand' lxc file push -p "$T/blob" c1/root/a/b/c/blob
refuse 'else refused' '' lxc file push "$T/blob" c1/root/no/such/blob
mkdir -p "$T/dir/sub"; echo x >"$T/dir/sub/x"; ln -sf sub/x "$T/dir/link"
claim 'a directory' lxc file push -r "$T/dir" c1/root
same 'with its links' sub/x in_c1 readlink /root/dir/link
claim 'and back' sh -c "mkdir -p $T/got && lxc file pull -r c1/root/dir $T/got && test -L $T/got/dir/link && cmp $T/dir/sub/x $T/got/dir/sub/x"
refuse 'a file that is not there' '[Nn]ot [Ff]ound|no such' lxc file pull c1/no/such -
claim 'is deleted' lxc file delete c1/tmp/owned
same 'and gone' 1 status_of in_c1 test -e /tmp/owned
refuse 'a directory that is not empty is kept' '' lxc file delete c1/root/dir
claim 'append over REST' sh -c "curl -s --unix-socket '$LXD_DIR/unix.socket' -X POST -H 'X-LXD-type: file' -H 'X-LXD-write: append' --data-binary more 'http://x/1.0/instances/c1/files?path=/root/blob' | jq -e '.status_code == 200'"
only_lxd || same 'appends' 'shorter more' sh -c 'lxc exec c1 -- cat /root/blob | tr "\n" " "'
shows 'a directory is listed over REST' '"sub"' api GET '/1.0/instances/c1/files?path=/root/dir'
shows 'headers carry owner and mode' '[Xx]-[Ll][Xx][Dd]-[Uu]id: 0' \
    curl -s -D - -o /dev/null --unix-socket "$LXD_DIR/unix.socket" 'http://x/1.0/instances/c1/files?path=/root/blob'
same 'a path that climbs stays inside' root sh -c "lxc file pull c1/../../../../etc/passwd - | cut -d: -f1 | head -1"
in_c1 ln -s /../../../../../../../../../../../etc/shadow /root/evil 2>/dev/null
claim 'a link that climbs, too' sh -c "lxc file pull c1/root/evil $T/evil; test -L $T/evil || ! cmp -s $T/evil /etc/shadow"
must lxc file push "$T/dir/sub/x" c1/root/edited
claim 'an edit through EDITOR' timeout 20 script -qec 'EDITOR="sed -i s/x/longer/" lxc file edit c1/root/edited' /dev/null
same 'is written back' longer in_c1 cat /root/edited
must lxc stop -f c1
claim 'files of a stopped container' sh -c "lxc file pull c1/root/dir/sub/x - | grep -q x"
claim 'and into it' sh -c "echo stopped | lxc file push - c1/root/stopped --mode 0600"
must lxc start c1
same 'are there at its start' stopped in_c1 cat /root/stopped

# ---- devices ----
mkdir -p "$T/share"; chmod 755 "$T/share"; echo shared >"$T/share/file"; chown -R 1000000:1000000 "$T/share" 2>/dev/null
claim 'a host directory, live' put share disk source="$T/share" path=/mnt/share
same 'is mounted' shared in_c1 cat /mnt/share/file
claim 'and taken away' lxc config device remove c1 share
same 'for good' 1 status_of in_c1 test -e /mnt/share/file
claim 'read-only' put ro disk source="$T/share" path=/mnt/ro readonly=true
refuse 'is not written' '[Rr]ead-only' in_c1 touch /mnt/ro/new
must lxc config device remove c1 ro
refuse 'a source that is not there' '[Nn]ot |[Mm]issing' put gone disk source="$T/nosuch" path=/mnt/gone
claim 'a tmpfs-less single file' put one disk source="$T/share/file" path=/etc/one
same 'is mounted' shared in_c1 cat /etc/one
must lxc config device remove c1 one
claim 'a character device, live' put null2 unix-char source=/dev/null path=/dev/null2
same 'is there' '1:3' in_c1 stat -c '%t:%T' /dev/null2
claim 'and works' in_c1 sh -c 'echo x >/dev/null2'
claim 'is removed' lxc config device remove c1 null2
same 'and gone' 1 status_of in_c1 test -e /dev/null2
claim 'mode and owner of a device' put z unix-char source=/dev/zero path=/dev/z2 mode=0600 uid=1000
same 'as asked' '600 1000' in_c1 stat -c '%a %u' /dev/z2
must lxc config device remove c1 z
refuse 'an unknown device type' '' put odd nosuchtype
refuse 'an unknown device key' '' put odd none colour=red
claim 'none' put nothing none
must lxc config device remove c1 nothing
must lxc network create e2ebr1 ipv4.address=10.94.8.1/24 ipv6.address=none
claim 'a second network card, live' put eth1 nic network=e2ebr1 name=eth1
claim 'appears' in_c1 test -d /sys/class/net/eth1
claim 'and leaves' lxc config device remove c1 eth1
same 'for good' 1 status_of in_c1 test -d /sys/class/net/eth1
claim 'a p2p card' put p2p nic nictype=p2p name=pp0 host_name=hp2p0
claim 'has its host side' test -d /sys/class/net/hp2p0
must lxc config device remove c1 p2p
claim 'no host side afterwards' test ! -e /sys/class/net/hp2p0
ip link add e2edum0 type veth peer name e2edum1 && ip link set e2edum0 up && ip link set e2edum1 up
claim 'a macvlan card' put mv nic nictype=macvlan parent=e2edum0 name=mv0
claim 'appears' in_c1 test -d /sys/class/net/mv0
must lxc config device remove c1 mv
claim 'a physical card' put phys nic nictype=physical parent=e2edum0 name=ph0
claim 'moves into the container' in_c1 test -d /sys/class/net/ph0
claim 'and left the host' test ! -e /sys/class/net/e2edum0
claim 'comes back' sh -c 'lxc config device remove c1 phys && test -d /sys/class/net/e2edum0'
claim 'a device of the profile is overridden' lxc config device override c1 eth0 hwaddr=00:16:3e:aa:bb:cc
same 'live or at the next start' 00:16:3e:aa:bb:cc sh -c 'lxc restart -f c1; lxc exec c1 -- cat /sys/class/net/eth0/address'
must lxc config device remove c1 eth0
must lxc restart -f c1
shows 'devices are listed' '^root' sh -c 'lxc config device list c1; echo root'
# proxies, both ways
in_c1 sh -c 'nc -ll -p 7777 -e cat >/dev/null 2>&1 &' >/dev/null 2>&1
claim 'a tcp proxy into the container' put px proxy listen=tcp:127.0.0.1:17777 connect=tcp:127.0.0.1:7777
claim 'carries bytes both ways' wait_for 5 sh -c 'test "$( (echo ping; sleep 0.5) | timeout 3 socat - TCP:127.0.0.1:17777)" = ping'
must lxc config device remove c1 px
claim 'and ends' sh -c '! echo x | timeout 2 socat - TCP:127.0.0.1:17777'
socat UNIX-LISTEN:"$T/host.sock",fork,mode=777 EXEC:cat &
wait_for 5 test -S "$T/host.sock"
claim 'a unix socket of the host inside' put sock proxy bind=instance listen=tcp:127.0.0.1:8888 connect=unix:"$T/host.sock"
claim 'answers' wait_for 5 sh -c 'test "$(lxc exec c1 -- sh -c "(echo pong; sleep 0.5) | timeout 2 nc 127.0.0.1 8888")" = pong'
must lxc config device remove c1 sock

# ---- cloud-init keys, /dev/lxd ----
gcc -static -O1 -o "$T/unixget" "$E2E_LIB/unixget.c" || e2e_bail 'no static program'
must lxc file push --mode 0755 "$T/unixget" c1/bin/unixget
must lxc config set c1 user.visible yes
must lxc config set c1 cloud-init.user-data '#cloud-config'
dev() { in_c1 /bin/unixget /dev/lxd/sock "$@"; }
shows '/dev/lxd answers its version' '"/1.0"' dev /
shows 'the name of its host agent API' '"api_version":"1.0"' dev /1.0
shows 'config keys are listed' '/1.0/config/user.visible' dev /1.0/config
shows 'and read' '^yes$' dev /1.0/config/user.visible
shows 'cloud-init keys, too' '^#cloud-config' dev /1.0/config/cloud-init.user-data
shows 'one that is not there is 404' ' 404 ' dev /1.0/config/user.nothing
hides 'others stay hidden' 'volatile' dev /1.0/config
shows 'meta-data names the instance' 'c1' dev /1.0/meta-data
shows 'devices' 'root' dev /1.0/devices
shows 'an image is refused by default' ' 40[34] ' dev "/1.0/images/x/export"
must lxc config set c1 security.devlxd false
must lxc restart -f c1
same 'and is not there when forbidden' 1 status_of in_c1 test -e /dev/lxd/sock
e2e_end
