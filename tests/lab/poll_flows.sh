# rte_flow's probe on a device that has rules: a tap of DPDK's, whose rules are the kernel's tc flower. The
# machine's own kernel may have none of that; the lab's has.
. tests/lab/lib.sh
DPD=$HAWSER_BUILD/dataplane/hawser-dpd
ask() { timeout 60 "$DPD" --dpdk --dir /tmp/poll ask "$@" 2>&1 | grep -v ASan; }
"$DPD" --dpdk --version >/dev/null 2>&1 || { echo "1..0 # SKIP built without DPDK"; exit 0; }
"$DPD" --dpdk --dir /tmp/poll --no-huge --no-pci --memory 128 --packets 4096 --flows 256 >/tmp/poll.log 2>&1 &
poll=$!
for ((turn = 0; turn < 300; turn++)); do
    grep -q poll.ready /tmp/poll.log && break
    sleep 0.2
done
like "a tap is added" "*device=net_tap*" "$(ask add id=t device=net_tap0,iface=hawpoll0 mac=02:00:00:00:00:0a zone=1)"
like "a rule that matches a flow is taken, one that forwards is not" "*port t *flows=match *" "$(ask status)"
is "no rule is left behind" 0 "$(tc filter show dev hawpoll0 ingress | grep -c 192.0.2.1)"
like "a device without rules is added" "*device=net_null*" "$(ask add id=n device=net_null0 mac=02:00:00:00:00:0b zone=1)"
like "and says so" "*port n *flows=none *" "$(ask status)"
kill $poll
wait $poll
is "it ends as asked" 0 $?
[ "$failed" = 0 ] || sed 's/^/# /' /tmp/poll.log
done_lab
