/* Resources: the virtual functions of network cards, the vDPA devices made on them, and RDMA. What there
 * is comes from the hardware's inventory, so that a simulated NIC shows as a real one does. */
#include "agent/api/resources.h"

#include "hw/backend.h"
#include "hw/sysfs.h"

#include <string.h>

static void
put_ids(json_t *card, int vendor, int device)
{
    g_autofree char *vendor_id = g_strdup_printf("%04x", (guint) vendor & 0xffff);
    g_autofree char *product_id = g_strdup_printf("%04x", (guint) device & 0xffff);
    json_object_set_new(card, "vendor_id", json_string(vendor_id));
    json_object_set_new(card, "product_id", json_string(product_id));
}

static json_t *
card_new(const char *driver, const char *dev, int numa, const char *netdev)
{
    json_t *card = json_pack("{s:s,s:s,s:i,s:s,s:[]}", "driver", driver, "driver_version", "",
                             "numa_node", MAX(numa, 0), "pci_address", dev, "ports");
    if (*netdev != '\0') {
        json_array_append_new(json_object_get(card, "ports"), resources_port(netdev));
    }
    return card;
}

/* The vDPA device on a function: its name and that of its character device. */
static void
put_vdpa(json_t *card, const HwInventory *inventory, const char *dev)
{
    for (guint i = 0; i < inventory->vdpas->len; i++) {
        const struct hw_vdpa *vdpa = hw_vdpa_at(inventory, i);
        const char *slash = strchr(vdpa->mgmt, '/');
        if (slash != NULL && strcmp(slash + 1, dev) == 0) {
            const char *device = g_str_has_prefix(vdpa->chardev, "/dev/") ? vdpa->chardev + 5 : "";
            json_object_set_new(card, "vdpa",
                                json_pack("{s:s,s:s}", "name", vdpa->name, "device", device));
        }
    }
}

static json_t *
vf_card(const HwInventory *inventory, const struct hw_vf *vf)
{
    json_t *card = card_new(vf->driver, vf->dev, vf->numa, vf->netdev);
    if (hw_pf_at(inventory, vf->pf)->vendor > 0) {
        g_autofree char *path = g_strdup_printf("/sys/bus/pci/devices/%s", vf->dev);
        const struct hw_pf *pf = hw_pf_at(inventory, vf->pf);
        put_ids(card, (int) sysfs_int(pf->vendor, "%s/vendor", path),
                (int) sysfs_int(pf->device, "%s/device", path));
    }
    put_vdpa(card, inventory, vf->dev);
    return card;
}

static json_t *
find_card(json_t *cards, const char *dev)
{
    size_t i;
    json_t *card;
    json_array_foreach (cards, i, card) {
        const char *address = json_string_value(json_object_get(card, "pci_address"));
        if (g_strcmp0(address, dev) == 0) {
            return card;
        }
    }
    return NULL;
}

static void
put_pf(json_t *cards, const HwInventory *inventory, guint at)
{
    const struct hw_pf *pf = hw_pf_at(inventory, at);
    json_t *card = find_card(cards, pf->dev), *vfs = json_array();
    if (card == NULL) {
        card = card_new(pf->driver, pf->dev, pf->numa, pf->netdev);
        if (pf->vendor > 0) {
            put_ids(card, pf->vendor, pf->device);
        }
        json_array_append_new(cards, card);
    }
    if (pf->firmware[0] != '\0') {
        json_object_set_new(card, "firmware_version", json_string(pf->firmware));
    }
    for (guint i = 0; i < inventory->vfs->len; i++) {
        if (hw_vf_at(inventory, i)->pf == at) {
            json_array_append_new(vfs, vf_card(inventory, hw_vf_at(inventory, i)));
        }
    }
    json_object_set_new(card, "sriov",
                        json_pack("{s:i,s:i,s:o}", "current_vfs", (int) pf->vfs, "maximum_vfs",
                                  (int) pf->vfs_max, "vfs", vfs));
    put_vdpa(card, inventory, pf->dev);
}

/* The character devices of an RDMA device's first port: <class>/<prefix>N whose ibdev it is. */
static void
put_node(json_t *port, const char *class, const char *prefix, const char *ibdev, const char *key)
{
    g_auto(GStrv) names = sysfs_list("/sys/class/%s", class);
    for (char **name = names; *name != NULL; name++) {
        g_autofree char *of = sysfs_text("/sys/class/%s/%s/ibdev", class, *name);
        if (!g_str_has_prefix(*name, prefix) || strcmp(of, ibdev) != 0) {
            continue;
        }
        g_autofree char *number = sysfs_text("/sys/class/%s/%s/dev", class, *name);
        g_autofree char *name_key = g_strconcat(key, "_name", NULL);
        g_autofree char *device_key = g_strconcat(key, "_device", NULL);
        json_object_set_new(port, name_key, json_string(*name));
        json_object_set_new(port, device_key, json_string(number));
        return;
    }
}

static void
put_rdma(json_t *ports, const HwInventory *inventory)
{
    size_t i;
    json_t *port;
    json_array_foreach (ports, i, port) {
        const char *id = json_string_value(json_object_get(port, "id"));
        for (guint j = 0; j < inventory->rdmas->len; j++) {
            const struct hw_rdma *rdma = &g_array_index(inventory->rdmas, struct hw_rdma, j);
            if (g_strcmp0(rdma->netdev, id) == 0) {
                json_t *infiniband = json_object();
                put_node(infiniband, "infiniband_mad", "issm", rdma->name, "issm");
                put_node(infiniband, "infiniband_mad", "umad", rdma->name, "mad");
                put_node(infiniband, "infiniband_verbs", "uverbs", rdma->name, "verb");
                json_object_set_new(port, "infiniband", infiniband);
            }
        }
    }
}

void
resources_put_functions(json_t *cards)
{
    g_autoptr(HwBackend) hw = hw_open(NULL, NULL);
    g_autoptr(HwInventory) inventory = hw != NULL ? hw_inventory(hw, NULL) : NULL;
    size_t i, j;
    json_t *card, *vf;
    if (inventory == NULL) {
        return;
    }
    for (guint at = 0; at < inventory->pfs->len; at++) {
        put_pf(cards, inventory, at);
    }
    json_array_foreach (cards, i, card) {
        put_rdma(json_object_get(card, "ports"), inventory);
        json_array_foreach (json_object_get(json_object_get(card, "sriov"), "vfs"), j, vf) {
            put_rdma(json_object_get(vf, "ports"), inventory);
        }
    }
}
