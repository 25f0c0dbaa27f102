/* Where entries of foreign archives become files.
 * S1  No name leaves the root: names are cleaned, and each parent is opened by openat2() with
 *     RESOLVE_BENEATH from the root. A symlink in the way that leads out is an error, one that stays
 *     inside is followed.
 * S2  The last component is never followed: what is there is replaced, files are made with O_EXCL.
 * S3  Directories get owner, mode, ACLs and times at the end only: until then they are 0700 and
 *     not set-group-id, so new files belong to 0:0 and need no chown in the common case.
 * S4  Device nodes: the harmless ones (null, zero, tty, …) are made. Others below a dev/ directory
 *     are passed over, since a container's /dev is a tmpfs anyway; elsewhere they are an attack.
 * S5  Attributes: user.*, security.capability and ACLs. trusted.* would steer overlayfs.
 * Called by archive.c on its worker. */
#include "agent/image/sink.h"

#include "agent/image/archive_lib.h"
#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#define DEPTH_MAX 256

struct Sink {
    int root_fd;     /* borrowed */
    json_t *idmap;   /* borrowed; may be NULL */
    char *parent;    /* name of parent_fd, NULL when there is none */
    int parent_fd;   /* owned; of the directory used last */
    GPtrArray *dirs; /* struct dir, in order of arrival */
    guint64 skipped;
};

struct dir {
    char *name;
    struct archive_entry *entry; /* owned clone */
};

static void
dir_free(gpointer data)
{
    struct dir *dir = data;
    g_free(dir->name);
    archive_entry_free(dir->entry);
    g_free(dir);
}

Sink *
sink_new(int root_fd, json_t *idmap)
{
    Sink *sink = g_new0(Sink, 1);
    sink->root_fd = root_fd;
    sink->idmap = idmap;
    sink->parent_fd = -1;
    sink->dirs = g_ptr_array_new_with_free_func(dir_free);
    return sink;
}

void
sink_free(Sink *sink)
{
    if (sink == NULL) {
        return;
    }
    fd_close(&sink->parent_fd);
    g_free(sink->parent);
    g_ptr_array_unref(sink->dirs);
    g_free(sink);
}

guint64
sink_skipped(const Sink *sink)
{
    return sink->skipped;
}

char *
sink_clean_name(const char *name, GError **error)
{
    /* LXD's own test image says "/rootfs/etc/inittab" and means the entry below the archive's top. */
    bool ours = name != NULL && g_str_has_prefix(name, "/rootfs/");
    if (name == NULL || (*name == '/' && !ours)) {
        haw_fail(error, HAW_INVALID, "archive entry \"%s\": absolute name", name ? name : "");
        return NULL;
    }

    g_autoptr(GString) clean = g_string_new(NULL);
    const char *at = name;
    while (*at != '\0') {
        size_t size = strcspn(at, "/");
        if (size == 2 && at[0] == '.' && at[1] == '.') {
            haw_fail(error, HAW_INVALID, "archive entry \"%s\": \"..\" in a name", name);
            return NULL;
        }
        if (size > 0 && !(size == 1 && at[0] == '.')) {
            if (clean->len > 0) {
                g_string_append_c(clean, '/');
            }
            g_string_append_len(clean, at, (gssize) size);
        }
        at += size;
        at += strspn(at, "/");
    }
    return g_string_free(g_steal_pointer(&clean), FALSE);
}

/* S1 */
static int
open_beneath(int root_fd, const char *name, int flags)
{
    struct open_how how = {
        .flags = (guint64) (flags | O_CLOEXEC),
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV,
    };
    return (int) syscall(SYS_openat2, root_fd, *name == '\0' ? "." : name, &how, sizeof how);
}

static bool
fail_parent(const char *name, int err, GError **error)
{
    if (err == EXDEV || err == ELOOP) {
        return haw_fail(error, HAW_INVALID, "archive entry \"%s\": leads out through a link", name);
    }
    return haw_fail_errno(error, err, "archive entry \"%s\": open its directory", name);
}

