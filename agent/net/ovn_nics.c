/* Rows of the NICs of an ovn network: ports, DNS, routes, NAT.
 * N1  A NIC has its DNS row and its reservation while the device exists, its port while it runs.
 * N2  OVN cannot mix: with one fixed address the other family's is named, too, or there is none.
 * N3  What needs the NIC's address (routes, NAT, DNS records) is there with it: OVN's choice is foreseen
 *     (ovn_input.c), and where it turns out to be another the rows follow.
 * N4  LXD lets a NIC send from any address; hawser.port_security=true binds it to its own.
 * Called by ovn_rows.c. */
#include "agent/net/ovn_parts.h"

#include <string.h>

#include "agent/net/subnet.h"
#include "agent/ovn/plan.h"
#include "proto/keys.h"

char *
ovn_parts_dhcp_key(const OvnNetInput *in, int family)
{
    g_autofree char *ls = ovn_rows_name(in->id, OVN_ROWS_LS_INT);
    return g_strdup_printf("%s/dhcp%d", ls, family == 0 ? 4 : 6);
}

static int
by_address(gconstpointer a, gconstpointer b)
{
    struct subnet one;
    struct subnet other;
    if (!subnet_parse(*(char *const *) a, &one) || !subnet_parse(*(char *const *) b, &other)) {
        return 0;
    }
    return memcmp(one.address, other.address, sizeof one.address);
}

/* Whether 'next' follows 'last' directly. */
static bool
adjoins(const char *last, const char *next)
{
    struct subnet at;
    if (!subnet_parse(last, &at)) {
        return false;
    }
    at.prefix = 0;
    subnet_step(&at);
    g_autofree char *after = subnet_address(&at);
    return strcmp(after, next) == 0;
}

char *
ovn_parts_exclude(const OvnNetInput *in)
{
    g_autoptr(GPtrArray) list = g_ptr_array_new();
    g_autoptr(GString) text = g_string_new(NULL);
    if (in->family[0].router != NULL) {
        g_ptr_array_add(list, in->family[0].router);
    }
    for (guint i = 0; i < in->nics->len; i++) {
        const OvnNic *nic = g_ptr_array_index(in->nics, i);
        if (nic->fixed[0] != NULL) {
            g_ptr_array_add(list, nic->fixed[0]);
        }
    }
    g_ptr_array_sort(list, by_address);
    for (guint i = 0; i < list->len;) {
        guint end = i;
        while (end + 1 < list->len && adjoins(list->pdata[end], list->pdata[end + 1])) {
            end++;
        }
        g_string_append_printf(text, "%s%s", i == 0 ? "" : " ", (char *) list->pdata[i]);
        if (end > i) {
            g_string_append_printf(text, "..%s", (char *) list->pdata[end]);
        }
        i = end + 1;
    }
    return g_string_free(g_steal_pointer(&text), FALSE);
}

/* "00:16:3e:… dynamic", or with the fixed addresses (N2). */
static char *
addresses(const OvnNetInput *in, const OvnNic *nic)
{
    struct subnet six;
    g_autofree char *own = NULL;
    const char *fixed6 = nic->fixed[1];
    if (nic->fixed[0] == NULL && nic->fixed[1] == NULL) {
        return g_strdup_printf("%s dynamic", nic->mac);
    }
    if (fixed6 == NULL && ovn_parts_dhcp(in, 1) && subnet_parse(in->family[1].network, &six)) {
        own = subnet_eui64(&six, nic->mac);
        fixed6 = own;
    }
    return g_strdup_printf("%s%s%s%s%s", nic->mac, nic->fixed[0] != NULL ? " " : "",
                           nic->fixed[0] != NULL ? nic->fixed[0] : "", fixed6 != NULL ? " " : "",
                           fixed6 != NULL ? fixed6 : "");
}

static json_t *
dhcp_ref(const OvnNetInput *in, int family)
{
    g_autofree char *key = ovn_parts_dhcp_key(in, family);
    return ovn_parts_dhcp(in, family) ? json_pack("{s:s}", "ref", key) : json_null();
}

static void
append(GString *text, const char *word)
{
    if (word != NULL) {
        g_string_append_printf(text, " %s", word);
    }
}

/* N4: the MAC with the NIC's own addresses and all that is routed to it. OVN adds DHCP's 0.0.0.0 and the
 * link-local address. */
static json_t *
port_security(const OvnNetInput *in, const OvnNic *nic)
{
    if (!keys_get_bool(nic->config, "hawser.port_security", false)) {
        return json_null();
    }
    g_autoptr(GString) text = g_string_new(nic->mac);
    for (int family = 0; family < 2; family++) {
        g_auto(GStrv) prefixes = ovn_rows_nic_prefixes(in, nic, family);
        append(text, nic->address[family]);
        for (char **prefix = prefixes; *prefix != NULL; prefix++) {
            append(text, *prefix);
        }
    }
    return json_pack("[s]", text->str);
}

