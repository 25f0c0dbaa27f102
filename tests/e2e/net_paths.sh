#!/bin/bash
# net_paths: what packets really do: isolation, filters, limits, ACLs, forwards, every kind of NIC plugged and
# unplugged, a tunnel between two hosts; and that networks survive their dnsmasq, their agent and a crash.
GOLDEN=${GOLDEN:-$(readlink -f "$(dirname "$0")/../golden")}
export GOLDEN
. "$(dirname "$0")/lib.sh"
e2e_begin
mkdir -p /run/netns && mount -t tmpfs tmpfs /run/netns # names of others do not meet ours
daemon_start
e2e_defaults
has_rule() { nft list ruleset | grep -q -- "$1"; }
ping_ok() { lxc exec "$1" -- ping -c1 -W2 "$2"; }
ping_no() { ! lxc exec "$1" -- ping -c1 -W1 "$2"; }
address() { lxc list "^$1\$" -f csv -c 4 | grep -oE '10\.94\.[0-9]+\.[0-9]+' | head -1; }
has_address() { wait_for 20 sh -c "lxc list ^$1\\\$ -f csv -c 4 | grep -q $2"; }
host_name() { lxc config get "$1" "volatile.$2.host_name"; }
again() { # a fresh NIC needs a fresh DHCP client
    local name
    for name in "$@"; do
        must lxc restart -f "$name"
    done
    for name in "$@"; do
        must has_address "$name" 10.94.3
    done
}
dnsmasq_pid() { awk '/^pid:/ {print $2}' "$LXD_DIR/networks/$1/dnsmasq.pid"; }

must lxc network create pa0 ipv4.address=10.94.30.1/24 ipv6.address=none ipv4.nat=true
must lxc network create pb0 ipv4.address=10.94.31.1/24 ipv6.address=fd42:94:31::1/64 ipv6.dhcp.stateful=true
for name in a1 a2; do must lxc launch busybox $name -n pa0; done
must lxc launch busybox b1 -n pb0
for name in a1 a2; do must has_address $name 10.94.30; done
must has_address b1 10.94.31

# ---- isolation ----
claim 'neighbours of a bridge talk' ping_ok a1 "$(address a2)"
claim 'one that is isolated' lxc config device set a1 eth0 security.port_isolation=true
claim 'and another' lxc config device set a2 eth0 security.port_isolation=true
again a1 a2
claim 'do not talk to each other' ping_no a1 "$(address a2)"
claim 'but to the host' ping_ok a1 10.94.30.1
quiet lxc config device unset a1 eth0 security.port_isolation
quiet lxc config device unset a2 eth0 security.port_isolation
again a1 a2
claim 'a network without routing' lxc network set pb0 ipv4.routing=false
claim 'is not reached from another' ping_no a1 "$(address b1)"
quiet lxc network set pb0 ipv4.routing=true
claim 'one with routing is' ping_ok a1 "$(address b1)"

# ---- filters: MAC, IPv4, IPv6 ----
claim 'a MAC filter, live' lxc config device set a1 eth0 security.mac_filtering=true
shows 'has its rule' "iifname \"$(host_name a1 eth0)\" ether saddr != $(lxc config get a1 volatile.eth0.hwaddr) drop" \
    nft -nn list chain bridge lxd in.a1.eth0
