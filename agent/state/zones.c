/* Rows of network zones and their records. Called by agent/net/zone*.c. */
#include "agent/state/zones.h"

struct query {
    const char *project, *name; /* NULL: any */
    gint64 zone_id;             /* of records */
    GPtrArray *list;
};

void
zonerow_free(ZoneRow *row)
{
    if (row != NULL) {
        g_free(row->project);
        g_free(row->name);
        g_free(row->description);
        json_decref(row->config);
        g_free(row);
    }
}

void
zonerow_record_free(ZoneRecord *record)
{
    if (record != NULL) {
        g_free(record->name);
        g_free(record->description);
        json_decref(record->config);
        json_decref(record->entries);
        g_free(record);
    }
}

/* ---- zones ---- */

static bool
list_tx(DbTx *tx, void *data, GError **error)
{
    struct query *query = data;
    g_autoptr(DbRows) rows =
        db_query(tx, error,
                 "SELECT z.id, p.name, z.name, z.description, z.config FROM network_zones z"
                 " JOIN projects p ON p.id = z.project_id"
                 " WHERE (? IS NULL OR p.name = ?) AND (? IS NULL OR z.name = ?) ORDER BY z.name",
                 "ssss", query->project, query->project, query->name, query->name);
    while (rows != NULL && db_next(rows)) {
        ZoneRow *row = g_new0(ZoneRow, 1);
        row->id = db_int(rows, 0);
        row->project = g_strdup(db_text(rows, 1));
        row->name = g_strdup(db_text(rows, 2));
        row->description = g_strdup(db_text(rows, 3));
        row->config = db_json(rows, 4);
        g_ptr_array_add(query->list, row);
    }
    return rows != NULL && db_rows_ok(rows, error);
}

static GPtrArray *
list(Db *db, const char *project, const char *name, GError **error)
{
    g_autoptr(GPtrArray) found =
        g_ptr_array_new_with_free_func((GDestroyNotify) (void (*)(void)) zonerow_free);
    struct query query = {.project = project, .name = name, .list = found};
    return db_read(db, list_tx, &query, error) ? g_steal_pointer(&found) : NULL;
}

GPtrArray *
zonerow_list(Db *db, const char *project, GError **error)
{
    return list(db, project, NULL, error);
}

ZoneRow *
zonerow_load(Db *db, const char *project, const char *name, GError **error)
{
    g_autoptr(GPtrArray) found = list(db, project, name, error);
    if (found == NULL) {
        return NULL;
    }
    if (found->len == 0) {
        haw_fail(error, HAW_NOT_FOUND, "Network zone not found");
        return NULL;
    }
    return g_ptr_array_steal_index(found, 0);
}

static bool
insert_tx(DbTx *tx, void *data, GError **error)
{
    ZoneRow *row = data;
    if (!db_exec(tx, error,
                 "INSERT INTO network_zones (project_id, name, description, config)"
                 " SELECT id, ?, ?, ? FROM projects WHERE name = ?",
                 "ssjs", row->name, row->description, row->config, row->project)) {
        return false;
    }
    row->id = db_last_id(tx);
    return db_changes(tx) == 1 || haw_fail(error, HAW_NOT_FOUND, "Project not found");
}

bool
zonerow_insert(Db *db, ZoneRow *row, GError **error)
{
    return db_write(db, insert_tx, row, error);
}

static bool
update_tx(DbTx *tx, void *data, GError **error)
{
    const ZoneRow *row = data;
    return db_exec(tx, error, "UPDATE network_zones SET description = ?, config = ? WHERE id = ?",
                   "sji", row->description, row->config, row->id);
}

bool
zonerow_update(Db *db, const ZoneRow *row, GError **error)
{
    return db_write(db, update_tx, (void *) (guintptr) row, error);
}

