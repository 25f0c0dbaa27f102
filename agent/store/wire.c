/* Pools and volumes as they cross the REST border.
 * Texts and shapes are LXD's, odd ones included: lists of volumes have snapshots among them (named
 * "v1/snap0"), "locations" is ["none"] on a server without a cluster.
 * Main loop, inside fibers. Called by the *_api.c files. */
#include "agent/store/wire.h"

#include "agent/auth/project.h"
#include "agent/inst/inst.h"
#include "base/clock.h"
#include "proto/grammar.h"
#include "proto/keys.h"

#include <string.h>

/* ---- bodies ---- */

bool
wire_text(json_t *body, const char *name, const char **ret, GError **error)
{
    json_t *value = json_object_get(body, name);
    if (value != NULL && !json_is_null(value) && !json_is_string(value)) {
        return haw_fail(error, HAW_INVALID,
                        "json: cannot unmarshal value into field \"%s\" of type string", name);
    }
    *ret = json_is_string(value) ? json_string_value(value) : "";
    return true;
}

bool
wire_bool(json_t *body, const char *name, bool *ret, GError **error)
{
    json_t *value = json_object_get(body, name);
    if (value != NULL && !json_is_null(value) && !json_is_boolean(value)) {
        return haw_fail(error, HAW_INVALID,
                        "json: cannot unmarshal value into field \"%s\" of type bool", name);
    }
    *ret = json_is_true(value);
    return true;
}

bool
wire_config(json_t *body, json_t **ret, GError **error)
{
    json_t *value = json_object_get(body, "config");
    if (value == NULL || json_is_null(value)) {
        *ret = json_object();
        return true;
    }
    const char *key = NULL;
    json_t *each = NULL;
    bool ok = json_is_object(value);
    json_object_foreach (value, key, each) {
        ok = ok && json_is_string(each);
    }
    if (!ok) {
        return haw_fail(error, HAW_INVALID,
                        "json: cannot unmarshal value into field \"config\" of type map[string]"
                        "string");
    }
    *ret = json_deep_copy(value);
    return true;
}

bool
wire_time(json_t *body, const char *name, gint64 *ret_us, bool *ret_given, GError **error)
{
    const char *text = NULL;
    if (!wire_text(body, name, &text, error)) {
        return false;
    }
    gint64 when = 0;
    if (*text != '\0' && !clock_parse(text, &when)) {
        return haw_fail(error, HAW_INVALID, "parsing time \"%s\" as RFC 3339", text);
    }
    if (ret_given != NULL) {
        *ret_given = json_object_get(body, name) != NULL;
    }
    *ret_us = when;
    return true;
}

/* ---- names and rules ---- */

bool
wire_check_volume_name(const char *name, GError **error)
{
    if (*name == '\0') {
        return haw_fail(error, HAW_INVALID, "No name provided");
    }
    if (strchr(name, '/') != NULL) {
        return haw_fail(error, HAW_INVALID, "Storage volume names may not contain slashes");
    }
    if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0 || strlen(name) > 180) {
        return haw_fail(error, HAW_INVALID, "Invalid storage volume name \"%s\"", name);
    }
    return true;
}

bool
wire_check_volume_config(const char *disk_name, const char *content_type, json_t *config,
                         GError **error)
{
    bool block = strcmp(content_type, "block") == 0;
    const char *name = NULL;
    json_t *value = NULL;
    json_object_foreach (config, name, value) {
        const Key *key = keys_find(keys_volume, name);
        const char *text = json_string_value(value);
        GError *why = NULL;
        if (key == NULL || (block && g_str_has_prefix(name, "security."))) {
            return haw_fail(error, HAW_FAILED, "Invalid option for volume \"%s\" option \"%s\"",
                            disk_name, name);
        }
        if (key->check != NULL && *text != '\0' && !key->check(text, &why)) {
            haw_fail(error, HAW_FAILED, "Invalid value for volume \"%s\" option \"%s\": %s",
                     disk_name, name, why->message);
            g_error_free(why);
            return false;
        }
    }
    if (keys_get_bool(config, "security.shifted", false) &&
        keys_get_bool(config, "security.unmapped", false)) {
        return haw_fail(error, HAW_FAILED,
                        "security.unmapped and security.shifted are mutually exclusive");
    }
    return true;
}

void
wire_keep_ids(json_t *config, json_t *content)
{
    static const char *const keys[] = {"volatile.idmap.last", "volatile.idmap.next"};
    for (size_t i = 0; i < G_N_ELEMENTS(keys); i++) {
        json_t *value = json_object_get(content, keys[i]);
        if (value != NULL) {
            json_object_set(config, keys[i], value);
        } else {
            json_object_del(config, keys[i]);
        }
    }
}

/* ---- JSON ---- */

static char *
escaped(const char *text)
{
    return g_uri_escape_string(text, NULL, FALSE);
}

static char *
with_project(char *url, const char *project)
{
    if (strcmp(project, "default") == 0) {
        return url;
    }
    g_autofree char *plain = url;
    g_autofree char *name = escaped(project);
    return g_strconcat(plain, "?project=", name, NULL);
}

