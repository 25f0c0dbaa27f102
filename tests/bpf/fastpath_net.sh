#!/bin/bash
# The fast path on real packets: two instances on two networks, a Linux router (with conntrack, nftables) as
# the slow path that decides. TAP.
TOOL=${HAWSER_BUILD:-$(dirname "$0")/../../build}/tests/bpf/fastpath_tool
HERE=$(cd "$(dirname "$0")" && pwd)
E2E=$HERE/../e2e
. "$HERE/lab.sh"
lab_begin "$@"
lab_need iperf3 nft ethtool python3
TOOL=$(realpath "$TOOL")
grew() { [ "$(stat "$1")" -gt "$2" ]; } # REASON SINCE
# Echoes until so many packets were fast: after a packet that got lost on the slow path a flow waits a moment.
fast_echoes() { ping_a -c 20 -i 0.02 "$1"; grew hit "$2"; } # ADDRESS SINCE
fast_by() { # SINCE CMD…: CMD succeeds, and again until it was fast: how much it sends is the machine's affair
    local since=$1; shift
    for _ in 1 2 3 4 5; do "$@" || return; ! grew hit "$since" || return 0; done
    return 1
}

lab_router || { echo "1..0 # SKIP the fast path does not load here"; exit 77; }
answers() { [ "$(grep -c 'bytes from' "$LAB_DIR/pings")" -gt "$1" ]; }
wait_for 20 ping_a -c 1 10.2.0.2
wait_for 20 ping_a -c 1 fd02::2

# ---- the same, slow and fast ----
tool off
claim 'switched off, all goes through the router' ping_a -c 3 -i 0.05 10.2.0.2
slow_ttl=$(in_ns a ping -c 1 10.2.0.2 | grep -o 'ttl=[0-9]*')
claim 'and nothing was fast' test "$(stat hit)" = 0
tool on
claim 'switched on, echoes still arrive' ping_a -c 20 -i 0.02 10.2.0.2
claim 'most of them fast' wait_for 10 fast_echoes 10.2.0.2 20
claim 'with the same TTL' test "$(in_ns a ping -c 1 10.2.0.2 | grep -o 'ttl=[0-9]*')" = "$slow_ttl"
before=$(stat hit)
claim 'IPv6, too' ping_a -c 20 -i 0.02 fd02::2
claim 'fast' wait_for 10 fast_echoes fd02::2 $((before + 20))

# ---- TCP, long enough for several proofs ----
in_ns b iperf3 -s -D -I "$LAB_DIR/iperf.pid" >/dev/null
wait_for 20 listens b tcp 5201
before=$(stat hit) renewed=$(stat swallowed)
claim 'TCP in bulk is fast' fast_by $((before + 10000)) in_ns a timeout 20 iperf3 -c 10.2.0.2 -t 3
claim 'and proven again and again by copies' grew swallowed $((renewed + 3))
none_left() { ! tool flows | grep '^fast 6 .*:5201 '; }
claim 'and no flow is left of what was closed' none_left
claim 'IPv6 TCP' in_ns a timeout 20 iperf3 -6 -c fd02::2 -t 1

# ---- UDP: neither lost, twice nor out of order ----
in_ns b timeout 30 python3 "$HERE/numbered.py" receive 9000 >"$LAB_DIR/numbers" 2>&1 &
receiver=$!
wait_for 20 listens b udp 9000
before=$(stat hit)
claim 'numbered datagrams are sent for five seconds' in_ns a python3 "$HERE/numbered.py" send 10.2.0.2 9000 5
wait $receiver
claim 'they were fast' grew hit $((before + 4000))
claim 'each arrives once and in order' grep -q 'lost 0 twice 0 late 0' "$LAB_DIR/numbers"
sed 's/^/# /' "$LAB_DIR/numbers"

# ---- what the slow path forbids ----
block='add table inet t; add chain inet t f { type filter hook forward priority 0; }; add rule inet t f icmp type echo-request drop'
ip netns exec a ping -D -O -i 0.05 -w 60 10.2.0.2 >"$LAB_DIR/pings" 2>&1 &
pinger=$!
before=$(stat swallowed)
wait_for 20 grew swallowed $((before + 2)) # proven twice by copies
revoked=$(date +%s.%N)
in_ns r nft "$block"
wait_for 20 silent
kill -INT $pinger; wait $pinger
last=$(last_answer)
claim 'a ping that gets forbidden ends within the time of a proof' \
    awk -v last="$last" -v revoked="$revoked" 'BEGIN { print last - revoked; exit !(last - revoked < 2.3) }'
