/* Rows of storage pools: the table "pools". Each function is one transaction.
 * Not here: which pools are mounted (store/shelf.c) and their volumes (volumes.c). */
#include "agent/state/pools.h"

void
pool_row_free(PoolRow *row)
{
    if (row == NULL) {
        return;
    }
    g_free(row->name);
    g_free(row->driver);
    g_free(row->description);
    g_free(row->state);
    json_decref(row->config);
    g_free(row);
}

static bool
load_rows(DbTx *tx, void *data, GError **error)
{
    g_autoptr(DbRows) rows = db_query(
        tx, error, "SELECT id, name, driver, description, config, state FROM pools ORDER BY name",
        "");
    while (db_next(rows)) {
        PoolRow *row = g_new0(PoolRow, 1);
        row->id = db_int(rows, 0);
        row->name = g_strdup(db_text(rows, 1));
        row->driver = g_strdup(db_text(rows, 2));
        row->description = g_strdup(db_text(rows, 3));
        row->config = db_json(rows, 4);
        row->state = g_strdup(db_text(rows, 5));
        g_ptr_array_add(data, row);
    }
    return db_rows_ok(rows, error);
}

GPtrArray *
pools_load(Db *db, GError **error)
{
    g_autoptr(GPtrArray) rows = g_ptr_array_new_with_free_func((GDestroyNotify) pool_row_free);
    if (!db_read(db, load_rows, rows, error)) {
        return NULL;
    }
    return g_steal_pointer(&rows);
}

struct change {
    const PoolRow *row;
    gint64 id;
};

static bool
insert_row(DbTx *tx, void *data, GError **error)
{
    struct change *job = data;
    if (!db_exec(tx, error,
                 "INSERT INTO pools (name, driver, description, config, state)"
                 " VALUES (?, ?, ?, ?, ?)",
                 "sssjs", job->row->name, job->row->driver, job->row->description, job->row->config,
                 job->row->state)) {
        return false;
    }
    job->id = db_last_id(tx);
    return true;
}

bool
pools_insert(Db *db, const PoolRow *row, gint64 *ret_id, GError **error)
{
    struct change job = {.row = row};
    if (!db_write(db, insert_row, &job, error)) {
        return false;
    }
    *ret_id = job.id;
    return true;
}

static bool
store_row(DbTx *tx, void *data, GError **error)
{
    const PoolRow *row = ((struct change *) data)->row;
    return db_exec(tx, error,
                   "UPDATE pools SET description = ?, config = ?, state = ? WHERE id = ?", "sjsi",
                   row->description, row->config, row->state, row->id);
}

bool
pools_store(Db *db, const PoolRow *row, GError **error)
{
    struct change job = {.row = row};
    return db_write(db, store_row, &job, error);
}

static bool
delete_row(DbTx *tx, void *data, GError **error)
{
    return db_exec(tx, error, "DELETE FROM pools WHERE id = ?", "i", *(gint64 *) data);
}

bool
pools_delete(Db *db, gint64 id, GError **error)
{
    return db_write(db, delete_row, &id, error);
}
