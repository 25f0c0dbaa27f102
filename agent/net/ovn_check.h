/* ovn_check.h: what a right network of type ovn is, and a right NIC on one: rules between keys, between
 * networks, and with the uplink.
 * Threads: main loop, inside fibers. */
#pragma once
#include "agent/net/netobj.h"
#include "agent/net/nicuse.h"

/* Defaults of a new network: its uplink when the project may use just one, addresses and NAT. INVALID
 * when an uplink has to be chosen. Yields. */
bool ovn_check_fill(NetTable *table, const char *project, json_t *config, GError **error);
/* Rules between the keys of one network. */
bool ovn_check_config(const char *name, json_t *config, GError **error);
/* Against its uplink, its project and the other networks. 'id' is 0 for a new one; addresses may still
 * be "auto". Errors name both parties. Yields. */
bool ovn_check_network(NetTable *table, const char *project, const char *name, gint64 id,
                       json_t *config, GError **error);
/* A NIC: addresses, routes, nesting. LXD's words. Yields. */
bool ovn_check_nic(NicUse *use, GError **error);
/* A network that is (or would be, with 'config') the uplink of others still serves them. Yields. */
bool ovn_check_uplink_of(Network *uplink, json_t *config, GError **error);
/* The subnets of every managed network: struct subnet elements, for "auto". */
void ovn_check_subnets(NetTable *table, GArray *subnets);
