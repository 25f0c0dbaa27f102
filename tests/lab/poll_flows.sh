# rte_flow on a device that has rules: a tap of DPDK's, whose rules are the kernel's tc flower. The machine's own kernel
# may have none of that; the lab's has. A tap's rules only match: what is seen here is which there are, and when. That a bump
# ends them before it returns is tests/unit/poll_offload.c's: here a flow is learned again before anybody could look.
. tests/lab/lib.sh
DPD=$HAWSER_BUILD/dataplane/hawser-dpd
ask() { timeout 60 "$DPD" --dpdk --dir /tmp/poll ask "$@" 2>&1 | grep -v ASan; }
word() { ask status | sed -n "s/^port $1 .* $2=\([^ ]*\) .*/\1/p"; } # PORT NAME
rules() { tc filter show dev hawpoll0 parent 1:; } # what the tap's own queue sends
ours() { rules | grep -c 'src_ip 10.1.0.2'; }
"$DPD" --dpdk --version >/dev/null 2>&1 || { echo "1..0 # SKIP built without DPDK"; exit 0; }
"$DPD" --dpdk --dir /tmp/poll --no-huge --no-pci --memory 128 --packets 4096 --flows 256 --offload match --offload-packets 4 \
    >/tmp/poll.log 2>&1 &
poll=$!
wait_for 60 eval 'ask status | grep -q ^poll'

# ---- what devices can do ----
like "a tap is added" "*device=net_tap*" "$(ask add id=t device=net_tap0,iface=hawpoll0 mac=02:00:00:00:00:0a zone=1)"
like "a rule that matches a flow is taken, one that forwards is not" "*port t *flows=match *" "$(ask status)"
is "no rule is left behind" 0 "$(rules | grep -c 192.0.2.1)"
like "a device without rules is added" "*device=net_null*" "$(ask add id=n device=net_null0 mac=02:00:00:00:00:0b zone=1)"
like "and says so" "*port n *flows=none *" "$(ask status)"
ask remove t >/dev/null
ask remove n >/dev/null

# ---- rules of learned flows: an instance on the tap (this namespace), one behind a veth pair, a router between ----
ip netns add r
ip netns add b
veth() { # NAME PEER NAMESPACE
    ip link add "$1" type veth peer name "$2" netns "$3"
    ip link set "$1" up
    ethtool -K "$1" tx off >/dev/null 2>&1
    ip netns exec "$3" ethtool -K "$2" tx off >/dev/null 2>&1
    ip netns exec "$3" ip link set "$2" up
}
veth sa oa r
veth sb ob r
veth hb eth0 b
ip netns exec r sh -c 'echo 1 >/proc/sys/net/ipv4/ip_forward; ip addr add 10.1.0.1/24 dev oa; ip addr add 10.2.0.1/24 dev ob'
ip netns exec b sh -c 'ip link set eth0 address 02:00:00:00:00:0b; ip addr add 10.2.0.2/24 dev eth0; ip route add default via 10.2.0.1'
ask add id=a device=net_tap0,iface=hawpoll0 slow=net_af_packet_sa,iface=sa mac=02:00:00:00:00:0a zone=5 addresses=10.1.0.2 >/dev/null
add_b() { ask add id=b device=net_af_packet_hb,iface=hb slow=net_af_packet_sb,iface=sb mac=02:00:00:00:00:0b zone=5 addresses=10.2.0.2 >/dev/null; }
add_b
ip link set hawpoll0 address 02:00:00:00:00:0a
ip addr add 10.1.0.2/24 dev hawpoll0
ip link set hawpoll0 up
ip route add 10.2.0.0/24 via 10.1.0.1
succeeds "instances reach each other" wait_for 60 ping -c 1 -W 2 10.2.0.2
ip netns exec b python3 tests/lab/trickle.py answer 9000 >/tmp/answer.log 2>&1 &
answers=$!
python3 tests/lab/trickle.py send 10.1.0.2 40000 10.2.0.2 9000 >/tmp/send.log 2>&1 &
sends=$!
succeeds "a flow that carries enough gets a rule" wait_for 60 eval '[ "$(ours)" -ge 1 ]'
like "of its addresses and ports" "*udp*dst_ip 10.2.0.2*src_ip 10.1.0.2*dst_port 9000*src_port 40000*" "$(rules | tr '\n' ' ')"
succeeds "which is told" wait_for 20 eval '[ "$(word a rules)" = 1 ] && ask status 100 | grep -q "^flow udp 10.1.0.2:40000 .*offloaded=1"'
shown() { "$HAWSER_BUILD/tests/e2e/dpdctl" /tmp/poll/poll.socket flows 2>/dev/null | grep "^flow a 10.1.0.2:40000 10.2.0.2:9000 .*offloaded=$1"; }
succeeds "among the flows that are listed, too" wait_for 20 shown 1
made=$(word a made)
succeeds "it ends before its proof does, and comes again with the next one" wait_for 60 eval '[ "$(word a made)" -gt $((made + 1)) ]'

# ---- which end with what they were made of ----
ip netns exec r sh -c 'nft add table inet t; nft add chain inet t f "{ type filter hook forward priority 0; }"; nft add rule inet t f ip protocol udp drop'
ask bump 5 >/dev/null
is "what is forbidden gets none" 0 "$(for ((turn = 0; turn < 10; turn++)); do ours; sleep 0.2; done | sort -n | tail -n 1)"
ip netns exec r nft delete table inet t
succeeds "allowed again, it comes again" wait_for 60 eval '[ "$(ours)" = 1 ]'
left() {
    local before=$(ours) after
    ask remove b >/dev/null
    after=$(ours)
    add_b
    [ "$before $after" = "1 0" ]
}
succeeds "a port that goes takes the rules with it that lead there" wait_for 60 left
succeeds "it comes back, and so does the rule" wait_for 60 eval '[ "$(ours)" = 1 ]'
kill $sends
wait $sends 2>/dev/null
succeeds "a flow that rests has none" wait_for 30 eval '[ "$(ours)" = 0 ]'
succeeds "and is listed without" shown 0
kill $answers $poll
wait $poll
is "it ends as asked" 0 $?
[ "$failed" = 0 ] || sed 's/^/# /' /tmp/poll.log
done_lab
