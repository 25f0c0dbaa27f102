/* /dev/lxd/sock inside a virtual machine: each connection is carried to the host's agent, which answers.
 * D1  The socket is made once, by the guest's own process, and stays: connections wait in it while no session
 *     takes them, through restarts of the host's agent and moves to another host.
 * D2  A session takes one connection, says who it is (four bytes: the user id), and carries bytes until either
 *     end has no more. The agent opens the next session then.
 * The listener's part runs in the guest's process, the rest in a session's child (errand.c). */
#include "guest/errand.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define DEVSOCK_DIR   "/dev/lxd"
#define DEVSOCK_PATH  DEVSOCK_DIR "/sock"
#define DEVSOCK_BYTES 16384

int
devsock_listener(void)
{
    static int listener = -1;
    struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = DEVSOCK_PATH};

    if (listener >= 0) {
        return listener;
    }
    mkdir(DEVSOCK_DIR, 0755);
    unlink(DEVSOCK_PATH);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *) &address, sizeof(address)) < 0 ||
        chmod(DEVSOCK_PATH, 0666) < 0 || listen(fd, 64) < 0) {
        if (fd >= 0) {
            close(fd);
        }
        return -1;
    }
    listener = fd;
    return listener;
}

static bool
pass(int from, int to)
{
    char bytes[DEVSOCK_BYTES];
    ssize_t n = read(from, bytes, sizeof(bytes));

    for (ssize_t at = 0, step; at < n; at += step) {
        step = write(to, bytes + at, (size_t) (n - at));
        if (step <= 0) {
            return false;
        }
    }
    return n > 0 || (n < 0 && errno == EINTR);
}

/* D2 */
static void
carry(int peer)
{
    struct pollfd fds[2] = {{.fd = peer, .events = POLLIN}, {.fd = 0, .events = POLLIN}};

    while (poll(fds, 2, -1) > 0) {
        if (fds[0].revents != 0 && !pass(peer, 1)) {
            return;
        }
        if (fds[1].revents != 0 && !pass(0, peer)) {
            return;
        }
    }
}

int
devsock_run(const struct asked *asked)
{
    struct ucred who;
    socklen_t size = sizeof(who);
    uint8_t uid[4];
    int peer = accept(ERRAND_LISTENER, NULL, NULL);

    if (peer < 0 || getsockopt(peer, SOL_SOCKET, SO_PEERCRED, &who, &size) < 0) {
        return 1;
    }
    close(ERRAND_LISTENER);
    guestwire_put_u32(uid, who.uid);
    if (write(1, uid, sizeof(uid)) != (ssize_t) sizeof(uid)) {
        return 1;
    }
    carry(peer);
    return 0;
}
