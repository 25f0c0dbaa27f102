/* Questions that join the tables of several groups; nothing here writes. */
#include "agent/state/usage_rows.h"

#include <string.h>

/* Appends the URL of each row: prefix, column 0 and (when 'middle' is given) middle, column 1. */
static bool
append_urls(DbTx *tx, json_t *list, const char *sql, const char *prefix, const char *middle,
            const char *project, GError **error)
{
    g_autoptr(DbRows) rows = db_query(tx, error, sql, "s", project);
    if (rows == NULL) {
        return false;
    }
    while (db_next(rows)) {
        g_autoptr(GString) url = g_string_new(prefix);
        g_string_append_uri_escaped(url, db_text(rows, 0), NULL, FALSE);
        if (middle != NULL) {
            g_string_append(url, middle);
            g_string_append_uri_escaped(url, db_text(rows, 1), NULL, FALSE);
        }
        if (strcmp(project, "default") != 0) {
            g_string_append(url, "?project=");
            g_string_append_uri_escaped(url, project, NULL, FALSE);
        }
        json_array_append_new(list, json_string(url->str));
    }
    return db_rows_ok(rows, error);
}

#define OF_PROJECT " JOIN projects ON projects.id = project_id WHERE projects.name = ?"

json_t *
usage_rows_project(DbTx *tx, const char *project, GError **error)
{
    static const struct {
        const char *sql, *prefix, *middle;
    } kinds[] = {
        {"SELECT instances.name FROM instances" OF_PROJECT " ORDER BY instances.name",
         "/1.0/instances/", NULL},
        {"SELECT profiles.name FROM profiles" OF_PROJECT " ORDER BY profiles.name",
         "/1.0/profiles/", NULL},
        {"SELECT fingerprint FROM images" OF_PROJECT " ORDER BY fingerprint", "/1.0/images/", NULL},
        {"SELECT pools.name, volumes.name FROM volumes JOIN pools ON pools.id = pool_id" OF_PROJECT
         " AND volumes.type = 'custom' ORDER BY pools.name, volumes.name",
         "/1.0/storage-pools/", "/volumes/custom/"},
        {"SELECT networks.name FROM networks" OF_PROJECT " ORDER BY networks.name",
         "/1.0/networks/", NULL},
        {"SELECT network_acls.name FROM network_acls" OF_PROJECT " ORDER BY network_acls.name",
         "/1.0/network-acls/", NULL},
        {"SELECT network_zones.name FROM network_zones" OF_PROJECT " ORDER BY network_zones.name",
         "/1.0/network-zones/", NULL},
    };
    json_t *list = json_array();
    for (size_t i = 0; i < G_N_ELEMENTS(kinds); i++) {
        if (!append_urls(tx, list, kinds[i].sql, kinds[i].prefix, kinds[i].middle, project,
                         error)) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

json_t *
usage_rows_profile(DbTx *tx, const char *project, const char *profile, GError **error)
{
    g_autoptr(DbRows) rows =
        db_query(tx, error,
                 "SELECT DISTINCT instances.name, own.name FROM instances"
                 " JOIN projects AS own ON own.id = instances.project_id"
                 " JOIN instance_profiles ON instance_profiles.instance_id = instances.id"
                 " JOIN profiles ON profiles.id = instance_profiles.profile_id"
                 " JOIN projects AS theirs ON theirs.id = profiles.project_id"
                 " WHERE theirs.name = ? AND profiles.name = ? ORDER BY own.name, instances.name",
                 "ss", project, profile);
    if (rows == NULL) {
        return NULL;
    }
    json_t *list = json_array();
    while (db_next(rows)) {
        const char *owner = db_text(rows, 1);
        bool plain = strcmp(owner, "default") == 0;
        json_array_append_new(list, json_sprintf("/1.0/instances/%s%s%s", db_text(rows, 0),
                                                 plain ? "" : "?project=", plain ? "" : owner));
    }
    if (!db_rows_ok(rows, error)) {
        json_decref(list);
        return NULL;
    }
    return list;
}

static bool
one_number(DbTx *tx, const char *sql, const char *project, gint64 *ret, GError **error)
{
    g_autoptr(DbRows) rows = db_query(tx, error, sql, "s", project);
    if (rows == NULL) {
        return false;
    }
    if (db_next(rows)) {
        *ret = db_int(rows, 0);
    }
    return db_rows_ok(rows, error);
}

bool
usage_rows_totals(DbTx *tx, const char *project, gint64 *ret_networks, json_t **ret_volumes,
                  GError **error)
{
    if (!one_number(tx, "SELECT COUNT(*) FROM networks" OF_PROJECT, project, ret_networks, error)) {
        return false;
    }
    g_autoptr(DbRows) rows =
        db_query(tx, error,
                 "SELECT volumes.config, pools.name || '/' || volumes.name FROM volumes"
                 " JOIN pools ON pools.id = pool_id" OF_PROJECT " AND volumes.type = 'custom'",
                 "s", project);
    if (rows == NULL) {
        return false;
    }
    json_t *sizes = json_object();
    while (db_next(rows)) {
        json_t *config = db_json(rows, 0);
        const char *size = json_string_value(json_object_get(config, "size"));
        json_object_set_new(sizes, db_text(rows, 1), json_string(size != NULL ? size : ""));
        json_decref(config);
    }
    if (!db_rows_ok(rows, error)) {
        json_decref(sizes);
        return false;
    }
    *ret_volumes = sizes;
    return true;
}
