/* agent/net/ovn_acl.c, ovn_peer.c and ovn_lb.c against a golden file, matches one by one, and the log.
 * HAWSER_GOLDEN_WRITE=1 rewrites the file, and a person reads the diff. */
#include "agent/net/ovn_acl.h"

#include <string.h>

#include "agent/net/ovn_acllog.h"
#include "agent/net/ovn_lb.h"
#include "agent/net/ovn_peer.h"
#include "agent/ovn/plan.h"

static OvnAcl *
acl_with(const char *ingress, const char *egress)
{
    OvnAcl *acl = ovn_acl_new(5, 1, "web");
    acl->ingress = json_loads(ingress, 0, NULL);
    acl->egress = json_loads(egress, 0, NULL);
    json_decref(acl->groups);
    json_decref(acl->peers);
    acl->groups = json_pack("{s:i, s:i}", "web", 5, "friends", 7);
    acl->peers = json_pack("{s:i, s:i}", "ovn1/to2", 9, "ovn1/gone", 0);
    g_assert_nonnull(acl->ingress);
    g_assert_nonnull(acl->egress);
    return acl;
}

/* ---- matches ---- */

static void
check_match(const char *rule, bool ingress, gint64 net, const char *want, bool want_needs)
{
    OvnAcl *acl = acl_with("[]", "[]");
    json_t *parsed = json_loads(rule, 0, NULL);
    bool needs;
    g_autofree char *match = ovn_acl_match(acl, parsed, ingress, "lxd_acl5", net, &needs);
    g_assert_cmpstr(match, ==, want);
    g_assert_cmpint(needs, ==, want_needs);
    json_decref(parsed);
    ovn_acl_free(acl);
}

static void
a_rule_without_anything_matches_the_ports_of_its_group(void)
{
    check_match("{}", true, 0, "(outport == @lxd_acl5)", false);
    check_match("{}", false, 0, "(inport == @lxd_acl5)", false);
}

static void
addresses_subnets_and_ranges_are_alternatives(void)
{
    check_match("{\"source\":\"10.0.0.1, fd00::/8,10.1.0.1-10.1.0.9\"}", true, 0,
                "(outport == @lxd_acl5) && (ip4.src == 10.0.0.1 || ip6.src == fd00::/8 || "
                "(ip4.src >= 10.1.0.1 && ip4.src <= 10.1.0.9))",
                false);
}

static void
ports_follow_their_protocol(void)
{
    check_match(
        "{\"protocol\":\"tcp\",\"destination_port\":\"80,8000-8080\",\"source_port\":\"7\"}", true,
        0,
        "(outport == @lxd_acl5) && (tcp) && (tcp.src == 7) && "
        "(tcp.dst == 80 || (tcp.dst >= 8000 && tcp.dst <= 8080))",
        false);
    check_match("{\"protocol\":\"icmp6\",\"icmp_type\":\"128\",\"icmp_code\":\"0\"}", false, 0,
                "(inport == @lxd_acl5) && (icmp6) && (icmp6.type == 128) && (icmp6.code == 0)",
                false);
}

static void
the_name_of_an_acl_is_its_group(void)
{
    check_match("{\"source\":\"friends\"}", true, 0,
                "(outport == @lxd_acl5) && (inport == @lxd_acl7)", false);
    check_match("{\"destination\":\"web\"}", false, 0,
                "(inport == @lxd_acl5) && (outport == @lxd_acl5)", false);
}

static void
a_peer_is_the_address_sets_of_its_network(void)
{
    check_match("{\"source\":\"@ovn1/to2\"}", true, 0,
                "(outport == @lxd_acl5) && "
                "(ip6.src == $lxd_net9_routes_ip6 || ip4.src == $lxd_net9_routes_ip4)",
                false);
}

