/* Dialling another server.
 * D1  The server is who its certificate says: the very one that was named, or one that the system's
 *     authorities vouch for under the URL's name.
 * D2  Connecting and shaking hands is bounded (DIAL_WAIT_MS each).
 * D3  After the TLS handshake a thread owns session and socket, and carries bytes between them and one
 *     end of a socket pair; the main loop has the other end and sees plain bytes. The thread ends with
 *     either side.
 * Called by moveconn.c. */
#include "agent/move/dial.h"

#include "agent/api/tunnel.h"
#include "base/fd.h"
#include "base/fiber.h"
#include "base/ids.h"

#include <errno.h>
#include <fcntl.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { DIAL_WAIT_MS = 10 * 1000, ANSWER_MAX = 16 * 1024 };

typedef struct {
    const char *host, *port, *pem;
    int fd;
    gnutls_certificate_credentials_t credentials;
    gnutls_session_t session;
    GError *error;
} Dialling;

/* What the thread owns: D3. */
typedef struct {
    int net, plain;
    gnutls_certificate_credentials_t credentials;
    gnutls_session_t session;
} Tunnel;

/* ---- connecting: on a worker ---- */

static int
connect_one(const struct addrinfo *to)
{
    haw_autofd int fd =
        socket(to->ai_family, to->ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, to->ai_protocol);
    int on = 1, problem = 0;
    socklen_t size = sizeof problem;
    if (fd < 0) {
        return -1;
    }
    if (connect(fd, to->ai_addr, to->ai_addrlen) < 0) {
        struct pollfd watch = {.fd = fd, .events = POLLOUT};
        if (errno != EINPROGRESS) {
            return -1;
        }
        if (poll(&watch, 1, DIAL_WAIT_MS) <= 0) {
            errno = ETIMEDOUT;
            return -1;
        }
        getsockopt(fd, SOL_SOCKET, SO_ERROR, &problem, &size);
        if (problem != 0) {
            errno = problem;
            return -1;
        }
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    return fd_steal(&fd);
}

static bool
connect_any(Dialling *dial)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *list = NULL;
    int status = getaddrinfo(dial->host, dial->port, &hints, &list);
    if (status != 0) {
        return haw_fail(&dial->error, HAW_UNAVAILABLE, "Find \"%s\": %s", dial->host,
                        gai_strerror(status));
    }
    for (struct addrinfo *each = list; each != NULL && dial->fd < 0; each = each->ai_next) {
        dial->fd = connect_one(each);
    }
    int problem = errno;
    freeaddrinfo(list);
    return dial->fd >= 0 || haw_fail(&dial->error, HAW_UNAVAILABLE, "Connect to \"%s:%s\": %s",
                                     dial->host, dial->port, g_strerror(problem));
}

/* D1, the first half. */
static bool
same_certificate(Dialling *dial)
{
    gnutls_x509_crt_t wanted;
    gnutls_datum_t text = {(unsigned char *) dial->pem, (unsigned) strlen(dial->pem)};
    gnutls_datum_t der = {NULL, 0};
    unsigned count = 0;
    const gnutls_datum_t *shown = gnutls_certificate_get_peers(dial->session, &count);
    gnutls_x509_crt_init(&wanted);
    bool ok = gnutls_x509_crt_import(wanted, &text, GNUTLS_X509_FMT_PEM) == 0 &&
              gnutls_x509_crt_export2(wanted, GNUTLS_X509_FMT_DER, &der) == 0 && count > 0 &&
              shown[0].size == der.size && memcmp(shown[0].data, der.data, der.size) == 0;
    gnutls_x509_crt_deinit(wanted);
    gnutls_free(der.data);
    return ok || haw_fail(&dial->error, HAW_DENIED,
                          "\"%s:%s\" shows another certificate than the one that was given",
                          dial->host, dial->port);
}

static bool
trusted_name(Dialling *dial)
{
    unsigned status = 0;
    return (gnutls_certificate_verify_peers3(dial->session, dial->host, &status) == 0 &&
            status == 0) ||
           haw_fail(&dial->error, HAW_DENIED, "The certificate of \"%s:%s\" is not trusted",
                    dial->host, dial->port);
}

static bool
secure(Dialling *dial)
{
    gnutls_certificate_allocate_credentials(&dial->credentials);
    gnutls_init(&dial->session, GNUTLS_CLIENT | GNUTLS_NONBLOCK);
    gnutls_set_default_priority_append(dial->session, "-VERS-TLS1.0:-VERS-TLS1.1", NULL, 0);
    gnutls_credentials_set(dial->session, GNUTLS_CRD_CERTIFICATE, dial->credentials);
    if (*dial->pem == '\0') {
        gnutls_certificate_set_x509_system_trust(dial->credentials);
        gnutls_server_name_set(dial->session, GNUTLS_NAME_DNS, dial->host, strlen(dial->host));
    }
    gnutls_transport_set_int(dial->session, dial->fd);
    int status = tunnel_handshake(dial->session, dial->fd, DIAL_WAIT_MS); /* D2 */
    if (status < 0) {
        return haw_fail(&dial->error, HAW_UNAVAILABLE, "TLS with \"%s:%s\": %s", dial->host,
                        dial->port, gnutls_strerror(status));
    }
    return *dial->pem != '\0' ? same_certificate(dial) : trusted_name(dial);
}

static void
dial_worker(void *data)
{
    Dialling *dial = data;
    if (!connect_any(dial) || !secure(dial)) {
        fd_close(&dial->fd);
    }
}

/* ---- the tunnel: D3 ---- */

