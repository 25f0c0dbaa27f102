/* http_floor: what does a round trip over a unix socket cost when nothing stands behind it?
 *   http_floor SOCKET BYTES
 * Answers whatever it reads with one HTTP reply of BYTES, from a poll loop without a single allocation:
 * the least that any server on this kernel can take. vs-lxd measures it beside the two agents. */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define CLIENTS_MAX 16

static char reply[1024 * 1024];
static struct pollfd fds[1 + CLIENTS_MAX];
static nfds_t count = 1;

static void
serve(nfds_t which, size_t size)
{
    char request[4096];
    if (read(fds[which].fd, request, sizeof request) <= 0 ||
        write(fds[which].fd, reply, size) != (ssize_t) size) {
        close(fds[which].fd);
        fds[which] = fds[--count];
    }
}

int
main(int argc, char **argv)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t body = argc == 3 ? strtoul(argv[2], NULL, 10) : 0;
    if (argc != 3 || strlen(argv[1]) >= sizeof address.sun_path || body > sizeof reply - 256) {
        fprintf(stderr, "usage: http_floor SOCKET BYTES\n");
        return 2;
    }
    int head = sprintf(reply, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n", body);
    memset(reply + head, 'x', body);
    strcpy(address.sun_path, argv[1]);
    fds[0] = (struct pollfd){.fd = socket(AF_UNIX, SOCK_STREAM, 0), .events = POLLIN};
    if (bind(fds[0].fd, (struct sockaddr *) &address, sizeof address) < 0 ||
        listen(fds[0].fd, CLIENTS_MAX) < 0) {
        perror(argv[1]);
        return 1;
    }
    for (;;) {
        poll(fds, count, -1);
        for (nfds_t i = count - 1; i > 0; i--) {
            if (fds[i].revents != 0) {
                serve(i, (size_t) head + body);
            }
        }
        if ((fds[0].revents & POLLIN) && count <= CLIENTS_MAX) {
            fds[count++] = (struct pollfd){.fd = accept(fds[0].fd, NULL, NULL), .events = POLLIN};
        }
    }
}
