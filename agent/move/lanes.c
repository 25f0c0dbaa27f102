/* Lanes: TCP connections that are ours.
 * L1  Whoever connects has LANES_WAIT_MS to show the token of this move; who does not is dropped, and
 *     takes nobody's place. The pages' own hello, and their seal, come after.
 * L2  The listener is there for one move, and closed once its lanes are.
 * Called by liveout.c and livein.c. */
#include "agent/move/lanes.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/fiber.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { LANES_WAIT_MS = 3000, PENDING_MAX = 64 };

/* hawser-pages waits in its ring, not in poll(2). */
static void
make_blocking(const int *fds, guint n)
{
    for (guint i = 0; i < n; i++) {
        fcntl(fds[i], F_SETFL, fcntl(fds[i], F_GETFL) & ~O_NONBLOCK);
    }
}

static socklen_t
parse(const char *host, guint16 port, struct sockaddr_storage *ret)
{
    struct sockaddr_in *four = (struct sockaddr_in *) ret;
    struct sockaddr_in6 *six = (struct sockaddr_in6 *) ret;
    memset(ret, 0, sizeof *ret);
    if (inet_pton(AF_INET, host, &four->sin_addr) == 1) {
        four->sin_family = AF_INET;
        four->sin_port = htons(port);
        return sizeof *four;
    }
    if (inet_pton(AF_INET6, host, &six->sin6_addr) == 1) {
        six->sin6_family = AF_INET6;
        six->sin6_port = htons(port);
        return sizeof *six;
    }
    return 0;
}

int
lanes_listen(const char *address, guint16 *ret_port, GError **error)
{
    struct sockaddr_storage at;
    socklen_t size = parse(address != NULL ? address : "::", 0, &at);
    int none = 0;
    haw_autofd int fd =
        size > 0 ? socket(at.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0) : -1;
    if (fd < 0 && address == NULL) { /* a host without IPv6 */
        size = parse("0.0.0.0", 0, &at);
        fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    }
    if (fd >= 0 && at.ss_family == AF_INET6) {
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &none, sizeof none);
    }
    socklen_t got = sizeof at;
    if (fd < 0 || bind(fd, (struct sockaddr *) &at, size) != 0 || listen(fd, LANES_MAX) != 0 ||
        getsockname(fd, (struct sockaddr *) &at, &got) != 0) {
        haw_fail_errno(error, errno, "Listen for a virtual machine's memory");
        return -1;
    }
    *ret_port = ntohs(at.ss_family == AF_INET6 ? ((struct sockaddr_in6 *) &at)->sin6_port
                                               : ((struct sockaddr_in *) &at)->sin_port);
    return fd_steal(&fd);
}

static void
close_all(int *fds, guint n)
{
    for (guint i = 0; i < n; i++) {
        fd_close(&fds[i]);
    }
}

/* L1: those that have connected, and what they showed so far. */
typedef struct {
    const guint8 *token;
    GCancellable *cancel;
    FiberSignal *happened;
    int *fds;
    guint n, have, greeting;
} Door;

typedef struct {
    Door *door;
    int fd;
} Guest;

static bool
shows_token(Guest *guest)
{
    guint8 shown[LANES_TOKEN], differs = 0;
    size_t have = 0;
    gint64 until = clock_mono_us() + LANES_WAIT_MS * 1000;
    while (have < sizeof shown) {
        gint64 left_ms = (until - clock_mono_us()) / 1000;
        if (left_ms <= 0 ||
            !fiber_wait_fd(guest->fd, G_IO_IN, left_ms, guest->door->cancel, NULL)) {
            return false;
        }
        ssize_t n = recv(guest->fd, shown + have, sizeof shown - have, MSG_DONTWAIT);
        if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
            return false;
        }
        have += (size_t) MAX(n, 0);
    }
    for (size_t i = 0; i < sizeof shown; i++) {
        differs |= (guint8) (shown[i] ^ guest->door->token[i]);
    }
    return differs == 0;
}

static void
greet(void *data)
{
    Guest *guest = data;
    Door *door = guest->door;
    if (shows_token(guest) && door->have < door->n) {
        door->fds[door->have++] = fd_steal(&guest->fd);
    }
    fd_close(&guest->fd);
    door->greeting--;
    fiber_signal_all(door->happened);
    g_free(guest);
}

static void
let_in(Door *door, int listener)
{
    int fd, on = 1;
    while (door->greeting < PENDING_MAX &&
           (fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK)) >= 0) {
        Guest *guest = g_new0(Guest, 1);
        *guest = (Guest){.door = door, .fd = fd};
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        door->greeting++;
        fiber_start("lane", greet, guest);
    }
}

bool
lanes_accept(int listener, const guint8 token[LANES_TOKEN], guint n, gint64 wait_ms, int *ret_fds,
             GCancellable *cancel, GError **error)
{
    FiberSignal happened = FIBER_SIGNAL_INIT;
    Door door = {.token = token, .cancel = cancel, .happened = &happened, .fds = ret_fds, .n = n};
    gint64 until = clock_mono_us() + wait_ms * 1000;
    bool ok = true;
    while (ok && door.have < n) {
        gint64 left_ms = (until - clock_mono_us()) / 1000;
        let_in(&door, listener);
        if (left_ms <= 0) {
            ok = haw_fail(error, HAW_TIMEOUT, "The source does not connect");
        } else if (door.greeting > 0) {
            fiber_signal_wait(&happened, 20, cancel, NULL);
            ok = !g_cancellable_set_error_if_cancelled(cancel, error);
        } else {
            GError *why = NULL;
            ok = fiber_wait_fd(listener, G_IO_IN, left_ms, cancel, &why);
            if (!ok) {
                g_propagate_error(error, why);
            }
        }
    }
    while (door.greeting > 0) {
        fiber_signal_wait(&happened, -1, NULL, NULL);
    }
    if (!ok) {
        close_all(ret_fds, door.have);
        return false;
    }
    make_blocking(ret_fds, n);
    return true;
}

static int
connect_one(const char *host, guint16 port, gint64 wait_ms, GCancellable *cancel)
{
    struct sockaddr_storage to;
    socklen_t size = parse(host, port, &to);
    int problem = 0, on = 1;
    socklen_t length = sizeof problem;
    haw_autofd int fd =
        size > 0 ? socket(to.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0) : -1;
    if (fd < 0 || (connect(fd, (struct sockaddr *) &to, size) != 0 && errno != EINPROGRESS) ||
        !fiber_wait_fd(fd, G_IO_OUT, wait_ms, cancel, NULL) ||
        getsockopt(fd, SOL_SOCKET, SO_ERROR, &problem, &length) != 0 || problem != 0) {
        return -1;
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return fd_steal(&fd);
}

bool
lanes_connect(const char *const *hosts, guint16 port, const guint8 token[LANES_TOKEN], guint n,
              gint64 wait_ms, int *ret_fds, GCancellable *cancel, GError **error)
{
    for (const char *const *host = hosts; *host != NULL; host++) {
        guint have = 0;
        while (have < n) {
            int fd = connect_one(*host, port, wait_ms, cancel);
            if (fd < 0 || !fiber_write(fd, token, LANES_TOKEN, cancel, NULL)) {
                fd_close(&fd);
                break;
            }
            ret_fds[have++] = fd;
        }
        if (have == n) {
            make_blocking(ret_fds, n);
            return true;
        }
        close_all(ret_fds, have);
    }
    return haw_fail(error, HAW_UNAVAILABLE, "The other server can't be reached on port %u", port);
}
