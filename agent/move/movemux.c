/* Many streams in one WebSocket.
 * U1  A message is a number and bytes: 0 is JSON, another is that stream's; no bytes end the stream.
 * U2  Both sides beat; a side that hears nothing for MOVEMUX_SILENCE_MS takes the other for gone, and
 *     closes: whoever waits here or reads a stream sees the end.
 * U3  A stream that nobody reads holds no other up: what has arrived of it waits in a queue of MOVEMUX_WINDOW bytes,
 *     and its sender sends no more than it was told that there is room for ("took"). More ends the connection.
 * U4  A mark says how many bytes of a stream were written before it, and goes before whatever is written after it.
 * Called by liveout.c, livein.c and livestate.c. */
#include "agent/move/movemux.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/fiber.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>

enum {
    CHUNK = 64 * 1024,
    MESSAGE_MAX = 4 * 1024 * 1024,
    MESSAGES_MAX = 256,
    BEAT_MS = 2000,
    EARLY_MS = 10,
    MOVEMUX_SILENCE_MS = 15000,
    MOVEMUX_WINDOW = 1024 * 1024,
};

typedef struct {
    MoveMux *mux;
    guint number;
    int near, far; /* the user's end until it is opened, and ours */
    int door;      /* the listener of movemux_door(), until somebody came */
    pid_t expected;
    bool opened, ended;
    gint64 window;     /* U3: what may be sent still */
    guint64 read;      /* of our end */
    gint64 mark;       /* U4: the other side's; -1: none */
    GByteArray *queue; /* what has arrived and is not passed on */
    bool passing;
} Stream;

struct MoveMux {
    Ws *ws;
    FiberLock sending; /* one fiber sends at a time */
    FiberSignal happened;
    GQueue messages; /* json_t */
    Stream streams[MOVEMUX_STREAMS];
    guint fibers;
    gint64 heard_us;
    bool gone;
    GCancellable *end;
};

static bool
send_bytes(MoveMux *mux, guint number, const void *bytes, size_t size)
{
    g_autofree guint8 *message = g_malloc(size + 1);
    message[0] = (guint8) number;
    if (size > 0) {
        memcpy(message + 1, bytes, size);
    }
    g_auto(FiberHold) hold = fiber_hold(&mux->sending);
    return !mux->gone && ws_send(mux->ws, WS_BINARY, message, size + 1);
}

static void
hang_up(MoveMux *mux)
{
    if (!mux->gone) {
        mux->gone = true;
        ws_close(mux->ws);
        g_cancellable_cancel(mux->end);
        for (guint i = 0; i < MOVEMUX_STREAMS; i++) {
            if (mux->streams[i].far >= 0) {
                shutdown(mux->streams[i].far, SHUT_RDWR);
            }
        }
    }
    fiber_signal_all(&mux->happened);
}

/* ---- streams ---- */

static bool
await_window(Stream *stream)
{
    while (stream->window == 0 && !stream->mux->gone) {
        fiber_signal_wait(&stream->mux->happened, -1, NULL, NULL);
    }
    return !stream->mux->gone;
}

static void
outward(void *data)
{
    Stream *stream = data;
    MoveMux *mux = stream->mux;
    g_autofree guint8 *chunk = g_malloc(CHUNK);
    while (await_window(stream)) {
        ssize_t n = read(stream->far, chunk, (size_t) MIN(CHUNK, stream->window));
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0 && errno == EAGAIN) {
            if (!fiber_wait_fd(stream->far, G_IO_IN, -1, mux->end, NULL)) {
                break;
            }
            continue;
        }
        stream->window -= MAX(n, 0);
        stream->read += (guint64) MAX(n, 0);
        if (!send_bytes(mux, stream->number, chunk, n > 0 ? (size_t) n : 0) || n <= 0) {
            break;
        }
    }
    mux->fibers--;
    fiber_signal_all(&mux->happened);
}

static bool
make_pair(MoveMux *mux, Stream *stream)
{
    int pair[2];
    if (stream->far < 0 && !stream->opened) {
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) {
            return false;
        }
        stream->near = pair[0];
        stream->far = pair[1];
        fcntl(stream->far, F_SETFL, fcntl(stream->far, F_GETFL) | O_NONBLOCK);
    }
    return stream->far >= 0 && !mux->gone;
}

