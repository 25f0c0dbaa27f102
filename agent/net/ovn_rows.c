/* The rows of one ovn network: routers, switches, their ports, addresses, DHCP, DNS, NAT.
 * R1  Pure: the same input gives the same plan, and nothing but the input is looked at.
 * R2  Names, columns and priorities are LXD's (lxd-api network-options 5.1 to 5.3), so that an operator
 *     finds what they know; the marks that make the rows ours are the plan's.
 * R3  A column that is ever set is always named, with null for "empty now": what was set before goes.
 * NICs' ports are in ovn_rows_nic.c, the baseline ACLs in ovn_rows_base.c; ovn_peer.c, ovn_acl.c and
 * ovn_lb.c add theirs through the hooks. Called by ovn_net.c's builder. */
#include "agent/net/ovn_rows.h"

#include <string.h>

#include "agent/net/ovn_parts.h"
#include "agent/net/subnet.h"
#include "agent/ovn/plan.h"

enum { PRIORITY_ALLOW = 600, PRIORITY_DROP = 500, RA_PREFIX = 64 };

/* ---- inputs ---- */

static void
chassis_free(gpointer data)
{
    OvnChassis *chassis = data;
    g_free(chassis->chassis);
    g_free(chassis);
}

OvnNetInput *
ovn_rows_input_new(void)
{
    OvnNetInput *input = g_new0(OvnNetInput, 1);
    input->nics =
        g_ptr_array_new_with_free_func((GDestroyNotify) (void (*)(void)) ovn_rows_nic_free);
    input->chassis = g_ptr_array_new_with_free_func(chassis_free);
    return input;
}

static void
family_done(OvnFamily *family)
{
    g_free(family->cidr);
    g_free(family->network);
    g_free(family->router);
    g_free(family->nat_address);
    g_free(family->ext);
    g_free(family->gateway);
    g_strfreev(family->dns);
}

void
ovn_rows_input_free(OvnNetInput *input)
{
    if (input == NULL) {
        return;
    }
    g_free(input->project);
    g_free(input->name);
    g_free(input->uplink);
    g_free(input->mac);
    g_free(input->domain);
    g_strfreev(input->search);
    family_done(&input->family[0]);
    family_done(&input->family[1]);
    g_ptr_array_unref(input->nics);
    g_ptr_array_unref(input->chassis);
    json_decref(input->config);
    g_clear_pointer(&input->peers, g_ptr_array_unref);
    g_clear_pointer(&input->acls, g_ptr_array_unref);
    g_clear_pointer(&input->balancers, g_ptr_array_unref);
    g_free(input);
}

OvnNic *
ovn_rows_nic_new(void)
{
    return g_new0(OvnNic, 1);
}

void
ovn_rows_nic_free(OvnNic *nic)
{
    if (nic == NULL) {
        return;
    }
    g_free(nic->lsp);
    g_free(nic->log_name);
    g_free(nic->project);
    g_free(nic->inst);
    g_free(nic->device);
    g_free(nic->hostname);
    g_free(nic->mac);
    g_free(nic->parent_lsp);
    for (int i = 0; i < 2; i++) {
        g_free(nic->fixed[i]);
        g_free(nic->address[i]);
        g_strfreev(nic->routes[i]);
        g_strfreev(nic->external[i]);
    }
    json_decref(nic->config);
    g_free(nic);
}

/* ---- names ---- */

char *
ovn_rows_name(gint64 net_id, const char *suffix)
{
    return g_strdup_printf("lxd-net%" G_GINT64_FORMAT "%s", net_id, suffix);
}

char *
ovn_rows_set(gint64 net_id, int family)
{
    return g_strdup_printf("lxd_net%" G_GINT64_FORMAT "_routes_ip%d", net_id, family);
}

char *
ovn_rows_group(gint64 net_id)
{
    return g_strdup_printf("lxd_net%" G_GINT64_FORMAT, net_id);
}

/* ---- into the plan ---- */

