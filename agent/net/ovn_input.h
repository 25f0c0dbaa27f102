/* ovn_input.h: gathers what the rows of an ovn network depend on: its config, its uplink, its NICs.
 * Threads: main loop, inside fibers. */
#pragma once
#include "agent/net/netobj.h"
#include "agent/net/ovn_rows.h"

/* Everything of the network as rows and memory have it now; caller frees. Yields. */
OvnNetInput *ovn_input_gather(Network *net, GError **error);
/* The same without the hooks below. Yields. */
OvnNetInput *ovn_input_plain(Network *net, GError **error);
/* The same, with those NICs only that others need routes to: what a peer has to know. Yields. */
OvnNetInput *ovn_input_routes(Network *net, GError **error);
/* The managed network with this id, referenced; NULL: none. */
Network *ovn_input_network(NetTable *table, gint64 id);

/* Hooks called by ovn_input_gather(): they fill in->peers, in->acls, in->balancers with elements that
 * the array frees (ovn_peer.c, ovn_acl.c, ovn_lb.c). Yield. */
bool ovn_peer_gather(Network *net, OvnNetInput *in, GError **error);
bool ovn_acl_gather(Network *net, OvnNetInput *in, GError **error);
bool ovn_lb_gather(Network *net, OvnNetInput *in, GError **error);
