#!/bin/bash
# vm_move: a virtual machine that moves while it runs, between two agents in network namespaces of their own: a guest that
# writes its memory and answers pings is moved back and forth by the unmodified lxc client, in each mode; every page
# right, nothing left behind. What goes wrong meanwhile is vm_move_faults.sh's.
#
#   VM_MOVE_LONG=20 also moves so many times at each of 0, 50 and 200 MB/s (`meson test vm_move_long --suite long`).
. "$(dirname "$0")/vmpair.sh"

vm_make 20
vm_ready
same 'pages are right before' bad=0 pages_right

# ---- back and forth ----
moved() { # what from to options…
    local what=$1 from=$2 to=$3 sent got; shift 3
    ping -n -q -i 0.01 -w 60 10.94.50.9 >"$T/pings" 2>&1 &
    local pinger=$!
    claim "$what" lxc move "$from" "$to" "$@"
    # The last announcement may be under way still.
    wait_for 20 pings
    kill -INT $pinger; wait $pinger
    read -r sent got < <(sed -n 's/^\([0-9]*\) packets transmitted, \([0-9]*\) .*/\1 \2/p' "$T/pings")
    echo "# $what: $((sent - got)) of $sent pings at 10 ms lost; the longest beat missed: $(ask gap 'gap us')"
}
moved 'it moves (pull)' vm second:vm
same 'it runs there' 'vm,RUNNING' state_of second:vm
same 'and not here' '' state_of vm
same 'nothing is left here' '' left main
same 'every page is right' bad=0 pages_right
claim 'it answers from there' wait_for 20 pings
moved 'it moves back (push)' second:vm vm --mode push
same 'nothing is left there' '' left second
same 'every page is right again' bad=0 pages_right
moved 'it moves (relay)' vm second:vm --mode relay
moved 'and back (relay)' second:vm vm --mode relay
same 'every page is right, relayed' bad=0 pages_right
same 'one QEMU runs' 1 one_qemu
must lxc config set migration.stream zerocopy
moved 'in the clear, where the network is trusted' vm second:vm
same 'every page is right, in the clear' bad=0 pages_right
moved 'and back' second:vm vm
must lxc config unset migration.stream

# ---- by our own client ----
export HAWSER_CONF=$T/client
hawser() { "$(hawser_path)" "$@"; }
daemon_use second
token=$(lxc config trust add --name client -q 2>/dev/null | tail -n 1)
daemon_use main
claim "our own client knows the other server" hawser remote add second "$token" --accept-certificate
claim 'it moves by our own client' hawser move vm second:vm
same 'and runs there' 'vm,RUNNING' state_of second:vm
claim 'and back, pushed' hawser move second:vm vm --mode push
same 'every page is right, by our own client' bad=0 pages_right
claim 'a copy by our own client' hawser copy vm second:double
same 'goes on from the same state' 'double,RUNNING' state_of second:double
must lxc delete -f second:double

# ---- a copy of what runs ----
claim 'a copy of it runs there from the same state' lxc copy vm second:twin
same 'the copy runs' 'twin,RUNNING' state_of second:twin
same 'and it runs on here' 'vm,RUNNING' state_of vm
same "the copy's pages are right" bad=0 pages_right_of second/run/twin
same 'its own are, too' bad=0 pages_right_of main/run/vm
differs() { # key
    local one other
    one=$(lxc config get vm "$1") other=$(lxc config get second:twin "$1")
    [ -n "$one" ] && [ -n "$other" ] && [ "$one" != "$other" ]
}
for key in volatile.uuid volatile.uuid.generation volatile.eth0.hwaddr; do
    claim "the copy has a $key of its own" differs $key
done
# Both guests have 10.94.50.9; the copy's NIC gets a new address, for which its guest has to let go of the old one.
mac=$(lxc config get vm volatile.eth0.hwaddr)
claim 'who pings it reaches the first one' pings
same 'which is where its address is' wire sh -c "ip netns exec there bridge fdb show br vmbr | sed -n 's/^$mac dev \([^ ]*\) .*/\1/p' | sort -u"

# ---- QEMU's own ----
# A guest that writes does not survive it under TCG, which loses pages: it is reset, and the agent starts it again.
must lxc delete -f vm
vm_make 0
vm_ready
must lxc config set migration.stream qemu
claim "by QEMU's own migration" lxc move vm second:vm
claim 'it runs there after all' wait_for 60 runs_at second:vm
same 'and not here' '' state_of vm
must lxc config unset migration.stream
claim 'and is deleted' wait_for 60 lxc delete -f second:vm
claim 'so is the copy' wait_for 60 lxc delete -f second:twin

