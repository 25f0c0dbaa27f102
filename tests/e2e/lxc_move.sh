#!/bin/bash
# lxc_move: instances and volumes that go to another server, another pool, another project: as the unmodified
# lxc client asks for it, between two agents, and between an agent and Debian's LXD 5.0.2 (where that is
# installed).
. "$(dirname "$0")/lib.sh"
e2e_begin
need rsync
daemon_start
e2e_defaults
T=$E2E_DIR
A=127.0.0.1:18443 B=127.0.0.1:18444 C=127.0.0.1:18445
must lxc storage create fast btrfs size=400MiB
must lxc storage create over overlay
must lxc config set core.https_address $A
peer() { # name address program: a further agent, trusted by this one's client
    E2E_DAEMON=$3 daemon_start "$1"
    must lxc storage create default dir
    must lxc storage create fast btrfs size=400MiB
    must lxc profile device add default root disk path=/ pool=default
    must lxc config set core.https_address "$2"
    token=$(lxc config trust add --name main -q 2>/dev/null | tail -n 1)
    daemon_use main
    must lxc remote add "$1" "$token" --accept-certificate
}
peer second $B hawserd

# ---- a container with something to lose ----
must lxc init busybox c1 -s default
must lxc config device add c1 eth0 none
must lxc start c1
must lxc exec c1 -- sh -c 'echo one >/root/f; ln /root/f /root/linked; mkfifo /root/pipe; chown 1000:1000 /root/f; cp /bin/busybox /root/suid; chown 1000:1000 /root/suid; chmod 4711 /root/suid; dd if=/dev/zero of=/root/sparse bs=1 count=1 seek=20000000 2>/dev/null'
must lxc snapshot c1 s1
must lxc exec c1 -- sh -c 'echo two >/root/f; echo gone >/root/only'
must lxc snapshot c1 s2
must lxc exec c1 -- sh -c 'echo three >/root/f; rm /root/only'
must lxc config set c1 user.note kept
must lxc stop -f c1

# What a copy must be like. Works on stopped ones, without starting them.
content() { # remote:name project
    lxc file pull "$1/root/f" - --project "${2:-default}" &&
        lxc query "$(sed 's,^\(.*:\)\?\(.*\)$,\1/1.0/instances/\2,' <<<"$1")/snapshots?project=${2:-default}" | jq length
}
whole() { # description remote:name
    same "$1: content and snapshots" $'three\n2' content "$2"
    same "$1: owner and mode" '1000 4711' sh -c "lxc start $2 >/dev/null && lxc exec $2 -- stat -c '%u %a' /root/suid"
    same "$1: a fifo" fifo lxc exec "$2" -- stat -c %F /root/pipe
    same "$1: its configuration" kept lxc config get "$2" user.note
    quiet lxc stop -f "$2"
    claim "$1: a snapshot is restored" lxc restore "$2" s2
    same "$1: it has the content of then" gone lxc file pull "$2/root/only" -
}
for pool in default fast over; do
    case $pool in
    default) from=c1 ;;
    *) from=c1$pool; must lxc copy c1 $from -s $pool ;;
    esac
    for mode in pull push relay; do
        [ $pool = default ] || [ $mode = pull ] || continue
        claim "a container on '$pool' is copied ($mode)" lxc copy $from second:there --mode $mode
        whole "copied from '$pool' ($mode)" second:there
        must lxc delete -f second:there
    done
done
same 'hard links stay links between agents' 2 sh -c 'lxc copy c1 second:links >/dev/null && lxc start second:links && lxc exec second:links -- stat -c %h /root/f'
quiet lxc delete -f second:links
claim 'btrfs to btrfs' lxc copy c1fast second:there -s fast
whole 'btrfs to btrfs' second:there
must lxc delete -f second:there
claim 'without its snapshots' lxc copy c1 second:bare --instance-only
same 'there are none' $'three\n0' content second:bare
claim 'one snapshot as a container' lxc copy c1/s1 second:then
same 'has its content' $'one\n0' content second:then
must lxc delete second:then
claim 'a copy back' lxc copy second:bare back
same 'has the content' $'three\n0' content back
must lxc delete back second:bare

