/* Network ACLs: what a right one is, and what it becomes on a bridge.
 * C1  Rules apply in the order drop, reject, allow, then the default action of the direction; the
 *     order inside an ACL means nothing.
 * C2  A bridge is filtered at the host's border only: never between two NICs of the bridge, and never
 *     by the name of an ACL, a network or a peer (that takes OVN).
 * Called by network.c (rules), netacl_api.c (checks). */
#include "agent/net/netacl.h"

#include <string.h>

#include "agent/net/subnet.h"
#include "agent/state/acls.h"
#include "proto/grammar.h"
#include "proto/keys.h"

static const char *const fields[] = {
    "action",           "source",    "destination", "protocol",    "source_port",
    "destination_port", "icmp_type", "icmp_code",   "description", "state"};
static const char *const reserved_names[] = {"@internal", "#internal", "@external", "#external"};

static const char *
text_of(json_t *rule, const char *field)
{
    const char *text = json_string_value(json_object_get(rule, field));
    return text != NULL ? text : "";
}

static bool
one_of(const char *text, const char *list)
{
    g_auto(GStrv) words = g_strsplit(list, ", ", -1);
    return g_strv_contains((const char *const *) words, text);
}

/* ---- checks ---- */

struct subjects {
    bool name, four, six;
};

int
netacl_family(const char *subject)
{
    struct subnet first;
    struct subnet last;
    if (subnet_parse(subject, &first)) {
        return first.family;
    }
    g_auto(GStrv) ends = g_strsplit(subject, "-", 2);
    if (g_strv_length(ends) == 2 && strchr(subject, '/') == NULL && subnet_parse(ends[0], &first) &&
        subnet_parse(ends[1], &last) && first.family == last.family &&
        memcmp(first.address, last.address, sizeof(first.address)) <= 0) {
        return first.family;
    }
    return 0;
}

static bool
known_name(const char *subject, const char *const *names)
{
    const char *slash = strchr(subject, '/');
    for (size_t i = 0; i < G_N_ELEMENTS(reserved_names); i++) {
        if (strcmp(subject, reserved_names[i]) == 0) {
            return true;
        }
    }
    return (names != NULL && g_strv_contains(names, subject)) ||
           (subject[0] == '@' && slash != NULL && slash != subject + 1 && slash[1] != '\0');
}

static bool
check_subjects(const char *list, const char *field, const char *direction, bool names_allowed,
               const char *const *names, struct subjects *ret, GError **error)
{
    g_auto(GStrv) subjects = g_strsplit(list, ",", -1);
    for (char **subject = subjects; *list != '\0' && *subject != NULL; subject++) {
        g_strstrip(*subject);
        int family = netacl_family(*subject);
        if (family == AF_INET) {
            ret->four = true;
        } else if (family == AF_INET6) {
            ret->six = true;
        } else if (!known_name(*subject, names)) {
            return haw_fail(error, HAW_INVALID, "Invalid %s: Invalid subject \"%s\"", field,
                            *subject);
        } else if (!names_allowed) {
            return haw_fail(error, HAW_INVALID,
                            "Invalid %s: Named subjects not allowed in \"%s\" for \"%s\" rules",
                            field, field, direction);
        } else {
            ret->name = true;
        }
    }
    return true;
}

static bool
check_ports(const char *list, const char *field, GError **error)
{
    g_auto(GStrv) ports = g_strsplit(list, ",", -1);
    for (char **port = ports; *list != '\0' && *port != NULL; port++) {
        g_strstrip(*port);
        if (**port == '\0' || (!grammar_port(*port, NULL) && !grammar_port_range(*port, NULL))) {
            return haw_fail(error, HAW_INVALID, "Invalid %s port: Invalid port \"%s\"", field,
                            *port);
        }
    }
    return true;
}

static bool
check_icmp_number(const char *text, const char *what, GError **error)
{
    return *text == '\0' || grammar_uint8(text, error) || haw_push(error, "Invalid ICMP %s", what);
}

