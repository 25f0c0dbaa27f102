#!/bin/bash
# nic_accel: containers with a virtual function: acceleration=sriov on an ovn network beside plain ones, and the plain
# sriov network, over the simulated NIC; hot plug, agent and hawser-dpd restarted and killed under them; what is given
# back is byte for byte what it was.
. "$(dirname "$0")/lib.sh"
only_hawser || e2e_skip_all 'needs an OVN that the daemon runs itself'
e2e_begin
need ovs-vswitchd ovn-northd ovs-vsctl
mkdir -p /run/netns && mount -t tmpfs tmpfs /run/netns # names of others do not meet ours
export DAEMON_ENV="HAWSER_HW=sim:$E2E_DIR/nic"
daemon_start
must lxc storage create default "$E2E_POOL_DRIVER"
must lxc profile device add default root disk path=/ pool=default
e2e_image busybox
vs() { timeout 20 ovs-vsctl --db="unix:$LXD_DIR/ovn/db.sock" "$@"; }
four() { lxc list "^$1\$" -f csv -c 4 | grep -oE '[0-9]+\.[0-9]+\.[0-9]+\.[0-9]+' | head -1; }
has4() { [ -n "$(four "$@")" ]; }
pings() { lxc exec "$1" -- ping -c1 -W2 "$2" || lxc exec "$1" -- ping -c1 -W5 "$2"; }
volatile() { lxc config get "$1" "volatile.$2"; }
dpd_pid() { pgrep -f "hawser-dpd --embedded --dir $LXD_DIR/dpd" | head -1; }
# Functions and representors as they are now, and what the PF keeps for them.
snapshot() {
    ip -d link | grep -A2 -E '^[0-9]+: sim[0-9]+[vr]' | sed -E 's/(qdisc) [a-z]+/\1/'
    jq -S '.pfs, .vdpas' "$E2E_DIR/nic/sim.json"
}
as_before() { snapshot >"$E2E_DIR/after" && diff "$E2E_DIR/before" "$E2E_DIR/after"; }
claims() { ASAN_OPTIONS=detect_leaks=0 timeout 20 "$HAWSER_BUILD/tests/e2e/dpdctl" "$LXD_DIR/dpd/dpd.socket" status | grep -c ^claim; return 0; }
one_claim() { [ "$(claims 2>/dev/null)" = 1 ]; }
no_claims() { [ "$(claims 2>/dev/null)" = 0 ]; }

must lxc network create upbr0 ipv4.address=10.94.80.1/24 ipv4.nat=true ipv6.address=none \
    ipv4.dhcp.ranges=10.94.80.100-10.94.80.150 ipv4.ovn.ranges=10.94.80.200-10.94.80.220
must lxc network create o1 --type=ovn network=upbr0 ipv4.address=10.95.8.1/24 ipv4.nat=true ipv6.address=none

# ---- beside a plain one ----
must lxc launch busybox plain -n o1
must lxc init busybox fast -n o1
must lxc config device set fast eth0 acceleration sriov
quiet "$(hawser_path)" hw list # the simulated NIC's interfaces are made by the first look
snapshot >"$E2E_DIR/before"
claim 'a container with acceleration=sriov starts' lxc start fast
claim 'both get addresses' wait_for 20 has4 plain
claim 'the accelerated one, too' wait_for 20 has4 fast
claim 'the accelerated one reaches the plain one' wait_for 20 pings fast "$(four plain)"
claim 'and the other way round' wait_for 20 pings plain "$(four fast)"
claim 'and the gateway of the network' pings fast 10.95.8.1
shows 'its interface is the function' 'sim0v0' volatile fast eth0.host_name
same 'its PF is noted as LXD does' sim0 volatile fast eth0.last_state.vf.parent
same 'so is the number' 0 volatile fast eth0.last_state.vf.id
shows 'and the old MAC' '^02:f0:00:00:00:00$' volatile fast eth0.last_state.hwaddr
shows 'the representor is on br-int, not the function' '^sim0r0$' vs list-ports br-int
hides 'the host no longer has the function' 'sim0v0:' ip -br link
shows 'its MAC inside is the NIC'"'"'s' "$(volatile fast eth0.hwaddr)" lxc exec fast -- cat /sys/class/net/eth0/address
same 'one function is claimed' 1 claims

