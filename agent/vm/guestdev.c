/* Connections of a guest to its /dev/lxd/sock (guest/devsock.c has the other end).
 * V1  One session waits for the next connection; once it has one, it is served in a fiber of its own, and the
 *     next session waits. No more than GUESTDEV_MOST at a time: others wait in the guest.
 * V2  devlxd.c speaks to descriptors: it gets one end of a socket pair, and two fibers carry bytes between the
 *     other end and the session.
 * V3  The user id is the guest's word. The guest is one trust domain: who is root in it may be anybody in it.
 * Called by guestvm.c. */
#include "agent/vm/guestdev.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/inst/devlxd.h"
#include "agent/inst/record.h"
#include "base/fd.h"
#include "base/fiber.h"
#include "base/log.h"

enum { GUESTDEV_MOST = 32, GUESTDEV_BYTES = 16384, SEND_MS = 30000 };

typedef struct {
    int refs, active;
    FiberSignal freed;
} Door;

typedef struct {
    Door *door; /* shares */
    GuestCall *call;
    int fd; /* our end of the pair */
    GCancellable *over;
    bool reading; /* the fiber that reads the session is there */
    FiberSignal changed;
} Visit;

static void
door_unref(Door *door)
{
    if (--door->refs == 0) {
        g_free(door);
    }
}

/* From the guest to devlxd. */
static void
inwards(void *data)
{
    Visit *visit = data;
    g_autofree guint8 *bytes = g_malloc(GUESTDEV_BYTES);
    gssize n;

    while ((n = guestcall_read(visit->call, 1, bytes, GUESTDEV_BYTES, -1, visit->over, NULL)) > 0 &&
           fiber_write(visit->fd, bytes, (size_t) n, visit->over, NULL)) {
    }
    shutdown(visit->fd, SHUT_WR);
    visit->reading = false;
    fiber_signal_all(&visit->changed);
}

/* From devlxd to the guest, until devlxd has closed its end. */
static void
outwards(Visit *visit)
{
    g_autofree guint8 *bytes = g_malloc(GUESTDEV_BYTES);

    for (;;) {
        ssize_t n = recv(visit->fd, bytes, GUESTDEV_BYTES, MSG_DONTWAIT);
        if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
            if (!fiber_wait_fd(visit->fd, G_IO_IN, -1, NULL, NULL)) {
                return;
            }
        } else if (n <= 0 ||
                   !guestcall_write(visit->call, bytes, (size_t) n, SEND_MS, NULL, NULL)) {
            return;
        }
    }
}

static void
carry_body(void *data)
{
    Visit *visit = data;
    int code;

    outwards(visit);
    shutdown(visit->fd, SHUT_RDWR); /* devlxd notices when the guest has gone first */
    g_cancellable_cancel(visit->over);
    while (visit->reading) {
        fiber_signal_wait(&visit->changed, -1, NULL, NULL);
    }
    guestcall_end(visit->call, 0);
    guestcall_wait(visit->call, SEND_MS, NULL, &code, NULL); /* it has passed the answer on */
    guestcall_free(visit->call);
    fd_close(&visit->fd);
    visit->door->active--;
    fiber_signal_all(&visit->door->freed);
    door_unref(visit->door);
    g_object_unref(visit->over);
    g_free(visit);
}

typedef struct {
    Inst *inst; /* shares */
    int fd;
    uid_t uid;
} Answering;

static void
answer_body(void *data)
{
    Answering *answering = data;

    devlxd_serve(answering->inst->agent, answering->inst, &answering->fd, answering->uid);
    inst_unref(answering->inst);
    g_free(answering);
}

/* V1: takes the call. */
static void
receive(Door *door, Inst *inst, GuestCall *call, uid_t uid)
{
    int pair[2];

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0) {
        guestcall_free(call);
        return;
    }
    Visit *visit = g_new0(Visit, 1);
    *visit = (Visit){.door = door, .call = call, .fd = pair[0], .reading = true};
    visit->over = g_cancellable_new();
    door->refs++;
    door->active++;
    Answering *answering = g_new0(Answering, 1);
    *answering = (Answering){.inst = inst_ref(inst), .fd = pair[1], .uid = uid};
    fiber_start("guest devlxd in", inwards, visit);
    fiber_start("guest devlxd out", carry_body, visit);
    fiber_start("guest devlxd", answer_body, answering);
}

/* A session with a connection in it; NULL when the guest is gone, or has no such socket. */
static GuestCall *
await_one(GuestLink *link, uid_t *ret_uid)
{
    struct guestwire_ask ask;
    guint8 uid[4];
    size_t have = 0;

    guestwire_ask_begin(&ask, GUESTWIRE_DEVLXD);
    g_autoptr(GuestCall) call = guestcall_open(link, &ask, NULL);
    guestwire_ask_done(&ask);
    while (call != NULL && have < sizeof(uid)) {
        gssize n = guestcall_read(call, 1, uid + have, sizeof(uid) - have, -1, NULL, NULL);
        if (n <= 0) {
            return NULL;
        }
        have += (size_t) n;
    }
    *ret_uid = call != NULL ? guestwire_u32(uid) : 0;
    return g_steal_pointer(&call);
}

void
guestdev_serve(Inst *inst, GuestLink *link)
{
    Door *door = g_new0(Door, 1);
    uid_t uid = 0;

    door->refs = 1;
    for (;;) {
        GuestCall *call = await_one(link, &uid);
        if (call == NULL) {
            break;
        }
        receive(door, inst, call, uid);
        while (door->active >= GUESTDEV_MOST) {
            fiber_signal_wait(&door->freed, -1, NULL, NULL);
        }
    }
    door_unref(door);
}
