/* agent/api/route.c: R1 to R3. */
#include "agent/api/request.h"

#include <string.h>

static bool
answer(Request *req, GError **error)
{
    return true;
}

static const Route routes[] = {
    {"GET", "/1.0/images/{fingerprint}", answer, 0},
    {"GET", "/1.0/images/aliases", answer, 0},
    {"GET", "/1.0/images/aliases/{name}", answer, 0},
    {"PUT", "/1.0/images/{fingerprint}", answer, 0},
    {"GET", "/", answer, 0},
    {NULL, NULL, NULL, 0},
};

static const Route *
find(const char *method, const char *path, GHashTable *args, HawCode *ret_code)
{
    g_autoptr(GError) error = NULL;
    RouteTable *table = route_table_new();
    route_table_add(table, routes);
    const Route *route = route_find(table, method, path, &args, &error);
    if (ret_code != NULL) {
        *ret_code = haw_code(error);
    }
    route_table_free(table);
    return route;
}

static GHashTable *
args_new(void)
{
    return g_hash_table_new_full(g_str_hash, g_str_equal, g_free, g_free);
}

static void
escaped_slash_stays_inside_its_segment(void)
{
    g_autoptr(GHashTable) args = args_new();
    g_assert_true(find("GET", "/1.0/images/aliases/debian%2F12", args, NULL) == &routes[2]);
    g_assert_cmpstr(g_hash_table_lookup(args, "name"), ==, "debian/12"); /* R1 */
}

static void
literal_wins_over_argument(void)
{
    g_autoptr(GHashTable) args = args_new();
    g_assert_true(find("GET", "/1.0/images/aliases", args, NULL) == &routes[1]); /* R2 */
    g_assert_true(find("HEAD", "/1.0/images/abc", args, NULL) == &routes[0]);
    g_assert_true(find("GET", "/", args, NULL) == &routes[4]);
}

static void
unknown_path_is_404_and_unknown_method_501(void)
{
    g_autoptr(GHashTable) args = args_new();
    HawCode code;
    g_assert_null(find("GET", "/1.0/nothing", args, &code));
    g_assert_cmpint(code, ==, HAW_NOT_FOUND);
    g_assert_null(find("DELETE", "/1.0/images/aliases", args, &code));
    g_assert_cmpint(code, ==, HAW_UNSUPPORTED);
}

static void
broken_escapes_match_nothing(void)
{
    static const char *const bad[] = {"/1.0/images/%",
                                      "/1.0/images/%4",
                                      "/1.0/images/%zz",
                                      "/1.0/images/%00",
                                      "/1.0/images/%ff",
                                      "1.0",
                                      "*",
                                      ""};
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_autoptr(GHashTable) args = args_new();
        HawCode code;
        g_assert_null(find("GET", bad[i], args, &code)); /* R3 */
        g_assert_cmpint(code, ==, HAW_NOT_FOUND);
    }
}

static void
query_is_decoded_and_the_first_value_counts(void)
{
    g_autoptr(GHashTable) query = args_new();
    g_assert_true(route_parse_query("a=1&a=2&b=x+y%21&c&&=z", query));
    g_assert_cmpstr(g_hash_table_lookup(query, "a"), ==, "1");
    g_assert_cmpstr(g_hash_table_lookup(query, "b"), ==, "x y!");
    g_assert_cmpstr(g_hash_table_lookup(query, "c"), ==, "");
    g_assert_false(route_parse_query("a=%0", query));
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/route/escaped-slash-stays-inside-its-segment",
                    escaped_slash_stays_inside_its_segment);
    g_test_add_func("/route/literal-wins-over-argument", literal_wins_over_argument);
    g_test_add_func("/route/unknown-path-is-404-and-unknown-method-501",
                    unknown_path_is_404_and_unknown_method_501);
    g_test_add_func("/route/broken-escapes-match-nothing", broken_escapes_match_nothing);
    g_test_add_func("/route/query-is-decoded-and-the-first-value-counts",
                    query_is_decoded_and_the_first_value_counts);
    return g_test_run();
}
