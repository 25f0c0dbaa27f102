/* The driver 'btrfs': every volume, snapshot and image is a subvolume.
 * B1  Clones and snapshots are made in one ioctl; nothing of a launch forks.
 * B2  A pool is a loop file <dir>/disks/<pool>.img (grown by 'size', never shrunk), a block device, or a
 *     directory of an existing btrfs, which becomes a subvolume and is bound to the pool's place.
 * B3  Finished snapshots and images are read-only subvolumes.
 * Pool calls run in fibers (mkfs is a child process), volume calls on workers. */
#include "agent/store/pooldriver.h"

#include "agent/store/subvol.h"
#include "agent/store/disktree.h"
#include "base/fd.h"
#include "base/fiber.h"
#include "base/proc.h"
#include "proto/grammar.h"
#include "proto/keys.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <unistd.h>

#define GIB             ((gint64) 1 << 30)
#define DEFAULT_OPTIONS "user_subvol_rm_allowed"
#define BTRFS_MAGIC     0x9123683Eu
enum { DEFAULT_MIN_GIB = 5, DEFAULT_MAX_GIB = 30, DEFAULT_PERCENT = 20, MIN_MIB = 110 };

/* ---- pools: B2 ---- */

static char *
loop_file(const DriverPool *pool)
{
    return g_strdup_printf("%s/disks/%s.img", pool->dir, pool->name);
}

static bool
is_loop(const DriverPool *pool)
{
    g_autofree char *file = loop_file(pool);
    return g_strcmp0(keys_get(pool->config, "source"), file) == 0;
}

static bool
is_block(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISBLK(st.st_mode);
}

static bool
on_btrfs(const char *path)
{
    struct statfs fs;
    return statfs(path, &fs) == 0 && (guint32) fs.f_type == BTRFS_MAGIC;
}

/* A fifth of what is free, between 5 and 30 GiB. */
static gint64
default_size(const DriverPool *pool)
{
    struct statvfs fs;
    gint64 bytes = 0;
    if (statvfs(pool->dir, &fs) == 0) {
        bytes = (gint64) fs.f_bavail * (gint64) fs.f_frsize / 100 * DEFAULT_PERCENT;
    }
    gint64 gib = CLAMP(bytes / GIB, DEFAULT_MIN_GIB, DEFAULT_MAX_GIB);
    return gib * GIB;
}

/* Without 'force' mkfs refuses a device that has something on it. */
static bool
make_filesystem(const DriverPool *pool, const char *target, bool force, GError **error)
{
    return force ? proc_runv(NULL, error, "mkfs.btrfs", "-q", "-f", "-L", pool->name, target, NULL)
                 : proc_runv(NULL, error, "mkfs.btrfs", "-q", "-L", pool->name, target, NULL);
}

static bool
create_loop(const DriverPool *pool, GError **error)
{
    g_autofree char *file = loop_file(pool);
    const char *text = keys_get(pool->config, "size");
    gint64 bytes = 0;
    if (text != NULL && !grammar_parse_size(text, &bytes, error)) {
        return false;
    }
    if (bytes == 0) {
        bytes = default_size(pool);
        json_object_set_new(pool->config, "size", json_sprintf("%dGiB", (int) (bytes / GIB)));
    }
    if (bytes < (gint64) MIN_MIB << 20) {
        return haw_fail(error, HAW_FAILED, "A btrfs pool needs at least %d MiB", MIN_MIB);
    }

    haw_autofd int fd = open(file, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0 || ftruncate(fd, bytes) < 0) {
        int err = errno;
        unlink(file);
        return haw_fail_errno(error, err, "create '%s'", file);
    }
    if (!make_filesystem(pool, file, true, error)) {
        unlink(file);
        return false;
    }
    json_object_set_new(pool->config, "source", json_string(file));
    return true;
}

static bool
create_on_device(const DriverPool *pool, const char *source, GError **error)
{
    bool wipe = keys_get_bool(pool->config, "source.wipe", false);
    if (wipe && !proc_runv(NULL, error, "wipefs", "-a", "-f", source, NULL)) {
        return false;
    }
    if (!make_filesystem(pool, source, wipe, error)) {
        return false;
    }
    g_autofree char *uuid = NULL;
    json_object_del(pool->config, "size");
    if (!proc_runv(&uuid, NULL, "blkid", "-s", "UUID", "-o", "value", source, NULL)) {
        return true;
    }
    g_autofree char *by_uuid = g_strdup_printf("/dev/disk/by-uuid/%s", g_strstrip(uuid));
    if (access(by_uuid, F_OK) == 0) {
        json_object_set_new(pool->config, "source", json_string(by_uuid));
    }
    return true;
}

