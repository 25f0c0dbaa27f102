/* One connection a command: these are rare, and daemons come and go. */
#include "proto/unixctl.h"

#include "proto/jsonrpc.h"

enum { CONNECT_MS = 1000, ANSWER_MS = 5000 };

char *
unixctl_call(const char *path, GError **error, const char *command, ...)
{
    g_autofree char *remote = g_strconcat("unix:", path, NULL);
    JsonRpcOptions options = {.remote = remote, .wait_ms = CONNECT_MS};
    json_t *params = json_array();
    const char *arg;
    va_list args;
    va_start(args, command);
    while ((arg = va_arg(args, const char *)) != NULL) {
        json_array_append_new(params, json_string(arg));
    }
    va_end(args);

    g_autoptr(JsonRpc) rpc = jsonrpc_open(&options, error);
    if (rpc == NULL) {
        json_decref(params);
        return NULL;
    }
    json_t *result = jsonrpc_call(rpc, command, params, ANSWER_MS, NULL, NULL, error);
    char *text = g_strdup(json_string_value(result));
    json_decref(result);
    return text != NULL || error == NULL || *error != NULL ? text : g_strdup("");
}
