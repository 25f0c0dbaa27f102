/* pcidev.h: physical and virtual functions as devices on a bus: which there are, and which driver has
 * one. Threads: any. Binding blocks while drivers probe. */
#pragma once
#include "hw/inventory.h"

/* Appends the PCI devices that can have VFs, with what sysfs says of them. */
void pcidev_list_pfs(const char *sysfs, GArray *pfs);
/* Fills in what sysfs says of a PF whose bus and dev are set. */
void pcidev_read_pf(const char *sysfs, struct hw_pf *pf);
/* Appends the PF's VFs, with device, driver, NUMA node and IOMMU group; 'at' is the PF's index. */
void pcidev_list_vfs(const char *sysfs, const struct hw_pf *pf, guint at, GArray *vfs);
/* Whether the device is a VF. */
bool pcidev_is_vf(const char *sysfs, const char *bus, const char *dev);

/* As hw_bind_driver(). */
bool pcidev_bind(const char *dev, const char *driver, GError **error);
/* As hw_set_num_vfs(). */
bool pcidev_set_num_vfs(const struct hw_pf *pf, guint count, GError **error);
