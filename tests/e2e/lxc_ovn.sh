#!/bin/bash
# lxc_ovn: networks of type ovn on a real OVN that the agent runs itself: uplinks, DHCP, DNS, NAT, static and dynamic
# addresses, routes, l3only, nested NICs, hot plug, leases, state; what a killed agent leaves is finished; what is
# deleted leaves nothing. As the unmodified lxc client sees it.
. "$(dirname "$0")/lib.sh"
only_hawser || e2e_skip_all 'needs an OVN that the daemon runs itself'
e2e_begin
need ovs-vswitchd ovn-northd ovn-nbctl ovs-vsctl python3 nsenter
mkdir -p /run/netns && mount -t tmpfs tmpfs /run/netns # names of others do not meet ours
daemon_start
must lxc storage create default "$E2E_POOL_DRIVER"
must lxc profile device add default root disk path=/ pool=default
e2e_image busybox
T=$E2E_DIR
O=$LXD_DIR/ovn
nb() { timeout 20 ovn-nbctl --db="unix:$O/ovnnb.sock" "$@"; }
vs() { timeout 20 ovs-vsctl --db="unix:$O/db.sock" "$@"; }
rows() { nb --bare --columns=_uuid list "$1" | grep -c .; }
four() { lxc list "^$1\$" -f csv -c 4 --project "${2:-default}" | grep -oE '[0-9]+\.[0-9]+\.[0-9]+\.[0-9]+' | head -1; }
six() { lxc list "^$1\$" -f csv -c 6 --project "${2:-default}" | grep -oE 'fd42:[0-9a-f:]+' | head -1; }
has4() { [ -n "$(four "$@")" ]; }
pings() { lxc exec "$1" -- ping -c1 -W2 "$2"; }
# A megabyte each way between two containers, or to an address.
payload() { # from to-container to-address port
    lxc exec "$2" -- sh -c "timeout 20 nc -l -p $4 >/tmp/got </tmp/big" </dev/null >/dev/null 2>&1 &
    local server=$!
    sleep 1
    lxc exec "$1" -- sh -c "timeout 15 nc $3 $4 </tmp/big >/tmp/back; true"
    wait $server
    local sums
    sums=$( { lxc exec "$1" -- md5sum /tmp/big /tmp/back; lxc exec "$2" -- md5sum /tmp/got; } | cut -d' ' -f1 | sort -u)
    [ "$(wc -l <<<"$sums")" = 1 ]
}

# ---- uplink and network ----
must lxc network create upbr0 ipv4.address=10.94.60.1/24 ipv4.nat=true ipv4.dhcp.ranges=10.94.60.100-10.94.60.150 \
    ipv4.ovn.ranges=10.94.60.200-10.94.60.220 ipv6.address=fd42:94:60::1/64 ipv6.nat=true \
    ipv4.routes=198.51.100.0/24,203.0.113.0/24 ipv6.routes=fd42:99::/48
refuse 'ranges that DHCP has, too, are refused' 'non-overlapping' \
    lxc network set upbr0 ipv4.ovn.ranges 10.94.60.140-10.94.60.160
refuse 'ranges outside the subnet are refused' 'not inside' \
    lxc network set upbr0 ipv4.ovn.ranges 10.94.61.140-10.94.61.160
refuse 'an uplink that is not there is named' 'nothere' lxc network create o9 --type=ovn network=nothere
claim 'a network on the only uplink' lxc network create o1 --type=ovn ipv4.address=10.95.1.1/24 ipv4.nat=true \
    ipv6.address=fd42:95:1::1/64 ipv6.nat=true
