/* Leases of ovn networks: the router's addresses (to the network's own project), then each running NIC's:
 * "static" where the device's config says the address, else "dynamic": allotted by OVN or made of the
 * MAC. Called by net_api.c and leases.c. */
#include "agent/net/ovn_leases.h"

#include <string.h>

#include "agent/net/ovn_input.h"
#include "agent/net/subnet.h"

static void
add(json_t *list, const char *hostname, const char *hwaddr, const char *address, const char *type)
{
    json_array_append_new(list,
                          json_pack("{s:s, s:s, s:s, s:s, s:s}", "hostname", hostname, "hwaddr",
                                    hwaddr, "address", address, "type", type, "location", "none"));
}

static void
add_nic(json_t *list, const OvnNic *nic)
{
    for (int i = 0; i < 2; i++) {
        if (nic->address[i] != NULL && !nic->guessed[i]) {
            bool fixed =
                nic->fixed[i] != NULL && subnet_same_address(nic->fixed[i], nic->address[i]);
            add(list, nic->inst, nic->mac, nic->address[i], fixed ? "static" : "dynamic");
        }
    }
}

json_t *
ovn_leases_of(Network *net, const char *project, GError **error)
{
    g_autoptr(OvnNetInput) in = ovn_input_plain(net, error);
    if (in == NULL) {
        return NULL;
    }
    json_t *list = json_array();
    g_autofree char *gateway = g_strdup_printf("%s.gw", in->name);
    for (int i = 0; i < 2 && strcmp(project, in->project) == 0; i++) {
        if (in->family[i].router != NULL) {
            add(list, gateway, "", in->family[i].router, "gateway");
        }
    }
    for (guint i = 0; i < in->nics->len; i++) {
        const OvnNic *nic = g_ptr_array_index(in->nics, i);
        if (nic->running && strcmp(nic->project, project) == 0) {
            add_nic(list, nic);
        }
    }
    return list;
}

void
ovn_leases_uplink(Network *uplink, json_t *list)
{
    static const char *const keys[] = {"volatile.network.ipv4.address",
                                       "volatile.network.ipv6.address"};
    g_autoptr(GPtrArray) networks = netobj_list(uplink->table);
    for (guint i = 0; i < networks->len; i++) {
        const Network *net = g_ptr_array_index(networks, i);
        const char *mac = netobj_get(net, "bridge.hwaddr");
        if (!netobj_is(net, "ovn") ||
            g_strcmp0(netobj_get(net, "network"), uplink->row->name) != 0) {
            continue;
        }
        g_autofree char *name = g_strdup_printf("%s-%s.uplink", net->row->project, net->row->name);
        for (size_t k = 0; k < G_N_ELEMENTS(keys); k++) {
            if (netobj_get(net, keys[k]) != NULL) {
                add(list, name, mac != NULL ? mac : net->row->hwaddr, netobj_get(net, keys[k]),
                    "uplink");
            }
        }
    }
}
