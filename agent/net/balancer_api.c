/* /1.0/networks/NAME/load-balancers: decode, check, store, apply.
 * A change is stored, then made in the northbound database; what that refuses is undone. */
#include <string.h>

#include "agent/api/body.h"
#include "agent/api/event.h"
#include "agent/auth/project.h"
#include "agent/net/balancer.h"
#include "agent/net/netreq.h"
#include "agent/net/ovn_external.h"
#include "agent/net/ovn_net.h"
#include "agent/net/subnet.h"
#include "agent/state/balancers.h"
#include "agent/state/forwards.h"
#include "base/crash.h"
#include "base/log.h"

static Network *
need_network(Request *req, GError **error)
{
    static const char *const drivers[] = {"ovn", NULL};
    return netreq_network(req, drivers, "load balancers", error);
}

static BalancerRow *
need(Request *req, Network *net, GError **error)
{
    g_autofree char *listen = subnet_canonical(req_arg(req, "address"));
    return balancerrow_load(req_agent(req)->db, net->row->id,
                            listen != NULL ? listen : req_arg(req, "address"), error);
}

static json_t *
balancer_json(const BalancerRow *row)
{
    return json_pack("{s:s, s:s, s:O, s:O, s:O, s:s}", "listen_address", row->listen, "description",
                     row->description, "config", row->config, "backends", row->backends, "ports",
                     row->ports, "location", "");
}

static json_t *
balancer_tag(const BalancerRow *row)
{
    return json_pack("[s, s, O, O, O]", row->listen, row->description, row->config, row->backends,
                     row->ports);
}

static bool
balancers_get(Request *req, GError **error)
{
    bool full = req_recursion(req) > 0;
    g_autoptr(Network) net = need_network(req, error);
    g_autoptr(GPtrArray) rows =
        net != NULL ? balancerrow_list(req_agent(req)->db, net->row->id, error) : NULL;
    if (rows == NULL) {
        return false;
    }
    json_t *list = json_array();
    for (guint i = 0; i < rows->len; i++) {
        const BalancerRow *row = g_ptr_array_index(rows, i);
        json_array_append_new(list, full ? balancer_json(row)
                                         : json_sprintf("/1.0/networks/%s/load-balancers/%s",
                                                        net->row->name, row->listen));
    }
    return req_reply(req, list);
}

static bool
balancer_get(Request *req, GError **error)
{
    g_autoptr(Network) net = need_network(req, error);
    g_autoptr(BalancerRow) row = net != NULL ? need(req, net, error) : NULL;
    return row != NULL && req_reply_etag(req, balancer_json(row), balancer_tag(row));
}

/* ---- changes ---- */

static void
put_json(json_t **member, json_t *value /* stolen */)
{
    json_decref(*member);
    *member = value;
}

/* The body's parts into the row; with 'merge' what is absent stays. */
static bool
take_body(Request *req, Network *net, BalancerRow *row, const char *kind, bool merge,
          GError **error)
{
    json_t *body = req_json(req);
    const char *description;
    json_t *config;
    json_t *backends;
    json_t *ports;
    if (!body_object(body, kind, error) ||
        !body_text(body, kind, "description", &description, error) ||
        !body_map(body, kind, "config", &config, error)) {
        return false;
    }
    if (!balancer_take(body, &backends, &ports, error)) {
        json_decref(config);
        return false;
    }
    netreq_config(&row->config, config, merge);
    if (!merge || json_object_get(body, "backends") != NULL) {
        put_json(&row->backends, json_incref(backends));
    }
    if (!merge || json_object_get(body, "ports") != NULL) {
        put_json(&row->ports, json_incref(ports));
    }
    if (!merge || json_object_get(body, "description") != NULL) {
        g_free(row->description);
        row->description = g_strdup(description);
    }
    json_decref(backends);
    json_decref(ports);
    return balancer_check(net->row->config, row->listen, row->config, row->backends, row->ports,
                          error);
}

static bool
check_free(Network *net, const char *listen, GError **error)
{
    Db *db = netobj_agent(net->table)->db;
    g_autoptr(BalancerRow) same = balancerrow_load(db, net->row->id, listen, NULL);
    g_autoptr(ForwardRow) forward = forwardrow_load(db, net->row->id, listen, NULL);
    if (same != NULL) {
        return haw_fail(error, HAW_EXISTS,
                        "A load balancer for that listen address already exists");
    }
    if (forward != NULL) {
        return haw_fail(error, HAW_EXISTS, "A forward for that listen address already exists");
    }
    g_autofree char *whole =
        g_strdup_printf("%s/%d", listen, strchr(listen, ':') != NULL ? 128 : 32);
    return ovn_net_check_external(net, "Load balancer listen address", whole, NULL, error);
}

