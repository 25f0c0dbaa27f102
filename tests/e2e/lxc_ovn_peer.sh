#!/bin/bash
# lxc_ovn_peer: peerings, ACLs, forwards and load balancers of ovn networks, on a real OVN that the agent runs itself:
# two networks in two projects, the way of a packet between them, what filters let through, and what stays after
# changes, deletions and restarts. As the unmodified lxc client sees it.
. "$(dirname "$0")/lib.sh"
only_hawser || e2e_skip_all 'needs an OVN that the daemon runs itself'
e2e_begin
need ovs-vswitchd ovn-northd ovn-nbctl ovn-trace ovs-vsctl nsenter
mkdir -p /run/netns && mount -t tmpfs tmpfs /run/netns # names of others do not meet ours
daemon_start
must lxc storage create default "$E2E_POOL_DRIVER"
must lxc profile device add default root disk path=/ pool=default
e2e_image busybox
T=$E2E_DIR
O=$LXD_DIR/ovn
nb_pid() { pgrep -f "ovsdb-server .*$O/ovnnb" | head -1; }
HAWSER=$(hawser_path)
nb() { timeout 20 ovn-nbctl --db="unix:$O/ovnnb.sock" "$@"; }
sbtrace() { timeout 20 ovn-trace --db="unix:$O/ovnsb.sock" "$@"; }
rows() { nb --bare --columns=_uuid list "$1" | grep -c .; }
four() { lxc list "^$1\$" -f csv -c 4 --project "${2:-default}" | grep -oE '10\.95\.[0-9]+\.[0-9]+' | head -1; }
six() { lxc list "^$1\$" -f csv -c 6 --project "${2:-default}" | grep -oE 'fd42:[0-9a-f:]+' | head -1; }
has4() { [ -n "$(four "$@")" ]; }
has6() { [ -n "$(six "$@")" ]; }
ping_from() { lxc exec --project "$1" "$2" -- ping -c1 -W2 "$3"; }
no_ping() { ! lxc exec --project "$1" "$2" -- ping -c1 -W2 "$3"; }
state_of() { lxc query "/1.0/networks/$2/peers/$3?project=$1" | jq -r .status; }
# A listener that answers each connection with its name; it goes with the container.
serve() { # project container port
    lxc exec --project "$1" "$2" -- sh -c "while :; do echo $2 | nc -l -p $3; done" </dev/null >/dev/null 2>&1 &
}
fetch() { lxc exec --project "$1" "$2" -- sh -c "nc -w 3 $3 $4 </dev/null"; }
no_fetch() { ! fetch "$@" | grep -q .; }
count_of() { grep -c "$1" <<<"$2"; }
lsp_of() { # project container network-id
    local uuid
    uuid=$(lxc config get --project "$1" "$2" volatile.uuid)
    echo "lxd-net$3-instance-$uuid-eth0"
}

# ---- two networks in two projects ----
must lxc network create upbr0 ipv4.address=10.94.60.1/24 ipv4.nat=true ipv4.dhcp.ranges=10.94.60.100-10.94.60.150 \
    ipv4.ovn.ranges=10.94.60.200-10.94.60.220 ipv6.address=fd42:94:60::1/64 ipv6.nat=true \
    ipv4.routes=198.51.100.0/24 ipv6.routes=fd42:99::/64
must lxc project create p2 -c features.networks=true -c features.images=false -c features.profiles=false
must lxc network create o1 --type=ovn network=upbr0 ipv4.address=10.95.1.1/24 ipv4.nat=true \
    ipv6.address=fd42:95:1::1/64 ipv6.nat=true
must lxc network create o2 --type=ovn --project p2 network=upbr0 ipv4.address=10.95.2.1/24 ipv4.nat=true \
    ipv6.address=fd42:95:2::1/64 ipv6.nat=true
n1=$(nb --bare --columns=name find Logical_Switch 'other_config:subnet=10.95.1.0/24' | sed 's/lxd-net\([0-9]*\)-.*/\1/')
n2=$(nb --bare --columns=name find Logical_Switch 'other_config:subnet=10.95.2.0/24' | sed 's/lxd-net\([0-9]*\)-.*/\1/')
must lxc launch busybox c1 -n o1
must lxc launch busybox c2 -n o2 --project p2
must wait_for 60 has4 c1
must wait_for 60 has4 c2 p2
a1=$(four c1) a2=$(four c2 p2)
claim 'without a peering there is no way' no_ping default c1 "$a2"