/* A3 */
static void
what_does_not_exist_matches_nothing(void)
{
    check_match("{\"source\":\"@ovn1/gone\"}", true, 0, NULL, false);
    check_match("{\"source\":\"@ovn1/never\"}", true, 0, NULL, false);
    check_match("{\"source\":\"nothere\"}", true, 0, NULL, false);
    check_match("{\"source\":\"nothere,10.0.0.1\"}", true, 0,
                "(outport == @lxd_acl5) && (ip4.src == 10.0.0.1)", false);
}

/* A2 */
static void
internal_and_external_need_a_network(void)
{
    check_match("{\"source\":\"@internal,10.0.0.1\"}", true, 0, NULL, true);
    check_match("{\"source\":\"@internal,#external\"}", true, 3,
                "(outport == @lxd_acl5) && (inport == @lxd_net3 || "
                "inport == \"lxd-net3-ls-int-lsp-router\")",
                false);
    check_match("{\"destination\":\"@external\"}", false, 3,
                "(inport == @lxd_acl5) && (outport == \"lxd-net3-ls-int-lsp-router\")", false);
}

/* ---- rows ---- */

static OvnNic *
add_nic(OvnNetInput *in, const char *inst, const char *config, bool running)
{
    OvnNic *nic = ovn_rows_nic_new();
    nic->lsp = g_strdup_printf("lxd-net3-instance-%s-eth0", inst);
    nic->log_name = g_strdup_printf("%s-eth0", inst);
    nic->hostname = g_strdup(inst);
    nic->mac = g_strdup("00:16:3e:00:00:01");
    nic->running = running;
    nic->config = json_loads(config, 0, NULL);
    g_ptr_array_add(in->nics, nic);
    return nic;
}

static OvnNetInput *
network(void)
{
    OvnNetInput *in = ovn_rows_input_new();
    in->id = 3;
    in->project_id = 1;
    in->project = g_strdup("default");
    in->name = g_strdup("ovn1");
    in->uplink = g_strdup("br0");
    in->mac = g_strdup("00:16:3e:01:02:03");
    in->mtu = 1442;
    in->domain = g_strdup("lxd");
    in->config = json_object();
    in->family[0].cidr = g_strdup("10.1.0.1/24");
    in->family[0].network = g_strdup("10.1.0.0/24");
    in->family[0].router = g_strdup("10.1.0.1");
    in->family[0].ext = g_strdup("10.94.0.9/24");
    in->family[0].nat = true;
    in->peers = g_ptr_array_new_with_free_func((GDestroyNotify) (void (*)(void)) ovn_peer_free);
    in->acls = g_ptr_array_new_with_free_func((GDestroyNotify) (void (*)(void)) ovn_acl_free);
    in->balancers = g_ptr_array_new_with_free_func((GDestroyNotify) (void (*)(void)) ovn_lb_free);
    return in;
}

static OvnBalancer *
a_forward(void)
{
    json_t *config = json_pack("{s:s}", "target_address", "10.1.0.2");
    json_t *ports =
        json_pack("[{s:s, s:s, s:s}, {s:s, s:s, s:s, s:s}]", "protocol", "tcp", "listen_port",
                  "80,90-91", "target_address", "10.1.0.3", "protocol", "udp", "listen_port", "53",
                  "target_address", "10.1.0.4", "target_port", "5353");
    OvnBalancer *balancer = ovn_lb_of_forward("198.51.100.1", config, ports);
    json_decref(config);
    json_decref(ports);
    return balancer;
}

static OvnBalancer *
a_balancer(void)
{
    json_t *backends =
        json_pack("[{s:s, s:s, s:s}, {s:s, s:s}]", "name", "a", "target_address", "fd42:1::2",
                  "target_port", "8080", "name", "b", "target_address", "fd42:1::3");
    json_t *ports = json_pack("[{s:s, s:s, s:[s, s]}]", "protocol", "tcp", "listen_port", "80",
                              "target_backend", "a", "b");
    OvnBalancer *balancer = ovn_lb_of_balancer("fd42:99::1", backends, ports);
    json_decref(backends);
    json_decref(ports);
    return balancer;
}