void
ovn_rows_into(OvnNetRows *rows, const char *table, const char *key, OvnSet set)
{
    static const struct {
        const char *table, *suffix, *column; /* suffix NULL: the port group */
    } sets[] = {
        [OVN_IN_ROUTER_PORTS] = {"Logical_Router", OVN_ROWS_ROUTER, "ports"},
        [OVN_IN_ROUTER_ROUTES] = {"Logical_Router", OVN_ROWS_ROUTER, "static_routes"},
        [OVN_IN_ROUTER_POLICIES] = {"Logical_Router", OVN_ROWS_ROUTER, "policies"},
        [OVN_IN_ROUTER_NAT] = {"Logical_Router", OVN_ROWS_ROUTER, "nat"},
        [OVN_IN_ROUTER_BALANCERS] = {"Logical_Router", OVN_ROWS_ROUTER, "load_balancer"},
        [OVN_IN_SWITCH_PORTS] = {"Logical_Switch", OVN_ROWS_LS_INT, "ports"},
        [OVN_IN_SWITCH_ACLS] = {"Logical_Switch", OVN_ROWS_LS_INT, "acls"},
        [OVN_IN_SWITCH_DNS] = {"Logical_Switch", OVN_ROWS_LS_INT, "dns_records"},
        [OVN_IN_SWITCH_BALANCERS] = {"Logical_Switch", OVN_ROWS_LS_INT, "load_balancer"},
        [OVN_IN_GROUP_PORTS] = {"Port_Group", NULL, "ports"},
        [OVN_IN_GROUP_ACLS] = {"Port_Group", NULL, "acls"},
    };
    g_autofree char *parent = sets[set].suffix != NULL
                                  ? ovn_rows_name(rows->in->id, sets[set].suffix)
                                  : ovn_rows_group(rows->in->id);
    ovnplan_into(rows->plan, table, key, sets[set].table, parent, sets[set].column);
}

void
ovn_rows_add(OvnNetRows *rows, const char *table, const char *key, json_t *columns, OvnSet set)
{
    ovnplan_row(rows->plan, rows->scope, table, key, columns);
    if (set != OVN_IN_NONE) {
        ovn_rows_into(rows, table, key, set);
    }
}

void
ovn_rows_route(OvnNetRows *rows, const char *prefix, const char *nexthop, const char *output_port)
{
    g_autofree char *key = ovn_rows_name(rows->in->id, OVN_ROWS_ROUTER "/route/");
    g_autofree char *full = g_strconcat(key, prefix, NULL);
    ovn_rows_add(rows, "Logical_Router_Static_Route", full,
                 json_pack("{s:s, s:s, s:s*}", "ip_prefix", prefix, "nexthop", nexthop,
                           "output_port", output_port),
                 OVN_IN_ROUTER_ROUTES);
}

static char *
name(const OvnNetRows *rows, const char *suffix)
{
    return ovn_rows_name(rows->in->id, suffix);
}

static char *
key_of(const OvnNetRows *rows, const char *suffix, const char *kind, const char *what)
{
    g_autofree char *parent = name(rows, suffix);
    return g_strdup_printf("%s/%s/%s", parent, kind, what);
}

char **
ovn_rows_nic_prefixes(const OvnNetInput *in, const OvnNic *nic, int family)
{
    g_autoptr(GPtrArray) list = g_ptr_array_new();
    if (in->family[family].l3only && nic->address[family] != NULL) {
        g_ptr_array_add(list,
                        g_strdup_printf("%s/%d", nic->address[family], family == 0 ? 32 : 128));
    }
    char **const sources[] = {nic->routes[family], nic->external[family]};
    for (size_t i = 0; i < G_N_ELEMENTS(sources); i++) {
        for (char **one = sources[i]; one != NULL && *one != NULL; one++) {
            g_ptr_array_add(list, g_strdup(*one));
        }
    }
    g_ptr_array_add(list, NULL);
    return (char **) g_ptr_array_free(g_steal_pointer(&list), FALSE);
}

