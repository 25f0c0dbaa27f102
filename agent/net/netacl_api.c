/* /1.0/network-acls: decode, check, store, apply.
 * Q1  A change is stored, then loaded into the firewall of every bridge that names the ACL, and into the
 *     northbound database for ovn networks; what either refuses undoes the change.
 * Q2  PATCH merges the config and replaces everything else by what the body has (LXD's way). */
#include <string.h>

#include "agent/api/body.h"
#include "agent/api/event.h"
#include "agent/auth/project.h"
#include "agent/inst/inst.h"
#include "agent/net/netacl.h"
#include "agent/net/netreq.h"
#include "agent/net/ovn_acllog.h"
#include "agent/net/ovn_acluse.h"
#include "agent/net/ovn_net.h"
#include "agent/net/pktlog.h"
#include "agent/ovn/ovnids.h"
#include "agent/state/acls.h"
#include "base/clock.h"
#include "base/crash.h"
#include "base/log.h"
#include "proto/grammar.h"
#include "proto/keys.h"

static const char *
acl_project(Request *req)
{
    return project_for_networks(req_agent(req), req_project(req));
}

/* ---- who uses it ---- */

static bool
names(const char *list, const char *name)
{
    g_auto(GStrv) items = grammar_list(list);
    return g_strv_contains((const char *const *) items, name);
}

struct user {
    Agent *agent;
    const AclRow *row;
};

static bool
nic_names(const char *project, json_t *config, json_t *devices, void *data)
{
    const struct user *user = data;
    const char *device;
    json_t *nic;
    if (strcmp(project_for_networks(user->agent, project), user->row->project) != 0) {
        return false; /* another ACL of that name */
    }
    json_object_foreach (devices, device, nic) {
        if (g_strcmp0(keys_get(nic, "type"), "nic") == 0 &&
            names(keys_get(nic, "security.acls"), user->row->name)) {
            return true;
        }
    }
    return false;
}

static bool
rules_name(json_t *rules, const char *field, const char *name)
{
    json_t *rule;
    size_t i;
    json_array_foreach (rules, i, rule) {
        if (names(keys_get(rule, field), name)) {
            return true;
        }
    }
    return false;
}

static void
add_url(json_t *list, const char *kind, const char *name, const char *project)
{
    bool own = strcmp(project, "default") == 0;
    json_array_append_new(list, own ? json_sprintf("/1.0/%s/%s", kind, name)
                                    : json_sprintf("/1.0/%s/%s?project=%s", kind, name, project));
}

static json_t *
used_by(Agent *agent, const AclRow *row)
{
    struct user user = {agent, row};
    json_t *list =
        agent->instances != NULL ? inst_used_by(agent->instances, nic_names, &user) : json_array();
    g_autoptr(GPtrArray) networks = netobj_list(agent->networks);
    for (guint i = 0; i < networks->len; i++) {
        const Network *net = g_ptr_array_index(networks, i);
        if (strcmp(net->row->project, row->project) == 0 &&
            names(netobj_get(net, "security.acls"), row->name)) {
            add_url(list, "networks", net->row->name, row->project);
        }
    }
    g_autoptr(GPtrArray) acls = aclrow_list(agent->db, row->project, NULL);
    for (guint i = 0; acls != NULL && i < acls->len; i++) {
        const AclRow *other = g_ptr_array_index(acls, i);
        if (other->id != row->id && (rules_name(other->ingress, "source", row->name) ||
                                     rules_name(other->egress, "destination", row->name))) {
            add_url(list, "network-acls", other->name, row->project);
        }
    }
    return list;
}

/* ---- encoding ---- */

/* Rules are kept without their empty fields; clients see those with which LXD shows them. */
static json_t *
acl_json(Agent *agent, const AclRow *row)
{
    return json_pack("{s:s, s:s, s:O, s:O, s:O, s:o}", "name", row->name, "description",
                     row->description, "config", row->config, "ingress", row->ingress, "egress",
                     row->egress, "used_by", used_by(agent, row));
}

static json_t *
acl_tag(const AclRow *row)
{
    return json_pack("[s, s, O, O, O]", row->name, row->description, row->ingress, row->egress,
                     row->config);
}

static bool
acls_get(Request *req, GError **error)
{
    Agent *agent = req_agent(req);
    bool full = req_recursion(req) > 0;
    g_autoptr(GPtrArray) rows = aclrow_list(agent->db, acl_project(req), error);
    if (rows == NULL) {
        return false;
    }
    json_t *list = json_array();
    for (guint i = 0; i < rows->len; i++) {
        const AclRow *row = g_ptr_array_index(rows, i);
        json_array_append_new(list, full ? acl_json(agent, row)
                                         : json_sprintf("/1.0/network-acls/%s", row->name));
    }
    return req_reply(req, list);
}

