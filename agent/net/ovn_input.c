/* Gathers what the rows of an ovn network depend on. Everything is read anew for each plan: what the
 * builders see is what is stored, and nothing is kept between two plans but OVN's own choice of dynamic
 * addresses, which is read from the replica of the northbound database.
 * What OVN has not chosen yet is foreseen, so that a NIC and all that needs its address come in one
 * transaction: OVN takes the lowest IPv4 address that is free, and makes the IPv6 one of the MAC. Should it
 * choose otherwise (two NICs at once), the next plan has its word.
 * Called by ovn_net.c's builder, and by ovn_peer.c for the far side. */
#include "agent/net/ovn_input.h"

#include <string.h>

#include "agent/net/ovn_parts.h"
#include "agent/net/ovn_stored.h"
#include "agent/net/ovn_uplink.h"
#include "agent/net/subnet.h"
#include "agent/ovn/ovn.h"
#include "agent/state/ovn_ports.h"
#include "proto/grammar.h"
#include "proto/keys.h"

enum { MTU_PLAIN = 1442, CHASSIS_MOST = 32767 };

Network *
ovn_input_network(NetTable *table, gint64 id)
{
    g_autoptr(GPtrArray) list = netobj_list(table);
    for (guint i = 0; i < list->len; i++) {
        Network *net = g_ptr_array_index(list, i);
        if (net->row->id == id) {
            return netobj_ref(net);
        }
    }
    return NULL;
}

static bool
family_bool(const Network *net, int family, const char *tail, bool fallback)
{
    g_autofree char *key = g_strdup_printf("ipv%d.%s", family == 0 ? 4 : 6, tail);
    return netobj_bool(net, key, fallback);
}

static void
take_family(const Network *net, int index, OvnFamily *family)
{
    struct subnet parsed;
    const char *cidr = netobj_address(net, index == 0 ? 4 : 6);
    if (cidr == NULL || !subnet_parse(cidr, &parsed)) {
        return;
    }
    family->cidr = g_strdup(cidr);
    family->network = subnet_network(&parsed);
    family->router = subnet_address(&parsed);
    family->dhcp = family_bool(net, index, "dhcp", true);
    family->l3only = family_bool(net, index, "l3only", false);
    family->nat = family_bool(net, index, "nat", false);
    family->nat_address =
        g_strdup(netobj_get(net, index == 0 ? "ipv4.nat.address" : "ipv6.nat.address"));
}

static void
take_uplink(const Network *net, OvnNetInput *in)
{
    const char *name = netobj_get(net, "network");
    g_autoptr(Network) found =
        name != NULL && strcmp(name, "none") != 0 ? netobj_find(net->table, "default", name) : NULL;
    if (found == NULL) {
        /* No one to ask outside: OVN itself answers for the names that it knows, whatever server is
         * asked, and the router is one that clients reach. */
        for (int i = 0; i < 2; i++) {
            char *const router[] = {in->family[i].router, NULL};
            in->family[i].dns = g_strdupv((char **) router);
        }
        return;
    }
    g_autoptr(OvnUplink) uplink =
        ovn_uplink_of(found->row->name, found->row->type, found->row->config);
    in->uplink = g_strdup(found->row->name);
    in->l2proxy = uplink->l2proxy;
    for (int i = 0; i < 2; i++) {
        const char *address = netobj_get(net, i == 0 ? "volatile.network.ipv4.address"
                                                     : "volatile.network.ipv6.address");
        in->family[i].dns = g_strdupv(uplink->dns[i]);
        if (address != NULL && uplink->cidr[i] != NULL) {
            in->family[i].ext = ovn_uplink_with_prefix(uplink, i, address);
            in->family[i].gateway = g_strdup(uplink->gateway[i]);
        }
    }
}

/* The same on every start, and different from host to host and network to network. */
static void
take_chassis(Agent *agent, OvnNetInput *in)
{
    const char *system_id = ovn_system_id(agent);
    if (system_id == NULL) {
        return;
    }
    g_autofree char *text = g_strdup_printf("%s/%" G_GINT64_FORMAT, system_id, in->id);
    OvnChassis *chassis = g_new0(OvnChassis, 1);
    chassis->chassis = g_strdup(system_id);
    chassis->priority = (int) (g_str_hash(text) % (CHASSIS_MOST + 1));
    g_ptr_array_add(in->chassis, chassis);
}

/* ---- NICs ---- */

/* "00:16:3e:… 10.1.0.2 fd42::2": what OVN allotted. */
static void
take_dynamic(Agent *agent, OvnNic *nic)
{
    Ovsdb *nb = ovn_nb(agent);
    const OvsdbRow *row =
        nb != NULL ? ovsdb_find(nb, "Logical_Switch_Port", "name", nic->lsp) : NULL;
    const char *text = row != NULL ? ovsdb_text(row, "dynamic_addresses") : NULL;
    g_auto(GStrv) words = g_strsplit(text != NULL ? text : "", " ", -1);
    for (guint i = 1; words[0] != NULL && words[i] != NULL; i++) {
        int family = strchr(words[i], ':') != NULL ? 1 : 0;
        if (nic->address[family] == NULL && *words[i] != '\0') {
            nic->address[family] = g_strdup(words[i]);
        }
    }
}

