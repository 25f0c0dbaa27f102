/* The relay: epoll, edge triggered, and splice(2): bytes of a stream pass through a pipe and are
 * never copied to us.
 * R1  A direction moves until its source is dry or its sink is full; whichever of the two changes
 *     next wakes the connection. A turn ends after PUMP_TURNS, so no connection starves others.
 * R2  The end of one direction is handed on as a half close; the connection ends with both, or with
 *     an error of either.
 * R3  What ends is freed after the batch of events that ended it: later events of the same batch
 *     find it dead, not gone.
 * R4  Out of descriptors: listeners rest until a connection ends, and the backlog waits.
 * R5  A UDP peer is a session with a socket of its own towards the target, so that answers find
 *     their way back; the least recently used makes room, and all end after SESSION_IDLE_S. */
#include "agent/inst/relay.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define PUMP_BYTES     (256 * 1024)
#define PUMP_TURNS     32
#define ACCEPT_TURNS   64
#define PIPES_KEPT     64
#define SESSIONS_MAX   4096
#define SESSION_IDLE_S 180
#define DATAGRAM_MAX   65536

typedef enum { END_LISTENER, END_STREAM, END_SESSION, END_QUIT } EndKind;

/* What an epoll event points to. */
typedef struct {
    EndKind kind;
    int fd;
    void *owner; /* the struct that contains it, as its first member's owner */
    bool dead;
} End;

typedef struct {
    End end;
    guint index;
} Listener;

/* One direction of a stream connection. */
typedef struct {
    int pipe[2];    /* -1 in copy mode */
    guint8 *buffer; /* copy mode: one side is a datagram socket */
    size_t offset, pending;
    bool eof, shut;
} Dir;

typedef struct {
    End ends[2]; /* client, target */
    Dir dirs[2]; /* from ends[i] to the other */
    bool connecting, copy, queued, dead;
} Conn;

typedef struct {
    End end;
    Relay *relay;
    Listener *listener;
    struct sockaddr_storage peer;
    socklen_t peer_size;
    time_t used;
    GList link; /* in relay->sessions, least recently used first */
} Session;

struct Relay {
    const ProxyAddr *listen, *connect; /* borrowed */
    bool proxy_protocol;
    int epoll;
    GPtrArray *listeners; /* owns */
    bool resting;         /* R4 */
    GQueue *ready;        /* Conns with work left (R1) */
    GHashTable *conns;    /* owns */
    GHashTable *by_peer;  /* Session → itself, by listener and peer */
    GQueue sessions;      /* owns */
    GPtrArray *graves;    /* freed after the batch (R3) */
    int pipes[PIPES_KEPT][2];
    guint pipe_count;
    guint8 *packet;
};

/* ---- pipes ---- */

static bool
pipe_take(Relay *relay, int *ret_pipe)
{
    if (relay->pipe_count > 0) {
        memcpy(ret_pipe, relay->pipes[--relay->pipe_count], sizeof(relay->pipes[0]));
        return true;
    }
    return pipe2(ret_pipe, O_NONBLOCK | O_CLOEXEC) == 0;
}

static void
pipe_give(Relay *relay, Dir *dir)
{
    if (dir->pipe[0] < 0) {
        return;
    }
    if (dir->pending == 0 && relay->pipe_count < PIPES_KEPT) {
        memcpy(relay->pipes[relay->pipe_count++], dir->pipe, sizeof(dir->pipe));
    } else {
        close(dir->pipe[0]);
        close(dir->pipe[1]);
    }
    dir->pipe[0] = dir->pipe[1] = -1;
}

/* ---- addresses ---- */

static socklen_t
target_address(const ProxyAddr *addr, guint index, struct sockaddr_storage *ret)
{
    struct sockaddr_in *in4 = (struct sockaddr_in *) ret;
    struct sockaddr_in6 *in6 = (struct sockaddr_in6 *) ret;
    struct sockaddr_un *un = (struct sockaddr_un *) ret;

    memset(ret, 0, sizeof(*ret));
    if (addr->kind == PROXYADDR_UNIX) {
        size_t size = strlen(addr->address);
        un->sun_family = AF_UNIX;
        memcpy(un->sun_path, addr->address, MIN(size, sizeof(un->sun_path)));
        if (addr->address[0] == '@') {
            un->sun_path[0] = '\0';
            return (socklen_t) (offsetof(struct sockaddr_un, sun_path) + size);
        }
        return sizeof(*un);
    }
    guint16 port = addr->ports[addr->count == 1 ? 0 : index];
    if (proxyaddr_ipv6(addr)) {
        in6->sin6_family = AF_INET6;
        in6->sin6_port = htons(port);
        inet_pton(AF_INET6, addr->address, &in6->sin6_addr);
        return sizeof(*in6);
    }
    in4->sin_family = AF_INET;
    in4->sin_port = htons(port);
    if (addr->address[0] == '\0') {
        in4->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    } else {
        inet_pton(AF_INET, addr->address, &in4->sin_addr);
    }
    return sizeof(*in4);
}

