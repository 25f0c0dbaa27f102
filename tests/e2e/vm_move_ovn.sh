#!/bin/bash
# vm_move_ovn: two servers that share a northbound database, each with a switch of its own: networks of one name become
# one network, others keep out of each other's way, and a virtual machine that moves between the two while it runs
# keeps its port: a container on a peered network goes on hearing it.
. "$(dirname "$0")/lib.sh"
only_hawser || e2e_skip_all 'networks shared by servers without a cluster'
e2e_begin
need python3 qemu-system-x86_64 rsync ping nsenter
guest=$HAWSER_BUILD/guest
"$E2E_LIB/../guest/build" "$guest" >>"$E2E_DIR/log" 2>&1 || e2e_skip_all "no kernel for a test guest"
boot=$(e2e_boot_dir "$guest")
. "$E2E_LIB/chassis.sh"
E2E_COMMAND_S=150

# ---- two hosts: a segment for the servers, another for tunnels ----
A=10.94.52.1 B=10.94.52.2
two_hosts
must ip link add mgmt type veth peer name mgmt netns there
must ip addr add $A/24 dev mgmt
must far ip addr add $B/24 dev mgmt
must ip link set mgmt up
must far ip link set mgmt up
two_chassis 10.94.53.1 10.94.53.2

# ---- two servers ----
DAEMON_ENV="OVS_RUNDIR=$T/main.ovs OVN_RUNDIR=$T/main.ovs" daemon_start main
daemon_there
token=
for name in second main; do
    daemon_use $name
    must lxc storage create default dir
    must lxc profile device add default root disk path=/ pool=default size=64MiB
    must lxc config set "network.ovn.northbound_connection=unix:$C/nb.sock"
done
must lxc config set core.https_address $A:8443
daemon_use second
must lxc config set core.https_address $B:8443
token=$(lxc config trust add --name main -q 2>/dev/null | tail -n 1)
daemon_use main
must lxc remote add second "$token" --accept-certificate
hawser=$(hawser_path)
clean() { [ -z "$(timeout 30 "$hawser" network ovn diff -f csv)" ]; }
on_second() { local LXD_DIR=$T/second; "$@"; }
switches() { nb --bare --columns=name list Logical_Switch | grep -c ls-int; }

# ---- networks of the two keep apart ----
make_net() { lxc network create "$1" --type=ovn network=none "ipv4.address=$2" ipv6.address=none "${@:3}"; }
claim 'a network here' make_net own 10.97.8.1/24
claim 'and one there, by the same name, that is another one' make_net second:own 10.97.9.1/24
same 'both are there' 2 switches
claim 'the first sees nothing to do' clean
claim 'nor does the second' on_second clean
claim 'one goes' lxc network delete second:own
same 'and the other stays' 1 switches
must lxc network delete own

# ---- and shared ones are one ----
claim 'a network here that is shared' make_net net1 10.97.1.1/24 hawser.shared=true
claim 'is the one there' make_net second:net1 10.97.1.1/24 hawser.shared=true
same 'there is one' 1 switches
claim 'its owner has nothing to do' clean
claim 'nor has the other' on_second clean
gateways() { nb --bare --columns=chassis_name list HA_Chassis | grep -c host; }
same 'both hosts may be its gateway' 2 gateways
refuse 'it stays shared' 'when a network is made' lxc network set net1 hawser.shared=false
claim 'a network beside it, with a peering' make_net net2 10.97.2.1/24
must lxc network peer create net1 to2 net2
must lxc network peer create net2 to1 net1
e2e_image busybox
must lxc init busybox c1 -n net2
must lxc config device set c1 eth0 ipv4.address=10.97.2.9
must lxc start c1

