/* TLS before the HTTP server.
 * libmicrohttpd 0.9.75 can do TLS itself, but carries a connection that was upgraded to a WebSocket four bytes
 * at a time, and now and then forgets to go on. So TLS ends here: each connection has a thread that shakes
 * hands and then carries bytes (tunnel.c) to one end of a socket pair; the HTTP server gets the other.
 * H1  TLS 1.2 is the floor. A client is asked for a certificate, of any issuer (trust is by fingerprint)
 *     or of our authority.
 * H2  A handshake takes HANDSHAKE_MS at most, and at most HANDSHAKES_MAX go on at once: who comes then is
 *     hung up on.
 * H3  Threads outlive the front: credentials are counted, and an arrival at a closed front is dropped.
 * H4  A trusted proxy says in a header before TLS whom it speaks for (proxyhead.c); nobody else can.
 * Called by server.c; main loop, but for the threads. */
#include "agent/api/tlsfront.h"

#include "agent/api/proxyhead.h"
#include "agent/api/tunnel.h"
#include "base/fd.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <glib-unix.h>
#include <gnutls/gnutls.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <unistd.h>

enum { HANDSHAKE_MS = 10 * 1000, HANDSHAKES_MAX = 256, ACCEPTS_A_TURN = 64 };
#define PRIORITIES "SECURE128:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2" /* H1 */

struct TlsFront {
    gint refs; /* atomic: the main loop's, and one a thread until its arrival was handled */
    gint handshakes;
    gnutls_certificate_credentials_t credentials;
    gnutls_priority_t priorities;
    bool any_issuer;
    int fd; /* main loop only, as all that follows */
    guint source;
    TlsFrontFn fn;
    TlsFrontProxyFn is_proxy;
    void *data;
};

typedef struct {
    TlsFront *front;
    int net, plain, given; /* given: the HTTP server's end */
    struct sockaddr_storage address;
    socklen_t size;
    bool proxied; /* H4 */
    GBytes *certificate;
} Arrival;

static void
front_unref(TlsFront *front)
{
    if (g_atomic_int_dec_and_test(&front->refs)) {
        gnutls_certificate_free_credentials(front->credentials);
        gnutls_priority_deinit(front->priorities);
        g_free(front);
    }
}

/* ---- one connection: its thread ---- */

static gboolean
on_arrival(gpointer data)
{
    Arrival *arrival = data;
    TlsFront *front = arrival->front;
    if (front->fn != NULL) { /* H3 */
        front->fn(&arrival->given, (const struct sockaddr *) &arrival->address, arrival->size,
                  arrival->certificate, front->data);
    }
    fd_close(&arrival->given);
    if (arrival->certificate != NULL) {
        g_bytes_unref(arrival->certificate);
    }
    front_unref(front);
    g_free(arrival);
    return G_SOURCE_REMOVE;
}

/* Gives the record to the main loop. */
static void
announce(Arrival **arrival, gnutls_session_t session)
{
    unsigned count = 0;
    const gnutls_datum_t *shown = gnutls_certificate_get_peers(session, &count);
    (*arrival)->certificate = count > 0 ? g_bytes_new(shown[0].data, shown[0].size) : NULL;
    g_idle_add_full(G_PRIORITY_DEFAULT, on_arrival, g_steal_pointer(arrival), NULL);
}

static gnutls_session_t
session_new(const TlsFront *front, int net)
{
    gnutls_session_t session;
    gnutls_init(&session, GNUTLS_SERVER | GNUTLS_NONBLOCK);
    gnutls_priority_set(session, front->priorities);
    gnutls_credentials_set(session, GNUTLS_CRD_CERTIFICATE, front->credentials);
    gnutls_certificate_server_set_request(session, GNUTLS_CERT_REQUEST); /* H1 */
    gnutls_certificate_send_x509_rdn_sequence(session, front->any_issuer ? 1 : 0);
    gnutls_transport_set_int(session, net);
    return session;
}

