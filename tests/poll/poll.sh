# What the suites of the poll-mode engine share; sourced.
#   poll_begin "$@"      in namespaces of its own (tests/bpf/lab.sh), with all it needs, or skipped
#   poll_start           the process: 'daemon'; poll_end asks it to end and looks at how it did
#   poll_plan            the plan, at the end; the status is the suite's
#   ask WORD…            of its socket;  field NAME: a counter of its cores;  reason NAME: a drop reason's
#   grew FN NAME N       within 10 s FN NAME is above N
DPD=$(realpath "${HAWSER_BUILD:-$HERE/../../build}/dataplane/hawser-dpd")
. "$HERE/../bpf/lab.sh"
poll_begin() {
    lab_begin "$@"
    lab_need ethtool python3 nft
    "$DPD" --dpdk --version >/dev/null 2>&1 || { echo "1..0 # SKIP built without DPDK"; exit 77; }
    # DPDK's libraries keep what they allocated once.
    export ASAN_OPTIONS=detect_leaks=0:${ASAN_OPTIONS:-}
}
poll_start() {
    "$DPD" --dpdk --dir "$LAB_DIR/poll" --no-huge --no-pci --flows 4096 --packets 16384 >"$LAB_DIR/log" 2>&1 &
    daemon=$!
    wait_for 60 grep -q poll.ready "$LAB_DIR/log" && return
    sed 's/^/# /' "$LAB_DIR/log" | tail -n 20
    echo "1..0 # SKIP DPDK does not start here"
    exit 77
}
poll_end() {
    kill "$daemon"
    wait "$daemon"
    claim 'it ends as asked' test $? = 0
    claim 'and no sanitizer complained' eval '! grep -E "ERROR: AddressSanitizer|runtime error" "$LAB_DIR/log"'
}
poll_plan() {
    [ $failed = 0 ] || tail -n 20 "$LAB_DIR/log" | sed 's/^/# /'
    lab_plan
}
ask() { "$DPD" --dpdk --dir "$LAB_DIR/poll" ask "$@" 2>"$LAB_DIR/ask.err" || { cat "$LAB_DIR/ask.err"; return 1; }; }
# field NAME: a core's counter; reason WORD
field() { ask status | awk -v name="$1" '$1 == "core" { for (i = 3; i <= NF; i++) { split($i, p, "="); if (p[1] == name) n += p[2] } } END { print n + 0 }'; }
reason() { ask status | awk -v name="$1" '$1 == "reason" { split($3, p, "="); if (p[1] == name) n += p[2] } END { print n + 0 }'; }
grew() { local now; for _ in $(seq 100); do now=$("$1" "$2"); [ "$now" -gt "$3" ] && return; sleep 0.1; done
         echo "$1 $2 is $now, wanted more than $3"; return 1; }