static void
take_addresses(Agent *agent, const OvnNetInput *in, OvnNic *nic)
{
    struct subnet six;
    for (int i = 0; i < 2; i++) {
        nic->address[i] = g_strdup(nic->fixed[i]);
    }
    if (nic->fixed[0] == NULL && nic->fixed[1] == NULL) {
        if (nic->running) {
            take_dynamic(agent, nic);
        }
    } else if (nic->fixed[1] == NULL && ovn_parts_dhcp(in, 1) &&
               subnet_parse(in->family[1].network, &six)) {
        nic->address[1] = subnet_eui64(&six, nic->mac);
    }
}

/* Every IPv4 address in "00:16:3e:… 10.1.0.2 fd42::2". */
static void
take_words(const char *text, GHashTable *taken)
{
    g_auto(GStrv) words = g_strsplit(text != NULL ? text : "", " ", -1);
    for (char **word = words; *word != NULL; word++) {
        if (strchr(*word, '.') != NULL) {
            g_hash_table_add(taken, g_strdup(*word));
        }
    }
}

/* IPv4 addresses that OVN will not allot: the router's, reserved ones, those of the switch's ports. */
static GHashTable *
taken_four(Agent *agent, const OvnNetInput *in)
{
    GHashTable *taken = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    g_autofree char *name = ovn_rows_name(in->id, OVN_ROWS_LS_INT);
    Ovsdb *nb = ovn_nb(agent);
    const OvsdbRow *ls = nb != NULL ? ovsdb_find(nb, "Logical_Switch", "name", name) : NULL;
    json_t *ports = ls != NULL ? json_object_get(ls->columns, "ports") : NULL;
    size_t i;
    json_t *uuid;
    g_hash_table_add(taken, g_strdup(in->family[0].router));
    for (guint k = 0; k < in->nics->len; k++) {
        const OvnNic *nic = g_ptr_array_index(in->nics, k);
        take_words(nic->fixed[0], taken);
        take_words(nic->address[0], taken);
    }
    json_array_foreach (ports, i, uuid) {
        const OvsdbRow *port = ovsdb_get(nb, "Logical_Switch_Port", json_string_value(uuid));
        json_t *list = port != NULL ? json_object_get(port->columns, "addresses") : NULL;
        take_words(port != NULL ? ovsdb_text(port, "dynamic_addresses") : NULL, taken);
        for (size_t k = 0; k < json_array_size(list); k++) {
            take_words(json_string_value(json_array_get(list, k)), taken);
        }
    }
    return taken;
}

static char *
lowest_free(const OvnNetInput *in, GHashTable *taken)
{
    struct subnet whole, at;
    g_autofree char *first = NULL;
    if (!subnet_parse(in->family[0].network, &whole)) {
        return NULL;
    }
    first = subnet_nth(&whole, 1);
    g_autofree char *last = subnet_nth(&whole, -1); /* the broadcast address */
    if (first == NULL || last == NULL || !subnet_parse(first, &at)) {
        return NULL;
    }
    for (at.prefix = 0;; subnet_step(&at)) {
        g_autofree char *text = subnet_address(&at);
        if (strcmp(text, last) == 0) {
            return NULL;
        }
        if (g_hash_table_add(taken, g_strdup(text))) {
            return g_steal_pointer(&text);
        }
    }
}

static void
foresee(Agent *agent, OvnNetInput *in)
{
    g_autoptr(GHashTable) taken = NULL;
    struct subnet six;
    bool has_six = in->family[1].network != NULL && subnet_parse(in->family[1].network, &six) &&
                   six.prefix == 64;
    for (guint i = 0; i < in->nics->len; i++) {
        OvnNic *nic = g_ptr_array_index(in->nics, i);
        if (!nic->running || nic->fixed[0] != NULL || nic->fixed[1] != NULL) {
            continue;
        }
        if (nic->address[0] == NULL && in->family[0].network != NULL) {
            taken = taken != NULL ? taken : taken_four(agent, in);
            nic->address[0] = lowest_free(in, taken);
            nic->guessed[0] = true;
        }
        if (nic->address[1] == NULL && has_six) {
            nic->address[1] = subnet_eui64(&six, nic->mac);
            nic->guessed[1] = true;
        }
    }
}

static const OvnPort *
port_of(GPtrArray *ports, const OvnPort *nested, const char *device)
{
    for (guint i = 0; i < ports->len; i++) {
        const OvnPort *port = g_ptr_array_index(ports, i);
        if (port->instance_id == nested->instance_id && strcmp(port->device, device) == 0) {
            return port;
        }
    }
    return NULL;
}

