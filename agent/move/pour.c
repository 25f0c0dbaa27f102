/* Children between a directory and a frame.
 * P1  The arguments of both rsyncs are LXD's, for both must agree word for word: the sender is a plain
 *     client, the receiver a "--server" that was told what the client's own would be.
 * P2  rsync's client wants to start its peer by a remote shell. That is 'hawserd forkpass', which hands
 *     its ends of the pipes to us through descriptor 3 and goes away.
 * P3  A child is awaited before we return, also when the peer has gone: its pipe ends then.
 * P4  A file is taken for unchanged when size and time agree, to the nanosecond: what a snapshot has and
 *     the volume has no more may be a second apart from it, or less. It's the receiver that compares.
 * Called by movevol.c. */
#include "agent/move/pour.h"

#include "base/fd.h"
#include "base/fiber.h"
#include "base/proc.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { PASS_WAIT_MS = 20 * 1000, RSYNC_VANISHED = 24 };

/* ---- a child beside the fiber that feeds it: P3 ---- */

typedef struct {
    ProcSpec spec;
    bool begun, done, ok;
    GError *error;
    Fiber *waiter;
} Child;

static void
child_fiber(void *data)
{
    Child *child = data;
    child->begun = true;
    child->ok = proc_run(&child->spec, NULL, &child->error);
    child->done = true;
    if (child->waiter != NULL) {
        fiber_wake(child->waiter);
    }
}

/* The descriptors in 'spec' may be closed once this returns. */
static void
child_start(Child *child, MoveConn *conn)
{
    child->spec.cancel = moveconn_cancel(conn);
    fiber_start("move-child", child_fiber, child);
    while (!child->begun) { /* its first turn lasts until the child runs */
        fiber_yield();
    }
}

static bool
child_wait(Child *child, bool poured, MoveConn *conn, GError **error)
{
    child->waiter = fiber_self();
    while (!child->done) {
        fiber_suspend();
    }
    if (child->ok && poured) {
        return true;
    }
    if (child->error != NULL && error != NULL && *error == NULL) {
        g_propagate_error(error, g_steal_pointer(&child->error));
    }
    g_clear_error(&child->error);
    return moveconn_blame(conn, error);
}

static bool
pipe_pair(int ends[2], GError **error)
{
    return pipe2(ends, O_CLOEXEC) == 0 || haw_fail_errno(error, errno, "make a pipe");
}

/* Runs 'argv' with its stdout as the frame that goes out. */
static bool
send_output(MoveConn *conn, const char *const *argv, GError **error)
{
    int ends[2], none = -1;
    if (!pipe_pair(ends, error)) {
        return false;
    }
    Child child = {.spec = {.argv = argv, .fd_in = -1, .fd_out = ends[1]}};
    child_start(&child, conn);
    fd_close(&ends[1]);
    bool ok = moveconn_mirror(conn, &none, &ends[0], true, error);
    return child_wait(&child, ok, conn, error);
}

/* Runs 'argv' with the frame that comes in as its stdin, and 'out' as its stdout. */
static bool
receive_input(MoveConn *conn, const char *const *argv, int out, GError **error)
{
    int ends[2], none = -1;
    if (!pipe_pair(ends, error)) {
        return false;
    }
    Child child = {.spec = {.argv = argv, .fd_in = ends[0], .fd_out = out}};
    child_start(&child, conn);
    fd_close(&ends[0]);
    bool ok = moveconn_mirror(conn, &ends[1], &none, true, error);
    return child_wait(&child, ok, conn, error);
}

/* ---- rsync ---- */

static void
add_features(GPtrArray *argv, const PourRsync *how)
{
    if (how->xattrs) {
        g_ptr_array_add(argv, "--xattrs");
        g_ptr_array_add(argv, "--filter=-x security.selinux");
    }
    if (how->del) {
        g_ptr_array_add(argv, "--delete");
    }
    if (how->compress) {
        g_ptr_array_add(argv, "--compress");
        g_ptr_array_add(argv, "--compress-level=2");
    }
    if (how->whole) {
        g_ptr_array_add(argv, "--hard-links");
        g_ptr_array_add(argv, "--acls");
    }
}

