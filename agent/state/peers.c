/* Rows of network peerings.
 * P1  A row names its target by project and name until the target names it back; then both have the
 *     other network's id instead, so that renames do not part them.
 * P2  A peering holds while both rows point at each other; one that lost its other half stays as it is,
 *     and a new half does not join it again: its owner has to ask anew.
 * Called by agent/net/ovn_peer.c and peer_api.c. */
#include "agent/state/peers.h"

struct query {
    gint64 network_id;
    const char *name; /* NULL: any */
    GPtrArray *list;
};

void
peerrow_free(PeerRow *row)
{
    if (row != NULL) {
        g_free(row->name);
        g_free(row->description);
        g_free(row->target_project);
        g_free(row->target_network);
        json_decref(row->config);
        g_free(row);
    }
}

static PeerRow *
row_of(DbRows *rows)
{
    PeerRow *row = g_new0(PeerRow, 1);
    bool joined = db_text(rows, 8) != NULL; /* P2 */
    row->id = db_int(rows, 0);
    row->network_id = db_int(rows, 1);
    row->name = g_strdup(db_text(rows, 2));
    row->description = g_strdup(db_text(rows, 3));
    row->config = db_json(rows, 4);
    row->target_project = g_strdup(db_text(rows, joined ? 8 : 5));
    row->target_network = g_strdup(db_text(rows, joined ? 9 : 6));
    row->target_id = db_int(rows, 7);
    row->status = joined                           ? PEERROW_CREATED
                  : row->target_network[0] != '\0' ? PEERROW_PENDING
                                                   : PEERROW_ERRORED;
    return row;
}

static bool
list_tx(DbTx *tx, void *data, GError **error)
{
    struct query *query = data;
    g_autoptr(DbRows) rows = db_query(
        tx, error,
        "SELECT a.id, a.network_id, a.name, a.description, a.config, a.target_project,"
        " a.target_network, a.target_id, p.name, n.name FROM network_peers a"
        " LEFT JOIN network_peers b ON b.network_id = a.target_id AND b.target_id = a.network_id"
        " LEFT JOIN networks n ON n.id = b.network_id LEFT JOIN projects p ON p.id = n.project_id"
        " WHERE (? = 0 OR a.network_id = ?) AND (? IS NULL OR a.name = ?)"
        " ORDER BY a.network_id, a.name",
        "iiss", query->network_id, query->network_id, query->name, query->name);
    while (rows != NULL && db_next(rows)) {
        g_ptr_array_add(query->list, row_of(rows));
    }
    return rows != NULL && db_rows_ok(rows, error);
}

static GPtrArray *
list(Db *db, gint64 network_id, const char *name, GError **error)
{
    g_autoptr(GPtrArray) found =
        g_ptr_array_new_with_free_func((GDestroyNotify) (void (*)(void)) peerrow_free);
    struct query query = {.network_id = network_id, .name = name, .list = found};
    return db_read(db, list_tx, &query, error) ? g_steal_pointer(&found) : NULL;
}

GPtrArray *
peerrow_list(Db *db, gint64 network_id, GError **error)
{
    return list(db, network_id, NULL, error);
}

PeerRow *
peerrow_load(Db *db, gint64 network_id, const char *name, GError **error)
{
    g_autoptr(GPtrArray) found = list(db, network_id, name, error);
    if (found == NULL) {
        return NULL;
    }
    if (found->len == 0) {
        haw_fail(error, HAW_NOT_FOUND, "Network peer not found");
        return NULL;
    }
    return g_ptr_array_steal_index(found, 0);
}

/* The first column of the first row, 0 when there is none. */
static bool
take_id(DbRows *rows, gint64 *ret_id, GError **error)
{
    if (rows == NULL) {
        return false;
    }
    gint64 id = db_next(rows) ? db_int(rows, 0) : 0;
    while (db_next(rows)) {
    }
    *ret_id = id;
    return db_rows_ok(rows, error);
}

static bool
check_free(DbTx *tx, const PeerRow *row, GError **error)
{
    gint64 same_name = 0;
    gint64 same_target = 0;
    g_autoptr(DbRows) names =
        db_query(tx, error, "SELECT id FROM network_peers WHERE network_id = ? AND name = ?", "is",
                 row->network_id, row->name);
    if (!take_id(names, &same_name, error)) {
        return false;
    }
    g_autoptr(DbRows) targets = db_query(
        tx, error,
        "SELECT a.id FROM network_peers a LEFT JOIN networks n ON n.id = a.target_id"
        " LEFT JOIN projects p ON p.id = n.project_id WHERE a.network_id = ?"
        " AND ((a.target_project = ? AND a.target_network = ?) OR (p.name = ? AND n.name = ?))",
        "issss", row->network_id, row->target_project, row->target_network, row->target_project,
        row->target_network);
    if (!take_id(targets, &same_target, error)) {
        return false;
    }
    if (same_name != 0) {
        return haw_fail(error, HAW_EXISTS, "A peer for that name already exists");
    }
    return same_target == 0 ||
           haw_fail(error, HAW_EXISTS, "A peer for that target network already exists");
}

