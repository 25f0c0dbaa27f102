/* The driver 'overlay': a container's root is an overlay of its image and what it has written itself.
 * O1  An image is unpacked once, under images/<fingerprint>/rootfs, with the container's own ids, and
 *     never changes. A launch makes four directories and copies nothing of it.
 * O2  A volume on an image has .layers/{upper,work} and .layers/below (the fingerprint); rootfs is where
 *     the overlay gets mounted. A container's without .layers (it came from another pool or a backup), a virtual
 *     machine's and a custom volume are plain directories, and treated as 'dir' treats them.
 * O3  Ids on disk are always the container's own. The mount's layers carry the id map (mnt.c, M2), so
 *     nothing is ever shifted on disk, and instances with different maps share one image.
 * O4  Snapshots and copies are copies of the upper layer, and live on the same image: its directory
 *     stays until the last of them has gone (repair.c, R4).
 * O5  index is off, for an upper layer that was copied would not match it; so a file with several names
 *     in the image loses its links when one of them is written to.
 * Volume calls run on workers. */
#include "agent/store/plain.h"

#include "agent/store/disktree.h"
#include "base/fd.h"
#include "proto/keys.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LAYERS ".layers"
enum { BELOW_BYTES = 256 };

static char *
layers_path(const DriverVol *vol, const char *name)
{
    return g_build_filename(vol->path, LAYERS, name, NULL);
}

static char *
overlay_image_below(const DriverVol *vol)
{
    g_autofree char *file = layers_path(vol, "below");
    return fd_read_file(file, BELOW_BYTES, NULL, NULL);
}

/* O2. Whoever has a custom volume in a container writes there what it wants, ".layers" as well. */
static bool
is_layered(const DriverVol *vol)
{
    g_autofree char *layers = layers_path(vol, "upper");
    struct stat st;
    return vol->type == VOL_CONTAINER && lstat(layers, &st) == 0 && S_ISDIR(st.st_mode);
}

static char *
image_root(const DriverVol *vol, GError **error)
{
    g_autofree char *below = overlay_image_below(vol);
    if (below == NULL || strchr(below, '/') != NULL) {
        haw_fail(error, HAW_CORRUPT, "'%s' does not name its image", vol->path);
        return NULL;
    }
    return g_build_filename(vol->pool_path, "images", below, "rootfs", NULL);
}

/* ---- pools ---- */

/* Whether the filesystem at 'path' can hold an upper layer. */
static bool
try_layers(const char *path, GError **error)
{
    g_autofree char *trial = g_build_filename(path, ".trial-XXXXXX", NULL);
    if (g_mkdtemp(trial) == NULL) {
        return haw_fail_errno(error, errno, "create a directory in '%s'", path);
    }
    g_autofree char *upper = g_build_filename(trial, "upper", NULL);
    g_autofree char *work = g_build_filename(trial, "work", NULL);
    g_autofree char *lower = g_build_filename(trial, "lower", NULL);
    g_autofree char *target = g_build_filename(trial, "target", NULL);
    const struct mnt_overlay spec = {
        .lowers = (const char *const[]){lower, NULL}, .upper_parent = trial, .target = target};
    bool ok = fd_mkdir_p(upper, 0755, error) && fd_mkdir_p(work, 0755, error) &&
              fd_mkdir_p(lower, 0755, error) && fd_mkdir_p(target, 0755, error) &&
              mnt_overlay(&spec, error);
    g_autofree char *probe = g_build_filename(target, "probe", NULL);
    ok = ok && (mkdir(probe, 0755) == 0 ||
                haw_fail_errno(error, errno, "write through an overlay on '%s'", path));
    mnt_unmount(target, true, NULL);
    disktree_remove(trial, NULL);
    return ok || haw_push(error, "'%s' cannot hold overlays", path);
}

static bool
overlay_pool_create(const DriverPool *pool, GError **error)
{
    if (!plain_pool_create(pool, error)) {
        return false;
    }
    if (!try_layers(keys_get(pool->config, "source"), error)) {
        disktree_remove(pool->path, NULL);
        return false;
    }
    return true;
}

/* ---- volumes ---- */

/* All of an image's volume but its root. */
static bool
copy_around_root(const char *from, const char *to, GError **error)
{
    g_autoptr(GDir) dir = g_dir_open(from, 0, NULL);
    for (const char *name; dir != NULL && (name = g_dir_read_name(dir)) != NULL;) {
        g_autofree char *source = g_build_filename(from, name, NULL);
        g_autofree char *target = g_build_filename(to, name, NULL);
        struct stat st;
        if (strcmp(name, "rootfs") == 0 || strcmp(name, LAYERS) == 0 || lstat(source, &st) < 0) {
            continue;
        }
        bool ok = true;
        if (S_ISDIR(st.st_mode)) {
            ok = fd_mkdir_p(target, 0700, error) && disktree_copy(source, target, NULL, error);
        } else if (S_ISREG(st.st_mode)) {
            ok = disktree_copy_file(source, target, error);
        }
        if (!ok) {
            return false;
        }
    }
    return true;
}