char **
ovn_rows_prefixes(const OvnNetInput *in, int family)
{
    g_autoptr(GPtrArray) list = g_ptr_array_new();
    if (in->family[family].network != NULL) {
        g_ptr_array_add(list, g_strdup(in->family[family].network));
    }
    for (guint i = 0; i < in->nics->len; i++) {
        const OvnNic *nic = g_ptr_array_index(in->nics, i);
        g_auto(GStrv) prefixes = ovn_rows_nic_prefixes(in, nic, family);
        for (char **one = prefixes; nic->running && *one != NULL; one++) {
            g_ptr_array_add(list, g_strdup(*one));
        }
    }
    g_ptr_array_add(list, NULL);
    return (char **) g_ptr_array_free(g_steal_pointer(&list), FALSE);
}

json_t *
ovn_parts_strings(char **list)
{
    json_t *array = json_array();
    for (char **one = list; one != NULL && *one != NULL; one++) {
        json_array_append_new(array, json_string(*one));
    }
    return array;
}

/* ---- the router ---- */

static void
add_chassis(OvnNetRows *rows)
{
    g_autofree char *group = name(rows, "");
    ovn_rows_add(rows, "HA_Chassis_Group", group, json_pack("{s:s}", "name", group), OVN_IN_NONE);
    for (guint i = 0; i < rows->in->chassis->len; i++) {
        const OvnChassis *chassis = g_ptr_array_index(rows->in->chassis, i);
        g_autofree char *key = key_of(rows, "", "chassis", chassis->chassis);
        ovn_rows_add(rows, "HA_Chassis", key,
                     json_pack("{s:s, s:i}", "chassis_name", chassis->chassis, "priority",
                               chassis->priority),
                     OVN_IN_NONE);
        ovnplan_into(rows->plan, "HA_Chassis", key, "HA_Chassis_Group", group, "ha_chassis");
    }
}

static json_t *
mtu_option(const OvnNetRows *rows)
{
    g_autofree char *mtu = g_strdup_printf("%u", rows->in->mtu);
    return json_pack("{s:s}", "gateway_mtu", mtu);
}

/* "10.1.0.1/24", as a /32 in l3only. */
static char *
router_network(const OvnFamily *family, int index)
{
    return family->l3only ? g_strdup_printf("%s/%d", family->router, index == 0 ? 32 : 128)
                          : g_strdup(family->cidr);
}

static json_t *
router_networks(const OvnNetRows *rows)
{
    json_t *networks = json_array();
    for (int i = 0; i < 2; i++) {
        if (rows->in->family[i].cidr != NULL) {
            g_autofree char *text = router_network(&rows->in->family[i], i);
            json_array_append_new(networks, json_string(text));
        }
    }
    return networks;
}

static bool
has_ext(const OvnNetRows *rows)
{
    return rows->in->family[0].ext != NULL || rows->in->family[1].ext != NULL;
}

