/* /1.0/network-zones: decode, check, store. What changes is seen by the next question of a secondary.
 * Q1  A zone's name is unique over all projects: it is a name in DNS.
 * Q2  A zone that a network names stays. */
#include <string.h>

#include "agent/api/body.h"
#include "agent/api/event.h"
#include "agent/auth/project.h"
#include "agent/net/netreq.h"
#include "agent/net/zone.h"
#include "proto/grammar.h"
#include "proto/keys.h"

static const char *
zone_project(Request *req)
{
    return project_for_zones(req_agent(req), req_project(req));
}

static ZoneRow *
need(Request *req, GError **error)
{
    return zonerow_load(req_agent(req)->db, zone_project(req), req_arg(req, "zone"), error);
}

/* ---- encoding ---- */

static json_t *
used_by(Agent *agent, const ZoneRow *row)
{
    json_t *list = json_array();
    g_autoptr(GPtrArray) networks = netobj_list(agent->networks);
    for (guint i = 0; i < networks->len; i++) {
        const NetRow *net = ((Network *) g_ptr_array_index(networks, i))->row;
        if (zone_named_by(net->config, row->name)) {
            json_array_append_new(
                list, strcmp(net->project, "default") == 0
                          ? json_sprintf("/1.0/networks/%s", net->name)
                          : json_sprintf("/1.0/networks/%s?project=%s", net->name, net->project));
        }
    }
    return list;
}

static json_t *
zone_json(Request *req, const ZoneRow *row)
{
    return json_pack("{s:s, s:s, s:O, s:o}", "name", row->name, "description", row->description,
                     "config", row->config, "used_by", used_by(req_agent(req), row));
}

static json_t *
zone_tag(const ZoneRow *row)
{
    return json_pack("[s, s, O]", row->name, row->description, row->config);
}

static bool
zones_get(Request *req, GError **error)
{
    bool full = req_recursion(req) > 0;
    g_autoptr(GPtrArray) rows = zonerow_list(req_agent(req)->db, zone_project(req), error);
    if (rows == NULL) {
        return false;
    }
    json_t *list = json_array();
    for (guint i = 0; i < rows->len; i++) {
        const ZoneRow *row = g_ptr_array_index(rows, i);
        json_array_append_new(list, full ? zone_json(req, row)
                                         : json_sprintf("/1.0/network-zones/%s", row->name));
    }
    return req_reply(req, list);
}

static bool
zone_get(Request *req, GError **error)
{
    g_autoptr(ZoneRow) row = need(req, error);
    return row != NULL && req_reply_etag(req, zone_json(req, row), zone_tag(row));
}

/* ---- checks ---- */

static bool
check_name(Request *req, const char *name, GError **error)
{
    if (*name == '\0') {
        return haw_fail(error, HAW_INVALID, "No name provided");
    }
    if (*name == '/' || strcmp(name, "@") == 0 || !zonewire_check_name(name, NULL)) {
        return haw_fail(error, HAW_INVALID, "Invalid network zone name \"%s\"", name);
    }
    return project_allow_zone(req_agent(req), req_project(req), name, error);
}

static bool
check_secret(const char *key, const char *value, GError **error)
{
    gsize size = 0;
    g_autofree guchar *bytes = g_base64_decode(value, &size);
    g_autofree char *again = g_base64_encode(bytes, size);
    return (size > 0 && strcmp(again, value) == 0) ||
           haw_fail(error, HAW_INVALID, "Invalid value for config option \"%s\": not base64", key);
}

/* "peers.NAME.address" and "peers.NAME.key". */
static bool
check_peer(const char *key, const char *value, GError **error)
{
    const char *end = strrchr(key, '.');
    g_autofree char *peer =
        g_strndup(key + strlen("peers."), (gsize) (end - key) - strlen("peers."));
    if (strchr(peer, '.') != NULL || !zonewire_check_name(peer, NULL)) {
        return haw_fail(error, HAW_INVALID, "Invalid config option \"%s\"", key);
    }
    if (strcmp(end, ".address") == 0) {
        return grammar_ip(value, error) ||
               haw_push(error, "Invalid value for config option \"%s\"", key);
    }
    return check_secret(key, value, error);
}

static bool
check_nameservers(const char *value, GError **error)
{
    g_auto(GStrv) names = grammar_list(value);
    for (char **name = names; *name != NULL; name++) {
        g_autofree char *bare =
            g_str_has_suffix(*name, ".") ? g_strndup(*name, strlen(*name) - 1) : g_strdup(*name);
        if (strcmp(bare, "@") == 0 || !zonewire_check_name(bare, error)) {
            return haw_push(error, "Invalid value for config option \"dns.nameservers\"");
        }
    }
    return true;
}

