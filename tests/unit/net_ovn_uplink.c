/* agent/net/ovn_uplink.c: what a config offers to ovn networks, and which address a router gets. */
#include "agent/net/ovn_uplink.h"

#include <string.h>

static OvnUplink *
uplink_of(const char *type, const char *config)
{
    json_t *parsed = json_loads(config, 0, NULL);
    g_assert_nonnull(parsed);
    OvnUplink *uplink = ovn_uplink_of("up", type, parsed);
    json_decref(parsed);
    return uplink;
}

static OvnUplink *
bridge(void)
{
    return uplink_of("bridge", "{\"ipv4.address\":\"10.94.60.1/24\",\"ipv4.ovn.ranges\":"
                               "\"10.94.60.200-10.94.60.201, 10.94.60.210-10.94.60.210\","
                               "\"ipv6.address\":\"fd42:94::1/64\"}");
}

static GHashTable *
taken(const char *list)
{
    GHashTable *set = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    g_auto(GStrv) words = g_strsplit(list, " ", -1);
    for (char **word = words; *word != NULL; word++) {
        g_hash_table_add(set, g_strdup(*word));
    }
    return set;
}

static void
a_bridge_is_its_own_gateway(void)
{
    g_autoptr(OvnUplink) uplink = bridge();
    g_assert_cmpstr(uplink->gateway[0], ==, "10.94.60.1");
    g_assert_cmpstr(uplink->gateway[1], ==, "fd42:94::1");
    g_assert_cmpstr(uplink->dns[0][0], ==, "10.94.60.1");
    g_assert_true(uplink->l2proxy);
    g_assert_true(ovn_uplink_check(uplink, NULL));
}

static void
a_physical_network_names_its_gateway_and_servers(void)
{
    g_autoptr(OvnUplink) uplink = uplink_of(
        "physical", "{\"parent\":\"eth1\",\"ipv4.gateway\":\"192.0.2.1/24\",\"ipv4.ovn.ranges\":"
                    "\"192.0.2.9-192.0.2.9\",\"dns.nameservers\":\"192.0.2.53,2001:db8::53\","
                    "\"ovn.ingress_mode\":\"routed\"}");
    g_assert_cmpstr(uplink->cidr[0], ==, "192.0.2.1/24");
    g_assert_null(uplink->gateway[1]);
    g_assert_cmpstr(uplink->dns[0][0], ==, "192.0.2.53");
    g_assert_cmpstr(uplink->dns[1][0], ==, "2001:db8::53");
    g_assert_false(uplink->l2proxy);
}

static void
the_first_free_address_is_taken_range_by_range(void)
{
    g_autoptr(OvnUplink) uplink = bridge();
    static const char *const steps[][2] = {
        {"", "10.94.60.200/24"},
        {"10.94.60.200", "10.94.60.201/24"},
        {"10.94.60.200 10.94.60.201", "10.94.60.210/24"},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(steps); i++) {
        g_autoptr(GHashTable) used = taken(steps[i][0]);
        g_autofree char *got = ovn_uplink_pick(uplink, 0, "00:16:3e:00:00:01", used, NULL);
        g_assert_cmpstr(got, ==, steps[i][1]);
    }
}

static void
a_full_range_is_said_so(void)
{
    g_autoptr(OvnUplink) uplink = bridge();
    g_autoptr(GHashTable) used = taken("10.94.60.200 10.94.60.201 10.94.60.210");
    g_autoptr(GError) error = NULL;
    g_assert_null(ovn_uplink_pick(uplink, 0, "00:16:3e:00:00:01", used, &error));
    g_assert_cmpint(haw_code(error), ==, HAW_LIMIT);
    g_assert_nonnull(strstr(error->message, "ipv4.ovn.ranges"));
    g_assert_nonnull(strstr(error->message, "\"up\""));
}

static void
ipv6_without_ranges_is_made_of_the_mac(void)
{
    g_autoptr(OvnUplink) uplink = bridge();
    g_autoptr(GHashTable) used = taken("");
    g_autofree char *got = ovn_uplink_pick(uplink, 1, "00:16:3e:01:02:03", used, NULL);
    g_assert_cmpstr(got, ==, "fd42:94::216:3eff:fe01:203/64");
}

static void
what_cannot_be_an_uplink_is_refused(void)
{
    static const char *const bad[][3] = {
        {"bridge", "{\"ipv4.address\":\"10.0.0.1/24\"}", "ipv4.ovn.ranges"},
        {"bridge", "{\"ipv4.address\":\"none\"}", "no gateway"},
        {"macvlan", "{\"parent\":\"eth0\"}", "macvlan"},
    };
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(OvnUplink) uplink = uplink_of(bad[i][0], bad[i][1]);
        g_autoptr(GError) error = NULL;
        g_assert_false(ovn_uplink_check(uplink, &error));
        g_assert_cmpint(haw_code(error), ==, HAW_INVALID);
        g_assert_nonnull(strstr(error->message, bad[i][2]));
    }
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/ovn_uplink/a-bridge-is-its-own-gateway", a_bridge_is_its_own_gateway);
    g_test_add_func("/ovn_uplink/a-physical-network-names-its-gateway-and-servers",
                    a_physical_network_names_its_gateway_and_servers);
    g_test_add_func("/ovn_uplink/the-first-free-address-is-taken-range-by-range",
                    the_first_free_address_is_taken_range_by_range);
    g_test_add_func("/ovn_uplink/a-full-range-is-said-so", a_full_range_is_said_so);
    g_test_add_func("/ovn_uplink/ipv6-without-ranges-is-made-of-the-mac",
                    ipv6_without_ranges_is_made_of_the_mac);
    g_test_add_func("/ovn_uplink/what-cannot-be-an-uplink-is-refused",
                    what_cannot_be_an_uplink_is_refused);
    return g_test_run();
}
