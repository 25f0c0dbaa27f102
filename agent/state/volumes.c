/* Rows of volumes, volume snapshots and volume backups. Each function is one transaction.
 * Columns are read in the order in which the three SELECTs below name them.
 * Not here: what lies on disk (store/volume.c), and rows of pools (pools.c). */
#include "agent/state/volumes.h"

#define WHICH                                                                                      \
    " WHERE (? IS NULL OR p.name = ?) AND (? IS NULL OR r.name = ?) AND (? IS NULL OR v.type = ?)" \
    " AND (? IS NULL OR v.name = ?)"
#define WHICH_ARGS(w)                                                                              \
    (w)->pool, (w)->pool, (w)->project, (w)->project, (w)->type, (w)->type, (w)->name, (w)->name
#define OF_VOLUME " JOIN pools p ON p.id = v.pool_id JOIN projects r ON r.id = v.project_id"

void
volume_row_free(VolumeRow *row)
{
    if (row == NULL) {
        return;
    }
    g_free(row->pool);
    g_free(row->project);
    g_free(row->type);
    g_free(row->name);
    g_free(row->content_type);
    g_free(row->description);
    g_free(row->moved_from);
    json_decref(row->config);
    g_free(row);
}

void
volume_snap_row_free(VolumeSnapRow *row)
{
    if (row == NULL) {
        return;
    }
    g_free(row->pool);
    g_free(row->project);
    g_free(row->type);
    g_free(row->volume);
    g_free(row->name);
    g_free(row->description);
    g_free(row->moved_from);
    json_decref(row->config);
    g_free(row);
}

void
volume_backup_row_free(VolumeBackupRow *row)
{
    if (row == NULL) {
        return;
    }
    g_free(row->pool);
    g_free(row->project);
    g_free(row->type);
    g_free(row->volume);
    g_free(row->name);
    g_free(row);
}

struct edit {
    const char *table;
    gint64 id;
    const char *text, *other;
    json_t *config;
    gint64 when;
};

/* ---- of any of the tables ---- */

static bool
rename_row(DbTx *tx, void *data, GError **error)
{
    struct edit *job = data;
    g_autofree char *sql =
        g_strdup_printf("UPDATE %s SET name = ?, moved_from = ? WHERE id = ?", job->table);
    return db_exec(tx, error, sql, "ssi", job->text, job->other, job->id);
}

static bool
settle_row(DbTx *tx, void *data, GError **error)
{
    struct edit *job = data;
    g_autofree char *sql =
        g_strdup_printf("UPDATE %s SET moved_from = NULL WHERE id = ?", job->table);
    return db_exec(tx, error, sql, "i", job->id);
}

static bool
delete_row(DbTx *tx, void *data, GError **error)
{
    struct edit *job = data;
    g_autofree char *sql = g_strdup_printf("DELETE FROM %s WHERE id = ?", job->table);
    return db_exec(tx, error, sql, "i", job->id);
}

/* ---- volumes ---- */

struct load {
    const VolumeWhich *which;
    GPtrArray *rows;
};

static bool
load_volumes(DbTx *tx, void *data, GError **error)
{
    struct load *job = data;
    g_autoptr(DbRows) rows = db_query(
        tx, error,
        "SELECT v.id, p.name, r.name, v.type, v.name, v.content_type, v.description, v.config,"
        " v.created_at, v.moved_from FROM volumes v" OF_VOLUME WHICH
        " ORDER BY p.name, r.name, v.type, v.name",
        "ssssssss", WHICH_ARGS(job->which));
    while (db_next(rows)) {
        VolumeRow *row = g_new0(VolumeRow, 1);
        row->id = db_int(rows, 0);
        row->pool = g_strdup(db_text(rows, 1));
        row->project = g_strdup(db_text(rows, 2));
        row->type = g_strdup(db_text(rows, 3));
        row->name = g_strdup(db_text(rows, 4));
        row->content_type = g_strdup(db_text(rows, 5));
        row->description = g_strdup(db_text(rows, 6));
        row->config = db_json(rows, 7);
        row->created_at = db_int(rows, 8);
        row->moved_from = g_strdup(db_text(rows, 9));
        g_ptr_array_add(job->rows, row);
    }
    return db_rows_ok(rows, error);
}

