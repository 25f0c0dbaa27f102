/* Operations: background work that clients watch, wait for and cancel (O1, O2 in operation.h).
 * O3  An operation is freed when it ended 5 s ago and nobody holds a reference.
 * O4  A WebSocket's secret connects once.
 * Called by handlers (op_reply), background tasks (op_start) and the routes below. Main loop. */
#include "agent/api/operation.h"

#include "agent/api/event.h"
#include "agent/api/ws.h"
#include "base/clock.h"
#include "base/fiber.h"
#include "base/ids.h"
#include "base/log.h"

#include <stdlib.h>
#include <string.h>

#define KEEP_S            5
#define PROGRESS_EVERY_US 100000

enum {
    STATUS_RUNNING = 103,
    STATUS_CANCELLING = 104,
    STATUS_PENDING = 105,
    STATUS_SUCCESS = 200,
    STATUS_FAILURE = 400,
    STATUS_CANCELLED = 401,
};

struct OpTable {
    Agent *agent;
    GHashTable *by_id; /* id → Operation, a reference each */
    struct histogram ended[OP_ENDS];
};

struct Operation {
    guint refs;
    Agent *agent;
    OpClass class;
    char *id, *description, *project;
    int status;
    char *err;
    HawCode err_code;
    gint64 created_at, updated_at;
    json_t *resources, *metadata;
    json_t *fds; /* WebSockets: key → secret */
    bool cancellable, admin_only, ended;
    const char *committed; /* op_commit()'s, borrowed */
    OpFn fn;
    void *data;
    GDestroyNotify free_data;
    GCancellable *cancel;
    Caller *caller;
    GHashTable *sockets; /* key → Ws * that connected and was not taken yet */
    GHashTable *used;    /* keys whose secret was spent: O4 */
    FiberSignal changed; /* ended, or a socket connected */
    gint64 progress_at;
};

static const char *
status_text(int status)
{
    return status == STATUS_RUNNING      ? "Running"
           : status == STATUS_CANCELLING ? "Cancelling"
           : status == STATUS_PENDING    ? "Pending"
           : status == STATUS_SUCCESS    ? "Success"
           : status == STATUS_FAILURE    ? "Failure"
                                         : "Cancelled";
}

static void
op_unref(Operation *op)
{
    if (--op->refs > 0) {
        return;
    }
    g_free(op->id);
    g_free(op->description);
    g_free(op->project);
    g_free(op->err);
    json_decref(op->resources);
    json_decref(op->metadata);
    json_decref(op->fds);
    g_object_unref(op->cancel);
    caller_free(op->caller);
    g_hash_table_unref(op->sockets);
    g_hash_table_unref(op->used);
    g_free(op);
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Operation, op_unref)

static Operation *
op_ref(Operation *op)
{
    op->refs++;
    return op;
}

OpTable *
op_table_new(Agent *agent)
{
    OpTable *table = g_new0(OpTable, 1);
    table->agent = agent;
    table->by_id = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, (GDestroyNotify) op_unref);
    return table;
}

void
op_table_free(OpTable *table)
{
    if (table != NULL) {
        g_hash_table_unref(table->by_id);
        g_free(table);
    }
}

/* ---- what it looks like ---- */

void
op_table_counts(OpTable *table, struct op_counts *ret)
{
    GHashTableIter iter;
    gpointer op;
    memset(ret, 0, sizeof *ret);
    memcpy(ret->ended, table->ended, sizeof ret->ended);
    g_hash_table_iter_init(&iter, table->by_id);
    while (g_hash_table_iter_next(&iter, NULL, &op)) {
        ret->running[((Operation *) op)->class] += !((Operation *) op)->ended;
    }
}

json_t *
op_json(Operation *op)
{
    static const char *const classes[] = {"task", "websocket", "token"};
    g_autofree char *created = clock_format(op->created_at);
    g_autofree char *updated = clock_format(op->updated_at);
    return json_pack("{s:s,s:s,s:s,s:s,s:s,s:s,s:i,s:O,s:O?,s:b,s:s,s:s}", "id", op->id, "class",
                     classes[op->class], "description", op->description, "created_at", created,
                     "updated_at", updated, "status", status_text(op->status), "status_code",
                     op->status, "resources", op->resources, "metadata",
                     json_object_size(op->metadata) > 0 ? op->metadata : NULL, "may_cancel",
                     op->cancellable && !op->ended, "err", op->err != NULL ? op->err : "",
                     "location", "none");
}

static void
announce(Operation *op)
{
    op->updated_at = clock_real_us();
    json_t *shown = op_json(op);
    if (op->admin_only) {
        json_object_set_new(shown, "metadata", json_null());
    }
    event_send(op->agent, "operation", op->project, shown); /* O2 */
}

/* ---- life ---- */

