# A running virtual machine is copied live, its memory by RDMA (rdma_rxe); the source and the target are one agent,
# reached by its two addresses. Without a device: tests/lab/pages_rdma.sh.
. tests/lab/lib.sh
. tests/lab/agent.sh
guest() { hawser query "/1.0/instances/$1/console" 2>/dev/null; }
reached() { [ "$(guest "$1" | grep -c "$2")" -ge 1 ]; }
sent() { cat /sys/class/infiniband/rxe0/ports/1/hw_counters/sent_pkts; }
# routes: what operations said of how the memory goes, since routes_watch
routes() { sort -u /tmp/routes | tr '\n' ' '; }
routes_watch() {
    : >/tmp/routes
    while :; do
        hawser query "/1.0/operations?recursion=1" | jq -r '.running // [] | .[].metadata.migration.route // empty' >>/tmp/routes 2>/dev/null
        sleep 0.2
    done &
    watch=$!
}

command -v lxc >/dev/null || { echo "1..0 # SKIP no lxc: it asks for a live copy"; exit 0; }
ulimit -l unlimited
ip link set lo up
ip link add v0 type veth peer name v1
ip addr add 10.77.0.1/24 dev v0
ip link set v0 up
ip link set v1 up
rdma link add rxe0 type rxe netdev v0
agent_start
must hawser config set core.https_address 10.77.0.1:8443
must hawser config set migration.rdma true
must hawser config set migration.bandwidth 8MB # so that there is time to look
token=$(hawser config trust add --name self -q | tail -n 1)
export LXD_DIR=$HAWSER_DIR LXD_CONF=/tmp/lxc
must wait_for 60 timeout 60 lxc remote add self "$token" --accept-certificate
must hawser profile device set default root size=16MiB
must hawser init --empty --vm v1 -c security.secureboot=false -c security.csm=true -c limits.memory=64MiB \
    -c migration.stateful=true -c raw.qemu="-kernel $HAWSER_BUILD/tests/lab/vnetguest"
must hawser start v1
wait_for 180 reached v1 GUEST && ok "the guest runs" || nok "the guest: $(guest v1)"

copy_live() { timeout 300 lxc copy v1 "self:$1" </dev/null; }
before=$(sent)
routes_watch
succeeds "it is copied while it runs" copy_live v2
kill $watch
[ "$failed" = 0 ] || tail -n 40 /tmp/agent.log "$HAWSER_DIR/logs/hawser-pages.log" | sed "s,^,# ,"
like "its operation says that memory went by RDMA" "*rdma*" "$(routes)"
[ "$(sent)" -gt $((before + 50)) ] && ok "the device has sent it" || nok "the device sent $(($(sent) - before)) packets"
is "the copy runs" RUNNING "$(hawser list v2 -f csv -c s)"
is "the source runs on" RUNNING "$(hawser list v1 -f csv -c s)"
is "no hawser-pages is left" "" "$(pgrep -x hawser-pages)"
succeeds "the copy stops" hawser stop -f v2
succeeds "the source, too" hawser stop -f v1
agent_end
done_lab