static gpointer
carry(gpointer data)
{
    Tunnel *tunnel = data;
    tunnel_run(tunnel->session, tunnel->net, tunnel->plain);
    gnutls_deinit(tunnel->session);
    gnutls_certificate_free_credentials(tunnel->credentials);
    close(tunnel->net);
    close(tunnel->plain);
    g_free(tunnel);
    return NULL;
}

/* Our end of the pair; the thread has the rest. */
static int
tunnel_start(Dialling *dial, GError **error)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0) {
        haw_fail_errno(error, errno, "make a socket pair");
        return -1;
    }
    Tunnel *tunnel = g_new0(Tunnel, 1);
    *tunnel = (Tunnel){.net = fd_steal(&dial->fd),
                       .plain = pair[0],
                       .credentials = g_steal_pointer(&dial->credentials),
                       .session = g_steal_pointer(&dial->session)};
    g_thread_unref(g_thread_new("dial", carry, tunnel));
    fcntl(pair[1], F_SETFL, fcntl(pair[1], F_GETFL) | O_NONBLOCK);
    return pair[1];
}

/* ---- the WebSocket ---- */

/* Reads up to the empty line; what follows it stays in 'answer'. */
static bool
read_answer(int fd, GByteArray *answer, size_t *ret_head, GCancellable *cancel, GError **error)
{
    while (answer->len < ANSWER_MAX) {
        guint8 chunk[2048];
        ssize_t n = recv(fd, chunk, sizeof chunk, 0);
        if (n < 0 && errno == EAGAIN) {
            if (!fiber_wait_fd(fd, G_IO_IN, DIAL_WAIT_MS, cancel, error)) {
                return false;
            }
            continue;
        }
        if (n <= 0) {
            return haw_fail(error, HAW_UNAVAILABLE, "The other server hung up");
        }
        g_byte_array_append(answer, chunk, (guint) n);
        const guint8 *end = memmem(answer->data, answer->len, "\r\n\r\n", 4);
        if (end != NULL) {
            *ret_head = (size_t) (end - answer->data) + 4;
            return true;
        }
    }
    return haw_fail(error, HAW_CORRUPT, "The other server's answer is too long");
}

static Ws *
upgrade(int *fd, const char *host, const char *path, GCancellable *cancel, GError **error)
{
    guint8 nonce[16];
    ids_random(nonce, sizeof nonce);
    g_autofree char *key = g_base64_encode(nonce, sizeof nonce);
    g_autofree char *ask =
        g_strdup_printf("GET %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: Hawser/%s\r\n"
                        "Upgrade: websocket\r\nConnection: Upgrade\r\n"
                        "Sec-WebSocket-Version: 13\r\n"
                        "Sec-WebSocket-Key: %s\r\n\r\n",
                        path, host, HAWSER_VERSION, key);
    g_autoptr(GByteArray) answer = g_byte_array_new();
    size_t head = 0, size = strlen(ask);
    /* Far below what a fresh socket pair takes. */
    if (send(*fd, ask, size, MSG_NOSIGNAL) != (ssize_t) size) {
        haw_fail(error, HAW_UNAVAILABLE, "The other server hung up");
        return NULL;
    }
    if (!read_answer(*fd, answer, &head, cancel, error)) {
        return NULL;
    }
    if (answer->len < 12 || memcmp(answer->data, "HTTP/1.1 101", 12) != 0) {
        g_autofree char *text = g_strndup((const char *) answer->data, answer->len);
        const char *why = strstr(text, "\"error\":\"");
        g_autofree char *said = why != NULL ? g_strndup(why + 9, strcspn(why + 9, "\""))
                                            : g_strndup(text, strcspn(text, "\r\n"));
        haw_fail(error, HAW_UNAVAILABLE, "The other server refuses the websocket: %s", said);
        return NULL;
    }
    Ws *ws = ws_new(fd, false, 1024 * 1024);
    ws_feed(ws, answer->data + head, answer->len - head);
    return ws;
}

static char *
websocket_path(GUri *uri, const char *secret)
{
    const char *query = g_uri_get_query(uri);
    g_autofree char *escaped = g_uri_escape_string(secret, NULL, FALSE);
    return g_strdup_printf("%s/websocket?%s%ssecret=%s", g_uri_get_path(uri),
                           query != NULL ? query : "", query != NULL ? "&" : "", escaped);
}

Ws *
dial_websocket(const char *url, const char *secret, const char *certificate, GCancellable *cancel,
               GError **error)
{
    g_autoptr(GUri) uri = g_uri_parse(url, G_URI_FLAGS_ENCODED, NULL);
    if (uri == NULL || g_strcmp0(g_uri_get_scheme(uri), "https") != 0 ||
        g_uri_get_host(uri) == NULL || strpbrk(url, " \r\n") != NULL) {
        haw_fail(error, HAW_INVALID, "\"%s\" is no https address of an operation", url);
        return NULL;
    }
    int number = g_uri_get_port(uri);
    g_autofree char *port = g_strdup_printf("%d", number > 0 ? number : 443);
    g_autofree char *path = websocket_path(uri, secret);
    Dialling dial = {.host = g_uri_get_host(uri),
                     .port = port,
                     .pem = certificate != NULL ? certificate : "",
                     .fd = -1};
    fiber_run(dial_worker, &dial);
    haw_autofd int fd = dial.fd >= 0 ? tunnel_start(&dial, error) : -1;
    if (dial.session != NULL) {
        gnutls_deinit(dial.session);
    }
    if (dial.credentials != NULL) {
        gnutls_certificate_free_credentials(dial.credentials);
    }
    fd_close(&dial.fd);
    if (dial.error != NULL) {
        g_propagate_error(error, dial.error);
    }
    return fd >= 0 ? upgrade(&fd, dial.host, path, cancel, error) : NULL;
}
