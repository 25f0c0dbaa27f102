/* unixctl.h: commands to OVS and OVN daemons over their control sockets, as ovs-appctl gives them.
 * Threads: main loop, inside fibers. */
#pragma once
#include "base/error.h"

/* "dpctl/show" with arguments up to NULL; the daemon's text, caller frees. UNAVAILABLE when nobody
 * listens at 'path'. Yields. */
char *unixctl_call(const char *path, GError **error, const char *command,
                   ...) G_GNUC_NULL_TERMINATED;
