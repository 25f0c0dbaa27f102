/* livememory.h: the memory of a live move's source, by hawser-pages.
 * Threads: main loop, inside fibers. */
#pragma once
#include "agent/move/liveoutobj.h"

/* All of it, in rounds; the guest stands still at the end, and devices' state is on its way. Yields. */
bool livememory_send(LiveOut *live, GError **error);
