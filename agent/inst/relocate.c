/* Moves within the server.
 * L1  The instance stays itself (row, id, addresses, backups): its volume is copied to where it shall be,
 *     one transaction makes the instance's rows say so, and the old volume is deleted.
 * L2  The journal names both volumes until then. At start the one that the instance's rows do not name
 *     is deleted, whichever it is.
 * Called by api/instance_move.c; relocate_repair() by journal.c. */
#include "agent/inst/relocate.h"

#include "agent/auth/project.h"
#include "agent/inst/backupfile.h"
#include "agent/inst/create.h"
#include "agent/inst/instbackup.h"
#include "agent/inst/journal.h"
#include "agent/inst/plug.h"
#include "agent/store/shelf.h"
#include "base/crash.h"
#include "base/log.h"
#include "proto/keys.h"

#include <stdio.h>
#include <string.h>

InstRow *
relocate_row(Inst *inst, const char *pool, const char *project, const char *name, GError **error)
{
    g_autoptr(InstRow) row = record_row(inst);
    g_free(row->project);
    g_free(row->name);
    row->project = g_strdup(project);
    row->name = g_strdup(name);
    if (pool != NULL) {
        json_t *devices = plug_root_on_pool(row->devices, inst->expanded_devices, pool, error);
        if (devices == NULL) {
            return NULL;
        }
        json_decref(row->devices);
        row->devices = devices;
    }
    return g_steal_pointer(&row);
}

/* ---- the one transaction: L1 ---- */

struct switching {
    const InstRow *row;
    GPtrArray *snaps; /* with their devices changed; NULL: they go */
    const char *profile_project;
    gint64 from_volume, to_volume;
};

static bool
switch_tx(DbTx *tx, void *data, GError **error)
{
    struct switching *job = data;
    if (!inst_rows_move(tx, job->row, job->profile_project, error) ||
        !inst_rows_move_backups(tx, job->from_volume, job->to_volume, error)) {
        return false;
    }
    if (job->snaps == NULL) {
        return inst_rows_snapshots_delete_all(tx, job->row->id, error);
    }
    for (guint i = 0; i < job->snaps->len; i++) {
        if (!inst_rows_snapshot_devices(tx, job->snaps->pdata[i], error)) {
            return false;
        }
    }
    return true;
}

static gint64
volume_id(Inst *inst, const Vol *vol, GError **error)
{
    VolumeWhich which = shelf_which(vol);
    g_autoptr(VolumeRow) row = volumes_get(inst->agent->db, &which, error);
    return row != NULL ? row->id : -1;
}

/* Snapshots with a root disk of their own follow to the pool. */
static void
move_snapshot_roots(GPtrArray *snaps, const char *pool)
{
    for (guint i = 0; i < snaps->len; i++) {
        SnapRow *snap = snaps->pdata[i];
        json_t *devices = plug_root_on_pool(snap->devices, snap->devices, pool, NULL);
        if (devices != NULL) {
            json_decref(snap->devices);
            snap->devices = devices;
        }
    }
}

static bool
switch_rows(Inst *inst, const InstRow *row, const Vol *from, const Vol *to, bool instance_only,
            GError **error)
{
    struct switching job = {.row = row,
                            .profile_project = project_for_profiles(inst->agent, row->project),
                            .from_volume = volume_id(inst, from, error)};
    job.to_volume = job.from_volume > 0 ? volume_id(inst, to, error) : -1;
    g_autoptr(GPtrArray) snaps = job.to_volume > 0 ? record_snapshots(inst, error) : NULL;
    if (snaps == NULL) {
        return false;
    }
    move_snapshot_roots(snaps, to->pool);
    job.snaps = instance_only ? NULL : snaps;
    return db_write(inst->agent->db, switch_tx, &job, error) && record_moved(inst, row, error);
}

/* ---- the move ---- */

static json_t *
place_json(const Vol *vol)
{
    return json_pack("{s:s,s:s,s:s}", "pool", vol->pool, "project", vol->project, "name",
                     vol->name);
}

static void
move_files(Agent *agent, const char *from_object, const char *to_object)
{
    g_autofree char *from = agent_path(agent, "logs/%s", from_object);
    g_autofree char *to = agent_path(agent, "logs/%s", to_object);
    if (strcmp(from_object, to_object) != 0) {
        rename(from, to);
        instbackup_follow(agent, from_object, to_object);
    }
}

static bool
carry_over(Inst *inst, Operation *op, const InstRow *row, const Vol *from, const Vol *to,
           bool instance_only, GError **error)
{
    PoolTable *pools = inst->agent->pools;
    g_autofree char *old_object = g_strdup(inst->object);
    if (!vol_copy(pools, from, to, !instance_only, op_cancel(op), error)) {
        return false;
    }
    crash_point("move");
    if (!switch_rows(inst, row, from, to, instance_only, error)) {
        vol_delete(pools, to, NULL);
        return false;
    }
    crash_point("move");
    move_files(inst->agent, old_object, inst->object);
    crash_point("move");
    g_autoptr(GError) late = NULL;
    if (!vol_delete(pools, from, &late)) { /* it has moved: what is left is waste */
        haw_warn("inst.move_left", KS("inst", inst->name), KS("pool", from->pool),
                 KS("why", late->message));
    }
    return true;
}