static OvnNetInput *
all_of_it(void)
{
    OvnNetInput *in = network();
    OvnPeer *peer = ovn_peer_new(9);
    peer->router[0] = g_strdup("10.2.0.1");
    peer->router[1] = g_strdup("fd42:2::1"); /* this network has no IPv6: no route */
    peer->prefixes[0] = g_strsplit("10.2.0.0/24 10.77.0.0/24", " ", -1);
    peer->prefixes[1] = g_strsplit("fd42:2::/64", " ", -1);
    g_ptr_array_add(in->peers, peer);
    g_ptr_array_add(
        in->acls,
        acl_with("[{\"action\":\"allow\",\"state\":\"enabled\",\"source\":\"@ovn1/to2\"},"
                 " {\"action\":\"drop\",\"state\":\"disabled\"},"
                 " {\"action\":\"reject\",\"state\":\"logged\",\"source\":\"@external\"}]",
                 "[{\"action\":\"drop\",\"state\":\"logged\",\"destination\":\"10.9.0.0/16\"},"
                 " {\"action\":\"allow\",\"state\":\"enabled\",\"destination\":\"@ovn1/gone\"}]"));
    add_nic(in, "c1",
            "{\"security.acls\":\"web\",\"security.acls.default.egress.action\":\"allow\","
            "\"security.acls.default.ingress.logged\":\"true\"}",
            true);
    add_nic(in, "c2", "{}", true);
    add_nic(in, "c3", "{\"security.acls\":\"web\"}", false);
    g_ptr_array_add(in->balancers, a_forward());
    g_ptr_array_add(in->balancers, a_balancer());
    return in;
}

static void
rows_are_as_the_golden_file(void)
{
    g_autoptr(OvnNetInput) in = all_of_it();
    g_autoptr(OvnPlan) plan = ovnplan_new();
    g_autoptr(GError) error = NULL;
    ovn_acl_group(plan, g_ptr_array_index(in->acls, 0));
    ovn_rows_build(plan, in);
    g_assert_true(ovnplan_check(plan, &error));
    json_t *json = ovnplan_json(plan);
    char *dump = json_dumps(json, JSON_INDENT(1) | JSON_SORT_KEYS);
    g_autofree char *text = g_strconcat(dump, "\n", NULL);
    g_autofree char *path = g_strdup_printf("%s/ovn/acl_peer_lb.json", g_getenv("HAWSER_GOLDEN"));
    g_autofree char *want = NULL;
    free(dump);
    json_decref(json);
    if (g_getenv("HAWSER_GOLDEN_WRITE") != NULL) {
        g_assert_true(g_file_set_contents(path, text, -1, NULL));
    }
    g_assert_true(g_file_get_contents(path, &want, NULL, NULL));
    g_assert_cmpstr(text, ==, want);
}

static void
names_of_network_and_nic_are_listed_once(void)
{
    json_t *net = json_pack("{s:s}", "security.acls", "a, b");
    json_t *nic = json_pack("{s:s}", "security.acls", "b,c");
    g_auto(GStrv) names = ovn_acl_names(net, nic);
    g_autofree char *joined = g_strjoinv(" ", names);
    g_assert_cmpstr(joined, ==, "a b c");
    json_decref(net);
    json_decref(nic);
}

/* ---- the log ---- */

