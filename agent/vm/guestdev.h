/* guestdev.h: /dev/lxd/sock of a virtual machine: what its guest asks is answered by devlxd.c, as for a
 * container. Threads: main loop, inside fibers. */
#pragma once
#include "agent/inst/inst.h"
#include "agent/vm/guestlink.h"

/* Serves the guest that has greeted, until the link has lost it. Yields, for as long. */
void guestdev_serve(Inst *inst, GuestLink *link);
