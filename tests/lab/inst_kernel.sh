# Containers on a kernel as distributions have it: cgroup v2 alone, AppArmor, lxcfs, bridges that filter VLANs, rates by
# tc's policer, VLAN interfaces beneath macvlan and physical NICs. (The machine that builds may lack all of these.)
. tests/lab/lib.sh
. tests/lab/agent.sh
inside() { local name=$1; shift; hawser exec "$name" -- "$@" 2>&1; }
link_of() { hawser config get "$1" "volatile.$2.host_name"; }
pings() { inside "$1" ping -c 1 -W 2 "$2"; }
mkdir -p /var/lib/lxcfs
lxcfs /var/lib/lxcfs >/tmp/lxcfs.log 2>&1 &
mount -t securityfs none /sys/kernel/security 2>/dev/null
ip link add dum0 type dummy
ip link set dum0 up
wait_for 20 test -e /var/lib/lxcfs/proc/meminfo || nok "lxcfs: $(cat /tmp/lxcfs.log)"
agent_start
agent_image
must hawser network create br0 ipv4.address=10.97.0.1/24 ipv4.nat=false ipv6.address=none

# ---- control groups, AppArmor, lxcfs ----
must hawser init busybox c1 -c limits.memory=64MiB -c limits.cpu.allowance=150ms/100ms -c limits.processes=50
must hawser config device add c1 eth0 nic nictype=bridged parent=br0 name=eth0 vlan=10
succeeds "a container starts on cgroup v2 alone" hawser start c1
pid=$(hawser query /1.0/instances/c1/state | jq .pid)
group=/sys/fs/cgroup$(sed -n 's/^0:://p' "/proc/$pid/cgroup")
payload=${group%%/lxc.payload.c1*}/lxc.payload.c1
is "its memory, CPU time and processes are limited" "67108864 150000 100000 50" \
    "$(cat "$payload/memory.max") $(cat "$payload/cpu.max") $(cat "$payload/pids.max")"
must hawser config set c1 limits.memory=96MiB
is "the limit changes while it runs" 100663296 "$(cat "$payload/memory.max")"
is "lxcfs shows it the limit as its memory" 98304 "$(inside c1 cat /proc/meminfo | awk '/MemTotal/ {print $2}')"
[ "$(hawser query /1.0/instances/c1/state | jq .memory.usage)" -gt 0 ] && ok "its state has the memory that it uses" || nok "no memory usage"
like "AppArmor confines it by a profile of its own" "lxc-c1*" "$(cat "/proc/$pid/attr/current")"

# ---- VLANs on a bridge ----
for name in c2 c3; do must hawser init busybox $name; done
must hawser config device add c2 eth0 nic nictype=bridged parent=br0 name=eth0 vlan=10 vlan.tagged=20,30-31
must hawser config device add c3 eth0 nic nictype=bridged parent=br0 name=eth0 vlan=11
for n in 1 2 3; do
    [ $n = 1 ] || must hawser start c$n
    must inside c$n sh -c "ip addr add 10.98.0.$n/24 dev eth0; ip link set eth0 up"
done
is "the bridge filters by VLAN" 1 "$(cat /sys/class/net/br0/bridge/vlan_filtering)"
is "a port has its VLAN, untagged, and those that it may tag" "10 20 30 31" \
    "$(bridge -j vlan show dev "$(link_of c2 eth0)" | jq -r '[.[].vlans[] | .vlan, (.vlanEnd // empty)] | join(" ")')"
wait_for 30 pings c1 10.98.0.2 && ok "within a VLAN containers reach each other" || nok "within a VLAN: $(pings c1 10.98.0.2)"
pings c1 10.98.0.3 >/dev/null && nok "another VLAN is out of reach" || ok "another VLAN is out of reach"

# ---- rates ----
must hawser config device set c1 eth0 limits.egress=8Mbit limits.ingress=16Mbit
host=$(link_of c1 eth0)
like "what it sends is policed" "*police*rate 8Mbit*" "$(tc filter show dev "$host" ingress)"
like "what it receives is shaped" "*rate 16Mbit*" "$(tc class show dev "$host"; tc qdisc show dev "$host")"
must hawser config device unset c1 eth0 limits.egress
is "a limit that goes leaves no policer" "" "$(tc filter show dev "$host" ingress | grep police)"

# ---- VLAN interfaces ----
must hawser init busybox c4
must hawser config device add c4 eth0 nic nictype=macvlan parent=dum0 vlan=7 name=eth0
must hawser config device add c4 eth1 nic nictype=physical parent=dum0 vlan=8 name=eth1
must hawser start c4
like "a VLAN interface is made beneath a macvlan" "*vlan*id 7*" "$(ip -d link show dum0.7)"
like "a physical NIC with a VLAN is the VLAN interface itself" "*eth1*" "$(inside c4 ip -o link show eth1)"
is "which the host has no more" "" "$(ip -o link show dum0.8 2>/dev/null)"
agent_end
done_lab
