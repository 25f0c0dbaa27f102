/* base/proc.c: what tells a process from a later one with its number. */
#include "base/proc.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

static void
start_time_is_of_that_process(void)
{
    guint64 ours = proc_start_time(getpid());
    g_assert_cmpuint(ours, >, 0);
    g_assert_cmpuint(proc_start_time(getpid()), ==, ours);
    const char *const argv[] = {"sleep", "60", NULL};
    pid_t pid = proc_spawn(argv, NULL, NULL, NULL, 0, NULL);
    g_assert_cmpint(pid, >, 0);
    g_assert_cmpuint(proc_start_time(pid), >=, ours);
    kill(pid, SIGKILL);
    g_assert_cmpint(waitpid(pid, NULL, 0), ==, pid);
    g_assert_cmpuint(proc_start_time(pid), ==, 0);
}

static void
arguments_are_compared_whole(void)
{
    const char *const argv[] = {"sleep", "60", NULL};
    const char *const shorter[] = {"sleep", NULL}, *const longer[] = {"sleep", "60", "1", NULL},
                      *const other[] = {"sleep", "6", NULL};
    pid_t pid = proc_spawn(argv, NULL, NULL, NULL, 0, NULL);
    g_assert_cmpint(pid, >, 0);
    for (int i = 0; i < 5000 && !proc_has_argv(pid, argv); i++) {
        g_usleep(
            1000); /* the kernel lets the parent go before the child's arguments are in place */
    }
    g_assert_true(proc_has_argv(pid, argv));
    g_assert_false(proc_has_argv(pid, shorter));
    g_assert_false(proc_has_argv(pid, longer));
    g_assert_false(proc_has_argv(pid, other));
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    g_assert_false(proc_has_argv(pid, argv));
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/proc/start-time-is-of-that-process", start_time_is_of_that_process);
    g_test_add_func("/proc/arguments-are-compared-whole", arguments_are_compared_whole);
    return g_test_run();
}