static bool
check_key(const char *key, const char *value, GError **error)
{
    bool peer = g_str_has_prefix(key, "peers.") && strlen(key) > strlen("peers.") &&
                (g_str_has_suffix(key, ".address") || g_str_has_suffix(key, ".key")) &&
                strrchr(key, '.') > key + strlen("peers.");
    if (g_str_has_prefix(key, "user.")) {
        return true;
    }
    if (peer) {
        return check_peer(key, value, error);
    }
    if (strcmp(key, "dns.nameservers") == 0) {
        return check_nameservers(value, error);
    }
    if (strcmp(key, "network.nat") == 0) {
        return grammar_bool(value, error) ||
               haw_push(error, "Invalid value for config option \"%s\"", key);
    }
    return haw_fail(error, HAW_INVALID, "Invalid config option \"%s\"", key);
}

static bool
take_body(Request *req, ZoneRow *row, const char *kind, bool merge, GError **error)
{
    json_t *body = req_json(req);
    const char *description;
    json_t *config;
    const char *key;
    json_t *value;
    if (!body_object(body, kind, error) ||
        !body_text(body, kind, "description", &description, error) ||
        !body_map(body, kind, "config", &config, error)) {
        return false;
    }
    netreq_config(&row->config, config, merge);
    if (!merge || json_object_get(body, "description") != NULL) {
        g_free(row->description);
        row->description = g_strdup(description);
    }
    json_object_foreach (row->config, key, value) {
        if (!check_key(key, json_string_value(value), error)) {
            return false;
        }
    }
    return true;
}

/* ---- changes ---- */

static void
announce(Request *req, const char *action, const char *name)
{
    event_lifecycle(req_agent(req), zone_project(req), req_caller(req), NULL, action,
                    "/1.0/network-zones/%s", name);
}

static bool
zones_post(Request *req, GError **error)
{
    static const char kind[] = "NetworkZonesPost";
    Agent *agent = req_agent(req);
    const char *name;
    if (!body_object(req_json(req), kind, error) ||
        !body_text(req_json(req), kind, "name", &name, error) || !check_name(req, name, error)) {
        return false;
    }
    g_autoptr(ZoneRow) there = zone_find(agent, name, NULL); /* Q1 */
    if (there != NULL) {
        return haw_fail(error, HAW_INVALID, "The network zone already exists");
    }
    g_autoptr(ZoneRow) row = g_new0(ZoneRow, 1);
    row->project = g_strdup(zone_project(req));
    row->name = g_strdup(name);
    if (!take_body(req, row, kind, false, error) || !zonerow_insert(agent->db, row, error)) {
        return false;
    }
    announce(req, "network-zone-created", row->name);
    return req_reply_created(req, "/1.0/network-zones/%s", row->name);
}

static bool
change(Request *req, GError **error)
{
    bool patch = req_patches(req);
    g_autoptr(ZoneRow) row = need(req, error);
    if (row == NULL || !req_check_etag(req, zone_tag(row), error) ||
        !take_body(req, row, "NetworkZonePut", patch, error) ||
        !zonerow_update(req_agent(req)->db, row, error)) {
        return false;
    }
    announce(req, "network-zone-updated", row->name);
    return req_reply(req, NULL);
}

static bool
zone_delete(Request *req, GError **error)
{
    g_autoptr(ZoneRow) row = need(req, error);
    if (row == NULL) {
        return false;
    }
    json_t *users = used_by(req_agent(req), row);
    bool used = json_array_size(users) > 0;
    json_decref(users);
    if (used) { /* Q2 */
        return haw_fail(error, HAW_FAILED, "Cannot delete a zone that is in use");
    }
    if (!zonerow_delete(req_agent(req)->db, row->id, error)) {
        return false;
    }
    announce(req, "network-zone-deleted", row->name);
    return req_reply(req, NULL);
}

const Route zone_routes[] = {
    {"GET", "/1.0/network-zones", zones_get, 0},
    {"POST", "/1.0/network-zones", zones_post, ROUTE_BODY_JSON},
    {"GET", "/1.0/network-zones/{zone}", zone_get, 0},
    {"PUT", "/1.0/network-zones/{zone}", change, ROUTE_BODY_JSON},
    {"PATCH", "/1.0/network-zones/{zone}", change, ROUTE_BODY_JSON},
    {"DELETE", "/1.0/network-zones/{zone}", zone_delete, 0},
    {NULL},
};
