/* Mounts of volumes, quotas and usage, and the small questions of pool.h.
 * H1  A volume is mounted once, however many hold it; the last to let go unmounts.
 * H2  A volume whose driver maps ids (overlay) has one map at a time. Who wants another waits until it
 *     is let go, HOLD_WAIT_MS at most.
 * H3  What an earlier life of the agent mounted is adopted by vol_adopt(), with an unknown map; what
 *     nobody adopts is unmounted by repair_mounts().
 * Main loop, inside fibers. */
#include "agent/store/shelf.h"

#include "agent/store/work.h"
#include "base/clock.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { HOLD_WAIT_MS = 30 * 1000 };

char *
vol_path(PoolTable *table, const Vol *vol)
{
    Pool *pool = shelf_pool(table, vol->pool, false, NULL);
    if (pool == NULL) {
        return agent_path(table->agent, "storage-pools/%s/%s/%s", vol->pool,
                          shelf_type_dir(vol->type), vol->name);
    }
    g_auto(DriverVol) place = {0};
    shelf_place(pool, vol, &place);
    return g_steal_pointer(&place.path);
}

/* ---- id maps as they come ---- */

static guint32
number(json_t *line, const char *key)
{
    return (guint32) json_integer_value(json_object_get(line, key));
}

/* Of "Isuid", "Isgid", "Hostid", "Nsid", "Maprange"; the array is the caller's. */
static struct mnt_idmap *
parse_map(json_t *idmap, size_t *ret_count)
{
    size_t i = 0;
    json_t *line = NULL;
    struct mnt_idmap *map = g_new0(struct mnt_idmap, json_array_size(idmap) + 1);
    json_array_foreach (idmap, i, line) {
        map[i] = (struct mnt_idmap){.uid = json_is_true(json_object_get(line, "Isuid")),
                                    .gid = json_is_true(json_object_get(line, "Isgid")),
                                    .inside = number(line, "Nsid"),
                                    .host = number(line, "Hostid"),
                                    .count = number(line, "Maprange")};
    }
    *ret_count = json_array_size(idmap);
    return map;
}

/* The container's root walks through the volume's directory; nobody else on the host does. */
static bool
give_door(const char *path, const struct mnt_idmap *map, size_t count, GError **error)
{
    uid_t uid = 0;
    gid_t gid = 0;
    for (size_t i = 0; i < count; i++) {
        if (map[i].inside == 0) {
            uid = map[i].uid ? map[i].host : uid;
            gid = map[i].gid ? map[i].host : gid;
        }
    }
    return (chown(path, uid, gid) == 0 && chmod(path, 0100) == 0) ||
           haw_fail_errno(error, errno, "set the owner of '%s'", path);
}

/* ---- holds ---- */

static Hold *
hold_of(PoolTable *table, const char *path)
{
    Hold *hold = g_hash_table_lookup(table->holds, path);
    if (hold == NULL) {
        hold = g_new0(Hold, 1);
        g_hash_table_insert(table->holds, g_strdup(path), hold);
    }
    return hold;
}

/* H2: until nobody holds it with another map. 'map' NULL: any will do. */
static bool
wait_for_map(PoolTable *table, const Vol *vol, const char *path, const char *map, GError **error)
{
    gint64 deadline = clock_mono_us() + HOLD_WAIT_MS * 1000;
    for (;;) {
        Hold *hold = g_hash_table_lookup(table->holds, path);
        if (hold == NULL || hold->count == 0 || map == NULL || hold->map == NULL ||
            strcmp(hold->map, map) == 0) {
            return true;
        }
        gint64 left_ms = (deadline - clock_mono_us()) / 1000;
        if (left_ms <= 0 || !fiber_signal_wait(&table->released, left_ms, NULL, NULL)) {
            return haw_fail(error, HAW_BUSY, "Volume \"%s\" is mounted by another user", vol->name);
        }
    }
}

static bool
mount_held(PoolTable *table, const Vol *vol, const char *map_text, const struct mnt_idmap *map,
           size_t map_count, char **ret_path, GError **error)
{
    Pool *pool = shelf_pool(table, vol->pool, true, error);
    if (pool == NULL) {
        return false;
    }
    g_auto(DriverVol) place = {0};
    shelf_place(pool, vol, &place);
    if (!wait_for_map(table, vol, place.path, map_text, error)) {
        return false;
    }
    g_auto(VolLock) lock = shelf_lock(table, vol);
    Hold *hold = hold_of(table, place.path);
    if (hold->count == 0) {
        if (access(place.path, F_OK) < 0) {
            g_hash_table_remove(table->holds, place.path);
            return haw_fail_errno(error, errno, "mount the volume \"%s\"", vol->name);
        }
        /* Whatever is mounted there is nobody's (H3). */
        work_unmount(pool->driver, &place, true, NULL);
        if (!work_mount(pool->driver, &place, map, map_count, error)) {
            g_hash_table_remove(table->holds, place.path);
            return haw_push(error, "Failed mounting volume \"%s\"", vol->name);
        }
        g_free(hold->map);
        hold->map = g_strdup(map_text != NULL ? map_text : "");
    } else if (map_text != NULL && hold->map != NULL && strcmp(hold->map, map_text) != 0) {
        return haw_fail(error, HAW_BUSY, "Volume \"%s\" is mounted by another user", vol->name);
    }
    hold->count++;
    *ret_path = g_steal_pointer(&place.path);
    return true;
}

bool
vol_mount(PoolTable *table, const Vol *vol, char **ret_path, GError **error)
{
    return mount_held(table, vol, NULL, NULL, 0, ret_path, error);
}

