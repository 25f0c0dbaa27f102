/* agent/api/filter.c: LXD's filter grammar. */
#include "agent/api/server.h"

#include <string.h>

static bool
matches(const char *text, const char *json)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(Filter) filter = filter_parse(text, &error);
    g_assert_no_error(error);
    json_t *object = json_loads(json, 0, NULL);
    g_assert_nonnull(object);
    bool result = filter_matches(filter, object);
    json_decref(object);
    return result;
}

#define OBJECT                                                                                     \
    "{\"name\":\"Web1\",\"status\":\"Running\",\"config\":{\"user.a.b\":\"x y\",\"n\":\"5\"},"     \
    "\"public\":true,\"size\":42,\"devices\":{\"eth0\":{\"network\":\"br0\"}}}"

static void
clauses_compare_fields(void)
{
    g_assert_true(matches(NULL, OBJECT));
    g_assert_true(matches("", OBJECT));
    g_assert_true(matches("name eq web1", OBJECT)); /* case does not matter */
    g_assert_false(matches("name eq web", OBJECT)); /* anchored */
    g_assert_true(matches("name eq web.*", OBJECT));
    g_assert_true(matches("name eq ^we", OBJECT)); /* anchors of its own */
    g_assert_false(matches("name ne web1", OBJECT));
    g_assert_true(matches("not name eq other", OBJECT));
    g_assert_true(matches("public eq true", OBJECT));
    g_assert_true(matches("size eq 42", OBJECT));
    g_assert_false(matches("size eq 4", OBJECT));
    g_assert_false(matches("nothing eq x", OBJECT));
    g_assert_true(matches("nothing ne x", OBJECT));
}

static void
paths_find_keys_with_dots(void)
{
    g_assert_true(matches("config.user.a.b eq \"x y\"", OBJECT));
    g_assert_true(matches("devices.eth0.network eq br0", OBJECT));
    g_assert_false(matches("devices.eth1.network eq br0", OBJECT));
    g_assert_false(matches("name.x eq Web1", OBJECT));
}

static void
joins_go_from_left_to_right(void)
{
    g_assert_true(matches("name eq x and name eq y or status eq running", OBJECT));
    g_assert_false(matches("name eq web1 or name eq y and status eq stopped", OBJECT));
    g_assert_true(matches("name eq web1 and not status eq stopped", OBJECT));
}

static void
broken_filters_are_refused(void)
{
    static const char *const bad[] = {
        "name",      "name eq",         "name eq a and", "name eq a b", "name eq a and not",
        "name eq (", "name eq a or or", "not",           "name eq \xff"};
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(GError) error = NULL;
        g_assert_null(filter_parse(bad[i], &error));
        g_assert_cmpint(haw_code(error), ==, HAW_INVALID);
    }
}

static void
patterns_that_backtrack_give_up(void)
{
    gint64 before = g_get_monotonic_time();
    g_assert_false(
        matches("name eq (a+)+$",
                "{\"name\":\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab\"}"));
    g_assert_cmpint(g_get_monotonic_time() - before, <, G_USEC_PER_SEC);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/filter/clauses-compare-fields", clauses_compare_fields);
    g_test_add_func("/filter/paths-find-keys-with-dots", paths_find_keys_with_dots);
    g_test_add_func("/filter/joins-go-from-left-to-right", joins_go_from_left_to_right);
    g_test_add_func("/filter/broken-filters-are-refused", broken_filters_are_refused);
    g_test_add_func("/filter/patterns-that-backtrack-give-up", patterns_that_backtrack_give_up);
    return g_test_run();
}
