/* Volumes and pools that lost their rows.
 * U1  What a crash of ours leaves never gets here: rows come before directories and go after them (V1,
 *     V2). A directory without a row is somebody's data under another database, and is kept.
 * U2  Nothing on disk is touched: taking a volume in is writing its rows.
 * U3  A pool that is only looked at leaves the table again; its mark is written when it is taken.
 * Called by repair.c and inst/recover.c. */
#include "agent/store/unknown.h"

#include "agent/store/shelf.h"
#include "agent/store/told.h"
#include "base/clock.h"
#include "base/crash.h"
#include "base/fd.h"
#include "base/log.h"
#include "proto/grammar.h"
#include "proto/keys.h"
#include "proto/yaml.h"

#include <string.h>
#include <sys/stat.h>

#define DOCUMENT_FILE "backup.yaml"

static const VolType recoverable[] = {VOL_CONTAINER, VOL_VM, VOL_CUSTOM};

void
unknown_vol_free(UnknownVol *vol)
{
    if (vol != NULL) {
        g_free(vol->pool);
        g_free(vol->project);
        g_free(vol->name);
        g_free(vol->path);
        g_clear_pointer(&vol->snaps, g_ptr_array_unref);
        json_decref(vol->document);
        g_free(vol);
    }
}

bool
unknown_holds(VolType type, const char *path)
{
    struct stat st;
    if (type == VOL_CUSTOM) {
        g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
        return dir != NULL && g_dir_read_name(dir) != NULL;
    }
    g_autofree char *document = g_build_filename(path, DOCUMENT_FILE, NULL);
    return type != VOL_IMAGE && lstat(document, &st) == 0 && S_ISREG(st.st_mode);
}

/* ---- what is there ---- */

/* "project_name"; an instance of the default project has only its name, in which there is no '_'. */
static bool
name_parts(VolType type, const char *disk_name, char **ret_project, char **ret_name)
{
    const char *line = strchr(disk_name, '_');
    if (line == NULL && type == VOL_CUSTOM) {
        return false;
    }
    *ret_project =
        line != NULL ? g_strndup(disk_name, (gsize) (line - disk_name)) : g_strdup("default");
    *ret_name = g_strdup(line != NULL ? line + 1 : disk_name);
    return true;
}

static int
by_text(gconstpointer a, gconstpointer b)
{
    return strcmp(*(char *const *) a, *(char *const *) b);
}

static GPtrArray *
directories_in(const char *path)
{
    GPtrArray *names = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    for (const char *name; dir != NULL && (name = g_dir_read_name(dir)) != NULL;) {
        g_autofree char *each = g_build_filename(path, name, NULL);
        struct stat st;
        if (lstat(each, &st) == 0 && S_ISDIR(st.st_mode)) {
            g_ptr_array_add(names, g_strdup(name));
        }
    }
    g_ptr_array_sort(names, by_text);
    return names;
}

static bool
read_document(UnknownVol *vol, GError **error)
{
    g_autofree char *path = g_build_filename(vol->path, DOCUMENT_FILE, NULL);
    size_t size = 0;
    g_autofree char *text = fd_read_file(path, YAML_MAX_BYTES, &size, error);
    vol->document = text != NULL ? yaml_to_json(text, size, yaml_text_keys, error) : NULL;
    return vol->document != NULL || haw_push(error, "read '%s'", path);
}

static bool
has_row(PoolTable *table, const Vol *vol)
{
    const VolumeWhich which = shelf_which(vol);
    g_autoptr(VolumeRow) row = volumes_get(table->agent->db, &which, NULL);
    return row != NULL;
}

