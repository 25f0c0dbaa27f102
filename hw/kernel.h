/* kernel.h: the inventory of a recorded machine, for tests and for looking at somebody else's hardware.
 * Threads: any. */
#pragma once
#include "hw/inventory.h"

/* root: "" for this machine, or what nldoor.h says. */
HwInventory *kernel_look(const char *root, GError **error);
