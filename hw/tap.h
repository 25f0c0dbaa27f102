/* tap.h: tap devices. Kernel: Documentation/networking/tuntap.rst. Threads: any. */
#pragma once
#include "base/error.h"

/* Makes a persistent tap that may have several queues and carries virtio headers; down. EXISTS when the
 * name is taken. */
bool tap_make(const char *name, GError **error);
/* One more queue of it, for QEMU; the caller's. -1. */
int tap_open(const char *name, GError **error);
/* Removes a persistent tap that no process has open; not there is success, BUSY when one has. */
bool tap_remove(const char *name, GError **error);
