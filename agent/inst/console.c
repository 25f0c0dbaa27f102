/* console: the container's console terminal on a WebSocket, and the log of what it showed.
 * V1  The session ends with the first of: socket "0", the control socket, the container.
 * V3  A display is not one stream: see vga_run(). It ends with the control socket, or the instance.
 * V2  The log is liblxc's ring; it can be read and cleared while the container runs, and read after
 *     its end for as long as the driver keeps it.
 * Fibers: the operation's own; control.c's. */
#include "agent/inst/console.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "agent/api/event.h"
#include "agent/api/operation.h"
#include "agent/api/ws.h"
#include "agent/inst/control.h"
#include "agent/inst/inst.h"
#include "agent/inst/instdriver.h"
#include "base/fd.h"

#define CONSOLE_CONNECT_MS 10000
#define VGA_STEP_MS        1000

typedef struct {
    Inst *inst; /* shares */
    int width, height;
} Session;

static void
session_free(gpointer data)
{
    Session *session = data;

    inst_unref(session->inst);
    g_free(session);
}

static void
on_closed(GCancellable *closed, gpointer ws)
{
    ws_close(ws); /* V1 */
}

static bool
console_run(Operation *op, void *data, GError **error)
{
    Session *session = data;
    g_autoptr(GCancellable) closed = g_cancellable_new();
    g_autoptr(Ws) ws = op_ws(op, "0", CONSOLE_CONNECT_MS, error);
    haw_autofd int token = -1; /* while it is open, the console is ours */
    haw_autofd int master = ws != NULL ? inst_console_open(session->inst, &token, error) : -1;

    if (master < 0) {
        return false;
    }
    control_resize(master, session->width, session->height);
    g_autoptr(Control) control = control_start(op, master, -1, closed);
    gulong by_control = g_cancellable_connect(closed, G_CALLBACK(on_closed), ws, NULL);
    gulong by_cancel = g_cancellable_connect(op_cancel(op), G_CALLBACK(on_closed), ws, NULL);
    int other = fcntl(master, F_DUPFD_CLOEXEC, 3);
    ws_mirror(ws, &other, &master);
    g_cancellable_disconnect(closed, by_control);
    g_cancellable_disconnect(op_cancel(op), by_cancel);
    return true;
}

/* ---- the display ---- */

struct view {
    Ws *ws;               /* owned */
    int fd;               /* owned */
    GCancellable *closed; /* shares */
};

static void
view_body(void *data)
{
    struct view *view = data;
    gulong handler = g_cancellable_connect(view->closed, G_CALLBACK(on_closed), view->ws, NULL);
    int other = fcntl(view->fd, F_DUPFD_CLOEXEC, 3);

    ws_mirror(view->ws, &other, &view->fd);
    g_cancellable_disconnect(view->closed, handler);
    ws_free(view->ws);
    g_object_unref(view->closed);
    g_free(view);
}

/* V3: a client makes several connections (SPICE has one a channel), each with the same secret. */
static bool
vga_run(Operation *op, void *data, GError **error)
{
    Session *session = data;
    const Driver *driver = driver_of_type(inst_type(session->inst));
    g_autoptr(GCancellable) closed = g_cancellable_new();
    g_autoptr(Control) control = control_start(op, -1, -1, closed);
    bool ok = true;

    while (ok && !g_cancellable_is_cancelled(closed) && inst_pid(session->inst) != 0) {
        g_autoptr(GError) local = NULL;
        Ws *ws = op_ws(op, "0", VGA_STEP_MS, &local);
        if (ws == NULL && haw_code(local) == HAW_CANCELLED) {
            break;
        }
        if (ws == NULL) {
            continue;
        }
        struct view *view = g_new0(struct view, 1);
        view->ws = ws;
        view->closed = g_object_ref(closed);
        view->fd = driver->display(session->inst, error);
        if (view->fd < 0) {
            ws_free(view->ws);
            g_object_unref(view->closed);
            g_free(view);
            ok = false;
        } else {
            fiber_start("vga", view_body, view);
        }
    }
    g_cancellable_cancel(closed);
    return ok;
}

