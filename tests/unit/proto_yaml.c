/* proto/yaml.c: Y1 to Y3. */
#include "proto/yaml.h"

#include <string.h>

G_DEFINE_AUTOPTR_CLEANUP_FUNC(json_t, json_decref)

static json_t *
parse(const char *text, const char *const *keys)
{
    g_autoptr(GError) error = NULL;
    json_t *value = yaml_to_json(text, strlen(text), keys, &error);
    g_assert_no_error(error);
    return value;
}

static HawCode
parse_fails(const char *text)
{
    g_autoptr(GError) error = NULL;
    g_assert_null(yaml_to_json(text, strlen(text), yaml_text_keys, &error));
    g_assert_nonnull(error);
    g_assert_true(g_str_has_prefix(error->message, "YAML"));
    return haw_code(error);
}

static void
assert_json(json_t *value, const char *want)
{
    g_autofree char *text = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
    g_assert_cmpstr(text, ==, want);
}

static void
scalars_get_their_types(void)
{
    g_autoptr(json_t) value = parse("a: 1\nb: -0x1f\nc: 0644\nd: yes\ne: ~\nf: 1.5\ng: '1'\n"
                                    "h: hello world\ni: 10GiB\nj: 99999999999999999999\nk:\n",
                                    NULL);
    assert_json(value, "{\"a\":1,\"b\":-31,\"c\":420,\"d\":true,\"e\":null,\"f\":1.5,\"g\":\"1\","
                       "\"h\":\"hello world\",\"i\":\"10GiB\",\"j\":\"99999999999999999999\","
                       "\"k\":null}");
}

static void
maps_of_text_keep_what_was_written(void)
{
    g_autoptr(json_t) value = parse("config:\n  limits.cpu: 2\n  a: 0644\n  b: yes\n  c:\n"
                                    "  d: 1.50\ndevices:\n  root: {size: 1, type: disk}\n"
                                    "ephemeral: false\ndescription: 12\n",
                                    yaml_text_keys);
    assert_json(value, "{\"config\":{\"limits.cpu\":\"2\",\"a\":\"0644\",\"b\":\"yes\",\"c\":\"\","
                       "\"d\":\"1.50\"},\"devices\":{\"root\":{\"size\":\"1\",\"type\":\"disk\"}},"
                       "\"ephemeral\":false,\"description\":\"12\"}");
}

static void
empty_is_null(void)
{
    g_autoptr(json_t) nothing = parse("", NULL), comment = parse("# only this\n", NULL);
    g_autoptr(json_t) config = parse("config:\n", yaml_text_keys);
    g_assert_true(json_is_null(nothing));
    g_assert_true(json_is_null(comment));
    assert_json(config, "{\"config\":null}");
}

static void
nonsense_is_refused_with_its_line(void)
{
    static const char *const bad[] = {"a: [",         "a: 1\na: 2\n",   "? [a]\n: b\n",
                                      "a: *b\n",      "--- a\n--- b\n", "a: \"\\0\"\n",
                                      "<<: {a: 1}\n", "\t- x:",         "a: \xff\xfe\n"};
    for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
        g_assert_cmpint(parse_fails(bad[i]), ==, HAW_INVALID);
    }
    g_autoptr(GError) error = NULL;
    g_assert_null(yaml_to_json("a: 1\na: 2\n", 10, NULL, &error));
    g_assert_cmpstr(error->message, ==, "YAML line 2: key \"a\" occurs twice");
}