shows 'is listed' '^o1,ovn,YES,10.95.1.1/24,fd42:95:1::1/64,.*CREATED' lxc network list -f csv
same 'found its uplink' upbr0 lxc network get o1 network
shows 'has a router address on it' '^10\.94\.60\.200$' lxc network get o1 volatile.network.ipv4.address
shows 'and an IPv6 one' '^fd42:94:60:' lxc network get o1 volatile.network.ipv6.address
shows 'and an MTU' '^1500$' lxc network get o1 bridge.mtu
shows 'the uplink is used by it' '/1.0/networks/o1' sh -c 'lxc query /1.0/networks/upbr0 | jq -r .used_by[]'
refuse 'and kept' 'in use' lxc network delete upbr0
id=$(nb --bare --columns=name list Logical_Router | sed 's/lxd-net\([0-9]*\)-lr/\1/')
for pair in Logical_Router:1 Logical_Router_Port:2 Logical_Router_Policy:3 Logical_Router_Static_Route:2 NAT:2 \
    Logical_Switch:2 Logical_Switch_Port:3 DHCP_Options:2 HA_Chassis_Group:1 HA_Chassis:1 Port_Group:1 Address_Set:2 \
    ACL:15; do
    same "rows of ${pair%:*} are as many as LXD's" "${pair#*:}" rows "${pair%:*}"
done
shows 'the router has its names' "lxd-net$id-lr-lrp-int" nb show "lxd-net$id-lr"
shows 'the mapping names the uplink' 'upbr0:lxdovn' vs get Open_vSwitch . external_ids:ovn-bridge-mappings
claim 'the uplink is wired' sh -c 'ip link show type veth | grep -q lxdovn'
shows 'state: the router and its MAC' '10.95.1.1' lxc query /1.0/networks/o1/state
shows 'lxc network info works' '10.95.1.1' lxc network info o1
claim 'its chassis is told' wait_for 20 sh -c 'lxc query /1.0/networks/o1/state | jq -e ".ovn.chassis != \"\""'
shows 'leases: the router on the uplink' 'default-o1.uplink,.*10.94.60.200,UPLINK' lxc network list-leases upbr0 -f csv

# ---- bad networks ----
refuse 'a subnet that overlaps the uplink names both' 'network "o2".*10.94.60.0/24.*upbr0' \
    lxc network create o2 --type=ovn ipv4.address=10.94.60.129/25 ipv6.address=none
refuse 'a subnet without NAT outside the uplink routes' 'upbr0.*ipv4.routes' \
    lxc network create o2 --type=ovn ipv4.address=10.95.2.1/24 ipv4.nat=false ipv6.address=none
refuse 'an unknown key' 'Invalid option for network "o2" option "colour"' lxc network create o2 --type=ovn colour=red
refuse 'no address at all' 'must be specified' lxc network create o2 --type=ovn ipv4.address=none ipv6.address=none
refuse 'an IPv6 subnet that is too large' '/64' lxc network create o2 --type=ovn ipv6.address=fd42:95:2::1/56
refuse 'ipv6.l3only without stateful DHCP' 'stateful' lxc network create o2 --type=ovn ipv6.l3only=true
claim 'nothing is half made' sh -c '! lxc network show o2'
same 'in OVN neither' 1 rows Logical_Router

# ---- dynamic addresses, DHCP, DNS, NAT ----
must lxc launch busybox c1 -n o1
must lxc launch busybox c2 -n o1
claim 'containers get addresses by DHCP' wait_for 30 sh -c 'test $(lxc list -f csv -c 4 | grep -c 10.95.1.) = 2'
claim 'and IPv6 addresses by router advertisements' wait_for 60 sh -c 'lxc list ^c1\$ -f csv -c 6 | grep -q fd42:95:1'
claim 'that is what OVN allotted' sh -c "nb() { ovn-nbctl --db=unix:$O/ovnnb.sock \"\$@\"; }; nb list Logical_Switch_Port | grep -q 'dynamic_addresses.*$(four c1)'"
claim 'they reach each other' pings c1 "$(four c2)"
claim 'over IPv6, too' wait_for 20 pings c1 "$(six c2)"
claim 'the router' pings c1 10.95.1.1
claim 'the uplink' wait_for 20 pings c1 10.94.60.1
claim 'and its IPv6 address' wait_for 20 pings c1 fd42:94:60::1
must lxc exec c1 -- sh -c 'head -c 1000000 /dev/urandom >/tmp/big'
must lxc file pull c1/tmp/big "$T/big"
must lxc file push "$T/big" c2/tmp/big
claim 'a megabyte of TCP each way arrives whole' payload c1 c2 "$(four c2)" 5001
claim 'names resolve' wait_for 10 sh -c "lxc exec c1 -- nslookup c2.lxd | grep -q '$(four c2)'"
claim 'IPv6 addresses are in DNS' wait_for 10 sh -c "lxc exec c1 -- nslookup c2.lxd | grep -q '$(six c2)'"
shows 'the default DNS server is the uplink gateway' 10.94.60.1 lxc exec c1 -- cat /etc/resolv.conf
cat >"$T/who.py" <<'END'
import socket, sys
server = socket.create_server((sys.argv[1], int(sys.argv[2])))
server.settimeout(30)
peer, name = server.accept()
got = b""
while len(got) < int(sys.argv[3]):
    more = peer.recv(65536)
    if not more:
        break
    got += more
