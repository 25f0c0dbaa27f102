/* agent/net/dnsmasq.c and dnsmasq_files.c: the argument vector against golden files, hosts and leases.
 * HAWSER_GOLDEN_WRITE=1 rewrites the files, and a person reads the diff. */
#include "agent/net/dnsmasq.h"

#include <string.h>

static const struct golden {
    const char *name, *config;
    guint mtu;
    bool debug, root;
} goldens[] = {
    {"both_families", "{\"ipv4.address\":\"10.94.7.1/24\",\"ipv6.address\":\"fd42:94::1/64\"}",
     1500},
    {"ipv4_only", "{\"ipv4.address\":\"10.94.7.1/24\",\"ipv6.address\":\"none\"}", 1500},
    {"no_dhcp",
     "{\"ipv4.address\":\"10.94.7.1/24\",\"ipv4.dhcp\":\"false\",\"ipv6.address\":\"fd42:94::1/"
     "64\","
     "\"ipv6.dhcp\":\"false\"}",
     1500},
    {"stateful_ranges",
     "{\"ipv4.address\":\"10.94.0.1/16\",\"ipv4.dhcp.ranges\":\"10.94.1.2-10.94.1.9, "
     "10.94.2.2-10.94.2.9\",\"ipv4.dhcp.expiry\":\"2h\",\"ipv4.dhcp.gateway\":\"10.94.0.9\","
     "\"ipv6.address\":\"fd42:94::1/64\",\"ipv6.dhcp.stateful\":\"true\",\"ipv6.dhcp.ranges\":"
     "\"fd42:94::10-fd42:94::20\",\"ipv6.dhcp.expiry\":\"30m\"}",
     1400},
    {"names",
     "{\"ipv4.address\":\"10.94.7.1/24\",\"dns.domain\":\"example.test\",\"dns.search\":"
     "\"a.test,b.test\"}",
     1500, true, true},
    {"no_dns", "{\"ipv4.address\":\"10.94.7.1/24\",\"dns.mode\":\"none\"}", 1500},
};

static void
arguments_are_as_the_golden_file(gconstpointer data)
{
    const struct golden *golden = data;
    json_t *config = json_loads(golden->config, 0, NULL);
    struct dnsmasq_spec spec = {.dir = "/var/lib/hawser/networks/br0",
                                .name = "br0",
                                .config = config,
                                .mtu = golden->mtu,
                                .user = golden->root ? NULL : "dnsmasq",
                                .group = golden->root ? NULL : "nogroup",
                                .debug = golden->debug};
    g_auto(GStrv) argv = dnsmasq_argv(&spec);
    g_autofree char *joined = g_strjoinv("\n", argv);
    g_autofree char *text = g_strconcat(joined, "\n", NULL);
    g_autofree char *path =
        g_strdup_printf("%s/dnsmasq/%s.args", g_getenv("HAWSER_GOLDEN"), golden->name);
    g_autofree char *want = NULL;
    json_decref(config);
    if (g_getenv("HAWSER_GOLDEN_WRITE") != NULL) {
        g_assert_true(g_file_set_contents(path, text, -1, NULL));
    }
    g_assert_true(g_file_get_contents(path, &want, NULL, NULL));
    g_assert_cmpstr(text, ==, want);
}

static void
labels_of_two_devices_never_meet(void)
{
    g_autofree char *plain = dnsmasq_label("default", "c1", "eth0");
    g_autofree char *project = dnsmasq_label("p", "c1", "eth0");
    g_autofree char *slash = dnsmasq_label("default", "c1", "a/b");
    g_autofree char *dash = dnsmasq_label("default", "c1", "a-b");
    g_assert_cmpstr(plain, ==, "c1.eth0");
    g_assert_cmpstr(project, ==, "p_c1.eth0");
    g_assert_cmpstr(slash, ==, "c1.a-b");
    g_assert_cmpstr(dash, ==, "c1.a--b");
}

static void
a_host_line_gives_its_parts(void)
{
    struct dnsmasq_host *host =
        dnsmasq_host_parse("c1.eth0", "00:16:3e:00:00:01,10.0.0.5,[fd42::5],c1\n");
    g_assert_cmpstr(host->mac, ==, "00:16:3e:00:00:01");
    g_assert_cmpstr(host->ipv4, ==, "10.0.0.5");
    g_assert_cmpstr(host->ipv6, ==, "fd42::5");
    g_assert_cmpstr(host->hostname, ==, "c1");
    dnsmasq_host_free(host);
    host = dnsmasq_host_parse("c1.eth0", "00:16:3e:00:00:01,c1");
    g_assert_null(host->ipv4);
    g_assert_cmpstr(host->hostname, ==, "c1");
    dnsmasq_host_free(host);
    host = dnsmasq_host_parse("c1.eth0", "");
    g_assert_null(host->ipv6);
    dnsmasq_host_free(host);
}

static void
lease_lines_of_both_families_are_read(void)
{
    g_autoptr(GPtrArray) leases = dnsmasq_leases_parse(
        "1700000000 00:16:3e:00:00:01 10.0.0.5 c1 01:00:16:3e:00:00:01\n"
        "1700000001 00:16:3e:00:00:02 10.0.0.6 * *\n"
        "duid 00:01:00:01:2b:00:00:00:00:16:3e:00:00:09\n"
        "1700000002 1875094469 fd42::5 c1 00:01:00:01:2b:00:00:00:00:16:3e:00:00:01\n"
        "half a line\n\n1700000003 x y\n");
    g_assert_cmpuint(leases->len, ==, 3);
    const struct dnsmasq_lease *one = g_ptr_array_index(leases, 0);
    g_assert_cmpstr(one->address, ==, "10.0.0.5");
    g_assert_cmpint(one->expiry_s, ==, 1700000000);
    g_assert_null(one->duid);
    one = g_ptr_array_index(leases, 1);
    g_assert_cmpstr(one->hostname, ==, "");
    one = g_ptr_array_index(leases, 2);
    g_assert_cmpstr(one->mac, ==, "00:16:3e:00:00:01");
    g_assert_cmpstr(one->iaid, ==, "1875094469");
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    for (size_t i = 0; i < G_N_ELEMENTS(goldens); i++) {
        g_autofree char *name =
            g_strdup_printf("/dnsmasq/arguments-are-as-the-golden-file/%s", goldens[i].name);
        g_test_add_data_func(name, &goldens[i], arguments_are_as_the_golden_file);
    }
    g_test_add_func("/dnsmasq/labels-of-two-devices-never-meet", labels_of_two_devices_never_meet);
    g_test_add_func("/dnsmasq/a-host-line-gives-its-parts", a_host_line_gives_its_parts);
    g_test_add_func("/dnsmasq/lease-lines-of-both-families-are-read",
                    lease_lines_of_both_families_are_read);
    return g_test_run();
}
