/* meter.h: how far a worker has come, shown on an operation.
 * Threads: meter_start() and meter_stop() on the main loop; meter_add(), meter_set_total() and
 * meter_cancelled() on any. NULL is a meter that shows nothing and is never cancelled. */
#pragma once
#include "agent/api/operation.h"

typedef struct Meter Meter;
/* Shows "<prefix>: 12% (3.4MB/s)" below 'key' of the operation's metadata until meter_stop(). op
 * NULL counts only; prefix may be NULL. The operation and 'key' outlive the meter. */
Meter *meter_start(Operation *op, const char *key, const char *prefix);
void meter_stop(Meter *meter); /* frees it */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Meter, meter_stop)

void meter_set_total(Meter *meter, gint64 bytes);
void meter_add(Meter *meter, gint64 bytes);
void meter_set(Meter *meter, gint64 bytes);
bool meter_cancelled(Meter *meter);
GCancellable *meter_cancel(Meter *meter); /* borrowed; may be NULL */
