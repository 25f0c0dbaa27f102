/* Events: what happened, to whoever listens on /1.0/events.
 * V1  Sending never waits: each listener has a queue of its own, and one that does not keep up is
 *     disconnected rather than slowing the agent down or eating its memory.
 * V2  A listener sees events of its project (and those of none), of the types it may have.
 * V3  The list is the main loop's alone: a thread that logs asks only whether anybody reads log lines.
 * Called by everybody. Main loop; log lines of other threads are brought over. */
#include "agent/api/event.h"

#include "agent/api/ws.h"
#include "base/clock.h"
#include "base/fiber.h"
#include "base/log.h"
#include "proto/jsontext.h"

#include <stdlib.h>
#include <string.h>

#define BACKLOG_MAX  8192
#define KEEPALIVE_MS 10000

enum { TYPE_LOGGING = 1, TYPE_OPERATION = 2, TYPE_LIFECYCLE = 4 };

typedef struct {
    EventHub *hub;
    Ws *ws;
    unsigned types;
    char *project;   /* NULL: all that the caller may see */
    char **projects; /* of a restricted caller, else NULL */
    GQueue backlog;  /* owned JSON texts */
    FiberSignal news;
    bool gone;
} Listener;

struct EventHub {
    Agent *agent;
    GList *listeners; /* borrowed: each lives as long as its fiber */
    gint log_readers; /* how many of them take log lines; atomic, V3: on_log() asks */
};

static unsigned
type_bit(const char *type)
{
    return strcmp(type, "logging") == 0     ? TYPE_LOGGING
           : strcmp(type, "operation") == 0 ? TYPE_OPERATION
           : strcmp(type, "lifecycle") == 0 ? TYPE_LIFECYCLE
                                            : 0;
}

static bool
wants(const Listener *listener, unsigned bit, const char *project)
{
    if (!(listener->types & bit)) {
        return false;
    }
    if (project == NULL || *project == '\0') { /* V2 */
        return true;
    }
    if (listener->project != NULL && strcmp(listener->project, project) != 0) {
        return false;
    }
    return listener->projects == NULL ||
           g_strv_contains((const char *const *) listener->projects, project);
}

void
event_send(Agent *agent, const char *type, const char *project, json_t *metadata)
{
    EventHub *hub = agent->events;
    unsigned bit = type_bit(type);
    g_autoptr(GString) text = NULL;

    for (GList *at = hub != NULL ? hub->listeners : NULL; at != NULL; at = at->next) {
        Listener *listener = at->data;
        if (!wants(listener, bit, project)) {
            continue;
        }
        if (text == NULL) {
            g_autofree char *now = clock_format(clock_real_us());
            json_t *event = json_pack("{s:s,s:s,s:O,s:s,s:s*}", "type", type, "timestamp", now,
                                      "metadata", metadata, "location", "none", "project", project);
            text = g_string_sized_new(512);
            jsontext_append(text, event);
            json_decref(event);
        }
        if (listener->backlog.length >= BACKLOG_MAX) { /* V1 */
            listener->gone = true;
        } else {
            g_queue_push_tail(&listener->backlog, g_strndup(text->str, text->len));
        }
        fiber_signal_all(&listener->news);
    }
    json_decref(metadata);
}

void
event_lifecycle(Agent *agent, const char *project, const Caller *caller, json_t *context,
                const char *action, const char *source_format, ...)
{
    va_list args;
    va_start(args, source_format);
    g_autofree char *source = g_strdup_vprintf(source_format, args);
    va_end(args);
    if (project != NULL && strcmp(project, "default") != 0 && strchr(source, '?') == NULL) {
        g_autofree char *escaped = g_uri_escape_string(project, NULL, FALSE);
        char *full = g_strdup_printf("%s?project=%s", source, escaped);
        g_free(source);
        source = full;
    }
    json_t *metadata = json_pack("{s:s,s:s}", "action", action, "source", source);
    if (context != NULL) {
        json_object_set_new(metadata, "context", context);
    }
    if (caller != NULL) {
        json_object_set_new(metadata, "requestor", caller_json(caller));
    }
    haw_debug("lifecycle", KS("action", action), KS("source", source));
    event_send(agent, "lifecycle", project, metadata);
}

/* ---- log lines ---- */

struct line {
    EventHub *hub;
    json_t *metadata;
};

static gboolean
line_arrived(gpointer data)
{
    struct line *line = data;
    event_send(line->hub->agent, "logging", NULL, line->metadata);
    g_free(line);
    return G_SOURCE_REMOVE;
}

