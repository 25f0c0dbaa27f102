/* The guest's loop. Nothing in it waits but poll().
 * M1  Memory is bounded: a frame in, MUX_OUT bytes out, a window of input for each session.
 * M2  Output of children is read only when the agent gave credit and the port has room, so a slow
 *     agent slows the child, and no other session.
 * M3  What has to be told besides (credit, ends, exits) is remembered in the session and told when
 *     there is room: nothing is lost to a full port.
 * M4  A greeting with a new epoch ends every session of the one before: their agent is gone.
 * Called by main.c. */
#include "guest/mux.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "guest/errand.h"

#define MUX_OUT    (512 * 1024)
#define MUX_ROOM   (2 * GUESTWIRE_FRAME_MAX) /* kept for what is not data */
#define MUX_READ   (64 * 1024)
#define MUX_FDS    (1 + 3 * GUESTWIRE_SESSION_MAX)
#define MUX_HUP_MS 200
#define MUX_DRY_MS 100

struct mux {
    int port;
    bool ends; /* a socket: what has hung up does not come back */
    struct guestwire_reader reader;
    uint32_t epoch;
    bool greet; /* an answer to a greeting is due */
    uint16_t version;
    uint8_t pong[64];
    size_t pong_size;
    bool pong_due;
    uint8_t out[MUX_OUT];
    size_t out_at, out_end;
    struct errand *jobs[GUESTWIRE_SESSION_MAX];
    struct pollfd fds[MUX_FDS];
};

static volatile sig_atomic_t child_ended;

static void
on_child(int number)
{
    child_ended = 1;
}

/* ---- output ---- */

static size_t
room(const struct mux *mux)
{
    return MUX_OUT - (mux->out_end - mux->out_at);
}

/* A frame's worth at the end of the buffer. */
static bool
make_room(struct mux *mux)
{
    if (MUX_OUT - mux->out_end < GUESTWIRE_FRAME_MAX && mux->out_at > 0) {
        memmove(mux->out, mux->out + mux->out_at, mux->out_end - mux->out_at);
        mux->out_end -= mux->out_at;
        mux->out_at = 0;
    }
    return MUX_OUT - mux->out_end >= GUESTWIRE_FRAME_MAX;
}

static bool
put(struct mux *mux, uint8_t type, uint8_t stream, uint32_t session, const void *payload,
    size_t size)
{
    struct guestwire_head head = {.type = type,
                                  .stream = stream,
                                  .epoch = mux->epoch,
                                  .session = session,
                                  .size = (uint32_t) size};

    if (!make_room(mux)) {
        return false;
    }
    mux->out_end += guestwire_encode(&head, payload, mux->out + mux->out_end);
    return true;
}

static bool
put_number(struct mux *mux, uint8_t type, uint8_t stream, uint32_t session, uint32_t number)
{
    uint8_t bytes[4];

    guestwire_put_u32(bytes, number);
    return put(mux, type, stream, session, bytes, sizeof(bytes));
}

static void
put_hello(struct mux *mux)
{
    uint8_t payload[64];

    guestwire_put_u16(payload, mux->version);
    memcpy(payload + 2, HAWSER_VERSION, sizeof(HAWSER_VERSION) - 1);
    mux->greet = !put(mux, GUESTWIRE_HELLO, 0, 0, payload, 2 + sizeof(HAWSER_VERSION) - 1);
}

static void
tell_failed(struct mux *mux, struct errand *errand)
{
    const char *text = strerror(errand->failed);
    uint8_t payload[256];
    size_t size = strnlen(text, sizeof(payload) - 4);

    guestwire_put_u32(payload, (uint32_t) errand->failed);
    memcpy(payload + 4, text, size);
    errand->exit_sent = put(mux, GUESTWIRE_FAILED, 0, errand->id, payload, 4 + size);
}