static GPtrArray *
load_all(Db *db, const VolumeWhich *which, DbFn fn, GDestroyNotify free_row, GError **error)
{
    g_autoptr(GPtrArray) rows = g_ptr_array_new_with_free_func(free_row);
    struct load job = {.which = which, .rows = rows};
    if (!db_read(db, fn, &job, error)) {
        return NULL;
    }
    return g_steal_pointer(&rows);
}

/* The first of the rows (taken; NULL: the error is set). */
static gpointer
only(GPtrArray *rows, const char *missing, GError **error)
{
    g_autoptr(GPtrArray) all = rows;
    if (all != NULL && all->len == 0) {
        haw_fail(error, HAW_NOT_FOUND, "%s", missing);
    }
    return all != NULL && all->len > 0 ? g_ptr_array_steal_index(all, 0) : NULL;
}

GPtrArray *
volumes_load(Db *db, const VolumeWhich *which, GError **error)
{
    return load_all(db, which, load_volumes, (GDestroyNotify) volume_row_free, error);
}

VolumeRow *
volumes_get(Db *db, const VolumeWhich *which, GError **error)
{
    return only(volumes_load(db, which, error), "Storage volume not found", error);
}

static bool
insert_volume(DbTx *tx, void *data, GError **error)
{
    VolumeRow *row = data;
    if (!db_exec(tx, error,
                 "INSERT INTO volumes (pool_id, project_id, type, name, content_type, description,"
                 " config, created_at) VALUES ((SELECT id FROM pools WHERE name = ?),"
                 " (SELECT id FROM projects WHERE name = ?), ?, ?, ?, ?, ?, ?)",
                 "ssssssji", row->pool, row->project, row->type, row->name, row->content_type,
                 row->description, row->config, row->created_at)) {
        return false;
    }
    row->id = db_last_id(tx);
    return true;
}

bool
volumes_insert(Db *db, VolumeRow *row, GError **error)
{
    return db_write(db, insert_volume, row, error);
}

static bool
store_volume(DbTx *tx, void *data, GError **error)
{
    struct edit *job = data;
    return db_exec(tx, error, "UPDATE volumes SET description = ?, config = ? WHERE id = ?", "sji",
                   job->text, job->config, job->id);
}

bool
volumes_store(Db *db, gint64 id, const char *description, json_t *config, GError **error)
{
    struct edit job = {.id = id, .text = description, .config = config};
    return db_write(db, store_volume, &job, error);
}

static bool
delete_volume(DbTx *tx, void *data, GError **error)
{
    const VolumeWhich *which = data;
    return db_exec(tx, error,
                   "DELETE FROM volumes WHERE pool_id = (SELECT id FROM pools WHERE name = ?)"
                   " AND project_id = (SELECT id FROM projects WHERE name = ?) AND type = ?"
                   " AND name = ?",
                   "ssss", which->pool, which->project, which->type, which->name);
}

bool
volumes_delete(Db *db, const VolumeWhich *which, GError **error)
{
    VolumeWhich copy = *which;
    return db_write(db, delete_volume, &copy, error);
}

bool
volumes_rename(Db *db, gint64 id, const char *new_name, const char *moved_from, GError **error)
{
    struct edit job = {"volumes", .id = id, .text = new_name, .other = moved_from};
    return db_write(db, rename_row, &job, error);
}

bool
volumes_rename_done(Db *db, gint64 id, GError **error)
{
    return db_write(db, settle_row, &(struct edit){"volumes", .id = id}, error);
}

/* ---- snapshots ---- */

