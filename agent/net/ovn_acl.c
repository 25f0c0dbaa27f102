/* ACLs of ovn networks, as OVN knows them: a port group an ACL, which holds the ports that it is for and
 * the rules; so one change of a rule is one row, however many NICs there are.
 * A1  Rules apply in the order drop, reject, allow; then what the NIC says of the rest (egress before
 *     ingress, by more than the 10 that OVN adds to a reject's priority).
 * A2  A rule that names @internal or @external means another port on each network: it is in a group of
 *     its own for each network, which holds the switch's router port to bind it there.
 * A3  A subject that does not exist (yet, or any more) matches nothing: a rule that is left with none
 *     is not there.
 * A4  The default action holds as soon as there is an ACL, even one without rules.
 * Every rule is to-lport, as LXD has them: both ports of a packet are known there. Pure: inputs are
 * gathered by ovn_acluse.c. Called by ovn_rows.c, ovn_acluse.c. */
#include "agent/net/ovn_acl.h"

#include <string.h>
#include <sys/socket.h>

#include "agent/net/netacl.h"
#include "agent/ovn/plan.h"
#include "proto/grammar.h"
#include "proto/keys.h"

enum { ALLOW = 300, REJECT = 400, DROP = 500, DEFAULT_EGRESS = 111, DEFAULT_INGRESS = 100 };
enum { NAME_MOST = 63 }; /* of an ACL row, by the schema */

OvnAcl *
ovn_acl_new(gint64 id, gint64 project_id, const char *name)
{
    OvnAcl *acl = g_new0(OvnAcl, 1);
    acl->id = id;
    acl->project_id = project_id;
    acl->name = g_strdup(name);
    acl->groups = json_object();
    acl->peers = json_object();
    return acl;
}

void
ovn_acl_free(OvnAcl *acl)
{
    if (acl != NULL) {
        g_free(acl->name);
        json_decref(acl->ingress);
        json_decref(acl->egress);
        json_decref(acl->groups);
        json_decref(acl->peers);
        g_free(acl);
    }
}

static char *
group_name(gint64 acl)
{
    return g_strdup_printf("lxd_acl%" G_GINT64_FORMAT, acl);
}

static const char *
text_of(json_t *rule, const char *field)
{
    const char *text = keys_get(rule, field);
    return text != NULL ? text : "";
}

char **
ovn_acl_names(json_t *net_config, json_t *nic_config)
{
    json_t *const configs[] = {net_config, nic_config};
    GPtrArray *list = g_ptr_array_new();
    for (size_t i = 0; i < G_N_ELEMENTS(configs); i++) {
        g_auto(GStrv) names = grammar_list(keys_get(configs[i], "security.acls"));
        for (char **name = names; *name != NULL; name++) {
            if (!g_ptr_array_find_with_equal_func(list, *name, g_str_equal, NULL)) {
                g_ptr_array_add(list, g_strdup(*name));
            }
        }
    }
    g_ptr_array_add(list, NULL);
    return (char **) g_ptr_array_free(list, FALSE);
}

/* ---- matches ---- */

static void
put_alternative(GString *text, const char *alternative)
{
    g_string_append_printf(text, "%s%s", text->len > 0 ? " || " : "", alternative);
}

static void
put_part(GString *match, const char *part)
{
    g_string_append_printf(match, "%s(%s)", match->len > 0 ? " && " : "", part);
}

/* What an address, a subnet or a range is in OVN's language. */
static char *
address_text(const char *subject, int family, const char *side)
{
    const char *ip = family == AF_INET ? "ip4" : "ip6";
    g_auto(GStrv) ends = g_strsplit(subject, "-", 2);
    if (ends[1] == NULL) {
        return g_strdup_printf("%s.%s == %s", ip, side, subject);
    }
    return g_strdup_printf("(%s.%s >= %s && %s.%s <= %s)", ip, side, g_strstrip(ends[0]), ip, side,
                           g_strstrip(ends[1]));
}

static bool
is_word(const char *subject, const char *word)
{
    return (subject[0] == '@' || subject[0] == '#') && strcmp(subject + 1, word) == 0;
}

