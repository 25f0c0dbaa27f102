/* Devices' state, on its way to the target's QEMU.
 * S1  It is kept back until the memory is whole: loading a device reads its rings.
 * S2  Memory that is not shared (a display's, ROMs), some MB, goes before it in the same stream, while the guest runs, and
 *     is loaded meanwhile: what comes before the source's mark is let through. A source that makes none says so, and all is kept back.
 * S3  No more than HELD_MAX is kept; then the source waits.
 * Called by livein.c. */
#include "agent/move/livestate.h"

#include "base/fd.h"
#include "base/fiber.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>

enum { HELD_MAX = 64 << 20, CHUNK = 256 * 1024 };

struct LiveState {
    MoveMux *mux; /* borrowed */
    int from, to;
    bool marks, released, ended;
    GByteArray *held;
    guint64 passed;
    FiberSignal happened;
    GCancellable *stop;
    guint fibers;
};

/* How much of what is held may go. */
static gsize
allowed(LiveState *state)
{
    guint64 mark = 0;
    if (state->released) {
        return state->held->len;
    }
    if (!movemux_marked(state->mux, MOVEMUX_DEVICES, &mark)) {
        return state->marks ? state->held->len : 0;
    }
    return mark > state->passed ? (gsize) MIN(mark - state->passed, state->held->len) : 0;
}

static void
fiber_ends(LiveState *state)
{
    state->fibers--;
    fiber_signal_all(&state->happened);
}

static void
take(void *data)
{
    LiveState *state = data;
    g_autofree guint8 *chunk = g_malloc(CHUNK);
    while (!g_cancellable_is_cancelled(state->stop)) {
        if (state->held->len >= HELD_MAX) { /* S3 */
            fiber_signal_wait(&state->happened, -1, state->stop, NULL);
            continue;
        }
        ssize_t n = recv(state->from, chunk, CHUNK, MSG_DONTWAIT);
        if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
            fiber_wait_fd(state->from, G_IO_IN, -1, state->stop, NULL);
            continue;
        }
        if (n <= 0) {
            break;
        }
        g_byte_array_append(state->held, chunk, (guint) n);
        fiber_signal_all(&state->happened);
    }
    state->ended = true;
    fiber_ends(state);
}

static void
pass(void *data)
{
    LiveState *state = data;
    bool ok = true;
    while (ok && !(state->ended && state->held->len == 0)) {
        g_autofree guint8 *now = NULL;
        gsize bytes = allowed(state);
        if (bytes == 0) {
            ok = fiber_signal_wait(&state->happened, -1, state->stop, NULL);
            continue;
        }
        now = g_memdup2(state->held->data, bytes);
        g_byte_array_remove_range(state->held, 0, (guint) bytes);
        state->passed += bytes;
        ok = fiber_write(state->to, now, bytes, state->stop, NULL);
        fiber_signal_all(&state->happened);
    }
    fd_close(&state->to); /* QEMU sees the end */
    fiber_ends(state);
}

LiveState *
livestate_new(MoveMux *mux, bool marks, int *ret_fd, GError **error)
{
    int pair[2];
    haw_autofd int from = movemux_open(mux, MOVEMUX_DEVICES, error);
    if (from < 0) {
        return NULL;
    }
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) {
        haw_fail_errno(error, errno, "make a socket pair");
        return NULL;
    }
    LiveState *state = g_new0(LiveState, 1);
    *state = (LiveState){.mux = mux,
                         .from = fd_steal(&from),
                         .to = pair[1],
                         .marks = marks,
                         .held = g_byte_array_new(),
                         .happened = (FiberSignal) FIBER_SIGNAL_INIT,
                         .stop = g_cancellable_new(),
                         .fibers = 2};
    fcntl(state->to, F_SETFL, fcntl(state->to, F_GETFL) | O_NONBLOCK);
    *ret_fd = pair[0];
    fiber_start("live-take", take, state);
    fiber_start("live-pass", pass, state);
    return state;
}

void
livestate_release(LiveState *state)
{
    state->released = true;
    fiber_signal_all(&state->happened);
}

void
livestate_free(LiveState *state)
{
    if (state == NULL) {
        return;
    }
    g_cancellable_cancel(state->stop);
    while (state->fibers > 0) {
        fiber_signal_wait(&state->happened, -1, NULL, NULL);
    }
    fd_close(&state->from);
    fd_close(&state->to);
    g_byte_array_unref(state->held);
    g_object_unref(state->stop);
    g_free(state);
}