claim 'lets the right MAC pass' ping_ok a1 10.94.30.1
must lxc exec a1 -- sh -c 'ip link set eth0 down; ip link set eth0 address 00:11:22:33:44:56; ip link set eth0 up'
claim 'and no other, to the host' ping_no a1 10.94.30.1
claim 'nor to a neighbour' ping_no a1 "$(address a2)"
must lxc exec a1 -- sh -c "ip link set eth0 down; ip link set eth0 address $(lxc config get a1 volatile.eth0.hwaddr); ip link set eth0 up"
claim 'an IPv4 filter' lxc config device set a1 eth0 security.mac_filtering=false security.ipv4_filtering=true ipv4.address=10.94.30.60
must lxc restart -f a1
claim 'gives the static address' has_address a1 10.94.30.60
claim 'which passes' ping_ok a1 10.94.30.1
must lxc exec a1 -- ip addr add 10.94.30.61/24 dev eth0
claim 'another does not' sh -c '! lxc exec a1 -- ping -c1 -W1 -I 10.94.30.61 10.94.30.1'
claim 'a filter without a static address' lxc config device set a2 eth0 security.ipv4_filtering=true
shows 'reserves the one that was leased' "$(address a2)" cat "$LXD_DIR/networks/pa0/dnsmasq.hosts/a2.eth0"
must lxc launch busybox a3 -n pa0 -c volatile.eth0.hwaddr=00:16:3e:aa:00:03
claim 'an IPv6 filter' lxc config device set b1 eth0 security.ipv6_filtering=true ipv6.address=fd42:94:31::60
shows 'has its rules' 'ip6 saddr fd42:94:31::60' nft -nn list chain bridge lxd in.b1.eth0
must lxc exec b1 -- ip -6 addr add fd42:94:31::60/64 dev eth0
claim 'lets the right address pass' wait_for 5 lxc exec b1 -- ping -6 -c1 -W1 -I fd42:94:31::60 fd42:94:31::1
must lxc exec b1 -- ip -6 addr add fd42:94:31::61/64 dev eth0
claim 'and no other' sh -c 'sleep 2; ! lxc exec b1 -- ping -6 -c1 -W1 -I fd42:94:31::61 fd42:94:31::1'
claim 'filters off' lxc config device set b1 eth0 security.ipv6_filtering=false
claim 'their rules are gone' sh -c '! nft list chain bridge lxd in.b1.eth0'
refuse 'no filter with VLANs' 'cannot be used with' lxc config device set b1 eth0 security.ipv4_filtering=true vlan=5
refuse 'no unknown key' 'Invalid device option' lxc config device set b1 eth0 colour=red
refuse 'no route that is none' 'Invalid value' lxc config device set b1 eth0 ipv4.routes=10.1.1.1/33
refuse 'no MAC twice' 'already defined' lxc config device set a2 eth0 hwaddr=00:16:3e:aa:00:03

# ---- limits, routes: live ----
claim 'limits, live' lxc config device set b1 eth0 limits.ingress=3Mbit limits.egress=4Mbit
shows 'what comes in is shaped' 'rate 3Mbit' tc class show dev "$(host_name b1 eth0)"
claim 'what goes out is policed, by tc or nftables' sh -c \
    "tc filter show dev $(host_name b1 eth0) parent ffff: | grep -q 4Mbit || nft list chain netdev lxd limit.b1.eth0 | grep -q '500000 bytes/second\|488 kbytes/second'"
claim 'and traffic goes on' ping_ok b1 10.94.31.1
claim 'limits.max takes both' lxc config device set b1 eth0 limits.max=2Mbit
shows 'at once' 'rate 2Mbit' tc class show dev "$(host_name b1 eth0)"
claim 'lifted again' lxc config device set b1 eth0 limits.max= limits.ingress= limits.egress=
hides 'at once' htb tc class show dev "$(host_name b1 eth0)"
claim 'a route to the instance' lxc config device set b1 eth0 ipv4.routes=198.51.100.0/25
shows 'is there' 198.51.100.0/25 ip route show dev pb0
claim 'a change of the network' lxc network set pb0 ipv4.dhcp.expiry=2h
shows 'leaves it' 198.51.100.0/25 ip route show dev pb0
claim 'another route' lxc config device set b1 eth0 ipv4.routes=198.51.100.128/25
hides 'takes its place' 198.51.100.0/25 ip route show dev pb0
must lxc stop -f b1
hides 'and goes at the stop' 198.51.100 ip route show dev pb0
hides 'no volatile key stays' 'volatile.eth0.host_name' lxc config show b1
must lxc start b1 && must has_address b1 10.94.31

