/* NICs: the steps that every kind shares. What differs is behind struct nic_driver.
 * I1  A step that fails leaves the host as it was before; one that repeats changes nothing.
 * I2  volatile.NIC.host_name is noted by the caller's config before it is used: nic_stop() finds the
 *     host side by it.
 * Called by agent/inst. */
#include "agent/net/network.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "agent/api/settings.h"
#include "agent/auth/project.h"
#include "agent/dpd/dpdclient.h"
#include "agent/inst/inst.h"
#include "agent/net/dnsmasq.h"
#include "agent/net/netjob.h"
#include "agent/net/nic_accel.h"
#include "agent/net/nicuse.h"
#include "agent/net/veth.h"
#include "base/fd.h"
#include "base/ids.h"
#include "base/log.h"
#include "hw/link.h"
#include "proto/grammar.h"
#include "proto/keys.h"

static const struct nic_driver *const drivers[] = {
    &nic_bridged, &nic_p2p, &nic_routed, &nic_macvlan, &nic_physical, &nic_sriov, &nic_ovn};

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

/* ---- between namespaces ---- */

/* Whether the interface is the host's and comes back at the stop: by its kind, or as a function. */
static bool
gives_back(const NicUse *use)
{
    return !nicuse_is_vm(use) && (use->driver->gives_back || nic_accel_running(use));
}

struct move {
    const char *link, *name; /* borrowed */
    pid_t pid;
    int netns; /* borrowed */
};

static int
netns_of(pid_t pid, GError **error)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/ns/net", (int) pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        haw_fail_errno(error, errno, "open '%s'", path);
    }
    return fd;
}

static bool
move_in(NlSock *sock, void *data, GError **error)
{
    const struct move *move = data;
    haw_autofd int netns = netns_of(move->pid, error);
    if (netns < 0 || !link_move(sock, move->link, netns, move->name, error)) {
        return false;
    }
    g_autoptr(NlSock) inside = nlsock_open_in(netns, error);
    return inside != NULL && link_set_up(inside, move->name, true, error);
}

static bool
move_out(NlSock *sock, void *data, GError **error)
{
    const struct move *move = data;
    haw_autofd int home = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
    g_autoptr(NlSock) inside = nlsock_open_in(move->netns, error);
    if (inside == NULL) {
        return false;
    }
    if (link_index(inside, move->name) == 0) {
        return true; /* the instance removed it, or it is back already */
    }
    return link_move(inside, move->name, home, move->link, error);
}

/* An interface of the host comes back from the instance's namespace, which is 'pid's or was kept. */
static bool
fetch_back(NicUse *use, pid_t pid, GError **error)
{
    const char *host = nic_host_name(use->nic);
    haw_autofd int netns = netobj_take_netns(use->table, use->label);
    if (netns < 0 && pid > 0) {
        netns = netns_of(pid, error);
        if (netns < 0) {
            return false;
        }
    }
    struct move move = {.link = host, .name = nicuse_name(use), .netns = netns};
    return host == NULL || netns < 0 || netjob_run(move_out, &move, error);
}

/* ---- steps ---- */

bool
nic_validate(NetTable *table, const Nic *nic, GError **error)
{
    g_autoptr(NicUse) use = nicuse_new(table, nic, error);
    if (use == NULL || !nickeys_check(use, error)) {
        return false;
    }
    return (use->driver->check == NULL || use->driver->check(use, error)) &&
           (nic->inst == NULL || nicclash_check(use, error));
}

static bool
network_is_up(const NicUse *use, GError **error)
{
    return use->net == NULL || use->net->up ||
           haw_fail(error, HAW_UNAVAILABLE, "Network \"%s\" unavailable on this server",
                    use->net->row->name);
}

/* What QEMU is to be given (vm/vmitem.h). A kind with more to it than a link fills it by itself. */
static json_t *
vm_item(NicUse *use, const char *link)
{
    json_t *item = json_pack("{s:s,s:s}", "kind", "tap", "mac", nicuse_mac(use));
    if (link != NULL) {
        json_object_set_new(item, "link", json_string(link));
    }
    if (use->driver->vm != NULL) {
        use->driver->vm(use, item);
    }
    return item;
}

bool
nic_start(NetTable *table, const Nic *nic, json_t **ret_lxc, GError **error)
{
    g_autofree char *link = NULL;
    g_autoptr(NicUse) use = nicuse_new(table, nic, error);
    if (use == NULL || !network_is_up(use, error) || !use->driver->start(use, &link, error)) {
        return false;
    }
    if (nicuse_is_vm(use)) {
        *ret_lxc = vm_item(use, link);
        return true;
    }
    *ret_lxc = link != NULL ? nicuse_lxc(use, link) : json_object();
    if (use->driver->lxc != NULL) {
        use->driver->lxc(use, *ret_lxc);
    }
    return true;
}

bool
nic_stop(NetTable *table, const Nic *nic, GError **error)
{
    g_autoptr(GError) unknown = NULL;
    g_autoptr(NicUse) use = nicuse_new(table, nic, &unknown);
    if (use == NULL) {
        /* The network is gone or the keys are no longer understood: the veth still has to go, a
         * function to come back. */
        return keys_get(nic->volatiles, "last_state.vf.id") != NULL
                   ? nic_accel_stop(nic, netobj_agent(table), error)
                   : veth_remove(nic_host_name(nic), error);
    }
    if ((gives_back(use) && !fetch_back(use, 0, error)) || !use->driver->stop(use, error)) {
        return false;
    }
    nicuse_set_volatile(use, "host_name", NULL);
    return true;
}

