/* The certificates table. Projects are names in a JSON list, kept right by trust_rows_project(). */
#include "agent/state/trust_rows.h"

#include <string.h>

json_t *
trust_rows_load(DbTx *tx, GError **error)
{
    g_autoptr(DbRows) rows = db_query(tx, error,
                                      "SELECT fingerprint, type, name, certificate, restricted,"
                                      " projects FROM certificates ORDER BY fingerprint",
                                      "");
    if (rows == NULL) {
        return NULL;
    }
    json_t *list = json_array();
    while (db_next(rows)) {
        json_t *projects = db_json(rows, 5);
        if (!json_is_array(projects)) {
            json_decref(projects);
            projects = json_array();
        }
        json_array_append_new(list,
                              json_pack("{s:s,s:s,s:s,s:s,s:b,s:o}", "fingerprint",
                                        db_text(rows, 0), "type", db_text(rows, 1), "name",
                                        db_text(rows, 2), "certificate", db_text(rows, 3),
                                        "restricted", db_int(rows, 4) != 0, "projects", projects));
    }
    if (!db_rows_ok(rows, error)) {
        json_decref(list);
        return NULL;
    }
    return list;
}

static const char *
text(json_t *cert, const char *field)
{
    return json_string_value(json_object_get(cert, field));
}

bool
trust_rows_add(DbTx *tx, json_t *cert, GError **error)
{
    return db_exec(tx, error,
                   "INSERT INTO certificates (fingerprint, type, name, certificate, restricted,"
                   " projects) VALUES (?, ?, ?, ?, ?, ?)",
                   "ssssbj", text(cert, "fingerprint"), text(cert, "type"), text(cert, "name"),
                   text(cert, "certificate"), json_is_true(json_object_get(cert, "restricted")),
                   json_object_get(cert, "projects"));
}

bool
trust_rows_update(DbTx *tx, const char *fingerprint, json_t *cert, GError **error)
{
    return db_exec(tx, error,
                   "UPDATE certificates SET fingerprint = ?, type = ?, name = ?, certificate = ?,"
                   " restricted = ?, projects = ? WHERE fingerprint = ?",
                   "ssssbjs", text(cert, "fingerprint"), text(cert, "type"), text(cert, "name"),
                   text(cert, "certificate"), json_is_true(json_object_get(cert, "restricted")),
                   json_object_get(cert, "projects"), fingerprint);
}

bool
trust_rows_delete(DbTx *tx, const char *fingerprint, GError **error)
{
    return db_exec(tx, error, "DELETE FROM certificates WHERE fingerprint = ?", "s", fingerprint);
}

bool
trust_rows_project(DbTx *tx, const char *name, const char *new_name, GError **error)
{
    json_t *list = trust_rows_load(tx, error), *cert;
    bool ok = list != NULL;
    size_t i;

    json_array_foreach (list, i, cert) {
        json_t *projects = json_object_get(cert, "projects");
        bool changed = false;
        for (size_t p = json_array_size(projects); p-- > 0;) {
            if (strcmp(json_string_value(json_array_get(projects, p)), name) != 0) {
                continue;
            }
            changed = true;
            if (new_name != NULL) {
                json_array_set_new(projects, p, json_string(new_name));
            } else {
                json_array_remove(projects, p);
            }
        }
        ok = ok && (!changed || trust_rows_update(tx, text(cert, "fingerprint"), cert, error));
    }
    json_decref(list);
    return ok;
}