char *
wire_volume_url(const Vol *vol)
{
    g_autofree char *pool = escaped(vol->pool);
    g_autofree char *name = escaped(vol->name);
    g_autofree char *snap = vol->snap != NULL ? escaped(vol->snap) : NULL;
    char *url =
        g_strdup_printf("/1.0/storage-pools/%s/volumes/%s/%s%s%s", pool, shelf_type_name(vol->type),
                        name, snap != NULL ? "/snapshots/" : "", snap != NULL ? snap : "");
    return with_project(url, vol->type == VOL_IMAGE ? "default" : vol->project);
}

static void
set_time(json_t *object, const char *name, gint64 when)
{
    g_autofree char *text = clock_format(when);
    json_object_set_new(object, name, json_string(text));
}

json_t *
wire_volume(PoolTable *table, const VolumeRow *row)
{
    json_t *volume = json_pack("{s:O, s:s, s:s, s:s, s:o, s:s, s:s, s:s}", "config", row->config,
                               "description", row->description, "name", row->name, "type",
                               row->type, "used_by", wire_used_by(table, row), "location", "none",
                               "content_type", row->content_type, "project", row->project);
    set_time(volume, "created_at", row->created_at);
    return volume;
}

json_t *
wire_volume_tag(const VolumeRow *row)
{
    return json_pack("[s, s, O]", row->name, row->type, row->config);
}

json_t *
wire_snapshot_as_volume(const VolumeRow *row, const VolumeSnapRow *snap)
{
    g_autofree char *name = g_strconcat(row->name, "/", snap->name, NULL);
    json_t *volume =
        json_pack("{s:O, s:s, s:s, s:s, s:[], s:s, s:s, s:s}", "config", snap->config,
                  "description", snap->description, "name", name, "type", row->type, "used_by",
                  "location", "none", "content_type", row->content_type, "project", row->project);
    set_time(volume, "created_at", snap->created_at);
    return volume;
}

json_t *
wire_snapshot(const VolumeRow *row, const VolumeSnapRow *snap, bool long_name)
{
    g_autofree char *name =
        long_name ? g_strconcat(row->name, "/", snap->name, NULL) : g_strdup(snap->name);
    json_t *object = json_pack("{s:O, s:s, s:s, s:s}", "config", snap->config, "description",
                               snap->description, "name", name, "content_type", row->content_type);
    set_time(object, "created_at", snap->created_at);
    if (snap->expires_at != 0 || !long_name) {
        set_time(object, "expires_at", snap->expires_at);
    } else {
        json_object_set_new(object, "expires_at", json_null());
    }
    return object;
}

json_t *
wire_snapshot_tag(const VolumeSnapRow *snap)
{
    return json_pack("[s, I]", snap->description, (json_int_t) snap->expires_at);
}

json_t *
wire_pool_tag(Pool *pool)
{
    return json_pack("[s, s, O]", pool->row->name, pool->row->driver, pool->row->config);
}

/* ---- who uses what ---- */

static bool
is_disk(json_t *device)
{
    return g_strcmp0(json_string_value(json_object_get(device, "type")), "disk") == 0;
}

struct using
{
    Agent *agent;
    const char *pool, *volume, *project; /* volume NULL: anything on the pool */
};

static bool
uses(const char *project, json_t *config, json_t *devices, void *data)
{
    struct using *wanted = data;
    const char *name = NULL;
    json_t *device = NULL;
    json_object_foreach (devices, name, device) {
        const char *pool = json_string_value(json_object_get(device, "pool"));
        const char *source = json_string_value(json_object_get(device, "source"));
        const char *path = json_string_value(json_object_get(device, "path"));
        if (!is_disk(device) || g_strcmp0(pool, wanted->pool) != 0) {
            continue;
        }
        if (wanted->volume == NULL) {
            return true;
        }
        if (g_strcmp0(source, wanted->volume) == 0 && g_strcmp0(path, "/") != 0 &&
            g_strcmp0(project_for_volumes(wanted->agent, project), wanted->project) == 0) {
            return true;
        }
    }
    return false;
}

json_t *
wire_used_by(PoolTable *table, const VolumeRow *row)
{
    if (strcmp(row->type, "custom") == 0) {
        struct using wanted = {
            .agent = table->agent, .pool = row->pool, .volume = row->name, .project = row->project};
        return inst_used_by(table->agent->instances, uses, &wanted);
    }
    bool image = strcmp(row->type, "image") == 0;
    g_autofree char *name = escaped(row->name);
    char *plain = g_strconcat(image ? "/1.0/images/" : "/1.0/instances/", name, NULL);
    g_autofree char *url = with_project(plain, image ? "default" : row->project);
    return json_pack("[s]", url);
}

GPtrArray *
wire_users(PoolTable *table, const Vol *vol)
{
    struct using wanted = {
        .agent = table->agent, .pool = vol->pool, .volume = vol->name, .project = vol->project};
    GPtrArray *all = inst_list(table->agent->instances, NULL);
    for (guint i = all->len; i > 0; i--) {
        Inst *inst = all->pdata[i - 1];
        if (!uses(inst_project(inst), inst_expanded_config(inst), inst_expanded_devices(inst),
                  &wanted)) {
            g_ptr_array_remove_index(all, i - 1);
        }
    }
    return all;
}

