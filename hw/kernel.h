/* kernel.h: the inventory of a recorded machine, for tests and for looking at somebody else's hardware.
 * Threads: any. */
#pragma once
#include "hw/inventory.h"

/* root: "" for this machine, or what nldoor.h says. */
HwInventory *kernel_look(const char *root, GError **error);
/* This machine's, as ever; what the kernel answered is also written to DIRECTORY/netlink/<name>.nl. */
HwInventory *kernel_record(const char *directory, GError **error);
