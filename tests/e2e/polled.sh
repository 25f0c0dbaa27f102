#!/bin/bash
# polled: containers on peered ovn networks whose NICs a processor of its own polls (DPDK): the agent's configuration
# starts, changes and ends that process, instances bring and take ports, and whoever of agent, hawser-dpd and it is killed
# comes back to the same state.
. "$(dirname "$0")/lib.sh"
only_hawser || e2e_skip_all 'needs an OVN that the daemon runs itself'
e2e_begin
need ovs-vswitchd ovn-northd nsenter python3
DPD=${HAWSER_DPD:-$HAWSER_BUILD/dataplane/hawser-dpd}
"$DPD" --dpdk --version >/dev/null 2>&1 || e2e_skip_all 'built without DPDK'
mkdir -p /run/netns && mount -t tmpfs tmpfs /run/netns
export HAWSER_CRASH=@$E2E_DIR/crash
daemon_start
must lxc storage create default "$E2E_POOL_DRIVER"
must lxc profile device add default root disk path=/ pool=default
e2e_image busybox
HAWSER=$(hawser_path)
four() { lxc list "^$1\$" -f csv -c 4 | grep -oE '10\.97\.[0-9]+\.[0-9]+' | head -1; }
has4() { [ -n "$(four "$1")" ]; }
pid_of() { lxc query "/1.0/instances/$1/state" | jq .pid; }
plane() { api_meta GET /1.0/hawser/dataplane; }
poll() { plane | jq -r ".poll$1"; }
is() { [ "$(poll "$1")" = "$2" ]; } # PATH VALUE
polled() { poll '.ports[].nic' | sort | tr '\n' ' '; }
polls() { [ "$(polled)" = "$1" ]; }
fast() { plane | jq '[.poll.cores[].fast] | add // 0'; }
ping_two() { timeout 60 nsenter -t "$P1" -n ping -q -W 1 "$@" "$a2"; }
echoes_fast() { local before; before=$(fast); ping_two -c 20 -i 0.05 && [ "$(fast)" -gt $((before + 10)) ]; }
dpd_pid() { pgrep -f "hawser-dpd --embedded --dir $LXD_DIR/dpd" | head -1; }
gone() { [ -n "$1" ] && ! kill -0 "$1" 2>/dev/null; }
core=$(($(nproc) - 1))

for bad in x 1,,2 1,1 -1; do
    refuse "dataplane.poll.cores=$bad" 'Invalid list of processors' lxc config set "dataplane.poll.cores=$bad"
done
must lxc network create upbr0 ipv4.address=10.96.61.1/24 ipv4.nat=true ipv4.dhcp.ranges=10.96.61.100-10.96.61.150 \
    ipv4.ovn.ranges=10.96.61.200-10.96.61.220 ipv6.address=none
for n in 1 2; do must lxc network create o$n --type=ovn network=upbr0 ipv4.address=10.97.$n.1/24 ipv4.nat=true ipv6.address=none; done
must lxc network peer create o1 to2 o2
must lxc network peer create o2 to1 o1
for n in 1 2; do must lxc init busybox c$n -n o$n; must lxc config device set c$n eth0 hawser.poll=true; done
must lxc start c1 c2
must wait_for 60 has4 c1
must wait_for 60 has4 c2
P1=$(pid_of c1) a2=$(four c2)

# ---- not configured: as any other ----
claim 'without processors there is no process' is .running false
claim 'and the instances reach each other' wait_for 30 ping_two -c 1
must lxc stop -f c1 c2

