# NICs whose parents are VLAN interfaces, which the machine that builds may lack: routed and ipvlan NICs of containers,
# and an OVN network whose uplink is a VLAN of a physical port.
. tests/lab/lib.sh
. tests/lab/agent.sh
inside() { local name=$1; shift; hawser exec "$name" -- "$@" 2>&1; }
pings() { inside "$1" ping -c 1 -W 2 "$2"; }
# reaches CLAIM FROM ADDRESS
reaches() { wait_for 60 pings "$2" "$3" && ok "$1" || nok "$1: $(pings "$2" "$3")"; }
# out ARGUMENT…: in the namespace at the other end of the wire
out() { ip netns exec outside "$@"; }
ip netns add outside
ip link add wire0 type veth peer name wire1 netns outside
ip link set wire0 up
out ip link set wire1 up
for id in 10 20 50; do
    out ip link add link wire1 name "v$id" type vlan id $id
    out ip addr add "10.96.$id.1/24" dev "v$id"
    out ip link set "v$id" up
done
links_before=$(ip -br link | awk '{print $1}' | sort)
agent_start
agent_image

# ---- routed ----
must hawser init busybox r1
must hawser config device add r1 eth0 nic nictype=routed parent=wire0 vlan=10 name=eth0 ipv4.address=10.96.10.5 ipv4.host_table=100
if grep -q '^CONFIG_NFT_FIB_INET=y' <(zcat /proc/config.gz); then
    must hawser start r1
    must ip addr add 10.96.10.254/24 dev wire0.10 # a routed NIC goes where its host can go
    like "a routed NIC's VLAN interface is made" "*vlan*id 10*" "$(ip -d link show wire0.10)"
    like "its address is announced there" "*10.96.10.5*" "$(ip neigh show proxy dev wire0.10)"
    like "and routed in the table that was asked for" "*10.96.10.5*" "$(ip route show table 100)"
    wait_for 60 out ping -c 1 -W 2 10.96.10.5 && ok "the VLAN reaches it" || nok "$(ip route; ip rule; ip neigh show proxy; sysctl net.ipv4.conf | grep -E 'forwarding|rp_filter|proxy_arp'; nft list ruleset; out ip neigh)"
    reaches "it reaches the VLAN" r1 10.96.10.1
    must hawser stop -f r1
    is "stopped, the VLAN interface is gone" "" "$(ip -o link show wire0.10 2>/dev/null)"
else
    like "a kernel without nft's fib says so" "*fib*" "$(hawser start r1 2>&1)"
    is "and nothing stays of it" "" "$(ip -o link show wire0.10 2>/dev/null)"
    ok "a routed NIC on a VLAN # SKIP this kernel has no NFT_FIB_INET: hw/lab/build makes one that has"
fi

# ---- ipvlan ----
must hawser init busybox i1
must hawser config device add i1 eth0 nic nictype=ipvlan parent=wire0 vlan=20 name=eth0 ipv4.address=10.96.20.5,10.96.20.6 \
    ipv6.address=2001:db8::5 mtu=1400 ipv4.host_table=101
like "in l3s mode a gateway is no address" "*ipv4.gateway*" "$(hawser config device set i1 eth0 ipv4.gateway=10.96.20.1 2>&1)"
like "nor an address a network" "*ipv4.address*" "$(hawser config device set i1 eth0 ipv4.address=10.96.20.5/24 2>&1)"
succeeds "an ipvlan NIC starts, in l3s mode" hawser start i1
like "its VLAN interface is made" "*vlan*id 20*" "$(ip -d link show wire0.20)"
like "inside it has the MTU" "*mtu 1400*" "$(inside i1 ip link show eth0)"
like "both addresses" "*10.96.20.5/32*10.96.20.6/32*" "$(inside i1 ip addr show eth0 | tr '\n' ' ')"
like "they are announced on the VLAN" "*10.96.20.5*10.96.20.6*" "$(ip neigh show proxy dev wire0.20 | sort | tr '\n' ' ')"
like "and routed in the table that was asked for" "*10.96.20.5*" "$(ip route show table 101)"
wait_for 60 out ping -c 1 -W 2 10.96.20.6 && ok "the VLAN reaches it" || nok "the VLAN reaches it: $(out ping -c 1 -W 2 10.96.20.6)"
reaches "it reaches the VLAN" i1 10.96.20.1
like "it can't be taken out of a running container" "*Device cannot be stopped when instance is running*" "$(hawser config device remove i1 eth0 2>&1)"
agent_kill
agent_start
reaches "it goes on when the agent was killed" i1 10.96.20.1
must hawser stop -f i1
is "stopped, the VLAN interface is gone" "" "$(ip -o link show wire0.20 2>/dev/null)"
is "and the routes" "" "$(ip route show table 101; ip route show | grep 10.96.20)"
is "and its volatile keys" "" "$(hawser config show i1 | grep 'volatile.eth0.last_state')"
must hawser config device set i1 eth0 mode=l2 vlan= ipv4.host_table= ipv6.address= ipv4.address=10.96.0.5,10.96.0.6/32 ipv4.gateway=10.96.0.1
out ip addr add 10.96.0.1/24 dev wire1
must hawser start i1
like "in l2 mode an address has its network" "*10.96.0.5/24*10.96.0.6/32*" "$(inside i1 ip addr show eth0 | tr '\n' ' ')"
reaches "and reaches its gateway" i1 10.96.0.1
must hawser stop -f i1

# ---- an uplink ----
must hawser network create up1 --type=physical parent=wire0 vlan=50 ipv4.gateway=10.96.50.1/24 ipv4.ovn.ranges=10.96.50.100-10.96.50.110
must hawser network create o1 --type=ovn network=up1 ipv4.address=10.95.1.1/24 ipv4.nat=true ipv6.address=none
like "the uplink's VLAN interface is made" "*vlan*id 50*" "$(ip -d link show wire0.50)"
must hawser init busybox o1c
must hawser config device add o1c eth0 nic network=o1 ipv4.address=10.95.1.11
must hawser start o1c
must inside o1c sh -c "ip addr add 10.95.1.11/24 dev eth0; ip link set eth0 up; ip route add default via 10.95.1.1"
reaches "a container reaches its network's router" o1c 10.95.1.1
reaches "and the VLAN beyond, through the uplink" o1c 10.96.50.1
like "as the router's address" "*10.96.50.10[0-9]*" "$(out ip neigh show dev v50)"
must hawser stop -f o1c
must hawser delete o1c
must hawser network delete o1
must hawser network delete up1
gone() { ! ip link show wire0.50; }
wait_for 30 gone && ok "with the networks the VLAN interface goes" || nok "$(ip link show wire0.50)"
agent_end
is "no interface is left" "$links_before" "$(ip -br link | awk '{print $1}' | grep -vxE 'ovs-system|br-int|haw.*|lxd.*|genev_sys.*' | sort)"
done_lab
