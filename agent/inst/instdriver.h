/* instdriver.h: what starts and stops a kind of instance. lxc.c is one; qemu comes beside it.
 * Threads: main loop, inside fibers. */
#pragma once
#include "agent/inst/inst.h"

typedef struct Driver {
    const char *type; /* of the instances it drives */
    /* Runs what 'conf' (a file) describes. Returns once init runs; *ret_pid is init's. Yields. */
    bool (*start)(Inst *inst, const char *conf, pid_t *ret_pid, GError **error);
    /* Asks init to shut down, or to reboot nothing: returns at once. */
    bool (*halt)(Inst *inst, GError **error);
    bool (*kill)(Inst *inst, GError **error);
    bool (*freeze)(Inst *inst, bool frozen, GError **error); /* Yields. */
    /* Init's pid of one that an earlier agent started; 0 when it does not run. Yields. */
    pid_t (*probe)(Inst *inst);
} Driver;

extern const Driver driver_lxc;
/* The driver of a type; NULL when there is none yet. */
const Driver *driver_of_type(const char *type);

/* Helper processes: 'hawserd forkstart …', 'hawserd forkexec …'. Each returns an exit status. */
int forklxc_cgroup(int argc, char **argv);
int forklxc_start(int argc, char **argv);
int forklxc_exec(int argc, char **argv);
