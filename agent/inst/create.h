/* create.h: new instances: from an image, from nothing, as a copy.
 * Threads: main loop, inside fibers; all yield. */
#pragma once
#include "agent/api/operation.h"
#include "agent/inst/record.h"

/* Local key of an instance whose creation has not ended: a start that finds it deletes the instance. */
#define CREATE_UNFINISHED "volatile.hawser.unfinished"

/* Takes the row into the database and the table, with volatile keys (and, when asked, a root disk on
 * the only pool) filled in, marked unfinished. Checks name, config, devices, project limits. 'row' is
 * taken. A reference. */
Inst *create_record(Agent *agent, InstRow **row, bool find_root, GError **error);
/* Volume keys of the root disk: its size; a new reference. */
json_t *create_volume_config(Inst *inst);
/* Contents; on failure the instance is deleted again. */
bool create_from_image(Inst *inst, Operation *op, const char *fingerprint, GError **error);
bool create_empty(Inst *inst, GError **error);
/* From an instance or one of its snapshots ('snap' may be NULL). */
bool create_copy(Inst *inst, Operation *op, Inst *from, const char *snap, bool instance_only,
                 GError **error);
/* 'inst' becomes as 'from' is now: content, and with its snapshots unless instance_only. */
bool create_refresh(Inst *inst, Operation *op, Inst *from, bool instance_only, GError **error);
/* The creation is complete: takes the mark away. */
bool create_finish(Inst *inst, const char *trigger, GError **error);
void create_abort(Inst *inst);
/* After a rename: its templates are due, unless they are since it was made or copied; cloud-init takes it
 * for another. */
bool create_renamed(Inst *inst, GError **error);

/* volatile.<nic>.hwaddr for each NIC that has no address yet, into 'config'. */
void create_add_hwaddrs(json_t *config, json_t *x_devices);
/* Config, devices and cross rules, as POST, PUT and PATCH need them: FAILED "Invalid config: …".
 * 'inst' may be NULL. */
bool create_check(Agent *agent, const char *project, const char *name, const char *type, Inst *inst,
                  json_t *profiles, json_t *config, json_t *devices, GError **error);
