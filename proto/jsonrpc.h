/* jsonrpc.h: JSON-RPC 1.0 as OVSDB servers and OVS daemons speak it: calls, notifications, echo.
 * Threads: main loop, inside fibers. */
#pragma once
#include "base/error.h"
#include "proto/rpcwire.h"
#include <jansson.h>

typedef struct JsonRpc JsonRpc;
/* A notification of the peer; 'params' is borrowed. Must not yield. */
typedef void (*JsonRpcNotify)(const char *method, json_t *params, void *data);
/* The connection has ended, by itself: not called after jsonrpc_close(). Must not yield. */
typedef void (*JsonRpcEnded)(const GError *why, void *data);
typedef struct {
    const char *remote;
    RpcWireTls tls;
    gint64 wait_ms;  /* to connect */
    gint64 probe_ms; /* silence before an echo, and again before the end; 0: never */
    GCancellable *cancel;
    JsonRpcNotify notify;
    JsonRpcEnded ended;
    void *data;
} JsonRpcOptions;

/* Yields. */
JsonRpc *jsonrpc_open(const JsonRpcOptions *options, GError **error);
/* What still waits fails with UNAVAILABLE. */
void jsonrpc_close(JsonRpc *rpc);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(JsonRpc, jsonrpc_close)
/* Ends it from our side, as if the peer had: 'ended' is called, it still is to be closed. */
void jsonrpc_abort(JsonRpc *rpc, const char *why);
/* False once it has ended. */
bool jsonrpc_alive(const JsonRpc *rpc);

/* Called with the result, before anything that the peer sent behind it is looked at. Must not yield.
 * False with *error makes the call fail. */
typedef bool (*JsonRpcReply)(json_t *result, void *data, GError **error);
/* Sends and waits for the answer: its "result", a new reference. 'params' is stolen. An "error" of the
 * peer fails with its text (UNSUPPORTED for an unknown method). TIMEOUT after wait_ms. 'reply' may be
 * NULL. Yields. */
json_t *jsonrpc_call(JsonRpc *rpc, const char *method, json_t *params, gint64 wait_ms,
                     JsonRpcReply reply, void *data, GError **error);
