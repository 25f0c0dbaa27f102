/* agent/net/firewall.c, netacl.c, forward.c: rulesets against golden files (W2), and what LXD's checks
 * refuse. HAWSER_GOLDEN_WRITE=1 rewrites the files, and a person reads the diff. */
#include "agent/net/firewall.h"
#include "agent/net/forward.h"
#include "agent/net/netacl.h"
#include "agent/net/pktlog.h"

#include <string.h>

static void
check_golden(const char *name, const char *text)
{
    g_autofree char *path = g_strdup_printf("%s/nft/%s.nft", g_getenv("HAWSER_GOLDEN"), name);
    g_autofree char *want = NULL;
    if (g_getenv("HAWSER_GOLDEN_WRITE") != NULL) {
        g_assert_true(g_file_set_contents(path, text, -1, NULL));
    }
    g_assert_true(g_file_get_contents(path, &want, NULL, NULL));
    g_assert_cmpstr(text, ==, want);
}

static char **
lines_of(GPtrArray *list)
{
    g_ptr_array_add(list, NULL);
    return (char **) list->pdata;
}

static void
networks_are_as_the_golden_files(void)
{
    struct firewall_net net = {.name = "br0",
                               .ipv4 = {true, true, true, "10.94.7.0/24", NULL},
                               .ipv6 = {true, true, true, "fd42:94::/64", "2001:db8::9"}};
    g_autofree char *both = firewall_net_text(&net);
    check_golden("both_families", both);
    net.ipv4.forward = false;
    net.ipv4.nat_subnet = NULL;
    net.ipv6 = (struct firewall_family){0};
    g_autofree char *closed = firewall_net_text(&net);
    check_golden("no_routing", closed);
    net.ipv4.rules = false;
    g_autofree char *bare = firewall_net_text(&net);
    check_golden("no_firewall", bare);
}

static void
acls_are_as_the_golden_file(void)
{
    static const char *const rules[] = {
        "{\"action\":\"allow\",\"state\":\"enabled\",\"protocol\":\"tcp\",\"destination_port\":"
        "\"80, 443,8000-8080\",\"source\":\"10.0.0.0/8,fd42::/16,192.0.2.1-192.0.2.9\"}",
        "{\"action\":\"drop\",\"state\":\"enabled\",\"protocol\":\"icmp6\",\"icmp_type\":\"128\"}",
        "{\"action\":\"reject\",\"state\":\"logged\",\"destination\":\"10.94.7.5\"}",
        "{\"action\":\"allow\",\"state\":\"enabled\"}",
    };
    g_autoptr(GPtrArray) lines = g_ptr_array_new_with_free_func(g_free);
    for (size_t i = 0; i < G_N_ELEMENTS(rules); i++) {
        json_t *rule = json_loads(rules[i], 0, NULL);
        g_autoptr(GError) error = NULL;
        bool logged = strstr(rules[i], "logged") != NULL;
        g_assert_true(netacl_rule_text(rule, i % 2 == 0 ? "ingress" : "egress", "br0",
                                       logged ? "br0-ingress-2" : NULL, lines, &error));
        g_assert_no_error(error);
        json_decref(rule);
    }
    struct firewall_net net = {.name = "br0", .acl_rules = lines_of(lines)};
    g_autofree char *text = firewall_net_text(&net);
    check_golden("acl", text);
}

static void
a_bridge_cannot_filter_by_name(void)
{
    g_autoptr(GPtrArray) lines = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GError) error = NULL;
    json_t *rule =
        json_pack("{s:s, s:s, s:s}", "action", "allow", "state", "enabled", "source", "@external");
    g_assert_false(netacl_rule_text(rule, "ingress", "br0", NULL, lines, &error));
    g_assert_error(error, HAW_ERROR, HAW_UNSUPPORTED);
    json_decref(rule);
}

