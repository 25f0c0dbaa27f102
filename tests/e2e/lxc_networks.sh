#!/bin/bash
# lxc_networks: managed bridges with addresses, DHCP, DNS, NAT, leases, ACLs, forwards, tunnels; parents; and
# what their deletion must leave behind: nothing. As the unmodified lxc client sees it.
E2E_LEAKS=1
. "$(dirname "$0")/lib.sh"
e2e_begin
mkdir -p /run/netns && mount -t tmpfs tmpfs /run/netns # names of others do not meet ours
daemon_start
e2e_defaults
T=$E2E_DIR
has_rule() { nft list ruleset | grep -q -- "$1"; }

# ---- a bridge ----
claim 'a bridge with addresses of both kinds' lxc network create nbr0 ipv4.address=10.94.20.1/24 ipv6.address=fd42:94:20::1/64
claim 'exists' ip link show nbr0
shows 'has its IPv4 address' 'inet 10.94.20.1/24' ip addr show nbr0
shows 'and its IPv6 address' 'inet6 fd42:94:20::1/64' ip addr show nbr0
shows 'is listed as managed' '^nbr0,bridge,YES,10.94.20.1/24,fd42:94:20::1/64' lxc network list -f csv
claim 'dnsmasq runs for it' sh -c "kill -0 \$(awk '/^pid:/ {print \$2}' $LXD_DIR/networks/nbr0/dnsmasq.pid)"
claim 'its files lie where LXD has them' sh -c "ls $LXD_DIR/networks/nbr0/dnsmasq.leases $LXD_DIR/networks/nbr0/dnsmasq.hosts"
claim 'nft has its chains' has_rule nbr0
shows 'its state' 'bytes' lxc query /1.0/networks/nbr0/state
refuse 'twice is refused' 'already exists' lxc network create nbr0
refuse 'a bad address is refused' '' lxc network create nbr9 ipv4.address=300.1.1.1/24
refuse 'an unknown key' 'nvalid option|nknown' lxc network create nbr9 colour=red
refuse 'a name too long for an interface' '' lxc network create name-far-too-long
claim 'and no interface came of it' test ! -e /sys/class/net/nbr9
claim 'none and auto are understood' lxc network create nbr1 ipv4.address=none ipv6.address=none
hides 'no address then' 'inet ' ip addr show nbr1
claim 'a setting, live' lxc network set nbr1 ipv4.address 10.94.21.1/24
shows 'is applied' '10.94.21.1/24' ip addr show nbr1
claim 'the MTU' lxc network set nbr1 bridge.mtu 1400
same 'is applied' 1400 cat /sys/class/net/nbr1/mtu
claim 'edited as YAML' sh -c 'lxc network show nbr1 | sed "s/^description:.*/description: two/" | lxc network edit nbr1'
shows 'the description is kept' '^description: two' lxc network show nbr1
claim 'renamed' lxc network rename nbr1 nbr2
claim 'the interface, too' sh -c 'ip link show nbr2 && ! ip link show nbr1'
claim 'deleted' lxc network delete nbr2
claim 'the interface, too' sh -c '! ip link show nbr2'
claim 'its directory, too' test ! -e "$LXD_DIR/networks/nbr2"
claim 'and its rules' sh -c '! nft list ruleset | grep nbr2'