# ---- plugging ----
refuse 'no MTU beside a network' 'Cannot use "mtu"' lxc config device add a3 eth1 nic network=pb0 mtu=1400
claim 'a NIC is plugged' lxc config device add a3 eth1 nic nictype=bridged parent=pb0 name=eth1 mtu=1400 host_name=plug0
claim 'it is up inside' sh -c 'lxc exec a3 -- ip link show eth1 | grep -q "UP.*mtu 1400"'
claim 'with its host side' ip link show plug0
claim 'a change that needs it out and in' lxc config device set a3 eth1 mtu=1402
claim 'is done' sh -c 'lxc exec a3 -- cat /sys/class/net/eth1/mtu | grep -qx 1402'
claim 'it is unplugged' lxc config device remove a3 eth1
claim 'inside, too' sh -c '! lxc exec a3 -- ip link show eth1'
claim 'and on the host' sh -c '! ip link show plug0'
claim 'p2p' lxc config device add a3 p0 nic nictype=p2p name=p0 host_name=p2ph0 ipv4.routes=203.0.113.7/32
must lxc exec a3 -- sh -c 'ip addr add 203.0.113.7/32 dev p0; ip route replace 203.0.113.1 dev p0'
must ip addr add 203.0.113.1/32 dev p2ph0
claim 'is reached by its route' ping -c1 -W2 203.0.113.7
claim 'and goes' sh -c 'lxc config device remove a3 p0 && ! ip link show p2ph0'
ip link add par0 type veth peer name par1 && ip link set par0 up && ip link set par1 up
mac0=$(cat /sys/class/net/par1/address)
claim 'macvlan' lxc config device add a3 m0 nic nictype=macvlan parent=par0 name=m0
must lxc exec a3 -- ip addr add 203.0.113.9/24 dev m0
must ip addr add 203.0.113.2/24 dev par1
claim 'is reached through its parent' ping -c1 -W2 -I par1 203.0.113.9
claim 'and goes' lxc config device remove a3 m0
claim 'inside, too' sh -c '! lxc exec a3 -- ip link show m0'
hides 'and on the host' macvlan ip -d link show
must ip addr flush dev par1
claim 'a physical interface' lxc config device add a3 ph0 nic nictype=physical parent=par1 name=ph0 hwaddr=0a:92:a7:0d:b7:d9 mtu=1402
claim 'moves in' sh -c '! ip link show par1 && lxc exec a3 -- cat /sys/class/net/ph0/address | grep -q 0a:92:a7:0d:b7:d9'
claim 'comes back' lxc config device remove a3 ph0
same 'with its MAC' "$mac0" cat /sys/class/net/par1/address
same 'and its MTU' 1500 cat /sys/class/net/par1/mtu
must lxc config device add a3 ph0 nic nictype=physical parent=par1 name=ph0 hwaddr=0a:92:a7:0d:b7:d9
must lxc stop -f a3
claim 'a forced stop gives it back, too' wait_for 5 test -e /sys/class/net/par1
same 'with its MAC' "$mac0" cat /sys/class/net/par1/address
must lxc config device remove a3 ph0
hides 'no volatile key stays' 'volatile.ph0' lxc config show a3

# ---- routed, with a parent ----
ip netns add far && ip link set par1 netns far && ip -n far link set par1 up && ip -n far addr add 192.0.2.2/24 dev par1
must ip addr add 192.0.2.1/24 dev par0
echo 1 >/proc/sys/net/ipv4/conf/par0/forwarding
must lxc config device add a3 rt nic nictype=routed parent=par0 name=rt0 ipv4.address=192.0.2.2
refuse 'an address that somebody has is refused' 'in use on parent network' lxc start a3
must lxc config device set a3 rt ipv4.address=192.0.2.50,192.0.2.51
claim 'a routed NIC with two addresses' lxc start a3
shows 'is announced on the parent' '192.0.2.51' ip neigh show proxy dev par0
claim 'is reached from the parent'"'"'s network' wait_for 5 ip netns exec far ping -c1 -W1 192.0.2.50
claim 'by both addresses' ip netns exec far ping -c1 -W1 192.0.2.51
shows 'has its gateway' 169.254.0.1 lxc exec a3 -- ip route
must lxc exec a3 -- ip addr add 192.0.2.99/32 dev rt0
claim 'cannot send from another' sh -c '! lxc exec a3 -- ping -c1 -W1 -I 192.0.2.99 192.0.2.2'
must lxc stop -f a3
hides 'and is announced no more' '192.0.2.5' ip neigh show proxy dev par0
hides 'without rules left' 'a3.rt' nft list ruleset
must lxc config device remove a3 rt
must lxc delete -f a3

