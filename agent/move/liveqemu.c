/* The QMP of a live move.
 * N1  Our jobs and nodes are known by their names, so that a restarted agent can undo what a dead one began.
 * N2  A mirror copies writes as they are made (write-blocking): once ready it stays so, and ends at once.
 * N3  Sockets are made here and handed over: QEMU opens no path and listens at none. But the NBD client gets a
 *     name: by a descriptor, it would take the same number again when it connects anew, whatever that is by then.
 * N4  A QEMU that is told to cancel just as it comes to its last door waits there for ever (migration_maybe_pause()
 *     looks at the state before it changes it), with its guest stopped: it is told to go through.
 * N5  A question costs QEMU's main loop, which loads devices: it is asked again when it has told of something.
 * Called by liveout.c, livein.c and livedecide.c. */
#include "agent/move/liveqemu.h"

#include "base/clock.h"
#include "base/fd.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#define MIRROR "hawser_mirror_"
#define REMOTE "hawser_nbd_"

enum {
    LOOK_MS = 10, /* between looks, when no event comes */
    MIRROR_POLL_MS = 100,
    CANCEL_POLL_MS = 50,
    UNDO_MS = 20000,
    MIRROR_END_MS = 20000
};
#define BANDWIDTH_MAX (G_GINT64_CONSTANT(10) << 30)

static const char *
text_of(json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text != NULL ? text : "";
}

/* ---- both ---- */

bool
liveqemu_set(Qmp *qmp, const char *const *names, bool on, GError **error)
{
    json_t *list = json_array();
    for (; *names != NULL; names++) {
        json_array_append_new(list, json_pack("{s:s,s:b}", "capability", *names, "state", on));
    }
    return qmp_do(qmp, "migrate-set-capabilities", json_pack("{s:o}", "capabilities", list), error);
}

bool
liveqemu_tune(Qmp *qmp, json_t *parameters, GError **error)
{
    return qmp_do(qmp, "migrate-set-parameters", parameters, error);
}

bool
liveqemu_prepare(Qmp *qmp, bool source, bool native, GError **error)
{
    static const char *const events[] = {"events", NULL};
    static const char *const shared[] = {"x-ignore-shared", NULL};
    static const char *const pause[] = {"pause-before-switchover", NULL};
    static const char *const several[] = {"multifd", NULL};
    json_t *limits = json_pack("{s:I}", "max-bandwidth", (json_int_t) BANDWIDTH_MAX);
    /* Said each time: this QEMU may have been the target of another kind of move. */
    return liveqemu_set(qmp, events, true, error) && liveqemu_set(qmp, shared, !native, error) &&
           liveqemu_set(qmp, pause, source, error) && liveqemu_set(qmp, several, false, error) &&
           liveqemu_tune(qmp, limits, error);
}

static bool
is_one_of(const char *word, const char *const *words)
{
    return g_strv_contains(words, word);
}

bool
liveqemu_await(Qmp *qmp, const char *status, gint64 wait_ms, GCancellable *cancel, GError **error)
{
    static const char *const bad[] = {"failed", "cancelled", "cancelling", NULL};
    gint64 until = clock_mono_us() + wait_ms * 1000;
    for (;;) {
        guint64 seen = qmp_events(qmp);
        json_auto_t *info = qmp_call(qmp, "query-migrate", NULL, error);
        const char *now = text_of(info, "status");
        if (info == NULL) {
            return false;
        }
        if (strcmp(now, status) == 0) {
            return true;
        }
        if (is_one_of(now, bad)) {
            return haw_fail(error, HAW_FAILED, "QEMU: %s",
                            *text_of(info, "error-desc") != '\0' ? text_of(info, "error-desc")
                                                                 : "the migration failed");
        }
        if (clock_mono_us() > until) {
            return haw_fail(error, HAW_TIMEOUT, "QEMU's migration stays \"%s\"", now);
        }
        if (!qmp_await_event(qmp, seen, LOOK_MS, cancel, error)) { /* N5 */
            return false;
        }
    }
}

bool
liveqemu_migrate(Qmp *qmp, const char *command, int fd, GError **error)
{
    return qmp_send_fd(qmp, "hawser_move", fd, error) &&
           qmp_do(qmp, command, json_pack("{s:s}", "uri", "fd:hawser_move"), error);
}

