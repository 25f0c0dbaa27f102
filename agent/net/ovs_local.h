/* ovs_local.h: changes of this host's Open vSwitch: bridges, ports, bridge mappings.
 * Threads: main loop, inside fibers. Each is one transaction that changes only what differs, and waits
 * until ovs-vswitchd has done it (10 s at most: TIMEOUT). Yields. */
#pragma once
#include "agent/agent.h"

/* A bridge of the datapath that br-int has. There already is success. */
bool ovs_local_add_bridge(Agent *agent, const char *name, GError **error);
/* With all its ports. Not there is success. */
bool ovs_local_del_bridge(Agent *agent, const char *name, GError **error);
bool ovs_local_has_bridge(Agent *agent, const char *name);
/* Puts an interface of the host on the bridge; 'iface_id' may be NULL. Another port with that iface-id,
 * and another place of the interface, go. */
bool ovs_local_add_port(Agent *agent, const char *bridge, const char *netdev, const char *iface_id,
                        GError **error);
/* Takes the port off whatever bridge it is on. Not there is success. */
bool ovs_local_del_port(Agent *agent, const char *netdev, GError **error);
/* Interface with this iface-id; NULL for none. Caller frees. */
char *ovs_local_find(Agent *agent, const char *iface_id);
/* An entry of ovn-bridge-mappings; with 'bridge' NULL it goes. */
bool ovs_local_map(Agent *agent, const char *uplink, const char *bridge, GError **error);
