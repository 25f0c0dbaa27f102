/* ctl/entity.c: columns, settings, fields; ctl/rest.c: paths and codes; ctl/wait.c: what operations
 * say. */
#include "ctl/entity.h"
#include "ctl/rest.h"
#include "ctl/wait.h"

#include <string.h>

static void
columns_look_as_their_suffix_says(void)
{
    g_autoptr(json_t) object =
        json_loads("{\"name\":\"n\",\"managed\":true,\"used_by\":[\"a\",\"b\"],\"status\":"
                   "\"Created\",\"mtu\":1500,"
                   "\"config\":{\"ipv4.address\":\"10.0.0.1/24\"},\"url\":\"/1.0/x/last\","
                   "\"at\":\"2026-11-22T13:17:26Z\",\"list\":[\"x\",\"y\"],\"none\":null}",
                   0, NULL);
    static const struct {
        const char *spec, *want;
    } cases[] = {
        {"name", "n"},          {"managed?", "YES"}, {"missing?", "NO"},
        {"used_by#", "2"},      {"missing#", "0"},   {"status^", "CREATED"},
        {"mtu", "1500"},        {"managed", "true"}, {"config.ipv4.address", "10.0.0.1/24"},
        {"config.missing", ""}, {"url/", "last"},    {"at@", "2026/11/22 13:17 UTC"},
        {"list*", "x\ny"},      {"none", ""}};
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *text = entity_column(object, cases[i].spec);
        g_assert_cmpstr(text, ==, cases[i].want);
    }
}

static void
settings_are_pairs_or_one_key_and_value(void)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(json_t) pairs = json_object(), old = json_object(), bad = json_object();
    char *const three[] = {"a=1", "b=x=y", "c=", NULL}, *const two[] = {"key", "a=b", NULL};
    char *const wrong[] = {"a=1", "b", NULL}, *const nameless[] = {"=1", NULL};
    g_assert_true(entity_parse_settings(three, pairs, NULL));
    g_assert_cmpstr(json_string_value(json_object_get(pairs, "b")), ==, "x=y");
    g_assert_cmpstr(json_string_value(json_object_get(pairs, "c")), ==, "");
    g_assert_true(entity_parse_settings(two, old, NULL));
    g_assert_cmpstr(json_string_value(json_object_get(old, "key")), ==, "a=b");
    g_assert_false(entity_parse_settings(wrong, bad, &error));
    g_assert_cmpint(haw_code(error), ==, HAW_INVALID);
    g_assert_false(entity_parse_settings(nameless, bad, NULL));
}

/* N2 */
static void
fields_are_copies_of_those_that_are_there(void)
{
    g_autoptr(json_t) object = json_loads("{\"a\":{\"x\":1},\"b\":2,\"c\":3}", 0, NULL);
    g_autoptr(json_t) some = entity_fields(object, "c a missing");
    g_autofree char *text = json_dumps(some, JSON_COMPACT);
    g_assert_cmpstr(text, ==, "{\"c\":3,\"a\":{\"x\":1}}");
    json_object_set_new(json_object_get(some, "a"), "x", json_integer(9));
    g_assert_cmpint(json_integer_value(json_object_get(json_object_get(object, "a"), "x")), ==, 1);
}

static void
names_in_paths_cannot_be_paths(void)
{
    g_autofree char *path = rest_path("/1.0/instances/%s/files?path=%s", "../x", "/etc/a b?c=d");
    g_assert_cmpstr(path, ==, "/1.0/instances/..%2Fx/files?path=%2Fetc%2Fa%20b%3Fc%3Dd");
}

static void
statuses_become_codes(void)
{
    static const struct {
        int status;
        const char *text;
        HawCode code;
    } cases[] = {{400, "bad", HAW_INVALID},
                 {401, "", HAW_DENIED},
                 {403, "", HAW_DENIED},
                 {404, "", HAW_NOT_FOUND},
                 {409, "The network already exists", HAW_EXISTS},
                 {409, "in use", HAW_BUSY},
                 {412, "", HAW_STALE},
                 {413, "", HAW_LIMIT},
                 {500, "boom", HAW_FAILED},
                 {500, "The profile already exists", HAW_EXISTS},
                 {500, "Instance not found", HAW_NOT_FOUND},
                 {501, "", HAW_UNSUPPORTED},
                 {503, "", HAW_UNAVAILABLE},
                 {599, "", HAW_FAILED}};
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_assert_cmpint(rest_code(cases[i].status, cases[i].text), ==, cases[i].code);
    }
}

static void
operations_tell_resource_and_progress(void)
{
    g_autoptr(json_t) operation = json_loads(
        "{\"id\":\"i-d\",\"resources\":{\"instances\":[\"/1.0/instances/a%20b?project=x\"]},"
        "\"metadata\":{\"fingerprint\":\"f\",\"download_progress\":\"rootfs: 5% (1MB/s)\"}}",
        0, NULL);
    g_autofree char *name = wait_resource(operation, "instances");
    g_autofree char *text = wait_progress_text(operation), *path = wait_path(operation);
    g_assert_cmpstr(name, ==, "a b");
    g_assert_cmpstr(text, ==, "rootfs: 5% (1MB/s)");
    g_assert_cmpstr(path, ==, "/1.0/operations/i-d");
    g_assert_null(wait_resource(operation, "images"));
    json_object_set_new(json_object_get(operation, "metadata"), "live_progress",
                        json_string("memory: round 2"));
    g_autofree char *live = wait_progress_text(operation);
    g_assert_cmpstr(live, ==, "memory: round 2");
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/entity/columns-look-as-their-suffix-says", columns_look_as_their_suffix_says);
    g_test_add_func("/entity/settings-are-pairs-or-one-key-and-value",
                    settings_are_pairs_or_one_key_and_value);
    g_test_add_func("/entity/fields-are-copies-of-those-that-are-there",
                    fields_are_copies_of_those_that_are_there);
    g_test_add_func("/rest/names-in-paths-cannot-be-paths", names_in_paths_cannot_be_paths);
    g_test_add_func("/rest/statuses-become-codes", statuses_become_codes);
    g_test_add_func("/wait/operations-tell-resource-and-progress",
                    operations_tell_resource_and_progress);
    return g_test_run();
}
