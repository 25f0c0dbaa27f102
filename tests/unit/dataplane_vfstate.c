/* dataplane/slow/vfstate.c: V1, V2, and what a restore has to change. */
#include "dataplane/slow/vfstate.h"

#include <string.h>

static VfState
full_state(void)
{
    VfState state = {.pf = "0000:03:00.0",
                     .pf_netdev = "ens0",
                     .vf = 3,
                     .dev = "0000:03:00.4",
                     .driver = "mlx5_core",
                     .netdev = "ens0v3",
                     .mac = "02:00:00:00:00:03",
                     .mtu = 1500,
                     .up = 0,
                     .props = {.mac = "00:00:00:00:00:00",
                               .vlan = 5,
                               .qos = 2,
                               .spoofchk = 1,
                               .trust = 0,
                               .min_mbps = 0,
                               .max_mbps = 5000000000,
                               .link_state = HW_VF_LINK_AUTO},
                     .key = {.switch_id = "aa", .controller = 1, .pf = 0, .vf = 3},
                     .rep = "ens0_3",
                     .rep_mtu = 9000,
                     .rep_up = 1,
                     .rep_checksum = 1};
    return state;
}

static void
test_round_trip(void)
{
    VfState state = full_state(), back;
    g_autofree char *text = vfstate_text(&state);
    g_assert_true(vfstate_parse(text, &back, NULL));
    g_autofree char *again = vfstate_text(&back);
    g_assert_cmpstr(text, ==, again);
    g_assert_cmpint(back.props.max_mbps, ==, 5000000000);
    g_assert_cmpint(back.rep_up, ==, 1);
    g_assert_cmpuint(back.key.controller, ==, 1);
}

static void
test_damaged(void)
{
    VfState back;
    const char *const texts[] = {NULL, "", "[]", "{\"vf\": 1}", "{\"dev\": 7, \"pf\": null}"};
    for (size_t i = 0; i < G_N_ELEMENTS(texts); i++) {
        g_autoptr(GError) error = NULL;
        g_assert_false(vfstate_parse(texts[i], &back, &error));
        g_assert_error(error, HAW_ERROR, HAW_CORRUPT);
    }
}

static void
test_differ(void)
{
    VfState state = full_state();
    struct hw_vf_props want = state.props, found = state.props, change;
    g_assert_false(vfstate_differ(&want, &found, &change));

    hw_vf_props_none(&want);
    g_assert_false(vfstate_differ(&want, &found, &change));

    want = state.props;
    found.vlan = 0;
    found.trust = 1;
    g_strlcpy(found.mac, "02:00:00:00:00:09", sizeof(found.mac));
    g_assert_true(vfstate_differ(&want, &found, &change));
    g_assert_cmpint(change.vlan, ==, 5);
    g_assert_cmpint(change.qos, ==, 2);
    g_assert_cmpint(change.trust, ==, 0);
    g_assert_cmpint(change.spoofchk, ==, -1);
    g_assert_cmpint(change.link_state, ==, -1);
    g_assert_cmpstr(change.mac, ==, "00:00:00:00:00:00");
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/vfstate/what-was-taken-comes-back-the-same", test_round_trip);
    g_test_add_func("/vfstate/a-damaged-record-is-refused", test_damaged);
    g_test_add_func("/vfstate/only-what-differs-is-changed", test_differ);
    return g_test_run();
}
