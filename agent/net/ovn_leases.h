/* ovn_leases.h: who has which address on an ovn network.
 * Threads: main loop, inside fibers. */
#pragma once
#include "agent/net/netobj.h"

/* The body of GET …/leases, for instances of the project; a new reference. Yields. */
json_t *ovn_leases_of(Network *net, const char *project, GError **error);
/* Router addresses of the ovn networks on an uplink, as leases of type "uplink", appended to 'list'. */
void ovn_leases_uplink(Network *uplink, json_t *list);
