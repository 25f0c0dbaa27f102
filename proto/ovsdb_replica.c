/* Rows of a monitor.
 * R1  A row's 'columns' is never changed in place: a change makes a new object, which shares the values
 *     that stayed. Who keeps a reference keeps that moment.
 * R2  An index is made when it is first asked for and follows every change from then on.
 * R3  What the server leaves out (defaults, in monitor_cond) is filled in: every watched column is
 *     there.
 * Called by ovsdb.c. */
#include "proto/ovsdb_replica.h"

#include <string.h>

struct index {
    char *field;        /* owned: "name", "external_ids:key" */
    char *column;       /* owned */
    const char *key;    /* into 'field' behind the colon; NULL for a plain column */
    GHashTable *values; /* text → GPtrArray of borrowed rows */
};

struct table {
    const char *name; /* borrowed from the caller's list */
    const OvsdbTableSchema *schema;
    GPtrArray *columns; /* const OvsdbColumn, borrowed */
    GHashTable *rows;   /* uuid (in the row) → OvsdbRow, owned */
    GPtrArray *indexes; /* struct index, owned */
};

struct OvsdbReplica {
    GHashTable *tables; /* name → struct table, owned */
};

static void
row_free(gpointer pointer)
{
    OvsdbRow *row = pointer;
    json_decref(row->columns);
    g_free(row);
}

static void
index_free(gpointer pointer)
{
    struct index *index = pointer;
    g_hash_table_unref(index->values);
    g_free(index->field);
    g_free(index->column);
    g_free(index);
}

static void
table_free(gpointer pointer)
{
    struct table *table = pointer;
    g_ptr_array_unref(table->indexes);
    g_hash_table_unref(table->rows);
    g_ptr_array_unref(table->columns);
    g_free(table);
}

static int
by_name(gconstpointer a, gconstpointer b)
{
    return strcmp((*(const OvsdbColumn *const *) a)->name, (*(const OvsdbColumn *const *) b)->name);
}

static void
watch_columns(struct table *table, const char *const *columns)
{
    if (columns == NULL) {
        GHashTableIter iter;
        gpointer column;
        g_hash_table_iter_init(&iter, table->schema->columns);
        while (g_hash_table_iter_next(&iter, NULL, &column)) {
            if (((OvsdbColumn *) column)->name[0] != '_') {
                g_ptr_array_add(table->columns, column);
            }
        }
        g_ptr_array_sort(table->columns, by_name);
        return;
    }
    for (; *columns != NULL; columns++) {
        const OvsdbColumn *column = ovsdb_schema_column(table->schema, *columns);
        if (column != NULL) {
            g_ptr_array_add(table->columns, (gpointer) column);
        }
    }
}

OvsdbReplica *
ovsdb_replica_new(const OvsdbTable *tables, const OvsdbSchema *schema)
{
    OvsdbReplica *replica = g_new0(OvsdbReplica, 1);
    replica->tables = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, table_free);
    for (; tables->table != NULL; tables++) {
        const OvsdbTableSchema *known = ovsdb_schema_table(schema, tables->table);
        if (known == NULL) {
            continue;
        }
        struct table *table = g_new0(struct table, 1);
        table->name = tables->table;
        table->schema = known;
        table->columns = g_ptr_array_new();
        table->rows = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, row_free);
        table->indexes = g_ptr_array_new_with_free_func(index_free);
        watch_columns(table, tables->columns);
        g_hash_table_replace(replica->tables, (gpointer) table->name, table);
    }
    return replica;
}

void
ovsdb_replica_free(OvsdbReplica *replica)
{
    if (replica != NULL) {
        g_hash_table_unref(replica->tables);
        g_free(replica);
    }
}

json_t *
ovsdb_replica_request(const OvsdbReplica *replica)
{
    json_t *request = json_object();
    GHashTableIter iter;
    gpointer pointer;
    g_hash_table_iter_init(&iter, replica->tables);
    while (g_hash_table_iter_next(&iter, NULL, &pointer)) {
        const struct table *table = pointer;
        json_t *columns = json_array();
        for (guint i = 0; i < table->columns->len; i++) {
            const OvsdbColumn *column = g_ptr_array_index(table->columns, i);
            json_array_append_new(columns, json_string(column->name));
        }
        json_object_set_new(request, table->name, json_pack("[{s:o}]", "columns", columns));
    }
    return request;
}

/* ---- indexes ---- */

static void
index_one(struct index *index, const char *text, OvsdbRow *row, bool add)
{
    GPtrArray *rows = g_hash_table_lookup(index->values, text);
    if (add) {
        if (rows == NULL) {
            rows = g_ptr_array_new();
            g_hash_table_insert(index->values, g_strdup(text), rows);
        }
        g_ptr_array_add(rows, row);
    } else if (rows != NULL) {
        g_ptr_array_remove_fast(rows, row);
        if (rows->len == 0) {
            g_hash_table_remove(index->values, text);
        }
    }
}

