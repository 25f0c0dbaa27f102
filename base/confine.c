/* Confined paths: what a client or a container names is resolved by the kernel below one directory.
 * C1  No call here reaches an inode outside the tree of mounts seen below root_fd: not by "..",
 *     absolute symbolic links, magic links, nor a rename that races with us (openat2 gives EAGAIN
 *     then, and we try again).
 * C2  The last name is never followed unless the caller opens it without O_NOFOLLOW.
 * C3  What has to be a plain file (confine_plain) is looked at before it is opened: opening a pipe waits, and
 *     opening a device does things.
 * Called in the short-lived helpers (forkfile.c, forkmount.c) and, with plain names, by the agent. */
#include "base/confine.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define CONFINE_TRIES 64

int
confine_open(int root_fd, const char *path, int flags, mode_t mode)
{
    struct open_how how = {
        .flags = (unsigned) flags | O_CLOEXEC,
        .mode = (flags & (O_CREAT | O_TMPFILE)) != 0 ? mode & 07777 : 0,
        .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS,
    };
    int fd = -1;

    if (path[0] == '\0') {
        path = "/";
    }
    for (int i = 0; i < CONFINE_TRIES; i++) {
        fd = (int) syscall(SYS_openat2, root_fd, path, &how, sizeof(how));
        if (fd >= 0 || (errno != EAGAIN && errno != EINTR)) {
            return fd;
        }
    }
    return -1;
}

int
confine_cached(int root_fd, const char *path, int flags)
{
    struct open_how how = {.flags = (unsigned) flags | O_CLOEXEC,
                           .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | RESOLVE_CACHED};
    return (int) syscall(SYS_openat2, root_fd, path, &how, sizeof how);
}

/* C3. Nobody swaps the file between the two: whoever calls keeps such directories to itself. */
int
confine_plain(int root_fd, const char *path, int flags, mode_t mode)
{
    struct open_how look = {.flags = O_PATH | O_NOFOLLOW | O_CLOEXEC,
                            .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS};
    struct open_how how = {.flags = (unsigned) (flags & ~O_TRUNC) | O_NOFOLLOW | O_NONBLOCK |
                                    O_NOCTTY | O_CLOEXEC,
                           .mode = (flags & O_CREAT) != 0 ? mode & 07777 : 0,
                           .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS};
    struct stat st = {0};
    int fd = (int) syscall(SYS_openat2, root_fd, path, &look, sizeof look);

    if (fd < 0 && !(errno == ENOENT && (flags & O_CREAT) != 0)) {
        return -1;
    }
    if (fd >= 0) {
        int status = fstat(fd, &st);
        close(fd);
        if (status < 0 || !S_ISREG(st.st_mode)) {
            errno = S_ISLNK(st.st_mode) ? ELOOP : EINVAL;
            return -1;
        }
    }
    fd = (int) syscall(SYS_openat2, root_fd, path, &how, sizeof how);
    if (fd >= 0 && (flags & O_TRUNC) != 0 && ftruncate(fd, 0) < 0) {
        close(fd);
        return -1;
    }
    return fd;
}

/* Cuts trailing slashes and "/." in place. */
static void
trim(char *path)
{
    size_t size = strlen(path);

    for (;;) {
        if (size > 1 && path[size - 1] == '/') {
            path[--size] = '\0';
        } else if (size >= 2 && path[size - 1] == '.' && path[size - 2] == '/') {
            path[--size] = '\0';
        } else {
            return;
        }
    }
}

int
confine_parent(int root_fd, const char *path, char *path_buf, const char **ret_name)
{
    size_t size = strlen(path);
    char *slash, *name;

    if (size >= PATH_MAX) {
        errno = ENAMETOOLONG;
        return -1;
    }
    memcpy(path_buf, path, size + 1);
    trim(path_buf);
    slash = strrchr(path_buf, '/');
    name = slash != NULL ? slash + 1 : path_buf;
    if (strcmp(name, "..") == 0) {
        errno = EINVAL;
        return -1;
    }
    if (name[0] == '\0' || strcmp(name, ".") == 0) {
        *ret_name = ".";
        return confine_open(root_fd, "/", O_PATH | O_DIRECTORY, 0);
    }
    if (slash == NULL) {
        *ret_name = name;
        return confine_open(root_fd, "/", O_PATH | O_DIRECTORY, 0);
    }
    /* "a/b" becomes "a\0b"; "/b" has the root as its directory. */
    *slash = '\0';
    *ret_name = name;
    return confine_open(root_fd, path_buf, O_PATH | O_DIRECTORY, 0);
}

static bool
make_one(int root_fd, const char *path, mode_t mode)
{
    char buf[PATH_MAX];
    const char *name = NULL;
    int parent, status, err;

    parent = confine_parent(root_fd, path, buf, &name);
    if (parent < 0) {
        return false;
    }
    status = mkdirat(parent, name, mode);
    err = errno;
    close(parent);
    errno = err;
    return status == 0 || err == EEXIST;
}

bool
confine_mkdir_p(int root_fd, const char *path, mode_t mode)
{
    char buf[PATH_MAX];
    size_t size = strlen(path);
    int fd;

    if (size >= PATH_MAX) {
        errno = ENAMETOOLONG;
        return false;
    }
    for (size_t i = 1; i <= size; i++) {
        if (path[i] != '/' && path[i] != '\0') {
            continue;
        }
        memcpy(buf, path, i);
        buf[i] = '\0';
        fd = confine_open(root_fd, buf, O_PATH | O_DIRECTORY, 0);
        if (fd >= 0) {
            close(fd);
        } else if (errno != ENOENT || !make_one(root_fd, buf, mode)) {
            return false;
        }
    }
    return true;
}
