/* ctl/out.c: O1, O2; tables byte for byte. */
#include "ctl/json.h"
#include "ctl/out.h"

#include <string.h>

static const char *const headers[] = {"NAME", "IPV4", NULL};

static OutTable *
sample(void)
{
    OutTable *table = out_table_new(headers);
    out_table_add(table, "c10");
    out_table_add(table, "10.0.0.5 (eth0)\n10.0.0.6 (eth1)");
    out_table_add(table, "c2");
    out_table_add(table, NULL);
    return table;
}

static void
assert_text(const OutTable *table, const char *format, const char *want)
{
    g_autofree char *text = out_table_text(table, format);
    g_assert_cmpstr(text, ==, want);
}

static void
table_is_boxed_and_keeps_lines(void)
{
    g_autoptr(OutTable) table = sample();
    assert_text(table, "table",
                "+------+-----------------+\n"
                "| NAME |      IPV4       |\n"
                "+------+-----------------+\n"
                "| c10  | 10.0.0.5 (eth0) |\n"
                "|      | 10.0.0.6 (eth1) |\n"
                "+------+-----------------+\n"
                "| c2   |                 |\n"
                "+------+-----------------+\n");
}

static void
compact_has_no_trailing_blanks(void)
{
    g_autoptr(OutTable) table = sample();
    assert_text(table, "compact",
                "  NAME  IPV4\n"
                "  c10   10.0.0.5 (eth0)\n"
                "        10.0.0.6 (eth1)\n"
                "  c2\n");
}

static void
csv_quotes_what_needs_it(void)
{
    g_autoptr(OutTable) table = out_table_new(headers);
    out_table_add(table, "say \"hi\", you");
    out_table_add(table, "a\nb");
    out_table_add(table, "plain");
    out_table_add(table, "");
    assert_text(table, "csv", "\"say \"\"hi\"\", you\",\"a\nb\"\nplain,\n");
}

static void
rows_sort_as_people_count(void)
{
    g_autoptr(OutTable) table = sample();
    out_table_sort(table);
    assert_text(table, "csv", "c2,\nc10,\"10.0.0.5 (eth0)\n10.0.0.6 (eth1)\"\n");
}

/* O2 */
static void
wide_and_control_characters_do_not_break_columns(void)
{
    g_autoptr(OutTable) table = out_table_new(headers);
    out_table_add(table, "日本");
    out_table_add(table, "e\xcc\x81");
    out_table_add(table, "\033[31mred\a");
    out_table_add(table, "\xff");
    assert_text(table, "table",
                "+---------+------+\n"
                "|  NAME   | IPV4 |\n"
                "+---------+------+\n"
                "| 日本    | e\xcc\x81    |\n"
                "+---------+------+\n"
                "| [31mred | \xef\xbf\xbd    |\n"
                "+---------+------+\n");
}

static void
empty_table_shows_its_columns(void)
{
    g_autoptr(OutTable) table = out_table_new(headers);
    assert_text(table, "table", "+------+------+\n| NAME | IPV4 |\n+------+------+\n");
    assert_text(table, "csv", "");
}

static void
unknown_format_is_refused(void)
{
    g_autoptr(OutTable) table = sample();
    g_autoptr(GError) error = NULL;
    g_assert_false(out_print(table, NULL, "xml", &error));
    g_assert_cmpint(haw_code(error), ==, HAW_INVALID);
}

static void
sizes_and_times_read_well(void)
{
    static const struct {
        gint64 bytes;
        const char *text;
    } sizes[] = {{0, "0B"},
                 {1023, "1023B"},
                 {1024, "1.00KiB"},
                 {1536 * 1024, "1.50MiB"},
                 {G_MAXINT64, "8.00EiB"}};
    for (size_t i = 0; i < G_N_ELEMENTS(sizes); i++) {
        g_autofree char *text = out_bytes(sizes[i].bytes);
        g_assert_cmpstr(text, ==, sizes[i].text);
    }
    g_autofree char *time = out_time("2026-11-22T13:17:26.010Z");
    g_autofree char *never = out_time("0001-01-01T00:00:00Z");
    g_autofree char *nonsense = out_time("soon");
    g_assert_cmpstr(time, ==, "2026/11/22 13:17 UTC");
    g_assert_cmpstr(never, ==, "");
    g_assert_cmpstr(nonsense, ==, "");
}

static void
settings_are_sorted_and_the_rest_is_not(void)
{
    g_autoptr(json_t) value = json_loads(
        "{\"z\":1,\"config\":{\"b\":\"2\",\"a\":\"1\"},\"a\":{\"y\":1,\"x\":2}}", 0, NULL);
    g_autofree char *text = out_yaml_text(value);
    g_assert_cmpstr(text, ==, "z: 1\nconfig:\n  a: \"1\"\n  b: \"2\"\na:\n  y: 1\n  x: 2\n");
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/out/table-is-boxed-and-keeps-lines", table_is_boxed_and_keeps_lines);
    g_test_add_func("/out/compact-has-no-trailing-blanks", compact_has_no_trailing_blanks);
    g_test_add_func("/out/csv-quotes-what-needs-it", csv_quotes_what_needs_it);
    g_test_add_func("/out/rows-sort-as-people-count", rows_sort_as_people_count);
    g_test_add_func("/out/wide-and-control-characters-do-not-break-columns",
                    wide_and_control_characters_do_not_break_columns);
    g_test_add_func("/out/empty-table-shows-its-columns", empty_table_shows_its_columns);
    g_test_add_func("/out/unknown-format-is-refused", unknown_format_is_refused);
    g_test_add_func("/out/sizes-and-times-read-well", sizes_and_times_read_well);
    g_test_add_func("/out/settings-are-sorted-and-the-rest-is-not",
                    settings_are_sorted_and_the_rest_is_not);
    return g_test_run();
}