static bool
load_snaps(DbTx *tx, void *data, GError **error)
{
    struct load *job = data;
    g_autoptr(DbRows) rows = db_query(
        tx, error,
        "SELECT s.id, s.volume_id, p.name, r.name, v.type, v.name, s.name, s.description,"
        " s.config, s.created_at, s.expires_at, s.moved_from FROM volume_snapshots s"
        " JOIN volumes v ON v.id = s.volume_id" OF_VOLUME WHICH " AND (? IS NULL OR s.name = ?)"
        " ORDER BY p.name, r.name, v.type, v.name, s.created_at, s.id",
        "ssssssssss", WHICH_ARGS(job->which), job->which->item, job->which->item);
    while (db_next(rows)) {
        VolumeSnapRow *row = g_new0(VolumeSnapRow, 1);
        row->id = db_int(rows, 0);
        row->volume_id = db_int(rows, 1);
        row->pool = g_strdup(db_text(rows, 2));
        row->project = g_strdup(db_text(rows, 3));
        row->type = g_strdup(db_text(rows, 4));
        row->volume = g_strdup(db_text(rows, 5));
        row->name = g_strdup(db_text(rows, 6));
        row->description = g_strdup(db_text(rows, 7));
        row->config = db_json(rows, 8);
        row->created_at = db_int(rows, 9);
        row->expires_at = db_int(rows, 10);
        row->moved_from = g_strdup(db_text(rows, 11));
        g_ptr_array_add(job->rows, row);
    }
    return db_rows_ok(rows, error);
}

GPtrArray *
volume_snaps_load(Db *db, const VolumeWhich *which, GError **error)
{
    return load_all(db, which, load_snaps, (GDestroyNotify) volume_snap_row_free, error);
}

VolumeSnapRow *
volume_snaps_get(Db *db, const VolumeWhich *which, GError **error)
{
    return only(volume_snaps_load(db, which, error), "Storage volume snapshot not found", error);
}

static bool
insert_snap(DbTx *tx, void *data, GError **error)
{
    VolumeSnapRow *row = data;
    if (!db_exec(tx, error,
                 "INSERT INTO volume_snapshots (volume_id, name, description, config, created_at,"
                 " expires_at) VALUES (?, ?, ?, ?, ?, ?)",
                 "issjii", row->volume_id, row->name, row->description, row->config,
                 row->created_at, row->expires_at)) {
        return false;
    }
    row->id = db_last_id(tx);
    return true;
}

bool
volume_snaps_insert(Db *db, VolumeSnapRow *row, GError **error)
{
    return db_write(db, insert_snap, row, error);
}

struct whole {
    VolumeRow *row;
    GPtrArray *snaps;
};

static bool
insert_whole(DbTx *tx, void *data, GError **error)
{
    struct whole *whole = data;
    bool ok = insert_volume(tx, whole->row, error);
    for (guint i = 0; ok && i < whole->snaps->len; i++) {
        VolumeSnapRow *snap = whole->snaps->pdata[i];
        snap->volume_id = whole->row->id;
        ok = insert_snap(tx, snap, error);
    }
    return ok;
}

bool
volumes_insert_all(Db *db, VolumeRow *row, GPtrArray *snaps, GError **error)
{
    return db_write(db, insert_whole, &(struct whole){row, snaps}, error);
}

static bool
store_snap(DbTx *tx, void *data, GError **error)
{
    struct edit *job = data;
    return db_exec(tx, error,
                   "UPDATE volume_snapshots SET description = ?, expires_at = ? WHERE id = ?",
                   "sii", job->text, job->when, job->id);
}

bool
volume_snaps_store(Db *db, gint64 id, const char *description, gint64 expires_at, GError **error)
{
    struct edit job = {.id = id, .text = description, .when = expires_at};
    return db_write(db, store_snap, &job, error);
}

bool
volume_snaps_delete(Db *db, gint64 id, GError **error)
{
    return db_write(db, delete_row, &(struct edit){"volume_snapshots", .id = id}, error);
}

bool
volume_snaps_rename(Db *db, gint64 id, const char *new_name, const char *moved_from, GError **error)
{
    struct edit job = {"volume_snapshots", .id = id, .text = new_name, .other = moved_from};
    return db_write(db, rename_row, &job, error);
}

bool
volume_snaps_rename_done(Db *db, gint64 id, GError **error)
{
    return db_write(db, settle_row, &(struct edit){"volume_snapshots", .id = id}, error);
}

/* ---- backups ---- */

