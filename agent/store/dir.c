/* The driver 'dir': every volume, snapshot and image is a plain directory.
 * P1  Clones share their blocks with the original where the filesystem has reflinks (xfs, btrfs,
 *     bcachefs); elsewhere they are copied by disktree.c.
 * P2  Quotas are project quotas where the filesystem has them on, else accepted and ignored, as LXD
 *     does. A volume's project is its row's number plus PROJECT_BASE.
 * P3  The pool's directory is storage-pools/<pool> itself, or any other empty directory that is bound
 *     there.
 * The functions are shared with 'overlay' (plain.h). Volume calls run on worker threads. */
#include "agent/store/plain.h"

#include "agent/store/projquota.h"
#include "agent/store/disktree.h"
#include "base/fd.h"
#include "proto/keys.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

enum { PROJECT_BASE = 10000 };

/* ---- pools ---- */

/* P3 */
bool
plain_pool_create(const DriverPool *pool, GError **error)
{
    const char *source = keys_get(pool->config, "source");
    if (source == NULL) {
        json_object_set_new(pool->config, "source", json_string(pool->path));
        return fd_mkdir_p(pool->path, 0711, error);
    }
    g_autofree char *clean = g_canonicalize_filename(source, "/");
    if (strcmp(clean, pool->path) == 0 && !fd_mkdir_p(pool->path, 0711, error)) {
        return false;
    }
    if (!g_path_is_absolute(source) || !g_file_test(clean, G_FILE_TEST_IS_DIR)) {
        return haw_fail(error, HAW_FAILED, "Source path '%s' doesn't exist", source);
    }
    g_autofree char *inside = g_strconcat(pool->dir, "/", NULL);
    if (g_str_has_prefix(clean, inside) && strcmp(clean, pool->path) != 0) {
        return haw_fail(error, HAW_FAILED, "Source path '%s' is within the LXD directory", clean);
    }
    if (!disktree_is_empty(clean)) {
        return haw_fail(error, HAW_FAILED, "Source path '%s' isn't empty", clean);
    }
    json_object_set_new(pool->config, "source", json_string(clean));
    return fd_mkdir_p(pool->path, 0711, error);
}

bool
plain_pool_mount(const DriverPool *pool, GError **error)
{
    const char *source = keys_get(pool->config, "source");
    if (source == NULL || strcmp(source, pool->path) == 0) {
        return fd_mkdir_p(pool->path, 0711, error);
    }
    return mnt_is_mounted(pool->path) ||
           (fd_mkdir_p(pool->path, 0711, error) && mnt_bind(source, pool->path, error));
}

bool
plain_pool_unmount(const DriverPool *pool, GError **error)
{
    return !mnt_is_mounted(pool->path) || mnt_unmount(pool->path, false, error);
}

bool
plain_pool_delete(const DriverPool *pool, GError **error)
{
    const char *source = keys_get(pool->config, "source");
    if (source != NULL && strcmp(source, pool->path) != 0) {
        g_autoptr(GDir) dir = g_dir_open(source, 0, NULL);
        for (const char *name; dir != NULL && (name = g_dir_read_name(dir)) != NULL;) {
            g_autofree char *each = g_build_filename(source, name, NULL);
            if (!disktree_remove(each, error)) {
                return false;
            }
        }
    }
    return disktree_remove(pool->path, error);
}

/* ---- volumes ---- */

/* P2 */
static guint32
project_of(const DriverVol *vol)
{
    return (guint32) vol->number + PROJECT_BASE;
}

bool
plain_create(const DriverVol *vol, GError **error)
{
    if (mkdir(vol->path, 0711) < 0) {
        return haw_fail_errno(error, errno, "create the directory '%s'", vol->path);
    }
    if (!vol->snapshot && vol->number > 0 && projquota_on(vol->path) &&
        !projquota_assign(vol->path, project_of(vol), false, error)) {
        rmdir(vol->path);
        return false;
    }
    return true;
}

bool
plain_clone(const DriverVol *from, const DriverVol *to, GCancellable *cancel, GError **error)
{
    if (!plain_create(to, error)) {
        return false;
    }
    if (!disktree_copy(from->path, to->path, cancel, error)) {
        disktree_remove(to->path, NULL);
        return false;
    }
    return true;
}

bool
plain_remove(const DriverVol *vol, GError **error)
{
    return disktree_remove(vol->path, error);
}

bool
plain_set_quota(const DriverVol *vol, gint64 bytes, GError **error)
{
    if (!projquota_on(vol->path)) {
        return true;
    }
    return projquota_assign(vol->path, project_of(vol), true, error) &&
           projquota_limit(vol->path, project_of(vol), bytes, error);
}

bool
plain_usage(const DriverVol *vol, gint64 *ret_used, gint64 *ret_total)
{
    return projquota_on(vol->path) &&
           projquota_usage(vol->path, project_of(vol), ret_used, ret_total);
}

static bool
dir_usable(void)
{
    return true;
}

const Driver dir_driver = {
    .name = "dir",
    .version = "1",
    .usable = dir_usable,
    .pool_create = plain_pool_create,
    .pool_mount = plain_pool_mount,
    .pool_unmount = plain_pool_unmount,
    .pool_delete = plain_pool_delete,
    .create = plain_create,
    .clone = plain_clone,
    .remove = plain_remove,
    .set_quota = plain_set_quota,
    .usage = plain_usage,
};