/* The directory 'name' below the root, made when it is missing; the caller closes it. */
static int
open_dir(Sink *sink, const char *name, int depth, GError **error)
{
    int fd = open_beneath(sink->root_fd, name, O_PATH | O_DIRECTORY);
    if (fd >= 0) {
        return fd;
    }
    if (errno != ENOENT || depth > DEPTH_MAX) {
        fail_parent(name, errno, error);
        return -1;
    }

    const char *slash = strrchr(name, '/');
    g_autofree char *above = slash != NULL ? g_strndup(name, (gsize) (slash - name)) : g_strdup("");
    haw_autofd int above_fd = open_dir(sink, above, depth + 1, error);
    if (above_fd < 0) {
        return -1;
    }
    const char *base = slash != NULL ? slash + 1 : name;
    if (mkdirat(above_fd, base, 0755) < 0 && errno != EEXIST) {
        haw_fail_errno(error, errno, "archive entry \"%s\": make its directory", name);
        return -1;
    }
    /* S2: a dangling link of that name stays where it is, and is an error. */
    fd = openat(above_fd, base, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) {
        fail_parent(name, errno, error);
    }
    return fd;
}

/* The directory that 'name' is in, borrowed until the next call, and its last component. */
static int
parent_of(Sink *sink, const char *name, const char **ret_base, GError **error)
{
    const char *slash = strrchr(name, '/');
    size_t size = slash != NULL ? (size_t) (slash - name) : 0;
    *ret_base = slash != NULL ? slash + 1 : name;
    if (sink->parent != NULL && strlen(sink->parent) == size &&
        memcmp(sink->parent, name, size) == 0) {
        return sink->parent_fd;
    }

    g_autofree char *parent = g_strndup(name, size);
    int fd = open_dir(sink, parent, 0, error);
    if (fd < 0) {
        return -1;
    }
    fd_close(&sink->parent_fd);
    sink->parent_fd = fd;
    g_free(sink->parent);
    sink->parent = g_steal_pointer(&parent);
    return fd;
}

static void
forget_parent(Sink *sink)
{
    fd_close(&sink->parent_fd);
    g_clear_pointer(&sink->parent, g_free);
}

/* S2: after this, 'base' isn't there. */
static bool
clear_way(Sink *sink, int dir_fd, const char *base, const char *name, GError **error)
{
    if (unlinkat(dir_fd, base, 0) == 0 || errno == ENOENT) {
        return true;
    }
    if (errno == EISDIR || errno == EPERM) {
        if (unlinkat(dir_fd, base, AT_REMOVEDIR) == 0) {
            forget_parent(sink);
            return true;
        }
    }
    return haw_fail_errno(error, errno, "archive entry \"%s\": replace what is there", name);
}

static bool
attribute_taken(const char *name)
{
    if (g_str_has_prefix(name, "user.")) {
        return !g_str_has_prefix(name, "user.overlay.");
    }
    return strcmp(name, "security.capability") == 0;
}

/* fd is open for reading (no O_PATH). Filesystems without attributes are no error. */
static bool
set_attributes(Sink *sink, int fd, struct archive_entry *entry, const char *name, GError **error)
{
    const char *key;
    const void *value;
    size_t size;
    archive_entry_xattr_reset(entry);
    while (archive_entry_xattr_next(entry, &key, &value, &size) == ARCHIVE_OK) {
        if (key != NULL && attribute_taken(key) && fsetxattr(fd, key, value, size, 0) < 0 &&
            errno != ENOTSUP && errno != EPERM && errno != EINVAL) {
            return haw_fail_errno(error, errno, "archive entry \"%s\": attribute '%s'", name, key);
        }
    }
    for (int is_default = 0; is_default <= 1; is_default++) {
        size_t acl_size = 0;
        g_autofree guint8 *acl = acl_from_entry(sink->idmap, entry, is_default != 0, &acl_size);
        const char *acl_key = is_default ? "system.posix_acl_default" : "system.posix_acl_access";
        if (acl != NULL && fsetxattr(fd, acl_key, acl, acl_size, 0) < 0 && errno != ENOTSUP &&
            errno != EINVAL && errno != EACCES) {
            return haw_fail_errno(error, errno, "archive entry \"%s\": its ACL", name);
        }
    }
    return true;
}