/* M3: what is due of a session. */
static void
tell(struct mux *mux, struct errand *errand)
{
    if (errand->failed != 0 && !errand->exit_sent) {
        tell_failed(mux, errand);
    }
    if (errand->in_used >= GUESTWIRE_WINDOW / 2 &&
        put_number(mux, GUESTWIRE_CREDIT, 0, errand->id, errand->in_used)) {
        errand->in_used = 0;
    }
    for (uint8_t i = 1; i < GUESTWIRE_STREAMS; i++) {
        if (errand->started && errand->failed == 0 && errand->out[i] < 0 && !errand->end_sent[i]) {
            errand->end_sent[i] = put(mux, GUESTWIRE_END, i, errand->id, NULL, 0);
        }
    }
    if (errand->exited && !errand->exit_sent) {
        errand->exit_sent = put_number(mux, GUESTWIRE_EXIT, 0, errand->id, errand->status);
    }
}

/* A pty that somebody in the background keeps open, after the child's end. The kernel passes on what
 * was written a moment later, so a moment is waited. */
static bool
dried(struct errand *errand)
{
    struct timespec now;
    int64_t now_ms;

    if (!errand->pty || !errand->exited) {
        return false;
    }
    clock_gettime(CLOCK_MONOTONIC, &now);
    now_ms = now.tv_sec * 1000 + now.tv_nsec / 1000000;
    errand->dry_ms = errand->dry_ms > 0 ? errand->dry_ms : now_ms;
    return now_ms - errand->dry_ms >= MUX_DRY_MS;
}

/* One read of a child's stream, while there is credit and room (M2). */
static void
drain(struct mux *mux, struct errand *errand, uint8_t stream)
{
    uint8_t bytes[GUESTWIRE_PAYLOAD_MAX];
    uint32_t credit = errand->credit[stream];
    ssize_t n;

    if (credit == 0 || room(mux) < GUESTWIRE_FRAME_MAX + MUX_ROOM) {
        return;
    }
    n = read(errand->out[stream], bytes, credit < sizeof(bytes) ? credit : sizeof(bytes));
    if (n > 0) {
        errand->credit[stream] -= (uint32_t) n;
        put(mux, GUESTWIRE_DATA, stream, errand->id, bytes, (size_t) n);
        errand->dry_ms = 0;
    } else if (n == 0 || (errno != EAGAIN && errno != EINTR) || dried(errand)) {
        close(errand->out[stream]); /* a pty says EIO once its last slave is closed */
        errand->out[stream] = -1;
    }
}

/* ---- frames ---- */

static struct errand **
find(struct mux *mux, uint32_t id)
{
    for (int i = 0; i < GUESTWIRE_SESSION_MAX; i++) {
        if (mux->jobs[i] != NULL && mux->jobs[i]->id == id) {
            return &mux->jobs[i];
        }
    }
    return NULL;
}

static void
forget(struct errand **slot)
{
    errand_free(*slot);
    *slot = NULL;
}

static void
forget_all(struct mux *mux)
{
    for (int i = 0; i < GUESTWIRE_SESSION_MAX; i++) {
        forget(&mux->jobs[i]);
    }
}

static void
greet(struct mux *mux, const struct guestwire_head *head, const uint8_t *payload)
{
    if (head->size < 4 || head->epoch == 0) {
        return;
    }
    uint16_t low = guestwire_u16(payload), high = guestwire_u16(payload + 2);
    if (head->epoch != mux->epoch) {
        forget_all(mux); /* M4 */
        mux->out_at = mux->out_end = 0;
        mux->epoch = head->epoch;
    }
    mux->version = high < GUESTWIRE_VERSION_MAX ? high : GUESTWIRE_VERSION_MAX;
    if (mux->version < low || mux->version < GUESTWIRE_VERSION_MIN) {
        mux->version = 0; /* nothing in common */
    }
    put_hello(mux);
}

