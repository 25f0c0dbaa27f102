/* netacl.h: network ACLs: their rules checked, and turned into lines of nftables.
 * Threads: main loop, inside fibers; checks and text anywhere. */
#pragma once
#include "agent/net/netobj.h"

/* Lines for the ACLs that a bridge network names in security.acls, with its default actions; NULL
 * when it names none. An ACL that is gone is an error. Yields. */
bool netacl_rules_of(Network *net, char ***ret_rules, GError **error);
/* The lines of one ACL rule ({"action","source",…}) on a bridge: one for each family that it is good
 * for, appended to 'lines'. UNSUPPORTED for subjects that a bridge cannot filter by. */
bool netacl_rule_text(json_t *rule, const char *direction, const char *bridge, const char *log_name,
                      GPtrArray *lines, GError **error);
/* Everything LXD checks of an ACL's body: names of ACLs that subjects may use in 'names'
 * (NULL-terminated). Blanks are trimmed in place. INVALID with LXD's words. */
bool netacl_check(json_t *body, const char *const *names, GError **error);
bool netacl_check_name(const char *name, GError **error);
/* The ACLs in security.acls exist in the project. Yields. */
bool netacl_check_exist(Agent *agent, const char *project, const char *list, GError **error);
/* AF_INET or AF_INET6 of "10.0.0.1", "10.0.0.0/24", "10.0.0.1-10.0.0.9"; 0 when it is none of them. */
int netacl_family(const char *subject);
