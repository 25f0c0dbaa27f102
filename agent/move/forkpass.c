/* What rsync runs as its remote shell: it hands its stdin and stdout to whoever holds the other end of
 * descriptor PASS_FD, and goes away. */
#include "agent/move/forkpass.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { PASS_FD = 3 };

int
forkpass_main(int argc, char **argv)
{
    int ends[2] = {STDIN_FILENO, STDOUT_FILENO};
    char byte = 0;
    union {
        char bytes[CMSG_SPACE(sizeof ends)];
        struct cmsghdr align;
    } control = {0};
    struct iovec iov = {.iov_base = &byte, .iov_len = 1};
    struct msghdr message = {.msg_iov = &iov,
                             .msg_iovlen = 1,
                             .msg_control = control.bytes,
                             .msg_controllen = sizeof control.bytes};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof ends);
    memcpy(CMSG_DATA(header), ends, sizeof ends);
    if (sendmsg(PASS_FD, &message, MSG_NOSIGNAL) != 1) {
        fprintf(stderr, "forkpass: the pipes can't be handed over: %s\n", strerror(errno));
        return 1;
    }
    return 0;
}
