/* JSON-RPC over a wire: a reading fiber, a writing fiber while there is something to write.
 * J1  Messages are handled in the order of the stream, on the reading fiber, without yielding; so a
 *     caller who is woken by a reply finds all that came before it done.
 * J2  An answer belongs to the call whose id it has; each id is used once. Others are ignored.
 * J3  Silence of probe_ms is answered by an echo, silence after that ends the connection.
 * J4  What waits to be sent is bounded: a peer that reads no more ends the connection.
 * Called by ovsdb.c and unixctl.c. */
#include "proto/jsonrpc.h"

#include <string.h>

#include "base/clock.h"
#include "base/fiber.h"
#include "proto/jsonscan.h"

enum {
    READ_BYTES = 256 * 1024,
    MESSAGE_MOST = 512 * 1024 * 1024, /* the first dump of a large database is one message */
    OUT_MOST = 256 * 1024 * 1024,     /* J4 */
};

struct JsonRpc {
    RpcWire *wire; /* owned; NULL once it has ended */
    JsonScan *scan;
    GByteArray *out;
    gsize out_done;    /* bytes of 'out' that were sent */
    GHashTable *calls; /* id → struct call, borrowed from the callers' stacks */
    gint64 last_id;
    gint64 probe_ms;
    GCancellable *stop; /* owned; ends both fibers */
    JsonRpcNotify notify;
    JsonRpcEnded ended;
    void *data;
    bool writing; /* the writing fiber runs */
    guint refs;
};

struct call {
    FiberSignal done;
    JsonRpcReply reply;
    void *data;
    json_t *result; /* owned */
    GError *error;  /* owned */
    bool over;
};

static void
rpc_unref(JsonRpc *rpc)
{
    if (--rpc->refs == 0) {
        rpcwire_close(rpc->wire);
        jsonscan_free(rpc->scan);
        g_byte_array_unref(rpc->out);
        g_hash_table_unref(rpc->calls);
        g_object_unref(rpc->stop);
        g_free(rpc);
    }
}

static void
end_call(struct call *call, json_t *result, GError *error)
{
    call->result = result;
    call->error = error;
    call->over = true;
    fiber_signal_all(&call->done);
}

/* The connection is over: every call fails. */
static void
end(JsonRpc *rpc, const GError *why)
{
    if (rpc->wire == NULL) {
        return;
    }
    g_cancellable_cancel(rpc->stop);
    g_clear_pointer(&rpc->wire, rpcwire_close);
    GHashTableIter iter;
    gpointer call;
    g_hash_table_iter_init(&iter, rpc->calls);
    while (g_hash_table_iter_next(&iter, NULL, &call)) {
        g_hash_table_iter_remove(&iter);
        end_call(
            call, NULL,
            g_error_new(HAW_ERROR, HAW_UNAVAILABLE, "the connection was lost: %s", why->message));
    }
    if (rpc->ended != NULL) {
        rpc->ended(why, rpc->data);
    }
}

/* ---- sending ---- */

/* False when the connection ended. */
static bool
flush(JsonRpc *rpc)
{
    g_autoptr(GError) why = NULL;
    while (rpc->wire != NULL && rpc->out_done < rpc->out->len) {
        gssize moved = rpcwire_write(rpc->wire, rpc->out->data + rpc->out_done,
                                     rpc->out->len - rpc->out_done, &why);
        if (moved < 0) {
            end(rpc, why);
            return false;
        }
        if (moved == 0) {
            return true;
        }
        rpc->out_done += (gsize) moved;
    }
    g_byte_array_set_size(rpc->out, 0);
    rpc->out_done = 0;
    return rpc->wire != NULL;
}

static void
write_run(void *data)
{
    JsonRpc *rpc = data;
    while (rpc->wire != NULL && rpc->out->len > 0 &&
           fiber_wait_fd(rpcwire_fd(rpc->wire), G_IO_OUT, -1, rpc->stop, NULL) && flush(rpc)) {
    }
    rpc->writing = false;
    rpc_unref(rpc);
}

static int
append_bytes(const char *bytes, size_t size, void *data)
{
    g_byte_array_append(data, (const guint8 *) bytes, (guint) size);
    return 0;
}

