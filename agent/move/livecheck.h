/* livecheck.h: what stands in the way of a live move, at the source.
 * Threads: main loop, inside fibers. */
#pragma once
#include "agent/inst/record.h"

/* Texts; the caller's. The block nodes that move with it are added to 'disks' (char *). Queue held; the machine
 * runs. Yields. */
json_t *livecheck_blockers(Inst *inst, GPtrArray *disks);
