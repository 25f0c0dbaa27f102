/* inst_rows.h: rows of instances, their profiles and their snapshots.
 * Threads: functions that take a DbTx run on the database thread, inside a transaction. */
#pragma once
#include "agent/state/db.h"

typedef struct {
    gint64 id;
    char *project, *name, *type, *architecture, *description;
    bool ephemeral, stateful;
    gint64 created_at, last_used_at;
    json_t *config, *devices; /* own */
    json_t *profiles;         /* array of names, in order */
} InstRow;

typedef struct {
    gint64 id, instance_id;
    char *name, *description, *architecture;
    bool ephemeral, stateful;
    gint64 created_at, expires_at;
    json_t *config, *devices, *profiles;
} SnapRow;

void inst_row_free(InstRow *row);
void snap_row_free(SnapRow *row);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(InstRow, inst_row_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(SnapRow, snap_row_free)

/* A profile as expansion needs it. */
typedef struct {
    char *project, *name;
    json_t *config, *devices;
} ProfileRow;
void profile_row_free(ProfileRow *row);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(ProfileRow, profile_row_free)

/* All of them, sorted by project and name; elements are InstRow, ProfileRow. */
GPtrArray *inst_rows_load(DbTx *tx, GError **error);
GPtrArray *inst_rows_load_profiles(DbTx *tx, GError **error);

/* Fills row->id. 'profile_project' is where the names of row->profiles live. EXISTS when the name is
 * taken, NOT_FOUND "Requested profile "p" doesn't exist". */
bool inst_rows_insert(DbTx *tx, InstRow *row, const char *profile_project, GError **error);
/* Everything but id, project, type and times. */
bool inst_rows_update(DbTx *tx, const InstRow *row, const char *profile_project, GError **error);
bool inst_rows_set_config(DbTx *tx, gint64 id, json_t *config, GError **error);
/* The same, and last_used_at. */
bool inst_rows_set_used(DbTx *tx, gint64 id, json_t *config, gint64 used_at, GError **error);
bool inst_rows_rename(DbTx *tx, gint64 id, const char *name, GError **error);
bool inst_rows_delete(DbTx *tx, gint64 id, GError **error);
/* inst_rows_update() with project and name as well. EXISTS. */
bool inst_rows_move(DbTx *tx, const InstRow *row, const char *profile_project, GError **error);
/* Backups' rows go over from one volume's row to another's. */
bool inst_rows_move_backups(DbTx *tx, gint64 from_volume, gint64 to_volume, GError **error);

/* Snapshots of an instance in order of creation; elements are SnapRow. */
GPtrArray *inst_rows_snapshots(DbTx *tx, gint64 instance_id, GError **error);
/* Those of every instance that expire at or before 'now', 0 < expires_at. */
GPtrArray *inst_rows_snapshots_expired(DbTx *tx, gint64 now, GError **error);
bool inst_rows_snapshot_insert(DbTx *tx, SnapRow *row, GError **error);
bool inst_rows_snapshot_rename(DbTx *tx, gint64 id, const char *name, GError **error);
bool inst_rows_snapshot_expires(DbTx *tx, gint64 id, gint64 expires_at, GError **error);
bool inst_rows_snapshot_delete(DbTx *tx, gint64 id, GError **error);
bool inst_rows_snapshots_delete_all(DbTx *tx, gint64 instance_id, GError **error);
bool inst_rows_snapshot_devices(DbTx *tx, const SnapRow *row, GError **error);
/* instance id → number of snapshots (gint64 keys), for lists. */
GHashTable *inst_rows_snapshot_counts(DbTx *tx, GError **error);

/* A step that a crash must not leave half done: a row of 'operations' until it is. */
bool inst_rows_journal_add(DbTx *tx, const char *id, const char *kind, const char *project,
                           json_t *undo, GError **error);
bool inst_rows_journal_remove(DbTx *tx, const char *id, GError **error);
/* [{"id","kind","undo"}…] of kinds that start with "instance-"; a new reference. */
json_t *inst_rows_journal(DbTx *tx, GError **error);
