/* livenative.h: a guest's memory by QEMU's own migration, over several connections (multifd), where hawser-pages can't
 * carry it. Threads: main loop, inside fibers. */
#pragma once
#include "agent/move/liveoutobj.h"

/* ---- source ---- */
/* Memory and devices' state; the guest stands still at the end. Yields. */
bool livenative_send(LiveOut *live, GError **error);

/* ---- target ---- */
typedef struct LiveNative LiveNative;
/* How many connections beside the main one: QEMU takes several only from a machine of the same uuid. */
guint livenative_channels(const struct live_hello *hello, bool copy);
/* QEMU listens, and each stream of the move comes to it as a connection. Nothing of the arguments
 * is kept. Yields. */
LiveNative *livenative_take(VmSession *vm, MoveMux *mux, guint channels, GError **error);
/* NULL is fine. Yields. */
void livenative_free(LiveNative *native);
