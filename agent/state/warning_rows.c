/* The warnings table: one row for each (type, project, entity). */
#include "agent/state/warning_rows.h"

#include "base/ids.h"

json_t *
warning_rows_load(DbTx *tx, GError **error)
{
    g_autoptr(DbRows) rows =
        db_query(tx, error,
                 "SELECT uuid, type, project, entity_url, status, count, message, first_seen_at,"
                 " last_seen_at FROM warnings ORDER BY last_seen_at DESC, id DESC",
                 "");
    if (rows == NULL) {
        return NULL;
    }
    json_t *list = json_array();
    while (db_next(rows)) {
        json_array_append_new(
            list,
            json_pack("{s:s,s:I,s:s,s:s,s:s,s:I,s:s,s:I,s:I}", "uuid", db_text(rows, 0), "type",
                      (json_int_t) db_int(rows, 1), "project", db_text(rows, 2), "entity_url",
                      db_text(rows, 3), "status", db_text(rows, 4), "count",
                      (json_int_t) db_int(rows, 5), "message", db_text(rows, 6), "first_seen_at",
                      (json_int_t) db_int(rows, 7), "last_seen_at", (json_int_t) db_int(rows, 8)));
    }
    if (!db_rows_ok(rows, error)) {
        json_decref(list);
        return NULL;
    }
    return list;
}

bool
warning_rows_count_active(DbTx *tx, gint64 *ret_count, GError **error)
{
    g_autoptr(DbRows) rows =
        db_query(tx, error, "SELECT COUNT(*) FROM warnings WHERE status <> 'resolved'", "");
    if (rows == NULL || !db_next(rows)) {
        return rows != NULL && db_rows_ok(rows, error);
    }
    *ret_count = db_int(rows, 0);
    return true;
}

bool
warning_rows_raise(DbTx *tx, const WarningRow *row, GError **error)
{
    g_autofree char *uuid = ids_uuid();
    return db_exec(tx, error,
                   "INSERT INTO warnings (uuid, type, project, entity_url, status, count, message,"
                   " first_seen_at, last_seen_at, updated_at)"
                   " VALUES (?, ?, ?, ?, 'new', 1, ?, ?, ?, ?)"
                   " ON CONFLICT (type, project, entity_url) DO UPDATE SET count = count + 1,"
                   " message = excluded.message, last_seen_at = excluded.last_seen_at,"
                   " updated_at = excluded.updated_at,"
                   " status = CASE status WHEN 'resolved' THEN 'new' ELSE status END",
                   "sisssiii", uuid, (gint64) row->type, row->project, row->entity_url,
                   row->message, row->now, row->now, row->now);
}

bool
warning_rows_resolve(DbTx *tx, const WarningRow *row, GError **error)
{
    return db_exec(tx, error,
                   "UPDATE warnings SET status = 'resolved', updated_at = ? WHERE type = ?"
                   " AND project = ? AND entity_url = ? AND status <> 'resolved'",
                   "iiss", row->now, (gint64) row->type, row->project, row->entity_url);
}

bool
warning_rows_set_status(DbTx *tx, const char *uuid, const char *status, gint64 now, GError **error)
{
    return db_exec(tx, error, "UPDATE warnings SET status = ?, updated_at = ? WHERE uuid = ?",
                   "sis", status, now, uuid);
}

bool
warning_rows_delete(DbTx *tx, const char *uuid, GError **error)
{
    return db_exec(tx, error, "DELETE FROM warnings WHERE uuid = ?", "s", uuid);
}

bool
warning_rows_prune(DbTx *tx, gint64 before, GError **error)
{
    return db_exec(tx, error, "DELETE FROM warnings WHERE status = 'resolved' AND updated_at < ?",
                   "i", before);
}
