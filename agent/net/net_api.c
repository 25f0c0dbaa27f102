/* /1.0/networks: decode, ask the owner, encode.
 * Interfaces of the host that are no networks of ours are listed in the default project with managed
 * false; their names cannot be changed or deleted here. */
#include <string.h>

#include "agent/api/body.h"
#include "agent/api/event.h"
#include "agent/auth/project.h"
#include "agent/net/netacl.h"
#include "agent/net/forward.h"
#include "agent/net/leases.h"
#include "agent/net/netcheck.h"
#include "agent/net/netreq.h"
#include "agent/net/netlife.h"
#include "agent/net/netstate.h"
#include "agent/net/ovn_leases.h"
#include "agent/net/ovn_net.h"
#include "agent/net/parent.h"
#include "proto/keys.h"

static const char *
net_project(Request *req)
{
    return project_for_networks(req_agent(req), req_project(req));
}

static char *
project_suffix(const char *project)
{
    return strcmp(project, "default") == 0 ? g_strdup("") : g_strdup_printf("?project=%s", project);
}

static bool
visible(Request *req, const char *name, bool managed)
{
    return project_allow_network(req_agent(req), req_project(req), name, managed, NULL);
}

/* ---- encoding ---- */

static json_t *
net_json(Request *req, Network *net)
{
    const Caller *caller = req_caller(req);
    json_t *config = caller->restricted ? json_object() : json_deep_copy(net->row->config);
    const char *status = strcmp(net->row->state, NETROW_DELETING) == 0             ? NETROW_PENDING
                         : net->up || strcmp(net->row->state, NETROW_CREATED) != 0 ? net->row->state
                                                                                   : "Unavailable";
    return json_pack("{s:s, s:s, s:s, s:b, s:s, s:o, s:o, s:[s]}", "name", net->row->name, "type",
                     net->row->type, "description", net->row->description, "managed", true,
                     "status", status, "config", config, "used_by",
                     netlife_used_by(net->table, net->row->project, net->row->name), "locations",
                     "none");
}

static json_t *
interface_json(Request *req, const char *name, const char *type)
{
    return json_pack("{s:s, s:s, s:s, s:b, s:s, s:{}, s:o, s:n}", "name", name, "type", type,
                     "description", "", "managed", false, "status", "", "config", "used_by",
                     netlife_used_by(req_agent(req)->networks, "default", name), "locations");
}

static json_t *
net_tag(Network *net)
{
    return json_pack("[s, b, s, s, O]", net->row->name, true, net->row->type, net->row->description,
                     net->row->config);
}

/* ---- lists ---- */

static void
list_add(json_t *list, json_t *object /* stolen */, bool full, const Filter *filter)
{
    if (filter_matches(filter, object)) {
        json_array_append_new(
            list, full ? json_incref(object)
                       : json_sprintf("/1.0/networks/%s",
                                      json_string_value(json_object_get(object, "name"))));
    }
    json_decref(object);
}

static bool
list_managed(Request *req, json_t *list, bool full, const Filter *filter, GHashTable *names)
{
    g_autoptr(GPtrArray) networks = netobj_list(req_agent(req)->networks);
    const char *project = net_project(req);
    for (guint i = 0; i < networks->len; i++) {
        Network *net = g_ptr_array_index(networks, i);
        g_hash_table_add(names, g_strdup(net->row->name));
        if (strcmp(net->row->project, project) == 0 && visible(req, net->row->name, true)) {
            list_add(list, net_json(req, net), full, filter);
        }
    }
    return true;
}

