/* vmsock.h: unix sockets in a VM's run directory, however long its path is.
 * Threads: any. */
#pragma once
#include "base/error.h"

/* A listening socket '<dir>/<name>', for QEMU to accept on; what was there is replaced. -1. */
int vmsock_listen(const char *dir, const char *name, GError **error);
/* Connected to it; NOT_FOUND when nobody made it, UNAVAILABLE when nobody listens. -1. */
int vmsock_connect(const char *dir, const char *name, GError **error);
