/* hwops.h: what a backend of backend.h has to bring along: the calls that differ between the kernel's
 * NICs and a simulated one. For backend.c, kernel.c and sim.c only. Threads: any. */
#pragma once
#include "hw/backend.h"

struct hw_ops {
    HwInventory *(*inventory)(HwBackend *hw, GError **error);
    bool (*refresh_vf)(HwBackend *hw, HwInventory *inventory, guint vf, bool *ret_same,
                       GError **error);
    bool (*set_vf)(HwBackend *hw, const struct hw_pf *pf, guint vf, const struct hw_vf_props *props,
                   GError **error);
    bool (*bind_driver)(HwBackend *hw, const char *vf_dev, const char *driver, GError **error);
    bool (*add_vdpa)(HwBackend *hw, const struct hw_vdpa_new *want, struct hw_vdpa *ret_vdpa,
                     GError **error);
    bool (*del_vdpa)(HwBackend *hw, const char *name, GError **error);
    bool (*set_num_vfs)(HwBackend *hw, const struct hw_pf *pf, guint count, GError **error);
    bool (*set_eswitch)(HwBackend *hw, const struct hw_pf *pf, HwEswitch mode, GError **error);
    bool (*set_tc_offload)(HwBackend *hw, const struct hw_pf *pf, bool on, GError **error);
    /* Before each change of a network interface, which is the same call for both: a chance to fail
     * it. May be NULL. */
    bool (*before)(HwBackend *hw, const char *call, GError **error);
};

struct HwBackend {
    const struct hw_ops *ops;
    char *spec;  /* owned */
    char *where; /* owned: the root of sysfs, or the simulated NIC's directory */
};

extern const struct hw_ops kernel_ops, sim_ops;