int
movemux_open(MoveMux *mux, guint number, GError **error)
{
    Stream *stream = &mux->streams[number];
    g_assert(number > 0 && number < MOVEMUX_STREAMS && !stream->opened);
    if (!make_pair(mux, stream)) {
        haw_fail(error, HAW_UNAVAILABLE, "The other server disconnected");
        return -1;
    }
    stream->opened = true;
    mux->fibers++;
    fiber_start("mux-out", outward, stream);
    return fd_steal(&stream->near);
}

bool
movemux_attach(MoveMux *mux, guint number, int *fd, GError **error)
{
    Stream *stream = &mux->streams[number];
    g_assert(number > 0 && number < MOVEMUX_STREAMS && !stream->opened);
    if (mux->gone || stream->far >= 0) {
        return haw_fail(error, HAW_UNAVAILABLE, "The other server disconnected");
    }
    stream->far = fd_steal(fd);
    stream->opened = true;
    fcntl(stream->far, F_SETFL, fcntl(stream->far, F_GETFL) | O_NONBLOCK);
    mux->fibers++;
    fiber_start("mux-out", outward, stream);
    return true;
}

static bool
is_expected(int fd, pid_t pid)
{
    struct ucred peer = {0};
    socklen_t size = sizeof peer;
    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 && peer.pid == pid;
}

/* What came before somebody did. False when the other side has gone. */
static bool
pass_early(Stream *stream, int fd)
{
    g_autofree guint8 *chunk = g_malloc(CHUNK);
    while (stream->near >= 0) {
        ssize_t n = recv(stream->near, chunk, CHUNK, MSG_DONTWAIT);
        if (n > 0) {
            if (!fiber_write(fd, chunk, (size_t) n, stream->mux->end, NULL)) {
                return false;
            }
        } else if (stream->passing) {
            fiber_wait_fd(stream->near, G_IO_IN, EARLY_MS, stream->mux->end, NULL);
        } else {
            fd_close(&stream->near);
            fd_close(&stream->far);
        }
    }
    return !stream->mux->gone;
}

/* Anybody of this network namespace may knock. */
static void
keep_door(void *data)
{
    Stream *stream = data;
    MoveMux *mux = stream->mux;
    while (stream->door >= 0 && fiber_wait_fd(stream->door, G_IO_IN, -1, mux->end, NULL)) {
        haw_autofd int fd = accept4(stream->door, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd >= 0 && is_expected(fd, stream->expected)) {
            fd_close(&stream->door);
            if (pass_early(stream, fd)) {
                movemux_attach(mux, stream->number, &fd, NULL);
            }
        }
    }
    mux->fibers--;
    fiber_signal_all(&mux->happened);
}

bool
movemux_door(MoveMux *mux, guint number, pid_t pid, char **ret_name, GError **error)
{
    Stream *stream = &mux->streams[number];
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    socklen_t size = sizeof name;
    haw_autofd int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *) &name, sizeof(sa_family_t)) != 0 ||
        listen(fd, 4) != 0 || getsockname(fd, (struct sockaddr *) &name, &size) != 0) {
        return haw_fail_errno(error, errno, "make a socket");
    }
    *ret_name = g_strndup(name.sun_path + 1, size - offsetof(struct sockaddr_un, sun_path) - 1);
    stream->door = fd_steal(&fd);
    stream->expected = pid;
    mux->fibers++;
    fiber_start("mux-door", keep_door, stream);
    return true;
}

/* ---- what comes ---- */

/* U3: the other side has passed so much of a stream on. */
static bool
take_credit(MoveMux *mux, json_t *message)
{
    json_int_t number = json_integer_value(json_object_get(message, "stream"));
    json_int_t bytes = json_integer_value(json_object_get(message, "took"));
    if (number <= 0 || number >= MOVEMUX_STREAMS || bytes <= 0 ||
        bytes > MOVEMUX_WINDOW - mux->streams[number].window) {
        return false;
    }
    mux->streams[number].window += bytes;
    fiber_signal_all(&mux->happened);
    return true;
}

