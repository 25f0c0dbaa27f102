/* Snapshots of volumes: made, deleted, renamed, restored.
 * N1  As with volumes: the row first, content in .new, one rename to its place; deletion is a rename
 *     away, then the row (V1, V2).
 * N2  A restore builds the snapshot's copy in .new and exchanges it with the volume in one system call:
 *     at any moment the name holds either the old or the new content, whole.
 * N3  The volume's quota goes over to what is restored; config and description are the snapshot's.
 * Main loop, inside fibers. */
#include "agent/store/ownvol.h"
#include "agent/store/shelf.h"

#include "agent/store/work.h"
#include "base/clock.h"
#include "base/crash.h"
#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static VolumeRow *
row_of(PoolTable *table, const Vol *vol, GError **error)
{
    VolumeWhich which = shelf_which(vol);
    return volumes_get(table->agent->db, &which, error);
}

static VolumeSnapRow *
snap_row_of(PoolTable *table, const Vol *vol, GError **error)
{
    VolumeWhich which = shelf_which(vol);
    return volume_snaps_get(table->agent->db, &which, error);
}

/* ---- making ---- */

static bool
insert_snap(PoolTable *table, const Vol *vol, const VolumeRow *row, gint64 expires_at,
            VolumeSnapRow *snap, GError **error)
{
    snap->volume_id = row->id;
    snap->name = g_strdup(vol->snap);
    snap->description = g_strdup(row->description);
    snap->config = json_incref(row->config);
    snap->created_at = clock_real_us();
    snap->expires_at = expires_at;
    GError *cause = NULL;
    if (volume_snaps_insert(table->agent->db, snap, &cause)) {
        return true;
    }
    if (haw_code(cause) == HAW_EXISTS) {
        g_clear_error(&cause);
        return haw_fail(error, HAW_EXISTS, "Snapshot \"%s\" already in use", vol->snap);
    }
    g_propagate_error(error, cause);
    return false;
}

static bool
freeze_content(PoolTable *table, Pool *pool, const Vol *vol, const VolumeRow *row, GError **error)
{
    Vol whole = *vol;
    whole.snap = NULL;
    g_auto(DriverVol) from = {0}, place = {0}, temp = {0};
    shelf_place(pool, &whole, &from);
    shelf_place(pool, vol, &place);
    from.block = place.block = strcmp(row->content_type, "block") == 0;
    from.number = row->id;
    shelf_new_place(pool, &place, &temp);

    g_autofree char *parent = g_path_get_dirname(place.path);
    if (!work_clone(pool->driver, &from, &temp, NULL, error)) {
        return false;
    }
    crash_point("snapshot");
    if (!fd_mkdir_p(parent, 0700, error) ||
        (rename(temp.path, place.path) < 0 &&
         !haw_fail_errno(error, errno, "put the snapshot at '%s'", place.path))) {
        work_remove(pool->driver, &temp, NULL);
        return false;
    }
    return work_seal(pool->driver, &place, true, error);
}

bool
vol_snapshot(PoolTable *table, const Vol *vol, gint64 expires_at, GError **error)
{
    g_auto(VolLock) lock = shelf_lock(table, vol);
    Pool *pool = shelf_pool(table, vol->pool, true, error);
    if (pool == NULL) {
        return false;
    }
    g_autoptr(VolumeRow) row = row_of(table, vol, error);
    if (row == NULL) {
        return false;
    }
    if (ownvol_is(table->agent, vol)) {
        return haw_fail(error, HAW_INVALID, "Volumes used by LXD itself cannot have snapshots");
    }
    g_autoptr(VolumeSnapRow) snap = g_new0(VolumeSnapRow, 1);
    if (!insert_snap(table, vol, row, expires_at, snap, error)) {
        return false;
    }
    crash_point("snapshot");
    if (!freeze_content(table, pool, vol, row, error)) {
        volume_snaps_delete(table->agent->db, snap->id, NULL);
        return haw_push(error, "Failed creating snapshot \"%s\"", vol->snap);
    }
    crash_point("snapshot");
    shelf_link(table, pool, vol);
    return true;
}

/* ---- deletion and rename ---- */

bool
vol_snapshot_delete(PoolTable *table, const Vol *vol, GError **error)
{
    g_auto(VolLock) lock = shelf_lock(table, vol);
    Pool *pool = shelf_pool(table, vol->pool, true, error);
    if (pool == NULL) {
        return false;
    }
    g_autoptr(VolumeSnapRow) snap = snap_row_of(table, vol, error);
    if (snap == NULL) {
        return false;
    }
    if (shelf_held(table, vol)) {
        return haw_fail(error, HAW_BUSY, "Snapshot \"%s\" is in use", vol->snap);
    }
    g_auto(DriverVol) place = {0};
    shelf_place(pool, vol, &place);
    if (!work_unmount(pool->driver, &place, true, error) ||
        !work_seal(pool->driver, &place, false, error) ||
        !shelf_discard(table, pool, place.path, error)) {
        return haw_push(error, "Failed deleting snapshot \"%s\"", vol->snap);
    }
    crash_point("delete");
    g_autofree char *parent = g_path_get_dirname(place.path);
    rmdir(parent); /* stays while it has others */
    shelf_link(table, pool, vol);
    return volume_snaps_delete(table->agent->db, snap->id, error);
}

