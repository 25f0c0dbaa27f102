/* vmrun.h: the body of a running VM, for the files of this folder.
 * Threads: main loop, inside fibers. */
#pragma once
#include "agent/inst/record.h"
#include "agent/vm/vm.h"

struct VmSession {
    Inst *inst; /* borrowed: it owns the session */
    Qmp *qmp;   /* owned */
    pid_t pid;
    char *run_dir, *memory_path;
    json_t *layout;       /* owned, changed in place; nobody else keeps it */
    char *kept;           /* vm_keep_place() */
    GHashTable *deleted;  /* ids of devices that QEMU says are gone */
    FiberSignal happened; /* an event came, or the session ended */
    bool incoming;        /* waits for another QEMU's state */
    bool moving;          /* vm_set_moving() */
    bool guest_open, was_reset;
    struct GuestVm *guest; /* guestvm.c's */
    bool console_taken;    /* somebody has the serial console */
};

/* ---- vmsession.c ---- */
/* Connects to the QMP socket of the QEMU that runs as 'pid', and puts the session into the instance.
 * Takes 'layout'. Yields. */
bool vmsession_open(Inst *inst, pid_t pid, json_t *layout, gint64 wait_ms, GError **error);
/* Ends it; none is fine. Comes back at once. */
void vmsession_end(Inst *inst);
/* layout.json in the run directory, as the layout is now; what can't be written is logged. */
void vmsession_store_layout(VmSession *vm);
/* NULL when there is none. */
json_t *vmsession_load_layout(const char *run_dir);
/* A line of the instance's own log (qemu.log): what its operator ought to know. */
void vmsession_note(Inst *inst, const char *text);
/* Waits until QEMU says that a device is gone. Yields. */
bool vmsession_await_gone(VmSession *vm, const char *id, gint64 wait_ms, GError **error);

/* ---- vmmemory.c ---- */
char *vmmemory_dir(Inst *inst);

/* ---- vmboot.c ---- */
typedef struct {
    json_t *layout;         /* given (borrowed), or NULL for a fresh one */
    const char *state_path; /* device state to begin from; NULL: none */
    const char *state_dir;  /* of it, with the memory (vmstate.h) */
    bool incoming;          /* stop before the state arrives */
} VmBoot;
/* All of a start, up to RUNNING's door: on failure nothing of QEMU runs (start_undo() does the rest).
 * Yields. */
bool vmboot_run(Inst *inst, const VmBoot *boot, GError **error);
/* What start_undo() has to take back beside devices and volume. Yields. */
void vmboot_undo(Inst *inst);

/* ---- vmsettle.c ---- */
/* Plugs 'items', numbers the boot order, and lets the guest begin, or wait for a state. Yields. */
bool vmsettle_run(VmSession *vm, json_t *items, GError **error);

/* ---- vmprocess.c ---- */
/* Kills what there is of QEMU, and waits for its end. Yields. */
void vmprocess_kill(Inst *inst);
/* Writes run/NAME/qemu.pid. */
bool vmprocess_note(Inst *inst, pid_t pid, GError **error);
/* The pid in run/NAME/qemu.pid when that is a live QEMU of this instance, else 0. */
pid_t vmprocess_find(Inst *inst);

/* ---- vmcpu.c ---- */
/* Threads to CPUs as limits.cpu says, and one core scheduling cookie for all. Yields. */
bool vmcpu_settle(VmSession *vm, GError **error);
/* limits.cpu from one count to another on a running VM. Yields. */
bool vmcpu_change(VmSession *vm, int count, GError **error);
/* limits.memory on a running VM, by its balloon. Yields. */
bool vmcpu_balloon(VmSession *vm, const char *limit, GError **error);

/* ---- vmplug.c ---- */
/* Into QEMU: 'item' is what a device's start gave (vmitem.h). Yields. */
bool vmplug_add(VmSession *vm, json_t *item, GError **error);
/* Out of it; not there is success. Yields. */
bool vmplug_remove(VmSession *vm, const char *device, json_t *config, GError **error);

/* ---- vmtpm.c ---- */
/* Starts swtpm with its state in 'state_dir'; *ret_fd is a connected socket. Yields. */
bool vmtpm_start(Inst *inst, const char *device, const char *state_dir, int *ret_fd,
                 GError **error);
/* Ends it; none is fine. Yields. */
void vmtpm_stop(Inst *inst, const char *device);
