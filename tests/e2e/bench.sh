#!/bin/bash
# bench: hawser-bench does what it says: numbers from an agent, from two ends of a network, from an instance that
# moves; two commands and two result files held against each other. What the numbers are is not asked here.
. "$(dirname "$0")/lib.sh"
e2e_begin
need python3 ping rsync
BENCH="$E2E_LIB/../../bench/hawser-bench"
A=127.0.0.1:18443 B=127.0.0.1:18444
daemon_start
e2e_defaults
must lxc config set core.https_address $A
daemon_start second
must lxc storage create default dir
must lxc profile device add default root disk path=/ pool=default
must lxc config set core.https_address $B
token=$(lxc config trust add --name main -q 2>/dev/null | tail -n 1)
daemon_use main
must lxc remote add second "$token" --accept-certificate

bench() { timeout -k 5 120 python3 "$BENCH" "$@"; }
rows() { jq -r '.scenarios[] | .rows[] | "\(.what), \(.unit), \(.values | length)"' "$1.json"; }
instances() { lxc list -f csv -c ns | sort; }

# ---- the words ----
refuse 'without words it explains itself' 'hawser-bench run' bench
shows 'and says so when it is asked' 'hawser-bench compare OLD' bench --help
shows 'each scenario tells its question and what it needs' '^dpd-claims .*needs root' bench list
refuse 'a scenario that is none is named' "no scenario 'dpd-claim'.*hawser-bench list" bench run dpd-claim
refuse 'two commands are needed for ab' '--b' bench ab --a true
refuse 'a file that is not there is named' "^hawser-bench: .*'?$E2E_DIR/none.json" bench compare "$E2E_DIR/none.json" "$E2E_DIR/none.json"
refuse 'one that is no result, too' 'no result of hawser-bench' bench report "$E2E_DIR/log"

# ---- as lxd-benchmark ----
launched() { printf '%s, ms, 4\n%s, s, 1\n' 'create one' 'create all' 'start one' 'start all' 'stop one' 'stop all' 'delete one' 'delete all'; }
claim 'four containers, two at a time' bench --launch 4 --parallel 2 --image busybox --out "$E2E_DIR/launch"
same 'each step of each was timed' "$(launched)" rows "$E2E_DIR/launch"
shows 'the picture is one' '^<svg xmlns=.*</svg>$' cat "$E2E_DIR/launch.svg"
same 'none is left' '' instances
claim 'with --keep they run on' bench --launch 2 --parallel 2 --image busybox --keep
same 'two' $'bench-1,RUNNING\nbench-2,RUNNING' instances
claim 'names that are taken are passed over' bench --launch 1 --image busybox
same 'and left alone' $'bench-1,RUNNING\nbench-2,RUNNING' instances
claim 'what was kept goes again' bench --delete
same 'all of it' '' instances
refuse 'an image that is not there fails the run' "image 'none': .*not found" bench --launch 1 --image none
refuse 'no agent: it says what to set' 'HAWSER_DIR' env HAWSER_DIR=/nonexistent LXD_DIR=/nonexistent python3 "$BENCH" --launch 1

# ---- two ends of a network ----
python3 "$BENCH" network serve 127.0.0.1:18555 2>>"$E2E_DIR/log" &
server=$!
claim 'a host that serves is found' wait_for 20 bash -c 'exec 3<>/dev/tcp/127.0.0.1/18555'
claim 'it is measured' bench network to 127.0.0.1:18555 --seconds 0.2 --rounds 2 --out "$E2E_DIR/network"
same 'throughput, round trips, connections' "$(printf '%s, 2\n' 'throughput, 1 stream, Gbit/s' 'throughput, 4 streams, Gbit/s' 'round trip, median, us' 'round trip, 99 of 100 below, us' 'new connections, /s')" \
    rows "$E2E_DIR/network"
kill -INT $server
same 'it ends when it is told to' 0 status_of wait $server
refuse 'nobody serves: the address is named' "127.0.0.1:18555.*network serve" bench network to 127.0.0.1:18555
refuse 'an address that is none is named' "'host:port' is no address" bench network to host:port

# ---- an instance that moves ----
must lxc init busybox c1
must lxc config device add c1 eth0 none
claim 'a container moves there and back' env HAWSER=lxc python3 "$BENCH" migration c1 local: second: --rounds 1 --ping 127.0.0.1 --out "$E2E_DIR/move"
same 'the moves and the longest silence' $'move there, s, 1\nmove back, s, 1\nlongest silence of its address, ms, 2' rows "$E2E_DIR/move"
same 'it is where it was' c1,STOPPED instances
refuse 'an instance that is not there is named' "move of 'none'" env HAWSER=lxc python3 "$BENCH" migration none local: second: --rounds 1

# ---- what was measured against what was measured ----
claim 'two commands in turns' bench ab --a true --b 'sleep 0.2' --rounds 3 --out "$E2E_DIR/ab"
shows 'with their ratio' '\| wall clock \| ms \|' cat "$E2E_DIR/ab.md"
claim 'a scenario of the tree' env HAWSER_BUILD="$HAWSER_BUILD" python3 "$BENCH" run hw-inventory --rounds 1 --out "$E2E_DIR/hw"
shows 'says what it ran on' '^[0-9]+ processors .*Linux ' sed -n 3p "$E2E_DIR/hw.md"
slower() { sed -E 's/"(median|low|high)": ([0-9.]+)/"\1": 9\2/' "$E2E_DIR/launch.json" >"$E2E_DIR/slow.json"; }
must slower
shows 'nothing changed' 'create one .* 1.00 *$' bench compare "$E2E_DIR/launch.json" "$E2E_DIR/launch.json"
refuse 'what became slower is told, by the exit status too' 'create one .*WORSE' bench compare "$E2E_DIR/launch.json" "$E2E_DIR/slow.json"
shows 'what became faster is no failure' 'create one .*better' bench compare "$E2E_DIR/slow.json" "$E2E_DIR/launch.json"
e2e_end
