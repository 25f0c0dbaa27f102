/* pollshow.h: flows, counters and packets of the poll-mode engine, as hawser-dpd shows those of the kernel's.
 * Threads: main loop, inside fibers where marked "Yields". */
#pragma once
#include "dataplane/poll/poller.h"
#include "dataplane/slow/flowshow.h"

/* Each flow; the engine's time then. 'poller' is a Poller. */
guint64 pollshow_walk(void *poller, FlowVisit visit, void *arg);
/* A port's id; "" when there is none. */
const char *pollshow_id(void *poller, guint nic);

/* Each answers a request 'want'; what 'ret' points to lives in 'pool'. INVALID for a filter that is none, NOT_FOUND for
 * a port. */
/* Yields. */
bool pollshow_flows(Poller *poller, const Dpd__FastFlows *want, ShowPool *pool, Dpd__FastFlows *ret,
                    GError **error);
void pollshow_stats(Poller *poller, ShowPool *pool, Dpd__FastStats *ret);
/* Waits want->wait_ms, or until as many packets have come as are wanted, or 'asker' has no more patience: asks on, or has
 * said its last. BUSY while another one looks. Yields. */
bool pollshow_trace(Poller *poller, const Dpd__FastTrace *want, DpdWire *asker, ShowPool *pool,
                    Dpd__FastTrace *ret, GError **error);