static gboolean
forget(gpointer data)
{
    Operation *op = data;
    g_hash_table_remove(op->agent->ops->by_id, op->id); /* O3 */
    op_unref(op);
    return G_SOURCE_REMOVE;
}

static void
op_end(Operation *op, int status)
{
    op->status = status;
    op->ended = true;
    if (op->class == OP_TASK) {
        OpEnd how = status == STATUS_SUCCESS   ? OP_ENDED_WELL
                    : status == STATUS_FAILURE ? OP_ENDED_BADLY
                                               : OP_ENDED_CANCELLED;
        histogram_note(&op->agent->ops->ended[how], clock_real_us() - op->created_at);
    }
    announce(op);
    g_timeout_add_seconds(KEEP_S, forget, op_ref(op));
    fiber_signal_all(&op->changed);
}

static void
op_run(void *data)
{
    g_autoptr(Operation) op = data;
    g_autoptr(GError) error = NULL;

    bool ok = op->fn(op, op->data, &error);
    if (op->free_data != NULL) {
        op->free_data(op->data);
    }
    if (!ok) {
        op->err_code = haw_code(error);
        op->err = g_strdup(error != NULL ? error->message : "failed without saying why");
        haw_info("operation.failed", KS("id", op->id), KS("what", op->description),
                 KS("why", op->err));
    }
    bool cancelled = !ok && g_cancellable_is_cancelled(op->cancel);
    op_end(op, ok ? STATUS_SUCCESS : cancelled ? STATUS_CANCELLED : STATUS_FAILURE);
}

Operation *
op_start(Agent *agent, Request *req, OpSpec spec)
{
    Operation *op = g_new0(Operation, 1);
    op->refs = 1;
    op->agent = agent;
    op->class = spec.class;
    op->id = ids_uuid();
    op->description = g_strdup(spec.description);
    op->project = g_strdup(spec.project != NULL ? spec.project : "default");
    op->status = STATUS_PENDING;
    op->created_at = clock_real_us();
    op->resources = spec.resources != NULL ? spec.resources : json_object();
    op->metadata = spec.metadata != NULL ? spec.metadata : json_object();
    op->fds = spec.fds != NULL ? spec.fds : json_incref(json_object_get(op->metadata, "fds"));
    op->cancellable = spec.cancellable || spec.class == OP_TOKEN;
    op->admin_only = spec.admin_only;
    op->fn = spec.fn;
    op->data = spec.data;
    op->free_data = spec.free_data;
    op->cancel = g_cancellable_new();
    op->caller = req != NULL ? caller_dup(req_caller(req)) : NULL;
    op->sockets = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, (GDestroyNotify) ws_free);
    op->used = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);

    g_hash_table_insert(agent->ops->by_id, op->id, op);
    announce(op);
    op->status = STATUS_RUNNING;
    announce(op);
    if (op->fn != NULL) {
        fiber_start("operation", op_run, op_ref(op));
    }
    return op;
}

bool
op_reply(Request *req, OpSpec spec)
{
    return req_reply_operation(req, op_start(req_agent(req), req, spec));
}

/* ---- for the work inside ---- */

Agent *
op_agent(Operation *op)
{
    return op->agent;
}

const char *
op_id(Operation *op)
{
    return op->id;
}

const char *
op_project(Operation *op)
{
    return op->project;
}

GCancellable *
op_cancel(Operation *op)
{
    return op->cancel;
}

void
op_commit(Operation *op, const char *why)
{
    op->cancellable = false;
    op->committed = why;
    announce(op);
}

const Caller *
op_caller(Operation *op)
{
    return op->caller;
}

void
op_update(Operation *op, json_t *metadata)
{
    json_object_update(op->metadata, metadata);
    json_decref(metadata);
    announce(op);
}

void
op_progress(Operation *op, const char *key, gint64 done_bytes, gint64 total_bytes)
{
    gint64 now = clock_mono_us();
    bool last = total_bytes > 0 && done_bytes >= total_bytes;
    if (op == NULL || (now - op->progress_at < PROGRESS_EVERY_US && !last)) {
        return;
    }
    op->progress_at = now;
    double seconds = (double) (clock_real_us() - op->created_at) / G_USEC_PER_SEC;
    g_autofree char *rate = g_format_size((guint64) ((double) done_bytes / MAX(seconds, 0.001)));
    g_autofree char *done = g_format_size((guint64) done_bytes);
    g_autofree char *text =
        total_bytes > 0
            ? g_strdup_printf("%d%% (%s/s)", (int) (done_bytes * 100 / total_bytes), rate)
            : g_strdup_printf("%s (%s/s)", done, rate);
    op_update(op, json_pack("{s:s}", key, text));
}

