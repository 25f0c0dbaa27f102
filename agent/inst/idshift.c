/* Owners on disk moved from one id map to another, where the filesystem can't map ids by itself.
 * Symbolic links are never followed: every step is relative to a directory that is held open.
 * chown clears file capabilities and set-id bits, so both are put back, capabilities with their
 * root id moved too; POSIX ACLs name ids, which move as well. Idempotent: see M3 in idmap.c.
 * Called by start.c and snapshot.c on a worker thread. */
#include "agent/inst/idmap.h"
#include "base/fd.h"

#include <dirent.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#define XATTR_MAX 65536
#define ACL_USER  0x02
#define ACL_GROUP 0x08

struct shift {
    const GArray *from, *to;
};

struct acl_entry {
    guint16 tag, perm; /* little endian */
    guint32 id;
};

/* The id after the shift; the same when the old map does not know it. */
static gint64
moved(const struct shift *shift, bool uid, gint64 id)
{
    if (shift->from->len == 0 && shift->to->len > 0 && idmap_to_inside(shift->to, uid, id) >= 0) {
        return id; /* M3: moved by a run that was cut short */
    }
    gint64 inside = idmap_to_inside(shift->from, uid, id);
    gint64 host = inside >= 0 ? idmap_to_host(shift->to, uid, inside) : -1;
    return host >= 0 ? host : id;
}

static void
shift_acl(const struct shift *shift, const char *path, const char *name)
{
    guint8 buffer[4096];
    ssize_t size = lgetxattr(path, name, buffer, sizeof buffer);
    if (size <= 4) {
        return;
    }
    for (size_t at = 4; at + sizeof(struct acl_entry) <= (size_t) size;
         at += sizeof(struct acl_entry)) {
        struct acl_entry entry;
        memcpy(&entry, buffer + at, sizeof entry);
        guint16 tag = le16toh(entry.tag);
        if (tag == ACL_USER || tag == ACL_GROUP) {
            entry.id = htole32((guint32) moved(shift, tag == ACL_USER, le32toh(entry.id)));
            memcpy(buffer + at, &entry, sizeof entry);
        }
    }
    lsetxattr(path, name, buffer, (size_t) size, 0);
}

/* File capabilities as they were, of a revision that names the container's root. */
static void
put_caps(const struct shift *shift, const char *path, struct vfs_ns_cap_data *caps, ssize_t size)
{
    gint64 root = size == (ssize_t) XATTR_CAPS_SZ_3 ? le32toh(caps->rootid) : 0;
    gint64 now = moved(shift, true, root);
    guint32 flags = le32toh(caps->magic_etc) & ~(guint32) VFS_CAP_REVISION_MASK;
    caps->rootid = htole32((guint32) now);
    caps->magic_etc = htole32(flags | (now != 0 ? VFS_CAP_REVISION_3 : VFS_CAP_REVISION_2));
    lsetxattr(path, "security.capability", caps, now != 0 ? XATTR_CAPS_SZ_3 : XATTR_CAPS_SZ_2, 0);
}

static bool
shift_one(const struct shift *shift, int dir_fd, const char *name, const struct stat *st,
          GError **error)
{
    g_autofree char *path = g_strdup_printf("/proc/self/fd/%d/%s", dir_fd, name);
    struct vfs_ns_cap_data caps = {0};
    ssize_t caps_size =
        S_ISREG(st->st_mode) ? lgetxattr(path, "security.capability", &caps, sizeof caps) : -1;
    gint64 uid = moved(shift, true, st->st_uid), gid = moved(shift, false, st->st_gid);

    if (uid != st->st_uid || gid != st->st_gid) {
        if (fchownat(dir_fd, name, (uid_t) uid, (gid_t) gid, AT_SYMLINK_NOFOLLOW) < 0) {
            return haw_fail_errno(error, errno, "Change the owner of '%s'", name);
        }
        if (!S_ISLNK(st->st_mode) && fchmodat(dir_fd, name, st->st_mode & 07777, 0) < 0) {
            return haw_fail_errno(error, errno, "Keep the mode of '%s'", name);
        }
    }
    if (caps_size >= (ssize_t) XATTR_CAPS_SZ_2) {
        put_caps(shift, path, &caps, caps_size);
    }
    if (!S_ISLNK(st->st_mode)) {
        shift_acl(shift, path, "system.posix_acl_access");
        if (S_ISDIR(st->st_mode)) {
            shift_acl(shift, path, "system.posix_acl_default");
        }
    }
    return true;
}

