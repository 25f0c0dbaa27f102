/* Output. Data goes to stdout and nothing else does.
 * O1  json and yaml are the body of the REST answer: scripts may lean on them.
 * O2  A table's cells are as wide as they look: wide and combining characters are counted so, and
 *     control characters (from names, descriptions, logs) never reach the terminal.
 * Called by every cmd_*.c. */
#include "ctl/out.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "ctl/json.h"
#include "proto/yaml.h"

struct OutTable {
    GPtrArray *headers; /* owns */
    GPtrArray *cells;   /* owns: row by row */
};

OutTable *
out_table_new(const char *const *headers)
{
    OutTable *table = g_new0(OutTable, 1);
    table->headers = g_ptr_array_new_with_free_func(g_free);
    table->cells = g_ptr_array_new_with_free_func(g_free);
    for (; *headers != NULL; headers++) {
        g_ptr_array_add(table->headers, g_strdup(*headers));
    }
    return table;
}

void
out_table_free(OutTable *table)
{
    if (table != NULL) {
        g_ptr_array_unref(table->headers);
        g_ptr_array_unref(table->cells);
        g_free(table);
    }
}

/* O2 */
static char *
clean(const char *text)
{
    g_autofree char *valid = g_utf8_make_valid(text, -1);
    GString *out = g_string_new(NULL);
    for (const char *at = valid; *at != '\0'; at = g_utf8_next_char(at)) {
        gunichar c = g_utf8_get_char(at);
        if (c == '\t') {
            g_string_append_c(out, ' ');
        } else if (c == '\n' || !g_unichar_iscntrl(c)) {
            g_string_append_unichar(out, c);
        }
    }
    return g_string_free(out, FALSE);
}

void
out_table_add(OutTable *table, const char *cell)
{
    g_ptr_array_add(table->cells, clean(cell != NULL ? cell : ""));
}

void
out_table_addf(OutTable *table, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_autofree char *text = g_strdup_vprintf(format, args);
    va_end(args);
    out_table_add(table, text);
}

guint
out_table_rows(const OutTable *table)
{
    return table->headers->len > 0 ? table->cells->len / table->headers->len : 0;
}

static const char *
cell_at(const OutTable *table, guint row, guint column)
{
    return table->cells->pdata[row * table->headers->len + column];
}

static int
compare_rows(gconstpointer a, gconstpointer b, void *data)
{
    const OutTable *table = data;
    for (guint column = 0; column < table->headers->len; column++) {
        int order = strverscmp(cell_at(table, *(const guint *) a, column),
                               cell_at(table, *(const guint *) b, column));
        if (order != 0) {
            return order;
        }
    }
    return 0;
}

void
out_table_sort(OutTable *table)
{
    guint rows = out_table_rows(table), columns = table->headers->len;
    g_autofree guint *order = g_new(guint, rows + 1);
    for (guint i = 0; i < rows; i++) {
        order[i] = i;
    }
    g_qsort_with_data(order, (gint) rows, sizeof *order, compare_rows, table);
    GPtrArray *sorted = g_ptr_array_new_with_free_func(g_free);
    for (guint i = 0; i < rows; i++) {
        for (guint column = 0; column < columns; column++) {
            g_ptr_array_add(sorted, g_strdup(cell_at(table, order[i], column)));
        }
    }
    g_ptr_array_unref(table->cells);
    table->cells = sorted;
}

static guint
line_width(const char *text)
{
    guint width = 0;
    for (; *text != '\0' && *text != '\n'; text = g_utf8_next_char(text)) {
        gunichar c = g_utf8_get_char(text);
        width += g_unichar_iszerowidth(c) ? 0 : (g_unichar_iswide(c) ? 2 : 1);
    }
    return width;
}

static guint
cell_width(const char *text)
{
    guint width = 0;
    for (const char *line = text; line != NULL; line = strchr(line, '\n')) {
        line += *line == '\n';
        width = MAX(width, line_width(line));
    }
    return width;
}

static guint
cell_lines(const char *text)
{
    guint lines = 1;
    for (; *text != '\0'; text++) {
        lines += *text == '\n';
    }
    return lines;
}

/* Line 'index' of a cell, padded; 'centred' for headers. */
static void
append_line(GString *out, const char *text, guint index, guint width, bool centred)
{
    for (; index > 0 && text != NULL; index--) {
        text = strchr(text, '\n');
        text = text != NULL ? text + 1 : NULL;
    }
    text = text != NULL ? text : "";
    guint blanks = width - line_width(text), before = centred ? blanks / 2 : 0;
    g_string_append_printf(out, "%*s", (int) before, "");
    g_string_append_len(out, text, (gssize) strcspn(text, "\n"));
    g_string_append_printf(out, "%*s", (int) (blanks - before), "");
}

static void
append_rule(GString *out, const guint *widths, guint columns)
{
    for (guint column = 0; column < columns; column++) {
        g_string_append_c(out, '+');
        for (guint i = 0; i < widths[column] + 2; i++) {
            g_string_append_c(out, '-');
        }
    }
    g_string_append(out, "+\n");
}

