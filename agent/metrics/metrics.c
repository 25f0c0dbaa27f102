/* GET /1.0/metrics: one pass over all running instances, kept for 8 seconds, handed out by project.
 * M1  One pass at a time, for all projects at once, without helper processes, on a thread a processor
 *     but LOOKS_MOST at most; whoever asks meanwhile waits for it and gets the same. What the agent
 *     knows of itself is fresh.
 * M2  A pass is never changed once it is there: answers are put together from shared parts, each part
 *     once, so that no sample can stand twice in an answer.
 * M3  Everybody sees the instances of the projects they may see; the host's own numbers are for those
 *     who are not restricted to some.
 * LXD answers 423 while a pass is under way, and gives a project's samples twice when its cache is half
 * filled; neither is kept. A project that does not exist has no instances, which is LXD's answer. */
#include "agent/metrics/metrics.h"

#include "agent/api/settings.h"
#include "agent/inst/inst.h"
#include "agent/metrics/daemonprobe.h"
#include "agent/metrics/dataprobe.h"
#include "agent/metrics/instprobe.h"
#include "agent/metrics/vmprobe.h"
#include "base/clock.h"
#include "base/fiber.h"

#include <gio/gio.h>
#include <string.h>

#define KEEP_US (8 * G_USEC_PER_SEC)
enum { GZIP_FROM = 1024, GZIP_LEVEL = 1 };
enum { LOOKS_MOST = 4, PROBES_A_LOOK = 16 };

/* What one pass found. Shared by the answers that are made of it. */
struct pass {
    guint refs;                         /* main loop only */
    GHashTable *by_project[LOOKS_MOST]; /* one a thread: name → Exposition, both owned */
    Exposition *host;
    gint64 at_us;
};

static struct {
    FiberLock lock; /* M1 */
    struct pass *last;
} cache = {.lock = FIBER_LOCK_INIT};

static void
pass_unref(struct pass *pass)
{
    if (pass != NULL && --pass->refs == 0) {
        for (int i = 0; i < LOOKS_MOST; i++) {
            g_hash_table_unref(pass->by_project[i]);
        }
        exposition_free(pass->host);
        g_free(pass);
    }
}

/* ---- one pass ---- */

/* One thread's part: each 'count'th container. */
struct look {
    const GPtrArray *probes; /* InstProbe, borrowed */
    guint first, count;
    GHashTable *by_project; /* borrowed: nobody else's meanwhile */
};

static Exposition *
project_part(GHashTable *by_project, const char *project)
{
    Exposition *part = g_hash_table_lookup(by_project, project);
    if (part == NULL) {
        part = exposition_new();
        g_hash_table_insert(by_project, g_strdup(project), part);
    }
    return part;
}

static gpointer
look_run(gpointer data)
{
    struct look *look = data;
    g_autoptr(HostProbe) host = hostprobe_new();
    for (guint i = look->first; i < look->probes->len; i += look->count) {
        const InstProbe *probe = look->probes->pdata[i];
        instprobe_read(probe, host, project_part(look->by_project, instprobe_project(probe)));
    }
    return NULL;
}

/* Most of a pass is the kernel adding up numbers: another processor may do another container's. */
static void
looks_run(void *data)
{
    struct look *looks = data;
    GThread *threads[LOOKS_MOST] = {NULL};
    for (guint i = 1; i < looks->count; i++) {
        threads[i] = g_thread_new("metrics", look_run, &looks[i]);
    }
    look_run(looks);
    for (guint i = 1; i < looks->count; i++) {
        g_thread_join(threads[i]);
    }
}

static void
pass_look(struct pass *pass, const GPtrArray *probes)
{
    struct look looks[LOOKS_MOST];
    guint count = MIN(1 + probes->len / PROBES_A_LOOK, g_get_num_processors());
    count = MIN(count, LOOKS_MOST);
    for (guint i = 0; i < count; i++) {
        looks[i] = (struct look){probes, i, count, pass->by_project[i]};
    }
    fiber_run(looks_run, looks);
}

static struct pass *
pass_make(Agent *agent)
{
    gint64 began_us = clock_mono_us();
    struct pass *pass = g_new0(struct pass, 1);
    g_autoptr(GPtrArray) probes = g_ptr_array_new_with_free_func((GDestroyNotify) instprobe_free);
    g_autoptr(GPtrArray) instances = inst_list(agent->instances, NULL);
    pass->refs = 1;
    for (int i = 0; i < LOOKS_MOST; i++) {
        pass->by_project[i] = g_hash_table_new_full(g_str_hash, g_str_equal, g_free,
                                                    (GDestroyNotify) exposition_free);
    }
    pass->host = exposition_new();
    for (guint i = 0; i < instances->len; i++) {
        InstProbe *probe = instprobe_new(instances->pdata[i]);
        if (probe != NULL) {
            g_ptr_array_add(probes, probe);
        }
    }
    pass_look(pass, probes);
    vmprobe_read_all(instances, pass->by_project[0], project_part);
    dataprobe_read(agent, pass->host);
    pass->at_us = clock_mono_us();
    exposition_add(pass->host, METRIC_SCRAPE_SECONDS, "", (double) (pass->at_us - began_us) / 1e6);
    return pass;
}

