/* hawser network: what the shared verbs do not cover: attaching, state, leases, rules and ports. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "ctl/cmd.h"
#include "ctl/entity.h"
#include "ctl/out.h"

/* The device that connects to a network. */
static json_t *
nic_device(Rest *rest, const char *network, const char *interface, GError **error)
{
    g_autofree char *path = rest_path("/1.0/networks/%s", network);
    g_autoptr(json_t) found = rest_get(rest, path, error);
    if (found == NULL) {
        haw_push(error, "network '%s'", network);
        return NULL;
    }
    json_t *device = json_pack("{ss}", "type", "nic");
    if (json_is_true(json_object_get(found, "managed"))) {
        json_object_set_new(device, "network", json_string(network));
    } else {
        bool bridge = strcmp(out_get(found, "type"), "bridge") == 0;
        json_object_set_new(device, "nictype", json_string(bridge ? "bridged" : "macvlan"));
        json_object_set_new(device, "parent", json_string(network));
    }
    if (interface != NULL) {
        json_object_set_new(device, "name", json_string(interface));
    }
    return device;
}

static bool
attach(Ctl *ctl, const char *owner_format, const char *what, GError **error)
{
    const char *network = NULL, *owner = ctl_arg(ctl, 1), *name = ctl_arg(ctl, 2);
    Rest *rest = ctl_server(ctl, ctl_arg(ctl, 0), &network, error);
    if (rest == NULL) {
        return false;
    }
    g_autoptr(json_t) device = nic_device(rest, network, ctl_arg(ctl, 3), error);
    g_autofree char *escaped = g_uri_escape_string(owner, NULL, FALSE);
    g_autofree char *path = g_strconcat(owner_format, escaped, NULL);
    if (device == NULL) {
        return false;
    }
    return cmd_device_put(ctl, rest, path, name != NULL ? name : network, device, error) ||
           haw_push(error, "%s '%s'", what, owner);
}

bool
cmd_network_attach(Ctl *ctl, GError **error)
{
    return attach(ctl, "/1.0/instances/", "instance", error);
}

bool
cmd_network_attach_profile(Ctl *ctl, GError **error)
{
    return attach(ctl, "/1.0/profiles/", "profile", error);
}

/* The one device of an owner that is on the network; NULL unless there is exactly one. */
static const char *
find_nic(const json_t *owner, const char *network, GError **error)
{
    const char *found = NULL, *name;
    json_t *device;
    json_object_foreach (json_object_get(owner, "devices"), name, device) {
        bool same = strcmp(out_get(device, "network"), network) == 0 ||
                    strcmp(out_get(device, "parent"), network) == 0;
        if (strcmp(out_get(device, "type"), "nic") != 0 || !same) {
            continue;
        }
        if (found != NULL) {
            haw_fail(error, HAW_CONFLICT, "several devices are on network '%s' (name the device)",
                     network);
            return NULL;
        }
        found = name;
    }
    if (found == NULL) {
        haw_fail(error, HAW_NOT_FOUND, "no device is on network '%s'", network);
    }
    return found;
}

static bool
detach(Ctl *ctl, const char *owner_format, const char *what, GError **error)
{
    const char *network = NULL, *owner = ctl_arg(ctl, 1), *name = ctl_arg(ctl, 2);
    Rest *rest = ctl_server(ctl, ctl_arg(ctl, 0), &network, error);
    if (rest == NULL) {
        return false;
    }
    g_autofree char *escaped = g_uri_escape_string(owner, NULL, FALSE);
    g_autofree char *path = g_strconcat(owner_format, escaped, NULL);
    g_autoptr(json_t) object = rest_get(rest, path, error);
    if (object != NULL && name == NULL) {
        name = find_nic(object, network, error);
    }
    return (object != NULL && name != NULL && cmd_device_put(ctl, rest, path, name, NULL, error)) ||
           haw_push(error, "%s '%s'", what, owner);
}

bool
cmd_network_detach(Ctl *ctl, GError **error)
{
    return detach(ctl, "/1.0/instances/", "instance", error);
}

bool
cmd_network_detach_profile(Ctl *ctl, GError **error)
{
    return detach(ctl, "/1.0/profiles/", "profile", error);
}