static AclRow *
need(Request *req, GError **error)
{
    return aclrow_load(req_agent(req)->db, acl_project(req), req_arg(req, "name"), error);
}

static bool
acl_get(Request *req, GError **error)
{
    g_autoptr(AclRow) row = need(req, error);
    return row != NULL && req_reply_etag(req, acl_json(req_agent(req), row), acl_tag(row));
}

static bool
log_get(Request *req, GError **error)
{
    Agent *agent = req_agent(req);
    g_autoptr(AclRow) row = need(req, error);
    if (row == NULL) {
        return false;
    }
    g_autoptr(GPtrArray) on = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GPtrArray) networks = netobj_list(agent->networks);
    for (guint i = 0; i < networks->len; i++) {
        const Network *net = g_ptr_array_index(networks, i);
        if (strcmp(net->row->project, row->project) == 0 &&
            names(netobj_get(net, "security.acls"), row->name)) {
            g_ptr_array_add(on, g_strdup(net->row->name));
        }
    }
    g_ptr_array_add(on, NULL);
    g_autofree char *kernel = pktlog_read();
    g_autofree char *bridges = pktlog_of_acl(kernel, (const char *const *) on->pdata, row->ingress,
                                             row->egress, clock_real_us() - pktlog_uptime_us());
    g_autofree char *controller = ovn_acllog_read(agent);
    g_autofree char *ports = ovn_acllog_of(controller, row->id);
    g_autofree char *text = ovn_acllog_merge(bridges, ports);
    return req_reply_bytes(req, 200, "text/plain", text, strlen(text), NULL);
}

/* ---- changes ---- */

static char **
known_names(Request *req, const char *own, GError **error)
{
    g_autoptr(GPtrArray) rows = aclrow_list(req_agent(req)->db, acl_project(req), error);
    if (rows == NULL) {
        return NULL;
    }
    g_autoptr(GPtrArray) list = g_ptr_array_new();
    for (guint i = 0; i < rows->len; i++) {
        g_ptr_array_add(list, g_strdup(((AclRow *) g_ptr_array_index(rows, i))->name));
    }
    if (own != NULL) {
        g_ptr_array_add(list, g_strdup(own));
    }
    g_ptr_array_add(list, NULL);
    return (char **) g_ptr_array_free(g_steal_pointer(&list), FALSE);
}

/* Takes description, config and rules of the body into the row. */
static bool
take_body(Request *req, AclRow *row, const char *kind, GError **error)
{
    const char *description;
    json_t *config;
    json_t *body = req_json(req);
    g_auto(GStrv) known = known_names(req, row->name, error);
    if (known == NULL || !body_object(body, kind, error) ||
        !body_text(body, kind, "description", &description, error)) {
        return false;
    }
    if (!netacl_check(body, (const char *const *) known, error)) {
        return haw_recode(error, HAW_FAILED); /* LXD's plain error */
    }
    if (!body_map(body, kind, "config", &config, error)) {
        return false;
    }
    g_free(row->description);
    json_decref(row->config);
    json_decref(row->ingress);
    json_decref(row->egress);
    row->description = g_strdup(description);
    row->config = config;
    row->ingress = json_incref(json_object_get(body, "ingress"));
    row->egress = json_incref(json_object_get(body, "egress"));
    return true;
}

static void
announce(Request *req, const char *action, const char *name)
{
    event_lifecycle(req_agent(req), acl_project(req), req_caller(req), NULL, action,
                    "/1.0/network-acls/%s", name);
}

static bool
acls_post(Request *req, GError **error)
{
    static const char kind[] = "NetworkACLsPost";
    Agent *agent = req_agent(req);
    const char *name;
    if (!body_object(req_json(req), kind, error) ||
        !body_text(req_json(req), kind, "name", &name, error) || !netacl_check_name(name, error)) {
        return false;
    }
    g_autoptr(AclRow) row = g_new0(AclRow, 1);
    row->project = g_strdup(acl_project(req));
    row->name = g_strdup(name);
    g_autoptr(AclRow) there = aclrow_load(agent->db, row->project, name, NULL);
    if (there != NULL) {
        return haw_fail(error, HAW_INVALID, "The network ACL already exists");
    }
    OvnIds ids = ovnids_own(agent);
    if (!take_body(req, row, kind, error) ||
        !aclrow_insert(agent->db, row, ids.first, ids.last, error)) {
        return false;
    }
    announce(req, "network-acl-created", row->name);
    return req_reply_created(req, "/1.0/network-acls/%s", row->name);
}

/* All ovn networks that the ACL acts on, in one transaction. */
static bool
apply_ovn(Agent *agent, const AclRow *row, GError **error)
{
    g_autoptr(GPtrArray) networks =
        ovn_acluse_networks(agent->networks, row->project, row->name, error);
    if (networks == NULL) {
        return false;
    }
    for (guint i = 0; i < networks->len; i++) {
        if (!ovn_acluse_check_rules(g_ptr_array_index(networks, i), row->ingress, row->egress,
                                    error)) {
            return false;
        }
    }
    return networks->len == 0 || ovn_net_apply_many(agent->networks, networks, error);
}