# ---- refresh ----
must lxc copy c1 second:r
must lxc start c1
must lxc exec c1 -- sh -c 'echo four >/root/f; echo new >/root/new'
must lxc stop -f c1
must lxc delete c1/s1
must lxc snapshot c1 s3
claim 'a refresh' lxc copy c1 second:r --refresh
same 'brings the content' $'four\n2' content second:r
same 'and the snapshots' $'s2\ns3' sh -c 'lxc query second:/1.0/instances/r/snapshots?recursion=1 | jq -r ".[].name" | sed "s,.*/,," | sort'
must lxc snapshot second:r own
claim 'a refresh of the instance alone' lxc copy c1 second:r --refresh --instance-only
same 'leaves its snapshots' 3 sh -c 'lxc query second:/1.0/instances/r/snapshots | jq length'
refuse 'a running one is not refreshed' 'running' sh -c 'lxc start second:r && lxc copy c1 second:r --refresh'
must lxc delete -f second:r
must lxc copy c1 near
must lxc snapshot near own
claim 'a refresh here, alone' lxc copy c1 near --refresh --instance-only
same 'leaves its snapshots' 3 sh -c 'lxc query /1.0/instances/near/snapshots | jq length'
claim 'a refresh here' lxc copy c1 near --refresh
same 'brings the snapshots' $'s2\ns3' sh -c 'lxc query /1.0/instances/near/snapshots?recursion=1 | jq -r ".[].name" | sed "s,.*/,," | sort'
must lxc delete near

# ---- running ones ----
must lxc start c1
refuse 'a live copy says what to do' 'stateless' lxc copy c1 second:live
claim 'a running container is copied' lxc copy c1 second:live --stateless
same 'with its content' four lxc file pull second:live/root/f -
shows 'it runs on' '^c1,RUNNING' lxc list -f csv -c ns c1
must lxc delete second:live
must lxc stop -f c1

# ---- what goes wrong ----
refuse 'a name that is taken' 'already' sh -c 'lxc copy c1 second:dup && lxc copy c1 second:dup'
must lxc delete second:dup
same 'an unknown mode' 501 api_code POST /1.0/instances '{"name":"m","source":{"type":"migration","mode":"pigeon"}}'
same 'a pull without an operation' 400 api_code POST /1.0/instances '{"name":"m","source":{"type":"migration","mode":"pull"}}'
same 'a push without secrets' 400 api_code POST /1.0/instances/c1 '{"name":"m","migration":true,"live":false,"target":{"operation":"https://127.0.0.1:1/1.0/operations/x"}}'
refuse 'a source that is not there' 'Connect' api_meta POST /1.0/instances '{"name":"m","source":{"type":"migration","mode":"pull","operation":"https://127.0.0.1:1/1.0/operations/x","secrets":{"control":"a","fs":"b"}}}'
hides 'leaves nothing' '^m$' lxc list -f csv -c n
claim 'the certificate is checked' sh -c "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout $T/k -out $T/other.crt -subj /CN=x -days 2 2>/dev/null"
jq -n --rawfile pem "$T/other.crt" --arg op "https://$B/1.0/operations/x" '{name:"m",source:{type:"migration",mode:"pull",certificate:$pem,operation:$op,secrets:{control:"a",fs:"b"}}}' >"$T/body"
refuse 'another certificate is not accepted' 'another certificate' api_meta POST /1.0/instances "$(cat "$T/body")"
jq -n --rawfile pem "$T/second/server.crt" --arg op "https://$B/1.0/operations/x" '{name:"m",source:{type:"migration",mode:"pull",certificate:$pem,operation:$op,secrets:{control:"a",fs:"b"}}}' >"$T/body"
refuse 'an operation that is not there' 'not found|refuses' api_meta POST /1.0/instances "$(cat "$T/body")"
hides 'leaves nothing either' '^m$' lxc list -f csv -c n
op=$(api POST /1.0/instances/c1 '{"name":"m","migration":true,"live":false}' | jq -r .operation)
same 'secrets are flat' $'control\nfs' sh -c "lxc query $op | jq -r '.metadata | keys[]'"
shows 'nobody comes: it fails after ten seconds' 'Wait for the websocket' lxc query "$op/wait?timeout=20"

# ---- moves ----
must lxc copy c1 mover
claim 'a container moves to the other server' lxc move mover second:moved
refuse 'and is gone here' 'not found' lxc info mover
same 'it is there' $'four\n2' content second:moved
claim 'and comes back' lxc move second:moved mover -s default
mac=$(lxc query /1.0/instances/mover | jq -r '.config["volatile.eth0.hwaddr"] // "none"')
for pool in fast over default; do
    claim "it moves to the pool '$pool'" lxc move mover --storage $pool
    same 'is there' $pool sh -c "lxc query /1.0/instances/mover | jq -r .expanded_devices.root.pool"
    same 'whole' $'four\n2' content mover
    same 'and nowhere else' 1 sh -c "ls -d $LXD_DIR/storage-pools/*/containers/mover | wc -l"
