/* Rows of live moves. Written by agent/move/livedecide.c, which has the rules. */
#include "agent/state/live_moves.h"

struct query {
    const LiveMove *move;
    const char *uuid, *role;
    GPtrArray *list;
};

void
live_moves_free(LiveMove *move)
{
    if (move != NULL) {
        g_free(move->uuid);
        g_free(move->role);
        g_free(move->phase);
        g_free(move->secret);
        json_decref(move->peer);
        g_free(move);
    }
}

static bool
put_tx(DbTx *tx, void *data, GError **error)
{
    const LiveMove *move = ((struct query *) data)->move;
    return db_exec(
        tx, error,
        "INSERT OR REPLACE INTO live_moves (uuid, role, phase, instance_id, secret, peer)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        "sssisj", move->uuid, move->role, move->phase, move->instance_id, move->secret, move->peer);
}

bool
live_moves_put(Db *db, const LiveMove *move, GError **error)
{
    struct query query = {.move = move};
    return db_write(db, put_tx, &query, error);
}

static bool
list_tx(DbTx *tx, void *data, GError **error)
{
    struct query *query = data;
    g_autoptr(DbRows) rows =
        db_query(tx, error,
                 "SELECT uuid, role, phase, instance_id, secret, peer FROM live_moves"
                 " WHERE (? IS NULL OR uuid = ?) AND (? IS NULL OR role = ?)",
                 "ssss", query->uuid, query->uuid, query->role, query->role);
    while (rows != NULL && db_next(rows)) {
        LiveMove *move = g_new0(LiveMove, 1);
        move->uuid = g_strdup(db_text(rows, 0));
        move->role = g_strdup(db_text(rows, 1));
        move->phase = g_strdup(db_text(rows, 2));
        move->instance_id = db_int(rows, 3);
        move->secret = g_strdup(db_text(rows, 4));
        move->peer = db_json(rows, 5);
        g_ptr_array_add(query->list, move);
    }
    return rows != NULL && db_rows_ok(rows, error);
}

static GPtrArray *
list(Db *db, const char *uuid, const char *role, GError **error)
{
    g_autoptr(GPtrArray) found = g_ptr_array_new_with_free_func((GDestroyNotify) live_moves_free);
    struct query query = {.uuid = uuid, .role = role, .list = found};
    return db_read(db, list_tx, &query, error) ? g_steal_pointer(&found) : NULL;
}

GPtrArray *
live_moves_list(Db *db, GError **error)
{
    return list(db, NULL, NULL, error);
}

LiveMove *
live_moves_find(Db *db, const char *uuid, const char *role, GError **error)
{
    g_autoptr(GPtrArray) found = list(db, uuid, role, error);
    return found != NULL && found->len > 0 ? g_ptr_array_steal_index(found, 0) : NULL;
}

static bool
drop_tx(DbTx *tx, void *data, GError **error)
{
    const struct query *query = data;
    return db_exec(tx, error, "DELETE FROM live_moves WHERE uuid = ? AND role = ?", "ss",
                   query->uuid, query->role);
}

bool
live_moves_drop(Db *db, const char *uuid, const char *role, GError **error)
{
    struct query query = {.uuid = uuid, .role = role};
    return db_write(db, drop_tx, &query, error);
}
