/* Operations as clients see them: lists, one, cancelling, waiting, WebSockets.
 * O4  A WebSocket's secret connects once.
 * Not here: how they live (operation.c). Main loop, in fibers. */
#include "agent/api/opshape.h"

#include "agent/api/event.h"
#include "agent/api/request.h"
#include "agent/api/ws.h"
#include "base/clock.h"
#include "base/ids.h"

#include <string.h>

#define WAIT_MAX_S (10LL * 365 * 24 * 3600) /* longer is for ever, and microseconds of it fit */

static bool
may_see(const Caller *caller, const Operation *op)
{
    return caller_may_project(caller, op->project) && !(caller->restricted && op->admin_only);
}

static Operation *
find(Request *req, GError **error)
{
    Operation *op = g_hash_table_lookup(req_agent(req)->ops->by_id, req_arg(req, "id"));
    if (op == NULL ||
        (req_caller(req)->kind != CALLER_UNTRUSTED && !may_see(req_caller(req), op))) {
        haw_fail(error, HAW_NOT_FOUND, "Operation not found");
        return NULL;
    }
    return op;
}

/* Operations of a websocket have secrets; knowing one is as good as being trusted (LXD). */
static bool
knows_secret(Request *req, Operation *op)
{
    const char *given = req_query(req, "secret");
    const char *key;
    json_t *value;
    if (given == NULL) {
        return false;
    }
    if (ids_secret_is(given, json_string_value(json_object_get(op->metadata, "secret")))) {
        return true;
    }
    json_object_foreach (op->fds, key, value) {
        if (ids_secret_is(given, json_string_value(value))) {
            return true;
        }
    }
    return false;
}

static bool
get_list(Request *req, GError **error)
{
    json_t *groups = json_object();
    Operation *op;
    GHashTableIter iter;
    g_hash_table_iter_init(&iter, req_agent(req)->ops->by_id);
    while (g_hash_table_iter_next(&iter, NULL, (gpointer *) &op)) {
        if (!may_see(req_caller(req), op) ||
            (!req_all_projects(req) && strcmp(op->project, req_project(req)) != 0)) {
            continue;
        }
        g_autofree char *group = g_ascii_strdown(opshape_status(op->status), -1);
        json_t *list = json_object_get(groups, group);
        if (list == NULL) {
            list = json_array();
            json_object_set_new(groups, group, list);
        }
        g_autofree char *url = g_strdup_printf("/1.0/operations/%s", op->id);
        json_array_append_new(list, req_recursion(req) > 0 ? op_json(op) : json_string(url));
    }
    return req_reply(req, groups);
}

static bool
get_one(Request *req, GError **error)
{
    Operation *op = find(req, error);
    return op != NULL && req_reply(req, op_json(op));
}

static bool
delete_one(Request *req, GError **error)
{
    Operation *op = find(req, error);
    if (op == NULL) {
        return false;
    }
    if (op->ended) {
        return haw_fail(error, HAW_CONFLICT, "Only running operations can be cancelled");
    }
    if (!op->cancellable) {
        return haw_fail(error, HAW_CONFLICT, "%s",
                        op->committed != NULL ? op->committed
                                              : "This operation can't be cancelled");
    }
    g_autofree char *source = g_strdup_printf("/1.0/operations/%s", op->id);
    event_lifecycle(op->agent, op->project, req_caller(req), NULL, "operation-cancelled", "%s",
                    source);
    if (op->fn == NULL) {
        op_end_token(op);
    } else {
        op->status = STATUS_CANCELLING;
        opshape_announce(op);
        g_cancellable_cancel(op->cancel);
    }
    return req_reply(req, NULL);
}

static bool
get_wait(Request *req, GError **error)
{
    Operation *found = find(req, error);
    if (found == NULL) {
        return false;
    }
    g_autoptr(Operation) op = opshape_ref(found);
    if (req_caller(req)->kind == CALLER_UNTRUSTED && !knows_secret(req, op)) {
        return haw_fail(error, HAW_DENIED, "not authorized");
    }
    const char *text = req_query(req, "timeout");
    char *end = NULL;
    gint64 wait_s = text != NULL && *text != '\0' ? g_ascii_strtoll(text, &end, 10) : -1;
    if (end != NULL && *end != '\0') {
        return haw_fail(error, HAW_INVALID, "Invalid timeout \"%s\"", text);
    }
    wait_s = MIN(wait_s, WAIT_MAX_S);
    gint64 end_us = clock_mono_us() + wait_s * G_USEC_PER_SEC;
    while (!op->ended) {
        gint64 left_ms = wait_s < 0 ? -1 : (end_us - clock_mono_us()) / 1000;
        if (wait_s >= 0 && left_ms <= 0) {
            break;
        }
        fiber_signal_wait(&op->changed, left_ms, NULL, NULL);
    }
    return req_reply(req, op_json(op));
}

struct joining {
    Operation *op;
    char *key;
};

static void
join_socket(Ws *ws, void *data)
{
    struct joining *joining = data;
    if (joining->op->ended) {
        ws_free(ws);
    } else {
        g_hash_table_replace(joining->op->sockets, g_strdup(joining->key), ws);
        fiber_signal_all(&joining->op->changed);
    }
    opshape_unref(joining->op);
    g_free(joining->key);
    g_free(joining);
}

static bool
get_websocket(Request *req, GError **error)
{
    Operation *op = find(req, error);
    if (op == NULL) {
        return false;
    }
    if (op->class != OP_WEBSOCKET) {
        return haw_fail(error, HAW_FAILED, "Only websocket operations can be connected");
    }
    const char *secret = req_query(req, "secret");
    if (secret == NULL || *secret == '\0') {
        return haw_fail(error, HAW_INVALID, "Missing websocket secret");
    }
    const char *key;
    json_t *value;
    json_object_foreach (op->fds, key, value) {
        if (!ids_secret_is(secret, json_string_value(value))) {
            continue;
        }
        if (g_hash_table_contains(op->used, key)) { /* O4 */
            return haw_fail(error, HAW_EXISTS, "The websocket \"%s\" is already connected", key);
        }
        struct joining *joining = g_new(struct joining, 1);
        joining->op = opshape_ref(op);
        joining->key = g_strdup(key);
        if (!req_upgrade_ws(req, join_socket, joining, error)) {
            opshape_unref(op);
            g_free(joining->key);
            g_free(joining);
            return false;
        }
        g_hash_table_add(op->used, g_strdup(key));
        return true;
    }
    return haw_fail(error, HAW_DENIED, "not authorized");
}

const Route operation_routes[] = {
    {"GET", "/1.0/operations", get_list, 0},
    {"GET", "/1.0/operations/{id}", get_one, 0},
    {"DELETE", "/1.0/operations/{id}", delete_one, 0},
    {"GET", "/1.0/operations/{id}/wait", get_wait, ROUTE_UNTRUSTED | ROUTE_EARLY},
    {"GET", "/1.0/operations/{id}/websocket", get_websocket, ROUTE_UNTRUSTED | ROUTE_EARLY},
    {NULL, NULL, NULL, 0},
};
