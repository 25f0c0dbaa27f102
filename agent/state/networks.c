/* Rows of networks. The network table (agent/net/network.c) keeps them in memory and is the only
 * caller. */
#include "agent/state/networks.h"

struct insert {
    NetRow *row;
    gint64 first, last;
};

struct change {
    gint64 id;
    const char *text;
    json_t *config;
    NetRow *row;
};

void
netrow_free(NetRow *row)
{
    if (row != NULL) {
        g_free(row->project);
        g_free(row->name);
        g_free(row->type);
        g_free(row->description);
        g_free(row->state);
        g_free(row->hwaddr);
        g_free(row->old_name);
        json_decref(row->config);
        g_free(row);
    }
}

static bool
list_tx(DbTx *tx, void *data, GError **error)
{
    GPtrArray *list = data;
    g_autoptr(DbRows) rows =
        db_query(tx, error,
                 "SELECT n.id, p.name, n.name, n.type, n.description, n.config, n.state, n.hwaddr,"
                 " n.old_name, n.project_id FROM networks n JOIN projects p ON p.id = n.project_id"
                 " ORDER BY p.name, n.name",
                 "");
    while (rows != NULL && db_next(rows)) {
        NetRow *row = g_new0(NetRow, 1);
        row->id = db_int(rows, 0);
        row->project = g_strdup(db_text(rows, 1));
        row->name = g_strdup(db_text(rows, 2));
        row->type = g_strdup(db_text(rows, 3));
        row->description = g_strdup(db_text(rows, 4));
        row->config = db_json(rows, 5);
        row->state = g_strdup(db_text(rows, 6));
        row->hwaddr = g_strdup(db_text(rows, 7));
        row->old_name = g_strdup(db_text(rows, 8));
        row->project_id = db_int(rows, 9);
        g_ptr_array_add(list, row);
    }
    return rows != NULL && db_rows_ok(rows, error);
}

GPtrArray *
netrow_list(Db *db, GError **error)
{
    g_autoptr(GPtrArray) list =
        g_ptr_array_new_with_free_func((GDestroyNotify) (void (*)(void)) netrow_free);
    if (!db_read(db, list_tx, list, error)) {
        return NULL;
    }
    return g_steal_pointer(&list);
}

static bool
insert_tx(DbTx *tx, void *data, GError **error)
{
    struct insert *insert = data;
    NetRow *row = insert->row;
    if (!db_exec(tx, error,
                 "INSERT INTO networks (id, project_id, name, type, description, config, state,"
                 " hwaddr) SELECT (SELECT COALESCE(MAX(n.id) + 1, ?) FROM networks n"
                 " WHERE n.id BETWEEN ? AND ?), id, ?, ?, ?, ?, ?, ? FROM projects WHERE name = ?",
                 "iiisssjsss", insert->first, insert->first, insert->last, row->name, row->type,
                 row->description, row->config, row->state, row->hwaddr, row->project)) {
        return false;
    }
    if (db_changes(tx) == 0) {
        return haw_fail(error, HAW_NOT_FOUND, "Project not found");
    }
    row->id = db_last_id(tx);
    if (row->id > insert->last) {
        return haw_fail(error, HAW_LIMIT, "No id is left for network \"%s\"", row->name);
    }
    g_autoptr(DbRows) rows =
        db_query(tx, error, "SELECT project_id FROM networks WHERE id = ?", "i", row->id);
    if (rows == NULL || !db_next(rows)) {
        return rows == NULL ? false : db_rows_ok(rows, error);
    }
    row->project_id = db_int(rows, 0);
    return true;
}

bool
netrow_insert(Db *db, NetRow *row, gint64 first_id, gint64 last_id, GError **error)
{
    struct insert insert = {row, first_id, last_id};
    return db_write(db, insert_tx, &insert, error);
}

static bool
set_state_tx(DbTx *tx, void *data, GError **error)
{
    const struct change *change = data;
    return db_exec(tx, error, "UPDATE networks SET state = ? WHERE id = ?", "si", change->text,
                   change->id);
}

bool
netrow_set_state(Db *db, gint64 id, const char *state, GError **error)
{
    struct change change = {.id = id, .text = state};
    return db_write(db, set_state_tx, &change, error);
}

static bool
update_tx(DbTx *tx, void *data, GError **error)
{
    const struct change *change = data;
    return db_exec(tx, error, "UPDATE networks SET description = ?, config = ? WHERE id = ?", "sji",
                   change->text, change->config, change->id);
}

bool
netrow_update(Db *db, gint64 id, const char *description, json_t *config, GError **error)
{
    struct change change = {.id = id, .text = description, .config = config};
    return db_write(db, update_tx, &change, error);
}

static bool
rename_tx(DbTx *tx, void *data, GError **error)
{
    const struct change *change = data;
    if (change->text == NULL) {
        return db_exec(tx, error, "UPDATE networks SET old_name = '' WHERE id = ?", "i",
                       change->id);
    }
    return db_exec(tx, error, "UPDATE networks SET old_name = name, name = ? WHERE id = ?", "si",
                   change->text, change->id);
}

bool
netrow_rename(Db *db, gint64 id, const char *name, GError **error)
{
    struct change change = {.id = id, .text = name};
    return db_write(db, rename_tx, &change, error);
}

static bool
delete_tx(DbTx *tx, void *data, GError **error)
{
    const struct change *change = data;
    return db_exec(tx, error, "DELETE FROM networks WHERE id = ?", "i", change->id);
}

bool
netrow_delete(Db *db, gint64 id, GError **error)
{
    struct change change = {.id = id};
    return db_write(db, delete_tx, &change, error);
}
