/* Volumes: made and copied; rows and disk together.
 * V1  Creation: row, then content in .new, then one rename to its place: a row without a directory is a
 *     creation (or deletion) that a crash cut short, and repair.c removes it.
 * V5  A failure leaves neither row nor directory; a full disk is told as "no space left".
 * V6  The size of a virtual machine's disk is its file's, and its root device's wish: the row has none.
 * Deletion and renames (V2 to V4) are in volleave.c, snapshots in volsnap.c, mounts in volmount.c. Main loop, inside fibers. */
#include "agent/store/shelf.h"

#include "agent/store/work.h"
#include "base/clock.h"
#include "base/crash.h"
#include "base/fd.h"
#include "base/ids.h"
#include "base/log.h"
#include "proto/grammar.h"
#include "proto/keys.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define BLOCK_DEFAULT_SIZE "10GiB"

/* ---- configuration of a new volume ---- */

static const char *
content_type_of(const Vol *vol, const VolMake *make)
{
    return make->content_type != NULL ? make->content_type
           : vol->type == VOL_VM      ? "block"
                                      : "filesystem";
}

/* The pool's "volume.*" defaults for what the volume does not say itself; a new reference. */
static json_t *
with_defaults(Pool *pool, const Vol *vol, const VolMake *make)
{
    bool block = strcmp(content_type_of(vol, make), "block") == 0;
    json_t *config = make->config != NULL ? json_copy(make->config) : json_object();
    const char *key = NULL;
    json_t *value = NULL;
    json_object_foreach (pool->row->config, key, value) {
        if (!g_str_has_prefix(key, "volume.")) {
            continue;
        }
        const char *name = key + strlen("volume.");
        bool shifting =
            strcmp(name, "security.shifted") == 0 || strcmp(name, "security.unmapped") == 0;
        bool own_size =
            strcmp(name, "size") == 0 && (vol->type == VOL_IMAGE || (block && make->as_is));
        if ((shifting && (vol->type != VOL_CUSTOM || block)) || own_size ||
            json_object_get(config, name) != NULL) {
            continue;
        }
        json_object_set(config, name, value);
    }
    if (block && vol->type != VOL_IMAGE && !make->as_is && keys_get(config, "size") == NULL) {
        json_object_set_new(config, "size", json_string(BLOCK_DEFAULT_SIZE));
    }
    return config;
}

/* 0 when it has none. */
static gint64
size_in(json_t *config)
{
    gint64 bytes = 0;
    const char *text = keys_get(config, "size");
    return text != NULL && grammar_parse_size(text, &bytes, NULL) ? bytes : 0;
}

static bool
insert_row(PoolTable *table, Pool *pool, const Vol *vol, const VolMake *make, VolumeRow *row,
           gint64 *ret_bytes, GError **error)
{
    row->pool = g_strdup(vol->pool);
    row->project = g_strdup(vol->type == VOL_IMAGE ? "default" : vol->project);
    row->type = g_strdup(shelf_type_name(vol->type));
    row->name = g_strdup(vol->name);
    row->content_type = g_strdup(content_type_of(vol, make));
    row->description = g_strdup(make->description != NULL ? make->description : "");
    row->config = with_defaults(pool, vol, make);
    row->created_at = clock_real_us();
    *ret_bytes = size_in(row->config);
    if (vol->type == VOL_VM) { /* V6 */
        json_object_del(row->config, "size");
    }
    GError *cause = NULL;
    if (volumes_insert(table->agent->db, row, &cause)) {
        return true;
    }
    if (haw_code(cause) == HAW_EXISTS) {
        g_clear_error(&cause);
        return haw_fail(error, HAW_EXISTS, "Volume by that name already exists");
    }
    g_propagate_error(error, cause);
    return false;
}

/* ---- content, then its place ---- */

/* What is wanted in the new directory; exactly one of 'fill', 'from' or neither (empty). */
struct content {
    VolFill fill;
    void *data;
    Pool *from_pool;
    const DriverVol *from;
    GCancellable *cancel;
    gint64 bytes; /* the size it shall have; 0: what the content has */
};

static bool
bring_content(Pool *pool, const DriverVol *temp, const struct content *content, GError **error)
{
    if (content->from != NULL && content->from_pool == pool) {
        return work_clone(pool->driver, content->from, temp, content->cancel, error);
    }
    if (content->from != NULL) {
        g_autofree char *id = ids_uuid();
        g_autofree char *scratch = g_build_filename(content->from_pool->new_dir, id, NULL);
        return work_carry(content->from_pool->driver, content->from, scratch, pool->driver, temp,
                          content->cancel, error);
    }
    if (!work_create(pool->driver, temp, error)) {
        return false;
    }
    crash_point("volume");
    return content->fill == NULL || content->fill(temp->path, content->data, error);
}

