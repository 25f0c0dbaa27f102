/* /1.0/networks/NAME/peers: decode, check, store, apply.
 * A1  Both sides of a peering change in one transaction of the northbound database, after the one of
 *     ours; what that database refuses is undone in ours.
 * A2  A peering begins when the second side asks for it; until then nobody learns whether the target
 *     exists, nor what it is like.
 * A3  What a rule of an ACL names stays. */
#include <string.h>

#include "agent/api/body.h"
#include "agent/api/event.h"
#include "agent/auth/project.h"
#include "agent/net/netacl.h"
#include "agent/net/netcheck.h"
#include "agent/net/netreq.h"
#include "agent/net/ovn_net.h"
#include "agent/net/ovn_peer.h"
#include "agent/ovn/ovn.h"
#include "agent/state/acls.h"
#include "agent/state/peers.h"
#include "base/crash.h"
#include "base/log.h"
#include "proto/grammar.h"
#include "proto/keys.h"

static FiberLock peer_lock = FIBER_LOCK_INIT; /* all peerings: overlaps are checked over several */

static Network *
need_network(Request *req, GError **error)
{
    static const char *const drivers[] = {"ovn", NULL};
    return netreq_network(req, drivers, "peering", error);
}

static PeerRow *
need(Request *req, Network *net, GError **error)
{
    return peerrow_load(req_agent(req)->db, net->row->id, req_arg(req, "peer"), error);
}

/* ---- encoding ---- */

static bool
rules_name(json_t *rules, const char *field, const char *subject)
{
    json_t *rule;
    size_t i;
    json_array_foreach (rules, i, rule) {
        g_auto(GStrv) subjects = grammar_list(keys_get(rule, field));
        if (g_strv_contains((const char *const *) subjects, subject)) {
            return true;
        }
    }
    return false;
}

/* URLs of the ACLs whose rules name the peer. */
static json_t *
used_by(Agent *agent, Network *net, const PeerRow *peer)
{
    const char *project = net->row->project;
    g_autofree char *subject = g_strdup_printf("@%s/%s", net->row->name, peer->name);
    g_autoptr(GPtrArray) acls = aclrow_list(agent->db, project, NULL);
    json_t *list = json_array();
    for (guint i = 0; acls != NULL && i < acls->len; i++) {
        const AclRow *acl = g_ptr_array_index(acls, i);
        if (rules_name(acl->ingress, "source", subject) ||
            rules_name(acl->egress, "destination", subject)) {
            json_array_append_new(
                list, strcmp(project, "default") == 0
                          ? json_sprintf("/1.0/network-acls/%s", acl->name)
                          : json_sprintf("/1.0/network-acls/%s?project=%s", acl->name, project));
        }
    }
    return list;
}

static json_t *
peer_json(Request *req, Network *net, const PeerRow *row)
{
    return json_pack("{s:s, s:s, s:O, s:s, s:s, s:s, s:o}", "name", row->name, "description",
                     row->description, "config", row->config, "target_project", row->target_project,
                     "target_network", row->target_network, "status", row->status, "used_by",
                     used_by(req_agent(req), net, row));
}

static json_t *
peer_tag(const PeerRow *row)
{
    return json_pack("[s, s, O]", row->name, row->description, row->config);
}

static bool
peers_get(Request *req, GError **error)
{
    bool full = req_recursion(req) > 0;
    g_autoptr(Network) net = need_network(req, error);
    g_autoptr(GPtrArray) rows =
        net != NULL ? peerrow_list(req_agent(req)->db, net->row->id, error) : NULL;
    if (rows == NULL) {
        return false;
    }
    json_t *list = json_array();
    for (guint i = 0; i < rows->len; i++) {
        const PeerRow *row = g_ptr_array_index(rows, i);
        json_array_append_new(
            list, full ? peer_json(req, net, row)
                       : json_sprintf("/1.0/networks/%s/peers/%s", net->row->name, row->name));
    }
    return req_reply(req, list);
}

static bool
peer_get(Request *req, GError **error)
{
    g_autoptr(Network) net = need_network(req, error);
    g_autoptr(PeerRow) row = net != NULL ? need(req, net, error) : NULL;
    return row != NULL && req_reply_etag(req, peer_json(req, net, row), peer_tag(row));
}

/* ---- changes ---- */

