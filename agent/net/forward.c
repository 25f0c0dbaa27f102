/* Address forwards: what a right one is, and what it becomes.
 * F1  Listen ports of one forward are unique for each protocol.
 * F2  Target ports are none (as listened), one (many to one), or as many as listen ports.
 * A packet for the listen address, from outside or from the host itself, is sent on to the target; one
 * from the target to itself by way of the listen address gets the host's address, so that the answer
 * comes back the same way.
 * Called by network.c (rules), forward_api.c (checks). */
#include "agent/net/forward.h"

#include <stdlib.h>
#include <string.h>

#include "agent/net/subnet.h"
#include "agent/state/forwards.h"
#include "proto/grammar.h"
#include "proto/keys.h"

enum { PORTS = 65536 };

static const char *
text_of(json_t *object, const char *field)
{
    const char *text = json_string_value(json_object_get(object, field));
    return text != NULL ? text : "";
}

GArray *
forward_ports(const char *list, GError **error)
{
    g_autoptr(GArray) ports = g_array_new(FALSE, FALSE, sizeof(guint16));
    g_auto(GStrv) items = grammar_list(list);
    for (char **item = items; *item != NULL; item++) {
        if (!grammar_port(*item, NULL) && !grammar_port_range(*item, NULL)) {
            haw_fail(error, HAW_INVALID, "Invalid port number \"%s\"", *item);
            return NULL;
        }
        g_auto(GStrv) ends = g_strsplit(*item, "-", 2);
        guint first = (guint) atoi(ends[0]);
        guint last = ends[1] != NULL ? (guint) atoi(ends[1]) : first;
        for (guint port = first; port <= last && ports->len < PORTS; port++) {
            guint16 value = (guint16) port;
            g_array_append_val(ports, value);
        }
    }
    return g_steal_pointer(&ports);
}

/* ---- checks ---- */

struct check {
    int family;
    bool bounded; /* the network has a subnet of the family */
    struct subnet net;
    const char *fallback; /* default target, "" */
    ForwardTaken *taken;  /* borrowed */
};

static bool
check_target(const struct check *check, const char *target, const char *fault_mix,
             const char *fault_outside, GError **error)
{
    struct subnet address;
    if (!subnet_parse(target, &address) || address.family != check->family) {
        return haw_fail(error, HAW_INVALID, "%s", fault_mix);
    }
    if (check->bounded && !subnet_contains(&check->net, target)) {
        return haw_fail(error, HAW_INVALID, "%s", fault_outside);
    }
    return true;
}

static bool
check_default(struct check *check, json_t *config, GError **error)
{
    const char *key;
    json_t *value;
    json_object_foreach (config, key, value) {
        if (strcmp(key, "target_address") != 0 && !g_str_has_prefix(key, "user.")) {
            return haw_fail(error, HAW_INVALID, "Invalid option \"%s\"", key);
        }
        if (!json_is_string(value)) {
            return haw_fail(error, HAW_INVALID, "Invalid value for option \"%s\"", key);
        }
    }
    check->fallback = text_of(config, "target_address");
    if (*check->fallback == '\0') {
        return true;
    }
    g_autofree char *canonical = subnet_canonical(check->fallback);
    if (canonical == NULL) {
        return haw_fail(error, HAW_INVALID, "Invalid default target address");
    }
    return check_target(check, check->fallback,
                        "Cannot mix IP versions in listen address and default target address",
                        "Default target address is not within the network subnet", error);
}

bool
forward_protocol_ok(json_t *spec, size_t index, GError **error)
{
    const char *protocol = text_of(spec, "protocol");
    return strcmp(protocol, "tcp") == 0 || strcmp(protocol, "udp") == 0 ||
           haw_fail(error, HAW_INVALID,
                    "Invalid port protocol in port specification %zu, protocol must be one of: "
                    "tcp, udp",
                    index);
}

GArray *
forward_listen(json_t *spec, size_t index, GError **error)
{
    g_autoptr(GArray) ports = forward_ports(text_of(spec, "listen_port"), error);
    if (ports == NULL) {
        haw_push(error, "Invalid listen port in port specification %zu", index);
        return NULL;
    }
    if (ports->len == 0) {
        haw_fail(error, HAW_INVALID, "Missing listen port in port specification %zu", index);
        return NULL;
    }
    return g_steal_pointer(&ports);
}

