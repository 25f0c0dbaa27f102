/* Which NIC this is: its kind, its network, its keys as configured, remembered, or chosen now and
 * remembered.
 * I2  volatile.NIC.host_name is noted by the caller's config before it is used: nic_stop() finds the
 *     host side by it.
 * Called by all that have to do with NICs. */
#include "agent/net/nicuse.h"

#include <string.h>

#include "agent/api/settings.h"
#include "agent/auth/project.h"
#include "agent/inst/inst.h"
#include "agent/net/dnsmasq.h"
#include "base/ids.h"
#include "proto/grammar.h"
#include "proto/keys.h"

static const struct nic_driver *const drivers[] = {&nic_bridged, &nic_p2p,     &nic_routed,
                                                   &nic_ipvlan,  &nic_macvlan, &nic_physical,
                                                   &nic_sriov,   &nic_ovn};

const struct nic_driver *
nicuse_driver(const char *nictype)
{
    for (size_t i = 0; i < G_N_ELEMENTS(drivers); i++) {
        if (strcmp(drivers[i]->nictype, nictype) == 0) {
            return drivers[i];
        }
    }
    return NULL;
}

/* ---- what it is ---- */

static bool
resolve_network(NicUse *use, const char *name, GError **error)
{
    use->net = netobj_find(use->table, use->nic->project, name);
    if (use->net == NULL) {
        return haw_fail(error, HAW_NOT_FOUND,
                        "Error loading network config for \"%s\": Network not found", name);
    }
    if (strcmp(use->net->row->state, NETROW_CREATED) != 0) {
        return haw_fail(error, HAW_INVALID, "Specified network is not fully created");
    }
    use->driver = nicuse_driver(netobj_is(use->net, "bridge") ? "bridged" : use->net->row->type);
    if (use->driver == NULL) {
        return haw_fail(error, HAW_INVALID, "Unsupported network type \"%s\"", use->net->row->type);
    }
    g_auto(GStrv) fixed = g_strsplit(use->driver->fixed_by_network, " ", -1);
    for (char **key = fixed; *key != NULL; key++) {
        if (nicuse_get(use, *key) != NULL) {
            return haw_fail(error, HAW_INVALID,
                            "Cannot use \"%s\" property in conjunction with \"network\" property",
                            *key);
        }
    }
    return true;
}

static guint
number(const char *text)
{
    return text != NULL ? (guint) g_ascii_strtoull(text, NULL, 10) : 0;
}

static void
take_parent(NicUse *use)
{
    const char *vlan = nicuse_get(use, "vlan");
    use->mtu = number(nicuse_get(use, "mtu"));
    use->gvrp = nicuse_bool(use, "gvrp");
    if (use->net != NULL && netobj_is(use->net, "ovn")) {
        use->mtu = number(netobj_get(use->net, "bridge.mtu"));
    } else if (use->net != NULL && netobj_is(use->net, "bridge")) {
        use->parent = g_strdup(use->net->row->name);
    } else if (use->net != NULL) {
        use->parent = g_strdup(netobj_get(use->net, "parent"));
        vlan = netobj_get(use->net, "vlan") != NULL ? netobj_get(use->net, "vlan") : vlan;
        use->mtu = number(netobj_get(use->net, "mtu"));
        use->gvrp = netobj_bool(use->net, "gvrp", false);
    } else {
        use->parent = g_strdup(nicuse_get(use, "parent"));
    }
    use->vlan = g_strdup(vlan);
}

NicUse *
nicuse_new(NetTable *table, const Nic *nic, GError **error)
{
    g_autoptr(NicUse) use = g_new0(NicUse, 1);
    use->table = table;
    use->nic = nic;
    use->label = dnsmasq_label(nic->project, nic->inst != NULL ? nic->inst : "", nic->device);
    const char *network = nicuse_get(use, "network");
    const char *nictype = nicuse_get(use, "nictype");
    if (network != NULL) {
        if (nictype != NULL) {
            haw_fail(error, HAW_INVALID,
                     "Cannot use \"nictype\" property in conjunction with \"network\" property");
            return NULL;
        }
        if (!resolve_network(use, network, error)) {
            return NULL;
        }
    } else {
        use->driver = nictype != NULL ? nicuse_driver(nictype) : NULL;
        if (use->driver == NULL) {
            haw_fail(error, HAW_INVALID, "Unsupported device type");
            return NULL;
        }
        /* parent=BRIDGE of ours is that network, too. */
        const char *parent = nicuse_get(use, "parent");
        if (use->driver == &nic_bridged && parent != NULL) {
            use->net = netobj_find(table, "default", parent);
            if (use->net != NULL && !netobj_is(use->net, "bridge")) {
                netobj_unref(g_steal_pointer(&use->net));
            }
        }
    }
    take_parent(use);
    return g_steal_pointer(&use);
}

void
nicuse_free(NicUse *use)
{
    if (use != NULL) {
        netobj_unref(use->net);
        g_free(use->parent);
        g_free(use->vlan);
        g_free(use->label);
        g_free(use);
    }
}

const char *
nicuse_get(const NicUse *use, const char *key)
{
    return keys_get(use->nic->config, key);
}

bool
nicuse_bool(const NicUse *use, const char *key)
{
    return keys_get_bool(use->nic->config, key, false);
}

const char *
nicuse_volatile(const NicUse *use, const char *key)
{
    return keys_get(use->nic->volatiles, key);
}

