/* Bytes between TLS and a plain socket.
 * N1  Each direction has a thread, so neither can hold up the other; GnuTLS allows one that receives
 *     beside one that sends. Memory is one record a direction: who is slow makes the other side wait.
 * N2  An end goes over as an end: of the plain side as TLS's goodbye, of the peer as end of file. What the
 *     peer still sends after our goodbye is taken for LINGER_MS, so that what we sent last arrives.
 * Called by tlsfront.c (connections to us) and dial.c (ours to other servers). */
#include "agent/api/tunnel.h"

#include <errno.h>
#include <glib.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { RECORD_BYTES = 16 * 1024, LINGER_MS = 2000, GOODBYE_MS = 1000 };

typedef struct {
    gnutls_session_t session;
    int net, plain;
} Tunnel;

static void
wait_for(int fd, short events, int wait_ms)
{
    struct pollfd watch = {.fd = fd, .events = events};
    poll(&watch, 1, wait_ms);
}

int
tunnel_handshake(gnutls_session_t session, int net, int wait_ms)
{
    gint64 end_us = g_get_monotonic_time() + (gint64) wait_ms * 1000;
    for (;;) {
        int status = gnutls_handshake(session);
        if (status == 0 || gnutls_error_is_fatal(status)) {
            return status;
        }
        gint64 left_ms = (end_us - g_get_monotonic_time()) / 1000;
        if (left_ms <= 0) {
            return GNUTLS_E_TIMEDOUT;
        }
        if (status == GNUTLS_E_AGAIN) {
            wait_for(net, gnutls_record_get_direction(session) == 1 ? POLLOUT : POLLIN,
                     (int) left_ms);
        }
    }
}

static bool
write_plain(int fd, const guint8 *bytes, size_t size)
{
    while (size > 0) {
        ssize_t n = send(fd, bytes, size, MSG_NOSIGNAL);
        if (n > 0) {
            bytes += n;
            size -= (size_t) n;
        } else if (n < 0 && errno == EAGAIN) {
            wait_for(fd, POLLOUT, -1);
        } else if (n < 0 && errno != EINTR) {
            return false;
        }
    }
    return true;
}

static bool
write_secure(Tunnel *tunnel, const guint8 *bytes, size_t size)
{
    while (size > 0) {
        ssize_t n = gnutls_record_send(tunnel->session, bytes, size);
        if (n > 0) {
            bytes += n;
            size -= (size_t) n;
        } else if (n == GNUTLS_E_AGAIN) {
            wait_for(tunnel->net, POLLOUT, -1);
        } else if (n < 0 && n != GNUTLS_E_INTERRUPTED) {
            return false;
        }
    }
    return true;
}

static gpointer
run_out(gpointer data)
{
    Tunnel *tunnel = data;
    g_autofree guint8 *record = g_malloc(RECORD_BYTES);
    for (;;) {
        ssize_t n = recv(tunnel->plain, record, RECORD_BYTES, 0);
        if (n < 0 && errno == EAGAIN) {
            wait_for(tunnel->plain, POLLIN, -1);
        } else if (n == 0 || (n < 0 && errno != EINTR) ||
                   (n > 0 && !write_secure(tunnel, record, (size_t) n))) {
            break;
        }
    }
    if (gnutls_bye(tunnel->session, GNUTLS_SHUT_WR) == GNUTLS_E_AGAIN) { /* N2 */
        wait_for(tunnel->net, POLLOUT, GOODBYE_MS);
        gnutls_bye(tunnel->session, GNUTLS_SHUT_WR);
    }
    shutdown(tunnel->net, SHUT_WR);
    wait_for(tunnel->net, POLLRDHUP, LINGER_MS);
    shutdown(tunnel->net, SHUT_RDWR);
    return NULL;
}

void
tunnel_run(gnutls_session_t session, int net, int plain)
{
    Tunnel tunnel = {.session = session, .net = net, .plain = plain};
    g_autofree guint8 *record = g_malloc(RECORD_BYTES);
    GThread *out = g_thread_new("tls-out", run_out, &tunnel);
    for (;;) {
        ssize_t n = gnutls_record_recv(session, record, RECORD_BYTES);
        if (n == GNUTLS_E_AGAIN) {
            wait_for(net, POLLIN, -1);
        } else if (n == 0 || (n < 0 && gnutls_error_is_fatal((int) n)) ||
                   (n > 0 && !write_plain(plain, record, (size_t) n))) {
            break;
        }
    }
    shutdown(plain, SHUT_WR);
    g_thread_join(out);
}
