/* still.h: an instance that does not write while its volume is copied.
 * Threads: main loop, inside fibers; both Yield. Under the instance's queue. */
#pragma once
#include "agent/inst/record.h"

/* Freezes it when it runs; true when it was frozen here. */
bool still_begin(Inst *inst);
void still_end(Inst *inst, bool frozen);
