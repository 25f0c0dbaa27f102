/* base/fiber.c and base/proc.c: F1 to F4. */
#include "base/fiber.h"
#include "base/proc.h"
#include "tests/fakes/in_fiber.h"

#include <string.h>

static void
add_one(void *data)
{
    ++*(int *) data;
}

static void
work_body(void *data)
{
    int n = 0;
    fiber_run(add_one, &n);
    fiber_run(add_one, &n);
    *(int *) data = n;
}

static void
worker_result_is_back_before_the_fiber_goes_on(void)
{
    int n = 0;
    in_fiber(work_body, &n);
    g_assert_cmpint(n, ==, 2);
}

static FiberLock lock = FIBER_LOCK_INIT;
static GString *order;

static void
locker(void *data)
{
    g_auto(FiberHold) hold = fiber_hold(&lock);
    g_string_append(order, data);
    fiber_sleep_ms(1, NULL, NULL);
    g_string_append(order, data);
}

static void
lock_is_handed_over_in_order(void)
{
    order = g_string_new(NULL);
    fiber_start("a", locker, (void *) "a");
    fiber_start("b", locker, (void *) "b");
    in_fiber(locker, (void *) "c");
    g_assert_cmpstr(order->str, ==, "aabbcc");
    g_string_free(order, TRUE);
}

static void
cancel_body(void *data)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GCancellable) cancel = g_cancellable_new();
    g_cancellable_cancel(cancel);
    g_assert_false(fiber_sleep_ms(60000, cancel, &error));
    g_assert_cmpint(haw_code(error), ==, HAW_CANCELLED);
    *(bool *) data = true;
}

static void
cancelled_sleep_ends_at_once(void)
{
    bool ran = false;
    in_fiber(cancel_body, &ran);
    g_assert_true(ran);
}

static void
run_body(void *data)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *out = NULL;
    g_assert_true(proc_runv(&out, &error, "echo", "a b", "$HOME", NULL));
    g_assert_no_error(error);
    g_assert_cmpstr(out, ==, "a b $HOME\n");

    g_assert_false(proc_runv(NULL, &error, "sh", "-c", "echo broken >&2; exit 3", NULL));
    g_assert_cmpstr(error->message, ==, "'sh' failed with status 3: broken");
    g_clear_error(&error);

    ProcSpec slow = {
        .argv = (const char *[]){"sleep", "100", NULL}, .fd_in = -1, .fd_out = -1, .wait_ms = 20};
    g_assert_false(proc_run(&slow, NULL, &error));
    g_assert_cmpint(haw_code(error), ==, HAW_TIMEOUT);
}

static void
child_gives_output_status_and_is_killed_when_late(void)
{
    in_fiber(run_body, NULL);
}

static void
big_body(void *data)
{
    g_autofree char *out = NULL;
    g_assert_true(proc_runv(&out, NULL, "sh", "-c",
                            "head -c 300000 /dev/zero | tr '\\0' e >&2; head -c 300000 /dev/zero "
                            "| tr '\\0' o",
                            NULL));
    g_assert_cmpuint(strlen(out), ==, 300000);
}

static void
full_stderr_does_not_block_stdout(void)
{
    in_fiber(big_body, NULL);
}

static void
spawn_many(void *data)
{
    if (*(int *) data > 0) {
        --*(int *) data;
        fiber_start("more", spawn_many, data);
    }
    fiber_yield();
}

static void
thousand_fibers_come_and_go(void)
{
    int left = 1000;
    in_fiber(spawn_many, &left);
    g_assert_cmpint(left, ==, 0);
    g_assert_cmpuint(fiber_count(), ==, 0);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/fiber/worker-result-is-back-before-the-fiber-goes-on",
                    worker_result_is_back_before_the_fiber_goes_on);
    g_test_add_func("/fiber/lock-is-handed-over-in-order", lock_is_handed_over_in_order);
    g_test_add_func("/fiber/cancelled-sleep-ends-at-once", cancelled_sleep_ends_at_once);
    g_test_add_func("/fiber/thousand-come-and-go", thousand_fibers_come_and_go);
    g_test_add_func("/proc/child-gives-output-status-and-is-killed-when-late",
                    child_gives_output_status_and_is_killed_when_late);
    g_test_add_func("/proc/full-stderr-does-not-block-stdout", full_stderr_does_not_block_stdout);
    return g_test_run();
}