bool
nic_remove(NetTable *table, const Nic *nic, GError **error)
{
    g_autoptr(NicUse) use = nicuse_new(table, nic, NULL);
    return use == NULL || use->net == NULL || use->driver->remove == NULL ||
           use->driver->remove(use, error);
}

/* ---- into and out of a running instance ---- */

bool
nic_hotplug(NetTable *table, const Nic *nic, pid_t pid, GError **error)
{
    g_autofree char *link = NULL;
    g_autoptr(NicUse) use = nicuse_new(table, nic, error);
    if (use == NULL || !network_is_up(use, error) || !use->driver->start(use, &link, error)) {
        return false;
    }
    struct move move = {.link = link, .name = nicuse_name(use), .pid = pid};
    if ((link != NULL && !netjob_run(move_in, &move, error)) ||
        (use->driver->plugged != NULL && !use->driver->plugged(use, pid, error))) {
        use->driver->stop(use, NULL); /* I1 */
        nicuse_set_volatile(use, "host_name", NULL);
        return false;
    }
    if (gives_back(use)) {
        netobj_keep_netns(table, use->label, pid);
    }
    return true;
}

bool
nic_hotunplug(NetTable *table, const Nic *nic, pid_t pid, GError **error)
{
    g_autoptr(NicUse) use = nicuse_new(table, nic, NULL);
    if (use != NULL && gives_back(use) && !fetch_back(use, pid, error)) {
        return false;
    }
    return nic_stop(table, nic, error);
}

static const char *const live_keys[] = {
    "limits.ingress",
    "limits.egress",
    "limits.max",
    "limits.priority",
    "ipv4.routes",
    "ipv6.routes",
    "ipv4.routes.external",
    "ipv6.routes.external",
    "ipv4.address",
    "ipv6.address",
    "security.mac_filtering",
    "security.ipv4_filtering",
    "security.ipv6_filtering",
};

bool
nic_can_update_live(NetTable *table, const Nic *nic, const char *key)
{
    g_autoptr(NicUse) use = nicuse_new(table, nic, NULL);
    if (use != NULL && use->driver->live_keys != NULL) {
        g_auto(GStrv) own = g_strsplit(use->driver->live_keys, " ", -1);
        return g_strv_contains((const char *const *) own, key) || g_str_has_prefix(key, "user.");
    }
    const char *nictype = keys_get(nic->config, "nictype");
    bool bridged = nictype == NULL || strcmp(nictype, "bridged") == 0;
    bool veth = bridged || strcmp(nictype, "p2p") == 0 || strcmp(nictype, "routed") == 0;
    for (size_t i = 0; i < G_N_ELEMENTS(live_keys); i++) {
        if (strcmp(live_keys[i], key) == 0) {
            return bridged || (veth && g_str_has_prefix(key, "limits.")) ||
                   (nictype != NULL && strcmp(nictype, "p2p") == 0 &&
                    strstr(key, ".routes") != NULL);
        }
    }
    return g_str_has_prefix(key, "user.");
}

bool
nic_update(NetTable *table, const Nic *nic, json_t *old_config, GError **error)
{
    g_autoptr(NicUse) use = nicuse_new(table, nic, error);
    return use != NULL &&
           (use->driver->update == NULL || use->driver->update(use, old_config, error));
}

const char *
nic_host_name(const Nic *nic)
{
    return keys_get(nic->volatiles, "host_name");
}

/* volatile.DEVICE.* without that prefix, a new reference. */
static json_t *
volatiles_of(Inst *inst, const char *device)
{
    json_t *found = json_object();
    g_autofree char *prefix = g_strdup_printf("volatile.%s.", device);
    const char *key;
    json_t *value;
    json_object_foreach (inst_config(inst), key, value) {
        if (g_str_has_prefix(key, prefix)) {
            json_object_set(found, key + strlen(prefix), value);
        }
    }
    return found;
}

static bool
adopt_nic(NetTable *table, Inst *inst, const char *device, json_t *config)
{
    json_t *volatiles = volatiles_of(inst, device);
    Nic nic = {.project = inst_project(inst),
               .inst = inst_name(inst),
               .device = device,
               .inst_type = inst_type(inst),
               .config = config,
               .volatiles = volatiles,
               .inst_id = inst_id(inst)};
    g_autoptr(GError) error = NULL;
    g_autoptr(NicUse) use = nicuse_new(table, &nic, &error);
    if (use != NULL && gives_back(use)) {
        netobj_keep_netns(table, use->label, inst_pid(inst));
    }
    bool ok = use != NULL && (use->driver->adopt == NULL || use->driver->adopt(use, &error));
    if (!ok) {
        haw_warn("nic.not_adopted", KS("inst", nic.inst), KS("nic", device),
                 KS("why", error->message));
    }
    json_decref(volatiles);
    return ok;
}

void
nicadopt_all(NetTable *table)
{
    InstTable *instances = netobj_agent(table)->instances;
    g_autoptr(GPtrArray) list = inst_list(instances, NULL);
    bool all = true;
    for (guint i = 0; i < list->len; i++) {
        Inst *inst = g_ptr_array_index(list, i);
        json_t *devices = json_incref(inst_expanded_devices(inst));
        const char *device;
        json_t *config;
        json_object_foreach (devices, device, config) {
            if (g_strcmp0(keys_get(config, "type"), "nic") == 0 && inst_pid(inst) > 0) {
                all = adopt_nic(table, inst, device, config) && all;
            }
        }
        json_decref(devices);
    }
    /* Without one of them the rest is not the whole: hawser-dpd keeps what it has. */
    if (all && netobj_agent(table)->dpd != NULL) {
        dpdclient_settle(netobj_agent(table)->dpd);
    }
}
