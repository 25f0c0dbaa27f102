/* Children, by posix_spawn (vfork inside: the daemon's page tables are not copied).
 * P1  A child never inherits a descriptor but those it was given: all of ours are O_CLOEXEC.
 * P2  A cancelled or late child is killed and reaped before we return. */
#include "base/proc.h"
#include "base/fd.h"
#include "base/fiber.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

#define OUT_MAX    (16 * 1024 * 1024)
#define STDERR_MAX 4096
#define ARGV_MAX   (256 * 1024)

struct sink {
    int fd;
    GString *text;
    size_t max;
};

/* One non-blocking read. False at the end of the stream. */
static bool
sink_drain(struct sink *sink)
{
    char chunk[16384];
    for (;;) {
        ssize_t n = read(sink->fd, chunk, sizeof chunk);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0 && errno == EAGAIN) {
            return true;
        }
        if (n <= 0) {
            return false;
        }
        g_string_append_len(sink->text, chunk, n);
        if (sink->text->len > sink->max) {
            g_string_erase(sink->text, 0, (gssize) (sink->text->len - sink->max));
        }
    }
}

/* A child begins with no signal blocked, and with SIGPIPE as it was before we ignored it. */
static void
attr_init(posix_spawnattr_t *attr, short flags)
{
    sigset_t none, defaults;
    sigemptyset(&none);
    sigemptyset(&defaults);
    sigaddset(&defaults, SIGPIPE);
    posix_spawnattr_init(attr);
    posix_spawnattr_setsigmask(attr, &none);
    posix_spawnattr_setsigdefault(attr, &defaults);
    posix_spawnattr_setflags(attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | flags);
}

/* dup2 must not run over a source that is still needed: they are lifted above the targets first. */
static int *
lift(const int *fds, size_t count)
{
    int *high = g_new(int, count + 1);
    for (size_t i = 0; i < count; i++) {
        high[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, 3 + (int) count);
    }
    return high;
}

static void
give(posix_spawn_file_actions_t *actions, const int *high, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        posix_spawn_file_actions_adddup2(actions, high[i], 3 + (int) i);
    }
}

static void
drop(int *high, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        fd_close(&high[i]);
    }
}

static pid_t
spawn(const ProcSpec *spec, int fd_out, int fd_err, GError **error)
{
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attr;
    pid_t pid = -1;

    posix_spawn_file_actions_init(&actions);
    g_autofree int *high = lift(spec->fds, spec->fd_count);
    if (spec->fd_in >= 0) {
        posix_spawn_file_actions_adddup2(&actions, spec->fd_in, STDIN_FILENO);
    } else {
        posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    }
    posix_spawn_file_actions_adddup2(&actions, fd_out, STDOUT_FILENO);
    posix_spawn_file_actions_adddup2(&actions, fd_err, STDERR_FILENO);
    give(&actions, high, spec->fd_count);
    if (spec->cwd != NULL) {
        posix_spawn_file_actions_addchdir_np(&actions, spec->cwd);
    }
    attr_init(&attr, 0);

    int err = posix_spawnp(&pid, spec->argv[0], &actions, &attr, (char *const *) spec->argv,
                           spec->env != NULL ? (char *const *) spec->env : environ);
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attr);
    drop(high, spec->fd_count);
    if (err != 0) {
        haw_fail_errno(error, err, "run '%s'", spec->argv[0]);
        return -1;
    }
    return pid;
}

static bool
collect(struct sink *sinks, pid_t pid, const ProcSpec *spec, int *ret_status, GError **error)
{
    gint64 end_us = spec->wait_ms > 0 ? g_get_monotonic_time() + spec->wait_ms * 1000 : 0;
    haw_autofd int pidfd = (int) pidfd_open(pid, 0);
    bool ok = pidfd >= 0 || haw_fail_errno(error, errno, "watch '%s'", spec->argv[0]);

    for (int i = 0; ok && i < 2; i++) { /* stdout to its end first; stderr is drained along */
        while (ok && sinks[i].fd >= 0) {
            gint64 left_ms = end_us == 0 ? -1 : MAX((end_us - g_get_monotonic_time()) / 1000, 0);
            /* A full stderr pipe must not block a child whose stdout we wait for. */
            g_autoptr(GError) slice = NULL;
            gint64 step_ms = i == 0 && sinks[1].fd >= 0 ? 50 : left_ms;
            if (left_ms >= 0 && (step_ms < 0 || left_ms < step_ms)) {
                step_ms = left_ms;
            }
            ok = fiber_wait_fd(sinks[i].fd, G_IO_IN, step_ms, spec->cancel, &slice);
            if (!ok && haw_code(slice) == HAW_TIMEOUT && left_ms != 0) {
                ok = true;
            }
            if (!ok) {
                g_propagate_error(error, g_steal_pointer(&slice));
            }
            if (!sink_drain(&sinks[i])) {
                fd_close(&sinks[i].fd);
            }
            if (i == 0 && sinks[1].fd >= 0 && !sink_drain(&sinks[1])) {
                fd_close(&sinks[1].fd);
            }
        }
    }
    if (ok) {
        gint64 left_ms = end_us == 0 ? -1 : MAX((end_us - g_get_monotonic_time()) / 1000, 0);
        ok = fiber_wait_fd(pidfd, G_IO_IN, left_ms, spec->cancel, error);
    }
    if (!ok) { /* P2 */
        kill(pid, SIGKILL);
        haw_push(error, "run '%s'", spec->argv[0]);
    }
    waitpid(pid, ret_status, 0);
    return ok;
}

