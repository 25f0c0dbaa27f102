/* offload.h: what an interface leaves to hardware that is not there: checksums, merged packets.
 * Threads: any; interfaces of the calling thread's network namespace. Calls block shortly. */
#pragma once
#include "base/error.h"

/* With false, packets leave the interface with complete checksums, and cut into frames: for a peer that
 * reads raw frames. Stays with the interface when it moves to another namespace. */
bool offload_set_checksum(const char *ifname, bool on, GError **error);
/* 1, 0; -1 where the interface does not say. */
int offload_get_checksum(const char *ifname);
/* With false, packets come in as they were on the wire, not merged into larger ones. */
bool offload_set_merge(const char *ifname, bool on, GError **error);
