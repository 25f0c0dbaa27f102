/* The content of a volume, replaced as a whole: refreshes of copies.
 * E3  New content is built in .new and exchanged with the volume in one system call: at any moment the
 *     name holds either the old or the new content, whole. Owner, mode and quota of the volume's
 *     directory go over.
 * Main loop, inside fibers. Called by voledit.c and movevol.c. */
#include "agent/store/shelf.h"

#include "agent/store/work.h"
#include "base/crash.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static bool
begin(Pool *pool, const DriverVol *place, const DriverVol *temp, bool keep, GError **error)
{
    bool layered = pool->driver->maps_ids != NULL && pool->driver->maps_ids(place);
    return keep && !layered ? work_clone(pool->driver, place, temp, NULL, error)
                            : work_create(pool->driver, temp, error);
}

static bool
finish(Pool *pool, const DriverVol *place, const DriverVol *temp, GError **error)
{
    struct stat st;
    gint64 used = 0, total = 0;
    bool limited = !place->block && work_usage(pool->driver, place, &used, &total) && total > 0;
    if (stat(place->path, &st) < 0) {
        return haw_fail_errno(error, errno, "look at '%s'", place->path);
    }
    bool instance = place->type == VOL_CONTAINER || place->type == VOL_VM;
    if (instance && (chown(temp->path, st.st_uid, st.st_gid) < 0 ||
                     chmod(temp->path, st.st_mode & 07777) < 0)) {
        return haw_fail_errno(error, errno, "set the mode of '%s'", temp->path);
    }
    return (!limited || work_quota(pool->driver, temp, total, error)) &&
           work_unmount(pool->driver, place, true, error);
}

/* One of the two. */
struct content {
    bool keep;
    VolFill fill;
    void *data;
    const Vol *from;
    GCancellable *cancel;
};

static bool
copy_other(PoolTable *table, Pool *pool, const DriverVol *temp, const struct content *content,
           GError **error)
{
    Pool *from_pool = shelf_pool(table, content->from->pool, true, error);
    if (from_pool == NULL) {
        return false;
    }
    g_auto(DriverVol) source = {0}, scratch = {0};
    shelf_place(from_pool, content->from, &source);
    source.block = temp->block;
    if (from_pool == pool) {
        return work_clone(pool->driver, &source, temp, content->cancel, error);
    }
    shelf_new_place(from_pool, &source, &scratch);
    return work_carry(from_pool->driver, &source, scratch.path, pool->driver, temp, content->cancel,
                      error);
}

static bool
bring(PoolTable *table, Pool *pool, const DriverVol *place, const DriverVol *temp,
      const struct content *content, GError **error)
{
    if (content->from != NULL) {
        return copy_other(table, pool, temp, content, error);
    }
    if (!begin(pool, place, temp, content->keep, error)) {
        return false;
    }
    crash_point("replace");
    return content->fill(temp->path, content->data, error);
}

static bool
replace(PoolTable *table, const Vol *vol, const struct content *content, GError **error)
{
    g_auto(VolLock) lock = shelf_lock(table, vol);
    Pool *pool = shelf_pool(table, vol->pool, true, error);
    VolumeWhich which = shelf_which(vol);
    g_autoptr(VolumeRow) row = pool != NULL ? volumes_get(table->agent->db, &which, error) : NULL;
    if (row == NULL) {
        return false;
    }
    if (shelf_held(table, vol)) {
        return haw_fail(error, HAW_BUSY, "Volume \"%s\" is in use", vol->name);
    }
    g_auto(DriverVol) place = {0}, temp = {0};
    shelf_place(pool, vol, &place);
    place.number = row->id;
    place.block = strcmp(row->content_type, "block") == 0;
    shelf_new_place(pool, &place, &temp);
    bool ok = bring(table, pool, &place, &temp, content, error);
    crash_point("replace");
    ok = ok && finish(pool, &place, &temp, error);
    if (ok && renameat2(AT_FDCWD, temp.path, AT_FDCWD, place.path, RENAME_EXCHANGE) < 0) {
        ok = haw_fail_errno(error, errno, "put the new content at '%s'", place.path);
    }
    if (!ok) {
        work_remove(pool->driver, &temp, NULL);
        return haw_push(error, "Failed replacing the content of volume \"%s\"", vol->name);
    }
    crash_point("replace");
    if (!shelf_discard(table, pool, temp.path, NULL)) {
        work_remove(pool->driver, &temp, NULL);
    }
    return true;
}

bool
volume_replace(PoolTable *table, const Vol *vol, bool keep, VolFill fill, void *data,
               GError **error)
{
    const struct content content = {.keep = keep, .fill = fill, .data = data};
    return replace(table, vol, &content, error);
}

bool
volume_replace_by(PoolTable *table, const Vol *vol, const Vol *from, GCancellable *cancel,
                  GError **error)
{
    const struct content content = {.from = from, .cancel = cancel};
    return replace(table, vol, &content, error);
}