# ---- peers: bad requests ----
refuse 'a bridge has no peers' 'does not support peering' lxc network peer create upbr0 x o1
refuse 'a peer needs a target' 'required' lxc query -X POST -d '{"name":"x"}' /1.0/networks/o1/peers
refuse 'a network is not its own peer' 'its own peer' lxc network peer create o1 me o1
refuse 'a reserved name' 'reserved' lxc network peer create o1 internal p2/o2
refuse 'an unknown key' 'Invalid option' lxc query -X POST \
    -d '{"name":"x","target_network":"o2","config":{"colour":"red"}}' /1.0/networks/o1/peers
same 'nothing of them stayed' '[]' sh -c 'lxc query /1.0/networks/o1/peers | jq -c .'

# ---- peers ----
claim 'the first side asks' lxc network peer create o1 to2 p2/o2
same 'and waits' Pending state_of default o1 to2
shows 'lists its target' '^to2,,p2/o2,PENDING' lxc network peer list o1 -f csv
refuse 'a second peer of that name' 'already exists' lxc network peer create o1 to2 p2/o3
refuse 'a second peer with that target' 'already exists' lxc network peer create o1 other p2/o2
same 'no router has a port for it' 4 rows Logical_Router_Port
sent() { lxc query /1.0/hawser/ovn | jq .northbound.transactions; }
before=$(sent)
claim 'the second side asks' lxc network peer create o2 to1 default/o1 --project p2
# One changes the rows of both, and one asks northd for its answer (nb_cfg).
claim 'one transaction changed both sides' test $(($(sent) - before)) -le 2
same 'both sides hold: here' Created state_of default o1 to2
same 'and there' Created state_of p2 o2 to1
same 'each router has a port' 6 rows Logical_Router_Port
shows 'one names the other' "^lxd-net$n2-lr-lrp-peer-net$n1\$" nb get Logical_Router_Port "lxd-net$n1-lr-lrp-peer-net$n2" peer
shows 'the routes lead there' '10\.95\.2\.0/24 +10\.95\.2\.1 .*peer-net' nb lr-route-list "lxd-net$n1-lr"
shows 'of IPv6, too' 'fd42:95:2::/64 +fd42:95:2::1 .*peer-net' nb lr-route-list "lxd-net$n1-lr"
shows 'forged packets from the uplink are dropped' "500 .*lrp-ext.*lxd_net${n2}_routes_ip4.*drop" \
    nb lr-policy-list "lxd-net$n1-lr"
claim 'container to container, IPv4' wait_for 15 ping_from default c1 "$a2"
claim 'and back' wait_for 15 ping_from p2 c2 "$a1"
serve p2 c2 7000
claim 'TCP across' wait_for 10 sh -c "lxc exec c1 -- sh -c 'nc -w 3 $a2 7000 </dev/null' | grep -q c2"
l1=$(lsp_of default c1 "$n1") l2=$(lsp_of p2 c2 "$n2")
m1=$(lxc config get c1 volatile.eth0.hwaddr)
gw1=$(nb get Logical_Router_Port "lxd-net$n1-lr-lrp-int" mac | tr -d '"')
trace=$(sbtrace "lxd-net$n1-ls-int" "inport==\"$l1\" && eth.src==$m1 && eth.dst==$gw1 && ip4.src==$a1 && ip4.dst==$a2 && ip.ttl==64 && icmp4.type==8")
shows 'the packet goes out at the other container' "/\* output to \"$l2\"" echo "$trace"
hides 'it never leaves OVN' 'localnet|ls-ext|lrp-ext' echo "$trace"
shows 'by two routers' 'ip\.ttl--' echo "$trace"
must wait_for 60 has6 c1
must wait_for 60 has6 c2 p2
claim 'container to container, IPv6' wait_for 15 ping_from default c1 "$(six c2 p2)"
refuse 'a peered network stays' 'in use' lxc network delete o1
shows 'for it is used by the other' '/1.0/networks/o2\?project=p2' sh -c 'lxc query /1.0/networks/o1 | jq -r .used_by[]'
claim 'a description' lxc query -X PUT -d '{"description":"to the second","config":{"user.x":"1"}}' /1.0/networks/o1/peers/to2
shows 'is shown' 'to the second' lxc network peer show o1 to2
refuse 'a subnet that would overlap the peer is refused, naming both' 'o1.*o2' \
    lxc network set o1 ipv4.address 10.95.2.65/26

