/* The server itself: events, raw requests, versions, readiness, shutdown, operations, warnings. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "ctl/cmd.h"
#include "ctl/edit.h"
#include "ctl/entity.h"
#include "ctl/interrupt.h"
#include "ctl/out.h"
#include "ctl/wait.h"
#include "ctl/wsclient.h"

enum { READY_STEP_MS = 200 };

typedef struct {
    const char *format;
} Monitor;

static void
print_pretty(const json_t *event)
{
    const json_t *metadata = json_object_get(event, "metadata");
    const char *type = out_get(event, "type");
    g_autofree char *detail = NULL;
    if (strcmp(type, "logging") == 0) {
        g_autofree char *context =
            json_dumps(json_object_get(metadata, "context"), JSON_COMPACT | JSON_ENCODE_ANY);
        detail = g_strdup_printf("%s: %s %s", out_get(metadata, "level"),
                                 out_get(metadata, "message"), context != NULL ? context : "");
    } else if (strcmp(type, "lifecycle") == 0) {
        detail = g_strdup_printf("%s %s", out_get(metadata, "action"), out_get(metadata, "source"));
    } else {
        detail = g_strdup_printf("%s: %s (%s)", out_get(metadata, "id"),
                                 out_get(metadata, "description"), out_get(metadata, "status"));
    }
    printf("%.23s %s %s\n", out_get(event, "timestamp"), type, detail);
}

static void
on_event(void *data, bool is_text, const guint8 *bytes, size_t size)
{
    const Monitor *monitor = data;
    g_autoptr(json_t) event = json_loadb((const char *) bytes, size, 0, NULL);
    if (event == NULL) {
        return;
    }
    if (strcmp(monitor->format, "json") == 0) {
        out_json(event);
    } else if (strcmp(monitor->format, "pretty") == 0) {
        print_pretty(event);
    } else {
        out_yaml(event);
        puts("");
    }
    fflush(stdout);
}

bool
cmd_server_monitor(Ctl *ctl, GError **error)
{
    Rest *rest = ctl_server(ctl, ctl_arg(ctl, 0), NULL, error);
    Monitor monitor = {.format = ctl_flag(ctl, "pretty") ? "pretty" : ctl_option(ctl, "format")};
    static const char *const formats[] = {"yaml", "json", "pretty", NULL};
    if (rest == NULL) {
        return false;
    }
    if (!g_strv_contains(formats, monitor.format)) {
        return haw_fail(error, HAW_INVALID, "unknown format '%s' (choose yaml, json or pretty)",
                        monitor.format);
    }
    g_autofree char *types = g_strjoinv(",", (char **) ctl_option_all(ctl, "type"));
    g_autofree char *typed = rest_path("?type=%s", types);
    g_autofree char *path = g_strconcat("/1.0/events", *types != '\0' ? typed : "", NULL);
    if (ctl_flag(ctl, "all-projects")) {
        g_autofree char *all =
            g_strconcat(path, *types != '\0' ? "&" : "?", "all-projects=true", NULL);
        g_free(path);
        path = g_steal_pointer(&all);
    }
    g_autoptr(WsClient) events = wsclient_open(rest, path, on_event, &monitor, error);
    if (events == NULL) {
        return haw_push(error, "events");
    }
    while (wsclient_is_open(events) && !interrupt_seen()) {
        wsclient_poll(&events, 1, -1, 1000, NULL);
    }
    return interrupt_seen() || haw_fail(error, HAW_UNAVAILABLE, "the server ended the events");
}

bool
cmd_server_query(Ctl *ctl, GError **error)
{
    const char *path = NULL, *data = ctl_option(ctl, "data");
    const char *method = ctl_option(ctl, "request");
    Rest *rest = ctl_server(ctl, ctl_arg(ctl, 0), &path, error);
    if (rest == NULL) {
        return false;
    }
    if (*path != '/') {
        return haw_fail(error, HAW_INVALID, "'%s' is no path (it begins with '/')", path);
    }
    g_autofree char *from_stdin =
        data != NULL && strcmp(data, "-") == 0 ? edit_read_stdin(error) : NULL;
    if (data != NULL && strcmp(data, "-") == 0 && from_stdin == NULL) {
        return false;
    }
    const char *text = from_stdin != NULL ? from_stdin : data;
    const char *headers[] = {"Content-Type: application/json", NULL};
    RestRaw raw = {.method = method,
                   .path = path,
                   .headers = headers,
                   .bytes = text,
                   .size = text != NULL ? strlen(text) : 0};
    g_autoptr(GByteArray) body = NULL;
    if (!rest_raw(rest, &raw, NULL, NULL, &body, error)) {
        return false;
    }
    g_autoptr(json_t) root = json_loadb((const char *) body->data, body->len, 0, NULL);
    json_t *metadata = json_object_get(root, "metadata");
    if (root == NULL) {
        fwrite(body->data, 1, body->len, stdout);
        return true;
    }
    g_autoptr(json_t) end = NULL;
    if (ctl_flag(ctl, "wait") && strcmp(out_get(root, "type"), "async") == 0) {
        end = wait_operation(ctl, rest, metadata, NULL, error);
        if (end == NULL) {
            return false;
        }
        metadata = end;
    }
    const json_t *shown = ctl_flag(ctl, "raw") ? root : metadata;
    if (shown != NULL && !json_is_null(shown)) {
        g_autofree char *pretty = json_dumps(shown, JSON_INDENT(2) | JSON_ENCODE_ANY);
        puts(pretty);
    }
    return true;
}

bool
cmd_server_version(Ctl *ctl, GError **error)
{
    g_autoptr(GError) why = NULL;
    Rest *rest = ctl_server(ctl, ctl_arg(ctl, 0), NULL, error);
    if (rest == NULL) {
        return false;
    }
    g_autoptr(json_t) server = rest_get(rest, "/1.0", &why);
    const char *version = out_get(json_object_get(server, "environment"), "server_version");
    printf("Client version: " HAWSER_VERSION "\n");
    printf("Server version: %s\n",
           server == NULL ? "unreachable" : (*version != '\0' ? version : "not trusted"));
    return true;
}

bool
cmd_server_waitready(Ctl *ctl, GError **error)
{
    const char *text = ctl_option(ctl, "timeout");
    gint64 wait_s = text != NULL ? g_ascii_strtoll(text, NULL, 10) : 0;
    gint64 until_us = g_get_monotonic_time() + wait_s * G_USEC_PER_SEC;
    Rest *rest = ctl_server(ctl, NULL, NULL, error);
    if (rest == NULL) {
        return false;
    }
    for (;;) {
        g_autoptr(GError) why = NULL;
        if (rest_do(rest, "GET", "/internal/ready", NULL, &why)) {
            return true;
        }
        if (interrupt_seen()) {
            return haw_fail(error, HAW_CANCELLED, "interrupted");
        }
        if (wait_s > 0 && g_get_monotonic_time() >= until_us) {
            return haw_fail(error, HAW_TIMEOUT,
                            "hawserd is not ready after %" G_GINT64_FORMAT " s: %s", wait_s,
                            why->message);
        }
        g_usleep(READY_STEP_MS * 1000);
    }
}

bool
cmd_server_shutdown(Ctl *ctl, GError **error)
{
    const char *path =
        ctl_flag(ctl, "force") ? "/internal/shutdown?force=true" : "/internal/shutdown?force=false";
    const char *timeout = ctl_option(ctl, "timeout");
    gint64 wait_s = 0;
    if (timeout != NULL && !g_ascii_string_to_signed(timeout, 10, 0, G_MAXINT32, &wait_s, NULL)) {
        return haw_fail(error, HAW_INVALID, "--timeout takes seconds, not '%s'", timeout);
    }
    Rest *rest = ctl_server(ctl, NULL, NULL, error);
    if (rest == NULL) {
        return false;
    }
    rest_set_timeout(rest, wait_s);
    return rest_do(rest, "PUT", path, NULL, error) || haw_push(error, "shutdown");
}

bool
cmd_server_operation_list(Ctl *ctl, GError **error)
{
    Rest *rest = ctl_server(ctl, ctl_arg(ctl, 0), NULL, error);
    const char *path = ctl_flag(ctl, "all-projects")
                           ? "/1.0/operations?recursion=1&all-projects=true"
                           : "/1.0/operations?recursion=1";
    g_autoptr(json_t) body = rest != NULL ? rest_get(rest, path, error) : NULL;
    if (body == NULL) {
        return false;
    }
    static const char *const headers[] = {"ID",         "TYPE",    "DESCRIPTION", "STATUS",
                                          "CANCELABLE", "CREATED", NULL};
    g_autoptr(OutTable) table = out_table_new(headers);
    g_autoptr(json_t) flat = json_array();
    const char *status;
    json_t *list, *operation;
    size_t index;
    json_object_foreach (body, status, list) {
        json_array_foreach (list, index, operation) {
            g_autofree char *class = g_ascii_strup(out_get(operation, "class"), -1);
            g_autofree char *state = g_ascii_strup(out_get(operation, "status"), -1);
            g_autofree char *created = out_time(out_get(operation, "created_at"));
            json_array_append(flat, operation);
            out_table_add(table, out_get(operation, "id"));
            out_table_add(table, class);
            out_table_add(table, out_get(operation, "description"));
            out_table_add(table, state);
            out_table_add(table,
                          json_is_true(json_object_get(operation, "may_cancel")) ? "YES" : "NO");
            out_table_add(table, created);
        }
    }
    out_table_sort(table);
    return out_print(table, flat, ctl_option(ctl, "format"), error);
}

static const struct {
    char letter;
    const char *header, *spec;
} warning_columns[] = {
    {'u', "UUID", "uuid"},
    {'t', "TYPE", "type"},
    {'S', "STATUS", "status^"},
    {'s', "SEVERITY", "severity^"},
    {'c', "COUNT", "count"},
    {'p', "PROJECT", "project"},
    {'L', "LOCATION", "location"},
    {'l', "LAST SEEN", "last_seen_at@"},
    {'f', "FIRST SEEN", "first_seen_at@"},
};

bool
cmd_server_warning_list(Ctl *ctl, GError **error)
{
    const char *letters = ctl_option(ctl, "columns");
    Rest *rest = ctl_server(ctl, ctl_arg(ctl, 0), NULL, error);
    g_autoptr(json_t) body =
        rest != NULL ? rest_get(rest, "/1.0/warnings?recursion=1", error) : NULL;
    if (body == NULL) {
        return false;
    }
    g_autoptr(GPtrArray) headers = g_ptr_array_new(), specs = g_ptr_array_new();
    for (const char *letter = letters; *letter != '\0'; letter++) {
        for (size_t i = 0; i < G_N_ELEMENTS(warning_columns); i++) {
            if (warning_columns[i].letter == *letter) {
                g_ptr_array_add(headers, (void *) warning_columns[i].header);
                g_ptr_array_add(specs, (void *) warning_columns[i].spec);
            }
        }
    }
    g_ptr_array_add(headers, NULL);
    g_autoptr(OutTable) table = out_table_new((const char *const *) headers->pdata);
    g_autoptr(json_t) shown = json_array();
    size_t index;
    json_t *warning;
    json_array_foreach (body, index, warning) {
        if (strcmp(out_get(warning, "status"), "resolved") == 0 && !ctl_flag(ctl, "all")) {
            continue;
        }
        json_array_append(shown, warning);
        for (guint i = 0; i < specs->len; i++) {
            g_autofree char *cell = entity_column(warning, specs->pdata[i]);
            out_table_add(table, cell);
        }
    }
    out_table_sort(table);
    return out_print(table, shown, ctl_option(ctl, "format"), error);
}

bool
cmd_server_warning_ack(Ctl *ctl, GError **error)
{
    const char *uuid = NULL;
    Rest *rest = ctl_server(ctl, ctl_arg(ctl, 0), &uuid, error);
    if (rest == NULL) {
        return false;
    }
    g_autofree char *path = rest_path("/1.0/warnings/%s", uuid);
    g_autoptr(json_t) body = json_pack("{ss}", "status", "acknowledged");
    return rest_do(rest, "PUT", path, body, error) || haw_push(error, "warning '%s'", uuid);
}

bool
cmd_server_warning_delete(Ctl *ctl, GError **error)
{
    const char *uuid = NULL;
    Rest *rest = ctl_server(ctl, ctl_arg(ctl, 0), &uuid, error);
    if (rest == NULL) {
        return false;
    }
    if (!ctl_flag(ctl, "all")) {
        if (*uuid == '\0') {
            return haw_fail(error, HAW_INVALID, "<warning> is missing (or --all)");
        }
        g_autofree char *path = rest_path("/1.0/warnings/%s", uuid);
        return rest_do(rest, "DELETE", path, NULL, error) || haw_push(error, "warning '%s'", uuid);
    }
    g_autoptr(json_t) urls = rest_get(rest, "/1.0/warnings", error);
    size_t index;
    json_t *url;
    json_array_foreach (urls, index, url) {
        if (!rest_do(rest, "DELETE", json_string_value(url), NULL, error)) {
            return false;
        }
    }
    return urls != NULL;
}