/* Of a name: a port or a group of them, or the address sets of a peer; NULL for what is not there. */
static char *
name_text(const OvnAcl *acl, const char *subject, bool source, gint64 net_id)
{
    const char *port = source ? "inport" : "outport";
    const char *side = source ? "src" : "dst";
    if (is_word(subject, "internal")) {
        g_autofree char *group = ovn_rows_group(net_id);
        return g_strdup_printf("%s == @%s", port, group);
    }
    if (is_word(subject, "external")) {
        g_autofree char *router = ovn_rows_name(net_id, OVN_ROWS_LSP_INT);
        return g_strdup_printf("%s == \"%s\"", port, router);
    }
    if (subject[0] == '@') {
        gint64 behind = json_integer_value(json_object_get(acl->peers, subject + 1));
        g_autofree char *set4 = ovn_rows_set(behind, 4);
        g_autofree char *set6 = ovn_rows_set(behind, 6);
        return behind != 0
                   ? g_strdup_printf("ip6.%s == $%s || ip4.%s == $%s", side, set6, side, set4)
                   : NULL;
    }
    gint64 other = json_integer_value(json_object_get(acl->groups, subject));
    g_autofree char *group = group_name(other);
    return other != 0 ? g_strdup_printf("%s == @%s", port, group) : NULL;
}

/* False when the list is not empty and nothing in it exists (A3). */
static bool
put_subjects(GString *match, const OvnAcl *acl, const char *list, bool source, gint64 net_id,
             bool *ret_needs_net)
{
    g_auto(GStrv) subjects = grammar_list(list);
    g_autoptr(GString) any = g_string_new(NULL);
    for (char **subject = subjects; *subject != NULL; subject++) {
        int family = netacl_family(*subject);
        if (family == 0 && net_id == 0 &&
            (is_word(*subject, "internal") || is_word(*subject, "external"))) {
            *ret_needs_net = true; /* A2 */
            return false;
        }
        g_autofree char *text = family != 0 ? address_text(*subject, family, source ? "src" : "dst")
                                            : name_text(acl, *subject, source, net_id);
        if (text != NULL) {
            put_alternative(any, text);
        }
    }
    if (any->len > 0) {
        put_part(match, any->str);
    }
    return subjects[0] == NULL || any->len > 0;
}

static void
put_ports(GString *match, const char *protocol, const char *side, const char *list)
{
    g_auto(GStrv) ports = grammar_list(list);
    g_autoptr(GString) any = g_string_new(NULL);
    for (char **port = ports; *port != NULL; port++) {
        g_auto(GStrv) ends = g_strsplit(*port, "-", 2);
        g_autofree char *text =
            ends[1] == NULL
                ? g_strdup_printf("%s.%s == %s", protocol, side, ends[0])
                : g_strdup_printf("(%s.%s >= %s && %s.%s <= %s)", protocol, side,
                                  g_strstrip(ends[0]), protocol, side, g_strstrip(ends[1]));
        put_alternative(any, text);
    }
    if (any->len > 0) {
        put_part(match, any->str);
    }
}

static void
put_protocol(GString *match, json_t *rule)
{
    const char *protocol = text_of(rule, "protocol");
    static const char *const icmp[][2] = {{"icmp_type", "type"}, {"icmp_code", "code"}};
    if (*protocol == '\0') {
        return;
    }
    put_part(match, protocol);
    if (!g_str_has_prefix(protocol, "icmp")) {
        put_ports(match, protocol, "src", text_of(rule, "source_port"));
        put_ports(match, protocol, "dst", text_of(rule, "destination_port"));
        return;
    }
    for (size_t i = 0; i < G_N_ELEMENTS(icmp); i++) {
        const char *number = text_of(rule, icmp[i][0]);
        g_autofree char *part = g_strdup_printf("%s.%s == %s", protocol, icmp[i][1], number);
        if (*number != '\0') {
            put_part(match, part);
        }
    }
}

