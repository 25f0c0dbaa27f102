# Functions of netdevsim, each linked to its representor: two namespaces on one bridge of the kernel's own OVS datapath,
# pinging each other through their representors, put there by hawser-dpd.
. tests/lab/lib.sh
. tests/lab/dpd.sh
netdevsim 1 2 switchdev
dpd_bridges
# The daemon of the bridges, on the kernel's datapath.
mkdir -p /var/run/openvswitch
command ovs-vswitchd "$e2e_ovs" --no-chdir --pidfile=$E2E_DIR/vswitchd.pid --log-file=$E2E_DIR/vswitchd.log >>$E2E_DIR/log 2>&1 &
wait_for 20 sh -c "ip link show br-int" && ok "the bridge is the kernel's" || nok "no br-int: $(tail -n 3 $E2E_DIR/vswitchd.log)"
ip link set "$(look '.pfs[0].netdev')" up
exec 7</proc/self/ns/net
for vf in 0 1; do
    own=$(look ".pfs[0].vfs[$vf].netdev")
    rep=$(look ".pfs[0].vfs[$vf].representor")
    echo "7:$(cat "/sys/class/net/$own/ifindex") 7:$(cat "/sys/class/net/$rep/ifindex")" >/sys/bus/netdevsim/link_device
done
dpd_start
for n in 0 1; do
    ip netns add n$n
    read -r _ state _ netdev _ _ _ rep _ <<<"$(ctl up id=c$n kind=vf iface_id=l$n mac=00:16:3e:00:00:0$n | tail -n 1)"
    is "function $n is ready" ready "$state"
    ip link set "$netdev" netns n$n name eth0
    ip -n n$n addr add 10.9.0.$((n + 1))/24 dev eth0
    ip -n n$n link set eth0 up
    wait_for 10 sh -c "ovs-vsctl --db=$e2e_ovs get Interface $rep ofport | grep -q '^[1-9]'" &&
        ok "its representor is open on the bridge" || nok "no ofport of $rep"
done
wait_for 20 ip netns exec n0 ping -c1 -W2 10.9.0.2 && ok "they reach each other through their representors" ||
    nok "no ping: $(ip -s -n n0 link show eth0 | tail -n 6)"
like "through the kernel's datapath" "*in_port*" "$(ovs-dpctl dump-flows 2>&1)"
dpd_kill
wait_for 5 ip netns exec n1 ping -c1 -W2 10.9.0.1 && ok "also while hawser-dpd is dead" || nok "the packets stopped"
dpd_start
is "it adopts both" 2 "$(ctl list | grep -c ' ready ')"
for n in 0 1; do
    ip -n n$n link set eth0 down
    ip -n n$n link set eth0 netns 1 name back$n
    like "function $n is given back" "c$n gone *" "$(ctl down c$n)"
done
is "under their old names" "" "$(ip -o link show | grep back)"
is "the bridge is empty" "" "$(ovs-vsctl list-ports br-int)"
done_lab