# ---- what changes on one side is told to the other ----
refuse 'a route of a NIC into the peer is refused, naming both' '10.95.1.128/25.*o1' \
    lxc config device set c2 eth0 --project p2 ipv4.routes=10.95.1.128/25
claim 'a route of a NIC' lxc config device set c2 eth0 --project p2 ipv4.routes=10.77.0.0/24
claim 'takes a restart' lxc restart -f c2 --project p2
must wait_for 60 has4 c2 p2
a2=$(four c2 p2)
claim 'reaches the other router' wait_for 20 sh -c \
    "timeout 20 ovn-nbctl --db=unix:$O/ovnnb.sock lr-route-list lxd-net$n1-lr | grep -q '10.77.0.0/24.*peer-net'"
shows 'and the address set' '10\.77\.0\.0/24' nb get Address_Set "lxd_net${n2}_routes_ip4" addresses
claim 'a subnet changes' lxc network set o2 --project p2 ipv6.address fd42:95:22::1/64
shows 'so does the far route' 'fd42:95:22::/64 +fd42:95:22::1' nb lr-route-list "lxd-net$n1-lr"
hides 'the old one went' 'fd42:95:2::' nb lr-route-list "lxd-net$n1-lr"

# ---- rows taken by hand, and a restart of the agent ----
quiet nb lrp-del "lxd-net$n1-lr-lrp-peer-net$n2"
claim 'a port that is deleted by hand comes back' wait_for 20 \
    nb get Logical_Router_Port "lxd-net$n1-lr-lrp-peer-net$n2" name
claim 'and its way' wait_for 20 ping_from default c1 "$a2"
must daemon_restart
claim 'after a restart of the agent the way is there' wait_for 30 ping_from default c1 "$a2"
same 'and the peering' Created state_of default o1 to2

# ---- ACLs ----
claim 'an ACL' lxc network acl create web
claim 'a rule' lxc network acl rule add web ingress action=allow state=enabled protocol=tcp destination_port=7001
claim 'a peer as its source' lxc network acl rule add web ingress action=allow state=logged source=@o1/to2 protocol=icmp4
claim 'on a NIC, live' lxc config device set c1 eth0 security.acls web
A=$(nb --bare --columns=name find Port_Group | grep -oE 'lxd_acl[0-9]+$' | head -1)
shows 'its group holds the port' "lxd_acl" echo "$A"
serve default c1 7001
serve default c1 7002
claim 'what a rule allows passes' wait_for 15 sh -c "lxc exec --project p2 c2 -- sh -c 'nc -w 3 $a1 7001 </dev/null' | grep -q c1"
claim 'the rest does not' no_fetch p2 c2 "$a1" 7002
claim 'pings from the peer do' wait_for 10 ping_from p2 c2 "$a1"
claim 'outwards the default rejects' no_ping default c1 "$a2"
claim 'the default becomes allow, live' lxc config device set c1 eth0 security.acls.default.egress.action allow
claim 'and it pings out' wait_for 15 ping_from default c1 "$a2"
claim 'the log has what passed' wait_for 20 sh -c \
    "lxc network acl show-log web | grep -q '\"proto\":\"icmp\".*\"src\":\"$a2\".*\"dst\":\"$a1\".*\"action\":\"allow\"'"