# ---- DHCP, DNS, leases ----
must lxc launch busybox n1 -n nbr0
must lxc launch busybox n2 -n nbr0
claim 'two containers get addresses' wait_for 20 sh -c 'test $(lxc list -f csv -c 4 | grep -c 10.94.20.) = 2'
address() { lxc list "^$1\$" -f csv -c 4 | grep -oE '10\.94\.[0-9]+\.[0-9]+'; }
claim 'and IPv6 addresses' wait_for 20 sh -c 'lxc list ^n1\$ -f csv -c 6 | grep -q fd42:94:20'
claim 'they reach each other' lxc exec n1 -- ping -c1 -W2 "$(address n2)"
claim 'and the gateway' lxc exec n1 -- ping -c1 -W2 10.94.20.1
claim 'names resolve' wait_for 5 sh -c "lxc exec n1 -- nslookup n2.lxd 10.94.20.1 | grep -q '$(address n2)'"
shows 'leases are listed' "^n1,.*$(address n1),DYNAMIC" lxc network list-leases nbr0 -f csv
shows 'and the gateway' '10.94.20.1,GATEWAY' lxc network list-leases nbr0 -f csv
shows 'used by' n1 sh -c 'lxc query /1.0/networks/nbr0 | jq -r .used_by[]'
refuse 'one in use is kept' 'in use' lxc network delete nbr0
claim 'a static address' lxc config device set n1 eth0 ipv4.address=10.94.20.77
must lxc restart -f n1
claim 'is what it gets' wait_for 20 sh -c 'lxc list ^n1\$ -f csv -c 4 | grep -q 10.94.20.77'
shows 'a static lease' '10.94.20.77,STATIC' lxc network list-leases nbr0 -f csv
refuse 'outside the subnet is refused' '' lxc config device set n1 eth0 ipv4.address=10.99.0.5
refuse 'that of another is refused' '' lxc config device set n2 eth0 ipv4.address=10.94.20.77
claim 'raw.dnsmasq' lxc network set nbr0 raw.dnsmasq 'address=/made.up/10.94.20.200'
claim 'is obeyed' wait_for 5 sh -c 'lxc exec n1 -- nslookup made.up 10.94.20.1 | grep -q 10.94.20.200'
claim 'a DNS domain' lxc network set nbr0 dns.domain example.test
claim 'is used' wait_for 20 sh -c 'lxc restart -f n2; for i in 1 2 3 4 5 6 7 8; do sleep 0.5; lxc exec n1 -- nslookup n2.example.test 10.94.20.1 | grep -q 10.94.20 && exit 0; done; exit 1'
claim 'DHCP ranges' lxc network set nbr0 ipv4.dhcp.ranges 10.94.20.150-10.94.20.160
claim 'are obeyed' sh -c 'lxc launch busybox n3 -n nbr0; for i in $(seq 40); do lxc list ^n3\$ -f csv -c 4 | grep -qE "10\.94\.20\.1(5[0-9]|60)" && exit 0; sleep 0.3; done; exit 1'
quiet lxc delete -f n3

# ---- NAT, out through a fake uplink ----
ip netns add out 2>/dev/null && ip link add up0 type veth peer name up1 netns out && {
    ip addr add 192.0.2.1/24 dev up0; ip link set up0 up; ip route add default via 192.0.2.2
    ip -n out addr add 192.0.2.2/24 dev up1; ip -n out link set up1 up; ip -n out link set lo up
    claim 'NAT on' lxc network set nbr0 ipv4.nat true
    claim 'traffic leaves translated' lxc exec n1 -- ping -c1 -W2 192.0.2.2
    claim 'a masquerade rule is there' has_rule masquerade
    # ---- forwards ----
    lxc exec n1 -- sh -c 'nc -ll -p 80 -e echo forwarded >/dev/null 2>&1 &' >/dev/null 2>&1
    claim 'a forward' lxc network forward create nbr0 192.0.2.10
    claim 'with a port' lxc network forward port add nbr0 192.0.2.10 tcp 8080 10.94.20.77 80
    shows 'is listed' 192.0.2.10 lxc network forward list nbr0 -f csv
    ip -n out route add 192.0.2.10/32 via 192.0.2.1
    claim 'carries a connection' wait_for 5 sh -c 'ip netns exec out sh -c "echo | timeout 2 busybox nc 192.0.2.10 8080" | grep -q forwarded'
    refuse 'a target outside the network is refused' '' lxc network forward port add nbr0 192.0.2.10 tcp 81 10.1.1.1
    refuse 'the same listen address twice' 'already exists' lxc network forward create nbr0 192.0.2.10
    claim 'is deleted' lxc network forward delete nbr0 192.0.2.10
    claim 'and carries no more' sh -c '! ip netns exec out sh -c "echo | timeout 1 busybox nc 192.0.2.10 8080" | grep -q forwarded'
}

# ---- ACLs ----
claim 'an ACL' lxc network acl create block
claim 'with a rule' lxc network acl rule add block egress action=reject protocol=icmp4 destination=192.0.2.0/24 state=enabled
refuse 'a bad rule is refused' '' lxc network acl rule add block egress action=perhaps
claim 'is put on the network' lxc network set nbr0 security.acls block
lxc network set nbr0 security.acls.default.egress.action allow 2>/dev/null
lxc network set nbr0 security.acls.default.ingress.action allow 2>/dev/null
claim 'and works' sh -c '! lxc exec n1 -- ping -c1 -W1 192.0.2.2'
claim 'not on others' lxc exec n1 -- ping -c1 -W2 10.94.20.1
refuse 'one in use is kept' 'in use' lxc network acl delete block
claim 'taken off again' lxc network unset nbr0 security.acls
only_lxd || claim 'the way is free' lxc exec n1 -- ping -c1 -W2 192.0.2.2
claim 'an ACL renamed' lxc network acl rename block blocked
claim 'and deleted' lxc network acl delete blocked

