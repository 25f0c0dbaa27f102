/* A command in a guest: three fibers carry bytes between the session and descriptors.
 * P1  The command's end is told after its output: whoever waits finds everything written.
 * P2  What somebody in the background keeps open, after the command's end, is waited for on sockets and
 *     pipes, as long as their reader is there; not for files, which nobody closes.
 * P3  An output whose reader went away is closed in the guest, too: the command meets SIGPIPE.
 * Called by inst_exec_*() for virtual machines. Main loop. */
#include "agent/vm/guestexec.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/fiber.h"

#define EXEC_BYTES   (64 * 1024)
#define EXEC_TAIL_MS 500 /* P2 */

typedef struct GuestExec GuestExec;
typedef struct {
    GuestExec *exec; /* borrowed */
    int stream, fd;  /* owns fd */
    bool done;
} Pump;

struct GuestExec {
    InstExec inst;
    GuestCall *call;
    Pump pumps[GUESTWIRE_STREAMS];
    bool files; /* the outputs are files */
    GCancellable *stop;
    FiberSignal changed;
};

static void
pump_end(Pump *pump)
{
    fd_close(&pump->fd);
    pump->done = true;
    fiber_signal_all(&pump->exec->changed);
}

static void
input_body(void *data)
{
    Pump *pump = data;
    GuestExec *exec = pump->exec;
    g_autofree guint8 *buffer = g_malloc(EXEC_BYTES);

    for (;;) {
        ssize_t n = read(pump->fd, buffer, EXEC_BYTES);
        if (n > 0) {
            if (!guestcall_write(exec->call, buffer, (size_t) n, -1, exec->stop, NULL)) {
                break;
            }
        } else if (n < 0 && errno == EAGAIN) {
            if (!fiber_wait_fd(pump->fd, G_IO_IN, -1, exec->stop, NULL)) {
                break;
            }
        } else if (n == 0 || errno != EINTR) {
            break;
        }
    }
    guestcall_end(exec->call, 0);
    pump_end(pump);
}

static bool
put(Pump *pump, const guint8 *bytes, size_t size)
{
    while (size > 0) {
        ssize_t n = write(pump->fd, bytes, size);
        if (n >= 0) {
            bytes += n;
            size -= (size_t) n;
        } else if (errno == EAGAIN) {
            if (!fiber_wait_fd(pump->fd, G_IO_OUT, -1, pump->exec->stop, NULL)) {
                return false;
            }
        } else if (errno != EINTR) {
            return false;
        }
    }
    return true;
}

static void
output_body(void *data)
{
    Pump *pump = data;
    GuestExec *exec = pump->exec;
    g_autofree guint8 *buffer = g_malloc(EXEC_BYTES);
    gssize n;

    while ((n = guestcall_read(exec->call, pump->stream, buffer, EXEC_BYTES, -1, exec->stop,
                               NULL)) > 0) {
        if (!put(pump, buffer, (size_t) n)) {
            guestcall_end(exec->call, pump->stream); /* P3 */
            break;
        }
    }
    pump_end(pump);
}

static void
pump_start(GuestExec *exec, int stream, int fd)
{
    Pump *pump = &exec->pumps[stream];

    *pump = (Pump){.exec = exec, .stream = stream, .fd = fcntl(fd, F_DUPFD_CLOEXEC, 3)};
    fcntl(pump->fd, F_SETFL, fcntl(pump->fd, F_GETFL) | O_NONBLOCK);
    fiber_start("guest exec", stream == 0 ? input_body : output_body, pump);
}

static void
fill_ask(struct guestwire_ask *ask, const InstExecSpec *spec)
{
    const char *name;
    json_t *value;

    guestwire_ask_begin(ask, GUESTWIRE_EXEC);
    for (const char *const *arg = spec->argv; *arg != NULL; arg++) {
        guestwire_ask_add(ask, GUESTWIRE_ARG, *arg);
    }
    json_object_foreach (spec->environment, name, value) {
        g_autofree char *pair = g_strdup_printf("%s=%s", name, json_string_value(value));
        guestwire_ask_add(ask, GUESTWIRE_ENV, pair);
    }
    guestwire_ask_add(ask, GUESTWIRE_CWD, spec->cwd);
    guestwire_ask_number(ask, GUESTWIRE_UID, spec->uid);
    guestwire_ask_number(ask, GUESTWIRE_GID, spec->gid);
    if (spec->terminal) {
        g_autofree char *size = g_strdup_printf("%dx%d", spec->width, spec->height);
        guestwire_ask_add(ask, GUESTWIRE_SIZE, size);
    }
}

static pid_t
no_pid(InstExec *exec)
{
    return 0; /* the guest's numbers mean nothing here */
}

static const ExecOps guestexec_ops = {.pid = no_pid,
                                      .signal = guestexec_signal,
                                      .resize = guestexec_resize,
                                      .wait = guestexec_wait,
                                      .free = guestexec_free};

InstExec *
guestexec_start(GuestLink *link, const InstExecSpec *spec, GError **error)
{
    struct guestwire_ask ask;
    struct stat st;

    fill_ask(&ask, spec);
    GuestCall *call = guestcall_open(link, &ask, error);
    guestwire_ask_done(&ask);
    if (call == NULL) {
        return NULL;
    }
    GuestExec *exec = g_new0(GuestExec, 1);
    exec->inst.ops = &guestexec_ops;
    exec->call = call;
    exec->stop = g_cancellable_new();
    exec->files = fstat(spec->fds[1], &st) == 0 && (S_ISREG(st.st_mode) || S_ISCHR(st.st_mode));
    exec->pumps[2].done = true;
    for (int i = 0; i < (spec->terminal ? 2 : 3); i++) {
        pump_start(exec, i, spec->fds[i]);
    }
    return &exec->inst;
}

void
guestexec_signal(InstExec *inst, int number)
{
    guestcall_signal(((GuestExec *) inst)->call, number);
}

void
guestexec_resize(InstExec *inst, int width, int height)
{
    guestcall_resize(((GuestExec *) inst)->call, width, height);
}

bool
guestexec_wait(InstExec *inst, GCancellable *cancel, int *ret_code, GError **error)
{
    GuestExec *exec = (GuestExec *) inst;

    if (!guestcall_wait(exec->call, -1, cancel, ret_code, error)) {
        return false;
    }
    while (!exec->pumps[1].done || !exec->pumps[2].done) { /* P1 */
        g_autoptr(GError) local = NULL;
        if (fiber_signal_wait(&exec->changed, exec->files ? EXEC_TAIL_MS : -1, cancel, &local)) {
            continue;
        }
        if (g_cancellable_is_cancelled(cancel)) {
            g_propagate_error(error, g_steal_pointer(&local));
            return false;
        }
        return true; /* P2 */
    }
    return true;
}

void
guestexec_free(InstExec *inst)
{
    GuestExec *exec = (GuestExec *) inst;

    if (exec == NULL) {
        return;
    }
    g_cancellable_cancel(exec->stop);
    for (int i = 0; i < GUESTWIRE_STREAMS; i++) {
        while (!exec->pumps[i].done) {
            fiber_signal_wait(&exec->changed, -1, NULL, NULL);
        }
    }
    guestcall_free(exec->call);
    g_object_unref(exec->stop);
    g_free(exec);
}