peer.sendall(b"%d\n" % len(got))
peer.close()
print(name[0], len(got), flush=True)
END
ip addr add 192.0.2.1/32 dev lo
python3 "$T/who.py" 192.0.2.1 7000 1000000 >"$T/who" 2>&1 &
must wait_for 20 sh -c "ss -Hltn src 192.0.2.1:7000 | grep -q ."
claim 'TCP to the world beyond' lxc exec c1 -- sh -c 'timeout 20 nc 192.0.2.1 7000 </tmp/big | grep 1000000'
wait $!
same 'comes from the router, whole' '10.94.60.200 1000000' cat "$T/who"
shows 'leases: dynamic' "^c1,.*$(four c1),DYNAMIC" lxc network list-leases o1 -f csv
shows 'leases: IPv6' 'c1,.*fd42:95:1:.*,DYNAMIC' lxc network list-leases o1 -f csv
shows 'leases: the gateway' 'o1.gw,,10.95.1.1,GATEWAY' lxc network list-leases o1 -f csv
shows 'used by its instances' '/1.0/instances/c1' sh -c 'lxc query /1.0/networks/o1 | jq -r .used_by[]'
refuse 'a network in use is kept' 'in use' lxc network delete o1
shows 'the port has its name' "lxd-net$id-instance-.*-eth0" nb --bare --columns=name list Logical_Switch_Port
same 'and no port_security' '' sh -c "ovn-nbctl --db=unix:$O/ovnnb.sock --bare --columns=port_security list Logical_Switch_Port | grep ."

# ---- static addresses ----
refuse 'an address outside the subnet names both' '10.99.0.5.*o1' lxc config device set c1 eth0 ipv4.address=10.99.0.5
refuse 'the address of the router is refused' 'router' lxc config device set c1 eth0 ipv4.address=10.95.1.1
refuse 'IPv6 needs stateful DHCP' 'stateful' lxc config device set c1 eth0 ipv4.address=10.95.1.50 ipv6.address=fd42:95:1::50
must lxc stop -f c1
claim 'a static address' lxc config device set c1 eth0 ipv4.address=10.95.1.50
shows 'is reserved while the container is stopped' '10.95.1.50' nb get Logical_Switch "lxd-net$id-ls-int" other_config:exclude_ips
refuse 'and refused to others' 'already defined' lxc init busybox c9 -n o1 -d eth0,ipv4.address=10.95.1.50
must lxc start c1
claim 'is what it gets' wait_for 30 sh -c 'lxc list ^c1\$ -f csv -c 4 | grep -q 10.95.1.50'
shows 'leases: static' '^c1,.*10.95.1.50,STATIC' lxc network list-leases o1 -f csv
refuse 'a second NIC on the network is refused' 'DNS name' lxc config device add c1 eth1 nic network=o1
refuse 'a subnet that loses a static address names it' '10.95.1.50.*c1.*o1' lxc network set o1 ipv4.address 10.95.7.1/24
claim 'routes to a NIC' lxc config device set c1 eth0 ipv4.routes=192.0.2.128/28
shows 'are in the router' '192.0.2.128/28 *10.95.1.50' nb lr-route-list "lxd-net$id-lr"
refuse 'an external route outside the uplink routes' 'upbr0' lxc config device set c1 eth0 ipv4.routes.external=8.8.8.0/28
claim 'an external route, live' lxc config device set c1 eth0 ipv4.routes.external=198.51.100.8/31
claim 'answers on the uplink' sh -c "test \$(ovn-nbctl --db=unix:$O/ovnnb.sock lr-nat-list lxd-net$id-lr | grep -c 'dnat_and_snat.*198.51.100') = 2"
must lxc exec c1 -- ip addr add 198.51.100.8/32 dev lo
claim 'and is reached from there' wait_for 20 ping -c1 -W2 198.51.100.8
refuse 'it is nobody else’s' 'overlaps' lxc config device set c2 eth0 ipv4.routes.external=198.51.100.8/32

