# Page streams by RDMA: rdma_rxe over a veth; the sending and the receiving hawser-pages are processes of their own, and
# every claim of tests/unit/pages_job.c is made of them: a guest that writes, sealed and plain, refusals, a kill.
. tests/lab/lib.sh
pages() { HAWSER_PAGES=$HAWSER_BUILD/dataplane/pages/hawser-pages timeout 300 "$HAWSER_BUILD/tests/unit/test_pages_job" "$@"; }
rxe0_make 10.77.0.1
before=$(rxe0_sent)
PAGES_RDMA=10.77.0.1 pages 2>&1 | sed 's/^/# /'
is "by RDMA: guests that write arrive whole, a killed source leaves its guest running" 0 "${PIPESTATUS[0]}"
[ "$(rxe0_sent)" -gt $((before + 30000)) ] && ok "the device has sent it" || nok "the device sent $(($(rxe0_sent) - before)) packets"
is "no process of the lanes is left" "" "$(pgrep -x hawser-pages)"
rdma link delete rxe0
PAGES_NO_DEVICE=1 PAGES_RDMA=10.77.0.1 pages -p /job/moves-a-writing-guest -p /job/moves-a-writing-guest-sealed 2>&1 | sed 's/^/# /'
is "without a device the stream goes by TCP" 0 "${PIPESTATUS[0]}"
done_lab