echo "# last answer $(awk -v l="$last" -v r="$revoked" 'BEGIN { printf "%.2f", l - r }') s after the rule"
claim 'and a new one is never answered' sh -c '! ip netns exec a ping -q -c 5 -i 0.05 -W 1 10.2.0.2'
in_ns r nft delete table inet t
claim 'allowed again, it is fast again' ping_a -c 20 -i 0.02 10.2.0.2
ip netns exec a ping -D -i 0.05 -w 60 10.2.0.2 >"$LAB_DIR/pings" 2>&1 &
pinger=$!
wait_for 20 answers 30
in_ns r nft "$block"
tool bump 5
bumped=$(date +%s.%N)
rm -f "$LAB_DIR/count"
wait_for 20 silent
kill -INT $pinger; wait $pinger
last=$(last_answer)
claim 'with a bump it ends at once' \
    awk -v last="$last" -v bumped="$bumped" 'BEGIN { print last - bumped; exit !(last - bumped < 0.05) }'
in_ns r nft delete table inet t

# ---- spoofs, sizes, NAT ----
in_ns a ip addr add 10.1.0.66/24 dev eth0
before=$(stat spoofed-address)
claim 'a foreign address is left to the slow path' ping_a -c 3 -i 0.05 -I 10.1.0.66 10.2.0.2
claim 'and counted' grew spoofed-address $((before + 2))
lab_bind 1400
ping_a -c 5 -i 0.05 10.2.0.2 >/dev/null
before=$(stat mtu)
claim 'what is too large goes slow' ping_a -c 5 -i 0.05 -s 1422 10.2.0.2
claim 'and is counted' grew mtu $((before + 1))
lab_bind 1500
if in_ns r nft 'add table ip n; add chain ip n p { type nat hook prerouting priority -100; }; add rule ip n p ip daddr 10.9.9.9 dnat to 10.2.0.2' 2>/dev/null; then
    before=$(stat hit)
    claim 'an address that the router translates' ping_a -c 20 -i 0.02 10.9.9.9
    claim 'is fast' wait_for 10 fast_echoes 10.9.9.9 $((before + 20))
    before=$(stat hit)
    claim 'TCP to it is fast, too' fast_by $((before + 5000)) in_ns a timeout 20 iperf3 -c 10.9.9.9 -t 1
    in_ns r nft delete table ip n
else
    ok 0 'NAT # SKIP this kernel has no nftables NAT'
fi

# ---- without a slow pair: the host side is the slow path's own interface, as with OVS in the kernel ----
lab_instance c 3 && lab_instance d 4
echo 1 >/proc/sys/net/ipv4/ip_forward
for end in c:3 d:4; do
    ip addr add "10.${end#*:}.0.1/24" dev "h${end%:*}"
    echo 1 >"/proc/sys/net/ipv4/conf/h${end%:*}/forwarding"
done
direct() { # veth|tap
    tool set hc - "$1" 7 1500 02:00:00:00:00:0c 10.3.0.2 fd03::2 &&
        tool set hd - "$1" 7 1500 02:00:00:00:00:0d 10.4.0.2 fd04::2
}
in_ns d iperf3 -s -D >/dev/null
wait_for 20 listens d tcp 5201
for kind in veth tap; do
    direct $kind
    tool off
    claim "$kind without a pair: slow" in_ns c ping -q -c 3 -i 0.05 -W 1 10.4.0.2
    tool on
    before=$(stat hit) renewed=$(stat swallowed)
    claim "$kind without a pair: echoes for three seconds, each answered once" sh -c \
        'ip netns exec c ping -c 60 -i 0.05 -W 1 10.4.0.2 | tee /dev/stderr | grep -q " 60 received, 0% packet loss"'
    claim "$kind without a pair: fast" grew hit $((before + 90))
    claim "$kind without a pair: copies come back" grew swallowed $((renewed + 3))
    before=$(stat hit)
    claim "$kind without a pair: TCP is fast" fast_by $((before + 5000)) in_ns c timeout 20 iperf3 -c 10.4.0.2 -t 1
done
tool unset hc && tool unset hd
export FASTPATH_CLSACT=1
tool_end
direct veth
before=$(stat hit)
claim 'by clsact, where there is no tcx, it is fast, too' fast_by $((before + 30)) in_ns c ping -q -c 40 -i 0.05 -W 1 10.4.0.2
claim 'the filters are there' sh -c 'tc filter show dev hc ingress | grep -q haw_in'
direct tap
claim 'and replaced, not added' test "$(tc filter show dev hc ingress | grep -c haw_in)" = 1
tool unset hc && tool unset hd
claim 'and gone with the port' sh -c '! tc filter show dev hc ingress | grep haw_in'
unset FASTPATH_CLSACT
tool_end