void
nicuse_set_volatile(const NicUse *use, const char *key, const char *value)
{
    if (value != NULL) {
        json_object_set_new(use->nic->volatiles, key, json_string(value));
    } else {
        json_object_del(use->nic->volatiles, key);
    }
}

void
nicuse_set_number(const NicUse *use, const char *key, gint64 value)
{
    g_autofree char *text = g_strdup_printf("%" G_GINT64_FORMAT, value);
    nicuse_set_volatile(use, key, text);
}

bool
nicuse_is_vm(const NicUse *use)
{
    return g_strcmp0(use->nic->inst_type, "virtual-machine") == 0;
}

const char *
nicuse_ip(const NicUse *use, int family, const char *suffix)
{
    g_autofree char *key = g_strdup_printf("ipv%d.%s", family, suffix);
    return nicuse_get(use, key);
}

char **
nicuse_routes(const NicUse *use, int family)
{
    const char *inside = nicuse_ip(use, family, "routes");
    const char *outside = nicuse_ip(use, family, "routes.external");
    g_autofree char *both =
        g_strdup_printf("%s,%s", inside != NULL ? inside : "", outside != NULL ? outside : "");
    return grammar_list(both);
}

const char *
nicuse_mac(const NicUse *use)
{
    if (nicuse_get(use, "hwaddr") != NULL) {
        return nicuse_get(use, "hwaddr");
    }
    if (nicuse_volatile(use, "hwaddr") == NULL) {
        g_autofree char *mac = ids_hwaddr();
        nicuse_set_volatile(use, "hwaddr", mac);
    }
    return nicuse_volatile(use, "hwaddr");
}

/* The first ethN that no other NIC of the instance has. */
static char *
free_name(const NicUse *use)
{
    Agent *agent = netobj_agent(use->table);
    g_autoptr(Inst) inst = agent->instances != NULL ? inst_find(agent->instances, use->nic->project,
                                                                use->nic->inst, NULL)
                                                    : NULL;
    g_autoptr(GHashTable) taken = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    const char *device;
    json_t *config;
    json_object_foreach (inst != NULL ? inst_expanded_devices(inst) : NULL, device, config) {
        g_autofree char *key = g_strdup_printf("volatile.%s.name", device);
        const char *name = keys_get(config, "name");
        name = name != NULL ? name : keys_get(inst_config(inst), key);
        if (strcmp(device, use->nic->device) != 0 && name != NULL) {
            g_hash_table_add(taken, g_strdup(name));
        }
    }
    for (guint i = 0;; i++) {
        g_autofree char *name = g_strdup_printf("eth%u", i);
        if (!g_hash_table_contains(taken, name)) {
            return g_steal_pointer(&name);
        }
    }
}

const char *
nicuse_name(const NicUse *use)
{
    if (nicuse_get(use, "name") != NULL) {
        return nicuse_get(use, "name");
    }
    if (nicuse_volatile(use, "name") == NULL) {
        g_autofree char *name = free_name(use);
        nicuse_set_volatile(use, "name", name);
    }
    return nicuse_volatile(use, "name");
}

/* I2: on disk before the link is made, so that a crash in between leaves nothing without a name. No
 * fsync: links do not outlive the kernel either. */
static void
note_host_name(const NicUse *use, const char *name)
{
    Agent *agent = netobj_agent(use->table);
    g_autofree char *object = project_object_name(use->nic->project, use->nic->inst);
    g_autofree char *path = agent_path(agent, "run/%s/nic.%s", object, use->nic->device);
    g_file_set_contents_full(path, name, -1, G_FILE_SET_CONTENTS_NONE, 0600, NULL);
}

static char *make_host_name(const NicUse *use, const char *prefix);

char *
nicuse_new_host_name(const NicUse *use, const char *prefix)
{
    char *name = make_host_name(use, prefix);
    note_host_name(use, name);
    return name;
}

static char *
make_host_name(const NicUse *use, const char *prefix)
{
    Agent *agent = netobj_agent(use->table);
    const char *mode =
        agent->settings != NULL ? settings_get(agent->settings, "instances.nic.host_name") : NULL;
    const char *mac = nicuse_mac(use);
    if (mode != NULL && strcmp(mode, "mac") == 0 && strlen(mac) == 17) {
        g_auto(GStrv) bytes = g_strsplit(mac + 3, ":", -1);
        g_autofree char *tail = g_strjoinv("", bytes);
        return g_strconcat("lxd", tail, NULL);
    }
    return ids_ifname(prefix);
}

json_t *
nicuse_lxc(const NicUse *use, const char *link)
{
    return json_pack("{s:s, s:s, s:s, s:s}", "lxc.net.%d.type", "phys", "lxc.net.%d.link", link,
                     "lxc.net.%d.name", nicuse_name(use), "lxc.net.%d.flags", "up");
}

static gint64
bits_of(const NicUse *use, const char *key)
{
    gint64 bits = 0;
    const char *text = nicuse_get(use, key);
    return text != NULL && grammar_parse_bits(text, &bits, NULL) ? bits : 0;
}

void
nicuse_limits(const NicUse *use, gint64 *ret_ingress, gint64 *ret_egress)
{
    gint64 most = bits_of(use, "limits.max");
    *ret_ingress = most != 0 ? most : bits_of(use, "limits.ingress");
    *ret_egress = most != 0 ? most : bits_of(use, "limits.egress");
}