static void
entry_times(struct archive_entry *entry, struct timespec times[2])
{
    times[0] = (struct timespec){.tv_nsec = UTIME_OMIT};
    times[1] = (struct timespec){.tv_sec = archive_entry_mtime(entry),
                                 .tv_nsec = archive_entry_mtime_nsec(entry)};
    if (!archive_entry_mtime_is_set(entry)) {
        times[1].tv_nsec = UTIME_OMIT;
    }
}

static bool
ids_fit(gint64 uid, gint64 gid)
{
    return uid >= 0 && gid >= 0 && uid < G_MAXUINT32 && gid < G_MAXUINT32;
}

/* Owner, mode, attributes, times of an open file or directory: in the order in which the kernel
 * doesn't take back what was set before. */
static bool
set_metadata(Sink *sink, int fd, struct archive_entry *entry, const char *name, GError **error)
{
    gint64 uid = archive_entry_uid(entry), gid = archive_entry_gid(entry);
    if (!ids_fit(uid, gid)) {
        return haw_fail(error, HAW_INVALID, "archive entry \"%s\": owner out of range", name);
    }
    uid_t host_uid = acl_id_to_host(sink->idmap, false, (guint32) uid);
    gid_t host_gid = acl_id_to_host(sink->idmap, true, (guint32) gid);
    /* S3 */
    if ((host_uid != 0 || host_gid != 0) && fchown(fd, host_uid, host_gid) < 0) {
        return haw_fail_errno(error, errno, "archive entry \"%s\": owner", name);
    }
    if (fchmod(fd, archive_entry_perm(entry) & 07777) < 0) {
        return haw_fail_errno(error, errno, "archive entry \"%s\": mode", name);
    }
    if (!set_attributes(sink, fd, entry, name, error)) {
        return false;
    }
    struct timespec times[2];
    entry_times(entry, times);
    futimens(fd, times);
    return true;
}

static bool
write_at(int fd, const char *bytes, size_t size, gint64 offset, const char *name, GError **error)
{
    while (size > 0) {
        ssize_t n = pwrite(fd, bytes, size, offset);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return haw_fail_errno(error, errno, "archive entry \"%s\": write", name);
        }
        bytes += n;
        offset += n;
        size -= (size_t) n;
    }
    return true;
}

/* Blocks come with their offsets: what is between them stays a hole. */
static bool
copy_data(struct archive *in, int fd, gint64 size, const char *name, GError **error)
{
    const void *block;
    size_t block_size;
    la_int64_t offset;
    gint64 end = 0;
    for (;;) {
        int status = archive_read_data_block(in, &block, &block_size, &offset);
        if (status == ARCHIVE_EOF) {
            break;
        }
        if (status < ARCHIVE_WARN) {
            return haw_fail(error, HAW_CORRUPT, "archive entry \"%s\": %s", name,
                            archive_error_string(in));
        }
        if (!write_at(fd, block, block_size, offset, name, error)) {
            return false;
        }
        end = MAX(end, offset + (gint64) block_size);
    }
    if (end < size && ftruncate(fd, size) < 0) {
        return haw_fail_errno(error, errno, "archive entry \"%s\": size", name);
    }
    return true;
}

static bool
write_file(Sink *sink, struct archive *in, struct archive_entry *entry, const char *name,
           GError **error)
{
    const char *base;
    int dir_fd = parent_of(sink, name, &base, error);
    if (dir_fd < 0) {
        return false;
    }
    int flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC;
    haw_autofd int fd = openat(dir_fd, base, flags, 0600);
    if (fd < 0 && errno == EEXIST) {
        if (!clear_way(sink, dir_fd, base, name, error)) {
            return false;
        }
        dir_fd = parent_of(sink, name, &base, error);
        fd = dir_fd < 0 ? -1 : openat(dir_fd, base, flags, 0600);
    }
    if (fd < 0) {
        return dir_fd >= 0 && haw_fail_errno(error, errno, "archive entry \"%s\": create", name);
    }
    return copy_data(in, fd, archive_entry_size(entry), name, error) &&
           set_metadata(sink, fd, entry, name, error);
}