static const char log_text[] =
    "2023-05-01T12:00:00.123Z|00004|acl_log(ovn_pinctrl0)|INFO|name=\"lxd_acl5-ingress-0\", "
    "verdict=drop, severity=info, direction=to-lport: tcp,vlan_tci=0x0000,dl_src=00:16:3e:00:00:01,"
    "dl_dst=00:16:3e:00:00:02,nw_src=10.1.0.2,nw_dst=10.1.0.3,nw_tos=0,nw_ecn=0,nw_ttl=64,"
    "nw_frag=no,tp_src=40000,tp_dst=80,tcp_flags=syn\n"
    "2023-05-01T12:00:01.000Z|00005|acl_log(ovn_pinctrl0)|INFO|name=\"lxd_acl55-ingress-0\", "
    "verdict=allow, severity=info, direction=to-lport: icmp,nw_src=1.1.1.1,nw_dst=2.2.2.2\n"
    "2023-05-01T12:00:02.000Z|00006|acl_log(ovn_pinctrl0)|INFO|name=\"lxd_acl5_net3-egress-1\", "
    "verdict=reject, severity=info, direction=to-lport: udp6,vlan_tci=0x0000,dl_src=0,"
    "ipv6_src=fd42::2,ipv6_dst=fd42::3,tp_src=1,tp_dst=2\n"
    "2023-05-01T12:00:03.000Z|00007|main|INFO|name=\"lxd_acl5-x\", verdict=drop: "
    "tcp,nw_src=1.2.3.4\n"
    "2023-05-01T12:00:04.000Z|00008|acl_log(x)|INFO|name=\"lxd_acl5-ingress-0\", verdict=";

static void
the_log_has_the_packets_of_the_acl_alone(void)
{
    g_autofree char *text = ovn_acllog_of(log_text, 5);
    g_assert_cmpstr(
        text, ==,
        "{\"time\":\"2023-05-01T12:00:00.123Z\",\"proto\":\"tcp\",\"src\":\"10.1.0.2\","
        "\"dst\":\"10.1.0.3\",\"src_port\":\"40000\",\"dst_port\":\"80\",\"icmp_type\":\"\","
        "\"icmp_code\":\"\",\"action\":\"drop\"}\n"
        "{\"time\":\"2023-05-01T12:00:02.000Z\",\"proto\":\"udp\",\"src\":\"fd42::2\","
        "\"dst\":\"fd42::3\",\"src_port\":\"1\",\"dst_port\":\"2\",\"icmp_type\":\"\","
        "\"icmp_code\":\"\",\"action\":\"reject\"}\n");
}

static void
two_logs_are_one_by_time(void)
{
    g_autofree char *both =
        ovn_acllog_merge("{\"time\":\"1\"}\n{\"time\":\"3\"}\n", "{\"time\":\"2\"}\n");
    g_assert_cmpstr(both, ==, "{\"time\":\"1\"}\n{\"time\":\"2\"}\n{\"time\":\"3\"}\n");
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/ovn_acl/a-rule-without-anything-matches-the-ports-of-its-group",
                    a_rule_without_anything_matches_the_ports_of_its_group);
    g_test_add_func("/ovn_acl/addresses-subnets-and-ranges-are-alternatives",
                    addresses_subnets_and_ranges_are_alternatives);
    g_test_add_func("/ovn_acl/ports-follow-their-protocol", ports_follow_their_protocol);
    g_test_add_func("/ovn_acl/the-name-of-an-acl-is-its-group", the_name_of_an_acl_is_its_group);
    g_test_add_func("/ovn_acl/a-peer-is-the-address-sets-of-its-network",
                    a_peer_is_the_address_sets_of_its_network);
    g_test_add_func("/ovn_acl/what-does-not-exist-matches-nothing",
                    what_does_not_exist_matches_nothing);
    g_test_add_func("/ovn_acl/internal-and-external-need-a-network",
                    internal_and_external_need_a_network);
    g_test_add_func("/ovn_acl/rows-are-as-the-golden-file", rows_are_as_the_golden_file);
    g_test_add_func("/ovn_acl/names-of-network-and-nic-are-listed-once",
                    names_of_network_and_nic_are_listed_once);
    g_test_add_func("/ovn_acl/the-log-has-the-packets-of-the-acl-alone",
                    the_log_has_the_packets_of_the_acl_alone);
    g_test_add_func("/ovn_acl/two-logs-are-one-by-time", two_logs_are_one_by_time);
    return g_test_run();
}
