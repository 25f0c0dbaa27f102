/* netlife.h: networks made, changed, renamed, deleted: row first, then the world.
 * Threads: main loop, inside fibers. */
#pragma once
#include "agent/net/netobj.h"

/* Checks, stores, starts. 'config' is stolen. LXD's words. Yields. */
bool netlife_create(NetTable *table, const char *project, const char *name, const char *type,
                    const char *description, json_t *config, GError **error);
/* 'config' is the whole new one, stolen. What fails is undone. Yields. */
bool netlife_update(Network *net, const char *description, json_t *config, GError **error);
bool netlife_rename(Network *net, const char *name, GError **error); /* Yields. */
bool netlife_delete(Network *net, GError **error);                   /* Yields. */
/* URLs of the instances, profiles and (of an uplink) networks that use the network of that name in the
 * project, a new reference. Yields. */
json_t *netlife_used_by(NetTable *table, const char *project, const char *name);
