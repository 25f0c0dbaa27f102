/* Unix sockets below a directory. sun_path holds 108 bytes, a state directory with a project and an
 * instance may be longer: the directory is opened, and reached as /proc/self/fd/N. QEMU gets sockets as
 * descriptors, so it never has to spell such a path.
 * A socket is pinned before it is connected to: a QEMU that somebody broke into could put a link to any
 * other socket of the host into its own directory, for us to connect to as root. */
#include "agent/vm/vmsock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/fd.h"

/* The returned directory stays open while the address is used. */
static int
address_of(const char *dir, const char *name, struct sockaddr_un *ret, GError **error)
{
    haw_autofd int at = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (at < 0) {
        haw_fail_errno(error, errno, "Open '%s'", dir);
        return -1;
    }
    ret->sun_family = AF_UNIX;
    int n = snprintf(ret->sun_path, sizeof ret->sun_path, "/proc/self/fd/%d/%s", at, name);
    g_assert(n > 0 && (size_t) n < sizeof ret->sun_path);
    return fd_steal(&at);
}

int
vmsock_listen(const char *dir, const char *name, GError **error)
{
    struct sockaddr_un address = {0};
    haw_autofd int at = address_of(dir, name, &address, error);
    haw_autofd int fd = at >= 0 ? socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0) : -1;
    if (at < 0) {
        return -1;
    }
    unlinkat(at, name, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *) &address, sizeof address) < 0 || listen(fd, 8) < 0) {
        haw_fail_errno(error, errno, "Listen on '%s/%s'", dir, name);
        return -1;
    }
    return fd_steal(&fd);
}

int
vmsock_listen_for(const char *dir, const char *name, uid_t user, GError **error)
{
    haw_autofd int fd = vmsock_listen(dir, name, error);
    g_autofree char *path = g_build_filename(dir, name, NULL);
    if (fd >= 0 && lchown(path, user, user) < 0) {
        haw_fail_errno(error, errno, "Give '%s' to user %u", path, (unsigned) user);
        return -1;
    }
    return fd_steal(&fd);
}

int
vmsock_connect(const char *dir, const char *name, GError **error)
{
    struct sockaddr_un address = {0};
    haw_autofd int at = address_of(dir, name, &address, error);
    haw_autofd int fd = at >= 0 ? socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0) : -1;
    haw_autofd int node = at >= 0 ? openat(at, name, O_PATH | O_NOFOLLOW | O_CLOEXEC) : -1;
    struct stat st;
    if (at < 0) {
        return -1;
    }
    if (node < 0 || fstat(node, &st) < 0) {
        haw_fail_errno(error, errno, "Connect to '%s/%s'", dir, name);
        return -1;
    }
    if (!S_ISSOCK(st.st_mode)) {
        haw_fail(error, HAW_FAILED, "'%s/%s' is no socket", dir, name);
        return -1;
    }
    snprintf(address.sun_path, sizeof address.sun_path, "/proc/self/fd/%d", node);
    if (fd < 0 || connect(fd, (struct sockaddr *) &address, sizeof address) < 0) {
        int err = errno;
        haw_fail_errno(error, err, "Connect to '%s/%s'", dir, name);
        if (err == ECONNREFUSED) {
            haw_recode(error, HAW_UNAVAILABLE);
        }
        return -1;
    }
    return fd_steal(&fd);
}
