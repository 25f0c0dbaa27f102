/* leases.h: who has which address on a bridge network, as REST shows it.
 * Threads: main loop, inside fibers. */
#pragma once
#include "agent/net/netobj.h"

/* The leases that a project sees: the gateway, static addresses, dynamic ones; a new array. Yields. */
json_t *leases_of(Network *net, const char *project);
/* Removes the static leases of NICs that are no more (a crash kept them). Yields. */
void leases_sweep(Network *net);
