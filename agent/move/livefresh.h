/* livefresh.h: NICs of a copy of a running guest, which woke up with the addresses of the guest that it was made from.
 * Threads: main loop, inside fibers; both yield. */
#pragma once
#include "agent/inst/record.h"

/* The copy's QEMU has all state, and nothing of it runs: its NICs are unplugged from the network, as the guest sees it. */
bool livefresh_cut(Inst *inst, GError **error);
/* In the background, once its queue is free: each such NIC is taken out, and comes again with the copy's own address. */
void livefresh_start(Inst *inst);