static void
forwards_are_as_the_golden_file(void)
{
    g_autoptr(GPtrArray) dnat = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GPtrArray) snat = g_ptr_array_new_with_free_func(g_free);
    json_t *config = json_pack("{s:s}", "target_address", "192.0.2.2");
    json_t *ports = json_loads(
        "[{\"protocol\":\"tcp\",\"listen_port\":\"80-81\",\"target_address\":\"192.0.2.3\"},"
        "{\"protocol\":\"udp\",\"listen_port\":\"80\",\"target_address\":\"192.0.2.3\","
        "\"target_port\":\"90\"},"
        "{\"protocol\":\"tcp\",\"listen_port\":\"82-83,84\",\"target_address\":\"192.0.2.3\","
        "\"target_port\":\"90,91-92\"},"
        "{\"protocol\":\"tcp\",\"listen_port\":\"200-209\",\"target_address\":\"192.0.2.4\","
        "\"target_port\":\"22\"},"
        "{\"protocol\":\"tcp\",\"listen_port\":\"300,302-303\",\"target_address\":\"192.0.2.4\","
        "\"target_port\":\"300,302,303\"}]",
        0, NULL);
    forward_text("198.51.100.1", config, ports, dnat, snat);
    json_decref(ports);
    ports = json_loads("[{\"protocol\":\"tcp\",\"listen_port\":\"443\",\"target_address\":"
                       "\"fd42::5\",\"target_port\":\"8443\"}]",
                       0, NULL);
    forward_text("2001:db8::1", NULL, ports, dnat, snat);
    struct firewall_net net = {.name = "br0", .dnat = lines_of(dnat), .snat = lines_of(snat)};
    g_autofree char *text = firewall_net_text(&net);
    check_golden("forwards", text);
    json_decref(ports);
    json_decref(config);
}

static void
nic_filters_are_as_the_golden_files(void)
{
    char *four[] = {"10.94.7.5", "198.51.100.0/24", NULL};
    char *six[] = {"fd42:94::5", "2001:db8:1::/49", NULL};
    struct firewall_nic nic = {.label = "c1.eth0",
                               .host_name = "veth1a2b3c4d",
                               .mac = "00:16:3e:00:00:01",
                               .filter4 = true,
                               .filter6 = true,
                               .addresses4 = four,
                               .addresses6 = six};
    g_autofree char *all = firewall_nic_text(&nic);
    check_golden("nic_addresses", all);
    nic.addresses4 = nic.addresses6 = NULL;
    g_autofree char *none = firewall_nic_text(&nic);
    check_golden("nic_no_address", none);
    nic.filter4 = nic.filter6 = false;
    g_autofree char *mac = firewall_nic_text(&nic);
    check_golden("nic_mac", mac);
}

/* ---- checks ---- */

static char *
acl_fault(const char *direction, const char *rules)
{
    static const char *const names[] = {"web", NULL};
    g_autofree char *text = g_strdup_printf("{\"%s\":[%s]}", direction, rules);
    g_autoptr(GError) error = NULL;
    json_t *body = json_loads(text, 0, NULL);
    bool ok = netacl_check(body, names, &error);
    json_decref(body);
    return g_strdup(ok ? "" : error->message);
}