static bool
pipe_pair(int *ret_read, int *ret_write, GError **error)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0) {
        return haw_fail_errno(error, errno, "make a pipe");
    }
    fcntl(ends[0], F_SETFL, O_NONBLOCK);
    *ret_read = ends[0];
    *ret_write = ends[1];
    return true;
}

bool
proc_run(const ProcSpec *spec, char **ret_out, GError **error)
{
    haw_autofd int out_write = -1;
    haw_autofd int err_write = -1;
    g_autoptr(GString) out = g_string_new(NULL);
    g_autoptr(GString) err = g_string_new(NULL);
    struct sink sinks[2] = {{-1, out, OUT_MAX}, {-1, err, STDERR_MAX}};

    if ((spec->fd_out < 0 && !pipe_pair(&sinks[0].fd, &out_write, error)) ||
        !pipe_pair(&sinks[1].fd, &err_write, error)) {
        fd_close(&sinks[0].fd);
        return false;
    }
    pid_t pid = spawn(spec, spec->fd_out >= 0 ? spec->fd_out : out_write, err_write, error);
    fd_close(&out_write);
    fd_close(&err_write);
    int status = 0;
    bool ok = pid >= 0 && collect(sinks, pid, spec, &status, error);
    fd_close(&sinks[0].fd);
    fd_close(&sinks[1].fd);
    if (!ok) {
        return false;
    }
    if (WIFSIGNALED(status)) {
        return haw_fail(error, HAW_FAILED, "'%s' was killed by signal %d: %s", spec->argv[0],
                        WTERMSIG(status), g_strstrip(err->str));
    }
    if (WEXITSTATUS(status) != 0) {
        return haw_fail(error, HAW_FAILED, "'%s' failed with status %d: %s", spec->argv[0],
                        WEXITSTATUS(status), g_strstrip(err->str));
    }
    if (ret_out != NULL) {
        *ret_out = g_string_free(g_steal_pointer(&out), FALSE);
    }
    return true;
}

bool
proc_runv(char **ret_out, GError **error, const char *argv0, ...)
{
    g_autoptr(GPtrArray) argv = g_ptr_array_new();
    va_list args;
    va_start(args, argv0);
    for (const char *arg = argv0; arg != NULL; arg = va_arg(args, const char *)) {
        g_ptr_array_add(argv, (void *) arg);
    }
    va_end(args);
    g_ptr_array_add(argv, NULL);
    ProcSpec spec = {
        .argv = (const char *const *) argv->pdata, .fd_in = -1, .fd_out = -1, .wait_ms = 0};
    return proc_run(&spec, ret_out, error);
}

pid_t
proc_spawn(const char *const *argv, const char *const *env, const char *log_path, const int *fds,
           size_t fd_count, GError **error)
{
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attr;
    pid_t pid = -1;

    g_autofree int *high = lift(fds, fd_count);
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO,
                                     log_path != NULL ? log_path : "/dev/null",
                                     O_WRONLY | O_CREAT | O_APPEND, 0640);
    posix_spawn_file_actions_adddup2(&actions, STDOUT_FILENO, STDERR_FILENO);
    give(&actions, high, fd_count);
    attr_init(&attr, POSIX_SPAWN_SETSID);
    int err = posix_spawnp(&pid, argv[0], &actions, &attr, (char *const *) argv,
                           env != NULL ? (char *const *) env : environ);
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attr);
    drop(high, fd_count);
    if (err != 0) {
        haw_fail_errno(error, err, "run '%s'", argv[0]);
        return -1;
    }
    return pid;
}

guint64
proc_start_time(pid_t pid)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/stat", (int) pid);
    g_autofree char *stat = fd_read_file(path, 4096, NULL, NULL);
    const char *at = stat != NULL ? strrchr(stat, ')') : NULL; /* a name may have blanks */
    for (int field = 2; at != NULL && field < 22; field++) {
        at = strchr(at + 1, ' ');
    }
    return at != NULL ? g_ascii_strtoull(at + 1, NULL, 10) : 0;
}

bool
proc_has_argv(pid_t pid, const char *const *argv)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/cmdline", (int) pid);
    gsize size = 0, at = 0;
    g_autofree char *found = fd_read_file(path, ARGV_MAX, &size, NULL);
    for (; found != NULL && *argv != NULL; argv++) {
        gsize length = strlen(*argv) + 1;
        if (at + length > size || memcmp(found + at, *argv, length) != 0) {
            return false;
        }
        at += length;
    }
    return found != NULL && at == size;
}
