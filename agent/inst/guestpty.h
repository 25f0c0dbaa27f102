/* guestpty.h: a pseudo terminal of a running container's own devpts.
 * Threads: main loop, inside fibers. */
#pragma once
#include "base/error.h"
#include <sys/types.h>

/* Both ends, the slave owned by 'uid' inside; from the host's devpts when the container has none.
 * Yields. */
bool guestpty_open(pid_t pid, guint uid, int *ret_master, int *ret_slave, GError **error);
