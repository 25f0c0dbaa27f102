/* Names of switch ports, and finding things in an inventory. */
#include "hw/inventory.h"

#include <string.h>

static void
port_names_are_read_and_written(void)
{
    static const struct {
        const char *name;
        guint controller, pf, vf;
    } good[] = {{"pf0vf0", 0, 0, 0}, {"pf1vf127", 0, 1, 127}, {"c1pf0vf3", 1, 0, 3}};
    for (size_t i = 0; i < G_N_ELEMENTS(good); i++) {
        struct hw_port_key key = {0};
        g_assert_true(hw_port_name_parse(good[i].name, &key));
        g_assert_cmpuint(key.controller, ==, good[i].controller);
        g_assert_cmpuint(key.pf, ==, good[i].pf);
        g_assert_cmpuint(key.vf, ==, good[i].vf);
        g_autofree char *name = hw_port_name(&key);
        g_assert_cmpstr(name, ==, good[i].name);
    }
}

static void
the_old_ice_name_is_read(void)
{
    struct hw_port_key key = {0};
    g_assert_true(hw_port_name_parse("pf0vfr12", &key));
    g_assert_cmpuint(key.vf, ==, 12);
}

static void
other_names_are_no_vf_ports(void)
{
    static const char *const bad[] = {"",
                                      "p0",
                                      "pf0",
                                      "pf0sf1",
                                      "pfvf",
                                      "pf0vf",
                                      "c1pf0",
                                      "cpf0vf0",
                                      "pf0vf0x",
                                      "pf 0vf0",
                                      "pf-1vf0",
                                      "pf0vf-1",
                                      "xpf0vf0",
                                      "c1pf0hpf",
                                      "pf99999vf0",
                                      "pf0vf65536",
                                      "c99999999999pf0vf0"};
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        struct hw_port_key key = {.vf = 7};
        g_assert_false(hw_port_name_parse(bad[i], &key));
        g_assert_cmpuint(key.vf, ==, 7);
    }
}

static void
a_pf_without_a_name_is_not_found_by_none(void)
{
    g_autoptr(HwInventory) inventory = hw_inventory_new();
    struct hw_pf pf = {.dev = "0000:01:00.0"};
    g_array_append_val(inventory->pfs, pf);
    g_assert_null(hw_find_pf(inventory, ""));
    g_assert_nonnull(hw_find_pf(inventory, "0000:01:00.0"));
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/inventory/port-names-are-read-and-written", port_names_are_read_and_written);
    g_test_add_func("/inventory/the-old-ice-name-is-read", the_old_ice_name_is_read);
    g_test_add_func("/inventory/other-names-are-no-vf-ports", other_names_are_no_vf_ports);
    g_test_add_func("/inventory/a-pf-without-a-name-is-not-found-by-none",
                    a_pf_without_a_name_is_not_found_by_none);
    return g_test_run();
}
