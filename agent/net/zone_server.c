/* The DNS server of zones: it answers secondaries, and nobody else.
 * D1  Who may ask for a zone is what the zone's peers.* say: an address, a key, or both. Nobody else
 *     learns whether the zone exists.
 * D2  Nothing is built for a question before its sender was let in.
 * D3  A client has a bounded share: so many connections and datagrams at once, so much time.
 * D4  An answer to a datagram leaves from the address that was asked.
 * Messages are zonewire.c's, contents zone_content.c's. Called by agent.c. */
#include "agent/net/zone_server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <glib-unix.h>

#include "agent/api/listen.h"
#include "agent/net/subnet.h"
#include "agent/net/zone.h"
#include "base/fd.h"
#include "base/fiber.h"
#include "base/log.h"
#include "proto/grammar.h"
#include "proto/keys.h"

enum { PORT = 53, CONNECTIONS = 32, DATAGRAMS = 32, WAIT_MS = 10 * 1000, MESSAGE = 65535 };

struct ZoneServer {
    Agent *agent; /* borrowed */
    int udp, tcp; /* -1: not listening */
    guint on_udp, on_tcp;
    guint connections, datagrams; /* D3 */
};

struct datagram {
    ZoneServer *server;
    int fd; /* a copy: the server's may be closed meanwhile */
    struct sockaddr_storage from;
    socklen_t from_size;
    guint8 control[CMSG_SPACE(sizeof(struct in6_pktinfo))]; /* D4 */
    gsize control_size;
    gsize size;
    guint8 bytes[4096];
};

struct connection {
    ZoneServer *server;
    int fd;
    char *address;
};

/* ---- who may ---- */

/* Without the "::ffff:" of an IPv4 peer on an IPv6 socket; caller frees. */
static char *
address_text(const struct sockaddr_storage *from)
{
    char text[INET6_ADDRSTRLEN] = "";
    if (from->ss_family == AF_INET) {
        inet_ntop(AF_INET, &((const struct sockaddr_in *) from)->sin_addr, text, sizeof text);
    } else {
        const struct in6_addr *six = &((const struct sockaddr_in6 *) from)->sin6_addr;
        if (IN6_IS_ADDR_V4MAPPED(six)) {
            inet_ntop(AF_INET, &six->s6_addr[12], text, sizeof text);
        } else {
            inet_ntop(AF_INET6, six, text, sizeof text);
        }
    }
    return g_strdup(text);
}

static bool
admits(ZoneQuery *query, const ZoneRow *row, const char *peer, const char *from)
{
    g_autofree char *address_key = g_strdup_printf("peers.%s.address", peer);
    g_autofree char *secret_key = g_strdup_printf("peers.%s.key", peer);
    g_autofree char *key_name = g_strdup_printf("%s_%s", row->name, peer);
    const char *address = keys_get(row->config, address_key);
    const char *secret = keys_get(row->config, secret_key);
    if (address != NULL && !subnet_same_address(address, from)) {
        return false;
    }
    if (secret == NULL) {
        return address != NULL && zonewire_key(query) == NULL;
    }
    return zonewire_key(query) != NULL && g_ascii_strcasecmp(zonewire_key(query), key_name) == 0 &&
           zonewire_verify(query, secret);
}

/* D1 */
static bool
may_ask(ZoneQuery *query, const ZoneRow *row, const char *from)
{
    const char *key;
    json_t *value;
    json_object_foreach (row->config, key, value) {
        const char *end = g_str_has_prefix(key, "peers.") ? strrchr(key, '.') : NULL;
        if (end != NULL && end > key + strlen("peers.")) {
            g_autofree char *peer =
                g_strndup(key + strlen("peers."), (gsize) (end - key) - strlen("peers."));
            if (admits(query, row, peer, from)) {
                return true;
            }
        }
    }
    return false;
}