bool
cmd_network_info(Ctl *ctl, GError **error)
{
    const char *name = NULL;
    Rest *rest = ctl_server(ctl, ctl_arg(ctl, 0), &name, error);
    if (rest == NULL) {
        return false;
    }
    g_autofree char *path = rest_path("/1.0/networks/%s/state", name);
    g_autoptr(json_t) state = rest_get(rest, path, error);
    if (state == NULL) {
        return haw_push(error, "network '%s'", name);
    }
    printf("Name: %s\nMAC address: %s\nMTU: %" JSON_INTEGER_FORMAT "\nState: %s\nType: %s\n", name,
           out_get(state, "hwaddr"), json_integer_value(json_object_get(state, "mtu")),
           out_get(state, "state"), out_get(state, "type"));
    size_t index;
    json_t *address;
    printf("\nIP addresses:\n");
    json_array_foreach (json_object_get(state, "addresses"), index, address) {
        printf("  %s\t%s/%s (%s)\n", out_get(address, "family"), out_get(address, "address"),
               out_get(address, "netmask"), out_get(address, "scope"));
    }
    static const struct {
        const char *label, *key;
        bool bytes;
    } counters[] = {{"Bytes received", "bytes_received", true},
                    {"Bytes sent", "bytes_sent", true},
                    {"Packets received", "packets_received", false},
                    {"Packets sent", "packets_sent", false}};
    printf("\nNetwork usage:\n");
    for (size_t i = 0; i < G_N_ELEMENTS(counters); i++) {
        gint64 count = json_integer_value(
            json_object_get(json_object_get(state, "counters"), counters[i].key));
        g_autofree char *text =
            counters[i].bytes ? out_bytes(count) : g_strdup_printf("%" G_GINT64_FORMAT, count);
        printf("  %s: %s\n", counters[i].label, text);
    }
    return true;
}

bool
cmd_network_leases(Ctl *ctl, GError **error)
{
    const char *name = NULL;
    Rest *rest = ctl_server(ctl, ctl_arg(ctl, 0), &name, error);
    if (rest == NULL) {
        return false;
    }
    g_autofree char *path = rest_path("/1.0/networks/%s/leases", name);
    g_autoptr(json_t) leases = rest_get(rest, path, error);
    if (leases == NULL) {
        return haw_push(error, "network '%s'", name);
    }
    static const char *const headers[] = {"HOSTNAME", "MAC ADDRESS", "IP ADDRESS", "TYPE", NULL};
    g_autoptr(OutTable) table = out_table_new(headers);
    size_t index;
    json_t *lease;
    json_array_foreach (leases, index, lease) {
        g_autofree char *type = g_ascii_strup(out_get(lease, "type"), -1);
        out_table_add(table, out_get(lease, "hostname"));
        out_table_add(table, out_get(lease, "hwaddr"));
        out_table_add(table, out_get(lease, "address"));
        out_table_add(table, type);
    }
    out_table_sort(table);
    return out_print(table, leases, ctl_option(ctl, "format"), error);
}

/* Adds or removes an element of a list in an object: ports of forwards and load balancers, rules of
 * ACLs, entries of zone records. */
typedef struct {
    const char *list; /* "ports", "ingress" */
    json_t *item;     /* to add; to remove: what must be equal */
    bool remove, force;
} ListChange;

static bool
item_matches(const json_t *item, const json_t *wanted)
{
    const char *key;
    json_t *value;
    json_object_foreach ((json_t *) wanted, key, value) {
        if (strcmp(out_get(item, key), json_string_value(value)) != 0) {
            return false;
        }
    }
    return true;
}

static bool
apply_list(json_t *object, void *data, GError **error)
{
    const ListChange *change = data;
    json_t *list = json_object_get(object, change->list);
    if (!json_is_array(list)) {
        list = json_array();
        json_object_set_new(object, change->list, list);
    }
    if (!change->remove) {
        json_array_append(list, change->item);
        return true;
    }
    size_t found = 0;
    for (size_t i = json_array_size(list); i-- > 0;) {
        if (item_matches(json_array_get(list, i), change->item)) {
            json_array_remove(list, i);
            found++;
        }
    }
    if (found == 0) {
        return haw_fail(error, HAW_NOT_FOUND, "nothing matches");
    }
    return found == 1 || change->force ||
           haw_fail(error, HAW_CONFLICT, "%zu match (say more of it, or use --force)", found);
}

