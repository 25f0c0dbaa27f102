/* The shelf: every pool of this server, in memory.
 * S1  A pool in the table has a row. It is available only while its filesystem is mounted at
 *     storage-pools/<name> and carries our mark: an empty mount point is never taken for a pool whose
 *     volumes have all gone.
 * S2  What is being made lies in .new, what is being removed in .gone: both are emptied at start, and
 *     a name in containers/, custom/, … is always whole.
 * S3  Removal is a rename followed by a background sweep, one sweeper a pool.
 * S4  Locks are by volume, snapshots included, and live only while somebody wants them.
 * Main loop only. Called by everything else in this folder. */
#include "agent/store/shelf.h"

#include "agent/api/warning.h"
#include "agent/auth/project.h"
#include "agent/store/work.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/ids.h"
#include "base/log.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MINUTE_MS = 60 * 1000, FIRST_LOOK_MS = 1000 };
#define MARK_FILE ".pool"

VolumeWhich
shelf_which(const Vol *vol)
{
    return (VolumeWhich){.pool = vol->pool,
                         .project = vol->type == VOL_IMAGE ? "default" : vol->project,
                         .type = shelf_type_name(vol->type),
                         .name = vol->name,
                         .item = vol->snap};
}

/* ---- the table ---- */

static void
pool_free(Pool *pool)
{
    pool_row_free(pool->row);
    g_free(pool->path);
    g_free(pool->new_dir);
    g_free(pool->gone_dir);
    g_hash_table_unref(pool->images);
    g_free(pool);
}

static void
hold_free(Hold *hold)
{
    g_free(hold->map);
    g_free(hold);
}

PoolTable *
pool_table_new(Agent *agent)
{
    PoolTable *table = g_new0(PoolTable, 1);
    table->agent = agent;
    table->pools = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, (GDestroyNotify) pool_free);
    table->holds =
        g_hash_table_new_full(g_str_hash, g_str_equal, g_free, (GDestroyNotify) hold_free);
    table->locks = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
    table->released = (FiberSignal) FIBER_SIGNAL_INIT;
    table->stop = agent->stopping != NULL ? g_object_ref(agent->stopping) : g_cancellable_new();
    return table;
}

void
pool_table_free(PoolTable *table)
{
    if (table == NULL) {
        return;
    }
    g_hash_table_unref(table->pools);
    g_hash_table_unref(table->holds);
    g_hash_table_unref(table->locks);
    g_object_unref(table->stop);
    g_free(table);
}

Pool *
shelf_add(PoolTable *table, PoolRow **row)
{
    Pool *pool = g_new0(Pool, 1);
    pool->row = g_steal_pointer(row);
    pool->driver = pooldriver_find(pool->row->driver);
    pool->path = agent_path(table->agent, "storage-pools/%s", pool->row->name);
    pool->new_dir = g_build_filename(pool->path, ".new", NULL);
    pool->gone_dir = g_build_filename(pool->path, ".gone", NULL);
    pool->images = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    g_hash_table_insert(table->pools, pool->row->name, pool);
    return pool;
}

Pool *
shelf_pool(PoolTable *table, const char *name, bool usable, GError **error)
{
    Pool *pool = name != NULL ? g_hash_table_lookup(table->pools, name) : NULL;
    if (pool == NULL) {
        haw_fail(error, HAW_NOT_FOUND, "Storage pool not found");
        return NULL;
    }
    if (usable && !pool->available) {
        haw_fail(error, HAW_UNAVAILABLE, "Storage pool \"%s\" unavailable on this server", name);
        return NULL;
    }
    return pool;
}

DriverPool
shelf_driver_pool(PoolTable *table, Pool *pool)
{
    return (DriverPool){.name = pool->row->name,
                        .dir = table->agent->dir,
                        .path = pool->path,
                        .config = pool->row->config};
}

