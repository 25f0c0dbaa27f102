/* The sockets of a copy between servers.
 * C1  A message on the control socket is one binary WebSocket message; a socket that closes before the
 *     verdict is a failure of the peer.
 * C2  Once headers are exchanged nothing but a verdict is expected: a background fiber reads it and
 *     cancels whatever goes on when it is a failure.
 * C3  The fs socket stays open between frames; memory is one WebSocket message a direction.
 * Called by moveinst.c, movevol.c and pour.c. */
#include "agent/move/moveconn.h"

#include "agent/move/dial.h"
#include "base/fd.h"
#include "base/fiber.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

enum { CONNECT_WAIT_MS = 10 * 1000, VERDICT_WAIT_MS = 3600 * 1000 };
#define MESSAGE_MAX  (8 * 1024 * 1024) /* many snapshots, each with its configuration */
#define FRAME_MAX    (16 * 1024 * 1024)
#define MIRROR_CHUNK (32 * 1024) /* as LXD's: below what any peer takes as one message */

struct MoveConn {
    Operation *op; /* borrowed: it outlives its own work */
    Ws *control, *fs, *state;
    GCancellable *cancel;
    gulong op_cancelled, hung_up;
    bool watching, told;
    bool ended, success; /* the peer's verdict */
    char *why;
    FiberSignal changed;
    gint64 moved; /* bytes, for the progress */
};

json_t *
moveconn_secrets(bool live)
{
    static const char *const keys[] = {"control", "fs", "criu", NULL};
    static const char *const two[] = {"control", "fs", NULL};
    json_auto_t *nested = op_fds(live ? keys : two);
    return json_incref(json_object_get(nested, "fds"));
}

static void
on_op_cancelled(GCancellable *op_cancellable, gpointer data)
{
    g_cancellable_cancel(((MoveConn *) data)->cancel);
}

/* Who waits for content is woken by the end of its socket. */
static void
hang_up(GCancellable *cancel, gpointer data)
{
    ws_close(((MoveConn *) data)->fs);
}

static MoveConn *
conn_new(Operation *op, Ws **control, Ws **fs, Ws **state)
{
    MoveConn *conn = g_new0(MoveConn, 1);
    conn->op = op;
    conn->control = g_steal_pointer(control);
    conn->fs = g_steal_pointer(fs);
    conn->state = g_steal_pointer(state);
    conn->cancel = g_cancellable_new();
    conn->changed = (FiberSignal) FIBER_SIGNAL_INIT;
    ws_set_max(conn->control, MESSAGE_MAX);
    ws_set_max(conn->fs, MESSAGE_MAX);
    conn->hung_up = g_cancellable_connect(conn->cancel, G_CALLBACK(hang_up), conn, NULL);
    conn->op_cancelled =
        g_cancellable_connect(op_cancel(op), G_CALLBACK(on_op_cancelled), conn, NULL);
    return conn;
}

MoveConn *
moveconn_wait(Operation *op, bool live, GError **error)
{
    g_autoptr(Ws) control = op_ws(op, "control", CONNECT_WAIT_MS, error);
    g_autoptr(Ws) fs = control != NULL ? op_ws(op, "fs", CONNECT_WAIT_MS, error) : NULL;
    g_autoptr(Ws) state = live && fs != NULL ? op_ws(op, "criu", CONNECT_WAIT_MS, error) : NULL;
    return fs != NULL && (!live || state != NULL) ? conn_new(op, &control, &fs, &state) : NULL;
}

static const char *
text_of(json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text != NULL ? text : "";
}

bool
moveconn_check_peer(json_t *peer, bool live, GError **error)
{
    json_t *secrets = json_object_get(peer, "secrets");
    if (json_object_get(peer, "secrets") == NULL) {
        secrets = json_object_get(peer, "websockets"); /* of older clients */
    }
    if (*text_of(peer, "operation") == '\0') {
        return haw_fail(error, HAW_INVALID, "No operation of the other server was given");
    }
    if (*text_of(secrets, "control") == '\0' || *text_of(secrets, "fs") == '\0') {
        return haw_fail(error, HAW_INVALID, "The secrets \"control\" and \"fs\" are needed");
    }
    return !live || *text_of(secrets, "criu") != '\0' ||
           haw_fail(error, HAW_INVALID, "The secret \"criu\" is needed for a live move");
}

MoveConn *
moveconn_dial(Operation *op, json_t *peer, bool live, GError **error)
{
    static const char *const names[] = {"control", "fs", "criu"};
    const char *url = text_of(peer, "operation"), *pem = text_of(peer, "certificate");
    json_t *secrets = json_object_get(peer, "secrets");
    Ws *sockets[G_N_ELEMENTS(names)] = {NULL};
    bool ok = true;
    if (secrets == NULL) {
        secrets = json_object_get(peer, "websockets");
    }
    for (int i = 0; ok && i < (live ? 3 : 2); i++) {
        sockets[i] = dial_websocket(url, text_of(secrets, names[i]), pem, op_cancel(op), error);
        ok = sockets[i] != NULL;
    }
    MoveConn *conn = ok ? conn_new(op, &sockets[0], &sockets[1], &sockets[2]) : NULL;
    for (size_t i = 0; i < G_N_ELEMENTS(sockets); i++) {
        ws_free(sockets[i]);
    }
    return conn;
}

