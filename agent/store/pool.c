/* Pools as they are made, changed and deleted.
 * L1  Creation: a row that says Pending, then the driver makes the pool, it is mounted and marked, then
 *     the row says Created. A failure unmounts and removes what was made; after a crash the next start
 *     does (pool_undo).
 * L2  A pool grows and never shrinks. What is fixed at creation (source, driver) stays.
 * L3  Deletion: only without volumes other than cached images; these go with it. The row goes last.
 * Which pools there are is shelf.c; their REST form is pool_api.c. Main loop, inside fibers. */
#include "agent/store/pool.h"

#include "agent/store/shelf.h"

#include "base/crash.h"
#include "base/log.h"
#include "proto/grammar.h"
#include "proto/keys.h"

#include <string.h>
#include <unistd.h>

/* ---- validation, in LXD's words ---- */

bool
pool_check_config(const char *driver, json_t *config, GError **error)
{
    const Key *keys = keys_of_pool(driver);
    const char *name = NULL;
    json_t *value = NULL;
    json_object_foreach (config, name, value) {
        const Key *key = keys_find(keys, name);
        if (key == NULL) {
            return haw_fail(error, HAW_FAILED, "Invalid option \"%s\"", name);
        }
        GError *why = NULL;
        if (!json_is_string(value)) {
            return haw_fail(error, HAW_INVALID, "Invalid value for option \"%s\": not a string",
                            name);
        }
        const char *text = json_string_value(value);
        if (key->check != NULL && *text != '\0' && !key->check(text, &why)) {
            haw_fail(error, HAW_FAILED, "Invalid value for option \"%s\": %s", name, why->message);
            g_error_free(why);
            return false;
        }
    }
    return true;
}

bool
pool_check_name(const char *name, GError **error)
{
    if (*name == '\0') {
        return haw_fail(error, HAW_INVALID, "No name provided");
    }
    if (strchr(name, '/') != NULL) {
        return haw_fail(error, HAW_INVALID, "Storage pool names may not contain slashes");
    }
    for (const char *at = name; *at != '\0'; at++) {
        if (g_ascii_isspace(*at)) {
            return haw_fail(error, HAW_FAILED, "Storage name cannot contain white space");
        }
    }
    if (*name == '.' || strlen(name) > 100) {
        return haw_fail(error, HAW_INVALID, "Invalid storage pool name \"%s\"", name);
    }
    return true;
}

static void
drop_empty(json_t *config)
{
    const char *name = NULL;
    json_t *value = NULL;
    void *next = NULL;
    json_object_foreach_safe (config, next, name, value) {
        if (json_string_length(value) == 0) {
            json_object_del(config, name);
        }
    }
}

/* ---- creation: L1 ---- */

static bool
make_pool(PoolTable *table, Pool *pool, GError **error)
{
    DriverPool place = shelf_driver_pool(table, pool);
    if (!pool->driver->pool_create(&place, error)) {
        rmdir(pool->path); /* only what is empty: nothing was there before us */
        return false;
    }
    json_object_del(pool->row->config, "source.wipe");
    crash_point("pool");
    if (pool->driver->pool_mount(&place, error) && shelf_mark(pool, error) &&
        shelf_open(table, pool, error)) {
        return true;
    }
    pool->available = false;
    pool->driver->pool_unmount(&place, NULL);
    pool->driver->pool_delete(&place, NULL);
    return false;
}

static void
unmake_pool(PoolTable *table, Pool *pool)
{
    DriverPool place = shelf_driver_pool(table, pool);
    pool->available = false;
    pool->driver->pool_unmount(&place, NULL);
    pool->driver->pool_delete(&place, NULL);
}

