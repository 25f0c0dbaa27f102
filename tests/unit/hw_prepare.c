/* Preparing a PF, on the simulated NIC: idempotent, refused under somebody's feet, whole after failures. */
#include "hw/prepare.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>

#include "base/fd.h"
#include "hw/sim.h"

typedef struct {
    char *directory, *file;
    HwBackend *hw;
} Fixture;

static void
set_up(Fixture *fixture, gconstpointer data)
{
    const struct sim_plan plan = {
        .prefix = "sim", .pfs = 1, .vfs = 2, .vfs_max = 4, .vdpa = true, .iommu = true};
    g_autoptr(GError) error = NULL;
    g_assert_cmpint(unshare(CLONE_NEWNET), ==, 0);
    fixture->directory = g_dir_make_tmp("hw-prepare-XXXXXX", NULL);
    fixture->file = g_build_filename(fixture->directory, "prepare.json", NULL);
    sim_create(fixture->directory, &plan, &error);
    g_assert_no_error(error);
    g_autofree char *spec = g_strconcat("sim:", fixture->directory, NULL);
    fixture->hw = hw_open(spec, &error);
    g_assert_no_error(error);
}

static void
tear_down(Fixture *fixture, gconstpointer data)
{
    g_assert_true(sim_destroy(fixture->directory, NULL));
    g_assert_true(fd_remove_tree(fixture->directory, NULL));
    hw_close(fixture->hw);
    g_free(fixture->directory);
    g_free(fixture->file);
}

static guint
steps_of(Fixture *fixture, guint vfs, HwEswitch mode)
{
    g_autoptr(GError) error = NULL;
    json_auto_t *steps = NULL;
    struct prepare_want want = {.pf = "sim0", .vfs = vfs, .mode = mode};
    prepare_pf(fixture->hw, &want, NULL, &steps, &error);
    g_assert_no_error(error);
    return (guint) json_array_size(steps);
}

static void
is_now(Fixture *fixture, guint vfs, HwEswitch mode)
{
    g_autoptr(HwInventory) inventory = hw_inventory(fixture->hw, NULL);
    g_assert_cmpuint(hw_pf_at(inventory, 0)->vfs, ==, vfs);
    g_assert_cmpint(hw_pf_at(inventory, 0)->eswitch, ==, mode);
    g_assert_cmpuint(inventory->reps->len, ==, mode == HW_ESWITCH_SWITCHDEV ? vfs : 0);
}

static void
the_second_time_changes_nothing(Fixture *fixture, gconstpointer data)
{
    g_assert_cmpuint(steps_of(fixture, 4, HW_ESWITCH_SWITCHDEV), ==, 2);
    is_now(fixture, 4, HW_ESWITCH_SWITCHDEV);
    g_assert_cmpuint(steps_of(fixture, 4, HW_ESWITCH_SWITCHDEV), ==, 0);
}

static void
vfs_in_use_stay(Fixture *fixture, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(HwInventory) inventory = hw_inventory(fixture->hw, NULL);
    const char *dev = hw_vf_at(inventory, 1)->dev;
    const char *const claimed[] = {dev, NULL};
    struct prepare_want want = {.pf = "sim0", .vfs = 4, .mode = HW_ESWITCH_SWITCHDEV};
    json_t *steps = NULL;
    g_assert_false(prepare_pf(fixture->hw, &want, claimed, &steps, &error));
    g_assert_error(error, HAW_ERROR, HAW_CONFLICT);
    g_assert_nonnull(strstr(error->message, dev));
    g_clear_error(&error);

    g_assert_true(hw_bind_driver(fixture->hw, dev, "vfio-pci", NULL));
    g_assert_false(prepare_pf(fixture->hw, &want, NULL, &steps, &error));
    g_assert_nonnull(strstr(error->message, "in use by vfio-pci"));
    is_now(fixture, 2, HW_ESWITCH_LEGACY);
}

static void
it_can_be_done_again_after_any_call_failed(Fixture *fixture, gconstpointer data)
{
    struct prepare_want want = {.pf = "sim0", .vfs = 3, .mode = HW_ESWITCH_SWITCHDEV};
    for (guint nth = 1; nth < 10; nth++) {
        g_autoptr(GError) error = NULL;
        json_t *steps = NULL;
        g_assert_true(sim_fail(fixture->directory, "*", nth, "told to", NULL));
        bool done = prepare_pf(fixture->hw, &want, NULL, &steps, &error);
        json_decref(steps);
        g_assert_true(sim_fail(fixture->directory, "*", 1, NULL, NULL));
        steps_of(fixture, 3, HW_ESWITCH_SWITCHDEV);
        is_now(fixture, 3, HW_ESWITCH_SWITCHDEV);
        if (done) {
            g_assert_cmpuint(nth, >, 2);
            return;
        }
        g_assert_nonnull(strstr(error->message, "prepare 'sim0'"));
        steps_of(fixture, 2, HW_ESWITCH_LEGACY);
    }
    g_assert_not_reached();
}

static void
what_is_kept_comes_back_at_boot(Fixture *fixture, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    struct prepare_want want = {.pf = "sim0", .vfs = 3, .mode = HW_ESWITCH_SWITCHDEV};
    g_assert_true(prepare_boot(fixture->hw, fixture->file, NULL)); /* no file */
    prepare_keep(fixture->hw, fixture->file, &want, &error);
    g_assert_no_error(error);
    prepare_boot(fixture->hw, fixture->file, &error);
    g_assert_no_error(error);
    is_now(fixture, 3, HW_ESWITCH_SWITCHDEV);

    want.vfs = 0;
    want.mode = HW_ESWITCH_LEGACY;
    g_assert_true(prepare_keep(fixture->hw, fixture->file, &want, NULL));
    g_assert_true(prepare_boot(fixture->hw, fixture->file, NULL));
    is_now(fixture, 3, HW_ESWITCH_SWITCHDEV); /* forgotten, not undone */
}

static void
a_missing_pf_does_not_stop_the_others_at_boot(Fixture *fixture, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    g_assert_true(g_file_set_contents(fixture->file,
                                      "{\"0000:99:00.0\":{\"vfs\":2,\"mode\":\"switchdev\"},"
                                      "\"0000:f0:00.0\":{\"vfs\":1,\"mode\":\"switchdev\"}}",
                                      -1, NULL));
    g_assert_false(prepare_boot(fixture->hw, fixture->file, &error));
    g_assert_nonnull(strstr(error->message, "0000:99:00.0"));
    is_now(fixture, 1, HW_ESWITCH_SWITCHDEV);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    if (unshare(CLONE_NEWNET) < 0 && unshare(CLONE_NEWUSER | CLONE_NEWNET) < 0) {
        printf("1..0 # SKIP no network namespace of our own: %s\n", g_strerror(errno));
        return 0;
    }
#define ADD(name, fn) g_test_add("/prepare/" name, Fixture, NULL, set_up, fn, tear_down)
    ADD("the-second-time-changes-nothing", the_second_time_changes_nothing);
    ADD("vfs-in-use-stay", vfs_in_use_stay);
    ADD("it-can-be-done-again-after-any-call-failed", it_can_be_done_again_after_any_call_failed);
    ADD("what-is-kept-comes-back-at-boot", what_is_kept_comes_back_at_boot);
    ADD("a-missing-pf-does-not-stop-the-others-at-boot",
        a_missing_pf_does_not_stop_the_others_at_boot);
    return g_test_run();
}
