/* nicmove.h: interfaces of the host, moved into an instance and back.
 * Threads: main loop, inside fibers. */
#pragma once
#include "agent/net/nicuse.h"

/* Whether the interface is the host's and comes back at the stop: by its kind, or as a function. */
bool nicmove_gives_back(const NicUse *use);
/* 'link' goes to the namespace of 'pid', under the NIC's name, and up. Yields. */
bool nicmove_in(const NicUse *use, const char *link, pid_t pid, GError **error);
/* Back from the instance's namespace, which is pid's, or was kept (pid 0). Not there is success. Yields. */
bool nicmove_back(NicUse *use, pid_t pid, GError **error);
