/* agent/net/ovn_rows.c and its parts against golden files: the northbound rows of a network.
 * HAWSER_GOLDEN_WRITE=1 rewrites the files, and a person reads the diff. */
#include "agent/net/ovn_rows.h"

#include <string.h>

#include "agent/ovn/plan.h"

static char **
list(const char *text)
{
    return g_strsplit(text, " ", -1);
}

static void
set_family(OvnFamily *family, const char *cidr, const char *network, const char *router,
           const char *ext, const char *gateway)
{
    family->cidr = g_strdup(cidr);
    family->network = g_strdup(network);
    family->router = g_strdup(router);
    family->ext = g_strdup(ext);
    family->gateway = g_strdup(gateway);
    family->dhcp = true;
    family->nat = true;
    family->dns = list(gateway);
}

static OvnNetInput *
usual(void)
{
    OvnNetInput *in = ovn_rows_input_new();
    OvnChassis *chassis = g_new0(OvnChassis, 1);
    chassis->chassis = g_strdup("this-host");
    chassis->priority = 4711;
    in->id = 3;
    in->project_id = 1;
    in->project = g_strdup("default");
    in->name = g_strdup("ovn1");
    in->uplink = g_strdup("br0");
    in->mac = g_strdup("00:16:3e:01:02:03");
    in->mtu = 1442;
    in->l2proxy = true;
    in->domain = g_strdup("lxd");
    in->search = list("lxd");
    in->config = json_object();
    set_family(&in->family[0], "10.1.0.1/24", "10.1.0.0/24", "10.1.0.1", "10.94.0.9/24",
               "10.94.0.1");
    set_family(&in->family[1], "fd42:1::1/64", "fd42:1::/64", "fd42:1::1",
               "fd42:94::216:3eff:fe01:203/64", "fd42:94::1");
    g_ptr_array_add(in->chassis, chassis);
    return in;
}

static OvnNic *
add_nic(OvnNetInput *in, const char *inst, const char *mac, const char *four, const char *six)
{
    OvnNic *nic = ovn_rows_nic_new();
    nic->lsp = g_strdup_printf("lxd-net3-instance-%s-eth0", inst);
    nic->hostname = g_strdup(inst);
    nic->mac = g_strdup(mac);
    nic->address[0] = g_strdup(four);
    nic->address[1] = g_strdup(six);
    nic->running = true;
    nic->config = json_object();
    g_ptr_array_add(in->nics, nic);
    return nic;
}

static void
usual_nics(OvnNetInput *in)
{
    OvnNic *nic = add_nic(in, "c1", "00:16:3e:00:00:01", "10.1.0.2", "fd42:1::216:3eff:fe00:1");
    nic = add_nic(in, "c2", "00:16:3e:00:00:02", "10.1.0.10", NULL);
    nic->fixed[0] = g_strdup("10.1.0.10");
    nic->routes[0] = list("192.0.2.0/25");
    json_object_set_new(nic->config, "hawser.port_security", json_string("true"));
    nic->external[0] = list("198.51.100.4/31");
    nic = add_nic(in, "c3", "00:16:3e:00:00:03", NULL, NULL);
    nic->fixed[0] = g_strdup("10.1.0.11");
    nic->running = false;
    nic = add_nic(in, "c4", "00:16:3e:00:00:04", NULL, NULL);
    nic->parent_lsp = g_strdup("lxd-net3-instance-c1-eth0");
    nic->tag = 10;
}

static OvnNetInput *
make(const char *name)
{
    OvnNetInput *in = usual();
    if (strcmp(name, "nics") == 0) {
        usual_nics(in);
    } else if (strcmp(name, "l3only") == 0) {
        usual_nics(in);
        in->family[0].l3only = in->family[1].l3only = true;
        in->dhcp_stateful = true;
    } else if (strcmp(name, "no_nat") == 0) {
        usual_nics(in);
        in->family[0].nat = in->family[1].nat = false;
    } else if (strcmp(name, "no_uplink") == 0) {
        for (int i = 0; i < 2; i++) {
            g_clear_pointer(&in->family[i].ext, g_free);
            g_clear_pointer(&in->family[i].gateway, g_free);
        }
        g_clear_pointer(&in->uplink, g_free);
    } else if (strcmp(name, "only_ipv4") == 0) {
        g_clear_pointer(&in->family[1].cidr, g_free);
        g_clear_pointer(&in->family[1].network, g_free);
        g_clear_pointer(&in->family[1].router, g_free);
    }
    return in;
}

static void
rows_are_as_the_golden_file(gconstpointer data)
{
    const char *name = data;
    g_autoptr(OvnNetInput) in = make(name);
    g_autoptr(OvnPlan) plan = ovnplan_new();
    g_autoptr(GError) error = NULL;
    ovn_rows_build(plan, in);
    g_assert_true(ovnplan_check(plan, &error));
    json_t *json = ovnplan_json(plan);
    char *dump = json_dumps(json, JSON_INDENT(1) | JSON_SORT_KEYS);
    g_autofree char *text = g_strconcat(dump, "\n", NULL);
    g_autofree char *path = g_strdup_printf("%s/ovn/%s.json", g_getenv("HAWSER_GOLDEN"), name);
    g_autofree char *want = NULL;
    free(dump);
    json_decref(json);
    if (g_getenv("HAWSER_GOLDEN_WRITE") != NULL) {
        g_assert_true(g_file_set_contents(path, text, -1, NULL));
    }
    g_assert_true(g_file_get_contents(path, &want, NULL, NULL));
    g_assert_cmpstr(text, ==, want);
}

/* lxd-api network-options 5.2: the row count of a network of both families with NAT. */
static void
an_empty_network_has_as_many_rows_as_with_lxd(void)
{
    static const struct {
        const char *table;
        size_t rows;
    } wanted[] = {{"Logical_Router", 1},
                  {"Logical_Router_Port", 2},
                  {"Logical_Router_Policy", 3},
                  {"Logical_Router_Static_Route", 2},
                  {"NAT", 2},
                  {"Logical_Switch", 2},
                  {"Logical_Switch_Port", 3},
                  {"DHCP_Options", 2},
                  {"HA_Chassis_Group", 1},
                  {"HA_Chassis", 1},
                  {"Port_Group", 1},
                  {"Address_Set", 2},
                  {"ACL", 15}};
    g_autoptr(OvnNetInput) in = usual();
    g_autoptr(OvnPlan) plan = ovnplan_new();
    ovn_rows_build(plan, in);
    json_t *json = ovnplan_json(plan);
    g_assert_cmpuint(json_object_size(json), ==, G_N_ELEMENTS(wanted));
    for (size_t i = 0; i < G_N_ELEMENTS(wanted); i++) {
        g_assert_cmpuint(json_object_size(json_object_get(json, wanted[i].table)), ==,
                         wanted[i].rows);
    }
    json_decref(json);
}

int
main(int argc, char **argv)
{
    static const char *const goldens[] = {"empty",  "nics",      "l3only",
                                          "no_nat", "no_uplink", "only_ipv4"};
    g_test_init(&argc, &argv, NULL);
    for (size_t i = 0; i < G_N_ELEMENTS(goldens); i++) {
        g_autofree char *path =
            g_strdup_printf("/ovn_rows/rows-of-%s-are-as-the-golden-file", goldens[i]);
        g_test_add_data_func(path, goldens[i], rows_are_as_the_golden_file);
    }
    g_test_add_func("/ovn_rows/an-empty-network-has-as-many-rows-as-with-lxd",
                    an_empty_network_has_as_many_rows_as_with_lxd);
    return g_test_run();
}