/* The upper directory is the root that the container sees: it looks as the image's does. */
static bool
match_root(const char *image, const char *upper, GError **error)
{
    struct stat st;
    if (stat(image, &st) < 0) {
        return haw_fail_errno(error, errno, "look at '%s'", image);
    }
    struct timespec times[2] = {st.st_atim, st.st_mtim};
    if (chown(upper, st.st_uid, st.st_gid) < 0 || chmod(upper, st.st_mode & 07777) < 0 ||
        utimensat(AT_FDCWD, upper, times, 0) < 0) {
        return haw_fail_errno(error, errno, "set the mode of '%s'", upper);
    }
    return true;
}

/* O1 */
static bool
lay_over(const DriverVol *image, const DriverVol *to, GError **error)
{
    g_autofree char *fingerprint = g_path_get_basename(image->path);
    g_autofree char *root = g_build_filename(image->path, "rootfs", NULL);
    g_autofree char *mount_point = g_build_filename(to->path, "rootfs", NULL);
    g_autofree char *upper = layers_path(to, "upper");
    g_autofree char *work = layers_path(to, "work");
    g_autofree char *below = layers_path(to, "below");
    return plain_create(to, error) && fd_mkdir_p(upper, 0755, error) &&
           fd_mkdir_p(work, 0700, error) && fd_mkdir_p(mount_point, 0755, error) &&
           match_root(root, upper, error) && copy_around_root(image->path, to->path, error) &&
           (g_file_set_contents(below, fingerprint, -1, NULL) ||
            haw_fail_errno(error, errno, "write '%s'", below));
}

static bool
overlay_clone(const DriverVol *from, const DriverVol *to, GCancellable *cancel, GError **error)
{
    g_autofree char *root = g_build_filename(from->path, "rootfs", NULL);
    bool on_image = from->type == VOL_IMAGE && to->type == VOL_CONTAINER &&
                    g_file_test(root, G_FILE_TEST_IS_DIR);
    if (!on_image) {
        return plain_clone(from, to, cancel, error); /* O4: mounts are not entered */
    }
    if (!lay_over(from, to, error)) {
        disktree_remove(to->path, NULL);
        return false;
    }
    return true;
}

/* ---- mounts: O3 ---- */

static bool
mount_at(const DriverVol *vol, const char *target, bool writable, const struct mnt_idmap *map,
         size_t map_count, GError **error)
{
    g_autofree char *root = image_root(vol, error);
    if (root == NULL) {
        return false;
    }
    g_autofree char *layers = layers_path(vol, NULL);
    g_autofree char *upper = layers_path(vol, "upper");
    const char *below_upper[] = {root, NULL};
    const char *all[] = {upper, root, NULL};
    const struct mnt_overlay spec = {.lowers = writable ? below_upper : all,
                                     .upper_parent = writable ? layers : NULL,
                                     .map = map,
                                     .map_count = map_count,
                                     .target = target};
    return mnt_overlay(&spec, error);
}

static bool
overlay_mount(const DriverVol *vol, const struct mnt_idmap *map, size_t map_count, GError **error)
{
    if (!is_layered(vol)) {
        return true;
    }
    g_autofree char *target = g_build_filename(vol->path, "rootfs", NULL);
    return mount_at(vol, target, !vol->snapshot, map, map_count, error);
}

static bool
overlay_unmount(const DriverVol *vol, bool lazy, GError **error)
{
    g_autofree char *target = g_build_filename(vol->path, "rootfs", NULL);
    return !is_layered(vol) || mnt_unmount(target, lazy, error);
}

static bool
overlay_view(const DriverVol *vol, const char *target, GError **error)
{
    if (!is_layered(vol)) {
        return mnt_bind(vol->path, target, error);
    }
    g_autofree char *root = g_build_filename(target, "rootfs", NULL);
    return copy_around_root(vol->path, target, error) && fd_mkdir_p(root, 0755, error) &&
           mount_at(vol, root, false, NULL, 0, error);
}

static bool
overlay_usable(void)
{
    static int known; /* 1: yes, 2: no; the main loop asks */
    if (known == 0) {
        g_autofree char *kernel = fd_read_file("/proc/filesystems", 65536, NULL, NULL);
        known = kernel != NULL && strstr(kernel, "\toverlay\n") != NULL ? 1 : 2;
    }
    return known == 1;
}

const Driver overlay_driver = {
    .name = "overlay",
    .version = "1",
    .usable = overlay_usable,
    .pool_create = overlay_pool_create,
    .pool_mount = plain_pool_mount,
    .pool_unmount = plain_pool_unmount,
    .pool_delete = plain_pool_delete,
    .create = plain_create,
    .clone = overlay_clone,
    .remove = plain_remove,
    .set_quota = plain_set_quota,
    .usage = plain_usage,
    .mount = overlay_mount,
    .unmount = overlay_unmount,
    .maps_ids = is_layered,
    .view = overlay_view,
    .image_below = overlay_image_below,
};
