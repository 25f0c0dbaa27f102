/* The doctor's checks as a function of what a host is. */
#include "hw/doctor.h"

#include <string.h>

static const char good_config[] =
    "#\nCONFIG_PCI_IOV=y\nCONFIG_NET_SWITCHDEV=y\nCONFIG_NET_DEVLINK=y\nCONFIG_OPENVSWITCH=m\n"
    "CONFIG_NET_CLS_FLOWER=m\nCONFIG_NET_ACT_MIRRED=m\nCONFIG_NET_ACT_CT=m\n"
    "CONFIG_NET_ACT_TUNNEL_KEY=m\nCONFIG_NET_ACT_PEDIT=m\nCONFIG_NET_ACT_VLAN=m\n"
    "CONFIG_VFIO_PCI=m\nCONFIG_VHOST_VDPA=m\n";

static HwInventory *
one_pf(HwEswitch mode)
{
    HwInventory *inventory = hw_inventory_new();
    struct hw_pf pf = {.netdev = "ens1",
                       .bus = "pci",
                       .dev = "0000:01:00.0",
                       .driver = "mlx5_core",
                       .firmware = "22.1",
                       .eswitch = mode,
                       .vfs_max = 16,
                       .hw_tc_offload = 1,
                       .carrier = 1};
    g_array_append_val(inventory->pfs, pf);
    inventory->iommu = 1;
    return inventory;
}

/* "STATUS next" of the first check so named, "" without; caller frees. */
static char *
verdict(const HwInventory *inventory, const char *config, int ovs, const char *name)
{
    struct doctor_facts facts = {.kernel_config = (char *) (guintptr) config,
                                 .kernel_release = (char *) (guintptr) "6.1.0-18-amd64",
                                 .ovs_hw_offload = ovs};
    json_auto_t *checks = doctor_checks(inventory, &facts);
    size_t i;
    json_t *check;
    json_array_foreach (checks, i, check) {
        const char *status = json_string_value(json_object_get(check, "status"));
        const char *next = json_string_value(json_object_get(check, "next"));
        g_assert_true((strcmp(status, "ok") == 0) == (next == NULL));
        if (strcmp(json_string_value(json_object_get(check, "check")), name) == 0) {
            return g_strdup_printf("%s %s", status, next != NULL ? next : "");
        }
    }
    return g_strdup("");
}

static void
starts_with(HwInventory *inventory, const char *config, int ovs, const char *name, const char *want)
{
    g_autofree char *found = verdict(inventory, config, ovs, name);
    if (!g_str_has_prefix(found, want)) {
        g_error("%s: '%s', wanted '%s'", name, found, want);
    }
}

static void
a_good_host_is_well(void)
{
    g_autoptr(HwInventory) inventory = one_pf(HW_ESWITCH_SWITCHDEV);
    static const char *const checks[] = {"version", "configuration", "iommu",   "openvswitch",
                                         "eswitch", "hw-tc-offload", "firmware"};
    for (size_t i = 0; i < G_N_ELEMENTS(checks); i++) {
        starts_with(inventory, good_config, 1, checks[i], "ok");
    }
}

static void
what_cannot_be_seen_is_unknown(void)
{
    g_autoptr(HwInventory) inventory = one_pf(HW_ESWITCH_SWITCHDEV);
    hw_pf_at(inventory, 0)->firmware[0] = '\0';
    hw_pf_at(inventory, 0)->hw_tc_offload = -1;
    starts_with(inventory, NULL, 1, "configuration", "unknown install the kernel's own package");
    starts_with(inventory, NULL, -1, "openvswitch", "unknown");
    starts_with(inventory, NULL, 1, "firmware", "unknown devlink dev info");
    starts_with(inventory, NULL, 1, "hw-tc-offload", "unknown");
}

static void
each_fault_has_its_next_step(void)
{
    g_autoptr(HwInventory) legacy = one_pf(HW_ESWITCH_LEGACY);
    g_autoptr(HwInventory) off = one_pf(HW_ESWITCH_SWITCHDEV);
    g_autoptr(HwInventory) none = hw_inventory_new();
    hw_pf_at(off, 0)->hw_tc_offload = 0;
    hw_pf_at(off, 0)->carrier = 0;
    starts_with(legacy, good_config, 1, "eswitch",
                "error hawser hw prepare ens1 --vfs 8 --mode switchdev");
    starts_with(legacy, good_config, 0, "openvswitch", "error ovs-vsctl set Open_vSwitch .");
    starts_with(off, good_config, 1, "hw-tc-offload", "error ethtool -K ens1 hw-tc-offload on");
    starts_with(off, good_config, 1, "link", "warning ip link set ens1 up");
    starts_with(none, good_config, 1, "nics", "error plug in");
    starts_with(none, good_config, 1, "iommu", "warning boot with intel_iommu=on");
    starts_with(off, "\nCONFIG_PCI_IOV=y\n", 1, "configuration", "error boot a kernel");
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/doctor/a-good-host-is-well", a_good_host_is_well);
    g_test_add_func("/doctor/what-cannot-be-seen-is-unknown", what_cannot_be_seen_is_unknown);
    g_test_add_func("/doctor/each-fault-has-its-next-step", each_fault_has_its_next_step);
    return g_test_run();
}