# ---- hot plug and unplug, no uplink ----
claim 'a network without an uplink' lxc network create o2 --type=ovn network=none ipv4.address=10.95.2.1/24 ipv6.address=none
same 'has no router address outside' '' lxc network get o2 volatile.network.ipv4.address
must lxc launch busybox d1 -n o2
claim 'gives addresses' wait_for 30 has4 d1
sent() { lxc query /1.0/hawser/ovn | jq .northbound.transactions; }
sent_before=$(sent)
claim 'plugs into a running container' lxc config device add c2 eth1 nic network=o2 name=eth1
same 'by one transaction, with all that needs the address that OVN allots' 1 echo $(($(sent) - sent_before))
claim 'which has the interface' lxc exec c2 -- ip link show eth1
must lxc exec c2 -- sh -c 'udhcpc -n -q -i eth1 -s /usr/share/udhcpc/default.script; ip route del default dev eth1; true'
shows 'and an address of it' 'inet 10.95.2.' lxc exec c2 -- ip addr show eth1
claim 'reaches its neighbour there' pings c2 "$(four d1)"
claim 'names resolve without an uplink' sh -c "lxc exec d1 -- nslookup c2.lxd | grep -q 10.95.2."
other=$(lxc exec c2 -- ip -4 -o addr show eth1 | grep -oE '10\.95\.2\.[0-9]+' | head -1)
must lxc exec d1 -- ip addr add 10.95.2.77/24 dev eth0
claim 'any address may be sent from' wait_for 10 lxc exec d1 -- ping -c1 -W2 -I 10.95.2.77 "$other"
claim 'unless the port is secured, live' lxc config device set d1 eth0 hawser.port_security=true
claim 'then not' wait_for 20 sh -c "! lxc exec d1 -- ping -c1 -W2 -I 10.95.2.77 $other"
claim 'its own address goes on' wait_for 10 lxc exec d1 -- ping -c1 -W2 "$other"
claim 'unplugs' lxc config device remove c2 eth1
claim 'and it is gone' sh -c '! lxc exec c2 -- ip link show eth1'
same 'from OVN, too' 0 sh -c "ovn-nbctl --db=unix:$O/ovnnb.sock --bare --columns=name list Logical_Switch_Port | grep -c eth1"
must lxc delete -f d1
claim 'deleted' lxc network delete o2

# ---- l3only ----
must lxc network create o3 --type=ovn ipv4.address=10.95.3.1/24 ipv4.l3only=true ipv4.nat=true ipv6.address=none
must lxc launch busybox l1 -n o3
must lxc launch busybox l2 -n o3
claim 'l3only: addresses' wait_for 30 sh -c 'test $(lxc list -f csv -c 4 | grep -c 10.95.3.) = 2'
shows 'are single ones' "inet $(four l1)/(24|32) scope" lxc exec l1 -- ip addr show eth0
claim 'l3only: by the router to each other' wait_for 20 pings l1 "$(four l2)"
claim 'and out' wait_for 20 pings l1 10.94.60.1
must lxc delete -f l1 l2
must lxc network delete o3

