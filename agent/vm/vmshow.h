/* vmshow.h: GET …/state of a VM. Threads: main loop, inside fibers; yields. */
#pragma once
#include "agent/inst/inst.h"

/* cpu, memory, network, pid, processes: as the guest's agent says, else what the host can know. */
json_t *vmshow_state(Inst *inst);
/* Its NICs by device, as the guest would count them, from their host sides; a new reference. */
json_t *vmshow_network(Inst *inst);
