/* bridge.h: a bridge network's interface: the bridge, its addresses, routes, tunnels and members.
 * Threads: main loop, inside fibers. */
#pragma once
#include "agent/net/netobj.h"

/* Makes the interface as the config says; what is right already is left alone. 'old_config' is NULL
 * at start-up, else the config that was in force. Yields. */
bool bridge_up(Network *net, json_t *old_config, GError **error);
/* Removes it and its tunnels; not there is success. Yields. */
bool bridge_down(const char *name, GError **error);
/* With bridged traffic going through the firewall (br_netfilter), a packet that an address forward
 * turns back to its sender never leaves the bridge: true when ports have to send back by themselves. */
bool bridge_needs_hairpin(void);
/* Has every port of an instance do so, from now on. Yields. */
bool bridge_set_hairpin(const char *name, GError **error);
/* The MTU that the config gives. */
guint bridge_mtu(json_t *config);
/* Tunnel names of a config ("tunnel.NAME.protocol"), sorted, NULL-terminated; caller frees. */
char **bridge_tunnels(json_t *config);