/* P2: the helper's message with its stdin and stdout. */
static bool
take_ends(int socket, int ret_ends[2], Child *child, GError **error)
{
    char byte;
    union {
        char bytes[CMSG_SPACE(2 * sizeof(int))];
        struct cmsghdr align;
    } control;
    struct iovec iov = {.iov_base = &byte, .iov_len = 1};
    struct msghdr message = {.msg_iov = &iov,
                             .msg_iovlen = 1,
                             .msg_control = control.bytes,
                             .msg_controllen = sizeof control.bytes};
    ssize_t n;
    do {
        if (!fiber_wait_fd(socket, G_IO_IN, PASS_WAIT_MS, child->spec.cancel, error)) {
            return false;
        }
        n = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
    } while (n < 0 && (errno == EAGAIN || errno == EINTR));
    struct cmsghdr *header = n > 0 ? CMSG_FIRSTHDR(&message) : NULL;
    if (header == NULL || header->cmsg_type != SCM_RIGHTS ||
        header->cmsg_len != CMSG_LEN(2 * sizeof(int))) {
        return haw_fail(error, HAW_FAILED, "rsync did not start");
    }
    memcpy(ret_ends, CMSG_DATA(header), 2 * sizeof(int));
    return true;
}

/* rsync cuts its -e at spaces, and knows quotes. */
static bool
remote_shell(MoveConn *conn, char **ret, GError **error)
{
    const char *program = op_agent(moveconn_op(conn))->exe;
    if (strpbrk(program, "'\"") != NULL) {
        return haw_fail(error, HAW_FAILED, "The agent's program '%s' can't be named to rsync",
                        program);
    }
    *ret = g_strdup_printf("'%s' forkpass", program);
    return true;
}

static bool
rsync_vanished(const Child *child)
{
    g_autofree char *text = g_strdup_printf("failed with status %d:", RSYNC_VANISHED);
    return child->error != NULL && strstr(child->error->message, text) != NULL;
}

static bool
send_with(MoveConn *conn, const char *const *argv, const PourRsync *how, GError **error)
{
    int pair[2], ends[2] = {-1, -1};
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0) {
        return haw_fail_errno(error, errno, "make a socket pair");
    }
    haw_autofd int ours = pair[0];
    haw_autofd int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
    Child child = {
        .spec = {.argv = argv, .fd_in = -1, .fd_out = null, .fds = &pair[1], .fd_count = 1}};
    child_start(&child, conn);
    fd_close(&pair[1]);
    bool ok = take_ends(ours, ends, &child, error);
    fd_close(&ours);
    ok = ok && moveconn_mirror(conn, &ends[1], &ends[0], true, error);
    fd_close(&ends[0]);
    fd_close(&ends[1]);
    if (!child_wait(&child, ok, conn, NULL)) {
        if (ok && how->volatile_source && rsync_vanished(&child)) {
            g_clear_error(&child.error);
            return true;
        }
        if (child.error != NULL) { /* rsync knows better than the pipe */
            g_clear_error(error);
            g_propagate_error(error, child.error);
        }
        return moveconn_blame(conn, error);
    }
    return true;
}

