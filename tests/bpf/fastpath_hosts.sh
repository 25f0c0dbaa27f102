#!/bin/bash
# The fast path between two hosts: each an Open vSwitch (userspace datapath) with a Geneve tunnel to the other and
# flows like those that OVN makes (routed, TTL, MACs, network and ports of the tunnel's option); an instance each, on
# peered networks. What is sent fast is compared byte by byte with what OVS sends. TAP.
#
#   a ── ha ┬ fast ───────────────┬ u1 ════ u2 ┬ XDP, pair ── fast ── hb ── b      (and the same way back)
#           └ sa ═ oa ─ br-int ─ br-phys       └ br-phys ─ br-int ─ ob ═ sb
TOOL=${HAWSER_BUILD:-$(dirname "$0")/../../build}/tests/bpf/fastpath_tool
HERE=$(cd "$(dirname "$0")" && pwd)
. "$HERE/lab.sh"
lab_begin "$@"
lab_need iperf3 ethtool python3 ovs-vswitchd ovsdb-tool
TOOL=$(realpath "$TOOL")
at() { in_ns "$1" "$TOOL" "$LAB_DIR/pins$1" "${@:2}"; } # HOST VERB …
count_of() { at "$1" stats | awk -v name="$2" '$1 == name { print $2 }'; } # HOST REASON
grew() { [ "$(count_of "$1" "$2")" -gt "$3" ]; } # HOST REASON SINCE
both_grew() { grew 1 "$1" "$2" && grew 2 "$1" "$3"; }
far() { python3 "$HERE/farpackets.py" "$@"; }
ovs_at() { local n=$1; shift; OVS_RUNDIR=$LAB_DIR/ovs$n timeout 20 "$@"; }

# ---- two hosts ----
host() { # NUMBER INSTANCE OTHER
    local n=$1 name=$2 other=$3 dir=$LAB_DIR/ovs$1
    mkdir -p "$dir" "$LAB_DIR/pins$n"
    mount -t bpf bpf "$LAB_DIR/pins$n"
    ip link set "u$n" netns "$n" address "02:00:00:00:00:f$n"
    in_ns "$n" ethtool -K "u$n" tx off >/dev/null 2>&1
    in_ns "$n" ip link set "u$n" up
    ip link set "h$name" netns "$n"
    in_ns "$n" ip link set "h$name" up
    in_ns "$n" ip link add "s$name" type veth peer name "o$name"
    for end in "s$name" "o$name"; do
        in_ns "$n" ethtool -K "$end" tx off sg off tso off gso off gro off >/dev/null 2>&1
        in_ns "$n" ip link set "$end" up
    done
    in_ns "$n" ip link add near type veth peer name ours
    in_ns "$n" ethtool -K ours gro on
    in_ns "$n" ip link set near up
    in_ns "$n" ip link set ours up
    export OVS_RUNDIR=$dir OVS_LOGDIR=$dir OVS_DBDIR=$dir
    ovsdb-tool create "$dir/conf.db" /usr/share/openvswitch/vswitch.ovsschema
    in_ns "$n" ovsdb-server "$dir/conf.db" --remote="punix:$dir/db.sock" --pidfile --detach --no-chdir --log-file="$dir/db.log"
    in_ns "$n" ovs-vswitchd "unix:$dir/db.sock" --pidfile --detach --no-chdir --log-file="$dir/vswitchd.log"
    ovs_at "$n" ovs-vsctl --db="unix:$dir/db.sock" -t 15 \
        -- add-br br-phys -- set bridge br-phys datapath_type=netdev "other_config:hwaddr=02:00:00:00:00:f$n" -- add-port br-phys "u$n" \
        -- add-br br-int -- set bridge br-int datapath_type=netdev fail_mode=secure -- add-port br-int "o$name" \
        -- add-port br-int gen0 -- set interface gen0 type=geneve "options:remote_ip=192.0.2.$other" options:key=flow options:csum=true
    in_ns "$n" ip addr add "192.0.2.$n/24" dev br-phys
    in_ns "$n" ip link set br-phys up
}
# What OVN would have made of the pipelines: HOST PORT VNI OPTION MAC-OF-ROUTER MAC-OF-OTHER
flows() {
    local n=$1 port=$2
    ovs_at "$n" ovs-ofctl add-tlv-map br-int '{class=0x0102,type=0x80,len=4}->tun_metadata0'
    for kind in ip ipv6; do
        ovs_at "$n" ovs-ofctl add-flow br-int "priority=10,$kind,in_port=$port,actions=dec_ttl,mod_dl_src:$5,mod_dl_dst:$6,set_field:$3->tun_id,set_field:$4->tun_metadata0,output:gen0"
        ovs_at "$n" ovs-ofctl add-flow br-int "priority=10,$kind,in_port=gen0,actions=output:$port"
    done
}
ip netns add 1; ip netns add 2
in_ns 1 ip link set lo up; in_ns 2 ip link set lo up
ip link add u1 type veth peer name u2
lab_instance a 1
lab_instance b 2
host 1 a 2 >>"$LAB_DIR/ovs.log" 2>&1
host 2 b 1 >>"$LAB_DIR/ovs.log" 2>&1
for n in a b; do # what OVN asks of networks over Geneve
    in_ns $n ip link set eth0 mtu 1442
