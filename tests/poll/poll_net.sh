#!/bin/bash
# The poll-mode engine on real packets, without hugepages and PCI: two instances on two networks, a Linux
# router as the slow path that decides. Its devices are AF_PACKET sockets on veth pairs, and taps. TAP.
HERE=$(cd "$(dirname "$0")" && pwd)
DPD=$(realpath "${HAWSER_BUILD:-$HERE/../../build}/dataplane/hawser-dpd")
. "$HERE/../bpf/lab.sh"
lab_begin "$@"
for program in ethtool python3 nft; do
    command -v $program >/dev/null || { echo "1..0 # SKIP '$program' is not installed"; exit 77; }
done
"$DPD" --dpdk --version >/dev/null 2>&1 || { echo "1..0 # SKIP built without DPDK"; exit 77; }
# DPDK's libraries keep what they allocated once.
export ASAN_OPTIONS=detect_leaks=0:${ASAN_OPTIONS:-}
count=0 failed=0
ok() { # STATUS NAME
    count=$((count + 1))
    if [ "$1" = 0 ]; then echo "ok $count - $2"; else failed=$((failed + 1)); echo "not ok $count - $2"; fi
}
claim() { local name=$1; shift; "$@" >"$LAB_DIR/out" 2>&1; local status=$?; ok $status "$name"
          [ $status = 0 ] || sed 's/^/# /' "$LAB_DIR/out" | head -20; }
ask() { "$DPD" --dpdk --dir "$LAB_DIR/poll" ask "$@" 2>"$LAB_DIR/ask.err" || { cat "$LAB_DIR/ask.err"; return 1; }; }
# field NAME: a core's counter; reason WORD
field() { ask status | awk -v name="$1" '$1 == "core" { for (i = 3; i <= NF; i++) { split($i, p, "="); if (p[1] == name) n += p[2] } } END { print n + 0 }'; }
reason() { ask status | awk -v name="$1" '$1 == "reason" { split($3, p, "="); if (p[1] == name) n += p[2] } END { print n + 0 }'; }
grew() { local now; for _ in $(seq 100); do now=$("$1" "$2"); [ "$now" -gt "$3" ] && return; sleep 0.1; done
         echo "$1 $2 is $now, wanted more than $3"; return 1; }
wait_for() { local until=$((SECONDS + $1)); shift; until "$@" >/dev/null 2>&1; do [ $SECONDS -lt $until ] || return 1; sleep 0.2; done; }
add() { # NAME NUMBER [KEY=VALUE…]
    local name=$1 number=$2; shift 2
    ask add "id=$name" "device=net_af_packet_h$name,iface=h$name" "slow=net_af_packet_s$name,iface=s$name" \
        "mac=02:00:00:00:00:0$name" zone=5 "addresses=10.$number.0.2,fd0$number::2" "$@"
}
ping_a() { in_ns a ping -q -W 2 "$@"; }

lab_router >/dev/null 2>&1 # what binds the kernel's programs is not there; the rest is what we want
for name in a b; do in_ns $name ethtool -K eth0 tx off >/dev/null 2>&1; done
"$DPD" --dpdk --dir "$LAB_DIR/poll" --no-huge --no-pci --flows 4096 --packets 16384 >"$LAB_DIR/log" 2>&1 &
daemon=$!
if ! wait_for 60 grep -q poll.ready "$LAB_DIR/log"; then
    sed 's/^/# /' "$LAB_DIR/log" | tail -n 20
    echo "1..0 # SKIP DPDK does not start here"
    exit 77
fi

claim 'two ports come up' eval 'add a 1 && add b 2'
claim 'a packet finds its way' wait_for 20 ping_a -c 1 10.2.0.2
claim 'echoes arrive' ping_a -c 20 -i 0.05 10.2.0.2
claim 'some of them fast' grew field fast 10
claim 'with the TTL of the slow path' test "$(in_ns a ping -c 1 -W 2 10.2.0.2 | grep -o 'ttl=[0-9]*')" = ttl=63
before=$(field fast)
claim 'IPv6, too' ping_a -c 20 -i 0.05 fd02::2
claim 'fast' grew field fast $((before + 10))
listed() { ping_a -c 8 -i 0.05 10.2.0.2 && ask status 100 | grep -q "^flow icmp 10.1.0.2:.* from=a to=b state=fast"; }
claim 'flows are listed' wait_for 30 listed

# ---- TCP, UDP ----
before=$(field fast) copies=$(field swallowed)
in_ns b timeout 60 python3 -c 'import socket
server = socket.create_server(("", 9001)); link, _ = server.accept(); total = 0
while True:
    data = link.recv(65536)
    if not data: break
    total += len(data)
link.send(str(total).encode())' &
server=$!
claim 'eight megabytes of TCP arrive whole' wait_for 30 in_ns a timeout 40 python3 -c 'import socket, sys, time
link = socket.create_connection(("10.2.0.2", 9001), 5)
for _ in range(128):
    link.sendall(b"x" * 65536); time.sleep(0.02)
link.shutdown(socket.SHUT_WR)
sys.exit(link.recv(100) != str(128 * 65536).encode())'
kill $server 2>/dev/null
claim 'fast' grew field fast $((before + 1000))
claim 'proven again by copies, which are swallowed' grew field swallowed "$copies"
in_ns b timeout 60 python3 "$HERE/../bpf/numbered.py" receive 9000 >"$LAB_DIR/numbers" 2>&1 &
receiver=$!
wait_for 20 in_ns b sh -c 'ss -Hlun | grep -q :9000'
in_ns a python3 "$HERE/../bpf/numbered.py" send 10.2.0.2 9000 4
wait $receiver
sed 's/^/# /' "$LAB_DIR/numbers"
claim 'numbered datagrams arrive once' grep -q 'lost [0-9]* twice 0' "$LAB_DIR/numbers"
claim 'nearly all of them: what is lost is what a device had no room for' \
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
kill $daemon
wait $daemon
claim 'it ends as asked' test $? = 0
claim 'and no sanitizer complained' eval '! grep -E "ERROR: AddressSanitizer|runtime error" "$LAB_DIR/log"'
[ $failed = 0 ] || tail -n 20 "$LAB_DIR/log" | sed 's/^/# /'
echo "1..$count"
[ $failed = 0 ]