static void
index_row(struct index *index, OvsdbRow *row, json_t *columns, bool add)
{
    json_t *value = json_object_get(columns, index->column);
    if (index->key != NULL) {
        value = json_object_get(value, index->key);
    }
    size_t i;
    json_t *element;
    if (json_is_string(value)) {
        index_one(index, json_string_value(value), row, add);
    } else if (json_is_array(value)) {
        json_array_foreach (value, i, element) {
            if (json_is_string(element)) {
                index_one(index, json_string_value(element), row, add);
            }
        }
    }
}

static struct index *
index_get(struct table *table, const char *field)
{
    for (guint i = 0; i < table->indexes->len; i++) {
        struct index *index = g_ptr_array_index(table->indexes, i);
        if (strcmp(index->field, field) == 0) {
            return index;
        }
    }
    struct index *index = g_new0(struct index, 1);
    index->field = g_strdup(field);
    const char *colon = strchr(index->field, ':');
    index->key = colon != NULL ? colon + 1 : NULL;
    index->column =
        colon != NULL ? g_strndup(field, (gsize) (colon - index->field)) : g_strdup(field);
    index->values =
        g_hash_table_new_full(g_str_hash, g_str_equal, g_free, (GDestroyNotify) g_ptr_array_unref);
    g_ptr_array_add(table->indexes, index);
    GHashTableIter iter;
    gpointer row;
    g_hash_table_iter_init(&iter, table->rows);
    while (g_hash_table_iter_next(&iter, NULL, &row)) {
        index_row(index, row, ((OvsdbRow *) row)->columns, true);
    }
    return index;
}

/* R2 */
static void
index_change(struct table *table, OvsdbRow *row, json_t *before, json_t *after)
{
    for (guint i = 0; i < table->indexes->len; i++) {
        struct index *index = g_ptr_array_index(table->indexes, i);
        json_t *was = json_object_get(before, index->column);
        if (before != NULL && after != NULL && was == json_object_get(after, index->column)) {
            continue; /* R1: the very same value */
        }
        if (before != NULL) {
            index_row(index, row, before, false);
        }
        if (after != NULL) {
            index_row(index, row, after, true);
        }
    }
}

/* ---- changes ---- */

struct change {
    ReplicaOnRow on_row;
    void *data;
};

static void
put_row(struct table *table, const char *uuid, json_t *columns /* stolen */, struct change change)
{
    OvsdbRow *row = g_hash_table_lookup(table->rows, uuid);
    if (row == NULL) {
        row = g_new0(OvsdbRow, 1);
        row->table = table->name;
        g_strlcpy(row->uuid, uuid, sizeof row->uuid);
        row->columns = columns;
        g_hash_table_insert(table->rows, row->uuid, row);
        index_change(table, row, NULL, columns);
        if (change.on_row != NULL) {
            change.on_row(NULL, row, change.data);
        }
        return;
    }
    OvsdbRow before = *row;
    row->columns = columns;
    index_change(table, row, before.columns, columns);
    if (change.on_row != NULL) {
        change.on_row(&before, row, change.data);
    }
    json_decref(before.columns);
}

static void
drop_row(struct table *table, const char *uuid, struct change change)
{
    OvsdbRow *row = g_hash_table_lookup(table->rows, uuid);
    if (row == NULL) {
        return;
    }
    index_change(table, row, row->columns, NULL);
    g_hash_table_steal(table->rows, uuid);
    if (change.on_row != NULL) {
        change.on_row(row, NULL, change.data);
    }
    row_free(row);
}

/* R3: a whole row from the wire; NULL with CORRUPT. */
static json_t *
whole_row(const struct table *table, json_t *wire, GError **error)
{
    json_t *columns = json_object();
    for (guint i = 0; i < table->columns->len; i++) {
        const OvsdbColumn *column = g_ptr_array_index(table->columns, i);
        json_t *value = json_object_get(wire, column->name);
        json_t *plain = value != NULL ? ovsdb_column_decode(column, value, error)
                                      : json_incref(column->fallback);
        if (plain == NULL) {
            haw_push(error, "%s", table->name);
            json_decref(columns);
            return NULL;
        }
        json_object_set_new(columns, column->name, plain);
    }
    return columns;
}

/* The row with a "modify" on top; NULL with CORRUPT. */
static json_t *
patched_row(const struct table *table, const OvsdbRow *row, json_t *wire, GError **error)
{
    json_t *columns = json_copy(row->columns); /* R1 */
    const char *name;
    json_t *value;
    json_object_foreach (wire, name, value) {
        const OvsdbColumn *column = ovsdb_schema_column(table->schema, name);
        json_t *now = json_object_get(columns, name);
        if (column == NULL || now == NULL) {
            continue; /* not watched */
        }
        json_t *plain = ovsdb_column_patch(column, now, value, error);
        if (plain == NULL) {
            haw_push(error, "%s", table->name);
            json_decref(columns);
            return NULL;
        }
        json_object_set_new(columns, name, plain);
    }
    return columns;
}

