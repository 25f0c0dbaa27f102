/* Rows of instances and their snapshots: the only SQL about them.
 * I1  The profiles of an instance are rows that point at profiles, so that a profile in use can
 *     neither vanish nor lose its users by a rename; those of a snapshot are names as they were.
 * I2  Lists come in one query each: a thousand instances are three statements, not three thousand.
 * Called by inst/record.c and inst/snapshot.c, on the database thread. */
#include "agent/state/inst_rows.h"

#include <string.h>

#define INST_COLUMNS                                                                               \
    "i.id, p.name, i.name, i.type, i.architecture, i.description, i.ephemeral, i.stateful,"        \
    " i.created_at, i.last_used_at, i.config, i.devices"
#define SNAP_COLUMNS                                                                               \
    "id, instance_id, name, description, architecture, ephemeral, stateful, created_at,"           \
    " expires_at, config, devices, profiles"

void
inst_row_free(InstRow *row)
{
    if (row == NULL) {
        return;
    }
    g_free(row->project);
    g_free(row->name);
    g_free(row->type);
    g_free(row->architecture);
    g_free(row->description);
    json_decref(row->config);
    json_decref(row->devices);
    json_decref(row->profiles);
    g_free(row);
}

void
snap_row_free(SnapRow *row)
{
    if (row == NULL) {
        return;
    }
    g_free(row->name);
    g_free(row->description);
    g_free(row->architecture);
    json_decref(row->config);
    json_decref(row->devices);
    json_decref(row->profiles);
    g_free(row);
}

void
profile_row_free(ProfileRow *row)
{
    if (row == NULL) {
        return;
    }
    g_free(row->project);
    g_free(row->name);
    json_decref(row->config);
    json_decref(row->devices);
    g_free(row);
}

static InstRow *
inst_row_read(DbRows *rows)
{
    InstRow *row = g_new0(InstRow, 1);
    row->id = db_int(rows, 0);
    row->project = g_strdup(db_text(rows, 1));
    row->name = g_strdup(db_text(rows, 2));
    row->type = g_strdup(db_text(rows, 3));
    row->architecture = g_strdup(db_text(rows, 4));
    row->description = g_strdup(db_text(rows, 5));
    row->ephemeral = db_int(rows, 6) != 0;
    row->stateful = db_int(rows, 7) != 0;
    row->created_at = db_int(rows, 8);
    row->last_used_at = db_int(rows, 9);
    row->config = db_json(rows, 10);
    row->devices = db_json(rows, 11);
    row->profiles = json_array();
    return row;
}

/* Adds the profile names to rows that are indexed by id. */
static bool
load_profile_names(DbTx *tx, GHashTable *by_id, GError **error)
{
    g_autoptr(DbRows) rows = db_query(tx, error,
                                      "SELECT ip.instance_id, pr.name FROM instance_profiles ip"
                                      " JOIN profiles pr ON pr.id = ip.profile_id"
                                      " ORDER BY ip.instance_id, ip.position",
                                      "");
    if (rows == NULL) {
        return false;
    }
    while (db_next(rows)) {
        gint64 id = db_int(rows, 0);
        InstRow *row = g_hash_table_lookup(by_id, &id);
        if (row != NULL) {
            json_array_append_new(row->profiles, json_string(db_text(rows, 1)));
        }
    }
    return db_rows_ok(rows, error);
}

GPtrArray *
inst_rows_load(DbTx *tx, GError **error)
{
    g_autoptr(GPtrArray) list = g_ptr_array_new_with_free_func((GDestroyNotify) inst_row_free);
    g_autoptr(GHashTable) by_id = g_hash_table_new(g_int64_hash, g_int64_equal);
    g_autoptr(DbRows) rows = db_query(tx, error,
                                      "SELECT " INST_COLUMNS " FROM instances i"
                                      " JOIN projects p ON p.id = i.project_id"
                                      " ORDER BY p.name, i.name",
                                      "");
    if (rows == NULL) {
        return NULL;
    }
    while (db_next(rows)) {
        InstRow *row = inst_row_read(rows);
        g_ptr_array_add(list, row);
        g_hash_table_insert(by_id, &row->id, row);
    }
    if (!db_rows_ok(rows, error) || !load_profile_names(tx, by_id, error)) {
        return NULL;
    }
    return g_steal_pointer(&list);
}

