/* ovn_peer.h: peerings of ovn networks: what the rows of one side need to know of the other.
 * The builder's hooks are declared in ovn_rows.h, the gatherer's in ovn_input.h.
 * Threads: ovn_peer_rows() any; else main loop, inside fibers. */
#pragma once
#include "agent/net/netobj.h"
#include "agent/net/ovn_rows.h"

/* The other side of a peering that holds. Strings are owned, NULL when there is none. */
typedef struct {
    gint64 id;          /* of the other network */
    char *router[2];    /* its router's own addresses, IPv4 and IPv6 */
    char **prefixes[2]; /* what is behind it: its subnets, and what is routed to its NICs */
} OvnPeer;
OvnPeer *ovn_peer_new(gint64 id);
void ovn_peer_free(OvnPeer *peer);

/* Could this network, with this config, be peered with all that it is or would be peered with?
 * 'extra' (may be NULL) is one more network. INVALID names both networks and the subnets that overlap.
 * Yields. */
bool ovn_peer_check(Network *net, json_t *config, Network *extra, GError **error);
/* Could these prefixes be routed to a NIC of the network, or do they overlap a peer's subnet? INVALID
 * names both. Yields. */
bool ovn_peer_check_routes(Network *net, char *const *routes, GError **error);
