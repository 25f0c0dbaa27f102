/* What rows say, and what the schema says of them: readings that change nothing.
 * L1  A value of the wrong type, or none, reads as NULL, 0 or false: a database of another release has other columns.
 * Called by the agent and by hawser-dpd on rows that the session (ovsdb.c) has handed out. */
#include <string.h>

#include "proto/ovsdb.h"
#include "proto/ovsdb_session.h"

/* ---- values ---- */

const char *
ovsdb_text(const OvsdbRow *row, const char *column)
{
    json_t *value = json_object_get(row->columns, column);
    return json_string_value(
        json_is_array(value) && json_array_size(value) == 1 ? json_array_get(value, 0) : value);
}

const char *
ovsdb_map_text(const OvsdbRow *row, const char *column, const char *key)
{
    return json_string_value(json_object_get(json_object_get(row->columns, column), key));
}

gint64
ovsdb_int(const OvsdbRow *row, const char *column)
{
    json_t *value = json_object_get(row->columns, column);
    return json_integer_value(json_is_array(value) ? json_array_get(value, 0) : value);
}

bool
ovsdb_true(const OvsdbRow *row, const char *column)
{
    json_t *value = json_object_get(row->columns, column);
    return json_is_true(json_is_array(value) ? json_array_get(value, 0) : value);
}

bool
ovsdb_has(const OvsdbRow *row, const char *column, const char *element)
{
    json_t *value = json_object_get(row->columns, column);
    size_t i;
    json_t *one;
    json_array_foreach (value, i, one) {
        if (json_is_string(one) && strcmp(json_string_value(one), element) == 0) {
            return true;
        }
    }
    return json_is_string(value) && strcmp(json_string_value(value), element) == 0;
}

/* ---- the schema ---- */

bool
ovsdb_has_column(const Ovsdb *db, const char *table, const char *column)
{
    return ovsdb_schema_column(ovsdb_schema_table(ovsdb_session_schema(db), table), column) != NULL;
}

bool
ovsdb_is_root(const Ovsdb *db, const char *table)
{
    const OvsdbTableSchema *found = ovsdb_schema_table(ovsdb_session_schema(db), table);
    return found != NULL && found->root;
}

const char *
ovsdb_ref_table(const Ovsdb *db, const char *table, const char *column)
{
    const OvsdbColumn *found =
        ovsdb_schema_column(ovsdb_schema_table(ovsdb_session_schema(db), table), column);
    return found == NULL ? NULL : found->key_ref != NULL ? found->key_ref : found->value_ref;
}

GArray *
ovsdb_references(const Ovsdb *db, const char *table)
{
    GArray *list = g_array_new(FALSE, FALSE, sizeof(OvsdbReference));
    for (const OvsdbTable *at = ovsdb_session_tables(db); at->table != NULL; at++) {
        const OvsdbTableSchema *known = ovsdb_schema_table(ovsdb_session_schema(db), at->table);
        GHashTableIter iter;
        gpointer pointer;
        if (known == NULL) {
            continue;
        }
        g_hash_table_iter_init(&iter, known->columns);
        while (g_hash_table_iter_next(&iter, NULL, &pointer)) {
            const OvsdbColumn *column = pointer;
            if (g_strcmp0(column->key_ref, table) == 0) {
                OvsdbReference one = {at->table, column->name, column->key_strong, column->max > 1};
                g_array_append_val(list, one);
            }
        }
    }
    return list;
}

json_t *
ovsdb_normal(const Ovsdb *db, const char *table, const char *column, json_t *value, GError **error)
{
    const OvsdbColumn *found =
        ovsdb_schema_column(ovsdb_schema_table(ovsdb_session_schema(db), table), column);
    if (found == NULL) {
        haw_fail(error, HAW_INVALID, "%s has no table %s with a column '%s'",
                 ovsdb_session_name(db), table, column);
        return NULL;
    }
    json_t *normal = ovsdb_column_normal(found, value, error);
    if (normal == NULL) {
        haw_push(error, "%s", table);
    }
    return normal;
}
