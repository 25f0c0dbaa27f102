#!/bin/bash
# inst_lifecycle: ends and beginnings that nobody asked for: reboots and power-offs from inside, stops that overtake each
# other, starts that fail, the ordered stop of the whole server, snapshots by schedule and expiry; refresh of copies.
E2E_LEAKS=1
. "$(dirname "$0")/lib.sh"
e2e_begin
daemon_start
e2e_defaults
state() { lxc list "^$1\$" -f csv -c s; }
pid_of() { lxc info "$1" | awk '/^PID:/ {print $2}'; }
is() { [ "$(state "$1")" = "$2" ]; }
snapshots_of() { lxc query "/1.0/instances/$1/snapshots" | jq -r '.[] | sub(".*/"; "")' | sort | tr '\n' ' '; }

# ---- from inside ----
must lxc launch busybox c1
before=$(pid_of c1)
quiet lxc exec c1 -- reboot
another_pid() { local now; now=$(pid_of c1); [ -n "$now" ] && [ "$now" != "$before" ]; }
claim 'a reboot from inside starts it again' wait_for 15 another_pid
claim 'with its interface' lxc exec c1 -- ip link show eth0
claim 'as many veths as NICs' sh -c '[ "$(ls /sys/class/net | grep -c ^veth)" = 1 ]'
# A busybox that has just started does not listen yet.
down() { lxc exec c1 -- poweroff >/dev/null 2>&1; is c1 STOPPED && [ ! -e "$LXD_DIR/run/c1" ]; }
claim 'a power-off from inside stops it' wait_for 15 down
claim 'and takes its veth along' sh -c '! ls /sys/class/net | grep -q ^veth'
same 'and its run directory' '' ls "$LXD_DIR/run"
must lxc launch busybox e1 -e
quiet lxc exec e1 -- poweroff
gone() { ! lxc info e1; }
claim 'an ephemeral one is deleted by it' wait_for 15 gone
must lxc launch busybox e2 -e
claim 'an ephemeral one survives a restart' lxc restart -f e2
same 'and runs' RUNNING state e2
must lxc delete -f e2

# ---- an init that does not listen ----
must lxc launch busybox deaf -c raw.lxc='lxc.init.cmd = /bin/sleep 1000'
refuse 'a clean stop ends at its timeout' 'deadline exceeded' lxc stop deaf --timeout 1
same 'and leaves it running' RUNNING state deaf
lxc stop deaf </dev/null >/dev/null 2>&1 &
waiting=$!
must wait_for 20 sh -c "lxc query /1.0/operations | jq -e '.running | length > 0'"
claim 'a forced stop overtakes a clean one' lxc stop -f deaf
claim 'which then ends well' wait "$waiting"
claim 'a paused one' sh -c 'lxc start deaf && lxc pause deaf'
claim 'can be stopped by force' lxc stop -f deaf
must lxc config set deaf raw.lxc 'lxc.init.cmd = /bin/true'
# Who is faster, the init or the look at it, is the scheduler's.
claim 'an init that ends at once is an error, or the end of the container' \
    sh -c 'out=$(lxc start deaf 2>&1) || echo "$out" | grep "stopped right after"'
claim 'which is stopped' wait_for 20 sh -c 'lxc list ^deaf$ -f csv -c s | grep -q STOPPED'
must lxc config set deaf raw.lxc 'lxc.init.cmd = /no/such/init'
refuse 'an init that is not there is named' 'no/such/init' lxc start deaf
same 'and leaves it stopped' STOPPED state deaf
refuse 'forbidden raw.lxc keys are named' 'lxc.log.file is not allowed' lxc config set deaf raw.lxc 'lxc.log.file = /x'
must lxc delete deaf

# ---- keys that only a start shows ----
must lxc launch busybox k1 -c limits.kernel.nofile=100:200 -c security.syscalls.deny='mkdir errno 1
mkdirat errno 1' -c raw.idmap='both 4321 500' -c security.idmap.isolated=true
shows 'a kernel limit' '^Max open files +100 +200' lxc exec k1 -- cat /proc/1/limits
refuse 'a syscall that is denied' 'not permitted' lxc exec k1 -- mkdir /x
shows 'a hole in the id map' '^ +500 +4321 +1$' lxc exec k1 -- cat /proc/self/uid_map
must lxc launch busybox k2 -c security.idmap.isolated=true
apart() {
    [ "$(lxc config get k1 volatile.idmap.base)" != "$(lxc config get k2 volatile.idmap.base)" ]
}
claim 'isolated maps do not meet' apart
refuse 'a limit that the kernel refuses is rolled back' 'busy|resource' lxc config set k1 limits.memory 4kB
same 'and not kept' '' lxc config get k1 limits.memory
must lxc delete -f k1 k2

# ---- snapshots by the clock, refresh ----
must lxc start c1
must lxc config set c1 'snapshots.schedule=* * * * *' snapshots.expiry=1M snapshots.pattern=timed%d
must lxc snapshot c1 first --no-expiry
must lxc copy c1 copy
must lxc exec c1 -- sh -c 'echo newer >/root/file'
must lxc snapshot c1 second --no-expiry
must lxc delete c1/first
claim 'a copy is refreshed' lxc copy c1 copy --refresh
same 'with the same snapshots' 'second ' sh -c 'lxc query /1.0/instances/copy/snapshots | jq -r ".[] | sub(\".*/\"; \"\")" | grep -v timed | tr "\n" " "'
claim 'a scheduled snapshot comes within its minute' wait_for 75 sh -c 'lxc query /1.0/instances/c1/snapshots | grep -q timed0'
must lxc config unset c1 snapshots.schedule
claim 'and expires in the one after the next' wait_for 135 sh -c '! lxc query /1.0/instances/c1/snapshots | grep -q timed0'
same 'others stay' 'second ' snapshots_of c1
must lxc start copy
same 'the refreshed content is there' newer lxc exec copy -- cat /root/file
must lxc delete -f copy

# ---- the whole server ----
must lxc init busybox auto -c boot.autostart=true
must lxc init busybox manual -c boot.autostart=false
must lxc start manual
daemon_stop_all() { curl -s --unix-socket "$LXD_DIR/unix.socket" -X PUT 'http://x/internal/shutdown?force=false' | jq -e '.status == "Success"'; }
claim 'a full stop stops every container' daemon_stop_all
claim 'all of them' sh -c '! pgrep -f "^\[lxc monitor\]"'
daemon_stop || daemon_kill
daemon_start
claim 'what ran before runs again' wait_for 15 is c1 RUNNING
claim 'what is to start starts' wait_for 15 is auto RUNNING
same 'what is not to start does not' STOPPED state manual
must lxc delete -f c1 auto manual
e2e_end
