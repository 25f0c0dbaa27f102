/* A session with an OVSDB server: one fiber that connects, looks, and begins again.
 * O1  One remote at a time, in their order; after a failed or lost one the next. After each round that
 *     found none comes a pause, ever longer.
 * O2  The replica is filled aside and takes the old one's place when it is complete, so that readers see
 *     either the old rows or the new ones.
 * O3  leader_only: a member of a cluster that is not its leader, or has lost the others, is left;
 *     before the fill and whenever it says so later (_Server database).
 * O4  A change that a transaction made is in the replica when its answer is handed out: the server sends
 *     the update first, and jsonrpc.c keeps the order.
 * Not here: encoding of transactions (ovsdb_txn.c), rows (ovsdb_replica.c), their values and the schema
 * (ovsdb_look.c). */
#include "proto/ovsdb.h"

#include <string.h>

#include "base/log.h"
#include "proto/ovsdb_replica.h"
#include "proto/ovsdb_session.h"

enum {
    CONNECT_MS = 5000,
    PROBE_MS = 5000,
    CALL_MS = 60 * 1000,
    TRANSACT_MS = 30 * 1000,

    AGAIN_MS = 50, /* O1: first pause; doubles */
    AGAIN_MOST_MS = 8000,
};

struct Ovsdb {
    char *name, *database;
    char *ca_pem, *cert_pem, *key_pem;
    char **remotes;
    const OvsdbTable *tables; /* borrowed */
    bool leader_only;
    gint64 probe_ms;

    JsonRpc *rpc; /* owned; NULL while not connecting or connected */
    const char *remote;
    OvsdbSchema *schema;   /* of the current replica */
    OvsdbReplica *replica; /* the last complete one */
    ReplicaForm form;
    bool ready;
    char *trouble;
    FiberSignal changed;
    FiberSignal lost; /* the connection ended, or is to be left (O3) */
    guint64 epoch, generation, transactions;
    OvsdbOnRow on_row;
    void *on_row_data;
    GCancellable *stop; /* owned */
    guint refs;
};

static void
db_unref(Ovsdb *db)
{
    if (--db->refs > 0) {
        return;
    }
    jsonrpc_close(db->rpc);
    ovsdb_replica_free(db->replica);
    ovsdb_schema_free(db->schema);
    g_strfreev(db->remotes);
    g_free(db->name);
    g_free(db->database);
    g_free(db->ca_pem);
    g_free(db->cert_pem);
    g_free(db->key_pem);
    g_free(db->trouble);
    g_object_unref(db->stop);
    g_free(db);
}

static void
set_trouble(Ovsdb *db, const char *why)
{
    g_free(db->trouble);
    db->trouble = g_strdup(why);
}

/* ---- what the server tells ---- */

static void
on_row(const OvsdbRow *before, const OvsdbRow *after, void *data)
{
    Ovsdb *db = data;
    db->generation++;
    if (db->on_row != NULL) {
        db->on_row(db, before, after, db->on_row_data);
    }
}

static void
on_ended(const GError *why, void *data)
{
    Ovsdb *db = data;
    set_trouble(db, why->message);
    db->ready = false;
    fiber_signal_all(&db->lost);
    fiber_signal_all(&db->changed);
}

/* O3: a row of _Server's Database. True: stay. */
static bool
may_stay(Ovsdb *db, json_t *row)
{
    json_t *leader = json_object_get(row, "leader");
    json_t *connected = json_object_get(row, "connected");
    const char *model = json_string_value(json_object_get(row, "model"));
    if (g_strcmp0(json_string_value(json_object_get(row, "name")), db->database) != 0 ||
        g_strcmp0(model, "clustered") != 0) {
        return true;
    }
    return !json_is_false(connected) && (!db->leader_only || !json_is_false(leader));
}

static bool
server_update(Ovsdb *db, json_t *updates)
{
    const char *uuid;
    json_t *update;
    json_object_foreach (json_object_get(updates, "Database"), uuid, update) {
        json_t *row = json_object_get(update, "new");
        if (row != NULL && !may_stay(db, row)) {
            return false;
        }
    }
    return true;
}

