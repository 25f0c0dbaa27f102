/* Warnings: what the agent had to go on without, until somebody acts.
 * W1  One row for each (type, project, entity); a repeat counts up, and makes a resolved one new.
 * W2  Resolved ones go after 24 hours.
 * A failure to store a warning is logged and never fails what raised it.
 * Main loop, in fibers. */
#include "agent/api/warning.h"

#include "agent/api/body.h"
#include "agent/api/event.h"
#include "agent/auth/project.h"
#include "agent/state/db.h"
#include "agent/state/warning_rows.h"
#include "base/clock.h"
#include "base/log.h"

#include <string.h>

/* By LXD's type code. */
static const struct {
    const char *text, *severity;
} warning_types[] = {
    {"Undefined warning", "low"},
    {"Couldn't find the CGroup blkio", "low"},
    {"Couldn't find the CGroup blkio.weight", "low"},
    {"Couldn't find the CGroup CPU controller", "low"},
    {"Couldn't find the CGroup CPUset controller", "low"},
    {"Couldn't find the CGroup CPUacct controller", "low"},
    {"Couldn't find the CGroup devices controller", "low"},
    {"Couldn't find the CGroup freezer controller", "low"},
    {"Couldn't find the CGroup hugetlb controller", "low"},
    {"Couldn't find the CGroup memory controller", "low"},
    {"Couldn't find the CGroup network priority controller", "low"},
    {"Couldn't find the CGroup pids controller", "low"},
    {"Couldn't find the CGroup memory swap accounting", "low"},
    {"Time skew detected between leader and local", "low"},
    {"AppArmor support has been disabled", "low"},
    {"Missing virtiofsd", "low"},
    {"Unable to connect to MAAS", "low"},
    {"Skipping AppArmor for dnsmasq due to raw.dnsmasq being set", "low"},
    {"IPv6 networks with a prefix larger than 64 aren't properly supported by dnsmasq", "low"},
    {"Proxy bridge netfilter not enabled", "low"},
    {"Network unavailable", "high"},
    {"Offline cluster member", "low"},
    {"Failed to autostart instance", "low"},
    {"Instance type not operational", "low"},
    {"Storage pool unavailable", "high"},
    {"Unable to update cluster certificate", "low"},
};

static size_t
type_index(gint64 type)
{
    return type >= 0 && type < (gint64) G_N_ELEMENTS(warning_types) ? (size_t) type : 0;
}

static bool
raise_row(DbTx *tx, void *data, GError **error)
{
    return warning_rows_raise(tx, data, error);
}

static bool
resolve_row(DbTx *tx, void *data, GError **error)
{
    return warning_rows_resolve(tx, data, error);
}

static void
write_row(Agent *agent, DbFn fn, WarningRow row)
{
    g_autoptr(GError) error = NULL;
    row.project = row.project != NULL ? row.project : "";
    row.entity_url = row.entity_url != NULL ? row.entity_url : "";
    row.message = row.message != NULL ? row.message : "";
    row.now = clock_real_us();
    if (!db_write(agent->db, fn, &row, &error)) {
        haw_error("warning.not-stored", KI("type", row.type), KS("why", error->message));
    }
}

void
warning_raise(Agent *agent, WarningType type, const char *project, const char *entity_url,
              const char *message)
{
    haw_warn("warning.raised", KS("type", warning_types[type_index(type)].text),
             KS("entity", entity_url), KS("why", message));
    write_row(
        agent, raise_row,
        (WarningRow){
            .type = (int) type, .project = project, .entity_url = entity_url, .message = message});
}

void
warning_resolve(Agent *agent, WarningType type, const char *project, const char *entity_url)
{
    write_row(agent, resolve_row,
              (WarningRow){.type = (int) type, .project = project, .entity_url = entity_url});
}

struct load {
    json_t *list;
    gint64 prune_before;
};

static bool
load_rows(DbTx *tx, void *data, GError **error)
{
    struct load *load = data;
    if (!warning_rows_prune(tx, load->prune_before, error)) { /* W2 */
        return false;
    }
    load->list = warning_rows_load(tx, error);
    return load->list != NULL;
}

static json_t *
to_rest(json_t *row)
{
    size_t type = type_index(json_integer_value(json_object_get(row, "type")));
    g_autofree char *first =
        clock_format(json_integer_value(json_object_get(row, "first_seen_at")));
    g_autofree char *last = clock_format(json_integer_value(json_object_get(row, "last_seen_at")));
    json_t *object = json_deep_copy(row);

    json_object_set_new(object, "type", json_string(warning_types[type].text));
    json_object_set_new(object, "severity", json_string(warning_types[type].severity));
    json_object_set_new(object, "location", json_string("none"));
    json_object_set_new(object, "first_seen_at", json_string(first));
    json_object_set_new(object, "last_seen_at", json_string(last));
    json_object_set(object, "last_message", json_object_get(row, "message"));
    json_object_del(object, "message");
    return object;
}

/* All as REST shows them; a new array, NULL on failure. */
static json_t *
load_all(Agent *agent, GError **error)
{
    struct load load = {.prune_before = clock_real_us() - 24 * G_TIME_SPAN_HOUR};
    json_t *list = json_array(), *row;
    size_t i;

    if (!db_write(agent->db, load_rows, &load, error)) {
        json_decref(list);
        return NULL;
    }
    json_array_foreach (load.list, i, row) {
        json_array_append_new(list, to_rest(row));
    }
    json_decref(load.list);
    return list;
}

