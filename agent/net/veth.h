/* veth.h: the host side of NICs that are veth pairs: bridged, p2p, routed.
 * Threads: main loop, inside fibers. */
#pragma once
#include "agent/net/nicuse.h"

struct veth_spec {
    char *host, *peer;     /* owned; of a tap, the same name */
    bool tap;              /* of a virtual machine */
    int netns;             /* where the peer is, by the NIC's name; 0: it is to be handed in */
    const char *bridge;    /* NULL: not in one */
    char **routes[2];      /* owned: IPv4, IPv6 prefixes that lead to the instance */
    const char *route_dev; /* NULL: the host side */
    const char *vlan;      /* "none", a number, NULL: the bridge's default */
    const char *vlan_tagged;
    bool isolated, hairpin, no_ipv6;
};
void veth_spec_done(struct veth_spec *spec);
/* Makes the pair with the NIC's MAC, MTU, queue length and limits, and brings the host side up; notes
 * host_name. On failure nothing is left. Yields. */
bool veth_make(NicUse *use, struct veth_spec *spec, GError **error);
/* What is left to hand in; NULL for nothing. Caller frees. */
char *veth_to_move(const struct veth_spec *spec);
/* Removes the host side (NULL: none), and with it the other. Yields. */
bool veth_remove(const char *host, GError **error);
/* Sets the limits of a NIC that runs. Yields. */
bool veth_set_limits(NicUse *use, GError **error);
bool veth_clear_limits(NicUse *use, GError **error);
/* Routes to the instance by a host interface: 'old' ones go, 'now' ones come. Yields. */
bool veth_set_routes(const char *dev, int family, char **old, char **now, GError **error);