static void
on_notify(const char *method, json_t *params, void *data)
{
    Ovsdb *db = data;
    const char *id = json_string_value(json_array_get(params, 0));
    json_t *updates = json_array_get(params, 1);
    g_autoptr(GError) why = NULL;
    bool data_update = g_strcmp0(id, "data") == 0 && db->replica != NULL;
    if (g_strcmp0(id, "server") == 0) {
        if (!server_update(db, updates)) {
            jsonrpc_abort(db->rpc, "it is no longer the leader");
        }
    } else if (data_update && db->ready &&
               strcmp(method, db->form == REPLICA_UPDATE ? "update" : "update2") == 0) {
        if (!ovsdb_replica_apply(db->replica, db->form, updates, on_row, db, &why)) {
            jsonrpc_abort(db->rpc, why->message); /* the next fill is whole again */
            return;
        }
        fiber_signal_all(&db->changed);
    }
}

/* ---- connecting ---- */

struct fill {
    Ovsdb *db;
    OvsdbSchema *schema;   /* owned */
    OvsdbReplica *replica; /* owned */
    ReplicaForm form;
};

/* The answer to a monitor request: O2, before any later update is looked at. */
static bool
on_filled(json_t *result, void *data, GError **error)
{
    struct fill *fill = data;
    Ovsdb *db = fill->db;
    if (!ovsdb_replica_apply(fill->replica, fill->form, result, NULL, NULL, error)) {
        return false;
    }
    ovsdb_replica_free(db->replica);
    ovsdb_schema_free(db->schema);
    db->replica = g_steal_pointer(&fill->replica);
    db->schema = g_steal_pointer(&fill->schema);
    db->form = fill->form;
    db->ready = true;
    db->epoch++;
    db->generation++;
    return true;
}

static bool
monitor(struct fill *fill, const char *method, ReplicaForm form, GError **error)
{
    Ovsdb *db = fill->db;
    fill->form = form;
    json_t *params =
        json_pack("[s, s, o]", db->database, "data", ovsdb_replica_request(fill->replica));
    json_t *result = jsonrpc_call(db->rpc, method, params, CALL_MS, on_filled, fill, error);
    json_decref(result);
    return result != NULL;
}

static bool
fill(Ovsdb *db, GError **error)
{
    g_autoptr(OvsdbSchema) schema = NULL;
    g_autoptr(GError) why = NULL;
    json_t *json = jsonrpc_call(db->rpc, "get_schema", json_pack("[s]", db->database), CALL_MS,
                                NULL, NULL, error);
    schema = json != NULL ? ovsdb_schema_parse(json, error) : NULL;
    json_decref(json);
    if (schema == NULL) {
        return false;
    }
    struct fill filling = {.db = db, .replica = ovsdb_replica_new(db->tables, schema)};
    filling.schema = g_steal_pointer(&schema);
    bool ok = monitor(&filling, "monitor_cond", REPLICA_UPDATE2, &why);
    if (!ok && haw_code(why) == HAW_UNSUPPORTED) {
        ok = monitor(&filling, "monitor", REPLICA_UPDATE, error);
    } else if (!ok) {
        g_propagate_error(error, g_steal_pointer(&why));
    }
    ovsdb_replica_free(filling.replica);
    ovsdb_schema_free(filling.schema);
    return ok;
}

struct look {
    Ovsdb *db;
    bool stay;
};

static bool
on_server(json_t *result, void *data, GError **error)
{
    struct look *look = data;
    look->stay = server_update(look->db, result);
    return true;
}

/* O3; servers before 2.9 have no _Server and no clusters. */
static bool
look_at_server(Ovsdb *db, GError **error)
{
    struct look look = {.db = db, .stay = true};
    json_t *params = json_pack("[s, s, {s:[{s:[s, s, s, s]}]}]", "_Server", "server", "Database",
                               "columns", "name", "model", "connected", "leader");
    json_decref(jsonrpc_call(db->rpc, "monitor", params, CALL_MS, on_server, &look, NULL));
    if (!jsonrpc_alive(db->rpc)) {
        return haw_fail(error, HAW_UNAVAILABLE, "%s",
                        db->trouble != NULL ? db->trouble : "the connection was lost");
    }
    return look.stay ||
           haw_fail(error, HAW_UNAVAILABLE, "'%s' is not the leader of the cluster", db->remote);
}

