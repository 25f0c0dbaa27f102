/* fastage.h: flows of the fast path, seen from user space: removed when they are idle, and shown.
 * Threads: any with a FastLoad of its own; calls walk the tables in batches and do not block. */
#pragma once
#include "dataplane/slow/fastload.h"

#define FASTAGE_IDLE_MS 60000 /* fast flows without a packet */
#define FASTAGE_HALF_MS 10000 /* flows whose answers were never proven */

typedef enum {
    FASTAGE_HALF,    /* one direction is proven */
    FASTAGE_FAST,    /* forwarded */
    FASTAGE_PROBING, /* forwarded, and its copy is on its way */
    FASTAGE_EXPIRED, /* without proof: the next packet goes slow */
    FASTAGE_STALE,   /* of a former generation */
} FastState;
/* "half", "fast", … */
const char *fastage_state_text(FastState state);

typedef struct {
    struct layout_tuple key; /* addresses as the layout has them, both families */
    struct layout_flow flow;
    FastState state;
} FastFlow;

/* Removes what is idle or stale. How many; *ret_left (may be NULL) stay. */
guint fastage_run(FastLoad *load, guint *ret_left);
/* Each flow, in no order; borrowed for the call. */
typedef void (*FastVisit)(const FastFlow *flow, void *data);
void fastage_visit(FastLoad *load, FastVisit visit, void *data);
/* All flows, FastFlow elements; caller unrefs. */
GArray *fastage_flows(FastLoad *load);
/* Sums over the cores, LAYOUT_REASON_COUNT of them. */
bool fastage_counters(FastLoad *load, guint64 *ret_counters, GError **error);
/* "tcp-flags", …; NULL when out of range. */
const char *fastage_reason_text(guint reason);