/* D2. NULL: as if there were no such zone. */
static ZoneContent *
content_for(Agent *agent, ZoneQuery *query, const char *from)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(ZoneRow) row =
        zonewire_zone(query) != NULL ? zone_find(agent, zonewire_zone(query), NULL) : NULL;
    if (row == NULL || !may_ask(query, row, from)) {
        return NULL;
    }
    ZoneContent *content = zone_content(agent, row, &error);
    if (content == NULL) {
        haw_warn("zone.content_failed", KS("zone", row->name), KS("why", error->message));
    }
    return content;
}

static void
answer(Agent *agent, const guint8 *bytes, gsize size, const char *from, bool stream, ZoneEmit emit,
       void *data)
{
    g_autoptr(ZoneQuery) query = zonewire_parse(bytes, size);
    if (query != NULL) {
        g_autoptr(ZoneContent) content = content_for(agent, query, from);
        zonewire_answer(query, content, stream, emit, data);
    }
}

/* ---- datagrams ---- */

static bool
send_datagram(const guint8 *message, gsize size, void *data)
{
    struct datagram *datagram = data;
    struct iovec part = {(void *) (guintptr) message, size};
    struct msghdr header = {.msg_name = &datagram->from,
                            .msg_namelen = datagram->from_size,
                            .msg_iov = &part,
                            .msg_iovlen = 1,
                            .msg_control = datagram->control_size > 0 ? datagram->control : NULL,
                            .msg_controllen = datagram->control_size};
    sendmsg(datagram->fd, &header,
            MSG_DONTWAIT | MSG_NOSIGNAL); /* lost datagrams are asked again */
    return true;
}

static void
datagram_run(void *data)
{
    struct datagram *datagram = data;
    g_autofree char *from = address_text(&datagram->from);
    answer(datagram->server->agent, datagram->bytes, datagram->size, from, false, send_datagram,
           datagram);
    datagram->server->datagrams--;
    fd_close(&datagram->fd);
    g_free(datagram);
}

/* D4: what told where it came in says where the answer leaves; by any interface. */
static void
keep_control(struct datagram *datagram, struct msghdr *header)
{
    for (struct cmsghdr *at = CMSG_FIRSTHDR(header); at != NULL; at = CMSG_NXTHDR(header, at)) {
        if (at->cmsg_level == IPPROTO_IPV6 && at->cmsg_type == IPV6_PKTINFO) {
            struct in6_pktinfo info;
            memcpy(&info, CMSG_DATA(at), sizeof info);
            if (!IN6_IS_ADDR_LINKLOCAL(&info.ipi6_addr)) {
                info.ipi6_ifindex = 0;
                memcpy(CMSG_DATA(at), &info, sizeof info);
            }
            datagram->control_size = header->msg_controllen;
        }
    }
}

static struct datagram *
receive(ZoneServer *server)
{
    struct datagram *datagram = g_new0(struct datagram, 1);
    struct iovec part = {datagram->bytes, sizeof datagram->bytes};
    struct msghdr header = {.msg_name = &datagram->from,
                            .msg_namelen = sizeof datagram->from,
                            .msg_iov = &part,
                            .msg_iovlen = 1,
                            .msg_control = datagram->control,
                            .msg_controllen = sizeof datagram->control};
    ssize_t got = recvmsg(server->udp, &header, MSG_DONTWAIT);
    if (got <= 0 || (header.msg_flags & MSG_TRUNC) != 0) {
        g_free(datagram);
        return NULL;
    }
    datagram->server = server;
    datagram->size = (gsize) got;
    datagram->from_size = header.msg_namelen;
    keep_control(datagram, &header);
    return datagram;
}

static gboolean
on_udp(int fd, GIOCondition condition, gpointer data)
{
    ZoneServer *server = data;
    struct datagram *datagram = receive(server);
    if (datagram == NULL) {
        return G_SOURCE_CONTINUE;
    }
    datagram->fd = server->datagrams < DATAGRAMS ? dup(fd) : -1; /* D3 */
    if (datagram->fd < 0) {
        g_free(datagram);
        return G_SOURCE_CONTINUE;
    }
    server->datagrams++;
    fiber_start("zone-datagram", datagram_run, datagram);
    return G_SOURCE_CONTINUE;
}

/* ---- connections ---- */