static void
acl_faults_have_the_words_of_lxd(void)
{
#define R(rest) "{\"action\":\"allow\",\"state\":\"enabled\"" rest "}"
    static const struct {
        const char *direction, *rules, *want;
    } cases[] = {
        {"ingress", R(""), ""},
        {"ingress", R(",\"source\":\"web,@internal,#external,@net/peer\""), ""},
        {"egress", R(",\"destination\":\"10.0.0.1-10.0.0.9, 10.1.0.0/16\""), ""},
        {"ingress", "{\"action\":\"accept\",\"state\":\"enabled\"}",
         "Invalid ingress rule 0: Action must be one of: allow, drop, reject"},
        {"ingress", "{\"action\":\"allow\"}",
         "Invalid ingress rule 0: State must be one of: enabled, disabled, logged"},
        {"ingress", R(",\"source\":\"nobody\""),
         "Invalid ingress rule 0: Invalid Source: Invalid subject \"nobody\""},
        {"egress", R(",\"source\":\"web\""),
         "Invalid egress rule 0: Invalid Source: Named subjects not allowed in \"Source\" for "
         "\"egress\" rules"},
        {"ingress", R(",\"source\":\"10.0.0.9-10.0.0.1\""),
         "Invalid ingress rule 0: Invalid Source: Invalid subject \"10.0.0.9-10.0.0.1\""},
        {"ingress", R(",\"source\":\"10.0.0.1\",\"destination\":\"fd42::1\""),
         "Invalid ingress rule 0: Conflicting IP family types used for Source and Destination"},
        {"ingress", R(",\"source_port\":\"80\""),
         "Invalid ingress rule 0: Source port cannot be used without specifying protocol"},
        {"ingress", R(",\"protocol\":\"sctp\""),
         "Invalid ingress rule 0: Protocol must be one of: icmp4, icmp6, tcp, udp"},
        {"ingress", R(",\"protocol\":\"udp\",\"icmp_code\":\"1\""),
         "Invalid ingress rule 0: ICMP code cannot be used with non-ICMP protocol"},
        {"ingress", R(",\"protocol\":\"tcp\",\"destination_port\":\"99999\""),
         "Invalid ingress rule 0: Invalid Destination port: Invalid port \"99999\""},
        {"ingress", R(",\"protocol\":\"icmp4\",\"source\":\"fd42::1\""),
         "Invalid ingress rule 0: Cannot use IPv6 source addresses with \"icmp4\" protocol"},
        {"egress", R(",\"protocol\":\"icmp6\",\"destination_port\":\"1\""),
         "Invalid egress rule 0: Destination port cannot be used with \"icmp6\" protocol"},
        {"ingress", R(",\"description\":\"x\"") "," R(",\"description\":\" x \""),
         "Duplicate of ingress rule 0"},
        {"ingress", R("") "," R(",\"description\":\"another\""), ""},
        {"ingress", "5", "Invalid rule: not an object"},
        {"ingress", "{\"action\":[]}", "Invalid rule: \"action\" is not a string"},
    };
#undef R
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *got = acl_fault(cases[i].direction, cases[i].rules);
        g_assert_cmpstr(got, ==, cases[i].want);
    }
}

static void
forward_faults_have_the_words_of_lxd(void)
{
#define P(rest) "{\"ports\":[{\"protocol\":\"tcp\"," rest "}]}"
    static const struct {
        const char *listen, *body, *want;
    } cases[] = {
        {"198.51.100.1", "{}", ""},
        {"0.0.0.0", "{}", "Invalid listen address"},
        {"198.51.100.1/32", "{}", "Invalid listen address"},
        {"198.51.100.1", "{\"config\":{\"colour\":\"red\"}}", "Invalid option \"colour\""},
        {"198.51.100.1", "{\"config\":{\"target_address\":\"x\"}}",
         "Invalid default target address"},
        {"198.51.100.1", "{\"config\":{\"target_address\":\"fd42::5\"}}",
         "Cannot mix IP versions in listen address and default target address"},
        {"198.51.100.1", "{\"config\":{\"target_address\":\"10.9.9.9\"}}",
         "Default target address is not within the network subnet"},
        {"198.51.100.1", P("\"listen_port\":\"80\",\"target_address\":\"192.0.2.3\""), ""},
        {"198.51.100.1", P("\"target_address\":\"192.0.2.3\""),
         "Missing listen port in port specification 0"},
        {"198.51.100.1", P("\"listen_port\":\"80\",\"target_address\":\"192.0.3.3\""),
         "Target address is not within the network subnet in port specification 0"},
        {"198.51.100.1", P("\"listen_port\":\"80,80\",\"target_address\":\"192.0.2.3\""),
         "Duplicate listen port 80 for protocol \"tcp\" in port specification 0"},
        {"198.51.100.1",
         P("\"listen_port\":\"82,83,84\",\"target_address\":\"192.0.2.3\",\"target_port\":"
           "\"90,91\""),
         "Mismatch of listen port(s) and target port(s) count in port specification 0"},
        {"198.51.100.1",
         "{\"ports\":[{\"protocol\":\"icmp\",\"listen_port\":\"1\",\"target_address\":"
         "\"192.0.2.3\"}]}",
         "Invalid port protocol in port specification 0, protocol must be one of: tcp, udp"},
    };
#undef P
    json_t *config = json_pack("{s:s}", "ipv4.address", "192.0.2.1/24");
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GError) error = NULL;
        json_t *body = json_loads(cases[i].body, 0, NULL);
        bool ok = forward_check(config, cases[i].listen, body, &error);
        g_assert_cmpstr(ok ? "" : error->message, ==, cases[i].want);
        json_decref(body);
    }
    json_decref(config);
}

