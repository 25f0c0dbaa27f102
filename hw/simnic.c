/* The simulated switchdev NIC. A VF's interface and its representor are the two ends of a veth pair: a
 * packet sent on one comes out of the other, as on the slow path of a real embedded switch. In legacy
 * mode the far ends are ports of a bridge with the PF's wire: the switch inside the NIC.
 *
 * S1  sim.json is the truth about everything but interfaces; each call holds the directory's lock
 *     from reading it to writing it, so processes don't lose each other's changes.
 * S2  A far end is never moved or renamed by anybody else, so the VF's interface is found through it,
 *     under whatever name it has by now.
 * S3  A pair that is gone is made anew at the next look: a veth dies with the namespace that it was
 *     moved to, where the kernel would bring a real VF back.
 * S4  A simulated VF at vfio-pci keeps its pair, down and not shown. */
#include "hw/sim.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "hw/hwops.h"
#include "hw/link.h"
#include "hw/simstate.h"

/* Opens for a change named 'call'. */
static Sim *
sim_begin(HwBackend *hw, const char *call, GError **error)
{
    g_autoptr(Sim) sim = simstate_open(hw->where, error);
    return sim != NULL && simstate_fault(sim, call, error) ? g_steal_pointer(&sim) : NULL;
}

static bool
sim_before(HwBackend *hw, const char *call, GError **error)
{
    g_autoptr(Sim) sim = sim_begin(hw, call, error);
    return sim != NULL;
}

/* --- the interfaces -------------------------------------------------------------------------- */

static GHashTable *
links_by(GArray *links, bool by_index)
{
    GHashTable *table =
        by_index ? g_hash_table_new(NULL, NULL) : g_hash_table_new(g_str_hash, g_str_equal);
    for (guint i = 0; i < links->len; i++) {
        struct link_info *link = &g_array_index(links, struct link_info, i);
        g_hash_table_insert(table, by_index ? GINT_TO_POINTER(link->index) : link->name, link);
    }
    return table;
}

static bool
make_wire(NlSock *sock, const json_t *pf, GError **error)
{
    const char *netdev = simstate_text(pf, "netdev");
    g_autofree char *wire = g_strconcat(netdev, "w", NULL);
    return link_add_veth(sock, netdev, wire, 0, 0, NULL, error) &&
           link_set_mac(sock, netdev, simstate_text(pf, "mac"), error) &&
           link_set_up(sock, netdev, true, error) && link_set_up(sock, wire, true, error);
}

/* The switch inside a legacy NIC: a bridge of the wire's end and the VFs' far ends. */
static bool
make_inner_bridge(NlSock *sock, const json_t *pf, GError **error)
{
    g_autofree char *bridge = g_strconcat(simstate_text(pf, "netdev"), "b", NULL);
    g_autofree char *wire = g_strconcat(simstate_text(pf, "netdev"), "w", NULL);
    return link_add(sock, bridge, "bridge", error) && link_set_up(sock, bridge, true, error) &&
           link_set_master(sock, wire, bridge, error);
}

static bool
make_pair(NlSock *sock, const json_t *pf, size_t vf, GError **error)
{
    char far[IFNAMSIZ], near[IFNAMSIZ];
    const json_t *entry = json_array_get(json_object_get(pf, "vfs"), vf);
    simstate_far_end(pf, vf, far);
    simstate_near_end(pf, vf, near);
    if (!link_add_veth(sock, far, near, 0, 0, simstate_text(entry, "permanent"), error)) {
        return false;
    }
    if (simstate_is_switchdev(pf)) {
        return true;
    }
    g_autofree char *bridge = g_strconcat(simstate_text(pf, "netdev"), "b", NULL);
    return link_set_master(sock, far, bridge, error) && link_set_up(sock, far, true, error);
}