/* A socket on its way to the target, or -1. */
static int
connect_target(Relay *relay, guint index, bool *ret_connecting)
{
    struct sockaddr_storage addr;
    socklen_t size = target_address(relay->connect, index, &addr);
    int type = relay->connect->kind == PROXYADDR_UDP ? SOCK_DGRAM : SOCK_STREAM;
    int fd = socket(addr.ss_family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int one = 1;

    if (fd < 0) {
        return -1;
    }
    if (relay->connect->kind == PROXYADDR_TCP) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    }
    *ret_connecting = false;
    if (connect(fd, (struct sockaddr *) &addr, size) < 0) {
        if (errno != EINPROGRESS) {
            close(fd);
            return -1;
        }
        *ret_connecting = true;
    }
    return fd;
}

static void
address_text(const struct sockaddr_storage *addr, char *host, size_t size, guint *port)
{
    const struct sockaddr_in *in4 = (const struct sockaddr_in *) addr;
    const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *) addr;

    if (addr->ss_family == AF_INET) {
        inet_ntop(AF_INET, &in4->sin_addr, host, (socklen_t) size);
        *port = ntohs(in4->sin_port);
    } else if (IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr)) {
        inet_ntop(AF_INET, &in6->sin6_addr.s6_addr[12], host, (socklen_t) size);
        *port = ntohs(in6->sin6_port);
    } else {
        inet_ntop(AF_INET6, &in6->sin6_addr, host, (socklen_t) size);
        *port = ntohs(in6->sin6_port);
    }
}

/* The PROXY v1 line waits in the pipe before the client's first byte. */
static void
put_proxy_header(Relay *relay, Conn *conn)
{
    struct sockaddr_storage from = {0}, to = {0};
    socklen_t size = sizeof(from);
    char line[128], from_host[INET6_ADDRSTRLEN] = "", to_host[INET6_ADDRSTRLEN] = "";
    guint from_port = 0, to_port = 0;
    Dir *dir = &conn->dirs[0];

    if (relay->listen->kind == PROXYADDR_UNIX) {
        g_snprintf(line, sizeof(line), "PROXY UNKNOWN\r\n");
    } else {
        getpeername(conn->ends[0].fd, (struct sockaddr *) &from, &size);
        size = sizeof(to);
        getsockname(conn->ends[0].fd, (struct sockaddr *) &to, &size);
        address_text(&from, from_host, sizeof(from_host), &from_port);
        address_text(&to, to_host, sizeof(to_host), &to_port);
        g_snprintf(line, sizeof(line), "PROXY TCP%c %s %s %u %u\r\n",
                   strchr(from_host, ':') != NULL ? '6' : '4', from_host, to_host, from_port,
                   to_port);
    }
    ssize_t n = write(dir->pipe[1], line, strlen(line));
    dir->pending = n > 0 ? (size_t) n : 0;
}

/* ---- streams ---- */

static void
watch(Relay *relay, End *end, guint32 events)
{
    struct epoll_event event = {.events = events, .data.ptr = end};

    epoll_ctl(relay->epoll, EPOLL_CTL_ADD, end->fd, &event);
}

static void
conn_free(Relay *relay, Conn *conn)
{
    for (int i = 0; i < 2; i++) {
        pipe_give(relay, &conn->dirs[i]);
        g_free(conn->dirs[i].buffer);
    }
    g_free(conn);
}

static void
rest_listeners(Relay *relay, bool rest)
{
    for (guint i = 0; relay->resting != rest && i < relay->listeners->len; i++) {
        Listener *listener = g_ptr_array_index(relay->listeners, i);
        struct epoll_event event = {.events = rest ? 0 : EPOLLIN, .data.ptr = &listener->end};
        epoll_ctl(relay->epoll, EPOLL_CTL_MOD, listener->end.fd, &event);
    }
    relay->resting = rest;
}

static void
conn_end(Relay *relay, Conn *conn)
{
    if (conn->dead) {
        return;
    }
    conn->dead = true;
    for (int i = 0; i < 2; i++) {
        conn->ends[i].dead = true;
        close(conn->ends[i].fd);
    }
    g_hash_table_steal(relay->conns, conn);
    g_ptr_array_add(relay->graves, conn);
    rest_listeners(relay, false);
}