static bool
apply_update(struct table *table, const char *uuid, json_t *update, struct change change,
             GError **error)
{
    json_t *after = json_object_get(update, "new");
    if (after == NULL || json_is_null(after)) {
        drop_row(table, uuid, change);
        return true;
    }
    json_t *columns = whole_row(table, after, error);
    if (columns != NULL) {
        put_row(table, uuid, columns, change);
    }
    return columns != NULL;
}

static bool
apply_update2(struct table *table, const char *uuid, json_t *update, struct change change,
              GError **error)
{
    json_t *whole = json_object_get(update, "initial");
    json_t *modify = json_object_get(update, "modify");
    if (whole == NULL) {
        whole = json_object_get(update, "insert");
    }
    if (json_object_get(update, "delete") != NULL) {
        drop_row(table, uuid, change);
        return true;
    }
    const OvsdbRow *row = g_hash_table_lookup(table->rows, uuid);
    if (whole == NULL && (modify == NULL || row == NULL)) {
        return haw_fail(error, HAW_CORRUPT, "%s: change of unknown row %s", table->name, uuid);
    }
    json_t *columns =
        whole != NULL ? whole_row(table, whole, error) : patched_row(table, row, modify, error);
    if (columns != NULL) {
        put_row(table, uuid, columns, change);
    }
    return columns != NULL;
}

bool
ovsdb_replica_apply(OvsdbReplica *replica, ReplicaForm form, json_t *updates, ReplicaOnRow on_row,
                    void *data, GError **error)
{
    struct change change = {on_row, data};
    const char *name, *uuid;
    json_t *rows, *update;
    if (!json_is_object(updates)) {
        return haw_fail(error, HAW_CORRUPT, "table updates are no object");
    }
    json_object_foreach (updates, name, rows) {
        struct table *table = g_hash_table_lookup(replica->tables, name);
        if (table == NULL) {
            continue;
        }
        json_object_foreach (rows, uuid, update) {
            if (strlen(uuid) != 36) {
                return haw_fail(error, HAW_CORRUPT, "%s: no uuid: '%.64s'", name, uuid);
            }
            if (!(form == REPLICA_UPDATE ? apply_update : apply_update2)(table, uuid, update,
                                                                         change, error)) {
                return false;
            }
        }
    }
    return true;
}

/* ---- look-ups ---- */

static struct table *
find_table(OvsdbReplica *replica, const char *name)
{
    return replica != NULL ? g_hash_table_lookup(replica->tables, name) : NULL;
}

const OvsdbRow *
ovsdb_replica_get(OvsdbReplica *replica, const char *table, const char *uuid)
{
    struct table *found = find_table(replica, table);
    return found != NULL ? g_hash_table_lookup(found->rows, uuid) : NULL;
}

static int
by_uuid(gconstpointer a, gconstpointer b)
{
    return strcmp((*(const OvsdbRow *const *) a)->uuid, (*(const OvsdbRow *const *) b)->uuid);
}

GPtrArray *
ovsdb_replica_list(OvsdbReplica *replica, const char *table, const char *field, const char *value)
{
    struct table *found = find_table(replica, table);
    GPtrArray *list = g_ptr_array_new();
    if (found == NULL) {
        return list;
    }
    if (field == NULL) {
        GHashTableIter iter;
        gpointer row;
        g_hash_table_iter_init(&iter, found->rows);
        while (g_hash_table_iter_next(&iter, NULL, &row)) {
            g_ptr_array_add(list, row);
        }
    } else {
        GPtrArray *rows = g_hash_table_lookup(index_get(found, field)->values, value);
        for (guint i = 0; rows != NULL && i < rows->len; i++) {
            g_ptr_array_add(list, g_ptr_array_index(rows, i));
        }
    }
    g_ptr_array_sort(list, by_uuid);
    return list;
}

const GPtrArray *
ovsdb_replica_peek(OvsdbReplica *replica, const char *table, const char *field, const char *value)
{
    struct table *found = find_table(replica, table);
    return found != NULL ? g_hash_table_lookup(index_get(found, field)->values, value) : NULL;
}

const OvsdbRow *
ovsdb_replica_find(OvsdbReplica *replica, const char *table, const char *field, const char *value)
{
    const GPtrArray *rows = ovsdb_replica_peek(replica, table, field, value);
    const OvsdbRow *first = NULL;
    for (guint i = 0; rows != NULL && i < rows->len; i++) {
        const OvsdbRow *row = g_ptr_array_index(rows, i);
        if (first == NULL || strcmp(row->uuid, first->uuid) < 0) {
            first = row;
        }
    }
    return first;
}
