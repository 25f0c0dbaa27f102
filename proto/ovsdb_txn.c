/* Transactions: operations in plain form, encoded by the schema when they are sent.
 * T1  One commit, one "transact" request. It is never sent twice: what a lost connection left open is for
 *     the caller to look at.
 * T2  Each operation remembers what it is about ("insert Logical_Switch 'lxd-net3-ls-int'"), so that the
 *     server's "constraint violation" becomes a sentence.
 * Called by the reconciler, and by whoever writes to the local Open_vSwitch database. */
#include "proto/ovsdb.h"

#include <string.h>

#include "proto/ovsdb_session.h"

enum { READY_MS = 5000 };

typedef enum {
    OP_INSERT,
    OP_UPDATE,
    OP_MUTATE,
    OP_DELETE,
    OP_EXPECT,
    OP_ABSENT,
    OP_SELECT,
    OP_NOTE
} OpKind;

struct op {
    OpKind kind;
    char *table, *uuid, *ref, *column, *word; /* owned; what is used of them is the kind's */
    json_t *value;                            /* owned */
};

struct OvsdbTxn {
    Ovsdb *db;       /* shares its memory */
    GArray *ops;     /* struct op */
    json_t *results; /* owned, after a commit */
};

static void
op_clear(gpointer pointer)
{
    struct op *op = pointer;
    g_free(op->table);
    g_free(op->uuid);
    g_free(op->ref);
    g_free(op->column);
    g_free(op->word);
    json_decref(op->value);
}

OvsdbTxn *
ovsdb_txn_new(Ovsdb *db)
{
    OvsdbTxn *txn = g_new0(OvsdbTxn, 1);
    txn->db = ovsdb_session_ref(db);
    txn->ops = g_array_new(FALSE, TRUE, sizeof(struct op));
    g_array_set_clear_func(txn->ops, op_clear);
    return txn;
}

void
ovsdb_txn_free(OvsdbTxn *txn)
{
    if (txn != NULL) {
        g_array_unref(txn->ops);
        json_decref(txn->results);
        ovsdb_session_unref(txn->db);
        g_free(txn);
    }
}

guint
ovsdb_txn_size(const OvsdbTxn *txn)
{
    return txn->ops->len;
}

static guint
add(OvsdbTxn *txn, struct op op)
{
    g_array_append_val(txn->ops, op);
    return txn->ops->len - 1;
}

guint
ovsdb_txn_insert(OvsdbTxn *txn, const char *table, const char *ref, json_t *row)
{
    return add(
        txn, (struct op){
                 .kind = OP_INSERT, .table = g_strdup(table), .ref = g_strdup(ref), .value = row});
}

guint
ovsdb_txn_update(OvsdbTxn *txn, const char *table, const char *uuid, json_t *row)
{
    return add(txn, (struct op){.kind = OP_UPDATE,
                                .table = g_strdup(table),
                                .uuid = g_strdup(uuid),
                                .value = row});
}

guint
ovsdb_txn_mutate(OvsdbTxn *txn, const char *table, const char *uuid, const char *column,
                 const char *mutator, json_t *value)
{
    return add(txn, (struct op){.kind = OP_MUTATE,
                                .table = g_strdup(table),
                                .uuid = g_strdup(uuid),
                                .column = g_strdup(column),
                                .word = g_strdup(mutator),
                                .value = value});
}

guint
ovsdb_txn_delete(OvsdbTxn *txn, const char *table, const char *uuid)
{
    return add(txn,
               (struct op){.kind = OP_DELETE, .table = g_strdup(table), .uuid = g_strdup(uuid)});
}

guint
ovsdb_txn_expect(OvsdbTxn *txn, const char *table, const char *uuid, json_t *row)
{
    return add(txn, (struct op){.kind = OP_EXPECT,
                                .table = g_strdup(table),
                                .uuid = g_strdup(uuid),
                                .value = row});
}

guint
ovsdb_txn_expect_none(OvsdbTxn *txn, const char *table, const char *column, json_t *value)
{
    return add(txn, (struct op){.kind = OP_ABSENT,
                                .table = g_strdup(table),
                                .column = g_strdup(column),
                                .value = value});
}

guint
ovsdb_txn_select(OvsdbTxn *txn, const char *table, const char *uuid, const char *column)
{
    return add(txn, (struct op){.kind = OP_SELECT,
                                .table = g_strdup(table),
                                .uuid = g_strdup(uuid),
                                .column = g_strdup(column)});
}

void
ovsdb_txn_comment(OvsdbTxn *txn, const char *text)
{
    add(txn, (struct op){.kind = OP_NOTE, .word = g_strdup(text)});
}

/* ---- encoding ---- */

