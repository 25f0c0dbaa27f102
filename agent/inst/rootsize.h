/* rootsize.h: the size of an instance's root disk follows its device.
 * Threads: main loop, inside fibers; both Yield. */
#pragma once
#include "agent/inst/record.h"

/* From one set of expanded devices to another. What can't be done while a virtual machine runs is noted
 * in 'changes' for its next start. FAILED when a disk would shrink. */
bool rootsize_change(Inst *inst, json_t *from, json_t *to, json_t *changes, GError **error);
/* Before a start, with the volume not in use: does what was noted, and takes the note away. */
bool rootsize_settle(Inst *inst, json_t *changes, GError **error);