Ws **
moveconn_state(MoveConn *conn)
{
    return conn->state != NULL ? &conn->state : NULL;
}

void
moveconn_free(MoveConn *conn)
{
    if (conn == NULL) {
        return;
    }
    g_cancellable_disconnect(op_cancel(conn->op), conn->op_cancelled);
    g_cancellable_disconnect(conn->cancel, conn->hung_up);
    ws_close(conn->control); /* ends the watching fiber */
    while (conn->watching) {
        fiber_signal_wait(&conn->changed, -1, NULL, NULL);
    }
    ws_free(conn->control);
    ws_free(conn->fs);
    ws_free(conn->state);
    g_object_unref(conn->cancel);
    g_free(conn->why);
    g_free(conn);
}

Operation *
moveconn_op(MoveConn *conn)
{
    return conn->op;
}

GCancellable *
moveconn_cancel(MoveConn *conn)
{
    return conn->cancel;
}

bool
moveconn_blame(MoveConn *conn, GError **error)
{
    if (conn->ended && !conn->success && error != NULL) {
        g_clear_error(error);
        haw_fail(error, HAW_FAILED, "%s", conn->why);
    }
    return false;
}

/* ---- control ---- */

bool
moveconn_send(MoveConn *conn, const ProtobufCMessage *message, GError **error)
{
    size_t size = protobuf_c_message_get_packed_size(message);
    g_autofree guint8 *bytes = g_malloc(size + 1);
    protobuf_c_message_pack(message, bytes);
    return ws_send(conn->control, WS_BINARY, bytes, size) ||
           haw_fail(error, HAW_UNAVAILABLE, "The other server disconnected");
}

/* The next message; NULL once the socket is closed. */
static guint8 *
next_message(MoveConn *conn, size_t *ret_size)
{
    guint8 *bytes = NULL;
    if (ws_recv(conn->control, &bytes, ret_size) != WS_CLOSED) {
        return bytes;
    }
    return NULL;
}

ProtobufCMessage *
moveconn_recv(MoveConn *conn, const ProtobufCMessageDescriptor *what, GError **error)
{
    size_t size = 0;
    g_autofree guint8 *bytes = next_message(conn, &size);
    if (bytes == NULL) {
        haw_fail(error, HAW_UNAVAILABLE, "The other server disconnected");
        return NULL;
    }
    ProtobufCMessage *message = protobuf_c_message_unpack(what, NULL, size, bytes);
    if (message != NULL) {
        return message;
    }
    /* Instead of a header, a peer that failed sends its verdict. */
    Migrate__Control *verdict = migrate__control__unpack(NULL, size, bytes);
    if (verdict != NULL && !verdict->success && verdict->message != NULL) {
        haw_fail(error, HAW_FAILED, "%s", verdict->message);
    } else {
        haw_fail(error, HAW_CORRUPT, "The other server's message can't be read");
    }
    if (verdict != NULL) {
        migrate__control__free_unpacked(verdict, NULL);
    }
    return NULL;
}

/* C2 */
static void
watch_fiber(void *data)
{
    MoveConn *conn = data;
    size_t size = 0;
    g_autofree guint8 *bytes = next_message(conn, &size);
    Migrate__Control *verdict = bytes != NULL ? migrate__control__unpack(NULL, size, bytes) : NULL;
    conn->ended = true;
    conn->success = verdict != NULL && verdict->success;
    if (!conn->success) {
        conn->why = g_strdup(verdict != NULL && verdict->message != NULL
                                 ? verdict->message
                                 : "The other server disconnected"); /* C1 */
        g_cancellable_cancel(conn->cancel);
    }
    if (verdict != NULL) {
        migrate__control__free_unpacked(verdict, NULL);
    }
    conn->watching = false;
    fiber_signal_all(&conn->changed);
}

void
moveconn_watch(MoveConn *conn)
{
    conn->watching = true;
    fiber_start("move-watch", watch_fiber, conn);
}

bool
moveconn_verdict(MoveConn *conn, GError **error)
{
    while (!conn->ended) {
        if (!fiber_signal_wait(&conn->changed, VERDICT_WAIT_MS, conn->cancel, error) &&
            !conn->ended) {
            return haw_push(error, "Wait for the other server");
        }
    }
    g_clear_error(error);
    return conn->success || haw_fail(error, HAW_FAILED, "%s", conn->why);
}

