/* livebrake.h: a guest that writes faster than its pages can be sent is slowed down: it stands still for a part of
 * every BRAKE_PERIOD_MS.
 * Threads: main loop, inside fibers. */
#pragma once
#include "agent/vm/qmp.h"

typedef struct LiveBrake LiveBrake;
enum { LIVEBRAKE_STEP = 25, LIVEBRAKE_MOST = 90 }; /* percent of the time */

/* Borrows 'qmp'; does nothing yet. */
LiveBrake *livebrake_new(Qmp *qmp);
/* It stands still for LIVEBRAKE_STEP percent more of the time, up to LIVEBRAKE_MOST: the percentage. */
guint livebrake_harder(LiveBrake *brake);
/* From here to livebrake_let() the caller stops and resumes the guest, which runs when this returns. Yields. */
void livebrake_hold(LiveBrake *brake);
void livebrake_let(LiveBrake *brake);
/* The guest runs at full speed, unless it is held. Yields. NULL is fine. */
void livebrake_free(LiveBrake *brake);
