/* The kernel's NICs: joins what rtnetlink, devlink, vdpa, ethtool and sysfs each tell.
 *
 *   devlink port (bus/dev, pf, vf) ──ifindex──> interface ──switch id──> representor
 *   PF in sysfs ──virtfnN──> VF's address ──parent device──> interface
 *   PF's interface ──VF table──> MAC, VLAN, spoof check, … of each VF
 *
 * J1  One dump a family; only eswitch mode and firmware are asked by PF (devlink.c).
 * J2  A representor's PF is the device whose devlink port it is. Drivers without ports (or older ones)
 *     are known by phys_port_name and switch id: "pf0vf3".
 * J3  External ports (a DPU's view of its server's VFs, controller 1) are listed, never joined to a VF
 *     of this host.
 * J4  netdevsim's VFs are no devices. The port of "netdevsim1003" stands for VF 3 of "netdevsim1"
 *     where a test has made it: an interface of the kernel's to move, rename and give back.
 * Called by backend.c; recorded roots by tests. */
#include "hw/kernel.h"

#include <linux/devlink.h>
#include <stdlib.h>
#include <string.h>

#include "base/fd.h"
#include "hw/devlink.h"
#include "hw/ethtool.h"
#include "hw/hwops.h"
#include "hw/netdev.h"
#include "hw/pcidev.h"
#include "hw/rdma.h"
#include "hw/sysfs.h"
#include "hw/vdpa.h"

/* What is heard, while it is joined. */
struct look {
    NlDoor *door;
    HwInventory *inventory;
    GArray *links, *ports;                      /* struct netdev_info, struct devlink_port; owned */
    GHashTable *by_index, *by_parent, *offload; /* owned; values borrowed from links */
};

static void
look_done(struct look *look)
{
    g_clear_pointer(&look->by_index, g_hash_table_unref);
    g_clear_pointer(&look->by_parent, g_hash_table_unref);
    g_clear_pointer(&look->offload, g_hash_table_unref);
    g_clear_pointer(&look->links, g_array_unref);
    g_clear_pointer(&look->ports, g_array_unref);
    g_clear_pointer(&look->inventory, hw_inventory_free);
    g_clear_pointer(&look->door, nldoor_close);
}

static const struct netdev_info *
link_at(const struct look *look, int ifindex)
{
    return g_hash_table_lookup(look->by_index, GINT_TO_POINTER(ifindex));
}

static bool
hear(struct look *look, GError **error)
{
    look->links = netdev_list(look->door, error);
    look->ports = look->links != NULL ? devlink_ports(look->door, error) : NULL;
    look->offload = look->ports != NULL ? ethtool_tc_offload(look->door, error) : NULL;
    if (look->offload == NULL) {
        return false;
    }
    look->by_index = g_hash_table_new(NULL, NULL);
    look->by_parent = g_hash_table_new(g_str_hash, g_str_equal);
    for (guint i = 0; i < look->links->len; i++) {
        struct netdev_info *info = &g_array_index(look->links, struct netdev_info, i);
        g_hash_table_insert(look->by_index, GINT_TO_POINTER(info->index), info);
        if (info->parent_dev[0] != '\0' &&
            !g_hash_table_contains(look->by_parent, info->parent_dev)) {
            g_hash_table_insert(look->by_parent, info->parent_dev, info);
        }
    }
    return true;
}

/* --- PFs ------------------------------------------------------------------------------------- */

static struct hw_pf *
pf_of(const struct look *look, const char *bus, const char *dev)
{
    for (guint i = 0; i < look->inventory->pfs->len; i++) {
        struct hw_pf *pf = hw_pf_at(look->inventory, i);
        if (strcmp(pf->dev, dev) == 0 && strcmp(pf->bus, bus) == 0) {
            return pf;
        }
    }
    return NULL;
}

/* J4 */
static bool
stands_for_vf(const char *bus, const char *dev)
{
    size_t name = strlen("netdevsim");
    return strcmp(bus, "netdevsim") == 0 && strlen(dev) > name + 3;
}

