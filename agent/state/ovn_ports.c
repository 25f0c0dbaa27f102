/* Rows of the ports that NICs have on ovn networks. Written by agent/net/nic_ovn.c, read by whoever
 * builds northbound rows. */
#include "agent/state/ovn_ports.h"

#define COLUMNS                                                                                    \
    "SELECT o.id, o.network_id, o.instance_id, p.name, i.name, o.device, o.lsp, o.mac, o.config,"  \
    " o.running FROM ovn_ports o JOIN instances i ON i.id = o.instance_id"                         \
    " JOIN projects p ON p.id = i.project_id"

struct query {
    gint64 id;
    const char *device;
    bool running;
    const OvnPort *port;
    GPtrArray *list;
};

void
ovn_ports_free(OvnPort *port)
{
    if (port != NULL) {
        g_free(port->project);
        g_free(port->inst);
        g_free(port->device);
        g_free(port->lsp);
        g_free(port->mac);
        json_decref(port->config);
        g_free(port);
    }
}

static bool
take_rows(DbRows *rows, GPtrArray *list, GError **error)
{
    while (rows != NULL && db_next(rows)) {
        OvnPort *port = g_new0(OvnPort, 1);
        port->id = db_int(rows, 0);
        port->network_id = db_int(rows, 1);
        port->instance_id = db_int(rows, 2);
        port->project = g_strdup(db_text(rows, 3));
        port->inst = g_strdup(db_text(rows, 4));
        port->device = g_strdup(db_text(rows, 5));
        port->lsp = g_strdup(db_text(rows, 6));
        port->mac = g_strdup(db_text(rows, 7));
        port->config = db_json(rows, 8);
        port->running = db_int(rows, 9) != 0;
        g_ptr_array_add(list, port);
    }
    return rows != NULL && db_rows_ok(rows, error);
}

static bool
list_tx(DbTx *tx, void *data, GError **error)
{
    const struct query *query = data;
    g_autoptr(DbRows) rows =
        db_query(tx, error, COLUMNS " WHERE ? IN (0, o.network_id) ORDER BY o.lsp", "i", query->id);
    return take_rows(rows, query->list, error);
}

GPtrArray *
ovn_ports_list(Db *db, gint64 network_id, GError **error)
{
    g_autoptr(GPtrArray) list =
        g_ptr_array_new_with_free_func((GDestroyNotify) (void (*)(void)) ovn_ports_free);
    struct query query = {.id = network_id, .list = list};
    return db_read(db, list_tx, &query, error) ? g_steal_pointer(&list) : NULL;
}

static bool
find_tx(DbTx *tx, void *data, GError **error)
{
    const struct query *query = data;
    g_autoptr(DbRows) rows =
        db_query(tx, error, COLUMNS " WHERE o.instance_id = ? AND o.device = ?", "is", query->id,
                 query->device);
    return take_rows(rows, query->list, error);
}

OvnPort *
ovn_ports_find(Db *db, gint64 instance_id, const char *device, GError **error)
{
    g_autoptr(GPtrArray) list =
        g_ptr_array_new_with_free_func((GDestroyNotify) (void (*)(void)) ovn_ports_free);
    struct query query = {.id = instance_id, .device = device, .list = list};
    return db_read(db, find_tx, &query, error) && list->len > 0 ? g_ptr_array_steal_index(list, 0)
                                                                : NULL;
}

static bool
put_tx(DbTx *tx, void *data, GError **error)
{
    const OvnPort *port = ((const struct query *) data)->port;
    return db_exec(tx, error, "DELETE FROM ovn_ports WHERE instance_id = ? AND device = ?", "is",
                   port->instance_id, port->device) &&
           db_exec(tx, error,
                   "INSERT INTO ovn_ports (network_id, instance_id, device, lsp, mac, config,"
                   " running) VALUES (?, ?, ?, ?, ?, ?, ?)",
                   "iisssji", port->network_id, port->instance_id, port->device, port->lsp,
                   port->mac, port->config, (gint64) port->running);
}

bool
ovn_ports_put(Db *db, const OvnPort *port, GError **error)
{
    struct query query = {.port = port};
    return db_write(db, put_tx, &query, error);
}

static bool
run_tx(DbTx *tx, void *data, GError **error)
{
    const struct query *query = data;
    return db_exec(tx, error,
                   "UPDATE ovn_ports SET running = ? WHERE instance_id = ? AND device = ?", "iis",
                   (gint64) query->running, query->id, query->device);
}

bool
ovn_ports_run(Db *db, gint64 instance_id, const char *device, bool running, GError **error)
{
    struct query query = {.id = instance_id, .device = device, .running = running};
    return db_write(db, run_tx, &query, error);
}

static bool
drop_tx(DbTx *tx, void *data, GError **error)
{
    const struct query *query = data;
    return db_exec(tx, error, "DELETE FROM ovn_ports WHERE instance_id = ? AND device = ?", "is",
                   query->id, query->device);
}

bool
ovn_ports_drop(Db *db, gint64 instance_id, const char *device, GError **error)
{
    struct query query = {.id = instance_id, .device = device};
    return db_write(db, drop_tx, &query, error);
}