/* All of 'size', or false. */
static bool
move(struct connection *connection, guint8 *bytes, gsize size, bool out)
{
    GCancellable *stopping = connection->server->agent->stopping;
    for (gsize done = 0; done < size;) {
        ssize_t step = out ? send(connection->fd, bytes + done, size - done, MSG_NOSIGNAL)
                           : recv(connection->fd, bytes + done, size - done, 0);
        if (step > 0) {
            done += (gsize) step;
        } else if (step == 0 || (errno != EAGAIN && errno != EINTR) ||
                   !fiber_wait_fd(connection->fd, out ? G_IO_OUT : G_IO_IN, WAIT_MS, stopping,
                                  NULL)) {
            return false;
        }
    }
    return true;
}

static bool
send_message(const guint8 *message, gsize size, void *data)
{
    struct connection *connection = data;
    guint8 length[2] = {(guint8) (size >> 8), (guint8) size};
    return move(connection, length, sizeof length, true) &&
           move(connection, (guint8 *) (guintptr) message, size, true);
}

static void
connection_run(void *data)
{
    struct connection *connection = data;
    g_autofree guint8 *bytes = g_malloc(MESSAGE);
    guint8 length[2];
    while (move(connection, length, sizeof length, false)) {
        gsize size = ((gsize) length[0] << 8) | length[1];
        if (!move(connection, bytes, size, false)) {
            break;
        }
        answer(connection->server->agent, bytes, size, connection->address, true, send_message,
               connection);
    }
    connection->server->connections--;
    fd_close(&connection->fd);
    g_free(connection->address);
    g_free(connection);
}

static gboolean
on_tcp(int fd, GIOCondition condition, gpointer data)
{
    ZoneServer *server = data;
    struct sockaddr_storage from;
    socklen_t size = sizeof from;
    haw_autofd int got =
        accept4(fd, (struct sockaddr *) &from, &size, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (got < 0 || server->connections >= CONNECTIONS) { /* D3 */
        return G_SOURCE_CONTINUE;
    }
    struct connection *connection = g_new0(struct connection, 1);
    connection->server = server;
    connection->fd = fd_steal(&got);
    connection->address = address_text(&from);
    server->connections++;
    fiber_start("zone-connection", connection_run, connection);
    return G_SOURCE_CONTINUE;
}

/* ---- listening ---- */

ZoneServer *
zone_server_new(Agent *agent)
{
    ZoneServer *server = g_new0(ZoneServer, 1);
    server->agent = agent;
    server->udp = -1;
    server->tcp = -1;
    return server;
}

static void
quiet(ZoneServer *server)
{
    g_clear_handle_id(&server->on_udp, g_source_remove);
    g_clear_handle_id(&server->on_tcp, g_source_remove);
    fd_close(&server->udp);
    fd_close(&server->tcp);
}

void
zone_server_free(ZoneServer *server)
{
    if (server != NULL) {
        quiet(server);
        g_free(server);
    }
}

bool
zone_server_listen(Agent *agent, const char *key, const char *address, GError **error)
{
    ZoneServer *server = agent->zones;
    g_autofree char *host = NULL;
    guint16 number = 0;
    int one = 1;
    if (address == NULL || *address == '\0') {
        quiet(server);
        return true;
    }
    if (!grammar_parse_listen(address, PORT, &host, &number, error)) {
        return false;
    }
    g_autofree char *port = g_strdup_printf("%u", number);
    haw_autofd int udp = listen_udp(host, port, error);
    haw_autofd int tcp = udp >= 0 ? listen_tcp(host, port, error) : -1;
    if (tcp < 0) {
        return haw_push(error, "DNS server");
    }
    setsockopt(udp, IPPROTO_IPV6, IPV6_RECVPKTINFO, &one, sizeof one); /* of IPv6 sockets: D4 */
    quiet(server);
    server->udp = fd_steal(&udp);
    server->tcp = fd_steal(&tcp);
    server->on_udp = g_unix_fd_add(server->udp, G_IO_IN, on_udp, server);
    server->on_tcp = g_unix_fd_add(server->tcp, G_IO_IN, on_tcp, server);
    haw_info("zone.listening", KS("address", address));
    return true;
}
