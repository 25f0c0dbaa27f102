/* ovsdb_schema.h: types of OVSDB columns, and values between the wire and plain form (ovsdb.h).
 * Threads: any. */
#pragma once
#include "base/error.h"
#include <jansson.h>

typedef enum { ATOM_NONE, ATOM_INTEGER, ATOM_REAL, ATOM_BOOLEAN, ATOM_STRING, ATOM_UUID } AtomType;

typedef struct {
    char *name;
    AtomType key, value;           /* value is NONE but for maps */
    char *key_ref, *value_ref;     /* tables, or NULL */
    bool key_strong, value_strong; /* references */
    guint min, max;                /* max G_MAXUINT: unlimited */
    json_t *fallback;              /* what the server leaves out */
} OvsdbColumn;

typedef struct {
    char *name;
    bool root;
    GHashTable *columns; /* name → OvsdbColumn */
} OvsdbTableSchema;

typedef struct {
    char *version;
    GHashTable *tables; /* name → OvsdbTableSchema */
} OvsdbSchema;

/* From get_schema's answer; CORRUPT. */
OvsdbSchema *ovsdb_schema_parse(json_t *json, GError **error);
void ovsdb_schema_free(OvsdbSchema *schema);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(OvsdbSchema, ovsdb_schema_free)
const OvsdbTableSchema *ovsdb_schema_table(const OvsdbSchema *schema, const char *table);
/* _uuid is one, too. */
const OvsdbColumn *ovsdb_schema_column(const OvsdbTableSchema *table, const char *column);

/* Exactly one value, and no map. */
bool ovsdb_column_single(const OvsdbColumn *column);
/* New references, NULL with CORRUPT (decode) or INVALID. */
json_t *ovsdb_column_decode(const OvsdbColumn *column, json_t *wire, GError **error);
json_t *ovsdb_column_encode(const OvsdbColumn *column, json_t *plain, GError **error);
json_t *ovsdb_column_normal(const OvsdbColumn *column, json_t *plain, GError **error);
/* 'plain' with a "modify" of monitor_cond (on the wire) applied; a new reference. */
json_t *ovsdb_column_patch(const OvsdbColumn *column, json_t *plain, json_t *wire, GError **error);