# ---- nested NICs ----
must lxc stop -f c2
refuse 'a nested NIC needs a VLAN' 'VLAN' lxc config device add c2 inner nic network=o1 nested=eth0
claim 'a nested NIC' lxc config device add c2 inner nic network=o1 nested=eth0 vlan=10 ipv4.address=10.95.1.60
must lxc start c2
shows 'is a port inside a port' 'lxd-net.*-eth0 10$' sh -c \
    "ovn-nbctl --db=unix:$O/ovnnb.sock --bare --columns=parent_name,tag find Logical_Switch_Port tag=10 | tr '\n' ' ' | sed 's/ *$//'"
claim 'and no interface' sh -c '! lxc exec c2 -- ip link show inner'
cat >"$T/tagged.py" <<'END'
# Asks for the router by a tagged ARP request, and pings it by tagged frames.
import socket, struct, sys, time
mac = bytes.fromhex(sys.argv[1].replace(":", ""))
own, router = socket.inet_aton(sys.argv[2]), socket.inet_aton(sys.argv[3])
tag = struct.pack("!HH", 0x8100, 10)
raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
raw.bind(("eth0", 0))
raw.setsockopt(263, 8, 1)  # PACKET_AUXDATA: the kernel takes the tag off
raw.settimeout(1)


