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
serve() { exec nsenter -t "$P2" -n python3 "$E2E_LIB/planepackets.py" echo "$1"; } # in c2, until the suite ends
ping_two() { one ping -q -W 1 "$@" "$a2"; }
plane() { api_meta GET /1.0/hawser/dataplane; }
count() { plane | jq ".packets[\"$1\"]"; }
grew() { [ "$(count "$1")" -ge "$2" ]; } # VERDICT LEAST
packets() { python3 "$E2E_LIB/planepackets.py" "$@"; }
export -f packets; export E2E_LIB
# Each word of the outcome is a counter; grows_by runs a command and tells by how much one grew.
in_one() { one bash -c 'packets "$@"' - "$@"; }
in_two() { two bash -c 'packets "$@"' - "$@"; }
total_of() { api_meta GET "/1.0/hawser/dataplane/flows?$1" | jq .total; }
no_flow() { [ "$(total_of "$1")" = 0 ]; }
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
refuse 'an unknown NIC is named' 'No NIC "nobody"' "$HAWSER" dataplane flows --nic nobody
refuse 'a port that is none' 'Invalid port' "$HAWSER" dataplane flows --port x
shows 'filters' '^0$' sh -c "lxc query '/1.0/hawser/dataplane/flows?address=10.95.9.9' | jq .total"
same 'a body that says nothing: 400' 400 api_code PUT /1.0/hawser/dataplane '{"fastpath":"yes"}'

# ---- learning, and what arrives ----
serve 5000 >"$E2E_DIR/echo" 2>&1 &
claim 'UDP round trips' wait_for 20 in_one trips "$a2" 5000 1
before=$(count hit)
claim 'of a new flow' in_one trips "$a2" 5000 23
claim 'are fast after three packets each way' grew hit $((before + 2 * 20))
claim 'TCP brings every byte' in_one tcp "$a2" 5000 2000000
claim 'so it does over IPv6' in_one tcp "$s2" 5000 1000000
claim 'segmented datagrams (UDP GSO)' in_one gso "$a2" 5000 50
claim 'a closed connection leaves no flow' wait_for 10 no_flow 'protocol=tcp&state=fast&port=5000'
claim 'and OVN saw it closed' wait_for 10 sh -c \
    "! timeout 5 ovs-appctl -t $O/ovs-vswitchd.ctl dpctl/dump-conntrack | grep 'dport=5000.*ESTABLISHED'"

# ---- byte by byte as on the slow path ----
n1=$(nb --bare --columns=name find Logical_Switch 'other_config:subnet=10.95.1.0/24' | sed 's/lxd-net\([0-9]*\)-.*/\1/')
gw1=$(nb get Logical_Router_Port "lxd-net$n1-lr-lrp-int" mac | tr -d '"')
serve 4001 >"$E2E_DIR/echo2" 2>&1 &
caught() { # FILE SRC DST: 24 fixed frames from c1, as they come in at c2
    : >"$1" # an earlier one was ready, too
    in_two catch 24 10 >"$1" &
    local catcher=$!
    wait_for 10 grep -q ready "$1" && in_one frames "$gw1" "$2" "$3" 24
    wait $catcher
    [ "$(grep -vc ready "$1")" = 24 ]
}
for way in "$a1 $a2" "$s1 $s2"; do
    read -r from to <<<"$way"
    quiet "$HAWSER" dataplane off
    claim "frames from $from by the slow path" caught "$E2E_DIR/slow" "$from" "$to"
    quiet "$HAWSER" dataplane on
    quiet caught "$E2E_DIR/learned" "$from" "$to"
    before=$(count hit)
    claim 'the same by the fast path' caught "$E2E_DIR/fast" "$from" "$to"
    claim 'most were fast' grew hit $((before + 20))
    claim 'equal byte by byte' cmp "$E2E_DIR/slow" "$E2E_DIR/fast"
    cmp -s "$E2E_DIR/slow" "$E2E_DIR/fast" ||
        { cut -c 29-60 "$E2E_DIR/fast" | e2e_diag; e2e_diag <<<"$(plane | jq -c .packets)"; }
done

# ---- forged ----
spoofed() { plane | jq '.packets | .["spoofed-mac"] + .["spoofed-address"]'; }
sent_fast() { api_meta GET "/1.0/hawser/dataplane/flows?source=$a1&port=4001" | jq '[.flows[].packets] | add // 0'; }
before=$(spoofed) fast=$(sent_fast)
in_one spoof "$gw1" 10.95.1.77 "$a2" "$(lxc config get c1 volatile.eth0.hwaddr)" >/dev/null
in_one spoof "$gw1" "$a1" "$a2" 02:00:00:00:66:66 >/dev/null
claim 'forged packets are counted' test $(($(spoofed) - before)) -ge 400
none_more() { [ "$(sent_fast)" -le "$fast" ]; } # a flow that rests may have gone meanwhile
claim 'none was fast' none_more
same 'nor learned' 0 total_of source=10.95.1.77

