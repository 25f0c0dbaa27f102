/* netcheck.h: what a right network is: names, keys, values, and the values of "auto".
 * Threads: main loop, inside fibers where marked. */
#pragma once
#include "agent/agent.h"

/* Keys and values of a type's config. INVALID, with LXD's words. */
bool netcheck_config(const char *name, const char *type, json_t *config, GError **error);
bool netcheck_name(const char *name, const char *type, GError **error);
/* An empty value is a key that is not set: it goes. */
void netcheck_drop_empty(json_t *config);
/* A new network's defaults (addresses and NAT of a bridge). */
void netcheck_fill(const char *type, json_t *config);
/* Puts an address that is free on this host in the place of "auto"; 'also' (struct subnet elements, may
 * be NULL) is not free, too. Yields. */
bool netcheck_resolve_auto(json_t *config, GArray *also, GError **error);
