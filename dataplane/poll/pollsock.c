/* The poll-mode process's socket.
 * S1  One process a directory (flock on poll.lock); only root and our own user may speak (SO_PEERCRED).
 * S2  Requests of a connection are answered in their order; one that is none ends the connection.
 * S3  A PollApply removes first, adds then, bumps last. It ends at the first failure, and what it did until
 *     then stays: the answer is the failure, the asker asks what there is.
 * S4  Ports outlive the process (pollkeep.c): at its start each is opened again, before anybody is answered. One
 *     that can't be is told in the log, and kept: it may be there at the next start.
 * Main loop only. Not here: what a port is (poller.c), what is answered (pollstatus.c). */
#include "dataplane/poll/pollsock.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <glib-unix.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/fiber.h"
#include "base/log.h"
#include "dataplane/poll/pollkeep.h"
#include "dataplane/poll/pollshow.h"
#include "dataplane/poll/pollstatus.h"
#include "proto/dpdwire.h"

enum { BACKLOG = 8, HELLO_MS = 10000 };

struct PollSock {
    Poller *poller;     /* borrowed */
    char *tag;          /* owned */
    PollKeep *keep;     /* owned */
    int lock, listener; /* owned */
    guint accepts;
};

typedef struct {
    PollSock *sock; /* borrowed: lives as long as the process */
    DpdWire *wire;  /* owned */
} Peer;

/* ---- requests ---- */

static bool
read_addresses(const Dpd__PollPort *asked, PollerPort *port, GError **error)
{
    for (size_t i = 0; i < asked->n_addresses; i++) {
        const char *text = asked->addresses[i];
        guint32 word[4];
        if (inet_pton(AF_INET, text, word) == 1 && port->addr4_count < LAYOUT_ADDRS) {
            port->addr4[port->addr4_count++] = word[0];
        } else if (inet_pton(AF_INET6, text, word) == 1 && port->addr6_count < LAYOUT_ADDRS) {
            memcpy(port->addr6[port->addr6_count++], word, sizeof word);
        } else {
            return haw_fail(error, HAW_INVALID,
                            "port '%s': '%s' is no address, or one more than %d of its family",
                            asked->id, text, LAYOUT_ADDRS);
        }
    }
    return true;
}

static bool
read_port(const Dpd__PollPort *asked, PollerPort *port, GError **error)
{
    guint8 *mac = port->mac;
    char rest;
    if (asked->id[0] == '\0' || asked->device[0] == '\0') {
        return haw_fail(error, HAW_INVALID, "a port needs an id and a device");
    }
    if (sscanf(asked->mac, "%2hhx:%2hhx:%2hhx:%2hhx:%2hhx:%2hhx%c", &mac[0], &mac[1], &mac[2],
               &mac[3], &mac[4], &mac[5], &rest) != 6 ||
        (mac[0] & 1)) {
        return haw_fail(error, HAW_INVALID, "port '%s': '%s' is no MAC", asked->id, asked->mac);
    }
    if (asked->zone == 0 || asked->zone >= LAYOUT_ZONES || asked->mtu > 9216) {
        return haw_fail(error, HAW_INVALID, "port '%s': zone %u (1 to %d), MTU %u (up to 9216)",
                        asked->id, asked->zone, LAYOUT_ZONES - 1, asked->mtu);
    }
    port->id = asked->id;
    port->device = asked->device;
    port->slow = asked->slow;
    port->mtu = (guint16) asked->mtu;
    port->zone = (guint16) asked->zone;
    port->off = asked->off;
    return read_addresses(asked, port, error);
}

/* S3 */
static bool
change(PollSock *sock, const Dpd__PollApply *request, GError **error)
{
    Poller *poller = sock->poller;
    for (size_t i = 0; i < request->n_ports; i++) {
        PollerPort port = {0};
        if (!read_port(request->ports[i], &port, error)) {
            return false;
        }
    }
    for (size_t i = 0; i < request->n_remove; i++) {
        const char *id = request->remove[i];
        g_autoptr(GError) failure = NULL;
        bool kept = pollkeep_remove(sock->keep, id); /* perhaps one that could not be reopened */
        if (!poller_remove(poller, id, &failure) && (!kept || haw_code(failure) != HAW_NOT_FOUND)) {
            g_propagate_error(error, g_steal_pointer(&failure));
            return false;
        }
    }
    for (size_t i = 0; i < request->n_ports; i++) {
        PollerPort port = {0};
        pollkeep_remove(sock->keep, request->ports[i]->id); /* gone, too, if the new one fails */
        if (!read_port(request->ports[i], &port, error) || !poller_add(poller, &port, error)) {
            return false;
        }
        pollkeep_add(sock->keep, request->ports[i]);
    }
    for (size_t i = 0; i < request->n_bump; i++) {
        poller_bump(poller, (guint16) request->bump[i]);
    }
    for (guint16 zone = 1; request->bump_all && zone < LAYOUT_ZONES; zone++) {
        poller_bump(poller, zone);
    }
    return true;
}

