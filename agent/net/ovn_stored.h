/* ovn_stored.h: what the database has of ovn networks: ports of NICs, peerings, forwards, load balancers.
 * A reconcile asks for the same rows again and again (each network, and each of its peers); they are read
 * once and kept until the next write to the database.
 * Threads: from a fiber. Yields when something has to be read. */
#pragma once
#include "agent/agent.h"

typedef enum {
    OVN_STORED_PORTS,     /* OvnPort */
    OVN_STORED_PEERS,     /* PeerRow */
    OVN_STORED_FORWARDS,  /* ForwardRow */
    OVN_STORED_BALANCERS, /* BalancerRow */
    OVN_STORED_KINDS
} OvnStored;

/* Rows of one network, a new reference to a list that others share: read only. */
GPtrArray *ovn_stored(Agent *agent, OvnStored kind, gint64 network_id, GError **error);
/* Reads what is not known of all networks at once: for who is about to ask for each of them. */
bool ovn_stored_all(Agent *agent, GError **error);
