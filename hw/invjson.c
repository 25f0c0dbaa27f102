/* The inventory as JSON: what REST, `hawser hw` and recorded looks show. Keys that don't apply are left
 * out; flags that are not known are null. */
#include "hw/inventory.h"

#include <string.h>

static void
put_text(json_t *object, const char *key, const char *text)
{
    if (text[0] != '\0') {
        json_object_set_new(object, key, json_string(text));
    }
}

static void
put_int(json_t *object, const char *key, gint64 value)
{
    if (value >= 0) {
        json_object_set_new(object, key, json_integer(value));
    }
}

static json_t *
flag(int value)
{
    return value < 0 ? json_null() : json_boolean(value);
}

static json_t *
props_json(const struct hw_vf_props *props)
{
    static const char *const states[] = {"auto", "enable", "disable"};
    json_t *object = json_object();
    put_text(object, "mac", props->mac);
    put_int(object, "vlan", props->vlan);
    put_int(object, "qos", props->qos);
    json_object_set_new(object, "spoofchk", flag(props->spoofchk));
    json_object_set_new(object, "trust", flag(props->trust));
    put_int(object, "min_mbps", props->min_mbps);
    put_int(object, "max_mbps", props->max_mbps);
    if (props->link_state >= 0 && props->link_state < (int) G_N_ELEMENTS(states)) {
        put_text(object, "link_state", states[props->link_state]);
    }
    return object;
}

static bool
has_vdpa(const HwInventory *inventory, const struct hw_vf *vf)
{
    for (guint i = 0; i < inventory->vdpas->len; i++) {
        const char *slash = strchr(hw_vdpa_at(inventory, i)->mgmt, '/');
        if (slash != NULL && strcmp(slash + 1, vf->dev) == 0) {
            return true;
        }
    }
    return false;
}

/* "free", "used" or "unusable", and why it isn't free. Who has a claimed VF only the ledger knows. */
static void
put_state(json_t *object, const HwInventory *inventory, const struct hw_vf *vf)
{
    bool switched = hw_pf_at(inventory, vf->pf)->eswitch == HW_ESWITCH_SWITCHDEV;
    bool away = vf->netdev[0] == '\0' && vf->driver[0] != '\0' &&
                strcmp(hw_pf_at(inventory, vf->pf)->bus, "pci") == 0;
    g_autofree char *why = hw_vf_unfit(inventory, vf, switched ? HW_USE_REP_NETDEV : HW_USE_NETDEV);
    const char *state = "free";
    if (has_vdpa(inventory, vf)) {
        state = "used";
        g_free(why);
        why = g_strdup_printf("VF '%s' carries a vDPA device", vf->dev);
    } else if (why != NULL) {
        state = away ? "used" : "unusable";
    }
    json_object_set_new(object, "state", json_string(state));
    if (why != NULL) {
        put_text(object, "reason", why);
    }
}

static json_t *
vf_json(const HwInventory *inventory, const struct hw_vf *vf)
{
    json_t *object = json_pack("{s:i,s:s}", "vf", (int) vf->vf, "device", vf->dev);
    put_text(object, "driver", vf->driver);
    put_text(object, "netdev", vf->netdev);
    put_text(object, "netdev_mac", vf->netdev_mac);
    put_int(object, "mtu", vf->netdev[0] != '\0' ? (gint64) vf->mtu : -1);
    put_int(object, "numa", vf->numa);
    put_int(object, "iommu_group", vf->iommu_group);
    json_object_set_new(object, "properties", props_json(&vf->props));
    const struct hw_rep *rep = hw_rep_of(inventory, vf);
    if (rep != NULL) {
        g_autofree char *port = hw_port_name(&rep->key);
        put_text(object, "representor", rep->netdev);
        put_text(object, "port", port);
    }
    put_state(object, inventory, vf);
    return object;
}

