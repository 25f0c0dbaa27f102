/* Rows of address forwards. Called by agent/net/forward.c and forward_api.c. */
#include "agent/state/forwards.h"

struct query {
    gint64 network_id;
    const char *listen; /* NULL: any */
    GPtrArray *list;
};

void
forwardrow_free(ForwardRow *row)
{
    if (row != NULL) {
        g_free(row->listen);
        g_free(row->description);
        json_decref(row->config);
        json_decref(row->ports);
        g_free(row);
    }
}

static bool
list_tx(DbTx *tx, void *data, GError **error)
{
    struct query *query = data;
    g_autoptr(DbRows) rows =
        db_query(tx, error,
                 "SELECT id, network_id, listen_address, description, config, ports"
                 " FROM network_forwards WHERE (? = 0 OR network_id = ?)"
                 " AND (? IS NULL OR listen_address = ?) ORDER BY listen_address",
                 "iiss", query->network_id, query->network_id, query->listen, query->listen);
    while (rows != NULL && db_next(rows)) {
        const char *ports = db_text(rows, 5);
        ForwardRow *row = g_new0(ForwardRow, 1);
        row->id = db_int(rows, 0);
        row->network_id = db_int(rows, 1);
        row->listen = g_strdup(db_text(rows, 2));
        row->description = g_strdup(db_text(rows, 3));
        row->config = db_json(rows, 4);
        row->ports = ports != NULL ? json_loads(ports, 0, NULL) : NULL;
        if (!json_is_array(row->ports)) {
            json_decref(row->ports);
            row->ports = json_array();
        }
        g_ptr_array_add(query->list, row);
    }
    return rows != NULL && db_rows_ok(rows, error);
}

static GPtrArray *
list(Db *db, gint64 network_id, const char *listen, GError **error)
{
    g_autoptr(GPtrArray) found =
        g_ptr_array_new_with_free_func((GDestroyNotify) (void (*)(void)) forwardrow_free);
    struct query query = {.network_id = network_id, .listen = listen, .list = found};
    return db_read(db, list_tx, &query, error) ? g_steal_pointer(&found) : NULL;
}

GPtrArray *
forwardrow_list(Db *db, gint64 network_id, GError **error)
{
    return list(db, network_id, NULL, error);
}

ForwardRow *
forwardrow_load(Db *db, gint64 network_id, const char *listen, GError **error)
{
    g_autoptr(GPtrArray) found = list(db, network_id, listen, error);
    if (found == NULL) {
        return NULL;
    }
    if (found->len == 0) {
        haw_fail(error, HAW_NOT_FOUND, "Network forward not found");
        return NULL;
    }
    return g_ptr_array_steal_index(found, 0);
}

static bool
insert_tx(DbTx *tx, void *data, GError **error)
{
    ForwardRow *row = data;
    if (!db_exec(tx, error,
                 "INSERT INTO network_forwards (network_id, listen_address, description, config,"
                 " ports) VALUES (?, ?, ?, ?, ?)",
                 "issjj", row->network_id, row->listen, row->description, row->config,
                 row->ports)) {
        return false;
    }
    row->id = db_last_id(tx);
    return true;
}

bool
forwardrow_insert(Db *db, ForwardRow *row, GError **error)
{
    return db_write(db, insert_tx, row, error);
}

static bool
update_tx(DbTx *tx, void *data, GError **error)
{
    const ForwardRow *row = data;
    return db_exec(tx, error,
                   "UPDATE network_forwards SET description = ?, config = ?, ports = ?"
                   " WHERE id = ?",
                   "sjji", row->description, row->config, row->ports, row->id);
}

bool
forwardrow_update(Db *db, const ForwardRow *row, GError **error)
{
    return db_write(db, update_tx, (void *) (guintptr) row, error);
}

static bool
delete_tx(DbTx *tx, void *data, GError **error)
{
    return db_exec(tx, error, "DELETE FROM network_forwards WHERE id = ?", "i", *(gint64 *) data);
}

bool
forwardrow_delete(Db *db, gint64 id, GError **error)
{
    return db_write(db, delete_tx, &id, error);
}