/* Each returns bytes moved, 0 when it would block, -1 for an error; sets eof. */
static ssize_t
pump_in(Dir *dir, int from)
{
    ssize_t n;

    if (dir->buffer == NULL) {
        n = splice(from, NULL, dir->pipe[1], NULL, PUMP_BYTES, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
    } else if (dir->pending > 0) {
        return 0;
    } else {
        n = recv(from, dir->buffer, DATAGRAM_MAX, 0);
        dir->offset = 0;
    }
    if (n > 0) {
        dir->pending += (size_t) n;
        return n;
    }
    if (n == 0) {
        dir->eof = true;
        return 0;
    }
    return errno == EAGAIN || errno == EINTR ? 0 : -1;
}

static ssize_t
pump_out(Dir *dir, int to, bool datagram)
{
    ssize_t n;

    if (dir->buffer == NULL) {
        n = splice(dir->pipe[0], NULL, to, NULL, dir->pending, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
    } else {
        n = send(to, dir->buffer + dir->offset, dir->pending, MSG_NOSIGNAL);
        if (n < 0 && datagram) {
            n = (ssize_t) dir->pending; /* a datagram that doesn't fit in is lost, as on the wire */
        }
    }
    if (n > 0) {
        dir->offset += (size_t) n;
        dir->pending -= (size_t) n;
        return n;
    }
    return n == 0 || errno == EAGAIN || errno == EINTR ? 0 : -1;
}

/* True when there may be more to do at once. */
static bool
pump(Relay *relay, Conn *conn, int side)
{
    Dir *dir = &conn->dirs[side];
    int from = conn->ends[side].fd, to = conn->ends[1 - side].fd;
    bool datagram = side == 0 && relay->connect->kind == PROXYADDR_UDP;

    for (int i = 0; i < PUMP_TURNS; i++) { /* R1 */
        ssize_t in = dir->eof ? 0 : pump_in(dir, from);
        ssize_t out = in >= 0 && dir->pending > 0 ? pump_out(dir, to, datagram) : 0;
        if (in < 0 || out < 0) {
            conn_end(relay, conn);
            return false;
        }
        if (dir->eof && dir->pending == 0 && !dir->shut) { /* R2 */
            dir->shut = true;
            shutdown(to, SHUT_WR);
        }
        if (in == 0 && out == 0) {
            return false;
        }
    }
    return true;
}

static void
conn_work(Relay *relay, Conn *conn)
{
    int status = 0;
    socklen_t size = sizeof(status);

    if (conn->dead) {
        return;
    }
    if (conn->connecting) {
        struct sockaddr_storage peer;
        socklen_t peer_size = sizeof(peer);
        if (getsockopt(conn->ends[1].fd, SOL_SOCKET, SO_ERROR, &status, &size) < 0 || status != 0) {
            conn_end(relay, conn);
            return;
        }
        if (getpeername(conn->ends[1].fd, (struct sockaddr *) &peer, &peer_size) < 0) {
            return; /* still on its way */
        }
        conn->connecting = false;
    }
    bool more = pump(relay, conn, 0);
    more = !conn->dead && (pump(relay, conn, 1) || more);
    if (conn->dead) {
        return;
    }
    if (conn->dirs[0].shut && conn->dirs[1].shut) {
        conn_end(relay, conn);
    } else if (more && !conn->queued) {
        conn->queued = true;
        g_queue_push_tail(relay->ready, conn);
    }
}

static void
conn_new(Relay *relay, Listener *listener, int client)
{
    Conn *conn = g_new0(Conn, 1);
    int one = 1, target;

    conn->copy = relay->connect->kind == PROXYADDR_UDP;
    for (int i = 0; i < 2; i++) {
        conn->dirs[i].pipe[0] = conn->dirs[i].pipe[1] = -1;
        conn->ends[i] = (End){.kind = END_STREAM, .fd = -1, .owner = conn};
    }
    target = connect_target(relay, listener->index, &conn->connecting);
    bool ok = target >= 0;
    for (int i = 0; ok && i < 2; i++) {
        if (conn->copy) {
            conn->dirs[i].buffer = g_malloc(DATAGRAM_MAX);
        } else {
            ok = pipe_take(relay, conn->dirs[i].pipe);
        }
    }
    if (!ok) {
        close(client);
        if (target >= 0) {
            close(target);
        }
        conn_free(relay, conn);
        return;
    }
    if (relay->listen->kind == PROXYADDR_TCP) {
        setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    }
    conn->ends[0].fd = client;
    conn->ends[1].fd = target;
    g_hash_table_add(relay->conns, conn);
    if (relay->proxy_protocol && !conn->copy) {
        put_proxy_header(relay, conn);
    }
    watch(relay, &conn->ends[0], EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET);
    watch(relay, &conn->ends[1], EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET);
}

static void
accept_streams(Relay *relay, Listener *listener)
{
    for (int i = 0; i < ACCEPT_TURNS; i++) {
        int client = accept4(listener->end.fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (client >= 0) {
            conn_new(relay, listener, client);
        } else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
            if (g_hash_table_size(relay->conns) > 0) { /* R4 */
                rest_listeners(relay, true);
            }
            return;
        } else if (errno != EINTR && errno != ECONNABORTED) {
            return;
        }
    }
}

/* ---- datagrams (R5) ---- */

static guint
session_hash(gconstpointer key)
{
    const Session *session = key;
    const guint8 *bytes = (const guint8 *) &session->peer;
    guint hash = session->listener->index;

    for (socklen_t i = 0; i < session->peer_size; i++) {
        hash = hash * 31 + bytes[i];
    }
    return hash;
}

static gboolean
session_equal(gconstpointer a, gconstpointer b)
{
    const Session *x = a, *y = b;

    return x->listener == y->listener && x->peer_size == y->peer_size &&
           memcmp(&x->peer, &y->peer, x->peer_size) == 0;
}

static void
session_end(Relay *relay, Session *session)
{
    g_hash_table_remove(relay->by_peer, session);
    g_queue_unlink(&relay->sessions, &session->link);
    session->end.dead = true;
    close(session->end.fd);
    g_ptr_array_add(relay->graves, session);
}

static void
session_touch(Relay *relay, Session *session)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    session->used = now.tv_sec;
    g_queue_unlink(&relay->sessions, &session->link);
    g_queue_push_tail_link(&relay->sessions, &session->link);
}

static Session *
session_of(Relay *relay, Listener *listener, const struct sockaddr_storage *peer, socklen_t size)
{
    Session key = {.listener = listener, .peer_size = size};
    bool connecting = false;
    Session *session;

    memcpy(&key.peer, peer, size);
    session = g_hash_table_lookup(relay->by_peer, &key);
    if (session != NULL) {
        return session;
    }
    if (relay->sessions.length >= SESSIONS_MAX) {
        session_end(relay, g_queue_peek_head(&relay->sessions));
    }
    int fd = connect_target(relay, listener->index, &connecting);
    if (fd < 0) {
        return NULL;
    }
    session = g_new0(Session, 1);
    *session = key;
    session->end = (End){.kind = END_SESSION, .fd = fd, .owner = session};
    session->relay = relay;
    session->link.data = session;
    g_queue_push_tail_link(&relay->sessions, &session->link);
    g_hash_table_add(relay->by_peer, session);
    watch(relay, &session->end, EPOLLIN);
    return session;
}

static void
take_datagrams(Relay *relay, Listener *listener)
{
    for (int i = 0; i < ACCEPT_TURNS; i++) {
        struct sockaddr_storage peer = {0};
        socklen_t size = sizeof(peer);
        ssize_t n = recvfrom(listener->end.fd, relay->packet, DATAGRAM_MAX, 0,
                             (struct sockaddr *) &peer, &size);
        if (n < 0) {
            return;
        }
        Session *session = session_of(relay, listener, &peer, size);
        if (session != NULL) {
            session_touch(relay, session);
            (void) send(session->end.fd, relay->packet, (size_t) n, MSG_NOSIGNAL);
        }
    }
}

static void
answer_datagrams(Relay *relay, Session *session)
{
    for (int i = 0; i < ACCEPT_TURNS; i++) {
        ssize_t n = recv(session->end.fd, relay->packet, DATAGRAM_MAX, 0);
        if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
            return;
        }
        if (n < 0 || (n == 0 && relay->connect->kind != PROXYADDR_UDP)) {
            session_end(relay, session); /* refused, or a stream's end */
            return;
        }
        session_touch(relay, session);
        (void) sendto(session->listener->end.fd, relay->packet, (size_t) n, MSG_NOSIGNAL,
                      (struct sockaddr *) &session->peer, session->peer_size);
    }
}