done
in_ns a ip neigh add 10.1.0.1 lladdr 02:00:00:00:00:aa dev eth0; in_ns a ip neigh add fd01::1 lladdr 02:00:00:00:00:aa dev eth0
in_ns b ip neigh add 10.2.0.1 lladdr 02:00:00:00:00:bb dev eth0; in_ns b ip neigh add fd02::1 lladdr 02:00:00:00:00:bb dev eth0
flows 1 oa 7 0x30002 02:00:00:00:00:fd 02:00:00:00:00:0b >>"$LAB_DIR/ovs.log" 2>&1
flows 2 ob 5 0x30001 02:00:00:00:00:fe 02:00:00:00:00:0a >>"$LAB_DIR/ovs.log" 2>&1
# ---- the fast path on both ----
bind_all() {
    at 1 set ha sa veth 5 1442 02:00:00:00:00:0a 10.1.0.2 fd01::2 && at 2 set hb sb veth 5 1442 02:00:00:00:00:0b 10.2.0.2 fd02::2 &&
        for n in 1 2; do
            at $n networks 5 5 7 5 && at $n uplink u$n ours 1500 && at $n steer u$n near 192.0.2.$n 5 7 || return 1
        done
}
bind_all >"$LAB_DIR/bind" 2>&1 || { sed 's/^/# /' "$LAB_DIR/bind"; echo "1..0 # SKIP the fast path does not load here"; exit 77; }
at 1 off; at 2 off
claim 'the two hosts reach each other' wait_for 20 in_ns 1 ping -c 1 -W 1 192.0.2.2
claim 'and so do their instances, by the switches while it is off' wait_for 40 ping_a -c 1 10.2.0.2
claim 'also by IPv6' wait_for 20 ping_a -c 1 fd02::2
if [ $failed != 0 ]; then sed 's/^/# /' "$LAB_DIR/ovs.log" | tail -n 20; fi
same_ttl() { [ "$(in_ns a ping -c 1 10.2.0.2 | grep -o 'ttl=[0-9]*')" = "$slow_ttl" ]; }
slow_ttl=$(in_ns a ping -c 1 10.2.0.2 | grep -o 'ttl=[0-9]*')
ip netns exec b python3 "$HERE/farpackets.py" echo 7000 & echoes=$!
wait_for 20 listens b udp 7000
capture() { # FILE CMD…: what leaves by host 1's uplink meanwhile
    local file=$1; shift
    : >"$LAB_DIR/record" # an earlier one was ready, too
    ip netns exec 1 python3 "$HERE/farpackets.py" record u1 "$file" >"$LAB_DIR/record" 2>&1 & local record=$!
    wait_for 20 grep -q ready "$LAB_DIR/record"
    "$@"; local status=$?
    kill $record; wait $record
    return $status
}
send_set() { in_ns a python3 "$HERE/farpackets.py" set eth0 02:00:00:00:00:0a 02:00:00:00:00:aa; }
capture "$LAB_DIR/slow.frames" send_set
far show "$LAB_DIR/slow.frames" >"$LAB_DIR/slow"
claim 'OVS sent each kind of frame' sh -c "[ \$(wc -l <$LAB_DIR/slow) = 16 ] && ! grep -q ' -\$' $LAB_DIR/slow"
at 1 on; at 2 on

