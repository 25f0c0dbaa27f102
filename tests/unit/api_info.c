/* agent/api/extensions.c: the list that clients look features up in. */
#include "agent/api/info.h"

#include <string.h>

static bool
has(const char *name)
{
    return g_strv_contains(info_extensions, name);
}

static void
names_are_unique_words(void)
{
    g_autoptr(GHashTable) seen = g_hash_table_new(g_str_hash, g_str_equal);
    for (const char *const *name = info_extensions; *name != NULL; name++) {
        g_assert_true(g_hash_table_add(seen, (gpointer) *name));
        g_assert_cmpuint(strspn(*name, "abcdefghijklmnopqrstuvwxyz0123456789_-"), ==,
                         strlen(*name));
    }
}

static void
what_is_not_there_is_not_claimed(void)
{
    static const char *const never[] = {"clustering",
                                        "candid_authentication",
                                        "rbac",
                                        "virtual-machines",
                                        "storage_driver_ceph",
                                        "oidc",
                                        "loki"};
    for (size_t i = 0; i < G_N_ELEMENTS(never); i++) {
        g_assert_false(has(never[i]));
    }
    g_assert_true(has("projects") && has("certificate_token") && has("instances"));
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/info/names-are-unique-words", names_are_unique_words);
    g_test_add_func("/info/what-is-not-there-is-not-claimed", what_is_not_there_is_not_claimed);
    return g_test_run();
}
