/* ovn_acl.h: network ACLs on ovn networks: port groups and their rules.
 * The builder's hook is declared in ovn_rows.h, the gatherer's in ovn_input.h; who uses which ACL is
 * ovn_acluse.h's.
 * Threads: any; pure. */
#pragma once
#include "agent/net/ovn_rows.h"

/* An ACL with what its subjects mean. JSON values are owned. */
typedef struct {
    gint64 id, project_id;
    char *name;
    json_t *ingress, *egress; /* rules, as stored */
    json_t *groups;           /* name of an ACL → its id */
    json_t *peers; /* "net/peer" → id of the network behind it; without those that do not
                                 hold now */
} OvnAcl;
OvnAcl *ovn_acl_new(gint64 id, gint64 project_id, const char *name);
void ovn_acl_free(OvnAcl *acl);

/* The ACL's own group with the rules that mean the same on every network: scope "acl<id>". */
void ovn_acl_group(OvnPlan *plan, const OvnAcl *acl);
/* The match of a rule on the ports of 'group'; NULL when it cannot match anything, since what it names
 * does not exist. 'net_id' is 0 where the rule has to mean the same on every network; then
 * *ret_needs_net tells that it does not, and the result is NULL. Caller frees. */
char *ovn_acl_match(const OvnAcl *acl, json_t *rule, bool ingress, const char *group, gint64 net_id,
                    bool *ret_needs_net);
/* security.acls of the network and of a NIC on it, each once; caller frees. */
char **ovn_acl_names(json_t *net_config, json_t *nic_config);