void
moveconn_tell(MoveConn *conn, const GError *why)
{
    Migrate__Control verdict = MIGRATE__CONTROL__INIT;
    if (conn->told || ws_closed(conn->control)) {
        return;
    }
    conn->told = true;
    verdict.success = why == NULL;
    verdict.message = why != NULL ? why->message : NULL;
    moveconn_send(conn, &verdict.base, NULL);
}

/* ---- content ---- */

static bool
lost(MoveConn *conn, GError **error)
{
    haw_fail(error, HAW_UNAVAILABLE, "The other server disconnected");
    return moveconn_blame(conn, error);
}

bool
moveconn_write_frame(MoveConn *conn, const void *bytes, size_t size, GError **error)
{
    const guint8 *at = bytes;
    while (size > 0) {
        size_t n = MIN(size, MIRROR_CHUNK);
        if (!ws_send(conn->fs, WS_BINARY, at, n)) {
            return lost(conn, error);
        }
        at += n;
        size -= n;
    }
    return ws_send(conn->fs, WS_TEXT, "", 0) || lost(conn, error);
}

bool
moveconn_read_frame(MoveConn *conn, char **ret_bytes, size_t *ret_size, GError **error)
{
    g_autoptr(GByteArray) all = g_byte_array_new();
    for (;;) {
        g_autofree guint8 *bytes = NULL;
        size_t size = 0;
        WsKind kind = ws_recv(conn->fs, &bytes, &size);
        if (kind == WS_CLOSED) {
            return lost(conn, error);
        }
        if (kind == WS_TEXT) {
            break;
        }
        if (all->len + size > FRAME_MAX) {
            return haw_fail(error, HAW_LIMIT, "The other server's header is too long");
        }
        g_byte_array_append(all, bytes, (guint) size);
    }
    *ret_size = all->len;
    g_byte_array_append(all, (const guint8 *) "", 1);
    *ret_bytes = (char *) g_byte_array_free(g_steal_pointer(&all), FALSE);
    return true;
}

typedef struct {
    MoveConn *conn;
    int fd;
    bool progress, done, ok;
    Fiber *owner;
} Inward;

static void
count(MoveConn *conn, size_t size, bool progress)
{
    conn->moved += (gint64) size;
    if (progress) {
        op_progress(conn->op, "fs_progress", conn->moved, 0);
    }
}

/* Up to the barrier. What the child does not take any more is still read, so that the next frame
 * begins where it should. */
static void
inward_fiber(void *data)
{
    Inward *in = data;
    for (;;) {
        g_autofree guint8 *bytes = NULL;
        size_t size = 0;
        WsKind kind = ws_recv(in->conn->fs, &bytes, &size);
        if (kind != WS_BINARY) {
            in->ok = kind == WS_TEXT;
            break;
        }
        count(in->conn, size, in->progress);
        if (in->fd >= 0 && !fiber_write(in->fd, bytes, size, in->conn->cancel, NULL)) {
            fd_close(&in->fd);
        }
    }
    fd_close(&in->fd);
    in->done = true;
    fiber_wake(in->owner);
}

static bool
send_out(MoveConn *conn, int fd, bool progress, GError **error)
{
    g_autofree guint8 *chunk = g_malloc(MIRROR_CHUNK);
    for (;;) {
        ssize_t n = read(fd, chunk, MIRROR_CHUNK);
        if (n > 0) {
            if (!ws_send(conn->fs, WS_BINARY, chunk, (size_t) n)) {
                return lost(conn, error);
            }
            count(conn, (size_t) n, progress);
        } else if (n < 0 && errno == EAGAIN) {
            if (!fiber_wait_fd(fd, G_IO_IN, -1, conn->cancel, error)) {
                return moveconn_blame(conn, error);
            }
        } else if (n == 0 || errno != EINTR) {
            return ws_send(conn->fs, WS_TEXT, "", 0) || lost(conn, error);
        }
    }
}

bool
moveconn_mirror(MoveConn *conn, int *fd_in, int *fd_out, bool progress, GError **error)
{
    haw_autofd int out = fd_steal(fd_out);
    bool ok = true;
    Inward in = {.conn = conn,
                 .fd = fd_steal(fd_in),
                 .progress = progress && out < 0,
                 .owner = fiber_self(),
                 .ok = true};
    in.done = in.fd < 0;
    if (in.fd >= 0) {
        fcntl(in.fd, F_SETFL, fcntl(in.fd, F_GETFL) | O_NONBLOCK);
        fiber_start("move-in", inward_fiber, &in);
    }
    if (out >= 0) {
        fcntl(out, F_SETFL, fcntl(out, F_GETFL) | O_NONBLOCK);
        ok = send_out(conn, out, progress, error);
        fd_close(&out);
    }
    if (!ok) {
        ws_close(conn->fs); /* nothing sensible can follow */
    }
    while (!in.done) {
        fiber_suspend();
    }
    return ok && (in.ok || lost(conn, error));
}