bool
pool_exists(PoolTable *table, const char *pool)
{
    return g_hash_table_contains(table->pools, pool);
}

char *
pool_only(PoolTable *table)
{
    GHashTableIter iter;
    gpointer name = NULL;
    if (g_hash_table_size(table->pools) != 1) {
        return NULL;
    }
    g_hash_table_iter_init(&iter, table->pools);
    g_hash_table_iter_next(&iter, &name, NULL);
    return g_strdup(name);
}

const char *
pool_driver(PoolTable *table, const char *name)
{
    Pool *pool = g_hash_table_lookup(table->pools, name);
    return pool != NULL ? pool->row->driver : NULL;
}

static int
compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *) a, *(char *const *) b);
}

char *
pool_drivers(PoolTable *table)
{
    g_autoptr(GPtrArray) names = g_ptr_array_new();
    GHashTableIter iter;
    gpointer pool;
    g_hash_table_iter_init(&iter, table->pools);
    while (g_hash_table_iter_next(&iter, NULL, &pool)) {
        char *driver = ((Pool *) pool)->row->driver;
        if (!g_ptr_array_find_with_equal_func(names, driver, g_str_equal, NULL)) {
            g_ptr_array_add(names, driver);
        }
    }
    g_ptr_array_sort(names, compare_names);
    g_ptr_array_add(names, NULL);
    return g_strjoinv(" | ", (char **) names->pdata);
}

/* ---- opening and closing ---- */

bool
shelf_mark(Pool *pool, GError **error)
{
    g_autofree char *mark = g_build_filename(pool->path, MARK_FILE, NULL);
    return fd_write_atomic(mark, pool->row->name, strlen(pool->row->name), 0600, error);
}

/* Containers walk to their own directory; what lies in the others (with set-user-id files that are
 * root's on disk) is nobody's on the host but ours. */
static bool
make_dirs(Pool *pool, GError **error)
{
    static const struct {
        const char *name;
        mode_t mode;
    } dirs[] = {{"containers", 0711},
                {"containers-snapshots", 0700},
                {"virtual-machines", 0711},
                {"virtual-machines-snapshots", 0700},
                {"images", 0700},
                {"custom", 0700},
                {"custom-snapshots", 0700},
                {".new", 0700},
                {".gone", 0700}};
    for (size_t i = 0; i < G_N_ELEMENTS(dirs); i++) {
        g_autofree char *path = g_build_filename(pool->path, dirs[i].name, NULL);
        if (!fd_mkdir_p(path, dirs[i].mode, error)) {
            return false;
        }
    }
    return true;
}

/* S1 */
bool
shelf_open(PoolTable *table, Pool *pool, GError **error)
{
    DriverPool place = shelf_driver_pool(table, pool);
    if (pool->driver == NULL || !pool->driver->usable()) {
        return haw_fail(error, HAW_UNAVAILABLE, "The driver '%s' is not usable on this server",
                        pool->row->driver);
    }
    if (!pool->driver->pool_mount(&place, error)) {
        return false;
    }
    g_autofree char *mark = g_build_filename(pool->path, MARK_FILE, NULL);
    if (access(mark, F_OK) < 0) {
        return haw_fail(error, HAW_UNAVAILABLE, "'%s' does not hold the pool (no '%s' in it)",
                        pool->path, MARK_FILE);
    }
    if (!make_dirs(pool, error)) {
        return false;
    }
    pool->can_idmap = work_can_idmap(pool->path);
    if (!repair_pool(table, pool, error)) {
        return false;
    }
    pool->available = true;
    return true;
}

static void
try_open(PoolTable *table, Pool *pool)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *name = g_strdup(pool->row->name);
    g_autofree char *url = g_strdup_printf("/1.0/storage-pools/%s", name);
    if (shelf_open(table, pool, &error)) {
        haw_info("pool.opened", KS("pool", name), KS("driver", pool->driver->name));
        warning_resolve(table->agent, WARNING_STORAGE_POOL_UNAVAILABLE, NULL, url);
    } else {
        haw_warn("pool.unavailable", KS("pool", name), KS("why", error->message));
        warning_raise(table->agent, WARNING_STORAGE_POOL_UNAVAILABLE, NULL, url, error->message);
    }
}

