/* Descriptors and whole files. */
#include "base/fd.h"

#include "base/confine.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

void
fd_close_cleanup(int *fd)
{
    fd_close(fd);
}

int
fd_steal(int *fd)
{
    int taken = *fd;
    *fd = -1;
    return taken;
}

void
fd_close(int *fd)
{
    if (*fd >= 0) {
        int keep = errno;
        close(*fd);
        errno = keep;
        *fd = -1;
    }
}

bool
fd_write_all(int fd, const void *bytes, size_t size, const char *what, GError **error)
{
    const char *at = bytes;
    while (size > 0) {
        ssize_t n = write(fd, at, size);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return haw_fail_errno(error, errno, "write '%s'", what);
        }
        at += n;
        size -= (size_t) n;
    }
    return true;
}

static char *
read_rest(int fd, const char *path, size_t max_bytes, size_t *ret_size, GError **error)
{
    g_autoptr(GByteArray) bytes = g_byte_array_new();
    for (;;) {
        guint8 chunk[16384];
        ssize_t n = read(fd, chunk, sizeof chunk);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            haw_fail_errno(error, errno, "read '%s'", path);
            return NULL;
        }
        if (n == 0) {
            break;
        }
        if (bytes->len + (size_t) n > max_bytes) {
            haw_fail(error, HAW_LIMIT, "read '%s': larger than %zu bytes", path, max_bytes);
            return NULL;
        }
        g_byte_array_append(bytes, chunk, (guint) n);
    }
    if (ret_size != NULL) {
        *ret_size = bytes->len;
    }
    g_byte_array_append(bytes, (const guint8 *) "", 1);
    return (char *) g_byte_array_free(g_steal_pointer(&bytes), FALSE);
}

char *
fd_read_file(const char *path, size_t max_bytes, size_t *ret_size, GError **error)
{
    haw_autofd int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        haw_fail_errno(error, errno, "open '%s'", path);
        return NULL;
    }
    return read_rest(fd, path, max_bytes, ret_size, error);
}

char *
fd_read_plain(int dir_fd, const char *path, size_t max_bytes, size_t *ret_size, GError **error)
{
    haw_autofd int fd = confine_plain(dir_fd, path, O_RDONLY, 0);
    if (fd < 0) {
        haw_fail_errno(error, errno, "open '%s'", path);
        return NULL;
    }
    return read_rest(fd, path, max_bytes, ret_size, error);
}

static bool
replace_file(const char *path, const void *bytes, size_t size, mode_t mode, bool durable,
             GError **error)
{
    g_autofree char *temp = g_strdup_printf("%s.new-XXXXXX", path);
    haw_autofd int fd = mkostemp(temp, O_CLOEXEC);
    if (fd < 0) {
        return haw_fail_errno(error, errno, "create a temporary beside '%s'", path);
    }
    if (!fd_write_all(fd, bytes, size, temp, error)) {
        unlink(temp);
        return false;
    }
    if (fchmod(fd, mode) < 0 || (durable && fsync(fd) < 0) || rename(temp, path) < 0) {
        int err = errno;
        unlink(temp);
        return haw_fail_errno(error, err, "replace '%s'", path);
    }
    return true;
}

bool
fd_write_atomic(const char *path, const void *bytes, size_t size, mode_t mode, GError **error)
{
    return replace_file(path, bytes, size, mode, true, error);
}

bool
fd_write_copy(const char *path, const void *bytes, size_t size, mode_t mode, GError **error)
{
    return replace_file(path, bytes, size, mode, false, error);
}

bool
fd_place(int fd, const char *temp, const char *path, GError **error)
{
    g_autofree char *parent = g_path_get_dirname(path);
    haw_autofd int dir = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0) {
        return haw_fail_errno(error, errno, "open '%s'", parent);
    }
    return (fsync(fd) == 0 && rename(temp, path) == 0 && fsync(dir) == 0) ||
           haw_fail_errno(error, errno, "create '%s'", path);
}

bool
fd_write_kernel(const char *path, const char *text, GError **error)
{
    haw_autofd int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0) {
        return haw_fail_errno(error, errno, "open '%s'", path);
    }
    if (write(fd, text, strlen(text)) < 0) {
        return haw_fail_errno(error, errno, "write \"%s\" to '%s'", text, path);
    }
    return true;
}

bool
fd_mkdir_p(const char *path, mode_t mode, GError **error)
{
    g_autofree char *each = g_strdup(path);
    for (char *slash = strchr(each + 1, '/');; slash = strchr(slash + 1, '/')) {
        if (slash != NULL) {
            *slash = '\0';
        }
        if (mkdir(each, mode) < 0 && errno != EEXIST) {
            return haw_fail_errno(error, errno, "create the directory '%s'", each);
        }
        if (slash == NULL) {
            return true;
        }
        *slash = '/';
    }
}

/* ---- removal ---- */

/* Deeper directories are moved up below the top, and come again from there: a tree may be deeper than there are
 * descriptors, or bytes on a thread's stack. */
#define REMOVE_DEPTH 64

struct removal {
    int top; /* borrowed */
    guint moved;
};

static bool
move_up(struct removal *job, int parent, const char *name, GError **error)
{
    for (;;) {
        g_autofree char *free_name = g_strdup_printf(".deep-%u", job->moved++);
        struct stat st;
        if (fstatat(job->top, free_name, &st, AT_SYMLINK_NOFOLLOW) == 0) {
            continue;
        }
        return renameat(parent, name, job->top, free_name) == 0 ||
               haw_fail_errno(error, errno, "move '%s' up", name);
    }
}

static bool remove_at(struct removal *job, int parent, const char *name, dev_t device, int depth,
                      GError **error);

static bool
remove_entries(struct removal *job, DIR *dir, const char *name, dev_t device, int depth,
               GError **error)
{
    guint before;
    do {
        before = job->moved;
        rewinddir(dir);
        for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
            if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0 &&
                !remove_at(job, dirfd(dir), entry->d_name, device, depth + 1, error)) {
                return haw_push(error, "%s", name);
            }
        }
    } while (depth == 0 && job->moved != before);
    return true;
}

static bool
remove_at(struct removal *job, int parent, const char *name, dev_t device, int depth,
          GError **error)
{
    struct stat st;
    if (fstatat(parent, name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
        return errno == ENOENT || haw_fail_errno(error, errno, "look at '%s'", name);
    }
    if (!S_ISDIR(st.st_mode)) {
        return unlinkat(parent, name, 0) == 0 || errno == ENOENT ||
               haw_fail_errno(error, errno, "remove '%s'", name);
    }
    if (device != 0 && st.st_dev != device) {
        return haw_fail(error, HAW_BUSY, "remove '%s': something is mounted there", name);
    }
    if (depth == REMOVE_DEPTH) {
        return move_up(job, parent, name, error);
    }

    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) {
        return haw_fail_errno(error, errno, "open '%s'", name);
    }
    DIR *dir = fdopendir(fd);
    g_assert(dir != NULL);
    job->top = depth == 0 ? fd : job->top;
    bool ok = remove_entries(job, dir, name, st.st_dev, depth, error);
    closedir(dir);
    if (ok && unlinkat(parent, name, AT_REMOVEDIR) < 0 && errno != ENOENT) {
        return haw_fail_errno(error, errno, "remove the directory '%s'", name);
    }
    return ok;
}

bool
fd_remove_tree(const char *path, GError **error)
{
    struct removal job = {.top = -1};
    return remove_at(&job, AT_FDCWD, path, 0, 0, error);
}
