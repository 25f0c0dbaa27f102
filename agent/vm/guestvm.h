/* guestvm.h: the agent inside a virtual machine, as part of the VM's life (vm.h VmGuest).
 * Threads: main loop, inside fibers. */
#pragma once
#include "agent/vm/guestlink.h"
#include "agent/vm/vm.h"

/* For vm_set_guest(), once. */
extern const VmGuest guestvm;
/* The session with the guest of a VM that runs; a reference, NULL for others. */
GuestLink *guestvm_link(Inst *inst);
/* What the guest counts: guestask_metrics(); NULL when it says nothing, or security.agent.metrics is false.
 * Yields. */
json_t *guestvm_metrics(Inst *inst);
