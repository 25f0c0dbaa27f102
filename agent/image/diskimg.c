/* Disks between qcow2 and raw, by qemu-img.
 * D1  What qemu-img reads was looked at first (qcow.c), and its format is told, never guessed.
 * D2  It runs in a child that can do nothing else: no capabilities, no network, no other process in
 *     sight, and (where the kernel has Landlock) no file but its two and the libraries. A child that
 *     is taken over can spoil the image that it came with.
 * D3  The raw file is made here, at its full size and empty: qemu-img writes only what is not zero.
 * D4  Time and memory are bounded by limits; the size of what is written by RLIMIT_FSIZE.
 * D2 and D4 are forkqimg.c's, which is the child. Called by image.c (unpacking) and publish.c. */
#include "agent/image/diskimg.h"

#include "agent/image/qcow.h"
#include "base/fd.h"
#include "base/proc.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#define QCOW_ROOM ((gint64) 1 << 30) /* a qcow2 file's own tables */

static bool
run(Agent *agent, const char *operation, gint64 limit, int in, int out, GCancellable *cancel,
    GError **error)
{
    g_autofree char *text = g_strdup_printf("%" G_GINT64_FORMAT, limit);
    const char *argv[] = {agent->exe, "forkqimg", operation, text, NULL};
    const int fds[] = {in, out};
    const ProcSpec spec = {
        .argv = argv, .fd_in = -1, .fd_out = -1, .fds = fds, .fd_count = 2, .cancel = cancel};
    return proc_run(&spec, NULL, error);
}

static int
create(const char *path, gint64 size, GError **error)
{
    haw_autofd int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0 || ftruncate(fd, size) < 0) {
        int err = errno;
        if (fd >= 0) {
            unlink(path);
        }
        haw_fail_errno(error, err, "create '%s'", path);
        return -1;
    }
    return fd_steal(&fd);
}

bool
diskimg_to_raw(Agent *agent, int qcow_fd, const char *path, GCancellable *cancel, GError **error)
{
    gint64 size = 0;
    if (!qcow_check(qcow_fd, &size, error)) { /* D1 */
        return false;
    }
    haw_autofd int out = create(path, size, error);
    if (out < 0) {
        return false;
    }
    if (!run(agent, "to-raw", size, qcow_fd, out, cancel, error)) {
        unlink(path);
        return haw_push(error, "Failed converting image to raw at \"%s\"", path);
    }
    return true;
}

bool
diskimg_to_qcow(Agent *agent, int raw_fd, const char *path, bool compress, GCancellable *cancel,
                GError **error)
{
    struct stat st;
    haw_autofd int out = create(path, 0, error);
    if (out < 0) {
        return false;
    }
    if (fstat(raw_fd, &st) < 0 || !run(agent, compress ? "to-small-qcow2" : "to-qcow2",
                                       st.st_size + QCOW_ROOM, raw_fd, out, cancel, error)) {
        unlink(path);
        return haw_push(error, "Failed converting disk to qcow2 at \"%s\"", path);
    }
    return true;
}