static bool
change_forward(Ctl *ctl, ListChange *change, GError **error)
{
    const char *network = NULL, *address = ctl_arg(ctl, 1);
    Rest *rest = ctl_server(ctl, ctl_arg(ctl, 0), &network, error);
    if (rest == NULL) {
        return false;
    }
    change->list = "ports";
    change->force = ctl_flag(ctl, "force");
    g_autofree char *path = rest_path("/1.0/networks/%s/forwards/%s", network, address);
    return entity_update(ctl, rest, path, "config description ports", apply_list, change, error) ||
           haw_push(error, "forward '%s'", address);
}

bool
cmd_network_forward_port_add(Ctl *ctl, GError **error)
{
    g_autoptr(json_t) port = json_pack("{ss ss ss}", "protocol", ctl_arg(ctl, 2), "listen_port",
                                       ctl_arg(ctl, 3), "target_address", ctl_arg(ctl, 4));
    if (ctl_arg(ctl, 5) != NULL) {
        json_object_set_new(port, "target_port", json_string(ctl_arg(ctl, 5)));
    }
    return change_forward(ctl, &(ListChange){.item = port}, error);
}

bool
cmd_network_forward_port_remove(Ctl *ctl, GError **error)
{
    g_autoptr(json_t) port = json_object();
    if (ctl_arg(ctl, 2) != NULL) {
        json_object_set_new(port, "protocol", json_string(ctl_arg(ctl, 2)));
    }
    if (ctl_arg(ctl, 3) != NULL) {
        json_object_set_new(port, "listen_port", json_string(ctl_arg(ctl, 3)));
    }
    return change_forward(ctl, &(ListChange){.item = port, .remove = true}, error);
}

/* An element of one of a balancer's lists. */
static bool
change_balancer(Ctl *ctl, ListChange *change, GError **error)
{
    const char *network = NULL, *address = ctl_arg(ctl, 1);
    Rest *rest = ctl_server(ctl, ctl_arg(ctl, 0), &network, error);
    if (rest == NULL) {
        return false;
    }
    change->force = ctl_flag(ctl, "force");
    g_autofree char *path = rest_path("/1.0/networks/%s/load-balancers/%s", network, address);
    return entity_update(ctl, rest, path, "config description backends ports", apply_list, change,
                         error) ||
           haw_push(error, "load balancer '%s'", address);
}

bool
cmd_network_balancer_backend_add(Ctl *ctl, GError **error)
{
    g_autoptr(json_t) backend =
        json_pack("{ss ss}", "name", ctl_arg(ctl, 2), "target_address", ctl_arg(ctl, 3));
    if (ctl_arg(ctl, 4) != NULL) {
        json_object_set_new(backend, "target_port", json_string(ctl_arg(ctl, 4)));
    }
    return change_balancer(ctl, &(ListChange){.list = "backends", .item = backend}, error);
}

bool
cmd_network_balancer_backend_remove(Ctl *ctl, GError **error)
{
    g_autoptr(json_t) backend = json_pack("{ss}", "name", ctl_arg(ctl, 2));
    return change_balancer(ctl, &(ListChange){.list = "backends", .item = backend, .remove = true},
                           error);
}

bool
cmd_network_balancer_port_add(Ctl *ctl, GError **error)
{
    g_autoptr(json_t) port = json_pack("{ss ss s[]}", "protocol", ctl_arg(ctl, 2), "listen_port",
                                       ctl_arg(ctl, 3), "target_backend");
    g_auto(GStrv) names = g_strsplit(ctl_arg(ctl, 4), ",", -1);
    for (char **name = names; *name != NULL; name++) {
        json_array_append_new(json_object_get(port, "target_backend"), json_string(*name));
    }
    return change_balancer(ctl, &(ListChange){.list = "ports", .item = port}, error);
}

bool
cmd_network_balancer_port_remove(Ctl *ctl, GError **error)
{
    g_autoptr(json_t) port = json_object();
    if (ctl_arg(ctl, 2) != NULL) {
        json_object_set_new(port, "protocol", json_string(ctl_arg(ctl, 2)));
    }
    if (ctl_arg(ctl, 3) != NULL) {
        json_object_set_new(port, "listen_port", json_string(ctl_arg(ctl, 3)));
    }
    return change_balancer(ctl, &(ListChange){.list = "ports", .item = port, .remove = true},
                           error);
}