/* Devices without SR-IOV of their own that have an embedded switch: DPUs, netdevsim. */
static void
add_switch_pfs(struct look *look)
{
    for (guint i = 0; i < look->ports->len; i++) {
        const struct devlink_port *port = &g_array_index(look->ports, struct devlink_port, i);
        if (port->flavour != DEVLINK_PORT_FLAVOUR_PHYSICAL ||
            pf_of(look, port->bus, port->dev) != NULL || stands_for_vf(port->bus, port->dev) ||
            pcidev_is_vf(nldoor_sysfs(look->door), port->bus, port->dev)) {
            continue;
        }
        struct hw_pf pf = {0};
        g_strlcpy(pf.bus, port->bus, sizeof pf.bus);
        g_strlcpy(pf.dev, port->dev, sizeof pf.dev);
        pcidev_read_pf(nldoor_sysfs(look->door), &pf);
        g_array_append_val(look->inventory->pfs, pf);
    }
}

/* The PF's own interface: that of its physical port, else one that is no switch port's. */
static const struct netdev_info *
uplink_of(const struct look *look, const struct hw_pf *pf)
{
    for (guint i = 0; i < look->ports->len; i++) {
        const struct devlink_port *port = &g_array_index(look->ports, struct devlink_port, i);
        if (port->flavour == DEVLINK_PORT_FLAVOUR_PHYSICAL && strcmp(port->dev, pf->dev) == 0 &&
            strcmp(port->bus, pf->bus) == 0 && link_at(look, port->ifindex) != NULL) {
            return link_at(look, port->ifindex);
        }
    }
    for (guint i = 0; i < look->links->len; i++) {
        const struct netdev_info *info = &g_array_index(look->links, struct netdev_info, i);
        struct hw_port_key key;
        if (strcmp(info->parent_dev, pf->dev) == 0 && !hw_port_name_parse(info->port_name, &key)) {
            return info;
        }
    }
    return NULL;
}

/* The number that switch ports give this PF: a port's word, the uplink's name ("p1"), the function. */
static guint
pf_number(const struct look *look, const struct hw_pf *pf, const struct netdev_info *uplink)
{
    for (guint i = 0; i < look->ports->len; i++) {
        const struct devlink_port *port = &g_array_index(look->ports, struct devlink_port, i);
        if (port->flavour == DEVLINK_PORT_FLAVOUR_PCI_VF && !port->external &&
            port->controller == 0 && strcmp(port->dev, pf->dev) == 0 &&
            strcmp(port->bus, pf->bus) == 0) {
            return port->pf;
        }
    }
    if (uplink != NULL && uplink->port_name[0] == 'p' && g_ascii_isdigit(uplink->port_name[1])) {
        return (guint) atoi(uplink->port_name + 1);
    }
    const char *function = strrchr(pf->dev, '.');
    return function != NULL ? (guint) strtoul(function + 1, NULL, 16) : 0;
}

static bool
read_pf(struct look *look, struct hw_pf *pf, GError **error)
{
    const struct netdev_info *uplink = uplink_of(look, pf);
    pf->number = pf_number(look, pf, uplink);
    pf->hw_tc_offload = pf->carrier = -1;
    if (uplink != NULL) {
        const struct netdev_info *bond = link_at(look, uplink->master);
        int offload =
            GPOINTER_TO_INT(g_hash_table_lookup(look->offload, GINT_TO_POINTER(uplink->index)));
        g_strlcpy(pf->netdev, uplink->name, sizeof pf->netdev);
        g_strlcpy(pf->mac, uplink->mac, sizeof pf->mac);
        g_strlcpy(pf->switch_id, uplink->switch_id, sizeof pf->switch_id);
        pf->ifindex = uplink->index;
        pf->mtu = uplink->mtu;
        pf->carrier = uplink->carrier;
        pf->hw_tc_offload = offload == 0 ? -1 : offload == 1;
        if (bond != NULL && strcmp(bond->kind, "bond") == 0) {
            g_strlcpy(pf->bond, bond->name, sizeof pf->bond);
        }
    }
    return devlink_eswitch(look->door, pf->bus, pf->dev, &pf->eswitch, error) &&
           devlink_firmware(look->door, pf->bus, pf->dev, pf->firmware, sizeof pf->firmware, error);
}

static int
compare_pfs(const void *a, const void *b)
{
    const struct hw_pf *left = a, *right = b;
    int order = strcmp(left->bus, right->bus);
    return order != 0 ? order : strcmp(left->dev, right->dev);
}

static bool
add_pfs(struct look *look, GError **error)
{
    pcidev_list_pfs(nldoor_sysfs(look->door), look->inventory->pfs);
    add_switch_pfs(look);
    g_array_sort(look->inventory->pfs, compare_pfs);
    for (guint i = 0; i < look->inventory->pfs->len; i++) {
        if (!read_pf(look, hw_pf_at(look->inventory, i), error)) {
            return false;
        }
    }
    return true;
}

