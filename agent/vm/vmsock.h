/* vmsock.h: unix sockets in a VM's run directory, however long its path is.
 * Threads: any. */
#pragma once
#include "base/error.h"
#include <sys/types.h>

/* A listening socket '<dir>/<name>', for QEMU to accept on; what was there is replaced. -1. */
int vmsock_listen(const char *dir, const char *name, GError **error);
/* The same, for a QEMU of user 'user' to connect to; the directory is nobody's but ours. */
int vmsock_listen_for(const char *dir, const char *name, uid_t user, GError **error);
/* Connected to it (never through a link: the directory may be QEMU's); NOT_FOUND when nobody made it, UNAVAILABLE when nobody listens. -1. */
int vmsock_connect(const char *dir, const char *name, GError **error);