static bool
write_dir(Sink *sink, struct archive_entry *entry, const char *name, GError **error)
{
    if (*name != '\0') {
        const char *base;
        struct stat st;
        int dir_fd = parent_of(sink, name, &base, error);
        if (dir_fd < 0) {
            return false;
        }
        bool there = fstatat(dir_fd, base, &st, AT_SYMLINK_NOFOLLOW) == 0;
        if (there && !S_ISDIR(st.st_mode)) {
            if (!clear_way(sink, dir_fd, base, name, error)) {
                return false;
            }
            there = false;
        }
        if (!there && mkdirat(dir_fd, base, 0700) < 0) {
            return haw_fail_errno(error, errno, "archive entry \"%s\": create", name);
        }
    }

    struct dir *dir = g_new0(struct dir, 1);
    dir->name = g_strdup(name);
    dir->entry = archive_entry_clone(entry);
    g_ptr_array_add(sink->dirs, dir);
    return true;
}

/* S4 */
static bool
device_harmless(mode_t type, unsigned major_number, unsigned minor_number)
{
    static const struct {
        unsigned major, minor;
    } nodes[] = {{1, 3}, {1, 5}, {1, 7}, {1, 8},    {1, 9},
                 {5, 0}, {5, 1}, {5, 2}, {10, 200}, {10, 229}};
    for (size_t i = 0; i < G_N_ELEMENTS(nodes); i++) {
        if (type == S_IFCHR && nodes[i].major == major_number && nodes[i].minor == minor_number) {
            return true;
        }
    }
    return false;
}

static bool
below_dev(const char *name)
{
    return g_str_has_prefix(name, "dev/") || g_str_has_prefix(name, "rootfs/dev/");
}

bool
sink_device_check(const char *name, mode_t type, dev_t device, bool *ret_make, GError **error)
{
    unsigned major_number = major(device), minor_number = minor(device);
    *ret_make = device_harmless(type, major_number, minor_number);
    if (*ret_make || below_dev(name)) {
        return true;
    }
    return haw_fail(error, HAW_INVALID,
                    "archive entry \"%s\": device nodes aren't allowed (%s %u:%u)", name,
                    type == S_IFBLK ? "block" : "character", major_number, minor_number);
}

static bool
write_node(Sink *sink, struct archive_entry *entry, const char *name, GError **error)
{
    mode_t type = archive_entry_filetype(entry);
    dev_t device = 0;
    if (type == S_IFCHR || type == S_IFBLK) {
        bool make;
        device = makedev(archive_entry_rdevmajor(entry), archive_entry_rdevminor(entry));
        if (!sink_device_check(name, type, device, &make, error)) {
            return false;
        }
        if (!make) {
            sink->skipped++;
            return true;
        }
    }

    const char *base;
    int dir_fd = parent_of(sink, name, &base, error);
    if (dir_fd < 0 || !clear_way(sink, dir_fd, base, name, error)) {
        return false;
    }
    dir_fd = parent_of(sink, name, &base, error);
    gint64 uid = archive_entry_uid(entry), gid = archive_entry_gid(entry);
    if (dir_fd < 0 || !ids_fit(uid, gid)) {
        return dir_fd >= 0 &&
               haw_fail(error, HAW_INVALID, "archive entry \"%s\": owner out of range", name);
    }

    int status = type == S_IFLNK ? symlinkat(archive_entry_symlink(entry), dir_fd, base)
                                 : mknodat(dir_fd, base, type | 0600, device);
    if (status < 0 && errno == EPERM && type != S_IFLNK) {
        sink->skipped++; /* We ourselves run in a user namespace. */
        return true;
    }
    if (status < 0) {
        return haw_fail_errno(error, errno, "archive entry \"%s\": create", name);
    }

    struct timespec times[2];
    entry_times(entry, times);
    if (fchownat(dir_fd, base, acl_id_to_host(sink->idmap, false, (guint32) uid),
                 acl_id_to_host(sink->idmap, true, (guint32) gid), AT_SYMLINK_NOFOLLOW) < 0 ||
        (type != S_IFLNK && fchmodat(dir_fd, base, archive_entry_perm(entry) & 07777, 0) < 0)) {
        return haw_fail_errno(error, errno, "archive entry \"%s\": owner and mode", name);
    }
    utimensat(dir_fd, base, times, AT_SYMLINK_NOFOLLOW);
    return true;
}