/* --- representors ---------------------------------------------------------------------------- */

static void
add_rep(struct look *look, const struct hw_rep *from, const struct netdev_info *link)
{
    struct hw_rep rep = *from;
    if (link != NULL) {
        g_strlcpy(rep.netdev, link->name, sizeof rep.netdev);
        g_strlcpy(rep.key.switch_id, link->switch_id, sizeof rep.key.switch_id);
        rep.ifindex = link->index;
    }
    g_array_append_val(look->inventory->reps, rep);
}

/* J2 */
static void
add_reps(struct look *look)
{
    g_autoptr(GHashTable) told = g_hash_table_new(NULL, NULL);
    for (guint i = 0; i < look->ports->len; i++) {
        const struct devlink_port *port = &g_array_index(look->ports, struct devlink_port, i);
        if (port->flavour != DEVLINK_PORT_FLAVOUR_PCI_VF) {
            continue;
        }
        struct hw_rep rep = {
            .key = {.controller = port->controller, .pf = port->pf, .vf = port->vf},
            .external = port->external};
        const struct hw_pf *pf = pf_of(look, port->bus, port->dev);
        g_strlcpy(rep.key.switch_id, pf != NULL ? pf->switch_id : "", sizeof rep.key.switch_id);
        g_strlcpy(rep.dev, port->dev, sizeof rep.dev);
        add_rep(look, &rep, link_at(look, port->ifindex));
        g_hash_table_add(told, GINT_TO_POINTER(port->ifindex));
    }
    for (guint i = 0; i < look->links->len; i++) {
        const struct netdev_info *link = &g_array_index(look->links, struct netdev_info, i);
        struct hw_rep rep = {0};
        if (link->switch_id[0] == '\0' || !hw_port_name_parse(link->port_name, &rep.key) ||
            g_hash_table_contains(told, GINT_TO_POINTER(link->index))) {
            continue;
        }
        rep.external = rep.key.controller != 0;
        g_strlcpy(rep.dev, link->parent_dev, sizeof rep.dev);
        add_rep(look, &rep, link);
    }
}

/* --- VFs ------------------------------------------------------------------------------------- */

/* J4 */
static const struct netdev_info *
simulated_vf(const struct look *look, const struct hw_pf *pf, guint vf)
{
    if (strcmp(pf->bus, "netdevsim") != 0) {
        return NULL;
    }
    g_autofree char *dev = g_strdup_printf("%s%03u", pf->dev, vf);
    return g_hash_table_lookup(look->by_parent, dev);
}

static void
read_vf(struct look *look, struct hw_vf *vf, const struct netdev_info *uplink)
{
    const struct hw_pf *pf = hw_pf_at(look->inventory, vf->pf);
    const struct netdev_info *link = g_hash_table_lookup(look->by_parent, vf->dev);
    const GArray *props = uplink != NULL ? uplink->vfs : NULL;
    if (link == NULL) {
        link = simulated_vf(look, pf, vf->vf);
        if (strcmp(pf->bus, "netdevsim") == 0) {
            g_strlcpy(vf->driver, "netdevsim", sizeof vf->driver);
        }
    }
    if (link != NULL) {
        g_strlcpy(vf->netdev, link->name, sizeof vf->netdev);
        g_strlcpy(vf->netdev_mac, link->mac, sizeof vf->netdev_mac);
        vf->ifindex = link->index;
        vf->mtu = link->mtu;
        vf->up = (link->flags & IFF_UP) != 0;
    }
    if (props != NULL && vf->vf < props->len) {
        vf->props = g_array_index(props, struct hw_vf_props, vf->vf);
    }
}

/* J3: by PF device and VF number; a PF has 65536 VFs at most. */
static GHashTable *
reps_by_vf(const struct look *look)
{
    GHashTable *table = g_hash_table_new(g_str_hash, g_str_equal);
    for (guint i = 0; i < look->inventory->reps->len; i++) {
        const struct hw_rep *rep = hw_rep_at(look->inventory, i);
        if (!rep->external && rep->key.controller == 0) {
            GArray *list = g_hash_table_lookup(table, rep->dev);
            if (list == NULL) {
                list = g_array_new(FALSE, TRUE, sizeof(int));
                g_hash_table_insert(table, (void *) (guintptr) rep->dev, list);
            }
            if (list->len <= rep->key.vf) {
                g_array_set_size(list, rep->key.vf + 1);
            }
            g_array_index(list, int, rep->key.vf) = (int) i + 1;
        }
    }
    return table;
}

