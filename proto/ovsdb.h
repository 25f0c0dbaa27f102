/* ovsdb.h: a session with an OVSDB server (RFC 7047): a replica of the rows that are watched, and
 * transactions. It reconnects by itself, ever more slowly, through all remotes; of a clustered
 * database it can insist on the leader.
 *
 * Values in plain form, everywhere in this interface, by the column's type in the schema:
 *   exactly one    string, integer, real, true/false
 *   set, optional  array, sorted, without duplicates ([] when empty; writers may give the bare value,
 *                  or null for empty)
 *   map            object; integer and uuid keys as their text
 *   uuid           its text; writers may give {"ref": "name"} for a row that the same transaction inserts
 * Threads: main loop only. What is borrowed lives until the caller next yields. */
#pragma once
#include "base/error.h"
#include "base/fiber.h"
#include <jansson.h>

typedef struct Ovsdb Ovsdb;

/* One table of the replica. */
typedef struct {
    const char *table;
    const char *const *columns; /* ends with NULL; NULL: all columns */
} OvsdbTable;

typedef struct {
    const char *name;    /* for logs and errors: "northbound database" */
    const char *remotes; /* "unix:/run/x.sock,tcp:10.0.0.1:6641,ssl:[2001:db8::1]:6641" */
    const char *database;
    bool leader_only;         /* of a clustered database; any other passes */
    const OvsdbTable *tables; /* ends with a table NULL; lives as long as the session */
    /* PEM texts for ssl: remotes, else NULL. Without a ca_pem no ssl: remote is connected to. */
    const char *ca_pem, *cert_pem, *key_pem;
    gint64 probe_ms; /* an echo after so much silence, and the end after twice; 0: 5 s */
} OvsdbOptions;

/* Is this a list of remotes? INVALID names what is wrong. */
bool ovsdb_check_remotes(const char *remotes, GError **error);
/* Begins to connect in the background; everything in 'options' but tables is copied. */
Ovsdb *ovsdb_open(const OvsdbOptions *options);
/* Ends the session; what waits for it fails with CANCELLED or UNAVAILABLE. NULL is fine. */
void ovsdb_close(Ovsdb *db);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Ovsdb, ovsdb_close)

/* Until the replica is complete: UNAVAILABLE, with the reason of the last attempt, after wait_ms.
 * Yields. */
bool ovsdb_wait_ready(Ovsdb *db, gint64 wait_ms, GError **error);
bool ovsdb_ready(const Ovsdb *db);
/* "unix:/run/…" that is connected to, else NULL; borrowed. */
const char *ovsdb_remote(const Ovsdb *db);
/* Why the last attempt failed, or NULL; borrowed. */
const char *ovsdb_trouble(const Ovsdb *db);
/* Grows with each connection that became ready, with each change of the replica, and with each
 * transaction sent, respectively. */
guint64 ovsdb_epoch(const Ovsdb *db);
guint64 ovsdb_generation(const Ovsdb *db);
guint64 ovsdb_transactions(const Ovsdb *db);
/* Announced whenever the replica changed, became ready or was lost. */
FiberSignal *ovsdb_changed(Ovsdb *db);

/* ---- the replica ---- */
typedef struct OvsdbRow {
    const char *table; /* borrowed from the session's options */
    char uuid[37];
    json_t
        *columns; /* column → plain value; never changed in place, so it may be kept by reference */
} OvsdbRow;

/* Each row that changes: 'before' is NULL for a new row, 'after' for one that is gone; both are
 * borrowed. Not called for the first fill after a connection. Must not yield. */
typedef void (*OvsdbOnRow)(Ovsdb *db, const OvsdbRow *before, const OvsdbRow *after, void *data);
void ovsdb_on_row(Ovsdb *db, OvsdbOnRow fn, void *data);

/* While the connection is lost the replica keeps what it last knew. */
const OvsdbRow *ovsdb_get(Ovsdb *db, const char *table, const char *uuid);
/* The rows where 'field' is 'value': a column ("name"; of a set, any element) or a key in a map column
 * ("external_ids:hawser-key"). Indexed from the first look on. find: the first by uuid, or NULL. */
const OvsdbRow *ovsdb_find(Ovsdb *db, const char *table, const char *field, const char *value);
/* Borrowed OvsdbRows in order of uuid; the array is the caller's. NULL field: every row. */
GPtrArray *ovsdb_list(
    Ovsdb *db, const char *table, const char *field,
    const char *
        value); /* As ovsdb_list(), in no order and borrowed until the replica's next change; NULL for none. */
