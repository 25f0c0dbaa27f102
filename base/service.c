/* The two halves of systemd's service protocol (sd_listen_fds(3), sd_notify(3)) that we use. */
#include "base/service.h"

#include "base/fd.h"

#include <fcntl.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define FIRST_FD 3

int
service_listen_fd(void)
{
    const char *pid = g_getenv("LISTEN_PID"), *count = g_getenv("LISTEN_FDS");
    bool ours = pid != NULL && count != NULL && g_ascii_strtoll(pid, NULL, 10) == getpid() &&
                strcmp(count, "1") == 0 && fcntl(FIRST_FD, F_SETFD, FD_CLOEXEC) == 0;
    g_unsetenv("LISTEN_PID");
    g_unsetenv("LISTEN_FDS");
    g_unsetenv("LISTEN_FDNAMES");
    return ours ? FIRST_FD : -1;
}

void
service_notify(const char *state)
{
    const char *path = g_getenv("NOTIFY_SOCKET");
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t size = path != NULL ? strlen(path) : 0;
    if (size < 2 || size >= sizeof address.sun_path || (*path != '/' && *path != '@')) {
        return;
    }
    memcpy(address.sun_path, path, size);
    if (*path == '@') {
        address.sun_path[0] = '\0'; /* an abstract name has no NUL behind it */
    }
    haw_autofd int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    socklen_t length =
        (socklen_t) (offsetof(struct sockaddr_un, sun_path) + size + (*path == '/' ? 1 : 0));
    if (fd >= 0) {
        sendto(fd, state, strlen(state), MSG_NOSIGNAL, (struct sockaddr *) &address, length);
    }
}
