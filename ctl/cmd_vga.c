/* hawser console --type=vga: the display of a virtual machine. A viewer (remote-viewer or spicy, the first that
 * is installed) connects to a unix socket here; each of its connections becomes one WebSocket to the server.
 * G1  The socket is in a directory that only the user can enter, and is gone when the command is.
 * G2  Without a viewer the socket's address is printed, and Ctrl-C ends it.
 * G3  It ends with the viewer, or with the control WebSocket: the instance has stopped then.
 * Called by cmd_exec.c; one thread, which polls. */
#include "ctl/cmd.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "ctl/interrupt.h"
#include "ctl/wsclient.h"

enum { CHANNELS_MAX = 32, CHUNK = 65536, QUEUE_MAX = 1024 * 1024, STEP_MS = 200 };

typedef struct {
    WsClient *ws; /* owned */
    int fd;       /* owned */
} Channel;

typedef struct {
    char *dir, *path; /* owned */
    int listener;
    Channel channels[CHANNELS_MAX];
    size_t count;
    WsClient *control;
    GPid viewer; /* 0: none */
} View;

static void
channel_clear(Channel *channel)
{
    wsclient_free(channel->ws);
    fd_close(&channel->fd);
}

static void
view_clear(View *view)
{
    for (size_t i = 0; i < view->count; i++) {
        channel_clear(&view->channels[i]);
    }
    wsclient_free(view->control);
    fd_close(&view->listener);
    if (view->path != NULL) {
        unlink(view->path); /* G1 */
        rmdir(view->dir);
    }
    g_free(view->path);
    g_free(view->dir);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(View, view_clear)

static void
on_display(void *data, bool is_text, const guint8 *bytes, size_t size)
{
    int *fd = data;
    if (is_text && size == 0) {
        shutdown(*fd, SHUT_WR);
    } else if (*fd >= 0 && !fd_write_all(*fd, bytes, size, "viewer", NULL)) {
        fd_close(fd);
    }
}

static void
on_control(void *data, bool is_text, const guint8 *bytes, size_t size)
{
}

static WsClient *
open_socket(Rest *rest, const json_t *operation, const char *key, WsClientFn fn, void *data,
            GError **error)
{
    const json_t *fds = json_object_get(json_object_get(operation, "metadata"), "fds");
    const char *secret = json_string_value(json_object_get(fds, key));
    const char *id = json_string_value(json_object_get(operation, "id"));
    if (id == NULL || secret == NULL) {
        haw_fail(error, HAW_CORRUPT, "the server gave no WebSocket \"%s\"", key);
        return NULL;
    }
    g_autofree char *path = g_strdup_printf("/1.0/operations/%s/websocket?secret=%s", id, secret);
    return wsclient_open(rest, path, fn, data, error);
}

static bool
listen_here(View *view, GError **error)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    g_autoptr(GError) local = NULL;
    view->dir = g_dir_make_tmp("hawser-vga-XXXXXX", &local); /* G1: 0700 */
    if (view->dir == NULL) {
        return haw_fail(error, HAW_IO, "%s", local->message);
    }
    view->path = g_build_filename(view->dir, "spice", NULL);
    if (strlen(view->path) >= sizeof address.sun_path) {
        return haw_fail(error, HAW_LIMIT, "'%s' is too long for a socket: set TMPDIR", view->path);
    }
    strcpy(address.sun_path, view->path);
    view->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (view->listener < 0 ||
        bind(view->listener, (struct sockaddr *) &address, sizeof address) < 0 ||
        listen(view->listener, 16) < 0) {
        return haw_fail_errno(error, errno, "listen on '%s'", view->path);
    }
    return true;
}

/* G2 */
static void
start_viewer(View *view)
{
    g_autofree char *uri = g_strconcat("spice+unix://", view->path, NULL);
    g_autofree char *spicy = g_strconcat("--uri=", uri, NULL);
    char *remote_viewer[] = {(char *) "remote-viewer", uri, NULL};
    char *spicy_argv[] = {(char *) "spicy", spicy, NULL};
    char **viewers[] = {remote_viewer, spicy_argv};
    for (size_t i = 0; i < G_N_ELEMENTS(viewers); i++) {
        if (g_spawn_async(NULL, viewers[i], NULL, G_SPAWN_SEARCH_PATH | G_SPAWN_DO_NOT_REAP_CHILD,
                          NULL, NULL, &view->viewer, NULL)) {
            return;
        }
    }
    g_printerr(
        "Neither remote-viewer nor spicy is installed: the display is at\n  %s\nuntil Ctrl-C.\n",
        uri);
}

