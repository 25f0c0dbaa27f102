/* nicmove.h: interfaces of the host, moved into an instance and back.
 * Threads: main loop, inside fibers. */
#pragma once
#include "agent/net/nicuse.h"

/* Whether the interface is the host's and comes back at the stop: by its kind, or as a function. */
bool nicmove_gives_back(const NicUse *use);
/* The network namespace of a process, the caller's to close; -1. Any thread. */
int nicmove_netns(pid_t pid, GError **error);
/* 'link' goes to the namespace, under the NIC's name, and up; NULL: what has been made there comes up.
 * Yields. */
bool nicmove_in(const NicUse *use, const char *link, int netns, GError **error);
/* Back from the instance's namespace, which is pid's, or was kept (pid 0). Not there is success. Yields. */
bool nicmove_back(NicUse *use, pid_t pid, GError **error);