const GPtrArray *ovsdb_peek(Ovsdb *db, const char *table, const char *field, const char *value);

/* A string column, or the only element of a set of strings; NULL when empty. */
const char *ovsdb_text(const OvsdbRow *row, const char *column);
/* A string value of a map column; NULL when missing. */
const char *ovsdb_map_text(const OvsdbRow *row, const char *column, const char *key);
gint64 ovsdb_int(const OvsdbRow *row, const char *column); /* 0 when missing */
bool ovsdb_true(const OvsdbRow *row, const char *column);
bool ovsdb_has(const OvsdbRow *row, const char *column, const char *element);

/* ---- the schema, once it was ready ---- */
bool ovsdb_has_column(const Ovsdb *db, const char *table, const char *column);
bool ovsdb_is_root(const Ovsdb *db, const char *table);
/* Table that a uuid column refers to (its keys; of a map, its values when the keys do not), or NULL. */
const char *ovsdb_ref_table(const Ovsdb *db, const char *table, const char *column);
/* The watched columns that refer to rows of 'table'; caller frees the array. */
typedef struct {
    const char *table, *column;
    bool strong, many; /* keeps the row alive; may hold more than one */
} OvsdbReference;
GArray *ovsdb_references(const Ovsdb *db, const char *table);
/* 'value' as the replica would show it; a new reference. {"ref": …} stays. INVALID when it does not
 * suit the column. */
json_t *ovsdb_normal(const Ovsdb *db, const char *table, const char *column, json_t *value,
                     GError **error);

/* ---- transactions ---- */
typedef struct OvsdbTxn OvsdbTxn;
OvsdbTxn *ovsdb_txn_new(Ovsdb *db);
void ovsdb_txn_free(OvsdbTxn *txn);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(OvsdbTxn, ovsdb_txn_free)
guint ovsdb_txn_size(const OvsdbTxn *txn); /* operations */
/* Each returns the index of its operation, for its result. Rows and values are stolen, in plain form. */
guint ovsdb_txn_insert(OvsdbTxn *txn, const char *table,
                       const char *ref /* an identifier; NULL: no name */, json_t *row);
guint ovsdb_txn_update(OvsdbTxn *txn, const char *table, const char *uuid, json_t *row);
/* 'mutator': "insert" or "delete" with elements, pairs, or keys to delete; "+=" with a number. */
guint ovsdb_txn_mutate(OvsdbTxn *txn, const char *table, const char *uuid, const char *column,
                       const char *mutator, json_t *value);
guint ovsdb_txn_delete(OvsdbTxn *txn, const char *table, const char *uuid);
/* The whole is refused (CONFLICT) unless the row is there and its columns are as 'row' ({}: any). */
guint ovsdb_txn_expect(OvsdbTxn *txn, const char *table, const char *uuid, json_t *row);
/* … unless no row's 'column' includes 'value' (stolen): pairs of a map, elements of a set. */
guint ovsdb_txn_expect_none(OvsdbTxn *txn, const char *table, const char *column, json_t *value);
/* The value of 'column' after the operations before it: see ovsdb_txn_int(). */
guint ovsdb_txn_select(OvsdbTxn *txn, const char *table, const char *uuid, const char *column);
void ovsdb_txn_comment(OvsdbTxn *txn, const char *text); /* into the server's log */
/* Sends it, waits for the answer: one round trip. All or nothing. The replica has the changes when it
 * returns true. Errors name the table, the row and the server's words: CONFLICT an expectation did not
 * hold, EXISTS a unique index, INVALID another constraint, DENIED a read-only or guarded database,
 * UNAVAILABLE the connection was lost: whether it took place is unknown, a new look at the replica
 * tells. Yields. */
bool ovsdb_txn_commit(OvsdbTxn *txn, GError **error);
/* After a commit: the uuid of an insert (borrowed), the rows that an update, mutate or delete met, the
 * number that a select read. */
const char *ovsdb_txn_uuid(const OvsdbTxn *txn, guint op);
gint64 ovsdb_txn_count(const OvsdbTxn *txn, guint op);
gint64 ovsdb_txn_int(const OvsdbTxn *txn, guint op);
