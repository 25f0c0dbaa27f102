/* The kernel backend's joining of netlink and sysfs, on machines written down in tests/fixtures/hw. What
 * each gives is golden/hw/NAME.json; HAWSER_GOLDEN=write writes it anew: read the difference. */
#include "hw/kernel.h"

#include <string.h>

#include "base/fd.h"
#include "tests/fakes/recorded.h"

static char *
tests_path(const char *folder, const char *name, const char *ending)
{
    return g_strdup_printf("%s/%s/hw/%s%s", g_getenv("HAWSER_TESTS"), folder, name, ending);
}

/* The inventory of a machine from tests/fixtures/hw. */
static HwInventory *
look(const char *name)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *path = tests_path("fixtures", name, ".txt");
    g_autofree char *text = NULL;
    g_autofree char *root = g_dir_make_tmp("hw-kernel-XXXXXX", NULL);
    g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
    recorded_write(root, text);
    HwInventory *inventory = kernel_look(root, &error);
    g_assert_no_error(error);
    g_assert_true(fd_remove_tree(root, NULL));
    return inventory;
}

static void
gives_what_golden_says(const void *data)
{
    const char *name = data;
    g_autoptr(HwInventory) inventory = look(name);
    g_autofree char *path = tests_path("golden", name, ".json");
    g_autofree char *wanted = NULL;
    json_auto_t *json = hw_inventory_json(inventory);
    char *found = json_dumps(json, JSON_INDENT(1));
    if (g_strcmp0(g_getenv("HAWSER_GOLDEN"), "write") == 0) {
        g_autofree char *line = g_strconcat(found, "\n", NULL);
        g_assert_true(g_file_set_contents(path, line, -1, NULL));
    }
    g_assert_true(g_file_get_contents(path, &wanted, NULL, NULL));
    g_assert_cmpstr(g_strchomp(wanted), ==, found);
    free(found);
}

static void
connectx_vfs_have_their_properties_and_representors(void)
{
    g_autoptr(HwInventory) inventory = look("connectx6dx");
    const struct hw_vf *vf = hw_find_vf(inventory, "0000:3b:00.2");
    g_assert_cmpstr(vf->netdev, ==, "ens1f0v0");
    g_assert_cmpint(vf->props.vlan, ==, 7);
    g_assert_cmpint(vf->props.spoofchk, ==, 1);
    g_assert_cmpint(vf->props.max_mbps, ==, 1000);
    g_assert_cmpstr(hw_rep_of(inventory, vf)->netdev, ==, "ens1f0npf0vf0");
    g_assert_null(hw_vf_unfit(inventory, vf, HW_USE_VDPA));
    g_assert_null(hw_vf_unfit(inventory, vf, HW_USE_REP_VFIO));
    g_assert_cmpstr(hw_find_vdpa_mgmt(inventory, vf->dev)->handle, ==, "pci/0000:3b:00.2");
}

static void
what_a_driver_does_not_tell_is_unknown(void)
{
    g_autoptr(HwInventory) inventory = look("connectx6dx");
    const struct hw_vf *vf = hw_find_vf(inventory, "0000:3b:02.2");
    g_assert_cmpint(vf->props.spoofchk, ==, -1);
    g_assert_cmpstr(vf->netdev, ==, "");
}

static void
a_vf_at_vfio_is_not_free(void)
{
    g_autoptr(HwInventory) inventory = look("connectx6dx");
    g_autofree char *why =
        hw_vf_unfit(inventory, hw_find_vf(inventory, "0000:3b:00.3"), HW_USE_REP_NETDEV);
    g_assert_nonnull(strstr(why, "'0000:3b:00.3' belongs to vfio-pci"));
}

static void
two_switchdev_ports_of_a_card_in_a_bond_are_a_vf_lag(void)
{
    g_autoptr(HwInventory) inventory = look("connectx6dx");
    g_assert_cmpuint(inventory->bonds->len, ==, 1);
    g_assert_true(g_array_index(inventory->bonds, struct hw_bond, 0).vf_lag);
    g_assert_cmpstr(hw_find_pf(inventory, "ens1f1np1")->bond, ==, "bond0");
}

