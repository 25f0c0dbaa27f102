/* rounds: how many round trips, or connections, a second between two namespaces?
 *   rounds serve PORT                              echoes TCP and UDP until it is killed
 *   rounds tcp|udp|connect ADDRESS PORT SECONDS    prints how many a second
 * One byte each way, one at a time: it is latency that is measured. IPv4. */
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define CLIENTS_MAX 64

static double
now_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double) now.tv_sec + (double) now.tv_nsec / 1e9;
}

static struct sockaddr_in
address_of(const char *host, const char *port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((in_port_t) atoi(port))};
    inet_pton(AF_INET, host, &address.sin_addr);
    return address;
}

static int
open_bound(int type, const char *port)
{
    struct sockaddr_in address = address_of("0.0.0.0", port);
    int fd = socket(AF_INET, type, 0), one = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(fd, (struct sockaddr *) &address, sizeof address) < 0 ||
        (type == SOCK_STREAM && listen(fd, CLIENTS_MAX) < 0)) {
        perror("bind");
        exit(1);
    }
    return fd;
}

static void
no_delay(int fd)
{
    int one = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

static void
echo_datagram(int fd)
{
    char byte;
    struct sockaddr_in from;
    socklen_t size = sizeof from;
    if (recvfrom(fd, &byte, 1, 0, (struct sockaddr *) &from, &size) == 1) {
        sendto(fd, &byte, 1, 0, (struct sockaddr *) &from, size);
    }
}

__attribute__((noreturn)) static void
serve(const char *port)
{
    struct pollfd fds[2 + CLIENTS_MAX] = {{.fd = open_bound(SOCK_STREAM, port), .events = POLLIN},
                                          {.fd = open_bound(SOCK_DGRAM, port), .events = POLLIN}};
    nfds_t count = 2;
    char byte;
    for (;;) {
        poll(fds, count, -1);
        for (nfds_t i = count - 1; i > 1; i--) {
            if (fds[i].revents != 0 &&
                (read(fds[i].fd, &byte, 1) <= 0 || write(fds[i].fd, &byte, 1) != 1)) {
                close(fds[i].fd);
                fds[i] = fds[--count];
            }
        }
        if (fds[1].revents & POLLIN) {
            echo_datagram(fds[1].fd);
        }
        if ((fds[0].revents & POLLIN) && count < 2 + CLIENTS_MAX) {
            fds[count] = (struct pollfd){.fd = accept(fds[0].fd, NULL, NULL), .events = POLLIN};
            no_delay(fds[count++].fd);
        }
    }
}

static int
connected(int type, const struct sockaddr_in *address)
{
    struct timeval wait = {.tv_sec = 1};
    int fd = socket(AF_INET, type, 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
    if (connect(fd, (const struct sockaddr *) address, sizeof *address) < 0) {
        close(fd);
        return -1;
    }
    if (type == SOCK_STREAM) {
        no_delay(fd);
    }
    return fd;
}

int
main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "serve") == 0) {
        serve(argv[2]);
    }
    if (argc != 5) {
        fprintf(stderr, "usage: rounds serve PORT | tcp|udp|connect ADDRESS PORT SECONDS\n");
        return 2;
    }
    struct sockaddr_in address = address_of(argv[2], argv[3]);
    int anew = strcmp(argv[1], "connect") == 0;
    int type = strcmp(argv[1], "udp") == 0 ? SOCK_DGRAM : SOCK_STREAM;
    double seconds = atof(argv[4]), began = now_s();
    long rounds = 0;
    char byte = 'x';
    int fd = anew ? -1 : connected(type, &address);
    while (now_s() - began < seconds) {
        if (anew) {
            fd = connected(type, &address);
        }
        if (fd >= 0 && write(fd, &byte, 1) == 1 && read(fd, &byte, 1) == 1) {
            rounds++;
        }
        if (anew && fd >= 0) {
            close(fd);
        }
    }
    printf("%.0f\n", (double) rounds / seconds);
    return 0;
}
