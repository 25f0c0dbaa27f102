/* What a crash left on a pool, put right when it is opened.
 * R1  A rename under way (moved_from) is finished.
 * R2  .new is thrown away; what is in .gone is removed in the background.
 * R3  A row without a directory is deleted, for its volume was never finished or its deletion was under
 *     way (V1, V2). A directory without a row stays when it can be recovered (unknown.h), with its
 *     snapshots; what else is there goes. Never on a pool without its mark (S1).
 * R4  An image's directory stays, row or not, while volumes live on top of it.
 * R5  Mounts that we make (…/rootfs of instances and snapshots) and nobody holds are undone once the
 *     instances have adopted theirs. What others mounted below a pool stays.
 * Main loop, inside fibers; the scans of directories are short and run in place. */
#include "agent/store/shelf.h"
#include "agent/store/unknown.h"

#include "agent/store/work.h"
#include "base/fd.h"
#include "base/log.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static bool
is_dir(const char *path)
{
    struct stat st;
    return lstat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

static GPtrArray *
names_in(const char *path)
{
    GPtrArray *names = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    for (const char *name; dir != NULL && (name = g_dir_read_name(dir)) != NULL;) {
        g_ptr_array_add(names, g_strdup(name));
    }
    return names;
}

static void
vol_of_row(const VolumeRow *row, Vol *ret)
{
    *ret = (Vol){.pool = row->pool, .project = row->project, .name = row->name};
    g_assert(shelf_type_parse(row->type, &ret->type));
}

/* ---- R1 ---- */

static void
finish_move(const char *from, const char *to)
{
    if (is_dir(from) && !is_dir(to) && rename(from, to) < 0) {
        haw_error("volume.not_moved", KS("path", from), KS("why", g_strerror(errno)));
    }
}

static bool
finish_rename(PoolTable *table, Pool *pool, const VolumeRow *row, GError **error)
{
    Vol now, before;
    vol_of_row(row, &now);
    before = now;
    before.name = row->moved_from;
    g_auto(DriverVol) from = {0}, to = {0};
    shelf_place(pool, &before, &from);
    shelf_place(pool, &now, &to);
    finish_move(from.path, to.path);
    if (shelf_type_snap_dir(now.type) != NULL) {
        g_autofree char *from_snaps = shelf_snaps_path(pool, &before);
        g_autofree char *to_snaps = shelf_snaps_path(pool, &now);
        finish_move(from_snaps, to_snaps);
    }
    shelf_link(table, pool, &before);
    haw_info("volume.rename_finished", KS("pool", row->pool), KS("volume", row->name));
    return volumes_rename_done(table->agent->db, row->id, error);
}

static bool
finish_snap_rename(PoolTable *table, Pool *pool, const VolumeSnapRow *snap, const Vol *vol,
                   GError **error)
{
    Vol now = *vol, before = *vol;
    now.snap = snap->name;
    before.snap = snap->moved_from;
    g_auto(DriverVol) from = {0}, to = {0};
    shelf_place(pool, &before, &from);
    shelf_place(pool, &now, &to);
    finish_move(from.path, to.path);
    return volume_snaps_rename_done(table->agent->db, snap->id, error);
}

/* ---- R3: rows against directories; 'known' collects the paths that have a row ---- */

static void
forget_volume(PoolTable *table, const VolumeRow *row)
{
    const VolumeWhich which = {
        .pool = row->pool, .project = row->project, .type = row->type, .name = row->name};
    haw_warn("volume.row_removed", KS("pool", row->pool), KS("type", row->type),
             KS("project", row->project), KS("volume", row->name),
             KS("why", "it has no directory"));
    volumes_delete(table->agent->db, &which, NULL);
}

static bool
check_volumes(PoolTable *table, Pool *pool, GHashTable *known, GError **error)
{
    const VolumeWhich all = {.pool = pool->row->name};
    g_autoptr(GPtrArray) rows = volumes_load(table->agent->db, &all, error);
    if (rows == NULL) {
        return false;
    }
    g_hash_table_remove_all(pool->images);
    for (guint i = 0; i < rows->len; i++) {
        VolumeRow *row = rows->pdata[i];
        if (row->moved_from != NULL && !finish_rename(table, pool, row, error)) {
            return false;
        }
        Vol vol;
        vol_of_row(row, &vol);
        g_auto(DriverVol) place = {0};
        shelf_place(pool, &vol, &place);
        if (!is_dir(place.path)) {
            forget_volume(table, row);
            continue;
        }
        if (vol.type == VOL_IMAGE) {
            g_hash_table_replace(pool->images, g_strdup(row->name), GUINT_TO_POINTER(0));
        } else {
            g_autofree char *snaps = shelf_snaps_path(pool, &vol);
            g_hash_table_add(known, g_steal_pointer(&snaps));
        }
        shelf_link(table, pool, &vol);
        g_hash_table_add(known, g_steal_pointer(&place.path));
    }
    return true;
}

static bool
check_snapshots(PoolTable *table, Pool *pool, GHashTable *known, GError **error)
{
    const VolumeWhich all = {.pool = pool->row->name};
    g_autoptr(GPtrArray) snaps = volume_snaps_load(table->agent->db, &all, error);
    if (snaps == NULL) {
        return false;
    }
    for (guint i = 0; i < snaps->len; i++) {
        VolumeSnapRow *snap = snaps->pdata[i];
        Vol vol = {.pool = snap->pool, .project = snap->project, .name = snap->volume};
        g_assert(shelf_type_parse(snap->type, &vol.type));
        if (snap->moved_from != NULL && !finish_snap_rename(table, pool, snap, &vol, error)) {
            return false;
        }
        vol.snap = snap->name;
        g_auto(DriverVol) place = {0};
        shelf_place(pool, &vol, &place);
        if (is_dir(place.path)) {
            work_seal(pool->driver, &place, true, NULL);
            g_hash_table_add(known, g_steal_pointer(&place.path));
        } else {
            haw_warn("snapshot.row_removed", KS("pool", snap->pool), KS("volume", snap->volume),
                     KS("snapshot", snap->name), KS("why", "it has no directory"));
            volume_snaps_delete(table->agent->db, snap->id, NULL);
        }
    }
    return true;
}

/* Gone with it, as no row names it; mounts on it first. */
static void
discard_unknown(PoolTable *table, Pool *pool, const char *path, GHashTable *known)
{
    if (g_hash_table_contains(known, path)) {
        return;
    }
    g_auto(DriverVol) vol = {.pool_path = pool->path, .path = g_strdup(path)};
    GError *error = NULL;
    work_unmount(pool->driver, &vol, true, NULL);
    if (!is_dir(path) || (work_seal(pool->driver, &vol, false, &error) &&
                          shelf_discard(table, pool, path, &error))) {
        haw_info("volume.leftover_removed", KS("path", path));
        return;
    }
    haw_warn("volume.leftover_stays", KS("path", path), KS("why", error->message));
    g_clear_error(&error);
}

static void
keep_unknown(Pool *pool, VolType type, GHashTable *known)
{
    g_autofree char *path = g_build_filename(pool->path, shelf_type_dir(type), NULL);
    g_autoptr(GPtrArray) names = names_in(path);
    for (guint i = 0; i < names->len; i++) {
        const char *name = names->pdata[i];
        g_autofree char *each = g_build_filename(path, name, NULL);
        if (g_hash_table_contains(known, each) || !unknown_holds(type, each)) {
            continue;
        }
        haw_warn("volume.unknown", KS("path", each), KS("next", "'hawser recover' takes it in"));
        g_autofree char *snaps =
            g_build_filename(pool->path, shelf_type_snap_dir(type), name, NULL);
        g_autoptr(GPtrArray) each_snap = names_in(snaps);
        for (guint j = 0; j < each_snap->len; j++) {
            g_hash_table_add(known, g_build_filename(snaps, each_snap->pdata[j], NULL));
        }
        g_hash_table_add(known, g_steal_pointer(&snaps));
        g_hash_table_add(known, g_steal_pointer(&each));
    }
}

static void
discard_in(PoolTable *table, Pool *pool, const char *dir, bool deep, GHashTable *known)
{
    g_autofree char *path = g_build_filename(pool->path, dir, NULL);
    g_autoptr(GPtrArray) names = names_in(path);
    for (guint i = 0; i < names->len; i++) {
        g_autofree char *each = g_build_filename(path, names->pdata[i], NULL);
        if (!deep || !g_hash_table_contains(known, each)) {
            discard_unknown(table, pool, each, known);
            continue;
        }
        g_autoptr(GPtrArray) snaps = names_in(each);
        for (guint j = 0; j < snaps->len; j++) {
            g_autofree char *snap = g_build_filename(each, snaps->pdata[j], NULL);
            discard_unknown(table, pool, snap, known);
        }
        rmdir(each);
    }
}

/* R4 */
static void
discard_images(PoolTable *table, Pool *pool, GHashTable *known)
{
    g_autofree char *path = g_build_filename(pool->path, shelf_type_dir(VOL_IMAGE), NULL);
    g_autoptr(GPtrArray) names = names_in(path);
    for (guint i = 0; i < names->len; i++) {
        g_autofree char *each = g_build_filename(path, names->pdata[i], NULL);
        if (g_hash_table_contains(known, each) || repair_image_used(pool, names->pdata[i])) {
            continue;
        }
        discard_unknown(table, pool, each, known);
    }
}

/* ---- R4 ---- */

static bool
lives_on(Pool *pool, const char *path, VolType type, const char *fingerprint)
{
    const DriverVol vol = {.pool_path = pool->path, .path = (char *) path, .type = type};
    g_autofree char *below = pool->driver->image_below(&vol);
    return below != NULL && strcmp(below, fingerprint) == 0;
}

bool
repair_image_used(Pool *pool, const char *fingerprint)
{
    if (pool->driver->image_below == NULL) {
        return false;
    }
    g_autofree char *dir = g_build_filename(pool->path, shelf_type_dir(VOL_CONTAINER), NULL);
    g_autoptr(GPtrArray) names = names_in(dir);
    for (guint i = 0; i < names->len; i++) {
        g_autofree char *each = g_build_filename(dir, names->pdata[i], NULL);
        if (lives_on(pool, each, VOL_CONTAINER, fingerprint)) {
            return true;
        }
    }
    g_autofree char *snaps = g_build_filename(pool->path, shelf_type_snap_dir(VOL_CONTAINER), NULL);
    g_autoptr(GPtrArray) owners = names_in(snaps);
    for (guint i = 0; i < owners->len; i++) {
        g_autofree char *owner = g_build_filename(snaps, owners->pdata[i], NULL);
        g_autoptr(GPtrArray) each = names_in(owner);
        for (guint j = 0; j < each->len; j++) {
            g_autofree char *path = g_build_filename(owner, each->pdata[j], NULL);
            if (lives_on(pool, path, VOL_CONTAINER, fingerprint)) {
                return true;
            }
        }
    }
    return false;
}

void
repair_images(PoolTable *table, Pool *pool)
{
    if (pool->driver->image_below == NULL) {
        return;
    }
    g_autofree char *path = g_build_filename(pool->path, shelf_type_dir(VOL_IMAGE), NULL);
    g_autoptr(GPtrArray) names = names_in(path);
    for (guint i = 0; i < names->len; i++) {
        g_autofree char *each = g_build_filename(path, names->pdata[i], NULL);
        const Vol image = {.pool = pool->row->name,
                           .project = "default",
                           .type = VOL_IMAGE,
                           .name = names->pdata[i]};
        g_auto(VolLock) lock = shelf_lock(table, &image);
        if (!g_hash_table_contains(pool->images, image.name) &&
            !repair_image_used(pool, image.name)) {
            shelf_discard(table, pool, each, NULL);
        }
    }
}

/* ---- the pool ---- */

static bool
throw_new_away(PoolTable *table, Pool *pool, GError **error)
{
    g_autoptr(GPtrArray) names = names_in(pool->new_dir);
    for (guint i = 0; i < names->len; i++) {
        g_autofree char *each = g_build_filename(pool->new_dir, names->pdata[i], NULL);
        g_auto(GStrv) mounts = mnt_list_below(each);
        for (char **mount = mounts; *mount != NULL; mount++) {
            mnt_unmount(*mount, true, NULL);
        }
        g_auto(DriverVol) vol = {.pool_path = pool->path, .path = g_strdup(each)};
        if (!work_seal(pool->driver, &vol, false, error) ||
            !shelf_discard(table, pool, each, error)) {
            return false;
        }
    }
    return shelf_discard(table, pool, "", error); /* starts the sweep of .gone */
}

bool
repair_pool(PoolTable *table, Pool *pool, GError **error)
{
    g_autoptr(GHashTable) known = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    if (!throw_new_away(table, pool, error) || !check_volumes(table, pool, known, error) ||
        !check_snapshots(table, pool, known, error)) {
        return haw_push(error, "repair the pool '%s'", pool->row->name);
    }
    static const VolType with_snaps[] = {VOL_CONTAINER, VOL_VM, VOL_CUSTOM};
    for (size_t i = 0; i < G_N_ELEMENTS(with_snaps); i++) {
        keep_unknown(pool, with_snaps[i], known);
        discard_in(table, pool, shelf_type_dir(with_snaps[i]), false, known);
        discard_in(table, pool, shelf_type_snap_dir(with_snaps[i]), true, known);
    }
    discard_images(table, pool, known);
    return true;
}

/* R5 */
static bool
is_ours(Pool *pool, const char *mount)
{
    static const VolType types[] = {VOL_CONTAINER, VOL_VM};
    for (size_t i = 0; i < G_N_ELEMENTS(types); i++) {
        g_autofree char *dir = g_strdup_printf("%s/%s/", pool->path, shelf_type_dir(types[i]));
        g_autofree char *snaps =
            g_strdup_printf("%s/%s/", pool->path, shelf_type_snap_dir(types[i]));
        if (g_str_has_prefix(mount, dir) || g_str_has_prefix(mount, snaps)) {
            return g_str_has_suffix(mount, "/rootfs");
        }
    }
    return false;
}

static bool
is_held(PoolTable *table, const char *mount)
{
    g_autofree char *volume = g_path_get_dirname(mount);
    return g_hash_table_contains(table->holds, volume);
}

void
repair_mounts(PoolTable *table)
{
    GHashTableIter iter;
    gpointer value = NULL;
    g_hash_table_iter_init(&iter, table->pools);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        Pool *pool = value;
        g_auto(GStrv) mounts = mnt_list_below(pool->path);
        for (char **mount = mounts; *mount != NULL; mount++) {
            if (is_ours(pool, *mount) && !is_held(table, *mount)) {
                haw_info("volume.leftover_unmounted", KS("path", *mount));
                mnt_unmount(*mount, true, NULL);
            }
        }
    }
}