static void
announce(Request *req, const char *action, Network *net, const char *listen)
{
    event_lifecycle(req_agent(req), net->row->project, req_caller(req), NULL, action,
                    "/1.0/networks/%s/load-balancers/%s", net->row->name, listen);
}

static bool
create(Request *req, Network *net, BalancerRow *row, GError **error)
{
    Db *db = req_agent(req)->db;
    g_auto(FiberHold) addresses = ovn_external_hold();
    if (!check_free(net, row->listen, error)) {
        return false;
    }
    if (!take_body(req, net, row, "NetworkLoadBalancersPost", false, error)) {
        return haw_recode(error, HAW_FAILED); /* LXD's plain error */
    }
    if (!balancerrow_insert(db, row, error)) {
        return false;
    }
    fiber_hold_done(&addresses);
    crash_point("balancer");
    if (!ovn_net_apply(net, error)) {
        balancerrow_delete(db, row->id, NULL);
        return false;
    }
    return true;
}

static bool
balancers_post(Request *req, GError **error)
{
    static const char kind[] = "NetworkLoadBalancersPost";
    const char *address;
    g_autoptr(Network) net = need_network(req, error);
    if (net == NULL || !body_object(req_json(req), kind, error) ||
        !body_text(req_json(req), kind, "listen_address", &address, error)) {
        return false;
    }
    g_autoptr(BalancerRow) row = g_new0(BalancerRow, 1);
    row->network_id = net->row->id;
    row->listen = subnet_canonical(address);
    if (row->listen == NULL) {
        return haw_fail(error, HAW_FAILED, "Failed creating load balancer: Invalid listen address");
    }
    g_auto(FiberHold) hold = fiber_hold(&net->lock);
    if (!create(req, net, row, error)) {
        return haw_push(error, "Failed creating load balancer");
    }
    announce(req, "network-load-balancer-created", net, row->listen);
    return req_reply_created(req, "/1.0/networks/%s/load-balancers/%s", net->row->name,
                             row->listen);
}

static bool
change(Request *req, GError **error)
{
    bool patch = req_patches(req);
    Db *db = req_agent(req)->db;
    g_autoptr(Network) net = need_network(req, error);
    if (net == NULL) {
        return false;
    }
    g_auto(FiberHold) hold = fiber_hold(&net->lock);
    g_autoptr(BalancerRow) old = need(req, net, error);
    g_autoptr(BalancerRow) row = old != NULL ? need(req, net, error) : NULL;
    if (row == NULL || !req_check_etag(req, balancer_tag(row), error)) {
        return false;
    }
    if (!take_body(req, net, row, "NetworkLoadBalancerPut", patch, error)) {
        haw_recode(error, HAW_FAILED);
        return haw_push(error, "Failed updating load balancer");
    }
    if (!balancerrow_update(db, row, error)) {
        return false;
    }
    crash_point("balancer");
    if (!ovn_net_apply(net, error)) {
        balancerrow_update(db, old, NULL);
        return haw_push(error, "Failed updating load balancer");
    }
    announce(req, "network-load-balancer-updated", net, row->listen);
    return req_reply(req, NULL);
}

static bool
balancer_delete(Request *req, GError **error)
{
    Db *db = req_agent(req)->db;
    g_autoptr(Network) net = need_network(req, error);
    if (net == NULL) {
        return false;
    }
    g_auto(FiberHold) hold = fiber_hold(&net->lock);
    g_autoptr(BalancerRow) row = need(req, net, error);
    if (row == NULL || !balancerrow_delete(db, row->id, error)) {
        return false;
    }
    crash_point("balancer");
    if (!ovn_net_apply(net, error)) {
        balancerrow_insert(db, row, NULL);
        return haw_push(error, "Failed deleting load balancer");
    }
    announce(req, "network-load-balancer-deleted", net, row->listen);
    return req_reply(req, NULL);
}

const Route balancer_routes[] = {
    {"GET", "/1.0/networks/{name}/load-balancers", balancers_get, 0},
    {"POST", "/1.0/networks/{name}/load-balancers", balancers_post, ROUTE_BODY_JSON},
    {"GET", "/1.0/networks/{name}/load-balancers/{address}", balancer_get, 0},
    {"PUT", "/1.0/networks/{name}/load-balancers/{address}", change, ROUTE_BODY_JSON},
    {"PATCH", "/1.0/networks/{name}/load-balancers/{address}", change, ROUTE_BODY_JSON},
    {"DELETE", "/1.0/networks/{name}/load-balancers/{address}", balancer_delete, 0},
    {NULL},
};
