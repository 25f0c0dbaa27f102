/* vmmeter.h: what the host can measure of a virtual machine whose guest does not answer.
 * Threads: main loop, inside fibers. */
#pragma once
#include "agent/inst/inst.h"

/* In the form of the guest's own account (metrics/vmprobe.c): {"cpu","disk","memory","network"}; a new reference,
 * NULL when it does not run. Yields. */
json_t *vmmeter_account(Inst *inst);
