/* ovn_net.h: networks of type ovn: checked, brought up, changed, taken down.
 * Threads: main loop, inside fibers. */
#pragma once
#include "agent/net/netobj.h"

/* Makes the northbound database as the rows of these networks (and of those that depend on them: both
 * sides of a peering) say; one transaction. Waits for the southbound database, 10 s. Errors name the
 * network and the database. Yields. */
bool ovn_net_apply(Network *net, GError **error);
/* The same for several networks, Network elements, in one transaction. Yields. */
bool ovn_net_apply_many(NetTable *table, GPtrArray *networks, GError **error);
/* Networks whose rows depend on this one's NICs and subnets, besides itself: the far sides of its
 * peerings (ovn_peer.c). Referenced elements. Yields. */
GPtrArray *ovn_peer_dependents(Network *net);

/* Every external use of an address or subnet in the family: subnets of networks without NAT, NAT
 * addresses, external routes of NICs, forwards and load balancers. False with EXISTS or INVALID, naming
 * both parties, when 'cidr' is outside what the uplink allows the network or overlaps another's use.
 * 'what' names our side ("Forward listen address"); 'except' (may be NULL) is a use of the same network
 * that does not count: its listen address. Yields. */
bool ovn_net_check_external(Network *net, const char *what, const char *cidr, const char *except,
                            GError **error);