/* Makes what of the NIC is not there (S3); *ret_made says whether there was anything. */
static bool
make_links(Sim *sim, NlSock *sock, GHashTable *by_name, bool *ret_made, GError **error)
{
    size_t i;
    json_t *pf;
    *ret_made = false;
    json_array_foreach (json_object_get(sim->state, "pfs"), i, pf) {
        g_autofree char *bridge = g_strconcat(simstate_text(pf, "netdev"), "b", NULL);
        if (!g_hash_table_contains(by_name, simstate_text(pf, "netdev"))) {
            *ret_made = true;
            if (!make_wire(sock, pf, error)) {
                return false;
            }
        }
        if (!simstate_is_switchdev(pf) && !g_hash_table_contains(by_name, bridge)) {
            *ret_made = true;
            if (!make_inner_bridge(sock, pf, error)) {
                return false;
            }
        }
        for (size_t vf = 0; vf < json_array_size(json_object_get(pf, "vfs")); vf++) {
            char far[IFNAMSIZ];
            simstate_far_end(pf, vf, far);
            if (!g_hash_table_contains(by_name, far)) {
                *ret_made = true;
                if (!make_pair(sock, pf, vf, error)) {
                    return false;
                }
            }
        }
    }
    return true;
}

/* All links of the namespace, the NIC's among them. */
static GArray *
look_links(Sim *sim, GError **error)
{
    g_autoptr(NlSock) sock = nlsock_open(error);
    g_autoptr(GArray) links = sock != NULL ? link_list(sock, error) : NULL;
    bool made;
    if (links == NULL) {
        return NULL;
    }
    g_autoptr(GHashTable) by_name = links_by(links, false);
    if (!make_links(sim, sock, by_name, &made, error)) {
        haw_push(error, "simulated NIC '%s'", sim->path);
        return NULL;
    }
    return made ? link_list(sock, error) : g_steal_pointer(&links);
}

/* --- the inventory --------------------------------------------------------------------------- */

static void
read_props(const json_t *vf, struct hw_vf_props *props)
{
    g_strlcpy(props->mac, simstate_text(vf, "mac"), sizeof props->mac);
    props->vlan = (int) simstate_int(vf, "vlan", 0);
    props->qos = (int) simstate_int(vf, "qos", 0);
    props->spoofchk = (int) simstate_int(vf, "spoofchk", 0);
    props->trust = (int) simstate_int(vf, "trust", 0);
    props->min_mbps = simstate_int(vf, "min_mbps", 0);
    props->max_mbps = simstate_int(vf, "max_mbps", 0);
    props->link_state = (int) simstate_int(vf, "link_state", HW_VF_LINK_AUTO);
}

static void
read_pf(const json_t *from, GHashTable *by_name, struct hw_pf *pf)
{
    g_strlcpy(pf->bus, "pci", sizeof pf->bus);
    g_strlcpy(pf->dev, simstate_text(from, "dev"), sizeof pf->dev);
    g_strlcpy(pf->driver, "hawser-sim", sizeof pf->driver);
    g_strlcpy(pf->firmware, "1.0", sizeof pf->firmware);
    g_strlcpy(pf->mac, simstate_text(from, "mac"), sizeof pf->mac);
    g_strlcpy(pf->switch_id, simstate_text(from, "switch_id"), sizeof pf->switch_id);
    pf->vendor = 0x15b3;
    pf->device = 0x101d;
    pf->numa = (int) simstate_int(from, "numa", 0);
    pf->number = (guint) simstate_int(from, "number", 0);
    pf->iommu_group = -1;
    pf->eswitch = simstate_is_switchdev(from) ? HW_ESWITCH_SWITCHDEV : HW_ESWITCH_LEGACY;
    pf->vfs = (guint) json_array_size(json_object_get(from, "vfs"));
    pf->vfs_max = (guint) simstate_int(from, "vfs_max", 0);
    pf->hw_tc_offload = json_is_true(json_object_get(from, "tc_offload"));
    pf->carrier = -1;
    const struct link_info *link = g_hash_table_lookup(by_name, simstate_text(from, "netdev"));
    if (link != NULL) {
        g_strlcpy(pf->netdev, link->name, sizeof pf->netdev);
        pf->ifindex = link->index;
        pf->mtu = link->mtu;
        pf->carrier = (link->flags & IFF_RUNNING) != 0;
    }
}

