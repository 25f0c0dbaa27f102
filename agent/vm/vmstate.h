/* vmstate.h: the state of a VM on disk: stateful stop and snapshots.
 * Threads: main loop, inside fibers; all yield. */
#pragma once
#include "agent/vm/vm.h"

/* Writes device state, memory and layout of a paused VM to '<dir>/state', 'state.ram', 'state.json'; on
 * failure none of them is left. */
bool vmstate_save(VmSession *vm, const char *dir, GError **error);
/* The layout that is saved in 'dir' (a new reference), NULL and no error when there is no state. */
json_t *vmstate_layout(const char *dir, GError **error);
/* Fills the memory file that vm_memory_make() made with the saved memory. */
bool vmstate_fill_memory(const char *dir, const char *memory_path, GError **error);
/* Lets an incoming QEMU take the device state in 'path', and waits for the end of it. */
bool vmstate_load(VmSession *vm, const char *path, GError **error);
/* Removes the state; none is fine. */
void vmstate_drop(const char *dir);