void
op_add_resource(Operation *op, const char *type, const char *url)
{
    json_t *list = json_object_get(op->resources, type);
    if (list == NULL) {
        list = json_array();
        json_object_set_new(op->resources, type, list);
    }
    json_array_append_new(list, json_string(url));
}

json_t *
op_fds(const char *const *keys)
{
    json_t *fds = json_object();
    for (; *keys != NULL; keys++) {
        g_autofree char *secret = ids_secret(32);
        json_object_set_new(fds, *keys, json_string(secret));
    }
    return json_pack("{s:o}", "fds", fds);
}

Ws *
op_ws(Operation *op, const char *fd, gint64 wait_ms, GError **error)
{
    gint64 end_us = clock_mono_us() + wait_ms * 1000;
    for (;;) {
        gpointer key = NULL, ws = NULL;
        if (g_hash_table_steal_extended(op->sockets, fd, &key, &ws)) {
            g_free(key);
            return ws;
        }
        gint64 left_ms = wait_ms < 0 ? -1 : MAX((end_us - clock_mono_us()) / 1000, 0);
        if (!fiber_signal_wait(&op->changed, left_ms, op->cancel, error)) {
            haw_push(error, "Wait for the websocket \"%s\"", fd);
            return NULL;
        }
    }
}

bool
op_wait(Operation *op, GError **error)
{
    g_autoptr(Operation) held = op_ref(op);
    while (!held->ended) {
        fiber_signal_wait(&held->changed, -1, NULL, NULL);
    }
    return held->err == NULL || haw_fail(error, held->err_code, "%s", held->err);
}

void
op_table_drain(OpTable *table, gint64 wait_ms)
{
    gint64 end_us = clock_mono_us() + wait_ms * 1000;
    for (;;) {
        Operation *op, *busy = NULL;
        GHashTableIter iter;
        g_hash_table_iter_init(&iter, table->by_id);
        while (g_hash_table_iter_next(&iter, NULL, (gpointer *) &op)) {
            if (!op->ended && op->class == OP_TASK && op->fn != NULL) {
                busy = op;
            }
        }
        gint64 left_ms = (end_us - clock_mono_us()) / 1000;
        if (busy == NULL || left_ms <= 0) {
            return;
        }
        g_autoptr(Operation) held = op_ref(busy);
        fiber_signal_wait(&held->changed, left_ms, NULL, NULL);
    }
}

/* ---- tokens ---- */

Operation *
op_find_token(Agent *agent, const char *description, const char *secret)
{
    Operation *op;
    GHashTableIter iter;
    g_hash_table_iter_init(&iter, agent->ops->by_id);
    while (g_hash_table_iter_next(&iter, NULL, (gpointer *) &op)) {
        const char *have = json_string_value(json_object_get(op->metadata, "secret"));
        if (op->class == OP_TOKEN && !op->ended && have != NULL &&
            strcmp(op->description, description) == 0 && strlen(have) == strlen(secret)) {
            unsigned char differ = 0; /* in constant time */
            for (size_t i = 0; have[i] != '\0'; i++) {
                differ |= (unsigned char) (have[i] ^ secret[i]);
            }
            if (differ == 0) {
                return op;
            }
        }
    }
    return NULL;
}

void
op_end_token(Operation *op)
{
    if (!op->ended) {
        op_end(op, STATUS_CANCELLED);
    }
}

/* ---- routes ---- */

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
    if (g_strcmp0(json_string_value(json_object_get(op->metadata, "secret")), given) == 0) {
        return true;
    }
    json_object_foreach (op->fds, key, value) {
        if (g_strcmp0(json_string_value(value), given) == 0) {
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
        g_autofree char *group = g_ascii_strdown(status_text(op->status), -1);
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
        announce(op);
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
    g_autoptr(Operation) op = op_ref(found);
    if (req_caller(req)->kind == CALLER_UNTRUSTED && !knows_secret(req, op)) {
        return haw_fail(error, HAW_DENIED, "not authorized");
    }
    const char *text = req_query(req, "timeout");
    char *end = NULL;
    gint64 wait_s = text != NULL && *text != '\0' ? g_ascii_strtoll(text, &end, 10) : -1;
    if (end != NULL && *end != '\0') {
        return haw_fail(error, HAW_INVALID, "Invalid timeout \"%s\"", text);
    }
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
    op_unref(joining->op);
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
        if (g_strcmp0(json_string_value(value), secret) != 0) {
            continue;
        }
        if (g_hash_table_contains(op->used, key)) { /* O4 */
            return haw_fail(error, HAW_EXISTS, "The websocket \"%s\" is already connected", key);
        }
        struct joining *joining = g_new(struct joining, 1);
        joining->op = op_ref(op);
        joining->key = g_strdup(key);
        if (!req_upgrade_ws(req, join_socket, joining, error)) {
            op_unref(op);
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