static bool
apply_size(Pool *pool, const DriverVol *vol, gint64 bytes, GError **error)
{
    if (bytes == 0 || vol->type == VOL_IMAGE || vol->snapshot) {
        return true;
    }
    return vol->block ? work_block_size(vol, bytes, error)
                      : work_quota(pool->driver, vol, bytes, error);
}

/* Instance roots must not be reached by the host's users: what is set-user-id inside is theirs. */
static void
close_door(const DriverVol *vol)
{
    bool instance = vol->type == VOL_CONTAINER || vol->type == VOL_VM;
    if (instance && (chown(vol->path, 0, 0) < 0 || chmod(vol->path, 0100) < 0)) {
        haw_warn("volume.mode", KS("path", vol->path), KS("why", g_strerror(errno)));
    }
}

static bool
put_in_place(Pool *pool, const DriverVol *temp, const DriverVol *place, GError **error)
{
    g_autofree char *parent = g_path_get_dirname(place->path);
    if (!fd_mkdir_p(parent, 0711, error)) {
        return false;
    }
    if (place->type != VOL_IMAGE && !place->snapshot) {
        close_door(temp);
    }
    if (rename(temp->path, place->path) < 0) {
        return haw_fail_errno(error, errno, "put the volume at '%s'", place->path);
    }
    crash_point("volume");
    return (!place->snapshot && place->type != VOL_IMAGE) ||
           work_seal(pool->driver, place, true, error);
}

static bool
is_full(const GError *error)
{
    return haw_code(error) == HAW_LIMIT;
}

/* Whether the content can be brought a second time: a stream that was read cannot. */
static bool
repeatable(const Vol *vol, const struct content *content)
{
    return content->fill == NULL || vol->type == VOL_IMAGE;
}

/* V1, V5. Once more after the sweeper has given space back. */
static bool
build(PoolTable *table, Pool *pool, const Vol *vol, const VolumeRow *row,
      const struct content *content, GError **error)
{
    g_auto(DriverVol) place = {0}, temp = {0};
    shelf_place(pool, vol, &place);
    place.number = row->id;
    place.block = strcmp(row->content_type, "block") == 0;
    for (int attempt = 0;; attempt++) {
        GError *cause = NULL;
        driver_vol_done(&temp);
        shelf_new_place(pool, &place, &temp);
        if (bring_content(pool, &temp, content, &cause)) {
            crash_point("volume");
            if (apply_size(pool, &temp, content->bytes, &cause) &&
                put_in_place(pool, &temp, &place, &cause)) {
                return true;
            }
        }
        work_remove(pool->driver, &temp, NULL);
        if (attempt == 0 && is_full(cause) && pool->sweeping && repeatable(vol, content)) {
            g_clear_error(&cause);
            shelf_drain(pool);
            continue;
        }
        g_propagate_error(error, cause);
        return false;
    }
}

/* What lies there without a row is somebody's: unknown.h. */
static bool
check_free(Pool *pool, const Vol *vol, GError **error)
{
    struct stat st;
    g_auto(DriverVol) place = {0};
    shelf_place(pool, vol, &place);
    return vol->type == VOL_IMAGE || lstat(place.path, &st) < 0 ||
           haw_fail(
               error, HAW_EXISTS,
               "Volume \"%s\" is on pool \"%s\", and in no database: 'hawser recover' takes it in",
               vol->name, vol->pool);
}

static bool
make_volume(PoolTable *table, Pool *pool, const Vol *vol, const VolMake *make,
            const struct content *wanted, VolumeRow *row, GError **error)
{
    struct content content = *wanted;
    if (!insert_row(table, pool, vol, make, row, &content.bytes, error)) {
        return false;
    }
    crash_point("volume");
    if (!check_free(pool, vol, error)) {
        VolumeWhich which = shelf_which(vol);
        volumes_delete(table->agent->db, &which, NULL);
        return haw_push(error, "Failed creating volume \"%s\"", vol->name);
    }
    if (!build(table, pool, vol, row, &content, error)) {
        VolumeWhich which = shelf_which(vol);
        if (shelf_type_snap_dir(vol->type) != NULL) { /* a fill may have made some */
            g_autofree char *snaps = shelf_snaps_path(pool, vol);
            shelf_discard(table, pool, snaps, NULL);
            shelf_link(table, pool, vol);
        }
        volumes_delete(table->agent->db, &which, NULL);
        return haw_push(error, "Failed creating volume \"%s\"", vol->name);
    }
    if (vol->type == VOL_IMAGE) {
        g_hash_table_replace(pool->images, g_strdup(vol->name), GUINT_TO_POINTER(0));
    }
    shelf_link(table, pool, vol);
    crash_point("volume");
    return true;
}

