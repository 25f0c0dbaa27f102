/* Agreeing on RDMA, and the process that carries its lanes.
 *     source                         sink
 *     ask {token}                 →  listens at the address that the connection came to
 *                                 ←  door {port, slot}           port 0: no
 *     connects a lane a connection
 *     1 byte: it stands           →
 *                                 ←  1 byte: it stands here, too
 * on each connection. Two ones, and the stream goes by RDMA; else it begins on the connections as they are.
 * O1  Lanes are carried by a process of their own: the kernel takes orders for a device only from the user that
 *     opened it, and the stream's own process has left the network by then. It is nobody, holds no capability,
 *     neither the memory nor the agent's socket, and dies with us.
 * O2  What it carries is the stream as it is, sealed or plain: it has no key.
 * Called by job.c. */
#include "dataplane/pages/rdmaoffer.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "dataplane/pages/privilege.h"
#include "dataplane/pages/rdmalane.h"

enum {
    LANES_MAX = 64,
    STEP_MS = 10000,
    SETTLE_MS = 20000,
    END_MS = 5000,
    PEEK_MS = 10,
    VERSION = 1
};

struct ask {
    guint8 magic[4];
    guint8 version, zero[3];
    guint8 token[RDMALANE_TOKEN_BYTES];
};
struct door {
    guint8 port[2]; /* big endian */
    guint8 slot;
};

struct deal {
    const RdmaOffer *offer;
    bool source;
    struct sockaddr_storage address; /* the sink's */
    guint8 slots[LANES_MAX];
    int theirs[LANES_MAX]; /* the lanes' ends of the local pairs */
    int ours[LANES_MAX];
    int said; /* what the process says: the port, of a sink; then that it stands */
    pid_t pid;
};

static const guint8 magic[4] = {'H', 'W', 'R', 'D'};

/* ---- bytes on the connections ---- */

static bool
readable(int fd, int cancel_fd, gint64 wait_ms)
{
    struct pollfd looks[] = {{fd, POLLIN, 0}, {cancel_fd, POLLIN, 0}};
    int n;
    do {
        n = poll(looks, G_N_ELEMENTS(looks), (int) wait_ms);
    } while (n < 0 && errno == EINTR);
    return n > 0 && looks[1].revents == 0;
}

/* In all no longer than wait_ms, however slowly they come. */
static bool
take(int fd, int cancel_fd, gint64 wait_ms, void *bytes, size_t size)
{
    gint64 until_us = g_get_monotonic_time() + wait_ms * 1000;
    size_t have = 0;
    while (have < size) {
        gint64 left_ms = (until_us - g_get_monotonic_time()) / 1000;
        ssize_t got = left_ms > 0 && readable(fd, cancel_fd, left_ms)
                          ? read(fd, (guint8 *) bytes + have, size - have)
                          : 0;
        if (got <= 0) {
            return false;
        }
        have += (size_t) got;
    }
    return true;
}

/* Few bytes, on a connection that nothing was sent on yet. */
static bool
give(int fd, const void *bytes, size_t size)
{
    return send(fd, bytes, size, MSG_NOSIGNAL) == (ssize_t) size;
}

static bool
all_of_internet(const RdmaOffer *offer)
{
    struct sockaddr_storage address;
    for (guint i = 0; i < offer->n; i++) {
        socklen_t size = sizeof address;
        if (getsockname(offer->sockets[i], (struct sockaddr *) &address, &size) != 0 ||
            (address.ss_family != AF_INET && address.ss_family != AF_INET6)) {
            return false;
        }
    }
    return offer->n > 0 && offer->n <= LANES_MAX;
}

/* Of a socket that speaks both, an IPv4 address comes dressed as IPv6's: devices know it plain. */
static void
undress(struct sockaddr_storage *address)
{
    struct sockaddr_in6 dressed;
    memcpy(&dressed, address, sizeof dressed);
    if (address->ss_family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(&dressed.sin6_addr)) {
        struct sockaddr_in plain = {.sin_family = AF_INET, .sin_port = dressed.sin6_port};
        memcpy(&plain.sin_addr, dressed.sin6_addr.s6_addr + 12, sizeof plain.sin_addr);
        memset(address, 0, sizeof *address);
        memcpy(address, &plain, sizeof plain);
    }
}

static void
set_port(struct sockaddr_storage *address, guint16 port)
{
    if (address->ss_family == AF_INET) {
        ((struct sockaddr_in *) address)->sin_port = htons(port);
    } else {
        ((struct sockaddr_in6 *) address)->sin6_port = htons(port);
    }
}

/* ---- the process of the lanes ---- */

