/* WebSockets on fibers: wslay makes and takes the frames, the fiber waits for the socket.
 * W1  Messages are delivered whole and in order; one above the limit closes the connection (1009).
 * W2  After ws_close() every call returns at once.
 * W3  What a fast peer sends ahead of us waits in the socket: at most QUEUED_MAX and one message are
 *     held here. */
#include "agent/api/ws.h"

#include "base/fd.h"
#include "base/fiber.h"
#include "base/ids.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <wslay/wslay.h>

#define MIRROR_BYTES  (64 * 1024)
#define SEND_STUCK_MS (60 * 1000)
#define QUEUED_MAX    (512 * 1024)

struct message {
    WsKind kind;
    guint8 *bytes;
    size_t size;
};

struct Ws {
    int fd;
    wslay_event_context_ptr wslay;
    GQueue in;          /* owned struct message */
    size_t queued;      /* their bytes */
    GByteArray *fed;    /* read before we came, may be NULL */
    GCancellable *stop; /* cancelled by ws_close() */
    GDestroyNotify on_free;
    void *on_free_data;
    bool closed;
};

static ssize_t
on_recv(wslay_event_context_ptr wslay, uint8_t *bytes, size_t size, int flags, void *data)
{
    Ws *ws = data;
    if (ws->fed != NULL && ws->fed->len > 0) {
        size_t n = MIN(size, ws->fed->len);
        memcpy(bytes, ws->fed->data, n);
        g_byte_array_remove_range(ws->fed, 0, (guint) n);
        return (ssize_t) n;
    }
    bool full = ws->queued > QUEUED_MAX; /* W3 */
    ssize_t n = full ? -1 : recv(ws->fd, bytes, size, 0);
    if (n > 0) {
        return n;
    }
    bool again = full || (n < 0 && (errno == EAGAIN || errno == EINTR));
    wslay_event_set_error(wslay, again ? WSLAY_ERR_WOULDBLOCK : WSLAY_ERR_CALLBACK_FAILURE);
    ws->closed |= !again;
    return -1;
}

static ssize_t
on_send(wslay_event_context_ptr wslay, const uint8_t *bytes, size_t size, int flags, void *data)
{
    Ws *ws = data;
    ssize_t n = send(ws->fd, bytes, size, MSG_NOSIGNAL);
    if (n >= 0) {
        return n;
    }
    bool again = errno == EAGAIN || errno == EINTR;
    wslay_event_set_error(wslay, again ? WSLAY_ERR_WOULDBLOCK : WSLAY_ERR_CALLBACK_FAILURE);
    ws->closed |= !again;
    return -1;
}

static int
on_genmask(wslay_event_context_ptr wslay, uint8_t *bytes, size_t size, void *data)
{
    ids_random(bytes, size);
    return 0;
}

static void
on_message(wslay_event_context_ptr wslay, const struct wslay_event_on_msg_recv_arg *arg, void *data)
{
    Ws *ws = data;
    if (wslay_is_ctrl_frame(arg->opcode)) {
        return;
    }
    struct message *message = g_new(struct message, 1);
    message->kind = arg->opcode == WSLAY_TEXT_FRAME ? WS_TEXT : WS_BINARY;
    message->size = arg->msg_length;
    message->bytes = g_malloc(arg->msg_length + 1);
    if (arg->msg_length > 0) {
        memcpy(message->bytes, arg->msg, arg->msg_length);
    }
    message->bytes[arg->msg_length] = '\0';
    ws->queued += message->size;
    g_queue_push_tail(&ws->in, message);
}

Ws *
ws_new(int *fd, bool server, size_t max_bytes)
{
    static const struct wslay_event_callbacks callbacks = {
        .recv_callback = on_recv,
        .send_callback = on_send,
        .genmask_callback = on_genmask,
        .on_msg_recv_callback = on_message,
    };
    Ws *ws = g_new0(Ws, 1);
    ws->fd = fd_steal(fd);
    ws->stop = g_cancellable_new();
    fcntl(ws->fd, F_SETFL, fcntl(ws->fd, F_GETFL) | O_NONBLOCK);
    int status = server ? wslay_event_context_server_init(&ws->wslay, &callbacks, ws)
                        : wslay_event_context_client_init(&ws->wslay, &callbacks, ws);
    g_assert(status == 0);
    wslay_event_config_set_max_recv_msg_length(ws->wslay, max_bytes); /* W1 */
    return ws;
}

void
ws_feed(Ws *ws, const void *bytes, size_t size)
{
    if (size > 0) {
        ws->fed = g_byte_array_new();
        g_byte_array_append(ws->fed, bytes, (guint) size);
    }
}

void
ws_set_max(Ws *ws, size_t max_bytes)
{
    wslay_event_config_set_max_recv_msg_length(ws->wslay, max_bytes);
}

void
ws_on_free(Ws *ws, GDestroyNotify fn, void *data)
{
    ws->on_free = fn;
    ws->on_free_data = data;
}

static void
message_free(gpointer data)
{
    struct message *message = data;
    g_free(message->bytes);
    g_free(message);
}

void
ws_free(Ws *ws)
{
    if (ws == NULL) {
        return;
    }
    ws_close(ws);
    wslay_event_context_free(ws->wslay);
    g_queue_clear_full(&ws->in, message_free);
    if (ws->fed != NULL) {
        g_byte_array_unref(ws->fed);
    }
    g_object_unref(ws->stop);
    fd_close(&ws->fd);
    if (ws->on_free != NULL) {
        ws->on_free(ws->on_free_data);
    }
    g_free(ws);
}

