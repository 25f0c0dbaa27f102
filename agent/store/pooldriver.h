/* pooldriver.h: what a storage driver does for a pool and for one volume on it.
 * Pool calls run in a fiber on the main loop and may yield. Volume calls run on a worker thread: they
 * see their arguments and nothing else, block as they like, and may be called again after a crash.
 * A volume call that fails leaves the target as it was (a copy's target: not there). */
#pragma once
#include "agent/store/mnt.h"
#include "agent/store/pool.h"

typedef struct {
    const char *name;
    const char *dir;  /* the agent's */
    const char *path; /* <dir>/storage-pools/<name>, where it is mounted */
    json_t *config;   /* borrowed; create may set "source" and "size" */
} DriverPool;

/* One volume or snapshot, by its place on disk. */
typedef struct {
    const char *pool_path;
    char *path; /* <pool>/containers/NAME or <pool>/containers-snapshots/NAME/SNAP */
    VolType type;
    bool snapshot;
    bool block;    /* content is one raw file, DRIVER_BLOCK_FILE */
    gint64 number; /* unique on the pool, for project quotas */
} DriverVol;

#define DRIVER_BLOCK_FILE "root.img"

typedef struct Driver {
    const char *name;
    const char *version;
    bool loop; /* pools may live in a loop file: "size" is a key */

    /* Whether this host can do it at all. */
    bool (*usable)(void);
    /* Makes the pool (formats, checks that the source is empty); not mounted yet. */
    bool (*pool_create)(const DriverPool *pool, GError **error);
    bool (*pool_mount)(const DriverPool *pool, GError **error);
    bool (*pool_unmount)(const DriverPool *pool, GError **error);
    /* Of an unmounted pool without volumes. */
    bool (*pool_delete)(const DriverPool *pool, GError **error);
    /* From pool->config to 'changed' (keys that differ; JSON null: removed). NULL: nothing to do. */
    bool (*pool_update)(const DriverPool *pool, json_t *changed, GError **error);

    /* An empty directory in which a volume can be filled. */
    bool (*create)(const DriverVol *vol, GError **error);
    /* 'to' (not there yet) becomes a writable copy of 'from': a volume, a snapshot or an image. */
    bool (*clone)(const DriverVol *from, const DriverVol *to, GCancellable *cancel, GError **error);
    /* on: a snapshot or image is complete, nobody writes to it from now on. Off: before it is moved
     * away. NULL: nothing to do. */
    bool (*seal)(const DriverVol *vol, bool on, GError **error);
    /* Removes the volume at 'vol', or what a crash left of it. Not there is success. */
    bool (*remove)(const DriverVol *vol, GError **error);
    /* 0: no limit. NULL: no quotas. */
    bool (*set_quota)(const DriverVol *vol, gint64 bytes, GError **error);
    /* False without an error: cannot tell. */
    bool (*usage)(const DriverVol *vol, gint64 *ret_used, gint64 *ret_total);

    /* Where content is not simply there: NULL otherwise. */
    bool (*mount)(const DriverVol *vol, const struct mnt_idmap *map, size_t map_count,
                  GError **error);
    bool (*unmount)(const DriverVol *vol, bool lazy, GError **error);
    bool (*maps_ids)(const DriverVol *vol);
    /* A read-only look at the whole content under 'target' (a new empty directory), also while the
     * volume is mounted elsewhere. NULL: vol->path will do. Undone by unmounting and removing. */
    bool (*view)(const DriverVol *vol, const char *target, GError **error);
    /* Volumes that a container made inside 'from' (subvolumes), for a copy to another pool of this driver: places
     * for them in the empty 'to'; once 'to' is filled, what 'from' says of them. NULL: there are none. */
    bool (*inner)(const DriverVol *from, const DriverVol *to, bool filled, GError **error);
    /* What the volume cannot live without: name of the image below it; caller frees. NULL: none. */
    char *(*image_below)(const DriverVol *vol);
} Driver;

extern const Driver dir_driver, btrfs_driver, overlay_driver;
/* Ends with NULL. */
extern const Driver *const driver_table[];
/* By name, NULL when unknown. */
const Driver *pooldriver_find(const char *name);