/* P1 */
static bool
join(DbTx *tx, PeerRow *row, GError **error)
{
    gint64 other = 0;
    g_autoptr(DbRows) rows = db_query(
        tx, error,
        "SELECT b.network_id FROM network_peers b JOIN networks theirs ON theirs.id = b.network_id"
        " JOIN projects tp ON tp.id = theirs.project_id, networks ours"
        " JOIN projects op ON op.id = ours.project_id WHERE ours.id = ? AND tp.name = ?"
        " AND theirs.name = ? AND b.target_project = op.name AND b.target_network = ours.name",
        "iss", row->network_id, row->target_project, row->target_network);
    if (!take_id(rows, &other, error)) {
        return false;
    }
    if (other == 0) {
        row->status = PEERROW_PENDING;
        return true;
    }
    if (!db_exec(tx, error,
                 "UPDATE network_peers SET target_project = '', target_network = '', target_id = ?"
                 " WHERE id = ?",
                 "ii", other, row->id) ||
        !db_exec(tx, error,
                 "UPDATE network_peers SET target_project = '', target_network = '', target_id = ?"
                 " WHERE network_id = ? AND target_id IS NULL AND target_project ="
                 " (SELECT p.name FROM networks n JOIN projects p ON p.id = n.project_id"
                 "  WHERE n.id = ?) AND target_network = (SELECT name FROM networks WHERE id = ?)",
                 "iiii", row->network_id, other, row->network_id, row->network_id)) {
        return false;
    }
    row->target_id = other;
    row->status = PEERROW_CREATED;
    return true;
}

static bool
insert_tx(DbTx *tx, void *data, GError **error)
{
    PeerRow *row = data;
    if (!check_free(tx, row, error) ||
        !db_exec(tx, error,
                 "INSERT INTO network_peers (network_id, name, description, config, target_project,"
                 " target_network) VALUES (?, ?, ?, ?, ?, ?)",
                 "issjss", row->network_id, row->name, row->description, row->config,
                 row->target_project, row->target_network)) {
        return false;
    }
    row->id = db_last_id(tx);
    return join(tx, row, error);
}

bool
peerrow_insert(Db *db, PeerRow *row, GError **error)
{
    return db_write(db, insert_tx, row, error);
}

static bool
update_tx(DbTx *tx, void *data, GError **error)
{
    const PeerRow *row = data;
    return db_exec(tx, error, "UPDATE network_peers SET description = ?, config = ? WHERE id = ?",
                   "sji", row->description, row->config, row->id);
}

bool
peerrow_update(Db *db, const PeerRow *row, GError **error)
{
    return db_write(db, update_tx, (void *) (guintptr) row, error);
}

static bool
delete_tx(DbTx *tx, void *data, GError **error)
{
    return db_exec(tx, error, "DELETE FROM network_peers WHERE id = ?", "i", *(gint64 *) data);
}

bool
peerrow_delete(Db *db, gint64 id, GError **error)
{
    return db_write(db, delete_tx, &id, error);
}

static bool
undo_insert_tx(DbTx *tx, void *data, GError **error)
{
    const PeerRow *row = data;
    gint64 id = row->id;
    return delete_tx(tx, &id, error) &&
           db_exec(tx, error,
                   "UPDATE network_peers SET target_id = NULL, target_project ="
                   " (SELECT p.name FROM networks n JOIN projects p ON p.id = n.project_id"
                   "  WHERE n.id = ?), target_network = (SELECT name FROM networks WHERE id = ?)"
                   " WHERE network_id = ? AND target_id = ?",
                   "iiii", row->network_id, row->network_id, row->target_id, row->network_id);
}

bool
peerrow_undo_insert(Db *db, const PeerRow *row, GError **error)
{
    return db_write(db, undo_insert_tx, (void *) (guintptr) row, error);
}

static bool
undo_delete_tx(DbTx *tx, void *data, GError **error)
{
    const PeerRow *row = data;
    bool joined = row->target_id != 0;
    return db_exec(tx, error,
                   "INSERT INTO network_peers (id, network_id, name, description, config,"
                   " target_project, target_network, target_id)"
                   " VALUES (?, ?, ?, ?, ?, ?, ?, NULLIF(?, 0))",
                   "iissjssi", row->id, row->network_id, row->name, row->description, row->config,
                   joined ? "" : row->target_project, joined ? "" : row->target_network,
                   row->target_id);
}

bool
peerrow_undo_delete(Db *db, const PeerRow *row, GError **error)
{
    return db_write(db, undo_delete_tx, (void *) (guintptr) row, error);
}