static bool
create_in_directory(const DriverPool *pool, const char *source, GError **error)
{
    g_autofree char *clean = g_canonicalize_filename(source, "/");
    g_autofree char *inside = g_strconcat(pool->dir, "/", NULL);
    if (g_str_has_prefix(clean, inside) && strcmp(clean, pool->path) != 0) {
        return haw_fail(error, HAW_FAILED, "Only allowed source path under \"%s\" is \"%s\"",
                        pool->dir, pool->path);
    }
    json_object_del(pool->config, "size");
    json_object_set_new(pool->config, "source", json_string(clean));
    if (subvol_is(clean)) {
        return disktree_is_empty(clean) ||
               haw_fail(error, HAW_FAILED, "Requested btrfs subvolume exists but is not empty");
    }
    g_autofree char *parent = g_path_get_dirname(clean);
    bool exists = access(clean, F_OK) == 0;
    if (!on_btrfs(exists ? clean : parent)) {
        return haw_fail(error, HAW_FAILED, "Provided path does not reside on a btrfs filesystem");
    }
    if (exists && rmdir(clean) < 0) {
        return haw_fail(error, HAW_FAILED, "Source path '%s' isn't empty", clean);
    }
    return subvol_create(clean, error);
}

static bool
btrfs_pool_create(const DriverPool *pool, GError **error)
{
    const char *source = keys_get(pool->config, "source");
    g_autofree char *file = loop_file(pool);
    if (!fd_mkdir_p(pool->path, 0711, error)) {
        return false;
    }
    if (source == NULL || strcmp(source, file) == 0) {
        return create_loop(pool, error);
    }
    if (!g_path_is_absolute(source)) {
        return haw_fail(error, HAW_FAILED, "Invalid \"source\" property");
    }
    g_autofree char *kept = g_strdup(source);
    return is_block(source) ? create_on_device(pool, kept, error)
                            : create_in_directory(pool, kept, error);
}

struct mounting {
    const char *source, *target, *options;
    bool ok;
    GError *error;
};

static void
mount_loop(void *data)
{
    struct mounting *job = data;
    haw_autofd int device = -1;
    g_autofree char *name = mnt_loop_attach(job->source, &device, &job->error);
    job->ok =
        name != NULL && mnt_mount(name, job->target, "btrfs", job->options, false, &job->error);
}

static void
mount_device(void *data)
{
    struct mounting *job = data;
    job->ok = mnt_mount(job->source, job->target, "btrfs", job->options, false, &job->error);
}

static bool
mounting(FiberFn fn, struct mounting *job, GError **error)
{
    fiber_run(fn, job);
    if (job->error != NULL) {
        g_propagate_error(error, job->error);
    }
    return job->ok;
}

static const char *
options_of(json_t *config)
{
    const char *options = keys_get(config, "btrfs.mount_options");
    return options != NULL ? options : DEFAULT_OPTIONS;
}

static bool
btrfs_pool_mount(const DriverPool *pool, GError **error)
{
    const char *source = keys_get(pool->config, "source");
    if (source == NULL) {
        return haw_fail(error, HAW_INVALID, "The pool '%s' has no source", pool->name);
    }
    if (mnt_is_mounted(pool->path) || strcmp(source, pool->path) == 0) {
        return true;
    }
    if (!fd_mkdir_p(pool->path, 0711, error)) {
        return false;
    }
    struct mounting job = {
        .source = source, .target = pool->path, .options = options_of(pool->config)};
    if (is_loop(pool)) {
        return mounting(mount_loop, &job, error);
    }
    if (is_block(source)) {
        return mounting(mount_device, &job, error);
    }
    return mnt_bind(source, pool->path, error);
}

static bool
btrfs_pool_unmount(const DriverPool *pool, GError **error)
{
    return mnt_unmount(pool->path, false, error);
}

