/* /1.0/storage-pools: list, create, show, change, delete, resources. Decides nothing: pool.c does.
 * Each handler runs in a fiber of its own. */
#include "agent/store/wire.h"

#include "agent/api/event.h"

#include <errno.h>
#include <string.h>
#include <sys/statvfs.h>

static int
by_text(gconstpointer a, gconstpointer b)
{
    return strcmp(*(const char *const *) a, *(const char *const *) b);
}

/* A pool's configuration names places of the host: not for restricted callers. A new reference; NULL with an error. */
static json_t *
shown(Request *req, const char *name, GError **error)
{
    json_t *pool = wire_pool(req_agent(req)->pools, name, error);
    if (pool != NULL && req_caller(req)->restricted) {
        json_object_set_new(pool, "config", json_object());
    }
    return pool;
}

static bool
list_pools(Request *req, GError **error)
{
    PoolTable *table = req_agent(req)->pools;
    g_autoptr(Filter) filter = filter_parse(req_query(req, "filter"), error);
    if (filter == NULL) {
        return false;
    }
    guint count = 0;
    g_autofree char **keys = (char **) g_hash_table_get_keys_as_array(table->pools, &count);
    g_auto(GStrv) names = g_strdupv(keys);
    qsort(names, count, sizeof *names, by_text);

    bool whole = req_recursion(req) > 0 || req_query(req, "filter") != NULL;
    json_t *list = json_array();
    for (char **name = names; *name != NULL; name++) {
        json_t *pool = whole ? shown(req, *name, NULL) : NULL;
        if (pool != NULL && !filter_matches(filter, pool)) {
            json_decref(pool);
            continue;
        }
        if (req_recursion(req) > 0) {
            json_array_append_new(list, pool);
            continue;
        }
        json_decref(pool);
        g_autofree char *escaped = g_uri_escape_string(*name, NULL, FALSE);
        json_array_append_new(list, json_sprintf("/1.0/storage-pools/%s", escaped));
    }
    return req_reply(req, list);
}

static bool
create_pool(Request *req, GError **error)
{
    json_t *body = req_json(req);
    const char *name = NULL, *driver = NULL, *description = NULL;
    if (!wire_text(body, "name", &name, error) || !wire_text(body, "driver", &driver, error) ||
        !wire_text(body, "description", &description, error) || !pool_check_name(name, error)) {
        return false;
    }
    if (*driver == '\0') {
        return haw_fail(error, HAW_INVALID, "No driver provided");
    }
    json_auto_t *config = NULL;
    if (!wire_config(body, &config, error) ||
        !pool_create(req_agent(req)->pools, name, driver, description, config, error)) {
        return false;
    }
    g_autofree char *escaped = g_uri_escape_string(name, NULL, FALSE);
    event_lifecycle(req_agent(req), "default", req_caller(req),
                    json_pack("{s:s}", "driver", driver), "storage-pool-created",
                    "/1.0/storage-pools/%s", escaped);
    return req_reply_created(req, "/1.0/storage-pools/%s", escaped);
}

static bool
get_pool(Request *req, GError **error)
{
    PoolTable *table = req_agent(req)->pools;
    const char *name = req_arg(req, "pool");
    json_t *object = shown(req, name, error);
    if (object == NULL) {
        return false;
    }
    Pool *pool = shelf_pool(table, name, false, NULL);
    return pool != NULL ? req_reply_etag(req, object, wire_pool_tag(pool)) : req_reply(req, object);
}

/* PUT takes the place of all; PATCH keeps what the body does not name. */
static bool
change_pool(Request *req, GError **error)
{
    bool patch = req_patches(req);
    PoolTable *table = req_agent(req)->pools;
    const char *name = req_arg(req, "pool");
    Pool *pool = shelf_pool(table, name, true, error);
    json_t *body = req_json(req);
    const char *text = NULL;
    json_auto_t *config = NULL;
    if (pool == NULL || !req_check_etag(req, wire_pool_tag(pool), error) ||
        !wire_text(body, "description", &text, error) || !wire_config(body, &config, error)) {
        return false;
    }
    g_autofree char *description = g_strdup(text);
    if (patch) {
        json_object_update_missing(config, pool->row->config);
        if (json_object_get(body, "description") == NULL) {
            g_free(description);
            description = g_strdup(pool->row->description);
        }
    }
    if (!pool_check_config(pool->row->driver, config, error)) {
        return haw_recode(error, HAW_INVALID);
    }
    if (!pool_update(table, name, description, config, error)) {
        return false;
    }
    event_lifecycle(req_agent(req), "default", req_caller(req), NULL, "storage-pool-updated",
                    "/1.0/storage-pools/%s", name);
    return req_reply(req, NULL);
}

static bool
delete_pool(Request *req, GError **error)
{
    const char *name = req_arg(req, "pool");
    PoolTable *table = req_agent(req)->pools;
    json_auto_t *object = wire_pool(table, name, error);
    if (object == NULL) {
        return false;
    }
    /* Profiles may still name it: so it is in use. Images are only cached. */
    json_t *user = NULL;
    size_t i = 0;
    json_array_foreach (json_object_get(object, "used_by"), i, user) {
        if (!g_str_has_prefix(json_string_value(user), "/1.0/images/")) {
            return haw_fail(error, HAW_CONFLICT, "The storage pool is currently in use");
        }
    }
    if (!pool_delete(table, name, error)) {
        return false;
    }
    event_lifecycle(req_agent(req), "default", req_caller(req), NULL, "storage-pool-deleted",
                    "/1.0/storage-pools/%s", name);
    return req_reply(req, NULL);
}

static bool
pool_resources(Request *req, GError **error)
{
    Pool *pool = shelf_pool(req_agent(req)->pools, req_arg(req, "pool"), true, error);
    struct statvfs fs;
    if (pool == NULL) {
        return false;
    }
    if (statvfs(pool->path, &fs) < 0) {
        return haw_fail_errno(error, errno, "look at '%s'", pool->path);
    }
    json_int_t total = (json_int_t) (fs.f_blocks * fs.f_frsize);
    json_int_t left = (json_int_t) (fs.f_bfree * fs.f_frsize);
    json_t *space = json_pack("{s:I, s:I}", "used", total - left, "total", total);
    json_t *inodes = json_pack("{s:I, s:I}", "used", (json_int_t) (fs.f_files - fs.f_ffree),
                               "total", (json_int_t) fs.f_files);
    return req_reply(req, json_pack("{s:o, s:o}", "space", space, "inodes", inodes));
}

const Route pool_routes[] = {
    {"GET", "/1.0/storage-pools", list_pools, 0},
    {"POST", "/1.0/storage-pools", create_pool, ROUTE_BODY_JSON | ROUTE_ADMIN},
    {"GET", "/1.0/storage-pools/{pool}", get_pool, 0},
    {"PUT", "/1.0/storage-pools/{pool}", change_pool, ROUTE_BODY_JSON | ROUTE_ADMIN},
    {"PATCH", "/1.0/storage-pools/{pool}", change_pool, ROUTE_BODY_JSON | ROUTE_ADMIN},
    {"DELETE", "/1.0/storage-pools/{pool}", delete_pool, ROUTE_ADMIN},
    {"GET", "/1.0/storage-pools/{pool}/resources", pool_resources, 0},
    {NULL, NULL, NULL, 0},
};
