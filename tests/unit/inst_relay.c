/* agent/inst/relay.c: R1, R2, R5, over loopback sockets. */
#include "agent/inst/relay.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define BIG (8 * 1024 * 1024)

static guint16
listen_on(int type, int *ret_fd)
{
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(addr);

    *ret_fd = socket(AF_INET, type, 0);
    g_assert_cmpint(bind(*ret_fd, (struct sockaddr *) &addr, size), ==, 0);
    g_assert_true(type == SOCK_DGRAM || listen(*ret_fd, 64) == 0);
    getsockname(*ret_fd, (struct sockaddr *) &addr, &size);
    return ntohs(addr.sin_port);
}

static int
connect_to(int type, guint16 port)
{
    struct sockaddr_in addr = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct timeval limit = {.tv_sec = 10};
    int fd = socket(AF_INET, type, 0);

    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    g_assert_cmpint(connect(fd, (struct sockaddr *) &addr, sizeof(addr)), ==, 0);
    return fd;
}

typedef struct {
    pid_t pid;
    int quit;   /* closing it ends the relay */
    int target; /* listens */
    guint16 front;
} Rig;

/* A relay process between a port of its own and 'target'. */
static Rig
rig_up(int type, bool proxy_protocol)
{
    Rig rig;
    int pipes[2], front;
    guint16 back = listen_on(type, &rig.target);
    const char *kind = type == SOCK_DGRAM ? "udp" : "tcp";

    rig.front = listen_on(type, &front);
    fcntl(front, F_SETFL, O_NONBLOCK);
    g_assert_cmpint(pipe(pipes), ==, 0);
    rig.pid = fork();
    if (rig.pid == 0) {
        g_autofree char *listen_text = g_strdup_printf("%s:127.0.0.1:%u", kind, rig.front);
        g_autofree char *connect_text = g_strdup_printf("%s:127.0.0.1:%u", kind, back);
        g_autoptr(ProxyAddr) from = proxyaddr_parse(listen_text, NULL);
        g_autoptr(ProxyAddr) to = proxyaddr_parse(connect_text, NULL);
        Relay *relay = relay_new(from, to, proxy_protocol);
        close(pipes[1]);
        close(rig.target);
        g_assert_true(relay_add(relay, front, 0, NULL));
        relay_run(relay, pipes[0], -1);
        relay_free(relay);
        _exit(0);
    }
    close(front);
    close(pipes[0]);
    rig.quit = pipes[1];
    return rig;
}

static void
rig_down(Rig *rig)
{
    int status;

    close(rig->quit);
    close(rig->target);
    g_assert_cmpint(waitpid(rig->pid, &status, 0), ==, rig->pid);
    g_assert_cmpint(status, ==, 0);
}

static void
both_ways_carry_megabytes_and_half_closes(void)
{
    Rig rig = rig_up(SOCK_STREAM, false);
    int client = connect_to(SOCK_STREAM, rig.front);
    int server = accept(rig.target, NULL, NULL);
    g_autofree guint8 *data = g_malloc(BIG), *back = g_malloc(BIG);
    size_t sent = 0, got = 0;

    for (size_t i = 0; i < BIG; i++) {
        data[i] = (guint8) (i * 7 + i / 251);
    }
    fcntl(client, F_SETFL, O_NONBLOCK);
    while (got < BIG) { /* we are both ends: never block on one while the other is full */
        ssize_t n = sent < BIG ? send(client, data + sent, BIG - sent, MSG_NOSIGNAL) : 0;
        sent += n > 0 ? (size_t) n : 0;
        n = recv(server, back + got, BIG - got, MSG_DONTWAIT);
        got += n > 0 ? (size_t) n : 0;
    }
    g_assert_cmpmem(data, BIG, back, BIG);
    shutdown(client, SHUT_WR); /* R2: the answer still comes after our end */
    g_assert_cmpint(recv(server, back, 1, 0), ==, 0);
    g_assert_cmpint(send(server, "answer", 6, 0), ==, 6);
    close(server);
    fcntl(client, F_SETFL, 0);
    g_assert_cmpint(recv(client, back, 6, MSG_WAITALL), ==, 6);
    g_assert_cmpint(recv(client, back, 1, 0), ==, 0);
    close(client);
    rig_down(&rig);
}

static void
a_refused_target_closes_the_client(void)
{
    Rig rig = rig_up(SOCK_STREAM, false);
    char byte;

    close(rig.target);
    rig.target = -1;
    int client = connect_to(SOCK_STREAM, rig.front);
    errno = 0;
    g_assert_cmpint(recv(client, &byte, 1, 0), <=, 0);
    g_assert_cmpint(errno, !=, EAGAIN);
    close(client);
    rig_down(&rig);
}

static void
proxy_line_comes_before_the_first_byte(void)
{
    Rig rig = rig_up(SOCK_STREAM, true);
    int client = connect_to(SOCK_STREAM, rig.front);
    int server = accept(rig.target, NULL, NULL);
    char text[128] = "";
    struct sockaddr_in own = {0};
    socklen_t size = sizeof(own);

    getsockname(client, (struct sockaddr *) &own, &size);
    g_autofree char *want = g_strdup_printf("PROXY TCP4 127.0.0.1 127.0.0.1 %u %u\r\nhi",
                                            ntohs(own.sin_port), rig.front);
    g_assert_cmpint(send(client, "hi", 2, 0), ==, 2);
    g_assert_cmpint(recv(server, text, strlen(want), MSG_WAITALL), ==, (ssize_t) strlen(want));
    g_assert_cmpstr(text, ==, want);
    close(client);
    close(server);
    rig_down(&rig);
}

static void
datagrams_find_their_way_back(void)
{
    Rig rig = rig_up(SOCK_DGRAM, false);
    int a = connect_to(SOCK_DGRAM, rig.front), b = connect_to(SOCK_DGRAM, rig.front);
    struct sockaddr_in from[2];
    char text[16] = "";

    g_assert_cmpint(send(a, "a", 1, 0), ==, 1);
    g_assert_cmpint(send(b, "b", 1, 0), ==, 1);
    for (int i = 0; i < 2; i++) {
        socklen_t size = sizeof(from[i]);
        g_assert_cmpint(recvfrom(rig.target, text, 1, 0, (struct sockaddr *) &from[i], &size), ==,
                        1);
        sendto(rig.target, text[0] == 'a' ? "A" : "B", 1, 0, (struct sockaddr *) &from[i], size);
    }
    g_assert_cmpint(recv(a, text, 1, 0), ==, 1);
    g_assert_cmpint(text[0], ==, 'A');
    g_assert_cmpint(recv(b, text, 1, 0), ==, 1);
    g_assert_cmpint(text[0], ==, 'B');
    close(a);
    close(b);
    rig_down(&rig);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/relay/both-ways-carry-megabytes-and-half-closes",
                    both_ways_carry_megabytes_and_half_closes);
    g_test_add_func("/relay/a-refused-target-closes-the-client",
                    a_refused_target_closes_the_client);
    g_test_add_func("/relay/proxy-line-comes-before-the-first-byte",
                    proxy_line_comes_before_the_first_byte);
    g_test_add_func("/relay/datagrams-find-their-way-back", datagrams_find_their_way_back);
    return g_test_run();
}
