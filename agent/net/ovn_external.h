/* ovn_external.h: addresses of ovn networks that are seen outside: who uses which, and what an uplink
 * and a project allow.
 * Threads: main loop, inside fibers. */
#pragma once
#include "agent/net/netobj.h"
#include "agent/net/ovn_uplink.h"

/* One use that is asked for. All borrowed. */
struct ovn_external {
    const OvnUplink *uplink;
    const char *project, *network; /* whose */
    gint64 network_id;             /* 0: not there yet */
    const char *what;              /* "Subnet", "NAT address", "External route", … */
    const char *cidr;
    const char *own_nic;    /* "<instance id>/<device>": its uses do not count; NULL */
    const char *own_listen; /* a listen address of the network that does not count; NULL */
};
/* Held by forwards and load balancers of all networks from the check of a listen address until it is stored: two at
 * a time would both find it free. Yields. */
FiberHold ovn_external_hold(void);
/* INVALID when it is outside what is allowed, EXISTS when somebody else has it. Names both. Yields. */
bool ovn_external_check(NetTable *table, const struct ovn_external *use, GError **error);
