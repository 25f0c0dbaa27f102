/* tap.h: tap devices. Kernel: Documentation/networking/tuntap.rst. Threads: any. */
#pragma once
#include "base/error.h"

/* Removes a persistent tap that no process has open; not there is success, BUSY when one has. */
bool tap_remove(const char *name, GError **error);
