/* /1.0/networks/NAME/forwards: decode, check, store, apply.
 * A change is stored, then loaded into the network's firewall, or into the northbound database for an
 * ovn network; what either refuses is undone. */
#include <string.h>

#include "agent/api/body.h"
#include "agent/api/event.h"
#include "agent/auth/project.h"
#include "agent/inst/inst.h"
#include "agent/net/forward.h"
#include "agent/net/netreq.h"
#include "agent/net/ovn_external.h"
#include "agent/net/ovn_net.h"
#include "agent/net/subnet.h"
#include "agent/state/balancers.h"
#include "agent/state/forwards.h"
#include "base/crash.h"
#include "base/log.h"
#include "proto/keys.h"

static Network *
need_network(Request *req, GError **error)
{
    static const char *const drivers[] = {"bridge", "ovn", NULL};
    return netreq_network(req, drivers, "forwards", error);
}

static ForwardRow *
need(Request *req, Network *net, GError **error)
{
    g_autofree char *listen = subnet_canonical(req_arg(req, "address"));
    return forwardrow_load(req_agent(req)->db, net->row->id,
                           listen != NULL ? listen : req_arg(req, "address"), error);
}

/* Those of a bridge are a member's, those of an ovn network everybody's. */
static json_t *
forward_json(Network *net, const ForwardRow *row)
{
    return json_pack("{s:s, s:s, s:O, s:O, s:s}", "listen_address", row->listen, "description",
                     row->description, "config", row->config, "ports", row->ports, "location",
                     netobj_is(net, "ovn") ? "" : "none");
}

static json_t *
forward_tag(const ForwardRow *row)
{
    return json_pack("[s, s, O, O]", row->listen, row->description, row->config, row->ports);
}

static bool
forwards_get(Request *req, GError **error)
{
    bool full = req_recursion(req) > 0;
    g_autoptr(Network) net = need_network(req, error);
    g_autoptr(GPtrArray) rows =
        net != NULL ? forwardrow_list(req_agent(req)->db, net->row->id, error) : NULL;
    if (rows == NULL) {
        return false;
    }
    json_t *list = json_array();
    for (guint i = 0; i < rows->len; i++) {
        const ForwardRow *row = g_ptr_array_index(rows, i);
        json_array_append_new(
            list, full ? forward_json(net, row)
                       : json_sprintf("/1.0/networks/%s/forwards/%s", net->row->name, row->listen));
    }
    return req_reply(req, list);
}

static bool
forward_get(Request *req, GError **error)
{
    g_autoptr(Network) net = need_network(req, error);
    g_autoptr(ForwardRow) row = net != NULL ? need(req, net, error) : NULL;
    return row != NULL && req_reply_etag(req, forward_json(net, row), forward_tag(row));
}

/* The fields of a port that are known, as texts. */
static bool
take_ports(json_t *ports, json_t **ret, GError **error)
{
    static const char *const fields[] = {"description", "protocol", "listen_port", "target_port",
                                         "target_address"};
    json_t *list;
    json_t *port;
    size_t i;
    if (ports != NULL && !json_is_null(ports) && !json_is_array(ports)) {
        return haw_fail(error, HAW_INVALID, "\"ports\" is not a list");
    }
    list = json_array();
    json_array_foreach (ports, i, port) {
        json_t *kept = json_object();
        for (size_t f = 0; f < G_N_ELEMENTS(fields); f++) {
            json_t *value = json_object_get(port, fields[f]);
            if (value != NULL && !json_is_string(value)) {
                json_decref(kept);
                json_decref(list);
                return haw_fail(error, HAW_INVALID,
                                "Invalid %s in port specification %zu: not a string", fields[f], i);
            }
            json_object_set_new(kept, fields[f],
                                json_string(value != NULL ? json_string_value(value) : ""));
        }
        json_array_append_new(list, kept);
    }
    *ret = list;
    return true;
}

static bool
check(Network *net, ForwardRow *row, GError **error)
{
    json_t *body = json_pack("{s:O, s:O}", "config", row->config, "ports", row->ports);
    bool ok = forward_check(net->row->config, row->listen, body, error);
    json_decref(body);
    return ok;
}

