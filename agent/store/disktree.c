/* Trees: parallel copy with everything kept, and removal that immutable files do not stop.
 * T1  The copy equals the original in all that tar --xattrs --acls --selinux would see, and in holes.
 * T2  Names inside are never trusted: each directory is opened beneath the root without following a
 *     symlink, so a container that swaps directories during the copy leads nowhere.
 * T3  Directories get times and xattrs last, after their children (default ACLs must not reach the
 *     children, and children change times).
 * Directories are the unit of work: a stack of relative names that DISKTREE_THREADS threads empty. Files
 * with several names are put aside, and done by the first thread alone at the end, when the first
 * copy of each inode exists. Runs on worker threads only. */
#include "agent/store/disktree.h"

#include "base/fd.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/fs.h>
#include <linux/openat2.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

enum { DISKTREE_THREADS = 2, SMALL_BYTES = 128 * 1024, XATTR_BYTES = 65536 };

typedef struct {
    int from, to;         /* roots, owned */
    guint64 mount;        /* the one that the tree is on */
    GCancellable *cancel; /* borrowed */

    GMutex lock; /* all below */
    GCond changed;
    GPtrArray *todo;   /* relative directory names, owned; "." is the root */
    guint busy;        /* threads inside a directory */
    GPtrArray *dirs;   /* names of finished directories, owned: T3 */
    GPtrArray *linked; /* names of files with several links, owned */
    GError *error;
    gint no_clone; /* the filesystem refused FICLONE: do not ask again */
} Copy;

/* One thread's own. */
struct scratch {
    char data[SMALL_BYTES];
    char names[XATTR_BYTES];
    char value[XATTR_BYTES];
};

/* T2: 'name' beneath 'root', no symlink on the way. */
static int
open_beneath(int root, const char *name, int flags)
{
    struct open_how how = {.flags = (guint64) (flags | O_CLOEXEC | O_NOFOLLOW),
                           .resolve =
                               RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS};
    return (int) syscall(SYS_openat2, root, name, &how, sizeof how);
}

/* ---- contents ---- */

static bool
copy_by_hand(int from, int to, off_t at, off_t end, struct scratch *scratch)
{
    while (at < end) {
        ssize_t n = pread(from, scratch->data, MIN((size_t) (end - at), sizeof scratch->data), at);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return n == 0; /* shorter than it was: it changed meanwhile */
        }
        for (ssize_t done = 0; done < n;) {
            ssize_t w = pwrite(to, scratch->data + done, (size_t) (n - done), at + done);
            if (w < 0) {
                return false;
            }
            done += w;
        }
        at += n;
    }
    return true;
}

static bool
copy_range(int from, int to, off_t at, off_t end, struct scratch *scratch)
{
    if (end - at <= SMALL_BYTES) {
        return copy_by_hand(from, to, at, end, scratch);
    }
    while (at < end) {
        off_t in = at, out = at;
        ssize_t n = copy_file_range(from, &in, to, &out, (size_t) (end - at), 0);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0 && errno != ENOSPC && errno != EDQUOT) {
            return copy_by_hand(from, to, at, end, scratch);
        }
        if (n <= 0) {
            return n == 0;
        }
        at += n;
    }
    return true;
}

static bool
copy_extents(int from, int to, const struct stat *st, struct scratch *scratch)
{
    if (st->st_blocks * 512 >= st->st_size) {
        return copy_range(from, to, 0, st->st_size, scratch);
    }
    off_t at = 0;
    while (at < st->st_size) {
        off_t data = lseek(from, at, SEEK_DATA);
        if (data < 0) {
            if (errno != ENXIO) {
                return copy_range(from, to, at, st->st_size, scratch);
            }
            break; /* nothing but a hole */
        }
        off_t hole = lseek(from, data, SEEK_HOLE);
        if (hole < 0 || hole > st->st_size) {
            hole = st->st_size;
        }
        if (!copy_range(from, to, data, hole, scratch)) {
            return false;
        }
        at = hole;
    }
    return ftruncate(to, st->st_size) == 0;
}

