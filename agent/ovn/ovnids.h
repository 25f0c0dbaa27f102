/* ovnids.h: ids of networks and ACLs, which names of rows in the northbound database are made of
 * ("lxd-net3-lr"): no two servers on one database may choose the same.
 * Threads: main loop. */
#pragma once
#include "agent/agent.h"

typedef struct {
    gint64 first, last;
} OvnIds;
/* For what has no rows in OVN. */
OvnIds ovnids_plain(void);
/* For networks and ACLs of this server in OVN. */
OvnIds ovnids_own(Agent *agent);
/* For a network that is one with those of its name on other servers: a single id, the same on all. */
OvnIds ovnids_shared(const char *project, const char *name);