static void
the_log_of_an_acl_has_its_packets_only(void)
{
    static const char kernel[] =
        "<4>[   12.500000] br0-ingress-1 IN=eth0 OUT=br0 MAC= SRC=192.0.2.9 DST=10.94.7.5 LEN=60 "
        "TOS=0x00 PROTO=TCP SPT=4000 DPT=80 WINDOW=1\n"
        "<4>[   13.000000] br0-ingress-0 IN=eth0 SRC=192.0.2.9 DST=10.94.7.5 PROTO=UDP SPT=1 "
        "DPT=2\n"
        "<4>[   14.000000] br1-ingress-1 IN=eth0 SRC=192.0.2.9 DST=10.94.7.5 PROTO=UDP SPT=1 "
        "DPT=2\n"
        "<6>[   15.000000] eth0: link up\n"
        "<4>[   16.000000] br0-egress-0 IN=br0 SRC=10.94.7.5 DST=192.0.2.9 PROTO=ICMP TYPE=8 "
        "CODE=0 "
        "ID=1\n";
    const char *const on[] = {"br0", NULL};
    json_t *ingress = json_loads("[{\"action\":\"allow\",\"state\":\"enabled\"},"
                                 "{\"action\":\"drop\",\"state\":\"logged\"}]",
                                 0, NULL);
    json_t *egress = json_loads("[{\"action\":\"reject\",\"state\":\"logged\"}]", 0, NULL);
    g_autofree char *text =
        pktlog_of_acl(kernel, on, ingress, egress, G_GINT64_CONSTANT(1700000000000000));
    g_assert_cmpstr(
        text, ==,
        "{\"time\":\"2023-11-14T22:13:32.500000Z\",\"proto\":\"tcp\",\"src\":\"192.0.2.9\","
        "\"dst\":\"10.94.7.5\",\"src_port\":\"4000\",\"dst_port\":\"80\",\"icmp_type\":\"\","
        "\"icmp_code\":\"\",\"action\":\"drop\"}\n"
        "{\"time\":\"2023-11-14T22:13:36.000000Z\",\"proto\":\"icmp\",\"src\":\"10.94.7.5\","
        "\"dst\":\"192.0.2.9\",\"src_port\":\"\",\"dst_port\":\"\",\"icmp_type\":\"8\","
        "\"icmp_code\":\"0\",\"action\":\"reject\"}\n");
    json_decref(ingress);
    json_decref(egress);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/firewall/networks-are-as-the-golden-files", networks_are_as_the_golden_files);
    g_test_add_func("/firewall/acls-are-as-the-golden-file", acls_are_as_the_golden_file);
    g_test_add_func("/firewall/a-bridge-cannot-filter-by-name", a_bridge_cannot_filter_by_name);
    g_test_add_func("/firewall/forwards-are-as-the-golden-file", forwards_are_as_the_golden_file);
    g_test_add_func("/firewall/nic-filters-are-as-the-golden-files",
                    nic_filters_are_as_the_golden_files);
    g_test_add_func("/netacl/faults-have-the-words-of-lxd", acl_faults_have_the_words_of_lxd);
    g_test_add_func("/forward/faults-have-the-words-of-lxd", forward_faults_have_the_words_of_lxd);
    g_test_add_func("/pktlog/the-log-of-an-acl-has-its-packets-only",
                    the_log_of_an_acl_has_its_packets_only);
    return g_test_run();
}