/* A directory on the way down: which it is, and those in it that are still to come. */
struct level {
    dev_t device;
    ino_t inode;
    GPtrArray *names;
};

static void
level_clear(void *data)
{
    g_ptr_array_unref(((struct level *) data)->names);
}

/* Everything in the directory but what is below its directories, whose names are put aside. */
static bool
shift_entries(const struct shift *shift, int fd, const struct stat *here, GArray *levels,
              GError **error)
{
    struct level level = {here->st_dev, here->st_ino, g_ptr_array_new_with_free_func(g_free)};
    g_array_append_val(levels, level);
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    DIR *dir = copy >= 0 ? fdopendir(copy) : NULL;
    if (dir == NULL) {
        fd_close(&copy);
        return haw_fail_errno(error, errno, "Read a directory");
    }
    bool ok = true;
    for (struct dirent *entry = readdir(dir); ok && entry != NULL; entry = readdir(dir)) {
        struct stat st;
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) {
            continue;
        }
        if (fstatat(fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 || st.st_dev != here->st_dev) {
            continue;
        }
        ok = shift_one(shift, fd, entry->d_name, &st, error);
        if (ok && S_ISDIR(st.st_mode)) {
            g_ptr_array_add(level.names, g_strdup(entry->d_name));
        }
    }
    closedir(dir);
    return ok;
}

/* Into 'name', or back up with "..", which has to be where we came from. */
static bool
step(int *fd, const char *name, struct stat *ret_st, GError **error)
{
    haw_autofd int next = openat(*fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (next < 0 || fstat(next, ret_st) < 0) {
        return haw_fail_errno(error, errno, "Open '%s'", name);
    }
    fd_close(fd);
    *fd = fd_steal(&next);
    return true;
}

/* One directory is open at a time, and what is on the way is on the heap: containers make trees that are deeper
 * than there are descriptors, or bytes on a thread's stack. */
static bool
shift_below(const struct shift *shift, int *fd, const struct stat *top, GError **error)
{
    g_autoptr(GArray) levels = g_array_new(FALSE, FALSE, sizeof(struct level));
    g_array_set_clear_func(levels, level_clear);
    bool ok = shift_entries(shift, *fd, top, levels, error);
    while (ok && levels->len > 0) {
        GPtrArray *names = g_array_index(levels, struct level, levels->len - 1).names;
        struct stat st;
        if (names->len > 0) {
            g_autofree char *name = g_ptr_array_steal_index(names, names->len - 1);
            ok = step(fd, name, &st, error) && shift_entries(shift, *fd, &st, levels, error);
            continue;
        }
        g_array_set_size(levels, levels->len - 1);
        if (levels->len > 0) {
            const struct level *above = &g_array_index(levels, struct level, levels->len - 1);
            ok = step(fd, "..", &st, error) &&
                 ((st.st_dev == above->device && st.st_ino == above->inode) ||
                  haw_fail(error, HAW_BUSY, "A directory was moved meanwhile"));
        }
    }
    return ok;
}

bool
idmap_shift_tree(const char *path, const GArray *from, const GArray *to, GError **error)
{
    struct shift shift = {from, to};
    struct stat st;
    haw_autofd int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0) {
        return haw_fail_errno(error, errno, "Open '%s'", path);
    }
    return shift_one(&shift, fd, ".", &st, error) && shift_below(&shift, &fd, &st, error);
}