bool
wire_runs(PoolTable *table, const Vol *vol)
{
    g_autoptr(GPtrArray) users = wire_users(table, vol);
    for (guint i = 0; i < users->len; i++) {
        Inst *inst = users->pdata[i];
        if (inst_state(inst) != INST_STOPPED && inst_state(inst) != INST_ERROR) {
            return true;
        }
    }
    return false;
}

/* Instances and profiles by their devices, then images and custom volumes on it. */
static json_t *
pool_used_by(PoolTable *table, const char *name, GError **error)
{
    const VolumeWhich which = {.pool = name};
    g_autoptr(GPtrArray) rows = volumes_load(table->agent->db, &which, error);
    g_autoptr(GPtrArray) snaps =
        rows != NULL ? volume_snaps_load(table->agent->db, &which, error) : NULL;
    if (snaps == NULL) {
        return NULL;
    }
    struct using wanted = {.agent = table->agent, .pool = name};
    json_t *list = inst_used_by(table->agent->instances, uses, &wanted);
    for (guint i = 0; i < rows->len; i++) {
        const VolumeRow *row = rows->pdata[i];
        if (strcmp(row->type, "image") == 0) {
            json_t *urls = wire_used_by(table, row);
            json_array_extend(list, urls);
            json_decref(urls);
        } else if (strcmp(row->type, "custom") == 0) {
            const Vol vol = {
                .pool = name, .project = row->project, .type = VOL_CUSTOM, .name = row->name};
            g_autofree char *url = wire_volume_url(&vol);
            json_array_append_new(list, json_string(url));
        }
    }
    for (guint i = 0; i < snaps->len; i++) {
        const VolumeSnapRow *snap = snaps->pdata[i];
        if (strcmp(snap->type, "custom") == 0) {
            const Vol vol = {.pool = name,
                             .project = snap->project,
                             .type = VOL_CUSTOM,
                             .name = snap->volume,
                             .snap = snap->name};
            g_autofree char *url = wire_volume_url(&vol);
            json_array_append_new(list, json_string(url));
        }
    }
    return list;
}

json_t *
wire_pool(PoolTable *table, const char *name, GError **error)
{
    if (shelf_pool(table, name, false, error) == NULL) {
        return NULL;
    }
    json_t *used_by = pool_used_by(table, name, error);
    Pool *pool = used_by != NULL ? shelf_pool(table, name, false, error) : NULL;
    if (pool == NULL) {
        json_decref(used_by);
        return NULL;
    }
    bool broken = strcmp(pool->row->state, "Created") == 0 && !pool->available;
    return json_pack("{s:O, s:s, s:s, s:s, s:o, s:s, s:[s]}", "config", pool->row->config,
                     "description", pool->row->description, "name", name, "driver",
                     pool->row->driver, "used_by", used_by, "status",
                     broken ? "Unavailable" : pool->row->state, "locations", "none");
}

json_t *
wire_pool_told(PoolTable *table, const char *name, GError **error)
{
    json_t *pool = wire_pool(table, name, error);
    if (pool != NULL) {
        json_object_set_new(pool, "config", json_object());
        json_object_set_new(pool, "used_by", json_array());
    }
    return pool;
}

/* ---- the volume of a request ---- */

bool
wire_vol(Request *req, Vol *ret, GError **error)
{
    PoolTable *table = req_agent(req)->pools;
    const char *type = req_arg(req, "type");
    if (!shelf_type_parse(type, &ret->type)) {
        return haw_fail(error, HAW_INVALID, "Invalid storage volume type name");
    }
    if (shelf_pool(table, req_arg(req, "pool"), false, error) == NULL) {
        return false;
    }
    const char *project = req_project(req);
    VolType parsed = ret->type;
    *ret = (Vol){.pool = req_arg(req, "pool"),
                 .type = parsed,
                 .project = parsed == VOL_IMAGE    ? "default"
                            : parsed == VOL_CUSTOM ? project_for_volumes(req_agent(req), project)
                                                   : project,
                 .name = req_arg(req, "volume")};
    return true;
}

VolumeRow *
wire_row(Request *req, Vol *ret_vol, GError **error)
{
    Vol vol;
    if (!wire_vol(req, &vol, error)) {
        return NULL;
    }
    VolumeWhich which = shelf_which(&vol);
    which.item = NULL;
    GError *cause = NULL;
    VolumeRow *row = volumes_get(req_agent(req)->db, &which, &cause);
    if (row == NULL) {
        bool missing = haw_code(cause) == HAW_NOT_FOUND;
        g_autofree char *text = g_strdup(cause->message);
        HawCode code = haw_code(cause);
        g_error_free(cause);
        haw_fail(error, code, "%s", missing ? "Storage pool volume not found" : text);
        return NULL;
    }
    *ret_vol = vol;
    return row;
}
