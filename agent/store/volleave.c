/* Volumes leave their places: deletion and renames. The other invariants are volume.c's.
 * V2  Deletion: one rename away into .gone, then the row. Bytes go in the background.
 * V3  A rename writes the new name and 'moved_from' in one transaction, moves the directories, then
 *     clears moved_from: repair.c finishes it at the next start.
 * V4  An image volume stays while somebody clones from it.
 * Main loop, inside fibers. */
#include "agent/store/shelf.h"

#include "agent/store/work.h"
#include "base/crash.h"
#include "base/fiber.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* ---- deletion: V2 ---- */

/* V4 */
static void
wait_for_clones(Pool *pool, const Vol *vol)
{
    while (vol->type == VOL_IMAGE &&
           GPOINTER_TO_UINT(g_hash_table_lookup(pool->images, vol->name)) > 0) {
        fiber_sleep_ms(5, NULL, NULL);
    }
}

/* Whether the directory of an image must stay, for volumes live on top of it. */
static bool
is_below_others(Pool *pool, const Vol *vol, const DriverVol *place)
{
    return vol->type == VOL_IMAGE && pool->driver->image_below != NULL &&
           g_file_test(place->path, G_FILE_TEST_IS_DIR) && repair_image_used(pool, vol->name);
}

static bool
take_away(PoolTable *table, Pool *pool, const Vol *vol, GError **error)
{
    g_auto(DriverVol) place = {0};
    shelf_place(pool, vol, &place);
    if (shelf_type_snap_dir(vol->type) != NULL) {
        g_autofree char *snaps = shelf_snaps_path(pool, vol);
        if (!shelf_discard(table, pool, snaps, error)) {
            return false;
        }
        crash_point("volume");
    }
    if (vol->type == VOL_IMAGE) {
        g_hash_table_remove(pool->images, vol->name);
        if (is_below_others(pool, vol, &place)) {
            return true;
        }
        if (!work_seal(pool->driver, &place, false, error)) {
            return false;
        }
    }
    return work_unmount(pool->driver, &place, true, error) &&
           shelf_discard(table, pool, place.path, error);
}

bool
vol_delete(PoolTable *table, const Vol *vol, GError **error)
{
    g_auto(VolLock) lock = shelf_lock(table, vol);
    Pool *pool = shelf_pool(table, vol->pool, true, error);
    if (pool == NULL) {
        return false;
    }
    wait_for_clones(pool, vol);
    if (shelf_held(table, vol)) {
        return haw_fail(error, HAW_BUSY, "Volume \"%s\" is in use", vol->name);
    }
    if (!take_away(table, pool, vol, error)) {
        return haw_push(error, "Failed deleting volume \"%s\"", vol->name);
    }
    crash_point("volume");
    shelf_link(table, pool, vol);
    VolumeWhich which = shelf_which(vol);
    return volumes_delete(table->agent->db, &which, error);
}

/* ---- renames: V3 ---- */

static bool
move_dir(const char *from, const char *to, GError **error)
{
    return rename(from, to) == 0 || errno == ENOENT ||
           haw_fail_errno(error, errno, "rename '%s' to '%s'", from, to);
}

static bool
move_dirs(Pool *pool, const Vol *from, const Vol *to, GError **error)
{
    g_auto(DriverVol) old = {0}, new = {0};
    shelf_place(pool, from, &old);
    shelf_place(pool, to, &new);
    if (!move_dir(old.path, new.path, error)) {
        return false;
    }
    crash_point("volume");
    if (shelf_type_snap_dir(from->type) == NULL) {
        return true;
    }
    g_autofree char *old_snaps = shelf_snaps_path(pool, from);
    g_autofree char *new_snaps = shelf_snaps_path(pool, to);
    if (!move_dir(old_snaps, new_snaps, error)) {
        move_dir(new.path, old.path, NULL);
        return false;
    }
    return true;
}

bool
vol_rename(PoolTable *table, const Vol *vol, const char *new_name, GError **error)
{
    g_auto(VolLock) lock = shelf_lock(table, vol);
    Pool *pool = shelf_pool(table, vol->pool, true, error);
    if (pool == NULL) {
        return false;
    }
    VolumeWhich which = shelf_which(vol);
    g_autoptr(VolumeRow) row = volumes_get(table->agent->db, &which, error);
    if (row == NULL) {
        return false;
    }
    if (shelf_held(table, vol)) {
        return haw_fail(error, HAW_BUSY, "Volume \"%s\" is in use", vol->name);
    }

    GError *cause = NULL;
    if (!volumes_rename(table->agent->db, row->id, new_name, vol->name, &cause)) {
        bool taken = haw_code(cause) == HAW_EXISTS;
        g_clear_error(&cause);
        return taken ? haw_fail(error, HAW_EXISTS, "Volume by that name already exists")
                     : haw_fail(error, HAW_IO, "Failed renaming volume \"%s\"", vol->name);
    }
    crash_point("volume");
    Vol renamed = *vol;
    renamed.name = new_name;
    if (!move_dirs(pool, vol, &renamed, error)) {
        volumes_rename(table->agent->db, row->id, vol->name, NULL, NULL);
        return false;
    }
    crash_point("volume");
    shelf_link(table, pool, vol);
    shelf_link(table, pool, &renamed);
    return volumes_rename_done(table->agent->db, row->id, error);
}