bool
forward_take(ForwardTaken *taken, const GArray *ports, json_t *spec, size_t index, GError **error)
{
    const char *protocol = text_of(spec, "protocol");
    guint8 *seen = strcmp(protocol, "udp") == 0 ? taken->udp : taken->tcp;
    for (guint i = 0; i < ports->len; i++) {
        guint16 port = g_array_index(ports, guint16, i);
        if ((seen[port / 8] & (1 << (port % 8))) != 0) {
            return haw_fail(
                error, HAW_INVALID,
                "Duplicate listen port %u for protocol \"%s\" in port specification %zu", port,
                protocol, index);
        }
        seen[port / 8] |= (guint8) (1 << (port % 8));
    }
    return true;
}

static bool
check_port_target(const struct check *check, const char *target, size_t index, GError **error)
{
    g_autofree char *canonical = subnet_canonical(target);
    if (canonical == NULL) {
        return haw_fail(error, HAW_INVALID, "Invalid target address in port specification %zu",
                        index);
    }
    if (subnet_same_address(target, check->fallback)) {
        return haw_fail(
            error, HAW_INVALID,
            "Target address is same as default target address in port specification %zu", index);
    }
    g_autofree char *mix = g_strdup_printf(
        "Cannot mix IP versions in listen address and port specification %zu target address",
        index);
    g_autofree char *outside = g_strdup_printf(
        "Target address is not within the network subnet in port specification %zu", index);
    return check_target(check, target, mix, outside, error);
}

static bool
check_port(struct check *check, json_t *spec, size_t index, GError **error)
{
    if (!forward_protocol_ok(spec, index, error) ||
        !check_port_target(check, text_of(spec, "target_address"), index, error)) {
        return false;
    }
    g_autoptr(GArray) listen = forward_listen(spec, index, error);
    if (listen == NULL) {
        return false;
    }
    g_autoptr(GArray) target = forward_ports(text_of(spec, "target_port"), NULL);
    if (target == NULL) {
        return haw_fail(error, HAW_INVALID, "Invalid target port in port specification %zu", index);
    }
    if (target->len > 1 && target->len != listen->len) { /* F2 */
        return haw_fail(error, HAW_INVALID,
                        "Mismatch of listen port(s) and target port(s) count in port "
                        "specification %zu",
                        index);
    }
    return forward_take(check->taken, listen, spec, index, error); /* F1 */
}

bool
forward_check(json_t *net_config, const char *listen, json_t *body, GError **error)
{
    struct subnet address;
    json_t *ports = json_object_get(body, "ports");
    json_t *spec;
    size_t i;
    if (strchr(listen, '/') != NULL || !subnet_parse(listen, &address) ||
        subnet_same_address(listen, "0.0.0.0") || subnet_same_address(listen, "::")) {
        return haw_fail(error, HAW_INVALID, "Invalid listen address");
    }
    g_autofree ForwardTaken *taken = g_new0(ForwardTaken, 1);
    struct check check = {.family = address.family, .taken = taken};
    check.bounded = subnet_parse(
        keys_get(net_config, address.family == AF_INET ? "ipv4.address" : "ipv6.address"),
        &check.net);
    if (!check_default(&check, json_object_get(body, "config"), error)) {
        return false;
    }
    if (ports != NULL && !json_is_null(ports) && !json_is_array(ports)) {
        return haw_fail(error, HAW_INVALID, "\"ports\" is not a list");
    }
    json_array_foreach (ports, i, spec) {
        if (!check_port(&check, spec, i, error)) {
            return false;
        }
    }
    return true;
}

/* ---- text ---- */

enum { FEW_PORTS = 16 };

static void add(GPtrArray *lines, const char *format, ...) G_GNUC_PRINTF(2, 3);
static void
add(GPtrArray *lines, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_ptr_array_add(lines, g_strdup_vprintf(format, args));
    va_end(args);
}

static char *
range_text(guint first, guint last)
{
    return first == last ? g_strdup_printf("%u", first) : g_strdup_printf("%u-%u", first, last);
}

