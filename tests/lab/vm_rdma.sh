# A running virtual machine is copied live, its memory by RDMA (rdma_rxe), by one agent to itself, and then moved to a
# second agent. Without a device: tests/lab/pages_rdma.sh.
. tests/lab/lib.sh
. tests/lab/agent.sh
guest() { hawser query "/1.0/instances/$1/console" 2>/dev/null; }
reached() { [ "$(guest "$1" | grep -c "$2")" -ge 1 ]; }
# routes: what operations said of how the memory goes, since routes_watch
routes() { jq -r '.metadata.metadata.migration.route? // empty' /tmp/events | sort -u | tr '\n' ' '; }
listens() { hawser config set v1 user.tick="$(date +%N)" && [ -s /tmp/events ]; } # a change is an operation
routes_watch() {
    hawser monitor --type=operation --format=json >/tmp/events 2>/dev/null &
    watch=$!
    must wait_for 60 listens
}

command -v lxc >/dev/null || { echo "1..0 # SKIP no lxc: it asks for a live copy"; exit 0; }
ulimit -l unlimited
rxe0_make 10.77.0.1
agent_start
must hawser config set core.https_address 10.77.0.1:8443
must hawser config set migration.rdma true
must hawser config set migration.bandwidth 8MB # so that there is time to look
agent_remote_self
agent_vm v1
must hawser start v1
wait_for 400 reached v1 GUEST && ok "the guest runs" || nok "the guest: $(guest v1)"

# The second agent: its own directory and port, by the same device.
second() { HAWSER_DIR=/tmp/second hawser "$@"; }
second_start() {
    local token
    "$HAWSER_BUILD/agent/hawserd" --dir /tmp/second >>/tmp/second.log 2>&1 &
    other=$!
    must second waitready -t 60
    must second storage create default dir
    must second profile device add default root disk path=/ pool=default size=16MiB
    must second config set core.https_address 10.77.0.1:8444
    token=$(second config trust add --name first -q | tail -n 1)
    must wait_for 60 timeout 60 lxc remote add second "$token" --accept-certificate
}
copy_live() { timeout 300 lxc copy v1 "self:$1" </dev/null; }
before=$(rxe0_sent)
routes_watch
succeeds "it is copied while it runs" copy_live v2
kill $watch
[ "$failed" = 0 ] || tail -n 40 /tmp/agent.log "$HAWSER_DIR/logs/hawser-pages.log" | sed "s,^,# ,"
like "its operation says that memory went by RDMA" "*rdma*" "$(routes)"
[ "$(rxe0_sent)" -gt $((before + 50)) ] && ok "the device has sent it" || nok "the device sent $(($(rxe0_sent) - before)) packets"
is "the copy runs" RUNNING "$(hawser list v2 -f csv -c s)"
is "the source runs on" RUNNING "$(hawser list v1 -f csv -c s)"
is "no hawser-pages is left" "" "$(pgrep -x hawser-pages)"
succeeds "the copy stops" hawser stop -f v2

second_start
vsock=$(hawser config get v1 volatile.vsock_id)
before=$(rxe0_sent)
routes_watch
succeeds "it moves to another agent while it runs" timeout 300 lxc move v1 second:v1
kill $watch
[ "$failed" = 0 ] || tail -n 40 /tmp/agent.log /tmp/second.log /tmp/second/logs/v1/qemu.log | sed "s,^,# ,"
like "which its operation says went by RDMA, too" "*rdma*" "$(routes)"
[ "$(rxe0_sent)" -gt $((before + 50)) ] && ok "the device has sent it" || nok "the device sent $(($(rxe0_sent) - before)) packets"
# Both machines were the first of their agents, and were there at one time.
[ ! -e /dev/vhost-vsock ] || is "its vsock address is another" 1 "$(($(second config get v1 volatile.vsock_id) != vsock))"
is "it runs there" RUNNING "$(second list v1 -f csv -c s)"
is "and is not here" "" "$(hawser list v1 -f csv -c s)"
is "no hawser-pages is left of the move" "" "$(pgrep -x hawser-pages)"
succeeds "it stops there" second stop -f v1
kill $other
wait $other
is "the second agent ends cleanly" 0 $?
is "and no sanitizer had anything to say" "" "$(grep -hE 'ERROR: .*Sanitizer|runtime error' /tmp/second.log)"
agent_end
done_lab
