/* parent.h: networks that only name a host interface: physical, macvlan, sriov.
 * Threads: main loop, inside fibers. */
#pragma once
#include "agent/net/netobj.h"

/* Checks that the parent is there; a physical network with a vlan makes that interface and sets the
 * MTU. Yields. */
bool parent_up(Network *net, json_t *old_config, GError **error);
/* Takes back what parent_up() made. Yields. */
bool parent_down(Network *net, GError **error);
/* "eth0", or "eth0.5" where the config has a vlan; caller frees. */
char *parent_ifname(const char *parent, const char *vlan);
