/* livecheck.h: what stands in the way of a live move, at the source.
 * Threads: main loop, inside fibers. */
#pragma once
#include "agent/inst/record.h"

/* Texts; the caller's. The block nodes that move with it are added to 'disks' (char *). Queue held; the machine
 * runs. What QEMU has against NICs that liveswap.h takes away first is not asked yet. Yields. */
json_t *livecheck_blockers(Inst *inst, GPtrArray *disks);
/* What QEMU itself would refuse at the very end. Yields. */
bool livecheck_qemu(Inst *inst, GError **error);