GPtrArray *
inst_rows_load_profiles(DbTx *tx, GError **error)
{
    g_autoptr(GPtrArray) list = g_ptr_array_new_with_free_func((GDestroyNotify) profile_row_free);
    g_autoptr(DbRows) rows =
        db_query(tx, error,
                 "SELECT p.name, pr.name, pr.config, pr.devices FROM profiles pr"
                 " JOIN projects p ON p.id = pr.project_id"
                 " ORDER BY p.name, pr.name",
                 "");
    if (rows == NULL) {
        return NULL;
    }
    while (db_next(rows)) {
        ProfileRow *row = g_new0(ProfileRow, 1);
        row->project = g_strdup(db_text(rows, 0));
        row->name = g_strdup(db_text(rows, 1));
        row->config = db_json(rows, 2);
        row->devices = db_json(rows, 3);
        g_ptr_array_add(list, row);
    }
    if (!db_rows_ok(rows, error)) {
        return NULL;
    }
    return g_steal_pointer(&list);
}

static bool
insert_profiles(DbTx *tx, gint64 id, json_t *profiles, const char *project, GError **error)
{
    size_t i;
    json_t *name;
    json_array_foreach (profiles, i, name) {
        if (!db_exec(tx, error,
                     "INSERT INTO instance_profiles (instance_id, profile_id, position)"
                     " SELECT ?, pr.id, ? FROM profiles pr JOIN projects p ON p.id = pr.project_id"
                     " WHERE p.name = ? AND pr.name = ?",
                     "iiss", id, (gint64) i, project, json_string_value(name))) {
            return false;
        }
        if (db_changes(tx) != 1) {
            return haw_fail(error, HAW_FAILED, "Requested profile \"%s\" doesn't exist",
                            json_string_value(name));
        }
    }
    return true;
}

bool
inst_rows_insert(DbTx *tx, InstRow *row, const char *profile_project, GError **error)
{
    g_autoptr(GError) local = NULL;
    if (!db_exec(tx, &local,
                 "INSERT INTO instances (project_id, name, type, architecture, description,"
                 " ephemeral, stateful, created_at, last_used_at, config, devices)"
                 " SELECT id, ?, ?, ?, ?, ?, ?, ?, ?, ?, ? FROM projects WHERE name = ?",
                 "ssssbbiijjs", row->name, row->type, row->architecture, row->description,
                 (int) row->ephemeral, (int) row->stateful, row->created_at, row->last_used_at,
                 row->config, row->devices, row->project)) {
        if (haw_code(local) == HAW_EXISTS) {
            return haw_fail(error, HAW_EXISTS, "This \"instances\" entry already exists");
        }
        g_propagate_error(error, g_steal_pointer(&local));
        return false;
    }
    if (db_changes(tx) != 1) {
        return haw_fail(error, HAW_NOT_FOUND, "Project not found");
    }
    row->id = db_last_id(tx);
    return insert_profiles(tx, row->id, row->profiles, profile_project, error);
}

bool
inst_rows_update(DbTx *tx, const InstRow *row, const char *profile_project, GError **error)
{
    return db_exec(tx, error,
                   "UPDATE instances SET architecture = ?, description = ?, ephemeral = ?,"
                   " stateful = ?, config = ?, devices = ? WHERE id = ?",
                   "ssbbjji", row->architecture, row->description, (int) row->ephemeral,
                   (int) row->stateful, row->config, row->devices, row->id) &&
           db_exec(tx, error, "DELETE FROM instance_profiles WHERE instance_id = ?", "i",
                   row->id) &&
           insert_profiles(tx, row->id, row->profiles, profile_project, error);
}