static void
add_ext(OvnNetRows *rows)
{
    g_autofree char *lrp = name(rows, OVN_ROWS_LRP_EXT);
    g_autofree char *ls = name(rows, OVN_ROWS_LS_EXT);
    g_autofree char *lsp = name(rows, OVN_ROWS_LSP_EXT);
    g_autofree char *provider = name(rows, OVN_ROWS_LSP_UPLINK);
    g_autofree char *group = name(rows, "");
    json_t *networks = json_array();
    for (int i = 0; i < 2; i++) {
        if (rows->in->family[i].ext != NULL) {
            json_array_append_new(networks, json_string(rows->in->family[i].ext));
        }
    }
    ovn_rows_add(rows, "Logical_Switch", ls, json_pack("{s:s}", "name", ls), OVN_IN_NONE);
    ovn_rows_add(rows, "Logical_Router_Port", lrp,
                 json_pack("{s:s, s:s, s:o, s:o, s:{s:s}}", "name", lrp, "mac", rows->in->mac,
                           "networks", networks, "options", mtu_option(rows), "ha_chassis_group",
                           "ref", group),
                 OVN_IN_ROUTER_PORTS);
    ovnplan_row(rows->plan, rows->scope, "Logical_Switch_Port", lsp,
                json_pack("{s:s, s:s, s:[s], s:{s:s, s:s}}", "name", lsp, "type", "router",
                          "addresses", "router", "options", "router-port", lrp, "nat-addresses",
                          "router"));
    ovnplan_row(rows->plan, rows->scope, "Logical_Switch_Port", provider,
                json_pack("{s:s, s:s, s:[s], s:{s:s}}", "name", provider, "type", "localnet",
                          "addresses", "unknown", "options", "network_name", rows->in->uplink));
    ovnplan_into(rows->plan, "Logical_Switch_Port", lsp, "Logical_Switch", ls, "ports");
    ovnplan_into(rows->plan, "Logical_Switch_Port", provider, "Logical_Switch", ls, "ports");
}

void
ovn_parts_nat(OvnNetRows *rows, const char *type, const char *external, const char *logical,
              bool stateless)
{
    g_autofree char *what = g_strdup_printf("%s/%s", type, logical);
    g_autofree char *key = key_of(rows, OVN_ROWS_ROUTER, "nat", what);
    ovn_rows_add(rows, "NAT", key,
                 json_pack("{s:s, s:s, s:s, s:{s:s}}", "type", type, "external_ip", external,
                           "logical_ip", logical, "options", "stateless",
                           stateless ? "true" : "false"),
                 OVN_IN_ROUTER_NAT);
}

static void
add_nat(OvnNetRows *rows)
{
    for (int i = 0; i < 2; i++) {
        const OvnFamily *family = &rows->in->family[i];
        struct subnet ext;
        if (family->network == NULL || !family->nat || !subnet_parse(family->ext, &ext)) {
            continue;
        }
        g_autofree char *own = subnet_address(&ext);
        ovn_parts_nat(rows, "snat", family->nat_address != NULL ? family->nat_address : own,
                      family->network, false);
    }
}

static void
add_routes(OvnNetRows *rows)
{
    static const char *const everything[] = {"0.0.0.0/0", "::/0"};
    g_autofree char *lrp = name(rows, OVN_ROWS_LRP_EXT);
    for (int i = 0; i < 2; i++) {
        const OvnFamily *family = &rows->in->family[i];
        if (family->ext != NULL && family->gateway != NULL) {
            ovn_rows_route(rows, everything[i], family->gateway, lrp);
        }
        if (family->network != NULL && family->l3only) {
            ovn_rows_route(rows, family->network, "discard", NULL);
        }
    }
}

static void
add_policy(OvnNetRows *rows, const char *key, int priority, const char *action, const char *match)
{
    g_autofree char *full = key_of(rows, OVN_ROWS_ROUTER, "policy", key);
    ovn_rows_add(
        rows, "Logical_Router_Policy", full,
        json_pack("{s:i, s:s, s:s}", "priority", priority, "action", action, "match", match),
        OVN_IN_ROUTER_POLICIES);
}

/* Only the network's own addresses may leave by the router. */
static void
add_policies(OvnNetRows *rows)
{
    g_autofree char *lrp = name(rows, OVN_ROWS_LRP_INT);
    for (int family = 6; family >= 4; family -= 2) {
        g_autofree char *set = ovn_rows_set(rows->in->id, family);
        g_autofree char *match =
            g_strdup_printf("inport == \"%s\" && ip%d.src == $%s", lrp, family, set);
        add_policy(rows, family == 6 ? "own6" : "own4", PRIORITY_ALLOW, "allow", match);
    }
    g_autofree char *rest = g_strdup_printf("inport == \"%s\"", lrp);
    add_policy(rows, "rest", PRIORITY_DROP, "drop", rest);
}

