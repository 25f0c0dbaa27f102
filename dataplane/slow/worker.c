/* Work with deadlines.
 * W1  A job owns what it works on: the fiber may be gone when it ends.
 * W2  One job a device: what follows one that hangs is refused, not queued behind it; so one stuck
 *     device costs one thread, and nobody else a wait.
 * W3  Jobs end on the main loop (an idle source), wherever they ran. */
#include "dataplane/slow/worker.h"

#include "base/clock.h"
#include "base/fiber.h"
#include "base/log.h"

struct Workers {
    GThreadPool *threads;
    GHashTable *busy; /* key → struct job */
};

struct job {
    Workers *workers; /* NULL once they are gone */
    char *key, *what;
    WorkerFn fn;
    void *data;
    GDestroyNotify free_data;
    Fiber *fiber; /* NULL once it gave up */
    gint64 began_us;
    bool ok, ended;
    GError *error;
};

static void
job_free(struct job *job)
{
    job->free_data(job->data);
    g_clear_error(&job->error);
    g_free(job->key);
    g_free(job->what);
    g_free(job);
}

static gboolean
job_ended(gpointer data)
{
    struct job *job = data;
    job->ended = true;
    if (job->workers != NULL) {
        g_hash_table_remove(job->workers->busy, job->key);
    }
    if (job->fiber != NULL) {
        fiber_wake(job->fiber);
        return G_SOURCE_REMOVE;
    }
    haw_warn("worker.late", KS("what", job->what), KS("device", job->key),
             KI("took_ms", (clock_mono_us() - job->began_us) / 1000),
             KS("why", job->error != NULL ? job->error->message : ""));
    job_free(job);
    return G_SOURCE_REMOVE;
}

static void
job_run(gpointer data, gpointer unused)
{
    (void) unused;
    struct job *job = data;
    job->ok = job->fn(job->data, &job->error);
    g_idle_add_full(G_PRIORITY_DEFAULT, job_ended, job, NULL); /* W3 */
}

Workers *
workers_new(void)
{
    Workers *workers = g_new0(Workers, 1);
    workers->threads = g_thread_pool_new(job_run, NULL, -1, FALSE, NULL);
    workers->busy = g_hash_table_new(g_str_hash, g_str_equal);
    return workers;
}

void
workers_free(Workers *workers)
{
    if (workers == NULL) {
        return;
    }
    GHashTableIter iter;
    gpointer job;
    g_hash_table_iter_init(&iter, workers->busy);
    while (g_hash_table_iter_next(&iter, NULL, &job)) {
        ((struct job *) job)->workers = NULL;
    }
    g_hash_table_unref(workers->busy);
    g_thread_pool_free(workers->threads, FALSE, FALSE);
    g_free(workers);
}

static gboolean
wake_late(gpointer data)
{
    struct {
        Fiber *fiber;
        bool late;
    } *timer = data;
    timer->late = true;
    fiber_wake(timer->fiber);
    return G_SOURCE_REMOVE;
}

/* True when it ended in time. */
static bool
await(struct job *job, gint64 wait_ms)
{
    struct {
        Fiber *fiber;
        bool late;
    } timer = {fiber_self(), false};
    guint source = g_timeout_add((guint) wait_ms, wake_late, &timer);
    while (!job->ended && !timer.late) {
        fiber_suspend();
    }
    if (!timer.late) {
        g_source_remove(source);
    }
    return job->ended;
}

bool
worker_run(Workers *workers, const char *key, const char *what, WorkerFn fn, void *data,
           GDestroyNotify free_data, void (*done)(void *data, void *result), void *result,
           gint64 wait_ms, GError **error)
{
    const struct job *other = g_hash_table_lookup(workers->busy, key);
    if (other != NULL) { /* W2 */
        haw_fail(error, HAW_BUSY, "%s: device \"%s\" is still busy with \"%s\" since %d s", what,
                 key, other->what, (int) ((clock_mono_us() - other->began_us) / 1000000));
        free_data(data);
        return false;
    }
    struct job *job = g_new0(struct job, 1);
    *job = (struct job){.workers = workers,
                        .key = g_strdup(key),
                        .what = g_strdup(what),
                        .fn = fn,
                        .data = data,
                        .free_data = free_data,
                        .fiber = fiber_self(),
                        .began_us = clock_mono_us()};
    g_hash_table_insert(workers->busy, job->key, job);
    g_thread_pool_push(workers->threads, job, NULL);
    if (!await(job, wait_ms)) {
        job->fiber = NULL; /* W1 */
        return haw_fail(error, HAW_TIMEOUT,
                        "%s: the kernel has not answered for %d ms; device \"%s\" is left alone "
                        "until it does (see 'hawser hw list')",
                        what, (int) wait_ms, key);
    }
    bool ok = job->ok;
    if (ok && done != NULL) {
        done(job->data, result);
    }
    if (!ok) {
        g_propagate_error(error, g_steal_pointer(&job->error));
    }
    job_free(job);
    return ok;
}

char *
workers_stuck(const Workers *workers)
{
    GString *text = NULL;
    GHashTableIter iter;
    gpointer value;
    g_hash_table_iter_init(&iter, workers->busy);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        const struct job *job = value;
        if (job->fiber == NULL) {
            text = text != NULL ? g_string_append(text, ", ") : g_string_new(NULL);
            g_string_append_printf(text, "%s (%s) for %d s", job->what, job->key,
                                   (int) ((clock_mono_us() - job->began_us) / 1000000));
        }
    }
    return text != NULL ? g_string_free(text, FALSE) : NULL;
}