/* ---- creation ---- */

bool
volume_create(PoolTable *table, const Vol *vol, const VolMake *make, VolFill fill, void *data,
              GError **error)
{
    g_auto(VolLock) lock = shelf_lock(table, vol);
    Pool *pool = shelf_pool(table, vol->pool, true, error);
    if (pool == NULL) {
        return false;
    }
    g_autoptr(VolumeRow) row = g_new0(VolumeRow, 1);
    const struct content content = {.fill = fill, .data = data};
    return make_volume(table, pool, vol, make, &content, row, error);
}

bool
vol_create(PoolTable *table, const Vol *vol, json_t *config, VolFill fill, void *data,
           GError **error)
{
    const VolMake make = {.config = config};
    return volume_create(table, vol, &make, fill, data, error);
}

static bool
need_image(PoolTable *table, Pool *pool, const Vol *image, const char *content_type, VolFill fill,
           void *data, GError **error)
{
    g_auto(VolLock) lock = shelf_lock(table, image);
    if (g_hash_table_contains(pool->images, image->name)) {
        return true;
    }
    g_autoptr(VolumeRow) row = g_new0(VolumeRow, 1);
    const VolMake make = {.content_type = content_type};
    const struct content content = {.fill = fill, .data = data};
    return make_volume(table, pool, image, &make, &content, row, error);
}

/* V4 */
static void
use_image(Pool *pool, const char *fingerprint, int change)
{
    guint count = GPOINTER_TO_UINT(g_hash_table_lookup(pool->images, fingerprint));
    g_hash_table_replace(pool->images, g_strdup(fingerprint),
                         GUINT_TO_POINTER((guint) ((int) count + change)));
}

/* A disk is at least as large as its image, and the default no limit for one that is larger. */
static bool
size_from_image(Pool *pool, const DriverVol *image, json_t *config, GError **error)
{
    g_autofree char *file = g_build_filename(image->path, DRIVER_BLOCK_FILE, NULL);
    struct stat st;
    gint64 usual = 0, bytes = size_in(config);
    const char *pools = keys_get(pool->row->config, "volume.size");
    if (stat(file, &st) < 0) {
        return haw_fail_errno(error, errno, "look at '%s'", file);
    }
    if (bytes == 0 && pools != NULL) {
        grammar_parse_size(pools, &bytes, NULL);
    }
    if (bytes > 0 && bytes < st.st_size) {
        return haw_fail(error, HAW_FAILED,
                        "Source image size (%" G_GINT64_FORMAT
                        ") exceeds specified volume size (%" G_GINT64_FORMAT ")",
                        (gint64) st.st_size, bytes);
    }
    grammar_parse_size(BLOCK_DEFAULT_SIZE, &usual, NULL);
    if (bytes == 0) {
        bytes = MAX(usual, (gint64) st.st_size);
    }
    json_object_set_new(config, "size", json_sprintf("%" G_GINT64_FORMAT, bytes));
    return true;
}

bool
vol_create_from_image(PoolTable *table, const Vol *vol, const char *fingerprint, json_t *config,
                      VolFill fill, void *data, GError **error)
{
    const Vol image = {
        .pool = vol->pool, .project = "default", .type = VOL_IMAGE, .name = fingerprint};
    g_auto(VolLock) lock = shelf_lock(table, vol);
    Pool *pool = shelf_pool(table, vol->pool, true, error);
    if (pool == NULL) {
        return false;
    }
    const char *content_type = vol->type == VOL_VM ? "block" : "filesystem";
    if (!need_image(table, pool, &image, content_type, fill, data, error)) {
        return false;
    }

    g_auto(DriverVol) from = {0};
    shelf_place(pool, &image, &from);
    json_auto_t *sized = config != NULL ? json_copy(config) : json_object();
    if (vol->type == VOL_VM && !size_from_image(pool, &from, sized, error)) {
        return false;
    }
    g_autoptr(VolumeRow) row = g_new0(VolumeRow, 1);
    const VolMake make = {.config = sized};
    const struct content content = {.from_pool = pool, .from = &from};
    use_image(pool, fingerprint, 1);
    bool ok = make_volume(table, pool, vol, &make, &content, row, error);
    use_image(pool, fingerprint, -1);
    return ok;
}

/* ---- copies ---- */

static void
place_of_row(Pool *pool, const Vol *vol, const VolumeRow *row, DriverVol *ret)
{
    shelf_place(pool, vol, ret);
    ret->number = row->id;
    ret->block = strcmp(row->content_type, "block") == 0;
}

