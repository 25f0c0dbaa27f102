/* Leases of a network.
 * Order and content are LXD's: the gateway's addresses (to the network's own project), the static
 * addresses of the project's NICs, the address that a NIC makes for itself from its MAC, then what
 * dnsmasq leased to MACs of the project. */
#include "agent/net/leases.h"

#include <string.h>

#include "agent/inst/inst.h"
#include "agent/net/dnsmasq.h"
#include "agent/net/ovn_leases.h"
#include "agent/net/subnet.h"
#include "proto/keys.h"

struct view {
    Network *net;
    json_t *list;     /* owned by the caller */
    GHashTable *macs; /* of the project, lower case */
};

static void
add(struct view *view, const char *hostname, const char *hwaddr, const char *address,
    const char *type)
{
    json_array_append_new(view->list,
                          json_pack("{s:s, s:s, s:s, s:s, s:s}", "hostname", hostname, "hwaddr",
                                    hwaddr, "address", address, "type", type, "location", "none"));
}

static void
add_gateway(struct view *view)
{
    g_autofree char *name = g_strdup_printf("%s.gw", view->net->row->name);
    for (int family = 4; family <= 6; family += 2) {
        struct subnet address;
        if (subnet_parse(netobj_address(view->net, family), &address)) {
            g_autofree char *text = subnet_address(&address);
            add(view, name, "", text, "gateway");
        }
    }
}

static bool
is_on(const Network *net, json_t *nic)
{
    const char *network = keys_get(nic, "network");
    return g_strcmp0(keys_get(nic, "type"), "nic") == 0 &&
           (g_strcmp0(network, net->row->name) == 0 ||
            (network == NULL && g_strcmp0(keys_get(nic, "parent"), net->row->name) == 0));
}

static void
add_nic(struct view *view, Inst *inst, const char *device, json_t *nic)
{
    g_autofree char *key = g_strdup_printf("volatile.%s.hwaddr", device);
    const char *mac = keys_get(nic, "hwaddr");
    mac = mac != NULL ? mac : keys_get(inst_config(inst), key);
    if (mac == NULL) {
        return;
    }
    g_hash_table_add(view->macs, g_ascii_strdown(mac, -1));
    const char *four = keys_get(nic, "ipv4.address");
    const char *six = keys_get(nic, "ipv6.address");
    if (four != NULL && strcmp(four, "none") != 0) {
        add(view, inst_name(inst), mac, four, "static");
    }
    if (six != NULL && strcmp(six, "none") != 0) {
        add(view, inst_name(inst), mac, six, "static");
    }
    struct subnet net;
    if (subnet_parse(netobj_address(view->net, 6), &net) && !netobj_dhcp6_stateful(view->net)) {
        g_autofree char *own = subnet_eui64(&net, mac);
        if (own != NULL) {
            add(view, inst_name(inst), mac, own, "dynamic");
        }
    }
}

static bool
is_listed(const struct view *view, const struct dnsmasq_lease *lease)
{
    json_t *one;
    size_t i;
    json_array_foreach (view->list, i, one) {
        if (g_ascii_strcasecmp(json_string_value(json_object_get(one, "hwaddr")), lease->mac) ==
                0 &&
            subnet_same_address(json_string_value(json_object_get(one, "address")),
                                lease->address)) {
            return true;
        }
    }
    return false;
}

static void
add_dynamic(struct view *view)
{
    g_autoptr(GPtrArray) leases = dnsmasq_leases(view->net);
    for (guint i = 0; i < leases->len; i++) {
        const struct dnsmasq_lease *lease = g_ptr_array_index(leases, i);
        bool six = strchr(lease->address, ':') != NULL;
        if (is_listed(view, lease)) {
            continue;
        }
        g_autofree char *mac = g_ascii_strdown(lease->mac, -1);
        if (!six && !g_hash_table_contains(view->macs, mac)) {
            continue;
        }
        add(view, lease->hostname, six ? "" : lease->mac, lease->address, "dynamic");
    }
}

json_t *
leases_of(Network *net, const char *project)
{
    g_autoptr(GHashTable) macs = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    struct view view = {.net = net, .list = json_array(), .macs = macs};
    InstTable *instances = netobj_agent(net->table)->instances;
    g_autoptr(GPtrArray) list = inst_list(instances, project);
    if (strcmp(project, net->row->project) == 0) {
        add_gateway(&view);
        ovn_leases_uplink(net, view.list);
    }
    for (guint i = 0; i < list->len; i++) {
        Inst *inst = g_ptr_array_index(list, i);
        const char *device;
        json_t *nic;
        json_object_foreach (inst_expanded_devices(inst), device, nic) {
            if (is_on(net, nic)) {
                add_nic(&view, inst, device, nic);
            }
        }
    }
    add_dynamic(&view);
    return view.list;
}

void
leases_sweep(Network *net)
{
    g_autoptr(GHashTable) labels = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    g_autoptr(GPtrArray) list = inst_list(netobj_agent(net->table)->instances, NULL);
    for (guint i = 0; i < list->len; i++) {
        Inst *inst = g_ptr_array_index(list, i);
        const char *device;
        json_t *nic;
        json_object_foreach (inst_expanded_devices(inst), device, nic) {
            if (is_on(net, nic)) {
                g_hash_table_add(labels,
                                 dnsmasq_label(inst_project(inst), inst_name(inst), device));
            }
        }
    }
    g_autoptr(GPtrArray) hosts = dnsmasq_hosts(net);
    for (guint i = 0; i < hosts->len; i++) {
        const struct dnsmasq_host *host = g_ptr_array_index(hosts, i);
        if (!g_hash_table_contains(labels, host->label)) {
            dnsmasq_drop_host(net, host->label, NULL);
        }
    }
}

json_t *
net_leases(NetTable *table, const char *project, const char *network)
{
    g_autoptr(Network) net = netobj_find(table, project, network);
    json_t *list = NULL, *lease;
    size_t i;
    if (net != NULL) {
        list = netobj_is(net, "ovn") ? ovn_leases_of(net, project, NULL) : leases_of(net, project);
    }
    json_array_foreach (list, i, lease) {
        const char *address = keys_get(lease, "address");
        int family = address != NULL && strchr(address, ':') != NULL ? 6 : 4;
        const char *own = netobj_address(net, family);
        const char *slash = own != NULL ? strchr(own, '/') : NULL;
        json_object_set_new(lease, "netmask", json_string(slash != NULL ? slash + 1 : ""));
    }
    return list != NULL ? list : json_array();
}
