#!/bin/bash
# vm_move: a virtual machine that moves while it runs, between two agents in network namespaces of their own: a guest that
# writes its memory and answers pings is moved back and forth by the unmodified lxc client, in each mode; every page
# right, nothing left behind. Then the same with something going wrong: whatever is killed or refused, exactly one side
# has it afterwards.
#
#   VM_MOVE_LONG=20 also kills either agent at each numbered point and the target's QEMU, cancels, cuts the wire, and
#   moves so many times at each of 0, 50 and 200 MB/s (`meson test vm_move_long --suite long`).
. "$(dirname "$0")/lib.sh"
e2e_begin
need python3 qemu-system-x86_64 rsync ping
guest=$HAWSER_BUILD/guest
"$E2E_LIB/../guest/build" "$guest" >>"$E2E_DIR/log" 2>&1 || e2e_skip_all "no kernel for a test guest"
T=$E2E_DIR
E2E_COMMAND_S=150

# ---- two hosts: one segment between them, a bridge on each ----
A=10.94.50.1 B=10.94.50.2
mkdir -p /run/netns
must mount -t tmpfs none /run/netns # names of our own
must ip netns add there
must ip link add wire type veth peer name wire netns there
must ip link add vmbr type bridge forward_delay 0
must ip link set wire master vmbr
must ip addr add $A/24 dev vmbr
ip link set wire up; ip link set vmbr up
far() { ip netns exec there "$@"; }
must far ip link add vmbr type bridge forward_delay 0
must far ip link set wire master vmbr
must far ip addr add $B/24 dev vmbr
far ip link set wire up; far ip link set vmbr up; far ip link set lo up

# ---- two agents ----
agent_there() { # starts the second one in its namespace
    # shellcheck disable=SC2086
    daemon_use second
    mkdir -p "$LXD_DIR"; chmod 711 "$LXD_DIR"
    cd "$T/at-second" || exit 1
    ip netns exec there env ASAN_OPTIONS="detect_leaks=0:abort_on_error=1:disable_coredump=1" ${DAEMON_ENV:-} \
        "$(hawserd_path)" --dir "$LXD_DIR" --group root >>"$T/second.log" 2>&1 </dev/null &
    e2e_pid[second]=$!
    cd "$T" || exit 1
    daemon_ready second || e2e_bail "agent 'second' did not become ready"
}
mkdir "$T/at-main" "$T/at-second"
agent_here() { cd "$T/at-main" && daemon_start main; cd "$T" || exit 1; }
agent_here
must lxc storage create default dir
must lxc profile device add default root disk path=/ pool=default size=64MiB
must lxc config set core.https_address $A:8443
agent_there
must lxc storage create default dir
must lxc profile device add default root disk path=/ pool=default size=64MiB
must lxc config set core.https_address $B:8443
token=$(lxc config trust add --name main -q 2>/dev/null | tail -n 1)
daemon_use main
must lxc remote add second "$token" --accept-certificate

# ---- a guest ----
# Each agent's QEMU makes the console's socket where its agent was started.
ask_at() { python3 "$E2E_LIB/../guest/ask.py" "$T/at-$1/serial" "$2" "$3" "${4:-60}" 2>/dev/null; }
ask() { ask_at main "$@" || ask_at second "$@"; }
hears() { ask gap 'gap us' 3; }
vm_make() { # rate
    must lxc init vm --vm --empty -c limits.memory=192MiB -c security.secureboot=false -c security.csm=true \
        -c migration.stateful=true -c raw.qemu="-serial unix:serial,server=on,wait=off -kernel $guest/kernel -initrd $guest/initrd -append 'console=ttyS1 quiet panic=-1 guest.fill=48 guest.hot=24 guest.rate=$1 guest.ip=10.94.50.9/24'"
    must lxc config device add vm eth0 nic nictype=bridged parent=vmbr
}
vm_ready() { must lxc start vm; wait_for 90 hears || e2e_bail "the guest does not come up"; wait_for 60 pings; }
pings() { ping -n -q -c 1 -W 1 10.94.50.9; } >/dev/null 2>&1
pages_right() { ask check checked | grep -o 'bad=[0-9]*'; }
pages_right_at() { ask_at "$1" check checked | grep -o 'bad=[0-9]*'; }
now_ms() { date +%s%3N; }
runs_at() { [ "$(state_of "$1")" = vm,RUNNING ]; }
state_of() { lxc list "$1" -f csv -c ns 2>/dev/null | tr -d '\r'; }
# What is there of it: QEMUs, memory mounts, taps, rows.
left() { # agent's name
    find "$T/$1/memory" -mindepth 1 2>/dev/null | sed "s,$T/,,"
    find "$T/$1/virtual-machines" "$T/$1/run" -mindepth 1 -maxdepth 1 2>/dev/null | sed "s,$T/,,"
    pgrep -af "mem-path=$T/$1/" | sed 's/ .*//'
}
one_qemu() { pgrep -f "qemu-system.*mem-path=$T/" | wc -l; }

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

# ---- a copy of what runs ----
claim 'a copy of it runs there from the same state' lxc copy vm second:twin
same 'the copy runs' 'twin,RUNNING' state_of second:twin
same 'and it runs on here' 'vm,RUNNING' state_of vm
same "the copy's pages are right" bad=0 pages_right_at second
same 'its own are, too' bad=0 pages_right_at main
must lxc delete -f second:twin

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

# ---- refused ----
vm_make 20
must lxc config unset vm migration.stateful
must lxc start vm
refuse 'without migration.stateful' 'requires migration.stateful' lxc move vm second:vm
must lxc stop -f vm
must lxc config set vm migration.stateful true
vm_ready
must lxc config device add vm extra disk source="$T/log" path=/extra readonly=true
refuse 'what stands in the way is named' 'extra.*only the root disk' lxc move vm second:vm
must lxc config device remove vm extra
same 'it runs on' 'vm,RUNNING' state_of vm
same 'nothing came to be there' '' left second
same 'with its pages' bad=0 pages_right

