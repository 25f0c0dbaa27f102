/* instance_move.h: POST /1.0/instances/{name} and its snapshots' twin, where a body says "migration"; and
 * the "migration" kind of source of a new instance.
 * Threads: main loop, inside fibers. */
#pragma once
#include "agent/api/operation.h"
#include "agent/inst/inst.h"

/* To another pool or project of this server, or to another server. 'snap' NULL: the instance. */
bool instance_move_post(Request *req, Inst *inst, const char *snap, GError **error);
