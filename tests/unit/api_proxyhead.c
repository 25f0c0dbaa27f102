/* agent/api/proxyhead.c: headers of both versions, and what is none. */
#include "agent/api/proxyhead.h"

#include <arpa/inet.h>
#include <string.h>
#include <unistd.h>

static const guint8 v2_head[] = "\r\n\r\n\0\r\nQUIT\n";

static char *
told(const void *bytes, size_t size)
{
    struct sockaddr_storage address;
    socklen_t length;
    char host[INET6_ADDRSTRLEN];
    if (!proxyhead_parse(bytes, size, &address, &length)) {
        return g_strdup("refused");
    }
    if (length == 0) {
        return g_strdup("own");
    }
    const struct sockaddr_in *in = (const struct sockaddr_in *) &address;
    const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *) &address;
    bool v4 = address.ss_family == AF_INET;
    inet_ntop(address.ss_family, v4 ? (const void *) &in->sin_addr : &in6->sin6_addr, host,
              sizeof host);
    return g_strdup_printf("%s %d", host, ntohs(v4 ? in->sin_port : in6->sin6_port));
}

static void
expect(const void *bytes, size_t size, const char *want)
{
    g_autofree char *got = told(bytes, size);
    g_assert_cmpstr(got, ==, want);
}

static void
expect_line(const char *line, const char *want)
{
    expect(line, strlen(line), want);
}

static void
lines_name_the_client(void)
{
    expect_line("PROXY TCP4 192.0.2.7 192.0.2.1 4711 443\r\n", "192.0.2.7 4711");
    expect_line("PROXY TCP6 2001:db8::7 2001:db8::1 4711 443\r\n", "2001:db8::7 4711");
    expect_line("PROXY UNKNOWN\r\n", "own");
    expect_line("PROXY UNKNOWN 1 2 3 4\r\n", "own");
}

static void
broken_lines_are_refused(void)
{
    static const char *const lines[] = {"PROXY TCP4 192.0.2.7 192.0.2.1 4711 443\n",
                                        "PROXY TCP4 192.0.2.7 192.0.2.1 4711\r\n",
                                        "PROXY TCP4 192.0.2.7 192.0.2.1 65536 443\r\n",
                                        "PROXY TCP4 192.0.2.7 192.0.2.1 -1 443\r\n",
                                        "PROXY TCP4 192.0.2.7 192.0.2.1 4711 443 1\r\n",
                                        "PROXY TCP4 2001:db8::7 192.0.2.1 4711 443\r\n",
                                        "PROXY UDP4 192.0.2.7 192.0.2.1 4711 443\r\n",
                                        "PROXY\r\n",
                                        "PROXIES TCP4\r\n",
                                        "GET / HTTP/1.1\r\n",
                                        ""};
    for (size_t i = 0; i < G_N_ELEMENTS(lines); i++) {
        expect_line(lines[i], "refused");
    }
}

static size_t
binary(guint8 *bytes, guint8 command, guint8 family, guint8 length)
{
    memcpy(bytes, v2_head, 12);
    bytes[12] = command;
    bytes[13] = family;
    bytes[14] = 0;
    bytes[15] = length;
    return 16u + length;
}

static void
binary_headers_name_the_client(void)
{
    guint8 bytes[64] = {0};
    size_t size = binary(bytes, 0x21, 0x11, 15); /* three bytes of additions */
    memcpy(bytes + 16, "\xc0\0\2\7\xc0\0\2\1\x12\x67\1\xbb\4\0\0", 15);
    expect(bytes, size, "192.0.2.7 4711");
    size = binary(bytes, 0x21, 0x21, 36);
    memcpy(bytes + 16, "\x20\1\r\xb8\0\0\0\0\0\0\0\0\0\0\0\7", 16);
    memcpy(bytes + 48, "\x12\x67", 2);
    expect(bytes, size, "2001:db8::7 4711");
    expect(bytes, binary(bytes, 0x20, 0, 0), "own");
    expect(bytes, binary(bytes, 0x21, 0x31, 30), "own"); /* a unix socket */
}

static void
broken_binary_headers_are_refused(void)
{
    guint8 bytes[64] = {0};
    expect(bytes, binary(bytes, 0x21, 0x11, 11), "refused");
    expect(bytes, binary(bytes, 0x21, 0x21, 35), "refused");
    expect(bytes, binary(bytes, 0x11, 0x11, 12), "refused");
    expect(bytes, binary(bytes, 0x22, 0x11, 12), "refused");
    expect(bytes, binary(bytes, 0x21, 0x11, 12) - 1, "refused");
}

static void
what_follows_the_header_stays(void)
{
    static const char *const heads[] = {"PROXY TCP4 192.0.2.7 192.0.2.1 4711 443\r\n", ""};
    for (size_t i = 0; i < G_N_ELEMENTS(heads); i++) {
        int pair[2];
        char rest[8] = "";
        struct sockaddr_storage address = {.ss_family = AF_UNIX};
        socklen_t size = 1;
        g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), ==, 0);
        g_assert_cmpint(write(pair[1], heads[i], strlen(heads[i])), ==, strlen(heads[i]));
        g_assert_cmpint(write(pair[1], "\x16\3\1", 3), ==, 3);
        g_assert_true(proxyhead_read(pair[0], 5000, &address, &size));
        g_assert_cmpint(read(pair[0], rest, sizeof rest), ==, 3);
        g_assert_cmpint(rest[0], ==, 0x16);
        g_assert_cmpint(address.ss_family, ==, *heads[i] != '\0' ? AF_INET : AF_UNIX);
        close(pair[0]);
        close(pair[1]);
    }
}

static void
half_a_header_is_not_waited_for_long(void)
{
    int pair[2];
    struct sockaddr_storage address;
    socklen_t size;
    g_assert_cmpint(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), ==, 0);
    g_assert_cmpint(write(pair[1], "PROXY T", 7), ==, 7);
    g_assert_false(proxyhead_read(pair[0], 20, &address, &size));
    close(pair[0]);
    close(pair[1]);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/proxyhead/lines-name-the-client", lines_name_the_client);
    g_test_add_func("/proxyhead/broken-lines-are-refused", broken_lines_are_refused);
    g_test_add_func("/proxyhead/binary-headers-name-the-client", binary_headers_name_the_client);
    g_test_add_func("/proxyhead/broken-binary-headers-are-refused",
                    broken_binary_headers_are_refused);
    g_test_add_func("/proxyhead/what-follows-the-header-stays", what_follows_the_header_stays);
    g_test_add_func("/proxyhead/half-a-header-is-not-waited-for-long",
                    half_a_header_is_not_waited_for_long);
    return g_test_run();
}
