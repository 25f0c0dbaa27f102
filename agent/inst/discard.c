/* Deleting an instance.
 * W1  The row goes last: as long as it is there, a crash leaves an instance that can be deleted
 *     again; vol_delete() of a volume that is gone already is no error.
 * Called by api/instances.c, lifecycle.c (ephemeral ones) and create.c (undo). Main loop. */
#include "agent/inst/discard.h"
#include "agent/image/image.h"
#include "agent/inst/instbackup.h"
#include "agent/inst/plug.h"
#include "base/crash.h"
#include "base/fd.h"

#include <string.h>
#include <unistd.h>

void
discard_files(Agent *agent, const char *object)
{
    g_autofree char *logs = agent_path(agent, "logs/%s", object);
    g_autofree char *run = agent_path(agent, "run/%s", object);
    g_autofree char *devices = agent_path(agent, "devices/%s", object);
    g_autofree char *seccomp = agent_path(agent, "security/seccomp/%s", object);
    fd_remove_tree(logs, NULL);
    fd_remove_tree(run, NULL);
    fd_remove_tree(devices, NULL);
    unlink(seccomp);
    instbackup_follow(agent, object, NULL);
}

bool
discard_instance(Inst *inst, GError **error)
{
    Vol vol;
    g_autoptr(GError) local = NULL;
    crash_point("delete");
    if (inst_volume(inst, &vol, NULL) && pool_exists(inst->agent->pools, vol.pool) &&
        !vol_delete(inst->agent->pools, &vol, &local) && haw_code(local) != HAW_NOT_FOUND) {
        g_propagate_error(error, g_steal_pointer(&local));
        return haw_push(error, "Error deleting storage volume");
    }
    crash_point("delete");
    discard_files(inst->agent, inst->object);
    plug_forget_all(inst);
    crash_point("delete");
    if (!record_delete(inst, error)) { /* W1 */
        return haw_push(error, "Failed deleting instance record");
    }
    crash_point("delete");
    inst_lifecycle(inst, NULL, "instance-deleted");
    return true;
}
