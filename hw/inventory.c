/* One look at the NICs as plain data: finding things in it, judging what they can be used for, naming
 * switch ports, and its JSON form.
 * V1  What can't serve says why and what to do, and names the device: the same words reach the
 *     operator from a failed claim, `hawser hw list` and `hawser hw doctor`. */
#include "hw/inventory.h"

#include <stdlib.h>
#include <string.h>

const char *
hw_eswitch_name(HwEswitch mode)
{
    static const char *const names[] = {"", "legacy", "switchdev"};
    return names[mode];
}

void
hw_vf_props_none(struct hw_vf_props *props)
{
    *props = (struct hw_vf_props){.vlan = -1,
                                  .qos = -1,
                                  .spoofchk = -1,
                                  .trust = -1,
                                  .min_mbps = -1,
                                  .max_mbps = -1,
                                  .link_state = HW_VF_LINK_UNKNOWN};
}

HwInventory *
hw_inventory_new(void)
{
    HwInventory *inventory = g_new0(HwInventory, 1);
    inventory->pfs = g_array_new(FALSE, TRUE, sizeof(struct hw_pf));
    inventory->vfs = g_array_new(FALSE, TRUE, sizeof(struct hw_vf));
    inventory->reps = g_array_new(FALSE, TRUE, sizeof(struct hw_rep));
    inventory->vdpa_mgmts = g_array_new(FALSE, TRUE, sizeof(struct hw_vdpa_mgmt));
    inventory->vdpas = g_array_new(FALSE, TRUE, sizeof(struct hw_vdpa));
    inventory->rdmas = g_array_new(FALSE, TRUE, sizeof(struct hw_rdma));
    inventory->bonds = g_array_new(FALSE, TRUE, sizeof(struct hw_bond));
    return inventory;
}

HwInventory *
hw_inventory_dup(const HwInventory *inventory)
{
    HwInventory *copy = g_new0(HwInventory, 1);
    copy->pfs = g_array_copy(inventory->pfs);
    copy->vfs = g_array_copy(inventory->vfs);
    copy->reps = g_array_copy(inventory->reps);
    copy->vdpa_mgmts = g_array_copy(inventory->vdpa_mgmts);
    copy->vdpas = g_array_copy(inventory->vdpas);
    copy->rdmas = g_array_copy(inventory->rdmas);
    copy->bonds = g_array_copy(inventory->bonds);
    copy->iommu = inventory->iommu;
    return copy;
}

void
hw_inventory_free(HwInventory *inventory)
{
    if (inventory != NULL) {
        g_array_unref(inventory->pfs);
        g_array_unref(inventory->vfs);
        g_array_unref(inventory->reps);
        g_array_unref(inventory->vdpa_mgmts);
        g_array_unref(inventory->vdpas);
        g_array_unref(inventory->rdmas);
        g_array_unref(inventory->bonds);
        g_free(inventory);
    }
}

const struct hw_pf *
hw_find_pf(const HwInventory *inventory, const char *name)
{
    for (guint i = 0; i < inventory->pfs->len; i++) {
        const struct hw_pf *pf = hw_pf_at(inventory, i);
        if (*name != '\0' && (strcmp(pf->netdev, name) == 0 || strcmp(pf->dev, name) == 0)) {
            return pf;
        }
    }
    return NULL;
}

const struct hw_vf *
hw_find_vf(const HwInventory *inventory, const char *dev)
{
    for (guint i = 0; i < inventory->vfs->len; i++) {
        const struct hw_vf *vf = hw_vf_at(inventory, i);
        if (strcmp(vf->dev, dev) == 0) {
            return vf;
        }
    }
    return NULL;
}

const struct hw_rep *
hw_find_rep(const HwInventory *inventory, const struct hw_port_key *key)
{
    for (guint i = 0; i < inventory->reps->len; i++) {
        const struct hw_rep *rep = hw_rep_at(inventory, i);
        if (rep->key.vf == key->vf && rep->key.pf == key->pf &&
            rep->key.controller == key->controller &&
            strcmp(rep->key.switch_id, key->switch_id) == 0) {
            return rep;
        }
    }
    return NULL;
}

/* netdevsim's VFs have no vDPA of their own: the kernel's vDPA simulator stands for it. */
const struct hw_vdpa_mgmt *
hw_find_vdpa_mgmt(const HwInventory *inventory, const char *dev)
{
    if (g_str_has_prefix(dev, "netdevsim")) {
        dev = "vdpasim_net";
    }
    for (guint i = 0; i < inventory->vdpa_mgmts->len; i++) {
        const struct hw_vdpa_mgmt *mgmt =
            &g_array_index(inventory->vdpa_mgmts, struct hw_vdpa_mgmt, i);
        if (strcmp(mgmt->handle, dev) == 0 || (*dev != '\0' && strcmp(mgmt->dev, dev) == 0)) {
            return mgmt;
        }
    }
    return NULL;
}

const struct hw_vdpa *
hw_find_vdpa(const HwInventory *inventory, const char *name)
{
    for (guint i = 0; i < inventory->vdpas->len; i++) {
        if (strcmp(hw_vdpa_at(inventory, i)->name, name) == 0) {
            return hw_vdpa_at(inventory, i);
        }
    }
    return NULL;
}

const struct hw_rep *
hw_rep_of(const HwInventory *inventory, const struct hw_vf *vf)
{
    return vf->rep >= 0 ? hw_rep_at(inventory, (guint) vf->rep) : NULL;
}