/* S2, S4 */
static void
read_vf_netdev(struct hw_vf *vf, const struct link_info *far, GHashTable *by_index)
{
    const struct link_info *link = far != NULL && far->parent_netnsid == -1
                                       ? g_hash_table_lookup(by_index, GINT_TO_POINTER(far->parent))
                                       : NULL;
    vf->up = -1;
    if (link == NULL || strcmp(vf->driver, "hawser-sim-vf") != 0) {
        return;
    }
    g_strlcpy(vf->netdev, link->name, sizeof vf->netdev);
    g_strlcpy(vf->netdev_mac, link->mac, sizeof vf->netdev_mac);
    vf->ifindex = link->index;
    vf->mtu = link->mtu;
    vf->up = (link->flags & IFF_UP) != 0;
}

static bool
is_hidden(Sim *sim, const char *port)
{
    json_int_t until_us = simstate_int(json_object_get(sim->state, "hidden"), port, 0);
    return until_us < 0 || until_us > g_get_monotonic_time();
}

static void
add_rep(Sim *sim, HwInventory *inventory, const struct hw_pf *pf, struct hw_vf *vf,
        const struct link_info *far)
{
    struct hw_rep rep = {.key = {.pf = pf->number, .vf = vf->vf}};
    g_strlcpy(rep.key.switch_id, pf->switch_id, sizeof rep.key.switch_id);
    g_strlcpy(rep.dev, pf->dev, sizeof rep.dev);
    g_autofree char *port = hw_port_name(&rep.key);
    if (far == NULL || pf->eswitch != HW_ESWITCH_SWITCHDEV || is_hidden(sim, port)) {
        return;
    }
    g_strlcpy(rep.netdev, far->name, sizeof rep.netdev);
    rep.ifindex = far->index;
    vf->rep = (int) inventory->reps->len;
    g_array_append_val(inventory->reps, rep);
}

static void
add_vf(Sim *sim, HwInventory *inventory, const json_t *from_pf, guint pf_at, size_t number,
       GHashTable *by_name, GHashTable *by_index)
{
    const struct hw_pf *pf = hw_pf_at(inventory, pf_at);
    const json_t *from = json_array_get(json_object_get(from_pf, "vfs"), number);
    struct hw_vf vf = {.pf = pf_at, .vf = (guint) number, .numa = pf->numa, .rep = -1};
    char far_name[IFNAMSIZ];

    g_strlcpy(vf.dev, simstate_text(from, "dev"), sizeof vf.dev);
    g_strlcpy(vf.driver, simstate_text(from, "driver"), sizeof vf.driver);
    vf.iommu_group = inventory->iommu == 1 ? (int) (pf_at * 1000 + number) : -1;
    read_props(from, &vf.props);
    simstate_far_end(from_pf, number, far_name);
    const struct link_info *far = g_hash_table_lookup(by_name, far_name);
    read_vf_netdev(&vf, far, by_index);
    add_rep(sim, inventory, pf, &vf, far);
    g_array_append_val(inventory->vfs, vf);
    if (json_is_true(json_object_get(from_pf, "vdpa")) && strcmp(vf.driver, "vfio-pci") != 0) {
        struct hw_vdpa_mgmt mgmt = {.net = true, .max_vqs = 16};
        g_snprintf(mgmt.handle, sizeof mgmt.handle, "pci/%s", vf.dev);
        g_strlcpy(mgmt.dev, vf.dev, sizeof mgmt.dev);
        g_array_append_val(inventory->vdpa_mgmts, mgmt);
    }
}

static void
read_vdpa(const json_t *from, struct hw_vdpa *vdpa)
{
    g_strlcpy(vdpa->name, simstate_text(from, "name"), sizeof vdpa->name);
    g_strlcpy(vdpa->mgmt, simstate_text(from, "mgmt"), sizeof vdpa->mgmt);
    g_strlcpy(vdpa->driver, "vhost_vdpa", sizeof vdpa->driver);
    g_strlcpy(vdpa->mac, simstate_text(from, "mac"), sizeof vdpa->mac);
    vdpa->mtu = (guint) simstate_int(from, "mtu", 1500);
    vdpa->max_vqs = (guint) simstate_int(from, "max_vqs", 2);
}