/* One of them, a new reference. */
static json_t *
load_one(Request *req, GError **error)
{
    json_t *all = load_all(req_agent(req), error), *row, *found = NULL;
    size_t i;

    json_array_foreach (all, i, row) {
        if (strcmp(json_string_value(json_object_get(row, "uuid")), req_arg(req, "id")) == 0) {
            found = json_incref(row);
        }
    }
    if (all != NULL && found == NULL) {
        haw_fail(error, HAW_NOT_FOUND, "Warning not found");
    }
    json_decref(all);
    return found;
}

static bool
list_all(Request *req, GError **error)
{
    g_autoptr(Filter) filter = filter_parse(req_query(req, "filter"), error);
    json_t *all = filter != NULL ? load_all(req_agent(req), error) : NULL, *row;
    size_t i;

    if (all == NULL) {
        return false;
    }
    json_t *list = json_array();
    const char *project = req_query(req, "project");
    json_array_foreach (all, i, row) {
        const char *its = json_string_value(json_object_get(row, "project"));
        if (!filter_matches(filter, row) || (project != NULL && strcmp(project, its) != 0)) {
            continue;
        }
        if (req_recursion(req) > 0) {
            json_array_append(list, row);
        } else {
            json_array_append_new(
                list,
                json_sprintf("/1.0/warnings/%s", json_string_value(json_object_get(row, "uuid"))));
        }
    }
    json_decref(all);
    return req_reply(req, list);
}

static bool
get(Request *req, GError **error)
{
    json_t *row = load_one(req, error);
    if (row == NULL) {
        return false;
    }
    json_t *tag = json_pack("{s:O}", "status", json_object_get(row, "status"));
    return req_reply_etag(req, row, tag);
}

struct set {
    const char *uuid, *status;
    gint64 now;
};

static bool
set_row(DbTx *tx, void *data, GError **error)
{
    struct set *set = data;
    if (set->status == NULL) {
        return warning_rows_delete(tx, set->uuid, error);
    }
    return warning_rows_set_status(tx, set->uuid, set->status, set->now, error);
}

static bool
put(Request *req, GError **error)
{
    const char *status = json_string_value(json_object_get(req_json(req), "status"));
    json_t *row = load_one(req, error);
    if (row == NULL) {
        return false;
    }
    json_t *tag = json_pack("{s:O}", "status", json_object_get(row, "status"));
    json_decref(row);
    if (!req_check_etag(req, tag, error)) {
        return false;
    }
    if (status == NULL || (strcmp(status, "new") != 0 && strcmp(status, "acknowledged") != 0)) {
        return haw_fail(error, HAW_DENIED, "Status may only be set to \"acknowledge\" or \"new\"");
    }
    struct set set = {req_arg(req, "id"), status, clock_real_us()};
    if (!db_write(req_agent(req)->db, set_row, &set, error)) {
        return false;
    }
    event_lifecycle(req_agent(req), NULL, req_caller(req), NULL,
                    strcmp(status, "new") == 0 ? "warning-reset" : "warning-acknowledged",
                    "/1.0/warnings/%s", set.uuid);
    return req_reply(req, NULL);
}

static bool
delete_one(Request *req, GError **error)
{
    json_t *row = load_one(req, error);
    struct set set = {.uuid = req_arg(req, "id")};

    if (row == NULL) {
        return false;
    }
    json_decref(row);
    if (!db_write(req_agent(req)->db, set_row, &set, error)) {
        return false;
    }
    event_lifecycle(req_agent(req), NULL, req_caller(req), NULL, "warning-deleted",
                    "/1.0/warnings/%s", set.uuid);
    return req_reply(req, NULL);
}

/* LXD's test hook: any warning, made by hand. */
static bool
test_raise(Request *req, GError **error)
{
    json_t *body = req_json(req), *type = json_object_get(body, "type_code");
    const char *project, *message;
    gint64 code = json_integer_value(type);

    if (!body_text(body, "warning", "project", &project, error) ||
        !body_text(body, "warning", "message", &message, error)) {
        return false;
    }
    if ((type != NULL && !json_is_integer(type)) || code < 0 ||
        code >= (gint64) G_N_ELEMENTS(warning_types)) {
        return haw_fail(error, HAW_INVALID, "Invalid type code");
    }
    if (json_object_get(body, "entity_type_code") != NULL ||
        json_object_get(body, "entity_id") != NULL) {
        return haw_fail(error, HAW_INVALID, "Warnings of entities can't be made by hand");
    }
    json_t *config = *project != '\0' ? project_config(req_agent(req), project, error) : NULL;
    json_decref(config);
    if (*project != '\0' && config == NULL) {
        return false;
    }
    warning_raise(req_agent(req), (WarningType) code, project, "", message);
    return req_reply(req, NULL);
}

const Route warning_routes[] = {
    {"GET", "/1.0/warnings", list_all, ROUTE_ADMIN},
    {"GET", "/1.0/warnings/{id}", get, ROUTE_ADMIN},
    {"PUT", "/1.0/warnings/{id}", put, ROUTE_BODY_JSON | ROUTE_ADMIN},
    {"PATCH", "/1.0/warnings/{id}", put, ROUTE_BODY_JSON | ROUTE_ADMIN},
    {"DELETE", "/1.0/warnings/{id}", delete_one, ROUTE_ADMIN},
    {"POST", "/internal/testing/warnings", test_raise, ROUTE_BODY_JSON | ROUTE_SOCKET},
    {NULL},
};
