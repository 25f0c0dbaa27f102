/* livestate.h: devices' state on its way to the QEMU of a live move's target.
 * Threads: main loop, inside fibers. */
#pragma once
#include "agent/move/movemux.h"

typedef struct LiveState LiveState;

/* Takes MOVEMUX_DEVICES of 'mux', which stays the caller's and must live longer; *ret_fd, the caller's, is what QEMU
 * is to read. With 'marks' the source marks where devices' state begins, and what comes before is let through at once. */
LiveState *livestate_new(MoveMux *mux, bool marks, int *ret_fd, GError **error);
/* The memory is whole: all of it may go. */
void livestate_release(LiveState *state);
/* NULL is fine. Yields. */
void livestate_free(LiveState *state);