# ---- NIC filters ----
claim 'MAC filtering' lxc config device set n1 eth0 security.mac_filtering=true
must lxc restart -f n1
claim 'has its rules' sh -c 'nft list ruleset | grep -q "n1.eth0\|n1"'
must wait_for 20 sh -c 'lxc list ^n1\$ -f csv -c 4 | grep -q 10.94.20.77'
ip link add tcp0 type veth peer name tcp1
if tc qdisc add dev tcp0 ingress && tc filter add dev tcp0 parent ffff: protocol all u32 match u32 0 0 police rate 1mbit burst 1m drop; then
    claim 'a limit of bandwidth' lxc config device set n1 eth0 limits.egress=10Mbit limits.ingress=10Mbit
    shows 'is in the kernel' 'rate 10Mbit' sh -c 'tc class show dev $(lxc query /1.0/instances/n1/state | jq -r .network.eth0.host_name)'
else
    skip 'a limit of bandwidth' 'this kernel cannot police'
fi 2>>"$T/log"
ip link delete tcp0
must lxc stop -f n1
claim 'its rules go with it' sh -c '! nft list ruleset | grep -q "n1.eth0"'

# ---- tunnels, parents ----
claim 'a VXLAN tunnel' lxc network create vx0 ipv4.address=none ipv6.address=none tunnel.far.protocol=vxlan tunnel.far.local=192.0.2.1 tunnel.far.remote=192.0.2.2 tunnel.far.id=77
claim 'has its link' ip link show vx0-far
shows 'with its id' 'vxlan id 77' ip -d link show vx0-far
claim 'and goes' sh -c 'lxc network delete vx0 && ! ip link show vx0-far'
if ip link add probe0 type gretap remote 192.0.2.2 local 192.0.2.1 2>/dev/null; then
    ip link delete probe0
    claim 'a GRE tunnel' lxc network create gr0 ipv4.address=none ipv6.address=none tunnel.far.protocol=gre tunnel.far.local=192.0.2.1 tunnel.far.remote=192.0.2.2
    claim 'has its link' ip link show gr0-far
    claim 'and goes' sh -c 'lxc network delete gr0 && ! ip link show gr0-far'
else
    skip 'a GRE tunnel' 'this kernel has no gretap'
fi
ip link add par0 type veth peer name par1 && ip link set par0 up && ip link set par1 up
claim 'a macvlan parent' lxc network create mv0 --type=macvlan parent=par0
must lxc init busybox n4 -n mv0
claim 'gives a container its card' lxc start n4
claim 'that is macvlan' sh -c 'lxc exec n4 -- test -d /sys/class/net/eth0'
must lxc delete -f n4
claim 'is deleted' lxc network delete mv0
claim 'a physical parent' lxc network create ph0 --type=physical parent=par0
if only_hawser; then
    claim 'gives a container its card' lxc launch busybox n5 -n ph0
    claim 'moves into the container' test ! -e /sys/class/net/par0
    quiet lxc delete -f n5
fi
claim 'and comes back' wait_for 5 test -e /sys/class/net/par0
claim 'is deleted' lxc network delete ph0
ip link add ubr0 type bridge
shows 'unmanaged bridges are listed' '^ubr0,bridge,NO' lxc network list -f csv
shows 'and shown' '^managed: false' lxc network show ubr0
refuse 'but not deleted' '' lxc network delete ubr0
claim 'attach and detach' sh -c 'lxc init busybox n6; lxc network attach nbr0 n6 extra eth5 && lxc network detach nbr0 n6 extra'
quiet lxc delete -f n6

# ---- a routed card ----
claim 'a routed card' sh -c 'lxc init busybox n7 && lxc config device override n7 eth0 2>/dev/null; lxc config device add n7 rt nic nictype=routed ipv4.address=198.51.100.7 name=rt0; lxc start n7'
claim 'is reached from the host' wait_for 5 ping -c1 -W1 198.51.100.7
quiet lxc delete -f n7

# ---- the agent restarts ----
claim 'the agent restarts' daemon_restart
claim 'dnsmasq still runs' sh -c "kill -0 \$(awk '/^pid:/ {print \$2}' $LXD_DIR/networks/nbr0/dnsmasq.pid)"
same 'as one process' 1 sh -c "ps ax | grep -v grep | grep -c 'dnsmasq.*interface=nbr0'"
must lxc start n1
claim 'containers get addresses' wait_for 20 sh -c 'lxc list ^n1\$ -f csv -c 4 | grep -q 10.94.20'
must lxc delete -f n1 n2
claim 'the network is deleted' lxc network delete nbr0
hides 'nothing of it stays in nft' nbr0 nft list ruleset
hides 'no process' 'interface=nbr0' ps ax
hides 'no veth' veth sh -c 'ls /sys/class/net'
e2e_end
