/* Rows of images and aliases.
 * One SELECT (COLUMNS) makes the REST object of an image, so that every reader shows the same; its
 * aliases come with it. Times cross this border as RFC 3339 text, microseconds inside.
 * Called by agent/image/ inside transactions, on the database thread. */
#include "agent/state/images.h"

#include "base/clock.h"

#include <string.h>

#define COLUMNS                                                                                    \
    "images.id, images.fingerprint, images.filename, images.size, images.public, images.cached,"   \
    " images.auto_update, images.architecture, images.type, images.created_at, images.expires_at," \
    " images.uploaded_at, images.last_used_at, images.properties, images.source, images.profiles," \
    " projects.name"
#define FROM " FROM images JOIN projects ON projects.id = images.project_id"

static void
set_time(json_t *object, const char *key, gint64 real_us)
{
    g_autofree char *text = clock_format(real_us);
    json_object_set_new(object, key, json_string(text));
}

static gint64
get_time(json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    gint64 real_us = 0;
    return text != NULL && clock_parse(text, &real_us) ? real_us : 0;
}

static const char *
get_text(json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text != NULL ? text : "";
}

static json_t *
load_aliases(DbTx *tx, gint64 image_id, GError **error)
{
    g_autoptr(DbRows) rows = db_query(
        tx, error, "SELECT name, description FROM image_aliases WHERE image_id = ? ORDER BY name",
        "i", image_id);
    if (rows == NULL) {
        return NULL;
    }

    json_auto_t *aliases = json_array();
    while (db_next(rows)) {
        json_array_append_new(aliases, json_pack("{s:s,s:s}", "name", db_text(rows, 0),
                                                 "description", db_text(rows, 1)));
    }
    return db_rows_ok(rows, error) ? json_incref(aliases) : NULL;
}

/* The current row as REST's object. */
static json_t *
row_json(DbTx *tx, DbRows *rows, GError **error)
{
    json_auto_t *aliases = load_aliases(tx, db_int(rows, 0), error);
    if (aliases == NULL) {
        return NULL;
    }

    json_t *image = json_pack(
        "{s:s,s:s,s:I,s:b,s:b,s:b,s:s,s:s,s:O}", "fingerprint", db_text(rows, 1), "filename",
        db_text(rows, 2), "size", (json_int_t) db_int(rows, 3), "public", (int) db_int(rows, 4),
        "cached", (int) db_int(rows, 5), "auto_update", (int) db_int(rows, 6), "architecture",
        db_text(rows, 7), "type", db_text(rows, 8), "aliases", aliases);
    set_time(image, "created_at", db_int(rows, 9));
    set_time(image, "expires_at", db_int(rows, 10));
    set_time(image, "uploaded_at", db_int(rows, 11));
    set_time(image, "last_used_at", db_int(rows, 12));
    json_object_set_new(image, "properties", db_json(rows, 13));
    if (db_text(rows, 14) != NULL) {
        json_object_set_new(image, "update_source", db_json(rows, 14));
    }
    json_t *profiles = json_loads(db_text(rows, 15), 0, NULL);
    if (!json_is_array(profiles)) {
        json_decref(profiles);
        profiles = json_pack("[s]", "default");
    }
    json_object_set_new(image, "profiles", profiles);
    json_object_set_new(image, "project", json_string(db_text(rows, 16)));
    return image;
}

/* The array of all rows of a query; rows may be NULL after an error. */
static json_t *
collect(DbTx *tx, DbRows *rows, GError **error)
{
    json_auto_t *list = json_array();
    while (rows != NULL && db_next(rows)) {
        json_t *image = row_json(tx, rows, error);
        if (image == NULL) {
            return NULL;
        }
        json_array_append_new(list, image);
    }
    return rows != NULL && db_rows_ok(rows, error) ? json_incref(list) : NULL;
}

json_t *
images_find(DbTx *tx, const char *project, const char *fingerprint, bool public_only,
            GError **error)
{
    /* A prefix match by range keeps "%" and "_" ordinary and uses the index. */
    g_autofree char *above = g_strconcat(fingerprint, "g", NULL);
    g_autoptr(DbRows) rows =
        db_query(tx, error,
                 "SELECT " COLUMNS FROM " WHERE projects.name = ? AND images.fingerprint >= ?"
                 " AND images.fingerprint < ? AND (images.public OR NOT ?) LIMIT 2",
                 "sssb", project, fingerprint, above, (int) public_only);
    json_auto_t *found = collect(tx, rows, error);
    if (found == NULL) {
        return NULL;
    }

    if (*fingerprint == '\0' || json_array_size(found) == 0) {
        haw_fail(error, HAW_NOT_FOUND, "Image not found");
        return NULL;
    }
    if (json_array_size(found) > 1) {
        haw_fail(error, HAW_INVALID, "More than one image matches fingerprint \"%s\"", fingerprint);
        return NULL;
    }
    return json_incref(json_array_get(found, 0));
}