static bool
connect_to(Ovsdb *db, const char *remote, GError **error)
{
    JsonRpcOptions options = {
        .remote = remote,
        .tls = {db->ca_pem, db->cert_pem, db->key_pem},
        .wait_ms = CONNECT_MS,
        .probe_ms = db->probe_ms,
        .cancel = db->stop,
        .notify = on_notify,
        .ended = on_ended,
        .data = db,
    };
    db->remote = remote;
    db->rpc = jsonrpc_open(&options, error);
    return db->rpc != NULL && look_at_server(db, error) && fill(db, error);
}

/* Connected and filled: until it ends. */
static void
stay(Ovsdb *db)
{
    haw_info("ovsdb.connected", KS("database", db->name), KS("remote", db->remote));
    g_clear_pointer(&db->trouble, g_free);
    fiber_signal_all(&db->changed);
    while (db->ready && !g_cancellable_is_cancelled(db->stop)) {
        fiber_signal_wait(&db->lost, -1, db->stop, NULL);
    }
    if (!g_cancellable_is_cancelled(db->stop)) {
        haw_warn("ovsdb.lost", KS("database", db->name), KS("remote", db->remote),
                 KS("why", db->trouble));
    }
}

static void
session_run(void *data)
{
    Ovsdb *db = data;
    gint64 pause_ms = AGAIN_MS;
    guint at = 0;
    guint tried = 0;
    while (!g_cancellable_is_cancelled(db->stop)) {
        g_autoptr(GError) why = NULL;
        bool lost = connect_to(db, db->remotes[at], &why);
        if (lost) {
            pause_ms = AGAIN_MS;
            stay(db);
        } else if (!g_cancellable_is_cancelled(db->stop)) {
            set_trouble(db, why->message);
            haw_debug("ovsdb.no_connection", KS("database", db->name), KS("why", why->message));
        }
        db->ready = false;
        db->remote = NULL;
        g_clear_pointer(&db->rpc, jsonrpc_close);
        fiber_signal_all(&db->changed);
        at = db->remotes[at + 1] != NULL ? at + 1 : 0;
        tried = lost ? 0 : tried + 1;
        if (tried >= g_strv_length(db->remotes)) { /* O1 */
            tried = 0;
            fiber_sleep_ms(pause_ms, db->stop, NULL);
            pause_ms = MIN(pause_ms * 2, AGAIN_MOST_MS);
        }
    }
    db_unref(db);
}

/* ---- the interface ---- */

static char **
split_remotes(const char *remotes)
{
    GStrvBuilder *builder = g_strv_builder_new();
    g_auto(GStrv) parts = g_strsplit(remotes, ",", -1);
    for (char **part = parts; *part != NULL; part++) {
        if (*g_strstrip(*part) != '\0') {
            g_strv_builder_add(builder, *part);
        }
    }
    char **list = g_strv_builder_end(builder);
    g_strv_builder_unref(builder);
    return list;
}

bool
ovsdb_check_remotes(const char *remotes, GError **error)
{
    g_auto(GStrv) list = split_remotes(remotes);
    for (char **remote = list; *remote != NULL; remote++) {
        if (!rpcwire_check(*remote, error)) {
            return false;
        }
    }
    return list[0] != NULL || haw_fail(error, HAW_INVALID, "No remote was given");
}

Ovsdb *
ovsdb_open(const OvsdbOptions *options)
{
    Ovsdb *db = g_new0(Ovsdb, 1);
    db->name = g_strdup(options->name);
    db->database = g_strdup(options->database);
    db->ca_pem = g_strdup(options->ca_pem);
    db->cert_pem = g_strdup(options->cert_pem);
    db->key_pem = g_strdup(options->key_pem);
    db->remotes = split_remotes(options->remotes);
    g_assert(db->remotes[0] != NULL);
    db->tables = options->tables;
    db->leader_only = options->leader_only;
    db->probe_ms = options->probe_ms > 0 ? options->probe_ms : PROBE_MS;
    db->changed = (FiberSignal) FIBER_SIGNAL_INIT;
    db->lost = (FiberSignal) FIBER_SIGNAL_INIT;
    db->stop = g_cancellable_new();
    db->refs = 2;
    fiber_start("ovsdb", session_run, db);
    return db;
}

