/* The relay: epoll, edge triggered. Bytes of a stream pass through a pipe and are never copied to us
 * (relaystream.c); datagrams have sessions (relaydgram.c).
 * R3  What ends is freed after the batch of events that ended it: later events of the same batch
 *     find it dead, not gone.
 * The only thread of `hawserd forkproxy`. */
#include "agent/inst/relay.h"

#include "agent/inst/relayparts.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/un.h>
#include <unistd.h>

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

int
relay_connect(Relay *relay, guint index, bool *ret_connecting)
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

void
relay_watch(Relay *relay, End *end, guint32 events)
{
    struct epoll_event event = {.events = events, .data.ptr = end};

    epoll_ctl(relay->epoll, EPOLL_CTL_ADD, end->fd, &event);
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
    relay->by_peer = relaydgram_table();
    relay->graves = g_ptr_array_new();
    g_queue_init(&relay->sessions);
    relay->packet = g_malloc(RELAY_DATAGRAM_MAX);
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
            relaystream_free(relay, (Conn *) end);
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
            relaystream_work(relay, conn);
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
        relaystream_work(relay, end->owner);
    } else if (end->kind == END_SESSION) {
        relaydgram_answer(relay, end->owner);
    } else if (relay->listen->kind == PROXYADDR_UDP) {
        relaydgram_take(relay, end->owner);
    } else {
        relaystream_accept(relay, end->owner);
    }
}

void
relay_run(Relay *relay, int quit_fd, int stop_fd)
{
    End quits[2] = {{.kind = END_QUIT, .fd = quit_fd}, {.kind = END_QUIT, .fd = stop_fd}};
    struct epoll_event events[128];
    bool quit = false;

    relay_watch(relay, &quits[0], EPOLLIN);
    relay_watch(relay, &quits[1], EPOLLIN);
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
        relaydgram_expire(relay);
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
        relaystream_end(relay, g_ptr_array_index(all, i));
    }
    while (relay->sessions.length > 0) {
        relaydgram_end(relay, g_queue_peek_head(&relay->sessions));
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
