/* livedisk.h: the disks that move with a running virtual machine: its root disk, and the custom block volumes that
 * are attached to it. Threads: main loop, inside fibers; all yield. */
#pragma once
#include "agent/inst/record.h"
#include "agent/move/livehello.h"

/* Source: adds the block nodes that move to 'nodes' (char *), the root disk first, and to 'blockers' each disk that
 * can't. */
void livedisk_list(Inst *inst, GPtrArray *nodes, json_t *blockers);

/* Target: adds to 'blockers' what keeps its volumes from taking the source's disks: each has to be there, of the same
 * size, empty, and of this instance alone; and no other disk of the instance is written. */
void livedisk_check(Inst *inst, const struct live_hello *hello, json_t *blockers);
/* Target, after a move that failed: the custom volumes that livedisk_check() found empty are empty again. */
void livedisk_clear(Inst *inst);
