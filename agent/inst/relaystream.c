/* Stream connections of a relay: splice(2), both ways.
 * R1  A direction moves until its source is dry or its sink is full; whichever of the two changes
 *     next wakes the connection. A turn ends after PUMP_TURNS, so no connection starves others.
 * R2  The end of one direction is handed on as a half close; the connection ends with both, or with
 *     an error of either.
 * R3  What ends is freed after the batch of events that ended it (relay.c).
 * R4  Out of descriptors: listeners rest until a connection ends, and the backlog waits.
 * Called by relay.c. */
#include "agent/inst/relayparts.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

enum { PUMP_BYTES = 256 * 1024, PUMP_TURNS = 32 };

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
    if (dir->pending == 0 && relay->pipe_count < RELAY_PIPES_KEPT) {
        memcpy(relay->pipes[relay->pipe_count++], dir->pipe, sizeof(dir->pipe));
    } else {
        close(dir->pipe[0]);
        close(dir->pipe[1]);
    }
    dir->pipe[0] = dir->pipe[1] = -1;
}

/* ---- the PROXY line ---- */

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

/* ---- connections ---- */

void
relaystream_free(Relay *relay, Conn *conn)
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

void
relaystream_end(Relay *relay, Conn *conn)
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
        n = recv(from, dir->buffer, RELAY_DATAGRAM_MAX, 0);
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
            relaystream_end(relay, conn);
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

void
relaystream_work(Relay *relay, Conn *conn)
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
            relaystream_end(relay, conn);
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
        relaystream_end(relay, conn);
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
    target = relay_connect(relay, listener->index, &conn->connecting);
    bool ok = target >= 0;
    for (int i = 0; ok && i < 2; i++) {
        if (conn->copy) {
            conn->dirs[i].buffer = g_malloc(RELAY_DATAGRAM_MAX);
        } else {
            ok = pipe_take(relay, conn->dirs[i].pipe);
        }
    }
    if (!ok) {
        close(client);
        if (target >= 0) {
            close(target);
        }
        relaystream_free(relay, conn);
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
    relay_watch(relay, &conn->ends[0], EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET);
    relay_watch(relay, &conn->ends[1], EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET);
}

void
relaystream_accept(Relay *relay, Listener *listener)
{
    for (int i = 0; i < RELAY_ACCEPT_TURNS; i++) {
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
