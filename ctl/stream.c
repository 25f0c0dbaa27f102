/* Connections below HTTP, for WebSockets and other protocols that begin with an upgrade.
 * S1  A TLS server is checked before the first byte of ours: its certificate is the pinned one, or
 *     the system trusts it for that name (rest.c T1 says the same of requests).
 * Called by wsclient.c, cmd_file.c (sftp) and cmd_remote.c. */
#include "ctl/stream.h"

#include <errno.h>
#include <fcntl.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <netdb.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/fd.h"
#include "ctl/identity.h"
#include "ctl/interrupt.h"

enum { HEAD_MAX = 16 * 1024, WAIT_MS = 15000 };

struct Stream {
    int fd;                                       /* owns */
    gnutls_session_t tls;                         /* owns; NULL: plain */
    gnutls_certificate_credentials_t credentials; /* owns */
    GByteArray *back;                             /* owns: read too far, given again first */
};

Stream *
stream_take_fd(int fd)
{
    Stream *stream = g_new0(Stream, 1);
    stream->fd = fd;
    stream->back = g_byte_array_new();
    int flags = fcntl(fd, F_GETFL);
    fcntl(fd, F_SETFL, flags | O_NONBLOCK);
    return stream;
}

void
stream_free(Stream *stream)
{
    if (stream == NULL) {
        return;
    }
    if (stream->tls != NULL) {
        gnutls_bye(stream->tls, GNUTLS_SHUT_WR);
        gnutls_deinit(stream->tls);
    }
    if (stream->credentials != NULL) {
        gnutls_certificate_free_credentials(stream->credentials);
    }
    fd_close(&stream->fd);
    g_byte_array_unref(stream->back);
    g_free(stream);
}

int
stream_fd(const Stream *stream)
{
    return stream->fd;
}

bool
stream_pending(const Stream *stream)
{
    return stream->back->len > 0 ||
           (stream->tls != NULL && gnutls_record_check_pending(stream->tls) > 0);
}

static int
connect_unix(const char *path, GError **error)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    haw_autofd int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (strlen(path) >= sizeof address.sun_path) {
        haw_fail(error, HAW_INVALID, "'%s' is too long for a socket", path);
        return -1;
    }
    g_strlcpy(address.sun_path, path, sizeof address.sun_path);
    if (fd < 0 || connect(fd, (struct sockaddr *) &address, sizeof address) != 0) {
        haw_fail_errno(error, errno, "connect to '%s'", path);
        return -1;
    }
    return fd_steal(&fd);
}

static int
connect_tcp(const char *host, int port, GError **error)
{
    g_autofree char *service = g_strdup_printf("%d", port);
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found = NULL;
    int code = getaddrinfo(host, service, &hints, &found);
    if (code != 0) {
        haw_fail(error, HAW_UNAVAILABLE, "look up '%s': %s", host, gai_strerror(code));
        return -1;
    }
    int err = ECONNREFUSED;
    haw_autofd int fd = -1;
    for (struct addrinfo *at = found; at != NULL && fd < 0; at = at->ai_next) {
        fd = socket(at->ai_family, at->ai_socktype | SOCK_CLOEXEC, at->ai_protocol);
        if (fd < 0 || connect(fd, at->ai_addr, at->ai_addrlen) != 0) {
            err = errno;
            fd_close(&fd);
        }
    }
    freeaddrinfo(found);
    if (fd < 0) {
        haw_fail_errno(error, err, "connect to '%s' port %d", host, port);
        return -1;
    }
    return fd_steal(&fd);
}

static bool
wait_for_fd(const Stream *stream, short events, GError **error)
{
    struct pollfd wait = {.fd = stream->fd, .events = events};
    int got = poll(&wait, 1, WAIT_MS);
    if (interrupt_seen()) {
        return haw_fail(error, HAW_CANCELLED, "interrupted");
    }
    if (got == 0) {
        return haw_fail(error, HAW_TIMEOUT, "the server says nothing");
    }
    return got > 0 || errno == EINTR || haw_fail_errno(error, errno, "wait for the server");
}

static char *
peer_pem(const Stream *stream)
{
    unsigned count = 0;
    const gnutls_datum_t *der = gnutls_certificate_get_peers(stream->tls, &count);
    gnutls_datum_t pem = {0};
    if (count == 0 || gnutls_pem_base64_encode2("CERTIFICATE", der, &pem) < 0) {
        return NULL;
    }
    char *text = g_strndup((const char *) pem.data, pem.size);
    gnutls_free(pem.data);
    return text;
}