static bool
take_mark(MoveMux *mux, json_t *message)
{
    json_int_t number = json_integer_value(json_object_get(message, "stream"));
    json_int_t bytes = json_integer_value(json_object_get(message, "mark"));
    if (number <= 0 || number >= MOVEMUX_STREAMS || bytes < 0) {
        return false;
    }
    mux->streams[number].mark = bytes;
    return true;
}

static void
take_message(MoveMux *mux, const guint8 *bytes, size_t size)
{
    json_auto_t *message = json_loadb((const char *) bytes, size, 0, NULL);
    if (message == NULL) {
        hang_up(mux);
    } else if (json_object_get(message, "took") != NULL) {
        if (!take_credit(mux, message)) {
            hang_up(mux);
        }
    } else if (json_object_get(message, "mark") != NULL) {
        if (!take_mark(mux, message)) {
            hang_up(mux);
        }
    } else if (json_object_get(message, "beat") == NULL) {
        if (mux->messages.length >= MESSAGES_MAX) {
            hang_up(mux);
        } else {
            g_queue_push_tail(&mux->messages, json_incref(message));
            fiber_signal_all(&mux->happened);
        }
    }
}

static void
pass_on(void *data)
{
    Stream *stream = data;
    MoveMux *mux = stream->mux;
    while (stream->queue->len > 0 && !mux->gone) {
        g_autoptr(GByteArray) now = stream->queue;
        stream->queue = g_byte_array_new();
        /* Bytes for a reader that has gone are taken, too: its sender is to see the end that we send. */
        fiber_write(stream->far, now->data, now->len, mux->end, NULL);
        movemux_send(mux, json_pack("{s:i,s:i}", "took", (int) now->len, "stream", stream->number),
                     NULL);
    }
    if (stream->ended && !mux->gone) {
        shutdown(stream->far, SHUT_WR);
    }
    stream->passing = false;
    mux->fibers--;
    fiber_signal_all(&mux->happened);
}

static void
take_stream(MoveMux *mux, Stream *stream, const guint8 *bytes, size_t size)
{
    if (stream->ended || !make_pair(mux, stream)) {
        return;
    }
    if (stream->queue->len + size > MOVEMUX_WINDOW) { /* U3 */
        hang_up(mux);
        return;
    }
    g_byte_array_append(stream->queue, bytes, (guint) size);
    stream->ended = size == 0;
    if (!stream->passing) {
        stream->passing = true;
        mux->fibers++;
        fiber_start("mux-pass", pass_on, stream);
    }
}

static void
inward(void *data)
{
    MoveMux *mux = data;
    for (;;) {
        g_autofree guint8 *bytes = NULL;
        size_t size = 0;
        if (ws_recv(mux->ws, &bytes, &size) != WS_BINARY || size == 0 ||
            bytes[0] >= MOVEMUX_STREAMS) {
            break;
        }
        mux->heard_us = clock_mono_us();
        if (bytes[0] == 0) {
            take_message(mux, bytes + 1, size - 1);
        } else {
            take_stream(mux, &mux->streams[bytes[0]], bytes + 1, size - 1);
        }
    }
    hang_up(mux);
    mux->fibers--;
    fiber_signal_all(&mux->happened);
}

/* U2 */
static void
beat(void *data)
{
    MoveMux *mux = data;
    static const char text[] = "{\"beat\":1}";
    while (fiber_sleep_ms(BEAT_MS, mux->end, NULL)) {
        bool silent =
            clock_mono_us() - mux->heard_us > MOVEMUX_SILENCE_MS * G_GINT64_CONSTANT(1000);
        if (silent || !send_bytes(mux, 0, text, sizeof(text) - 1)) {
            hang_up(mux);
        }
    }
    mux->fibers--;
    fiber_signal_all(&mux->happened);
}

/* ---- messages ---- */

bool
movemux_send(MoveMux *mux, json_t *message, GError **error)
{
    char *text = json_dumps(message, JSON_COMPACT);
    bool ok = text != NULL && send_bytes(mux, 0, text, strlen(text));
    json_decref(message);
    free(text);
    return ok || haw_fail(error, HAW_UNAVAILABLE, "The other server disconnected");
}