bool
inst_rows_move(DbTx *tx, const InstRow *row, const char *profile_project, GError **error)
{
    g_autoptr(GError) local = NULL;
    if (!db_exec(tx, &local,
                 "UPDATE instances SET name = ?,"
                 " project_id = (SELECT id FROM projects WHERE name = ?) WHERE id = ?",
                 "ssi", row->name, row->project, row->id)) {
        if (haw_code(local) == HAW_EXISTS) {
            return haw_fail(error, HAW_EXISTS, "Name \"%s\" already in use", row->name);
        }
        g_propagate_error(error, g_steal_pointer(&local));
        return false;
    }
    return inst_rows_update(tx, row, profile_project, error);
}

bool
inst_rows_move_backups(DbTx *tx, gint64 from_volume, gint64 to_volume, GError **error)
{
    return db_exec(tx, error, "UPDATE volume_backups SET volume_id = ? WHERE volume_id = ?", "ii",
                   to_volume, from_volume);
}

bool
inst_rows_snapshots_delete_all(DbTx *tx, gint64 instance_id, GError **error)
{
    return db_exec(tx, error, "DELETE FROM instance_snapshots WHERE instance_id = ?", "i",
                   instance_id);
}

bool
inst_rows_snapshot_devices(DbTx *tx, const SnapRow *row, GError **error)
{
    return db_exec(tx, error, "UPDATE instance_snapshots SET devices = ? WHERE id = ?", "ji",
                   row->devices, row->id);
}

bool
inst_rows_set_config(DbTx *tx, gint64 id, json_t *config, GError **error)
{
    return db_exec(tx, error, "UPDATE instances SET config = ? WHERE id = ?", "ji", config, id);
}

bool
inst_rows_set_used(DbTx *tx, gint64 id, json_t *config, gint64 used_at, GError **error)
{
    return db_exec(tx, error, "UPDATE instances SET config = ?, last_used_at = ? WHERE id = ?",
                   "jii", config, used_at, id);
}

bool
inst_rows_rename(DbTx *tx, gint64 id, const char *name, GError **error)
{
    return db_exec(tx, error, "UPDATE instances SET name = ? WHERE id = ?", "si", name, id);
}

bool
inst_rows_delete(DbTx *tx, gint64 id, GError **error)
{
    return db_exec(tx, error, "DELETE FROM instances WHERE id = ?", "i", id);
}

static GPtrArray *
read_snapshots(DbRows *rows, GError **error)
{
    g_autoptr(GPtrArray) list = g_ptr_array_new_with_free_func((GDestroyNotify) snap_row_free);
    while (db_next(rows)) {
        SnapRow *row = g_new0(SnapRow, 1);
        row->id = db_int(rows, 0);
        row->instance_id = db_int(rows, 1);
        row->name = g_strdup(db_text(rows, 2));
        row->description = g_strdup(db_text(rows, 3));
        row->architecture = g_strdup(db_text(rows, 4));
        row->ephemeral = db_int(rows, 5) != 0;
        row->stateful = db_int(rows, 6) != 0;
        row->created_at = db_int(rows, 7);
        row->expires_at = db_int(rows, 8);
        row->config = db_json(rows, 9);
        row->devices = db_json(rows, 10);
        row->profiles = json_loads(db_text(rows, 11), 0, NULL);
        if (!json_is_array(row->profiles)) {
            json_decref(row->profiles);
            row->profiles = json_array();
        }
        g_ptr_array_add(list, row);
    }
    if (!db_rows_ok(rows, error)) {
        return NULL;
    }
    return g_steal_pointer(&list);
}

GPtrArray *
inst_rows_snapshots(DbTx *tx, gint64 instance_id, GError **error)
{
    g_autoptr(DbRows) rows = db_query(tx, error,
                                      "SELECT " SNAP_COLUMNS " FROM instance_snapshots"
                                      " WHERE instance_id = ? ORDER BY created_at, id",
                                      "i", instance_id);
    return rows == NULL ? NULL : read_snapshots(rows, error);
}