static bool
make_lanes(const struct deal *deal, int said, RdmaLane **lanes, GError **error)
{
    const RdmaOffer *offer = deal->offer;
    const struct sockaddr *address = (const struct sockaddr *) &deal->address;
    guint16 port = 0;
    if (deal->source) {
        for (guint i = 0; i < offer->n; i++) {
            lanes[i] = rdmalane_connect(address, offer->token, deal->slots[i], error);
            if (lanes[i] == NULL) {
                return false;
            }
        }
        return true;
    }
    g_autoptr(RdmaDoor) door = rdmalane_listen(address, offer->n, &port, error);
    if (door == NULL || write(said, &port, sizeof port) != sizeof port) {
        return false;
    }
    for (guint i = 0; i < offer->n; i++) {
        guint8 slot;
        g_autoptr(RdmaLane) lane = rdmalane_accept(door, offer->token, &slot, error);
        if (lane == NULL) {
            return false;
        }
        if (slot >= offer->n || lanes[slot] != NULL) {
            return haw_fail(error, HAW_INVALID, "RDMA: lane %u came twice, or is none", slot);
        }
        lanes[slot] = g_steal_pointer(&lane);
    }
    return true;
}

struct carried {
    RdmaLane *lane;
    int local, leash;
};

static gpointer
carry(gpointer data)
{
    struct carried *carried = data;
    rdmalane_pump(carried->lane, carried->local, carried->leash);
    rdmalane_free(carried->lane);
    return NULL;
}

/* O1 */
static void
be_the_process(const struct deal *deal, int said)
{
    const RdmaOffer *offer = deal->offer;
    RdmaLane *lanes[LANES_MAX] = {NULL};
    struct carried carried[LANES_MAX];
    GThread *threads[LANES_MAX];
    g_autoptr(GError) error = NULL;
    bool ok = privilege_drop(PRIVILEGE_NETWORK, &error) && prctl(PR_SET_PDEATHSIG, SIGKILL) == 0 &&
              make_lanes(deal, said, lanes, &error) && write(said, "\1", 1) == 1;
    if (!ok) {
        haw_info("pages.no-rdma",
                 KS("why", error != NULL ? error->message : "the stream's process went away"));
        return;
    }
    close(said);
    for (guint i = 0; i < offer->n; i++) {
        carried[i] = (struct carried){lanes[i], deal->theirs[i], offer->sockets[i]};
        threads[i] = g_thread_new("lane", carry, &carried[i]);
    }
    for (guint i = 0; i < offer->n; i++) {
        g_thread_join(threads[i]);
    }
}

static void
close_deal(struct deal *deal)
{
    for (guint i = 0; i < deal->offer->n; i++) {
        fd_close(&deal->theirs[i]);
        fd_close(&deal->ours[i]);
    }
    fd_close(&deal->said);
    if (deal->pid > 0) {
        kill(deal->pid, SIGKILL);
        waitpid(deal->pid, NULL, 0);
    }
}

/* Keeps 'said', the lanes' ends and the connections, and nothing else that is open. */
static void
leave_ours(const struct deal *deal, int said)
{
    guint n = deal->offer->n;
    bool keep[1024] = {[STDIN_FILENO] = false, [STDERR_FILENO] = true};
    for (guint i = 0; i < n; i++) {
        keep[deal->theirs[i] % 1024] = keep[deal->offer->sockets[i] % 1024] = true;
    }
    keep[said % 1024] = true;
    for (int fd = 0; fd < 1024; fd++) {
        if (!keep[fd]) {
            close(fd);
        }
    }
}

static bool
start_process(struct deal *deal)
{
    int pipes[2];
    for (guint i = 0; i < deal->offer->n; i++) {
        int pair[2];
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) {
            return false;
        }
        deal->ours[i] = pair[0];
        deal->theirs[i] = pair[1];
    }
    if (pipe2(pipes, O_CLOEXEC) != 0) {
        return false;
    }
    deal->said = pipes[0];
    deal->pid = fork();
    if (deal->pid == 0) {
        leave_ours(deal, pipes[1]);
        be_the_process(deal, pipes[1]);
        _exit(0);
    }
    close(pipes[1]);
    for (guint i = 0; i < deal->offer->n; i++) {
        fd_close(&deal->theirs[i]);
    }
    return deal->pid > 0;
}

/* ---- the agreement ---- */

/* 1 for each connection from the source, then from the sink. */
static bool
agree(const struct deal *deal, bool stands)
{
    const RdmaOffer *offer = deal->offer;
    bool all = stands;
    for (int turn = 0; turn < 2; turn++) {
        bool speak = (turn == 0) == deal->source;
        for (guint i = 0; i < offer->n; i++) {
            guint8 word = all ? 1 : 0;
            bool ok = speak ? give(offer->sockets[i], &word, 1)
                            : take(offer->sockets[i], offer->cancel_fd, SETTLE_MS, &word, 1);
            all = all && ok && word == 1;
        }
    }
    return all;
}

