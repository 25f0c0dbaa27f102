#!/bin/bash
# vm_move_faults: a live move that is cancelled, whose processes are killed, or that finds no room: exactly one side has
# the virtual machine afterwards, with every page right, and nothing is left at the other. And kernels that can't track.
#
#   VM_MOVE_LONG=1 also does so at each numbered point of either side, for a cancel and for a kill of the agent
#   (`meson test vm_move_faults_long --suite long`).
. "$(dirname "$0")/vmpair.sh"
vm_make 20
vm_ready

agent_with() { # agent environment: starts it again
    case $1 in
    main) daemon_stop main; DAEMON_ENV=${2:-} agent_here ;;
    second) daemon_stop second; DAEMON_ENV=${2:-} agent_there; daemon_use main ;;
    esac
}
area_of() { [ "$1" = main ] && echo live_source || echo live_target; }

# ---- cancelled ----
running_op() { lxc query local:/1.0/operations | jq -r '.running[]?' | head -n 1; }
cancel_here() { # cancels what the agent in use runs; its answer
    api DELETE "$(running_op)" | jq -r 'if .error_code > 0 then .error else "cancelled" end'
}
try_move() { timeout 100 lxc move vm second:vm >>"$T/log" 2>&1; }
cancel_at() { # agent point: holds the move there, cancels that agent's operation and lets go; what was answered
    agent_with "$1" "HAWSER_HOLD=$(area_of "$1"):$2:$T/held"
    try_move &
    local mover=$!
    if wait_for 60 test -e "$T/held"; then
        daemon_use "$1"; cancel_here; daemon_use main
        rm "$T/held"
    else
        echo "there is no such point"
    fi
    wait $mover
}
cancels() { # agent point answer state-here state-there what
    local what="cancelled at $1:$2, $6"
    same "$what: the answer" "$3" cancel_at "$1" "$2"
    claim "$what: one side has it, nothing is left" wait_for 60 settled
    same "$what: here it is" "$4" state_of vm
    same "$what: there it is" "$5" state_of second:vm
    home
    same "$what: every page is right" bad=0 pages_right
    agent_with "$1"
}
undone() { cancels "$1" "$2" cancelled vm,RUNNING '' "$3"; }
given="The virtual machine has been given to the target: its move can't be cancelled any more"
taken="Everything of the virtual machine is here, and its source decides: the move can't be cancelled any more"
kept() { # agent point what: too late for it
    cancels "$1" "$2" "$([ "$1" = main ] && echo "$given" || echo "$taken")" '' vm,RUNNING "$3"
}
undone main 3 'its guest about to stop'
undone main 4 'its guest stopped'
kept main 7 'the decision stored'
undone second 5 'all memory there'
kept second 6 'everything said to be there'

