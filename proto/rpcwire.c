/* Sockets and TLS for JSON-RPC.
 * W1  The descriptor never blocks; whoever wants to wait uses fiber_wait_fd() on it.
 * W2  Without a CA no TLS connection is made: an unverified database would tell us what to do.
 * Called by jsonrpc.c. */
#include "proto/rpcwire.h"

#include <errno.h>
#include <gnutls/gnutls.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/fiber.h"

struct RpcWire {
    int fd;                                /* owned */
    gnutls_session_t tls;                  /* owned, NULL without TLS */
    gnutls_certificate_credentials_t cred; /* owned */
};

struct address {
    char *host, *port; /* owned */
};

/* "HOST:PORT", "[v6]:PORT". */
static bool
split_address(const char *text, struct address *ret)
{
    const char *colon = strrchr(text, ':');
    char *end = NULL;
    if (colon == NULL || colon == text || g_ascii_strtoull(colon + 1, &end, 10) == 0 ||
        *end != '\0' || g_ascii_strtoull(colon + 1, NULL, 10) > 65535) {
        return false;
    }
    bool bracketed = text[0] == '[' && colon[-1] == ']';
    const char *from = bracketed ? text + 1 : text;
    size_t length = (size_t) (colon - from) - (bracketed ? 1 : 0);
    if (length == 0 || (!bracketed && memchr(from, ':', length) != NULL)) {
        return false;
    }
    ret->host = g_strndup(from, length);
    ret->port = g_strdup(colon + 1);
    return true;
}

static void
address_clear(struct address *address)
{
    g_free(address->host);
    g_free(address->port);
}

bool
rpcwire_check(const char *remote, GError **error)
{
    struct address address = {NULL, NULL};
    bool ok = (g_str_has_prefix(remote, "unix:/") &&
               strlen(remote + 5) < sizeof((struct sockaddr_un *) NULL)->sun_path) ||
              ((g_str_has_prefix(remote, "tcp:") || g_str_has_prefix(remote, "ssl:")) &&
               split_address(remote + 4, &address));
    address_clear(&address);
    return ok || haw_fail(error, HAW_INVALID,
                          "Invalid remote \"%s\" (must be unix:PATH, tcp:HOST:PORT or "
                          "ssl:HOST:PORT)",
                          remote);
}

/* ---- sockets ---- */

static bool
connect_fd(int fd, const struct sockaddr *address, socklen_t size, gint64 wait_ms,
           GCancellable *cancel, GError **error)
{
    if (connect(fd, address, size) == 0) {
        return true;
    }
    if (errno != EINPROGRESS && errno != EAGAIN) {
        int err = errno;
        return haw_fail(error, HAW_UNAVAILABLE, "%s", g_strerror(err));
    }
    if (!fiber_wait_fd(fd, G_IO_OUT, wait_ms, cancel, error)) {
        return false;
    }
    int err = 0;
    socklen_t length = sizeof err;
    getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &length);
    return err == 0 || haw_fail(error, HAW_UNAVAILABLE, "%s", g_strerror(err));
}

static int
open_unix(const char *path, gint64 wait_ms, GCancellable *cancel, GError **error)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    haw_autofd int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    g_strlcpy(address.sun_path, path, sizeof address.sun_path);
    if (fd < 0) {
        haw_fail_errno(error, errno, "make a socket");
        return -1;
    }
    if (!connect_fd(fd, (struct sockaddr *) &address, sizeof address, wait_ms, cancel, error)) {
        return -1;
    }
    return fd_steal(&fd);
}

struct lookup {
    const struct address *address;
    struct addrinfo *found; /* owned */
    int result;
};

/* On a worker: names may need a name server. */
static void
look_up(void *data)
{
    struct lookup *lookup = data;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
    lookup->result =
        getaddrinfo(lookup->address->host, lookup->address->port, &hints, &lookup->found);
}

static int
open_tcp(const struct address *address, gint64 wait_ms, GCancellable *cancel, GError **error)
{
    struct lookup lookup = {.address = address};
    fiber_run(look_up, &lookup);
    if (lookup.result != 0) {
        haw_fail(error, HAW_UNAVAILABLE, "%s", gai_strerror(lookup.result));
        return -1;
    }
    haw_autofd int fd = -1;
    bool ok = false;
    for (struct addrinfo *at = lookup.found; at != NULL && !ok; at = at->ai_next) {
        g_clear_error(error);
        fd_close(&fd);
        fd = socket(at->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        ok = fd >= 0 ? connect_fd(fd, at->ai_addr, at->ai_addrlen, wait_ms, cancel, error)
                     : haw_fail_errno(error, errno, "make a socket");
    }
    freeaddrinfo(lookup.found);
    if (!ok) {
        return -1;
    }
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on); /* small requests, each waited for */
    return fd_steal(&fd);
}

/* ---- TLS ---- */

static bool
gnutls_ok(int code, const char *what, GError **error)
{
    return code >= 0 || haw_fail(error, HAW_INVALID, "%s: %s", what, gnutls_strerror(code));
}

static gnutls_datum_t
datum(const char *text)
{
    return (gnutls_datum_t){(unsigned char *) (uintptr_t) text, (unsigned) strlen(text)};
}