char *
ovn_acl_match(const OvnAcl *acl, json_t *rule, bool ingress, const char *group, gint64 net_id,
              bool *ret_needs_net)
{
    g_autoptr(GString) match = g_string_new(NULL);
    g_autofree char *ports = g_strdup_printf("%s == @%s", ingress ? "outport" : "inport", group);
    *ret_needs_net = false;
    put_part(match, ports);
    /* Both sides are looked at, so that a need of either is seen. */
    bool needs[2] = {false, false};
    bool from = put_subjects(match, acl, text_of(rule, "source"), true, net_id, &needs[0]);
    bool to = put_subjects(match, acl, text_of(rule, "destination"), false, net_id, &needs[1]);
    if (needs[0] || needs[1]) {
        *ret_needs_net = true;
        return NULL;
    }
    if (!from || !to) {
        return NULL;
    }
    put_protocol(match, rule);
    return g_string_free(g_steal_pointer(&match), FALSE);
}

/* ---- rows ---- */

static json_t *
columns_of(const char *action, int priority, const char *match, const char *log_name,
           json_t *external_ids /* stolen */)
{
    g_autofree char *name = log_name != NULL ? g_strndup(log_name, NAME_MOST) : NULL;
    return json_pack("{s:s, s:s, s:i, s:s, s:b, s:o, s:o}", "direction", "to-lport", "action",
                     action, "priority", priority, "match", match, "log", name != NULL, "name",
                     name != NULL ? json_string(name) : json_null(), "external_ids", external_ids);
}

/* The rules of one direction that are for this group: with net_id 0 the ACL's own, else those that mean
 * something else on each network. */
static void
put_rules(OvnPlan *plan, const char *scope, const char *group, const OvnAcl *acl, bool ingress,
          gint64 net_id)
{
    g_autofree char *ports = group_name(acl->id);
    json_t *rule;
    size_t i;
    json_array_foreach (ingress ? acl->ingress : acl->egress, i, rule) {
        const char *state = text_of(rule, "state");
        const char *action = text_of(rule, "action");
        bool own = false;
        g_autofree char *general = ovn_acl_match(acl, rule, ingress, ports, 0, &own);
        if (strcmp(state, "disabled") == 0 || own != (net_id != 0)) {
            continue;
        }
        g_autofree char *match = own ? ovn_acl_match(acl, rule, ingress, ports, net_id, &own)
                                     : g_steal_pointer(&general);
        if (match == NULL) { /* A3 */
            continue;
        }
        bool allow = strcmp(action, "allow") == 0;
        int priority = allow ? ALLOW : strcmp(action, "reject") == 0 ? REJECT : DROP; /* A1 */
        g_autofree char *name =
            g_strdup_printf("%s-%s-%zu", group, ingress ? "ingress" : "egress", i);
        g_autofree char *key =
            g_strdup_printf("%s/%s/%zu", group, ingress ? "ingress" : "egress", i);
        ovnplan_row(plan, scope, "ACL", key,
                    columns_of(allow ? "allow-related" : action, priority, match,
                               strcmp(state, "logged") == 0 ? name : NULL,
                               json_pack("{s:s}", "lxd_port_group", group)));
        ovnplan_into(plan, "ACL", key, "Port_Group", group, "acls");
    }
}

void
ovn_acl_group(OvnPlan *plan, const OvnAcl *acl)
{
    g_autofree char *scope = g_strdup_printf("acl%" G_GINT64_FORMAT, acl->id);
    g_autofree char *group = group_name(acl->id);
    g_autofree char *project = g_strdup_printf("%" G_GINT64_FORMAT, acl->project_id);
    g_autofree char *either = g_strdup_printf("inport == @%s || outport == @%s", group, group);
    g_autofree char *last = g_strdup_printf("%s/last", group);
    ovnplan_row(
        plan, scope, "Port_Group", group,
        json_pack("{s:s, s:{s:s}}", "name", group, "external_ids", "lxd_project_id", project));
    put_rules(plan, scope, group, acl, true, 0);
    put_rules(plan, scope, group, acl, false, 0);
    ovnplan_row(plan, scope, "ACL", last,
                columns_of("drop", 0, either, NULL, json_pack("{s:s}", "lxd_port_group", group)));
    ovnplan_into(plan, "ACL", last, "Port_Group", group, "acls");
}

