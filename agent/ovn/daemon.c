/* Processes that outlive the agent, as instances do.
 * D1  A process is known by pid, start time and arguments: the first two stand in NAME.run, written right
 *     after the start. What does not match all three is not ours and is never signalled.
 * D2  Signals go through a pidfd, so they cannot meet a stranger that got the number.
 * D3  An ended one is started again while somebody wants it up.
 * Called by embedded.c. Like dnsmasq.c, but for servers that many networks share. */
#include "agent/ovn/daemon.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/fiber.h"
#include "base/log.h"
#include "base/proc.h"

enum {
    END_MS = 5000,
    AGAIN_MS = 100, /* before the second start in a row; doubles */
    AGAIN_MOST_MS = 30000,
    STEADY_MS = 60000, /* after so long it counts as the first again */
    FILE_MOST = 256 * 1024,
};

struct OvnDaemon {
    char *dir, *name;
    char **argv, **env;
    pid_t pid;
    int pidfd; /* owned; -1 when it does not run */
    guint64 started;
    bool wanted;
    bool child; /* ours to reap */
    gint64 pause_ms, began_us;
    guint restarts;
    GCancellable *stop; /* owned; ends the watching fiber */
    guint refs;
};

OvnDaemon *
daemon_new(const char *dir, const char *name, char **argv, char **env)
{
    OvnDaemon *daemon = g_new0(OvnDaemon, 1);
    daemon->dir = g_strdup(dir);
    daemon->name = g_strdup(name);
    daemon->argv = argv;
    daemon->env = env;
    daemon->pidfd = -1;
    daemon->stop = g_cancellable_new();
    daemon->refs = 1;
    return daemon;
}

static void
unref(OvnDaemon *daemon)
{
    if (--daemon->refs == 0) {
        fd_close(&daemon->pidfd);
        g_strfreev(daemon->argv);
        g_strfreev(daemon->env);
        g_object_unref(daemon->stop);
        g_free(daemon->dir);
        g_free(daemon->name);
        g_free(daemon);
    }
}

void
daemon_unwatch(OvnDaemon *daemon)
{
    daemon->wanted = false;
    g_cancellable_cancel(daemon->stop);
}

void
daemon_free(OvnDaemon *daemon)
{
    if (daemon != NULL) {
        daemon_unwatch(daemon);
        unref(daemon);
    }
}

/* ---- who it is: D1 ---- */

static char *
run_path(const OvnDaemon *daemon)
{
    g_autofree char *file = g_strconcat(daemon->name, ".run", NULL);
    return g_build_filename(daemon->dir, file, NULL);
}

/* Finds the process that the file tells of. */
static bool
find_running(OvnDaemon *daemon)
{
    g_autofree char *path = run_path(daemon);
    g_autofree char *text = fd_read_file(path, 256, NULL, NULL);
    char *end = NULL;
    pid_t pid = text != NULL ? (pid_t) g_ascii_strtoll(text, &end, 10) : 0;
    guint64 started = pid > 0 ? g_ascii_strtoull(end, NULL, 10) : 0;
    haw_autofd int pidfd = pid > 0 ? (int) pidfd_open(pid, 0) : -1;
    if (pidfd < 0 || started == 0 || proc_start_time(pid) != started) {
        return false;
    }
    daemon->pid = pid;
    daemon->started = started;
    daemon->pidfd = fd_steal(&pidfd);
    daemon->child = false;
    return true;
}

static void
forget(OvnDaemon *daemon)
{
    if (daemon->child) {
        waitpid(daemon->pid, NULL, WNOHANG);
    }
    fd_close(&daemon->pidfd);
    daemon->pid = 0;
}

/* ---- its life ---- */

static bool
start(OvnDaemon *daemon, GError **error)
{
    g_autofree char *file = g_strconcat(daemon->name, ".out", NULL);
    g_autofree char *out = g_build_filename(daemon->dir, file, NULL);
    g_autofree char *path = run_path(daemon);
    unlink(path);
    unlink(out);
    daemon->pid = proc_spawn((const char *const *) daemon->argv, (const char *const *) daemon->env,
                             out, NULL, 0, error);
    if (daemon->pid < 0) {
        daemon->pid = 0;
        return false;
    }
    daemon->child = true;
    daemon->began_us = clock_mono_us();
    daemon->pidfd = (int) pidfd_open(daemon->pid, 0);
    daemon->started = proc_start_time(daemon->pid);
    g_autofree char *text =
        g_strdup_printf("%d %" G_GUINT64_FORMAT "\n", (int) daemon->pid, daemon->started);
    if (daemon->pidfd < 0) {
        return haw_fail_errno(error, errno, "watch '%s'", daemon->name);
    }
    return fd_write_atomic(path, text, strlen(text), 0600, error);
}

