/* Types and values of OVSDB.
 * V1  Plain form has one spelling a value: sets are sorted and have no doubles, maps are objects; so
 *     equal values are json_equal().
 * V2  Bytes from the server are a stranger's: every shape is checked, nothing is assumed. */
#include "proto/ovsdb_schema.h"

#include <stdlib.h>
#include <string.h>

/* ---- the schema ---- */

static void
column_free(gpointer pointer)
{
    OvsdbColumn *column = pointer;
    g_free(column->name);
    g_free(column->key_ref);
    g_free(column->value_ref);
    json_decref(column->fallback);
    g_free(column);
}

static void
table_free(gpointer pointer)
{
    OvsdbTableSchema *table = pointer;
    g_free(table->name);
    g_hash_table_unref(table->columns);
    g_free(table);
}

static AtomType
atom_type(const char *name)
{
    static const char *const names[] = {"", "integer", "real", "boolean", "string", "uuid"};
    for (size_t i = 1; name != NULL && i < G_N_ELEMENTS(names); i++) {
        if (strcmp(names[i], name) == 0) {
            return (AtomType) i;
        }
    }
    return ATOM_NONE;
}

/* "string", or {"type": "uuid", "refTable": "T", "refType": "weak"}. */
static bool
parse_base(json_t *json, AtomType *ret_type, char **ret_ref, bool *ret_strong)
{
    const char *ref = json_string_value(json_object_get(json, "refTable"));
    const char *kind = json_string_value(json_object_get(json, "refType"));
    *ret_type =
        atom_type(json_string_value(json_is_string(json) ? json : json_object_get(json, "type")));
    *ret_ref = g_strdup(ref);
    *ret_strong = ref != NULL && g_strcmp0(kind, "weak") != 0;
    return *ret_type != ATOM_NONE;
}

static json_t *
default_of(const OvsdbColumn *column)
{
    if (column->value != ATOM_NONE) {
        return json_object();
    }
    if (!ovsdb_column_single(column)) {
        return json_array();
    }
    switch (column->key) {
    case ATOM_INTEGER:
        return json_integer(0);
    case ATOM_REAL:
        return json_real(0);
    case ATOM_BOOLEAN:
        return json_false();
    case ATOM_UUID:
        return json_string("00000000-0000-0000-0000-000000000000");
    default:
        return json_string("");
    }
}

static OvsdbColumn *
column_parse(const char *name, json_t *json)
{
    json_t *type = json_object_get(json, "type");
    json_t *max = json_object_get(type, "max");
    json_t *min = json_object_get(type, "min");
    OvsdbColumn *column = g_new0(OvsdbColumn, 1);
    json_t *key = json_is_object(type) ? json_object_get(type, "key") : type;
    json_t *value = json_object_get(type, "value");
    column->name = g_strdup(name);
    column->min = min != NULL ? (guint) json_integer_value(min) : 1;
    column->max = max == NULL           ? 1
                  : json_is_string(max) ? G_MAXUINT
                                        : (guint) json_integer_value(max);
    if (!parse_base(key, &column->key, &column->key_ref, &column->key_strong) ||
        (value != NULL &&
         !parse_base(value, &column->value, &column->value_ref, &column->value_strong))) {
        column_free(column);
        return NULL;
    }
    column->fallback = default_of(column);
    return column;
}

static OvsdbTableSchema *
table_parse(const char *name, json_t *json, bool all_root, GError **error)
{
    OvsdbTableSchema *table = g_new0(OvsdbTableSchema, 1);
    const char *key;
    json_t *value;
    table->name = g_strdup(name);
    table->root = all_root || json_is_true(json_object_get(json, "isRoot"));
    table->columns = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, column_free);
    json_object_foreach (json_object_get(json, "columns"), key, value) {
        OvsdbColumn *column = column_parse(key, value);
        if (column == NULL) {
            haw_fail(error, HAW_CORRUPT, "schema of %s: column '%s' has no known type", name, key);
            table_free(table);
            return NULL;
        }
        g_hash_table_replace(table->columns, column->name, column);
    }
    OvsdbColumn *uuid = g_new0(OvsdbColumn, 1);
    *uuid = (OvsdbColumn){.name = g_strdup("_uuid"), .key = ATOM_UUID, .min = 1, .max = 1};
    uuid->fallback = default_of(uuid);
    g_hash_table_replace(table->columns, uuid->name, uuid);
    return table;
}