static bool
load_backups(DbTx *tx, void *data, GError **error)
{
    struct load *job = data;
    g_autoptr(DbRows) rows =
        db_query(tx, error,
                 "SELECT b.id, b.volume_id, p.name, r.name, v.type, v.name, b.name, b.created_at,"
                 " b.expires_at, b.volume_only, b.optimized FROM volume_backups b"
                 " JOIN volumes v ON v.id = b.volume_id" OF_VOLUME WHICH
                 " AND (? IS NULL OR b.name = ?) ORDER BY b.id",
                 "ssssssssss", WHICH_ARGS(job->which), job->which->item, job->which->item);
    while (db_next(rows)) {
        VolumeBackupRow *row = g_new0(VolumeBackupRow, 1);
        row->id = db_int(rows, 0);
        row->volume_id = db_int(rows, 1);
        row->pool = g_strdup(db_text(rows, 2));
        row->project = g_strdup(db_text(rows, 3));
        row->type = g_strdup(db_text(rows, 4));
        row->volume = g_strdup(db_text(rows, 5));
        row->name = g_strdup(db_text(rows, 6));
        row->created_at = db_int(rows, 7);
        row->expires_at = db_int(rows, 8);
        row->volume_only = db_int(rows, 9) != 0;
        row->optimized = db_int(rows, 10) != 0;
        g_ptr_array_add(job->rows, row);
    }
    return db_rows_ok(rows, error);
}

GPtrArray *
volume_backups_load(Db *db, const VolumeWhich *which, GError **error)
{
    return load_all(db, which, load_backups, (GDestroyNotify) volume_backup_row_free, error);
}

static bool
insert_backup(DbTx *tx, void *data, GError **error)
{
    VolumeBackupRow *row = data;
    if (!db_exec(tx, error,
                 "INSERT INTO volume_backups (volume_id, name, created_at, expires_at,"
                 " volume_only, optimized) VALUES (?, ?, ?, ?, ?, ?)",
                 "isiibb", row->volume_id, row->name, row->created_at, row->expires_at,
                 (int) row->volume_only, (int) row->optimized)) {
        return false;
    }
    row->id = db_last_id(tx);
    return true;
}

bool
volume_backups_insert(Db *db, VolumeBackupRow *row, GError **error)
{
    return db_write(db, insert_backup, row, error);
}

static bool
rename_backup(DbTx *tx, void *data, GError **error)
{
    struct edit *job = data;
    return db_exec(tx, error, "UPDATE volume_backups SET name = ? WHERE id = ?", "si", job->text,
                   job->id);
}

bool
volume_backups_rename(Db *db, gint64 id, const char *new_name, GError **error)
{
    struct edit job = {.id = id, .text = new_name};
    return db_write(db, rename_backup, &job, error);
}

bool
volume_backups_delete(Db *db, gint64 id, GError **error)
{
    return db_write(db, delete_row, &(struct edit){"volume_backups", .id = id}, error);
}

/* ---- who may hold one ---- */

static void
holder_free(VolumeHolder *holder)
{
    g_free(holder->project);
    json_decref(holder->devices);
    g_free(holder);
}

static bool
load_holders(DbTx *tx, void *data, GError **error)
{
    g_autoptr(DbRows) rows = db_query(
        tx, error,
        "SELECT f.id, 1, r.name, f.devices FROM profiles f JOIN projects r ON r.id = f.project_id"
        " UNION ALL"
        " SELECT i.id, 0, r.name, i.devices FROM instances i JOIN projects r ON r.id = "
        "i.project_id",
        "");
    while (db_next(rows)) {
        VolumeHolder *holder = g_new0(VolumeHolder, 1);
        holder->id = db_int(rows, 0);
        holder->profile = db_int(rows, 1) != 0;
        holder->project = g_strdup(db_text(rows, 2));
        holder->devices = db_json(rows, 3);
        g_ptr_array_add(data, holder);
    }
    return db_rows_ok(rows, error);
}

GPtrArray *
volume_holders_load(Db *db, GError **error)
{
    g_autoptr(GPtrArray) rows = g_ptr_array_new_with_free_func((GDestroyNotify) holder_free);
    if (!db_read(db, load_holders, rows, error)) {
        return NULL;
    }
    return g_steal_pointer(&rows);
}

static bool
store_holder(DbTx *tx, void *data, GError **error)
{
    const VolumeHolder *holder = data;
    return db_exec(tx, error,
                   holder->profile ? "UPDATE profiles SET devices = ? WHERE id = ?"
                                   : "UPDATE instances SET devices = ? WHERE id = ?",
                   "ji", holder->devices, holder->id);
}

bool
volume_holders_store(Db *db, const VolumeHolder *holder, GError **error)
{
    return db_write(db, store_holder, (void *) holder, error);
}