static void
add_vfs(struct look *look)
{
    g_autoptr(GHashTable) reps = reps_by_vf(look);
    GHashTableIter iter;
    void *list;
    for (guint i = 0; i < look->inventory->pfs->len; i++) {
        const struct hw_pf *pf = hw_pf_at(look->inventory, i);
        const GArray *of_pf = g_hash_table_lookup(reps, pf->dev);
        guint first = look->inventory->vfs->len;
        pcidev_list_vfs(nldoor_sysfs(look->door), pf, i, look->inventory->vfs);
        for (guint at = first; at < look->inventory->vfs->len; at++) {
            struct hw_vf *vf = hw_vf_at(look->inventory, at);
            if (of_pf != NULL && vf->vf < of_pf->len) {
                vf->rep = g_array_index(of_pf, int, vf->vf) - 1;
            }
            read_vf(look, vf, link_at(look, pf->ifindex));
        }
    }
    g_hash_table_iter_init(&iter, reps);
    while (g_hash_table_iter_next(&iter, NULL, &list)) {
        g_array_unref(list);
    }
}

/* --- the rest -------------------------------------------------------------------------------- */

/* All members are switchdev PFs of one card: their eswitches then act as one. */
static bool
is_vf_lag(const HwInventory *inventory, const char *bond)
{
    const struct hw_pf *first = NULL;
    guint members = 0;
    for (guint i = 0; i < inventory->pfs->len; i++) {
        const struct hw_pf *pf = hw_pf_at(inventory, i);
        if (strcmp(pf->bond, bond) != 0) {
            continue;
        }
        first = first != NULL ? first : pf;
        if (pf->eswitch != HW_ESWITCH_SWITCHDEV ||
            strcspn(pf->dev, ".") != strcspn(first->dev, ".") ||
            strncmp(pf->dev, first->dev, strcspn(first->dev, ".")) != 0) {
            return false;
        }
        members++;
    }
    return members >= 2;
}

static void
add_bonds(struct look *look)
{
    for (guint i = 0; i < look->links->len; i++) {
        const struct netdev_info *link = &g_array_index(look->links, struct netdev_info, i);
        if (strcmp(link->kind, "bond") == 0) {
            struct hw_bond bond = {.ifindex = link->index, .mode = link->bond_mode};
            g_strlcpy(bond.netdev, link->name, sizeof bond.netdev);
            bond.vf_lag = is_vf_lag(look->inventory, bond.netdev);
            g_array_append_val(look->inventory->bonds, bond);
        }
    }
}

static HwInventory *
join(struct look *look, GError **error)
{
    look->inventory = hw_inventory_new();
    if (!hear(look, error) || !add_pfs(look, error)) {
        return NULL;
    }
    add_reps(look);
    add_vfs(look);
    add_bonds(look);
    rdma_list(nldoor_sysfs(look->door), look->inventory->rdmas);
    g_auto(GStrv) iommus = sysfs_list("%s/class/iommu", nldoor_sysfs(look->door));
    look->inventory->iommu = iommus[0] != NULL;
    if (!vdpa_list(look->door, look->inventory->vdpa_mgmts, look->inventory->vdpas, error)) {
        return NULL;
    }
    return g_steal_pointer(&look->inventory);
}

HwInventory *
kernel_look(const char *root, GError **error)
{
    struct look look = {.door = nldoor_open(root, error)};
    HwInventory *inventory = look.door != NULL ? join(&look, error) : NULL;
    look_done(&look);
    return inventory;
}

HwInventory *
kernel_record(const char *directory, GError **error)
{
    struct look look = {.door = nldoor_open("", error)};
    HwInventory *inventory = NULL;
    if (look.door != NULL && nldoor_record(look.door, directory, error)) {
        inventory = join(&look, error);
    }
    look_done(&look);
    return inventory;
}

/* --- the backend ----------------------------------------------------------------------------- */

static HwInventory *
kernel_inventory(HwBackend *hw, GError **error)
{
    return kernel_look("", error);
}