static void
expire_sessions(Relay *relay)
{
    struct timespec now;
    Session *oldest;

    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    while ((oldest = g_queue_peek_head(&relay->sessions)) != NULL &&
           now.tv_sec - oldest->used > SESSION_IDLE_S) {
        session_end(relay, oldest);
    }
}

/* ---- the loop ---- */

Relay *
relay_new(const ProxyAddr *listen, const ProxyAddr *connect, bool proxy_protocol)
{
    Relay *relay = g_new0(Relay, 1);

    relay->listen = listen;
    relay->connect = connect;
    relay->proxy_protocol = proxy_protocol;
    relay->epoll = epoll_create1(EPOLL_CLOEXEC);
    relay->listeners = g_ptr_array_new_with_free_func(g_free);
    relay->ready = g_queue_new();
    relay->conns = g_hash_table_new(NULL, NULL);
    relay->by_peer = g_hash_table_new(session_hash, session_equal);
    relay->graves = g_ptr_array_new();
    g_queue_init(&relay->sessions);
    relay->packet = g_malloc(DATAGRAM_MAX);
    return relay;
}

bool
relay_add(Relay *relay, int fd, guint index, GError **error)
{
    Listener *listener = g_new0(Listener, 1);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = &listener->end};

    listener->end = (End){.kind = END_LISTENER, .fd = fd, .owner = listener};
    listener->index = index;
    g_ptr_array_add(relay->listeners, listener);
    return epoll_ctl(relay->epoll, EPOLL_CTL_ADD, fd, &event) == 0 ||
           haw_fail_errno(error, errno, "watch a listening socket");
}

