/* operation.h: background work that clients can watch, wait for and cancel.
 * O1  An operation is created with its fiber; after its end it stays readable for 5 s.
 * O2  Each change of status or metadata is sent as an event before the next one happens.
 * Threads: main loop, inside fibers. */
#pragma once
#include "agent/agent.h"
#include "agent/api/server.h"
#include "base/histogram.h"
#include <gio/gio.h>

typedef enum { OP_TASK, OP_WEBSOCKET, OP_TOKEN } OpClass;

/* Runs in the operation's fiber. False ends it with Failure, or Cancelled once op_cancel() is set. */
typedef bool (*OpFn)(Operation *op, void *data, GError **error);

typedef struct {
    OpClass class;
    const char *description; /* "Creating instance": LXD's words */
    const char *project;
    json_t *resources; /* {"instances":["/1.0/instances/c1"]}; stolen, may be NULL */
    json_t *metadata;  /* stolen, may be NULL; for sockets {"fds":{"0":secret,…}} */
    json_t *fds; /* stolen, may be NULL: the secrets, where metadata has them in another form */
    bool cancellable;
    bool admin_only; /* restricted callers don't see it, and events come without its metadata */
    OpFn fn;         /* NULL for tokens */
    void *data;
    GDestroyNotify free_data; /* after the end */
} OpSpec;

/* Those that have not ended, by class; what tasks took that have, by how they ended. */
typedef enum { OP_ENDED_WELL, OP_ENDED_BADLY, OP_ENDED_CANCELLED, OP_ENDS } OpEnd;
struct op_counts {
    guint running[OP_TOKEN + 1];
    struct histogram ended[OP_ENDS];
};

OpTable *op_table_new(Agent *agent);
void op_table_free(OpTable *table);
void op_table_counts(OpTable *table, struct op_counts *ret);

/* Starts it (its fiber runs from the next turn of the loop). Borrowed: it lives until 5 s after its
 * end, so reply with it at once. 'req' may be NULL (background tasks) and gives the requestor. */
Operation *op_start(Agent *agent, Request *req, OpSpec spec);
/* Starts it and replies 202: the common end of a handler. */
bool op_reply(Request *req, OpSpec spec);

Agent *op_agent(Operation *op);
const char *op_id(Operation *op);
const char *op_project(Operation *op);
GCancellable *op_cancel(Operation *op); /* pass it to whatever waits */
/* From here on it can't be cancelled; 'why' (a literal) is what a client that tries hears. */
void op_commit(Operation *op, const char *why);
const Caller *op_caller(Operation *op); /* NULL for background tasks */
/* Merges into the metadata (stolen) and announces. */
void op_update(Operation *op, json_t *metadata);
/* Progress as LXD's clients print it: key "create_instance_from_image_unpack_progress", text
 * "12% (3.4MB/s)". At most 10 a second leave. total 0: unknown. */
void op_progress(Operation *op, const char *key, gint64 done_bytes, gint64 total_bytes);
/* Adds a resource once it is known. */
void op_add_resource(Operation *op, const char *type, const char *url);
/* The operation as REST shows it; a new reference. */
json_t *op_json(Operation *op);
/* Waits for the WebSocket with the key 'fd' ("0", "control") of an OP_WEBSOCKET; TIMEOUT. Takes
 * the connection over. Yields. */
Ws *op_ws(Operation *op, const char *fd, gint64 wait_ms, GError **error);
/* A WebSocket operation's metadata for these keys: {"fds":{key: secret}}; a new reference. */
json_t *op_fds(const char *const *keys);
/* Waits until it has ended. False with its error. Yields. */
bool op_wait(Operation *op, GError **error);
/* Waits at most wait_ms for those that run to end (shutdown). Yields. */
void op_table_drain(OpTable *table, gint64 wait_ms);
/* Tokens: finds a running OP_TOKEN with this description whose metadata has this secret, borrowed; NULL. */
Operation *op_find_token(Agent *agent, const char *description, const char *secret);
void op_end_token(Operation *op);
extern const Route operation_routes[];