static bool
check_icmp(json_t *rule, const struct subjects *from, const struct subjects *to, GError **error)
{
    const char *protocol = text_of(rule, "protocol");
    bool four = strcmp(protocol, "icmp4") == 0;
    const char *other = four ? "IPv6" : "IPv4";
    if (*text_of(rule, "source_port") != '\0') {
        return haw_fail(error, HAW_INVALID, "Source port cannot be used with \"%s\" protocol",
                        protocol);
    }
    if (*text_of(rule, "destination_port") != '\0') {
        return haw_fail(error, HAW_INVALID, "Destination port cannot be used with \"%s\" protocol",
                        protocol);
    }
    if (four ? from->six : from->four) {
        return haw_fail(error, HAW_INVALID, "Cannot use %s source addresses with \"%s\" protocol",
                        other, protocol);
    }
    if (four ? to->six : to->four) {
        return haw_fail(error, HAW_INVALID,
                        "Cannot use %s destination addresses with \"%s\" protocol", other,
                        protocol);
    }
    return check_icmp_number(text_of(rule, "icmp_type"), "type", error) &&
           check_icmp_number(text_of(rule, "icmp_code"), "code", error);
}

static bool
check_protocol(json_t *rule, const struct subjects *from, const struct subjects *to, GError **error)
{
    static const struct {
        const char *field, *name;
    } dependent[] = {{"icmp_type", "ICMP type"},
                     {"icmp_code", "ICMP code"},
                     {"source_port", "Source port"},
                     {"destination_port", "Destination port"}};
    const char *protocol = text_of(rule, "protocol");
    if (*protocol == '\0') {
        for (size_t i = 0; i < G_N_ELEMENTS(dependent); i++) {
            if (*text_of(rule, dependent[i].field) != '\0') {
                return haw_fail(error, HAW_INVALID, "%s cannot be used without specifying protocol",
                                dependent[i].name);
            }
        }
        return true;
    }
    if (!one_of(protocol, "icmp4, icmp6, tcp, udp")) {
        return haw_fail(error, HAW_INVALID, "Protocol must be one of: icmp4, icmp6, tcp, udp");
    }
    if (g_str_has_prefix(protocol, "icmp")) {
        return check_icmp(rule, from, to, error);
    }
    for (size_t i = 0; i < 2; i++) {
        if (*text_of(rule, dependent[i].field) != '\0') {
            return haw_fail(error, HAW_INVALID, "%s cannot be used with non-ICMP protocol",
                            dependent[i].name);
        }
    }
    return check_ports(text_of(rule, "source_port"), "Source", error) &&
           check_ports(text_of(rule, "destination_port"), "Destination", error);
}

static bool
check_rule(json_t *rule, const char *direction, const char *const *names, GError **error)
{
    struct subjects from = {0};
    struct subjects to = {0};
    bool ingress = strcmp(direction, "ingress") == 0;
    if (!one_of(text_of(rule, "action"), "allow, drop, reject")) {
        return haw_fail(error, HAW_INVALID, "Action must be one of: allow, drop, reject");
    }
    if (!one_of(text_of(rule, "state"), "enabled, disabled, logged")) {
        return haw_fail(error, HAW_INVALID, "State must be one of: enabled, disabled, logged");
    }
    const char *source = text_of(rule, "source");
    const char *destination = text_of(rule, "destination");
    if (!check_subjects(source, "Source", direction, ingress, names, &from, error) ||
        !check_subjects(destination, "Destination", direction, !ingress, names, &to, error)) {
        return false;
    }
    if (*source != '\0' && *destination != '\0' &&
        ((from.four && !to.four && !to.name) || (to.four && !from.four && !from.name) ||
         (from.six && !to.six && !to.name) || (to.six && !from.six && !from.name))) {
        return haw_fail(error, HAW_INVALID,
                        "Conflicting IP family types used for Source and Destination");
    }
    return check_protocol(rule, &from, &to, error);
}