/* Names, for pools may come and go while one is opened. */
static char **
pool_names(PoolTable *table)
{
    g_autofree char **names = (char **) g_hash_table_get_keys_as_array(table->pools, NULL);
    return g_strdupv(names);
}

static void
undo_pending(PoolTable *table)
{
    g_auto(GStrv) names = pool_names(table);
    for (char **name = names; *name != NULL; name++) {
        Pool *pool = g_hash_table_lookup(table->pools, *name);
        if (strcmp(pool->row->state, "Pending") == 0) {
            pool_undo(table, pool);
        }
    }
}

static void
open_closed(PoolTable *table)
{
    g_auto(GStrv) names = pool_names(table);
    for (char **name = names; *name != NULL; name++) {
        Pool *pool = g_hash_table_lookup(table->pools, *name);
        if (pool != NULL && !pool->available && strcmp(pool->row->state, "Created") == 0) {
            try_open(table, pool);
        }
    }
}

static void
clean_images(PoolTable *table)
{
    g_auto(GStrv) names = pool_names(table);
    for (char **name = names; *name != NULL; name++) {
        Pool *pool = g_hash_table_lookup(table->pools, *name);
        if (pool != NULL && pool->available) {
            repair_images(table, pool);
        }
    }
}

static void
minute_task(void *data)
{
    PoolTable *table = data;
    while (fiber_sleep_ms(FIRST_LOOK_MS, table->stop, NULL) && !table->agent->ready) {
    }
    repair_mounts(table);
    /* Just after each full minute, so that no schedule is missed or met twice. */
    while (fiber_sleep_ms(MINUTE_MS + 50 - clock_real_us() / 1000 % MINUTE_MS, table->stop, NULL)) {
        if (!table->agent->shutting_down) {
            open_closed(table);
            clean_images(table);
            schedule_run(table);
        }
    }
}

bool
pool_table_start(PoolTable *table, GError **error)
{
    g_autofree char *pools_dir = agent_path(table->agent, "storage-pools");
    g_autofree char *disks_dir = agent_path(table->agent, "disks");
    if (!fd_mkdir_p(pools_dir, 0711, error) || !fd_mkdir_p(disks_dir, 0700, error)) {
        return false;
    }
    static const char *const links[] = {"containers", "snapshots", "virtual-machines",
                                        "virtual-machines-snapshots"};
    for (size_t i = 0; i < G_N_ELEMENTS(links); i++) {
        g_autofree char *path = agent_path(table->agent, "%s", links[i]);
        if (!fd_mkdir_p(path, 0711, error)) {
            return false;
        }
    }

    g_autoptr(GPtrArray) rows = pools_load(table->agent->db, error);
    if (rows == NULL) {
        return false;
    }
    while (rows->len > 0) {
        PoolRow *row = g_ptr_array_steal_index(rows, 0);
        shelf_add(table, &row);
    }
    undo_pending(table);
    open_closed(table);
    fiber_start("pools", minute_task, table);
    return true;
}

void
pool_table_stop(PoolTable *table)
{
    if (table->agent->stopping == NULL) {
        g_cancellable_cancel(table->stop);
    }
    g_auto(GStrv) names = pool_names(table);
    for (char **name = names; *name != NULL; name++) {
        Pool *pool = g_hash_table_lookup(table->pools, *name);
        if (pool == NULL || !pool->available) {
            continue;
        }
        g_autoptr(GError) error = NULL;
        pool->available = false; /* the sweeper looks at this, too */
        DriverPool place = shelf_driver_pool(table, pool);
        if (!pool->driver->pool_unmount(&place, &error)) {
            haw_info("pool.stays_mounted", KS("pool", *name), KS("why", error->message));
        }
    }
}

