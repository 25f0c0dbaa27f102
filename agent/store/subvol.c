/* Subvolumes by ioctl.
 * U1  A launch is one SNAP_CREATE_V2, a deletion one SNAP_DESTROY (more only for subvolumes that a
 *     container made inside, found by its directory entries' inode numbers).
 * U2  Names inside a volume are never trusted: the walk opens each directory beneath its parent without
 *     following symlinks.
 *     A container makes trees deeper than there are descriptors, or bytes on a thread's stack: from DEPTH_MAX on a
 *     walk is refused, and a removal brings what is there to the top and comes again.
 * U3  Quota groups are level 0, one a subvolume, made by the kernel; limits are set on "referenced". */
#include "agent/store/subvol.h"

#include "base/fd.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/btrfs.h>
#include <linux/btrfs_tree.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#define BTRFS_MAGIC 0x9123683Eu
#define DEPTH_MAX   256

static bool
is_subvol_fd(int fd)
{
    struct stat st;
    struct statfs fs;
    return fstat(fd, &st) == 0 && st.st_ino == BTRFS_FIRST_FREE_OBJECTID && S_ISDIR(st.st_mode) &&
           fstatfs(fd, &fs) == 0 && (guint32) fs.f_type == BTRFS_MAGIC;
}

static int
open_dir(int parent, const char *name)
{
    return openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

bool
subvol_is(const char *path)
{
    haw_autofd int fd = open_dir(AT_FDCWD, path);
    return fd >= 0 && is_subvol_fd(fd);
}

/* The directory that holds 'path', open, and its last part. */
static int
open_parent(const char *path, char **ret_name, GError **error)
{
    g_autofree char *parent = g_path_get_dirname(path);
    int fd = open_dir(AT_FDCWD, parent);
    if (fd < 0) {
        haw_fail_errno(error, errno, "open '%s'", parent);
        return -1;
    }
    *ret_name = g_path_get_basename(path);
    return fd;
}

bool
subvol_create(const char *path, GError **error)
{
    g_autofree char *name = NULL;
    haw_autofd int parent = open_parent(path, &name, error);
    if (parent < 0) {
        return false;
    }
    struct btrfs_ioctl_vol_args args = {0};
    g_strlcpy(args.name, name, sizeof args.name);
    return ioctl(parent, BTRFS_IOC_SUBVOL_CREATE, &args) == 0 ||
           haw_fail_errno(error, errno, "create the subvolume '%s'", path);
}

static bool
snapshot_at(int from, int parent, const char *name)
{
    struct btrfs_ioctl_vol_args_v2 args = {.fd = from};
    g_strlcpy(args.name, name, sizeof args.name);
    return ioctl(parent, BTRFS_IOC_SNAP_CREATE_V2, &args) == 0;
}

static bool
destroy_at(int parent, const char *name)
{
    struct btrfs_ioctl_vol_args args = {0};
    g_strlcpy(args.name, name, sizeof args.name);
    return ioctl(parent, BTRFS_IOC_SNAP_DESTROY, &args) == 0;
}

static bool
is_readonly_fd(int fd)
{
    guint64 flags = 0;
    return ioctl(fd, BTRFS_IOC_SUBVOL_GETFLAGS, &flags) == 0 && (flags & BTRFS_SUBVOL_RDONLY) != 0;
}

static bool
set_readonly_fd(int fd, bool on)
{
    guint64 flags = 0;
    if (ioctl(fd, BTRFS_IOC_SUBVOL_GETFLAGS, &flags) < 0) {
        return false;
    }
    guint64 wanted = on ? flags | BTRFS_SUBVOL_RDONLY : flags & ~(guint64) BTRFS_SUBVOL_RDONLY;
    return wanted == flags || ioctl(fd, BTRFS_IOC_SUBVOL_SETFLAGS, &wanted) == 0;
}

static bool
subvol_id(int fd, guint64 *ret_id)
{
    struct btrfs_ioctl_ino_lookup_args args = {.objectid = BTRFS_FIRST_FREE_OBJECTID};
    if (ioctl(fd, BTRFS_IOC_INO_LOOKUP, &args) < 0) {
        return false;
    }
    *ret_id = args.treeid;
    return true;
}

/* ---- subvolumes inside subvolumes ---- */

/* How many children the subvolume has: most have none, and are then not walked. */
static bool
has_children(int fd)
{
    g_autofree struct btrfs_ioctl_get_subvol_rootref_args *args =
        g_new0(struct btrfs_ioctl_get_subvol_rootref_args, 1);
    return ioctl(fd, BTRFS_IOC_GET_SUBVOL_ROOTREF, args) < 0 || args->num_items > 0;
}

/* 'name' in 'dir' is a subvolume; 'twin' is the same directory of the copy, or -1. */
typedef bool (*ChildFn)(int dir, int twin, const char *name, GError **error);

struct walk {
    ChildFn fn;
    int top;      /* borrowed */
    bool removes; /* all of it: names may change */
    guint moved;
};

static bool
is_child(const struct dirent *entry)
{
    return entry->d_type == DT_DIR && strcmp(entry->d_name, ".") != 0 &&
           strcmp(entry->d_name, "..") != 0;
}

static bool
too_deep(const char *name, GError **error)
{
    return haw_fail(error, HAW_LIMIT, "'%s': directories are too deep", name);
}

static char *
deep_name(guint number)
{
    return g_strdup_printf(".deep-%u", number);
}

static bool
move_up(struct walk *walk, int dir, const char *name, GError **error)
{
    for (;;) {
        g_autofree char *free_name = deep_name(walk->moved++);
        struct stat st;
        if (fstatat(walk->top, free_name, &st, AT_SYMLINK_NOFOLLOW) == 0) {
            continue;
        }
        return renameat(dir, name, walk->top, free_name) == 0 ||
               haw_fail_errno(error, errno, "move '%s' up", name);
    }
}

static bool each_below(struct walk *walk, int dir, int twin, int depth, GError **error);

static bool
each_entry(struct walk *walk, int dir, int twin, const char *name, int depth, GError **error)
{
    haw_autofd int child = open_dir(dir, name);
    if (child < 0) {
        return true;
    }
    if (is_subvol_fd(child)) {
        return walk->fn(dir, twin, name, error);
    }
    if (depth == DEPTH_MAX) {
        return walk->removes ? move_up(walk, dir, name, error) : too_deep(name, error);
    }
    haw_autofd int child_twin = twin >= 0 ? open_dir(twin, name) : -1;
    return each_below(walk, child, child_twin, depth + 1, error);
}

static bool
each_below(struct walk *walk, int dir, int twin, int depth, GError **error)
{
    DIR *entries = fdopendir(fcntl(dir, F_DUPFD_CLOEXEC, 3));
    if (entries == NULL) {
        return haw_fail_errno(error, errno, "read a directory");
    }
    bool ok = true;
    rewinddir(entries);
    for (struct dirent *entry; ok && (entry = readdir(entries)) != NULL;) {
        ok = !is_child(entry) || each_entry(walk, dir, twin, entry->d_name, depth, error);
    }
    closedir(entries);
    return ok;
}

static bool remove_child(int dir, int twin, const char *name, GError **error);

/* U2: fn for each subvolume below 'dir' with no other between. 'twin' (may be -1) is walked along. */
static bool
each_child(int dir, int twin, ChildFn fn, GError **error)
{
    struct walk walk = {.fn = fn, .top = dir, .removes = fn == remove_child};
    bool ok = each_below(&walk, dir, twin, 0, error);
    for (guint i = 0; ok && i < walk.moved; i++) {
        g_autofree char *name = deep_name(i);
        ok = each_entry(&walk, dir, -1, name, 1, error);
    }
    return ok;
}

/* U2, with names collected; mounts do not matter, for volumes have none of their own. */
static bool
list_below(int dir, const char *prefix, GPtrArray *paths, int depth, GError **error)
{
    if (depth > DEPTH_MAX) {
        return too_deep(prefix, error);
    }
    DIR *entries = fdopendir(fcntl(dir, F_DUPFD_CLOEXEC, 3));
    if (entries == NULL) {
        return haw_fail_errno(error, errno, "read a directory");
    }
    bool ok = true;
    rewinddir(entries);
    for (struct dirent *entry; ok && (entry = readdir(entries)) != NULL;) {
        haw_autofd int child = is_child(entry) ? open_dir(dir, entry->d_name) : -1;
        if (child < 0) {
            continue;
        }
        g_autofree char *path = g_build_filename(prefix, entry->d_name, NULL);
        bool subvolume = is_subvol_fd(child);
        if (subvolume) {
            g_ptr_array_add(paths, g_strdup(path));
        }
        if (!subvolume || has_children(child)) {
            ok = list_below(child, path, paths, depth + 1, error);
        }
    }
    closedir(entries);
    return ok;
}

GPtrArray *
subvol_list_below(const char *path, GError **error)
{
    g_autoptr(GPtrArray) paths = g_ptr_array_new_with_free_func(g_free);
    haw_autofd int fd = open_dir(AT_FDCWD, path);
    if (fd < 0) {
        haw_fail_errno(error, errno, "open '%s'", path);
        return NULL;
    }
    if (has_children(fd) && !list_below(fd, "", paths, 0, error)) {
        return NULL;
    }
    return g_steal_pointer(&paths);
}

static bool
snapshot_child(int dir, int twin, const char *name, GError **error)
{
    haw_autofd int from = open_dir(dir, name);
    if (from < 0 || twin < 0) {
        return true;
    }
    /* A snapshot has an empty directory where the original has a subvolume. */
    unlinkat(twin, name, AT_REMOVEDIR);
    if (!snapshot_at(from, twin, name)) {
        return haw_fail_errno(error, errno, "snapshot the inner subvolume '%s'", name);
    }
    bool sealed = is_readonly_fd(from);
    if (!sealed && !has_children(from)) {
        return true;
    }
    haw_autofd int to = open_dir(twin, name);
    return to < 0 || (each_child(from, to, snapshot_child, error) &&
                      (!sealed || set_readonly_fd(to, true) ||
                       haw_fail_errno(error, errno, "make '%s' read-only", name)));
}

bool
subvol_snapshot(const char *from, const char *to, GError **error)
{
    haw_autofd int source = open_dir(AT_FDCWD, from);
    if (source < 0) {
        return haw_fail_errno(error, errno, "open '%s'", from);
    }
    g_autofree char *name = NULL;
    haw_autofd int parent = open_parent(to, &name, error);
    if (parent < 0) {
        return false;
    }
    if (!snapshot_at(source, parent, name)) {
        return haw_fail_errno(error, errno, "snapshot '%s' to '%s'", from, to);
    }
    if (!has_children(source)) {
        return true;
    }
    haw_autofd int target = open_dir(parent, name);
    if (target < 0 || !each_child(source, target, snapshot_child, error)) {
        subvol_remove(to, NULL);
        return false;
    }
    return true;
}

bool
subvol_shape(const char *from, const char *to, GError **error)
{
    g_autoptr(GPtrArray) inner = subvol_list_below(from, error);
    for (guint i = 0; inner != NULL && i < inner->len; i++) {
        g_autofree char *place = g_build_filename(to, inner->pdata[i], NULL);
        g_autofree char *parent = g_path_get_dirname(place);
        if (!fd_mkdir_p(parent, 0700, error) || !subvol_create(place, error)) {
            return false;
        }
    }
    return inner != NULL;
}

bool
subvol_seal_below(const char *from, const char *to, GError **error)
{
    g_autoptr(GPtrArray) inner = subvol_list_below(to, error);
    for (guint i = 0; inner != NULL && i < inner->len; i++) {
        g_autofree char *original = g_build_filename(from, inner->pdata[i], NULL);
        g_autofree char *place = g_build_filename(to, inner->pdata[i], NULL);
        if (subvol_is_readonly(original) && !subvol_set_readonly(place, true, error)) {
            return false;
        }
    }
    return inner != NULL;
}

static bool
remove_child(int dir, int twin, const char *name, GError **error)
{
    haw_autofd int fd = open_dir(dir, name);
    if (fd < 0) {
        return true;
    }
    set_readonly_fd(fd, false);
    if (has_children(fd) && !each_child(fd, -1, remove_child, error)) {
        return false;
    }
    guint64 id = 0;
    bool known = subvol_id(fd, &id);
    if (!destroy_at(dir, name) && errno != ENOENT) {
        return haw_fail_errno(error, errno, "remove the subvolume '%s'", name);
    }
    if (known) {
        struct btrfs_ioctl_qgroup_create_args group = {.create = 0, .qgroupid = id};
        ioctl(dir, BTRFS_IOC_QGROUP_CREATE, &group); /* newer kernels do it by themselves */
    }
    return true;
}

bool
subvol_remove(const char *path, GError **error)
{
    g_autofree char *name = NULL;
    haw_autofd int parent = open_parent(path, &name, error);
    if (parent < 0) {
        return false;
    }
    haw_autofd int fd = open_dir(parent, name);
    if (fd < 0) {
        return errno == ENOENT || unlinkat(parent, name, 0) == 0 ||
               haw_fail_errno(error, errno, "remove '%s'", path);
    }
    if (is_subvol_fd(fd)) {
        return remove_child(parent, -1, name, error) || haw_push(error, "remove '%s'", path);
    }
    return each_child(fd, -1, remove_child, error) && fd_remove_tree(path, error);
}

bool
subvol_set_readonly(const char *path, bool on, GError **error)
{
    haw_autofd int fd = open_dir(AT_FDCWD, path);
    if (fd < 0 || !is_subvol_fd(fd)) {
        return true;
    }
    return set_readonly_fd(fd, on) ||
           haw_fail_errno(error, errno, "make '%s' %s", path, on ? "read-only" : "writable");
}

bool
subvol_is_readonly(const char *path)
{
    haw_autofd int fd = open_dir(AT_FDCWD, path);
    return fd >= 0 && is_readonly_fd(fd);
}

/* ---- quotas: U3 ---- */

/* The item of the quota tree with this type for this group; its bytes in 'ret'. */
static bool
quota_item(int fd, guint32 type, guint64 id, void *ret, size_t size)
{
    g_autofree struct btrfs_ioctl_search_args *args = g_new0(struct btrfs_ioctl_search_args, 1);
    args->key = (struct btrfs_ioctl_search_key){.tree_id = BTRFS_QUOTA_TREE_OBJECTID,
                                                .min_type = type,
                                                .max_type = type,
                                                .min_offset = id,
                                                .max_offset = id,
                                                .max_transid = G_MAXUINT64,
                                                .nr_items = 1};
    if (ioctl(fd, BTRFS_IOC_TREE_SEARCH, args) < 0 || args->key.nr_items == 0) {
        return false;
    }
    struct btrfs_ioctl_search_header head;
    memcpy(&head, args->buf, sizeof head);
    if (head.len < size) {
        return false;
    }
    memcpy(ret, args->buf + sizeof head, size);
    return true;
}

static bool
quotas_on(int fd, GError **error)
{
    struct btrfs_ioctl_quota_ctl_args args = {.cmd = BTRFS_QUOTA_CTL_ENABLE};
    if (ioctl(fd, BTRFS_IOC_QUOTA_CTL, &args) < 0 && errno != EEXIST) {
        return haw_fail_errno(error, errno, "turn quotas on");
    }
    ioctl(fd, BTRFS_IOC_QUOTA_RESCAN_WAIT);
    return true;
}

bool
subvol_limit(const char *path, gint64 bytes, GError **error)
{
    haw_autofd int fd = open_dir(AT_FDCWD, path);
    guint64 id = 0;
    if (fd < 0 || !subvol_id(fd, &id)) {
        return haw_fail_errno(error, errno, "find the subvolume of '%s'", path);
    }
    struct btrfs_qgroup_info_item info;
    if (!quota_item(fd, BTRFS_QGROUP_INFO_KEY, id, &info, sizeof info)) {
        if (bytes == 0) {
            return true;
        }
        if (!quotas_on(fd, error)) {
            return haw_push(error, "limit '%s'", path);
        }
    }
    struct btrfs_ioctl_qgroup_limit_args args = {
        .qgroupid = id,
        .lim = {.flags = BTRFS_QGROUP_LIMIT_MAX_RFER,
                .max_rfer = bytes > 0 ? (guint64) bytes : G_MAXUINT64}};
    if (ioctl(fd, BTRFS_IOC_QGROUP_LIMIT, &args) == 0) {
        return true;
    }
    /* Quotas came on after the subvolume did: its group is ours to make. */
    struct btrfs_ioctl_qgroup_create_args create = {.create = 1, .qgroupid = id};
    if (errno == ENOENT && ioctl(fd, BTRFS_IOC_QGROUP_CREATE, &create) == 0 &&
        ioctl(fd, BTRFS_IOC_QGROUP_LIMIT, &args) == 0) {
        return true;
    }
    return haw_fail_errno(error, errno, "limit '%s'", path);
}

bool
subvol_usage(const char *path, gint64 *ret_used, gint64 *ret_total)
{
    haw_autofd int fd = open_dir(AT_FDCWD, path);
    guint64 id = 0;
    struct btrfs_qgroup_info_item info;
    struct btrfs_qgroup_limit_item limit;
    if (fd < 0 || !subvol_id(fd, &id) ||
        !quota_item(fd, BTRFS_QGROUP_INFO_KEY, id, &info, sizeof info)) {
        return false;
    }
    *ret_used = (gint64) GUINT64_FROM_LE(info.rfer);
    *ret_total = 0;
    if (quota_item(fd, BTRFS_QGROUP_LIMIT_KEY, id, &limit, sizeof limit) &&
        (GUINT64_FROM_LE(limit.flags) & BTRFS_QGROUP_LIMIT_MAX_RFER) &&
        limit.max_rfer != G_MAXUINT64) {
        *ret_total = (gint64) GUINT64_FROM_LE(limit.max_rfer);
    }
    return true;
}

bool
subvol_resize_max(const char *mount, GError **error)
{
    haw_autofd int fd = open_dir(AT_FDCWD, mount);
    struct btrfs_ioctl_vol_args args = {0};
    g_strlcpy(args.name, "max", sizeof args.name);
    return (fd >= 0 && ioctl(fd, BTRFS_IOC_RESIZE, &args) == 0) ||
           haw_fail_errno(error, errno, "grow the filesystem at '%s'", mount);
}
