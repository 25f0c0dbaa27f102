/* Whose user namespace a process has: who can't tell must not enter it (agent/inst/enter.c). */
#include "agent/inst/enter.h"

#include <glib.h>
#include <sched.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

/* A child that has made its namespaces, and waits to be killed. */
static pid_t
child_of(int flags)
{
    int ready[2];
    char word;
    g_assert_cmpint(pipe(ready), ==, 0);
    pid_t pid = fork();
    if (pid == 0) {
        ssize_t written = unshare(flags) == 0 ? write(ready[1], "", 1) : 0;
        if (written == 1) {
            pause();
        }
        _exit(1);
    }
    close(ready[1]);
    ssize_t got = read(ready[0], &word, 1);
    close(ready[0]);
    if (got != 1) {
        waitpid(pid, NULL, 0);
        return 0;
    }
    return pid;
}

static void
end(pid_t pid)
{
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

static void
ours_is_no_flag(void)
{
    pid_t pid = child_of(0);
    int flag = -1;
    g_assert_true(enter_user_flag(pid, &flag, NULL));
    g_assert_cmpint(flag, ==, 0);
    end(pid);
}

static void
its_own_is_one(void)
{
    pid_t pid = child_of(CLONE_NEWUSER);
    int flag = -1;
    if (pid == 0) {
        g_test_skip("no user namespaces here");
        return;
    }
    g_assert_true(enter_user_flag(pid, &flag, NULL));
    g_assert_cmpint(flag, ==, CLONE_NEWUSER);
    end(pid);
}

static void
an_ended_process_is_not_taken_for_ours(void)
{
    g_autoptr(GError) error = NULL;
    pid_t pid = child_of(0);
    int flag = -1;
    end(pid);
    g_assert_false(enter_user_flag(pid, &flag, &error));
    g_assert_nonnull(error);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/enter/ours-is-no-flag", ours_is_no_flag);
    g_test_add_func("/enter/its-own-is-one", its_own_is_one);
    g_test_add_func("/enter/an-ended-process-is-not-taken-for-ours",
                    an_ended_process_is_not_taken_for_ours);
    return g_test_run();
}