GPtrArray *
inst_rows_snapshots_expired(DbTx *tx, gint64 now, GError **error)
{
    g_autoptr(DbRows) rows = db_query(tx, error,
                                      "SELECT " SNAP_COLUMNS " FROM instance_snapshots"
                                      " WHERE expires_at > 0 AND expires_at <= ? ORDER BY id",
                                      "i", now);
    return rows == NULL ? NULL : read_snapshots(rows, error);
}

bool
inst_rows_snapshot_insert(DbTx *tx, SnapRow *row, GError **error)
{
    if (!db_exec(tx, error,
                 "INSERT INTO instance_snapshots (instance_id, name, description, architecture,"
                 " ephemeral, stateful, created_at, expires_at, config, devices, profiles)"
                 " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                 "isssbbiijjj", row->instance_id, row->name, row->description, row->architecture,
                 (int) row->ephemeral, (int) row->stateful, row->created_at, row->expires_at,
                 row->config, row->devices, row->profiles)) {
        return false;
    }
    row->id = db_last_id(tx);
    return true;
}

bool
inst_rows_snapshot_rename(DbTx *tx, gint64 id, const char *name, GError **error)
{
    return db_exec(tx, error, "UPDATE instance_snapshots SET name = ? WHERE id = ?", "si", name,
                   id);
}

bool
inst_rows_snapshot_expires(DbTx *tx, gint64 id, gint64 expires_at, GError **error)
{
    return db_exec(tx, error, "UPDATE instance_snapshots SET expires_at = ? WHERE id = ?", "ii",
                   expires_at, id);
}

bool
inst_rows_snapshot_delete(DbTx *tx, gint64 id, GError **error)
{
    return db_exec(tx, error, "DELETE FROM instance_snapshots WHERE id = ?", "i", id);
}

GHashTable *
inst_rows_snapshot_counts(DbTx *tx, GError **error)
{
    g_autoptr(GHashTable) counts = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, NULL);
    g_autoptr(DbRows) rows = db_query(
        tx, error, "SELECT instance_id, count(*) FROM instance_snapshots GROUP BY instance_id", "");
    if (rows == NULL) {
        return NULL;
    }
    while (db_next(rows)) {
        gint64 *key = g_new(gint64, 1);
        *key = db_int(rows, 0);
        g_hash_table_insert(counts, key, GSIZE_TO_POINTER((gsize) db_int(rows, 1)));
    }
    if (!db_rows_ok(rows, error)) {
        return NULL;
    }
    return g_steal_pointer(&counts);
}

bool
inst_rows_journal_add(DbTx *tx, const char *id, const char *kind, const char *project, json_t *undo,
                      GError **error)
{
    return db_exec(tx, error,
                   "INSERT INTO operations (id, kind, project, created_at, undo)"
                   " VALUES (?, ?, ?, 0, ?)",
                   "sssj", id, kind, project, undo);
}

bool
inst_rows_journal_remove(DbTx *tx, const char *id, GError **error)
{
    return db_exec(tx, error, "DELETE FROM operations WHERE id = ?", "s", id);
}

json_t *
inst_rows_journal(DbTx *tx, GError **error)
{
    g_autoptr(DbRows) rows = db_query(
        tx, error, "SELECT id, kind, undo FROM operations WHERE kind LIKE 'instance-%'", "");
    json_t *list = rows != NULL ? json_array() : NULL;
    while (rows != NULL && db_next(rows)) {
        json_array_append_new(list, json_pack("{s:s,s:s,s:o}", "id", db_text(rows, 0), "kind",
                                              db_text(rows, 1), "undo", db_json(rows, 2)));
    }
    if (rows == NULL || !db_rows_ok(rows, error)) {
        json_decref(list);
        return NULL;
    }
    return list;
}