static bool
reload_bridges(Agent *agent, const char *project, const char *name, GError **error)
{
    g_autoptr(GPtrArray) networks = netobj_list(agent->networks);
    for (guint i = 0; i < networks->len; i++) {
        Network *net = g_ptr_array_index(networks, i);
        g_auto(FiberHold) hold = fiber_hold(&net->lock);
        if (netobj_is(net, "bridge") && strcmp(net->row->project, project) == 0 && net->up &&
            !net->gone && names(netobj_get(net, "security.acls"), name) &&
            !netobj_firewall(net, error)) {
            return haw_push(error, "Failed applying ACL to network \"%s\"", net->row->name);
        }
    }
    return true;
}

/* Q1 */
static bool
reload(Agent *agent, const AclRow *row, GError **error)
{
    crash_point("acl");
    return reload_bridges(agent, row->project, row->name, error) && apply_ovn(agent, row, error);
}

static bool
change(Request *req, GError **error)
{
    bool patch = req_patches(req);
    Agent *agent = req_agent(req);
    g_autoptr(AclRow) old = need(req, error);
    g_autoptr(AclRow) row = old != NULL ? need(req, error) : NULL;
    if (row == NULL || !req_check_etag(req, acl_tag(row), error) ||
        !take_body(req, row, "NetworkACLPut", error)) {
        return false;
    }
    json_t *config = g_steal_pointer(&row->config);
    row->config = json_incref(old->config);
    netreq_config(&row->config, config, patch); /* Q2 */
    if (!aclrow_update(agent->db, row, error)) {
        return false;
    }
    if (!reload(agent, row, error)) {
        g_autoptr(GError) again = NULL;
        if (!aclrow_update(agent->db, old, &again) || !reload(agent, old, &again)) {
            haw_error("acl.undo_failed", KS("acl", old->name), KS("why", again->message));
        }
        return false;
    }
    announce(req, "network-acl-updated", row->name);
    return req_reply(req, NULL);
}

static bool
is_unused(Agent *agent, const AclRow *row)
{
    json_t *list = used_by(agent, row);
    bool unused = json_array_size(list) == 0;
    json_decref(list);
    return unused;
}

static bool
acl_post(Request *req, GError **error)
{
    Agent *agent = req_agent(req);
    const char *name;
    g_autoptr(AclRow) row = need(req, error);
    if (row == NULL || !body_object(req_json(req), "NetworkACLPost", error) ||
        !body_text(req_json(req), "NetworkACLPost", "name", &name, error)) {
        return false;
    }
    g_autoptr(AclRow) there = aclrow_load(agent->db, row->project, name, NULL);
    if (there != NULL) {
        return haw_fail(error, HAW_FAILED, "An ACL by that name exists already");
    }
    if (!is_unused(agent, row)) {
        return haw_fail(error, HAW_FAILED, "Cannot rename an ACL that is in use");
    }
    if (!netacl_check_name(name, error)) {
        return false;
    }
    g_autofree char *old_name = row->name;
    row->name = g_strdup(name);
    if (!aclrow_update(agent->db, row, error)) {
        return false;
    }
    event_lifecycle(agent, row->project, req_caller(req), json_pack("{s:s}", "old_name", old_name),
                    "network-acl-renamed", "/1.0/network-acls/%s", name);
    return req_reply_created(req, "/1.0/network-acls/%s", name);
}

static bool
acl_delete(Request *req, GError **error)
{
    Agent *agent = req_agent(req);
    g_autoptr(AclRow) row = need(req, error);
    if (row == NULL) {
        return false;
    }
    if (!is_unused(agent, row)) {
        return haw_fail(error, HAW_FAILED, "Cannot delete an ACL that is in use");
    }
    if (!aclrow_delete(agent->db, row->id, error)) {
        return false;
    }
    announce(req, "network-acl-deleted", row->name);
    return req_reply(req, NULL);
}

const Route netacl_routes[] = {
    {"GET", "/1.0/network-acls", acls_get, 0},
    {"POST", "/1.0/network-acls", acls_post, ROUTE_BODY_JSON},
    {"GET", "/1.0/network-acls/{name}", acl_get, 0},
    {"PUT", "/1.0/network-acls/{name}", change, ROUTE_BODY_JSON},
    {"PATCH", "/1.0/network-acls/{name}", change, ROUTE_BODY_JSON},
    {"POST", "/1.0/network-acls/{name}", acl_post, ROUTE_BODY_JSON},
    {"DELETE", "/1.0/network-acls/{name}", acl_delete, 0},
    {"GET", "/1.0/network-acls/{name}/log", log_get, 0},
    {NULL},
};
