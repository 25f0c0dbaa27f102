/* agent/net/subnet.c: A1, and the arithmetic at its edges. */
#include "agent/net/subnet.h"

#include <string.h>

static void
nth_counts_from_both_ends(void)
{
    static const struct {
        const char *net;
        gint64 n;
        const char *want;
    } cases[] = {
        {"10.0.0.1/24", 0, "10.0.0.0"},
        {"10.0.0.1/24", 2, "10.0.0.2"},
        {"10.0.0.1/24", -1, "10.0.0.255"},
        {"10.0.0.1/24", -2, "10.0.0.254"},
        {"10.0.0.1/24", 256, NULL},
        {"10.0.0.1/16", 300, "10.0.1.44"},
        {"10.1.2.3/30", -2, "10.1.2.2"},
        {"10.1.2.3/32", 0, "10.1.2.3"},
        {"10.1.2.3/32", 1, NULL},
        {"fd42::1/64", 2, "fd42::2"},
        {"fd42::1/64", -1, "fd42::ffff:ffff:ffff:ffff"},
        {"fd42:1:2:3::1/64", 65536, "fd42:1:2:3::1:0"},
        {"10.0.255.0/16", -257, "10.0.254.255"},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        struct subnet net;
        g_assert_true(subnet_parse(cases[i].net, &net));
        g_autofree char *got = subnet_nth(&net, cases[i].n);
        g_assert_cmpstr(got, ==, cases[i].want);
    }
}

static void
what_is_no_address_is_refused(void)
{
    static const char *const bad[] = {
        "",           "10.0.0", "10.0.0.256",  "10.0.0.1/33", "fd42::/129",  "10.0.0.1/",
        "10.0.0.1/x", "host",   "10.0.0.1/-1", "fd42::g/64",  " 10.0.0.1/24"};
    struct subnet net;
    g_assert_false(subnet_parse(NULL, &net));
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_assert_false(subnet_parse(bad[i], &net));
    }
}

static void
containment_knows_families_and_odd_prefixes(void)
{
    struct subnet net;
    g_assert_true(subnet_parse("10.0.4.9/22", &net));
    g_assert_true(subnet_contains(&net, "10.0.7.255"));
    g_assert_false(subnet_contains(&net, "10.0.8.0"));
    g_assert_false(subnet_contains(&net, "::ffff:10.0.5.1"));
    g_assert_true(subnet_range_contains("10.0.0.5 - 10.0.0.9", "10.0.0.9"));
    g_assert_false(subnet_range_contains("10.0.0.5-10.0.0.9", "10.0.0.10"));
    g_assert_false(subnet_range_contains("10.0.0.5-10.0.0.9", "fd42::5"));
    g_assert_true(subnet_same_address("fd42::0:1", "fd42::1"));
}

static void
network_clears_host_bits(void)
{
    struct subnet net;
    g_assert_true(subnet_parse("10.94.7.1/20", &net));
    g_autofree char *four = subnet_network(&net);
    g_assert_cmpstr(four, ==, "10.94.0.0/20");
    g_assert_true(subnet_parse("fd42:1:2:3:4::1/64", &net));
    g_autofree char *six = subnet_network(&net);
    g_assert_cmpstr(six, ==, "fd42:1:2:3::/64");
}

static void
slaac_follows_the_mac(void)
{
    struct subnet net;
    g_assert_true(subnet_parse("2001:db8::1/64", &net));
    g_autofree char *own = subnet_eui64(&net, "00:16:3e:92:f3:c1");
    g_assert_cmpstr(own, ==, "2001:db8::216:3eff:fe92:f3c1");
    g_assert_true(subnet_parse("2001:db8::1/80", &net));
    g_assert_null(subnet_eui64(&net, "00:16:3e:92:f3:c1"));
}

static void
a_random_subnet_overlaps_nothing_taken(void)
{
    g_autoptr(GArray) taken = g_array_new(FALSE, FALSE, sizeof(struct subnet));
    struct subnet half;
    struct subnet all;
    g_assert_true(subnet_parse("10.0.0.0/9", &half));
    g_array_append_val(taken, half);
    g_assert_true(subnet_parse("0.0.0.0/0", &all)); /* a default route takes nothing */
    g_array_append_val(taken, all);
    for (int i = 0; i < 200; i++) {
        struct subnet net;
        g_autofree char *text = subnet_random(AF_INET, taken);
        g_assert_nonnull(text);
        g_assert_true(g_str_has_suffix(text, ".1/24"));
        g_assert_true(subnet_parse(text, &net));
        g_assert_false(subnet_overlap(&net, &half)); /* A1 */
    }
    g_autofree char *six = subnet_random(AF_INET6, taken);
    g_assert_true(g_str_has_prefix(six, "fd42:"));
}

static void
with_everything_taken_there_is_none(void)
{
    g_autoptr(GArray) taken = g_array_new(FALSE, FALSE, sizeof(struct subnet));
    struct subnet ten;
    g_assert_true(subnet_parse("10.0.0.0/8", &ten));
    g_array_append_val(taken, ten);
    g_assert_null(subnet_random(AF_INET, taken));
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/subnet/nth-counts-from-both-ends", nth_counts_from_both_ends);
    g_test_add_func("/subnet/what-is-no-address-is-refused", what_is_no_address_is_refused);
    g_test_add_func("/subnet/containment-knows-families-and-odd-prefixes",
                    containment_knows_families_and_odd_prefixes);
    g_test_add_func("/subnet/network-clears-host-bits", network_clears_host_bits);
    g_test_add_func("/subnet/slaac-follows-the-mac", slaac_follows_the_mac);
    g_test_add_func("/subnet/a-random-subnet-overlaps-nothing-taken",
                    a_random_subnet_overlaps_nothing_taken);
    g_test_add_func("/subnet/with-everything-taken-there-is-none",
                    with_everything_taken_there_is_none);
    return g_test_run();
}
