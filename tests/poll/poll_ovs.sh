#!/bin/bash
# The poll-mode engine before OVS-DPDK: what is slow goes by virtio-user into vhost-user ports of a bridge, whose
# flows and conntrack decide; instances are AF_PACKET sockets on veth pairs. No hugepages, no PCI. TAP.
HERE=$(cd "$(dirname "$0")" && pwd)
. "$HERE/poll.sh"
poll_begin "$@"
OVS=/usr/lib/openvswitch-switch-dpdk/ovs-vswitchd-dpdk
[ -x $OVS ] || { echo "1..0 # SKIP openvswitch-switch-dpdk is not installed"; exit 77; }

# ---- OVS of our own ----
export OVS_RUNDIR=$LAB_DIR OVS_DBDIR=$LAB_DIR OVS_LOGDIR=$LAB_DIR
vsctl() { timeout 30 ovs-vsctl "--db=unix:$LAB_DIR/db.sock" "$@"; }
ofctl() { timeout 30 ovs-ofctl -O OpenFlow13 "$1" "unix:$LAB_DIR/br0.mgmt" "${@:2}"; }
switch_start() {
    ovsdb-tool create "$LAB_DIR/conf.db" /usr/share/openvswitch/vswitch.ovsschema &&
        ovsdb-server "$LAB_DIR/conf.db" "--remote=punix:$LAB_DIR/db.sock" --detach --pidfile="$LAB_DIR/db.pid" || return 1
    vsctl --no-wait init -- set Open_vSwitch . other_config:dpdk-init=true other_config:pmd-maxsleep=500 other_config:per-port-memory=true \
        'other_config:dpdk-extra=--no-pci --legacy-mem --no-huge -m 512 --no-telemetry'
    switch_run
}
switch_run() {
    rm -f "$LAB_DIR/ctl"
    $OVS "unix:$LAB_DIR/db.sock" "--unixctl=$LAB_DIR/ctl" -vconsole:err >>"$LAB_DIR/switch.log" 2>&1 &
    switch=$!
    wait_for 60 vsctl --timeout=5 --may-exist add-br br0 -- set bridge br0 datapath_type=netdev fail_mode=secure || return 1
    # A fast flow's bytes are not seen by it. Of a bridge that the database already had nobody waits to be told.
    wait_for 60 timeout 30 ovs-appctl -t "$LAB_DIR/ctl" dpctl/ct-disable-tcp-seq-chk
}
vhost() { # NAME NUMBER
    vsctl add-port br0 "v$1" -- set interface "v$1" type=dpdkvhostuserclient "ofport_request=$2" "options:vhost-server-path=$LAB_DIR/$1.sock"
}
rules() {
    local route='dec_ttl,set_field:02:00:00:00:09:01->eth_src'
    cat <<-FLOWS
	table=0,priority=10,ip,actions=ct(table=1,zone=1)
	table=1,priority=10,ct_state=+trk+inv,actions=drop
	table=1,priority=5,in_port=1,ip,nw_src=10.1.0.2,nw_dst=10.2.0.2,actions=ct(commit,zone=1),$route,set_field:02:00:00:00:00:0b->eth_dst,output:2
	table=1,priority=5,in_port=2,ip,nw_src=10.2.0.2,nw_dst=10.1.0.2,actions=ct(commit,zone=1),$route,set_field:02:00:00:00:00:0a->eth_dst,output:1
	FLOWS
}
switch_start >"$LAB_DIR/out" 2>&1 || { sed 's/^/# /' "$LAB_DIR/out" "$LAB_DIR/switch.log"; echo "1..0 # SKIP OVS-DPDK does not start here"; exit 77; }
vhost a 1
vhost b 2
rules >"$LAB_DIR/flows"
ofctl replace-flows "$LAB_DIR/flows"

# ---- instances ----
lab_instance a 1
lab_instance b 2
for name in a b; do
    in_ns $name ethtool -K eth0 tx off >/dev/null 2>&1
    in_ns $name ip neigh add "10.$([ $name = a ] && echo 1 || echo 2).0.1" lladdr 02:00:00:00:09:01 dev eth0
done
poll_start
add() { # NAME NUMBER
    ask add "id=$1" "device=net_af_packet_h$1,iface=h$1" "slow=net_virtio_user_$1,path=$LAB_DIR/$1.sock,server=1" \
        "mac=02:00:00:00:00:0$1" zone=5 "addresses=10.$2.0.2"
}
claim 'two ports come up' eval 'add a 1 && add b 2'
claim 'a packet finds its way through the bridge' wait_for 60 ping_a -c 1 10.2.0.2
claim 'echoes arrive' ping_a -c 20 -i 0.05 10.2.0.2
claim 'some of them fast' grew field fast 10
claim 'with the TTL of the bridge' test "$(in_ns a ping -c 1 -W 2 10.2.0.2 | grep -o 'ttl=[0-9]*')" = ttl=63

# ---- TCP: the bridge's conntrack sees copies that prove the flow ----
before=$(field fast)
megabytes() {
    in_ns b timeout 60 python3 "$HERE/sum.py" receive 9001 &
    local server=$!
    in_ns a timeout 50 python3 "$HERE/sum.py" send 10.2.0.2 9001 8
    local status=$?
    kill $server 2>/dev/null
    return $status
}
claim 'eight megabytes of TCP arrive whole' megabytes
claim 'fast' grew field fast $((before + 1000))

# ---- what the bridge forbids ----
forbid() { ofctl add-flow 'table=0,priority=100,icmp,actions=drop'; }
allow() { ovs-ofctl -O OpenFlow13 --strict del-flows "unix:$LAB_DIR/br0.mgmt" 'table=0,priority=100,icmp'; }
deaf() { ! in_ns a ping -q -c 3 -i 0.1 -W 1 10.2.0.2; }
fast_again() { local before; before=$(field fast); wait_for 20 ping_a -c 20 -i 0.05 10.2.0.2 && grew field fast $((before + 10)); }
in_ns a ping -q -i 0.05 10.2.0.2 >/dev/null 2>&1 &
pinger=$!
claim 'a flow is fast' fast_again
forbid
claim 'what the bridge forbids ends, without a word to us' wait_for 20 deaf
kill $pinger
allow
claim 'allowed again, it is fast again' fast_again
forbid
ask bump 5 >/dev/null
claim 'with a bump it ends at once' deaf
allow

# ---- either end goes and comes ----
claim 'a port is removed' ask remove b
claim 'and comes again at the same socket' eval 'add b 2 && wait_for 60 ping_a -c 1 10.2.0.2'
claim 'fast' fast_again
kill -9 $switch
wait $switch 2>/dev/null
claim 'OVS is killed: its ports stay, and it is started again' eval 'switch_run && wait_for 30 ofctl replace-flows "$LAB_DIR/flows"'
claim 'which finds the sockets again' wait_for 60 ping_a -c 1 10.2.0.2
claim 'fast' fast_again
poll_end
kill $switch "$(cat "$LAB_DIR/db.pid")"
poll_plan