static void
take_nested(GPtrArray *ports, const OvnPort *port, OvnNic *nic)
{
    const char *device = keys_get(port->config, "nested");
    const char *vlan = keys_get(port->config, "vlan");
    const OvnPort *parent = device != NULL ? port_of(ports, port, device) : NULL;
    if (parent != NULL && vlan != NULL) {
        nic->parent_lsp = g_strdup(parent->lsp);
        nic->tag = (int) g_ascii_strtoll(vlan, NULL, 10);
    }
}

static OvnNic *
nic_of(Agent *agent, const OvnNetInput *in, GPtrArray *ports, const OvnPort *port)
{
    OvnNic *nic = ovn_rows_nic_new();
    g_autofree char *prefix = ovn_rows_name(in->id, "-instance-");
    nic->lsp = g_strdup(port->lsp);
    nic->log_name =
        g_strdup(g_str_has_prefix(port->lsp, prefix) ? port->lsp + strlen(prefix) : port->lsp);
    nic->project = g_strdup(port->project);
    nic->inst = g_strdup(port->inst);
    nic->device = g_strdup(port->device);
    nic->hostname = g_ascii_strdown(port->inst, -1);
    nic->mac = g_strdup(port->mac);
    nic->running = port->running;
    nic->config = json_incref(port->config);
    nic->fixed[0] = g_strdup(keys_get(port->config, "ipv4.address"));
    nic->fixed[1] = g_strdup(keys_get(port->config, "ipv6.address"));
    nic->routes[0] = grammar_list(keys_get(port->config, "ipv4.routes"));
    nic->routes[1] = grammar_list(keys_get(port->config, "ipv6.routes"));
    nic->external[0] = grammar_list(keys_get(port->config, "ipv4.routes.external"));
    nic->external[1] = grammar_list(keys_get(port->config, "ipv6.routes.external"));
    take_nested(ports, port, nic);
    take_addresses(agent, in, nic);
    return nic;
}

/* Whether others have to know of routes to it. */
static bool
is_routed(const OvnNetInput *in, const OvnPort *port)
{
    static const char *const keys[] = {"ipv4.routes", "ipv6.routes", "ipv4.routes.external",
                                       "ipv6.routes.external"};
    bool routed = in->family[0].l3only || in->family[1].l3only;
    for (size_t i = 0; i < G_N_ELEMENTS(keys) && !routed; i++) {
        routed = keys_get(port->config, keys[i]) != NULL;
    }
    return routed && port->running;
}

static bool
take_nics(Agent *agent, OvnNetInput *in, bool routed, GError **error)
{
    g_autoptr(GPtrArray) ports = ovn_stored(agent, OVN_STORED_PORTS, in->id, error);
    for (guint i = 0; ports != NULL && i < ports->len; i++) {
        const OvnPort *port = g_ptr_array_index(ports, i);
        if (!routed || is_routed(in, port)) {
            g_ptr_array_add(in->nics, nic_of(agent, in, ports, port));
        }
    }
    foresee(agent, in);
    return ports != NULL;
}

/* ---- all of it ---- */

static OvnNetInput *
plain(Network *net, bool routed, GError **error)
{
    Agent *agent = netobj_agent(net->table);
    g_autoptr(OvnNetInput) in = ovn_rows_input_new();
    const char *mac = netobj_get(net, "bridge.hwaddr");
    const char *mtu = netobj_get(net, "bridge.mtu");
    const char *domain = netobj_get(net, "dns.domain");
    const char *search = netobj_get(net, "dns.search");
    in->id = net->row->id;
    in->project_id = net->row->project_id;
    in->project = g_strdup(net->row->project);
    in->name = g_strdup(net->row->name);
    in->mac = g_strdup(mac != NULL ? mac : net->row->hwaddr);
    in->mtu = mtu != NULL ? (guint) g_ascii_strtoull(mtu, NULL, 10) : MTU_PLAIN;
    in->shared = netobj_bool(net, "hawser.shared", false);
    in->dhcp_stateful = netobj_bool(net, "ipv6.dhcp.stateful", false);
    in->domain = g_strdup(domain != NULL ? domain : "lxd");
    in->search = grammar_list(search != NULL ? search : in->domain);
    in->config = json_incref(net->row->config);
    take_family(net, 0, &in->family[0]);
    take_family(net, 1, &in->family[1]);
    take_uplink(net, in);
    take_chassis(agent, in);
    return take_nics(agent, in, routed, error) ? g_steal_pointer(&in) : NULL;
}

OvnNetInput *
ovn_input_plain(Network *net, GError **error)
{
    return plain(net, false, error);
}

OvnNetInput *
ovn_input_routes(Network *net, GError **error)
{
    return plain(net, true, error);
}

OvnNetInput *
ovn_input_gather(Network *net, GError **error)
{
    g_autoptr(OvnNetInput) in = plain(net, false, error);
    return in != NULL && ovn_peer_gather(net, in, error) && ovn_acl_gather(net, in, error) &&
                   ovn_lb_gather(net, in, error)
               ? g_steal_pointer(&in)
               : NULL;
}
