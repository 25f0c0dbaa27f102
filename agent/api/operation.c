/* Operations: background work that clients watch, wait for and cancel (O1, O2 in operation.h).
 * O3  An operation is freed when it ended 5 s ago and nobody holds a reference.
 * Not here: what clients ask of them (operations.c). Called by handlers (op_reply) and background tasks
 * (op_start). Main loop. */
#include "agent/api/operation.h"

#include "agent/api/event.h"
#include "agent/api/opshape.h"
#include "agent/api/ws.h"
#include "base/clock.h"
#include "base/fiber.h"
#include "base/ids.h"
#include "base/log.h"

#include <stdlib.h>
#include <string.h>

#define KEEP_S            5
#define PROGRESS_EVERY_US 100000

const char *
opshape_status(int status)
{
    return status == STATUS_RUNNING      ? "Running"
           : status == STATUS_CANCELLING ? "Cancelling"
           : status == STATUS_PENDING    ? "Pending"
           : status == STATUS_SUCCESS    ? "Success"
           : status == STATUS_FAILURE    ? "Failure"
                                         : "Cancelled";
}

void
opshape_unref(Operation *op)
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
Operation *
opshape_ref(Operation *op)
{
    op->refs++;
    return op;
}

OpTable *
op_table_new(Agent *agent)
{
    OpTable *table = g_new0(OpTable, 1);
    table->agent = agent;
    table->by_id =
        g_hash_table_new_full(g_str_hash, g_str_equal, NULL, (GDestroyNotify) opshape_unref);
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
                     "updated_at", updated, "status", opshape_status(op->status), "status_code",
                     op->status, "resources", op->resources, "metadata",
                     json_object_size(op->metadata) > 0 ? op->metadata : NULL, "may_cancel",
                     op->cancellable && !op->ended, "err", op->err != NULL ? op->err : "",
                     "location", "none");
}

void
opshape_announce(Operation *op)
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
    opshape_unref(op);
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
    opshape_announce(op);
    g_timeout_add_seconds(KEEP_S, forget, opshape_ref(op));
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
    opshape_announce(op);
    op->status = STATUS_RUNNING;
    opshape_announce(op);
    if (op->fn != NULL) {
        fiber_start("operation", op_run, opshape_ref(op));
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
    opshape_announce(op);
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
    opshape_announce(op);
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
    g_autoptr(Operation) held = opshape_ref(op);
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
        g_autoptr(Operation) held = opshape_ref(busy);
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
        if (op->class == OP_TOKEN && !op->ended && strcmp(op->description, description) == 0 &&
            ids_secret_is(secret, have)) {
            return op;
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
