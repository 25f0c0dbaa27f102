/* Which user a VM's QEMU is (agent/vm/vmuser.c U1, U4). */
#include "agent/vm/vmuser.h"

static void
each_has_its_own(void)
{
    const char *all = "         0          0 4294967295\n";
    g_assert_cmpuint(vmuser_number(1, all), ==, 0x7e000001);
    g_assert_cmpuint(vmuser_number(2, all), ==, 0x7e000002);
    g_assert_cmpuint(vmuser_number(0xffffff, all), ==, 0x7effffff);
    g_assert_cmpuint(vmuser_number(0x1000001, all), ==, 0x7e000001);
}

static void
where_ids_end_earlier_it_is_nobody(void)
{
    static const char *const maps[] = {
        "         0     100000      65536\n",
        "0 100000 65536\n1000000 1000000 1000\n",
        "0 0 2113929217\n", /* up to 0x7e000000 */
        "",
        "nonsense\n",
    };
    for (size_t i = 0; i < G_N_ELEMENTS(maps); i++) {
        g_assert_cmpuint(vmuser_number(1, maps[i]), ==, 65534);
    }
    g_assert_cmpuint(vmuser_number(1, "0 0 1000\n2113929216 5 2\n"), ==, 0x7e000001);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/user/each-has-its-own", each_has_its_own);
    g_test_add_func("/user/where-ids-end-earlier-it-is-nobody", where_ids_end_earlier_it_is_nobody);
    return g_test_run();
}