bool
pool_create(PoolTable *table, const char *name, const char *driver, const char *description,
            json_t *config, GError **error)
{
    const Driver *found = pooldriver_find(driver);
    if (found == NULL || !found->usable()) {
        return haw_fail(error, HAW_FAILED, "Unknown driver");
    }
    if (pool_exists(table, name)) {
        return haw_fail(error, HAW_EXISTS,
                        "The storage pool already exists: The record already exists");
    }
    drop_empty(config);
    if (!pool_check_config(driver, config, error)) {
        return false;
    }

    PoolRow *row = g_new0(PoolRow, 1);
    *row = (PoolRow){.name = g_strdup(name),
                     .driver = g_strdup(driver),
                     .description = g_strdup(description),
                     .state = g_strdup("Pending"),
                     .config = json_copy(config)};
    if (keys_get(config, "source") != NULL) {
        json_object_set(row->config, "volatile.initial_source", json_object_get(config, "source"));
    }
    /* In the table at once, so that the name is taken while it is made. */
    Pool *pool = shelf_add(table, &row);
    bool noted = pools_insert(table->agent->db, pool->row, &pool->row->id, error); /* L1 */
    crash_point("pool");
    if (!noted || !make_pool(table, pool, error)) {
        if (noted) {
            pools_delete(table->agent->db, pool->row->id, NULL);
        }
        g_hash_table_remove(table->pools, name);
        return false;
    }
    g_free(pool->row->state);
    pool->row->state = g_strdup("Created");
    crash_point("pool");
    if (!pools_store(table->agent->db, pool->row, error)) {
        unmake_pool(table, pool);
        pools_delete(table->agent->db, pool->row->id, NULL);
        g_hash_table_remove(table->pools, name);
        return false;
    }
    crash_point("pool");
    haw_info("pool.created", KS("pool", name), KS("driver", driver));
    return true;
}

/* L1. What the caller named as a source (a device, a directory) stays as it is: what was there before
 * is not known. */
void
pool_undo(PoolTable *table, Pool *pool)
{
    DriverPool place = shelf_driver_pool(table, pool);
    g_autoptr(GError) error = NULL;
    gint64 id = pool->row->id;
    bool ours = json_object_get(pool->row->config, "volatile.initial_source") == NULL;
    g_autofree char *file = agent_path(table->agent, "disks/%s.img", pool->row->name);
    json_auto_t *config = json_pack("{s:s}", "source",
                                    pool->driver != NULL && pool->driver->loop ? file : pool->path);
    if (pool->driver != NULL) {
        pool->driver->pool_unmount(&place, NULL);
        place.config = config;
        if (ours && !pool->driver->pool_delete(&place, &error)) {
            haw_warn("pool.not_undone", KS("pool", pool->row->name), KS("why", error->message));
        }
    }
    rmdir(pool->path);
    haw_info("pool.undone", KS("pool", pool->row->name));
    pools_delete(table->agent->db, id, NULL);
    g_hash_table_remove(table->pools, pool->row->name);
}

/* ---- changes: L2 ---- */

/* Keys that differ: key → new value or null; a new reference. */
static json_t *
differences(json_t *old, json_t *new)
{
    json_t *changed = json_object();
    const char *key = NULL;
    json_t *value = NULL;
    json_object_foreach (new, key, value) {
        if (!json_equal(value, json_object_get(old, key))) {
            json_object_set(changed, key, value);
        }
    }
    json_object_foreach (old, key, value) {
        if (json_object_get(new, key) == NULL) {
            json_object_set_new(changed, key, json_null());
        }
    }
    return changed;
}

static bool
check_size(Pool *pool, json_t *changed, GError **error)
{
    json_t *size = json_object_get(changed, "size");
    if (size == NULL) {
        return true;
    }
    const char *old = keys_get(pool->row->config, "size");
    if (old == NULL) {
        return haw_fail(error, HAW_FAILED, "Cannot resize non-loopback pools");
    }
    gint64 was = 0, wanted = 0;
    if (!json_is_string(size) || !grammar_parse_size(json_string_value(size), &wanted, error) ||
        !grammar_parse_size(old, &was, error) || wanted < was) {
        g_clear_error(error);
        return haw_fail(error, HAW_FAILED, "Pool cannot be shrunk");
    }
    return true;
}