/* Schemas of before isRoot have none at all: every table is a root then. */
static bool
names_no_root(json_t *tables)
{
    const char *name;
    json_t *table;
    json_object_foreach (tables, name, table) {
        if (json_object_get(table, "isRoot") != NULL) {
            return false;
        }
    }
    return true;
}

OvsdbSchema *
ovsdb_schema_parse(json_t *json, GError **error)
{
    json_t *tables = json_object_get(json, "tables");
    const char *version = json_string_value(json_object_get(json, "version"));
    const char *name;
    json_t *value;
    if (!json_is_object(tables)) {
        haw_fail(error, HAW_CORRUPT, "the schema has no tables");
        return NULL;
    }
    g_autoptr(OvsdbSchema) schema = g_new0(OvsdbSchema, 1);
    schema->version = g_strdup(version != NULL ? version : "");
    schema->tables = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, table_free);
    bool all_root = names_no_root(tables);
    json_object_foreach (tables, name, value) {
        OvsdbTableSchema *table = table_parse(name, value, all_root, error);
        if (table == NULL) {
            return NULL;
        }
        g_hash_table_replace(schema->tables, table->name, table);
    }
    return g_steal_pointer(&schema);
}

void
ovsdb_schema_free(OvsdbSchema *schema)
{
    if (schema != NULL) {
        g_free(schema->version);
        g_clear_pointer(&schema->tables, g_hash_table_unref);
        g_free(schema);
    }
}

const OvsdbTableSchema *
ovsdb_schema_table(const OvsdbSchema *schema, const char *table)
{
    return schema != NULL ? g_hash_table_lookup(schema->tables, table) : NULL;
}

const OvsdbColumn *
ovsdb_schema_column(const OvsdbTableSchema *table, const char *column)
{
    return table != NULL ? g_hash_table_lookup(table->columns, column) : NULL;
}

bool
ovsdb_column_single(const OvsdbColumn *column)
{
    return column->value == ATOM_NONE && column->min == 1 && column->max == 1;
}

/* ---- atoms ---- */

static bool
is_pair(json_t *wire, const char *tag)
{
    return json_is_array(wire) && json_array_size(wire) == 2 &&
           g_strcmp0(json_string_value(json_array_get(wire, 0)), tag) == 0;
}

/* A new reference, NULL when it is not of the type. */
static json_t *
atom_decode(AtomType type, json_t *wire)
{
    switch (type) {
    case ATOM_INTEGER:
        return json_is_integer(wire) ? json_incref(wire) : NULL;
    case ATOM_REAL:
        return json_is_number(wire) ? json_real(json_number_value(wire)) : NULL;
    case ATOM_BOOLEAN:
        return json_is_boolean(wire) ? json_incref(wire) : NULL;
    case ATOM_STRING:
        return json_is_string(wire) ? json_incref(wire) : NULL;
    case ATOM_UUID:
        return is_pair(wire, "uuid") && json_is_string(json_array_get(wire, 1)) &&
                       json_string_length(json_array_get(wire, 1)) == 36
                   ? json_incref(json_array_get(wire, 1))
                   : NULL;
    default:
        return NULL;
    }
}

static json_t *
atom_encode(AtomType type, json_t *plain)
{
    if (type != ATOM_UUID) {
        return atom_decode(type, plain);
    }
    const char *ref = json_string_value(json_object_get(plain, "ref"));
    if (ref != NULL) {
        return json_pack("[s, s]", "named-uuid", ref);
    }
    return json_is_string(plain) ? json_pack("[s, O]", "uuid", plain) : NULL;
}

static json_t *
atom_normal(AtomType type, json_t *plain)
{
    if (type == ATOM_UUID) {
        return json_is_string(plain) || json_is_string(json_object_get(plain, "ref"))
                   ? json_incref(plain)
                   : NULL;
    }
    return atom_decode(type, plain);
}

/* Keys of objects are text: numbers and uuids travel as such. Caller frees; NULL when it cannot be. */
static char *
key_text(json_t *atom)
{
    if (json_is_string(atom)) {
        return g_strdup(json_string_value(atom));
    }
    return json_is_integer(atom)
               ? g_strdup_printf("%" JSON_INTEGER_FORMAT, json_integer_value(atom))
               : NULL;
}

static json_t *
key_atom(AtomType type, const char *text)
{
    char *end = NULL;
    switch (type) {
    case ATOM_INTEGER: {
        gint64 number = g_ascii_strtoll(text, &end, 10);
        return *text != '\0' && *end == '\0' ? json_integer(number) : NULL;
    }
    case ATOM_STRING:
    case ATOM_UUID:
        return json_string(text);
    default:
        return NULL;
    }
}