/* Takes description, config and ports of the body into the row; with 'merge' what is absent stays. */
static bool
take_body(Request *req, Network *net, ForwardRow *row, const char *kind, bool merge, GError **error)
{
    json_t *body = req_json(req);
    const char *description;
    json_t *config;
    json_t *ports = NULL;
    if (!body_object(body, kind, error) ||
        !body_text(body, kind, "description", &description, error) ||
        !take_ports(json_object_get(body, "ports"), &ports, error)) {
        return false;
    }
    if (!body_map(body, kind, "config", &config, error)) {
        json_decref(ports);
        return false;
    }
    netreq_config(&row->config, config, merge);
    if (!merge || json_object_get(body, "ports") != NULL) {
        json_decref(row->ports);
        row->ports = json_incref(ports);
    }
    if (!merge || json_object_get(body, "description") != NULL) {
        g_free(row->description);
        row->description = g_strdup(description);
    }
    json_decref(ports);
    return check(net, row, error);
}

/* The listen address of a NAT proxy device that is the same. */
static bool
proxy_listens(const char *project, json_t *config, json_t *devices, void *data)
{
    const char *device;
    json_t *proxy;
    json_object_foreach (devices, device, proxy) {
        const char *listen = keys_get(proxy, "listen");
        if (g_strcmp0(keys_get(proxy, "type"), "proxy") != 0 || listen == NULL) {
            continue;
        }
        const char *start = strchr(listen, ':');
        const char *end = strrchr(listen, ':');
        if (start == NULL || end <= start + 1) {
            continue;
        }
        bool bracket = start[1] == '[';
        g_autofree char *address = bracket ? g_strndup(start + 2, (gsize) MAX(end - start - 3, 0))
                                           : g_strndup(start + 1, (gsize) (end - start - 1));
        if (subnet_same_address(address, data)) {
            return true;
        }
    }
    return false;
}

static bool
check_free_ovn(Network *net, const char *listen, GError **error)
{
    Db *db = netobj_agent(net->table)->db;
    g_autoptr(ForwardRow) same = forwardrow_load(db, net->row->id, listen, NULL);
    g_autoptr(BalancerRow) balancer = balancerrow_load(db, net->row->id, listen, NULL);
    if (same != NULL || balancer != NULL) {
        return haw_fail(error, HAW_EXISTS,
                        "Failed creating forward: A %s for that listen address already exists",
                        same != NULL ? "forward" : "load balancer");
    }
    g_autofree char *whole =
        g_strdup_printf("%s/%d", listen, strchr(listen, ':') != NULL ? 128 : 32);
    return ovn_net_check_external(net, "Forward listen address", whole, NULL, error) ||
           haw_push(error, "Failed creating forward");
}

static bool
check_free(Request *req, Network *net, const char *listen, GError **error)
{
    Agent *agent = req_agent(req);
    if (netobj_is(net, "ovn")) {
        return check_free_ovn(net, listen, error);
    }
    g_autoptr(GPtrArray) rows = forwardrow_list(agent->db, 0, error);
    if (rows == NULL) {
        return false;
    }
    for (guint i = 0; i < rows->len; i++) {
        const ForwardRow *row = g_ptr_array_index(rows, i);
        if (strcmp(row->listen, listen) != 0) {
            continue;
        }
        return row->network_id == net->row->id
                   ? haw_fail(error, HAW_EXISTS,
                              "Failed creating forward: A forward for that "
                              "listen address already exists")
                   : haw_fail(error, HAW_FAILED,
                              "Failed creating forward: Forward listen address \"%s\" overlaps "
                              "with another network or NIC",
                              listen);
    }
    g_autofree char *copy = g_strdup(listen);
    json_t *proxies = agent->instances != NULL ? inst_used_by(agent->instances, proxy_listens, copy)
                                               : json_array();
    bool free = json_array_size(proxies) == 0;
    json_decref(proxies);
    return free || haw_fail(error, HAW_FAILED,
                            "Failed creating forward: Forward listen address \"%s\" overlaps with "
                            "another network or NIC",
                            listen);
}

static void
announce(Request *req, const char *action, Network *net, const char *listen)
{
    event_lifecycle(req_agent(req), net->row->project, req_caller(req), NULL, action,
                    "/1.0/networks/%s/forwards/%s", net->row->name, listen);
}

