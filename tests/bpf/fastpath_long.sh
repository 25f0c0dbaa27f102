#!/bin/bash
# The fast path for long: ten million numbered datagrams, and a million flows that come and go. TAP. Fifteen minutes, so
# it is no suite of ./check: run it by hand. PACKETS, RATE (a second), FLOWS and SECONDS_LONG make it shorter.
BUILD=${HAWSER_BUILD:-$(dirname "$0")/../../build}
TOOL=$BUILD/tests/bpf/fastpath_tool
HERE=$(cd "$(dirname "$0")" && pwd)
. "$HERE/lab.sh"
lab_begin "$@"
TOOL=$(realpath "$TOOL") TORRENT=$(realpath "$BUILD/tests/bpf/torrent")
PACKETS=${PACKETS:-10000000} RATE=${RATE:-50000} FLOWS=${FLOWS:-1000000} SECONDS_LONG=${SECONDS_LONG:-600}
export FASTPATH_FLOWS=200000 # fewer than flows that come within their life: some find no room
lab_router || { echo "1..0 # SKIP the fast path does not load here"; exit 77; }
wait_for 20 in_ns a ping -q -c 1 -W 1 10.2.0.2

# ---- one flow, very many packets ----
in_ns b "$TORRENT" receive 9000 "$PACKETS" >"$LAB_DIR/numbers" &
receiver=$!
wait_for 20 listens b udp 9000
before=$(stat hit)
claim "$PACKETS datagrams are sent" in_ns a "$TORRENT" send 10.2.0.2 9000 "$PACKETS" "$RATE"
wait $receiver
sed 's/^/# /' "$LAB_DIR/numbers"
echo "# fast: $(($(stat hit) - before))"
claim 'nearly all were fast' test $(($(stat hit) - before)) -gt $((PACKETS / 100 * 99))
claim 'none came twice or late' grep -q 'twice 0 late 0' "$LAB_DIR/numbers"
claim 'and none was lost' grep -q 'lost 0 ' "$LAB_DIR/numbers"

# ---- very many flows ----
for port in $(seq 9100 $((9100 + FLOWS / 50000))); do in_ns b "$TORRENT" echo "$port" & done
wait_for 20 listens b udp $((9100 + FLOWS / 50000))
memory() { # what our maps take, in KiB; the host's own numbers are those of others, too
    local map
    for map in "$LAB_DIR"/pins/fast/haw_*; do /usr/sbin/bpftool map show pinned "$map"; done |
        grep -o 'memlock [0-9]*' | awk '{ sum += $2 } END { print int(sum / 1024) }'
}
in_ns a "$TORRENT" churn 10.2.0.2 9100 "$FLOWS" 2500 "$SECONDS_LONG" >"$LAB_DIR/churn" &
churner=$!
most=0 began=$SECONDS first=
while kill -0 $churner 2>/dev/null; do
    left=$(tool age | grep -o '[0-9]*$')
    [ "$left" -le "$most" ] || most=$left
    [ -n "$first" ] || [ $((SECONDS - began)) -lt $((SECONDS_LONG / 4)) ] || first=$(memory)
    sleep 2
done
wait $churner
sed 's/^/# /' "$LAB_DIR/churn"
echo "# at most $most flows; the maps took $first KiB after a quarter, $(memory) at the end; full $(stat full)"
claim 'every flow was answered' grep -q 'unanswered 0' "$LAB_DIR/churn"
claim 'the table never held more than it may' test "$most" -le 200000
claim 'it was used' test "$most" -gt 1000
claim 'no map takes more memory than after a quarter of it' test "$(memory)" -gt 0 -a "$(memory)" -le "$first"
tool bump 5
tool age >/dev/null
claim 'and what ended is gone' test "$(tool flows | wc -l)" = 0
lab_plan
