/* What a function is bound to: vfio-pci, or a vDPA device on it that vhost_vdpa has.
 * B1  A vDPA device whose character device is open is not deleted: the kernel would wait for its holder
 *     while everybody else waits for us. It is tried again until QEMU has gone.
 * B2  A port's vDPA device has the same name in every life of ours, so that one that was half made is
 *     found again.
 * Called by portsteps.c. */
#include "dataplane/slow/portbind.h"

#include <string.h>

#include "base/clock.h"
#include "base/fiber.h"

enum { VDPA_MS = 10000, VDPA_STEP_MS = 50 };

typedef const struct portsteps_doors Doors;
typedef struct portsteps_port PortWork;

const struct hw_vdpa_mgmt *
portbind_bare(const HwInventory *inventory, const Dpd__Port *spec)
{
    for (guint i = 0; spec->kind == DPD__KIND__VDPA && i < inventory->vdpa_mgmts->len; i++) {
        const struct hw_vdpa_mgmt *mgmt =
            &g_array_index(inventory->vdpa_mgmts, struct hw_vdpa_mgmt, i);
        for (size_t p = 0; p < spec->n_parents && mgmt->dev[0] == '\0'; p++) {
            if (strcmp(spec->parents[p], mgmt->handle) == 0) {
                return mgmt;
            }
        }
    }
    return NULL;
}

bool
portbind_gone(const PortWork *port, GError **error)
{
    return haw_fail(error, HAW_NOT_FOUND,
                    "virtual function %u of \"%s\" (%s) is no longer there: see 'hawser hw list'",
                    port->before.vf, port->before.pf_netdev, port->before.dev);
}

/* B2: "haw" and a digest. */
static void
name_vdpa(PortWork *port)
{
    g_autofree char *sum = g_compute_checksum_for_string(G_CHECKSUM_SHA256, port->id, -1);
    g_snprintf(port->vdpa, sizeof(port->vdpa), "haw%.12s", sum);
}

static bool
make_vdpa(Doors *doors, PortWork *port, GError **error)
{
    g_autoptr(FleetView) view = fleet_look(doors->fleet, error);
    if (view == NULL) {
        return false;
    }
    name_vdpa(port);
    const struct hw_vdpa *found = hw_find_vdpa(view->inventory, port->vdpa);
    if (found != NULL && strcmp(found->driver, "vhost_vdpa") == 0) {
        g_strlcpy(port->device, found->chardev, sizeof(port->device));
        return true;
    }
    const struct hw_vdpa_mgmt *mgmt = port->claimed
                                          ? hw_find_vdpa_mgmt(view->inventory, port->before.dev)
                                          : portbind_bare(view->inventory, port->spec);
    if (mgmt == NULL) {
        return haw_fail(error, HAW_UNSUPPORTED,
                        "virtual function %u of \"%s\" (%s) makes no vDPA devices: 'hawser hw "
                        "doctor' says what is missing",
                        port->before.vf, port->before.pf_netdev, port->before.dev);
    }
    struct hw_vdpa made;
    struct hw_vdpa_new want = {.mgmt = mgmt->handle,
                               .name = port->vdpa,
                               .mac = port->spec->mac[0] != '\0' ? port->spec->mac : NULL,
                               .mtu = port->spec->mtu};
    if (found != NULL && !fleet_del_vdpa(doors->fleet, port->vdpa, port->vdpa, error)) {
        return false;
    }
    if (!fleet_add_vdpa(doors->fleet, port->vdpa, &want, &made, error)) {
        return haw_push(error, "make vDPA device \"%s\" on \"%s\"", port->vdpa, mgmt->handle);
    }
    g_strlcpy(port->device, made.chardev, sizeof(port->device));
    return true;
}

bool
portbind_make(Doors *doors, PortWork *port, GError **error)
{
    if (port->spec->kind == DPD__KIND__VDPA) {
        return make_vdpa(doors, port, error);
    }
    g_autoptr(FleetView) view = fleet_look(doors->fleet, error);
    const struct hw_vf *vf = view != NULL ? hw_find_vf(view->inventory, port->before.dev) : NULL;
    if (view == NULL) {
        return false;
    }
    if (vf == NULL) {
        return portbind_gone(port, error);
    }
    g_snprintf(port->device, sizeof(port->device), "/dev/vfio/%d", vf->iommu_group);
    return strcmp(vf->driver, "vfio-pci") == 0 ||
           fleet_bind(doors->fleet, vf->dev, "vfio-pci", error) ||
           haw_push(error, "give \"%s\" to vfio-pci", vf->dev);
}

/* B1 */
static bool
undo_vdpa(Doors *doors, PortWork *port, GError **error)
{
    gint64 end_us = clock_mono_us() + VDPA_MS * 1000;
    name_vdpa(port);
    for (;;) {
        g_autoptr(GError) why = NULL;
        if (fleet_del_vdpa(doors->fleet, port->vdpa, port->vdpa, &why)) {
            return true;
        }
        if (haw_code(why) != HAW_BUSY || clock_mono_us() > end_us) {
            g_propagate_error(error, g_steal_pointer(&why));
            return haw_push(error, "remove vDPA device \"%s\"", port->vdpa);
        }
        fiber_sleep_ms(VDPA_STEP_MS, NULL, NULL);
    }
}

bool
portbind_undo(Doors *doors, PortWork *port, GError **error)
{
    if (port->spec->kind == DPD__KIND__VDPA) {
        return undo_vdpa(doors, port, error);
    }
    g_autoptr(FleetView) view = fleet_look(doors->fleet, error);
    const struct hw_vf *vf = view != NULL ? hw_find_vf(view->inventory, port->before.dev) : NULL;
    if (view == NULL) {
        return false;
    }
    return vf == NULL || strcmp(vf->driver, port->before.driver) == 0 ||
           fleet_bind(doors->fleet, vf->dev, port->before.driver, error) ||
           haw_push(error, "give \"%s\" back to \"%s\"", vf->dev, port->before.driver);
}
