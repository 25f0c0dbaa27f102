/* Latencies: one histogram for each method and resource that was asked for.
 * L1  Labels come from our routes only ("instances", "images"), never from what a client wrote: the
 *     number of histograms is bounded by the tables of routes.
 * L2  Requests whose point is to wait (…/wait, events, WebSockets) are counted under a name of their
 *     own, "waiting", so that they do not hide what is slow.
 * Called by server.c (note) and metrics/daemonprobe.c (each). */
#include "agent/api/latency.h"

#include <stdbool.h>
#include <string.h>

struct Latency {
    GHashTable *by_name; /* "GET instances" → struct histogram, both owned */
    GHashTable *errors;  /* status → guint64, owned */
};

Latency *
latency_new(void)
{
    Latency *latency = g_new0(Latency, 1);
    latency->by_name = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    latency->errors = g_hash_table_new_full(NULL, NULL, NULL, g_free);
    return latency;
}

void
latency_free(Latency *latency)
{
    if (latency != NULL) {
        g_hash_table_unref(latency->by_name);
        g_hash_table_unref(latency->errors);
        g_free(latency);
    }
}

/* "/1.0/instances/{name}/state" → "instances". Into 'ret'. */
static void
resource_of(const char *pattern, char *ret, gsize size)
{
    bool waits = pattern != NULL &&
                 (g_str_has_suffix(pattern, "/wait") || g_str_has_suffix(pattern, "/websocket") ||
                  strcmp(pattern, "/1.0/events") == 0);
    const char *at = pattern == NULL ? "unknown" : waits ? "waiting" : pattern; /* L2 */
    at = g_str_has_prefix(at, "/1.0/") ? at + strlen("/1.0/") : at;
    at = g_str_has_prefix(at, "/internal/") ? "internal" : at;
    at = *at == '/' ? "server" : at;
    g_snprintf(ret, size, "%.*s", (int) strcspn(at, "/"), at);
}

void
latency_note(Latency *latency, const char *method, const char *pattern, int status, gint64 took_us)
{
    char resource[64], name[80];
    resource_of(pattern, resource, sizeof resource);
    g_snprintf(name, sizeof name, "%s %s", pattern != NULL ? method : "any", resource); /* L1 */
    struct histogram *values = g_hash_table_lookup(latency->by_name, name);
    if (values == NULL) {
        values = g_new0(struct histogram, 1);
        g_hash_table_insert(latency->by_name, g_strdup(name), values);
    }
    histogram_note(values, took_us);
    if (status >= 400) {
        guint64 *count = g_hash_table_lookup(latency->errors, GINT_TO_POINTER(status));
        if (count == NULL) {
            count = g_new0(guint64, 1);
            g_hash_table_insert(latency->errors, GINT_TO_POINTER(status), count);
        }
        ++*count;
    }
}

void
latency_each(const Latency *latency, LatencyFn fn, void *data)
{
    GHashTableIter iter;
    gpointer name, values;
    g_hash_table_iter_init(&iter, latency->by_name);
    while (g_hash_table_iter_next(&iter, &name, &values)) {
        const char *space = strchr(name, ' ');
        g_autofree char *method = g_strndup(name, (gsize) (space - (const char *) name));
        fn(method, space + 1, values, data);
    }
}

void
latency_each_error(const Latency *latency, LatencyErrorFn fn, void *data)
{
    GHashTableIter iter;
    gpointer status, count;
    g_hash_table_iter_init(&iter, latency->errors);
    while (g_hash_table_iter_next(&iter, &status, &count)) {
        fn(GPOINTER_TO_INT(status), *(const guint64 *) count, data);
    }
}