# ---- refused ----
vm_make 20
must lxc config unset vm migration.stateful
must lxc start vm
refuse 'without migration.stateful' 'requires migration.stateful' lxc move vm second:vm
must lxc stop -f vm
must lxc config set vm migration.stateful true
vm_ready
must lxc config device add vm extra disk source="$T/log" path=/extra readonly=true
must lxc config device add vm more disk source="$T/log" path=/more readonly=true
refuse 'all that stands in the way is named at once' 'extra.*only the root disk.*more.*only the root disk' lxc move vm second:vm
must lxc config device remove vm extra
must lxc config device remove vm more
for pool in pile heap; do
    must lxc storage create $pool dir
    must lxc storage volume create $pool block --type block size=8MiB
    must lxc config device add vm $pool disk pool=$pool source=block
done
refuse 'so is all that the target has not got' '"heap".*not found.*"pile".*not found' lxc move vm second:vm
must lxc config device remove vm heap
must lxc storage create second:pile dir
remake() { # size: the target's volume, made anew
    quiet lxc storage volume delete second:pile block
    must lxc storage volume create second:pile block --type block size="$1"
}
image_at() { echo "$T/$1/storage-pools/pile/custom/default_block/root.img"; }
remake 4MiB
refuse 'a disk of another size' 'disk "pile": volume "block" of pool "pile" at the target has 4194304 bytes' lxc move vm second:vm
remake 8MiB
printf precious | dd of="$(image_at second)" conv=notrunc status=none
refuse 'a disk that has something on it' 'disk "pile": volume "block" of pool "pile" at the target is not empty' lxc move vm second:vm
same 'which stays' precious head -c 8 "$(image_at second)"
remake 8MiB
same 'it runs on' 'vm,RUNNING' state_of vm
same 'nothing came to be there' '' left second
same 'with its pages' bad=0 pages_right

# ---- its other disk ----
must dd if=/dev/urandom of="$(image_at main)" bs=1M seek=2 count=4 conv=notrunc
sum_at() { sha256sum <"$(image_at "$1")"; }
blocks_at() { stat -c %b "$(image_at "$1")"; }
empty_there() { [ "$(blocks_at second)" = 0 ]; }
was=$(sum_at main)
must lxc config set migration.bandwidth 1MB # so that there is time
try_move() { timeout 100 lxc move vm second:vm >>"$T/log" 2>&1; }
try_move &
mover=$!
other_disk_moves() { [ "$(blocks_at second)" -gt 1024 ]; }
claim 'its other disk moves with it' wait_for 60 other_disk_moves
must lxc query -X DELETE "local:$(lxc query local:/1.0/operations | jq -r '.running[]?' | head -n 1)"
wait $mover
claim 'cancelled meanwhile, nothing of it is there' wait_for 60 settled
same 'and the volume is empty again' 0 blocks_at second
try_move &
mover=$!
claim 'its other disk moves once more' wait_for 60 other_disk_moves
daemon_kill second
wait $mover
agent_there; daemon_use main
claim "the target's agent killed meanwhile, nothing of it is there" wait_for 60 settled
claim 'and the volume is empty again, once it has started' wait_for 30 empty_there

# ---- its pace ----
must lxc config set migration.bandwidth 16MB
began=$(now_ms)
claim 'and then it moves' lxc move vm second:vm
claim 'no faster than it may: 48 MiB at 16 MB/s' test $(($(now_ms) - began)) -ge 2900
must lxc config unset migration.bandwidth
same 'with every page' bad=0 pages_right
same 'and its other disk is what it was' "$was" sum_at second
claim 'with its holes' test "$(blocks_at second)" -le 9000
must lxc delete -f second:vm
same 'no row of a move is left' '' sh -c "cd $T && for a in main second; do sqlite3 \$a/database/*.db 'SELECT * FROM live_moves'; done"

# ---- many times ----
if [ -n "${VM_MOVE_LONG:-}" ]; then
    for rate in 0 50 200; do
        vm_make $rate
        vm_ready
        for n in $(seq 1 "$VM_MOVE_LONG"); do
            if [ $((n % 2)) = 1 ]; then moved "$rate MB/s, $n" vm second:vm; else moved "$rate MB/s, $n" second:vm vm; fi
            same "$rate MB/s, $n: every page is right" bad=0 pages_right
            same "$rate MB/s, $n: one QEMU" 1 one_qemu
        done
        quiet lxc delete -f vm
        quiet lxc delete -f second:vm
    done
fi
must ip netns del there
e2e_end