# ---- NAT, ACLs, forwards ----
must ip route add default via 192.0.2.2
serve() { # instance port: answers with its name
    lxc exec "$1" -- sh -c "nc -ll -p $2 -e echo $1:$2 >/dev/null 2>&1 &" >/dev/null 2>&1
}
asks() { ip netns exec far sh -c "echo | timeout 2 busybox nc $1 $2"; }
claim 'NAT: the far side sees the host' sh -c \
    'ip netns exec far timeout 5 busybox nc -l -p 7777 >/dev/null & sleep 0.3; lxc exec a2 -- ping -c1 -W2 192.0.2.2 && ip -n far neigh | grep -q 192.0.2.1'
claim 'another source address' sh -c 'ip addr add 192.0.2.77/24 dev par0; lxc network set pa0 ipv4.nat.address=192.0.2.77'
shows 'is in the rule' 'snat ip to 192.0.2.77' nft list chain inet lxd pstrt.pa0
claim 'and works' ping_ok a2 192.0.2.2
must lxc network acl create web
must lxc network acl rule add web ingress action=allow protocol=tcp destination_port=80,8080-8089
must lxc network acl rule add web egress action=allow protocol=icmp4
must lxc network set pa0 security.acls=web
serve a2 80; serve a2 99
must ip netns exec far ip route add 10.94.30.0/24 via 192.0.2.1
claim 'an ACL lets its port in' wait_for 5 sh -c "ip netns exec far sh -c 'echo | timeout 2 busybox nc $(address a2) 80' | grep -q a2:80"
claim 'and no other' sh -c "! ip netns exec far sh -c 'echo | timeout 1 busybox nc $(address a2) 99' | grep -q a2"
claim 'lets ICMP out' ping_ok a2 192.0.2.2
claim 'and DHCP and DNS always' sh -c 'lxc exec a2 -- nslookup a1.lxd 10.94.30.1 | grep -q 10.94.30.60'
claim 'a drop goes before an allow' lxc network acl rule add web egress action=drop protocol=icmp4 destination=192.0.2.2/32
claim 'at once' ping_no a2 192.0.2.2
claim 'a logged rule' lxc network acl rule add web ingress action=reject state=logged source=203.0.113.0/24
shows 'has its prefix' 'log prefix "pa0-ingress-1 "' nft list chain inet lxd acl.pa0
refuse 'one like another is refused' 'Duplicate' lxc network acl rule add web egress action=allow protocol=icmp4
claim 'overlapping subjects are no fault' lxc network acl rule add web ingress action=allow source=198.51.100.0/24,198.51.100.7,198.51.100.8-198.51.100.12
refuse 'names are for other networks' 'nsupported' lxc network acl rule add web egress action=allow destination=@external
shows 'the rules in force stay' 'tcp dport' nft list chain inet lxd acl.pa0
refuse 'an ACL that is not there' 'does not exist' lxc network set pa0 security.acls=none-such
must lxc network unset pa0 security.acls
must lxc network acl delete web
must lxc network forward create pa0 192.0.2.90 target_address="$(address a2)"
must ip netns exec far ip route add 192.0.2.90 via 192.0.2.1
claim 'a forward to a default target' wait_for 5 sh -c 'ip netns exec far sh -c "echo | timeout 2 busybox nc 192.0.2.90 80" | grep -q a2:80'
serve a1 81
claim 'a port to another' lxc network forward port add pa0 192.0.2.90 tcp 8000 10.94.30.60 81
claim 'goes there' wait_for 5 sh -c 'ip netns exec far sh -c "echo | timeout 2 busybox nc 192.0.2.90 8000" | grep -q a1:81'
claim 'a target reaches itself by the listen address' wait_for 5 sh -c 'lxc exec a2 -- sh -c "echo | timeout 2 nc 192.0.2.90 80" | grep -q a2:80'
refuse 'no port twice' 'Duplicate listen port' lxc network forward port add pa0 192.0.2.90 tcp 8000 10.94.30.60 82
refuse 'no listen address that is none' 'nvalid' lxc network forward create pa0 0.0.0.0
must lxc network forward delete pa0 192.0.2.90
hides 'its chains go' fwdprert nft list ruleset