/* S1 */
static bool
check_peer(const Stream *stream, const char *host, const char *pin_pem, GError **error)
{
    if (pin_pem != NULL) {
        g_autofree char *pem = peer_pem(stream);
        g_autofree char *shown = pem != NULL ? identity_pin(pem, NULL) : NULL;
        g_autofree char *wanted = identity_pin(pin_pem, error);
        return wanted != NULL && (g_strcmp0(shown, wanted) == 0 ||
                                  haw_fail(error, HAW_DENIED, "'%s' is another server", host));
    }
    unsigned status = 0;
    int code = gnutls_certificate_verify_peers3(stream->tls, host, &status);
    return (code >= 0 && status == 0) ||
           haw_fail(error, HAW_DENIED, "the certificate of '%s' is not trusted", host);
}

static bool
handshake(Stream *stream, const char *host, const char *cert, const char *key, GError **error)
{
    gnutls_certificate_allocate_credentials(&stream->credentials);
    gnutls_certificate_set_x509_system_trust(stream->credentials);
    if (cert != NULL && gnutls_certificate_set_x509_key_file(stream->credentials, cert, key,
                                                             GNUTLS_X509_FMT_PEM) < 0) {
        return haw_fail(error, HAW_FAILED, "read '%s' and '%s'", cert, key);
    }
    gnutls_init(&stream->tls, GNUTLS_CLIENT | GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL);
    gnutls_priority_set_direct(stream->tls, "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2", NULL);
    gnutls_credentials_set(stream->tls, GNUTLS_CRD_CERTIFICATE, stream->credentials);
    gnutls_server_name_set(stream->tls, GNUTLS_NAME_DNS, host, strlen(host));
    gnutls_transport_set_int(stream->tls, stream->fd);
    int code;
    while ((code = gnutls_handshake(stream->tls)) < 0 && gnutls_error_is_fatal(code) == 0) {
        short events = gnutls_record_get_direction(stream->tls) ? POLLOUT : POLLIN;
        if (!wait_for_fd(stream, events, error)) {
            return false;
        }
    }
    return code >= 0 ||
           haw_fail(error, HAW_UNAVAILABLE, "TLS with '%s': %s", host, gnutls_strerror(code));
}

static Stream *
open_tls(const char *url, const char *cert, const char *key, char **ret_host, GError **error)
{
    g_autoptr(GUri) uri = g_uri_parse(url, G_URI_FLAGS_NONE, NULL);
    const char *host = uri != NULL ? g_uri_get_host(uri) : NULL;
    if (host == NULL) {
        haw_fail(error, HAW_INVALID, "'%s' is not an address", url);
        return NULL;
    }
    int fd = connect_tcp(host, g_uri_get_port(uri) > 0 ? g_uri_get_port(uri) : 443, error);
    if (fd < 0) {
        return NULL;
    }
    g_autoptr(Stream) stream = stream_take_fd(fd);
    if (!handshake(stream, host, cert, key, error)) {
        return NULL;
    }
    *ret_host = g_strdup(host);
    return g_steal_pointer(&stream);
}

Stream *
stream_open_unchecked(const char *https_url, char **ret_pem, GError **error)
{
    g_autofree char *host = NULL;
    g_autoptr(Stream) stream = open_tls(https_url, NULL, NULL, &host, error);
    if (stream == NULL) {
        return NULL;
    }
    *ret_pem = peer_pem(stream);
    if (*ret_pem == NULL) {
        haw_fail(error, HAW_FAILED, "'%s' shows no certificate", host);
        return NULL;
    }
    return g_steal_pointer(&stream);
}

Stream *
stream_open(Rest *rest, GError **error)
{
    if (rest_is_local(rest)) {
        g_autofree char *path = rest_socket_path(rest);
        int fd = connect_unix(path, error);
        return fd >= 0 ? stream_take_fd(fd) : NULL;
    }
    g_autofree char *cert = NULL, *key = NULL, *host = NULL, *pin = rest_pin_pem(rest);
    if (!identity_ensure(rest_remotes(rest), &cert, &key, error)) {
        return NULL;
    }
    g_autoptr(Stream) stream = open_tls(rest_remote(rest)->address, cert, key, &host, error);
    if (stream == NULL || !check_peer(stream, host, pin, error)) {
        return NULL;
    }
    return g_steal_pointer(&stream);
}

ssize_t
stream_read(Stream *stream, void *bytes, size_t size, GError **error)
{
    if (stream->back->len > 0) {
        size_t count = MIN(size, stream->back->len);
        memcpy(bytes, stream->back->data, count);
        g_byte_array_remove_range(stream->back, 0, (guint) count);
        return (ssize_t) count;
    }
    if (stream->tls != NULL) {
        ssize_t got = gnutls_record_recv(stream->tls, bytes, size);
        if (got >= 0 || got == GNUTLS_E_PREMATURE_TERMINATION) {
            return MAX(got, 0);
        }
        if (gnutls_error_is_fatal((int) got) == 0) {
            return STREAM_AGAIN;
        }
        haw_fail(error, HAW_IO, "read from the server: %s", gnutls_strerror((int) got));
        return -1;
    }
    ssize_t got = recv(stream->fd, bytes, size, 0);
    if (got >= 0) {
        return got;
    }
    if (errno == EAGAIN || errno == EINTR) {
        return STREAM_AGAIN;
    }
    if (errno == ECONNRESET) {
        return 0;
    }
    haw_fail_errno(error, errno, "read from the server");
    return -1;
}

