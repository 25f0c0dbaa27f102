# chassis.sh: two hosts on this one for suites of two servers: a network namespace 'there' beside our own, a wire
# between them, one OVN for both, and in each a switch with OVN's controller. Sourced after lib.sh and e2e_begin.
#   two_hosts                 the namespace and the wire ('far CMD…' runs in the other host)
#   two_chassis ADDR ADDR     OVN and both switches, with the addresses of their tunnels
#   daemon_there              the agent of 'second', in the other host
# nb and sb are OVN's databases; $C is where their sockets lie.
T=$E2E_DIR
C=$T/central
serve() { "$@" >>"$T/log" 2>&1 </dev/null & }
far() { ip netns exec there "$@"; }
nb() { timeout 20 ovn-nbctl --db="unix:$C/nb.sock" "$@"; }
sb() { timeout 20 ovn-sbctl --db="unix:$C/sb.sock" "$@"; }

two_hosts() {
    need ovs-vswitchd ovn-northd ovn-nbctl ovn-sbctl ovs-vsctl
    mkdir -p /run/netns
    must mount -t tmpfs none /run/netns # names of our own
    must ip netns add there
    must ip link add wire mtu 1600 type veth peer name wire netns there
    must far ip link set wire mtu 1600
    must ip link set wire up
    must far ip link set wire up
    must far ip link set lo up
}

chassis() { # name, address of its tunnels, how to get there…
    local dir=$T/$1.ovs name=$1 address=$2; shift 2
    mkdir -p "$dir"
    local env=(env OVS_RUNDIR="$dir" OVN_RUNDIR="$dir" OVS_LOGDIR="$dir" OVN_LOGDIR="$dir" OVS_DBDIR="$dir")
    must ovsdb-tool create "$dir/conf.db" /usr/share/openvswitch/vswitch.ovsschema
    serve ovsdb-server --remote="punix:$dir/db.sock" --unixctl="$dir/conf.ctl" "$dir/conf.db"
    vsctl() { timeout 20 "${env[@]}" ovs-vsctl "$@"; }
    must wait_for 10 vsctl --no-wait init
    must vsctl --no-wait set Open_vSwitch . "external_ids:system-id=host-$name" "external_ids:ovn-remote=unix:$C/sb.sock" \
        external_ids:ovn-encap-type=geneve "external_ids:ovn-encap-ip=$address" external_ids:ovn-bridge-datapath-type=netdev
    serve "$@" "${env[@]}" ovs-vswitchd --pidfile
    must vsctl --timeout=20 add-br br-phy -- set Bridge br-phy datapath_type=netdev -- add-port br-phy wire
    must "$@" ip addr add "$address/24" dev br-phy
    must "$@" ip link set br-phy mtu 1600
    must "$@" ip link set br-phy up
    serve "$@" "${env[@]}" ovn-controller
}

two_chassis() {
    local db
    mkdir -p "$C"
    must ovsdb-tool create "$C/nb.db" /usr/share/ovn/ovn-nb.ovsschema
    must ovsdb-tool create "$C/sb.db" /usr/share/ovn/ovn-sb.ovsschema
    for db in nb sb; do
        serve ovsdb-server --remote="punix:$C/$db.sock" --unixctl="$C/$db.ctl" "$C/$db.db"
    done
    must wait_for 10 test -S "$C/sb.sock"
    serve env OVN_RUNDIR="$C" OVN_LOGDIR="$C" ovn-northd --ovnnb-db="unix:$C/nb.sock" --ovnsb-db="unix:$C/sb.sock"
    chassis main "$1"
    chassis second "$2" ip netns exec there
    both_there() { [ "$(sb --bare --columns=name list Chassis | grep -c host)" = 2 ]; }
    must wait_for 20 both_there
}

daemon_there() {
    daemon_use second
    mkdir -p "$LXD_DIR"; chmod 711 "$LXD_DIR"
    ip netns exec there env ASAN_OPTIONS="detect_leaks=0:abort_on_error=1:disable_coredump=1" \
        OVS_RUNDIR="$T/second.ovs" OVN_RUNDIR="$T/second.ovs" \
        "$(hawserd_path)" --dir "$LXD_DIR" --group root >>"$T/second.log" 2>&1 </dev/null &
    e2e_pid[second]=$!
    daemon_ready second || e2e_bail "agent 'second' did not become ready"
}