static bool
list_one(PoolTable *table, Pool *pool, VolType type, const char *disk_name, GPtrArray *list,
         GError **error)
{
    UnknownVol *unknown = g_new0(UnknownVol, 1);
    g_ptr_array_add(list, unknown);
    unknown->type = type;
    unknown->pool = g_strdup(pool->row->name);
    unknown->path = g_build_filename(pool->path, shelf_type_dir(type), disk_name, NULL);
    bool named = name_parts(type, disk_name, &unknown->project, &unknown->name);
    const Vol vol = {
        .pool = unknown->pool, .project = unknown->project, .type = type, .name = unknown->name};
    if (!named || !unknown_holds(type, unknown->path) || has_row(table, &vol)) {
        g_ptr_array_remove(list, unknown);
        return true;
    }
    g_autofree char *snaps = shelf_snaps_path(pool, &vol);
    unknown->snaps = directories_in(snaps);
    return type == VOL_CUSTOM || read_document(unknown, error);
}

GPtrArray *
unknown_list(PoolTable *table, const char *pool_name, GError **error)
{
    g_autoptr(GPtrArray) list = g_ptr_array_new_with_free_func((GDestroyNotify) unknown_vol_free);
    for (size_t i = 0; i < G_N_ELEMENTS(recoverable); i++) {
        Pool *pool = shelf_pool(table, pool_name, false, error);
        if (pool == NULL) {
            return NULL;
        }
        g_autofree char *dir = g_build_filename(pool->path, shelf_type_dir(recoverable[i]), NULL);
        g_autoptr(GPtrArray) names = directories_in(dir);
        for (guint j = 0; j < names->len; j++) {
            pool = shelf_pool(table, pool_name, false, error); /* has_row() yields */
            if (pool == NULL ||
                !list_one(table, pool, recoverable[i], names->pdata[j], list, error)) {
                return NULL;
            }
        }
    }
    return g_steal_pointer(&list);
}

/* ---- taken in ---- */

static gint64
made_at(const char *path)
{
    struct stat st;
    return lstat(path, &st) == 0 ? (gint64) st.st_mtime * G_USEC_PER_SEC : clock_real_us();
}

static GPtrArray *
snapshot_rows(const UnknownVol *vol, const char *dir, json_t *told, GError **error)
{
    g_autoptr(GPtrArray) rows =
        g_ptr_array_new_with_free_func((GDestroyNotify) volume_snap_row_free);
    for (guint i = 0; i < vol->snaps->len; i++) {
        const char *name = vol->snaps->pdata[i];
        json_t *each = told_snapshot(told, "volume_snapshots", name);
        g_autofree char *path = g_build_filename(dir, name, NULL);
        if (!grammar_snapshot_name(name, error)) {
            haw_push(error, "snapshot directory '%s'", path);
            return NULL;
        }
        gint64 created_at = told_time(each, "created_at");
        VolumeSnapRow *row = g_new0(VolumeSnapRow, 1);
        *row = (VolumeSnapRow){.name = g_strdup(name),
                               .description = g_strdup(told_text(each, "description")),
                               .config = told_texts(each, "config"),
                               .created_at = created_at != 0 ? created_at : made_at(path),
                               .expires_at = told_time(each, "expires_at")};
        g_ptr_array_add(rows, row);
    }
    return g_steal_pointer(&rows);
}

static VolumeRow *
volume_row(const UnknownVol *vol, json_t *told)
{
    g_autofree char *disk = g_build_filename(vol->path, DRIVER_BLOCK_FILE, NULL);
    bool block = vol->type == VOL_VM ||
                 (vol->type == VOL_CUSTOM && g_file_test(disk, G_FILE_TEST_IS_REGULAR));
    VolumeRow *row = g_new0(VolumeRow, 1);
    *row = (VolumeRow){.pool = g_strdup(vol->pool),
                       .project = g_strdup(vol->project),
                       .type = g_strdup(shelf_type_name(vol->type)),
                       .name = g_strdup(vol->name),
                       .content_type = g_strdup(block ? "block" : "filesystem"),
                       .description = g_strdup(told_text(told, "description")),
                       .config = told_texts(told, "config"),
                       .created_at = made_at(vol->path)};
    return row;
}