static void
open_session(struct mux *mux, const struct guestwire_head *head, const uint8_t *payload)
{
    struct errand **slot = find(mux, head->session);

    for (int i = 0; slot == NULL && i < GUESTWIRE_SESSION_MAX; i++) {
        slot = mux->jobs[i] == NULL ? &mux->jobs[i] : NULL;
    }
    if (slot != NULL && *slot == NULL) {
        *slot = errand_new(head->session);
    }
    if (slot == NULL || *slot == NULL) {
        struct errand none = {.id = head->session, .failed = EAGAIN};
        tell_failed(mux, &none);
        return;
    }
    if (!errand_ask(*slot, payload, head->size)) {
        (*slot)->started = true;
        (*slot)->failed = E2BIG;
    } else if (head->stream == 0) {
        errand_start(*slot);
    }
}

static void
obey(struct mux *mux, struct errand **slot, const struct guestwire_head *head,
     const uint8_t *payload)
{
    struct errand *errand = *slot;

    switch (head->type) {
    case GUESTWIRE_DATA:
        if (!errand_feed(errand, payload, head->size)) {
            forget(slot);
        }
        return;
    case GUESTWIRE_END:
        errand_end(errand, head->stream);
        return;
    case GUESTWIRE_CREDIT:
        if (head->stream > 0 && head->size == 4) {
            uint32_t more = guestwire_u32(payload), has = errand->credit[head->stream];
            errand->credit[head->stream] =
                more < GUESTWIRE_WINDOW - has ? has + more : GUESTWIRE_WINDOW;
        }
        return;
    case GUESTWIRE_SIGNAL:
        errand_signal(errand, head->size == 4 ? (int) guestwire_u32(payload) : 0);
        return;
    case GUESTWIRE_RESIZE:
        if (head->size == 4) {
            errand_resize(errand, guestwire_u16(payload), guestwire_u16(payload + 2));
        }
        return;
    case GUESTWIRE_CLOSE:
        forget(slot);
        return;
    default:
        return;
    }
}

static void
handle(struct mux *mux, const struct guestwire_head *head, const uint8_t *payload)
{
    struct errand **slot;

    if (head->type == GUESTWIRE_HELLO) {
        greet(mux, head, payload);
        return;
    }
    if (head->epoch != mux->epoch || mux->epoch == 0 || mux->version == 0) {
        return;
    }
    if (head->type == GUESTWIRE_PING && head->size <= sizeof(mux->pong)) {
        memcpy(mux->pong, payload, head->size);
        mux->pong_size = head->size;
        mux->pong_due = true;
        return;
    }
    slot = find(mux, head->session);
    if (head->type == GUESTWIRE_OPEN) {
        open_session(mux, head, payload);
    } else if (slot != NULL) {
        obey(mux, slot, head, payload);
    }
}

/* ---- the loop ---- */

/* False once the port has ended. *ret_hup: nobody is at its other end. */
static bool
read_port(struct mux *mux, bool *ret_hup)
{
    static uint8_t bytes[MUX_READ];
    struct guestwire_head head;
    const uint8_t *payload;
    ssize_t n = read(mux->port, bytes, sizeof(bytes));
    bool frame;

    if (n < 0) {
        return errno == EAGAIN || errno == EINTR;
    }
    *ret_hup = n == 0;
    for (size_t at = 0; at < (size_t) n;) {
        at += guestwire_take(&mux->reader, bytes + at, (size_t) n - at, &frame, &head, &payload);
        if (frame) {
            handle(mux, &head, payload);
        }
    }
    return true;
}

static bool
write_port(struct mux *mux)
{
    while (mux->out_at < mux->out_end) {
        ssize_t n = write(mux->port, mux->out + mux->out_at, mux->out_end - mux->out_at);
        if (n < 0) {
            return errno == EAGAIN || errno == EINTR;
        }
        mux->out_at += (size_t) n;
    }
    return true;
}