static bool
copy_content(int from, int to, const struct stat *st, gint *no_clone, struct scratch *scratch)
{
    if (st->st_size == 0) {
        return true;
    }
    if (!g_atomic_int_get(no_clone)) {
        if (ioctl(to, FICLONE, from) == 0) {
            return true;
        }
        if (errno == EOPNOTSUPP || errno == EXDEV || errno == ENOTTY || errno == ENOSYS) {
            g_atomic_int_set(no_clone, 1);
        }
    }
    return copy_extents(from, to, st, scratch);
}

/* ---- attributes ---- */

/* ENOTSUP on the target is let pass for all but ACLs and capabilities. */
static bool
xattr_may_miss(const char *name)
{
    return (errno == EOPNOTSUPP || errno == EPERM) && strncmp(name, "system.posix_acl", 16) != 0 &&
           strcmp(name, "security.capability") != 0;
}

static bool
copy_xattrs_fd(int from, int to, struct scratch *scratch)
{
    ssize_t size = flistxattr(from, scratch->names, sizeof scratch->names);
    if (size < 0) {
        return errno == EOPNOTSUPP;
    }
    for (const char *name = scratch->names; name < scratch->names + size;
         name += strlen(name) + 1) {
        ssize_t n = fgetxattr(from, name, scratch->value, sizeof scratch->value);
        if (n >= 0 && fsetxattr(to, name, scratch->value, (size_t) n, 0) < 0 &&
            !xattr_may_miss(name)) {
            return false;
        }
    }
    return true;
}

/* For what cannot be opened: symlinks, devices. */
static bool
copy_xattrs_at(int from_dir, int to_dir, const char *name, struct scratch *scratch)
{
    g_autofree char *from = g_strdup_printf("/proc/self/fd/%d/%s", from_dir, name);
    g_autofree char *to = g_strdup_printf("/proc/self/fd/%d/%s", to_dir, name);
    ssize_t size = llistxattr(from, scratch->names, sizeof scratch->names);
    for (const char *key = scratch->names; key < scratch->names + size; key += strlen(key) + 1) {
        ssize_t n = lgetxattr(from, key, scratch->value, sizeof scratch->value);
        if (n >= 0 && lsetxattr(to, key, scratch->value, (size_t) n, 0) < 0 &&
            !xattr_may_miss(key)) {
            return false;
        }
    }
    return true;
}

/* Owner first: it takes capabilities and the set-user-id bit away. */
static bool
copy_attributes(int from, int to, const struct stat *st, struct scratch *scratch)
{
    struct timespec times[2] = {st->st_atim, st->st_mtim};
    return fchown(to, st->st_uid, st->st_gid) == 0 && fchmod(to, st->st_mode & 07777) == 0 &&
           copy_xattrs_fd(from, to, scratch) && futimens(to, times) == 0;
}

/* ---- one entry ---- */