void
ovsdb_close(Ovsdb *db)
{
    if (db != NULL) {
        db->on_row = NULL;
        db->ready = false;
        g_cancellable_cancel(db->stop);
        jsonrpc_abort(db->rpc, "the session was closed");
        fiber_signal_all(&db->lost);
        fiber_signal_all(&db->changed);
        db_unref(db);
    }
}

bool
ovsdb_wait_ready(Ovsdb *db, gint64 wait_ms, GError **error)
{
    gint64 end_us = g_get_monotonic_time() + wait_ms * 1000;
    db->refs++;
    while (!db->ready && !g_cancellable_is_cancelled(db->stop)) {
        gint64 left_ms = (end_us - g_get_monotonic_time()) / 1000;
        if (left_ms <= 0 || !fiber_signal_wait(&db->changed, left_ms, db->stop, NULL)) {
            break;
        }
    }
    bool ok = db->ready;
    if (!ok && g_cancellable_is_cancelled(db->stop)) {
        haw_fail(error, HAW_CANCELLED, "%s: the session was closed", db->name);
    } else if (!ok) {
        g_autofree char *all = g_strjoinv(",", db->remotes);
        haw_fail(error, HAW_UNAVAILABLE, "%s (%s) is not reachable: %s", db->name, all,
                 db->trouble != NULL ? db->trouble : "no answer yet");
    }
    db_unref(db);
    return ok;
}

bool
ovsdb_ready(const Ovsdb *db)
{
    return db != NULL && db->ready;
}

const char *
ovsdb_remote(const Ovsdb *db)
{
    return db->ready ? db->remote : NULL;
}

const char *
ovsdb_trouble(const Ovsdb *db)
{
    return db->ready ? NULL : db->trouble;
}

guint64
ovsdb_epoch(const Ovsdb *db)
{
    return db->epoch;
}

guint64
ovsdb_generation(const Ovsdb *db)
{
    return db->generation;
}

guint64
ovsdb_transactions(const Ovsdb *db)
{
    return db->transactions;
}

FiberSignal *
ovsdb_changed(Ovsdb *db)
{
    return &db->changed;
}

void
ovsdb_on_row(Ovsdb *db, OvsdbOnRow fn, void *data)
{
    db->on_row = fn;
    db->on_row_data = data;
}

const OvsdbRow *
ovsdb_get(Ovsdb *db, const char *table, const char *uuid)
{
    return ovsdb_replica_get(db->replica, table, uuid);
}

const OvsdbRow *
ovsdb_find(Ovsdb *db, const char *table, const char *field, const char *value)
{
    return ovsdb_replica_find(db->replica, table, field, value);
}

GPtrArray *
ovsdb_list(Ovsdb *db, const char *table, const char *field, const char *value)
{
    return ovsdb_replica_list(db->replica, table, field, value);
}

const GPtrArray *
ovsdb_peek(Ovsdb *db, const char *table, const char *field, const char *value)
{
    return ovsdb_replica_peek(db->replica, table, field, value);
}

/* ---- for ovsdb_txn.c and ovsdb_look.c ---- */

Ovsdb *
ovsdb_session_ref(Ovsdb *db)
{
    db->refs++;
    return db;
}

void
ovsdb_session_unref(Ovsdb *db)
{
    db_unref(db);
}

const char *
ovsdb_session_name(const Ovsdb *db)
{
    return db->name;
}

const OvsdbSchema *
ovsdb_session_schema(const Ovsdb *db)
{
    return db->schema;
}

const OvsdbTable *
ovsdb_session_tables(const Ovsdb *db)
{
    return db->tables;
}

json_t *
ovsdb_session_transact(Ovsdb *db, json_t *operations, GError **error)
{
    json_t *params = json_pack("[s]", db->database);
    json_array_extend(params, operations);
    json_decref(operations);
    if (!db->ready) {
        json_decref(params);
        haw_fail(error, HAW_UNAVAILABLE, "%s: not connected", db->name);
        return NULL;
    }
    db->transactions++;
    return jsonrpc_call(db->rpc, "transact", params, TRANSACT_MS, NULL, NULL, error);
}
