/* netreq.h: what requests below networks, zones and ACLs have in common.
 * Threads: main loop, inside fibers. */
#pragma once
#include "agent/api/server.h"
#include "agent/net/netobj.h"

/* The network of the request's "name", if the caller may see it and its driver is one of 'drivers' (ends
 * with NULL; NULL: any). NOT_FOUND, INVALID "Network driver … does not support <what>". A reference. */
Network *netreq_network(Request *req, const char *const *drivers, const char *what, GError **error);
/* A row's config after a body's: replaced, or with 'merge' (PATCH) laid over what was. Keys with an empty
 * value are not set: they go. 'config' is stolen. */
void netreq_config(json_t **row_config, json_t *config, bool merge);
