/* Any bytes as what an OVSDB server sends: framing, JSON-RPC, schema, table updates of both forms. Never a
 * crash; what came in pieces is what came whole; a replica that took updates still answers. */
#include "proto/jsonscan.h"
#include "proto/ovsdb_replica.h"

#include <stdint.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static const OvsdbTable tables[] = {{"Parent", NULL}, {"Child", NULL}, {NULL, NULL}};

static const char schema_text[] =
    "{\"version\":\"1.0.0\",\"tables\":{\"Parent\":{\"isRoot\":true,\"columns\":{"
    "\"name\":{\"type\":\"string\"},\"on\":{\"type\":\"boolean\"},\"ratio\":{\"type\":\"real\"},"
    "\"number\":{\"type\":{\"key\":\"integer\",\"min\":0,\"max\":1}},"
    "\"words\":{\"type\":{\"key\":\"string\",\"min\":0,\"max\":\"unlimited\"}},"
    "\"children\":{\"type\":{\"key\":{\"type\":\"uuid\",\"refTable\":\"Child\"},\"min\":0,\"max\":"
    "\"unlimited\"}},"
    "\"queues\":{\"type\":{\"key\":\"integer\",\"value\":{\"type\":\"uuid\",\"refTable\":\"Child\"}"
    ","
    "\"min\":0,\"max\":\"unlimited\"}},"
    "\"external_ids\":{\"type\":{\"key\":\"string\",\"value\":\"string\",\"min\":0,\"max\":"
    "\"unlimited\"}}}},\"Child\":{\"columns\":{\"name\":{\"type\":\"string\"}}}}}";

/* All objects of the stream, fed 'step' bytes at a time; the last error ends it. */
static json_t *
scan(const uint8_t *bytes, size_t size, size_t step)
{
    g_autoptr(JsonScan) scanner = jsonscan_new(64 * 1024);
    json_t *list = json_array();
    for (size_t at = 0; at < size; at += step) {
        jsonscan_feed(scanner, bytes + at, MIN(step, size - at));
        for (;;) {
            g_autoptr(GError) error = NULL;
            json_t *object = NULL;
            if (!jsonscan_next(scanner, &object, &error)) {
                g_assert_nonnull(error);
                json_array_append_new(list, json_string("broken"));
                return list;
            }
            if (object == NULL) {
                break;
            }
            g_assert_true(json_is_object(object));
            json_array_append_new(list, object);
        }
    }
    return list;
}

/* Every row has every column, in plain form; an index finds what a walk finds. */
static void
check(OvsdbReplica *replica, const OvsdbSchema *schema)
{
    for (const OvsdbTable *table = tables; table->table != NULL; table++) {
        const OvsdbTableSchema *known = ovsdb_schema_table(schema, table->table);
        g_autoptr(GPtrArray) rows = ovsdb_replica_list(replica, table->table, NULL, NULL);
        for (guint i = 0; i < rows->len; i++) {
            const OvsdbRow *row = g_ptr_array_index(rows, i);
            const char *column;
            json_t *value;
            json_object_foreach (row->columns, column, value) {
                g_autoptr(GError) error = NULL;
                json_t *normal =
                    ovsdb_column_normal(ovsdb_schema_column(known, column), value, &error);
                g_assert_no_error(error);
                g_assert_true(json_equal(normal, value));
                json_decref(normal);
            }
            const char *name = ovsdb_text(row, "name");
            g_assert_nonnull(ovsdb_replica_find(replica, table->table, "name", name));
            g_assert_true(ovsdb_replica_get(replica, table->table, row->uuid) == row);
        }
    }
}

static void
apply(OvsdbReplica *replica, const OvsdbSchema *schema, json_t *message)
{
    const char *method = json_string_value(json_object_get(message, "method"));
    json_t *updates = json_object_get(message, "result");
    ReplicaForm form = g_strcmp0(method, "update") == 0 ? REPLICA_UPDATE : REPLICA_UPDATE2;
    g_autoptr(GError) error = NULL;
    if (updates == NULL) {
        updates = json_array_get(json_object_get(message, "params"), 1);
    }
    if (!ovsdb_replica_apply(replica, form, updates, NULL, NULL, &error)) {
        g_assert_nonnull(error);
    }
    check(replica, schema);
}

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    json_t *text = json_loads(schema_text, 0, NULL);
    g_autoptr(OvsdbSchema) schema = ovsdb_schema_parse(text, NULL);
    g_autoptr(OvsdbReplica) replica = ovsdb_replica_new(tables, schema);
    json_t *whole = scan(bytes, size, MAX(size, 1));
    json_t *pieces = scan(bytes, size, 7);
    size_t i;
    json_t *message;
    json_decref(text);
    if (!json_equal(whole, pieces)) {
        g_error("pieces differ from the whole");
    }
    json_array_foreach (whole, i, message) {
        g_autoptr(GError) error = NULL;
        g_autoptr(OvsdbSchema) sent =
            ovsdb_schema_parse(json_object_get(message, "result"), &error);
        g_assert_true((sent != NULL) != (error != NULL));
        apply(replica, schema, message);
    }
    json_decref(whole);
    json_decref(pieces);
    return 0;
}
