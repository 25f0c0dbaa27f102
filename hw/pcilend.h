/* pcilend.h: a PCI device of the host, lent to a virtual machine: vfio-pci has it meanwhile, then its own
 * driver again. Threads: any; blocks while drivers probe. */
#pragma once
#include "base/error.h"

/* The PCI device of a network interface ("0000:00:03.0"); UNSUPPORTED for one that is none. Caller frees. */
char *pcilend_of_netdev(const char *ifname, GError **error);
/* Gives 'dev' to vfio-pci; 'note' is the file that says so until pcilend_back(). On failure the device is
 * as it was. UNSUPPORTED without an IOMMU, CONFLICT when it shares its group with what the host uses. */
bool pcilend_give(const char *dev, const char *note, GError **error);
/* What 'note' names is given back to its own driver. Repeats safely: no note, nothing lent. */
bool pcilend_back(const char *note, GError **error);