bool
ws_closed(const Ws *ws)
{
    return ws->closed;
}

void
ws_close(Ws *ws)
{
    if (!ws->closed) {
        wslay_event_queue_close(ws->wslay, WSLAY_CODE_NORMAL_CLOSURE, NULL, 0);
        wslay_event_send(ws->wslay); /* what the socket takes now */
        ws->closed = true;
    }
    shutdown(ws->fd, SHUT_RDWR);
    g_cancellable_cancel(ws->stop); /* W2 */
}

/* Writes what is queued, waiting for room. */
static bool
flush(Ws *ws)
{
    while (!ws->closed && wslay_event_want_write(ws->wslay)) {
        if (wslay_event_send(ws->wslay) != 0) {
            ws->closed = true;
        } else if (!ws->closed && wslay_event_want_write(ws->wslay) &&
                   !fiber_wait_fd(ws->fd, G_IO_OUT, SEND_STUCK_MS, ws->stop, NULL)) {
            ws->closed = true;
        }
    }
    return !ws->closed;
}

WsKind
ws_recv(Ws *ws, guint8 **ret_bytes, size_t *ret_size)
{
    for (;;) {
        struct message *message = g_queue_pop_head(&ws->in);
        if (message != NULL) {
            WsKind kind = message->kind;
            *ret_bytes = message->bytes;
            *ret_size = message->size;
            ws->queued -= message->size;
            g_free(message);
            return kind;
        }
        if (ws->closed) {
            return WS_CLOSED;
        }
        if (wslay_event_recv(ws->wslay) != 0 || wslay_event_get_close_received(ws->wslay)) {
            flush(ws); /* the closing handshake's answer */
            ws->closed = true;
            continue;
        }
        if (wslay_event_want_write(ws->wslay)) { /* a pong, or why we hang up */
            flush(ws);
        }
        if (!wslay_event_want_read(ws->wslay)) { /* W1 */
            ws->closed = true;
            continue;
        }
        if (ws->in.length == 0 && !ws->closed) {
            fiber_wait_fd(ws->fd, G_IO_IN, -1, ws->stop, NULL);
        }
    }
}

static bool
queue_message(Ws *ws, uint8_t opcode, const void *bytes, size_t size)
{
    struct wslay_event_msg message = {.opcode = opcode, .msg = bytes, .msg_length = size};
    return !ws->closed && wslay_event_queue_msg(ws->wslay, &message) == 0 && flush(ws);
}

bool
ws_send(Ws *ws, WsKind kind, const void *bytes, size_t size)
{
    return queue_message(ws, kind == WS_TEXT ? WSLAY_TEXT_FRAME : WSLAY_BINARY_FRAME, bytes, size);
}

bool
ws_ping(Ws *ws, const char *payload)
{
    return queue_message(ws, WSLAY_PING, payload, strlen(payload));
}

/* ---- mirror ---- */

struct mirror {
    Ws *ws;
    int fd_in;
    bool in_done;
    GCancellable *stop; /* the socket has ended */
    Fiber *owner;
};

static void
mirror_in(void *data)
{
    struct mirror *mirror = data;
    for (;;) {
        g_autofree guint8 *bytes = NULL;
        size_t size = 0;
        WsKind kind = ws_recv(mirror->ws, &bytes, &size);
        if (kind == WS_CLOSED) {
            g_cancellable_cancel(mirror->stop);
            break;
        }
        if (kind == WS_TEXT || size == 0) { /* LXD's end of input */
            fd_close(&mirror->fd_in);
        } else if (mirror->fd_in >= 0 &&
                   !fiber_write(mirror->fd_in, bytes, size, mirror->ws->stop, NULL)) {
            fd_close(&mirror->fd_in);
        }
    }
    mirror->in_done = true;
    fiber_wake(mirror->owner);
}

void
ws_mirror(Ws *ws, int *fd_in, int *fd_out)
{
    haw_autofd int out = fd_steal(fd_out);
    g_autoptr(GCancellable) stop = g_cancellable_new();
    struct mirror mirror = {
        .ws = ws, .fd_in = fd_steal(fd_in), .stop = stop, .owner = fiber_self()};
    g_autofree guint8 *buffer = g_malloc(MIRROR_BYTES);

    if (mirror.fd_in >= 0) {
        fcntl(mirror.fd_in, F_SETFL, fcntl(mirror.fd_in, F_GETFL) | O_NONBLOCK);
    }
    if (out >= 0) {
        fcntl(out, F_SETFL, fcntl(out, F_GETFL) | O_NONBLOCK);
    }
    fiber_start("mirror", mirror_in, &mirror);
    while (out >= 0 && !ws->closed) {
        ssize_t n = read(out, buffer, MIRROR_BYTES);
        if (n > 0) {
            ws_send(ws, WS_BINARY, buffer, (size_t) n);
        } else if (n < 0 && errno == EAGAIN) {
            if (!fiber_wait_fd(out, G_IO_IN, -1, stop, NULL)) {
                break;
            }
        } else if (n == 0 || errno != EINTR) { /* EIO: the last holder of a pty's slave is gone */
            ws_send(ws, WS_TEXT, "", 0);
            ws_close(ws);
        }
    }
    while (!mirror.in_done) {
        fiber_suspend();
    }
    fd_close(&mirror.fd_in);
}
