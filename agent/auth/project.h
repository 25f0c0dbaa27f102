/* project.h: projects and profiles as other modules need them.
 * Threads: main loop, inside fibers. */
#pragma once
#include "agent/agent.h"
#include "agent/api/server.h"
#include "base/fiber.h"

/* The project's config, a new reference; NOT_FOUND "Project not found". Yields. */
json_t *project_config(Agent *agent, const char *project, GError **error);
/* In which project the objects of a kind live: 'project' itself when the feature is on, else
 * "default". Borrowed from the arguments or static. Yields. */
const char *project_for_images(Agent *agent, const char *project);
const char *project_for_profiles(Agent *agent, const char *project);
const char *project_for_volumes(Agent *agent, const char *project);
const char *project_for_networks(Agent *agent, const char *project);
const char *project_for_zones(Agent *agent, const char *project);
/* "web1" in the default project, else "<project>_web1": names of volumes and host objects. */
char *project_object_name(const char *project, const char *name);

/* Held from a check against limits.* until what was checked is stored, so that two at a time do not both fit; no
 * lock (NULL) for a project without limits. Not to be taken twice by a fiber. Yields. */
FiberHold project_hold(Agent *agent, const char *project);
/* What a change would make of an instance or a volume, held against limits.* and restricted.* of the
 * project. 'instance' is {"name","type","config","devices"} expanded. Yields. */
bool project_allow_instance(Agent *agent, const char *project, json_t *instance, GError **error);
/* A custom volume with this config, beside the stored ones. Yields. */
bool project_allow_volume(Agent *agent, const char *project, json_t *volume_config, GError **error);
/* May instances and callers of the project use this network, or interface of the host? Yields. */
bool project_allow_network(Agent *agent, const char *project, const char *network, bool managed,
                           GError **error);
/* May instances share this path of the host? The entry of restricted.devices.disk.paths that holds it,
 * NULL when any path may be shared; caller frees. By name: links are the opener's to watch. Yields. */
bool project_allow_disk(Agent *agent, const char *project, const char *source, char **ret_parent,
                        GError **error);
/* May the project make this DNS zone? DENIED. Yields. */
bool project_allow_zone(Agent *agent, const char *project, const char *zone, GError **error);
/* One more network, or image of so many bytes, in the project. Yield. */
bool project_allow_new_network(Agent *agent, const char *project, GError **error);
bool project_allow_image(Agent *agent, const char *project, gint64 bytes, GError **error);
/* "Project "x" doesn't allow for snapshot creation". Yield. */
bool project_allow_snapshot(Agent *agent, const char *project, GError **error);
bool project_allow_backup(Agent *agent, const char *project, GError **error);
/* volatile.* keys that a request would set or change: in a restricted project only harmless ones.
 * 'old' may be NULL. Yields. */
bool project_allow_volatile(Agent *agent, const char *project, const char *type, const char *name,
                            json_t *old, json_t *config, GError **error);
/* A profile as it would be stored. Yields. */
bool project_allow_profile(Agent *agent, const char *project, json_t *profile, GError **error);
/* Everything in the project against a config that it would get. LXD's words. Yields. */
bool project_allow_config(Agent *agent, const char *project, json_t *config, GError **error);
/* {"instances":{"Limit","Usage"},…}, a new reference. Yields. */
json_t *project_state(Agent *agent, const char *project, GError **error);

/* {"name","description","config","devices"} of a profile, a new reference; NOT_FOUND. Yields. */
json_t *profile_load(Agent *agent, const char *project, const char *name, GError **error);
extern const Route project_routes[];
extern const Route profile_routes[];