/* Known fields only, all of them texts, blanks trimmed: so that equal rules are equal objects. */
static bool
normalise(json_t *rule, GError **error)
{
    const char *key;
    json_t *value;
    void *next;
    if (!json_is_object(rule)) {
        return haw_fail(error, HAW_INVALID, "Invalid rule: not an object");
    }
    json_object_foreach_safe (rule, next, key, value) {
        bool known = false;
        for (size_t i = 0; i < G_N_ELEMENTS(fields); i++) {
            known = known || strcmp(fields[i], key) == 0;
        }
        if (!known) {
            json_object_del(rule, key);
        } else if (!json_is_string(value)) {
            return haw_fail(error, HAW_INVALID, "Invalid rule: \"%s\" is not a string", key);
        }
    }
    for (size_t i = 0; i < G_N_ELEMENTS(fields); i++) {
        g_autofree char *text = g_strstrip(g_strdup(text_of(rule, fields[i])));
        if (*text != '\0') {
            json_object_set_new(rule, fields[i], json_string(text));
        } else {
            json_object_del(rule, fields[i]);
        }
    }
    return true;
}

static bool
check_direction(json_t *body, const char *direction, const char *const *names, GError **error)
{
    json_t *rules = json_object_get(body, direction);
    json_t *rule;
    size_t i;
    if (rules == NULL || json_is_null(rules)) {
        json_object_set_new(body, direction, json_array());
        return true;
    }
    if (!json_is_array(rules)) {
        return haw_fail(error, HAW_INVALID, "\"%s\" is not a list of rules", direction);
    }
    json_array_foreach (rules, i, rule) {
        if (!normalise(rule, error)) {
            return false;
        }
    }
    json_array_foreach (rules, i, rule) {
        if (!check_rule(rule, direction, names, error)) {
            return haw_push(error, "Invalid %s rule %zu", direction, i);
        }
        for (size_t k = 0; k < json_array_size(rules); k++) {
            if (k != i && json_equal(rule, json_array_get(rules, k))) {
                return haw_fail(error, HAW_INVALID, "Duplicate of %s rule %zu", direction, i);
            }
        }
    }
    return true;
}

bool
netacl_check(json_t *body, const char *const *names, GError **error)
{
    const char *key;
    json_t *value;
    json_object_foreach (json_object_get(body, "config"), key, value) {
        if (!g_str_has_prefix(key, "user.")) {
            return haw_fail(error, HAW_INVALID, "Invalid config option \"%s\"", key);
        }
        if (!json_is_string(value)) {
            return haw_fail(error, HAW_INVALID, "Invalid value for config option \"%s\"", key);
        }
    }
    return check_direction(body, "ingress", names, error) &&
           check_direction(body, "egress", names, error);
}

bool
netacl_check_name(const char *name, GError **error)
{
    if (name == NULL || *name == '\0') {
        return haw_fail(error, HAW_INVALID, "Name is required");
    }
    if (strchr("@%#", name[0]) != NULL) {
        return haw_fail(error, HAW_INVALID, "Name cannot start with reserved character '%c'",
                        name[0]);
    }
    return grammar_hostname(name, error);
}

bool
netacl_check_exist(Agent *agent, const char *project, const char *list, GError **error)
{
    g_auto(GStrv) names = grammar_list(list);
    for (char **name = names; *name != NULL; name++) {
        g_autoptr(GError) mine = NULL;
        g_autoptr(AclRow) row = aclrow_load(agent->db, project, *name, &mine);
        if (row == NULL && haw_code(mine) == HAW_NOT_FOUND) {
            return haw_fail(error, HAW_INVALID, "Network ACL \"%s\" does not exist", *name);
        }
        if (row == NULL) {
            g_propagate_error(error, g_steal_pointer(&mine));
            return false;
        }
        for (char **other = names; other < name; other++) {
            if (strcmp(*other, *name) == 0) {
                return haw_fail(error, HAW_INVALID, "Duplicate ACL \"%s\"", *name);
            }
        }
    }
    return true;
}

