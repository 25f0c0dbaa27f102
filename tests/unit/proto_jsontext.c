/* proto/jsontext.c: J1. */
#include "proto/jsontext.h"

#include <string.h>

G_DEFINE_AUTOPTR_CLEANUP_FUNC(json_t, json_decref)

static void
assert_as_jansson(const json_t *value)
{
    g_autoptr(GString) text = g_string_new("before ");
    g_autofree char *want = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
    jsontext_append(text, value);
    g_assert_true(g_str_has_prefix(text->str, "before "));
    g_assert_cmpstr(text->str + strlen("before "), ==, want);
}

static void
every_kind_is_written_as_jansson_writes_it(void)
{
    g_autoptr(json_t) value =
        json_pack("{s:s,s:i,s:I,s:I,s:f,s:f,s:b,s:b,s:n,s:[],s:{},s:[i,[s,{s:i}]]}", "text", "x",
                  "small", -7, "largest", G_MAXINT64, "least", G_MININT64, "real", 0.1, "whole",
                  3.0, "yes", 1, "no", 0, "null", "list", "map", "deep", 0, "a", "b", 10);
    g_assert_nonnull(value);
    assert_as_jansson(value);
}

static void
every_character_is_escaped_as_jansson_escapes_it(void)
{
    char all[0x80] = "";
    for (int i = 1; i < 0x80; i++) {
        all[i - 1] = (char) i;
    }
    g_autoptr(json_t) ascii = json_stringn(all, 0x7f);
    g_autoptr(json_t) with_nul = json_stringn("a\0b", 3);
    g_autoptr(json_t) wide = json_string("Grüße, \"世界\" 🐧\\");
    g_autoptr(json_t) as_name = json_pack("{s:s}", "quote\" tab\t ü", "");
    assert_as_jansson(ascii);
    assert_as_jansson(with_nul);
    assert_as_jansson(wide);
    assert_as_jansson(as_name);
}

static json_t *
random_value(GRand *rand, int depth)
{
    char text[12];
    int kind = g_rand_int_range(rand, 0, depth > 0 ? 7 : 5);
    json_t *all = kind == 5 ? json_array() : json_object();
    for (size_t i = 0; i + 1 < sizeof text; i++) {
        text[i] = (char) g_rand_int_range(rand, 1, 0x80);
    }
    text[sizeof text - 1] = '\0';
    for (int i = g_rand_int_range(rand, 0, 4); kind >= 5 && i > 0; i--) {
        if (kind == 5) {
            json_array_append_new(all, random_value(rand, depth - 1));
        } else {
            text[0] = (char) ('a' + i);
            json_object_set_new(all, text, random_value(rand, depth - 1));
        }
    }
    if (kind >= 5) {
        return all;
    }
    json_decref(all);
    return kind == 0 ? json_string(text)
           : kind == 1
               ? json_integer((json_int_t) ((guint64) g_rand_int(rand) << 32 | g_rand_int(rand)))
           : kind == 2 ? json_real(g_rand_double_range(rand, -1e12, 1e12))
           : kind == 3 ? json_boolean(g_rand_boolean(rand))
                       : json_null();
}

static void
any_tree_is_written_as_jansson_writes_it(void)
{
    g_autoptr(GRand) rand = g_rand_new_with_seed(4);
    for (int i = 0; i < 2000; i++) {
        g_autoptr(json_t) value = random_value(rand, 4);
        assert_as_jansson(value);
    }
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/jsontext/every-kind-is-written-as-jansson-writes-it",
                    every_kind_is_written_as_jansson_writes_it);
    g_test_add_func("/jsontext/every-character-is-escaped-as-jansson-escapes-it",
                    every_character_is_escaped_as_jansson_escapes_it);
    g_test_add_func("/jsontext/any-tree-is-written-as-jansson-writes-it",
                    any_tree_is_written_as_jansson_writes_it);
    return g_test_run();
}
