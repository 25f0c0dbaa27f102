/* http_ask: how long does each of several daemons take to answer the same GET over its unix socket?
 *   http_ask new|kept ROUNDS PATH SOCKET...
 * Each round asks every socket once, so that whatever else the machine does meets all of them, and every
 * other round the other way round: else the same one would always find the caches as the busiest left
 * them. The first rounds are thrown away. Prints one line a socket: microseconds of each round.
 * A client in a scripting language spends more time on itself than a daemon takes: this one has one
 * buffer and four system calls. "new" connects for each request, and times that as well. */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define SOCKETS_MAX 8
#define WARM_ROUNDS 5
#define PAUSE_US    2000 /* what the one asked before still does must not run into this one's time */
#define REPLY_MAX   (64 * 1024 * 1024)

static char request[1024], *reply;

static double
now_us(void)
{
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return (double) at.tv_sec * 1e6 + (double) at.tv_nsec / 1e3;
}

static void
die(const char *what)
{
    perror(what);
    exit(1);
}

static int
dial(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof address.sun_path) {
        fprintf(stderr, "%s: too long a name for a socket\n", path);
        exit(2);
    }
    strcpy(address.sun_path, path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *) &address, sizeof address) < 0) {
        die(path);
    }
    return fd;
}

/* Whether 'size' bytes are all of the reply: by its length, or by the last chunk's end. */
static bool
is_whole(size_t size)
{
    static size_t head, wanted;
    if (size == 0) {
        head = wanted = 0; /* a new reply */
        return false;
    }
    if (head == 0) {
        reply[size] = '\0';
        const char *end = strstr(reply, "\r\n\r\n");
        const char *length = end != NULL ? strcasestr(reply, "\r\ncontent-length:") : NULL;
        if (end == NULL) {
            return false;
        }
        head = (size_t) (end - reply) + 4;
        wanted = length != NULL && length < end ? head + strtoul(length + 17, NULL, 10) : 0;
    }
    return wanted > 0 ? size >= wanted
                      : size >= head + 5 && memcmp(reply + size - 5, "0\r\n\r\n", 5) == 0;
}

static void
ask(int fd, const char *path)
{
    if (write(fd, request, strlen(request)) != (ssize_t) strlen(request)) {
        die(path);
    }
    size_t size = 0;
    is_whole(0);
    do {
        ssize_t n = read(fd, reply + size, REPLY_MAX - 1 - size);
        if (n <= 0) {
            die(path);
        }
        size += (size_t) n;
    } while (!is_whole(size));
    if (strncmp(reply, "HTTP/1.1 200", 12) != 0) {
        fprintf(stderr, "%s: %.200s\n", path, reply);
        exit(1);
    }
}

int
main(int argc, char **argv)
{
    int sockets = argc - 4, rounds = argc > 4 ? atoi(argv[2]) : 0, fds[SOCKETS_MAX];
    if (rounds < 1 || sockets > SOCKETS_MAX) {
        fprintf(stderr, "usage: http_ask new|kept ROUNDS PATH SOCKET...\n");
        return 2;
    }
    bool anew = strcmp(argv[1], "new") == 0;
    double *times = calloc((size_t) rounds * SOCKETS_MAX, sizeof *times);
    reply = malloc(REPLY_MAX);
    snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: lxd\r\n\r\n", argv[3]);
    for (int i = 0; i < sockets && !anew; i++) {
        fds[i] = dial(argv[4 + i]);
    }
    for (int round = -WARM_ROUNDS; round < rounds; round++) {
        for (int turn = 0; turn < sockets; turn++) {
            int i = round & 1 ? sockets - 1 - turn : turn;
            usleep(PAUSE_US);
            double begun = now_us();
            int fd = anew ? dial(argv[4 + i]) : fds[i];
            ask(fd, argv[4 + i]);
            double took = now_us() - begun;
            if (anew) {
                close(fd);
            }
            if (round >= 0) {
                times[i * rounds + round] = took;
            }
        }
    }
    for (int i = 0; i < sockets; i++) {
        for (int round = 0; round < rounds; round++) {
            printf("%s%.1f", round > 0 ? " " : "", times[i * rounds + round]);
        }
        putchar('\n');
    }
    return 0;
}