static json_t *
pf_json(const HwInventory *inventory, guint at)
{
    const struct hw_pf *pf = hw_pf_at(inventory, at);
    json_t *vfs = json_array();
    json_t *object =
        json_pack("{s:s,s:s,s:i,s:i,s:i}", "bus", pf->bus, "device", pf->dev, "number",
                  (int) pf->number, "num_vfs", (int) pf->vfs, "max_vfs", (int) pf->vfs_max);
    put_text(object, "netdev", pf->netdev);
    put_text(object, "mac", pf->mac);
    put_text(object, "driver", pf->driver);
    put_text(object, "firmware", pf->firmware);
    if (pf->vendor > 0) {
        g_autofree char *ids = g_strdup_printf("%04x:%04x", pf->vendor, pf->device);
        put_text(object, "pci_ids", ids);
    }
    put_int(object, "numa", pf->numa);
    put_int(object, "iommu_group", pf->iommu_group);
    put_text(object, "switch_id", pf->switch_id);
    put_text(object, "eswitch", hw_eswitch_name(pf->eswitch));
    json_object_set_new(object, "hw_tc_offload", flag(pf->hw_tc_offload));
    json_object_set_new(object, "carrier", flag(pf->carrier));
    put_text(object, "bond", pf->bond);
    for (guint i = 0; i < inventory->vfs->len; i++) {
        if (hw_vf_at(inventory, i)->pf == at) {
            json_array_append_new(vfs, vf_json(inventory, hw_vf_at(inventory, i)));
        }
    }
    json_object_set_new(object, "vfs", vfs);
    g_autofree char *why = hw_pf_unfit(inventory, pf, HW_USE_REP_NETDEV);
    if (why != NULL) {
        put_text(object, "reason", why);
    }
    return object;
}

static json_t *
reps_json(const HwInventory *inventory)
{
    json_t *list = json_array();
    for (guint i = 0; i < inventory->reps->len; i++) {
        const struct hw_rep *rep = hw_rep_at(inventory, i);
        g_autofree char *port = hw_port_name(&rep->key);
        json_t *object =
            json_pack("{s:s,s:s,s:s,s:i,s:i,s:i,s:b}", "port", port, "device", rep->dev,
                      "switch_id", rep->key.switch_id, "controller", (int) rep->key.controller,
                      "pf", (int) rep->key.pf, "vf", (int) rep->key.vf, "external", rep->external);
        put_text(object, "netdev", rep->netdev);
        json_array_append_new(list, object);
    }
    return list;
}

static json_t *
vdpa_json(const HwInventory *inventory)
{
    json_t *mgmts = json_array(), *devices = json_array();
    for (guint i = 0; i < inventory->vdpa_mgmts->len; i++) {
        const struct hw_vdpa_mgmt *mgmt =
            &g_array_index(inventory->vdpa_mgmts, struct hw_vdpa_mgmt, i);
        json_t *object = json_pack("{s:s,s:b,s:i}", "handle", mgmt->handle, "net", mgmt->net,
                                   "max_vqs", (int) mgmt->max_vqs);
        put_text(object, "device", mgmt->dev);
        json_array_append_new(mgmts, object);
    }
    for (guint i = 0; i < inventory->vdpas->len; i++) {
        const struct hw_vdpa *vdpa = hw_vdpa_at(inventory, i);
        json_t *object = json_pack("{s:s,s:s,s:i}", "name", vdpa->name, "management", vdpa->mgmt,
                                   "max_vqs", (int) vdpa->max_vqs);
        put_text(object, "driver", vdpa->driver);
        put_text(object, "chardev", vdpa->chardev);
        put_text(object, "mac", vdpa->mac);
        put_int(object, "mtu", vdpa->mtu > 0 ? (gint64) vdpa->mtu : -1);
        json_array_append_new(devices, object);
    }
    return json_pack("{s:o,s:o}", "management", mgmts, "devices", devices);
}

static json_t *
rdma_json(const HwInventory *inventory)
{
    json_t *list = json_array();
    for (guint i = 0; i < inventory->rdmas->len; i++) {
        const struct hw_rdma *rdma = &g_array_index(inventory->rdmas, struct hw_rdma, i);
        json_t *object = json_pack("{s:s,s:i,s:o}", "name", rdma->name, "ports", (int) rdma->ports,
                                   "active", flag(rdma->active));
        put_text(object, "device", rdma->dev);
        put_text(object, "netdev", rdma->netdev);
        put_text(object, "node_guid", rdma->node_guid);
        put_text(object, "firmware", rdma->firmware);
        json_array_append_new(list, object);
    }
    return list;
}

json_t *
hw_inventory_json(const HwInventory *inventory)
{
    json_t *pfs = json_array(), *bonds = json_array();
    for (guint i = 0; i < inventory->pfs->len; i++) {
        json_array_append_new(pfs, pf_json(inventory, i));
    }
    for (guint i = 0; i < inventory->bonds->len; i++) {
        const struct hw_bond *bond = &g_array_index(inventory->bonds, struct hw_bond, i);
        json_array_append_new(bonds, json_pack("{s:s,s:i,s:b}", "netdev", bond->netdev, "mode",
                                               bond->mode, "vf_lag", bond->vf_lag));
    }
    return json_pack("{s:o,s:o,s:o,s:o,s:o,s:o}", "pfs", pfs, "representors", reps_json(inventory),
                     "vdpa", vdpa_json(inventory), "rdma", rdma_json(inventory), "bonds", bonds,
                     "iommu", flag(inventory->iommu));
}
