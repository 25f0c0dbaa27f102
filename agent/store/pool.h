/* pool.h: storage pools and the volumes on them, for instances, images and the API.
 * A volume is named by (project, type, name); a snapshot adds its name. Rows (state/volumes.c) and
 * what is on disk change together: the row comes first with creation and goes last with deletion,
 * and store_repair() at start removes what has no row.
 * Threads: main loop, inside fibers. All calls that touch the disk yield. */
#pragma once
#include "agent/agent.h"
#include "agent/api/server.h"
#include <gio/gio.h>

typedef enum { VOL_CONTAINER, VOL_VM, VOL_IMAGE, VOL_CUSTOM } VolType;
typedef struct {
    const char *pool;
    const char *project;
    VolType type;
    const char *name; /* image volumes: the fingerprint */
    const char *snap; /* NULL for the volume itself */
} Vol;

PoolTable *pool_table_new(Agent *agent);
void pool_table_free(PoolTable *table);
/* At start: mounts every pool, removes leftovers of a crash. A pool that can't be mounted becomes
 * Unavailable and is retried each minute. Yields. */
bool pool_table_start(PoolTable *table, GError **error);
void pool_table_stop(PoolTable *table); /* unmounts; Yields. */

bool pool_exists(PoolTable *table, const char *pool);
/* "The only pool there is", or NULL. */
char *pool_only(PoolTable *table);
const char *pool_driver(PoolTable *table, const char *pool); /* NULL when unknown */
/* "btrfs | dir": the drivers in use; caller frees. */
char *pool_drivers(PoolTable *table);

/* Fills a new, mounted volume: 'path' is the directory <…>/containers/NAME, in which the filler makes
 * rootfs/, metadata.yaml and templates/. Runs in the caller's fiber. */
typedef bool (*VolFill)(const char *path, void *data, GError **error);

/* A new volume; a virtual machine's has its disk in DRIVER_BLOCK_FILE, made or grown to "size" (or the
 * default). config: volume keys, may be NULL. fill may be NULL (empty). On failure nothing is left. */
bool vol_create(PoolTable *table, const Vol *vol, json_t *config, VolFill fill, void *data,
                GError **error);
/* A new instance volume with an image's content: by clone of the pool's image volume where the driver
 * has that (it is made by 'fill' when it isn't there yet), else by 'fill'. */
bool vol_create_from_image(PoolTable *table, const Vol *vol, const char *fingerprint,
                           json_t *config, VolFill fill, void *data, GError **error);
/* A copy of a volume or snapshot, to any pool; with its snapshots when asked (and the source is no
 * snapshot). */
bool vol_copy(PoolTable *table, const Vol *from, const Vol *to, bool with_snapshots,
              GCancellable *cancel, GError **error);
bool vol_delete(PoolTable *table, const Vol *vol, GError **error); /* with its snapshots */
bool vol_rename(PoolTable *table, const Vol *vol, const char *new_name, GError **error);
bool vol_snapshot(PoolTable *table, const Vol *vol_with_snap, gint64 expires_at, GError **error);
bool vol_snapshot_delete(PoolTable *table, const Vol *vol_with_snap, GError **error);
bool vol_snapshot_rename(PoolTable *table, const Vol *vol_with_snap, const char *new_snap,
                         GError **error);
bool vol_restore(PoolTable *table, const Vol *vol_with_snap, GError **error);
/* bytes 0 removes the quota. UNSUPPORTED is never returned: drivers without quotas accept. */
bool vol_set_quota(PoolTable *table, const Vol *vol, gint64 bytes, GError **error);
/* used -1 when the driver can't tell; total 0 without a quota. */
bool vol_usage(PoolTable *table, const Vol *vol, gint64 *ret_used, gint64 *ret_total,
               GError **error);

/* Mounted for use; counted, so that each mount needs one unmount. The path is the caller's: the
 * directory that holds rootfs/ (containers), or the content itself (custom). */
bool vol_mount(PoolTable *table, const Vol *vol, char **ret_path, GError **error);
bool vol_unmount(PoolTable *table, const Vol *vol, GError **error);
/* An adopted instance's mount, after a restart of the agent: counts without mounting. */
void vol_adopt(PoolTable *table, const Vol *vol);
/* Where it is or would be mounted; caller frees. */
char *vol_path(PoolTable *table, const Vol *vol);

/* As vol_mount(), for a container that is about to run with 'idmap' ([{"Isuid","Isgid","Hostid",
 * "Nsid","Maprange"}…]; NULL or empty: privileged). Ids on disk stay the container's own (unshifted).
 * *ret_mapped true: what lies under the path shows host ids already (overlay: its layers are mapped),
 * so use it as it is. False: the caller maps ids by itself (rootfs option idmap=container) when
 * vol_idmap_mountable() says so, else shifts ownership on disk. Either way the volume's directory
 * (mode 0100) is then owned by the container's root, so that it can be walked through. While it is
 * mapped, vol_mount() of the same volume gives the same, mapped path. BUSY when it is mounted with
 * another map. Ends with vol_unmount(). */
bool vol_mount_idmapped(PoolTable *table, const Vol *vol, json_t *idmap, char **ret_path,
                        bool *ret_mapped, GError **error);
/* Whether the kernel can mount the volume's filesystem with an id map. For a volume whose
 * vol_mount_idmapped() maps by itself this is true as well: never shift such a one on disk. */
bool vol_idmap_mountable(PoolTable *table, const Vol *vol);
/* Whether vol_mount_idmapped() maps ids by itself (*ret_mapped). */
bool vol_maps_ids(PoolTable *table, const Vol *vol);
/* The config of a custom volume, a new reference; NOT_FOUND. */
json_t *vol_config(PoolTable *table, const Vol *vol, GError **error);
/* Whether its content is a disk rather than a tree of files. */
bool vol_is_block(PoolTable *table, const Vol *vol, bool *ret_block, GError **error);
bool vol_set_config_key(PoolTable *table, const Vol *vol, const char *key, const char *value,
                        GError **error);

/* Used-by of pools and custom volumes is asked of instances and profiles: inst/inst.h. */
extern const Route pool_routes[];
extern const Route volume_routes[];
