/* restrict.h: limits.* and restricted.* of a project, held against what is in it.
 * Pure functions over JSON. An entity is {"name","type","config","devices"}, expanded, its type
 * "container", "virtual-machine" or "profile". Threads: any. */
#pragma once
#include "base/error.h"
#include <jansson.h>

typedef struct {
    const char *project;
    json_t *config;     /* of the project */
    json_t *instances;  /* array of entities */
    json_t *volumes;    /* custom ones: "pool/name" → size, "" without */
    gint64 image_bytes; /* of the one that is coming; stored ones do not count, as in LXD */
    gint64 networks;
} RestrictScope;

/* restricted.*: may this one be? INVALID with LXD's words. */
bool restrict_entity(const RestrictScope *scope, json_t *entity, GError **error);
/* LXD_UNPRIVILEGED_ONLY=true in the agent's environment: nothing may run as the host's root. INVALID. */
bool restrict_unprivileged_only(json_t *config, GError **error);
/* limits.*: do all of them fit? 'is_update' chooses the words: a limit that is set too low, or a
 * newcomer that is too much. */
bool restrict_totals(const RestrictScope *scope, bool is_update, GError **error);
/* {"instances":{"Limit":-1,"Usage":0},…} of GET …/state; a new reference. */
json_t *restrict_state(const RestrictScope *scope);
/* Whether a NIC may be on this network (managed) or host interface. */
bool restrict_network_allowed(json_t *config, const char *network, bool managed);
/* The entry of restricted.devices.disk.paths that a disk's source is in, cleaned; caller frees. By name
 * only: links are the opener's to watch. False when there is none; NULL when any source may be. */
bool restrict_disk_parent(json_t *config, const char *source, char **ret_parent);