bool
pour_rsync_send(MoveConn *conn, const char *path, const PourRsync *how, GError **error)
{
    g_autofree char *shell = NULL, *from = g_strconcat(path, "/", NULL);
    if (!remote_shell(conn, &shell, error)) {
        return false;
    }
    g_autoptr(GPtrArray) argv = g_ptr_array_new();
    static const char *const first[] = {"rsync",         "-ar",       "--devices",
                                        "--numeric-ids", "--partial", "--sparse"};
    for (size_t i = 0; i < G_N_ELEMENTS(first); i++) { /* P1 */
        g_ptr_array_add(argv, (void *) first[i]);
    }
    if (how->bwlimit != NULL) {
        g_ptr_array_add(argv, "--bwlimit");
        g_ptr_array_add(argv, (void *) how->bwlimit);
    }
    add_features(argv, how);
    if (how->exclude != NULL) {
        g_ptr_array_add(argv, "--exclude");
        g_ptr_array_add(argv, (void *) how->exclude);
    }
    g_ptr_array_add(argv, "--ignore-missing-args");
    g_ptr_array_add(argv, from);
    g_ptr_array_add(argv, "localhost:/tmp/foo");
    g_ptr_array_add(argv, "-e");
    g_ptr_array_add(argv, shell);
    g_ptr_array_add(argv, NULL);
    return send_with(conn, (const char *const *) argv->pdata, how, error) ||
           haw_push(error, "Send '%s'", path);
}

bool
pour_rsync_receive(MoveConn *conn, const char *path, const PourRsync *how, GError **error)
{
    int in[2], out[2];
    g_autofree char *to = g_strconcat(path, "/", NULL);
    g_autoptr(GPtrArray) argv = g_ptr_array_new();
    static const char *const first[] = {"rsync",         "--server",  "-vlogDtpre.iLsfx",
                                        "--numeric-ids", "--devices", "--partial",
                                        "--sparse"};
    for (size_t i = 0; i < G_N_ELEMENTS(first); i++) { /* P1 */
        g_ptr_array_add(argv, (void *) first[i]);
    }
    add_features(argv, how);
    g_ptr_array_add(argv, "--modify-window=-1"); /* P4 */
    g_ptr_array_add(argv, ".");
    g_ptr_array_add(argv, to);
    g_ptr_array_add(argv, NULL);
    if (!pipe_pair(in, error)) {
        return false;
    }
    if (!pipe_pair(out, error)) {
        fd_close(&in[0]);
        fd_close(&in[1]);
        return false;
    }
    Child child = {
        .spec = {.argv = (const char *const *) argv->pdata, .fd_in = in[0], .fd_out = out[1]}};
    child_start(&child, conn);
    fd_close(&in[0]);
    fd_close(&out[1]);
    bool ok = moveconn_mirror(conn, &in[1], &out[0], true, error);
    return child_wait(&child, ok, conn, error) || haw_push(error, "Receive '%s'", path);
}

/* ---- subvolumes and files ---- */

bool
pour_subvol_send(MoveConn *conn, const char *path, const char *parent, GError **error)
{
    const char *whole[] = {"btrfs", "send", "-q", path, NULL};
    const char *differing[] = {"btrfs", "send", "-q", "-p", parent, path, NULL};
    return send_output(conn, parent != NULL ? differing : whole, error) ||
           haw_push(error, "Send '%s'", path);
}

bool
pour_subvol_receive(MoveConn *conn, const char *dir, GError **error)
{
    const char *argv[] = {"btrfs", "receive", "-q", "-e", dir, NULL};
    haw_autofd int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
    return receive_input(conn, argv, null, error) || haw_push(error, "Receive a subvolume");
}

bool
pour_file_send(MoveConn *conn, const char *path, GError **error)
{
    const char *argv[] = {"cat", "--", path, NULL};
    return send_output(conn, argv, error) || haw_push(error, "Send '%s'", path);
}

bool
pour_file_receive(MoveConn *conn, const char *path, GError **error)
{
    const char *argv[] = {"dd", "bs=1M", "iflag=fullblock", "conv=sparse", "status=none", NULL};
    haw_autofd int out = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (out < 0) {
        return haw_fail_errno(error, errno, "write '%s'", path);
    }
    return receive_input(conn, argv, out, error) || haw_push(error, "Receive '%s'", path);
}