bool
liveqemu_ballooned(Qmp *qmp, gint64 memory_bytes)
{
    json_auto_t *info = qmp_call(qmp, "query-balloon", NULL, NULL);
    json_t *actual = json_object_get(info, "actual");
    return actual != NULL && json_integer_value(actual) < memory_bytes;
}

/* ---- source: mirrors ---- */

bool
liveqemu_mirror(Qmp *qmp, const char *node, const char *name, gint64 bandwidth, GError **error)
{
    g_autofree char *remote = g_strconcat(REMOTE, node, NULL);
    g_autofree char *job = g_strconcat(MIRROR, node, NULL);
    if (!qmp_do(qmp, "blockdev-add",
                json_pack("{s:s,s:s,s:{s:s,s:s,s:b},s:s,s:s,s:s}", "driver", "nbd", "node-name",
                          remote, "server", "type", "unix", "path", name, "abstract", 1, "export",
                          node, "discard", "unmap", "detect-zeroes", "unmap"),
                error)) { /* N3 */
        return haw_push(error, "Mirror disk \"%s\"", node);
    }
    return qmp_do(qmp, "blockdev-mirror",
                  json_pack("{s:s,s:s,s:s,s:s,s:s,s:I}", "job-id", job, "device", node, "target",
                            remote, "sync", "full", "copy-mode", "write-blocking", "speed",
                            (json_int_t) bandwidth), /* N2 */
                  error) ||
           haw_push(error, "Mirror disk \"%s\"", node);
}

static bool
is_ours(json_t *job)
{
    return g_str_has_prefix(text_of(job, "device"), MIRROR);
}

bool
liveqemu_mirrors_ready(Qmp *qmp, LiveqemuTell tell, void *data, GCancellable *cancel,
                       GError **error)
{
    gint64 most = 0;
    for (;;) {
        size_t i;
        json_t *job;
        gint64 done = 0, total = 0, jobs = 0, ready = 0;
        json_auto_t *list = qmp_call(qmp, "query-block-jobs", NULL, error);
        if (list == NULL) {
            return false;
        }
        json_array_foreach (list, i, job) {
            if (is_ours(job)) {
                jobs++;
                ready += json_is_true(json_object_get(job, "ready"));
                done += json_integer_value(json_object_get(job, "offset"));
                total += json_integer_value(json_object_get(job, "len"));
                if (strcmp(text_of(job, "io-status"), "ok") != 0) {
                    return haw_fail(error, HAW_IO, "A disk can't be mirrored: %s",
                                    text_of(job, "io-status"));
                }
            }
        }
        if (jobs < most) { /* a job that fails is gone */
            return haw_fail(error, HAW_IO,
                            "A disk can't be mirrored: is there space at the target?");
        }
        most = jobs;
        tell(done, total, data);
        if (ready == jobs) {
            return true;
        }
        if (!fiber_sleep_ms(MIRROR_POLL_MS, cancel, error)) {
            return false;
        }
    }
}

/* Each job of ours is told to end; true once there is none. */
static bool
end_jobs(Qmp *qmp, bool force, gint64 wait_ms, GError **error)
{
    gint64 until = clock_mono_us() + wait_ms * 1000;
    bool told = false;
    for (;;) {
        size_t i;
        json_t *job;
        int left = 0;
        guint64 seen = qmp_events(qmp);
        json_auto_t *list = qmp_call(qmp, "query-block-jobs", NULL, error);
        if (list == NULL) {
            return false;
        }
        json_array_foreach (list, i, job) {
            left += is_ours(job);
            if (is_ours(job) && !told &&
                !qmp_do(qmp, "block-job-cancel",
                        json_pack("{s:s,s:b}", "device", text_of(job, "device"), "force", force),
                        force ? NULL : error) &&
                !force) {
                return false;
            }
        }
        told = true;
        if (left == 0) {
            return true;
        }
        if (clock_mono_us() > until) {
            return haw_fail(error, HAW_TIMEOUT, "A disk's mirror does not end");
        }
        qmp_await_event(qmp, seen, LOOK_MS, NULL, NULL); /* N5 */
    }
}

