/* wire.h: pools and volumes as REST has them: bodies in, JSON out, who uses what.
 * Threads: main loop, inside fibers. */
#pragma once
#include "agent/store/shelf.h"

/* A body's member of text, "" when it is missing or null; INVALID when it is anything else. */
bool wire_text(json_t *body, const char *name, const char **ret, GError **error);
bool wire_bool(json_t *body, const char *name, bool *ret, GError **error);
/* "config": an object of strings; *ret is a new object. */
bool wire_config(json_t *body, json_t **ret, GError **error);
/* "expires_at": 0 when missing. *ret_given (may be NULL) tells whether it was there. */
bool wire_time(json_t *body, const char *name, gint64 *ret_us, bool *ret_given, GError **error);

/* "/1.0/storage-pools/p/volumes/custom/v[/snapshots/s][?project=x]"; caller frees. */
char *wire_volume_url(const Vol *vol);
/* A new reference. Yields (used_by). */
json_t *wire_pool(PoolTable *table, const char *name, GError **error);
/* The same as other servers hear of it: not where it is, nor who uses it. */
json_t *wire_pool_told(PoolTable *table, const char *name, GError **error);
json_t *wire_pool_tag(Pool *pool);
json_t *wire_volume(PoolTable *table, const VolumeRow *row);
json_t *wire_volume_tag(const VolumeRow *row);
/* As it stands in lists of volumes: name "v1/snap0". */
json_t *wire_snapshot_as_volume(const VolumeRow *row, const VolumeSnapRow *snap);
json_t *wire_snapshot(const VolumeRow *row, const VolumeSnapRow *snap, bool long_name);
json_t *wire_snapshot_tag(const VolumeSnapRow *snap);

/* The id map on disk is the content's, whatever a client says: 'config' gets that of 'content' (NULL: none). */
void wire_keep_ids(json_t *config, json_t *content);

/* URLs of instances and profiles that have the custom volume as a disk; a new array. Yields. */
json_t *wire_used_by(PoolTable *table, const VolumeRow *row);
/* The instances (referenced) that have it. Yields. */
GPtrArray *wire_users(PoolTable *table, const Vol *vol);
/* Whether an instance that has it runs. Yields. */
bool wire_runs(PoolTable *table, const Vol *vol);

/* The volume that the path names: pool, project (where such volumes live), type, name. INVALID "Invalid storage volume type name". The strings are the request's. */
bool wire_vol(Request *req, Vol *ret, GError **error);
/* The same with its row: NOT_FOUND "Storage pool volume not found". */
VolumeRow *wire_row(Request *req, Vol *ret_vol, GError **error);
/* Name rules: not empty, no slash. */
bool wire_check_volume_name(const char *name, GError **error);
/* Every key known and right, for content; LXD's texts. */
bool wire_check_volume_config(const char *disk_name, const char *content_type, json_t *config,
                              GError **error);