static void
send_message(JsonRpc *rpc, json_t *message /* stolen */)
{
    if (rpc->wire == NULL) {
        json_decref(message);
        return;
    }
    json_dump_callback(message, append_bytes, rpc->out, JSON_COMPACT);
    json_decref(message);
    if (rpc->out->len - rpc->out_done > OUT_MOST) { /* J4 */
        g_autoptr(GError) why = g_error_new(HAW_ERROR, HAW_UNAVAILABLE, "the peer does not read");
        end(rpc, why);
        return;
    }
    if (!rpc->writing && flush(rpc) && rpc->out->len > 0) {
        rpc->writing = true;
        rpc->refs++;
        fiber_start("jsonrpc-write", write_run, rpc);
    }
}

/* ---- receiving ---- */

static char *
error_text(json_t *error)
{
    if (json_is_string(error)) {
        return g_strdup(json_string_value(error));
    }
    const char *word = json_string_value(json_object_get(error, "error"));
    const char *details = json_string_value(json_object_get(error, "details"));
    if (word == NULL) {
        return g_strdup("unknown error");
    }
    return details != NULL ? g_strdup_printf("%s: %s", word, details) : g_strdup(word);
}

static void
handle_reply(JsonRpc *rpc, json_t *message)
{
    gint64 id = json_integer_value(json_object_get(message, "id"));
    struct call *call = g_hash_table_lookup(rpc->calls, &id);
    json_t *error = json_object_get(message, "error");
    json_t *result = json_object_get(message, "result");
    if (!json_is_integer(json_object_get(message, "id")) || call == NULL) { /* J2 */
        return;
    }
    g_hash_table_remove(rpc->calls, &id);
    if (error != NULL && !json_is_null(error)) {
        g_autofree char *text = error_text(error);
        bool unknown = strstr(text, "unknown method") != NULL ||
                       strstr(text, "is not a valid command") != NULL;
        end_call(call, NULL,
                 g_error_new(HAW_ERROR, unknown ? HAW_UNSUPPORTED : HAW_FAILED, "%s", text));
        return;
    }
    GError *refused = NULL;
    if (call->reply != NULL && !call->reply(result, call->data, &refused)) {
        end_call(call, NULL, refused);
        return;
    }
    end_call(call, result != NULL ? json_incref(result) : json_null(), NULL);
}

static void
handle(JsonRpc *rpc, json_t *message)
{
    const char *method = json_string_value(json_object_get(message, "method"));
    json_t *id = json_object_get(message, "id");
    json_t *params = json_object_get(message, "params");
    if (method == NULL) {
        handle_reply(rpc, message);
    } else if (id == NULL || json_is_null(id)) {
        if (rpc->notify != NULL) {
            rpc->notify(method, params, rpc->data);
        }
    } else if (strcmp(method, "echo") == 0) {
        send_message(rpc, json_pack("{s:O?, s:n, s:O}", "result", params, "error", "id", id));
    } else {
        send_message(rpc, json_pack("{s:n, s:{s:s}, s:O}", "result", "error", "error",
                                    "unknown method", "id", id));
    }
}

/* All whole messages that are there. False when the connection ended. */
static bool
handle_all(JsonRpc *rpc)
{
    g_autoptr(GError) why = NULL;
    for (;;) {
        json_t *message = NULL;
        if (!jsonscan_next(rpc->scan, &message, &why)) {
            end(rpc, why);
            return false;
        }
        if (message == NULL) {
            return rpc->wire != NULL;
        }
        handle(rpc, message);
        json_decref(message);
        if (rpc->wire == NULL) {
            return false;
        }
    }
}

static bool
read_all(JsonRpc *rpc, guint8 *chunk)
{
    g_autoptr(GError) why = NULL;
    for (guint round = 1; rpc->wire != NULL; round++) {
        gssize got = rpcwire_read(rpc->wire, chunk, READ_BYTES, &why);
        if (got < 0) {
            end(rpc, why);
            return false;
        }
        if (got == 0) {
            return true;
        }
        jsonscan_feed(rpc->scan, chunk, (size_t) got);
        if (!handle_all(rpc)) {
            return false;
        }
        if (round % 16 == 0) {
            fiber_yield(); /* others want their turn, too */
        }
    }
    return false;
}