bool
unknown_take(PoolTable *table, const UnknownVol *unknown, json_t *told, GError **error)
{
    const Vol vol = {.pool = unknown->pool,
                     .project = unknown->project,
                     .type = unknown->type,
                     .name = unknown->name};
    g_auto(VolLock) lock = shelf_lock(table, &vol);
    if (has_row(table, &vol)) {
        return true;
    }
    Pool *pool = shelf_pool(table, unknown->pool, true, error);
    g_autofree char *dir = pool != NULL ? shelf_snaps_path(pool, &vol) : NULL;
    g_autoptr(VolumeRow) row = volume_row(unknown, json_object_get(told, "volume"));
    g_autoptr(GPtrArray) snaps = dir != NULL ? snapshot_rows(unknown, dir, told, error) : NULL;
    if (snaps == NULL || !volumes_insert_all(table->agent->db, row, snaps, error)) {
        return haw_push(error, "recover the volume \"%s\"", unknown->name);
    }
    pool = shelf_pool(table, unknown->pool, true, error);
    if (pool != NULL) {
        shelf_link(table, pool, &vol);
    }
    haw_info("volume.recovered", KS("pool", unknown->pool), KS("type", row->type),
             KS("project", unknown->project), KS("volume", unknown->name));
    return true;
}

/* ---- pools: U3 ---- */

bool
unknown_pool_mount(PoolTable *table, const char *name, const char *driver, json_t *config,
                   GError **error)
{
    const Driver *found = pooldriver_find(driver);
    if (found == NULL || !found->usable()) {
        return haw_fail(error, HAW_FAILED, "Unknown driver");
    }
    if (!pool_check_name(name, error) || !pool_check_config(driver, config, error)) {
        return haw_push(error, "Failed config validation for unknown pool \"%s\"", name);
    }
    const char *source = keys_get(config, "source");
    if (source == NULL || !g_file_test(source, G_FILE_TEST_EXISTS)) {
        return haw_fail(error, HAW_NOT_FOUND, "The source of pool \"%s\" is not there: \"%s\"",
                        name, source != NULL ? source : "");
    }
    PoolRow *row = g_new0(PoolRow, 1);
    *row = (PoolRow){.name = g_strdup(name),
                     .driver = g_strdup(driver),
                     .description = g_strdup(""),
                     .state = g_strdup("Pending"),
                     .config = json_deep_copy(config)};
    Pool *pool = shelf_add(table, &row);
    DriverPool place = shelf_driver_pool(table, pool);
    if (!pool->driver->pool_mount(&place, error)) {
        haw_push(error, "Failed mounting pool \"%s\"", name);
        g_hash_table_remove(table->pools, name);
        return false;
    }
    return true;
}

void
unknown_pool_forget(PoolTable *table, const char *name)
{
    Pool *pool = shelf_pool(table, name, false, NULL);
    if (pool != NULL && pool->row->id == 0 && !pool->available) {
        g_autoptr(GError) error = NULL;
        DriverPool place = shelf_driver_pool(table, pool);
        if (!pool->driver->pool_unmount(&place, &error)) {
            haw_warn("pool.stays_mounted", KS("pool", name), KS("why", error->message));
        }
        g_hash_table_remove(table->pools, name);
    }
}

bool
unknown_pool_take(PoolTable *table, const char *name, json_t *told, GError **error)
{
    Pool *pool = shelf_pool(table, name, false, error);
    if (pool == NULL || pool->row->id != 0) {
        return pool != NULL;
    }
    json_t *config = json_object_get(told, "config");
    if (json_is_object(config) && pool_check_config(pool->row->driver, config, NULL)) {
        json_decref(pool->row->config);
        pool->row->config = json_deep_copy(config);
        g_free(pool->row->description);
        pool->row->description = g_strdup(told_text(told, "description"));
    }
    g_free(pool->row->state);
    pool->row->state = g_strdup("Created");
    if (!shelf_mark(pool, error) ||
        !pools_insert(table->agent->db, pool->row, &pool->row->id, error)) {
        return false;
    }
    crash_point("recover");
    return shelf_open(table, pool, error);
}