static pid_t
conclude(struct deal *deal, bool stands)
{
    const RdmaOffer *offer = deal->offer;
    guint8 word = 0;
    stands = stands && take(deal->said, offer->cancel_fd, STEP_MS, &word, 1) && word == 1;
    if (!agree(deal, stands)) {
        close_deal(deal);
        return 0;
    }
    for (guint i = 0; i < offer->n; i++) {
        close(offer->sockets[i]);
        offer->sockets[i] = fd_steal(&deal->ours[i]);
    }
    fd_close(&deal->said);
    return deal->pid;
}

static void
deal_init(struct deal *deal, const RdmaOffer *offer, bool source)
{
    *deal = (struct deal){.offer = offer, .source = source, .said = -1};
    for (guint i = 0; i < LANES_MAX; i++) {
        deal->theirs[i] = deal->ours[i] = -1;
    }
}

pid_t
rdmaoffer_ask(const RdmaOffer *offer)
{
    struct deal deal;
    struct ask ask = {.version = VERSION};
    socklen_t size = sizeof deal.address;
    guint16 port = 0;
    bool open = true;
    deal_init(&deal, offer, true);
    if (!all_of_internet(offer) ||
        getpeername(offer->sockets[0], (struct sockaddr *) &deal.address, &size) != 0) {
        return 0;
    }
    undress(&deal.address);
    memcpy(ask.magic, magic, sizeof magic);
    memcpy(ask.token, offer->token, sizeof ask.token);
    for (guint i = 0; i < offer->n; i++) {
        open = give(offer->sockets[i], &ask, sizeof ask) && open;
    }
    for (guint i = 0; i < offer->n; i++) {
        struct door door = {0};
        open = take(offer->sockets[i], offer->cancel_fd, SETTLE_MS, &door, sizeof door) && open;
        port = (guint16) (door.port[0] << 8 | door.port[1]);
        deal.slots[i] = door.slot;
        open = open && port != 0;
    }
    set_port(&deal.address, port);
    return conclude(&deal, open && start_process(&deal));
}

/* Looks at the source's first bytes, and leaves them where they are. */
static bool
is_asked(const RdmaOffer *offer)
{
    guint8 first[sizeof magic];
    gint64 until_us = g_get_monotonic_time() + offer->wait_ms * 1000;
    ssize_t got = 0;
    bool alike = all_of_internet(offer);
    while (alike && got < (ssize_t) sizeof first) {
        gint64 left_ms = (until_us - g_get_monotonic_time()) / 1000;
        if (left_ms <= 0 || !readable(offer->sockets[0], offer->cancel_fd, left_ms)) {
            return false;
        }
        ssize_t before = got;
        got = recv(offer->sockets[0], first, sizeof first, MSG_PEEK | MSG_DONTWAIT);
        alike = got > 0 && memcmp(first, magic, (size_t) got) == 0;
        if (alike && got == before) { /* poll() does not wait for more than some */
            struct pollfd gone = {offer->sockets[0], POLLRDHUP, 0};
            alike = poll(&gone, 1, PEEK_MS) == 0;
        }
    }
    return alike;
}

static bool
take_asks(const RdmaOffer *offer)
{
    bool good = true;
    for (guint i = 0; i < offer->n; i++) {
        struct ask ask;
        good = take(offer->sockets[i], offer->cancel_fd, STEP_MS, &ask, sizeof ask) &&
               ask.version == VERSION && memcmp(ask.token, offer->token, sizeof ask.token) == 0 &&
               good;
    }
    return good;
}

pid_t
rdmaoffer_answer(const RdmaOffer *offer)
{
    struct deal deal;
    socklen_t size = sizeof deal.address;
    guint16 port = 0;
    deal_init(&deal, offer, false);
    if (!is_asked(offer)) {
        return 0;
    }
    bool open = take_asks(offer) &&
                getsockname(offer->sockets[0], (struct sockaddr *) &deal.address, &size) == 0;
    undress(&deal.address);
    set_port(&deal.address, 0);
    open = open && start_process(&deal) &&
           take(deal.said, offer->cancel_fd, STEP_MS, &port, sizeof port);
    for (guint i = 0; i < offer->n; i++) {
        struct door door = {{(guint8) (port >> 8), (guint8) port}, (guint8) i};
        open = give(offer->sockets[i], &door, sizeof door) && open;
    }
    return conclude(&deal, open && port != 0);
}

void
rdmaoffer_end(pid_t pid)
{
    for (int i = 0; pid > 0 && i < END_MS / 10; i++) {
        if (waitpid(pid, NULL, WNOHANG) != 0) {
            return;
        }
        g_usleep(10 * 1000);
    }
    if (pid > 0) {
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
    }
}
