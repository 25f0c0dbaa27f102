/* vmsev.h: AMD's encrypted memory for VMs. Threads: main loop, inside fibers. */
#pragma once
#include "agent/inst/inst.h"

/* What QEMU's sev-guest object is to be given (vmmachine.h), a new reference; NULL when security.sev is
 * unset. UNSUPPORTED with what is missing when this host can't. Yields. */
bool vmsev_prepare(Inst *inst, json_t **ret_sev, GError **error);
