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

static bool
shift_dir(const struct shift *shift, int fd, dev_t device, GError **error)
{
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
        if (fstatat(fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 || st.st_dev != device) {
            continue;
        }
        ok = shift_one(shift, fd, entry->d_name, &st, error);
        if (ok && S_ISDIR(st.st_mode)) {
            haw_autofd int child =
                openat(fd, entry->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
            ok = child >= 0 ? shift_dir(shift, child, device, error)
                            : haw_fail_errno(error, errno, "Open '%s'", entry->d_name);
        }
    }
    closedir(dir);
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
    return shift_one(&shift, fd, ".", &st, error) && shift_dir(&shift, fd, st.st_dev, error);
}