# ---- configured ----
must lxc config set dataplane.poll.cores=$core dataplane.poll.flows=4096
must lxc start c1 c2
must wait_for 60 has4 c1
must wait_for 60 has4 c2
P1=$(pid_of c1) a2=$(four c2)
both='default/c1/eth0 default/c2/eth0 '
claim 'a process runs' wait_for 60 is .running true
same 'on that processor' $core poll .processors
claim 'and polls both NICs' wait_for 30 polls "$both"
claim 'they reach each other' wait_for 30 ping_two -c 1
claim 'soon past the switch' wait_for 30 echoes_fast
claim 'and the outside' timeout 20 nsenter -t "$P1" -n ping -q -c 1 -W 5 10.97.1.1
P2=$(pid_of c2)
shows 'the command shows it' "Polling: processors $core" "$HAWSER" dataplane stats
shows 'with its NICs' 'default/c1/eth0.*net_af_packet' "$HAWSER" dataplane stats
flow_listed() { ping_two -c 8 -i 0.05 && "$HAWSER" dataplane flows --nic default/c1/eth0 | grep -qE 'default/c1/eth0.*default/c2/eth0.*icmp.*fast'; }
claim 'its flows are listed' wait_for 30 flow_listed
not_offloaded() { lxc query '/1.0/hawser/dataplane/flows' | tee "$E2E_DIR/flows.json" | jq -e '.flows | length > 0 and all(.offloaded == false)'; }
claim 'none by a NIC: packet sockets take no rules' not_offloaded
jq '.flows |= map(.state = "fast" | .offloaded = true)' "$E2E_DIR/flows.json" >"$E2E_DIR/offloaded.json"
python3 "$E2E_LIB/canned.py" "$E2E_DIR/canned.socket" "$E2E_DIR/offloaded.json" &
canned=$!
must wait_for 10 test -S "$E2E_DIR/canned.socket"
shows 'the command says of which it is' 'fast, offloaded' env HAWSER_SOCKET="$E2E_DIR/canned.socket" "$HAWSER" dataplane flows
kill $canned
flow_rated() { lxc query '/1.0/hawser/dataplane/flows?protocol=icmp&rates=true' | jq -e '[.flows[].packets_per_second] | max > 0'; }
nsenter -t "$P1" -n ping -q -i 0.05 "$a2" >/dev/null 2>&1 &
echoing=$!
claim 'with their rates' wait_for 30 flow_rated
flow_traced() { lxc query "/1.0/hawser/dataplane/trace?nic=c1&address=$a2" | jq -e --arg to "$a2" '[.packets[] | select(.direction == "in" and .verdict == "hit" and .destination.address == $to)] | length > 0'; }
claim 'and packets as they are judged' wait_for 30 flow_traced
must lxc launch busybox c3 -n o1
must wait_for 60 has4 c3
nsenter -t "$(pid_of c3)" -n ping -q -i 0.05 10.97.1.1 >/dev/null 2>&1 &
unpolled=$!
three_of() { timeout 20 lxc query "/1.0/hawser/dataplane/trace?wait_ms=60000&limit=3&$1" | jq -e '.packets | length == 3'; }
claim 'a trace of three packets ends when the process has seen them' three_of "address=$a2"
claim 'or the kernel'"'"'s programs' three_of "address=$(four c3)"
claim 'and the process waits no longer, either: the next one may look' three_of nic=c1
three_shown() { timeout 20 "$HAWSER" dataplane trace --seconds 60 --limit 3 --address "$a2" | wc -l; }
same 'nor does the command' 3 three_shown
kill $unpolled $echoing
counted() { plane | jq -e '.flows_fast > 0 and .packets.hit > 0 and ([.ports[] | select(.nic == "default/c1/eth0")][0].packets > 0)'; }
claim 'all counted with what the kernel'"'"'s programs count' wait_for 30 counted
must lxc delete -f c3
claim 'its metrics' sh -c "lxc query --raw /1.0/metrics 2>/dev/null | grep -q '^hawser_poll_up 1' || curl -s -m 20 --unix-socket $LXD_DIR/unix.socket http://x/1.0/metrics | grep -q '^hawser_poll_up 1'"
timeout 60 nsenter -t "$P2" -n python3 "$E2E_LIB/planepackets.py" echo 5000 >"$E2E_DIR/echo" 2>&1 &
tcp() { timeout 60 nsenter -t "$P1" -n python3 "$E2E_LIB/planepackets.py" tcp "$a2" 5000 2000000; }
claim 'TCP brings every byte' wait_for 30 tcp

# ---- what OVN forbids ----
must lxc network acl create shut
must lxc config device set c2 eth0 security.acls=shut security.acls.default.ingress.action=drop
claim 'forbidden: nothing arrives once the command has answered' sh -c "! timeout 20 nsenter -t $P1 -n ping -q -c 3 -i 0.2 -W 1 $a2"
must lxc config device set c2 eth0 security.acls.default.ingress.action=allow
claim 'allowed again: fast again' wait_for 30 echoes_fast
must "$HAWSER" dataplane off
before=$(fast)
claim 'switched off, packets arrive' ping_two -c 5 -i 0.05
same 'all by the switch' "$before" fast
must "$HAWSER" dataplane on
claim 'switched on, they are fast' wait_for 30 echoes_fast

# ---- the keys ----
refuse 'the last processor is not taken from NICs that need it' '2 NICs of running instances' lxc config unset dataplane.poll.cores
same 'and the key stays' $core lxc config get dataplane.poll.cores
old=$(poll .pid)
must lxc config set dataplane.poll.flows=8192
claim 'another table is another process' wait_for 60 is .flows_max 8192
claim 'the old one has ended' wait_for 30 gone "$old"
claim 'with the same NICs' wait_for 60 polls "$both"
claim 'which are fast' wait_for 30 echoes_fast

