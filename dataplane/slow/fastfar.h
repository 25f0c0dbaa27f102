/* fastfar.h: the fast path between hosts as the daemon sees it: which networks, by which uplinks.
 * Like ports (fastload.h) it is pinned and goes on without us.
 * Threads: one, the daemon's. Nothing Yields. */
#pragma once
#include "dataplane/slow/fastload.h"

typedef struct {
    guint32 vni;  /* of the network's logical switch */
    guint16 zone; /* 1 to LAYOUT_ZONES - 1 */
} FarNetwork;

/* These networks and no others; zones that any joins or leaves are bumped. */
bool fastfar_set_networks(FastLoad *load, const FarNetwork *networks, gsize count, GError **error);
/* Sees the interface by which Geneve packets leave and arrive. 'pair' is our end of a veth pair into whose other
 * end the uplink's XDP program sends them (OVS's userspace datapath); 0: they are seen on the uplink itself.
 * 'mtu' is the uplink's. Again changes it. */
bool fastfar_set_uplink(FastLoad *load, guint32 ifindex, guint32 pair, guint mtu, GError **error);
/* Without error when it isn't seen. */
bool fastfar_unset_uplink(FastLoad *load, guint32 ifindex, GError **error);
/* Interfaces that are seen; guint32 elements, caller unrefs. */
GArray *fastfar_uplinks(FastLoad *load);