/* A2. The group is there for every ACL on the network, as LXD has it. */
static void
put_net_group(OvnNetRows *rows, const OvnAcl *acl)
{
    g_autofree char *base = group_name(acl->id);
    g_autofree char *group = g_strdup_printf("%s_net%" G_GINT64_FORMAT, base, rows->in->id);
    g_autofree char *project = g_strdup_printf("%" G_GINT64_FORMAT, acl->project_id);
    g_autofree char *ls = ovn_rows_name(rows->in->id, OVN_ROWS_LS_INT);
    g_autofree char *router = ovn_rows_name(rows->in->id, OVN_ROWS_LSP_INT);
    ovn_rows_add(rows, "Port_Group", group,
                 json_pack("{s:s, s:[{s:s}], s:{s:s, s:s, s:s}}", "name", group, "ports", "ref",
                           router, "external_ids", "lxd_port_group", base, "lxd_project_id",
                           project, "lxd_switch", ls),
                 OVN_IN_NONE);
    put_rules(rows->plan, rows->scope, group, acl, true, rows->in->id);
    put_rules(rows->plan, rows->scope, group, acl, false, rows->in->id);
}

/* A key of the NIC, else of the network; NULL when neither has it. */
static const char *
default_of(const OvnNetRows *rows, const OvnNic *nic, const char *direction, const char *what)
{
    g_autofree char *key = g_strdup_printf("security.acls.default.%s.%s", direction, what);
    const char *own = keys_get(nic->config, key);
    return own != NULL ? own : keys_get(rows->in->config, key);
}

/* A4 */
static void
put_default(OvnNetRows *rows, const OvnNic *nic, bool ingress)
{
    const char *direction = ingress ? "ingress" : "egress";
    const char *action = default_of(rows, nic, direction, "action");
    bool logged = grammar_parse_bool(default_of(rows, nic, direction, "logged"), false);
    g_autofree char *group = ovn_rows_group(rows->in->id);
    g_autofree char *key = g_strdup_printf("%s/%s/%s", group, nic->lsp, direction);
    g_autofree char *match =
        g_strdup_printf("%s == \"%s\"", ingress ? "outport" : "inport", nic->lsp);
    g_autofree char *name = g_strdup_printf("%s-%s", nic->log_name, direction);
    action = action == NULL ? "reject" : strcmp(action, "allow") == 0 ? "allow-related" : action;
    ovn_rows_add(
        rows, "ACL", key,
        columns_of(action, ingress ? DEFAULT_INGRESS : DEFAULT_EGRESS, match, logged ? name : NULL,
                   json_pack("{s:s, s:s}", "lxd_port_group", group, "lxd_switch_port", nic->lsp)),
        OVN_IN_GROUP_ACLS);
}

static const OvnAcl *
acl_named(const OvnNetRows *rows, const char *name)
{
    for (guint i = 0; i < rows->in->acls->len; i++) {
        const OvnAcl *acl = g_ptr_array_index(rows->in->acls, i);
        if (strcmp(acl->name, name) == 0) {
            return acl;
        }
    }
    return NULL;
}

static void
put_nic(OvnNetRows *rows, const OvnNic *nic)
{
    g_auto(GStrv) names = ovn_acl_names(rows->in->config, nic->config);
    for (char **name = names; *name != NULL; name++) {
        const OvnAcl *acl = acl_named(rows, *name);
        if (acl != NULL) {
            g_autofree char *group = group_name(acl->id);
            ovnplan_into(rows->plan, "Logical_Switch_Port", nic->lsp, "Port_Group", group, "ports");
        }
    }
    if (names[0] != NULL) {
        put_default(rows, nic, false);
        put_default(rows, nic, true);
    }
}

void
ovn_acl_rows(OvnNetRows *rows)
{
    for (guint i = 0; rows->in->acls != NULL && i < rows->in->acls->len; i++) {
        put_net_group(rows, g_ptr_array_index(rows->in->acls, i));
    }
    for (guint i = 0; rows->in->acls != NULL && i < rows->in->nics->len; i++) {
        const OvnNic *nic = g_ptr_array_index(rows->in->nics, i);
        if (nic->running) {
            put_nic(rows, nic);
        }
    }
}
