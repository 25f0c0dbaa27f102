/* show.h: instances and snapshots as REST shows them. Threads: main loop. */
#pragma once
#include "agent/inst/record.h"

json_t *show_instance(Inst *inst);
/* Its text, kept with the instance until something of it changes; borrowed until then. */
const char *show_instance_text(Inst *inst, size_t *ret_size);
/* That text; the instance goes. Takes NULL. */
void show_forget(InstShown *shown);
/* With state, snapshots and backups (recursion=2). Yields. */
json_t *show_full(Inst *inst);
/* As show_full(), for lists: 'with_snapshots' (may be NULL: unknown) has the ids of those that have
 * snapshots, so that the others cost no query. Yields. */
json_t *show_full_listed(Inst *inst, GHashTable *with_snapshots);
/* The ids of instances that have snapshots; NULL when they can't be read; caller unrefs. Yields. */
GHashTable *show_with_snapshots(Agent *agent);
json_t *show_snapshot(Inst *inst, const SnapRow *snap);
/* What an ETag is made of. */
json_t *show_tagged(Inst *inst);
/* "state": cpu, disk, memory, network, pid, processes. Yields. */
json_t *show_state(Inst *inst);
/* What a container's driver says for it: cpu, memory, network, pid, processes. Yields. */
json_t *show_container_state(Inst *inst);
/* "/1.0/instances/c1", with the project when it is not the default one; caller frees. */
char *show_url(Inst *inst, const char *collection);
