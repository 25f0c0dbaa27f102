/* livecheck.h: what stands in the way of a live move, at either end.
 * Threads: main loop, inside fibers. */
#pragma once
#include "agent/inst/record.h"
#include "agent/move/livehello.h"

/* Texts; the caller's. The block nodes that move with it are added to 'disks' (char *). Queue held; the machine
 * runs. What QEMU has against NICs that liveswap.h takes away first is not asked yet. Yields. */
json_t *livecheck_blockers(Inst *inst, GPtrArray *disks);
/* What QEMU itself would refuse at the very end. Yields. */
bool livecheck_qemu(Inst *inst, GError **error);

/* At the target, of what the source has said; the caller's. */
json_t *livecheck_here(Inst *inst, const struct live_hello *hello);