json_t *
images_find_source(DbTx *tx, const char *project, json_t *source, GError **error)
{
    g_autoptr(DbRows) rows =
        db_query(tx, error,
                 "SELECT " COLUMNS FROM " WHERE projects.name = ? AND images.source IS NOT NULL"
                 " ORDER BY images.uploaded_at DESC",
                 "s", project);
    json_auto_t *list = collect(tx, rows, error);
    if (list == NULL) {
        return NULL;
    }

    size_t i;
    json_t *image;
    static const char *const keys[] = {"server", "protocol", "alias", "image_type", NULL};
    json_array_foreach (list, i, image) {
        json_t *have = json_object_get(image, "update_source");
        bool same = true;
        for (int k = 0; keys[k] != NULL; k++) {
            same = same && strcmp(get_text(have, keys[k]), get_text(source, keys[k])) == 0;
        }
        if (same) {
            return json_incref(image);
        }
    }
    return NULL;
}

json_t *
images_list(DbTx *tx, const char *project, bool public_only, GError **error)
{
    g_autoptr(DbRows) rows = db_query(tx, error,
                                      "SELECT " COLUMNS FROM
                                      " WHERE (projects.name = ? OR ?) AND (images.public OR NOT ?)"
                                      " ORDER BY projects.name, images.fingerprint",
                                      "sbb", project, (int) (project == NULL), (int) public_only);
    return collect(tx, rows, error);
}

bool
images_insert(DbTx *tx, const char *project, json_t *image, GError **error)
{
    gint64 count = 0;
    g_autoptr(DbRows) rows =
        db_query(tx, error, "SELECT 1" FROM " WHERE projects.name = ? AND images.fingerprint = ?",
                 "ss", project, get_text(image, "fingerprint"));
    while (rows != NULL && db_next(rows)) {
        count++;
    }
    if (rows == NULL || !db_rows_ok(rows, error)) {
        return false;
    }
    if (count > 0) {
        return haw_fail(error, HAW_EXISTS, "Image with same fingerprint already exists");
    }

    json_t *source = json_object_get(image, "update_source");
    g_autofree char *source_text = json_is_object(source) ? json_dumps(source, JSON_COMPACT) : NULL;
    json_t *profiles = json_object_get(image, "profiles");
    g_autofree char *profiles_text =
        json_is_array(profiles) ? json_dumps(profiles, JSON_COMPACT) : g_strdup("null");
    return db_exec(
        tx, error,
        "INSERT INTO images (project_id, fingerprint, filename, size, public, cached, auto_update,"
        " architecture, type, created_at, expires_at, uploaded_at, last_used_at, properties, "
        "source,"
        " profiles) VALUES ((SELECT id FROM projects WHERE name = ?),"
        " ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        "sssibbbssiiiijss", project, get_text(image, "fingerprint"), get_text(image, "filename"),
        (gint64) json_integer_value(json_object_get(image, "size")),
        (int) json_is_true(json_object_get(image, "public")),
        (int) json_is_true(json_object_get(image, "cached")),
        (int) json_is_true(json_object_get(image, "auto_update")), get_text(image, "architecture"),
        get_text(image, "type"), get_time(image, "created_at"), get_time(image, "expires_at"),
        clock_real_us(), get_time(image, "last_used_at"), json_object_get(image, "properties"),
        source_text, profiles_text);
}