static json_t *
encode_row(const OvsdbTableSchema *table, json_t *row, GError **error)
{
    json_t *wire = json_object();
    const char *name;
    json_t *value;
    json_object_foreach (row, name, value) {
        const OvsdbColumn *column = ovsdb_schema_column(table, name);
        json_t *encoded =
            column != NULL ? ovsdb_column_encode(column, value, error)
                           : (haw_fail(error, HAW_INVALID, "there is no column '%s'", name), NULL);
        if (encoded == NULL) {
            json_decref(wire);
            return NULL;
        }
        json_object_set_new(wire, name, encoded);
    }
    return wire;
}

static json_t *
where_uuid(const char *uuid)
{
    return json_pack("[[s, s, [s, s]]]", "_uuid", "==", "uuid", uuid);
}

/* Keys only, when a map's pairs are to be deleted by key. */
static json_t *
encode_mutation(const OvsdbColumn *column, const struct op *op, GError **error)
{
    if (column->value != ATOM_NONE && json_is_array(op->value)) {
        OvsdbColumn keys = *column;
        keys.value = ATOM_NONE;
        keys.min = 0;
        keys.max = G_MAXUINT;
        return ovsdb_column_encode(&keys, op->value, error);
    }
    if (column->value == ATOM_NONE && strcmp(op->word, "+=") == 0) {
        return json_incref(op->value);
    }
    return ovsdb_column_encode(column, op->value, error);
}

static json_t *
encode_wait(const OvsdbTableSchema *table, const struct op *op, GError **error)
{
    json_t *row = encode_row(table, op->value, error);
    json_t *columns = json_array();
    const char *name;
    json_t *value;
    if (row == NULL) {
        json_decref(columns);
        return NULL;
    }
    if (json_object_size(row) == 0) {
        json_object_set_new(row, "_uuid", json_pack("[s, s]", "uuid", op->uuid));
    }
    json_object_foreach (row, name, value) {
        json_array_append_new(columns, json_string(name));
    }
    return json_pack("{s:s, s:s, s:o, s:o, s:s, s:[o], s:i}", "op", "wait", "table", op->table,
                     "where", where_uuid(op->uuid), "columns", columns, "until", "==", "rows", row,
                     "timeout", 0);
}

static json_t *
encode_mutate(const OvsdbTableSchema *table, const struct op *op, GError **error)
{
    const OvsdbColumn *column = ovsdb_schema_column(table, op->column);
    json_t *value = column != NULL ? encode_mutation(column, op, error) : NULL;
    if (column == NULL) {
        haw_fail(error, HAW_INVALID, "there is no column '%s'", op->column);
    }
    return value != NULL
               ? json_pack("{s:s, s:s, s:o, s:[[s, s, o]]}", "op", "mutate", "table", op->table,
                           "where", where_uuid(op->uuid), "mutations", op->column, op->word, value)
               : NULL;
}

static json_t *
encode_absent(const OvsdbTableSchema *table, const struct op *op, GError **error)
{
    const OvsdbColumn *column = ovsdb_schema_column(table, op->column);
    json_t *value = column != NULL ? ovsdb_column_encode(column, op->value, error) : NULL;
    if (column == NULL) {
        haw_fail(error, HAW_INVALID, "there is no column '%s'", op->column);
    }
    return value != NULL ? json_pack("{s:s, s:s, s:[[s, s, o]], s:[s], s:s, s:[], s:i}", "op",
                                     "wait", "table", op->table, "where", op->column, "includes",
                                     value, "columns", "_uuid", "until", "==", "rows", "timeout", 0)
                         : NULL;
}

static json_t *
encode_op(const OvsdbSchema *schema, const struct op *op, GError **error)
{
    const OvsdbTableSchema *table =
        op->table != NULL ? ovsdb_schema_table(schema, op->table) : NULL;
    json_t *row;
    if (op->table != NULL && table == NULL) {
        haw_fail(error, HAW_INVALID, "there is no table '%s'", op->table);
        return NULL;
    }
    switch (op->kind) {
    case OP_INSERT:
        row = encode_row(table, op->value, error);
        return row != NULL ? json_pack("{s:s, s:s, s:s*, s:o}", "op", "insert", "table", op->table,
                                       "uuid-name", op->ref, "row", row)
                           : NULL;
    case OP_UPDATE:
        row = encode_row(table, op->value, error);
        return row != NULL ? json_pack("{s:s, s:s, s:o, s:o}", "op", "update", "table", op->table,
                                       "where", where_uuid(op->uuid), "row", row)
                           : NULL;
    case OP_MUTATE:
        return encode_mutate(table, op, error);
    case OP_DELETE:
        return json_pack("{s:s, s:s, s:o}", "op", "delete", "table", op->table, "where",
                         where_uuid(op->uuid));
    case OP_EXPECT:
        return encode_wait(table, op, error);
    case OP_ABSENT:
        return encode_absent(table, op, error);
    case OP_SELECT:
        return json_pack("{s:s, s:s, s:o, s:[s]}", "op", "select", "table", op->table, "where",
                         where_uuid(op->uuid), "columns", op->column);
    default:
        return json_pack("{s:s, s:s}", "op", "comment", "comment", op->word);
    }
}

