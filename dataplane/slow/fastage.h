/* fastage.h: flows of the fast path, seen from user space: removed when they are idle, and shown.
 * Threads: any with a FastLoad of its own; calls walk the tables in batches and do not block. */
#pragma once
#include "dataplane/slow/fastload.h"
#include "dataplane/slow/flowshow.h"

#define FASTAGE_IDLE_MS 60000 /* fast flows without a packet */
#define FASTAGE_HALF_MS 10000 /* flows whose answers were never proven */

/* Removes what is idle or stale. How many; *ret_left (may be NULL) stay. */
guint fastage_run(FastLoad *load, guint *ret_left);
/* Each flow, in no order; borrowed for the call. */
void fastage_visit(FastLoad *load, FlowVisit visit, void *data);
/* All flows, FlowSeen elements; caller unrefs. */
GArray *fastage_flows(FastLoad *load);
/* Sums over the cores, LAYOUT_REASON_COUNT of them. */
bool fastage_counters(FastLoad *load, guint64 *ret_counters, GError **error);