# ---- restarts under it ----
claim 'the agent is restarted' daemon_restart
claim 'the packets go on' pings fast "$(four plain)"
claim 'its claim stays' wait_for 20 one_claim
pid=$(dpd_pid)
must kill -KILL "$pid"
claim 'hawser-dpd is killed, and comes back' wait_for 10 sh -c "p=\$(pgrep -f 'hawser-dpd --embedded --dir $LXD_DIR/dpd' | head -1); [ -n \"\$p\" ] && [ \"\$p\" != $pid ]"
claim 'the packets go on' pings fast "$(four plain)"
claim 'it adopts the claim' wait_for 20 one_claim
daemon_kill
daemon_start
claim 'the agent is killed: the packets go on' pings fast "$(four plain)"

# ---- given back ----
claim 'it stops' lxc stop -f fast
same 'the function is as it was' '' as_before
same 'the old state is forgotten' '' volatile fast eth0.last_state.vf.id
hides 'the representor is off br-int' '^sim0r' vs list-ports br-int
claim 'it starts again' lxc start fast
claim 'and pings again' wait_for 20 pings fast "$(four plain)"
must lxc exec fast -- true
claim 'it is deleted while it runs' lxc delete -f fast
same 'the function is as it was' '' as_before

# ---- choices ----
must lxc init busybox fast -n o1
must lxc config device set fast eth0 acceleration=sriov acceleration.parent=sim1
claim 'a parent may be named' lxc start fast
same 'and is taken' sim1 volatile fast eth0.last_state.vf.parent
must lxc stop -f fast
must lxc config device set fast eth0 acceleration.parent=eth99
refuse 'an unknown parent is named' '"eth99" is no SR-IOV device' lxc start fast
must lxc config device set fast eth0 hawser.acceleration.fallback=true
claim 'with the fallback it starts in software' lxc start fast
claim 'and reaches the gateway' wait_for 20 pings fast 10.95.8.1
must lxc stop -f fast
must lxc config device set fast eth0 hawser.acceleration.fallback=false acceleration=vdpa
refuse 'vDPA is for virtual machines' 'virtual machines only' lxc start fast
must lxc config device set fast eth0 hawser.acceleration.fallback=true acceleration.parent=
claim 'unless the ladder leads on' lxc start fast
shows 'to a function' '^sim' volatile fast eth0.host_name
must lxc delete -f fast

# ---- hot plug ----
must lxc launch busybox hot
claim 'a NIC with a function is plugged into a running container' \
    lxc config device add hot eth0 nic network=o1 name=eth0 acceleration=sriov
claim 'it gets an address' wait_for 20 has4 hot
claim 'and reaches the gateway' wait_for 20 pings hot 10.95.8.1
claim 'and taken out' lxc config device remove hot eth0
same 'the function is as it was' '' as_before
must lxc network create p1 --type=sriov parent=sim0
claim 'a plain function is plugged in' lxc config device add hot eth2 nic network=p1 name=eth2 vlan=
shows 'it is inside' 'eth2' lxc exec hot -- ip link
claim 'and taken out' lxc config device remove hot eth2
wait_for 5 no_claims
same 'the function is as it was' '' as_before
must lxc delete -f hot

# ---- the plain sriov network, all of it ----
for n in 1 2 3 4; do
    must lxc launch busybox s$n -n p1
done
same 'four containers hold four functions' 4 claims
must lxc init busybox s5 -n p1
refuse 'the fifth hears that all are in use' 'All virtual functions of sriov device "sim0" are already in use' lxc start s5
must lxc delete -f s1
claim 'one is given back, and taken' lxc start s5
must lxc delete -f s2 s3 s4 s5
same 'all functions are as they were' '' as_before
same 'nothing is claimed' 0 claims
must lxc delete -f plain
e2e_end
