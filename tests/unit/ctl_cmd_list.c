/* ctl/cmd_list.c: columns and filters of 'hawser list'. */
#include "ctl/cmd_list.h"
#include "ctl/json.h"

#include <string.h>

static const char instance_text[] =
    "{\"name\":\"web1\",\"status\":\"Running\",\"type\":\"container\",\"ephemeral\":true,"
    "\"architecture\":\"x86_64\",\"created_at\":\"2026-11-22T13:17:26Z\",\"profiles\":[\"a\",\"b\"]"
    ","
    "\"snapshots\":[{},{}],\"config\":{\"volatile.base_image\":\"0123456789abcdef\"},"
    "\"expanded_config\":{\"user.app\":\"shop\",\"limits.memory\":\"1GiB\"},"
    "\"expanded_devices\":{\"root\":{\"type\":\"disk\",\"path\":\"/\",\"pool\":\"fast\"},"
    "\"eth0\":{\"type\":\"nic\",\"network\":\"br0\"}},"
    "\"state\":{\"pid\":77,\"processes\":-1,\"memory\":{\"usage\":1048576,\"total\":4194304},"
    "\"cpu\":{\"usage\":2500000000},\"disk\":{\"root\":{\"usage\":2048}},\"network\":{"
    "\"lo\":{\"addresses\":[{\"family\":\"inet\",\"address\":\"127.0.0.1\",\"scope\":\"local\"}]},"
    "\"eth0\":{\"addresses\":[{\"family\":\"inet\",\"address\":\"10.1.2.3\",\"scope\":\"global\"},"
    "{\"family\":\"inet6\",\"address\":\"fe80::1\",\"scope\":\"link\"},"
    "{\"family\":\"inet6\",\"address\":\"fd00::5\",\"scope\":\"global\"}]}}}}";

static json_t *
instance(void)
{
    json_t *value = json_loads(instance_text, 0, NULL);
    g_assert_nonnull(value);
    return value;
}

static void
assert_cells(const char *columns_text, const char *want)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(json_t) value = instance();
    g_autoptr(GArray) columns = cmd_list_columns(columns_text, &error);
    g_autoptr(GString) line = g_string_new(NULL);
    g_assert_no_error(error);
    for (guint i = 0; i < columns->len; i++) {
        const ListColumn *column = &g_array_index(columns, ListColumn, i);
        g_autofree char *cell = cmd_list_cell(value, column);
        g_string_append_printf(line, "%s%s=%s", i > 0 ? "|" : "", column->header, cell);
    }
    g_assert_cmpstr(line->str, ==, want);
}

static void
every_letter_has_its_cell(void)
{
    assert_cells("ns46tS", "NAME=web1|STATE=RUNNING|IPV4=10.1.2.3 (eth0)|IPV6=fd00::5 (eth0)|"
                           "TYPE=CONTAINER (EPHEMERAL)|SNAPSHOTS=2");
    assert_cells("abcdDe", "ARCHITECTURE=x86_64|STORAGE POOL=fast|CREATED AT=2026/11/22 13:17 UTC|"
                           "DESCRIPTION=|DISK USAGE=2.00KiB|PROJECT=");
    assert_cells("fFlLmM", "BASE IMAGE=0123456789ab|BASE IMAGE=0123456789abcdef|LAST USED AT=|"
                           "LOCATION=|MEMORY USAGE=1.00MiB|MEMORY USAGE%=25.0%");
    assert_cells("NpPu", "PROCESSES=|PID=77|PROFILES=a\nb|CPU USAGE=2s");
}

static void
keys_are_columns_with_name_and_width(void)
{
    assert_cells("n,user.app:APP,limits.memory::2", "NAME=web1|APP=shop|LIMITS.MEMORY=1G");
    assert_cells("config:user.app,devices:eth0.network:NET", "USER.APP=shop|NET=br0");
    assert_cells("n,user.app:AB:0,user.nothing", "NAME=web1|AB=sh|USER.NOTHING=");
}

static void
bad_columns_are_named(void)
{
    static const char *const bad[] = {"nZ", "", "devices:eth0", "config:", "user.a:B:wide"};
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(GError) error = NULL;
        g_assert_null(cmd_list_columns(bad[i], &error));
        g_assert_cmpint(haw_code(error), ==, HAW_INVALID);
    }
    g_autoptr(GError) error = NULL;
    g_assert_null(cmd_list_columns("nZ", &error));
    g_assert_nonnull(strstr(error->message, "'Z'"));
}

static void
state_is_asked_for_only_when_shown(void)
{
    static const struct {
        const char *text;
        bool needs;
    } cases[] = {{"nsct", false}, {"n4", true}, {"n,user.app", false}, {"nS", true}};
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GArray) columns = cmd_list_columns(cases[i].text, NULL);
        g_assert_true(cmd_list_needs_state(columns) == cases[i].needs);
    }
}

static void
filters_match_names_keys_and_addresses(void)
{
    static const char *const yes[] = {"web",
                                      "w.*1$",
                                      "WEB1",
                                      "status=running",
                                      "status=stopped,running",
                                      "type=container",
                                      "user.app=shop",
                                      "u.a=shop",
                                      "user.app=s.*",
                                      "ipv4=10.1.2.0/24",
                                      "ipv4=10.1.2.3",
                                      "ipv6=fd00::/8",
                                      "name=web.*"};
    static const char *const no[] = {"eb1",
                                     "x",
                                     "status=stopped",
                                     "user.app=x",
                                     "u=shop",
                                     "ipv4=10.1.3.0/24",
                                     "ipv4=nonsense",
                                     "ipv6=::1",
                                     "type=virtual-machine",
                                     "["};
    g_autoptr(json_t) value = instance();
    for (size_t i = 0; i < G_N_ELEMENTS(yes); i++) {
        g_test_message("%s", yes[i]);
        g_assert_true(cmd_list_matches(value, yes[i]));
    }
    for (size_t i = 0; i < G_N_ELEMENTS(no); i++) {
        g_test_message("%s", no[i]);
        g_assert_false(cmd_list_matches(value, no[i]));
    }
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/cmd_list/every-letter-has-its-cell", every_letter_has_its_cell);
    g_test_add_func("/cmd_list/keys-are-columns-with-name-and-width",
                    keys_are_columns_with_name_and_width);
    g_test_add_func("/cmd_list/bad-columns-are-named", bad_columns_are_named);
    g_test_add_func("/cmd_list/state-is-asked-for-only-when-shown",
                    state_is_asked_for_only_when_shown);
    g_test_add_func("/cmd_list/filters-match-names-keys-and-addresses",
                    filters_match_names_keys_and_addresses);
    return g_test_run();
}
