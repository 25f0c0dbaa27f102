/* snaprow.h: rows of an instance's snapshots, as those who bring content over make and drop them.
 * Threads: main loop, inside fibers; all Yield. */
#pragma once
#include "agent/inst/record.h"

/* An expiry long past: of a snapshot whose volume is not there yet, or is going away. Whatever a crash
 * leaves is thus removed by the first pass after the start (snapshot.c, S1). */
#define SNAPROW_EXPIRED 1

/* The row, expired; 'row' gets its id, and keeps its own expiry. */
bool snaprow_begin(Inst *inst, SnapRow *row, GError **error);
/* Its volume is there: it gets row->expires_at. */
bool snaprow_done(Inst *inst, const SnapRow *row, GError **error);
/* All at once, in one transaction: of a volume that is complete. */
bool snaprow_insert_all(Inst *inst, GPtrArray *rows, GError **error);
/* Row and volume; 'vol' is the instance's. */
bool snaprow_drop(Inst *inst, const Vol *vol, const SnapRow *row, GError **error);