static gpointer
serve(gpointer data)
{
    Arrival *arrival = data;
    TlsFront *front = arrival->front;
    haw_autofd int net = arrival->net;
    haw_autofd int plain = arrival->plain;
    g_atomic_int_inc(&front->refs); /* the session needs the credentials until its end */
    gnutls_session_t session = session_new(front, net);
    bool ok = (!arrival->proxied ||
               proxyhead_read(net, HANDSHAKE_MS, &arrival->address, &arrival->size)) &&
              tunnel_handshake(session, net, HANDSHAKE_MS) == 0;
    g_atomic_int_dec_and_test(&front->handshakes);
    if (ok) {
        announce(&arrival, session);
        tunnel_run(session, net, plain);
    } else {
        close(arrival->given);
        front_unref(front);
        g_free(arrival);
    }
    gnutls_deinit(session);
    front_unref(front);
    return NULL;
}

/* ---- accepting ---- */

static void
take(TlsFront *front, int net, const struct sockaddr_storage *address, socklen_t size)
{
    int pair[2], on = 1;
    if (g_atomic_int_get(&front->handshakes) >= HANDSHAKES_MAX || /* H2 */
        socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0) {
        close(net);
        return;
    }
    setsockopt(net, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(net, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    Arrival *arrival = g_new0(Arrival, 1);
    *arrival =
        (Arrival){.front = front,
                  .net = net,
                  .plain = pair[0],
                  .given = pair[1],
                  .address = *address,
                  .size = size,
                  .proxied = front->is_proxy((const struct sockaddr *) address, size, front->data)};
    g_atomic_int_inc(&front->refs);
    g_atomic_int_inc(&front->handshakes);
    g_autoptr(GError) error = NULL;
    GThread *thread = g_thread_try_new("tls", serve, arrival, &error);
    if (thread != NULL) {
        g_thread_unref(thread);
        return;
    }
    haw_warn("tls.no_thread", KS("why", error->message));
    g_atomic_int_dec_and_test(&front->handshakes);
    close(net);
    close(pair[0]);
    close(pair[1]);
    g_free(arrival);
    front_unref(front);
}

static gboolean
on_accept(gint fd, GIOCondition condition, gpointer data)
{
    TlsFront *front = data;
    for (int i = 0; i < ACCEPTS_A_TURN; i++) {
        struct sockaddr_storage address;
        socklen_t size = sizeof address;
        int net = accept4(fd, (struct sockaddr *) &address, &size, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (net < 0) {
            break;
        }
        take(front, net, &address, size);
    }
    return G_SOURCE_CONTINUE;
}

static gnutls_datum_t
datum(const char *text)
{
    return (gnutls_datum_t){(unsigned char *) text, (unsigned) strlen(text)};
}

TlsFront *
tlsfront_new(int *fd, const TlsFrontSpec *spec, TlsFrontFn fn, void *data, GError **error)
{
    gnutls_datum_t cert = datum(spec->cert_pem), key = datum(spec->key_pem);
    TlsFront *front = g_new0(TlsFront, 1);
    front->refs = 1;
    front->any_issuer = spec->ca_pem == NULL;
    gnutls_certificate_allocate_credentials(&front->credentials);
    gnutls_priority_init(&front->priorities, PRIORITIES, NULL);
    int status =
        gnutls_certificate_set_x509_key_mem(front->credentials, &cert, &key, GNUTLS_X509_FMT_PEM);
    if (status >= 0 && spec->ca_pem != NULL) {
        gnutls_datum_t authority = datum(spec->ca_pem);
        status = gnutls_certificate_set_x509_trust_mem(front->credentials, &authority,
                                                       GNUTLS_X509_FMT_PEM);
    }
    if (status < 0) {
        front_unref(front);
        haw_fail(error, HAW_INVALID, "The server's certificate can't be used: %s",
                 gnutls_strerror(status));
        return NULL;
    }
    front->fd = fd_steal(fd);
    front->fn = fn;
    front->is_proxy = spec->is_proxy;
    front->data = data;
    fcntl(front->fd, F_SETFL, fcntl(front->fd, F_GETFL) | O_NONBLOCK);
    front->source = g_unix_fd_add(front->fd, G_IO_IN, on_accept, front);
    return front;
}

void
tlsfront_close(TlsFront *front)
{
    if (front->source != 0) {
        g_source_remove(front->source);
        front->source = 0;
        fd_close(&front->fd);
    }
}

void
tlsfront_free(TlsFront *front)
{
    if (front != NULL) {
        tlsfront_close(front);
        front->fn = NULL; /* H3 */
        front_unref(front);
    }
}