static nfds_t
gather(struct mux *mux, bool hup)
{
    nfds_t count = 1;
    bool output = room(mux) >= GUESTWIRE_FRAME_MAX + MUX_ROOM;

    mux->fds[0] = (struct pollfd){.fd = hup ? -1 : mux->port, .events = POLLIN};
    if (mux->out_at < mux->out_end) {
        mux->fds[0].events |= POLLOUT;
    }
    for (int i = 0; i < GUESTWIRE_SESSION_MAX; i++) {
        struct errand *errand = mux->jobs[i];
        if (errand != NULL && errand->in >= 0 && errand->in_size > 0) {
            mux->fds[count++] = (struct pollfd){.fd = errand->in, .events = POLLOUT};
        }
        for (int stream = 1; errand != NULL && stream < GUESTWIRE_STREAMS; stream++) {
            if (errand->out[stream] >= 0 && errand->credit[stream] > 0 && output) {
                mux->fds[count++] = (struct pollfd){.fd = errand->out[stream], .events = POLLIN};
            }
        }
    }
    return count;
}

/* Sessions that were closed leave children behind: those are reaped here, too. */
static void
reap(struct mux *mux)
{
    int status;
    pid_t pid;

    child_ended = 0;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        for (int i = 0; i < GUESTWIRE_SESSION_MAX; i++) {
            if (mux->jobs[i] != NULL && mux->jobs[i]->pid == pid) {
                errand_ended(mux->jobs[i], status);
            }
        }
    }
}

static void
serve_jobs(struct mux *mux)
{
    if (child_ended) {
        reap(mux);
    }
    for (int i = 0; i < GUESTWIRE_SESSION_MAX; i++) {
        struct errand *errand = mux->jobs[i];
        if (errand == NULL) {
            continue;
        }
        errand_pour(errand);
        for (uint8_t stream = 1; stream < GUESTWIRE_STREAMS; stream++) {
            if (errand->out[stream] >= 0) {
                drain(mux, errand, stream);
            }
        }
        tell(mux, errand);
        if (errand_over(errand)) {
            forget(&mux->jobs[i]);
        }
    }
    if (mux->greet) {
        put_hello(mux);
    }
    if (mux->pong_due) {
        mux->pong_due = !put(mux, GUESTWIRE_PONG, 0, 0, mux->pong, mux->pong_size);
    }
}

/* True while a pty may still say something after its child's end. */
static bool
lingers(const struct mux *mux)
{
    for (int i = 0; i < GUESTWIRE_SESSION_MAX; i++) {
        const struct errand *errand = mux->jobs[i];
        if (errand != NULL && errand->pty && errand->exited && errand->out[1] >= 0) {
            return true;
        }
    }
    return false;
}

static void
loop(struct mux *mux, const sigset_t *unblocked)
{
    struct timespec wait = {.tv_nsec = MUX_HUP_MS * 1000000}, soon = {.tv_nsec = 20 * 1000000};
    bool hup = false, alive = true;

    put(mux, GUESTWIRE_HELLO, 0, 0, NULL, 0); /* with epoch 0: greet me */
    while (alive && !(hup && mux->ends)) {
        nfds_t count = gather(mux, hup);
        if (ppoll(mux->fds, count, lingers(mux) ? &soon : hup ? &wait : NULL, unblocked) < 0) {
            mux->fds[0].revents = 0; /* a child has ended */
        }
        if (hup || (mux->fds[0].revents & (POLLIN | POLLHUP)) != 0) {
            alive = read_port(mux, &hup);
        }
        serve_jobs(mux);
        alive = alive && (hup || write_port(mux));
    }
}

void
mux_run(int port)
{
    struct sigaction act = {.sa_handler = on_child, .sa_flags = SA_NOCLDSTOP};
    struct mux *mux = calloc(1, sizeof(*mux));
    sigset_t blocked, before;
    struct stat st;

    if (mux == NULL) {
        return;
    }
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGCHLD);
    sigprocmask(SIG_BLOCK, &blocked, &before);
    sigaction(SIGCHLD, &act, NULL);
    signal(SIGPIPE, SIG_IGN);
    mux->port = port;
    mux->ends = fstat(port, &st) == 0 && S_ISSOCK(st.st_mode);
    loop(mux, &before);
    forget_all(mux);
    free(mux);
}