# ---- killed, cut and cancelled while memory moves ----
must lxc config set migration.bandwidth 4MB # so that there is time
memory_moves='pgrep -f "[h]awser-pages 3" >/dev/null'
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
kill_qemu() { kill -KILL "$(e2e_qemus "$T/$1")"; }
killed 'cancelled while memory moves' "$memory_moves" cancel_here
killed 'a hawser-pages killed' "$memory_moves" sh -c 'kill -KILL $(pgrep -f "[h]awser-pages 3" | head -n 1)'
must lxc config set migration.bandwidth 1MB # 72 s
began=$(now_ms)
killed "the target's QEMU killed" "$memory_moves" kill_qemu second
claim "the target's QEMU killed: nobody waits until the memory is over" test $(($(now_ms) - began)) -lt 50000
must lxc config set migration.bandwidth 4MB
later "$memory_moves" kill_qemu main
refuse "the source's QEMU killed: the move fails" '' lxc move vm second:vm
wait $later_pid
stopped_here() { [ "$(state_of vm)/$(state_of second:vm)/$(one_qemu)" = vm,STOPPED//0 ] && [ -z "$(left second)" ]; }
claim "the source's QEMU killed: it has ended here, and nothing is there" wait_for 60 stopped_here

# ---- its disk ----
disk=$T/main/storage-pools/default/virtual-machines/vm/root.img
must dd if=/dev/urandom of="$disk" bs=1M count=40 conv=notrunc
disk_sum() { sha256sum <"$T/second/storage-pools/default/virtual-machines/vm/root.img"; }
sum=$(sha256sum <"$disk")
vm_ready
disk_moves='lxc query "local:/1.0/operations?recursion=1" | grep -q "\"disk: "'
killed 'cancelled while its disk moves' "$disk_moves" cancel_here
must lxc config unset migration.bandwidth
mkdir "$T/little"
must nsenter -t $there_pid -m mount -t tmpfs -o size=24m none "$T/little" # where that agent sees it
must lxc storage create second:little dir source="$T/little"
refuse 'no room for its disk: the move fails, and says so' 'space at the target' lxc move vm second:vm -s little
claim 'no room for its disk: it runs on here, and nothing is there' wait_for 60 settled
same 'no room for its disk: every page is right' bad=0 pages_right
claim 'with room, its disk moves' lxc move vm second:vm
same 'its disk is what it was' "$sum" disk_sum
must lxc delete -f second:vm

# ---- what follows ----
# The guest writes 20 MB/s, 8 can be sent: it runs there before the last of its pages come.
must lxc config set migration.bandwidth 8MB
vm_make 20
must lxc config set vm migration.vm.stall postcopy
vm_ready
follows='lxc query "local:/1.0/operations?recursion=1" | grep -q "memory follows"'
later "$follows" true
claim 'a guest that writes too fast runs there, and the rest of its memory follows' lxc move vm second:vm
claim 'which the operation says' wait $later_pid
same 'what follows: every page is right' bad=0 pages_right
claim 'what follows: nothing is left here' settled
home
later "$follows" sh -c 'kill -KILL $(pgrep -f "[h]awser-pages 3" | head -n 1)'
refuse 'a hawser-pages killed while the rest follows: it is said' 'rest' lxc move vm second:vm
wait $later_pid
ended() { [ "$(state_of vm)/$(state_of second:vm)/$(one_qemu)" = vm,STOPPED/vm,STOPPED/0 ]; }
claim 'a hawser-pages killed while the rest follows: it has ended, and is there' wait_for 60 ended
claim 'a hawser-pages killed while the rest follows: it starts there again' lxc start second:vm
claim 'a hawser-pages killed while the rest follows: and lives' wait_for 90 hears
must lxc delete -f second:vm
must lxc delete -f vm
must lxc config unset migration.bandwidth

# ---- a kernel that can't track ----
# QEMU's own migration loses pages under TCG: its guest may be reset, and the agent starts it again.
cat >"$T/oldkernel" <<'END'
#!/bin/sh
echo "this kernel can't track memory" >&2
exit 1
END
chmod 755 "$T/oldkernel"
says_native() { lxc query 'local:/1.0/operations?recursion=1' | jq -e '.running[]? | .metadata.migration | .stream == "qemu" and (.stream_why | test("track memory"))'; }
untracked() { # agent what
    agent_with "$1" "HAWSER_PAGES=$T/oldkernel"
    must lxc config set migration.bandwidth 16MB # so that there is time to look
    try_move &
    local mover=$!
    claim "$2: QEMU's own migration is taken, and the operation says why" wait_for 60 says_native
    wait $mover
    claim "$2: it runs there" wait_for 60 runs_at second:vm
    claim "$2: one side has it" wait_for 60 settled
    must lxc config unset migration.bandwidth
    agent_with "$1"
}
vm_make 0
vm_ready
untracked main "the source can't track memory"
must lxc delete -f second:vm
vm_make 0
vm_ready
untracked second "the target can't take pages"
must lxc delete -f second:vm

# ---- at each numbered point ----
walk() { # agent points
    local n what
    for n in $(seq 1 "$2"); do
        what="$1 killed at $(area_of "$1"):$n"
        agent_with "$1" "HAWSER_CRASH=$(area_of "$1"):$n"
        try_move
        if kill -0 "${e2e_pid[$1]}" 2>/dev/null; then
            echo "# $what: there is no such point"
        else
            daemon_wait_end "$1" 10
            case $1 in
            main) agent_here ;;
            second) agent_there; daemon_use main ;;
            esac
        fi
        claim "$what: one side has it" wait_for 60 settled
        claim "$what: it lives" wait_for 30 hears
        home
        same "$what: every page is right" bad=0 pages_right
    done
    agent_with "$1"
}
orphaned() { # agent area: its death in the middle of it
    agent_with "$1" "HAWSER_CRASH=$2:1"
    try_move
    daemon_wait_end "$1" 10
    case $1 in
    main) agent_here ;;
    second) agent_there; daemon_use main ;;
    esac
    claim "$1 killed while the rest follows: one side has it" wait_for 60 settled
    claim "$1 killed while the rest follows: it lives" wait_for 30 hears
    claim "$1 killed while the rest follows: it is there" runs_at second:vm
    same "$1 killed while the rest follows: every page is right" bad=0 pages_right
}
if [ -n "${VM_MOVE_LONG:-}" ]; then
    vm_make 20
    vm_ready
    for n in 1 2 5 6; do undone main $n 'on the way'; done
    for n in 8 9; do kept main $n 'decided'; done
    for n in 1 2 3 4; do undone second $n 'on the way'; done
    for n in 7 8; do kept second $n 'decided'; done
    walk main 10
    walk second 9
    must lxc config set migration.bandwidth 4MB
    killed "the target's hawser-pages killed" "$memory_moves" \
        sh -c "kill -KILL \$(pgrep -P ${e2e_pid[second]} -f '[h]awser-pages 3')"
    cut() { far ip link set wire down; sleep 20; far ip link set wire up; }
    killed 'the wire cut' "$memory_moves" cut
    # The guest writes 20 MB/s.
    must lxc config set migration.bandwidth 8MB
    must lxc config set vm migration.vm.stall abort
    refuse 'a guest that writes too fast stays, where that is asked for' 'the guest writes' lxc move vm second:vm
    claim 'and nothing is there' wait_for 60 settled
    must lxc config set vm migration.vm.stall throttle
    claim 'it moves when it may be slowed down' lxc move vm second:vm
    same 'with every page, slowed down' bad=0 pages_right
    must lxc config set second:vm migration.vm.stall postcopy
    home
    orphaned main live_owing
    home
    orphaned second live_owed
    home
    must lxc config unset migration.bandwidth
    claim 'and is as fast as before' lxc move vm second:vm
    must lxc delete -f second:vm
fi
same 'no row of a move is left' '' sh -c "cd $T && for a in main second; do sqlite3 \$a/database/*.db 'SELECT * FROM live_moves' 2>/dev/null; done"
must ip netns del there
e2e_end
