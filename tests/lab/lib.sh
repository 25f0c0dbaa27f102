# lib.sh: for scripts of tests/lab, which run as root under the lab's kernel (hw/lab/run). TAP: ok/nok count, done_lab
# ends. $HAWSER_BUILD has the programs. Nothing needs to be cleaned up: the machine is thrown away.
set -u
count=0
failed=0
export ASAN_OPTIONS="detect_leaks=0:${ASAN_OPTIONS:-}"

ok() {
    count=$((count + 1))
    echo "ok $count - $*"
}
nok() {
    count=$((count + 1))
    failed=$((failed + 1))
    echo "not ok $count - $*"
}
# is CLAIM WANT GOT
is() {
    if [ "$2" = "$3" ]; then ok "$1"; else
        nok "$1"
        echo "# want: $2"
        echo "# got:  $3"
    fi
}
# like CLAIM PATTERN TEXT: a shell pattern
like() {
    # shellcheck disable=SC2254
    case $3 in $2) ok "$1" ;; *)
        nok "$1"
        echo "# want: $2"
        echo "# got:  $3"
        ;;
    esac
}
# succeeds CLAIM COMMAND…: a program in a minute, or a function that knows its own end
succeeds() {
    local claim=$1 output
    shift
    [ "$(type -t "$1")" = function ] || set -- timeout 60 "$@"
    if output=$("$@" 2>&1); then ok "$claim"; else
        nok "$claim: status $?"
        echo "# $output"
    fi
}
# wait_for SECONDS COMMAND…: tries it five times a second, for so long at most
wait_for() {
    local until=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $until ] || return 1
        sleep 0.2
    done
}
done_lab() {
    echo "1..$count"
    [ "$failed" = 0 ]
    exit $?
}

hw() { "$HAWSER_BUILD/tests/lab/hw_call" "$@"; }
# look FILTER: the inventory through jq
look() { hw list | jq -r "$1"; }

# netdevsim ID VFS [MODE]: a PF "netdevsimID" with VFs; the VFs' own interfaces are those of netdevsimID000…
netdevsim() {
    local id=$1 vfs=$2 i
    echo "$id 1" >/sys/bus/netdevsim/new_device
    [ "$vfs" = 0 ] || echo "$vfs" >"/sys/bus/netdevsim/devices/netdevsim$id/sriov_numvfs"
    [ -z "${3:-}" ] || devlink dev eswitch set "netdevsim/netdevsim$id" mode "$3"
    for ((i = 0; i < vfs; i++)); do
        echo "$(printf '%d%03d' "$id" "$i") 1" >/sys/bus/netdevsim/new_device
    done
}

# rxe0_make ADDRESS: an RDMA device over a veth pair; and how many packets it has sent
rxe0_make() {
    ip link set lo up
    ip link add v0 type veth peer name v1
    ip addr add "$1/24" dev v0
    ip link set v0 up
    ip link set v1 up
    rdma link add rxe0 type rxe netdev v0
}
rxe0_sent() { cat /sys/class/infiniband/rxe0/ports/1/hw_counters/sent_pkts; }
