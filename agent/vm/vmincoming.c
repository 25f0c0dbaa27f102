/* The second QEMU of a VM that moves here, and the end of the first one: what agent/move needs of a VM's
 * life. The order of a move is agent/move's; here is only what has to fit the instance's states and rows.
 * Called by agent/move. Main loop. */
#include <string.h>

#include "agent/inst/lifecycle.h"
#include "agent/inst/plug.h"
#include "agent/inst/start.h"
#include "agent/vm/vmrun.h"
#include "base/log.h"

static bool
begin(Inst *inst, void *data, GError **error)
{
    VmBoot how = {.layout = data, .incoming = true};
    return vmboot_run(inst, &how, error);
}

bool
vm_incoming_begin(Inst *inst, json_t *layout, GError **error)
{
    if (inst->state != INST_STOPPED) {
        return haw_fail(error, HAW_CONFLICT, "The instance is already running");
    }
    if (strcmp(inst->type, "virtual-machine") != 0) {
        return haw_fail(error, HAW_INVALID, "\"%s\" is no virtual machine", inst->name);
    }
    return start_by(inst, begin, layout, error);
}

bool
vm_incoming_finish(Inst *inst, GError **error)
{
    if (inst->vm == NULL) {
        return haw_fail(error, HAW_FAILED, "QEMU ended before the guest ran");
    }
    inst->vm->incoming = false;
    inst->vm->moving = false;
    inst_move(inst, INST_RUNNING);
    if (!inst_set_config(inst, json_pack("{s:s}", "volatile.last_state.power", "RUNNING"), error)) {
        return false;
    }
    if (inst->vm != NULL && vm_guest()->attached != NULL) {
        vm_guest()->attached(inst->vm);
    }
    g_autoptr(GError) local = NULL;
    if (!plug_post_start_all(
            inst, &local)) { /* the guest runs: a proxy that does not is no reason to stop */
        haw_warn("vm.post_start", KS("inst", inst->name), KS("why", local->message));
    }
    return true;
}

void
vm_incoming_abort(Inst *inst)
{
    vmprocess_kill(inst);
    if (inst->state == INST_STARTING) {
        start_undo(inst, "STOPPED");
        inst_move(inst, INST_STOPPED);
    }
}

bool
vm_outgoing_finish(Inst *inst, GError **error)
{
    return lifecycle_kill(inst, error);
}
