/* Where volumes are: the words for their types, their directories on a pool, and the links of LXD's layout
 * that lead there (<dir>/containers/NAME, …). Main loop only, but nothing here waits. */
#include "agent/store/shelf.h"

#include "base/ids.h"
#include "base/log.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* ---- words and places ---- */

static const struct {
    const char *name, *dir, *snap_dir, *link_dir, *snap_link_dir;
} type_words[] = {
    [VOL_CONTAINER] = {"container", "containers", "containers-snapshots", "containers",
                       "snapshots"},
    [VOL_VM] = {"virtual-machine", "virtual-machines", "virtual-machines-snapshots",
                "virtual-machines", "virtual-machines-snapshots"},
    [VOL_IMAGE] = {"image", "images", NULL, NULL, NULL},
    [VOL_CUSTOM] = {"custom", "custom", "custom-snapshots", NULL, NULL},
};

const char *
shelf_type_name(VolType type)
{
    return type_words[type].name;
}

bool
shelf_type_parse(const char *name, VolType *ret_type)
{
    for (size_t i = 0; i < G_N_ELEMENTS(type_words); i++) {
        if (strcmp(type_words[i].name, name) == 0) {
            *ret_type = (VolType) i;
            return true;
        }
    }
    return false;
}

const char *
shelf_type_dir(VolType type)
{
    return type_words[type].dir;
}

const char *
shelf_type_snap_dir(VolType type)
{
    return type_words[type].snap_dir;
}

char *
shelf_disk_name(const Vol *vol)
{
    switch (vol->type) {
    case VOL_CUSTOM:
        return g_strdup_printf("%s_%s", vol->project, vol->name);
    case VOL_IMAGE:
        return g_strdup(vol->name);
    default:
        return strcmp(vol->project, "default") == 0
                   ? g_strdup(vol->name)
                   : g_strdup_printf("%s_%s", vol->project, vol->name);
    }
}

char *
shelf_snaps_path(Pool *pool, const Vol *vol)
{
    g_autofree char *name = shelf_disk_name(vol);
    return g_build_filename(pool->path, shelf_type_snap_dir(vol->type), name, NULL);
}

void
shelf_place(Pool *pool, const Vol *vol, DriverVol *ret)
{
    *ret = (DriverVol){.pool_path = pool->path, .type = vol->type, .snapshot = vol->snap != NULL};
    if (vol->snap != NULL) {
        g_autofree char *snaps = shelf_snaps_path(pool, vol);
        ret->path = g_build_filename(snaps, vol->snap, NULL);
    } else {
        g_autofree char *name = shelf_disk_name(vol);
        ret->path = g_build_filename(pool->path, shelf_type_dir(vol->type), name, NULL);
    }
}

void
shelf_new_place(Pool *pool, const DriverVol *like, DriverVol *ret)
{
    g_autofree char *id = ids_uuid();
    *ret = *like;
    ret->path = g_build_filename(pool->new_dir, id, NULL);
}

/* ---- names in the agent's directory ---- */

static void
point_at(const char *link, const char *target)
{
    g_autofree char *now = g_file_read_link(link, NULL);
    bool wanted = g_file_test(target, G_FILE_TEST_IS_DIR);
    if (now != NULL && (strcmp(now, target) == 0) != wanted) {
        unlink(link);
        g_clear_pointer(&now, g_free);
    }
    if (wanted && now == NULL && symlink(target, link) < 0) {
        haw_warn("volume.no_link", KS("path", link), KS("why", g_strerror(errno)));
    }
}

void
shelf_link(PoolTable *table, Pool *pool, const Vol *vol)
{
    if (type_words[vol->type].link_dir == NULL) {
        return;
    }
    g_autofree char *name = shelf_disk_name(vol);
    g_autofree char *link = agent_path(table->agent, "%s/%s", type_words[vol->type].link_dir, name);
    g_autofree char *place = g_build_filename(pool->path, shelf_type_dir(vol->type), name, NULL);
    point_at(link, place);
    g_autofree char *snap_link =
        agent_path(table->agent, "%s/%s", type_words[vol->type].snap_link_dir, name);
    g_autofree char *snaps = shelf_snaps_path(pool, vol);
    point_at(snap_link, snaps);
}