# ---- cut short, at each numbered point ----
settled() { # one QEMU, and the agent that has it says so; the other has nothing of it
    [ "$(one_qemu)" = 1 ] || return 1
    case "$(state_of vm)/$(state_of second:vm)" in
    vm,RUNNING/) [ -z "$(left second)" ] ;;
    vm,STOPPED/vm,RUNNING | /vm,RUNNING) true ;;
    *) return 1 ;;
    esac
}
home() { # back to the first agent, whoever has it
    [ "$(state_of second:vm)" = vm,RUNNING ] || return 0
    quiet lxc delete -f vm
    lxc move second:vm vm >>"$T/log" 2>&1
}
walk() { # area agent points
    local n
    for n in $(seq 1 "$3"); do
        case $2 in
        main) daemon_stop main; DAEMON_ENV="HAWSER_CRASH=$1:$n" agent_here ;;
        second) daemon_stop second; DAEMON_ENV="HAWSER_CRASH=$1:$n" agent_there; daemon_use main ;;
        esac
        quiet timeout 100 lxc move vm second:vm
        if kill -0 "${e2e_pid[$2]}" 2>/dev/null; then
            echo "# $1 has no point $n"
        else
            daemon_wait_end "$2" 10
            case $2 in
            main) agent_here ;;
            second) agent_there; daemon_use main ;;
            esac
        fi
        claim "$2 killed at $1:$n: one side has it" wait_for 60 settled
        claim "$2 killed at $1:$n: it lives" wait_for 30 hears
        home
        same "$2 killed at $1:$n: every page is right" bad=0 pages_right
    done
    case $2 in
    main) daemon_stop main; agent_here ;;
    second) daemon_stop second; agent_there; daemon_use main ;;
    esac
}
if [ -n "${VM_MOVE_LONG:-}" ]; then
    walk live_source main 12
    walk live_target second 9
fi

# ---- processes killed while it moves ----
must lxc config set migration.bandwidth 4MB # so that there is time
later() { # condition command…: once the move is that far
    local condition=$1; shift
    ( wait_for 60 sh -c "$condition"; "$@" ) >>"$T/log" 2>&1 &
    later_pid=$!
}
killed() { # what condition kill…
    local what=$1; shift
    later "$@"
    refuse "$what: the move fails" '' lxc move vm second:vm
    wait $later_pid
    claim "$what: it runs on here, and nothing is there" wait_for 60 settled
    same "$what: every page is right" bad=0 pages_right
}
memory_moves='pgrep -f "[h]awser-pages 3" >/dev/null'
killed 'a hawser-pages killed' "$memory_moves" sh -c 'kill -KILL $(pgrep -f "[h]awser-pages 3" | head -n 1)'
must lxc config set migration.bandwidth 1MB # 72 s
began=$(now_ms)
killed "the target's QEMU killed" "$memory_moves" sh -c "kill -KILL \$(pgrep -f '[q]emu-system.*mem-path=$T/second')"
claim "the target's QEMU killed: nobody waits until the memory is over" test $(($(now_ms) - began)) -lt 50000
must lxc config set migration.bandwidth 4MB
if [ -n "${VM_MOVE_LONG:-}" ]; then
    killed "the target's hawser-pages killed" "$memory_moves" \
        sh -c "kill -KILL \$(pgrep -P ${e2e_pid[second]} -f '[h]awser-pages 3')"
    later "$memory_moves" sh -c "kill -KILL \$(pgrep -f '[q]emu-system.*mem-path=$T/main')"
    refuse "the source's QEMU killed: the move fails" '' lxc move vm second:vm
    wait $later_pid
    stopped_here() { [ "$(state_of vm)/$(state_of second:vm)/$(one_qemu)" = vm,STOPPED//0 ] && [ -z "$(left second)" ]; }
    claim "the source's QEMU killed: it has ended here, and nothing is there" wait_for 60 stopped_here
    vm_ready
    killed 'the operation cancelled' "$memory_moves" sh -c \
        'for op in $(lxc query /1.0/operations | jq -r ".running[]?"); do lxc query -X DELETE $op; done'
    cut() { far ip link set wire down; sleep 20; far ip link set wire up; }
    killed 'the wire cut' "$memory_moves" cut
fi
if [ -n "${VM_MOVE_LONG:-}" ]; then # the guest writes 20 MB/s
    must lxc config set migration.bandwidth 8MB
    must lxc config set vm migration.vm.stall abort
    refuse 'a guest that writes too fast stays, where that is asked for' 'the guest writes' lxc move vm second:vm
    claim 'and nothing is there' wait_for 60 settled
    must lxc config set vm migration.vm.stall throttle
    claim 'it moves when it may be slowed down' lxc move vm second:vm
    same 'with every page, slowed down' bad=0 pages_right
    must lxc config unset migration.bandwidth
    claim 'and is as fast as before' lxc move second:vm vm
fi
must lxc config set migration.bandwidth 16MB
began=$(now_ms)
claim 'and then it moves' lxc move vm second:vm
claim 'no faster than it may: 48 MiB at 16 MB/s' test $(($(now_ms) - began)) -ge 2900
must lxc config unset migration.bandwidth
same 'with every page' bad=0 pages_right
must lxc delete -f second:vm
same 'no row of a move is left' '' sh -c "cd $T && for a in main second; do sqlite3 \$a/database/*.db 'SELECT * FROM live_moves' 2>/dev/null; done"

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
