#!/bin/bash
# fastpath_far: two servers with a switch each on one OVN, tunnels between them: containers on a network that both share
# reach each other past the switches, by headers that hawser-dpd learned on either side.
. "$(dirname "$0")/lib.sh"
only_hawser || e2e_skip_all 'networks shared by servers without a cluster'
e2e_begin
need python3 ping nsenter ethtool ovs-vswitchd ovn-northd ovn-nbctl ovn-sbctl ovs-vsctl
T=$E2E_DIR
serve() { "$@" >>"$T/log" 2>&1 </dev/null & }

# ---- two hosts and what connects them ----
mkdir -p /run/netns
must mount -t tmpfs none /run/netns # names of our own
must ip netns add there
far() { ip netns exec there "$@"; }
must ip link add wire mtu 1600 type veth peer name wire netns there
must far ip link set wire mtu 1600
must ethtool -K wire tx off # a wire carries whole checksums
must far ethtool -K wire tx off
ip link set wire up; far ip link set wire up; far ip link set lo up

# ---- one OVN, two chassis ----
C=$T/central
mkdir -p "$C"
must ovsdb-tool create "$C/nb.db" /usr/share/ovn/ovn-nb.ovsschema
must ovsdb-tool create "$C/sb.db" /usr/share/ovn/ovn-sb.ovsschema
for db in nb sb; do
    serve ovsdb-server --remote="punix:$C/$db.sock" --unixctl="$C/$db.ctl" "$C/$db.db"
done
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
must wait_for 10 test -S "$C/sb.sock"
serve env OVN_RUNDIR="$C" OVN_LOGDIR="$C" ovn-northd --ovnnb-db="unix:$C/nb.sock" --ovnsb-db="unix:$C/sb.sock"
chassis main 10.94.55.1
chassis second 10.94.55.2 ip netns exec there
sb() { timeout 20 ovn-sbctl --db="unix:$C/sb.sock" "$@"; }
both_there() { [ "$(sb --bare --columns=name list Chassis | grep -c host)" = 2 ]; }
must wait_for 20 both_there

# ---- two servers, a network of both, a container on each ----
DAEMON_ENV="OVS_RUNDIR=$T/main.ovs OVN_RUNDIR=$T/main.ovs" daemon_start main
daemon_use second
mkdir -p "$LXD_DIR"; chmod 711 "$LXD_DIR"
ip netns exec there env ASAN_OPTIONS="detect_leaks=0:abort_on_error=1:disable_coredump=1" OVS_RUNDIR="$T/second.ovs" \
    OVN_RUNDIR="$T/second.ovs" "$(hawserd_path)" --dir "$LXD_DIR" --group root >>"$T/second.log" 2>&1 </dev/null &
e2e_pid[second]=$!
daemon_ready second || e2e_bail "agent 'second' did not become ready"
at() { daemon_use "$1"; }
for name in second main; do
    at $name
    must lxc storage create default dir
    must lxc profile device add default root disk path=/ pool=default
    must lxc config set "network.ovn.northbound_connection=unix:$C/nb.sock"
    must lxc network create net1 --type=ovn network=none ipv4.address=10.97.1.1/24 ipv6.address=none hawser.shared=true
    e2e_image busybox
    must lxc init busybox c-$name -n net1
    must lxc config device set c-$name eth0 ipv4.address="10.97.1.$([ $name = main ] && echo 11 || echo 12)"
    must lxc start c-$name
done
pid_of() { LXD_DIR=$T/$1 lxc query "/1.0/instances/c-$1/state" | jq .pid; }
P1=$(pid_of main) P2=$(pid_of second)
one() { timeout 60 nsenter -t "$P1" -n "$@"; }
has_address() { nsenter -t "$1" -n ip -4 addr show dev eth0 | grep -q 10.97.1; }
must wait_for 60 has_address "$P1"
must wait_for 60 has_address "$P2"
plane() { at "$1"; api_meta GET /1.0/hawser/dataplane; }
available=$(plane main | jq .available)
if [ "$available" != true ]; then
    skip 'the fast path between hosts' "$(plane main | jq -r .why)"
    lxc delete -f c-main; at second; lxc delete -f c-second; e2e_end
fi
uplink_is_fast() { plane "$1" | jq -e '.uplinks[] | select(.interface == "wire") | .fast' >/dev/null; }
claim 'hawser-dpd sees to the uplink here' wait_for 30 uplink_is_fast main
claim 'and there' wait_for 30 uplink_is_fast second
claim 'the containers reach each other' wait_for 60 one ping -q -c 1 -W 1 10.97.1.12
hits() { plane "$1" | jq '.packets.hit'; }
steered() { plane "$1" | jq '.uplinks[0].packets.steered'; }
echoes_fast() { # both servers hit with most of fifty
    local a b; a=$(hits main) b=$(hits second)
    one ping -q -c 50 -i 0.02 -W 1 10.97.1.12 >/dev/null || return 1
    [ $(($(hits main) - a)) -ge 60 ] && [ $(($(hits second) - b)) -ge 60 ]
}
claim 'fast on both sides' wait_for 60 echoes_fast
claim 'what comes in is steered past the switch' [ "$(steered second)" -ge 50 ]
flows_of() { at "$1"; api_meta GET '/1.0/hawser/dataplane/flows?state=fast' | jq .total; }
claim 'and shown' [ "$(flows_of second)" -ge 1 ]

# ---- a daemon that ends ----
at main
one ping -q -i 0.02 -c 400 -W 1 10.97.1.12 >"$T/pings" 2>&1 & pinger=$!
dpd_pid() { at main; api_meta GET /1.0/hawser/dpd 2>/dev/null | jq .pid; }
must quiet kill -KILL "$(pgrep -f "hawser-dpd --embedded --dir $T/main/dpd")"
wait $pinger
claim 'packets go on while hawser-dpd is dead' grep -qE '400 packets transmitted, (39[0-9]|400) (packets )?received' "$T/pings"
claim 'its next life sees to the uplink again' wait_for 40 uplink_is_fast main
claim 'and it is fast again' wait_for 60 echoes_fast

# ---- what OVN forbids ----
at main
must lxc network acl create deny
must lxc network acl rule add deny ingress action=drop protocol=icmp4
at second
must lxc network acl create deny
must lxc network acl rule add deny ingress action=drop protocol=icmp4
must lxc config device set c-second eth0 security.acls=deny
must lxc config device set c-second eth0 security.acls.default.ingress.action=allow
refuse 'what an ACL over there drops does not arrive' '' one ping -q -c 20 -i 0.02 -W 1 10.97.1.12
must lxc config device unset c-second eth0 security.acls
claim 'allowed again, it does' wait_for 30 one ping -q -c 1 -W 1 10.97.1.12

# ---- the end ----
for name in second main; do
    at $name
    must lxc delete -f c-$name
    must lxc network delete net1
done
e2e_end
