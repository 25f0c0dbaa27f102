/* polltrace.h: packets as a core judges them, for who wants to see some: a filter and a ring.
 * Threads: polltrace_see() and polltrace_tell() on the core; polltrace_take() the control thread. */
#pragma once
#include "dataplane/fast/engine.h"

#include <stdbool.h>
#include <stdint.h>

#define POLLTRACE_ROOM 4096 /* a power of two */

struct polltrace_want {
    uint32_t nic;    /* 0: any */
    uint32_t family; /* 4 or 6: either end is 'address'; 0: any */
    __be32 address[4];
};

struct polltrace {
    struct polltrace_want want;
    uint32_t head; /* the core's; atomic */
    uint32_t tail; /* the control thread's; atomic */
    uint64_t lost; /* the core's */
    struct layout_event burst[ENGINE_BURST];
    struct layout_event ring[POLLTRACE_ROOM];
};

/* Frames of a burst before they are judged, which may rewrite them. */
void polltrace_see(struct polltrace *trace, uint64_t now_ns, uint16_t nic,
                   const struct engine_frame *frames, uint32_t count);
/* What became of frame 'index'; 'out': it came out of the slow path. */
void polltrace_tell(struct polltrace *trace, uint32_t index, uint8_t reason, bool out);
/* The oldest one; false: none. */
bool polltrace_take(struct polltrace *trace, struct layout_event *ret_event);
