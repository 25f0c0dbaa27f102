/* unknown.h: what lies on a pool and no row knows: after the database was lost, or put back from an
 * older copy. Threads: main loop, inside fibers; all calls yield. */
#pragma once
#include "agent/store/pool.h"

typedef struct {
    VolType type;
    char *pool, *project, *name;
    char *path;
    GPtrArray *snaps; /* names, in order */
    json_t *document; /* an instance's backup.yaml; NULL for a custom volume */
} UnknownVol;

void unknown_vol_free(UnknownVol *vol);

/* Whether what lies at 'path' can be recovered: an instance's volume with its backup.yaml, a custom
 * volume with anything in it. Does not yield. */
bool unknown_holds(VolType type, const char *path);
/* Volumes of a mounted pool without a row: UnknownVol, owned. FAILED names a backup.yaml that can't be read. */
GPtrArray *unknown_list(PoolTable *table, const char *pool, GError **error);
/* Rows for it and for its snapshots ('told': "volume" and "volume_snapshots" as in backup.yaml, may be
 * NULL): it is a volume from now on. A second time changes nothing. */
bool unknown_take(PoolTable *table, const UnknownVol *vol, json_t *told, GError **error);

/* A pool without a row is mounted, to be looked at: until _take() it is available for nothing else.
 * 'config' has its "source". */
bool unknown_pool_mount(PoolTable *table, const char *name, const char *driver, json_t *config,
                        GError **error);
/* It gets its row, 'told' being a backup.yaml's "pool" (NULL: as it was mounted), and is opened. */
bool unknown_pool_take(PoolTable *table, const char *name, json_t *told, GError **error);
/* Unmounts one that was not taken; any other name is left alone. */
void unknown_pool_forget(PoolTable *table, const char *name);