static void
bury(Relay *relay)
{
    for (guint i = 0; i < relay->graves->len; i++) {
        End *end = g_ptr_array_index(relay->graves, i); /* both kinds begin with an End */
        if (end->kind == END_STREAM) {
            g_queue_remove_all(relay->ready, end);
            conn_free(relay, (Conn *) end);
        } else {
            g_free(end);
        }
    }
    g_ptr_array_set_size(relay->graves, 0);
}

static void
work_ready(Relay *relay)
{
    for (guint left = g_queue_get_length(relay->ready); left > 0; left--) {
        Conn *conn = g_queue_pop_head(relay->ready);
        if (conn != NULL) {
            conn->queued = false;
            conn_work(relay, conn);
        }
    }
}

static void
dispatch(Relay *relay, End *end)
{
    if (end->dead) { /* R3 */
        return;
    }
    if (end->kind == END_STREAM) {
        conn_work(relay, end->owner);
    } else if (end->kind == END_SESSION) {
        answer_datagrams(relay, end->owner);
    } else if (relay->listen->kind == PROXYADDR_UDP) {
        take_datagrams(relay, end->owner);
    } else {
        accept_streams(relay, end->owner);
    }
}

void
relay_run(Relay *relay, int quit_fd, int stop_fd)
{
    End quits[2] = {{.kind = END_QUIT, .fd = quit_fd}, {.kind = END_QUIT, .fd = stop_fd}};
    struct epoll_event events[128];
    bool quit = false;

    watch(relay, &quits[0], EPOLLIN);
    watch(relay, &quits[1], EPOLLIN);
    while (!quit) {
        int wait_ms = g_queue_is_empty(relay->ready) ? (relay->sessions.length > 0 ? 5000 : -1) : 0;
        int n = epoll_wait(relay->epoll, events, G_N_ELEMENTS(events), wait_ms);
        for (int i = 0; i < n; i++) {
            End *end = events[i].data.ptr;
            quit = quit || end->kind == END_QUIT;
            if (end->kind != END_QUIT) {
                dispatch(relay, end);
            }
        }
        bury(relay);
        work_ready(relay);
        expire_sessions(relay);
        bury(relay);
    }
}

void
relay_free(Relay *relay)
{
    GHashTableIter iter;
    gpointer conn;

    if (relay == NULL) {
        return;
    }
    g_autoptr(GPtrArray) all = g_ptr_array_new();
    g_hash_table_iter_init(&iter, relay->conns);
    while (g_hash_table_iter_next(&iter, &conn, NULL)) {
        g_ptr_array_add(all, conn);
    }
    for (guint i = 0; i < all->len; i++) {
        conn_end(relay, g_ptr_array_index(all, i));
    }
    while (relay->sessions.length > 0) {
        session_end(relay, g_queue_peek_head(&relay->sessions));
    }
    bury(relay);
    for (guint i = 0; i < relay->listeners->len; i++) {
        close(((Listener *) g_ptr_array_index(relay->listeners, i))->end.fd);
    }
    for (guint i = 0; i < relay->pipe_count; i++) {
        close(relay->pipes[i][0]);
        close(relay->pipes[i][1]);
    }
    g_ptr_array_unref(relay->listeners);
    g_ptr_array_unref(relay->graves);
    g_queue_free(relay->ready);
    g_hash_table_unref(relay->conns);
    g_hash_table_unref(relay->by_peer);
    g_free(relay->packet);
    close(relay->epoll);
    g_free(relay);
}