/* J3 */
static bool
probe(JsonRpc *rpc, bool *probed)
{
    if (*probed) {
        g_autoptr(GError) why =
            g_error_new(HAW_ERROR, HAW_TIMEOUT, "no answer for %d ms", (int) rpc->probe_ms);
        end(rpc, why);
        return false;
    }
    *probed = true;
    send_message(rpc, json_pack("{s:s, s:[], s:s}", "method", "echo", "params", "id", "echo"));
    return rpc->wire != NULL;
}

static void
read_run(void *data)
{
    JsonRpc *rpc = data;
    g_autofree guint8 *chunk = g_malloc(READ_BYTES);
    bool probed = false;
    bool more = true;
    while (more && rpc->wire != NULL) {
        g_autoptr(GError) why = NULL;
        if (fiber_wait_fd(rpcwire_fd(rpc->wire), G_IO_IN, rpc->probe_ms > 0 ? rpc->probe_ms : -1,
                          rpc->stop, &why)) {
            probed = false;
            more = read_all(rpc, chunk);
        } else if (haw_code(why) == HAW_TIMEOUT) {
            more = probe(rpc, &probed);
        } else {
            more = false;
        }
    }
    rpc_unref(rpc);
}

/* ---- the interface ---- */

JsonRpc *
jsonrpc_open(const JsonRpcOptions *options, GError **error)
{
    RpcWire *wire =
        rpcwire_open(options->remote, &options->tls, options->wait_ms, options->cancel, error);
    if (wire == NULL) {
        return NULL;
    }
    JsonRpc *rpc = g_new0(JsonRpc, 1);
    rpc->wire = wire;
    rpc->scan = jsonscan_new(MESSAGE_MOST);
    rpc->out = g_byte_array_new();
    rpc->calls = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, NULL);
    rpc->probe_ms = options->probe_ms;
    rpc->stop = g_cancellable_new();
    rpc->notify = options->notify;
    rpc->ended = options->ended;
    rpc->data = options->data;
    rpc->refs = 2;
    fiber_start("jsonrpc-read", read_run, rpc);
    return rpc;
}

void
jsonrpc_close(JsonRpc *rpc)
{
    if (rpc != NULL) {
        g_autoptr(GError) why = g_error_new(HAW_ERROR, HAW_UNAVAILABLE, "closed");
        rpc->ended = NULL;
        rpc->notify = NULL;
        end(rpc, why);
        rpc_unref(rpc);
    }
}

void
jsonrpc_abort(JsonRpc *rpc, const char *why)
{
    if (rpc != NULL) {
        g_autoptr(GError) text = g_error_new(HAW_ERROR, HAW_UNAVAILABLE, "%s", why);
        end(rpc, text);
    }
}

bool
jsonrpc_alive(const JsonRpc *rpc)
{
    return rpc->wire != NULL;
}

json_t *
jsonrpc_call(JsonRpc *rpc, const char *method, json_t *params, gint64 wait_ms, JsonRpcReply reply,
             void *data, GError **error)
{
    struct call call = {.done = FIBER_SIGNAL_INIT, .reply = reply, .data = data};
    gint64 id = ++rpc->last_id;
    if (rpc->wire == NULL) {
        json_decref(params);
        haw_fail(error, HAW_UNAVAILABLE, "not connected");
        return NULL;
    }
    rpc->refs++;
    g_hash_table_insert(rpc->calls, g_memdup2(&id, sizeof id), &call);
    send_message(rpc, json_pack("{s:s, s:o, s:I}", "method", method, "params", params, "id", id));
    while (!call.over) {
        g_autoptr(GError) why = NULL;
        if (!fiber_signal_wait(&call.done, wait_ms, NULL, &why) && !call.over) {
            g_hash_table_remove(rpc->calls, &id);
            end_call(&call, NULL,
                     g_error_new(HAW_ERROR, HAW_TIMEOUT, "%s: no answer for %d ms", method,
                                 (int) wait_ms));
        }
    }
    rpc_unref(rpc);
    if (call.error != NULL) {
        g_propagate_error(error, call.error);
        return NULL;
    }
    return call.result;
}
