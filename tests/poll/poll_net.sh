#!/bin/bash
# The poll-mode engine on real packets, without hugepages and PCI: two instances on two networks, a Linux
# router as the slow path that decides. Its devices are AF_PACKET sockets on veth pairs, and taps. TAP.
HERE=$(cd "$(dirname "$0")" && pwd)
. "$HERE/poll.sh"
poll_begin "$@"
add() { # NAME NUMBER [KEY=VALUE…]
    local name=$1 number=$2; shift 2
    ask add "id=$name" "device=net_af_packet_h$name,iface=h$name" "slow=net_af_packet_s$name,iface=s$name" \
        "mac=02:00:00:00:00:0$name" zone=5 "addresses=10.$number.0.2,fd0$number::2" "$@"
}

lab_router >/dev/null 2>&1 # what binds the kernel's programs is not there; the rest is what we want
for name in a b; do in_ns $name ethtool -K eth0 tx off >/dev/null 2>&1; done
poll_start

claim 'two ports come up' eval 'add a 1 && add b 2'
claim 'a packet finds its way' wait_for 20 ping_a -c 1 10.2.0.2
claim 'echoes arrive' ping_a -c 20 -i 0.05 10.2.0.2
# On a busy host a copy may come back too late to be a proof: others follow.
echoes_fast() { local before; before=$(field fast); ping_a -c 20 -i 0.05 "$1" && [ "$(field fast)" -gt $((before + 10)) ]; }
claim 'some of them fast' wait_for 30 echoes_fast 10.2.0.2
claim 'with the TTL of the slow path' test "$(in_ns a ping -c 1 -W 2 10.2.0.2 | grep -o 'ttl=[0-9]*')" = ttl=63
claim 'IPv6, too' ping_a -c 20 -i 0.05 fd02::2
claim 'fast' wait_for 30 echoes_fast fd02::2
listed() { ping_a -c 8 -i 0.05 10.2.0.2 && ask status 100 | grep -q "^flow icmp 10.1.0.2:.* from=a to=b state=fast"; }
claim 'flows are listed' wait_for 30 listed

# ---- TCP, UDP ----
before=$(field fast) copies=$(field swallowed)
in_ns b timeout 60 python3 "$HERE/sum.py" receive 9001 &
server=$!
claim 'eight megabytes of TCP arrive whole' in_ns a timeout 50 python3 "$HERE/sum.py" send 10.2.0.2 9001 8
kill $server 2>/dev/null
claim 'fast' grew field fast $((before + 1000))
claim 'proven again by copies, which are swallowed' grew field swallowed "$copies"
in_ns b timeout 60 python3 "$HERE/../bpf/numbered.py" receive 9000 >"$LAB_DIR/numbers" 2>&1 &
receiver=$!
wait_for 20 listens b udp 9000
# Three hundred under way at most, and five seconds of patience: rings have room for what waits while a busy host gives the
# engine no processor.
in_ns a python3 "$HERE/../bpf/numbered.py" send 10.2.0.2 9000 4 300 5
wait $receiver
sed 's/^/# /' "$LAB_DIR/numbers"
claim 'numbered datagrams arrive once' grep -q 'lost [0-9]* twice 0' "$LAB_DIR/numbers"
claim 'and nearly all of them' \
    awk '{ exit !($4 <= $2 / 50) }' "$LAB_DIR/numbers"

# ---- what the slow path forbids ----
block='add table inet t; add chain inet t f { type filter hook forward priority 0; }; add rule inet t f ip protocol icmp drop'
deaf() { ! in_ns a ping -q -c 3 -i 0.1 -W 1 10.2.0.2; }
in_ns a ping -q -i 0.05 10.2.0.2 >/dev/null 2>&1 &
pinger=$!
sleep 1
in_ns r nft "$block"
claim 'what gets forbidden ends, without a word to us' wait_for 10 deaf
kill $pinger
in_ns r nft delete table inet t
claim 'allowed again, it is fast again' eval 'before=$(field fast); wait_for 10 ping_a -c 20 -i 0.05 10.2.0.2 && grew field fast $((before + 10))'
in_ns r nft "$block"
ask bump 5 >/dev/null
claim 'with a bump it ends at once' deaf
in_ns r nft delete table inet t
in_ns a ip addr add 10.1.0.66/24 dev eth0
before=$(reason spoofed-address)
wait_for 20 ping_a -c 1 -I 10.1.0.66 10.2.0.2
claim 'a foreign address is left to the slow path, and counted' grew reason spoofed-address "$before"
in_ns a ip addr del 10.1.0.66/24 dev eth0

# ---- ports come and go under load ----
in_ns a ping -q -i 0.02 10.2.0.2 >/dev/null 2>&1 &
pinger=$!
turns() {
    for turn in 1 2 3; do
        ask remove b >/dev/null || return 1
        add b 2 >/dev/null || return 1
        wait_for 20 ping_a -c 1 10.2.0.2 || { echo "turn $turn"; return 1; }
    done
}
claim 'a port leaves and comes three times under load' turns
kill $pinger
claim 'an added tap is a link' eval 'ask add id=t device=net_tap7,iface=hawpoll7 mac=02:00:00:00:00:0c zone=6 addresses=10.7.0.2 && ip link show hawpoll7'
claim 'and no link once it is removed' eval 'ask remove t && ! ip link show hawpoll7'
claim 'a port that is none' eval '! ask remove t'
claim 'says so' grep -q "no port 't'" "$LAB_DIR/ask.err"
claim 'a device that is none' eval '! ask add id=x device=net_nothing0 mac=02:00:00:00:00:0d zone=1'
claim 'says what is missing' grep -q "DPDK has no device 'net_nothing0'" "$LAB_DIR/ask.err"
claim 'a MAC that is none' eval '! ask add id=x device=net_null0 mac=01:00:00:00:00:0d zone=1'
claim 'the others are still there' ping_a -c 3 -i 0.1 10.2.0.2

# ---- rest ----
before=$(field naps)
claim 'a core without work naps' grew field naps "$before"
claim 'and its latency is told' eval 'ask status | grep -q "^latency .*frames=[1-9].*p50_ns=[1-9].*p99_ns=[1-9]"'
claim 'another process does not take the directory' eval '! timeout 30 "$DPD" --dpdk --dir "$LAB_DIR/poll" --no-huge --no-pci --flows 64'
poll_end
poll_plan
