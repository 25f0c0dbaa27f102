/* Terminals of containers: tty(1) inside should name a file that is there, so the pair comes from
 * the container's /dev/pts. Its tree is not ours, so: no symbolic link is followed, and what is
 * found must be devpts by its magic number before it is opened; a mount point is found without asking the
 * file systems above it, which may not answer. Called by exec.c. */
#include "agent/inst/guestpty.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <pty.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/confine.h"
#include "agent/inst/shift.h"
#include "base/fd.h"
#include "base/fiber.h"

typedef struct {
    pid_t pid;
    guint uid;
    int master, slave;
    int err;
} Pair;

static int
open_ptmx(pid_t pid)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/root", (int) pid);
    haw_autofd int root = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    haw_autofd int dir = -1;
    struct statfs fs;

    dir = root >= 0 ? confine_cached(root, "/dev/pts", O_PATH | O_DIRECTORY | O_NOFOLLOW) : -1;
    if (dir < 0 || fstatfs(dir, &fs) < 0 || fs.f_type != DEVPTS_SUPER_MAGIC) {
        return -1;
    }
    return openat(dir, "ptmx", O_RDWR | O_NOCTTY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
}

static void
pair_open(void *data)
{
    Pair *pair = data;
    int unlock = 0;

    pair->slave = -1;
    pair->master = open_ptmx(pair->pid);
    if (pair->master >= 0 && ioctl(pair->master, TIOCSPTLCK, &unlock) == 0) {
        pair->slave = ioctl(pair->master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
    }
    if (pair->slave < 0) {
        fd_close(&pair->master);
        pair->master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
        if (pair->master < 0 || unlockpt(pair->master) < 0) {
            pair->err = errno;
            return;
        }
        pair->slave = ioctl(pair->master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
        pair->err = pair->slave < 0 ? errno : 0;
    }
    json_t *idmap = shift_of_pid(pair->pid);
    gint64 owner = shift_to_host(idmap, SHIFT_UID, pair->uid);
    json_decref(idmap);
    if (pair->slave >= 0 && owner != SHIFT_NONE) {
        (void) fchown(pair->slave, (uid_t) owner, (gid_t) -1);
    }
}

bool
guestpty_open(pid_t pid, guint uid, int *ret_master, int *ret_slave, GError **error)
{
    Pair pair = {.pid = pid, .uid = uid};

    fiber_run(pair_open, &pair);
    if (pair.slave < 0) {
        fd_close(&pair.master);
        return haw_fail_errno(error, pair.err, "Failed to open a terminal");
    }
    *ret_master = pair.master;
    *ret_slave = pair.slave;
    return true;
}
