# The fast path before the kernel's own Open vSwitch datapath (no slow pair: the host side is the switch's port), and how
# many instructions a packet takes on each way. QEMU's clock counts instructions here (-icount), so times are
# counts: of both ends' system calls, too, which is why the bare pair is told beside.
. tests/bpf/lab.sh
. tests/lab/lib.sh # whose 'ok' and 'count' are meant
TOOL=$HAWSER_BUILD/tests/bpf/fastpath_tool
ROUNDS=$HAWSER_BUILD/bench/fastpath_rounds
LAB_DIR=/tmp/fast
mkdir -p $LAB_DIR/pins /run/netns
export OVS_RUNDIR=$LAB_DIR OVS_LOGDIR=$LAB_DIR OVS_DBDIR=$LAB_DIR
ip link set lo up
grew() { [ "$(stat "$1")" -ge "$2" ]; } # REASON LEAST
must() { "$@" >/tmp/must.log 2>&1 && return; nok "$*"; sed 's/^/# /' /tmp/must.log; done_lab; }
command -v ovs-vswitchd >/dev/null || { echo '1..0 # SKIP no openvswitch-switch'; exit 0; }
# vswitchd asks how many processors there are by a clock that has to be ten seconds old, else it starts no handler.
until awk '{ exit !($1 > 12) }' /proc/uptime; do sleep 1; done

# ---- a switch that routes with conntrack, and a bare pair ----
must ovsdb-tool create $LAB_DIR/conf.db /usr/share/openvswitch/vswitch.ovsschema
must ovsdb-server $LAB_DIR/conf.db --remote=punix:$LAB_DIR/db.sock --pidfile --detach --no-chdir --log-file
must ovs-vswitchd unix:$LAB_DIR/db.sock --pidfile --detach --no-chdir --log-file
echo 1 >/proc/sys/net/netfilter/nf_conntrack_tcp_be_liberal
vs() { ovs-vsctl --db=unix:$LAB_DIR/db.sock -t 60 "$@"; }
must vs add-br br0 -- set bridge br0 datapath_type=system fail_mode=secure
ovs-appctl dpctl/dump-dps | grep -q '^system@' || { echo '1..0 # SKIP this kernel has no openvswitch'; exit 0; }
lab_instance a 1
lab_instance b 2
way() { # NAME NUMBER OFPORT TO NAME-OF-TO
    vs add-port br0 "h$1" -- set interface "h$1" "ofport_request=$3"
    in_ns "$1" ip neigh replace "10.$2.0.1" lladdr "02:00:00:00:01:0$1" dev eth0
    ovs-ofctl add-flow br0 "table=1,ip,in_port=$3,ct_state=+trk,actions=ct(commit),mod_dl_src:02:00:00:00:01:0$5,mod_dl_dst:02:00:00:00:00:0$5,dec_ttl,dec_ttl,output:$4"
}
must ovs-ofctl add-flow br0 'table=0,ip,ct_state=-trk,actions=ct(table=1)'
must way a 1 1 2 b
must way b 2 2 1 a
ip netns add p
ip netns add q
ip link add eth0 netns p type veth peer name eth0 netns q
for end in p:1 q:2; do
    in_ns "${end%:*}" ip addr add "10.5.0.${end#*:}/24" dev eth0
    in_ns "${end%:*}" ip link set eth0 up
    in_ns "${end%:*}" ip link set lo up
done
for ns in b q; do in_ns $ns "$ROUNDS" serve 7000 & done

# ---- slow, then fast ----
answers() { in_ns a ping -q -c "${1:-1}" -i 0.05 -W 2 10.2.0.2; }
come() { local n; for n in $(seq 30); do answers >/dev/null && return; done; return 1; }
gone() { local n; for n in $(seq 30); do in_ns a ping -q -c 1 -W 1 10.2.0.2 >/dev/null || return 0; done; return 1; }
cost() { in_ns "$1" "$ROUNDS" udp "$2" 7000 0.1 | awk '{ print($1 > 0 ? int(1e9 / $1 / 2) : 0) }'; }
succeeds 'without the fast path echoes arrive' come
slow=$(cost a 10.2.0.2)
bare=$(cost p 10.5.0.2)
bind() { tool set ha - veth 5 1500 02:00:00:00:00:0a 10.1.0.2 && tool set hb - veth 5 1500 02:00:00:00:00:0b 10.2.0.2; }
bind >/tmp/bind.log 2>&1
is 'ports without a slow pair are bound' '0 ' "$? $(cat /tmp/bind.log)"
answers 10 >/dev/null
before=$(stat hit)
succeeds 'echoes arrive' answers 20
succeeds 'past the switch' grew hit $((before + 30))
succeeds 'with the same TTL' sh -c 'ip netns exec a ping -c 1 -W 2 10.2.0.2 | grep ttl=62'
before=$(stat hit)
fast=$(cost a 10.2.0.2)
succeeds 'datagrams are fast' grew hit $((before + 500))
swallowed=$(stat swallowed)
in_ns a ping -q -c 30 -i 0.1 10.2.0.2 >/dev/null
succeeds 'and proven by copies through the switch' grew swallowed $((swallowed + 1))
echo "# instructions a packet, with both ends' own: bare $bare, fast $fast, kernel OVS $slow"
awk -v b="$bare" -v f="$fast" -v s="$slow" 'BEGIN {
    printf "# the path alone, beyond the bare pair: fast %d, kernel OVS %d: %.2f of it\n", f - b, s - b, (f - b) / (s - b) }'
succeeds 'a learned flow takes fewer instructions than the switch' test "$fast" -gt 0 -a "$fast" -lt "$slow"
ovs-ofctl del-flows br0 table=1,ip,in_port=1
succeeds 'what the switch no longer lets through ends' gone
done_lab