static bool
check_target(Inst *inst, const InstRow *row, GError **error)
{
    g_autoptr(Inst) other = inst_find(inst->agent->instances, row->project, row->name, NULL);
    if (other != NULL && other != inst) {
        return haw_fail(error, HAW_EXISTS, "Name \"%s\" already in use", row->name);
    }
    return create_check(inst->agent, row->project, row->name, row->type, inst, row->profiles,
                        row->config, row->devices, error);
}

/* The volume's place as 'row' has it; the pool's name lives in *ret_devices. */
static bool
target_volume(Inst *inst, const InstRow *row, const Vol *from, Vol *ret_to, json_t **ret_devices,
              GError **error)
{
    json_t *config, *devices;
    const char *name;
    if (!record_expand(inst->agent, row->project, row->profiles, row->config, row->devices, &config,
                       &devices, error)) {
        return false;
    }
    json_decref(config);
    json_t *root = plug_root(devices, &name, error);
    if (root == NULL) {
        json_decref(devices);
        return false;
    }
    *ret_to = *from;
    ret_to->pool = keys_get(root, "pool");
    ret_to->project = row->project;
    ret_to->name = row->name;
    *ret_devices = devices;
    return true;
}

static bool
move_held(Inst *inst, Operation *op, const InstRow *row, bool instance_only, GError **error)
{
    Vol vol, to;
    json_auto_t *devices = NULL;
    if (!check_target(inst, row, error) || !inst_volume(inst, &vol, error) ||
        !target_volume(inst, row, &vol, &to, &devices, error)) {
        return false;
    }
    g_autofree char *pool = g_strdup(vol.pool), *project = g_strdup(vol.project);
    g_autofree char *name = g_strdup(vol.name);
    const Vol from = {.pool = pool, .project = project, .type = vol.type, .name = name};
    if (strcmp(from.pool, to.pool) == 0 && strcmp(from.project, to.project) == 0 &&
        strcmp(from.name, to.name) == 0) {
        return haw_fail(error, HAW_INVALID, "The instance is there already");
    }
    char *note = journal_begin(
        inst, "instance-move",
        json_pack("{s:o,s:o}", "from", place_json(&from), "to", place_json(&to)), error);
    if (note == NULL) {
        return false;
    }
    crash_point("move");
    plug_forget_all(inst);
    bool ok = carry_over(inst, op, row, &from, &to, instance_only, error);
    crash_point("move");
    journal_end(inst, note);
    if (ok && strcmp(name, row->name) != 0) {
        ok = create_renamed(inst, error);
    }
    return plug_settle_all(inst, ok ? error : NULL) && ok;
}

bool
relocate_move(Inst *inst, Operation *op, const InstRow *row, bool instance_only, GError **error)
{
    g_auto(FiberHold) hold = inst_hold(inst, "move", error);
    if (hold == NULL) {
        return false;
    }
    if (inst->pid != 0 || inst->state != INST_STOPPED) {
        bool projects = strcmp(inst->project, row->project) != 0;
        return haw_fail(error, HAW_CONFLICT,
                        "Instance must be stopped to move between %s statelessly",
                        projects ? "projects" : "pools");
    }
    g_autofree char *old_name = g_strdup(inst->name);
    if (!move_held(inst, op, row, instance_only, error)) {
        return haw_push(error, "Move instance");
    }
    backupfile_store(inst);
    inst_lifecycle(inst, op_caller(op),
                   strcmp(old_name, inst->name) != 0 ? "instance-renamed" : "instance-updated");
    return true;
}

/* ---- repair: L2 ---- */

static const char *
text_of(json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text != NULL ? text : "";
}

static Vol
place_of(Inst *inst, const Vol *like, json_t *place)
{
    Vol vol = *like;
    vol.pool = text_of(place, "pool");
    vol.project = text_of(place, "project");
    vol.name = text_of(place, "name");
    return vol;
}

bool
relocate_repair(Inst *inst, json_t *from, json_t *to, GError **error)
{
    Vol now;
    if (!inst_volume(inst, &now, error)) {
        return false;
    }
    Vol source = place_of(inst, &now, from), target = place_of(inst, &now, to);
    bool moved = strcmp(now.pool, target.pool) == 0 && strcmp(now.project, target.project) == 0 &&
                 strcmp(now.name, target.name) == 0;
    if (moved) {
        g_autofree char *old_object = project_object_name(source.project, source.name);
        move_files(inst->agent, old_object, inst->object);
    }
    const Vol *waste = moved ? &source : &target;
    g_autoptr(GError) local = NULL;
    bool ok = !pool_exists(inst->agent->pools, waste->pool) ||
              vol_delete(inst->agent->pools, waste, &local) || haw_code(local) == HAW_NOT_FOUND;
    Pool *pool = shelf_pool(inst->agent->pools, now.pool, true, NULL);
    if (pool != NULL) { /* two volumes had the name: it may have stood for the other */
        shelf_link(inst->agent->pools, pool, &now);
    }
    if (!ok) {
        g_propagate_error(error, g_steal_pointer(&local));
    }
    return ok;
}
