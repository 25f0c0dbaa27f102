/* ovsdb_session.h: what ovsdb_txn.c and ovsdb_look.c may ask of a session. Threads: main loop. */
#pragma once
#include "proto/jsonrpc.h"
#include "proto/ovsdb.h"
#include "proto/ovsdb_schema.h"

const char *ovsdb_session_name(const Ovsdb *db);
/* NULL until it was ready once. */
const OvsdbSchema *ovsdb_session_schema(const Ovsdb *db);
const OvsdbTable *ovsdb_session_tables(const Ovsdb *db);
/* "transact" with these operations (stolen): the array of results, a new reference. Waits for the
 * connection first. Yields. */
json_t *ovsdb_session_transact(Ovsdb *db, json_t *operations, GError **error);
/* Keeps a session's memory, not its connection. */
Ovsdb *ovsdb_session_ref(Ovsdb *db);
void ovsdb_session_unref(Ovsdb *db);