# ---- several ways: what a router makes of one flow changes from packet to packet ----
trips() { in_ns a timeout 60 python3 "$E2E/planepackets.py" trips "$@"; } # ADDRESS PORT COUNT
in_ns b python3 "$E2E/planepackets.py" echo 7100 >/dev/null 2>&1 &
wait_for 20 listens b udp 7100
in_ns b ip addr add 10.77.0.1/32 dev lo
in_ns b ip route replace default via 10.2.0.1 src 10.77.0.1 # answers come from where they were asked
tool set hb sb veth 5 1500 02:00:00:00:00:0b 10.2.0.2 fd02::2 10.77.0.1
in_ns r ip neigh replace 10.2.0.3 lladdr 02:00:00:00:00:0b dev ob # b, and nobody's
in_ns r ip neigh replace 10.2.0.4 lladdr 02:00:00:00:00:77 dev ob
in_ns r ip route add 10.77.0.1/32 nexthop via 10.2.0.2 nexthop via 10.2.0.3
before=$(stat hit)
claim 'equal ways to one end' trips 10.77.0.1 7100 60
claim 'are fast' grew hit $((before + 40))
in_ns r ip route replace 10.77.0.1/32 nexthop via 10.2.0.3 nexthop via 10.2.0.4
# About half of the flows end at nobody, whether the fast path is on or not.
some_reach() {
    local reached; reached=$(in_ns a timeout 60 python3 "$E2E/planepackets.py" reach 10.77.0.1 7100 "$1" 20 2)
    echo "$reached of 20"
    [ "$reached" -gt 0 ] && [ "$reached" -lt 20 ]
}
in_ns r sh -c 'echo 1 >/proc/sys/net/ipv4/fib_multipath_hash_policy'
tool off
claim 'ways of which one ends at nobody' some_reach 40001
tool on
claim 'are what they were' some_reach 40101
in_ns r ip route del 10.77.0.1/32
in_ns b ip route replace default via 10.2.0.1
claim 'and what has one way goes on' wait_for 20 trips 10.2.0.2 7100 10
in_ns b ip addr del 10.77.0.1/32 dev lo
lab_bind 1500

# ---- a narrow way: ICMP errors reach the sender, and what fits is fast ----
in_ns r ip link set ob mtu 1400
tool set hb sb veth 5 1400 02:00:00:00:00:0b 10.2.0.2 fd02::2
for way in '-4 10.2.0.2' '-6 fd02::2'; do
    before=$(stat hit)
    claim "TCP by a narrow way (${way% *})" in_ns a timeout 20 iperf3 -c "${way#* }" -n 20M
    claim 'is fast' grew hit $((before + 200))
    claim 'and the sender learned how narrow' sh -c "ip netns exec a ip route get ${way#* } | grep -q 'mtu 1400'"
done
in_ns a ip route flush cache; in_ns a ip -6 route flush cache
before=$(stat mtu)
claim 'an echo that must not be cut is refused by the router, not lost' \
    sh -c 'ip netns exec a ping -c 3 -i 0.1 -W 1 -M do -s 1420 10.2.0.2 | grep -Eq "mtu ?= ?1400|too long"'
in_ns a ip route flush cache
in_ns r ip link set ob mtu 1500
lab_bind 1500

# ---- a virtual machine's end: a tap ----
ip tuntap add hv mode tap
ip link set hv address 02:00:00:00:02:0e up
lab_slow_pair v r
in_ns r ip addr add 10.6.0.1/24 dev ov
in_ns r ip neigh replace 10.6.0.2 lladdr 02:00:00:00:00:0e dev ov
python3 "$HERE/tapguest.py" hv 02:00:00:00:00:0e 10.6.0.2 >"$LAB_DIR/guest" 2>&1 &
guest=$!
wait_for 20 grep -q ready "$LAB_DIR/guest"
claim 'a tap with a slow pair is bound' tool set hv sv tap 5 1500 02:00:00:00:00:0e 10.6.0.2
claim 'its guest answers' wait_for 30 trips 10.6.0.2 7100 1
before=$(stat hit)
claim 'again and again' trips 10.6.0.2 7100 200
claim 'past the router' grew hit $((before + 350))
claim 'with right checksums' sh -c "! grep -q bad '$LAB_DIR/guest'"
kill $guest
tool unset hv

# ---- full: flows beyond the table are slow, counted, and none is lost ----
tool unset ha && tool unset hb
tool clear
export FASTPATH_FLOWS=64
lab_bind 1500
claim 'three hundred flows over a table of 64 are answered' test \
    "$(in_ns a timeout 100 python3 "$E2E/planepackets.py" reach 10.2.0.2 7100 41001 300 4)" = 300
claim 'the rest is slow and counted' grew full 100
claim 'the table holds what it can' test "$(tool flows | wc -l)" -le 64
tool bump 5
tool age >/dev/null
claim 'when it is empty again' test "$(tool flows | wc -l)" = 0
before=$(stat hit)
claim 'a flow that comes then' trips 10.2.0.2 7100 50
claim 'is fast' grew hit $((before + 60))
unset FASTPATH_FLOWS

# ---- ports go ----
tool unset ha && tool unset hb
claim 'unbound ports leave nothing attached' sh -c "! ls $LAB_DIR/pins/fast | grep -q gress"
tool_end
lab_plan
