/* ovn_uplink.h: what a network gives to ovn networks as their uplink: gateways, DNS servers, the ranges
 * of router addresses, the routes that children may take, and its wiring on this host.
 * Threads: main loop, inside fibers; ovn_uplink_of() and what only reads it anywhere. */
#pragma once
#include "agent/net/netobj.h"

/* IPv4, IPv6. */
typedef struct {
    char *name;
    char *type;       /* "bridge", "physical" */
    char *gateway[2]; /* "10.94.0.1"; NULL: none */
    char *cidr[2];    /* "10.94.0.1/24" */
    char **dns[2];    /* servers of the family, gateways unless set */
    char **ranges[2]; /* "10.94.0.200-10.94.0.250" */
    char **routes[2]; /* external subnets that children may use */
    bool anycast[2];  /* those may overlap */
    bool l2proxy;
} OvnUplink;
OvnUplink *ovn_uplink_of(const char *name, const char *type, json_t *config);
void ovn_uplink_free(OvnUplink *uplink);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(OvnUplink, ovn_uplink_free)

/* Can it be one (ranges for its IPv4 gateway, some gateway)? INVALID naming it. */
bool ovn_uplink_check(const OvnUplink *uplink, GError **error);
/* The first address of the ranges that is not in 'taken' (texts), with the uplink's prefix length:
 * "10.94.0.200/24"; IPv6 without ranges is EUI-64 of 'mac'. NULL without an error when the uplink has
 * no such family; LIMIT when nothing is left. Caller frees. */
char *ovn_uplink_pick(const OvnUplink *uplink, int family, const char *mac, GHashTable *taken,
                      GError **error);
/* "10.94.0.200" with the uplink's prefix length; caller frees. */
char *ovn_uplink_with_prefix(const OvnUplink *uplink, int family, const char *address);

/* Wires the uplink into Open vSwitch on this host (5.6): OVS bridge, veth pair or port, and
 * ovn-bridge-mappings. Repeats safely. Yields. */
bool ovn_wire_up(Network *uplink, GError **error);
/* Takes it away again: called when no ovn network needs it any more. Yields. */
bool ovn_wire_down(Network *uplink, GError **error);
