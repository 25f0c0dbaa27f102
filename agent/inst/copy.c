/* Copies of instances and of their snapshots, and the refresh of a copy.
 * Y1  Where the driver copies file by file, a running source is frozen meanwhile.
 * Y2  The copy's rows of snapshots are made after its volume has them; until then it is unfinished.
 * Y3  A refresh keeps the snapshots that both have; each of the others comes or goes by itself, and the
 *     volume is exchanged at the end (voledit.c, E3): a crash between leaves a whole older state.
 * Called by api/instances.c in an operation's fiber. */
#include "agent/inst/backupfile.h"
#include "agent/inst/create.h"
#include "agent/inst/snaprow.h"
#include "agent/inst/still.h"
#include "agent/store/voledit.h"
#include "base/crash.h"
#include "proto/grammar.h"
#include "proto/keys.h"

#include <string.h>

/* Y1 */
static bool
freeze_source(Inst *from, const Vol *vol)
{
    return g_strcmp0(pool_driver(from->agent->pools, vol->pool), "btrfs") != 0 && still_begin(from);
}

/* Y2 */
static bool
copy_snapshot_rows(Inst *inst, Inst *from, GError **error)
{
    g_autoptr(GPtrArray) rows = record_snapshots(from, error);
    return rows != NULL && snaprow_insert_all(inst, rows, error);
}

/* The copy's root disk may be larger than what it was copied from. */
static bool
fit_root(Inst *inst, const Vol *vol, GError **error)
{
    gint64 bytes = 0;
    json_auto_t *config = create_volume_config(inst);
    const char *size = keys_get(config, "size");
    return size == NULL || (grammar_parse_size(size, &bytes, error) &&
                            vol_set_quota(inst->agent->pools, vol, bytes, error));
}

bool
create_copy(Inst *inst, Operation *op, Inst *from, const char *snap, bool instance_only,
            GError **error)
{
    Vol source, target;
    bool with_snapshots = snap == NULL && !instance_only;
    if (!inst_volume(inst, &target, error)) {
        return false;
    }
    {
        g_auto(FiberHold) hold = inst_hold(from, "copy", error);
        if (hold == NULL || !inst_volume(from, &source, error)) {
            return false;
        }
        source.snap = snap;
        bool frozen = snap == NULL && freeze_source(from, &source);
        crash_point("copy");
        bool ok =
            vol_copy(inst->agent->pools, &source, &target, with_snapshots, op_cancel(op), error);
        still_end(from, frozen);
        crash_point("copy");
        if (!ok || !fit_root(inst, &target, error) ||
            (with_snapshots && !copy_snapshot_rows(inst, from, error))) {
            return haw_push(error, "Create instance from copy");
        }
    }
    crash_point("copy");
    return create_finish(inst, "copy", error);
}

/* ---- refresh ---- */

static SnapRow *
find_same(GPtrArray *rows, const SnapRow *snap)
{
    for (guint i = 0; i < rows->len; i++) {
        SnapRow *row = rows->pdata[i];
        if (strcmp(row->name, snap->name) == 0 && row->created_at == snap->created_at) {
            return row;
        }
    }
    return NULL;
}

static bool
bring_snapshot(Inst *inst, Operation *op, const Vol *source, const Vol *target, SnapRow *snap,
               GError **error)
{
    VolumeWhich which = shelf_which(source);
    which.item = snap->name;
    g_autoptr(VolumeSnapRow) row = volume_snaps_get(inst->agent->db, &which, error);
    crash_point("copy");
    return row != NULL && snaprow_begin(inst, snap, error) &&
           volume_copy_snapshot(inst->agent->pools, source, target, row, op_cancel(op), error) &&
           snaprow_done(inst, snap, error);
}

/* The target's snapshots become the source's; those that are the same stay untouched. */
static bool
match_snapshots(Inst *inst, Operation *op, Inst *from, const Vol *source, const Vol *target,
                GError **error)
{
    g_autoptr(GPtrArray) wanted = record_snapshots(from, error);
    g_autoptr(GPtrArray) have = wanted != NULL ? record_snapshots(inst, error) : NULL;
    for (guint i = 0; have != NULL && i < have->len; i++) {
        if (find_same(wanted, have->pdata[i]) == NULL &&
            !snaprow_drop(inst, target, have->pdata[i], error)) {
            return false;
        }
    }
    for (guint i = 0; have != NULL && i < wanted->len; i++) {
        if (find_same(have, wanted->pdata[i]) == NULL &&
            !bring_snapshot(inst, op, source, target, wanted->pdata[i], error)) {
            return false;
        }
    }
    return have != NULL;
}

bool
create_refresh(Inst *inst, Operation *op, Inst *from, bool instance_only, GError **error)
{
    Vol source, target;
    if (inst == from) {
        return haw_fail(error, HAW_INVALID, "An instance can't be refreshed from itself");
    }
    /* Two refreshes in opposite directions must not wait for each other. */
    bool first = inst->id < from->id;
    g_auto(FiberHold) lower = inst_hold(first ? inst : from, "refresh", error);
    g_auto(FiberHold) upper =
        lower != NULL ? inst_hold(first ? from : inst, "refresh", error) : NULL;
    if (upper == NULL || !inst_volume(inst, &target, error) || !inst_volume(from, &source, error)) {
        return false;
    }
    if (inst->pid != 0) {
        return haw_fail(error, HAW_CONFLICT, "Cannot refresh a running instance");
    }
    bool frozen = freeze_source(from, &source);
    bool ok = (instance_only || match_snapshots(inst, op, from, &source, &target, error)) &&
              voledit_refresh(inst->agent->pools, &source, &target, false, op_cancel(op), error);
    still_end(from, frozen);
    if (!ok) {
        return haw_push(error, "Refresh instance");
    }
    const char *idmap = keys_get(from->config, "volatile.last_state.idmap");
    backupfile_store(inst);
    return inst_set_config(
        inst, json_pack("{s:s}", "volatile.last_state.idmap", idmap != NULL ? idmap : "[]"), error);
}