static bool
take_viewer(View *view, Rest *rest, const json_t *operation, GError **error)
{
    int fd = accept4(view->listener, NULL, NULL, SOCK_CLOEXEC);
    if (fd < 0) {
        return true;
    }
    if (view->count == CHANNELS_MAX) {
        close(fd);
        return true;
    }
    Channel *channel = &view->channels[view->count];
    channel->fd = fd;
    channel->ws = open_socket(rest, operation, "0", on_display, &channel->fd, error);
    view->count += channel->ws != NULL;
    if (channel->ws == NULL) {
        fd_close(&channel->fd);
    }
    return channel->ws != NULL;
}

static void
carry(Channel *channel, short ready)
{
    char buffer[CHUNK];
    if (channel->fd >= 0 && (ready & (POLLIN | POLLHUP | POLLERR)) != 0 &&
        wsclient_queued(channel->ws) < QUEUE_MAX) {
        ssize_t n = read(channel->fd, buffer, sizeof buffer);
        if (n > 0) {
            wsclient_send(channel->ws, false, buffer, (size_t) n);
        } else if (n == 0 || errno != EINTR) {
            fd_close(&channel->fd);
            wsclient_close(channel->ws);
        }
    }
    wsclient_pump(channel->ws);
    if (!wsclient_is_open(channel->ws)) {
        fd_close(&channel->fd);
    }
}

static void
turn(View *view)
{
    struct pollfd polls[2 + 2 * CHANNELS_MAX];
    bool pending = wsclient_pending(view->control);
    size_t n = 0;
    polls[n++] = (struct pollfd){.fd = view->listener, .events = POLLIN};
    polls[n++] =
        (struct pollfd){.fd = wsclient_fd(view->control), .events = wsclient_events(view->control)};
    for (size_t i = 0; i < view->count; i++) {
        Channel *channel = &view->channels[i];
        bool open = wsclient_is_open(channel->ws);
        bool room = wsclient_queued(channel->ws) < QUEUE_MAX;
        polls[n++] = (struct pollfd){.fd = room ? channel->fd : -1, .events = POLLIN};
        polls[n++] = (struct pollfd){.fd = open ? wsclient_fd(channel->ws) : -1,
                                     .events = open ? wsclient_events(channel->ws) : 0};
        pending = pending || (open && wsclient_pending(channel->ws));
    }
    if (poll(polls, n, pending ? 0 : STEP_MS) < 0) {
        return;
    }
    wsclient_pump(view->control);
    for (size_t i = 0; i < view->count; i++) {
        if (wsclient_is_open(view->channels[i].ws)) {
            carry(&view->channels[i], polls[2 + 2 * i].revents);
        }
    }
}

bool
cmd_vga(Ctl *ctl, Rest *rest, const char *name, GError **error)
{
    g_auto(View) view = {.listener = -1};
    g_autofree char *path = rest_path("/1.0/instances/%s/console", name);
    g_autoptr(json_t) body = json_pack("{si si ss}", "width", 0, "height", 0, "type", "vga");
    g_autoptr(json_t) operation = rest_call(rest, "POST", path, body, NULL, error);
    if (operation == NULL || !listen_here(&view, error)) {
        return haw_push(error, "display of '%s'", name);
    }
    view.control = open_socket(rest, operation, "control", on_control, NULL, error);
    if (view.control == NULL) {
        return haw_push(error, "display of '%s'", name);
    }
    interrupt_catch();
    start_viewer(&view);
    while (!interrupt_seen() && wsclient_is_open(view.control)) { /* G3 */
        if (view.viewer != 0 && waitpid(view.viewer, NULL, WNOHANG) != 0) {
            break;
        }
        turn(&view);
        if (!take_viewer(&view, rest, operation, error)) {
            return haw_push(error, "display of '%s'", name);
        }
    }
    wsclient_close(view.control);
    wsclient_pump(view.control);
    return true;
}
