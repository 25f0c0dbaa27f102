/* instances.h: what the handlers of /1.0/instances, of its POST and of snapshots share.
 * Threads: main loop, inside fibers. */
#pragma once
#include "agent/inst/inst.h"

/* The instance that the path names; NOT_FOUND. A reference. */
Inst *instances_req(Request *req, GError **error);
/* Of an operation: {"instances":[url],"containers":[url]}; a new reference. */
json_t *instances_resources(Inst *inst);
/* INVALID "Invalid instance name: …". */
bool instances_check_name(const char *name, GError **error);
/* Parts of a body, checked for shape, new references. */
json_t *instances_string_map(json_t *map, const char *what, GError **error);
json_t *instances_device_map(json_t *map, GError **error);
json_t *instances_profiles(json_t *list, GError **error);

/* instance_post.c */
bool instance_post(Request *req, GError **error);
/* instance_snapshots.c */
bool instance_snapshots_get(Request *req, GError **error);
bool instance_snapshots_post(Request *req, GError **error);
bool instance_snapshot_get(Request *req, GError **error);
bool instance_snapshot_put(Request *req, GError **error);
bool instance_snapshot_post(Request *req, GError **error);
bool instance_snapshot_delete(Request *req, GError **error);