static bool
tls_init(RpcWire *wire, const RpcWireTls *tls, GError **error)
{
    if (tls == NULL || tls->ca_pem == NULL) { /* W2 */
        return haw_fail(error, HAW_INVALID,
                        "a CA certificate is needed for TLS (network.ovn.ca_cert)");
    }
    gnutls_datum_t ca = datum(tls->ca_pem);
    gnutls_certificate_allocate_credentials(&wire->cred);
    if (!gnutls_ok(gnutls_certificate_set_x509_trust_mem(wire->cred, &ca, GNUTLS_X509_FMT_PEM),
                   "CA certificate", error)) {
        return false;
    }
    if (tls->cert_pem != NULL && tls->key_pem != NULL) {
        gnutls_datum_t cert = datum(tls->cert_pem);
        gnutls_datum_t key = datum(tls->key_pem);
        if (!gnutls_ok(
                gnutls_certificate_set_x509_key_mem(wire->cred, &cert, &key, GNUTLS_X509_FMT_PEM),
                "client certificate and key", error)) {
            return false;
        }
    }
    gnutls_init(&wire->tls, GNUTLS_CLIENT | GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL);
    gnutls_set_default_priority(wire->tls);
    gnutls_credentials_set(wire->tls, GNUTLS_CRD_CERTIFICATE, wire->cred);
    gnutls_session_set_verify_cert(wire->tls, NULL, 0);
    gnutls_transport_set_int(wire->tls, wire->fd);
    return true;
}

static bool
shake_hands(RpcWire *wire, gint64 wait_ms, GCancellable *cancel, GError **error)
{
    gint64 end_us = clock_mono_us() + wait_ms * 1000;
    int code;
    while ((code = gnutls_handshake(wire->tls)) < 0) {
        if (code == GNUTLS_E_CERTIFICATE_VERIFICATION_ERROR) {
            return haw_fail(error, HAW_DENIED, "its certificate is not of the given CA");
        }
        if (gnutls_error_is_fatal(code)) {
            return haw_fail(error, HAW_UNAVAILABLE, "TLS: %s", gnutls_strerror(code));
        }
        if (code == GNUTLS_E_AGAIN &&
            !fiber_wait_fd(wire->fd, gnutls_record_get_direction(wire->tls) ? G_IO_OUT : G_IO_IN,
                           MAX((end_us - clock_mono_us()) / 1000, 0), cancel, error)) {
            return false;
        }
    }
    return true;
}

/* ---- the wire ---- */

RpcWire *
rpcwire_open(const char *remote, const RpcWireTls *tls, gint64 wait_ms, GCancellable *cancel,
             GError **error)
{
    g_autoptr(RpcWire) wire = g_new0(RpcWire, 1);
    struct address address = {NULL, NULL};
    wire->fd = -1;
    if (!rpcwire_check(remote, error)) {
        return NULL;
    }
    if (g_str_has_prefix(remote, "unix:")) {
        wire->fd = open_unix(remote + 5, wait_ms, cancel, error);
    } else {
        split_address(remote + 4, &address);
        wire->fd = open_tcp(&address, wait_ms, cancel, error);
        address_clear(&address);
    }
    if (wire->fd < 0 ||
        (g_str_has_prefix(remote, "ssl:") &&
         (!tls_init(wire, tls, error) || !shake_hands(wire, wait_ms, cancel, error)))) {
        haw_push(error, "connect to '%s'", remote);
        return NULL;
    }
    return g_steal_pointer(&wire);
}

void
rpcwire_close(RpcWire *wire)
{
    if (wire == NULL) {
        return;
    }
    if (wire->tls != NULL) {
        gnutls_bye(wire->tls, GNUTLS_SHUT_WR); /* once, without waiting */
        gnutls_deinit(wire->tls);
    }
    if (wire->cred != NULL) {
        gnutls_certificate_free_credentials(wire->cred);
    }
    fd_close(&wire->fd);
    g_free(wire);
}

int
rpcwire_fd(const RpcWire *wire)
{
    return wire->fd;
}

static gssize
tls_result(gssize moved, GError **error)
{
    if (moved > 0 || moved == GNUTLS_E_AGAIN || moved == GNUTLS_E_INTERRUPTED) {
        return MAX(moved, 0);
    }
    if (moved < 0 && !gnutls_error_is_fatal((int) moved)) {
        return 0; /* a warning alert, a rehandshake that we refuse */
    }
    haw_fail(error, HAW_UNAVAILABLE, "TLS: %s",
             moved == 0 ? "closed by the peer" : gnutls_strerror((int) moved));
    return -1;
}

static gssize
plain_result(gssize moved, GError **error)
{
    if (moved > 0) {
        return moved;
    }
    if (moved < 0 && (errno == EAGAIN || errno == EINTR)) {
        return 0;
    }
    int err = errno;
    haw_fail(error, HAW_UNAVAILABLE, "%s", moved == 0 ? "closed by the peer" : g_strerror(err));
    return -1;
}

gssize
rpcwire_read(RpcWire *wire, void *bytes, size_t size, GError **error)
{
    return wire->tls != NULL ? tls_result(gnutls_record_recv(wire->tls, bytes, size), error)
                             : plain_result(recv(wire->fd, bytes, size, 0), error);
}

gssize
rpcwire_write(RpcWire *wire, const void *bytes, size_t size, GError **error)
{
    return wire->tls != NULL ? tls_result(gnutls_record_send(wire->tls, bytes, size), error)
                             : plain_result(send(wire->fd, bytes, size, MSG_NOSIGNAL), error);
}
