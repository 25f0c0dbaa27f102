/* Snapshots' rows around their volumes.
 * Called by copy.c and moveinst.c. */
#include "agent/inst/snaprow.h"
#include "base/crash.h"

struct change {
    SnapRow *row;
    gint64 id, expires_at;
    GPtrArray *rows;
};

static bool
insert_tx(DbTx *tx, void *data, GError **error)
{
    return inst_rows_snapshot_insert(tx, ((struct change *) data)->row, error);
}

static bool
insert_all_tx(DbTx *tx, void *data, GError **error)
{
    GPtrArray *rows = ((struct change *) data)->rows;
    for (guint i = 0; i < rows->len; i++) {
        if (!inst_rows_snapshot_insert(tx, rows->pdata[i], error)) {
            return false;
        }
    }
    return true;
}

static bool
expires_tx(DbTx *tx, void *data, GError **error)
{
    struct change *change = data;
    return inst_rows_snapshot_expires(tx, change->id, change->expires_at, error);
}

static bool
delete_tx(DbTx *tx, void *data, GError **error)
{
    return inst_rows_snapshot_delete(tx, ((struct change *) data)->id, error);
}

bool
snaprow_begin(Inst *inst, SnapRow *row, GError **error)
{
    gint64 expires_at = row->expires_at;
    struct change change = {.row = row};
    row->instance_id = inst->id;
    row->expires_at = SNAPROW_EXPIRED;
    bool ok = db_write(inst->agent->db, insert_tx, &change, error);
    row->expires_at = expires_at;
    return ok;
}

bool
snaprow_done(Inst *inst, const SnapRow *row, GError **error)
{
    struct change change = {.id = row->id, .expires_at = row->expires_at};
    return db_write(inst->agent->db, expires_tx, &change, error);
}

bool
snaprow_insert_all(Inst *inst, GPtrArray *rows, GError **error)
{
    struct change change = {.rows = rows};
    for (guint i = 0; i < rows->len; i++) {
        ((SnapRow *) rows->pdata[i])->instance_id = inst->id;
    }
    return db_write(inst->agent->db, insert_all_tx, &change, error);
}

bool
snaprow_drop(Inst *inst, const Vol *vol, const SnapRow *row, GError **error)
{
    struct change change = {.id = row->id, .expires_at = SNAPROW_EXPIRED};
    g_autoptr(GError) local = NULL;
    Vol snap = *vol;
    snap.snap = row->name;
    if (!db_write(inst->agent->db, expires_tx, &change, error)) {
        return false;
    }
    crash_point("copy");
    if (!vol_snapshot_delete(inst->agent->pools, &snap, &local) &&
        haw_code(local) != HAW_NOT_FOUND) {
        g_propagate_error(error, g_steal_pointer(&local));
        return false;
    }
    return db_write(inst->agent->db, delete_tx, &change, error);
}