static bool
networks_get(Request *req, GError **error)
{
    bool full = req_recursion(req) > 0;
    g_autoptr(Filter) filter = filter_parse(req_query(req, "filter"), error);
    g_autoptr(GHashTable) names = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    if (filter == NULL) {
        return false;
    }
    json_t *list = json_array();
    list_managed(req, list, full, filter, names);
    if (strcmp(net_project(req), "default") == 0) {
        json_t *interfaces = netstate_interfaces(error);
        const char *name;
        json_t *type;
        if (interfaces == NULL) {
            json_decref(list);
            return false;
        }
        json_object_foreach (interfaces, name, type) {
            if (!g_hash_table_contains(names, name) && visible(req, name, false)) {
                list_add(list, interface_json(req, name, json_string_value(type)), full, filter);
            }
        }
        json_decref(interfaces);
    }
    return req_reply(req, list);
}

/* ---- one ---- */

static bool
network_get(Request *req, GError **error)
{
    const char *name = req_arg(req, "name");
    g_autoptr(Network) net = netreq_network(req, NULL, NULL, NULL);
    if (net != NULL) {
        return req_reply_etag(req, net_json(req, net), net_tag(net));
    }
    json_t *interfaces = strcmp(net_project(req), "default") == 0 && visible(req, name, false)
                             ? netstate_interfaces(NULL)
                             : NULL;
    const char *type = json_string_value(json_object_get(interfaces, name));
    if (type == NULL) {
        json_decref(interfaces);
        return haw_fail(error, HAW_NOT_FOUND, "Network not found");
    }
    json_t *shown = interface_json(req, name, type);
    json_t *tag = json_pack("[s, b, s, s, {}]", name, false, type, "");
    json_decref(interfaces);
    return req_reply_etag(req, shown, tag);
}

static void
announce(Request *req, const char *action, const char *name)
{
    event_lifecycle(req_agent(req), net_project(req), req_caller(req), NULL, action,
                    "/1.0/networks/%s", name);
}

static bool
create(Request *req, const char *name, const char *type, const char *description, json_t *config,
       GError **error)
{
    Agent *agent = req_agent(req);
    const char *project = net_project(req);
    g_auto(FiberHold) limits = project_hold(agent, project);
    bool default_project = strcmp(project, "default") == 0;
    type = *type != '\0' ? type : default_project ? "bridge" : "ovn";
    if (keys_of_network(type) == NULL) {
        json_decref(config);
        return haw_fail(error, HAW_INVALID, "Unknown driver");
    }
    if (!default_project && strcmp(type, "ovn") != 0) {
        json_decref(config);
        return haw_fail(error, HAW_INVALID, "Network type does not support non-default projects");
    }
    if (!netcheck_name(name, type, error) || !project_allow_new_network(agent, project, error)) {
        json_decref(config);
        return false;
    }
    return netlife_create(agent->networks, project, name, type, description, config, error);
}

static bool
networks_post(Request *req, GError **error)
{
    static const char kind[] = "NetworksPost";
    json_t *body = req_json(req);
    const char *name;
    const char *type;
    const char *description;
    json_t *config;
    if (!body_object(body, kind, error) || !body_text(body, kind, "name", &name, error) ||
        !body_text(body, kind, "type", &type, error) ||
        !body_text(body, kind, "description", &description, error) ||
        !body_map(body, kind, "config", &config, error)) {
        return false;
    }
    if (!create(req, name, type, description, config, error)) {
        return false;
    }
    g_autofree char *suffix = project_suffix(net_project(req));
    announce(req, "network-created", name);
    return req_reply_created(req, "/1.0/networks/%s%s", name, suffix);
}

static json_t *
merged(json_t *old, json_t *changes /* stolen */)
{
    json_t *config = json_deep_copy(old);
    json_object_update(config, changes);
    json_decref(changes);
    return config;
}

static bool
change(Request *req, GError **error)
{
    bool patch = req_patches(req);
    static const char kind[] = "NetworkPut";
    json_t *body = req_json(req);
    const char *description;
    json_t *config;
    g_autoptr(Network) net = netreq_network(req, NULL, NULL, error);
    if (net == NULL || !req_check_etag(req, net_tag(net), error) ||
        !body_object(body, kind, error) ||
        !body_text(body, kind, "description", &description, error) ||
        !body_map(body, kind, "config", &config, error)) {
        return false;
    }
    if (patch && json_object_get(body, "description") == NULL) {
        description = net->row->description;
    }
    g_autofree char *text = g_strdup(description);
    if (patch) {
        config = merged(net->row->config, config);
    }
    if (!netlife_update(net, text, config, error)) {
        return false;
    }
    announce(req, "network-updated", net->row->name);
    return req_reply(req, NULL);
}