static void
add_port(OvnNetRows *rows, const OvnNic *nic)
{
    g_autofree char *text = addresses(rows->in, nic);
    ovn_rows_add(rows, "Logical_Switch_Port", nic->lsp,
                 json_pack("{s:s, s:[s], s:o, s:o, s:o, s:o, s:o}", "name", nic->lsp, "addresses",
                           text, "dhcpv4_options", dhcp_ref(rows->in, 0), "dhcpv6_options",
                           dhcp_ref(rows->in, 1), "port_security", port_security(rows->in, nic),
                           "parent_name",
                           nic->parent_lsp != NULL ? json_string(nic->parent_lsp) : json_null(),
                           "tag", nic->parent_lsp != NULL ? json_integer(nic->tag) : json_null()),
                 OVN_IN_SWITCH_PORTS);
    ovn_rows_into(rows, "Logical_Switch_Port", nic->lsp, OVN_IN_GROUP_PORTS);
}

/* While a NIC moves between two servers that share the network both have its names. */
static char *
dns_key(const OvnNetRows *rows, const OvnNic *nic)
{
    const OvnChassis *here =
        rows->in->chassis->len > 0 ? g_ptr_array_index(rows->in->chassis, 0) : NULL;
    return rows->in->shared && here != NULL ? g_strdup_printf("%s/%s", nic->lsp, here->chassis)
                                            : g_strdup(nic->lsp);
}

static void
add_dns(OvnNetRows *rows, const OvnNic *nic)
{
    g_autofree char *key = dns_key(rows, nic);
    g_autofree char *ls = ovn_rows_name(rows->in->id, OVN_ROWS_LS_INT);
    g_autofree char *name = g_strdup_printf("%s.%s", nic->hostname, rows->in->domain);
    g_autofree char *text = g_strjoin(nic->address[0] != NULL && nic->address[1] != NULL ? " " : "",
                                      nic->address[0] != NULL ? nic->address[0] : "",
                                      nic->address[1] != NULL ? nic->address[1] : "", NULL);
    json_t *records = nic->running && *text != '\0' ? json_pack("{s:s}", name, text) : json_null();
    ovn_rows_add(rows, "DNS", key,
                 json_pack("{s:o, s:{s:s, s:s}}", "records", records, "external_ids", "lxd_switch",
                           ls, "lxd_switch_port", nic->lsp),
                 OVN_IN_SWITCH_DNS);
}

/* Every address of an external route answers on the uplink by itself. */
static void
proxy_each(OvnNetRows *rows, const char *prefix)
{
    enum { MOST = 64 };
    struct subnet at;
    struct subnet whole;
    if (!subnet_parse(prefix, &whole)) {
        return;
    }
    at = whole;
    at.prefix = 0;
    for (int i = 0; i < MOST; i++, subnet_step(&at)) {
        g_autofree char *address = subnet_address(&at);
        if (!subnet_contains(&whole, address)) {
            break;
        }
        ovn_parts_nat(rows, "dnat_and_snat", address, address, true);
    }
}

static void
add_routes(OvnNetRows *rows, const OvnNic *nic, int family)
{
    const OvnFamily *net = &rows->in->family[family];
    g_autofree char *lrp = ovn_rows_name(rows->in->id, OVN_ROWS_LRP_INT);
    if (nic->address[family] == NULL) { /* N3 */
        return;
    }
    g_auto(GStrv) prefixes = ovn_rows_nic_prefixes(rows->in, nic, family);
    for (char **prefix = prefixes; *prefix != NULL; prefix++) {
        ovn_rows_route(rows, *prefix, nic->address[family], lrp);
    }
    if (!rows->in->l2proxy || net->ext == NULL) {
        return;
    }
    if (!net->nat) {
        ovn_parts_nat(rows, "dnat_and_snat", nic->address[family], nic->address[family], true);
    }
    for (char **prefix = nic->external[family]; prefix != NULL && *prefix != NULL; prefix++) {
        proxy_each(rows, *prefix);
    }
}

void
ovn_parts_nics(OvnNetRows *rows)
{
    for (guint i = 0; i < rows->in->nics->len; i++) {
        const OvnNic *nic = g_ptr_array_index(rows->in->nics, i);
        add_dns(rows, nic);
        if (nic->running) {
            add_port(rows, nic);
            add_routes(rows, nic, 0);
            add_routes(rows, nic, 1);
        }
    }
}