/* ---- discarding: S3 ---- */

typedef struct {
    PoolTable *table;
    char *name;
} Sweep;

static char *
first_name(const char *path)
{
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    return dir != NULL ? g_strdup(g_dir_read_name(dir)) : NULL;
}

static void
sweep_fiber(void *data)
{
    g_autofree Sweep *sweep = data;
    g_autofree char *pool_name = sweep->name;
    for (;;) {
        Pool *pool = g_hash_table_lookup(sweep->table->pools, pool_name);
        if (pool == NULL) {
            return;
        }
        bool ending = g_cancellable_is_cancelled(sweep->table->stop);
        g_autofree char *name = ending ? NULL : first_name(pool->gone_dir);
        if (name == NULL) { /* what is left at the end goes at the next start */
            pool->sweeping = false;
            return;
        }
        g_autoptr(GError) error = NULL;
        g_auto(DriverVol)
            vol = {.pool_path = pool->path, .path = g_build_filename(pool->gone_dir, name, NULL)};
        if (!work_remove(pool->driver, &vol, &error)) {
            haw_warn("volume.not_removed", KS("path", vol.path), KS("why", error->message));
            pool = g_hash_table_lookup(sweep->table->pools, pool_name);
            if (pool != NULL) {
                pool->sweeping = false; /* the next discard, or start, tries again */
            }
            return;
        }
    }
}

static void
sweep_start(PoolTable *table, Pool *pool)
{
    if (!pool->sweeping) {
        pool->sweeping = true;
        Sweep *sweep = g_new0(Sweep, 1);
        *sweep = (Sweep){.table = table, .name = g_strdup(pool->row->name)};
        fiber_start("sweep", sweep_fiber, sweep);
    }
}

bool
shelf_discard(PoolTable *table, Pool *pool, const char *path, GError **error)
{
    g_autofree char *id = ids_uuid();
    g_autofree char *to = g_build_filename(pool->gone_dir, id, NULL);
    if (*path != '\0' && rename(path, to) < 0 && errno != ENOENT) {
        return haw_fail_errno(error, errno, "move '%s' away", path);
    }
    sweep_start(table, pool);
    return true;
}

void
shelf_drain(Pool *pool)
{
    while (pool->sweeping) {
        fiber_sleep_ms(5, NULL, NULL);
    }
}

/* ---- locks: S4 ---- */

struct named_lock {
    FiberLock lock;
    guint users;
};

VolLock
shelf_lock(PoolTable *table, const Vol *vol)
{
    g_autofree char *name = shelf_disk_name(vol);
    char *key = g_strdup_printf("%s/%s/%s", vol->pool, shelf_type_dir(vol->type), name);
    struct named_lock *lock = g_hash_table_lookup(table->locks, key);
    if (lock == NULL) {
        lock = g_new0(struct named_lock, 1);
        lock->lock = (FiberLock) FIBER_LOCK_INIT;
        g_hash_table_insert(table->locks, g_strdup(key), lock);
    }
    lock->users++;
    fiber_lock(&lock->lock);
    return (VolLock){.table = table, .key = key};
}

void
vol_lock_done(VolLock *held)
{
    if (held->key == NULL) {
        return;
    }
    struct named_lock *lock = g_hash_table_lookup(held->table->locks, held->key);
    fiber_unlock(&lock->lock);
    if (--lock->users == 0) {
        g_hash_table_remove(held->table->locks, held->key);
    }
    g_clear_pointer(&held->key, g_free);
}

bool
shelf_held(PoolTable *table, const Vol *vol)
{
    g_autofree char *path = vol_path(table, vol);
    Hold *hold = g_hash_table_lookup(table->holds, path);
    return hold != NULL && hold->count > 0;
}
