/* volumes.h: the rows of storage volumes, of their snapshots and backups.
 * 'moved_from' names what is on disk while a rename is under way: set with the new name in one
 * transaction, cleared once the directory has followed.
 * Threads: main loop, inside fibers; all calls yield. */
#pragma once
#include "agent/state/db.h"

typedef struct {
    gint64 id;
    char *pool, *project;
    char *type; /* "container", "virtual-machine", "image", "custom" */
    char *name;
    char *content_type; /* "filesystem", "block" */
    char *description;
    char *moved_from; /* NULL but for a moment */
    json_t *config;
    gint64 created_at;
} VolumeRow;

typedef struct {
    gint64 id, volume_id;
    char *pool, *project, *type, *volume; /* filled by loads */
    char *name, *description, *moved_from;
    json_t *config;
    gint64 created_at, expires_at;
} VolumeSnapRow;

typedef struct {
    gint64 id, volume_id;
    char *pool, *project, *type, *volume;
    char *name;
    gint64 created_at, expires_at;
    bool volume_only, optimized;
} VolumeBackupRow;

void volume_row_free(VolumeRow *row);
void volume_snap_row_free(VolumeSnapRow *row);
void volume_backup_row_free(VolumeBackupRow *row);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VolumeRow, volume_row_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VolumeSnapRow, volume_snap_row_free)
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VolumeBackupRow, volume_backup_row_free)

/* Which volumes: NULL members match all. For snapshots and backups as well: 'name' is the volume's,
 * 'item' the snapshot's or the backup's. */
typedef struct {
    const char *pool, *project, *type, *name, *item;
} VolumeWhich;

/* By pool, project, type, name; owned elements. */
GPtrArray *volumes_load(Db *db, const VolumeWhich *which, GError **error);
/* The one: NOT_FOUND "Storage volume not found". */
VolumeRow *volumes_get(Db *db, const VolumeWhich *which, GError **error);
/* row->pool and row->project are names. EXISTS; sets row->id. */
bool volumes_insert(Db *db, VolumeRow *row, GError **error);
/* With VolumeSnapRow elements, all or nothing; sets the ids. */
bool volumes_insert_all(Db *db, VolumeRow *row, GPtrArray *snaps, GError **error);
bool volumes_store(Db *db, gint64 id, const char *description, json_t *config, GError **error);
bool volumes_delete(Db *db, const VolumeWhich *which, GError **error);
/* EXISTS when the new name is taken. */
bool volumes_rename(Db *db, gint64 id, const char *new_name, const char *moved_from,
                    GError **error);
bool volumes_rename_done(Db *db, gint64 id, GError **error);

GPtrArray *volume_snaps_load(Db *db, const VolumeWhich *which, GError **error);
/* NOT_FOUND "Storage volume snapshot not found". */
VolumeSnapRow *volume_snaps_get(Db *db, const VolumeWhich *which, GError **error);
bool volume_snaps_insert(Db *db, VolumeSnapRow *row, GError **error);
bool volume_snaps_store(Db *db, gint64 id, const char *description, gint64 expires_at,
                        GError **error);
bool volume_snaps_delete(Db *db, gint64 id, GError **error);
bool volume_snaps_rename(Db *db, gint64 id, const char *new_name, const char *moved_from,
                         GError **error);
bool volume_snaps_rename_done(Db *db, gint64 id, GError **error);

GPtrArray *volume_backups_load(Db *db, const VolumeWhich *which, GError **error);
bool volume_backups_insert(Db *db, VolumeBackupRow *row, GError **error);
bool volume_backups_rename(Db *db, gint64 id, const char *new_name, GError **error);
bool volume_backups_delete(Db *db, gint64 id, GError **error);

/* A profile's or an instance's own devices, with which a renamed volume is looked for. */
typedef struct {
    gint64 id;
    bool profile;
    char *project;
    json_t *devices;
} VolumeHolder;
GPtrArray *volume_holders_load(Db *db, GError **error);
bool volume_holders_store(Db *db, const VolumeHolder *holder, GError **error);
