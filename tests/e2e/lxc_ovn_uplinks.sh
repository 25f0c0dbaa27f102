#!/bin/bash
# lxc_ovn_uplinks: uplinks of ovn networks that are less usual: a physical one whose parent is an OVS bridge of the operator's,
# ovn.ingress_mode=routed with anycast routes, on a real OVN that the agent runs itself. As the unmodified lxc client sees it.
. "$(dirname "$0")/lib.sh"
only_hawser || e2e_skip_all 'needs an OVN that the daemon runs itself'
e2e_begin
need ovs-vswitchd ovn-northd ovn-nbctl ovs-vsctl nsenter
mkdir -p /run/netns && mount -t tmpfs tmpfs /run/netns # names of others do not meet ours
daemon_start
must lxc storage create default "$E2E_POOL_DRIVER"
must lxc profile device add default root disk path=/ pool=default
e2e_image busybox
O=$LXD_DIR/ovn
nb() { timeout 20 ovn-nbctl --db="unix:$O/ovnnb.sock" "$@"; }
vs() { timeout 20 ovs-vsctl --db="unix:$O/db.sock" "$@"; }
four() { lxc list "^$1\$" -f csv -c 4 | grep -oE '10\.95\.[0-9]+\.[0-9]+' | head -1; }
has4() { [ -n "$(four "$1")" ]; }
pings() { lxc exec "$1" -- ping -c1 -W2 "$2"; }
mappings() { vs --if-exists get Open_vSwitch . external_ids:ovn-bridge-mappings; }

# ---- an OVS bridge of the operator's ----
# The first network brings Open vSwitch up; it needs no uplink.
must lxc network create first --type=ovn network=none ipv4.address=10.95.9.1/24 ipv6.address=none
must vs add-br extbr -- set Bridge extbr datapath_type="$(vs get Bridge br-int datapath_type)"
must ip addr add 10.94.80.1/24 dev extbr
must ip link set extbr up
claim 'an OVS bridge is a parent' lxc network create up1 --type=physical parent=extbr ipv4.gateway=10.94.80.1/24 \
    ipv4.ovn.ranges=10.94.80.50-10.94.80.60 ipv4.routes=198.51.100.0/24 dns.nameservers=10.94.80.1
claim 'a network on it' lxc network create o1 --type=ovn network=up1 ipv4.address=10.95.1.1/24 ipv4.nat=true ipv6.address=none
shows 'the bridge is used as it is' 'up1:extbr' mappings
hides 'without a veth pair' lxdovn ip -br link
same 'it keeps its address' 10.94.80.1/24 sh -c "ip -br -4 addr show extbr | awk '{print \$3}'"
must lxc launch busybox c1 -n o1
claim 'a container gets an address' wait_for 40 has4 c1
claim 'and reaches what is on the bridge' wait_for 30 pings c1 10.94.80.1
claim 'translated' wait_for 20 ping -c1 -W2 10.94.80.50
refuse 'one address on it is used once' 'overlaps' sh -c "lxc config device set c1 eth0 ipv4.routes.external=198.51.100.4/32 && \
    lxc init busybox c2 -n o1 && lxc config device set c2 eth0 ipv4.routes.external=198.51.100.4/32"

# ---- routed, with anycast ----
must lxc config device set c1 eth0 ipv4.routes.external=
must lxc delete -f c2
claim 'ingress by routes' lxc network set up1 ovn.ingress_mode=routed ipv4.routes.anycast=true
must lxc launch busybox c2 -n o1
claim 'addresses' wait_for 40 has4 c2
claim 'an external route' lxc config device set c1 eth0 ipv4.routes.external=198.51.100.8/32
claim 'the same at another container' lxc config device set c2 eth0 ipv4.routes.external=198.51.100.8/32
router=$(nb --bare --columns=name find Logical_Switch other_config:subnet=10.95.1.0/24 | sed 's/-ls-int$/-lr/')
hides 'nothing answers for it on the uplink' 'dnat_and_snat.*198\.51\.100' nb lr-nat-list "$router"
shows 'the router leads there' '198\.51\.100\.8' nb lr-route-list "$router"
must ip route add 198.51.100.0/24 via 10.94.80.50
must lxc exec c1 -- ip addr add 198.51.100.8/32 dev lo
must lxc exec c2 -- ip addr add 198.51.100.8/32 dev lo
claim 'and packets that are routed to it arrive' wait_for 20 ping -c1 -W2 198.51.100.8
must lxc stop -f c1
claim 'at the other one when the first is gone' wait_for 20 ping -c1 -W2 198.51.100.8

# ---- the end ----
must lxc delete -f c1 c2
claim 'the network goes' lxc network delete o1
hides 'its mapping with it' 'up1:extbr' mappings
claim 'the uplink, too' lxc network delete up1
claim 'the operator’s bridge stays' vs br-exists extbr
claim 'the last network' lxc network delete first
e2e_end