static HwInventory *
sim_inventory(HwBackend *hw, GError **error)
{
    g_autoptr(Sim) sim = simstate_open(hw->where, error);
    g_autoptr(GArray) links = sim != NULL ? look_links(sim, error) : NULL;
    if (links == NULL) {
        return NULL;
    }
    g_autoptr(GHashTable) by_name = links_by(links, false);
    g_autoptr(GHashTable) by_index = links_by(links, true);
    g_autoptr(HwInventory) inventory = hw_inventory_new();
    size_t i;
    json_t *entry;

    inventory->iommu = json_is_true(json_object_get(sim->state, "iommu"));
    json_array_foreach (json_object_get(sim->state, "pfs"), i, entry) {
        struct hw_pf pf = {0};
        read_pf(entry, by_name, &pf);
        g_array_append_val(inventory->pfs, pf);
        for (size_t vf = 0; vf < pf.vfs; vf++) {
            add_vf(sim, inventory, entry, (guint) i, vf, by_name, by_index);
        }
    }
    json_array_foreach (json_object_get(sim->state, "vdpas"), i, entry) {
        struct hw_vdpa vdpa = {0};
        read_vdpa(entry, &vdpa);
        g_array_append_val(inventory->vdpas, vdpa);
    }
    return g_steal_pointer(&inventory);
}

static bool
sim_refresh_vf(HwBackend *hw, HwInventory *inventory, guint at, bool *ret_same, GError **error)
{
    struct hw_vf *vf = hw_vf_at(inventory, at);
    const struct hw_pf *pf = hw_pf_at(inventory, vf->pf);
    g_autoptr(Sim) sim = simstate_open(hw->where, error);
    g_autoptr(NlSock) sock = sim != NULL ? nlsock_open(error) : NULL;
    if (sock == NULL) {
        return false;
    }
    json_t *from_pf = simstate_pf(sim, pf->dev, NULL);
    json_t *from = json_array_get(json_object_get(from_pf, "vfs"), vf->vf);
    char far_name[IFNAMSIZ];
    struct link_info far, near;
    *ret_same = false;
    if (from == NULL || strcmp(simstate_text(from, "driver"), vf->driver) != 0) {
        return true;
    }
    struct hw_port_key key = {.pf = pf->number, .vf = vf->vf};
    g_autofree char *port = hw_port_name(&key);
    bool shown = simstate_is_switchdev(from_pf) && !is_hidden(sim, port);
    simstate_far_end(from_pf, vf->vf, far_name);
    if (shown != (vf->rep >= 0) || !link_get(sock, far_name, &far, NULL)) {
        return true;
    }
    bool here = far.parent_netnsid == -1 && strcmp(vf->driver, "hawser-sim-vf") == 0;
    if (here != (vf->ifindex != 0) ||
        (here && (!link_get(sock, vf->netdev, &near, NULL) || near.index != far.parent))) {
        return true;
    }
    read_props(from, &vf->props);
    if (here) {
        g_strlcpy(vf->netdev_mac, near.mac, sizeof vf->netdev_mac);
        vf->mtu = near.mtu;
        vf->up = (near.flags & IFF_UP) != 0;
    }
    *ret_same = true;
    return true;
}

/* --- the changes ----------------------------------------------------------------------------- */

static void
keep_int(json_t *vf, const char *key, gint64 value)
{
    if (value >= 0) {
        json_object_set_new(vf, key, json_integer(value));
    }
}

static bool
sim_set_vf(HwBackend *hw, const struct hw_pf *pf, guint number, const struct hw_vf_props *props,
           GError **error)
{
    g_autoptr(Sim) sim = sim_begin(hw, "set_vf", error);
    json_t *entry = sim != NULL ? simstate_pf(sim, pf->dev, error) : NULL;
    if (entry == NULL) {
        return false;
    }
    json_t *vf = json_array_get(json_object_get(entry, "vfs"), number);
    if (vf == NULL) {
        return haw_fail(error, HAW_NOT_FOUND, "PF '%s' has no VF %u", pf->netdev, number);
    }
    if (props->mac[0] != '\0') {
        json_object_set_new(vf, "mac", json_string(props->mac));
    }
    keep_int(vf, "vlan", props->vlan);
    keep_int(vf, "qos", props->qos);
    keep_int(vf, "spoofchk", props->spoofchk);
    keep_int(vf, "trust", props->trust);
    keep_int(vf, "min_mbps", props->min_mbps);
    keep_int(vf, "max_mbps", props->max_mbps);
    keep_int(vf, "link_state", props->link_state);
    return simstate_save(sim, error);
}