bool
vol_mount_idmapped(PoolTable *table, const Vol *vol, json_t *idmap, char **ret_path,
                   bool *ret_mapped, GError **error)
{
    size_t count = 0;
    bool maps = vol_maps_ids(table, vol);
    g_autofree struct mnt_idmap *map = parse_map(idmap, &count);
    g_autofree char *text =
        maps && count > 0 ? json_dumps(idmap, JSON_COMPACT | JSON_SORT_KEYS) : g_strdup("");
    g_autofree char *path = NULL;
    if (!mount_held(table, vol, maps ? text : NULL, maps ? map : NULL, maps ? count : 0, &path,
                    error)) {
        return false;
    }
    if (vol->snap == NULL && (vol->type == VOL_CONTAINER || vol->type == VOL_VM) &&
        !give_door(path, map, count, error)) {
        vol_unmount(table, vol, NULL);
        return false;
    }
    *ret_path = g_steal_pointer(&path);
    *ret_mapped = maps && count > 0;
    return true;
}

bool
vol_unmount(PoolTable *table, const Vol *vol, GError **error)
{
    Pool *pool = shelf_pool(table, vol->pool, false, error);
    if (pool == NULL) {
        return false;
    }
    g_auto(DriverVol) place = {0};
    shelf_place(pool, vol, &place);
    g_auto(VolLock) lock = shelf_lock(table, vol);
    Hold *hold = g_hash_table_lookup(table->holds, place.path);
    if (hold == NULL) {
        return true;
    }
    if (hold->count > 1) {
        hold->count--;
        return true;
    }
    g_hash_table_remove(table->holds, place.path);
    bool ok = work_unmount(pool->driver, &place, true, error);
    fiber_signal_all(&table->released);
    return ok;
}

void
vol_adopt(PoolTable *table, const Vol *vol)
{
    g_autofree char *path = vol_path(table, vol);
    hold_of(table, path)->count++;
}

/* ---- questions ---- */

bool
vol_maps_ids(PoolTable *table, const Vol *vol)
{
    Pool *pool = shelf_pool(table, vol->pool, true, NULL);
    if (pool == NULL || pool->driver->maps_ids == NULL) {
        return false;
    }
    g_auto(DriverVol) place = {0};
    shelf_place(pool, vol, &place);
    return pool->driver->maps_ids(&place);
}

bool
vol_idmap_mountable(PoolTable *table, const Vol *vol)
{
    Pool *pool = shelf_pool(table, vol->pool, true, NULL);
    return pool != NULL && (pool->can_idmap || vol_maps_ids(table, vol));
}

static VolumeRow *
row_of(PoolTable *table, const Vol *vol, GError **error)
{
    VolumeWhich which = shelf_which(vol);
    return volumes_get(table->agent->db, &which, error);
}

json_t *
vol_config(PoolTable *table, const Vol *vol, GError **error)
{
    g_autoptr(VolumeRow) row = row_of(table, vol, error);
    return row != NULL ? json_incref(row->config) : NULL;
}

bool
vol_is_block(PoolTable *table, const Vol *vol, bool *ret_block, GError **error)
{
    g_autoptr(VolumeRow) row = row_of(table, vol, error);
    if (row == NULL) {
        return false;
    }
    *ret_block = strcmp(row->content_type, "block") == 0;
    return true;
}

bool
vol_set_config_key(PoolTable *table, const Vol *vol, const char *key, const char *value,
                   GError **error)
{
    g_auto(VolLock) lock = shelf_lock(table, vol);
    g_autoptr(VolumeRow) row = row_of(table, vol, error);
    if (row == NULL) {
        return false;
    }
    if (value != NULL) {
        json_object_set_new(row->config, key, json_string(value));
    } else {
        json_object_del(row->config, key);
    }
    return volumes_store(table->agent->db, row->id, row->description, row->config, error);
}

bool
vol_set_quota(PoolTable *table, const Vol *vol, gint64 bytes, GError **error)
{
    Pool *pool = shelf_pool(table, vol->pool, true, error);
    g_autoptr(VolumeRow) row = pool != NULL ? row_of(table, vol, error) : NULL;
    if (row == NULL) {
        return false;
    }
    g_auto(DriverVol) place = {0};
    shelf_place(pool, vol, &place);
    place.number = row->id;
    place.block = strcmp(row->content_type, "block") == 0;
    if (!place.block) {
        return work_quota(pool->driver, &place, bytes, error);
    }
    if (bytes > 0 && shelf_held(table, vol)) {
        return haw_fail(error, HAW_BUSY, "In use");
    }
    return bytes == 0 || work_block_size(&place, bytes, error);
}

bool
vol_usage(PoolTable *table, const Vol *vol, gint64 *ret_used, gint64 *ret_total, GError **error)
{
    Pool *pool = shelf_pool(table, vol->pool, true, error);
    g_autoptr(VolumeRow) row = pool != NULL ? row_of(table, vol, error) : NULL;
    if (row == NULL) {
        return false;
    }
    g_auto(DriverVol) place = {0};
    shelf_place(pool, vol, &place);
    place.number = row->id;
    place.block = strcmp(row->content_type, "block") == 0;
    gint64 used = -1, total = 0;
    if (place.block) {
        g_autofree char *file = g_build_filename(place.path, DRIVER_BLOCK_FILE, NULL);
        struct stat st;
        if (stat(file, &st) == 0) {
            used = st.st_blocks * 512;
            total = st.st_size;
        }
    } else {
        work_usage(pool->driver, &place, &used, &total);
    }
    *ret_used = used;
    *ret_total = total;
    return true;
}