# ---- names, leases ----
must lxc project create other -c features.networks=false -c features.images=false -c features.profiles=false
must lxc launch busybox o1 -n pa0 --project other
claim 'an instance of another project gets an address' wait_for 20 sh -c 'lxc list --project other -f csv -c 4 | grep -q 10.94.30'
hides 'its lease is not shown to others' '^o1' lxc network list-leases pa0 -f csv
shows 'but to its project' '^o1,.*DYNAMIC' lxc network list-leases pa0 -f csv --project other
claim 'its file has the project' test -e "$LXD_DIR/networks/pa0/dnsmasq.hosts/other_o1.eth0"
must lxc delete -f o1 --project other
claim 'and goes with it' test ! -e "$LXD_DIR/networks/pa0/dnsmasq.hosts/other_o1.eth0"
must lxc project delete other
gone=$(lxc config get a1 volatile.eth0.hwaddr)
must lxc delete -f a1
claim 'the lease of a deleted instance is given back' wait_for 5 sh -c "! grep -q ' $gone ' $LXD_DIR/networks/pa0/dnsmasq.leases"
must lxc init busybox a4 -n pa0
must lxc config device set a4 eth0 ipv4.address=10.94.30.44
shows 'a static address is reserved before the first start' 10.94.30.44 cat "$LXD_DIR/networks/pa0/dnsmasq.hosts/a4.eth0"
must lxc rename a4 a5
shows 'follows a rename' 10.94.30.44 cat "$LXD_DIR/networks/pa0/dnsmasq.hosts/a5.eth0"
claim 'which leaves none behind' test ! -e "$LXD_DIR/networks/pa0/dnsmasq.hosts/a4.eth0"
must lxc delete a5

# ---- dnsmasq dies; the agent dies ----
old=$(dnsmasq_pid pa0)
kill -9 "$old"
claim 'a dnsmasq that dies is started again' wait_for 10 sh -c "p=\$(awk '/^pid:/ {print \$2}' $LXD_DIR/networks/pa0/dnsmasq.pid); test \$p != $old && kill -0 \$p"
old=$(dnsmasq_pid pa0)
before=$(nft list ruleset | sort | md5sum)
daemon_kill
daemon_start
same 'a killed agent adopts its dnsmasq' "$old" dnsmasq_pid pa0
same 'and the rules are as before' "$before" sh -c 'nft list ruleset | sort | md5sum'
claim 'traffic goes on' ping_ok a2 10.94.30.1
claim 'the adopted one is watched' sh -c "kill -9 $old"
claim 'and replaced' wait_for 10 sh -c "p=\$(awk '/^pid:/ {print \$2}' $LXD_DIR/networks/pa0/dnsmasq.pid); test \$p != $old && kill -0 \$p"
shows 'dnsmasq is not root' 'dnsmasq|nobody' sh -c "ps -o user= -p \$(awk '/^pid:/ {print \$2}' $LXD_DIR/networks/pa0/dnsmasq.pid)"
refuse 'a bad raw.dnsmasq is refused' 'exited prematurely' lxc network set pa0 raw.dnsmasq no-such-option
claim 'and undone' wait_for 5 sh -c "kill -0 \$(awk '/^pid:/ {print \$2}' $LXD_DIR/networks/pa0/dnsmasq.pid)"
hides 'in the config, too' no-such-option lxc network show pa0
must lxc delete -f a2 b1
must lxc network delete pa0
must lxc network delete pb0