static bool
btrfs_pool_delete(const DriverPool *pool, GError **error)
{
    const char *source = keys_get(pool->config, "source");
    if (source != NULL && is_loop(pool)) {
        if (unlink(source) < 0 && errno != ENOENT) {
            return haw_fail_errno(error, errno, "remove '%s'", source);
        }
    } else if (source != NULL && !is_block(source) && !subvol_remove(source, error)) {
        return false;
    }
    return disktree_remove(pool->path, error);
}

static bool
grow(const DriverPool *pool, const char *size, GError **error)
{
    g_autofree char *file = loop_file(pool);
    gint64 bytes = 0;
    if (!is_loop(pool)) {
        return haw_fail(error, HAW_FAILED, "Cannot resize non-loopback pools");
    }
    if (!grammar_parse_size(size, &bytes, error)) {
        return false;
    }
    g_autofree char *device = mnt_loop_find(file);
    if (device == NULL) {
        return haw_fail(error, HAW_FAILED, "'%s' has no loop device", file);
    }
    if (truncate(file, bytes) < 0) {
        return haw_fail_errno(error, errno, "grow '%s'", file);
    }
    return mnt_loop_refresh(device, error) && subvol_resize_max(pool->path, error);
}

static bool
btrfs_pool_update(const DriverPool *pool, json_t *changed, GError **error)
{
    const char *size = json_string_value(json_object_get(changed, "size"));
    if (size != NULL && !grow(pool, size, error)) {
        return false;
    }
    return json_object_get(changed, "btrfs.mount_options") == NULL ||
           mnt_mount("none", pool->path, "btrfs", options_of(pool->config), true, error);
}

/* ---- volumes: B1 ---- */

static bool
btrfs_create(const DriverVol *vol, GError **error)
{
    return subvol_create(vol->path, error) &&
           (chmod(vol->path, 0711) == 0 ||
            haw_fail_errno(error, errno, "set the mode of '%s'", vol->path));
}

static bool
btrfs_clone(const DriverVol *from, const DriverVol *to, GCancellable *cancel, GError **error)
{
    return subvol_snapshot(from->path, to->path, error);
}

static bool
btrfs_seal(const DriverVol *vol, bool on, GError **error)
{
    return subvol_set_readonly(vol->path, on, error);
}

static bool
btrfs_inner(const DriverVol *from, const DriverVol *to, bool filled, GError **error)
{
    return filled ? subvol_seal_below(from->path, to->path, error)
                  : subvol_shape(from->path, to->path, error);
}

static bool
btrfs_remove(const DriverVol *vol, GError **error)
{
    return subvol_remove(vol->path, error);
}

static bool
btrfs_set_quota(const DriverVol *vol, gint64 bytes, GError **error)
{
    return subvol_limit(vol->path, bytes, error);
}

static bool
btrfs_usage(const DriverVol *vol, gint64 *ret_used, gint64 *ret_total)
{
    return subvol_usage(vol->path, ret_used, ret_total);
}

static bool
btrfs_usable(void)
{
    static int known; /* 1: yes, 2: no; the main loop asks */
    if (known == 0) {
        g_autofree char *kernel = fd_read_file("/proc/filesystems", 65536, NULL, NULL);
        g_autofree char *tool = g_find_program_in_path("mkfs.btrfs");
        g_autofree char *sbin = g_strdup("/usr/sbin/mkfs.btrfs");
        bool mountable = (kernel != NULL && strstr(kernel, "\tbtrfs\n") != NULL) ||
                         access("/sys/module/btrfs", F_OK) == 0 ||
                         access("/lib/modules", F_OK) == 0;
        known = mountable && (tool != NULL || access(sbin, X_OK) == 0) ? 1 : 2;
    }
    return known == 1;
}

const Driver btrfs_driver = {
    .name = "btrfs",
    .version = "1",
    .loop = true,
    .usable = btrfs_usable,
    .pool_create = btrfs_pool_create,
    .pool_mount = btrfs_pool_mount,
    .pool_unmount = btrfs_pool_unmount,
    .pool_delete = btrfs_pool_delete,
    .pool_update = btrfs_pool_update,
    .create = btrfs_create,
    .clone = btrfs_clone,
    .seal = btrfs_seal,
    .remove = btrfs_remove,
    .set_quota = btrfs_set_quota,
    .usage = btrfs_usage,
    .inner = btrfs_inner,
};