done
same 'with the same address' "$mac" sh -c "lxc query /1.0/instances/mover | jq -r '.config[\"volatile.eth0.hwaddr\"] // \"none\"'"
must lxc project create other -c features.images=false -c features.profiles=false
claim 'it moves to another project' lxc move mover --target-project other
refuse 'and is gone here' 'not found' lxc info mover
same 'whole' $'four\n2' content mover other
same 'its volume has moved' other_mover ls "$LXD_DIR/storage-pools/default/containers" --ignore=c1
must lxc start mover --project other
refuse 'a running one does not move' 'must be stopped' lxc query -X POST --wait '/1.0/instances/mover?project=other' -d '{"migration":true,"live":false,"pool":"fast"}'
must lxc delete -f mover --project other
claim 'a copy into another project' lxc copy c1 pc --target-project other
same 'whole' $'four\n2' content pc other
must lxc delete pc --project other

# ---- volumes ----
must lxc storage volume create default v
must lxc config device add c1 data disk pool=default source=v path=/data
must lxc start c1
must lxc exec c1 -- sh -c 'echo first >/data/f'
must lxc storage volume snapshot default v vs
must lxc exec c1 -- sh -c 'echo v2 >/data/f'
must lxc stop -f c1
must lxc config device remove c1 data
file_of() { cat "$T/$1/storage-pools/$2/$3/f"; }
for mode in pull push relay; do
    claim "a volume is copied to the other server ($mode)" lxc storage volume copy default/v second:default/w --mode $mode
    same 'with its content' v2 file_of second default custom/default_w
    same 'and its snapshot' first file_of second default custom-snapshots/default_w/vs
    must lxc storage volume delete second:default w
done
claim 'to a btrfs pool' lxc storage volume copy default/v second:fast/w
claim 'btrfs to btrfs' sh -c 'lxc storage volume copy default/v fast/v && lxc storage volume copy fast/v second:fast/x'
same 'with its snapshot' first file_of second fast custom-snapshots/default_x/vs
claim 'without snapshots' lxc storage volume copy default/v second:default/only --volume-only
hides 'has none' 'vs' lxc storage volume list second:default -f csv
claim 'a refresh of a volume' sh -c "lxc storage volume snapshot default v vt && lxc storage volume copy default/v second:fast/w --refresh"
same 'brings the new snapshot' v2 file_of second fast custom-snapshots/default_w/vt
must lxc storage volume create default raw --type block size=20MiB
claim 'a block volume' lxc storage volume copy default/raw second:default/raw
same 'has its size' 20971520 stat -c %s "$T/second/storage-pools/default/custom/default_raw/root.img"
claim 'a volume moves' lxc storage volume move fast/v second:default/moved
hides 'and is gone here' 'custom,v,' lxc storage volume list fast -f csv
same 'with its content' v2 file_of second default custom/default_moved

# ---- LXD itself ----
if [ -x /usr/bin/lxd ] && only_hawser; then
    peer lxd $C lxd
    claim 'to LXD' lxc copy c1 lxd:there
    same 'content and snapshots' $'four\n2' content lxd:there
    claim 'and back' lxc copy lxd:there fromlxd
    same 'content and snapshots' $'four\n2' content fromlxd
    same 'owner and mode' '1000 4711' sh -c "lxc start fromlxd >/dev/null && lxc exec fromlxd -- stat -c '%u %a' /root/suid"
    must lxc delete -f fromlxd lxd:there
    claim 'to LXD by push' lxc copy c1 lxd:pushed --mode push
    claim 'from LXD by push' lxc copy lxd:pushed pushed --mode push
    claim 'from LXD through the client' lxc copy lxd:pushed relayed --mode relay
    same 'whole' $'four\n2' content relayed
    must lxc delete pushed relayed
    must lxc start c1
    must lxc exec c1 -- sh -c 'echo five >/root/f'
    must lxc stop -f c1
    must lxc snapshot c1 s5
    # The client then sends LXD the configuration, which has a key that 5.0 does not know.
    quiet lxc copy c1 lxd:pushed --refresh
    same 'a refresh at LXD brings content and snapshot' $'five\n3' content lxd:pushed
    claim 'btrfs streams to LXD' lxc copy c1fast lxd:streams -s fast
    same 'whole' $'three\n2' content lxd:streams
    claim 'btrfs streams from LXD' lxc copy lxd:streams streams -s fast
    same 'whole' $'three\n2' content streams
    must lxc delete streams lxd:streams lxd:pushed
    claim 'a volume to LXD' lxc storage volume copy default/v lxd:default/v
    claim 'and back' lxc storage volume copy lxd:default/v default/v2
    same 'with its content' v2 file_of main default custom/default_v2
    same 'and its snapshot' first file_of main default custom-snapshots/default_v2/vs
else
    skip 'copies to and from LXD' "Debian's lxd is not installed"
fi
e2e_end
