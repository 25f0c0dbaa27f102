/* Waiting for operations.
 * Q1  The end is never missed: events say it at once, and where they cannot be had the server is
 *     asked with a long poll.
 * Q2  An interrupt cancels the operation if the server can, else says that it goes on and how to
 *     look at it; either way we stop waiting.
 * Called by every command that starts an operation. */
#include "ctl/wait.h"

#include <string.h>

#include "ctl/interrupt.h"
#include "ctl/json.h"
#include "ctl/out.h"
#include "ctl/progress.h"
#include "ctl/wsclient.h"

enum { STATUS_FINAL = 200, STATUS_CANCELLED = 401 };

typedef struct {
    const char *id;     /* borrows */
    json_t *latest;     /* owns: the operation as last seen */
    Progress *progress; /* owns */
} Watch;

char *
wait_path(const json_t *operation)
{
    return rest_path("/1.0/operations/%s", out_get(operation, "id"));
}

char *
wait_resource(const json_t *operation, const char *kind)
{
    const json_t *urls = json_object_get(json_object_get(operation, "resources"), kind);
    const char *url = json_string_value(json_array_get(urls, 0));
    if (url == NULL) {
        return NULL;
    }
    g_autofree char *path = g_strndup(url, strcspn(url, "?"));
    const char *slash = strrchr(path, '/');
    return g_uri_unescape_string(slash != NULL ? slash + 1 : path, NULL);
}

char *
wait_progress_text(const json_t *operation)
{
    const char *key;
    json_t *value;
    json_t *metadata = json_object_get(operation, "metadata");
    const char *live = json_string_value(json_object_get(metadata, "live_progress"));
    if (live != NULL) { /* a guest that moves while it runs: worth more than how its volume did */
        return g_strdup(live);
    }
    json_object_foreach (metadata, key, value) {
        if (g_str_has_suffix(key, "_progress") && json_is_string(value)) {
            return g_strdup(json_string_value(value));
        }
    }
    return NULL;
}

static bool
is_final(const json_t *operation)
{
    return json_integer_value(json_object_get(operation, "status_code")) >= STATUS_FINAL;
}

/* Takes the newer state of the operation. */
static void
watch_update(Watch *watch, json_t *operation)
{
    json_decref(watch->latest);
    watch->latest = json_incref(operation);
    g_autofree char *text = wait_progress_text(operation);
    progress_text(watch->progress, text != NULL ? text : "");
}

static void
on_event(void *data, bool is_text, const guint8 *bytes, size_t size)
{
    Watch *watch = data;
    g_autoptr(json_t) event = json_loadb((const char *) bytes, size, 0, NULL);
    json_t *operation = json_object_get(event, "metadata");
    if (strcmp(out_get(operation, "id"), watch->id) == 0 && !is_final(watch->latest)) {
        watch_update(watch, operation);
    }
}

/* Q1: by events, for people who watch. True when the end was seen; what fails here is left to the
 * long poll. */
static bool
watch_events(Watch *watch, Rest *rest)
{
    g_autofree char *path = rest_path("/1.0/operations/%s", watch->id);
    g_autoptr(WsClient) events =
        wsclient_open(rest, "/1.0/events?type=operation", on_event, watch, NULL);
    if (events == NULL) {
        return false;
    }
    /* It may have ended before the events came. */
    g_autoptr(json_t) now = rest_get(rest, path, NULL);
    if (now != NULL) {
        watch_update(watch, now);
    }
    while (!is_final(watch->latest) && wsclient_is_open(events) && !interrupt_seen()) {
        wsclient_poll(&events, 1, -1, 1000, NULL);
    }
    return is_final(watch->latest);
}

static bool
watch_polls(Watch *watch, Rest *rest, GError **error)
{
    g_autofree char *path = rest_path("/1.0/operations/%s/wait?timeout=20", watch->id);
    while (!is_final(watch->latest)) {
        g_autoptr(json_t) now = rest_get(rest, path, error);
        if (now == NULL) {
            return false;
        }
        watch_update(watch, now);
    }
    return true;
}

/* Q2 */
static bool
cancel(Watch *watch, Rest *rest, GError **error)
{
    g_autofree char *path = rest_path("/1.0/operations/%s", watch->id);
    interrupt_clear();
    if (rest_do(rest, "DELETE", path, NULL, NULL)) {
        return haw_fail(error, HAW_CANCELLED, "interrupted, the operation was cancelled");
    }
    return haw_fail(error, HAW_CANCELLED,
                    "interrupted, but the operation goes on (see 'hawser operation show %s')",
                    watch->id);
}

static bool
fail_operation(const json_t *operation, GError **error)
{
    const char *text = out_get(operation, "err");
    bool cancelled =
        json_integer_value(json_object_get(operation, "status_code")) == STATUS_CANCELLED;
    HawCode code = cancelled ? HAW_CANCELLED : rest_code(500, text);
    return haw_fail(error, code, "%s", *text != '\0' ? text : "the operation failed");
}

json_t *
wait_end(Ctl *ctl, Rest *rest, const json_t *operation, const char *label, GError **error)
{
    g_autofree char *id = g_strdup(out_get(operation, "id"));
    Watch watch = {.id = id, .latest = json_incref((json_t *) operation)};
    watch.progress = progress_new(ctl, label);
    progress_text(watch.progress, "");
    bool draws = label != NULL && ctl_draws_progress(ctl);
    bool ok = (draws && watch_events(&watch, rest)) || interrupt_seen() ||
              watch_polls(&watch, rest, error);
    progress_free(watch.progress);
    if (interrupt_seen()) {
        g_clear_error(error);
        ok = cancel(&watch, rest, error);
    }
    if (!ok) {
        json_decref(watch.latest);
        return NULL;
    }
    return watch.latest;
}

json_t *
wait_operation(Ctl *ctl, Rest *rest, const json_t *operation, const char *label, GError **error)
{
    g_autoptr(json_t) end = wait_end(ctl, rest, operation, label, error);
    if (end == NULL) {
        return NULL;
    }
    if (json_integer_value(json_object_get(end, "status_code")) != STATUS_FINAL) {
        fail_operation(end, error);
        return NULL;
    }
    return g_steal_pointer(&end);
}

bool
wait_call(Ctl *ctl, Rest *rest, const char *method, const char *path, json_t *body,
          const char *label, GError **error)
{
    g_autoptr(json_t) operation = rest_call(rest, method, path, body, NULL, error);
    if (operation == NULL) {
        return false;
    }
    if (json_object_get(operation, "status_code") == NULL) {
        return true; /* it was done at once */
    }
    g_autoptr(json_t) end = wait_operation(ctl, rest, operation, label, error);
    return end != NULL;
}