/* ---- text ---- */

/* "ip saddr {…}" of one family; false when none of the subjects is of that family. */
static bool
put_subjects(GString *text, const char *list, int family, const char *side, GError **error)
{
    g_auto(GStrv) subjects = grammar_list(list);
    g_autoptr(GString) set = g_string_new(NULL);
    for (char **subject = subjects; *subject != NULL; subject++) {
        int found = netacl_family(*subject);
        if (found == 0) { /* C2 */
            return haw_fail(error, HAW_UNSUPPORTED,
                            "Unsupported nftables subject \"%s\": not an address", *subject);
        }
        if (found == family) {
            g_string_append_printf(set, "%s%s", set->len > 0 ? ", " : "", *subject);
        }
    }
    if (set->len > 0) {
        g_string_append_printf(text, " %s %s {%s}", family == AF_INET ? "ip" : "ip6", side,
                               set->str);
    }
    return set->len > 0;
}

static void
put_port_set(GString *text, const char *protocol, const char *side, const char *list)
{
    g_auto(GStrv) ports = grammar_list(list);
    if (ports[0] != NULL) {
        g_autofree char *joined = g_strjoinv(", ", ports);
        g_string_append_printf(text, " %s %s {%s}", protocol, side, joined);
    }
}

static void
put_protocol(GString *text, json_t *rule)
{
    const char *protocol = text_of(rule, "protocol");
    const char *type = text_of(rule, "icmp_type");
    const char *code = text_of(rule, "icmp_code");
    if (strcmp(protocol, "tcp") == 0 || strcmp(protocol, "udp") == 0) {
        g_string_append_printf(text, " meta l4proto %s", protocol);
        put_port_set(text, protocol, "sport", text_of(rule, "source_port"));
        put_port_set(text, protocol, "dport", text_of(rule, "destination_port"));
    } else if (*protocol != '\0') {
        bool four = strcmp(protocol, "icmp4") == 0;
        const char *name = four ? "icmp" : "icmpv6";
        g_string_append_printf(text, " %s %s", four ? "ip protocol" : "ip6 nexthdr", name);
        if (*type != '\0') {
            g_string_append_printf(text, " %s type %s", name, type);
        }
        if (*code != '\0') {
            g_string_append_printf(text, " %s code %s", name, code);
        }
    }
}

/* Whether the rule says anything about the family. */
static bool
suits_family(json_t *rule, int family)
{
    const char *protocol = text_of(rule, "protocol");
    return !(strcmp(protocol, "icmp4") == 0 && family == AF_INET6) &&
           !(strcmp(protocol, "icmp6") == 0 && family == AF_INET);
}

static void
put_verdict(GString *text, const char *action, const char *log_name)
{
    if (log_name != NULL) {
        g_string_append_printf(text, " log prefix \"%s \"", log_name);
    }
    g_string_append_printf(text, " %s", strcmp(action, "allow") == 0 ? "accept" : action);
}

bool
netacl_rule_text(json_t *rule, const char *direction, const char *bridge, const char *log_name,
                 GPtrArray *lines, GError **error)
{
    const char *source = text_of(rule, "source");
    const char *destination = text_of(rule, "destination");
    bool addressed = *source != '\0' || *destination != '\0';
    const int families[] = {AF_INET, AF_INET6};
    /* A rule without addresses is one line, good for both families. */
    for (int i = 0; i < (addressed ? 2 : 1); i++) {
        g_autoptr(GError) mine = NULL;
        g_autoptr(GString) text = g_string_new(NULL);
        g_string_append_printf(text, "%s \"%s\"",
                               strcmp(direction, "ingress") == 0 ? "oifname" : "iifname", bridge);
        bool suits = !addressed || suits_family(rule, families[i]);
        if (suits && *source != '\0') {
            suits = put_subjects(text, source, families[i], "saddr", &mine);
        }
        if (suits && *destination != '\0') {
            suits = put_subjects(text, destination, families[i], "daddr", &mine);
        }
        if (mine != NULL) {
            g_propagate_error(error, g_steal_pointer(&mine));
            return false;
        }
        if (suits) {
            put_protocol(text, rule);
            put_verdict(text, text_of(rule, "action"), log_name);
            g_ptr_array_add(lines, g_strdup(text->str));
        }
    }
    return true;
}