static void
append_row(GString *out, const char *const *cells, const guint *widths, guint columns, bool boxed,
           bool centred)
{
    guint lines = 1;
    for (guint column = 0; column < columns; column++) {
        lines = MAX(lines, cell_lines(cells[column]));
    }
    for (guint line = 0; line < lines; line++) {
        for (guint column = 0; column < columns; column++) {
            g_string_append(out, boxed ? "| " : "  ");
            append_line(out, cells[column], line, widths[column], centred);
            g_string_append(out, boxed ? " " : "");
        }
        if (boxed) {
            g_string_append_c(out, '|');
        }
        while (!boxed && out->len > 0 && out->str[out->len - 1] == ' ') {
            g_string_truncate(out, out->len - 1);
        }
        g_string_append_c(out, '\n');
    }
}

static void
append_csv(GString *out, const char *cell)
{
    if (strpbrk(cell, ",\"\n\r") == NULL) {
        g_string_append(out, cell);
        return;
    }
    g_string_append_c(out, '"');
    for (; *cell != '\0'; cell++) {
        g_string_append(out, *cell == '"' ? "\"" : "");
        g_string_append_c(out, *cell);
    }
    g_string_append_c(out, '"');
}

char *
out_table_text(const OutTable *table, const char *format)
{
    GString *out = g_string_new(NULL);
    guint rows = out_table_rows(table), columns = table->headers->len;
    const char *const *cells = (const char *const *) table->cells->pdata;
    if (strcmp(format, "csv") == 0) {
        for (guint i = 0; i < rows * columns; i++) {
            append_csv(out, cells[i]);
            g_string_append_c(out, (i + 1) % columns == 0 ? '\n' : ',');
        }
        return g_string_free(out, FALSE);
    }

    bool boxed = strcmp(format, "table") == 0;
    g_autofree guint *widths = g_new0(guint, columns + 1);
    for (guint column = 0; column < columns; column++) {
        widths[column] = cell_width(table->headers->pdata[column]);
        for (guint row = 0; row < rows; row++) {
            widths[column] = MAX(widths[column], cell_width(cell_at(table, row, column)));
        }
    }
    if (boxed) {
        append_rule(out, widths, columns);
    }
    append_row(out, (const char *const *) table->headers->pdata, widths, columns, boxed, boxed);
    for (guint row = 0; row < rows; row++) {
        if (boxed) {
            append_rule(out, widths, columns);
        }
        append_row(out, cells + row * columns, widths, columns, boxed, false);
    }
    if (boxed) {
        append_rule(out, widths, columns);
    }
    return g_string_free(out, FALSE);
}

bool
out_print(const OutTable *table, const json_t *body, const char *format, GError **error)
{
    static const char *const formats[] = {"table", "compact", "csv", "json", "yaml", NULL};
    if (!g_strv_contains(formats, format)) {
        return haw_fail(error, HAW_INVALID,
                        "unknown format '%s' (choose table, compact, csv, json or yaml)", format);
    }
    if (strcmp(format, "json") == 0) { /* O1 */
        out_json(body);
    } else if (strcmp(format, "yaml") == 0) {
        out_yaml(body);
    } else {
        g_autofree char *text = out_table_text(table, format);
        fputs(text, stdout);
    }
    return true;
}

/* Maps of settings in the order of their keys: what people look for in. */
static void
sort_settings(json_t *value)
{
    const char *key;
    json_t *item;
    json_object_foreach (value, key, item) {
        if (!json_is_object(item) || !g_strv_contains(yaml_text_keys, key)) {
            sort_settings(item);
            continue;
        }
        g_autofree char *text = json_dumps(item, JSON_SORT_KEYS);
        g_autoptr(json_t) sorted = json_loads(text, 0, NULL);
        json_object_clear(item);
        json_object_update(item, sorted);
    }
    size_t index;
    json_array_foreach (value, index, item) {
        sort_settings(item);
    }
}

char *
out_yaml_text(const json_t *value)
{
    g_autoptr(json_t) copy = json_deep_copy(value);
    sort_settings(copy);
    return yaml_from_json(copy);
}

void
out_yaml(const json_t *value)
{
    g_autofree char *text = out_yaml_text(value);
    fputs(text, stdout);
}

void
out_json(const json_t *value)
{
    g_autofree char *text = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
    puts(text != NULL ? text : "null");
}

char *
out_bytes(gint64 bytes)
{
    static const char *const units[] = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    if (bytes < 1024) {
        return g_strdup_printf("%" G_GINT64_FORMAT "B", bytes);
    }
    double value = (double) bytes / 1024;
    size_t unit = 0;
    for (; value >= 1024 && unit + 1 < G_N_ELEMENTS(units); unit++) {
        value /= 1024;
    }
    return g_strdup_printf("%.2f%s", value, units[unit]);
}

char *
out_time(const char *rfc3339)
{
    gint64 real_us = 0;
    if (rfc3339 == NULL || !clock_parse(rfc3339, &real_us) || real_us <= 0) {
        return g_strdup("");
    }
    g_autoptr(GDateTime) time = g_date_time_new_from_unix_utc(real_us / G_USEC_PER_SEC);
    return time != NULL ? g_date_time_format(time, "%Y/%m/%d %H:%M UTC") : g_strdup("");
}

const char *
out_get(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text != NULL ? text : "";
}

char *
out_join(const json_t *array, const char *separator)
{
    GString *out = g_string_new(NULL);
    size_t index;
    json_t *item;
    json_array_foreach (array, index, item) {
        if (json_is_string(item)) {
            g_string_append(out, out->len > 0 ? separator : "");
            g_string_append(out, json_string_value(item));
        }
    }
    return g_string_free(out, FALSE);
}
