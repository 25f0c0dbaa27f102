/* opshape.h: what an operation is inside, for operation.c (its life) and operations.c (its routes).
 * Threads: main loop. */
#pragma once
#include "agent/api/operation.h"
#include "base/fiber.h"

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
    GHashTable *used;    /* keys whose secret was spent: O4 (operations.c) */
    FiberSignal changed; /* ended, or a socket connected */
    gint64 progress_at;
};

const char *opshape_status(int status); /* as REST names it */
Operation *opshape_ref(Operation *op);
void opshape_unref(Operation *op);
/* Its new look to those who listen to events. */
void opshape_announce(Operation *op);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Operation, opshape_unref)