/* The interface, if it is still the function's. */
static bool
refresh_netdev(NlSock *sock, struct hw_vf *vf, GError **error)
{
    struct netdev_info link;
    g_autoptr(GError) why = NULL;
    if (vf->ifindex != 0 && netdev_get(sock, vf->ifindex, vf->netdev, &link, &why)) {
        g_strlcpy(vf->netdev, link.name, sizeof vf->netdev);
        g_strlcpy(vf->netdev_mac, link.mac, sizeof vf->netdev_mac);
        vf->mtu = link.mtu;
        vf->up = (link.flags & IFF_UP) != 0;
        netdev_info_done(&link);
        return true;
    }
    if (why != NULL && haw_code(why) != HAW_NOT_FOUND) {
        g_propagate_error(error, g_steal_pointer(&why));
        return false;
    }
    vf->netdev[0] = vf->netdev_mac[0] = '\0';
    vf->ifindex = 0;
    vf->mtu = 0;
    vf->up = -1;
    return true;
}

/* One answer carries the settings of all VFs of the PF. */
static bool
kernel_refresh_vf(HwBackend *hw, HwInventory *inventory, guint at, bool *ret_same, GError **error)
{
    struct hw_vf *vf = hw_vf_at(inventory, at);
    const struct hw_pf *pf = hw_pf_at(inventory, vf->pf);
    g_autofree char *dev =
        sysfs_link("%s/bus/%s/devices/%s/virtfn%u", hw->where, pf->bus, pf->dev, vf->vf);
    g_autofree char *driver = sysfs_link("%s/bus/pci/devices/%s/driver", hw->where, dev);
    *ret_same = false;
    if (*dev != '\0' && (strcmp(dev, vf->dev) != 0 || strcmp(driver, vf->driver) != 0)) {
        return true;
    }
    g_autoptr(NlSock) sock = nlsock_open(error);
    if (sock == NULL || !refresh_netdev(sock, vf, error)) {
        return false;
    }
    struct netdev_info uplink;
    if (pf->ifindex == 0) {
        *ret_same = true;
        return true;
    }
    if (!netdev_get(sock, pf->ifindex, pf->netdev, &uplink, NULL)) {
        return true;
    }
    *ret_same = strcmp(uplink.name, pf->netdev) == 0;
    if (uplink.vfs != NULL && vf->vf < uplink.vfs->len) {
        vf->props = g_array_index(uplink.vfs, struct hw_vf_props, vf->vf);
    }
    netdev_info_done(&uplink);
    return true;
}

static bool
kernel_set_vf(HwBackend *hw, const struct hw_pf *pf, guint vf, const struct hw_vf_props *props,
              GError **error)
{
    if (pf->netdev[0] == '\0') {
        return haw_fail(error, HAW_CONFLICT,
                        "PF '%s' has no network interface on this host: its VFs "
                        "can't be configured",
                        pf->dev);
    }
    g_autoptr(NlSock) sock = nlsock_open(error);
    return sock != NULL && netdev_set_vf(sock, pf->netdev, vf, props, error);
}

static bool
kernel_bind_driver(HwBackend *hw, const char *vf_dev, const char *driver, GError **error)
{
    return pcidev_bind(vf_dev, driver, error);
}

static bool
kernel_add_vdpa(HwBackend *hw, const struct hw_vdpa_new *want, struct hw_vdpa *ret_vdpa,
                GError **error)
{
    return vdpa_add(want, ret_vdpa, error);
}

static bool
kernel_del_vdpa(HwBackend *hw, const char *name, GError **error)
{
    return vdpa_del(name, error);
}

static bool
kernel_set_num_vfs(HwBackend *hw, const struct hw_pf *pf, guint count, GError **error)
{
    return pcidev_set_num_vfs(pf, count, error);
}

static bool
kernel_set_eswitch(HwBackend *hw, const struct hw_pf *pf, HwEswitch mode, GError **error)
{
    return devlink_set_eswitch(pf->bus, pf->dev, mode, error);
}

static bool
kernel_set_tc_offload(HwBackend *hw, const struct hw_pf *pf, bool on, GError **error)
{
    return ethtool_set_tc_offload(pf->netdev, on, error);
}

const struct hw_ops kernel_ops = {.inventory = kernel_inventory,
                                  .refresh_vf = kernel_refresh_vf,
                                  .set_vf = kernel_set_vf,
                                  .bind_driver = kernel_bind_driver,
                                  .add_vdpa = kernel_add_vdpa,
                                  .del_vdpa = kernel_del_vdpa,
                                  .set_num_vfs = kernel_set_num_vfs,
                                  .set_eswitch = kernel_set_eswitch,
                                  .set_tc_offload = kernel_set_tc_offload};