/* The row of a snapshot that looks like 'snap', then its content. */
static bool
make_snapshot(PoolTable *table, Pool *pool, const Vol *to, const VolumeSnapRow *snap,
              const struct content *content, GError **error)
{
    VolumeWhich which = shelf_which(to);
    g_autoptr(VolumeRow) row = volumes_get(table->agent->db, &which, error);
    if (row == NULL) {
        return false;
    }
    VolumeSnapRow made = *snap;
    Vol place = *to;
    place.snap = snap->name;
    made.volume_id = row->id;
    if (!volume_snaps_insert(table->agent->db, &made, error)) {
        return false;
    }
    crash_point("volume");
    if (!build(table, pool, &place, row, content, error)) {
        volume_snaps_delete(table->agent->db, made.id, NULL);
        return haw_push(error, "Failed making snapshot \"%s\"", snap->name);
    }
    shelf_link(table, pool, to);
    return true;
}

bool
volume_copy_snapshot(PoolTable *table, const Vol *from, const Vol *to, const VolumeSnapRow *snap,
                     GCancellable *cancel, GError **error)
{
    Pool *from_pool = shelf_pool(table, from->pool, true, error);
    Pool *pool = from_pool != NULL ? shelf_pool(table, to->pool, true, error) : NULL;
    if (pool == NULL) {
        return false;
    }
    Vol from_snap = *from;
    from_snap.snap = snap->name;
    g_auto(DriverVol) source = {0};
    shelf_place(from_pool, &from_snap, &source);
    const struct content content = {.from_pool = from_pool, .from = &source, .cancel = cancel};
    return make_snapshot(table, pool, to, snap, &content, error);
}

bool
volume_snapshot_of(PoolTable *table, const Vol *to, const VolumeSnapRow *snap, const char *path,
                   GCancellable *cancel, GError **error)
{
    Pool *pool = shelf_pool(table, to->pool, true, error);
    const DriverVol from = {
        .pool_path = pool != NULL ? pool->path : NULL, .path = (char *) path, .type = to->type};
    const struct content content = {.from_pool = pool, .from = &from, .cancel = cancel};
    return pool != NULL && make_snapshot(table, pool, to, snap, &content, error);
}

bool
volume_import_snapshot(PoolTable *table, const Vol *to, const VolumeSnapRow *snap, VolFill fill,
                       void *data, GError **error)
{
    Pool *pool = shelf_pool(table, to->pool, true, error);
    const struct content content = {.fill = fill, .data = data};
    return pool != NULL && make_snapshot(table, pool, to, snap, &content, error);
}

static bool
copy_snapshots(PoolTable *table, const Vol *from, const Vol *to, GCancellable *cancel,
               GError **error)
{
    VolumeWhich which = shelf_which(from);
    g_autoptr(GPtrArray) snaps = volume_snaps_load(table->agent->db, &which, error);
    if (snaps == NULL) {
        return false;
    }
    for (guint i = 0; i < snaps->len; i++) {
        if (!volume_copy_snapshot(table, from, to, snaps->pdata[i], cancel, error)) {
            return false;
        }
    }
    return true;
}

bool
volume_copy(PoolTable *table, const Vol *from, const Vol *to, bool with_snapshots,
            const VolMake *make, GCancellable *cancel, GError **error)
{
    Pool *from_pool = shelf_pool(table, from->pool, true, error);
    Pool *pool = from_pool != NULL ? shelf_pool(table, to->pool, true, error) : NULL;
    if (pool == NULL) {
        return false;
    }
    Vol whole = *from;
    whole.snap = NULL;
    VolumeWhich which = shelf_which(&whole);
    g_autoptr(VolumeRow) source_row = volumes_get(table->agent->db, &which, error);
    if (source_row == NULL) {
        return false;
    }

    g_auto(DriverVol) source = {0};
    place_of_row(from_pool, from, source_row, &source);
    VolMake made = *make;
    made.content_type = source_row->content_type;
    made.config = make->config != NULL ? make->config : source_row->config;
    made.as_is = true;
    made.description = make->description != NULL ? make->description : source_row->description;
    g_autoptr(VolumeRow) row = g_new0(VolumeRow, 1);
    const struct content content = {.from_pool = from_pool, .from = &source, .cancel = cancel};
    {
        g_auto(VolLock) lock = shelf_lock(table, to);
        if (shelf_pool(table, to->pool, true, error) != pool ||
            !make_volume(table, pool, to, &made, &content, row, error)) {
            return false;
        }
    }
    if (with_snapshots && from->snap == NULL && !copy_snapshots(table, from, to, cancel, error)) {
        vol_delete(table, to, NULL);
        return false;
    }
    shelf_link(table, pool, to);
    return true;
}

bool
vol_copy(PoolTable *table, const Vol *from, const Vol *to, bool with_snapshots,
         GCancellable *cancel, GError **error)
{
    const VolMake make = {0};
    return volume_copy(table, from, to, with_snapshots, &make, cancel, error);
}