# ---- becoming fast ----
learn() { # by what the frames of the set belong to; both hosts have to have it
    in_ns a python3 "$HERE/farpackets.py" ask 10.2.0.2 7000 30 && in_ns a python3 "$HERE/farpackets.py" ask fd02::2 7000 30 &&
        send_set && send_set
}
h1=$(count_of 1 hit) h2=$(count_of 2 hit)
claim 'switched on, datagrams and answers arrive' learn
claim 'fast on both hosts' wait_for 10 both_grew hit $((h1 + 40)) $((h2 + 40))
echoes_fast() { ping_a -c 30 -i 0.02 10.2.0.2 && ping_a -c 30 -i 0.02 fd02::2 && both_grew hit $((h1 + 90)) $((h2 + 90)); }
claim 'echoes are fast, too' wait_for 30 echoes_fast
claim 'with the same TTL' same_ttl

# ---- byte by byte ----
sent_fast() { # the whole set without one that went slow
    local before; before=$(count_of 1 hit)
    in_ns a python3 "$HERE/farpackets.py" ask 10.2.0.2 7000 5 >/dev/null; in_ns a python3 "$HERE/farpackets.py" ask fd02::2 7000 5 >/dev/null
    send_set
    before=$(count_of 1 hit)
    capture "$LAB_DIR/fast.frames" send_set
    [ $(($(count_of 1 hit) - before)) -ge 16 ]
}
claim 'the same frames, all of them fast' wait_for 60 sent_fast
far show "$LAB_DIR/fast.frames" >"$LAB_DIR/fast"
claim 'leave as OVS sent them, byte by byte' diff "$LAB_DIR/slow" "$LAB_DIR/fast"

# ---- TCP ----
in_ns b iperf3 -s -D -I "$LAB_DIR/iperf.pid" >/dev/null
wait_for 20 listens b tcp 5201
h1=$(count_of 1 hit) h2=$(count_of 2 hit) s1=$(count_of 1 swallowed) s2=$(count_of 2 swallowed)
claim 'TCP in bulk' in_ns a timeout 20 iperf3 -c 10.2.0.2 -t 5 -f m
grep -E 'receiver' "$LAB_DIR/out" | sed 's/^/# /'
claim 'is fast on both hosts' both_grew hit $((h1 + 5000)) $((h2 + 5000))
echo "# copies: $(($(count_of 1 swallowed) - s1)) and $(($(count_of 2 swallowed) - s2))"
claim 'and proven again and again by copies on both' both_grew swallowed $((s1 + 2)) $((s2 + 2))
claim 'the other way round' in_ns a timeout 20 iperf3 -c 10.2.0.2 -R -t 1
claim 'IPv6 TCP' in_ns a timeout 20 iperf3 -6 -c fd02::2 -t 1
capture "$LAB_DIR/tcp" in_ns a timeout 20 iperf3 -c 10.2.0.2 -n 2M >/dev/null
claim 'all its checksums are right, inside and outside' far check "$LAB_DIR/tcp"
sed 's/^/# /' "$LAB_DIR/out"