static int
compare_atoms(gconstpointer a, gconstpointer b)
{
    json_t *one = *(json_t *const *) a;
    json_t *other = *(json_t *const *) b;
    if (json_is_number(one) && json_is_number(other)) {
        if (json_is_integer(one) && json_is_integer(other)) {
            json_int_t x = json_integer_value(one);
            json_int_t y = json_integer_value(other);
            return (x > y) - (x < y);
        }
        double x = json_number_value(one);
        double y = json_number_value(other);
        return (x > y) - (x < y);
    }
    if (json_is_string(one) && json_is_string(other)) {
        return strcmp(json_string_value(one), json_string_value(other));
    }
    if (json_is_object(one) && json_is_object(other)) { /* {"ref": …} */
        return g_strcmp0(json_string_value(json_object_get(one, "ref")),
                         json_string_value(json_object_get(other, "ref")));
    }
    return (int) json_typeof(one) - (int) json_typeof(other);
}

/* V1: takes the atoms of the array (owned references) into a new JSON array. */
static json_t *
sorted_set(GPtrArray *atoms)
{
    json_t *set = json_array();
    json_t *last = NULL;
    g_ptr_array_sort(atoms, compare_atoms);
    for (guint i = 0; i < atoms->len; i++) {
        json_t *atom = g_ptr_array_index(atoms, i);
        if (last == NULL || compare_atoms(&last, &atom) != 0) {
            json_array_append(set, atom);
        }
        last = atom;
    }
    return set;
}

static void
json_unref(gpointer json)
{
    json_decref(json);
}

static json_t *
invalid(const OvsdbColumn *column, HawCode code, json_t *value, GError **error)
{
    g_autofree char *text = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
    haw_fail(error, code, "column '%s': value %.200s does not suit its type", column->name,
             text != NULL ? text : "(none)");
    return NULL;
}

/* ---- sets ---- */

typedef json_t *(*AtomFn)(AtomType type, json_t *atom);

/* Every element of a JSON array by 'fn' into a sorted set; NULL when one does not suit. */
static json_t *
set_of(const OvsdbColumn *column, json_t *elements, AtomFn fn)
{
    g_autoptr(GPtrArray) atoms = g_ptr_array_new_with_free_func(json_unref);
    size_t i;
    json_t *element;
    json_array_foreach (elements, i, element) {
        json_t *atom = fn(column->key, element);
        if (atom == NULL) {
            return NULL;
        }
        g_ptr_array_add(atoms, atom);
    }
    return sorted_set(atoms);
}

static json_t *
set_decode(const OvsdbColumn *column, json_t *wire)
{
    if (is_pair(wire, "set")) {
        json_t *elements = json_array_get(wire, 1);
        return json_is_array(elements) ? set_of(column, elements, atom_decode) : NULL;
    }
    json_t *atom = atom_decode(column->key, wire);
    return atom != NULL ? json_pack("[o]", atom) : NULL;
}

/* The bare value, null, or an array. */
static json_t *
set_normal(const OvsdbColumn *column, json_t *plain)
{
    if (plain == NULL || json_is_null(plain)) {
        return json_array();
    }
    if (json_is_array(plain)) {
        return set_of(column, plain, atom_normal);
    }
    json_t *atom = atom_normal(column->key, plain);
    return atom != NULL ? json_pack("[o]", atom) : NULL;
}

static json_t *
set_encode(const OvsdbColumn *column, json_t *plain)
{
    json_t *normal = set_normal(column, plain);
    json_t *atoms = json_array();
    size_t i;
    json_t *element;
    json_array_foreach (normal, i, element) {
        json_array_append_new(atoms, atom_encode(column->key, element));
    }
    bool ok = normal != NULL && json_array_size(atoms) == json_array_size(normal);
    json_decref(normal);
    if (!ok) {
        json_decref(atoms);
        return NULL;
    }
    return json_pack("[s, o]", "set", atoms);
}

/* ---- maps ---- */

static json_t *
map_decode(const OvsdbColumn *column, json_t *wire)
{
    if (!is_pair(wire, "map") || !json_is_array(json_array_get(wire, 1))) {
        return NULL;
    }
    json_t *map = json_object();
    size_t i;
    json_t *pair;
    json_array_foreach (json_array_get(wire, 1), i, pair) {
        json_t *key = atom_decode(column->key, json_array_get(pair, 0));
        json_t *value = atom_decode(column->value, json_array_get(pair, 1));
        g_autofree char *text = key_text(key);
        json_decref(key);
        if (text == NULL || value == NULL) {
            json_decref(value);
            json_decref(map);
            return NULL;
        }
        json_object_set_new(map, text, value);
    }
    return map;
}

