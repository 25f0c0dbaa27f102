/* shelf.h: the pools in memory: which there are, which are mounted, who holds a volume.
 * Inside agent/store only; the rest of the agent sees pool.h.
 * Threads: main loop, inside fibers. */
#pragma once
#include "agent/state/pools.h"
#include "agent/state/volumes.h"
#include "agent/store/pooldriver.h"
#include "base/fiber.h"

typedef struct {
    PoolRow *row; /* owned */
    const Driver *driver;
    char *path;     /* <dir>/storage-pools/<name> */
    char *new_dir;  /* <path>/.new: what is being made */
    char *gone_dir; /* <path>/.gone: what is being removed */
    bool available; /* mounted, and its own */
    bool can_idmap;
    bool sweeping;      /* a fiber empties gone_dir */
    GHashTable *images; /* fingerprints whose volume is complete → count of clones under way */
} Pool;

/* A mounted (or adopted) volume. */
typedef struct {
    guint count;
    char *map; /* text of the id map in force; "" none, NULL unknown (adopted) */
} Hold;

struct PoolTable {
    Agent *agent;         /* borrowed */
    GHashTable *pools;    /* name → Pool */
    GHashTable *holds;    /* path → Hold */
    GHashTable *locks;    /* path → named lock */
    FiberSignal released; /* a hold went to zero */
    GCancellable *stop;   /* ends the minute task */
};

/* NOT_FOUND "Storage pool not found"; when 'usable', UNAVAILABLE unless it is mounted. Borrowed: look
 * again after a yield. */
Pool *shelf_pool(PoolTable *table, const char *name, bool usable, GError **error);
Pool *shelf_add(PoolTable *table, PoolRow **row);
DriverPool shelf_driver_pool(PoolTable *table, Pool *pool);
/* Mounts the pool, checks that it is ours, puts right what a crash left. Yields. */
bool shelf_open(PoolTable *table, Pool *pool, GError **error);
/* As written in every pool's root at creation, so that an empty mount point is not taken for it. */
bool shelf_mark(Pool *pool, GError **error);

/* Words and places. */
const char *shelf_type_name(VolType type); /* "container" */
bool shelf_type_parse(const char *name, VolType *ret_type);
const char *shelf_type_dir(VolType type);      /* "containers" */
const char *shelf_type_snap_dir(VolType type); /* "containers-snapshots" */
char *shelf_disk_name(const Vol *vol);         /* "default_vol1" */
/* Fills *ret (free its path with g_free): where the volume or snapshot is. */
void shelf_place(Pool *pool, const Vol *vol, DriverVol *ret);
char *shelf_snaps_path(Pool *pool, const Vol *vol); /* directory with its snapshots */
/* As 'like', at a new name below new_dir. */
void shelf_new_place(Pool *pool, const DriverVol *like, DriverVol *ret);
static inline void
driver_vol_done(DriverVol *vol)
{
    g_clear_pointer(&vol->path, g_free);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(DriverVol, driver_vol_done)
VolumeWhich shelf_which(const Vol *vol);

/* Moves what is at 'path' away to be removed in the background. Not there is success; "" only starts
 * the removal of what lies in gone_dir. Does not yield. */
bool shelf_discard(PoolTable *table, Pool *pool, const char *path, GError **error);
/* Waits until everything discarded is gone (a full disk, a pool's end). Yields. */
void shelf_drain(Pool *pool);

/* One operation at a time on a volume with all its snapshots: g_auto(VolLock). */
typedef struct {
    PoolTable *table;
    char *key;
} VolLock;
VolLock shelf_lock(PoolTable *table, const Vol *vol); /* Yields. */
void vol_lock_done(VolLock *lock);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(VolLock, vol_lock_done)

/* <dir>/containers/NAME and <dir>/snapshots/NAME of an instance volume follow what is there. */
void shelf_link(PoolTable *table, Pool *pool, const Vol *vol);
/* Whether somebody holds the volume mounted. */
bool shelf_held(PoolTable *table, const Vol *vol);

/* repair.c: what a crash left on a mounted pool. Yields. */
bool repair_pool(PoolTable *table, Pool *pool, GError **error);
/* Whether a volume or snapshot on the pool lives on top of the image (overlay). Blocks shortly. */
bool repair_image_used(Pool *pool, const char *fingerprint);
/* Directories of deleted images that nothing lives on any more. Yields. */
void repair_images(PoolTable *table, Pool *pool);
/* Mounts below the pools that nobody holds; once the instances have adopted theirs. Yields. */
void repair_mounts(PoolTable *table);
/* schedule.c: each minute, snapshots that are due and those that expired. Yields. */
void schedule_run(PoolTable *table);

/* pool.c: pools as the API changes them. 'config' is changed to what is stored. Yield. */
bool pool_create(PoolTable *table, const char *name, const char *driver, const char *description,
                 json_t *config, GError **error);
bool pool_update(PoolTable *table, const char *name, const char *description, json_t *config,
                 GError **error);
/* At start: a pool whose creation a crash cut short goes, with the file or directory made for it. */
void pool_undo(PoolTable *table, Pool *pool);
/* Every key known to the driver and its value right; LXD's texts. Neither yields. */
bool pool_check_name(const char *name, GError **error);
bool pool_check_config(const char *driver, json_t *config, GError **error);
bool pool_delete(PoolTable *table, const char *name, GError **error);

/* volume.c: as vol_create() and vol_copy(), with what the API knows besides. */
typedef struct {
    const char *content_type; /* NULL: "block" for a virtual machine's, else "filesystem" */
    const char *description;  /* NULL: "" */
    json_t *config;           /* NULL: the pool's defaults; for a copy: the source's */
    bool as_is;               /* a block volume without "size" has that of its content */
} VolMake;
bool volume_create(PoolTable *table, const Vol *vol, const VolMake *make, VolFill fill, void *data,
                   GError **error);
bool volume_copy(PoolTable *table, const Vol *from, const Vol *to, bool with_snapshots,
                 const VolMake *make, GCancellable *cancel, GError **error);
/* Brings one snapshot of 'from' over to 'to' (with row). */
bool volume_copy_snapshot(PoolTable *table, const Vol *from, const Vol *to,
                          const VolumeSnapRow *snap, GCancellable *cancel, GError **error);
/* A snapshot of what lies at 'path', a volume under construction on the same pool. */
bool volume_snapshot_of(PoolTable *table, const Vol *to, const VolumeSnapRow *snap,
                        const char *path, GCancellable *cancel, GError **error);
/* volreplace.c: the volume's content becomes what 'fill' makes, in one exchange at the end; its
 * snapshots stay. 'keep': fill finds the present content (where the driver can give it), else an
 * empty directory. BUSY while it is mounted. */
bool volume_replace(PoolTable *table, const Vol *vol, bool keep, VolFill fill, void *data,
                    GError **error);
/* The same with a copy of another volume or snapshot. */
bool volume_replace_by(PoolTable *table, const Vol *vol, const Vol *from, GCancellable *cancel,
                       GError **error);
/* A snapshot whose content 'fill' brings. */
bool volume_import_snapshot(PoolTable *table, const Vol *to, const VolumeSnapRow *snap,
                            VolFill fill, void *data, GError **error);
