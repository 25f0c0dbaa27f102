/* vm.h: virtual machines that run: what others may know and do of one.
 * A session is there from the moment that QEMU answers until it has ended; it is found again after a
 * restart of the agent. Threads: main loop, inside fibers. */
#pragma once
#include "agent/inst/inst.h"
#include "agent/vm/qmp.h"

typedef struct VmSession VmSession;
/* Of a virtual machine that runs (or is incoming); NULL for others. Borrowed: look again after each
 * call that yields. */
VmSession *vm_session(Inst *inst);
/* Never NULL; !qmp_alive() once QEMU is gone. */
Qmp *vm_qmp(VmSession *vm);
Inst *vm_inst(VmSession *vm); /* borrowed */
pid_t vm_pid(VmSession *vm);
const char *vm_run_dir(VmSession *vm); /* <dir>/run/<project_inst> */

/* ---- memory ---- */
/* <dir>/memory/<project_inst>/ram: the guest's memory, a file of vm_memory_bytes() on a tmpfs or
 * hugetlbfs of its own. */
const char *vm_memory_path(VmSession *vm);
gint64 vm_memory_bytes(VmSession *vm);
/* Mounts and makes the (sparse) file before QEMU is there, for a sink to write to; what is there with
 * that size stays. The path is the caller's. 'page_bytes' 0: tmpfs, else hugetlbfs of that page size. */
bool vm_memory_make(Inst *inst, gint64 bytes, gint64 page_bytes, char **ret_path, GError **error);
/* Unmounts; not there is success. */
bool vm_memory_drop(Inst *inst, GError **error);

/* ---- the machine's shape: what a second QEMU must be like to take this one's state ---- */
/* {"machine":"pc-q35-7.2","cpu":"max","accel":"tcg","memory":bytes,"cpus":2,"cpus_max":8,"devices":{…}}, a
 * new reference. Also kept in <dir>/run/<project_inst>/layout.json. */
json_t *vm_layout(VmSession *vm);

/* ---- incoming: the second QEMU ----
 * Call in this order on the instance of the target, with its queue held (inst_hold()). State is
 * STARTING from begin to finish. On failure of begin, all is undone already. */
/* Everything of a start but the first instruction: volume, NICs, memory (kept when vm_memory_make() made
 * it), QEMU with -incoming defer and the given layout (of the source; borrowed), devices plugged. QEMU
 * waits for migrate-incoming; capabilities are the caller's to set. Yields. */
bool vm_incoming_begin(Inst *inst, json_t *layout, GError **error);
/* The guest runs here now (the caller has sent 'cont'): RUNNING, power state stored. Yields. */
bool vm_incoming_finish(Inst *inst, GError **error);
/* Kills that QEMU and undoes: STOPPED. Yields. */
void vm_incoming_abort(Inst *inst);
/* The source, after the guest runs elsewhere: QEMU ends, and what this host had for it; STOPPED, rows
 * stay. No lifecycle event. Yields. */
bool vm_outgoing_finish(Inst *inst, GError **error);
/* The device's place in the machine stays its own while it is unplugged, to come back to. NULL: of none. */
void vm_keep_place(VmSession *vm, const char *device);
/* Whether a paused guest is not to be taken for frozen: while a migration stops it on purpose. */
void vm_set_moving(VmSession *vm, bool moving);

/* ---- the guest's agent ---- */
/* Connected to the port GUESTWIRE_PORT of its virtio-serial bus; the caller's. One at a time.
 * CHARDEV events of QEMU are not needed: vm_guest_open() tells whether the guest has opened it. */
int vm_guest_connect(VmSession *vm, GError **error);
/* In QEMU, however long their paths: the run directory, and the one below it that QEMU may write. */
enum { VM_RUN_DIR_FD = 5, VM_OWN_DIR_FD = 6 };
#define VM_OWN_DIR "qemu"
bool vm_guest_open(VmSession *vm);

/* What the guest's agent adds to the life of a VM; set once, by vm_set_guest(). Members may be NULL. */
typedef struct {
    /* Before QEMU starts, the volume mounted at 'mount', with what the devices' starts gave (vmitem.h;
     * those of kind "share" are the guest agent's): appends to QEMU's arguments (a config share on PCI
     * addresses 8 to 15 of pcie.0), and to what it is handed (vmfds.h). Yields. */
    bool (*prepare)(Inst *inst, const char *mount, json_t *items, GPtrArray *argv, GArray *fds,
                    GError **error);
    /* What prepare() left, QEMU being gone; repeats safely. Yields. */
    void (*undo)(Inst *inst);
    /* A share comes or goes while the VM runs. Yields. */
    bool (*plug)(VmSession *vm, json_t *item, GError **error);
    bool (*unplug)(VmSession *vm, const char *device, GError **error);
    /* QEMU runs; also after an adoption, and on a target once it has taken over. Must not yield. */
    void (*attached)(VmSession *vm);
    /* The guest opened or closed its end of the port. Must not yield. */
    void (*port)(VmSession *vm, bool open);
    /* QEMU is gone, or gets another owner: let go. The session ends after this. Must not yield. */
    void (*gone)(VmSession *vm);
    /* Asks the guest to shut down; false when it cannot be asked: ACPI's button then. Yields. */
    bool (*shutdown)(VmSession *vm, GError **error);
    /* A command inside; its ExecOps are the guest agent's (inst/instdriver.h). Yields. */
    InstExec *(*exec)(VmSession *vm, const InstExecSpec *spec, GError **error);
    /* Driver's files and sftp (inst/instdriver.h). Yield. */
    bool (*files)(VmSession *vm, json_t *request, int body_fd, json_t **ret_reply, int *ret_fd,
                  GError **error);
    bool (*sftp)(VmSession *vm, int fd, GError **error);
    /* What the guest says of itself, for GET …/state: {"processes","network","memory",…}; NULL when it
     * says nothing. A new reference. Yields. */
    json_t *(*state)(VmSession *vm);
} VmGuest;
void vm_set_guest(const VmGuest *guest);
const VmGuest *vm_guest(void); /* never NULL */