/* On any thread. */
static void
on_log(LogLevel level, const char *event, const LogField *fields, void *data)
{
    EventHub *hub = data;
    if (g_atomic_int_get(&hub->log_readers) == 0) { /* V3 */
        return;
    }
    json_t *context = json_object();
    for (; fields->key != NULL; fields++) {
        g_autofree char *number =
            fields->kind == LOG_TEXT ? NULL : g_strdup_printf("%" G_GINT64_FORMAT, fields->number);
        const char *text = fields->kind == LOG_TEXT ? fields->text : number;
        json_object_set_new(context, fields->key, json_string(text != NULL ? text : ""));
    }
    struct line *line = g_new(struct line, 1);
    line->hub = hub;
    line->metadata = json_pack("{s:s,s:s,s:o}", "message", event, "level", log_level_name(level),
                               "context", context);
    g_idle_add(line_arrived, line);
}

EventHub *
event_hub_new(Agent *agent)
{
    EventHub *hub = g_new0(EventHub, 1);
    hub->agent = agent;
    log_set_tap(on_log, hub);
    return hub;
}

void
event_hub_free(EventHub *hub)
{
    if (hub != NULL) {
        log_set_tap(NULL, NULL);
        g_list_free(hub->listeners);
        g_free(hub);
    }
}

void
event_hub_close(EventHub *hub)
{
    for (GList *at = hub->listeners; at != NULL; at = at->next) {
        Listener *listener = at->data;
        listener->gone = true;
        fiber_signal_all(&listener->news);
    }
}

/* ---- the websocket ---- */

struct reading {
    Listener *listener;
    Fiber *owner;
    bool done;
};

static void
read_side(void *data)
{
    struct reading *reading = data;
    for (;;) {
        g_autofree guint8 *bytes = NULL;
        size_t size;
        if (ws_recv(reading->listener->ws, &bytes, &size) == WS_CLOSED) {
            break;
        }
    }
    reading->listener->gone = true;
    reading->done = true;
    fiber_signal_all(&reading->listener->news);
    fiber_wake(reading->owner);
}

static void
join(Listener *listener)
{
    listener->hub->listeners = g_list_prepend(listener->hub->listeners, listener);
    g_atomic_int_add(&listener->hub->log_readers, (listener->types & TYPE_LOGGING) != 0);
}

static void
leave(Listener *listener)
{
    listener->hub->listeners = g_list_remove(listener->hub->listeners, listener);
    g_atomic_int_add(&listener->hub->log_readers, -((listener->types & TYPE_LOGGING) != 0));
}

static void
listener_run(Ws *ws, void *data)
{
    Listener *listener = data;
    struct reading reading = {.listener = listener, .owner = fiber_self()};
    listener->ws = ws;
    join(listener);
    fiber_start("event-reader", read_side, &reading);

    while (!listener->gone) {
        g_autofree char *text = g_queue_pop_head(&listener->backlog);
        if (text != NULL) {
            listener->gone |= !ws_send(ws, WS_TEXT, text, strlen(text));
        } else if (!fiber_signal_wait(&listener->news, KEEPALIVE_MS, NULL, NULL)) {
            listener->gone |= !ws_ping(ws, "keepalive");
        }
    }
    leave(listener);
    ws_close(ws);
    while (!reading.done) {
        fiber_suspend();
    }
    ws_free(ws);
    g_queue_clear_full(&listener->backlog, g_free);
    g_free(listener->project);
    g_strfreev(listener->projects);
    g_free(listener);
}

static bool
parse_types(Request *req, unsigned *ret_types, GError **error)
{
    const char *text = req_query(req, "type");
    bool admin = !req_caller(req)->restricted;
    *ret_types = TYPE_OPERATION | TYPE_LIFECYCLE | (admin ? TYPE_LOGGING : 0);
    if (text == NULL || *text == '\0') {
        return true;
    }
    *ret_types = 0;
    g_auto(GStrv) names = g_strsplit(text, ",", -1);
    for (char **name = names; *name != NULL; name++) {
        unsigned bit = type_bit(*name);
        if (bit == 0) {
            return haw_fail(error, HAW_INVALID, "\"%s\" isn't a supported event type", *name);
        }
        if (bit == TYPE_LOGGING && !admin) {
            return haw_fail(error, HAW_DENIED, "not authorized");
        }
        *ret_types |= bit;
    }
    return true;
}

static bool
get_events(Request *req, GError **error)
{
    unsigned types;
    if (!parse_types(req, &types, error)) {
        return false;
    }
    Listener *listener = g_new0(Listener, 1);
    listener->hub = req_agent(req)->events;
    listener->types = types;
    listener->project = req_all_projects(req) ? NULL : g_strdup(req_project(req));
    listener->projects = req_caller(req)->restricted ? g_strdupv(req_caller(req)->projects) : NULL;
    if (!req_upgrade_ws(req, listener_run, listener, NULL)) {
        g_free(listener->project);
        g_strfreev(listener->projects);
        g_free(listener);
        return req_reply_bytes(req, 400, "text/plain; charset=utf-8", "Bad Request\n", 12, NULL);
    }
    return true;
}

const Route event_routes[] = {
    {"GET", "/1.0/events", get_events, ROUTE_EARLY},
    {NULL, NULL, NULL, 0},
};