bool
images_update(DbTx *tx, const char *project, json_t *image, GError **error)
{
    json_t *source = json_object_get(image, "update_source");
    g_autofree char *source_text = json_is_object(source) ? json_dumps(source, JSON_COMPACT) : NULL;
    json_t *profiles = json_object_get(image, "profiles");
    g_autofree char *profiles_text =
        json_is_array(profiles) ? json_dumps(profiles, JSON_COMPACT) : g_strdup("null");
    return db_exec(tx, error,
                   "UPDATE images SET filename = ?, public = ?, cached = ?, auto_update = ?,"
                   " expires_at = ?, properties = ?, source = ?, profiles = ? WHERE fingerprint = ?"
                   " AND project_id = (SELECT id FROM projects WHERE name = ?)",
                   "sbbbijssss", get_text(image, "filename"),
                   (int) json_is_true(json_object_get(image, "public")),
                   (int) json_is_true(json_object_get(image, "cached")),
                   (int) json_is_true(json_object_get(image, "auto_update")),
                   get_time(image, "expires_at"), json_object_get(image, "properties"), source_text,
                   profiles_text, get_text(image, "fingerprint"), project);
}

bool
images_delete(DbTx *tx, const char *project, const char *fingerprint, GError **error)
{
    if (!db_exec(tx, error,
                 "DELETE FROM images WHERE fingerprint = ?"
                 " AND project_id = (SELECT id FROM projects WHERE name = ?)",
                 "ss", fingerprint, project)) {
        return false;
    }
    return db_changes(tx) > 0 || haw_fail(error, HAW_NOT_FOUND, "Image not found");
}

bool
images_touch(DbTx *tx, const char *project, const char *fingerprint, gint64 now, GError **error)
{
    return db_exec(tx, error,
                   "UPDATE images SET last_used_at = ? WHERE fingerprint = ?"
                   " AND project_id = (SELECT id FROM projects WHERE name = ?)",
                   "iss", now, fingerprint, project);
}

bool
images_count(DbTx *tx, const char *fingerprint, gint64 *ret_count, GError **error)
{
    g_autoptr(DbRows) rows =
        db_query(tx, error, "SELECT count(*) FROM images WHERE fingerprint = ?", "s", fingerprint);
    if (rows == NULL || !db_next(rows)) {
        return rows != NULL && db_rows_ok(rows, error);
    }
    *ret_count = db_int(rows, 0);
    return true;
}

json_t *
images_any(DbTx *tx, const char *fingerprint, GError **error)
{
    g_autoptr(DbRows) rows =
        db_query(tx, error, "SELECT " COLUMNS FROM " WHERE images.fingerprint = ? LIMIT 1", "s",
                 fingerprint);
    json_auto_t *found = collect(tx, rows, error);
    return found != NULL ? json_incref(json_array_get(found, 0)) : NULL;
}

json_t *
images_pools(DbTx *tx, const char *fingerprint, GError **error)
{
    g_autoptr(DbRows) rows =
        db_query(tx, error,
                 "SELECT DISTINCT pools.name FROM volumes JOIN pools ON pools.id = volumes.pool_id"
                 " WHERE volumes.type = 'image' AND volumes.name = ?",
                 "s", fingerprint);
    if (rows == NULL) {
        return NULL;
    }

    json_auto_t *pools = json_array();
    while (db_next(rows)) {
        json_array_append_new(pools, json_string(db_text(rows, 0)));
    }
    return db_rows_ok(rows, error) ? json_incref(pools) : NULL;
}

json_t *
images_stray_volumes(DbTx *tx, GError **error)
{
    g_autoptr(DbRows) rows = db_query(
        tx, error,
        "SELECT pools.name, volumes.name FROM volumes JOIN pools ON pools.id = volumes.pool_id"
        " WHERE volumes.type = 'image'"
        " AND volumes.name NOT IN (SELECT fingerprint FROM images)",
        "");
    if (rows == NULL) {
        return NULL;
    }

    json_auto_t *strays = json_array();
    while (db_next(rows)) {
        json_array_append_new(strays, json_pack("[s,s]", db_text(rows, 0), db_text(rows, 1)));
    }
    return db_rows_ok(rows, error) ? json_incref(strays) : NULL;
}

#define ALIAS_SELECT                                                                               \
    "SELECT image_aliases.name, image_aliases.description, images.fingerprint, images.type"        \
    " FROM image_aliases JOIN projects ON projects.id = image_aliases.project_id"                  \
    " JOIN images ON images.id = image_aliases.image_id"                                           \
    " WHERE projects.name = ? AND (images.public OR NOT ?)"

static json_t *
collect_aliases(DbRows *rows, GError **error)
{
    json_auto_t *list = json_array();
    while (rows != NULL && db_next(rows)) {
        json_array_append_new(list, json_pack("{s:s,s:s,s:s,s:s}", "name", db_text(rows, 0),
                                              "description", db_text(rows, 1), "target",
                                              db_text(rows, 2), "type", db_text(rows, 3)));
    }
    return rows != NULL && db_rows_ok(rows, error) ? json_incref(list) : NULL;
}