bool
vol_snapshot_rename(PoolTable *table, const Vol *vol, const char *new_snap, GError **error)
{
    g_auto(VolLock) lock = shelf_lock(table, vol);
    Pool *pool = shelf_pool(table, vol->pool, true, error);
    if (pool == NULL) {
        return false;
    }
    g_autoptr(VolumeSnapRow) snap = snap_row_of(table, vol, error);
    if (snap == NULL) {
        return false;
    }
    if (shelf_held(table, vol)) {
        return haw_fail(error, HAW_BUSY, "Snapshot \"%s\" is in use", vol->snap);
    }
    GError *cause = NULL;
    if (!volume_snaps_rename(table->agent->db, snap->id, new_snap, vol->snap, &cause)) {
        bool taken = haw_code(cause) == HAW_EXISTS;
        g_clear_error(&cause);
        return taken ? haw_fail(error, HAW_EXISTS, "Snapshot \"%s\" already in use", new_snap)
                     : haw_fail(error, HAW_IO, "Failed renaming snapshot \"%s\"", vol->snap);
    }
    crash_point("rename");
    Vol renamed = *vol;
    renamed.snap = new_snap;
    g_auto(DriverVol) old = {0}, new = {0};
    shelf_place(pool, vol, &old);
    shelf_place(pool, &renamed, &new);
    if (rename(old.path, new.path) < 0 && errno != ENOENT) {
        haw_fail_errno(error, errno, "rename '%s' to '%s'", old.path, new.path);
        volume_snaps_rename(table->agent->db, snap->id, vol->snap, NULL, NULL);
        return false;
    }
    crash_point("rename");
    return volume_snaps_rename_done(table->agent->db, snap->id, error);
}

/* ---- restore: N2 ---- */

static bool
exchange(PoolTable *table, Pool *pool, const DriverVol *temp, const DriverVol *place,
         GError **error)
{
    if (renameat2(AT_FDCWD, temp->path, AT_FDCWD, place->path, RENAME_EXCHANGE) < 0) {
        return haw_fail_errno(error, errno, "put the snapshot's content at '%s'", place->path);
    }
    crash_point("restore");
    /* What was the volume lies at temp now. */
    GError *cause = NULL;
    if (!shelf_discard(table, pool, temp->path, &cause)) {
        g_clear_error(&cause); /* start-up empties .new */
    }
    return true;
}

bool
vol_restore(PoolTable *table, const Vol *vol, GError **error)
{
    g_auto(VolLock) lock = shelf_lock(table, vol);
    Pool *pool = shelf_pool(table, vol->pool, true, error);
    if (pool == NULL) {
        return false;
    }
    g_autoptr(VolumeRow) row = row_of(table, vol, error);
    g_autoptr(VolumeSnapRow) snap = row != NULL ? snap_row_of(table, vol, error) : NULL;
    if (snap == NULL) {
        return false;
    }
    Vol whole = *vol;
    whole.snap = NULL;
    if (shelf_held(table, &whole)) {
        return haw_fail(error, HAW_BUSY, "Volume \"%s\" is in use", vol->name);
    }

    g_auto(DriverVol) from = {0}, place = {0}, temp = {0};
    shelf_place(pool, vol, &from);
    shelf_place(pool, &whole, &place);
    place.block = strcmp(row->content_type, "block") == 0;
    place.number = row->id;
    shelf_new_place(pool, &place, &temp);
    struct stat st;
    gint64 used = 0, total = 0;
    bool limited = work_usage(pool->driver, &place, &used, &total) && total > 0;
    if (stat(place.path, &st) < 0) {
        return haw_fail_errno(error, errno, "look at '%s'", place.path);
    }
    bool ok = work_clone(pool->driver, &from, &temp, NULL, error);
    crash_point("restore");
    ok = ok && (!limited || work_quota(pool->driver, &temp, total, error));
    ok = ok && ((chown(temp.path, st.st_uid, st.st_gid) == 0 &&
                 chmod(temp.path, st.st_mode & 07777) == 0) ||
                haw_fail_errno(error, errno, "set the mode of '%s'", temp.path));
    ok = ok && work_unmount(pool->driver, &place, true, error);
    if (!ok || !exchange(table, pool, &temp, &place, error)) {
        work_remove(pool->driver, &temp, NULL);
        return haw_push(error, "Failed restoring snapshot \"%s\"", vol->snap);
    }
    return volumes_store(table->agent->db, row->id, snap->description, snap->config, error);
}
