/* farlink.h: the uplinks that the fast path between hosts uses, and the filter of what comes in there.
 * Threads: main loop, inside fibers where marked "Yields". */
#pragma once
#include "dataplane/slow/fastload.h"
#include "proto/dpd.pb-c.h"

typedef struct FarLinks FarLinks;
/* 'load' is borrowed; NULL where there is no fast path. */
FarLinks *farlink_new(FastLoad *load);
/* What is attached goes on without us. With 'end' nothing does. */
void farlink_free(FarLinks *links, bool end);

/* Makes networks, uplinks and the filter be as 'want' says. What an uplink can't do is said in its state
 * (farlink_states), and its packets take the switch. UNSUPPORTED where there is no fast path. Yields. */
bool farlink_apply(FarLinks *links, const Dpd__FastFar *want, GError **error);
/* Fills uplinks with counters; what it points to lives until the next call. */
void farlink_states(FarLinks *links, Dpd__FastStats *ret);