ssize_t
stream_write(Stream *stream, const void *bytes, size_t size, GError **error)
{
    if (stream->tls != NULL) {
        ssize_t put = gnutls_record_send(stream->tls, bytes, size);
        if (put >= 0) {
            return put;
        }
        if (gnutls_error_is_fatal((int) put) == 0) {
            return STREAM_AGAIN;
        }
        haw_fail(error, HAW_IO, "write to the server: %s", gnutls_strerror((int) put));
        return -1;
    }
    ssize_t put = send(stream->fd, bytes, size, MSG_NOSIGNAL);
    if (put >= 0) {
        return put;
    }
    if (errno == EAGAIN || errno == EINTR) {
        return STREAM_AGAIN;
    }
    haw_fail_errno(error, errno, "write to the server");
    return -1;
}

bool
stream_write_all(Stream *stream, const void *bytes, size_t size, GError **error)
{
    const guint8 *at = bytes;
    while (size > 0) {
        ssize_t put = stream_write(stream, at, size, error);
        if (put == -1 || (put == STREAM_AGAIN && !wait_for_fd(stream, POLLOUT, error))) {
            return false;
        }
        if (put > 0) {
            at += put;
            size -= (size_t) put;
        }
    }
    return true;
}

/* The answer's head up to and with its empty line. What came behind it goes to stream->back. */
static char *
read_head(Stream *stream, GError **error)
{
    g_autoptr(GString) head = g_string_new(NULL);
    for (;;) {
        char bytes[1024];
        ssize_t got = stream_read(stream, bytes, sizeof bytes, error);
        if (got == -1 || (got == STREAM_AGAIN && !wait_for_fd(stream, POLLIN, error))) {
            return NULL;
        }
        if (got == 0 || head->len > HEAD_MAX) {
            haw_fail(error, HAW_IO, "the server ended the connection");
            return NULL;
        }
        if (got > 0) {
            g_string_append_len(head, bytes, got);
        }
        const char *end = strstr(head->str, "\r\n\r\n");
        if (end != NULL) {
            gsize length = (gsize) (end + 4 - head->str);
            g_byte_array_append(stream->back, (guint8 *) head->str + length,
                                (guint) (head->len - length));
            return g_strndup(head->str, length);
        }
    }
}

/* The "error" of a JSON answer whose body may still be on its way. */
static bool
fail_refused(Stream *stream, const char *head, GError **error)
{
    char body[4096] = "";
    if (stream->back->len == 0 && wait_for_fd(stream, POLLIN, NULL)) {
        ssize_t got = stream_read(stream, body, sizeof body - 1, NULL);
        body[MAX(got, 0)] = '\0';
    } else {
        size_t count = MIN(stream->back->len, sizeof body - 1);
        memcpy(body, stream->back->data, count);
        body[count] = '\0';
    }
    const char *json = strchr(body, '{');
    json_t *root = json != NULL ? json_loads(json, JSON_DISABLE_EOF_CHECK, NULL) : NULL;
    const char *text = json_string_value(json_object_get(root, "error"));
    int status = atoi(head + strcspn(head, " "));
    if (text != NULL) {
        haw_fail(error, status == 404 ? HAW_NOT_FOUND : HAW_FAILED, "%s", text);
    } else {
        haw_fail(error, HAW_FAILED, "the server refused the connection with status %d", status);
    }
    json_decref(root);
    return false;
}

bool
stream_upgrade(Stream *stream, const char *path, const char *upgrade, const char *extra,
               char **ret_head, GError **error)
{
    g_autofree char *request =
        g_strdup_printf("GET %s HTTP/1.1\r\nHost: hawser\r\nUser-Agent: hawser/" HAWSER_VERSION
                        "\r\nConnection: Upgrade\r\nUpgrade: %s\r\n%s\r\n",
                        path, upgrade, extra != NULL ? extra : "");
    if (!stream_write_all(stream, request, strlen(request), error)) {
        return false;
    }
    g_autofree char *head = read_head(stream, error);
    if (head == NULL) {
        return false;
    }
    if (!g_str_has_prefix(head, "HTTP/1.1 101")) {
        return fail_refused(stream, head, error);
    }
    if (ret_head != NULL) {
        *ret_head = g_steal_pointer(&head);
    }
    return true;
}
