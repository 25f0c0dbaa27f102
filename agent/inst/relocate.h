/* relocate.h: an instance on another pool of this server, in another project, by another name.
 * Threads: main loop, inside fibers; all Yield. */
#pragma once
#include "agent/api/operation.h"
#include "agent/inst/record.h"

/* Where it goes: 'row' has project, name, config, devices (with the root disk on the new pool) and
 * profiles as they shall be; id and times do not matter. */
bool relocate_move(Inst *inst, Operation *op, const InstRow *row, bool instance_only,
                   GError **error);
/* The row that the instance would have: root disk on 'pool' (NULL: where it is). Caller frees. */
InstRow *relocate_row(Inst *inst, const char *pool, const char *project, const char *name,
                      GError **error);
/* At start: the second volume of a move that a crash cut short goes (journal.c). */
bool relocate_repair(Inst *inst, json_t *from, json_t *to, GError **error);
