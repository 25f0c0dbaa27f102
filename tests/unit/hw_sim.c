/* The simulated NIC, in a network namespace of the test's own. */
#include "hw/sim.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "hw/backend.h"
#include "hw/link.h"

typedef struct {
    char *directory;
    HwBackend *hw;
} Fixture;

static void
set_up(Fixture *fixture, gconstpointer data)
{
    const struct sim_plan plan = {.prefix = "sim",
                                  .pfs = 2,
                                  .vfs = 2,
                                  .vfs_max = 4,
                                  .switchdev = data == NULL,
                                  .vdpa = true,
                                  .iommu = true};
    g_autoptr(GError) error = NULL;
    g_assert_cmpint(unshare(CLONE_NEWNET), ==, 0);
    fixture->directory = g_dir_make_tmp("hw-sim-XXXXXX", NULL);
    sim_create(fixture->directory, &plan, &error);
    g_assert_no_error(error);
    g_autofree char *spec = g_strconcat("sim:", fixture->directory, NULL);
    fixture->hw = hw_open(spec, &error);
    g_assert_no_error(error);
}

static void
tear_down(Fixture *fixture, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    sim_destroy(fixture->directory, &error);
    g_assert_no_error(error);
    fd_remove_tree(fixture->directory, &error);
    hw_close(fixture->hw);
    g_free(fixture->directory);
}

static HwInventory *
look(Fixture *fixture)
{
    g_autoptr(GError) error = NULL;
    HwInventory *inventory = hw_inventory(fixture->hw, &error);
    g_assert_no_error(error);
    return inventory;
}

static void
switchdev_vfs_have_an_interface_and_a_representor(Fixture *fixture, gconstpointer data)
{
    g_autoptr(HwInventory) inventory = look(fixture);
    g_assert_cmpuint(inventory->pfs->len, ==, 2);
    g_assert_cmpuint(inventory->vfs->len, ==, 4);
    g_assert_cmpuint(inventory->reps->len, ==, 4);
    const struct hw_pf *pf = hw_find_pf(inventory, "sim1");
    g_assert_nonnull(pf);
    g_assert_true(pf == hw_find_pf(inventory, "0000:f0:00.1"));
    const struct hw_vf *vf = hw_vf_at(inventory, 3);
    g_assert_cmpstr(vf->netdev, ==, "sim1v1");
    g_assert_cmpstr(hw_rep_of(inventory, vf)->netdev, ==, "sim1r1");
    g_assert_cmpuint(hw_rep_of(inventory, vf)->key.pf, ==, 1);
    g_assert_cmpstr(hw_find_vf(inventory, vf->dev)->dev, ==, vf->dev);
    g_assert_null(hw_vf_unfit(inventory, vf, HW_USE_REP_NETDEV));
    g_assert_null(hw_vf_unfit(inventory, vf, HW_USE_VDPA));
}

static void
a_vf_is_found_under_a_new_name(Fixture *fixture, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(HwInventory) before = look(fixture);
    hw_rename_netdev(fixture->hw, -1, "sim0v0", "hawx", &error);
    g_assert_no_error(error);
    g_autoptr(HwInventory) inventory = look(fixture);
    g_assert_cmpstr(hw_vf_at(inventory, 0)->netdev, ==, "hawx");
}

static void
a_vf_in_another_namespace_shows_no_interface_and_comes_back(Fixture *fixture, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(HwInventory) before = look(fixture);
    haw_autofd int home = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
    g_assert_cmpint(unshare(CLONE_NEWNET), ==, 0);
    haw_autofd int other = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
    g_assert_cmpint(setns(home, CLONE_NEWNET), ==, 0);

    hw_move_netdev(fixture->hw, -1, "sim0v0", other, "eth0", &error);
    g_assert_no_error(error);
    g_autoptr(HwInventory) away = look(fixture);
    g_assert_cmpstr(hw_vf_at(away, 0)->netdev, ==, "");
    g_autofree char *why = hw_vf_unfit(away, hw_vf_at(away, 0), HW_USE_REP_NETDEV);
    g_assert_nonnull(strstr(why, "another namespace"));

    hw_move_netdev(fixture->hw, other, "eth0", -1, "sim0v0", &error);
    g_assert_no_error(error);
    g_autoptr(HwInventory) back = look(fixture);
    g_assert_cmpstr(hw_vf_at(back, 0)->netdev, ==, "sim0v0");
}