/* Y1 */
static void
bombs_do_not_expand(void)
{
    g_autoptr(GString) laughs = g_string_new("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
    for (int i = 1; i < 12; i++) {
        g_string_append_printf(laughs, "a%d: &a%d [", i, i);
        for (int k = 0; k < 10; k++) {
            g_string_append_printf(laughs, "%s*a%d", k > 0 ? "," : "", i - 1);
        }
        g_string_append(laughs, "]\n");
    }
    g_assert_cmpint(parse_fails(laughs->str), ==, HAW_LIMIT);

    g_autofree char *deep = g_strnfill(5000, '[');
    g_assert_cmpint(parse_fails(deep), ==, HAW_LIMIT);

    g_autofree char *large = g_strnfill(YAML_MAX_BYTES + 1, 'a');
    g_assert_cmpint(parse_fails(large), ==, HAW_LIMIT);
}

static void
aliases_are_copied(void)
{
    g_autoptr(json_t) value = parse("a: &x {k: 1}\nb: *x\n", NULL);
    assert_json(value, "{\"a\":{\"k\":1},\"b\":{\"k\":1}}");
    g_assert_true(json_object_get(value, "a") != json_object_get(value, "b"));
}

/* Y2 */
static void
written_values_read_back_the_same(void)
{
    static const char *const values[] = {
        "{}",
        "[]",
        "\"plain\"",
        "{\"a\":\"true\",\"b\":true,\"c\":\"1\",\"d\":1,\"e\":1.0,\"f\":\"\",\"g\":null,\"h\":\"~"
        "\"}",
        "{\"no\":\"no\",\"1\":[],\"x\":{\"y\":[[1,[2]],{}]}}",
        "{\"s\":\"two\\nlines\\n\",\"t\":\" lead\\nx\",\"u\":\"x\\n\\n\\n\",\"v\":\"a\\r\\nb\"}",
        "{\"s\":\"#!/bin/sh\\n\\techo 'a: b' # c\\n\",\"t\":\"a: b\",\"u\":\"- x\",\"v\":\"*x\"}",
        "[\"\\u0001\",\"\\u00e9\\u20ac\",\"trailing "
        "\",\"\\t\",\"@x\",\"%x\",\"<<\",\"0x1f\",\"1e3\"]",
        "-9223372036854775808",
    };
    for (size_t i = 0; i < G_N_ELEMENTS(values); i++) {
        g_autoptr(json_t) value = json_loads(values[i], JSON_DECODE_ANY, NULL);
        g_assert_nonnull(value);
        g_autofree char *text = yaml_from_json(value);
        g_autoptr(json_t) back = parse(text, NULL);
        g_assert_true(g_str_has_suffix(text, "\n"));
        if (!json_equal(value, back)) {
            g_error("not the same again: %s", text);
        }
    }
}

static void
output_is_what_people_edit(void)
{
    g_autoptr(json_t) value =
        json_loads("{\"config\":{\"limits.cpu\":\"2\",\"user.data\":\"#cloud-config\\na: b\\n\"},"
                   "\"devices\":{},\"profiles\":[\"default\",\"big\"],\"ephemeral\":false,"
                   "\"description\":\"\"}",
                   0, NULL);
    g_autofree char *text = yaml_from_json(value);
    g_assert_cmpstr(text, ==,
                    "config:\n  limits.cpu: \"2\"\n  user.data: |\n    #cloud-config\n"
                    "    a: b\ndevices: {}\nprofiles:\n- default\n- big\n"
                    "ephemeral: false\ndescription: \"\"\n");
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/yaml/scalars-get-their-types", scalars_get_their_types);
    g_test_add_func("/yaml/maps-of-text-keep-what-was-written", maps_of_text_keep_what_was_written);
    g_test_add_func("/yaml/empty-is-null", empty_is_null);
    g_test_add_func("/yaml/nonsense-is-refused-with-its-line", nonsense_is_refused_with_its_line);
    g_test_add_func("/yaml/bombs-do-not-expand", bombs_do_not_expand);
    g_test_add_func("/yaml/aliases-are-copied", aliases_are_copied);
    g_test_add_func("/yaml/written-values-read-back-the-same", written_values_read_back_the_same);
    g_test_add_func("/yaml/output-is-what-people-edit", output_is_what_people_edit);
    return g_test_run();
}