static bool
copy_regular(Copy *copy, int from_dir, int to_dir, const char *name, struct scratch *scratch,
             GError **error)
{
    haw_autofd int from = openat(from_dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (from < 0) {
        return errno == ENOENT || errno == ELOOP || haw_fail_errno(error, errno, "open '%s'", name);
    }
    struct stat st;
    if (fstat(from, &st) < 0 || !S_ISREG(st.st_mode)) {
        return true; /* swapped meanwhile */
    }
    haw_autofd int to =
        openat(to_dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (to < 0) {
        return haw_fail_errno(error, errno, "create '%s'", name);
    }
    if (!copy_content(from, to, &st, &copy->no_clone, scratch) ||
        !copy_attributes(from, to, &st, scratch)) {
        return haw_fail_errno(error, errno, "copy '%s'", name);
    }
    return true;
}

static bool
copy_special(int from_dir, int to_dir, const char *name, const struct stat *st,
             struct scratch *scratch, GError **error)
{
    struct timespec times[2] = {st->st_atim, st->st_mtim};
    if (S_ISLNK(st->st_mode)) {
        char target[PATH_MAX];
        ssize_t n = readlinkat(from_dir, name, target, sizeof target - 1);
        if (n < 0) {
            return errno == ENOENT || errno == EINVAL ||
                   haw_fail_errno(error, errno, "read the link '%s'", name);
        }
        target[n] = '\0';
        if (symlinkat(target, to_dir, name) < 0) {
            return haw_fail_errno(error, errno, "make the link '%s'", name);
        }
    } else if (mknodat(to_dir, name, st->st_mode, st->st_rdev) < 0) {
        return haw_fail_errno(error, errno, "make the node '%s'", name);
    }
    if (fchownat(to_dir, name, st->st_uid, st->st_gid, AT_SYMLINK_NOFOLLOW) < 0 ||
        (!S_ISLNK(st->st_mode) && fchmodat(to_dir, name, st->st_mode & 07777, 0) < 0) ||
        !copy_xattrs_at(from_dir, to_dir, name, scratch) ||
        utimensat(to_dir, name, times, AT_SYMLINK_NOFOLLOW) < 0) {
        return haw_fail_errno(error, errno, "copy '%s'", name);
    }
    return true;
}

/* ---- directories ---- */

static void
push(Copy *copy, GPtrArray *list, const char *dir, const char *name)
{
    char *whole = strcmp(dir, ".") == 0 ? g_strdup(name) : g_strconcat(dir, "/", name, NULL);
    g_mutex_lock(&copy->lock);
    g_ptr_array_add(list, whole);
    g_cond_signal(&copy->changed);
    g_mutex_unlock(&copy->lock);
}

static bool
copy_entry(Copy *copy, const char *dir, int from_dir, int to_dir, const char *name,
           struct scratch *scratch, GError **error)
{
    struct stat st;
    if (fstatat(from_dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
        return errno == ENOENT || haw_fail_errno(error, errno, "look at '%s'", name);
    }
    if (S_ISDIR(st.st_mode)) {
        if (mkdirat(to_dir, name, 0700) < 0 && errno != EEXIST) {
            return haw_fail_errno(error, errno, "make the directory '%s'", name);
        }
        push(copy, copy->todo, dir, name);
        return true;
    }
    if (st.st_nlink > 1) {
        push(copy, copy->linked, dir, name);
        return true;
    }
    return S_ISREG(st.st_mode) ? copy_regular(copy, from_dir, to_dir, name, scratch, error)
                               : copy_special(from_dir, to_dir, name, &st, scratch, error);
}

/* Which mount a directory is on. Its device would not tell: each subvolume of btrfs has its own. */
static guint64
mount_of(int fd)
{
    struct statx st = {0};
    return statx(fd, "", AT_EMPTY_PATH, STATX_MNT_ID, &st) == 0 ? st.stx_mnt_id : 0;
}

static bool
copy_dir(Copy *copy, const char *dir, struct scratch *scratch, GError **error)
{
    int from_dir = open_beneath(copy->from, dir, O_RDONLY | O_DIRECTORY);
    if (from_dir < 0) {
        return errno == ENOENT || errno == ELOOP || errno == ENOTDIR ||
               haw_fail_errno(error, errno, "open the directory '%s'", dir);
    }
    DIR *entries = fdopendir(from_dir);
    g_assert(entries != NULL);
    haw_autofd int to_dir = open_beneath(copy->to, dir, O_RDONLY | O_DIRECTORY);
    bool ok = to_dir >= 0 || haw_fail_errno(error, errno, "open the new directory '%s'", dir);
    if (ok && mount_of(from_dir) != copy->mount) {
        closedir(entries); /* its directory stays empty */
        return true;
    }

    for (struct dirent *entry; ok && (entry = readdir(entries)) != NULL;) {
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
            ok = copy_entry(copy, dir, from_dir, to_dir, entry->d_name, scratch, error);
        }
        if (ok && g_cancellable_is_cancelled(copy->cancel)) {
            ok = haw_fail(error, HAW_CANCELLED, "The copy was cancelled");
        }
    }
    closedir(entries);
    if (!ok) {
        return strcmp(dir, ".") == 0 ? false : haw_push(error, "%s", dir);
    }
    push(copy, copy->dirs, ".", dir);
    return true;
}

/* Takes directories until none is left and nobody can add one. */
static void *
copy_thread(void *data)
{
    Copy *copy = data;
    g_autofree struct scratch *scratch = g_new(struct scratch, 1);
    g_mutex_lock(&copy->lock);
    for (;;) {
        while (copy->todo->len == 0 && copy->busy > 0 && copy->error == NULL) {
            g_cond_wait(&copy->changed, &copy->lock);
        }
        if (copy->todo->len == 0 || copy->error != NULL) {
            break;
        }
        g_autofree char *dir = g_ptr_array_steal_index(copy->todo, copy->todo->len - 1);
        copy->busy++;
        g_mutex_unlock(&copy->lock);
        GError *error = NULL;
        bool ok = copy_dir(copy, dir, scratch, &error);
        g_mutex_lock(&copy->lock);
        copy->busy--;
        if (!ok && copy->error == NULL) {
            copy->error = g_steal_pointer(&error);
        }
        g_clear_error(&error);
    }
    g_cond_broadcast(&copy->changed);
    g_mutex_unlock(&copy->lock);
    return NULL;
}

/* ---- what comes after all directories ---- */

static char *
inode_key(const struct stat *st)
{
    return g_strdup_printf("%ju:%ju", (uintmax_t) st->st_dev, (uintmax_t) st->st_ino);
}

static bool
copy_linked(Copy *copy, const char *path, GHashTable *seen, struct scratch *scratch, GError **error)
{
    g_autofree char *dir = g_path_get_dirname(path);
    g_autofree char *name = g_path_get_basename(path);
    haw_autofd int from_dir = open_beneath(copy->from, dir, O_RDONLY | O_DIRECTORY);
    haw_autofd int to_dir = open_beneath(copy->to, dir, O_RDONLY | O_DIRECTORY);
    struct stat st;
    if (from_dir < 0 || to_dir < 0 || fstatat(from_dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
        S_ISDIR(st.st_mode)) {
        return true; /* vanished, or swapped */
    }

    g_autofree char *key = inode_key(&st);
    const char *first = g_hash_table_lookup(seen, key);
    if (first != NULL) {
        return linkat(copy->to, first, to_dir, name, 0) == 0 || errno == ENOENT ||
               haw_fail_errno(error, errno, "link '%s'", path);
    }
    g_hash_table_insert(seen, g_steal_pointer(&key), (void *) path);
    bool ok = S_ISREG(st.st_mode) ? copy_regular(copy, from_dir, to_dir, name, scratch, error)
                                  : copy_special(from_dir, to_dir, name, &st, scratch, error);
    return ok || haw_push(error, "%s", dir);
}

/* T3 */
static bool
finish_dir(Copy *copy, const char *dir, struct scratch *scratch, GError **error)
{
    haw_autofd int from = open_beneath(copy->from, dir, O_RDONLY | O_DIRECTORY);
    haw_autofd int to = open_beneath(copy->to, dir, O_RDONLY | O_DIRECTORY);
    struct stat st;
    if (from < 0 || to < 0 || fstat(from, &st) < 0) {
        return true; /* vanished */
    }
    return copy_attributes(from, to, &st, scratch) ||
           haw_fail_errno(error, errno, "copy the attributes of '%s'", dir);
}

static bool
copy_rest(Copy *copy, GError **error)
{
    g_autofree struct scratch *scratch = g_new(struct scratch, 1);
    g_autoptr(GHashTable) seen = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    for (guint i = 0; i < copy->linked->len; i++) {
        if (!copy_linked(copy, copy->linked->pdata[i], seen, scratch, error)) {
            return false;
        }
    }
    /* Parents are listed before their children; times of a parent do not change any more. */
    for (guint i = copy->dirs->len; i-- > 0;) {
        if (!finish_dir(copy, copy->dirs->pdata[i], scratch, error)) {
            return false;
        }
    }
    return true;
}

static void
copy_all(Copy *copy)
{
    GThread *threads[DISKTREE_THREADS - 1];
    for (size_t i = 0; i < G_N_ELEMENTS(threads); i++) {
        threads[i] = g_thread_new("disktree", copy_thread, copy);
    }
    copy_thread(copy);
    for (size_t i = 0; i < G_N_ELEMENTS(threads); i++) {
        g_thread_join(threads[i]);
    }
    if (copy->error == NULL) {
        copy_rest(copy, &copy->error);
    }
}

bool
disktree_copy(const char *from, const char *to, GCancellable *cancel, GError **error)
{
    haw_autofd int from_fd = open(from, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (from_fd < 0) {
        return haw_fail_errno(error, errno, "open '%s'", from);
    }
    haw_autofd int to_fd = open(to, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (to_fd < 0) {
        return haw_fail_errno(error, errno, "open '%s'", to);
    }

    Copy copy = {.from = from_fd,
                 .to = to_fd,
                 .mount = mount_of(from_fd),
                 .cancel = cancel,
                 .todo = g_ptr_array_new(),
                 .dirs = g_ptr_array_new_with_free_func(g_free),
                 .linked = g_ptr_array_new_with_free_func(g_free)};
    g_mutex_init(&copy.lock);
    g_cond_init(&copy.changed);
    g_ptr_array_add(copy.todo, g_strdup("."));
    copy_all(&copy);
    g_ptr_array_set_free_func(copy.todo, g_free);
    g_ptr_array_unref(copy.todo);
    g_ptr_array_unref(copy.dirs);
    g_ptr_array_unref(copy.linked);
    g_mutex_clear(&copy.lock);
    g_cond_clear(&copy.changed);
    if (copy.error != NULL) {
        g_propagate_error(error, copy.error);
        return haw_push(error, "copy '%s'", from);
    }
    return true;
}

bool
disktree_copy_file(const char *from, const char *to, GError **error)
{
    haw_autofd int in = open(from, O_RDONLY | O_CLOEXEC);
    if (in < 0) {
        return haw_fail_errno(error, errno, "open '%s'", from);
    }
    haw_autofd int out = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    struct stat st;
    if (out < 0 || fstat(in, &st) < 0) {
        return haw_fail_errno(error, errno, "create '%s'", to);
    }
    g_autofree struct scratch *scratch = g_new(struct scratch, 1);
    gint no_clone = 0;
    if (!copy_content(in, out, &st, &no_clone, scratch) || fchmod(out, st.st_mode & 07777) < 0) {
        int err = errno;
        unlink(to);
        return haw_fail_errno(error, err, "copy '%s' to '%s'", from, to);
    }
    return true;
}

/* ---- removal ---- */

/* As deep as a removal goes before it moves things up (base/fd.c): what it moves is in reach the next time. */
enum { FLAGS_DEPTH = 72 };

/* chattr -i -a on everything below; symlinks are not followed. How many had flags. */
static guint
take_flags_off(int parent, const char *name, int depth)
{
    guint changed = 0;
    haw_autofd int fd = openat(parent, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    struct stat st;
    int flags = 0;
    if (fd < 0 || fstat(fd, &st) < 0 || (!S_ISDIR(st.st_mode) && !S_ISREG(st.st_mode))) {
        return 0;
    }
    if (ioctl(fd, FS_IOC_GETFLAGS, &flags) == 0 && (flags & (FS_IMMUTABLE_FL | FS_APPEND_FL))) {
        flags &= ~(FS_IMMUTABLE_FL | FS_APPEND_FL);
        changed += ioctl(fd, FS_IOC_SETFLAGS, &flags) == 0;
    }
    if (!S_ISDIR(st.st_mode) || depth == FLAGS_DEPTH) {
        return changed;
    }
    DIR *entries = fdopendir(dup(fd));
    for (struct dirent *entry; entries != NULL && (entry = readdir(entries)) != NULL;) {
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0 &&
            (entry->d_type == DT_DIR || entry->d_type == DT_REG || entry->d_type == DT_UNKNOWN)) {
            changed += take_flags_off(fd, entry->d_name, depth + 1);
        }
    }
    if (entries != NULL) {
        closedir(entries);
    }
    return changed;
}

bool
disktree_remove(const char *path, GError **error)
{
    for (;;) {
        GError *cause = NULL;
        if (fd_remove_tree(path, &cause)) {
            return true;
        }
        if (haw_code(cause) != HAW_DENIED || take_flags_off(AT_FDCWD, path, 0) == 0) {
            g_propagate_error(error, cause);
            return false;
        }
        g_clear_error(&cause);
    }
}

bool
disktree_is_empty(const char *path)
{
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    return dir == NULL || g_dir_read_name(dir) == NULL;
}