static bool
network_post(Request *req, GError **error)
{
    const char *name;
    g_autoptr(Network) net = netreq_network(req, NULL, NULL, error);
    if (net == NULL || !body_object(req_json(req), "NetworkPost", error) ||
        !body_text(req_json(req), "NetworkPost", "name", &name, error)) {
        return false;
    }
    g_autofree char *old_name = g_strdup(net->row->name);
    if (!netlife_rename(net, name, error)) {
        return false;
    }
    event_lifecycle(req_agent(req), net_project(req), req_caller(req),
                    json_pack("{s:s}", "old_name", old_name), "network-renamed", "/1.0/networks/%s",
                    name);
    return req_reply_created(req, "/1.0/networks/%s", name);
}

static bool
network_delete(Request *req, GError **error)
{
    g_autoptr(Network) net = netreq_network(req, NULL, NULL, error);
    if (net == NULL || !netlife_delete(net, error)) {
        return false;
    }
    announce(req, "network-deleted", net->row->name);
    return req_reply(req, NULL);
}

static bool
state_get(Request *req, GError **error)
{
    const char *name = req_arg(req, "name");
    g_autoptr(Network) net = netreq_network(req, NULL, NULL, NULL);
    if (net != NULL && netobj_is(net, "ovn")) {
        return req_reply(req, ovn_net_state(net));
    }
    g_autofree char *ifname =
        net == NULL || netobj_is(net, "bridge")
            ? g_strdup(name)
            : parent_ifname(netobj_get(net, "parent"), netobj_get(net, "vlan"));
    if (net == NULL && (strcmp(net_project(req), "default") != 0 || !visible(req, name, false))) {
        return haw_fail(error, HAW_NOT_FOUND, "Network not found");
    }
    g_autoptr(GError) missing = NULL;
    json_t *state = netstate_of(ifname, &missing);
    if (state == NULL && net != NULL && haw_code(missing) == HAW_NOT_FOUND) {
        return req_reply(req, netstate_unavailable());
    }
    if (state == NULL) {
        g_propagate_error(error, g_steal_pointer(&missing));
        return false;
    }
    return req_reply(req, state);
}

static bool
leases_get(Request *req, GError **error)
{
    g_autoptr(Network) net = netreq_network(req, NULL, NULL, error);
    if (net == NULL) {
        return false;
    }
    if (netobj_is(net, "ovn")) {
        json_t *leases = ovn_leases_of(net, req_project(req), error);
        return leases != NULL && req_reply(req, leases);
    }
    if (!netobj_is(net, "bridge")) {
        return haw_fail(error, HAW_UNSUPPORTED, "not implemented");
    }
    return req_reply(req, leases_of(net, req_project(req)));
}

const Route network_routes[] = {
    {"GET", "/1.0/networks", networks_get, 0},
    {"POST", "/1.0/networks", networks_post, ROUTE_BODY_JSON},
    {"GET", "/1.0/networks/{name}", network_get, 0},
    {"PUT", "/1.0/networks/{name}", change, ROUTE_BODY_JSON},
    {"PATCH", "/1.0/networks/{name}", change, ROUTE_BODY_JSON},
    {"POST", "/1.0/networks/{name}", network_post, ROUTE_BODY_JSON},
    {"DELETE", "/1.0/networks/{name}", network_delete, 0},
    {"GET", "/1.0/networks/{name}/state", state_get, 0},
    {"GET", "/1.0/networks/{name}/leases", leases_get, 0},
    {NULL},
};