static void
a_pair_that_died_with_its_namespace_is_made_anew(Fixture *fixture, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(HwInventory) before = look(fixture);
    g_autoptr(NlSock) sock = nlsock_open(&error);
    link_del(sock, "sim0v1", &error);
    g_assert_no_error(error);
    g_autoptr(HwInventory) inventory = look(fixture);
    g_assert_cmpstr(hw_vf_at(inventory, 1)->netdev, ==, "sim0v1");
    g_assert_cmpint(hw_vf_at(inventory, 1)->rep, >=, 0);
}

static void
properties_and_drivers_are_kept(Fixture *fixture, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(HwInventory) before = look(fixture);
    struct hw_vf_props props;
    hw_vf_props_none(&props);
    g_strlcpy(props.mac, "02:00:00:00:00:99", sizeof props.mac);
    props.vlan = 7;
    hw_set_vf(fixture->hw, hw_pf_at(before, 0), 1, &props, &error);
    g_assert_no_error(error);
    const char *dev = hw_vf_at(before, 1)->dev;
    hw_bind_driver(fixture->hw, dev, "vfio-pci", &error);
    g_assert_no_error(error);
    g_autoptr(HwInventory) bound = look(fixture);
    g_assert_cmpstr(hw_vf_at(bound, 1)->driver, ==, "vfio-pci");
    g_assert_cmpstr(hw_vf_at(bound, 1)->netdev, ==, "");
    g_assert_cmpint(hw_vf_at(bound, 1)->props.vlan, ==, 7);
    g_assert_cmpint(hw_vf_at(bound, 1)->props.spoofchk, ==, 1);

    hw_bind_driver(fixture->hw, dev, before != NULL ? hw_vf_at(before, 1)->driver : "", &error);
    g_assert_no_error(error);
    char netdev[IFNAMSIZ];
    hw_wait_netdev(fixture->hw, dev, 1000, netdev, &error);
    g_assert_no_error(error);
    g_assert_cmpstr(netdev, ==, "sim0v1");
    g_autoptr(HwInventory) after = look(fixture);
    g_assert_cmpstr(hw_vf_at(after, 1)->netdev_mac, ==, "02:00:00:00:00:99");
}

static void
a_late_representor_is_waited_for_until_the_deadline(Fixture *fixture, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(HwInventory) before = look(fixture);
    struct hw_port_key key = hw_rep_at(before, 0)->key;
    struct hw_rep rep;
    sim_hide_rep(fixture->directory, "pf0vf0", -1, &error);
    g_assert_no_error(error);
    g_assert_false(hw_wait_rep(fixture->hw, &key, 60, &rep, &error));
    g_assert_error(error, HAW_ERROR, HAW_TIMEOUT);
    g_clear_error(&error);
    sim_hide_rep(fixture->directory, "pf0vf0", 80, &error);
    g_assert_no_error(error);
    g_assert_true(hw_wait_rep(fixture->hw, &key, 5000, &rep, &error));
    g_assert_cmpstr(rep.netdev, ==, "sim0r0");
}

static void
the_nth_call_fails_once(Fixture *fixture, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(HwInventory) before = look(fixture);
    const char *dev = hw_vf_at(before, 0)->dev;
    sim_fail(fixture->directory, "bind_driver", 2, "told to", &error);
    g_assert_no_error(error);
    g_assert_true(hw_bind_driver(fixture->hw, dev, "", NULL));
    g_assert_false(hw_bind_driver(fixture->hw, dev, "hawser-sim-vf", &error));
    g_assert_error(error, HAW_ERROR, HAW_IO);
    g_assert_true(hw_bind_driver(fixture->hw, dev, "hawser-sim-vf", NULL));
}

