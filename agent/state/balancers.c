/* Rows of load balancers. Called by agent/net/ovn_lb.c and balancer_api.c. */
#include "agent/state/balancers.h"

struct query {
    gint64 network_id;
    const char *listen; /* NULL: any */
    GPtrArray *list;
};

void
balancerrow_free(BalancerRow *row)
{
    if (row != NULL) {
        g_free(row->listen);
        g_free(row->description);
        json_decref(row->config);
        json_decref(row->backends);
        json_decref(row->ports);
        g_free(row);
    }
}

/* A column with a JSON list; what is none reads as an empty one. */
static json_t *
list_of(DbRows *rows, int column)
{
    const char *text = db_text(rows, column);
    json_t *list = text != NULL ? json_loads(text, 0, NULL) : NULL;
    if (!json_is_array(list)) {
        json_decref(list);
        list = json_array();
    }
    return list;
}

static bool
list_tx(DbTx *tx, void *data, GError **error)
{
    struct query *query = data;
    g_autoptr(DbRows) rows =
        db_query(tx, error,
                 "SELECT id, network_id, listen_address, description, config, backends, ports"
                 " FROM network_load_balancers WHERE (? = 0 OR network_id = ?)"
                 " AND (? IS NULL OR listen_address = ?) ORDER BY network_id, listen_address",
                 "iiss", query->network_id, query->network_id, query->listen, query->listen);
    while (rows != NULL && db_next(rows)) {
        BalancerRow *row = g_new0(BalancerRow, 1);
        row->id = db_int(rows, 0);
        row->network_id = db_int(rows, 1);
        row->listen = g_strdup(db_text(rows, 2));
        row->description = g_strdup(db_text(rows, 3));
        row->config = db_json(rows, 4);
        row->backends = list_of(rows, 5);
        row->ports = list_of(rows, 6);
        g_ptr_array_add(query->list, row);
    }
    return rows != NULL && db_rows_ok(rows, error);
}

static GPtrArray *
list(Db *db, gint64 network_id, const char *listen, GError **error)
{
    g_autoptr(GPtrArray) found =
        g_ptr_array_new_with_free_func((GDestroyNotify) (void (*)(void)) balancerrow_free);
    struct query query = {.network_id = network_id, .listen = listen, .list = found};
    return db_read(db, list_tx, &query, error) ? g_steal_pointer(&found) : NULL;
}

GPtrArray *
balancerrow_list(Db *db, gint64 network_id, GError **error)
{
    return list(db, network_id, NULL, error);
}

BalancerRow *
balancerrow_load(Db *db, gint64 network_id, const char *listen, GError **error)
{
    g_autoptr(GPtrArray) found = list(db, network_id, listen, error);
    if (found == NULL) {
        return NULL;
    }
    if (found->len == 0) {
        haw_fail(error, HAW_NOT_FOUND, "Network load balancer not found");
        return NULL;
    }
    return g_ptr_array_steal_index(found, 0);
}

static bool
insert_tx(DbTx *tx, void *data, GError **error)
{
    BalancerRow *row = data;
    if (!db_exec(tx, error,
                 "INSERT INTO network_load_balancers (network_id, listen_address, description,"
                 " config, backends, ports) VALUES (?, ?, ?, ?, ?, ?)",
                 "issjjj", row->network_id, row->listen, row->description, row->config,
                 row->backends, row->ports)) {
        return false;
    }
    row->id = db_last_id(tx);
    return true;
}

bool
balancerrow_insert(Db *db, BalancerRow *row, GError **error)
{
    return db_write(db, insert_tx, row, error);
}

static bool
update_tx(DbTx *tx, void *data, GError **error)
{
    const BalancerRow *row = data;
    return db_exec(tx, error,
                   "UPDATE network_load_balancers SET description = ?, config = ?, backends = ?,"
                   " ports = ? WHERE id = ?",
                   "sjjji", row->description, row->config, row->backends, row->ports, row->id);
}

bool
balancerrow_update(Db *db, const BalancerRow *row, GError **error)
{
    return db_write(db, update_tx, (void *) (guintptr) row, error);
}

static bool
delete_tx(DbTx *tx, void *data, GError **error)
{
    return db_exec(tx, error, "DELETE FROM network_load_balancers WHERE id = ?", "i",
                   *(gint64 *) data);
}

bool
balancerrow_delete(Db *db, gint64 id, GError **error)
{
    return db_write(db, delete_tx, &id, error);
}