json_t *
image_aliases_find(DbTx *tx, const char *project, const char *name, bool public_only,
                   GError **error)
{
    g_autoptr(DbRows) rows = db_query(tx, error, ALIAS_SELECT " AND image_aliases.name = ?", "sbs",
                                      project, (int) public_only, name);
    json_auto_t *found = collect_aliases(rows, error);
    if (found == NULL) {
        return NULL;
    }
    if (json_array_size(found) == 0) {
        haw_fail(error, HAW_NOT_FOUND, "Image alias not found");
        return NULL;
    }
    return json_incref(json_array_get(found, 0));
}

json_t *
image_aliases_list(DbTx *tx, const char *project, bool public_only, GError **error)
{
    g_autoptr(DbRows) rows = db_query(tx, error, ALIAS_SELECT " ORDER BY image_aliases.name", "sb",
                                      project, (int) public_only);
    return collect_aliases(rows, error);
}

bool
image_aliases_insert(DbTx *tx, const char *project, const char *name, const char *description,
                     const char *fingerprint, GError **error)
{
    json_auto_t *image = images_find(tx, project, fingerprint, false, error);
    if (image == NULL) {
        return false;
    }
    if (!db_exec(tx, error,
                 "INSERT OR IGNORE INTO image_aliases (project_id, name, description, image_id)"
                 " SELECT project_id, ?, ?, id FROM images WHERE fingerprint = ?"
                 " AND project_id = (SELECT id FROM projects WHERE name = ?)",
                 "ssss", name, description, get_text(image, "fingerprint"), project)) {
        return false;
    }
    return db_changes(tx) > 0 || haw_fail(error, HAW_EXISTS, "Alias \"%s\" already exists", name);
}

bool
image_aliases_update(DbTx *tx, const char *project, const char *name, const char *description,
                     const char *fingerprint, GError **error)
{
    json_auto_t *image = images_find(tx, project, fingerprint, false, error);
    if (image == NULL) {
        return false;
    }
    if (!db_exec(tx, error,
                 "UPDATE image_aliases SET description = ?, image_id = (SELECT id FROM images WHERE"
                 "   fingerprint = ? AND project_id = image_aliases.project_id)"
                 " WHERE name = ? AND project_id = (SELECT id FROM projects WHERE name = ?)",
                 "ssss", description, get_text(image, "fingerprint"), name, project)) {
        return false;
    }
    return db_changes(tx) > 0 || haw_fail(error, HAW_NOT_FOUND, "Image alias not found");
}

bool
image_aliases_rename(DbTx *tx, const char *project, const char *name, const char *new_name,
                     GError **error)
{
    g_autoptr(GError) problem = NULL;
    if (!db_exec(tx, &problem,
                 "UPDATE image_aliases SET name = ? WHERE name = ?"
                 " AND project_id = (SELECT id FROM projects WHERE name = ?)",
                 "sss", new_name, name, project)) {
        if (haw_code(problem) == HAW_EXISTS) {
            return haw_fail(error, HAW_EXISTS, "Alias \"%s\" already exists", new_name);
        }
        g_propagate_error(error, g_steal_pointer(&problem));
        return false;
    }
    return db_changes(tx) > 0 || haw_fail(error, HAW_NOT_FOUND, "Image alias not found");
}

bool
image_aliases_delete(DbTx *tx, const char *project, const char *name, GError **error)
{
    if (!db_exec(tx, error,
                 "DELETE FROM image_aliases WHERE name = ?"
                 " AND project_id = (SELECT id FROM projects WHERE name = ?)",
                 "ss", name, project)) {
        return false;
    }
    return db_changes(tx) > 0 || haw_fail(error, HAW_NOT_FOUND, "Image alias not found");
}

bool
image_aliases_move(DbTx *tx, const char *project, const char *from, const char *to, GError **error)
{
    return db_exec(tx, error,
                   "UPDATE image_aliases SET image_id = (SELECT id FROM images WHERE"
                   "   fingerprint = ? AND project_id = image_aliases.project_id)"
                   " WHERE image_id = (SELECT images.id" FROM
                   " WHERE images.fingerprint = ? AND projects.name = ?)",
                   "sss", to, from, project);
}