refuse 'a peer that a rule names stays' 'in use' lxc network peer delete o1 to2
shows 'used by it' '/1.0/network-acls/web' sh -c 'lxc query /1.0/networks/o1/peers/to2 | jq -r .used_by[]'
claim 'a rule to drop, live' lxc network acl rule add web ingress action=drop state=enabled source=10.95.2.0/24 protocol=icmp4
claim 'stops pings' wait_for 10 no_ping p2 c2 "$a1"
claim 'it goes again' lxc network acl rule remove web ingress action=drop
claim 'and they pass' wait_for 10 ping_from p2 c2 "$a1"
claim 'a rule to reject outwards' lxc network acl rule add web egress action=reject state=enabled \
    destination="$a2" protocol=tcp destination_port=7000
serve p2 c2 7000
serve p2 c2 7003
claim 'is refused at once, not lost' sh -c \
    "! timeout 3 lxc exec c1 -- sh -c 'nc -w 10 $a2 7000 </dev/null; exit 1' >/dev/null || false"
claim 'the rest passes' wait_for 10 sh -c "lxc exec c1 -- sh -c 'nc -w 3 $a2 7003 </dev/null' | grep -q c2"
refuse 'an unknown subject' 'Invalid subject' lxc network acl rule add web ingress action=allow source=nothere
refuse 'a peer of another network' 'cannot be applied' lxc network acl rule add web ingress action=allow source=@o9/x
claim '@internal and @external' lxc network acl rule add web ingress action=allow state=enabled source=@external,@internal \
    protocol=tcp destination_port=7002
claim 'let the peer in' wait_for 10 sh -c "lxc exec --project p2 c2 -- sh -c 'nc -w 3 $a1 7002 </dev/null' | grep -q c1"
claim 'an ACL as a subject' sh -c 'lxc network acl create friends && lxc network acl rule add web ingress action=allow \
    state=enabled source=friends protocol=tcp destination_port=7004'
shows 'has a group of its own' 'lxd_acl' nb --bare --columns=match find ACL "external_ids:lxd_port_group=$A"
refuse 'an ACL in use stays' 'in use' lxc network acl delete web
quiet nb pg-del "$A"
claim 'a group that is deleted by hand comes back' wait_for 20 nb get Port_Group "$A" name
claim 'the ACL leaves the NIC' lxc config device unset c1 eth0 security.acls
quiet lxc config device unset c1 eth0 security.acls.default.egress.action
claim 'everything passes' wait_for 15 ping_from default c1 "$a2"
same 'no group of an ACL is left' '' sh -c "timeout 20 ovn-nbctl --db=unix:$O/ovnnb.sock --bare --columns=name list Port_Group | grep acl"
claim 'on the network' lxc network set o1 security.acls=web security.acls.default.ingress.action=drop \
    security.acls.default.egress.action=allow
claim 'it acts' wait_for 10 no_fetch p2 c2 "$a1" 7003
shows 'on the port of the NIC' "$l1" nb --bare --columns=match find ACL priority=100
claim 'and goes' lxc network set o1 security.acls= security.acls.default.ingress.action= security.acls.default.egress.action=
claim 'the ACLs are deleted' sh -c 'lxc network acl delete web && lxc network acl delete friends'

# ---- forwards ----
must lxc launch busybox c3 -n o1
must wait_for 60 has4 c3
a3=$(four c3)
serve default c3 7001
serve default c3 7002
refuse 'an address that the uplink does not have' '203.0.113.9' lxc network forward create o1 203.0.113.9
claim 'a forward' lxc network forward create o1 198.51.100.10
claim 'a port' lxc network forward port add o1 198.51.100.10 tcp 80 "$a1" 7001
claim 'reaches the container from the host' wait_for 15 sh -c "nc -w 3 198.51.100.10 80 </dev/null | grep -q c1"
refuse 'a second forward there' 'already exists' lxc network forward create o1 198.51.100.10
refuse 'nor in another network' '198.51.100.10' lxc network forward create o2 198.51.100.10 --project p2
refuse 'a target outside the subnet' 'not within' lxc network forward port add o1 198.51.100.10 tcp 81 10.9.9.9
refuse 'a default target that a port has' 'same as default' lxc network forward set o1 198.51.100.10 target_address="$a1"
claim 'a default target' lxc network forward set o1 198.51.100.10 target_address="$a3"
claim 'takes the other ports' wait_for 15 sh -c "nc -w 3 198.51.100.10 7002 </dev/null | grep -q c3"
claim 'the port keeps its own' wait_for 15 sh -c "nc -w 3 198.51.100.10 80 </dev/null | grep -q c1"
shows 'from inside its network, too' '^c1$' fetch default c1 198.51.100.10 80
claim 'it is deleted' lxc network forward delete o1 198.51.100.10
same 'nothing is left of it' 0 rows Load_Balancer