static bool
write_link(Sink *sink, const char *name, const char *link, GError **error)
{
    const char *base, *link_base;
    const char *slash = strrchr(link, '/');
    g_autofree char *link_dir = g_strndup(link, slash != NULL ? (gsize) (slash - link) : 0);
    link_base = slash != NULL ? slash + 1 : link;
    haw_autofd int from_fd = open_beneath(sink->root_fd, link_dir, O_PATH | O_DIRECTORY);
    if (from_fd < 0) {
        return fail_parent(link, errno, error);
    }
    int dir_fd = parent_of(sink, name, &base, error);
    if (dir_fd < 0) {
        return false;
    }
    if (linkat(from_fd, link_base, dir_fd, base, 0) == 0) {
        return true;
    }
    if (errno == EEXIST) {
        struct stat a, b;
        bool same = fstatat(from_fd, link_base, &a, AT_SYMLINK_NOFOLLOW) == 0 &&
                    fstatat(dir_fd, base, &b, AT_SYMLINK_NOFOLLOW) == 0 && a.st_ino == b.st_ino;
        if (same) {
            return true;
        }
        if (!clear_way(sink, dir_fd, base, name, error)) {
            return false;
        }
        dir_fd = parent_of(sink, name, &base, error);
        if (dir_fd < 0) {
            return false;
        }
        if (linkat(from_fd, link_base, dir_fd, base, 0) == 0) {
            return true;
        }
    }
    return haw_fail_errno(error, errno, "archive entry \"%s\": link to \"%s\"", name, link);
}

bool
sink_write(Sink *sink, struct archive *in, struct archive_entry *entry, const char *name,
           const char *link, GError **error)
{
    if (link != NULL) {
        return write_link(sink, name, link, error);
    }
    mode_t type = archive_entry_filetype(entry);
    if (type != S_IFDIR && *name == '\0') {
        return haw_fail(error, HAW_INVALID, "archive entry without a name");
    }
    switch (type) {
    case S_IFREG:
        return write_file(sink, in, entry, name, error);
    case S_IFDIR:
        return write_dir(sink, entry, name, error);
    case S_IFLNK:
        if (archive_entry_symlink(entry) == NULL) {
            return haw_fail(error, HAW_CORRUPT, "archive entry \"%s\": link without target", name);
        }
        return write_node(sink, entry, name, error);
    case S_IFIFO:
    case S_IFCHR:
    case S_IFBLK:
        return write_node(sink, entry, name, error);
    default:
        sink->skipped++;
        return true;
    }
}

bool
sink_finish(Sink *sink, GError **error)
{
    for (guint i = sink->dirs->len; i > 0; i--) {
        struct dir *dir = g_ptr_array_index(sink->dirs, i - 1);
        haw_autofd int fd =
            open_beneath(sink->root_fd, dir->name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
        if (fd < 0 && (errno == ENOTDIR || errno == ELOOP || errno == ENOENT)) {
            continue; /* A later entry of the archive has replaced it. */
        }
        if (fd < 0) {
            return fail_parent(dir->name, errno, error);
        }
        if (!set_metadata(sink, fd, dir->entry, dir->name, error)) {
            return false;
        }
    }
    return true;
}