bool
pool_update(PoolTable *table, const char *name, const char *description, json_t *config,
            GError **error)
{
    Pool *pool = shelf_pool(table, name, true, error);
    if (pool == NULL) {
        return false;
    }
    drop_empty(config);
    if (!pool_check_config(pool->row->driver, config, error)) {
        return false;
    }
    /* What we note ourselves need not be sent back. */
    static const char *const kept[] = {"source", "volatile.initial_source"};
    for (size_t i = 0; i < G_N_ELEMENTS(kept); i++) {
        json_t *old = json_object_get(pool->row->config, kept[i]);
        if (old != NULL && json_object_get(config, kept[i]) == NULL) {
            json_object_set(config, kept[i], old);
        }
    }
    json_t *changed = differences(pool->row->config, config);
    bool ok =
        json_object_get(changed, "source") == NULL ||
        haw_fail(error, HAW_FAILED, "Pool source cannot be changed when not in pending state");
    ok = ok && check_size(pool, changed, error);
    if (ok && json_object_size(changed) > 0 && pool->driver->pool_update != NULL) {
        DriverPool place = shelf_driver_pool(table, pool);
        place.config = config;
        ok = pool->driver->pool_update(&place, changed, error);
    }
    json_decref(changed);
    pool = ok ? shelf_pool(table, name, true, error) : NULL;
    if (pool == NULL) {
        return false;
    }

    PoolRow row = *pool->row;
    row.description = (char *) description;
    row.config = config;
    if (!pools_store(table->agent->db, &row, error)) {
        return false;
    }
    g_free(pool->row->description);
    pool->row->description = g_strdup(description);
    json_decref(pool->row->config);
    pool->row->config = json_deep_copy(config);
    return true;
}

/* ---- deletion: L3 ---- */

static bool
only_images(GPtrArray *rows, GError **error)
{
    for (guint i = 0; i < rows->len; i++) {
        const VolumeRow *row = rows->pdata[i];
        if (strcmp(row->type, "image") != 0) {
            return haw_fail(error, HAW_CONFLICT, "The storage pool is currently in use");
        }
    }
    return true;
}

bool
pool_delete(PoolTable *table, const char *name, GError **error)
{
    Pool *pool = shelf_pool(table, name, false, error);
    if (pool == NULL) {
        return false;
    }
    if (pool->row->id == 0) {
        return haw_fail(error, HAW_BUSY, "The storage pool is being created");
    }
    const VolumeWhich which = {.pool = name};
    g_autoptr(GPtrArray) rows = volumes_load(table->agent->db, &which, error);
    if (rows == NULL || !only_images(rows, error)) {
        return false;
    }
    for (guint i = 0; i < rows->len; i++) {
        const VolumeRow *row = rows->pdata[i];
        const Vol image = {
            .pool = name, .project = "default", .type = VOL_IMAGE, .name = row->name};
        if (!vol_delete(table, &image, error)) {
            return false;
        }
    }

    pool = shelf_pool(table, name, false, error);
    if (pool == NULL) {
        return false;
    }
    shelf_drain(pool);
    DriverPool place = shelf_driver_pool(table, pool);
    bool was = pool->available;
    pool->available = false;
    /* A creation that found it available has its row queued before this look. */
    g_autoptr(GPtrArray) late = volumes_load(table->agent->db, &which, error);
    if (late == NULL ||
        (late->len > 0 && !haw_fail(error, HAW_CONFLICT, "The storage pool is currently in use"))) {
        pool->available = was;
        return false;
    }
    if (!pool->driver->pool_unmount(&place, error)) {
        pool->available = was;
        return haw_push(error, "Failed unmounting the storage pool");
    }
    crash_point("volume");
    if (!pool->driver->pool_delete(&place, error)) {
        return haw_push(error, "Failed deleting the storage pool");
    }
    crash_point("volume");
    if (!pools_delete(table->agent->db, pool->row->id, error)) {
        return false;
    }
    haw_info("pool.deleted", KS("pool", name));
    return g_hash_table_remove(table->pools, name);
}
