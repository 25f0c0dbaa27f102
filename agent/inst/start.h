/* start.h: the steps from a stopped container to a running one, and their undoing.
 * Threads: main loop, inside fibers, with the instance's queue held. */
#pragma once
#include "agent/inst/record.h"

/* From STOPPED to RUNNING; back to STOPPED on failure. Yields. */
bool start_run(Inst *inst, GError **error);
/* The same by another way in: fn goes from STARTING as far as it wants; when it fails, all is undone. */
typedef bool (*StartFn)(Inst *inst, void *data, GError **error);
bool start_by(Inst *inst, StartFn fn, void *data, GError **error);
/* The containers' driver's start. */
bool start_container(Inst *inst, GError **error);
/* After init is gone, or to undo: devices, mount, run directory, rows. Repeats safely. 'power' is what
 * volatile.last_state.power becomes, NULL leaves it. Yields. */
void start_undo(Inst *inst, const char *power);
