/* ovn_acluse.h: which ACLs are in use on ovn networks, and what their rows follow from.
 * Threads: main loop, inside fibers. */
#pragma once
#include "agent/net/netobj.h"

/* Hands the scopes "acl<id>" to the reconciler, once; the table of networks is new. */
void ovn_acluse_register(void);
/* May the ACLs in this list be applied to the network: is each peer that their rules name there?
 * INVALID with LXD's words. Yields. */
bool ovn_acluse_check(Agent *agent, const char *project, const char *net, const char *acls,
                      GError **error);
/* The same for rules that an ACL on the network would have. Yields. */
bool ovn_acluse_check_rules(Network *net, json_t *ingress, json_t *egress, GError **error);
/* Ovn networks that have the ACL on themselves or on a NIC, or one that names it: referenced elements;
 * NULL on failure. Yields. */
GPtrArray *ovn_acluse_networks(NetTable *table, const char *project, const char *name,
                               GError **error);