static void
announce(Request *req, const char *action, Network *net, const char *peer)
{
    event_lifecycle(req_agent(req), net->row->project, req_caller(req), NULL, action,
                    "/1.0/networks/%s/peers/%s", net->row->name, peer);
}

static bool
check_config(json_t *config, GError **error)
{
    const char *key;
    json_t *value;
    json_object_foreach (config, key, value) {
        if (strcmp(key, "target_address") != 0 && !g_str_has_prefix(key, "user.")) {
            return haw_fail(error, HAW_FAILED, "Invalid option \"%s\"", key);
        }
    }
    return true;
}

static bool
check_name(const char *name, GError **error)
{
    if (!netacl_check_name(name, error)) {
        return haw_recode(error, HAW_FAILED); /* LXD's plain error */
    }
    return (strcmp(name, "internal") != 0 && strcmp(name, "external") != 0) ||
           haw_fail(error, HAW_FAILED,
                    "Name cannot be one of the reserved network subjects: [internal external]");
}

/* Both networks of a peering that holds, or that just ended. */
static bool
apply_both(Network *net, Network *other, GError **error)
{
    g_autoptr(GPtrArray) both = g_ptr_array_new();
    g_ptr_array_add(both, net);
    g_ptr_array_add(both, other);
    return ovn_net_apply_many(net->table, both, error);
}

/* The other network when it waits for this one (A2); referenced, NULL when it does not. */
static Network *
waiting(Network *net, const PeerRow *row)
{
    g_autoptr(Network) other = netobj_find(net->table, row->target_project, row->target_network);
    if (other == NULL || strcmp(other->row->project, row->target_project) != 0) {
        return NULL;
    }
    g_autoptr(GPtrArray) peers = peerrow_list(netobj_agent(net->table)->db, other->row->id, NULL);
    for (guint i = 0; peers != NULL && i < peers->len; i++) {
        const PeerRow *peer = g_ptr_array_index(peers, i);
        if (strcmp(peer->status, PEERROW_PENDING) == 0 &&
            strcmp(peer->target_project, net->row->project) == 0 &&
            strcmp(peer->target_network, net->row->name) == 0) {
            return g_steal_pointer(&other);
        }
    }
    return NULL;
}

static bool
create(Network *net, PeerRow *row, GError **error)
{
    Db *db = netobj_agent(net->table)->db;
    g_autoptr(Network) other = waiting(net, row);
    if ((other != NULL && !ovn_peer_check(net, net->row->config, other, error)) ||
        !peerrow_insert(db, row, error)) {
        return false;
    }
    crash_point("peer");
    if (other == NULL || row->target_id != other->row->id || apply_both(net, other, error)) {
        crash_point("peer");
        return true;
    }
    g_autoptr(GError) again = NULL;
    if (!peerrow_undo_insert(db, row, &again)) { /* A1 */
        haw_error("peer.undo_failed", KS("peer", row->name), KS("why", again->message));
    }
    ovn_kick(netobj_agent(net->table), NULL);
    return false;
}

static bool
take_post(Request *req, Network *net, PeerRow *row, GError **error)
{
    static const char kind[] = "NetworkPeersPost";
    json_t *body = req_json(req);
    const char *name;
    const char *description;
    const char *network;
    const char *project;
    if (!body_object(body, kind, error) || !body_text(body, kind, "name", &name, error) ||
        !body_text(body, kind, "description", &description, error) ||
        !body_text(body, kind, "target_network", &network, error) ||
        !body_text(body, kind, "target_project", &project, error) ||
        !body_map(body, kind, "config", &row->config, error)) {
        return false;
    }
    row->network_id = net->row->id;
    row->name = g_strdup(name);
    row->description = g_strdup(description);
    row->target_network = g_strdup(network);
    row->target_project = g_strdup(*project != '\0' ? project : net->row->project);
    netcheck_drop_empty(row->config);
    if (*network == '\0') {
        return haw_fail(error, HAW_INVALID, "Target network is required");
    }
    if (strcmp(network, net->row->name) == 0 &&
        strcmp(row->target_project, net->row->project) == 0) {
        return haw_fail(error, HAW_INVALID,
                        "Network \"%s\" in project \"%s\" cannot be its own peer", network,
                        net->row->project);
    }
    return check_name(name, error) && check_config(row->config, error);
}

