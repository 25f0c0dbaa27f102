/* vmshare.h: directories of the host that a virtual machine sees: 9p by QEMU itself, virtiofs by a daemon.
 * Threads: main loop, inside fibers. */
#pragma once
#include "agent/inst/inst.h"
#include "agent/vm/vm.h"

typedef struct {
    const char *name; /* of the device; "config" */
    const char *tag;  /* what the guest mounts; at most 31 bytes */
    const char *path;
    const char *target; /* where the guest mounts it; NULL: it does not */
    bool readonly;
    bool own;      /* QEMU's user owns it, and may serve it itself */
    bool virtiofs; /* beside 9p; not for a VM that may move: vhost-user-fs can't */
} VmShare;

/* Appends the arguments of the index-th share, and to what QEMU is handed (vmfds.h); starts its daemons.
 * Yields. */
bool vmshare_add(Inst *inst, const VmShare *share, guint index, GPtrArray *argv, GArray *fds,
                 GError **error);
/* Into a running VM, and out of it: by virtiofs, as QEMU can't plug 9p. Yield. */
bool vmshare_plug(VmSession *vm, const VmShare *share, GError **error);
bool vmshare_unplug(VmSession *vm, const char *name, GError **error);
/* The device is a share since the start. */
void vmshare_note(VmSession *vm, const char *name);
/* Where the guest has mounted one that was plugged in; caller frees. */
char *vmshare_target(VmSession *vm, const char *name);
/* Whether the device is a share of the running machine. */
bool vmshare_known(VmSession *vm, const char *name);
/* Ends what is left of daemons, QEMU being gone. Yields. */
void vmshare_stop_all(Inst *inst);