static void
end(OvnDaemon *daemon)
{
    if (daemon->pidfd < 0) {
        return;
    }
    int pidfd = daemon->pidfd;
    syscall(SYS_pidfd_send_signal, pidfd, SIGTERM, NULL, 0);
    if (!fiber_wait_fd(pidfd, G_IO_IN, END_MS, NULL, NULL)) {
        syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0);
        fiber_wait_fd(pidfd, G_IO_IN, END_MS, NULL, NULL);
    }
    forget(daemon);
}

/* The last line that it said, for the log; caller frees. */
static char *
last_words(const OvnDaemon *daemon)
{
    g_autofree char *file = g_strconcat(daemon->name, ".out", NULL);
    g_autofree char *path = g_build_filename(daemon->dir, file, NULL);
    g_autofree char *text = fd_read_file(path, FILE_MOST, NULL, NULL);
    if (text == NULL) {
        return g_strdup("");
    }
    g_strchomp(text);
    char *newline = strrchr(text, '\n');
    return g_strdup(newline != NULL ? newline + 1 : text);
}

static gint64
next_pause(OvnDaemon *daemon)
{
    if (clock_mono_us() - daemon->began_us > 1000 * (gint64) STEADY_MS) {
        daemon->pause_ms = 0;
    }
    gint64 pause_ms = daemon->pause_ms;
    daemon->pause_ms = MIN(MAX(pause_ms * 2, AGAIN_MS), AGAIN_MOST_MS);
    return pause_ms;
}

/* D3 */
static void
watch_run(void *data)
{
    OvnDaemon *daemon = data;
    while (daemon->wanted) {
        g_autoptr(GError) error = NULL;
        if (daemon->pidfd >= 0 && !fiber_wait_fd(daemon->pidfd, G_IO_IN, -1, daemon->stop, NULL)) {
            break;
        }
        if (!daemon->wanted) {
            break;
        }
        g_autofree char *words = last_words(daemon);
        forget(daemon);
        haw_warn("ovn.daemon_ended", KS("daemon", daemon->name), KS("said", words));
        if (!fiber_sleep_ms(next_pause(daemon), daemon->stop, NULL) || !daemon->wanted) {
            break;
        }
        if (start(daemon, &error)) {
            daemon->restarts++;
            haw_info("ovn.daemon_restarted", KS("daemon", daemon->name), KI("pid", daemon->pid));
        } else {
            haw_error("ovn.daemon", KS("daemon", daemon->name), KS("why", error->message));
            forget(daemon);
        }
    }
    unref(daemon);
}

bool
daemon_up(OvnDaemon *daemon, GError **error)
{
    if (daemon->wanted) {
        return true;
    }
    bool adopted = find_running(daemon);
    if (adopted && !proc_has_argv(daemon->pid, (const char *const *) daemon->argv)) {
        end(daemon);
        adopted = false;
    }
    if (!adopted && !start(daemon, error)) {
        return haw_push(error, "start '%s'", daemon->name);
    }
    haw_debug("ovn.daemon_up", KS("daemon", daemon->name), KI("pid", daemon->pid),
              KS("how", adopted ? "adopted" : "started"));
    daemon->wanted = true;
    daemon->pause_ms = 0;
    g_object_unref(daemon->stop);
    daemon->stop = g_cancellable_new();
    daemon->refs++;
    fiber_start("ovn-daemon-watch", watch_run, daemon);
    return true;
}

void
daemon_let_end(OvnDaemon *daemon)
{
    daemon_unwatch(daemon);
    if (daemon->pidfd < 0) {
        find_running(daemon);
    }
    if (daemon->pidfd >= 0) {
        fiber_wait_fd(daemon->pidfd, G_IO_IN, END_MS, NULL, NULL);
    }
}

void
daemon_down(OvnDaemon *daemon)
{
    daemon_unwatch(daemon);
    if (daemon->pidfd < 0) {
        find_running(daemon);
    }
    end(daemon);
    g_autofree char *path = run_path(daemon);
    unlink(path);
}

pid_t
daemon_pid(const OvnDaemon *daemon)
{
    return daemon->pidfd >= 0 ? daemon->pid : 0;
}

const char *
daemon_name(const OvnDaemon *daemon)
{
    return daemon->name;
}

guint
daemon_restarts(const OvnDaemon *daemon)
{
    return daemon->restarts;
}
