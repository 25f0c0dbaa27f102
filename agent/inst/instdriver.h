/* instdriver.h: what starts and stops a kind of instance. lxc.c is one; qemu comes beside it.
 * Threads: main loop, inside fibers. */
#pragma once
#include "agent/inst/inst.h"

/* Members marked "NULL" may be; the caller then does without. */
typedef struct Driver {
    const char *type; /* of the instances it drives */
    /* Whether inst->pid has a parent whose end is the instance's (liblxc's monitor), and control groups
     * of its own. */
    bool monitored, grouped;
    /* All of a start, from the run directory to a running guest with lifecycle_attach() done. On failure
     * nothing runs; start_undo() takes back the rest. Yields. */
    bool (*start)(Inst *inst, GError **error);
    /* What only this driver made, beside devices and volume; repeats safely. Yields. NULL. */
    void (*undo)(Inst *inst);
    /* Asks the guest to shut down: returns at once. */
    bool (*halt)(Inst *inst, GError **error);
    bool (*kill)(Inst *inst, GError **error);
    bool (*freeze)(Inst *inst, bool frozen, GError **error); /* Yields. */
    bool (*frozen)(Inst *inst);                              /* as it really is; Yields. */
    /* The pid of one that an earlier agent started; 0 when it does not run. Yields. */
    pid_t (*probe)(Inst *inst);
    /* After lifecycle_attach() of such a one. Yields. NULL. */
    bool (*adopt)(Inst *inst, GError **error);
    /* The instance is let go of, whether it runs on or not. Comes back at once. NULL. */
    void (*forget)(Inst *inst);
    /* Into and out of the running guest, what a device's start made on the host ('item': vm/vmitem.h).
     * NULL: a device's own plug and unplug do it. Yields. */
    bool (*plug)(Inst *inst, json_t *item, GError **error);
    bool (*unplug)(Inst *inst, const char *device, json_t *config, GError **error);
    /* Which keys of the config may change while it runs. NULL: those that the keys' tables say. */
    bool (*may_change)(Inst *inst, json_t *from, json_t *to, GError **error);
    /* The running guest follows from one expanded config to another. Yields. */
    bool (*change)(Inst *inst, json_t *from, json_t *to, GError **error);
    /* cpu, memory, network, pid, processes of GET …/state, a new reference. Yields. */
    json_t *(*state)(Inst *inst);
    /* Whether terminals are the guest's: a command's are one stream, and sizes go to exec->ops. */
    bool own_terminals;
    InstExec *(*exec)(Inst *inst, const InstExecSpec *spec, GError **error); /* Yields. */
    /* inst_console_open(), inst_console_log(), inst_console_clear(). Yield. */
    int (*console)(Inst *inst, int *ret_token, GError **error);
    char *(*console_log)(Inst *inst, size_t *ret_size, GError **error);
    bool (*console_clear)(Inst *inst, GError **error);
    /* Connected to the display; -1. NULL: it has none. Yields. */
    int (*display)(Inst *inst, GError **error);
    /* One request on files as forkfile.c understands it ('request' is stolen; 'body_fd' -1 for none).
     * NULL: by the instance's root. Yields. */
    bool (*files)(Inst *inst, json_t *request, int body_fd, json_t **ret_reply, int *ret_fd,
                  GError **error);
    /* Serves SFTP on 'fd' until its end. NULL: by the instance's root. Yields. */
    bool (*sftp)(Inst *inst, int fd, GError **error);
    /* Pauses the running guest and saves its state into its volume; lets it run on. NULL: it can't.
     * Yields. */
    bool (*save)(Inst *inst, GError **error);
    bool (*resume)(Inst *inst, GError **error);
    /* Forgets a saved state, the volume mounted or not; none is fine. Yields. NULL. */
    void (*drop_state)(Inst *inst);
} Driver;

/* A command inside; each driver's own begins with this. */
struct InstExec {
    const struct ExecOps *ops;
};
typedef struct ExecOps {
    pid_t (*pid)(InstExec *exec); /* on the host; 0: it has none */
    void (*signal)(InstExec *exec, int number);
    void (*resize)(InstExec *exec, int width, int height); /* NULL: the caller has the terminal */
    bool (*wait)(InstExec *exec, GCancellable *cancel, int *ret_code, GError **error);
    void (*free)(InstExec *exec);
} ExecOps;

extern const Driver driver_lxc, driver_qemu;
/* The driver of a type; NULL for an unknown one. */
const Driver *driver_of_type(const char *type);
/* Helper processes: 'hawserd forkcgroup …', 'hawserd forkexec …'. Each returns an exit status. */
int forklxc_cgroup(int argc, char **argv);
int forklxc_exec(int argc, char **argv);
/* argv[1] to argv[3]: name, liblxc's directory, configuration file. The caller's to put; NULL. */
struct lxc_container;
struct lxc_container *forklxc_load(char **argv, GError **error);