# ---- a member from outside; a parent that is missing ----
ip link add ext0 type veth peer name ext1 netns far && ip -n far link set ext1 up && ip -n far addr add 10.94.33.77/24 dev ext1
must ip link add busy0 type veth peer name busy1 && ip addr add 10.99.0.1/24 dev busy0
claim 'an interface of the host joins a bridge' lxc network create ex0 ipv4.address=10.94.33.1/24 ipv6.address=none bridge.external_interfaces=ext0 bridge.hwaddr=00:16:3e:01:02:03
claim 'and is reached through it' wait_for 5 ping -c1 -W1 -I ex0 10.94.33.77
same 'the bridge has its MAC' 00:16:3e:01:02:03 cat /sys/class/net/ex0/address
refuse 'one with an address does not' 'Only unconfigured' lxc network set ex0 bridge.external_interfaces=ext0,busy0
shows 'the network is as before' 'state UP' ip link show ex0
claim 'it leaves' lxc network unset ex0 bridge.external_interfaces
hides 'it is a port no more' 'master ex0' ip link show ext0
claim 'an address is unset' lxc network unset ex0 ipv4.address
hides 'and none is chosen in its place' 'ipv4.address' lxc network show ex0
claim 'unless asked for' lxc network set ex0 ipv4.address=auto
shows 'then one is' 'ipv4.address: 10\.' lxc network show ex0
must lxc network delete ex0
refuse 'a name that the host has is refused' 'already exists' lxc network create ext0
must lxc network create phys1 --type=physical parent=busy1
refuse 'a parent has one physical network' 'in use by another network' lxc network create phys2 --type=physical parent=busy1
refuse 'a parent that is not there' 'not found' lxc network create phys3 --type=physical parent=nowhere0
hides 'leaves nothing' phys3 lxc network list -f csv
must ip link delete busy0
daemon_restart
shows 'a network whose parent is gone is unavailable' 'phys1.*UNAVAILABLE' lxc network list -f csv
shows 'there is a warning' 'Network unavailable' sh -c 'lxc warning list -f csv'
must lxc init busybox w1 -n phys1
refuse 'NICs on it wait' 'unavailable' lxc start w1
must lxc delete w1
must lxc network delete phys1

# ---- every golden ruleset is one that nftables takes ----
for file in "$GOLDEN"/nft/*.nft; do
    claim "$(basename "$file") loads" sh -c "ip link add veth1a2b3c4d type veth peer name gv1 2>/dev/null; nft -c -f $file"
done
ip link delete veth1a2b3c4d

# ---- a tunnel between two hosts: two agents in two namespaces ----
must lxc network create vx0 ipv4.address=10.94.40.1/24 ipv6.address=none tunnel.t.protocol=vxlan tunnel.t.local=192.0.2.1 tunnel.t.remote=192.0.2.2 tunnel.t.id=7 tunnel.t.port=4789
must ip netns exec far sh -c 'ip link add vxf type vxlan id 7 local 192.0.2.2 remote 192.0.2.1 dstport 4789 && ip addr add 10.94.40.200/24 dev vxf && ip link set vxf mtu 1400 up'
must lxc launch busybox v1 -n vx0
must has_address v1 10.94.40
claim 'a VXLAN tunnel carries to the other host' ping_ok v1 10.94.40.200
same 'its bridge has room for the header' 1400 cat /sys/class/net/vx0/mtu
must lxc delete -f v1
must lxc network delete vx0
ip netns delete far

# ---- crashes ----
# Each crash point of create, rename and delete; the next start leaves nothing half done.
leftovers() {
    ip -br link | grep -q '^cr[0-9]' && return 0
    nft list ruleset | grep -q '\.cr[0-9]' && return 0
    ls "$LXD_DIR/networks" | grep -q '^cr' && return 0
    pgrep -f "interface=cr[0-9]" >/dev/null
}
for step in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15; do
    daemon_stop >/dev/null 2>&1
    DAEMON_ENV="HAWSER_CRASH=network:$step" DAEMON_MAY_DIE=1 daemon_start
    lxc network create cr$step ipv4.address=10.95.$step.1/24 ipv6.address=none >/dev/null 2>&1 &&
        lxc network rename cr$step cr${step}n >/dev/null 2>&1 &&
        lxc network delete cr${step}n >/dev/null 2>&1
    daemon_kill
    daemon_start
    claim "killed at step $step: what is left is whole" sh -c '
        for name in $(lxc network list -f csv | grep "^cr.*,YES" | cut -d, -f1); do
            ip link show $name >/dev/null || exit 1
            kill -0 $(awk "/^pid:/ {print \$2}" $LXD_DIR/networks/$name/dnsmasq.pid) || exit 1
            nft list chain inet lxd fwd.$name >/dev/null || exit 1
            lxc network delete $name || exit 1
        done'
    claim "killed at step $step: nothing else is left" sh -c "! { $(declare -f leftovers); leftovers; }"
done
e2e_end
