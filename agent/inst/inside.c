/* What runs or looks inside an instance, whichever its driver: the calls of inst.h.
 * Called by exec.c, console.c and others; main loop, inside fibers. */
#include "agent/inst/instdriver.h"

#include <string.h>

#include "agent/inst/record.h"

const Driver *
driver_of_type(const char *type)
{
    static const Driver *const drivers[] = {&driver_lxc, &driver_qemu};
    for (size_t i = 0; i < G_N_ELEMENTS(drivers); i++) {
        if (strcmp(type, drivers[i]->type) == 0) {
            return drivers[i];
        }
    }
    return NULL;
}

static const Driver *
driver_of(Inst *inst)
{
    return driver_of_type(inst->type);
}

static bool
need_running(Inst *inst, GError **error)
{
    return inst_pid(inst) != 0 || haw_fail(error, HAW_CONFLICT, "Instance is not running");
}

InstExec *
inst_exec_start(Inst *inst, const InstExecSpec *spec, GError **error)
{
    return need_running(inst, error) ? driver_of(inst)->exec(inst, spec, error) : NULL;
}

pid_t
inst_exec_pid(InstExec *exec)
{
    return exec->ops->pid(exec);
}

void
inst_exec_signal(InstExec *exec, int number)
{
    exec->ops->signal(exec, number);
}

void
inst_exec_resize(InstExec *exec, int width, int height)
{
    if (exec->ops->resize != NULL) {
        exec->ops->resize(exec, width, height);
    }
}

bool
inst_exec_wait(InstExec *exec, GCancellable *cancel, int *ret_code, GError **error)
{
    return exec->ops->wait(exec, cancel, ret_code, error);
}

void
inst_exec_free(InstExec *exec)
{
    if (exec != NULL) {
        exec->ops->free(exec);
    }
}

int
inst_console_open(Inst *inst, int *ret_token, GError **error)
{
    return need_running(inst, error) ? driver_of(inst)->console(inst, ret_token, error) : -1;
}

char *
inst_console_log(Inst *inst, size_t *ret_size, GError **error)
{
    return driver_of(inst)->console_log(inst, ret_size, error);
}

bool
inst_console_clear(Inst *inst, GError **error)
{
    return driver_of(inst)->console_clear(inst, error);
}
