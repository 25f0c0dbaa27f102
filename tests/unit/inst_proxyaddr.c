/* agent/inst/proxyaddr.c: the grammar of listen and connect. */
#include "agent/inst/proxyaddr.h"

static void
lists_and_ranges_become_ports(void)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(ProxyAddr) addr = proxyaddr_parse("tcp:127.0.0.1:80,8000-8002,443", &error);

    g_assert_no_error(error);
    g_assert_cmpstr(addr->address, ==, "127.0.0.1");
    g_assert_cmpuint(addr->count, ==, 5);
    g_assert_cmpuint(addr->ports[2], ==, 8001);
    g_assert_cmpuint(addr->ports[4], ==, 443);
    g_assert_false(proxyaddr_ipv6(addr));
}

static void
ipv6_comes_in_brackets(void)
{
    g_autoptr(ProxyAddr) addr = proxyaddr_parse("udp:[::1]:53", NULL);

    g_assert_nonnull(addr);
    g_assert_cmpint(addr->kind, ==, PROXYADDR_UDP);
    g_assert_cmpstr(addr->address, ==, "::1");
    g_assert_true(proxyaddr_ipv6(addr));
    g_assert_false(proxyaddr_wildcard(addr));
}

static void
unix_sockets_are_paths_or_abstract(void)
{
    g_autoptr(ProxyAddr) path = proxyaddr_parse("unix:/run/a:b.sock", NULL);
    g_autoptr(ProxyAddr) name = proxyaddr_parse("unix:@name", NULL);

    g_assert_cmpstr(path->address, ==, "/run/a:b.sock");
    g_assert_false(proxyaddr_abstract(path));
    g_assert_true(proxyaddr_abstract(name));
}

static void
what_is_no_address_is_refused(void)
{
    static const char *const bad[] = {"",
                                      "tcp",
                                      "tcp:",
                                      "http:1.2.3.4:80",
                                      "tcp:1.2.3.4",
                                      "tcp:host:80",
                                      "tcp:1.2.3.4:",
                                      "tcp:1.2.3.4:0x50",
                                      "tcp:1.2.3.4:65536",
                                      "tcp:[::1]",
                                      "tcp:[::1:80",
                                      "tcp:1.2.3.4:90-80",
                                      "tcp:1.2.3.4:80-80",
                                      "tcp:1.2.3.4:,",
                                      "unix:relative",
                                      "unix:/",
                                      "tcp:1.2.3.4:0-65535,1-65535"};

    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(GError) error = NULL;
        g_assert_null(proxyaddr_parse(bad[i], &error));
        g_assert_cmpint(haw_code(error), ==, HAW_INVALID);
    }
}

static void
ports_match_one_to_one_or_many_to_one(void)
{
    g_autoptr(ProxyAddr) three = proxyaddr_parse("tcp::80-82", NULL);
    g_autoptr(ProxyAddr) two = proxyaddr_parse("tcp::90-91", NULL);
    g_autoptr(ProxyAddr) one = proxyaddr_parse("tcp::99", NULL);

    g_assert_true(proxyaddr_wildcard(one));
    g_assert_true(proxyaddr_match(three, one, NULL));
    g_assert_true(proxyaddr_match(two, two, NULL));
    g_assert_false(proxyaddr_match(one, two, NULL));
    g_assert_false(proxyaddr_match(three, two, NULL));
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/proxyaddr/lists-and-ranges-become-ports", lists_and_ranges_become_ports);
    g_test_add_func("/proxyaddr/ipv6-comes-in-brackets", ipv6_comes_in_brackets);
    g_test_add_func("/proxyaddr/unix-sockets-are-paths-or-abstract",
                    unix_sockets_are_paths_or_abstract);
    g_test_add_func("/proxyaddr/what-is-no-address-is-refused", what_is_no_address_is_refused);
    g_test_add_func("/proxyaddr/ports-match-one-to-one-or-many-to-one",
                    ports_match_one_to_one_or_many_to_one);
    return g_test_run();
}
