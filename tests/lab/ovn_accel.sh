# Containers on an OVN network with the kernel's own Open vSwitch datapath: one on a virtual function of netdevsim, to
# which a second netdevsim links its representor, one on a veth pair, and a third across a peering.
. tests/lab/lib.sh
. tests/lab/agent.sh
# reaches CLAIM FROM ADDRESS: in the end; flows come when OVN has computed them, which takes long on a busy host
reaches() {
    local answer until=$((SECONDS + 60))
    until answer=$(hawser exec "$2" -- ping -c 1 -W 2 "$3" 2>&1); do
        if [ $SECONDS -ge $until ]; then
            nok "$1"
            { echo "$answer"; vs show; tail -n 5 "$HAWSER_DIR"/ovn/*.log; } | sed 's/^/# /'
            return
        fi
    done
    ok "$1"
}
state_of() { hawser hw list -f json | jq -r "[.pfs[].vfs[].state] | map(select(. == \"$1\")) | length"; }

# wire VF REPRESENTOR: netdevsim's function and its representor know nothing of each other. A second device does:
# what leaves the representor goes to it, and over its link to the function; and back.
wire() {
    local ns
    echo "2000 1" >/sys/bus/netdevsim/new_device
    far=$(ls /sys/bus/netdevsim/devices/netdevsim2000/net)
    exec {ns}</proc/self/ns/net
    echo "$ns:$(cat "/sys/class/net/$1/ifindex") $ns:$(cat "/sys/class/net/$far/ifindex")" >/sys/bus/netdevsim/link_device
    ip link set "$far" up
    tc qdisc add dev "$2" clsact
    tc qdisc add dev "$far" clsact
    tc filter add dev "$2" egress matchall action mirred egress redirect dev "$far"
    tc filter add dev "$far" ingress matchall action mirred ingress redirect dev "$2"
}

netdevsim 1 1 switchdev
vf=$(look '.pfs[0].vfs[0].netdev') rep=$(look '.pfs[0].vfs[0].representor')
wire "$vf" "$rep"
before=$(ip -d link show "$(look '.pfs[0].netdev')" | sed 's/promiscuity.*//')
mac_before=$(cat "/sys/class/net/$vf/address")
agent_start
agent_image
agent_ovn
must hawser network create o2 --type=ovn network=up0 ipv4.address=10.95.2.1/24 ipv4.nat=true ipv6.address=none
must hawser network peer create o1 to2 o2
must hawser network peer create o2 to1 o1

# container NAME NETWORK ADDRESS [KEY=VALUE…]: running, its address set
container() {
    local name=$1 network=$2 address=$3
    shift 3
    must hawser init busybox "$name"
    must hawser config device add "$name" eth0 nic network="$network" ipv4.address="$address" "$@"
    must hawser start "$name"
    must hawser exec "$name" -- sh -c "ip addr add $address/24 dev eth0; ip link set eth0 up; ip route add default via ${address%.*}.1"
}
must hawser init busybox extra
must hawser config device add extra eth0 nic network=o1 acceleration=sriov
like "what the hardware needs from Open vSwitch is told, with the next step" "*hw-offload=true*" "$(hawser start extra 2>&1)"
vs set Open_vSwitch . other_config:hw-offload=true
container fast o1 10.95.1.12 acceleration=sriov
container plain o1 10.95.1.11
container far o2 10.95.2.11

is "the datapath is the kernel's" system "$(vs get Bridge br-int datapath_type)"
is "one virtual function is used" 1 "$(state_of used)"
like "its representor is on br-int" "*$rep*" "$(vs list-ports br-int | tr '\n' ' ')"
like "for the container's logical port" "*eth0*" "$(vs get Interface "$rep" external_ids:iface-id)"
like "the function itself is the container's eth0" "*eth0*" "$(hawser exec fast -- ip -o link show eth0)"
reaches "a plain container reaches it" plain 10.95.1.12
reaches "it reaches the plain one" fast 10.95.1.11
reaches "and one across a peering" fast 10.95.2.11
entered() { tc -s -j filter show dev "$far" ingress | jq '[.. | .stats? | .packets? // empty] | max'; }
count_before=$(entered)
hawser exec fast -- ping -c 2 -W 5 10.95.1.11 >/dev/null
[ "$(entered)" -gt "$count_before" ] && ok "its packets come through the representor" ||
    nok "its packets come through the representor: $count_before, then $(entered)"
like "another finds none, and hears what to do" "*All virtual functions of sriov device*already in use*hawser hw prepare*" "$(hawser start extra 2>&1)"
must hawser stop -f fast
is "stopped, it gives the function back" 0 "$(state_of used)"
is "and it is free" 1 "$(state_of free)"
is "under its name, with its MAC" "$mac_before" "$(cat "/sys/class/net/$vf/address")"
is "the PF is as before, to the byte" "$before" "$(ip -d link show "$(look '.pfs[0].netdev')" | sed 's/promiscuity.*//')"
like "nothing of it stays on br-int" "absent" "$(vs list-ports br-int | grep -qx "$rep" || echo absent)"
agent_end
done_lab