static bool
apply(Network *net, GError **error)
{
    crash_point("forward");
    return netobj_is(net, "ovn") ? ovn_net_apply(net, error)
                                 : !net->up || netobj_firewall(net, error);
}

static bool
forwards_post(Request *req, GError **error)
{
    static const char kind[] = "NetworkForwardsPost";
    Agent *agent = req_agent(req);
    const char *address;
    g_autoptr(Network) net = need_network(req, error);
    if (net == NULL || !body_object(req_json(req), kind, error) ||
        !body_text(req_json(req), kind, "listen_address", &address, error)) {
        return false;
    }
    g_autoptr(ForwardRow) row = g_new0(ForwardRow, 1);
    row->network_id = net->row->id;
    row->listen = subnet_canonical(address);
    if (row->listen == NULL) {
        return haw_fail(error, HAW_FAILED, "Failed creating forward: Invalid listen address");
    }
    g_auto(FiberHold) hold = fiber_hold(&net->lock);
    g_auto(FiberHold) addresses = ovn_external_hold();
    if (!check_free(req, net, row->listen, error)) {
        return false;
    }
    if (!take_body(req, net, row, kind, false, error)) {
        haw_recode(error, HAW_FAILED); /* LXD's plain error */
        return haw_push(error, "Failed creating forward");
    }
    if (!forwardrow_insert(agent->db, row, error)) {
        return false;
    }
    fiber_hold_done(&addresses);
    if (!apply(net, error)) {
        forwardrow_delete(agent->db, row->id, NULL);
        apply(net, NULL);
        return false;
    }
    announce(req, "network-forward-created", net, row->listen);
    return req_reply_created(req, "/1.0/networks/%s/forwards/%s", net->row->name, row->listen);
}

static bool
change(Request *req, GError **error)
{
    bool patch = req_patches(req);
    Agent *agent = req_agent(req);
    g_autoptr(Network) net = need_network(req, error);
    if (net == NULL) {
        return false;
    }
    g_auto(FiberHold) hold = fiber_hold(&net->lock);
    g_autoptr(ForwardRow) old = need(req, net, error);
    g_autoptr(ForwardRow) row = old != NULL ? need(req, net, error) : NULL;
    if (row == NULL || !req_check_etag(req, forward_tag(row), error)) {
        return false;
    }
    if (!take_body(req, net, row, "NetworkForwardPut", patch, error)) {
        haw_recode(error, HAW_FAILED);
        return haw_push(error, "Failed updating forward");
    }
    if (!forwardrow_update(agent->db, row, error)) {
        return false;
    }
    if (!apply(net, error)) {
        forwardrow_update(agent->db, old, NULL);
        apply(net, NULL);
        return false;
    }
    announce(req, "network-forward-updated", net, row->listen);
    return req_reply(req, NULL);
}

static bool
forward_delete(Request *req, GError **error)
{
    Agent *agent = req_agent(req);
    g_autoptr(Network) net = need_network(req, error);
    if (net == NULL) {
        return false;
    }
    g_auto(FiberHold) hold = fiber_hold(&net->lock);
    g_autoptr(ForwardRow) row = need(req, net, error);
    if (row == NULL || !forwardrow_delete(agent->db, row->id, error)) {
        return false;
    }
    if (!apply(net, error)) {
        forwardrow_insert(agent->db, row, NULL);
        return false;
    }
    announce(req, "network-forward-deleted", net, row->listen);
    return req_reply(req, NULL);
}

const Route forward_routes[] = {
    {"GET", "/1.0/networks/{name}/forwards", forwards_get, 0},
    {"POST", "/1.0/networks/{name}/forwards", forwards_post, ROUTE_BODY_JSON},
    {"GET", "/1.0/networks/{name}/forwards/{address}", forward_get, 0},
    {"PUT", "/1.0/networks/{name}/forwards/{address}", change, ROUTE_BODY_JSON},
    {"PATCH", "/1.0/networks/{name}/forwards/{address}", change, ROUTE_BODY_JSON},
    {"DELETE", "/1.0/networks/{name}/forwards/{address}", forward_delete, 0},
    {NULL},
};