# ---- UDP: neither lost, twice nor out of order ----
in_ns b timeout 30 python3 "$HERE/numbered.py" receive 9000 >"$LAB_DIR/numbers" 2>&1 &
receiver=$!
wait_for 20 listens b udp 9000
h1=$(count_of 1 hit) h2=$(count_of 2 hit)
claim 'numbered datagrams are sent for five seconds' in_ns a python3 "$HERE/numbered.py" send 10.2.0.2 9000 5
wait $receiver
claim 'they were fast' both_grew hit $((h1 + 10000)) $((h2 + 10000))
claim 'each arrives once and in order' grep -q 'lost 0 twice 0 late 0' "$LAB_DIR/numbers"
sed 's/^/# /' "$LAB_DIR/numbers"

# ---- what the switches forbid ----
# HOST MATCH: when the last answer came after the rule: the life of a proof (2 s), and what the switch takes to see
# that its cached flows no longer fit.
revoked_by() {
    rm -f "$LAB_DIR/count"
    local s1; s1=$(count_of 1 swallowed)
    ip netns exec a ping -D -O -i 0.05 -w 60 10.2.0.2 >"$LAB_DIR/pings" 2>&1 & local pinger=$!
    wait_for 20 grew 1 swallowed $((s1 + 1))
    ovs_at "$1" ovs-ofctl add-flow br-int "priority=99,$2,actions=drop"
    local since; since=$(date +%s.%N)
    wait_for 20 silent
    kill -INT $pinger; wait $pinger
    ovs_at "$1" ovs-ofctl --strict del-flows br-int "priority=99,$2"
    awk -v last="$(last_answer)" -v since="$since" \
        'BEGIN { printf "%.2f s after\n", last - since; exit !(last > 0 && last - since < 3.5) }'
}
claim 'what the sending host forbids behind our back ends within the time of a proof' revoked_by 1 icmp,in_port=oa
sed 's/^/# /' "$LAB_DIR/out"
claim 'allowed again, it works' wait_for 20 ping_a -c 2 -i 0.05 10.2.0.2
claim 'what the receiving host forbids, too' revoked_by 2 icmp,in_port=gen0
sed 's/^/# /' "$LAB_DIR/out"
claim 'allowed again, it works' wait_for 20 ping_a -c 2 -i 0.05 10.2.0.2

# ---- forged: the same flow by another network, or for another port ----
ip netns exec a python3 "$HERE/farpackets.py" ask 10.2.0.2 7000 3000 >/dev/null 2>&1 & asks=$!
h1=$(count_of 1 hit)
wait_for 20 grew 1 hit $((h1 + 20))
g1=$(count_of 1 gateway)
in_ns 2 python3 "$HERE/farpackets.py" forge u2 5 0x00090001
claim 'what comes wrapped otherwise is no hit' wait_for 5 grew 1 gateway "$g1"
kill $asks; wait $asks 2>/dev/null
at_rest() { local before; before=$(count_of 1 hit); sleep 0.5; [ "$(count_of 1 hit)" = "$before" ]; }
wait_for 20 at_rest
h1=$(count_of 1 hit)
in_ns 2 python3 "$HERE/farpackets.py" forge u2 99 0x00030001
claim 'nor what comes by a network that is not there' test "$(count_of 1 hit)" -le "$h1"
claim 'and the flow goes on' learn

# ---- the end ----
for n in 1 2; do at $n uplink u$n - 0; done 2>/dev/null
claim 'forgetting the networks, all goes by the switches' eval "at 1 networks; at 2 networks; ping_a -c 5 -i 0.05 10.2.0.2"
kill $echoes 2>/dev/null
for pid in "$LAB_DIR"/ovs?/*.pid "$LAB_DIR/iperf.pid"; do kill "$(tr -d '\0' <"$pid")" 2>/dev/null; done
lab_plan