# ---- load balancers ----
lb='{"listen_address":"198.51.100.20","backends":[{"name":"one","target_address":"'$a1'","target_port":"7001"},{"name":"three","target_address":"'$a3'","target_port":"7001"}],"ports":[{"protocol":"tcp","listen_port":"80","target_backend":["one","three"]}]}'
refuse 'a balancer needs backends that are there' 'Invalid target backend name' lxc query -X POST -d \
    '{"listen_address":"198.51.100.20","ports":[{"protocol":"tcp","listen_port":"80","target_backend":["x"]}]}' \
    /1.0/networks/o1/load-balancers
refuse 'a bridge has none' 'does not support load balancers' lxc query /1.0/networks/upbr0/load-balancers
claim 'a load balancer' lxc query -X POST -d "$lb" /1.0/networks/o1/load-balancers
both() {
    local got i
    got=$(for i in 1 2 3 4 5 6 7 8 9 10 11 12; do nc -w 3 198.51.100.20 80 </dev/null; done)
    grep -q c1 <<<"$got" && grep -q c3 <<<"$got"
}
claim 'uses both backends' wait_for 40 both
refuse 'a forward at its address is refused' 'already exists' lxc network forward create o1 198.51.100.20
shows 'hawser lists it' '198.51.100.20' "$HAWSER" network load-balancer list o1
refuse 'its address is no other network’s, either' 'overlaps.*load balancer of network' \
    lxc network forward create o2 198.51.100.20 --project p2
refuse 'nor a NIC’s' 'overlaps.*load balancer of network' lxc config device set c2 eth0 ipv4.routes.external=198.51.100.20/32 --project p2
claim 'hawser takes a backend away from its port' "$HAWSER" network load-balancer port remove o1 198.51.100.20 tcp 80
claim 'and deletes it' "$HAWSER" network load-balancer delete o1 198.51.100.20
same 'nothing of it is left' 0 rows Load_Balancer

# ---- a northbound database that is away, or dies in the middle ----
count() { nb --bare --columns=name list "$1" | sort | md5sum; }
before=$(count Logical_Router_Port)
nbpid=$(nb_pid)
kill -STOP "$nbpid"
E2E_COMMAND_S=100 refuse 'a peer cannot be deleted meanwhile' 'orthbound' lxc network peer delete o1 to2
E2E_COMMAND_S=100 refuse 'nor a forward made' 'orthbound' lxc network forward create o1 198.51.100.30
kill -CONT "$nbpid"
same 'the peering holds' Created state_of default o1 to2
same 'as the other side says' Created state_of p2 o2 to1
same 'no forward stayed' '[]' sh -c 'lxc query /1.0/networks/o1/forwards | jq -c .'
settled() { [ "$(timeout 20 "$HAWSER" network ovn diff --format json | jq length)" = 0 ]; }
claim 'OVN is as the rows say' wait_for 40 settled
same 'and has the ports that it had' "$before" count Logical_Router_Port
quiet lxc network acl create chaos
change() { # one of several, by number; what it says does not matter, what stays does
    case $(($1 % 7)) in
    0) lxc network acl rule add chaos ingress action=allow state=enabled source="10.$1.0.0/16" ;;
    1) lxc config device set c1 eth0 security.acls chaos ;;
    2) lxc network forward create o1 198.51.100.$((100 + $1)) target_address="$a1" ;;
    3) lxc network peer delete o1 to2 ;;
    4) lxc config device unset c1 eth0 security.acls ;;
    5) lxc network peer create o1 to2 p2/o2 ;;
    6) lxc network set o1 security.acls=chaos security.acls.default.ingress.action=allow ;;
    esac
}
for i in $(seq 1 28); do
    [ $((i % 9)) != 0 ] || kill -KILL "$(nb_pid)"
    quiet change "$i"
