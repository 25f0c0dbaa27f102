/* vmconsole.h: a VM's serial console, what it has shown, and its display.
 * Threads: main loop, inside fibers; all but vmconsole_adopt() yield. */
#pragma once
#include "agent/vm/vm.h"

/* As instdriver.h has them. */
int vmconsole_open(Inst *inst, int *ret_token, GError **error);
char *vmconsole_log(Inst *inst, size_t *ret_size, GError **error);
bool vmconsole_clear(Inst *inst, GError **error);
/* Connected to QEMU's SPICE server. */
int vmconsole_display(Inst *inst, GError **error);
/* An earlier agent may have ended while somebody had the console. Comes back at once. */
void vmconsole_adopt(VmSession *vm);