/* As a driver does: its interface comes up anew with the MAC that the PF keeps for it. */
static bool
rebind_netdev(Sim *sim, HwBackend *hw, const char *vf_dev, GError **error)
{
    json_t *entry = simstate_vf(sim, vf_dev, error);
    g_autofree char *mac = g_strdup(simstate_text(entry, "mac"));
    if (strcmp(mac, "00:00:00:00:00:00") == 0 || *mac == '\0') {
        g_free(mac);
        mac = g_strdup(simstate_text(entry, "permanent"));
    }
    g_clear_pointer(&sim->state, json_decref);
    fd_close(&sim->lock);
    g_autoptr(HwInventory) inventory = sim_inventory(hw, error);
    const struct hw_vf *vf = inventory != NULL ? hw_find_vf(inventory, vf_dev) : NULL;
    if (vf == NULL || vf->netdev[0] == '\0') {
        return inventory != NULL;
    }
    g_autoptr(NlSock) sock = nlsock_open(error);
    return sock != NULL && link_set_up(sock, vf->netdev, false, error) &&
           link_set_mac(sock, vf->netdev, mac, error);
}

static bool
sim_bind_driver(HwBackend *hw, const char *vf_dev, const char *driver, GError **error)
{
    static const char *const known[] = {"", "vfio-pci", "hawser-sim-vf", NULL};
    g_autoptr(Sim) sim = sim_begin(hw, "bind_driver", error);
    json_t *vf = sim != NULL ? simstate_vf(sim, vf_dev, error) : NULL;
    if (vf == NULL) {
        return false;
    }
    if (!g_strv_contains(known, driver)) {
        return haw_fail(error, HAW_NOT_FOUND, "bind '%s': there is no driver '%s'", vf_dev, driver);
    }
    if (strcmp(driver, "vfio-pci") == 0 && !json_is_true(json_object_get(sim->state, "iommu"))) {
        return haw_fail(error, HAW_UNSUPPORTED, "bind '%s' to 'vfio-pci': this host has no IOMMU",
                        vf_dev);
    }
    json_object_set_new(vf, "driver", json_string(driver));
    if (!simstate_save(sim, error)) {
        return false;
    }
    return strcmp(driver, "hawser-sim-vf") != 0 || rebind_netdev(sim, hw, vf_dev, error);
}

static bool
sim_add_vdpa(HwBackend *hw, const struct hw_vdpa_new *want, struct hw_vdpa *ret_vdpa,
             GError **error)
{
    g_autoptr(Sim) sim = sim_begin(hw, "add_vdpa", error);
    if (sim == NULL) {
        return false;
    }
    const char *dev = g_str_has_prefix(want->mgmt, "pci/") ? want->mgmt + 4 : want->mgmt;
    json_t *list = json_object_get(sim->state, "vdpas");
    if (simstate_vf(sim, dev, error) == NULL) {
        return haw_push(error, "add vDPA device '%s'", want->name);
    }
    if (simstate_find(list, "name", want->name) != NULL ||
        simstate_find(list, "mgmt", want->mgmt) != NULL) {
        return haw_fail(error, HAW_EXISTS, "add vDPA device '%s': '%s' has one already", want->name,
                        want->mgmt);
    }
    json_t *entry = json_pack("{s:s,s:s,s:s,s:i,s:i}", "name", want->name, "mgmt", want->mgmt,
                              "mac", want->mac != NULL ? want->mac : "", "mtu",
                              want->mtu != 0 ? (int) want->mtu : 1500, "max_vqs",
                              (int) MAX(want->queue_pairs, 1) * 2);
    json_array_append_new(list, entry);
    if (!simstate_save(sim, error)) {
        return false;
    }
    *ret_vdpa = (struct hw_vdpa){0};
    read_vdpa(entry, ret_vdpa);
    return true;
}

