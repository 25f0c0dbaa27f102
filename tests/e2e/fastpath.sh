#!/bin/bash
# fastpath: two instances on peered ovn networks of two projects, on a real OVN that the agent runs itself: their
# packets skip the switch once OVN let them through, and never against what OVN says.
. "$(dirname "$0")/lib.sh"
only_hawser || e2e_skip_all 'needs an OVN that the daemon runs itself'
e2e_begin
need ovs-vswitchd ovn-northd ovn-nbctl nsenter python3
mkdir -p /run/netns && mount -t tmpfs tmpfs /run/netns # names of others do not meet ours
daemon_start
must lxc storage create default "$E2E_POOL_DRIVER"
must lxc profile device add default root disk path=/ pool=default
e2e_image busybox
O=$LXD_DIR/ovn
HAWSER=$(hawser_path)
nb() { timeout 20 ovn-nbctl --db="unix:$O/ovnnb.sock" "$@"; }
appctl() { timeout 10 ovs-appctl -t "$O/ovs-vswitchd.ctl" "$@"; }
four() { lxc list "^$1\$" -f csv -c 4 --project "${2:-default}" | grep -oE '10\.95\.[0-9]+\.[0-9]+' | head -1; }
six() { lxc list "^$1\$" -f csv -c 6 --project "${2:-default}" | grep -oE 'fd42:[0-9a-f:]+' | head -1; }
has4() { [ -n "$(four "$@")" ]; }
has6() { [ -n "$(six "$@")" ]; }
pid_of() { lxc query "/1.0/instances/$1/state?project=${2:-default}" | jq .pid; }
one() { timeout 60 nsenter -t "$P1" -n "$@"; } # in c1's network
two() { timeout 60 nsenter -t "$P2" -n "$@"; } # in c2's
ping_two() { one ping -q -W 1 "$@" "$a2"; }
plane() { api_meta GET /1.0/hawser/dataplane; }
count() { plane | jq ".packets[\"$1\"]"; }
grew() { [ "$(count "$1")" -ge "$2" ]; } # VERDICT LEAST
port_is_fast() { plane | jq -e ".ports[] | select(.nic == \"$1\") | .fast" >/dev/null; }
fast_flows() { api_meta GET "/1.0/hawser/dataplane/flows?state=fast${1:+&$1}" | jq .total; }

must lxc network create upbr0 ipv4.address=10.94.61.1/24 ipv4.nat=true ipv4.dhcp.ranges=10.94.61.100-10.94.61.150 \
    ipv4.ovn.ranges=10.94.61.200-10.94.61.220 ipv6.address=fd42:94:61::1/64 ipv6.nat=true \
    ipv4.routes=198.51.100.0/24
must lxc project create p2 -c features.networks=true -c features.images=false -c features.profiles=false
must lxc network create o1 --type=ovn network=upbr0 ipv4.address=10.95.1.1/24 ipv4.nat=true \
    ipv6.address=fd42:95:1::1/64 ipv6.nat=true
must lxc network create o2 --type=ovn --project p2 network=upbr0 ipv4.address=10.95.2.1/24 ipv4.nat=true \
    ipv6.address=fd42:95:2::1/64 ipv6.nat=true
must lxc network peer create o1 to2 p2/o2
must lxc network peer create o2 to1 default/o1 --project p2
must lxc launch busybox c1 -n o1
must lxc launch busybox c2 -n o2 --project p2
must wait_for 60 has4 c1
must wait_for 60 has4 c2 p2
must wait_for 60 has6 c1
must wait_for 60 has6 c2 p2
a1=$(four c1) a2=$(four c2 p2) s1=$(six c1) s2=$(six c2 p2)
P1=$(pid_of c1) P2=$(pid_of c2 p2)

# ---- becoming fast ----
available=$(plane | jq .available)
if [ "$available" != true ]; then
    skip 'the fast path' "$(plane | jq -r .why)"
    e2e_end
fi
claim 'ports of running instances may be fast' wait_for 20 port_is_fast default/c1/eth0
claim 'of both projects' wait_for 20 port_is_fast p2/c2/eth0
same 'peered networks are one zone' 1 sh -c "lxc query /1.0/hawser/dataplane | jq '[.ports[].zone] | unique | length'"
claim 'the switch keeps connections of which it sees a part' wait_for 20 sh -c \
    "lxc query /1.0/hawser/dataplane | jq -e '.fastpath and (.conntrack_strict | not)'"
claim 'echoes arrive' wait_for 20 ping_two -c 1
before=$(count hit)
claim 'and again' ping_two -c 20 -i 0.05
claim 'past the switch' grew hit $((before + 30))
e2e_diag <<<"$(plane | jq -c .packets)"
claim 'IPv6, too' one ping -q -W 1 -c 20 -i 0.05 "$s2"
shows 'the flows are listed' 'default/c1/eth0.*p2/c2/eth0.*icmp.*fast' "$HAWSER" dataplane flows
shows 'so are ports and counters' 'default/c1/eth0.*YES' "$HAWSER" dataplane stats
e2e_end
