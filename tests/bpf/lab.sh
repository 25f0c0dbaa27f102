# lab.sh: two instances, their ports with slow pairs, and a slow path between them, in namespaces that end
# with the script, and what such scripts share. For tests/bpf, tests/poll and bench/fastpath; $TOOL is fastpath_tool.
#   lab_begin "$@"     runs the calling script again inside namespaces of its own, as root
#   lab_router         namespaces a, b (instances) and r (the slow path: a Linux router); ports bound in zone 5
#   lab_bind MTU       binds both ports (again)
#   in_ns NS CMD…      CMD there;   tool VERB …   fastpath_tool on our pins;   stat REASON   its counter
#   tool_end           the next 'tool' is another process, with the environment of then
#   lab_need PROGRAM…  or the suite is skipped;   lab_plan  TAP's plan, at the end: its status is the suite's
#   claim NAME CMD…    a test: CMD succeeds;   ok STATUS NAME
#   wait_for SECONDS CMD…   tries CMD five times a second, for so long at most
#   ping_a, listens NAMESPACE tcp|udp PORT
lab_begin() {
    [ "$(id -u)" = 0 ] || { echo "1..0 # SKIP needs root"; exit 77; }
    if [ -z "${LAB_INSIDE:-}" ]; then
        export LAB_INSIDE=1 LAB_DIR=/run/lab
        exec unshare --mount --net --pid --fork --kill-child --mount-proc bash "$0" "$@"
    fi
    mount --make-rprivate /
    mount -t tmpfs none /run # nothing stays behind, however the script ends
    mkdir -p /run/netns "$LAB_DIR/pins"
    ip link set lo up
}
in_ns() { local ns=$1; shift; ip netns exec "$ns" "$@"; }
# One process does what is asked, for it takes long to start. First called by the script itself, not in a subshell.
tool_pid=
tool() {
    case $1 in stats | cost) "$TOOL" "$LAB_DIR/pins" "$@"; return ;;
    clear) tool_end; "$TOOL" "$LAB_DIR/pins" clear; return ;; esac
    if [ -z "$tool_pid" ]; then
        rm -f "$LAB_DIR/ask" "$LAB_DIR/told"
        mkfifo "$LAB_DIR/ask" "$LAB_DIR/told"
        "$TOOL" "$LAB_DIR/pins" shell <"$LAB_DIR/ask" >"$LAB_DIR/told" 2>&1 &
        tool_pid=$!
        exec 8>"$LAB_DIR/ask" 9<"$LAB_DIR/told"
        tool_answer || { tool_end; return 1; }
    fi
    echo "$*" >&8
    tool_answer
}
tool_answer() {
    local line
    while read -r line <&9; do
        case $line in '= '*) return "${line#= }" ;; *) echo "$line" ;; esac
    done
    return 1
}
tool_end() {
    [ -z "$tool_pid" ] && return
    exec 8>&- 9<&-
    kill "$tool_pid" 2>/dev/null
    wait "$tool_pid" 2>/dev/null
    tool_pid=
}
stat() { tool stats | awk -v name="$1" '$1 == name { print $2 }'; }
ping_a() { in_ns a ping -q -W 2 "$@"; }
listens() { in_ns "$1" sh -c "cat /proc/net/$2 /proc/net/${2}6 | grep -q ':$(printf %04X "$3") '"; }

# ---- TAP ----
count=0 failed=0
ok() { # STATUS NAME
    count=$((count + 1))
    if [ "$1" = 0 ]; then echo "ok $count - $2"; else failed=$((failed + 1)); echo "not ok $count - $2"; fi
}
claim() { local name=$1; shift; "$@" >"$LAB_DIR/out" 2>&1; local status=$?; ok $status "$name"
          [ $status = 0 ] || sed 's/^/# /' "$LAB_DIR/out" | head -20; }
wait_for() { local until=$((SECONDS + $1)); shift; until "$@" >/dev/null 2>&1; do [ $SECONDS -lt $until ] || return 1; sleep 0.2; done; }
lab_need() {
    local program
    for program in "$@"; do
        command -v "$program" >/dev/null || { echo "1..0 # SKIP '$program' is not installed"; exit 77; }
    done
}
lab_plan() {
    echo "1..$count"
    [ $failed = 0 ]
}
# What 'ping -D' writes to $LAB_DIR/pings: no answer came for 2.5 s.
silent() {
    local now; now=$(grep -c 'bytes from' "$LAB_DIR/pings")
    [ "$now" = "$(cat "$LAB_DIR/count" 2>/dev/null)" ] || echo "$now" >"$LAB_DIR/count"
    [ $(($(date +%s%N) - $(date -r "$LAB_DIR/count" +%s%N))) -gt 2500000000 ]
}
last_answer() { grep 'bytes from' "$LAB_DIR/pings" | tail -n 1 | sed 's/^\[\([0-9.]*\)\].*/\1/'; } # when it came

# One instance with its port: lab_instance NAME NUMBER
lab_instance() {
    local name=$1 number=$2
    ip netns add "$name"
    ip link add "h$name" type veth peer name eth0 netns "$name"
    in_ns "$name" sh -c 'echo 0 >/proc/sys/net/ipv6/conf/eth0/accept_dad'
    in_ns "$name" ip link set eth0 address "02:00:00:00:00:0$name"
    in_ns "$name" ip link set lo up
    in_ns "$name" ip link set eth0 up
    ip link set "h$name" up
    in_ns "$name" ip addr add "10.$number.0.2/24" dev eth0
    in_ns "$name" ip addr add "fd0$number::2/64" dev eth0 nodad
    in_ns "$name" ip route add default via "10.$number.0.1"
    in_ns "$name" ip route add default via "fd0$number::1"
}
lab_slow_pair() { # NAME [NAMESPACE of the far end]
    ip link add "s$1" type veth peer name "o$1" ${2:+netns "$2"}
    ip link set "s$1" up
    ethtool -K "s$1" tx off sg off tso off gso off gro off >/dev/null 2>&1
    if [ -n "${2:-}" ]; then
        in_ns "$2" ethtool -K "o$1" tx off >/dev/null 2>&1
        in_ns "$2" ip link set "o$1" up
    else
        ethtool -K "o$1" tx off >/dev/null 2>&1
        ip link set "o$1" up
    fi
}
lab_bind() {
    tool set ha sa veth 5 "$1" 02:00:00:00:00:0a 10.1.0.2 fd01::2 &&
        tool set hb sb veth 5 "$1" 02:00:00:00:00:0b 10.2.0.2 fd02::2
}
lab_router() {
    ip netns add r
    lab_instance a 1
    lab_instance b 2
    in_ns r sh -c 'echo 1 >/proc/sys/net/ipv4/ip_forward; echo 1 >/proc/sys/net/ipv6/conf/all/forwarding
        echo 1 >/proc/sys/net/netfilter/nf_conntrack_tcp_be_liberal' 2>/dev/null
    lab_slow_pair a r
    lab_slow_pair b r
    in_ns r ip addr add 10.1.0.1/24 dev oa
    in_ns r ip addr add fd01::1/64 dev oa nodad
    in_ns r ip addr add 10.2.0.1/24 dev ob
    in_ns r ip addr add fd02::1/64 dev ob nodad
    lab_bind 1500
}