static void
add_address_sets(OvnNetRows *rows)
{
    for (int i = 0; i < 2; i++) {
        g_autofree char *set = ovn_rows_set(rows->in->id, i == 0 ? 4 : 6);
        g_auto(GStrv) prefixes = ovn_rows_prefixes(rows->in, i);
        ovn_rows_add(rows, "Address_Set", set,
                     json_pack("{s:s, s:o}", "name", set, "addresses", ovn_parts_strings(prefixes)),
                     OVN_IN_NONE);
    }
}

/* ---- the internal switch ---- */

bool
ovn_parts_dhcp(const OvnNetInput *in, int family)
{
    struct subnet net;
    const OvnFamily *one = &in->family[family];
    return one->network != NULL && one->dhcp &&
           (family == 0 || (subnet_parse(one->network, &net) && net.prefix == RA_PREFIX));
}

static json_t *
switch_config(const OvnNetRows *rows)
{
    json_t *config = json_object();
    struct subnet net;
    const OvnFamily *four = &rows->in->family[0];
    const OvnFamily *six = &rows->in->family[1];
    if (four->network != NULL) {
        g_autofree char *exclude = ovn_parts_exclude(rows->in);
        json_object_set_new(config, "subnet", json_string(four->network));
        json_object_set_new(config, "exclude_ips", json_string(exclude));
    }
    if (six->network != NULL && subnet_parse(six->network, &net) && net.prefix == RA_PREFIX) {
        json_object_set_new(config, "ipv6_prefix", json_string(six->network));
    }
    return config;
}

/* "{10.0.0.1, 10.0.0.2}" */
static char *
braced(char **list)
{
    g_autofree char *joined = g_strjoinv(", ", list);
    return g_strdup_printf("{%s}", joined);
}

static void
put_dns(json_t *options, const OvnFamily *family)
{
    if (family->dns != NULL && *family->dns != NULL) {
        g_autofree char *servers = braced(family->dns);
        json_object_set_new(options, "dns_server", json_string(servers));
    }
}

static void
add_dhcp_row(OvnNetRows *rows, int index, json_t *options)
{
    g_autofree char *ls = name(rows, OVN_ROWS_LS_INT);
    g_autofree char *key = ovn_parts_dhcp_key(rows->in, index);
    ovn_rows_add(rows, "DHCP_Options", key,
                 json_pack("{s:s, s:o, s:{s:s}}", "cidr", rows->in->family[index].network,
                           "options", options, "external_ids", "lxd_switch", ls),
                 OVN_IN_NONE);
}

static char *
quoted(const char *text)
{
    return g_strdup_printf("\"%s\"", text);
}

static void
add_dhcp4(OvnNetRows *rows)
{
    const OvnFamily *family = &rows->in->family[0];
    if (!ovn_parts_dhcp(rows->in, 0)) {
        return;
    }
    g_autofree char *mtu = g_strdup_printf("%u", rows->in->mtu);
    g_autofree char *domain = quoted(rows->in->domain);
    json_t *options = json_pack("{s:s, s:s, s:s, s:s, s:s, s:s}", "server_id", family->router,
                                "server_mac", rows->in->mac, "lease_time", "3600", "router",
                                family->router, "domain_name", domain, "mtu", mtu);
    put_dns(options, family);
    if (family->l3only) {
        json_object_set_new(options, "netmask", json_string("255.255.255.255"));
    }
    add_dhcp_row(rows, 0, options);
}

static void
add_dhcp6(OvnNetRows *rows)
{
    if (!ovn_parts_dhcp(rows->in, 1)) {
        return;
    }
    g_autofree char *domains = g_strjoinv(",", rows->in->search);
    g_autofree char *search = quoted(domains);
    json_t *options = json_pack("{s:s, s:s}", "server_id", rows->in->mac, "domain_search", search);
    put_dns(options, &rows->in->family[1]);
    add_dhcp_row(rows, 1, options);
}