# ---- a virtual machine on it ----
ask() {
    local at
    for at in main second; do
        python3 "$E2E_LIB/../guest/ask.py" "$T/$at/run/vm/qemu/serial" "$1" "$2" "${3:-60}" 2>/dev/null && return
    done
    return 1
}
hears() { ask gap 'gap us' 3; }
c1_pid() { lxc info c1 | sed -n 's/^PID: *//p'; }
from_c1() { nsenter -t "$(c1_pid)" -n "$@"; }
pings() { from_c1 ping -n -q -c 1 -W 1 10.97.1.9; } >/dev/null 2>&1
has_address() { from_c1 ip -4 addr show dev eth0 | grep -q 10.97.2.9; }
state_of() { lxc list "$1" -f csv -c ns 2>/dev/null | tr -d '\r'; }
bound() { sb --bare --columns=name list Chassis "$(sb --bare --columns=chassis find Port_Binding "logical_port=$lsp")"; }
owner() { nb get Logical_Switch_Port "$lsp" external_ids:hawser-owner; }
must lxc init vm --vm --empty -c limits.memory=192MiB -c security.secureboot=false -c security.csm=true \
    -c migration.stateful=true -c raw.qemu="-serial unix:serial,server=on,wait=off -kernel $boot/kernel -initrd $boot/initrd -append 'console=ttyS1 quiet panic=-1 guest.fill=48 guest.hot=24 guest.rate=20 guest.ip=10.97.1.9/24 guest.gateway=10.97.1.1'"
must lxc config device add vm eth0 nic network=net1 ipv4.address=10.97.1.9
must lxc start vm
wait_for 90 hears || e2e_bail 'the guest does not come up'
lsp=$(nb --bare --columns=name list Logical_Switch_Port | grep -- -instance- | grep "$(lxc config get vm volatile.uuid)")
must wait_for 30 has_address
claim 'a container on a peered network hears it' wait_for 60 pings
same 'its port is here' host-main bound
first_owner=$(owner)

# ---- back and forth ----
moved() { # what from to
    local sent got
    from_c1 ping -n -q -i 0.01 -w 90 10.97.1.9 >"$T/pings" 2>&1 &
    local pinger=$!
    claim "$1" lxc move "$2" "$3"
    wait_for 20 pings
    pkill_child INT $pinger; wait $pinger
    read -r sent got < <(sed -n 's/^\([0-9]*\) packets transmitted, \([0-9]*\) .*/\1 \2/p' "$T/pings")
    lost=$((sent - got)) gap=$(ask gap 'gap us')
    echo "# $1: $lost of $sent pings at 10 ms lost; $gap"
}
pkill_child() { pgrep -P "$2" >/dev/null && kill -s "$1" $(pgrep -P "$2"); kill -s "$1" "$2"; } 2>/dev/null
moved 'it moves' vm second:vm
same 'it runs there' 'vm,RUNNING' state_of second:vm
claim 'and is heard from there' wait_for 20 pings
same 'its port is there' host-second bound
claim "and the other server's" [ "$(owner)" != "$first_owner" ]
same 'by one chassis only' host-second nb get Logical_Switch_Port "$lsp" options:requested-chassis
claim 'the first sees nothing to do' wait_for 20 clean
claim 'nor does the second' wait_for 20 on_second clean
moved 'and back' second:vm vm
same 'its port is here again' host-main bound
same "and the first server's" "$first_owner" owner
claim 'it is heard' wait_for 20 pings

# ---- a move that does not come about ----
must on_second lxc config set core.https_address ''
must lxc config device add vm extra disk "source=$T/log" path=/extra readonly=true
must on_second lxc config set core.https_address $B:8443
refuse 'a move that is refused' 'extra' lxc move vm second:vm
same 'leaves the port where it is' "$first_owner" owner
claim 'and the guest heard' wait_for 20 pings
must lxc config device remove vm extra

# ---- the end ----
must lxc delete -f vm c1
must lxc network peer delete net1 to2
must lxc network peer delete net2 to1
must lxc network delete net2
claim 'one server lets go of the network' lxc network delete net1
there_alone() { [ "$(switches)" = 1 ] && on_second clean; }
claim 'and the other makes it its own' wait_for 30 there_alone
claim 'until it lets go, too' lxc network delete second:net1
same 'and nothing stays' '' nb --bare --columns=name list Logical_Switch
e2e_end