done
claim 'after 28 changes with the database killed thrice OVN is as the rows say' wait_for 60 settled
shows 'hawser shows no difference' '^\[\]$' "$HAWSER" network ovn diff --format json
quiet lxc network set o1 security.acls= security.acls.default.ingress.action=
quiet lxc config device unset c1 eth0 security.acls
for address in $(lxc network forward list o1 -f csv | cut -d, -f1); do quiet lxc network forward delete o1 "$address"; done
claim 'an ACL that is free again is deleted' lxc network acl delete chaos
quiet lxc network peer delete o1 to2
quiet lxc network peer delete o2 to1 --project p2
must lxc network peer create o1 to2 p2/o2
must lxc network peer create o2 to1 default/o1 --project p2

# ---- an agent that is killed in the middle ----
must lxc network acl create crash
must lxc config device set c1 eth0 security.acls crash
must lxc config device set c1 eth0 security.acls.default.egress.action allow
peered() { # both halves are there again, whatever was left
    quiet lxc network peer delete o1 to2
    quiet lxc network peer delete o2 to1 --project p2
    must lxc network peer create o2 to1 default/o1 --project p2
    must lxc network peer create o1 to2 p2/o2
}
killed_at() { # area point command…: OVN is as the rows say after the next start
    local area=$1 n=$2; shift 2
    daemon_kill
    DAEMON_ENV="HAWSER_CRASH=$area:$n" DAEMON_MAY_DIE=1 daemon_start
    quiet "$@"
    refuse "it dies at point $n of $area" '' api GET /1.0
    daemon_kill
    daemon_start
    claim "after that OVN is as the rows say" wait_for 60 settled
}
killed_at peer 1 lxc network peer delete o1 to2
peered
killed_at peer 2 lxc network peer delete o1 to2
quiet lxc network peer delete o2 to1 --project p2
must lxc network peer create o2 to1 default/o1 --project p2
killed_at peer 1 lxc network peer create o1 to2 p2/o2
same 'both sides agree' "$(state_of p2 o2 to1)" state_of default o1 to2
killed_at forward 1 lxc network forward create o1 198.51.100.40 target_address="$a1"
killed_at acl 1 lxc network acl rule add crash ingress action=allow state=enabled source=10.0.0.0/8
quiet lxc network forward delete o1 198.51.100.40
peered
claim 'a rule that a killed agent wrote is in force' sh -c \
    "timeout 20 ovn-nbctl --db=unix:$O/ovnnb.sock --bare --columns=match list ACL | grep -q 'ip4.src == 10.0.0.0/8'"
must lxc config device unset c1 eth0 security.acls
must lxc config device unset c1 eth0 security.acls.default.egress.action
must lxc network acl delete crash

# ---- the end of a peering ----
claim 'one side ends it' lxc network peer delete o2 to1 --project p2
same 'the other side says so' Errored state_of default o1 to2
same 'no router has a port for it any more' 4 rows Logical_Router_Port
hides 'nor a route' 'peer-net' nb lr-route-list "lxd-net$n1-lr"
claim 'no way' no_ping default c1 "$a2"
claim 'a new half waits' lxc network peer create o2 to1 default/o1 --project p2
same 'for the other owner to agree' Pending state_of p2 o2 to1
claim 'who asks anew' sh -c 'lxc network peer delete o1 to2 && lxc network peer create o1 to2 p2/o2'
same 'and it holds' Created state_of p2 o2 to1
claim 'the way is back' wait_for 15 ping_from default c1 "$a2"
claim 'from the first side it ends, too' lxc network peer delete o1 to2
same 'as the second sees' Errored state_of p2 o2 to1
claim 'a network whose peer has gone may go' sh -c 'lxc delete -f c2 --project p2 && lxc network delete o2 --project p2'
must lxc delete -f c1 c3
must lxc network delete o1
for table in Logical_Router Logical_Switch ACL Port_Group Address_Set Load_Balancer DHCP_Options; do
    [ ! -S "$O/ovnnb.sock" ] || same "no $table is left" 0 rows $table
done
quiet lxc project delete p2
e2e_end
