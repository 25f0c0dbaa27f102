/* out.h: what goes to stdout: tables in five formats, YAML of one object, sizes and times as people
 * read them. Threads: any. */
#pragma once
#include "base/error.h"
#include <jansson.h>

typedef struct OutTable OutTable;

/* Upper-case column names as given, ends with NULL. */
OutTable *out_table_new(const char *const *headers);
void out_table_free(OutTable *table);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(OutTable, out_table_free)
/* Fills cells from left to right, row by row; NULL is empty. A cell may have several lines. */
void out_table_add(OutTable *table, const char *cell);
void out_table_addf(OutTable *table, const char *format, ...) G_GNUC_PRINTF(2, 3);
/* Rows in natural order of their columns from the first on: "c2" before "c10". */
void out_table_sort(OutTable *table);
guint out_table_rows(const OutTable *table);
/* "table", "compact" or "csv"; caller frees. */
char *out_table_text(const OutTable *table, const char *format);

/* Prints in any of the formats: json and yaml show 'body', what the server said. INVALID for an
 * unknown format. */
bool out_print(const OutTable *table, const json_t *body, const char *format, GError **error);
void out_yaml(const json_t *value);
char *out_yaml_text(const json_t *value); /* caller frees */
void out_json(const json_t *value);

/* "1.50GiB"; caller frees. */
char *out_bytes(gint64 bytes);
/* "2026/11/22 12:21 UTC" of RFC 3339, "" for never; caller frees. */
char *out_time(const char *rfc3339);
/* The text under a key, "" for anything else; borrowed. */
const char *out_get(const json_t *object, const char *key);
/* Strings of an array joined; caller frees. */
char *out_join(const json_t *array, const char *separator);