static bool
handle_open(Request *req, GError **error)
{
    static const char *const keys[] = {"0", "control", NULL};
    Agent *agent = req_agent(req);
    json_t *body = req_json(req);
    const char *type = json_string_value(json_object_get(body, "type"));
    g_autoptr(Inst) inst =
        inst_find(agent->instances, req_project(req), req_arg(req, "name"), error);

    if (inst == NULL) {
        return false;
    }
    bool vga = type != NULL && g_str_equal(type, "vga");
    if (vga && driver_of_type(inst_type(inst))->display == NULL) {
        return haw_fail(error, HAW_INVALID, "VGA console is only supported by virtual machines");
    }
    if (!vga && type != NULL && type[0] != '\0' && !g_str_equal(type, "console")) {
        return haw_fail(error, HAW_INVALID, "Unknown console type \"%s\"", type);
    }
    if (inst_state(inst) == INST_FROZEN) {
        return haw_fail(error, HAW_CONFLICT, "Instance is frozen");
    }
    if (inst_pid(inst) <= 0) {
        return haw_fail(error, HAW_CONFLICT, "Instance is not running");
    }
    Session *session = g_new0(Session, 1);
    session->inst = inst_ref(inst);
    session->width = (int) json_integer_value(json_object_get(body, "width"));
    session->height = (int) json_integer_value(json_object_get(body, "height"));
    g_autofree char *url = g_strdup_printf("/1.0/instances/%s", inst_name(inst));
    event_lifecycle(agent, inst_project(inst), req_caller(req),
                    json_pack("{s:s}", "type", vga ? "vga" : "console"), "instance-console", "%s",
                    url);
    return op_reply(req, (OpSpec){.class = OP_WEBSOCKET,
                                  .description = "Showing console",
                                  .project = req_project(req),
                                  .resources = json_pack("{s:[s]}", "instances", url),
                                  .metadata = op_fds(keys),
                                  .cancellable = true,
                                  .fn = vga ? vga_run : console_run,
                                  .data = session,
                                  .free_data = session_free});
}

static bool
handle_log(Request *req, GError **error)
{
    static const char *const headers[] = {"Content-Disposition", "inline;filename=\"console.log\"",
                                          NULL};
    Agent *agent = req_agent(req);
    size_t size = 0;
    g_autoptr(Inst) inst =
        inst_find(agent->instances, req_project(req), req_arg(req, "name"), error);

    if (inst == NULL) {
        return false;
    }
    g_autofree char *text = inst_console_log(inst, &size, error);
    if (text == NULL) {
        return false;
    }
    event_lifecycle(agent, inst_project(inst), req_caller(req), NULL, "instance-console-retrieved",
                    "/1.0/instances/%s", inst_name(inst));
    return req_reply_bytes(req, 200, "application/octet-stream", text, size, headers);
}

static bool
handle_clear(Request *req, GError **error)
{
    Agent *agent = req_agent(req);
    g_autoptr(Inst) inst =
        inst_find(agent->instances, req_project(req), req_arg(req, "name"), error);

    if (inst == NULL || !inst_console_clear(inst, error)) {
        return false;
    }
    event_lifecycle(agent, inst_project(inst), req_caller(req), NULL, "instance-console-reset",
                    "/1.0/instances/%s", inst_name(inst));
    return req_reply(req, NULL);
}

const Route console_routes[] = {
    INST_ROUTES("POST", "/{name}/console", handle_open, ROUTE_BODY_JSON),
    INST_ROUTES("GET", "/{name}/console", handle_log, 0),
    INST_ROUTES("DELETE", "/{name}/console", handle_clear, 0),
    {NULL},
};