static json_t *
look(MoveMux *mux, const char *what, GError **error)
{
    json_t *message;
    while ((message = g_queue_pop_head(&mux->messages)) != NULL) {
        const char *failed = json_string_value(json_object_get(message, "failed"));
        if (json_object_get(message, what) != NULL) {
            return message;
        }
        if (failed != NULL) {
            haw_fail(error, HAW_FAILED, "%s", failed);
            json_decref(message);
            return NULL;
        }
        json_decref(message);
    }
    return NULL;
}

json_t *
movemux_recv(MoveMux *mux, const char *what, gint64 wait_ms, GCancellable *cancel, GError **error)
{
    gint64 until = clock_mono_us() + wait_ms * 1000;
    for (;;) {
        GError *why = NULL;
        json_t *message = look(mux, what, &why);
        if (message != NULL || why != NULL) {
            if (why != NULL) {
                g_propagate_error(error, why);
            }
            return message;
        }
        if (mux->gone) {
            haw_fail(error, HAW_UNAVAILABLE, "The other server disconnected");
            return NULL;
        }
        gint64 left_ms = (until - clock_mono_us()) / 1000;
        if (left_ms <= 0) {
            haw_fail(error, HAW_TIMEOUT, "The other server does not say \"%s\"", what);
            return NULL;
        }
        fiber_signal_wait(&mux->happened, left_ms, cancel, NULL);
        if (cancel != NULL && g_cancellable_is_cancelled(cancel) && mux->messages.length == 0) {
            haw_fail(error, HAW_CANCELLED, "The migration was cancelled");
            return NULL;
        }
    }
}

/* U4 */
void
movemux_mark(MoveMux *mux, guint number)
{
    Stream *stream = &mux->streams[number];
    int waiting = 0; /* in the socket, not read yet */
    if (stream->far >= 0 && ioctl(stream->far, FIONREAD, &waiting) == 0) {
        movemux_send(mux,
                     json_pack("{s:I,s:i}", "mark", (json_int_t) (stream->read + (guint64) waiting),
                               "stream", (int) number),
                     NULL);
    }
}

bool
movemux_marked(const MoveMux *mux, guint number, guint64 *ret_bytes)
{
    *ret_bytes = (guint64) MAX(mux->streams[number].mark, 0);
    return mux->streams[number].mark >= 0;
}

bool
movemux_alive(const MoveMux *mux)
{
    return !mux->gone;
}

/* ---- life ---- */

MoveMux *
movemux_new(Ws **ws)
{
    MoveMux *mux = g_new0(MoveMux, 1);
    mux->ws = g_steal_pointer(ws);
    mux->sending = (FiberLock) FIBER_LOCK_INIT;
    mux->happened = (FiberSignal) FIBER_SIGNAL_INIT;
    mux->end = g_cancellable_new();
    mux->heard_us = clock_mono_us();
    g_queue_init(&mux->messages);
    ws_set_max(mux->ws, MESSAGE_MAX);
    for (guint i = 0; i < MOVEMUX_STREAMS; i++) {
        mux->streams[i] = (Stream){.mux = mux,
                                   .number = i,
                                   .near = -1,
                                   .far = -1,
                                   .door = -1,
                                   .window = MOVEMUX_WINDOW,
                                   .mark = -1,
                                   .queue = g_byte_array_new()};
    }
    mux->fibers = 2;
    fiber_start("mux-in", inward, mux);
    fiber_start("mux-beat", beat, mux);
    return mux;
}

void
movemux_free(MoveMux *mux)
{
    if (mux == NULL) {
        return;
    }
    hang_up(mux);
    while (mux->fibers > 0) {
        fiber_signal_wait(&mux->happened, -1, NULL, NULL);
    }
    for (guint i = 0; i < MOVEMUX_STREAMS; i++) {
        fd_close(&mux->streams[i].near);
        fd_close(&mux->streams[i].far);
        fd_close(&mux->streams[i].door);
        g_byte_array_unref(mux->streams[i].queue);
    }
    json_t *message;
    while ((message = g_queue_pop_head(&mux->messages)) != NULL) {
        json_decref(message);
    }
    ws_free(mux->ws);
    g_object_unref(mux->end);
    g_free(mux);
}