static void
drop_remotes(Qmp *qmp)
{
    size_t i;
    json_t *node;
    json_auto_t *list =
        qmp_call(qmp, "query-named-block-nodes", json_pack("{s:b}", "flat", 1), NULL);
    json_array_foreach (list, i, node) {
        if (g_str_has_prefix(text_of(node, "node-name"), REMOTE)) {
            qmp_do(qmp, "blockdev-del", json_pack("{s:s}", "node-name", text_of(node, "node-name")),
                   NULL);
        }
    }
}

bool
liveqemu_mirrors_end(Qmp *qmp, GError **error)
{
    return end_jobs(qmp, false, MIRROR_END_MS, error);
}

/* ---- source: undoing ---- */

static bool
cancel_migration(Qmp *qmp, GError **error)
{
    static const char *const busy[] = {"setup",      "active",      "pre-switchover",  "device",
                                       "cancelling", "wait-unplug", "postcopy-active", NULL};
    gint64 until = clock_mono_us() + UNDO_MS * 1000;
    for (;;) {
        json_auto_t *info = qmp_call(qmp, "query-migrate", NULL, error);
        if (info == NULL) {
            return false;
        }
        if (!is_one_of(text_of(info, "status"), busy)) {
            return true;
        }
        if (strcmp(text_of(info, "status"), "cancelling") != 0) {
            qmp_do(qmp, "migrate_cancel", NULL, NULL);
        } else { /* N4 */
            qmp_do(qmp, "migrate-continue", json_pack("{s:s}", "state", "cancelling"), NULL);
            fiber_sleep_ms(CANCEL_POLL_MS, NULL, NULL);
        }
        if (clock_mono_us() > until) {
            return haw_fail(error, HAW_TIMEOUT, "QEMU does not give the migration up");
        }
        fiber_sleep_ms(LOOK_MS, NULL, NULL);
    }
}

bool
liveqemu_undo(Qmp *qmp, GError **error)
{
    static const char *const all[] = {"x-ignore-shared", "pause-before-switchover", "multifd",
                                      NULL};
    if (!cancel_migration(qmp, error)) {
        return false;
    }
    json_auto_t *status = qmp_call(qmp, "query-status", NULL, error);
    if (status == NULL) {
        return false;
    }
    /* The guest first: a disk's mirror may take its time to end. */
    if (!json_is_true(json_object_get(status, "running")) && !qmp_do(qmp, "cont", NULL, error)) {
        return false;
    }
    liveqemu_set(qmp, all, false, NULL);
    bool ok = end_jobs(qmp, true, UNDO_MS, error);
    drop_remotes(qmp);
    return ok;
}

/* ---- target ---- */

/* A listening socket of QEMU's without a name, and one connection for each disk. */
bool
liveqemu_serve(Qmp *qmp, const char *const *nodes, int *ret_fds, GError **error)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    socklen_t size = sizeof(sa_family_t), got = sizeof name;
    guint have = 0, n = g_strv_length((char **) nodes);
    haw_autofd int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (listener < 0 || bind(listener, (struct sockaddr *) &name, size) != 0 || /* N3 */
        listen(listener, 16) != 0 || getsockname(listener, (struct sockaddr *) &name, &got) != 0) {
        return haw_fail_errno(error, errno, "make a socket for disks");
    }
    bool ok =
        qmp_send_fd(qmp, "hawser_disks", listener, error) &&
        qmp_do(qmp, "nbd-server-start",
               json_pack("{s:{s:s,s:{s:s}}}", "addr", "type", "fd", "data", "str", "hawser_disks"),
               error);
    for (; ok && have < n; have++) {
        ok = qmp_do(qmp, "block-export-add",
                    json_pack("{s:s,s:s,s:s,s:b}", "type", "nbd", "id", nodes[have], "node-name",
                              nodes[have], "writable", 1),
                    error);
        ret_fds[have] = ok ? socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0) : -1;
        if (ok &&
            (ret_fds[have] < 0 || connect(ret_fds[have], (struct sockaddr *) &name, got) != 0)) {
            ok = haw_fail_errno(error, errno, "reach a disk");
        }
    }
    for (guint i = 0; i < have && !ok; i++) {
        fd_close(&ret_fds[i]);
    }
    return ok || haw_push(error, "Serve the disks of the virtual machine");
}

bool
liveqemu_serve_end(Qmp *qmp, GError **error)
{
    return qmp_do(qmp, "nbd-server-stop", NULL, error);
}