static bool
change_entries(Ctl *ctl, bool remove, GError **error)
{
    const char *zone = NULL, *record = ctl_arg(ctl, 1), *ttl = ctl_option(ctl, "ttl");
    Rest *rest = ctl_server(ctl, ctl_arg(ctl, 0), &zone, error);
    if (rest == NULL) {
        return false;
    }
    g_autoptr(json_t) entry =
        json_pack("{ss ss}", "type", ctl_arg(ctl, 2), "value", ctl_arg(ctl, 3));
    if (!remove && ttl != NULL) {
        json_object_set_new(entry, "ttl", json_integer(g_ascii_strtoll(ttl, NULL, 10)));
    }
    ListChange change = {.list = "entries", .item = entry, .remove = remove};
    g_autofree char *path = rest_path("/1.0/network-zones/%s/records/%s", zone, record);
    return entity_update(ctl, rest, path, "config description entries", apply_list, &change,
                         error) ||
           haw_push(error, "zone record '%s'", record);
}

bool
cmd_network_zone_entry_add(Ctl *ctl, GError **error)
{
    return change_entries(ctl, false, error);
}

bool
cmd_network_zone_entry_remove(Ctl *ctl, GError **error)
{
    return change_entries(ctl, true, error);
}

static bool
change_acl(Ctl *ctl, bool remove, GError **error)
{
    const char *name = NULL, *direction = ctl_arg(ctl, 1);
    Rest *rest = ctl_server(ctl, ctl_arg(ctl, 0), &name, error);
    g_autoptr(json_t) rule = json_object();
    if (rest == NULL || !entity_parse_settings(ctl_args_from(ctl, 2), rule, error)) {
        return false;
    }
    if (strcmp(direction, "ingress") != 0 && strcmp(direction, "egress") != 0) {
        return haw_fail(error, HAW_INVALID, "'%s' is no direction (ingress or egress)", direction);
    }
    if (!remove && json_object_get(rule, "state") == NULL) {
        json_object_set_new(rule, "state", json_string("enabled"));
    }
    ListChange change = {
        .list = direction, .item = rule, .remove = remove, .force = ctl_flag(ctl, "force")};
    g_autofree char *path = rest_path("/1.0/network-acls/%s", name);
    return entity_update(ctl, rest, path, "config description ingress egress", apply_list, &change,
                         error) ||
           haw_push(error, "network ACL '%s'", name);
}

bool
cmd_network_acl_rule_add(Ctl *ctl, GError **error)
{
    return change_acl(ctl, false, error);
}

bool
cmd_network_acl_rule_remove(Ctl *ctl, GError **error)
{
    return change_acl(ctl, true, error);
}

bool
cmd_network_acl_log(Ctl *ctl, GError **error)
{
    const char *name = NULL;
    Rest *rest = ctl_server(ctl, ctl_arg(ctl, 0), &name, error);
    if (rest == NULL) {
        return false;
    }
    g_autofree char *path = rest_path("/1.0/network-acls/%s/log", name);
    RestRaw raw = {.method = "GET", .path = path, .is_download = true, .fd_save = STDOUT_FILENO};
    return rest_raw(rest, &raw, NULL, NULL, NULL, error) ||
           haw_push(error, "network ACL '%s'", name);
}

bool
cmd_network_peer_create(Ctl *ctl, GError **error)
{
    const char *network = NULL, *peer = ctl_arg(ctl, 1), *target = ctl_arg(ctl, 2);
    Rest *rest = ctl_server(ctl, ctl_arg(ctl, 0), &network, error);
    g_autoptr(json_t) config = json_object();
    if (rest == NULL || !entity_parse_settings(ctl_args_from(ctl, 3), config, error)) {
        return false;
    }
    const char *slash = strchr(target, '/');
    g_autofree char *project =
        slash != NULL ? g_strndup(target, (gsize) (slash - target)) : g_strdup(rest_project(rest));
    g_autofree char *path = rest_path("/1.0/networks/%s/peers", network);
    g_autoptr(json_t) body =
        json_pack("{ss ss ss sO}", "name", peer, "target_project", project, "target_network",
                  slash != NULL ? slash + 1 : target, "config", config);
    return rest_do(rest, "POST", path, body, error) || haw_push(error, "peer '%s'", peer);
}
