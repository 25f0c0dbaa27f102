/* dataplane/slow/claim.c: C1, C2, and what it says when there is nothing to take. */
#include "dataplane/slow/claim.h"

#include <string.h>

/* Two switchdev PFs, on NUMA nodes 0 and 1, each with four functions that have representors. */
static HwInventory *
two_pfs(void)
{
    HwInventory *inventory = hw_inventory_new();
    inventory->iommu = 1;
    for (guint p = 0; p < 2; p++) {
        struct hw_pf pf = {.numa = (int) p,
                           .number = p,
                           .eswitch = HW_ESWITCH_SWITCHDEV,
                           .vfs = 4,
                           .vfs_max = 8,
                           .hw_tc_offload = 1,
                           .carrier = 1,
                           .iommu_group = 1};
        g_strlcpy(pf.bus, "pci", sizeof(pf.bus));
        g_snprintf(pf.dev, sizeof(pf.dev), "0000:0%u:00.0", p + 3);
        g_snprintf(pf.netdev, sizeof(pf.netdev), "ens%u", p);
        g_strlcpy(pf.switch_id, "aabb", sizeof(pf.switch_id));
        g_array_append_val(inventory->pfs, pf);
        for (guint v = 0; v < 4; v++) {
            struct hw_rep rep = {.key = {.pf = p, .vf = v}, .ifindex = 1};
            g_strlcpy(rep.key.switch_id, "aabb", sizeof(rep.key.switch_id));
            g_snprintf(rep.netdev, sizeof(rep.netdev), "rep%u_%u", p, v);
            g_strlcpy(rep.dev, pf.dev, sizeof(rep.dev));
            g_array_append_val(inventory->reps, rep);
            struct hw_vf vf = {.pf = p,
                               .vf = v,
                               .numa = (int) p,
                               .iommu_group = (int) (10 + p * 4 + v),
                               .rep = (int) (p * 4 + v)};
            g_snprintf(vf.dev, sizeof(vf.dev), "0000:0%u:00.%u", p + 3, v + 1);
            g_strlcpy(vf.driver, "mlx5_core", sizeof(vf.driver));
            g_snprintf(vf.netdev, sizeof(vf.netdev), "ens%uv%u", p, v);
            g_array_append_val(inventory->vfs, vf);
        }
    }
    return inventory;
}

/* 'data': the held ones, each with a blank behind it. */
static bool
is_held(const char *dev, void *data)
{
    g_autofree char *word = g_strconcat(dev, " ", NULL);
    return strstr(data, word) != NULL;
}

static const char *
choose(const HwInventory *inventory, int numa, const char *parent, const char *held, GError **error)
{
    const char *const parents[] = {parent, NULL};
    struct claim_wish wish = {
        .use = HW_USE_REP_NETDEV, .parents = parent != NULL ? parents : NULL, .numa = numa};
    const struct hw_vf *vf =
        claim_choose(inventory, &wish, is_held, (void *) (guintptr) held, error);
    return vf != NULL ? vf->netdev : NULL;
}

static void
test_policy(void)
{
    g_autoptr(HwInventory) host = two_pfs();
    g_autoptr(GError) error = NULL;
    g_assert_cmpstr(choose(host, -1, NULL, "", &error), ==, "ens0v0");
    g_assert_cmpstr(choose(host, -1, NULL, "0000:03:00.1 ", &error), ==, "ens1v0");
    g_assert_cmpstr(choose(host, 0, NULL, "0000:03:00.1 ", &error), ==, "ens0v1");
    g_assert_cmpstr(choose(host, 1, NULL, "", &error), ==, "ens1v0");
    g_assert_cmpstr(choose(host, -1, "ens1", "", &error), ==, "ens1v0");
    g_assert_cmpstr(choose(host, -1, "0000:04:00.0", "0000:04:00.1 ", &error), ==, "ens1v1");
    g_assert_cmpstr(
        choose(host, 0, NULL, "0000:03:00.1 0000:03:00.2 0000:03:00.3 0000:03:00.4 ", &error), ==,
        "ens1v0");
    g_assert_no_error(error);
}

static void
test_used_by_host(void)
{
    g_autoptr(HwInventory) host = two_pfs();
    hw_vf_at(host, 0)->up = 1;
    g_assert_cmpstr(choose(host, -1, "ens0", "", NULL), ==, "ens0v1");
}

static void
test_refusals(void)
{
    g_autoptr(HwInventory) host = two_pfs();
    g_autoptr(GError) error = NULL;
    g_assert_null(choose(host, -1, "ens7", "", &error));
    g_assert_error(error, HAW_ERROR, HAW_NOT_FOUND);
    g_assert_nonnull(strstr(error->message, "\"ens7\""));
    g_clear_error(&error);

    g_assert_null(
        choose(host, -1, "ens0", "0000:03:00.1 0000:03:00.2 0000:03:00.3 0000:03:00.4 ", &error));
    g_assert_error(error, HAW_ERROR, HAW_LIMIT);
    g_assert_true(g_str_has_prefix(
        error->message, "All virtual functions of sriov device \"ens0\" are already in use"));
    g_clear_error(&error);

    hw_pf_at(host, 0)->eswitch = HW_ESWITCH_LEGACY;
    for (guint i = 0; i < 4; i++) {
        hw_vf_at(host, i)->rep = -1;
    }
    g_assert_null(choose(host, -1, "ens0", "", &error));
    g_assert_error(error, HAW_ERROR, HAW_UNSUPPORTED);
    g_assert_nonnull(strstr(error->message, "switchdev"));
    g_clear_error(&error);

    g_autoptr(HwInventory) empty = hw_inventory_new();
    g_assert_null(choose(empty, -1, NULL, "", &error));
    g_assert_error(error, HAW_ERROR, HAW_UNSUPPORTED);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/claim/near-first-then-least-used-then-lowest", test_policy);
    g_test_add_func("/claim/what-the-host-uses-is-not-taken", test_used_by_host);
    g_test_add_func("/claim/a-refusal-names-device-and-reason", test_refusals);
    return g_test_run();
}