/* S4 */
static bool
apply(PollSock *sock, const Dpd__PollApply *request, GError **error)
{
    bool ok = change(sock, request, error);
    if (request->n_ports == 0 && request->n_remove == 0) {
        return ok;
    }
    g_autoptr(GError) failure = NULL;
    bool saved = pollkeep_save(sock->keep, &failure);
    if (!saved && ok) {
        g_propagate_error(error, g_steal_pointer(&failure));
    }
    return ok && saved;
}

/* S4 */
static void
reopen(PollSock *sock)
{
    GPtrArray *ports = pollkeep_ports(sock->keep);
    for (guint i = 0; i < ports->len; i++) {
        g_autoptr(GError) error = NULL;
        PollerPort port = {0};
        if (!read_port(ports->pdata[i], &port, &error) ||
            !poller_add(sock->poller, &port, &error)) {
            haw_warn("poll.kept", KS("why", error->message));
        }
    }
}

static bool
answer_failure(Peer *peer, guint64 id, const GError *failure, GError **error)
{
    Dpd__Failure body = DPD__FAILURE__INIT;
    Dpd__Frame frame = DPD__FRAME__INIT;
    body.code = haw_code(failure);
    body.message = failure->message;
    frame.id = id;
    frame.body_case = DPD__FRAME__BODY_FAILURE;
    frame.failure = &body;
    return dpdwire_send(peer->wire, &frame, -1, error);
}

static bool
answer_status(Peer *peer, guint64 id, guint flows, GError **error)
{
    g_autoptr(PollStatus) status = pollstatus_new(peer->sock->poller, flows);
    Dpd__Frame frame = DPD__FRAME__INIT;
    frame.id = id;
    frame.body_case = DPD__FRAME__BODY_POLL_STATUS;
    frame.poll_status = pollstatus_message(status);
    frame.poll_status->tag = peer->sock->tag;
    return dpdwire_send(peer->wire, &frame, -1, error);
}

/* Flows, counters or packets. */
static bool
answer_look(Peer *peer, const Dpd__Frame *request, GError **error)
{
    Poller *poller = peer->sock->poller;
    g_autoptr(ShowPool) pool = showpool_new();
    g_autoptr(GError) failure = NULL;
    Dpd__FastFlows flows = DPD__FAST_FLOWS__INIT;
    Dpd__FastStats stats = DPD__FAST_STATS__INIT;
    Dpd__FastTrace trace = DPD__FAST_TRACE__INIT;
    Dpd__Frame frame = DPD__FRAME__INIT;
    frame.id = request->id;
    frame.body_case = request->body_case;
    if (request->body_case == DPD__FRAME__BODY_FAST_FLOWS) {
        pollshow_flows(poller, request->fast_flows, pool, &flows, &failure);
        frame.fast_flows = &flows;
    } else if (request->body_case == DPD__FRAME__BODY_FAST_TRACE) {
        pollshow_trace(poller, request->fast_trace, peer->wire, pool, &trace, &failure);
        frame.fast_trace = &trace;
    } else {
        pollshow_stats(poller, pool, &stats);
        frame.fast_stats = &stats;
    }
    return failure != NULL ? answer_failure(peer, request->id, failure, error)
                           : dpdwire_send(peer->wire, &frame, -1, error);
}

static bool
answer_hello(Peer *peer, const Dpd__Frame *request, GError **error)
{
    const Dpd__Hello *theirs = request->hello;
    Dpd__Hello hello;
    Dpd__Frame frame;
    if (dpdwire_agree(DPDWIRE_LOWEST, DPDWIRE_HIGHEST, theirs->lowest, theirs->highest) == 0) {
        return haw_fail(error, HAW_UNSUPPORTED, "the peer (%s) speaks another version",
                        theirs->software);
    }
    dpdwire_hello(&hello, &frame);
    frame.id = request->id;
    return dpdwire_send(peer->wire, &frame, -1, error);
}

