/* Deleting an instance.
 * W1  The row goes last: as long as it is there, a crash leaves an instance that can be deleted
 *     again; vol_delete() of a volume that is gone already is no error.
 * W2  A stopped instance without a volume is a deletion that a crash cut short: the next start ends it.
 * W3  A directory that no row of a volume knows is not ours to delete (store/unknown.h).
 * Called by api/instances.c, lifecycle.c (ephemeral ones) and create.c (undo). Main loop. */
#include "agent/inst/discard.h"
#include "agent/image/image.h"
#include "agent/inst/instbackup.h"
#include "agent/inst/plug.h"
#include "base/crash.h"
#include "base/fd.h"
#include "base/log.h"

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

/* A pool that is not available keeps its rows, so its instances are not meant. */
static bool
lacks_row(Inst *inst, const Vol *vol)
{
    g_autoptr(GError) error = NULL;
    json_auto_t *config = vol_config(inst->agent->pools, vol, &error);
    return config == NULL && haw_code(error) == HAW_NOT_FOUND;
}

bool
discard_instance(Inst *inst, GError **error)
{
    Vol vol;
    g_autoptr(GError) local = NULL;
    crash_point("delete");
    if (inst_volume(inst, &vol, NULL) && pool_exists(inst->agent->pools, vol.pool) &&
        !lacks_row(inst, &vol) && /* W3 */
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

/* W2 */
static bool
has_lost_volume(Inst *inst)
{
    Vol vol;
    return inst_pid(inst) == 0 && inst_volume(inst, &vol, NULL) &&
           pool_exists(inst->agent->pools, vol.pool) && lacks_row(inst, &vol);
}

void
discard_unfinished(InstTable *table)
{
    g_autoptr(GPtrArray) all = inst_list(table, NULL);
    for (guint i = 0; i < all->len; i++) {
        Inst *inst = all->pdata[i];
        g_autoptr(GError) error = NULL;
        if (!has_lost_volume(inst)) {
            continue;
        }
        haw_info("inst.deletion_finished", KS("inst", inst->name), KS("project", inst->project));
        if (!discard_instance(inst, &error)) {
            haw_warn("inst.unfinished", KS("inst", inst->name), KS("why", error->message));
        }
    }
}