static bool
peers_post(Request *req, GError **error)
{
    g_autoptr(Network) net = need_network(req, error);
    g_autoptr(PeerRow) row = g_new0(PeerRow, 1);
    if (net == NULL || !take_post(req, net, row, error)) {
        return net != NULL && haw_push(error, "Failed creating peer");
    }
    g_auto(FiberHold) all = fiber_hold(&peer_lock);
    g_auto(FiberHold) hold = fiber_hold(&net->lock);
    if (net->gone) {
        return haw_fail(error, HAW_NOT_FOUND, "Network not found");
    }
    if (!create(net, row, error)) {
        return haw_push(error, "Failed creating peer");
    }
    announce(req, "network-peer-created", net, row->name);
    return req_reply_created(req, "/1.0/networks/%s/peers/%s", net->row->name, row->name);
}

static bool
change(Request *req, GError **error)
{
    bool patch = req_patches(req);
    static const char kind[] = "NetworkPeerPut";
    json_t *body = req_json(req);
    const char *description;
    json_t *config;
    g_autoptr(Network) net = need_network(req, error);
    if (net == NULL) {
        return false;
    }
    g_auto(FiberHold) all = fiber_hold(&peer_lock);
    g_autoptr(PeerRow) row = need(req, net, error);
    if (row == NULL || !req_check_etag(req, peer_tag(row), error) ||
        !body_object(body, kind, error) ||
        !body_text(body, kind, "description", &description, error) ||
        !body_map(body, kind, "config", &config, error)) {
        return false;
    }
    netreq_config(&row->config, config, patch);
    if (!patch || json_object_get(body, "description") != NULL) {
        g_free(row->description);
        row->description = g_strdup(description);
    }
    if (!check_config(row->config, error) || !peerrow_update(req_agent(req)->db, row, error)) {
        return haw_push(error, "Failed updating peer");
    }
    announce(req, "network-peer-updated", net, row->name);
    return req_reply(req, NULL);
}

static bool
remove_row(Network *net, const PeerRow *row, GError **error)
{
    Db *db = netobj_agent(net->table)->db;
    bool held = strcmp(row->status, PEERROW_CREATED) == 0;
    g_autoptr(Network) other =
        held ? netobj_find(net->table, row->target_project, row->target_network) : NULL;
    if (!peerrow_delete(db, row->id, error)) {
        return false;
    }
    crash_point("peer");
    if (other == NULL || apply_both(net, other, error)) {
        crash_point("peer");
        return true;
    }
    g_autoptr(GError) again = NULL;
    if (!peerrow_undo_delete(db, row, &again)) { /* A1 */
        haw_error("peer.undo_failed", KS("peer", row->name), KS("why", again->message));
    }
    ovn_kick(netobj_agent(net->table), NULL);
    return false;
}

static bool
peer_delete(Request *req, GError **error)
{
    g_autoptr(Network) net = need_network(req, error);
    if (net == NULL) {
        return false;
    }
    g_auto(FiberHold) all = fiber_hold(&peer_lock);
    g_auto(FiberHold) hold = fiber_hold(&net->lock);
    g_autoptr(PeerRow) row = need(req, net, error);
    if (row == NULL) {
        return false;
    }
    json_t *users = used_by(req_agent(req), net, row);
    bool used = json_array_size(users) > 0;
    json_decref(users);
    if (used) { /* A3 */
        haw_fail(error, HAW_FAILED, "Cannot delete a Peer that is in use");
    }
    if (used || !remove_row(net, row, error)) {
        return haw_push(error, "Failed deleting peer");
    }
    announce(req, "network-peer-deleted", net, row->name);
    return req_reply(req, NULL);
}

const Route peer_routes[] = {
    {"GET", "/1.0/networks/{name}/peers", peers_get, 0},
    {"POST", "/1.0/networks/{name}/peers", peers_post, ROUTE_BODY_JSON},
    {"GET", "/1.0/networks/{name}/peers/{peer}", peer_get, 0},
    {"PUT", "/1.0/networks/{name}/peers/{peer}", change, ROUTE_BODY_JSON},
    {"PATCH", "/1.0/networks/{name}/peers/{peer}", change, ROUTE_BODY_JSON},
    {"DELETE", "/1.0/networks/{name}/peers/{peer}", peer_delete, 0},
    {NULL},
};