static void
a_disk_with_vfs_is_no_nic(void)
{
    g_autoptr(HwInventory) inventory = look("connectx6dx");
    g_assert_null(hw_find_pf(inventory, "0000:5e:00.0"));
}

static void
the_servers_vf_3_is_not_the_dpus_vf_3(void)
{
    g_autoptr(HwInventory) inventory = look("bluefield2");
    struct hw_port_key key = {.controller = 1, .pf = 0, .vf = 3};
    g_strlcpy(key.switch_id, "b88ab3fffe1c8a0c", sizeof key.switch_id);
    const struct hw_rep *server = hw_find_rep(inventory, &key);
    g_assert_cmpstr(server->netdev, ==, "pf0vf3");
    g_assert_true(server->external);
    g_autofree char *name = hw_port_name(&server->key);
    g_assert_cmpstr(name, ==, "c1pf0vf3");

    key.controller = 0;
    const struct hw_rep *own = hw_find_rep(inventory, &key);
    g_assert_cmpstr(own->netdev, ==, "en3f0pf0vf3");
    const struct hw_vf *vf = hw_find_vf(inventory, "0000:03:00.6");
    g_assert_true(hw_rep_of(inventory, vf) == own);
}

static void
an_external_port_is_no_representor_of_our_vfs(void)
{
    g_autoptr(HwInventory) inventory = look("bluefield2");
    const struct hw_vf *vf = hw_find_vf(inventory, "0000:03:00.3");
    g_assert_null(hw_rep_of(inventory, vf));
    g_autofree char *why = hw_vf_unfit(inventory, vf, HW_USE_REP_NETDEV);
    g_assert_nonnull(strstr(why, "has no representor"));
}

static void
a_pf_without_sriov_is_known_by_its_physical_port(void)
{
    g_autoptr(HwInventory) inventory = look("bluefield2");
    g_assert_cmpstr(hw_find_pf(inventory, "0000:03:00.1")->netdev, ==, "p1");
}

static void
a_legacy_pf_says_how_to_change_that(void)
{
    g_autoptr(HwInventory) inventory = look("e810");
    const struct hw_vf *vf = hw_find_vf(inventory, "0000:17:11.0");
    g_autofree char *why = hw_vf_unfit(inventory, vf, HW_USE_REP_NETDEV);
    g_assert_cmpstr(why, ==,
                    "the eswitch of 'ens5f1' is in legacy mode: run `hawser hw prepare ens5f1 "
                    "--vfs 2 --mode switchdev`");
    g_assert_null(hw_vf_unfit(inventory, vf, HW_USE_NETDEV));
    g_autofree char *without =
        hw_vf_unfit(inventory, hw_find_vf(inventory, "0000:17:11.1"), HW_USE_NETDEV);
    g_assert_nonnull(strstr(without, "VF '0000:17:11.1' has no driver"));
}

static void
no_vdpa_driver_is_told(void)
{
    g_autoptr(HwInventory) inventory = look("e810");
    g_autofree char *why =
        hw_vf_unfit(inventory, hw_find_vf(inventory, "0000:17:01.0"), HW_USE_VDPA);
    g_assert_nonnull(strstr(why, "'0000:17:01.0' ('iavf') offers no vDPA management device"));
}

static void
representors_without_devlink_ports_are_known_by_name(void)
{
    g_autoptr(HwInventory) inventory = look("e810old");
    const struct hw_vf *vf = hw_find_vf(inventory, "0000:17:01.1");
    g_assert_cmpstr(hw_rep_of(inventory, vf)->netdev, ==, "eth1");
    g_assert_cmpstr(hw_find_pf(inventory, "0000:17:00.0")->netdev, ==, "ens5f0");
}

static void
vms_need_an_iommu(void)
{
    g_autoptr(HwInventory) inventory = look("e810old");
    g_autofree char *why =
        hw_vf_unfit(inventory, hw_find_vf(inventory, "0000:17:01.0"), HW_USE_REP_VFIO);
    g_assert_nonnull(strstr(why, "intel_iommu=on"));
}

