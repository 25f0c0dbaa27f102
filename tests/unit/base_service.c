/* base/service.c: what systemd passes, and what it is told. */
#include "base/service.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static void
set_passed(const char *count, pid_t pid)
{
    char text[32];
    snprintf(text, sizeof text, "%d", (int) pid);
    g_setenv("LISTEN_FDS", count, TRUE);
    g_setenv("LISTEN_PID", text, TRUE);
}

static void
one_socket_for_us_is_taken_and_the_variables_go(void)
{
    bool open_before = fcntl(3, F_GETFD) >= 0;
    if (!open_before) {
        g_assert_cmpint(dup2(0, 3), ==, 3);
    }
    set_passed("1", getpid());
    g_assert_cmpint(service_listen_fd(), ==, 3);
    g_assert_cmpint(fcntl(3, F_GETFD) & FD_CLOEXEC, ==, FD_CLOEXEC);
    g_assert_null(g_getenv("LISTEN_FDS"));
    g_assert_cmpint(service_listen_fd(), ==, -1);
    if (!open_before) {
        close(3);
    }
}

static void
sockets_of_another_process_or_several_are_not_ours(void)
{
    set_passed("1", 1);
    g_assert_cmpint(service_listen_fd(), ==, -1);
    set_passed("2", getpid());
    g_assert_cmpint(service_listen_fd(), ==, -1);
}

static void
a_state_reaches_the_notify_socket(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char name[64], got[32] = "";
    snprintf(name, sizeof name, "@hawser-test-%d", (int) getpid());
    memcpy(address.sun_path, name, strlen(name));
    address.sun_path[0] = '\0';
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    socklen_t size = (socklen_t) (sizeof(sa_family_t) + strlen(name));
    g_assert_cmpint(bind(fd, (struct sockaddr *) &address, size), ==, 0);
    g_setenv("NOTIFY_SOCKET", name, TRUE);
    service_notify("READY=1");
    g_assert_cmpint(recv(fd, got, sizeof got - 1, MSG_DONTWAIT), ==, 7);
    g_assert_cmpstr(got, ==, "READY=1");
    g_unsetenv("NOTIFY_SOCKET");
    service_notify("STOPPING=1"); /* nobody listens: nothing happens */
    close(fd);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/service/one-socket-for-us-is-taken-and-the-variables-go",
                    one_socket_for_us_is_taken_and_the_variables_go);
    g_test_add_func("/service/sockets-of-another-process-or-several-are-not-ours",
                    sockets_of_another_process_or_several_are_not_ours);
    g_test_add_func("/service/a-state-reaches-the-notify-socket",
                    a_state_reaches_the_notify_socket);
    return g_test_run();
}
