/* The header that a proxy of core.https_trusted_proxy puts before TLS.
 * P1  A connection without one goes on as the proxy's own: TLS begins with 0x16, a header never does.
 * P2  A header that is begun must be right and come whole in time; nothing behind it is touched.
 * P3  Additions of version 2 (TLVs) are passed over, HEADER_MAX of them at most.
 * Called by the threads of tlsfront.c, which asks only where the peer is a trusted proxy. */
#include "agent/api/proxyhead.h"

#include "base/clock.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

enum { LINE_MAX_BYTES = 107, FIXED = 16, HEADER_MAX = FIXED + 2048 };
static const guint8 signature[12] = "\r\n\r\n\0\r\nQUIT\n";

static bool
port_of(const char *text, in_port_t *ret_be)
{
    char *end = NULL;
    guint64 port = g_ascii_isdigit(*text) ? g_ascii_strtoull(text, &end, 10) : G_MAXUINT64;
    *ret_be = htons((guint16) port);
    return port <= G_MAXUINT16 && *end == '\0';
}

static void
set_v4(struct sockaddr_storage *ret, socklen_t *ret_size, const void *address, in_port_t port_be)
{
    struct sockaddr_in *in = (struct sockaddr_in *) ret;
    *ret = (struct sockaddr_storage){.ss_family = AF_INET};
    memcpy(&in->sin_addr, address, sizeof in->sin_addr);
    in->sin_port = port_be;
    *ret_size = sizeof *in;
}

static void
set_v6(struct sockaddr_storage *ret, socklen_t *ret_size, const void *address, in_port_t port_be)
{
    struct sockaddr_in6 *in = (struct sockaddr_in6 *) ret;
    *ret = (struct sockaddr_storage){.ss_family = AF_INET6};
    memcpy(&in->sin6_addr, address, sizeof in->sin6_addr);
    in->sin6_port = port_be;
    *ret_size = sizeof *in;
}

/* "PROXY TCP4 FROM TO FROM-PORT TO-PORT\r\n", or "PROXY UNKNOWN…\r\n". */
static bool
parse_line(const guint8 *bytes, size_t size, struct sockaddr_storage *ret, socklen_t *ret_size)
{
    if (size < 2 || size > LINE_MAX_BYTES || memcmp(bytes + size - 2, "\r\n", 2) != 0 ||
        memchr(bytes, '\0', size) != NULL) {
        return false;
    }
    g_autofree char *line = g_strndup((const char *) bytes, size - 2);
    g_auto(GStrv) words = g_strsplit(line, " ", -1);
    guint count = g_strv_length(words);
    if (count < 2 || strcmp(words[0], "PROXY") != 0) {
        return false;
    }
    if (strcmp(words[1], "UNKNOWN") == 0) {
        return true;
    }
    bool v4 = strcmp(words[1], "TCP4") == 0;
    guint8 from[16], to[16];
    in_port_t port, to_port;
    int family = v4 ? AF_INET : AF_INET6;
    if ((!v4 && strcmp(words[1], "TCP6") != 0) || count != 6 ||
        inet_pton(family, words[2], from) != 1 || inet_pton(family, words[3], to) != 1 ||
        !port_of(words[4], &port) || !port_of(words[5], &to_port)) {
        return false;
    }
    (v4 ? set_v4 : set_v6)(ret, ret_size, from, port);
    return true;
}

static bool
parse_binary(const guint8 *bytes, size_t size, struct sockaddr_storage *ret, socklen_t *ret_size)
{
    if (size < FIXED || memcmp(bytes, signature, sizeof signature) != 0 || bytes[12] >> 4 != 2 ||
        size != FIXED + (size_t) (bytes[14] << 8 | bytes[15])) {
        return false;
    }
    const guint8 *at = bytes + FIXED;
    guint8 command = bytes[12] & 15;
    in_port_t port;
    if (command > 1) {
        return false;
    }
    if (command == 0) { /* LOCAL: the proxy looks whether we live */
        return true;
    }
    switch (bytes[13]) {
    case 0x11: /* from 4, to 4, port 2, port 2 */
        if (size < FIXED + 12) {
            return false;
        }
        memcpy(&port, at + 8, sizeof port);
        set_v4(ret, ret_size, at, port);
        return true;
    case 0x21: /* from 16, to 16, port 2, port 2 */
        if (size < FIXED + 36) {
            return false;
        }
        memcpy(&port, at + 32, sizeof port);
        set_v6(ret, ret_size, at, port);
        return true;
    default: /* of a protocol that is none of ours */
        return true;
    }
}

bool
proxyhead_parse(const guint8 *bytes, size_t size, struct sockaddr_storage *ret_address,
                socklen_t *ret_size)
{
    struct sockaddr_storage address = {.ss_family = AF_UNSPEC};
    socklen_t address_size = 0;
    if (size == 0 ||
        !(bytes[0] == 'P' ? parse_line : parse_binary)(bytes, size, &address, &address_size)) {
        return false;
    }
    *ret_address = address;
    *ret_size = address_size;
    return true;
}

/* 'want' bytes, or what there is by then. */
static bool
receive(int fd, void *bytes, size_t want, int flags, gint64 until_us)
{
    for (size_t have = 0; have < want;) {
        ssize_t got = recv(fd, (guint8 *) bytes + have, want - have, flags);
        if (got > 0) {
            have += (size_t) got;
            continue;
        }
        gint64 left_ms = (until_us - clock_mono_us()) / 1000;
        struct pollfd ready = {.fd = fd, .events = POLLIN};
        if (got == 0 || (errno != EAGAIN && errno != EINTR) || left_ms <= 0 ||
            poll(&ready, 1, (int) left_ms) == 0) {
            return false;
        }
    }
    return true;
}

static bool
receive_line(int fd, guint8 *bytes, size_t *ret_size, gint64 until_us)
{
    size_t size = 0;
    do {
        if (size == LINE_MAX_BYTES || !receive(fd, bytes + size, 1, 0, until_us)) {
            return false;
        }
    } while (bytes[size++] != '\n');
    *ret_size = size;
    return true;
}

static bool
receive_binary(int fd, guint8 *bytes, size_t *ret_size, gint64 until_us)
{
    if (!receive(fd, bytes, FIXED, 0, until_us)) {
        return false;
    }
    size_t size = FIXED + (size_t) (bytes[14] << 8 | bytes[15]);
    *ret_size = size;
    return memcmp(bytes, signature, sizeof signature) == 0 && size <= HEADER_MAX && /* P3 */
           receive(fd, bytes + FIXED, size - FIXED, 0, until_us);
}

bool
proxyhead_read(int fd, int wait_ms, struct sockaddr_storage *address, socklen_t *size)
{
    gint64 until_us = clock_mono_us() + (gint64) wait_ms * 1000;
    guint8 bytes[HEADER_MAX];
    size_t got = 0;
    if (!receive(fd, bytes, 1, MSG_PEEK, until_us)) {
        return false;
    }
    if (bytes[0] != 'P' && bytes[0] != signature[0]) { /* P1 */
        return true;
    }
    struct sockaddr_storage told;
    socklen_t told_size = 0;
    if (!(bytes[0] == 'P' ? receive_line : receive_binary)(fd, bytes, &got, until_us) || /* P2 */
        !proxyhead_parse(bytes, got, &told, &told_size)) {
        return false;
    }
    if (told_size != 0) {
        *address = told;
        *size = told_size;
    }
    return true;
}
