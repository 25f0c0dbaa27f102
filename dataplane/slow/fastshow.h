/* fastshow.h: the fast path as people see it: flows, counters, packets as they pass.
 * Threads: main loop, inside fibers. */
#pragma once
#include "dataplane/slow/fastport.h"
#include "dataplane/slow/flowshow.h"

/* Each fills 'ret' from a request 'want'; what it points to lives in 'pool'. */
/* UNSUPPORTED where there is no fast path, INVALID for a filter that is none. Yield. */
bool fastshow_flows(FastPorts *fast, const Dpd__FastFlows *want, ShowPool *pool,
                    Dpd__FastFlows *ret, GError **error);
/* Waits want->wait_ms, or until as many packets have come as are wanted, or 'enough' is cancelled. BUSY while another one
 * looks. */
bool fastshow_trace(FastPorts *fast, const Dpd__FastTrace *want, GCancellable *enough,
                    ShowPool *pool, Dpd__FastTrace *ret, GError **error);
/* Works without a fast path, too. */
bool fastshow_stats(FastPorts *fast, ShowPool *pool, Dpd__FastStats *ret, GError **error);