def checksum(data):
    total = sum(struct.unpack("!%dH" % (len(data) // 2), data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ask(frame, wanted):
    for _ in range(5):
        raw.send(frame)
        until = time.time() + 1
        while time.time() < until:
            try:
                data, extra, _, _ = raw.recvmsg(2000, 100)
            except socket.timeout:
                break
            tagged = any(struct.unpack("IIIHHHH", e[2])[5] & 0xFFF == 10 for e in extra if e[1] == 8)
            if tagged and data[0:6] == mac and wanted(data):
                return data
    sys.exit("no answer")


arp = struct.pack("!HHBBH", 1, 0x800, 6, 4, 1) + mac + own + bytes(6) + router
got = ask(b"\xff" * 6 + mac + tag + b"\x08\x06" + arp, lambda d: d[12:14] == b"\x08\x06" and d[28:32] == router)
gateway = got[22:28]
icmp = struct.pack("!BBHHH", 8, 0, 0, 7, 1) + b"12345678"
icmp = icmp[:2] + struct.pack("!H", checksum(icmp)) + icmp[4:]
head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(icmp), 1, 0, 64, 1, 0) + own + router
head = head[:10] + struct.pack("!H", checksum(head)) + head[12:]
ask(gateway + mac + tag + b"\x08\x00" + head + icmp, lambda d: d[12:14] == b"\x08\x00" and d[34:35] == b"\x00")
print("answered")
END
inner_mac=$(lxc config get c2 volatile.inner.hwaddr)
pid=$(lxc query /1.0/instances/c2/state | jq .pid)
claim 'tagged frames through the outer NIC reach the router' wait_for 20 \
    nsenter -t "$pid" -n python3 "$T/tagged.py" "$inner_mac" 10.95.1.60 10.95.1.1
must lxc stop -f c2
must lxc config device remove c2 inner
must lxc start c2

# ---- another project, a physical uplink ----
must ip netns add outside
must ip link add phys0 type veth peer name outer0 netns outside
must ip netns exec outside sh -c 'ip link set lo up; ip addr add 10.94.70.1/24 dev outer0; ip link set outer0 up; ip addr add 192.0.2.77/32 dev lo'
must ip netns exec outside ethtool -K outer0 tx off
must lxc network create up1 --type=physical parent=phys0 ipv4.gateway=10.94.70.1/24 ipv4.ovn.ranges=10.94.70.50-10.94.70.60 \
    ipv4.routes=10.94.80.0/24 dns.nameservers=10.94.70.1
must lxc project create p1 -c features.networks=true -c features.images=false -c features.profiles=false
refuse 'with two uplinks one has to be chosen' 'uplink' lxc network create o1 --project p1
claim 'a network of that name in a project of its own' lxc network create o1 --project p1 network=up1 ipv4.address=10.95.1.1/24 \
    ipv4.nat=true ipv6.address=none
shows 'of type ovn without being asked' '^type: ovn' lxc network show o1 --project p1
must lxc launch busybox p1c --project p1 -n o1
claim 'the container there gets an address' wait_for 30 has4 p1c p1
claim 'and reaches the world by the physical uplink' wait_for 20 lxc exec p1c --project p1 -- ping -c1 -W2 192.0.2.77
shows 'used by shows the project' 'p1c\?project=p1' sh -c 'lxc query "/1.0/networks/o1?project=p1" | jq -r .used_by[]'
hides 'and nobody of another' 'c1' sh -c 'lxc query "/1.0/networks/o1?project=p1" | jq -r .used_by[]'
claim 'without NAT, in the routes of the uplink' lxc network create o4 --type=ovn network=up1 ipv4.address=10.94.80.1/25 ipv4.nat=false ipv6.address=none
refuse 'overlapping that names both' 'network "o5".*network "o4"' \
    lxc network create o5 --project p1 network=up1 ipv4.address=10.94.80.65/26 ipv4.nat=false ipv6.address=none
must lxc launch busybox r1 -n o4
claim 'a container without NAT' wait_for 30 has4 r1
must ip netns exec outside ip route add 10.94.80.0/24 dev outer0
claim 'is reached from outside by its own address' wait_for 20 ip netns exec outside ping -c1 -W2 "$(four r1)"

claim 'another DNS server of the uplink' lxc network set up1 dns.nameservers 10.94.70.7
shows 'is what its networks offer' '10.94.70.7' nb --bare --columns=options find DHCP_Options cidr=10.94.80.0/25
claim 'and back' lxc network set up1 dns.nameservers 10.94.70.1
must lxc project create p2 -c features.networks=true -c features.images=false -c restricted=true \
    -c restricted.networks.uplinks=up1 -c restricted.networks.subnets=up1:10.94.80.128/26
refuse 'an uplink that a project may not use' 'upbr0.*p2' lxc network create q1 --project p2 network=upbr0 ipv6.address=none
claim 'the one that it may is found' lxc network create q1 --project p2 ipv6.address=none
same 'by itself' up1 lxc network get q1 network --project p2
refuse 'a subnet that a project may not use' 'Project "p2".*10.94.80.192/26' \
    lxc network create q2 --project p2 ipv4.address=10.94.80.193/26 ipv4.nat=false ipv6.address=none
claim 'one that it may' lxc network create q2 --project p2 ipv4.address=10.94.80.129/26 ipv4.nat=false ipv6.address=none
must lxc network delete q1 --project p2
must lxc network delete q2 --project p2

# ---- IPv6 alone ----
must lxc network create o6 --type=ovn network=upbr0 ipv4.address=none ipv6.address=fd42:95:6::1/64 ipv6.nat=true
must lxc launch busybox v6 -n o6
claim 'IPv6 alone: an address' wait_for 60 sh -c 'lxc list ^v6\$ -f csv -c 6 | grep -q fd42:95:6'
claim 'the router' wait_for 20 pings v6 fd42:95:6::1
claim 'and out' wait_for 20 pings v6 fd42:94:60::1
must lxc delete -f v6
must lxc network delete o6

# ---- a killed agent ----
before=$(four c1)
pid=$(lxc query /1.0/instances/c1/state | jq .pid)
must daemon_kill
claim 'traffic goes on without the agent' nsenter -t "$pid" -n ping -c1 -W2 10.95.1.1
claim 'OVN goes on without the agent' nb lr-list
must daemon_start
claim 'the agent comes back' wait_for 30 sh -c 'lxc network list -f csv | grep -q "^o1,ovn,YES.*CREATED"'
same 'with the same addresses' "$before" four c1
claim 'and traffic' wait_for 20 pings c1 "$(four c2)"
same 'nothing twice' 1 sh -c "ovn-nbctl --db=unix:$O/ovnnb.sock --bare --columns=name list Logical_Router | grep -c 'lxd-net$id-lr'"
port=$(nb --bare --columns=name list Logical_Switch_Port | grep instance | head -1)
must nb lsp-del "$port"
claim 'a port that somebody removed comes back' wait_for 20 nb lsp-get-addresses "$port"
must nb ls-add foreign
must lxc restart -f c1
claim 'rows of others stay' nb ls-lb-list foreign
must nb ls-del foreign

# ---- changes ----
claim 'another uplink, while it is used' lxc network set o1 network up1
shows 'is another address' '^10\.94\.70\.' lxc network get o1 volatile.network.ipv4.address
same 'and no IPv6 one where that uplink has none' '' lxc network get o1 volatile.network.ipv6.address
claim 'by which the world is reached' wait_for 20 pings c1 192.0.2.77
claim 'the wiring of the one before is gone' sh -c '! ovs-vsctl --db=unix:'"$O"'/db.sock get Open_vSwitch . external_ids:ovn-bridge-mappings | grep upbr0'
claim 'and back' lxc network set o1 network upbr0
claim 'to the uplink before' wait_for 20 pings c1 192.0.2.1
claim 'stateful DHCPv6' lxc network set o1 ipv6.dhcp.stateful true
claim 'allows IPv6 addresses' lxc config device set c1 eth0 ipv6.address=fd42:95:1::50
shows 'which are leases, too' 'c1,.*fd42:95:1::50,STATIC' lxc network list-leases o1 -f csv
shows 'and the port says so' '10.95.1.50 fd42:95:1::50' sh -c "ovn-nbctl --db=unix:$O/ovnnb.sock list Logical_Switch_Port"
claim 'a renamed domain' lxc network set o1 dns.domain example.test
claim 'is in the names' wait_for 10 sh -c "lxc exec c2 -- nslookup c1.example.test | grep -q 10.95.1.50"
claim 'renaming a network that is not used' lxc network create o7 --type=ovn network=none ipv6.address=none
claim 'works' lxc network rename o7 o8
claim 'and its rows stay' lxc network show o8
claim 'and go with it' lxc network delete o8

# ---- faults ----
must lxc network create small --type=ovn network=upbr0 ipv4.address=10.95.6.1/30 ipv4.nat=true ipv6.address=none
must lxc launch busybox s1 -n small
refuse 'a full subnet is said so' 'no IPv4 address is left on network "small"' lxc launch busybox s2 -n small
same 'and leaves no port' 1 sh -c "lxc query /1.0/networks/small/leases | jq '[.[] | select(.type==\"dynamic\")] | length'"
quiet lxc delete -f s1 s2
claim 'the network can go' lxc network delete small
must lxc network set upbr0 ipv4.ovn.ranges 10.94.60.200-10.94.60.200
refuse 'a full range of the uplink names both' 'network "o9".*uplink network "upbr0"' \
    lxc network create o9 --type=ovn network=upbr0 ipv4.address=10.95.10.1/24 ipv4.nat=true ipv6.address=none
must lxc network set upbr0 ipv4.ovn.ranges 10.94.60.200-10.94.60.220
refuse 'an uplink cannot lose its address' 'upbr0.*o1' lxc network set upbr0 ipv4.address=none ipv6.address=none
nb_pid() {
    local each
    for each in /proc/[0-9]*; do
        tr '\0' ' ' <"$each/cmdline" 2>/dev/null | grep -q "ovsdb-server.*$O/ovnnb.db" && basename "$each" && return
    done
}
must lxc init busybox f1 -n o1
kill -STOP "$(nb_pid)"
refuse 'a northbound database that hangs is named' 'northbound database.*not reachable' lxc start f1
refuse 'for networks, too' 'network "o9".*northbound database.*not reachable' \
    lxc network create o9 --type=ovn network=upbr0 ipv4.address=10.95.10.1/24 ipv4.nat=true ipv6.address=none
claim 'a stop goes through' lxc stop -f c2
kill -CONT "$(nb_pid)"
claim 'nothing is half made' sh -c '! lxc network show o9'
claim 'a start works again' wait_for 20 lxc start f1
must lxc start c2
claim 'what was missed is made up for' wait_for 20 sh -c "test \$(ovn-nbctl --db=unix:$O/ovnnb.sock --bare --columns=name list Logical_Switch_Port | grep -c instance) = 5"
must lxc delete -f f1

# ---- crash points ----
alive() { kill -0 "${e2e_pid[main]}" 2>/dev/null; }
# Kills the agent at the Nth point of an area, until the operation survives; its start meets them first.
walk() { # area, operation, repair, claim, check
    local n
    for ((n = 1; n < 20; n++)); do
        alive && daemon_stop
        DAEMON_ENV="HAWSER_CRASH=$1:$n" DAEMON_MAY_DIE=1 daemon_start
        ! alive || eval "$2" >>"$T/log" 2>&1
        sleep 0.2
        ! alive || break
        DAEMON_ENV='' daemon_start
        eval "$3" >>"$T/log" 2>&1
        claim "$1:$n: $4" eval "$5"
    done
    daemon_stop
    DAEMON_ENV='' daemon_start
    claim "$1: survived at the ${n}th" [ $n -lt 20 ]
}
must lxc network create upbr1 ipv4.address=10.94.61.1/24 ipv4.dhcp.ranges=10.94.61.9-10.94.61.19 ipv4.ovn.ranges=10.94.61.20-10.94.61.29 ipv6.address=none
walk ovn_net 'lxc network create w1 --type=ovn network=upbr0 ipv4.address=10.95.9.1/24 ipv4.nat=true ipv6.address=none' \
    'lxc network show w1 || lxc network create w1 --type=ovn network=upbr0 ipv4.address=10.95.9.1/24 ipv4.nat=true ipv6.address=none; lxc network delete w1' \
    'a network can be made and deleted' '! lxc network show w1 && test $(nb --bare --columns=name list Logical_Router | grep -c .) = 3'
quiet lxc network delete w1
walk ovn_wire 'lxc network create w2 --type=ovn network=upbr1 ipv4.address=10.95.9.1/24 ipv4.nat=true ipv6.address=none; lxc network delete w2' \
    'lxc network show w2 || lxc network create w2 --type=ovn network=upbr1 ipv4.address=10.95.9.1/24 ipv4.nat=true ipv6.address=none; lxc network delete w2' \
    'an uplink is wired and let go' '! lxc network show w2 && ! ip link show master upbr1 | grep -q lxdovn'
must lxc network delete upbr1
must lxc init busybox w -n o1
walk ovn_nic 'lxc start w' 'lxc list ^w\$ -f csv -c s | grep -q RUNNING || lxc start w' \
    'a container starts and has one port' 'wait_for 30 has4 w && test $(nb --bare --columns=name list Logical_Switch_Port | grep -c instance) = 5; lxc stop -f w'
claim 'a stopped one has none' sh -c "lxc stop -f w; test \$(ovn-nbctl --db=unix:$O/ovnnb.sock --bare --columns=name list Logical_Switch_Port | grep -c instance) = 4"

# ---- the end ----
must lxc delete -f c1 c2 r1 w
must lxc delete -f p1c --project p1
claim 'networks are deleted' lxc network delete o4
claim 'in projects, too' lxc network delete o1 --project p1
for table in DNS NAT; do
    same "rows of $table are the first network's" "$([ $table = DNS ] && echo 0 || echo 2)" rows $table
done
claim 'the last one' lxc network delete o1
claim 'the wiring is gone' sh -c '! ip link show | grep lxdovn'
claim 'the uplinks can go' lxc network delete upbr0
claim 'both' lxc network delete up1
claim 'the interface is as it was' ip link show phys0
e2e_end
