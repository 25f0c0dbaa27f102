/* netstate.h: interfaces of the host as REST shows them.
 * Threads: main loop, inside fibers. */
#pragma once
#include "agent/net/network.h"
#include "agent/net/subnet.h"

/* GET …/networks/NAME/state of an interface, a new reference; NOT_FOUND. Yields. */
json_t *netstate_of(const char *ifname, GError **error);
/* The state of a network whose interface is not there; a new reference. */
json_t *netstate_unavailable(void);
/* ifname → "bridge", "physical", …: what LXD lists as unmanaged networks; a new reference. Yields. */
json_t *netstate_interfaces(GError **error);
/* Every subnet that the host has an address in or a route to: struct subnet elements. Yields. */
GArray *netstate_taken(GError **error);