/* What the internal port announces; null without IPv6. */
static json_t *
ra_configs(const OvnNetRows *rows)
{
    const OvnFamily *six = &rows->in->family[1];
    if (six->network == NULL) {
        return json_null();
    }
    const char *mode = !ovn_parts_dhcp(rows->in, 1) ? "slaac"
                       : rows->in->dhcp_stateful    ? "dhcpv6_stateful"
                                                    : "dhcpv6_stateless";
    g_autofree char *mtu = g_strdup_printf("%u", rows->in->mtu);
    g_autofree char *domains = g_strjoinv(",", rows->in->search);
    json_t *ra =
        json_pack("{s:s, s:s, s:s, s:s, s:s, s:s}", "send_periodic", "true", "address_mode", mode,
                  "min_interval", "30", "max_interval", "60", "mtu", mtu, "dnssl", domains);
    if (six->dns != NULL && *six->dns != NULL) {
        json_object_set_new(ra, "rdnss", json_string(*six->dns)); /* OVN takes one only */
    }
    return ra;
}

static void
add_int(OvnNetRows *rows)
{
    g_autofree char *ls = name(rows, OVN_ROWS_LS_INT);
    g_autofree char *lrp = name(rows, OVN_ROWS_LRP_INT);
    g_autofree char *lsp = name(rows, OVN_ROWS_LSP_INT);
    ovn_rows_add(rows, "Logical_Switch", ls,
                 json_pack("{s:s, s:o}", "name", ls, "other_config", switch_config(rows)),
                 OVN_IN_NONE);
    ovn_rows_add(rows, "Logical_Router_Port", lrp,
                 json_pack("{s:s, s:s, s:o, s:o, s:o}", "name", lrp, "mac", rows->in->mac,
                           "networks", router_networks(rows), "options", mtu_option(rows),
                           "ipv6_ra_configs", ra_configs(rows)),
                 OVN_IN_ROUTER_PORTS);
    ovn_rows_add(rows, "Logical_Switch_Port", lsp,
                 json_pack("{s:s, s:s, s:[s], s:{s:s, s:s}}", "name", lsp, "type", "router",
                           "addresses", "router", "options", "router-port", lrp, "nat-addresses",
                           "router"),
                 OVN_IN_SWITCH_PORTS);
}

static void
add_group(OvnNetRows *rows)
{
    g_autofree char *group = ovn_rows_group(rows->in->id);
    g_autofree char *ls = name(rows, OVN_ROWS_LS_INT);
    g_autofree char *project = g_strdup_printf("%" G_GINT64_FORMAT, rows->in->project_id);
    ovn_rows_add(rows, "Port_Group", group,
                 json_pack("{s:s, s:{s:s, s:s}}", "name", group, "external_ids", "lxd_project_id",
                           project, "lxd_switch", ls),
                 OVN_IN_NONE);
}

void
ovn_rows_build(OvnPlan *plan, const OvnNetInput *input)
{
    OvnNetRows rows = {.plan = plan, .in = input};
    g_snprintf(rows.scope, sizeof rows.scope, "net%" G_GINT64_FORMAT, input->id);
    g_autofree char *router = ovn_rows_name(input->id, OVN_ROWS_ROUTER);
    if (input->shared) {
        ovnplan_share(plan, rows.scope);
    }
    add_chassis(&rows);
    ovn_rows_add(&rows, "Logical_Router", router, json_pack("{s:s}", "name", router), OVN_IN_NONE);
    if (has_ext(&rows)) {
        add_ext(&rows);
        add_nat(&rows);
    }
    add_routes(&rows);
    add_address_sets(&rows);
    add_policies(&rows);
    add_int(&rows);
    add_dhcp4(&rows);
    add_dhcp6(&rows);
    ovn_parts_baseline(&rows);
    add_group(&rows);
    ovn_parts_nics(&rows);
    ovn_peer_rows(&rows);
    ovn_acl_rows(&rows);
    ovn_lb_rows(&rows);
}
