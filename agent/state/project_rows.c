/* The tables projects and profiles. A profile's row dies with its project's. */
#include "agent/state/project_rows.h"

#define OWNER "(SELECT id FROM projects WHERE name = ?)"

static const char *
text(json_t *object, const char *field)
{
    const char *value = json_string_value(json_object_get(object, field));
    return value != NULL ? value : "";
}

/* All rows through 'make'; a new array, NULL on failure. */
static json_t *
collect(DbRows *rows, json_t *(*make)(DbRows *), GError **error)
{
    if (rows == NULL) {
        return NULL;
    }
    json_t *list = json_array();
    while (db_next(rows)) {
        json_array_append_new(list, make(rows));
    }
    if (!db_rows_ok(rows, error)) {
        json_decref(list);
        return NULL;
    }
    return list;
}

/* The only row of a list, which is consumed. */
static json_t *
only(json_t *list, const char *what, GError **error)
{
    if (list == NULL) {
        return NULL;
    }
    json_t *found = json_incref(json_array_get(list, 0));
    json_decref(list);
    if (found == NULL) {
        haw_fail(error, HAW_NOT_FOUND, "%s not found", what);
    }
    return found;
}

static json_t *
make_project(DbRows *rows)
{
    return json_pack("{s:s,s:s,s:o}", "name", db_text(rows, 0), "description", db_text(rows, 1),
                     "config", db_json(rows, 2));
}

json_t *
project_rows_list(DbTx *tx, GError **error)
{
    g_autoptr(DbRows) rows =
        db_query(tx, error, "SELECT name, description, config FROM projects ORDER BY name", "");
    return collect(rows, make_project, error);
}

json_t *
project_rows_find(DbTx *tx, const char *name, GError **error)
{
    g_autoptr(DbRows) rows = db_query(
        tx, error, "SELECT name, description, config FROM projects WHERE name = ?", "s", name);
    return only(collect(rows, make_project, error), "Project", error);
}

bool
project_rows_add(DbTx *tx, json_t *project, GError **error)
{
    return db_exec(tx, error, "INSERT INTO projects (name, description, config) VALUES (?, ?, ?)",
                   "ssj", text(project, "name"), text(project, "description"),
                   json_object_get(project, "config"));
}

bool
project_rows_update(DbTx *tx, json_t *project, GError **error)
{
    return db_exec(tx, error, "UPDATE projects SET description = ?, config = ? WHERE name = ?",
                   "sjs", text(project, "description"), json_object_get(project, "config"),
                   text(project, "name"));
}

bool
project_rows_rename(DbTx *tx, const char *name, const char *new_name, GError **error)
{
    return db_exec(tx, error, "UPDATE projects SET name = ? WHERE name = ?", "ss", new_name, name);
}

bool
project_rows_delete(DbTx *tx, const char *name, GError **error)
{
    return db_exec(tx, error, "DELETE FROM projects WHERE name = ?", "s", name);
}

static json_t *
make_profile(DbRows *rows)
{
    return json_pack("{s:s,s:s,s:o,s:o}", "name", db_text(rows, 0), "description", db_text(rows, 1),
                     "config", db_json(rows, 2), "devices", db_json(rows, 3));
}

json_t *
profile_rows_list(DbTx *tx, const char *project, GError **error)
{
    g_autoptr(DbRows) rows = db_query(tx, error,
                                      "SELECT name, description, config, devices FROM profiles"
                                      " WHERE project_id = " OWNER " ORDER BY name",
                                      "s", project);
    return collect(rows, make_profile, error);
}

json_t *
profile_rows_find(DbTx *tx, const char *project, const char *name, GError **error)
{
    g_autoptr(DbRows) rows = db_query(tx, error,
                                      "SELECT name, description, config, devices FROM profiles"
                                      " WHERE project_id = " OWNER " AND name = ?",
                                      "ss", project, name);
    return only(collect(rows, make_profile, error), "Profile", error);
}

bool
profile_rows_add(DbTx *tx, const char *project, json_t *profile, GError **error)
{
    return db_exec(tx, error,
                   "INSERT INTO profiles (project_id, name, description, config, devices)"
                   " VALUES (" OWNER ", ?, ?, ?, ?)",
                   "sssjj", project, text(profile, "name"), text(profile, "description"),
                   json_object_get(profile, "config"), json_object_get(profile, "devices"));
}

bool
profile_rows_update(DbTx *tx, const char *project, json_t *profile, GError **error)
{
    return db_exec(tx, error,
                   "UPDATE profiles SET description = ?, config = ?, devices = ?"
                   " WHERE project_id = " OWNER " AND name = ?",
                   "sjjss", text(profile, "description"), json_object_get(profile, "config"),
                   json_object_get(profile, "devices"), project, text(profile, "name"));
}

bool
profile_rows_rename(DbTx *tx, const char *project, const char *name, const char *new_name,
                    GError **error)
{
    return db_exec(tx, error,
                   "UPDATE profiles SET name = ? WHERE project_id = " OWNER " AND name = ?", "sss",
                   new_name, project, name);
}

bool
profile_rows_delete(DbTx *tx, const char *project, const char *name, GError **error)
{
    return db_exec(tx, error, "DELETE FROM profiles WHERE project_id = " OWNER " AND name = ?",
                   "ss", project, name);
}