# ---- deaths ----
old=$(poll .pid)
timeout 60 nsenter -t "$P1" -n ping -O -W 1 -i 0.01 -c 2000 "$a2" >"$E2E_DIR/echoes" 2>&1 & # nobody asks anything meanwhile
echoing=$!
echoed() { grep -q "icmp_seq=$1 .*time=" "$E2E_DIR/echoes"; }
claim 'echoes of a long row come' wait_for 30 echoed 100
kill -9 "$old"
wait $echoing
claim 'the process killed, they come again by themselves' echoed 1900
echo "it lost the echoes of $(sed -n 's/^\([0-9]*\) packets transmitted, \([0-9]*\) received.* time \([0-9]*\)ms.*/\1 \2 \3/p' "$E2E_DIR/echoes" | awk '{print int(($1 - $2) * $3 / $1)}') ms" | e2e_diag
other() { local now; now=$(poll .pid); [ "$now" != 0 ] && [ "$now" != "$old" ]; }
claim 'killed, it is started again' wait_for 60 other
claim 'with its NICs' wait_for 60 polls "$both"
claim 'which are fast' wait_for 30 echoes_fast
old=$(poll .pid)
kill -9 "$(dpd_pid)"
claim 'hawser-dpd killed: packets go on' ping_two -c 20 -i 0.05
claim 'the next one adopts the process' wait_for 60 is .pid "$old"
claim 'and its NICs' wait_for 60 polls "$both"
claim 'which are fast' wait_for 30 echoes_fast
must daemon_restart
claim 'the agent restarted: the process is the same' wait_for 60 is .pid "$old"
claim 'fast' wait_for 30 echoes_fast

# ---- hawser-dpd dies when the wish is on disk, and when the process was started ----
as_configured() { is .running true && is .flows_max "$(lxc config get dataplane.poll.flows)"; }
flows=16384
for point in 1 2; do
    flows=$((flows * 2)) old=$(dpd_pid)
    echo "poll:$point" >"$E2E_DIR/crash.new" && mv "$E2E_DIR/crash.new" "$E2E_DIR/crash"
    lxc config set dataplane.poll.flows=$flows >/dev/null 2>&1 || true # it may fail, and leave the key as it was
    claim "at point $point it died" wait_for 60 gone "$old"
    rm "$E2E_DIR/crash"
    claim 'the next one has the process that the configuration says' wait_for 60 as_configured
    claim 'with its NICs' wait_for 60 polls "$both"
    claim 'which are fast' wait_for 60 echoes_fast
done

# ---- NICs come and go ----
must lxc config device remove c1 eth0
claim 'a NIC unplugged is polled no more' wait_for 30 polls 'default/c2/eth0 '
must lxc config device add c1 eth0 nic network=o1 hawser.poll=true name=eth0
claim 'plugged again, it is' wait_for 30 polls "$both"

# ---- hawser-dpd dies when a NIC is polled, and nobody has been told ----
must lxc config device remove c1 eth0
claim 'once more it is polled no more' wait_for 30 polls 'default/c2/eth0 '
old=$(dpd_pid) process=$(poll .pid)
echo poll:1 >"$E2E_DIR/crash.new" && mv "$E2E_DIR/crash.new" "$E2E_DIR/crash"
lxc config device add c1 eth0 nic network=o1 hawser.poll=true name=eth0 >/dev/null 2>&1 & # it may fail, and leave no NIC
plugging=$!
claim 'at point 3 it died' wait_for 60 gone "$old"
rm "$E2E_DIR/crash"
wait $plugging
claim 'the next one adopts the process' wait_for 60 is .pid "$process"
as_plugged() { if lxc config device get c1 eth0 hawser.poll; then polls "$both"; else polls 'default/c2/eth0 '; fi; }
claim 'what is polled is what is plugged' wait_for 60 as_plugged
lxc config device get c1 eth0 hawser.poll >/dev/null 2>&1 || must lxc config device add c1 eth0 nic network=o1 hawser.poll=true name=eth0
claim 'which works then' wait_for 60 polls "$both"
old=$process
must lxc stop -f c1 c2
claim 'stopped instances leave nothing behind' wait_for 30 polls ''
must lxc config unset dataplane.poll.cores
claim 'and without processors the process ends' wait_for 30 gone "$old"
e2e_end
