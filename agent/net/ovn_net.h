/* ovn_net.h: networks of type ovn: checked, brought up, changed, taken down.
 * Threads: main loop, inside fibers. */
#pragma once
#include "agent/net/netobj.h"

/* Tells the reconciler how networks become rows; once, when the table is made. */
void ovn_net_register(void);
/* As netobj_up() and netobj_down() for this type. While the agent starts, rows are left to the
 * reconciler, so that databases that are away hold nothing up. Yield. */
bool ovn_net_up(Network *net, json_t *old_config, GError **error);
bool ovn_net_down(Network *net, GError **error);

/* Makes the northbound database as the rows of this network (and of those that depend on it: the far
 * sides of its peerings) say; one transaction. Waits for the southbound database, 10 s. Errors name the
 * network and the database. Yields. */
bool ovn_net_apply(Network *net, GError **error);
/* The same for several networks, Network elements, in one transaction. Yields. */
bool ovn_net_apply_many(NetTable *table, GPtrArray *networks, GError **error);
/* The same in the background, until it holds. */
void ovn_net_kick(Network *net);
/* Hook (ovn_peer.c): networks whose rows depend on this one's NICs and subnets: the far sides of its
 * peerings. Referenced elements. Yields. */
GPtrArray *ovn_peer_dependents(Network *net);
/* Hook (ovn_peer.c): appends the URLs of networks whose peerings make this one used. Yields. */
void ovn_peer_used_by(Network *net, json_t *urls);
/* Hook (ovn_acl.c): appends the scopes ("acl5", owned) that have to be applied with the network, as its
 * rows refer to theirs. Yields. */
void ovn_acl_scopes(Network *net, GPtrArray *scopes);

/* Whether 'cidr' may be used outside by the network: INVALID when it is beyond what the uplink or the
 * project allow, EXISTS when it overlaps another's use (subnets of networks without NAT, NAT addresses,
 * external routes of NICs, forwards and load balancers); the error names both parties. 'what' names our
 * side ("Forward listen address"); 'except' (may be NULL) is a listen address of the same network that
 * does not count. Yields. */
bool ovn_net_check_external(Network *net, const char *what, const char *cidr, const char *except,
                            GError **error);

/* GET …/state of the network; a new reference. */
json_t *ovn_net_state(Network *net);
/* An uplink's config changed: the networks on it follow (router addresses, gateways, DNS servers). What
 * fails is logged, and tried again later. Yields. */
void ovn_net_uplink_changed(Network *uplink);
/* URLs of the ovn networks that have this one as their uplink, appended. */
void ovn_net_children(Network *uplink, json_t *urls);
