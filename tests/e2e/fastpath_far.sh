#!/bin/bash
# fastpath_far: two servers with a switch each on one OVN, tunnels between them: containers on a network that both share
# reach each other past the switches, by headers that hawser-dpd learned on either side.
. "$(dirname "$0")/lib.sh"
only_hawser || e2e_skip_all 'networks shared by servers without a cluster'
e2e_begin
need python3 ping nsenter ethtool
. "$E2E_LIB/chassis.sh"
two_hosts
must ethtool -K wire tx off # a wire carries whole checksums
must far ethtool -K wire tx off
two_chassis 10.94.55.1 10.94.55.2

# ---- two servers, a network of both, a container on each ----
DAEMON_ENV="OVS_RUNDIR=$T/main.ovs OVN_RUNDIR=$T/main.ovs" daemon_start main
daemon_there
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
shown() { one ping -q -c 5 -i 0.02 -W 1 10.97.1.12; [ "$(flows_of second)" -ge 1 ]; } # what rests is fast no more
claim 'and shown' wait_for 20 shown

# ---- dropped at the uplink: what no port here wants ----
at main
dropped() { plane main | jq ".uplinks[0].packets[\"$1\"]"; }
sends_to() { far python3 "$E2E_LIB/planepackets.py" geneve 10.94.55.1 "$@"; } # VNI PORT
drops() { local before; before=$(dropped "$1"); sends_to "$2" "$3"; [ "$(dropped "$1")" -gt "$before" ]; } # REASON VNI PORT
there=$(sb --bare --columns=_uuid find Chassis name=host-second)
port=$(sb --bare --columns=_uuid find Port_Binding "chassis=$there" 'type=""')
port_key=$(sb get Port_Binding "$port" tunnel_key) vni=$(sb get Datapath_Binding "$(sb get Port_Binding "$port" datapath)" tunnel_key)
claim 'without the filter nothing is dropped' sends_to 424242 1
same 'of unknown networks' 0 dropped no-network
claim 'the filter is asked for' lxc config set network.ovn.filter=true
claim 'what comes for a network that nobody knows is dropped and counted' wait_for 20 drops no-network 424242 1
claim 'so is what comes for a port that is on the other server' wait_for 20 drops no-port "$vni" "$port_key"
none=$(dropped no-port)
claim 'what is wanted is fast as before' wait_for 60 echoes_fast
same 'and not dropped' "$none" dropped no-port
must lxc launch busybox c-new -n net1
P3=$(LXD_DIR=$T/main lxc query /1.0/instances/c-new/state | jq .pid)
must wait_for 60 has_address "$P3"
claim 'an instance that comes is wanted' wait_for 20 nsenter -t "$P3" -n ping -q -c 1 -W 1 10.97.1.12
must lxc delete -f c-new

# ---- a daemon that ends ----
at main
one ping -q -i 0.02 -c 400 -W 1 10.97.1.12 >"$T/pings" 2>&1 & pinger=$!
dpd_pid() { at main; api_meta GET /1.0/hawser/dpd 2>/dev/null | jq .pid; }
must quiet kill -KILL "$(pgrep -f "hawser-dpd --embedded --dir $T/main/dpd")"
wait $pinger
claim 'packets go on while hawser-dpd is dead' grep -qE '400 packets transmitted, (39[0-9]|400) (packets )?received' "$T/pings"
claim 'its next life sees to the uplink again' wait_for 40 uplink_is_fast main
claim 'and it is fast again' wait_for 60 echoes_fast
claim 'and drops what nobody wants' wait_for 20 drops no-network 424242 1
claim 'until it is asked to stop' lxc config unset network.ovn.filter
none=$(dropped no-network)
must sends_to 424242 1
claim 'then it drops nothing' wait_for 5 test "$(dropped no-network)" = "$none"

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
