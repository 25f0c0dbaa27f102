/* torrent: very many datagrams, for fastpath_long.sh. IPv4.
 *   torrent echo PORT                              sends back each, until it is killed
 *   torrent receive PORT COUNT                     counts what send sends; prints "lost L twice T late A"
 *   torrent send ADDRESS PORT COUNT A-SECOND       numbered; every 128th is answered
 *   torrent churn ADDRESS PORT FLOWS A-SECOND SECONDS   FLOWS flows one after the other, two round trips each, and
 *                                                  again; prints "flows F unanswered U" */
#include <arpa/inet.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { BURST = 16, ACK_EACH = 128, BUFFER_BYTES = 64 << 20, PORTS = 50000, FIRST_PORT = 10000 };

#define END (UINT64_C(1) << 63)

static double
now_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double) now.tv_sec + (double) now.tv_nsec / 1e9;
}

static void
sleep_until(double when)
{
    double left = when - now_s();
    if (left > 0) {
        struct timespec wait = {(time_t) left, (long) ((left - (double) (time_t) left) * 1e9)};
        nanosleep(&wait, NULL);
    }
}

static struct sockaddr_in
address_of(const char *host, int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((in_port_t) port)};
    inet_pton(AF_INET, host, &address.sin_addr);
    return address;
}

static int
open_udp(int port, int wait_ms)
{
    struct sockaddr_in address = address_of("0.0.0.0", port);
    struct timeval wait = {.tv_sec = wait_ms / 1000, .tv_usec = wait_ms % 1000 * 1000};
    int fd = socket(AF_INET, SOCK_DGRAM, 0), bytes = BUFFER_BYTES, one = 1;
    setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof bytes);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
    if (bind(fd, (struct sockaddr *) &address, sizeof address) < 0) {
        perror("bind");
        exit(1);
    }
    return fd;
}

static _Noreturn void
echo(int port)
{
    int fd = open_udp(port, 0);
    for (;;) {
        char data[64];
        struct sockaddr_in from;
        socklen_t size = sizeof from;
        ssize_t got = recvfrom(fd, data, sizeof data, 0, (struct sockaddr *) &from, &size);
        if (got > 0) {
            sendto(fd, data, (size_t) got, 0, (struct sockaddr *) &from, size);
        }
    }
}

static int
receive(int port, uint64_t count)
{
    int fd = open_udp(port, 60000);
    unsigned char *seen = calloc(count / 8 + 1, 1);
    uint64_t arrived = 0, twice = 0, late = 0, next = 0;
    for (;;) {
        uint64_t data[8];
        struct sockaddr_in from;
        socklen_t size = sizeof from;
        ssize_t got = recvfrom(fd, data, sizeof data, 0, (struct sockaddr *) &from, &size);
        if (got != sizeof data || (data[0] & END)) {
            break;
        }
        uint64_t number = data[0] % count;
        if (seen[number / 8] & 1 << number % 8) {
            twice++;
        } else {
            seen[number / 8] |= (unsigned char) (1 << number % 8);
            arrived++;
            late += number < next;
        }
        next = number >= next ? number + 1 : next;
        if (number % ACK_EACH == 0) {
            sendto(fd, data, 8, 0, (struct sockaddr *) &from, size);
        }
    }
    printf("lost %lu twice %lu late %lu\n", (unsigned long) (count - arrived),
           (unsigned long) twice, (unsigned long) late);
    free(seen);
    return 0;
}

static int
send_all(const char *host, int port, uint64_t count, double rate)
{
    struct sockaddr_in address = address_of(host, port);
    int fd = open_udp(0, 0);
    uint64_t data[8] = {0};
    if (connect(fd, (struct sockaddr *) &address, sizeof address) < 0) {
        return 1;
    }
    /* The first ones slowly: they are learned from, on the slow path. */
    for (; data[0] < 256; data[0]++) {
        send(fd, data, sizeof data, 0);
        usleep(2000);
    }
    double began = now_s() - (double) data[0] / rate;
    while (data[0] < count) {
        char answer[8];
        for (int i = 0; i < BURST && data[0] < count; i++, data[0]++) {
            while (send(fd, data, sizeof data, 0) < 0) {
                usleep(100);
            }
        }
        while (recv(fd, answer, sizeof answer, MSG_DONTWAIT) > 0) {
        }
        sleep_until(began + (double) data[0] / rate);
    }
    for (int i = 0; i < 5; i++) {
        usleep(200000);
        data[0] = END;
        send(fd, data, sizeof data, 0);
    }
    return 0;
}

static int
churn(const char *host, int port, uint64_t flows, double rate, double seconds)
{
    double began = now_s();
    uint64_t done = 0, unanswered = 0;
    for (; now_s() - began < seconds; done++) {
        uint64_t flow = done % flows;
        struct sockaddr_in address = address_of(host, port + (int) (flow / PORTS));
        int fd = open_udp(FIRST_PORT + (int) (flow % PORTS), 1000);
        connect(fd, (struct sockaddr *) &address, sizeof address);
        for (uint32_t trip = 0; trip < 2; trip++) {
            uint64_t data[2] = {done, trip}, back[2] = {0};
            unanswered += send(fd, data, sizeof data, 0) != sizeof data ||
                          recv(fd, back, sizeof back, 0) != sizeof back ||
                          memcmp(data, back, sizeof data) != 0;
        }
        close(fd);
        sleep_until(began + (double) done / rate);
    }
    printf("flows %lu unanswered %lu\n", (unsigned long) done, (unsigned long) unanswered);
    return 0;
}

int
main(int argc, char **argv)
{
    const char *verb = argc > 1 ? argv[1] : "";
    if (argc == 3 && strcmp(verb, "echo") == 0) {
        echo(atoi(argv[2]));
    } else if (argc == 4 && strcmp(verb, "receive") == 0) {
        return receive(atoi(argv[2]), strtoull(argv[3], NULL, 10));
    } else if (argc == 6 && strcmp(verb, "send") == 0) {
        return send_all(argv[2], atoi(argv[3]), strtoull(argv[4], NULL, 10), atof(argv[5]));
    } else if (argc == 7 && strcmp(verb, "churn") == 0) {
        return churn(argv[2], atoi(argv[3]), strtoull(argv[4], NULL, 10), atof(argv[5]),
                     atof(argv[6]));
    }
    fprintf(stderr, "usage: torrent echo|receive|send|churn …\n");
    return 2;
}