# ---- what OVN forbids ----
watched() { # SECONDS FILE [QUIET]: times of answers while the caller does something, until none came for QUIET seconds
    : >"$2"
    in_one watch "$a2" "$1" ${3:+"$3"} >"$2" &
    watcher=$!
    wait_for 10 grep -q ready "$2"
}
last_answer() { tail -n 1 "$1" | cut -d' ' -f2; }
answered() { [ "$(grep -vc ready "$1")" -gt "$2" ]; }
after() { awk -v last="$(last_answer "$1")" -v since="$2" -v most="$3" 'BEGIN { print "last answer " last - since " s after"; exit !(last - since < most) }'; }
must lxc network acl create shut --project p2
must lxc config device set c2 eth0 --project p2 security.acls=shut security.acls.default.ingress.action=drop \
    security.acls.default.egress.action=allow
claim 'dropped from the start: no answer' sh -c "! nsenter -t $P1 -n ping -q -c 3 -i 0.2 -W 1 $a2"
same 'and nothing is fast' 0 fast_flows "address=$a2&protocol=icmp"
must lxc config device set c2 eth0 --project p2 security.acls.default.ingress.action=allow
claim 'allowed: answers' wait_for 10 ping_two -c 1
watched 30 "$E2E_DIR/answers" 4
wait_for 10 answered "$E2E_DIR/answers" 100
hits=$(count hit)
must lxc config device set c2 eth0 --project p2 security.acls.default.ingress.action=drop
revoked=$(date +%s.%N)
wait $watcher
claim 'it was fast' test "$hits" -gt "$before"
claim 'a drop is in force when the API answers' after "$E2E_DIR/answers" "$revoked" 0.005
e2e_diag <<<"$(after "$E2E_DIR/answers" "$revoked" 9)"
must lxc config device set c2 eth0 --project p2 security.acls.default.ingress.action=allow
claim 'afterwards: answers again' wait_for 10 ping_two -c 1
watched 30 "$E2E_DIR/answers" 4
wait_for 10 answered "$E2E_DIR/answers" 100
ls2=$(nb --bare --columns=name find Logical_Switch 'other_config:subnet=10.95.2.0/24')
must nb --wait=hv acl-add "$ls2" to-lport 3000 'icmp4.type == 8' drop
revoked=$(date +%s.%N)
wait $watcher
claim 'a rule made behind our back: the last answer within two seconds' after "$E2E_DIR/answers" "$revoked" 2.1
e2e_diag <<<"$(after "$E2E_DIR/answers" "$revoked" 9)"
must nb --wait=hv acl-del "$ls2" to-lport 3000 'icmp4.type == 8'
claim 'taken back: answers' wait_for 10 ping_two -c 1

# ---- what the fast path would skip ----
must nb --wait=hv qos-add "$ls2" to-lport 100 'ip4' rate=100000
claim 'a rate limit of OVN makes its ports slow' wait_for 10 sh -c \
    "lxc query /1.0/hawser/dataplane | jq -e '.ports[] | select(.nic == \"p2/c2/eth0\") | (.fast | not) and (.why | test(\"limits\"))'"
must nb --wait=hv qos-del "$ls2"
claim 'until it goes' wait_for 10 port_is_fast p2/c2/eth0
claim 'a network without the fast path' lxc network set o1 hawser.fastpath=false
claim 'its ports are slow when that is answered' sh -c \
    "lxc query /1.0/hawser/dataplane | jq -e '.ports[] | select(.nic == \"default/c1/eth0\") | (.fast | not) and (.why | test(\"does not ask\"))'"
hits=$(count hit)
claim 'and work' ping_two -c 5 -i 0.05
same 'slowly' "$hits" count hit
claim 'with it again' lxc network unset o1 hawser.fastpath
claim 'it is fast' port_is_fast default/c1/eth0
quiet ping_two -c 3 -i 0.05
hits=$(count hit)
claim 'and stays connected' ping_two -c 20 -i 0.05
claim 'past the switch' grew hit $((hits + 30))

# ---- peers ----
watched 30 "$E2E_DIR/answers" 4
wait_for 10 answered "$E2E_DIR/answers" 50
must lxc network peer delete o1 to2
revoked=$(date +%s.%N)
wait $watcher
claim 'a peering that ends ends its flows before the API answers' after "$E2E_DIR/answers" "$revoked" 0.005
same 'the networks are two zones' 2 sh -c "lxc query /1.0/hawser/dataplane | jq '[.ports[].zone] | unique | length'"
quiet lxc network peer delete o2 to1 --project p2
must lxc network peer create o1 to2 p2/o2
must lxc network peer create o2 to1 default/o1 --project p2
claim 'and come back with it' wait_for 20 ping_two -c 1

