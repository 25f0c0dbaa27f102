/* Rows of network ACLs. Called by agent/net/netacl_api.c and acl.c. */
#include "agent/state/acls.h"

struct query {
    const char *project, *name; /* NULL: any */
    GPtrArray *list;
};

void
aclrow_free(AclRow *row)
{
    if (row != NULL) {
        g_free(row->project);
        g_free(row->name);
        g_free(row->description);
        json_decref(row->config);
        json_decref(row->ingress);
        json_decref(row->egress);
        g_free(row);
    }
}

/* A column of JSON rules; what is no array reads as an empty one. */
static json_t *
rules_of(DbRows *rows, int column)
{
    const char *text = db_text(rows, column);
    json_t *rules = text != NULL ? json_loads(text, 0, NULL) : NULL;
    if (!json_is_array(rules)) {
        json_decref(rules);
        rules = json_array();
    }
    return rules;
}

static bool
list_tx(DbTx *tx, void *data, GError **error)
{
    struct query *query = data;
    g_autoptr(DbRows) rows =
        db_query(tx, error,
                 "SELECT a.id, p.name, a.name, a.description, a.config, a.ingress, a.egress,"
                 " a.project_id"
                 " FROM network_acls a JOIN projects p ON p.id = a.project_id"
                 " WHERE (? IS NULL OR p.name = ?) AND (? IS NULL OR a.name = ?)"
                 " ORDER BY p.name, a.name",
                 "ssss", query->project, query->project, query->name, query->name);
    while (rows != NULL && db_next(rows)) {
        AclRow *row = g_new0(AclRow, 1);
        row->id = db_int(rows, 0);
        row->project = g_strdup(db_text(rows, 1));
        row->name = g_strdup(db_text(rows, 2));
        row->description = g_strdup(db_text(rows, 3));
        row->config = db_json(rows, 4);
        row->ingress = rules_of(rows, 5);
        row->egress = rules_of(rows, 6);
        row->project_id = db_int(rows, 7);
        g_ptr_array_add(query->list, row);
    }
    return rows != NULL && db_rows_ok(rows, error);
}

static GPtrArray *
list(Db *db, const char *project, const char *name, GError **error)
{
    g_autoptr(GPtrArray) found =
        g_ptr_array_new_with_free_func((GDestroyNotify) (void (*)(void)) aclrow_free);
    struct query query = {.project = project, .name = name, .list = found};
    return db_read(db, list_tx, &query, error) ? g_steal_pointer(&found) : NULL;
}

GPtrArray *
aclrow_list(Db *db, const char *project, GError **error)
{
    return list(db, project, NULL, error);
}

AclRow *
aclrow_load(Db *db, const char *project, const char *name, GError **error)
{
    g_autoptr(GPtrArray) found = list(db, project, name, error);
    if (found == NULL) {
        return NULL;
    }
    if (found->len == 0) {
        haw_fail(error, HAW_NOT_FOUND, "Network ACL not found");
        return NULL;
    }
    return g_ptr_array_steal_index(found, 0);
}

struct insert {
    AclRow *row;
    gint64 first, last;
};

static bool
insert_tx(DbTx *tx, void *data, GError **error)
{
    struct insert *insert = data;
    AclRow *row = insert->row;
    if (!db_exec(tx, error,
                 "INSERT INTO network_acls (id, project_id, name, description, config, ingress,"
                 " egress) SELECT (SELECT COALESCE(MAX(a.id) + 1, ?) FROM network_acls a"
                 " WHERE a.id BETWEEN ? AND ?), id, ?, ?, ?, ?, ? FROM projects WHERE name = ?",
                 "iiissjjjs", insert->first, insert->first, insert->last, row->name,
                 row->description, row->config, row->ingress, row->egress, row->project)) {
        return false;
    }
    row->id = db_last_id(tx);
    if (row->id > insert->last) {
        return haw_fail(error, HAW_LIMIT, "No id is left for network ACL \"%s\"", row->name);
    }
    return db_changes(tx) == 1 || haw_fail(error, HAW_NOT_FOUND, "Project not found");
}

bool
aclrow_insert(Db *db, AclRow *row, gint64 first_id, gint64 last_id, GError **error)
{
    struct insert insert = {row, first_id, last_id};
    return db_write(db, insert_tx, &insert, error);
}

static bool
update_tx(DbTx *tx, void *data, GError **error)
{
    const AclRow *row = data;
    return db_exec(tx, error,
                   "UPDATE network_acls SET name = ?, description = ?, config = ?, ingress = ?,"
                   " egress = ? WHERE id = ?",
                   "ssjjji", row->name, row->description, row->config, row->ingress, row->egress,
                   row->id);
}

bool
aclrow_update(Db *db, const AclRow *row, GError **error)
{
    return db_write(db, update_tx, (void *) (guintptr) row, error);
}

static bool
delete_tx(DbTx *tx, void *data, GError **error)
{
    return db_exec(tx, error, "DELETE FROM network_acls WHERE id = ?", "i", *(gint64 *) data);
}

bool
aclrow_delete(Db *db, gint64 id, GError **error)
{
    return db_write(db, delete_tx, &id, error);
}
