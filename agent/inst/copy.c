/* Copies of instances and of their snapshots, and the refresh of a copy.
 * Y1  Where the driver copies file by file, a running source is frozen meanwhile.
 * Y2  The copy's rows of snapshots are made after its volume has them; until then it is unfinished.
 * Called by api/instances.c in an operation's fiber. */
#include "agent/inst/backupfile.h"
#include "agent/inst/create.h"
#include "agent/inst/instdriver.h"
#include "agent/inst/journal.h"
#include "base/crash.h"
#include "base/log.h"

#include <string.h>

/* Y1: true when it was frozen here. */
static bool
freeze_source(Inst *from, const Vol *vol)
{
    const char *driver = pool_driver(from->agent->pools, vol->pool);
    if (from->state != INST_RUNNING || g_strcmp0(driver, "btrfs") == 0) {
        return false;
    }
    inst_move(from, INST_FREEZING);
    bool ok = from->driver->freeze(from, true, NULL);
    if (from->state == INST_FREEZING) {
        inst_move(from, ok ? INST_FROZEN : INST_RUNNING);
    }
    return ok;
}

static void
thaw_source(Inst *from, bool frozen)
{
    if (frozen && from->state == INST_FROZEN) {
        inst_move(from, INST_THAWING);
        from->driver->freeze(from, false, NULL);
        if (from->state == INST_THAWING) {
            inst_move(from, INST_RUNNING);
        }
    }
}

static bool
insert_tx(DbTx *tx, void *data, GError **error)
{
    GPtrArray *rows = data;
    for (guint i = 0; i < rows->len; i++) {
        if (!inst_rows_snapshot_insert(tx, rows->pdata[i], error)) {
            return false;
        }
    }
    return true;
}

/* Y2 */
static bool
copy_snapshot_rows(Inst *inst, Inst *from, GError **error)
{
    g_autoptr(GPtrArray) rows = record_snapshots(from, error);
    if (rows == NULL) {
        return false;
    }
    for (guint i = 0; i < rows->len; i++) {
        ((SnapRow *) rows->pdata[i])->instance_id = inst->id;
    }
    return db_write(inst->agent->db, insert_tx, rows, error);
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
        thaw_source(from, frozen);
        crash_point("copy");
        if (!ok || (with_snapshots && !copy_snapshot_rows(inst, from, error))) {
            return haw_push(error, "Create instance from copy");
        }
    }
    crash_point("copy");
    return create_finish(inst, "copy", error);
}

static bool
has_name(GPtrArray *rows, const char *name)
{
    for (guint i = 0; i < rows->len; i++) {
        if (strcmp(((SnapRow *) rows->pdata[i])->name, name) == 0) {
            return true;
        }
    }
    return false;
}

static bool
delete_tx(DbTx *tx, void *data, GError **error)
{
    return inst_rows_snapshot_delete(tx, *(gint64 *) data, error);
}

/* The target's snapshots that the source does not have. */
static bool
drop_extra_snapshots(Inst *inst, const Vol *target, GPtrArray *wanted, GError **error)
{
    g_autoptr(GPtrArray) have = record_snapshots(inst, error);
    for (guint i = 0; have != NULL && i < have->len; i++) {
        SnapRow *row = have->pdata[i];
        Vol vol = *target;
        vol.snap = row->name;
        if (has_name(wanted, row->name)) {
            continue;
        }
        if (!vol_snapshot_delete(inst->agent->pools, &vol, error) ||
            !db_write(inst->agent->db, delete_tx, &row->id, error)) {
            return false;
        }
    }
    return have != NULL;
}

static bool
replace_volume(Inst *inst, Operation *op, const Vol *source, const Vol *target, bool snapshots,
               GError **error)
{
    Vol fresh = *target;
    g_autofree char *name = g_strdup_printf("%s.refresh", target->name);
    fresh.name = name;
    vol_delete(inst->agent->pools, &fresh, NULL); /* of a refresh that was cut short */
    crash_point("copy");
    return vol_copy(inst->agent->pools, source, &fresh, snapshots, op_cancel(op), error) &&
           vol_delete(inst->agent->pools, target, error) &&
           vol_rename(inst->agent->pools, &fresh, target->name, error);
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
    g_autoptr(GPtrArray) wanted = record_snapshots(from, error);
    g_autoptr(GPtrArray) have = record_snapshots(inst, error);
    if (wanted == NULL || have == NULL) {
        return false;
    }
    if (instance_only && have->len > 0) {
        return haw_fail(error, HAW_UNSUPPORTED,
                        "Refreshing without snapshots is not supported for a copy that has some");
    }
    if (instance_only) {
        g_ptr_array_set_size(wanted, 0);
    }
    bool frozen = freeze_source(from, &source);
    char *note = journal_begin(inst, "instance-refresh", json_object(), error);
    bool ok = note != NULL && drop_extra_snapshots(inst, &target, wanted, error) &&
              replace_volume(inst, op, &source, &target, !instance_only, error);
    journal_end(inst, note);
    thaw_source(from, frozen);
    g_autoptr(GPtrArray) added = g_ptr_array_new();
    for (guint i = 0; i < wanted->len; i++) {
        SnapRow *row = wanted->pdata[i];
        row->instance_id = inst->id;
        if (!has_name(have, row->name)) {
            g_ptr_array_add(added, row);
        }
    }
    if (!ok || !db_write(inst->agent->db, insert_tx, added, error)) {
        return haw_push(error, "Refresh instance");
    }
    backupfile_store(inst);
    return true;
}