static json_t *
map_normal(const OvsdbColumn *column, json_t *plain)
{
    json_t *map = json_object();
    const char *key;
    json_t *value;
    if (plain != NULL && !json_is_null(plain) && !json_is_object(plain)) {
        json_decref(map);
        return NULL;
    }
    json_object_foreach (plain, key, value) {
        json_t *atom = atom_normal(column->value, value);
        json_t *name = key_atom(column->key, key);
        json_decref(name);
        if (atom == NULL || name == NULL) {
            json_decref(atom);
            json_decref(map);
            return NULL;
        }
        json_object_set_new(map, key, atom);
    }
    return map;
}

static json_t *
map_encode(const OvsdbColumn *column, json_t *plain)
{
    json_t *pairs = json_array();
    const char *key;
    json_t *value;
    if (plain != NULL && !json_is_null(plain) && !json_is_object(plain)) {
        json_decref(pairs);
        return NULL;
    }
    json_object_foreach (plain, key, value) {
        json_t *name = key_atom(column->key, key);
        json_t *key_wire = name != NULL ? atom_encode(column->key, name) : NULL;
        json_t *value_wire = atom_encode(column->value, value);
        json_decref(name);
        if (key_wire == NULL || value_wire == NULL) {
            json_decref(key_wire);
            json_decref(value_wire);
            json_decref(pairs);
            return NULL;
        }
        json_array_append_new(pairs, json_pack("[o, o]", key_wire, value_wire));
    }
    return json_pack("[s, o]", "map", pairs);
}

/* ---- values ---- */

json_t *
ovsdb_column_decode(const OvsdbColumn *column, json_t *wire, GError **error)
{
    json_t *plain = column->value != ATOM_NONE    ? map_decode(column, wire)
                    : ovsdb_column_single(column) ? atom_decode(column->key, wire)
                                                  : set_decode(column, wire);
    return plain != NULL ? plain : invalid(column, HAW_CORRUPT, wire, error);
}

json_t *
ovsdb_column_encode(const OvsdbColumn *column, json_t *plain, GError **error)
{
    json_t *wire = column->value != ATOM_NONE    ? map_encode(column, plain)
                   : ovsdb_column_single(column) ? atom_encode(column->key, plain)
                                                 : set_encode(column, plain);
    return wire != NULL ? wire : invalid(column, HAW_INVALID, plain, error);
}

json_t *
ovsdb_column_normal(const OvsdbColumn *column, json_t *plain, GError **error)
{
    json_t *normal = column->value != ATOM_NONE    ? map_normal(column, plain)
                     : ovsdb_column_single(column) ? atom_normal(column->key, plain)
                                                   : set_normal(column, plain);
    return normal != NULL ? normal : invalid(column, HAW_INVALID, plain, error);
}

/* Elements of one only: those that the difference has were added or removed. Both are sorted. */
static json_t *
set_patch(json_t *plain, json_t *difference)
{
    json_t *set = json_array();
    size_t i = 0;
    size_t j = 0;
    for (;;) {
        json_t *one = json_array_get(plain, i);
        json_t *other = json_array_get(difference, j);
        if (one == NULL && other == NULL) {
            return set;
        }
        int order = one == NULL ? 1 : other == NULL ? -1 : compare_atoms(&one, &other);
        if (order < 0) {
            json_array_append(set, one);
        } else if (order > 0) {
            json_array_append(set, other);
        }
        i += order <= 0;
        j += order >= 0;
    }
}

/* The same pair again removes it, another value replaces it. */
static json_t *
map_patch(json_t *plain, json_t *difference)
{
    json_t *map = json_copy(plain);
    const char *key;
    json_t *value;
    json_object_foreach (difference, key, value) {
        json_t *now = json_object_get(map, key);
        if (now != NULL && json_equal(now, value)) {
            json_object_del(map, key);
        } else {
            json_object_set(map, key, value);
        }
    }
    return map;
}

json_t *
ovsdb_column_patch(const OvsdbColumn *column, json_t *plain, json_t *wire, GError **error)
{
    json_t *difference = ovsdb_column_decode(column, wire, error);
    if (difference == NULL || column->max == 1) { /* not composite: the new value itself */
        return difference;
    }
    json_t *patched =
        column->value != ATOM_NONE ? map_patch(plain, difference) : set_patch(plain, difference);
    json_decref(difference);
    return patched;
}