# ---- the daemons end ----
dpd_pid() { cat "$LXD_DIR/dpd/dpd.pid" 2>/dev/null || pgrep -f "hawser-dpd .*--dir $LXD_DIR/dpd" | head -1; }
numbered() { # SECONDS: numbered datagrams from c1 to c2
    two python3 "$E2E_LIB/../bpf/numbered.py" receive 9000 >"$E2E_DIR/numbers" 2>&1 &
    receiver=$!
    wait_for 10 two grep -q ':2328 ' /proc/net/udp || return
    one python3 "$E2E_LIB/../bpf/numbered.py" send "$a2" 9000 "$1" &
    sender=$!
}
quiet wait_for 10 in_one trips "$a2" 5000 1
held() { plane | jq -c '[.packets.off, .packets.generation]'; }
numbered 6
hits=$(count hit)
must wait_for 10 grew hit $((hits + 5000))
held=$(held)
kill -9 "$(dpd_pid)"
claim 'without hawser-dpd it goes on; another one comes' wait_for 20 port_is_fast p2/c2/eth0
wait $sender; wait $receiver
shows 'killed under load: nothing lost or twice' 'lost 0 twice 0' cat "$E2E_DIR/numbers"
same 'for nothing that was learned was forgotten, or held' "$held" held
e2e_diag <"$E2E_DIR/numbers"
# As when the host starts again: the daemon's directory stays, pins are gone.
is_off() { plane | jq -e ".switched_off == $1" >/dev/null; }
quiet "$HAWSER" dataplane off
kill -9 "$(dpd_pid)"
rm -f "$LXD_DIR"/dpd/bpf/fast/*
claim 'off stays off when pins are gone' wait_for 30 is_off true
hits=$(count hit)
claim 'and the instances are connected again' wait_for 30 ping_two -c 5 -i 0.05
same 'slowly' "$hits" count hit
claim 'until it is asked for' "$HAWSER" dataplane on
claim 'then they are fast' wait_for 30 sh -c \
    "nsenter -t $P1 -n ping -q -c 5 -i 0.05 $a2; [ \$(lxc query /1.0/hawser/dataplane | jq .packets.hit) -gt $((hits + 5)) ]"
quiet wait_for 10 ping_two -c 1
watched 40 "$E2E_DIR/answers"
wait_for 10 answered "$E2E_DIR/answers" 50
kill -9 "$(cat "$O/ovs-vswitchd.pid")"
claim 'ovs-vswitchd is killed and comes back' wait_for 40 sh -c "kill -0 \$(cat $O/ovs-vswitchd.pid)"
claim 'then conntrack is liberal again' wait_for 40 sh -c "lxc query /1.0/hawser/dataplane | jq -e .fastpath"
claim 'and answers come' wait_for 40 ping_two -c 1
hits=$(count hit)
claim 'soon fast ones' wait_for 20 sh -c "nsenter -t $P1 -n ping -q -c 5 -i 0.05 $a2; [ \$(lxc query /1.0/hawser/dataplane | jq .packets.hit) -gt $hits ]"
kill $watcher 2>/dev/null; wait $watcher
awk 'NF == 3 { if (last && $2 - last > most) most = $2 - last; last = $2 } END { print "longest silence " most " s" }' \
    "$E2E_DIR/answers" | e2e_diag

# ---- beyond the zone: NAT, forwards, load balancers ----
# Whatever OVN makes of these without the fast path, it makes of them with it.
as_without() { # NAME CMD…
    local name=$1 without with; shift
    quiet "$HAWSER" dataplane off
    "$@" >/dev/null 2>&1; without=$?
    quiet "$HAWSER" dataplane on
    "$@" >/dev/null 2>&1; with=$?
    claim "$name ($([ $without = 0 ] && echo works || echo does not work))" test $without = $with
}
claim 'outside by SNAT' one ping -q -W 1 -c 5 -i 0.05 10.94.61.1
must lxc network forward create o2 198.51.100.7 --project p2 target_address="$a2"
must lxc query -X POST -d '{"listen_address":"198.51.100.8","backends":[{"name":"one","target_address":"'"$a2"'","target_port":"5000"}],
    "ports":[{"protocol":"tcp","listen_port":"80","target_backend":["one"]}]}' '/1.0/networks/o2/load-balancers?project=p2'
claim 'a forward, from the host' wait_for 20 bash -c 'packets trips 198.51.100.7 5000 20'
claim 'a load balancer, from the host' wait_for 20 bash -c 'packets tcp 198.51.100.8 80 200000'
as_without 'a forward, from a peer' in_one trips 198.51.100.7 5000 20
as_without 'TCP by a forward, from a peer' in_one tcp 198.51.100.7 5000 200000
as_without 'a load balancer, from a peer' in_one tcp 198.51.100.8 80 200000
as_without 'a forward from its own target (hairpin)' in_two trips 198.51.100.7 5000 20
as_without 'a load balancer from its own backend (hairpin)' in_two tcp 198.51.100.8 80 200000
two ip link set eth0 mtu 1300
as_without 'echoes larger than the other end takes' one ping -q -W 1 -c 3 -i 0.05 -M do -s 1400 "$a2"
two ip link set eth0 mtu 1500
claim 'and again with room' wait_for 10 one ping -q -W 1 -c 3 -i 0.05 -M do -s 1400 "$a2"
e2e_diag <<<"$(plane | jq -c .packets)"

# ---- the end ----
must lxc stop -f c1
must lxc stop -f c2 --project p2
claim 'stopped instances leave no pair' sh -c "! ip -o link | grep -E ' hw[so][0-9a-f]{10}'"
e2e_end