static bool
delete_tx(DbTx *tx, void *data, GError **error)
{
    return db_exec(tx, error, "DELETE FROM network_zones WHERE id = ?", "i", *(gint64 *) data);
}

bool
zonerow_delete(Db *db, gint64 id, GError **error)
{
    return db_write(db, delete_tx, &id, error);
}

/* ---- records ---- */

static bool
records_tx(DbTx *tx, void *data, GError **error)
{
    struct query *query = data;
    g_autoptr(DbRows) rows =
        db_query(tx, error,
                 "SELECT id, zone_id, name, description, config, entries FROM network_zone_records"
                 " WHERE zone_id = ? AND (? IS NULL OR name = ?) ORDER BY name",
                 "iss", query->zone_id, query->name, query->name);
    while (rows != NULL && db_next(rows)) {
        const char *entries = db_text(rows, 5);
        ZoneRecord *record = g_new0(ZoneRecord, 1);
        record->id = db_int(rows, 0);
        record->zone_id = db_int(rows, 1);
        record->name = g_strdup(db_text(rows, 2));
        record->description = g_strdup(db_text(rows, 3));
        record->config = db_json(rows, 4);
        record->entries = entries != NULL ? json_loads(entries, 0, NULL) : NULL;
        if (!json_is_array(record->entries)) {
            json_decref(record->entries);
            record->entries = json_array();
        }
        g_ptr_array_add(query->list, record);
    }
    return rows != NULL && db_rows_ok(rows, error);
}

static GPtrArray *
records(Db *db, gint64 zone_id, const char *name, GError **error)
{
    g_autoptr(GPtrArray) found =
        g_ptr_array_new_with_free_func((GDestroyNotify) (void (*)(void)) zonerow_record_free);
    struct query query = {.zone_id = zone_id, .name = name, .list = found};
    return db_read(db, records_tx, &query, error) ? g_steal_pointer(&found) : NULL;
}

GPtrArray *
zonerow_records(Db *db, gint64 zone_id, GError **error)
{
    return records(db, zone_id, NULL, error);
}

ZoneRecord *
zonerow_record_load(Db *db, gint64 zone_id, const char *name, GError **error)
{
    g_autoptr(GPtrArray) found = records(db, zone_id, name, error);
    if (found == NULL) {
        return NULL;
    }
    if (found->len == 0) {
        haw_fail(error, HAW_NOT_FOUND, "Network zone record not found");
        return NULL;
    }
    return g_ptr_array_steal_index(found, 0);
}

static bool
insert_record_tx(DbTx *tx, void *data, GError **error)
{
    ZoneRecord *record = data;
    if (!db_exec(tx, error,
                 "INSERT INTO network_zone_records (zone_id, name, description, config, entries)"
                 " VALUES (?, ?, ?, ?, ?)",
                 "issjj", record->zone_id, record->name, record->description, record->config,
                 record->entries)) {
        return false;
    }
    record->id = db_last_id(tx);
    return true;
}

bool
zonerow_record_insert(Db *db, ZoneRecord *record, GError **error)
{
    return db_write(db, insert_record_tx, record, error);
}

static bool
update_record_tx(DbTx *tx, void *data, GError **error)
{
    const ZoneRecord *record = data;
    return db_exec(tx, error,
                   "UPDATE network_zone_records SET description = ?, config = ?, entries = ?"
                   " WHERE id = ?",
                   "sjji", record->description, record->config, record->entries, record->id);
}

bool
zonerow_record_update(Db *db, const ZoneRecord *record, GError **error)
{
    return db_write(db, update_record_tx, (void *) (guintptr) record, error);
}

static bool
delete_record_tx(DbTx *tx, void *data, GError **error)
{
    return db_exec(tx, error, "DELETE FROM network_zone_records WHERE id = ?", "i",
                   *(gint64 *) data);
}

bool
zonerow_record_delete(Db *db, gint64 id, GError **error)
{
    return db_write(db, delete_record_tx, &id, error);
}