static void
vdpa_devices_come_and_go(Fixture *fixture, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(HwInventory) before = look(fixture);
    const struct hw_vdpa_mgmt *mgmt = hw_find_vdpa_mgmt(before, hw_vf_at(before, 0)->dev);
    struct hw_vdpa vdpa;
    struct hw_vdpa_new want = {.mgmt = mgmt->handle, .name = "haw0", .mac = "02:00:00:00:00:01"};
    hw_add_vdpa(fixture->hw, &want, &vdpa, &error);
    g_assert_no_error(error);
    g_assert_false(hw_add_vdpa(fixture->hw, &want, &vdpa, &error));
    g_assert_error(error, HAW_ERROR, HAW_EXISTS);
    g_autoptr(HwInventory) with = look(fixture);
    g_assert_cmpstr(hw_find_vdpa(with, "haw0")->mac, ==, "02:00:00:00:00:01");
    g_assert_true(hw_del_vdpa(fixture->hw, "haw0", NULL));
    g_assert_true(hw_del_vdpa(fixture->hw, "haw0", NULL));
    g_autoptr(HwInventory) without = look(fixture);
    g_assert_null(hw_find_vdpa(without, "haw0"));
}

static void
a_legacy_nic_has_no_representors_and_says_how_to_get_them(Fixture *fixture, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(HwInventory) legacy = look(fixture);
    g_assert_cmpuint(legacy->reps->len, ==, 0);
    g_assert_null(hw_vf_unfit(legacy, hw_vf_at(legacy, 0), HW_USE_NETDEV));
    g_autofree char *why = hw_vf_unfit(legacy, hw_vf_at(legacy, 0), HW_USE_REP_NETDEV);
    g_assert_nonnull(strstr(why, "hawser hw prepare sim0"));
    hw_set_eswitch(fixture->hw, hw_pf_at(legacy, 0), HW_ESWITCH_SWITCHDEV, &error);
    g_assert_no_error(error);
    g_autoptr(HwInventory) after = look(fixture);
    g_assert_cmpuint(after->reps->len, ==, 2);
}

static void
the_number_of_vfs_changes_only_through_none(Fixture *fixture, gconstpointer data)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(HwInventory) before = look(fixture);
    g_assert_false(hw_set_num_vfs(fixture->hw, hw_pf_at(before, 0), 4, &error));
    g_assert_error(error, HAW_ERROR, HAW_CONFLICT);
    g_assert_true(hw_set_num_vfs(fixture->hw, hw_pf_at(before, 0), 2, NULL));
    g_assert_true(hw_set_num_vfs(fixture->hw, hw_pf_at(before, 0), 0, NULL));
    g_autoptr(HwInventory) none = look(fixture);
    g_assert_true(hw_set_num_vfs(fixture->hw, hw_pf_at(none, 0), 4, NULL));
    g_autoptr(HwInventory) after = look(fixture);
    g_assert_cmpuint(hw_pf_at(after, 0)->vfs, ==, 4);
    g_assert_cmpuint(after->reps->len, ==, 6);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    /* Without root: a user namespace where we are. */
    if (unshare(CLONE_NEWNET) < 0 && unshare(CLONE_NEWUSER | CLONE_NEWNET) < 0) {
        printf("1..0 # SKIP no network namespace of our own: %s\n", g_strerror(errno));
        return 0;
    }
#define ADD(name, legacy, fn) g_test_add("/sim/" name, Fixture, legacy, set_up, fn, tear_down)
    ADD("switchdev-vfs-have-an-interface-and-a-representor", NULL,
        switchdev_vfs_have_an_interface_and_a_representor);
    ADD("a-vf-is-found-under-a-new-name", NULL, a_vf_is_found_under_a_new_name);
    ADD("a-vf-in-another-namespace-shows-no-interface-and-comes-back", NULL,
        a_vf_in_another_namespace_shows_no_interface_and_comes_back);
    ADD("a-pair-that-died-with-its-namespace-is-made-anew", NULL,
        a_pair_that_died_with_its_namespace_is_made_anew);
    ADD("properties-and-drivers-are-kept", NULL, properties_and_drivers_are_kept);
    ADD("a-late-representor-is-waited-for-until-the-deadline", NULL,
        a_late_representor_is_waited_for_until_the_deadline);
    ADD("the-nth-call-fails-once", NULL, the_nth_call_fails_once);
    ADD("vdpa-devices-come-and-go", NULL, vdpa_devices_come_and_go);
    ADD("a-legacy-nic-has-no-representors-and-says-how-to-get-them", "legacy",
        a_legacy_nic_has_no_representors_and_says_how_to_get_them);
    ADD("the-number-of-vfs-changes-only-through-none", NULL,
        the_number_of_vfs_changes_only_through_none);
    return g_test_run();
}
