/* start.h: the steps from a stopped container to a running one, and their undoing.
 * Threads: main loop, inside fibers, with the instance's queue held. */
#pragma once
#include "agent/inst/record.h"

/* From STOPPED to RUNNING; back to STOPPED on failure. Yields. */
bool start_run(Inst *inst, GError **error);
/* After init is gone, or to undo: devices, mount, run directory, rows. Repeats safely. 'power' is what
 * volatile.last_state.power becomes, NULL leaves it. Yields. */
void start_undo(Inst *inst, const char *power);
