/* proto/keys*.c: K1, and that the tables are in order. */
#include "proto/keys.h"

#include <string.h>

static const struct {
    const char *name;
    const Key *table;
} tables[] = {{"server", keys_server},
              {"instance", keys_instance},
              {"project", keys_project},
              {"pool", keys_pool},
              {"dir", keys_pool_dir},
              {"btrfs", keys_pool_btrfs},
              {"overlay", keys_pool_overlay},
              {"volume", keys_volume},
              {"bridge", keys_network_bridge},
              {"physical", keys_network_physical},
              {"macvlan", keys_network_macvlan},
              {"sriov", keys_network_sriov}};

static void
rows_are_unique_and_defaults_pass_their_checks(void)
{
    for (size_t i = 0; i < G_N_ELEMENTS(tables); i++) {
        g_autoptr(GHashTable) seen = g_hash_table_new(g_str_hash, g_str_equal);
        for (const Key *key = tables[i].table; key->name != NULL; key++) {
            g_assert_true(g_hash_table_add(seen, (gpointer) key->name));
            g_assert_true(g_str_has_suffix(key->name, ".") == !!(key->flags & KEY_PREFIX));
            g_assert_nonnull(key->help);
            if (key->check != NULL && key->fallback != NULL &&
                strcmp(key->fallback, "block") != 0) {
                g_assert_true(key->check(key->fallback, NULL));
            }
        }
    }
}

static void
prefixes_and_patterns_find_their_row(void)
{
    g_assert_cmpstr(keys_find(keys_instance, "limits.cpu")->name, ==, "limits.cpu");
    g_assert_cmpstr(keys_find(keys_instance, "user.x.y")->name, ==, "user.");
    g_assert_null(keys_find(keys_instance, "user."));
    g_assert_null(keys_find(keys_instance, "user"));
    g_assert_cmpstr(keys_find(keys_network_bridge, "tunnel.t1.remote")->name, ==,
                    "tunnel.*.remote");
    g_assert_null(keys_find(keys_network_bridge, "tunnel..remote"));
    g_assert_null(keys_find(keys_network_bridge, "tunnel.t1.nothing"));
    g_assert_null(keys_find(keys_pool_dir, "size"));
    g_assert_nonnull(keys_find(keys_pool_dir, "volume.size"));
    g_assert_null(keys_find(keys_network_bridge, ""));
    g_assert_null(keys_of_pool("zfs"));
    g_assert_true(keys_of_network("bridge") == keys_network_bridge);
}

static void
unknown_keys_and_wrong_types_are_refused(void)
{
    g_autoptr(GError) error = NULL;
    json_t *config = json_pack("{s:s}", "limits.cpus", "1");
    g_assert_false(keys_check_all(keys_instance, config, &error));
    g_assert_cmpstr(error->message, ==, "Unknown configuration key: limits.cpus");
    g_clear_error(&error);
    json_decref(config);

    config = json_pack("{s:i}", "limits.cpu", 1);
    g_assert_false(keys_check_all(keys_instance, config, &error));
    g_assert_cmpint(haw_code(error), ==, HAW_INVALID);
    json_decref(config);
}

static void
raw_lxc_keeps_its_hands_off_ours(void)
{
    static const char *const bad[] = {
        "lxc.log.file=/x",   "lxc.net.0.link = br0", "a\nlxc.net.0.ipv4.address = 1.2.3.4/24",
        "LXC.LOG.FILE = /x", "lxc.prlimit.nofile=1", "nothing"};
    static const char *const good[] = {"lxc.net.0.ipv4.address = 1.2.3.4/24",
                                       "lxc.apparmor.profile=unconfined", "# comment\n\n",
                                       "lxc.mount.entry=a=b c"};
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_assert_false(keys_check(keys_instance, "raw.lxc", bad[i], NULL));
    }
    for (size_t i = 0; i < G_N_ELEMENTS(good); i++) {
        g_assert_true(keys_check(keys_instance, "raw.lxc", good[i], NULL));
    }
}

static void
raw_idmap_is_three_words_a_line(void)
{
    g_assert_true(
        keys_check(keys_instance, "raw.idmap", "both 1000 1000\nuid 50-60 500-510", NULL));
    g_assert_false(keys_check(keys_instance, "raw.idmap", "both 1000", NULL));
    g_assert_false(keys_check(keys_instance, "raw.idmap", "uid 50-60 500-509", NULL));
    g_assert_false(keys_check(keys_instance, "raw.idmap", "all 1 1", NULL));
    g_assert_false(keys_check(keys_instance, "raw.idmap", "uid 60-50 1-11", NULL));
}

static void
seccomp_keys_exclude_each_other(void)
{
    json_t *config = json_pack("{s:s,s:s}", "raw.seccomp", "2", "security.syscalls.deny", "x");
    g_assert_false(keys_check_instance_rules(config, NULL));
    json_object_del(config, "raw.seccomp");
    g_assert_true(keys_check_instance_rules(config, NULL));
    json_object_set_new(config, "security.syscalls.blacklist", json_string("y"));
    g_assert_false(keys_check_instance_rules(config, NULL));
    json_decref(config);
}

static void
keys_of_the_other_type_are_unknown(void)
{
    json_t *config = json_pack("{s:s,s:s}", "raw.qemu", "x", "limits.cpu", "1");
    g_assert_false(keys_check_instance_type(config, "container", NULL));
    g_assert_true(keys_check_instance_type(config, "virtual-machine", NULL));
    json_object_del(config, "raw.qemu");
    json_object_set_new(config, "raw.lxc", json_string("x"));
    g_assert_true(keys_check_instance_type(config, "container", NULL));
    g_assert_false(keys_check_instance_type(config, "virtual-machine", NULL));
    json_decref(config);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/keys/rows-are-unique-and-defaults-pass-their-checks",
                    rows_are_unique_and_defaults_pass_their_checks);
    g_test_add_func("/keys/prefixes-and-patterns-find-their-row",
                    prefixes_and_patterns_find_their_row);
    g_test_add_func("/keys/unknown-keys-and-wrong-types-are-refused",
                    unknown_keys_and_wrong_types_are_refused);
    g_test_add_func("/keys/raw-lxc-keeps-its-hands-off-ours", raw_lxc_keeps_its_hands_off_ours);
    g_test_add_func("/keys/raw-idmap-is-three-words-a-line", raw_idmap_is_three_words_a_line);
    g_test_add_func("/keys/keys-of-the-other-type-are-unknown", keys_of_the_other_type_are_unknown);
    g_test_add_func("/keys/seccomp-keys-exclude-each-other", seccomp_keys_exclude_each_other);
    return g_test_run();
}