char *
hw_pf_unfit(const HwInventory *inventory, const struct hw_pf *pf, HwUse use)
{
    const char *name = pf->netdev[0] != '\0' ? pf->netdev : pf->dev;
    bool switched = use == HW_USE_REP_NETDEV || use == HW_USE_REP_VFIO || use == HW_USE_VDPA;
    if (pf->netdev[0] == '\0') {
        return g_strdup_printf("PF '%s' has no network interface on this host: bind its driver "
                               "('%s' now)",
                               pf->dev, pf->driver[0] != '\0' ? pf->driver : "none");
    }
    if (pf->vfs_max == 0) {
        return g_strdup_printf("'%s' has no virtual functions: enable SR-IOV in its firmware and "
                               "the BIOS, or name another PF",
                               name);
    }
    if (switched && pf->eswitch == HW_ESWITCH_UNKNOWN) {
        return g_strdup_printf("the driver of '%s' ('%s') has no embedded switch that Linux can "
                               "steer: name another PF",
                               name, pf->driver);
    }
    if (switched && pf->eswitch != HW_ESWITCH_SWITCHDEV) {
        return g_strdup_printf("the eswitch of '%s' is in legacy mode: run `hawser hw prepare %s "
                               "--vfs %u --mode switchdev`",
                               name, name, pf->vfs > 0 ? pf->vfs : MIN(8, pf->vfs_max));
    }
    if (pf->vfs == 0) {
        return g_strdup_printf("'%s' has no virtual functions yet (up to %u): run `hawser hw "
                               "prepare %s --vfs N --mode %s`",
                               name, pf->vfs_max, name, switched ? "switchdev" : "legacy");
    }
    if ((use == HW_USE_VFIO || use == HW_USE_REP_VFIO) && inventory->iommu != 1) {
        return g_strdup("this host has no IOMMU that is on: boot with intel_iommu=on or "
                        "amd_iommu=on, and enable VT-d or AMD-Vi in the BIOS");
    }
    return NULL;
}

char *
hw_vf_unfit(const HwInventory *inventory, const struct hw_vf *vf, HwUse use)
{
    const struct hw_pf *pf = hw_pf_at(inventory, vf->pf);
    bool switched = use == HW_USE_REP_NETDEV || use == HW_USE_REP_VFIO || use == HW_USE_VDPA;
    char *why = hw_pf_unfit(inventory, pf, use);
    if (why != NULL) {
        return why;
    }
    if (switched && (vf->rep < 0 || hw_rep_of(inventory, vf)->netdev[0] == '\0')) {
        return g_strdup_printf("VF '%s' (%u of '%s') has no representor: its driver did not make "
                               "one, look at the kernel log",
                               vf->dev, vf->vf, pf->netdev);
    }
    return hw_vf_unfit_yet(inventory, vf, use);
}

char *
hw_vf_unfit_yet(const HwInventory *inventory, const struct hw_vf *vf, HwUse use)
{
    char *why = hw_pf_unfit(inventory, hw_pf_at(inventory, vf->pf), use);
    if (why != NULL) {
        return why;
    }
    if (strcmp(vf->driver, "vfio-pci") == 0) {
        return g_strdup_printf("VF '%s' belongs to vfio-pci: something outside Hawser has it, or "
                               "left it so",
                               vf->dev);
    }
    if ((use == HW_USE_NETDEV || use == HW_USE_REP_NETDEV) && vf->netdev[0] == '\0') {
        return vf->driver[0] == '\0'
                   ? g_strdup_printf("VF '%s' has no driver: bind it (echo %s > "
                                     "/sys/bus/pci/drivers_probe)",
                                     vf->dev, vf->dev)
                   : g_strdup_printf("VF '%s' ('%s') shows no network interface here: it is in "
                                     "another namespace",
                                     vf->dev, vf->driver);
    }
    if ((use == HW_USE_VFIO || use == HW_USE_REP_VFIO) && vf->iommu_group < 0) {
        return g_strdup_printf("VF '%s' is in no IOMMU group: is ACS or the IOMMU off?", vf->dev);
    }
    if (use == HW_USE_VDPA && hw_find_vdpa_mgmt(inventory, vf->dev) == NULL) {
        return g_strdup_printf("VF '%s' ('%s') offers no vDPA management device: load its vdpa "
                               "driver (mlx5_vdpa, …)",
                               vf->dev, vf->driver);
    }
    return NULL;
}

/* A decimal number behind 'mark' at *text, which moves behind it. */
static bool
number_after(const char **text, const char *mark, guint *ret_number)
{
    size_t size = strlen(mark);
    if (strncmp(*text, mark, size) != 0 || !g_ascii_isdigit((*text)[size])) {
        return false;
    }
    char *end;
    guint64 number = g_ascii_strtoull(*text + size, &end, 10);
    if (number > 0xffff) {
        return false;
    }
    *ret_number = (guint) number;
    *text = end;
    return true;
}

bool
hw_port_name_parse(const char *name, struct hw_port_key *ret_key)
{
    guint controller = 0, pf, vf;
    if (name[0] == 'c' && !number_after(&name, "c", &controller)) {
        return false;
    }
    /* "pf0vfr3": a representor of ice before it had devlink ports. */
    if (!number_after(&name, "pf", &pf) ||
        (!number_after(&name, "vf", &vf) && !number_after(&name, "vfr", &vf)) || *name != '\0') {
        return false;
    }
    ret_key->controller = controller;
    ret_key->pf = pf;
    ret_key->vf = vf;
    return true;
}

char *
hw_port_name(const struct hw_port_key *key)
{
    return key->controller == 0 ? g_strdup_printf("pf%uvf%u", key->pf, key->vf)
                                : g_strdup_printf("c%upf%uvf%u", key->controller, key->pf, key->vf);
}
