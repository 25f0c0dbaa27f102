/* liveswap.h: NICs that are a function of a host's hardware, for the time of a live move.
 * Threads: main loop, inside fibers; all yield. The instance's queue is held. */
#pragma once
#include "agent/inst/record.h"

/* Whether the NIC has software to stand in for its function: it is on an OVN network. */
bool liveswap_can(json_t *device);
/* Software stands in: each such NIC is unplugged, and comes back at its place as a tap with the same MAC. The guest
 * has to let go of it. What was swapped before a failure stays so until liveswap_back(). */
bool liveswap_out(Inst *inst, GError **error);
/* The target, before its QEMU starts: software stands in there. */
bool liveswap_expect(Inst *inst, GError **error);
/* The guest is here to stay: what stands in for a function gives way to one. A NIC that can't have it stays as it
 * is, which is logged. Repeats safely. */
void liveswap_back(Inst *inst);