/* ---- what came of it ---- */

/* T2; caller frees. */
static char *
describe(const struct op *op)
{
    static const char *const verbs[] = {"insert", "update", "change", "delete",
                                        "expect", "expect", "read",   "comment"};
    json_t *marks = op->kind == OP_ABSENT ? op->value : json_object_get(op->value, "external_ids");
    const char *name = json_string_value(json_object_get(op->value, "name"));
    const char *key = json_string_value(json_object_get(marks, "hawser-key"));
    const char *label = name != NULL       ? name
                        : key != NULL      ? key
                        : op->uuid != NULL ? op->uuid
                                           : op->ref;
    return g_strdup_printf("%s %s '%s'%s%s", verbs[op->kind], op->table != NULL ? op->table : "",
                           label != NULL ? label : "", op->column != NULL ? " " : "",
                           op->column != NULL ? op->column : "");
}

static HawCode
code_of(const char *word, const char *details)
{
    static const struct {
        const char *word;
        HawCode code;
    } words[] = {
        {"timed out", HAW_CONFLICT},           {"referential integrity violation", HAW_CONFLICT},
        {"constraint violation", HAW_INVALID}, {"domain error", HAW_INVALID},
        {"range error", HAW_INVALID},          {"permission error", HAW_DENIED},
        {"not allowed", HAW_DENIED},           {"not owner", HAW_DENIED},
        {"resources exhausted", HAW_LIMIT},    {"I/O error", HAW_IO},
        {"not leader", HAW_UNAVAILABLE},       {"cluster error", HAW_UNAVAILABLE},
    };
    if (details != NULL && g_str_has_prefix(details, "Transaction causes multiple rows")) {
        return HAW_EXISTS;
    }
    for (size_t i = 0; i < G_N_ELEMENTS(words); i++) {
        if (strcmp(words[i].word, word) == 0) {
            return words[i].code;
        }
    }
    return HAW_FAILED;
}

/* The first error among the results; those behind the operations are of the commit as a whole. */
static bool
check_results(const OvsdbTxn *txn, GError **error)
{
    size_t i;
    json_t *result;
    json_array_foreach (txn->results, i, result) {
        const char *word = json_string_value(json_object_get(result, "error"));
        const char *details = json_string_value(json_object_get(result, "details"));
        if (word == NULL) {
            continue;
        }
        const struct op *op = i < txn->ops->len ? &g_array_index(txn->ops, struct op, i) : NULL;
        g_autofree char *what = op != NULL ? describe(op) : g_strdup("commit");
        bool expectation = op != NULL && (op->kind == OP_EXPECT || op->kind == OP_ABSENT);
        return expectation && strcmp(word, "timed out") == 0
                   ? haw_fail(error, HAW_CONFLICT, "%s: %s: somebody else changed it meanwhile",
                              ovsdb_session_name(txn->db), what)
                   : haw_fail(error, code_of(word, details), "%s: %s: %s%s%s",
                              ovsdb_session_name(txn->db), what, word, details != NULL ? ": " : "",
                              details != NULL ? details : "");
    }
    return json_array_size(txn->results) >= txn->ops->len ||
           haw_fail(error, HAW_CORRUPT, "%s: the answer has too few results",
                    ovsdb_session_name(txn->db));
}

bool
ovsdb_txn_commit(OvsdbTxn *txn, GError **error)
{
    if (!ovsdb_wait_ready(txn->db, READY_MS, error)) {
        return false;
    }
    const OvsdbSchema *schema = ovsdb_session_schema(txn->db);
    json_t *operations = json_array();
    for (guint i = 0; i < txn->ops->len; i++) {
        const struct op *op = &g_array_index(txn->ops, struct op, i);
        json_t *wire = encode_op(schema, op, error);
        if (wire == NULL) {
            g_autofree char *what = describe(op);
            json_decref(operations);
            return haw_push(error, "%s: %s", ovsdb_session_name(txn->db), what);
        }
        json_array_append_new(operations, wire);
    }
    json_decref(txn->results);
    txn->results = ovsdb_session_transact(txn->db, operations, error);
    if (txn->results == NULL) {
        return haw_push(error, "%s", ovsdb_session_name(txn->db));
    }
    return check_results(txn, error);
}

const char *
ovsdb_txn_uuid(const OvsdbTxn *txn, guint op)
{
    json_t *uuid = json_object_get(json_array_get(txn->results, op), "uuid");
    return json_string_value(json_array_get(uuid, 1));
}

gint64
ovsdb_txn_count(const OvsdbTxn *txn, guint op)
{
    return json_integer_value(json_object_get(json_array_get(txn->results, op), "count"));
}

gint64
ovsdb_txn_int(const OvsdbTxn *txn, guint op)
{
    const struct op *asked = &g_array_index(txn->ops, struct op, op);
    json_t *rows = json_object_get(json_array_get(txn->results, op), "rows");
    return json_integer_value(json_object_get(json_array_get(rows, 0), asked->column));
}