static bool
answer(Peer *peer, const Dpd__Frame *request, GError **error)
{
    g_autoptr(GError) failure = NULL;
    switch (request->body_case) {
    case DPD__FRAME__BODY_HELLO:
        return answer_hello(peer, request, error);
    case DPD__FRAME__BODY_POLL_ASK:
        return answer_status(peer, request->id, request->poll_ask->flows, error);
    case DPD__FRAME__BODY_FAST_FLOWS:
    case DPD__FRAME__BODY_FAST_STATS:
    case DPD__FRAME__BODY_FAST_TRACE:
        return answer_look(peer, request, error);
    case DPD__FRAME__BODY_POLL_APPLY:
        if (apply(peer->sock, request->poll_apply, &failure)) {
            return answer_status(peer, request->id, 0, error);
        }
        return answer_failure(peer, request->id, failure, error);
    default:
        haw_fail(&failure, HAW_UNSUPPORTED, "the poll-mode process does not know this request");
        return answer_failure(peer, request->id, failure, error);
    }
}

/* ---- connections ---- */

/* S2 */
static void
peer_fiber(void *data)
{
    Peer *peer = data;
    g_autoptr(GError) error = NULL;
    bool ok = dpdwire_check_peer(peer->wire, &error); /* S1 */
    while (ok) {
        g_autoptr(DpdFrame) request = dpdwire_receive(peer->wire, NULL, -1, NULL, &error);
        ok = request != NULL && answer(peer, request, &error);
    }
    if (haw_code(error) != HAW_UNAVAILABLE) {
        haw_warn("poll.peer", KS("why", error->message));
    }
    dpdwire_free(peer->wire);
    g_free(peer);
}

static gboolean
on_connection(gint listener, GIOCondition condition, gpointer data)
{
    (void) condition;
    haw_autofd int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd >= 0) {
        Peer *peer = g_new0(Peer, 1);
        peer->sock = data;
        peer->wire = dpdwire_new(&fd);
        fiber_start("peer", peer_fiber, peer);
    }
    return G_SOURCE_CONTINUE;
}

static bool
listen_at(PollSock *sock, const char *path, GError **error)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (g_strlcpy(address.sun_path, path, sizeof(address.sun_path)) >= sizeof(address.sun_path)) {
        return haw_fail(error, HAW_INVALID, "the path '%s' is too long for a socket", path);
    }
    unlink(path);
    sock->listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    mode_t mask = umask(0177);
    bool ok = sock->listener >= 0 &&
              bind(sock->listener, (struct sockaddr *) &address, sizeof(address)) == 0 &&
              listen(sock->listener, BACKLOG) == 0;
    umask(mask);
    return ok ? true : haw_fail_errno(error, errno, "listen at '%s'", path);
}

PollSock *
pollsock_new(const char *dir, const char *tag, Poller *poller, GError **error)
{
    g_autoptr(PollSock) sock = g_new0(PollSock, 1);
    g_autofree char *lock = g_build_filename(dir, "poll.lock", NULL);
    g_autofree char *path = g_build_filename(dir, "poll.socket", NULL);
    sock->poller = poller;
    sock->tag = g_strdup(tag != NULL ? tag : "");
    sock->listener = -1;
    sock->lock = -1;
    if (!fd_mkdir_p(dir, 0700, error)) {
        return NULL;
    }
    sock->lock = open(lock, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (sock->lock < 0) {
        haw_fail_errno(error, errno, "open '%s'", lock);
        return NULL;
    }
    if (flock(sock->lock, LOCK_EX | LOCK_NB) < 0) { /* S1 */
        haw_fail(error, HAW_BUSY, "another hawser-dpd-poll runs in '%s'", dir);
        return NULL;
    }
    sock->keep = pollkeep_new(dir);
    reopen(sock);
    if (!listen_at(sock, path, error)) {
        return NULL;
    }
    sock->accepts = g_unix_fd_add(sock->listener, G_IO_IN, on_connection, sock);
    return g_steal_pointer(&sock);
}

void
pollsock_free(PollSock *sock)
{
    if (sock == NULL) {
        return;
    }
    if (sock->accepts != 0) {
        g_source_remove(sock->accepts);
    }
    fd_close(&sock->listener);
    fd_close(&sock->lock);
    pollkeep_free(sock->keep);
    g_free(sock->tag);
    g_free(sock);
}