/* One ACL's rules of a direction with the action, appended. */
static bool
put_rules(json_t *rules, const char *direction, const char *action, const char *bridge,
          GPtrArray *lines, GError **error)
{
    size_t i;
    json_t *rule;
    json_array_foreach (rules, i, rule) {
        const char *state = text_of(rule, "state");
        if (strcmp(text_of(rule, "action"), action) != 0 || strcmp(state, "disabled") == 0) {
            continue;
        }
        g_autofree char *log_name = strcmp(state, "logged") == 0
                                        ? g_strdup_printf("%s-%s-%zu", bridge, direction, i)
                                        : NULL;
        if (!netacl_rule_text(rule, direction, bridge, log_name, lines, error)) {
            return false;
        }
    }
    return true;
}

static void
put_default(Network *net, const char *direction, GPtrArray *lines)
{
    g_autofree char *action_key = g_strdup_printf("security.acls.default.%s.action", direction);
    g_autofree char *logged_key = g_strdup_printf("security.acls.default.%s.logged", direction);
    g_autofree char *log_name = netobj_bool(net, logged_key, false)
                                    ? g_strdup_printf("%s-%s", net->row->name, direction)
                                    : NULL;
    const char *action = netobj_get(net, action_key);
    g_autoptr(GString) text = g_string_new(NULL);
    g_string_append_printf(text, "%s \"%s\"",
                           strcmp(direction, "ingress") == 0 ? "oifname" : "iifname",
                           net->row->name);
    put_verdict(text, action != NULL ? action : "reject", log_name);
    g_ptr_array_add(lines, g_strdup(text->str));
}

bool
netacl_rules_of(Network *net, char ***ret_rules, GError **error)
{
    static const char *const actions[] = {"drop", "reject", "allow"}; /* C1 */
    g_auto(GStrv) names = grammar_list(netobj_get(net, "security.acls"));
    g_autoptr(GPtrArray) lines = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GPtrArray) acls =
        g_ptr_array_new_with_free_func((GDestroyNotify) (void (*)(void)) aclrow_free);
    if (names[0] == NULL) {
        return true;
    }
    for (char **name = names; *name != NULL; name++) {
        AclRow *row = aclrow_load(netobj_agent(net->table)->db, net->row->project, *name, error);
        if (row == NULL) {
            return haw_push(error, "Failed loading ACL \"%s\" for network \"%s\"", *name,
                            net->row->name);
        }
        g_ptr_array_add(acls, row);
    }
    for (size_t a = 0; a < G_N_ELEMENTS(actions); a++) {
        for (guint i = 0; i < acls->len; i++) {
            const AclRow *row = g_ptr_array_index(acls, i);
            if (!put_rules(row->ingress, "ingress", actions[a], net->row->name, lines, error) ||
                !put_rules(row->egress, "egress", actions[a], net->row->name, lines, error)) {
                return haw_push(error, "Failed converting ACL \"%s\" for network \"%s\"", row->name,
                                net->row->name);
            }
        }
    }
    put_default(net, "egress", lines);
    put_default(net, "ingress", lines);
    g_ptr_array_add(lines, NULL);
    *ret_rules = (char **) g_ptr_array_free(g_steal_pointer(&lines), FALSE);
    return true;
}