static bool
sim_del_vdpa(HwBackend *hw, const char *name, GError **error)
{
    g_autoptr(Sim) sim = sim_begin(hw, "del_vdpa", error);
    if (sim == NULL) {
        return false;
    }
    json_t *list = json_object_get(sim->state, "vdpas");
    for (size_t i = json_array_size(list); i-- > 0;) {
        if (strcmp(simstate_text(json_array_get(list, i), "name"), name) == 0) {
            json_array_remove(list, i);
        }
    }
    return simstate_save(sim, error);
}

/* New VFs come with the next look; those that go must not be in use. */
static bool
sim_set_num_vfs(HwBackend *hw, const struct hw_pf *pf, guint count, GError **error)
{
    g_autoptr(Sim) sim = sim_begin(hw, "set_num_vfs", error);
    json_t *entry = sim != NULL ? simstate_pf(sim, pf->dev, error) : NULL;
    g_autoptr(NlSock) sock = entry != NULL ? nlsock_open(error) : NULL;
    if (sock == NULL) {
        return false;
    }
    json_t *vfs = json_object_get(entry, "vfs");
    if (count > (guint) simstate_int(entry, "vfs_max", 0)) {
        return haw_fail(error, HAW_LIMIT, "'%s' has at most %d VFs", pf->netdev,
                        (int) simstate_int(entry, "vfs_max", 0));
    }
    /* As the kernel: from one number to another only through none. */
    if (json_array_size(vfs) > 0 && count > 0) {
        return haw_fail(error, HAW_CONFLICT, "'%s' has %zu VFs: they must go first", pf->netdev,
                        json_array_size(vfs));
    }
    for (size_t i = 0; i < json_array_size(vfs); i++) {
        char far[IFNAMSIZ];
        simstate_far_end(entry, i, far);
        if (!link_del(sock, far, error)) {
            return false;
        }
    }
    json_array_clear(vfs);
    for (guint i = 0; i < count; i++) {
        json_array_append_new(vfs, simstate_new_vf(entry, i));
    }
    return simstate_save(sim, error);
}

static bool
sim_set_eswitch(HwBackend *hw, const struct hw_pf *pf, HwEswitch mode, GError **error)
{
    g_autoptr(Sim) sim = sim_begin(hw, "set_eswitch", error);
    json_t *entry = sim != NULL ? simstate_pf(sim, pf->dev, error) : NULL;
    g_autoptr(NlSock) sock = entry != NULL ? nlsock_open(error) : NULL;
    if (sock == NULL) {
        return false;
    }
    for (size_t i = 0; i < json_array_size(json_object_get(entry, "vfs")); i++) {
        char far[IFNAMSIZ];
        simstate_far_end(entry, i, far);
        if (!link_del(sock, far, error)) {
            return false;
        }
    }
    g_autofree char *bridge = g_strconcat(simstate_text(entry, "netdev"), "b", NULL);
    json_object_set_new(entry, "eswitch", json_string(hw_eswitch_name(mode)));
    return link_del(sock, bridge, error) && simstate_save(sim, error);
}

static bool
sim_set_tc_offload(HwBackend *hw, const struct hw_pf *pf, bool on, GError **error)
{
    g_autoptr(Sim) sim = sim_begin(hw, "set_tc_offload", error);
    json_t *entry = sim != NULL ? simstate_pf(sim, pf->dev, error) : NULL;
    if (entry == NULL) {
        return false;
    }
    json_object_set_new(entry, "tc_offload", json_boolean(on));
    return simstate_save(sim, error);
}

const struct hw_ops sim_ops = {.inventory = sim_inventory,
                               .refresh_vf = sim_refresh_vf,
                               .set_vf = sim_set_vf,
                               .bind_driver = sim_bind_driver,
                               .add_vdpa = sim_add_vdpa,
                               .del_vdpa = sim_del_vdpa,
                               .set_num_vfs = sim_set_num_vfs,
                               .set_eswitch = sim_set_eswitch,
                               .set_tc_offload = sim_set_tc_offload,
                               .before = sim_before};
