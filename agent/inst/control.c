/* Control messages: {"command":"window-resize","args":{"width":"80","height":"24"}} and
 * {"command":"signal","signal":15}, as LXD's clients send them.
 * Q1  The object lives until both its owner and its fiber let go: a control socket that never
 *     connects is waited for in steps, so the fiber ends within a second of control_stop(), while
 *     the operation is still readable (operation.h O1).
 * Q2  Signals go through a pidfd: never to a recycled pid.
 * What cannot be understood is passed over, as LXD does. Called by exec.c and console.c. */
#include "agent/inst/control.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/pidfd.h>
#include <unistd.h>

#include "agent/api/ws.h"
#include "base/fd.h"
#include "base/fiber.h"
#include "base/log.h"

#define CONTROL_STEP_MS 1000

struct Control {
    int holders;
    Operation *op; /* borrowed while not ended, and for some seconds after */
    Ws *ws;        /* owned by the fiber */
    int master, pidfd;
    GCancellable *closed; /* shares, may be NULL */
    ControlSink sink;     /* its members may be NULL */
    int width, height;    /* asked for before there was a sink; 0: none */
    bool ended;
};

static void
control_unref(Control *control)
{
    if (--control->holders == 0) {
        fd_close(&control->master);
        fd_close(&control->pidfd);
        g_clear_object(&control->closed);
        g_free(control);
    }
}

void
control_resize(int master, int width, int height)
{
    struct winsize size = {.ws_col = (unsigned short) CLAMP(width, 0, 65535),
                           .ws_row = (unsigned short) CLAMP(height, 0, 65535)};

    if (master >= 0 && width > 0 && height > 0 && ioctl(master, TIOCSWINSZ, &size) < 0) {
        haw_debug("control.resize_failed", KS("why", g_strerror(errno)));
    }
}

static int
dimension(json_t *args, const char *name)
{
    json_t *value = json_object_get(args, name);
    const char *text = json_string_value(value);

    return text != NULL ? atoi(text) : (int) json_integer_value(value);
}

static void
resize(Control *control, int width, int height)
{
    control_resize(control->master, width, height);
    control->width = width;
    control->height = height;
    if (control->sink.resize != NULL && !control->ended) {
        control->sink.resize(control->sink.data, width, height);
    }
}

static void
send_signal(Control *control, int number)
{
    if (control->pidfd >= 0) {
        pidfd_send_signal(control->pidfd, number, NULL, 0); /* Q2 */
    } else if (control->sink.signal != NULL && !control->ended) {
        control->sink.signal(control->sink.data, number);
    }
}

static void
obey(Control *control, const guint8 *bytes, size_t size)
{
    json_t *message = json_loadb((const char *) bytes, size, 0, NULL);
    const char *command = json_string_value(json_object_get(message, "command"));
    json_t *args = json_object_get(message, "args");

    if (g_strcmp0(command, "window-resize") == 0) {
        resize(control, dimension(args, "width"), dimension(args, "height"));
    } else if (g_strcmp0(command, "signal") == 0) {
        json_int_t number = json_integer_value(json_object_get(message, "signal"));
        if (number > 0 && number <= SIGRTMAX) {
            send_signal(control, (int) number);
        }
    }
    json_decref(message);
}

static void
control_body(void *data)
{
    Control *control = data;

    while (!control->ended && control->ws == NULL) { /* Q1 */
        g_autoptr(GError) error = NULL;
        control->ws = op_ws(control->op, "control", CONTROL_STEP_MS, &error);
        if (control->ws == NULL && haw_code(error) == HAW_CANCELLED) {
            break;
        }
    }
    while (control->ws != NULL && !control->ended) {
        g_autofree guint8 *bytes = NULL;
        size_t size = 0;
        if (ws_recv(control->ws, &bytes, &size) == WS_CLOSED) {
            break;
        }
        obey(control, bytes, size);
    }
    if (control->ws != NULL && !control->ended && control->closed != NULL) {
        g_cancellable_cancel(control->closed);
    }
    ws_free(g_steal_pointer(&control->ws));
    control_unref(control);
}

Control *
control_start(Operation *op, int master, int pidfd, GCancellable *closed)
{
    Control *control = g_new0(Control, 1);

    control->holders = 2;
    control->op = op;
    control->master = master >= 0 ? fcntl(master, F_DUPFD_CLOEXEC, 3) : -1;
    control->pidfd = pidfd >= 0 ? fcntl(pidfd, F_DUPFD_CLOEXEC, 3) : -1;
    control->closed = closed != NULL ? g_object_ref(closed) : NULL;
    fiber_start("control", control_body, control);
    return control;
}

void
control_set_pidfd(Control *control, int pidfd)
{
    fd_close(&control->pidfd);
    control->pidfd = pidfd >= 0 ? fcntl(pidfd, F_DUPFD_CLOEXEC, 3) : -1;
}

void
control_set_sink(Control *control, const ControlSink *sink)
{
    control->sink = *sink;
    if (sink->resize != NULL && control->width > 0) {
        sink->resize(sink->data, control->width, control->height);
    }
}

void
control_stop(Control *control)
{
    if (control == NULL) {
        return;
    }
    control->ended = true;
    if (control->ws != NULL) {
        ws_close(control->ws);
    }
    control_unref(control);
}