static void
put_mapping(const char *family, const char *listen, const char *protocol, const char *target,
            guint first, guint last, int to, GPtrArray *lines)
{
    g_autofree char *range = range_text(first, last);
    bool six = strcmp(family, "ip6") == 0;
    g_autofree char *where =
        to < 0 ? g_strdup(target) : g_strdup_printf(six ? "[%s]:%d" : "%s:%d", target, to);
    add(lines, "%s daddr %s %s dport %s dnat %s to %s", family, listen, protocol, range, family,
        where);
}

/* A few ports have a line each, as LXD writes them. Of many, runs of consecutive ones that stay themselves
 * share a line. */
static void
put_port(const char *family, const char *listen, json_t *spec, GPtrArray *dnat, GPtrArray *snat)
{
    g_autoptr(GArray) from = forward_ports(text_of(spec, "listen_port"), NULL);
    g_autoptr(GArray) to = forward_ports(text_of(spec, "target_port"), NULL);
    const char *protocol = text_of(spec, "protocol");
    g_autofree char *target = subnet_canonical(text_of(spec, "target_address"));
    if (from == NULL || to == NULL || target == NULL) {
        return;
    }
    const GArray *reached = to->len > 0 ? to : from;
    bool few = from->len <= FEW_PORTS;
    for (guint i = 0; i < from->len;) {
        guint first = g_array_index(from, guint16, i);
        guint last = first;
        int goal = to->len == 0   ? (int) first
                   : to->len == 1 ? g_array_index(to, guint16, 0)
                                  : g_array_index(to, guint16, i);
        bool many = to->len == 1 && from->len > 1;
        i++;
        while (!few && i < from->len && g_array_index(from, guint16, i) == last + 1 &&
               (many || to->len == 0 ||
                (goal == (int) first && g_array_index(to, guint16, i) == last + 1))) {
            last++;
            i++;
        }
        put_mapping(family, listen, protocol, target, first, last,
                    !few && !many && goal == (int) first ? -1 : goal, dnat);
    }
    for (guint i = 0; i < reached->len;) {
        guint first = g_array_index(reached, guint16, i);
        guint last = first;
        for (i++; !few && i < reached->len && g_array_index(reached, guint16, i) == last + 1; i++) {
            last++;
        }
        g_autofree char *range = range_text(first, last);
        add(snat, "%s saddr %s %s daddr %s %s dport %s masquerade", family, target, family, target,
            protocol, range);
    }
}

void
forward_text(const char *listen, json_t *config, json_t *ports, GPtrArray *dnat, GPtrArray *snat)
{
    const char *family = strchr(listen, ':') != NULL ? "ip6" : "ip";
    json_t *spec;
    size_t i;
    json_array_foreach (ports, i, spec) {
        put_port(family, listen, spec, dnat, snat);
    }
    g_autofree char *target = subnet_canonical(text_of(config, "target_address"));
    if (target != NULL) { /* after the ports: it takes what they left */
        add(dnat, "%s daddr %s dnat %s to %s", family, listen, family, target);
        add(snat, "%s saddr %s %s daddr %s masquerade", family, target, family, target);
    }
}

bool
forward_rules_of(Network *net, char ***ret_dnat, char ***ret_snat, GError **error)
{
    g_autoptr(GPtrArray) rows = forwardrow_list(netobj_agent(net->table)->db, net->row->id, error);
    g_autoptr(GPtrArray) dnat = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GPtrArray) snat = g_ptr_array_new_with_free_func(g_free);
    if (rows == NULL) {
        return false;
    }
    for (guint i = 0; i < rows->len; i++) {
        const ForwardRow *row = g_ptr_array_index(rows, i);
        forward_text(row->listen, row->config, row->ports, dnat, snat);
    }
    if (dnat->len == 0) {
        return true;
    }
    g_ptr_array_add(dnat, NULL);
    g_ptr_array_add(snat, NULL);
    *ret_dnat = (char **) g_ptr_array_free(g_steal_pointer(&dnat), FALSE);
    *ret_snat = (char **) g_ptr_array_free(g_steal_pointer(&snat), FALSE);
    return true;
}