/* M1. A reference. Yields. */
static struct pass *
pass_get(Agent *agent)
{
    g_auto(FiberHold) hold = fiber_hold(&cache.lock);
    if (cache.last == NULL || clock_mono_us() - cache.last->at_us >= KEEP_US) {
        struct pass *fresh = pass_make(agent);
        pass_unref(cache.last);
        cache.last = fresh;
    }
    cache.last->refs++;
    return cache.last;
}

/* ---- who may ---- */

/* M3 */
struct view {
    const Caller *caller;
    const char *project; /* NULL: all */
};

static bool
view_has(const char *project, const void *data)
{
    const struct view *view = data;
    return (view->project == NULL || strcmp(project, view->project) == 0) &&
           caller_may_project(view->caller, project);
}

static bool
check(Request *req, GError **error)
{
    bool open = !settings_bool(req_agent(req)->settings, "core.metrics_authentication");
    return req_caller(req)->kind != CALLER_UNTRUSTED || open ||
           haw_fail(error, HAW_DENIED, "not authorized");
}

/* ---- the answer ---- */

struct answer {
    GPtrArray *parts; /* borrowed */
    ExpositionFormat format;
    bool gzip;
    GBytes *text; /* owned */
    bool squeezed;
};

static GBytes *
squeeze(GBytes *text)
{
    g_autoptr(GZlibCompressor) zlib =
        g_zlib_compressor_new(G_ZLIB_COMPRESSOR_FORMAT_GZIP, GZIP_LEVEL);
    g_autoptr(GOutputStream) memory = g_memory_output_stream_new_resizable();
    gsize size;
    const void *bytes = g_bytes_get_data(text, &size);
    g_autoptr(GOutputStream) out = g_converter_output_stream_new(memory, G_CONVERTER(zlib));
    if (!g_output_stream_write_all(out, bytes, size, NULL, NULL, NULL) ||
        !g_output_stream_close(out, NULL, NULL)) {
        return NULL;
    }
    return g_memory_output_stream_steal_as_bytes(G_MEMORY_OUTPUT_STREAM(memory));
}

static void
answer_run(void *data)
{
    struct answer *answer = data;
    answer->text = g_string_free_to_bytes(exposition_render(
        (const Exposition *const *) answer->parts->pdata, answer->parts->len, answer->format));
    GBytes *squeezed =
        answer->gzip && g_bytes_get_size(answer->text) >= GZIP_FROM ? squeeze(answer->text) : NULL;
    if (squeezed != NULL) {
        g_bytes_unref(answer->text);
        answer->text = squeezed;
        answer->squeezed = true;
    }
}

static bool
accepts(Request *req, const char *header, const char *what)
{
    const char *value = req_header(req, header);
    return value != NULL && strstr(value, what) != NULL;
}

static bool
answer_send(Request *req, const struct answer *answer)
{
    static const char *const plain[] = {"Vary", "Accept-Encoding, Accept", NULL};
    static const char *const gzip[] = {"Vary", "Accept-Encoding, Accept", "Content-Encoding",
                                       "gzip", NULL};
    const char *type = answer->format == EXPOSITION_OPENMETRICS
                           ? "application/openmetrics-text; version=1.0.0; charset=utf-8"
                           : "text/plain; version=0.0.4; charset=utf-8";
    return req_reply_shared(req, 200, type, answer->text, answer->squeezed ? gzip : plain);
}

static void
add_projects(const struct pass *pass, const struct view *view, GPtrArray *parts)
{
    for (int i = 0; i < LOOKS_MOST; i++) {
        GHashTableIter iter;
        gpointer name, part;
        g_hash_table_iter_init(&iter, pass->by_project[i]);
        while (g_hash_table_iter_next(&iter, &name, &part)) {
            if (view_has(name, view)) {
                g_ptr_array_add(parts, part);
            }
        }
    }
}

static bool
get(Request *req, GError **error)
{
    Agent *agent = req_agent(req);
    const char *asked = req_query(req, "project");
    struct view view = {req_caller(req), asked != NULL && *asked != '\0' ? asked : NULL};
    if (!check(req, error)) {
        return false;
    }
    struct pass *pass = pass_get(agent);
    g_autoptr(GPtrArray) parts = g_ptr_array_new();
    g_autoptr(Exposition) own = exposition_new();
    add_projects(pass, &view, parts);
    daemonprobe_instances(agent, view_has, &view, own);
    if (!view.caller->restricted) {
        daemonprobe_read(agent, own);
        g_ptr_array_add(parts, pass->host);
    }
    g_ptr_array_add(parts, own);
    struct answer answer = {.parts = parts,
                            .format = accepts(req, "Accept", "application/openmetrics-text")
                                          ? EXPOSITION_OPENMETRICS
                                          : EXPOSITION_PROMETHEUS,
                            .gzip = accepts(req, "Accept-Encoding", "gzip")};
    fiber_run(answer_run, &answer);
    pass_unref(pass);
    bool sent = answer_send(req, &answer);
    g_bytes_unref(answer.text);
    return sent;
}

const Route metrics_routes[] = {
    {"GET", "/1.0/metrics", get, ROUTE_UNTRUSTED},
    {NULL},
};