/* Not written by hand: tests/lab/record.sh has it from a kernel. */
static void
a_recorded_kernel_is_as_it_was(void)
{
    g_autoptr(HwInventory) inventory = look("netdevsim");
    const struct hw_pf *pf = hw_find_pf(inventory, "netdevsim1");
    const struct hw_pf *legacy = hw_find_pf(inventory, "netdevsim2");
    g_assert_cmpuint(pf->vfs, ==, 4);
    g_assert_cmpint(pf->eswitch, ==, HW_ESWITCH_SWITCHDEV);
    g_assert_cmpint(legacy->eswitch, ==, HW_ESWITCH_LEGACY);
    g_assert_cmpuint(inventory->reps->len, ==, 4);
    const struct hw_vf *vf = hw_find_vf(inventory, "netdevsim1/vf1");
    g_assert_cmpint(vf->props.vlan, ==, 7);
    g_assert_cmpstr(vf->props.mac, ==, "02:00:00:00:00:09");
    g_assert_nonnull(hw_rep_of(inventory, vf));
    g_assert_cmpuint(inventory->vdpas->len, ==, 1);
    g_assert_cmpuint(inventory->rdmas->len, ==, 1);
    g_assert_cmpuint(inventory->bonds->len, ==, 2); /* bond0 is the driver's own */
}

/* Bytes that are cut short anywhere give fewer devices, never a crash. */
static void
cut_recordings_are_survived(void)
{
    g_autofree char *path = tests_path("fixtures", "connectx6dx", ".txt");
    g_autofree char *text = NULL;
    g_autofree char *root = g_dir_make_tmp("hw-kernel-XXXXXX", NULL);
    g_autofree char *door = g_strdup_printf("%s/netlink/links.nl", root);
    g_autofree char *bytes = NULL;
    gsize size;
    g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
    recorded_write(root, text);
    g_assert_true(g_file_get_contents(door, &bytes, &size, NULL));
    for (gsize cut = 0; cut < size; cut += 7) {
        g_assert_true(g_file_set_contents(door, bytes, (gssize) cut, NULL));
        g_autoptr(HwInventory) inventory = kernel_look(root, NULL);
        g_assert_nonnull(inventory);
    }
    g_assert_true(fd_remove_tree(root, NULL));
}

int
main(int argc, char **argv)
{
    static const char *const machines[] = {"connectx6dx", "bluefield2", "e810", "e810old",
                                           "netdevsim"};
    g_test_init(&argc, &argv, NULL);
    for (size_t i = 0; i < G_N_ELEMENTS(machines); i++) {
        g_autofree char *name = g_strconcat("/kernel/golden-", machines[i], NULL);
        g_test_add_data_func(name, machines[i], gives_what_golden_says);
    }
#define ADD(name, fn) g_test_add_func("/kernel/" name, fn)
    ADD("connectx-vfs-have-their-properties-and-representors",
        connectx_vfs_have_their_properties_and_representors);
    ADD("what-a-driver-does-not-tell-is-unknown", what_a_driver_does_not_tell_is_unknown);
    ADD("a-vf-at-vfio-is-not-free", a_vf_at_vfio_is_not_free);
    ADD("two-switchdev-ports-of-a-card-in-a-bond-are-a-vf-lag",
        two_switchdev_ports_of_a_card_in_a_bond_are_a_vf_lag);
    ADD("a-disk-with-vfs-is-no-nic", a_disk_with_vfs_is_no_nic);
    ADD("the-servers-vf-3-is-not-the-dpus-vf-3", the_servers_vf_3_is_not_the_dpus_vf_3);
    ADD("an-external-port-is-no-representor-of-our-vfs",
        an_external_port_is_no_representor_of_our_vfs);
    ADD("a-pf-without-sriov-is-known-by-its-physical-port",
        a_pf_without_sriov_is_known_by_its_physical_port);
    ADD("a-legacy-pf-says-how-to-change-that", a_legacy_pf_says_how_to_change_that);
    ADD("no-vdpa-driver-is-told", no_vdpa_driver_is_told);
    ADD("representors-without-devlink-ports-are-known-by-name",
        representors_without_devlink_ports_are_known_by_name);
    ADD("vms-need-an-iommu", vms_need_an_iommu);
    ADD("a-recorded-kernel-is-as-it-was", a_recorded_kernel_is_as_it_was);
    ADD("cut-recordings-are-survived", cut_recordings_are_survived);
    return g_test_run();
}
