/* backend.h: the NICs of this host behind one interface: the kernel's, or a simulated one.
 * A backend holds no state between calls, so two processes with the same spec see the same NIC.
 * Nothing here decides or remembers: who may have which VF is the ledger's business (hawser-dpd).
 * Threads: any, also at the same time. Calls block: some (driver binding, vDPA removal, waiting)
 * for seconds; call those through fiber_run(). */
#pragma once
#include "hw/inventory.h"

typedef struct HwBackend HwBackend;

/* "kernel", or "sim:/DIRECTORY" (see sim.h; made with 2 PFs of 4 VFs when it isn't there); NULL:
 * $HAWSER_HW, else "kernel". */
HwBackend *hw_open(const char *spec, GError **error);
void hw_close(HwBackend *hw);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(HwBackend, hw_close)
const char *hw_spec(const HwBackend *hw);

/* One dump a netlink family, and sysfs. Doors that this kernel lacks (no devlink, no vdpa) count as
 * empty. */
HwInventory *hw_inventory(HwBackend *hw, GError **error);

/* Looks again at one VF of an inventory only: its interface, found by the index that it has there, and
 * its settings. *ret_same false: the NIC is no longer as it was (a driver, a representor, a number of
 * VFs), and only a new inventory can tell. */
bool hw_refresh_vf(HwBackend *hw, HwInventory *inventory, guint vf, bool *ret_same, GError **error);

/* Changes what is not "" or -1. DENIED, UNSUPPORTED and BUSY are the driver's. */
bool hw_set_vf(HwBackend *hw, const struct hw_pf *pf, guint vf, const struct hw_vf_props *props,
               GError **error);

/* Gives the VF to 'driver' (through driver_override, which stays only for "vfio-pci"), whatever has
 * it now; "" leaves it without. Done when it is bound; the driver's netdev may come later. */
bool hw_bind_driver(HwBackend *hw, const char *vf_dev, const char *driver, GError **error);
/* Until the VF's driver shows a netdev in our namespace. TIMEOUT. */
bool hw_wait_netdev(HwBackend *hw, const char *vf_dev, gint64 wait_ms, char ret_netdev[IFNAMSIZ],
                    GError **error);
/* Until the switch port shows its representor. TIMEOUT. */
bool hw_wait_rep(HwBackend *hw, const struct hw_port_key *key, gint64 wait_ms,
                 struct hw_rep *ret_rep, GError **error);

/* Network interfaces. from_netns, to_netns, netns: descriptors, -1 for our own namespace. */
struct hw_netdev_set {
    const char *mac; /* NULL: as it is */
    guint mtu;       /* 0: as it is */
    int up;          /* -1: as it is */
};
bool hw_set_netdev(HwBackend *hw, int netns, const char *name, const struct hw_netdev_set *set,
                   GError **error);
bool hw_rename_netdev(HwBackend *hw, int netns, const char *name, const char *new_name,
                      GError **error);
/* Arrives down, under new_name. */
bool hw_move_netdev(HwBackend *hw, int from_netns, const char *name, int to_netns,
                    const char *new_name, GError **error);

/* Makes a vDPA network device and gives it to vhost_vdpa; the result names its character device
 * (the simulated NIC has none). mac NULL, mtu and queue_pairs 0: the driver's. */
struct hw_vdpa_new {
    const char *mgmt; /* handle */
    const char *name;
    const char *mac;
    guint mtu, queue_pairs;
};
bool hw_add_vdpa(HwBackend *hw, const struct hw_vdpa_new *want, struct hw_vdpa *ret_vdpa,
                 GError **error);
/* BUSY, at once, while somebody has its character device open: the kernel itself would hang until
 * that one closes. Not there is success. */
bool hw_del_vdpa(HwBackend *hw, const char *name, GError **error);

/* For `hw prepare` only; the same value again changes nothing. CONFLICT when VFs must go first. */
bool hw_set_num_vfs(HwBackend *hw, const struct hw_pf *pf, guint count, GError **error);
bool hw_set_eswitch(HwBackend *hw, const struct hw_pf *pf, HwEswitch mode, GError **error);
bool hw_set_tc_offload(HwBackend *hw, const struct hw_pf *pf, bool on, GError **error);

/* A descriptor that becomes readable when links come, go or change; caller closes. Empty it before
 * looking. */
int hw_watch_open(HwBackend *hw, GError **error);
void hw_watch_drain(int fd);
/* The same, telling what there was. NULL: some were lost, so anything may have changed. */
struct hw_event {
    int index;
    bool gone;
    char name[IFNAMSIZ], kind[16]; /* kind: "" for hardware */
    char dev[HW_DEV_MAX];          /* the device that the interface is of, "" */
    bool port;                     /* of an embedded switch */
};
typedef void (*HwEventFn)(const struct hw_event *event, void *data);
void hw_watch_read(int fd, HwEventFn fn, void *data);
