/* show.h: instances and snapshots as REST shows them. Threads: main loop. */
#pragma once
#include "agent/inst/record.h"

json_t *show_instance(Inst *inst);
/* With state, snapshots and backups (recursion=2). Yields. */
json_t *show_full(Inst *inst);
json_t *show_snapshot(Inst *inst, const SnapRow *snap);
/* What an ETag is made of. */
json_t *show_tagged(Inst *inst);
/* "state": cpu, disk, memory, network, pid, processes. Yields. */
json_t *show_state(Inst *inst);
/* "/1.0/instances/c1", with the project when it is not the default one; caller frees. */
char *show_url(Inst *inst, const char *collection);
