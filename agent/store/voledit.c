/* Changes of custom volumes.
 * E1  What is refused is refused before anything is touched.
 * E2  A move copies first, then lets devices follow, then deletes: at any moment the devices name a
 *     whole volume.
 * E3  A refresh replaces the content by one exchange (volreplace.c).
 * Main loop, inside fibers. Called by volume_api.c. */
#include "agent/store/voledit.h"

#include "agent/auth/project.h"
#include "agent/inst/inst.h"
#include "agent/store/backup.h"
#include "agent/store/wire.h"
#include "agent/store/work.h"
#include "base/crash.h"
#include "base/ids.h"
#include "proto/grammar.h"
#include "proto/keys.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

/* ---- update ---- */

static bool
differs(json_t *a, json_t *b, const char *key)
{
    return g_strcmp0(keys_get(a, key), keys_get(b, key)) != 0;
}

static bool
resize(PoolTable *table, const Vol *vol, const VolumeRow *row, json_t *config, GError **error)
{
    bool block = strcmp(row->content_type, "block") == 0;
    gint64 bytes = 0;
    const char *text = keys_get(config, "size");
    if (text != NULL && !grammar_parse_size(text, &bytes, error)) {
        return false;
    }
    if (block && bytes == 0) {
        return true;
    }
    if (block && wire_runs(table, vol)) {
        return haw_fail(error, HAW_FAILED, "In use");
    }
    return vol_set_quota(table, vol, bytes, error);
}

/* The project's limits count the volume as it is: what it gains is held against them. */
static bool
may_grow(PoolTable *table, const Vol *vol, const VolumeRow *row, json_t *config, GError **error)
{
    gint64 was = 0, wanted = 0;
    const char *old = keys_get(row->config, "size"), *new = keys_get(config, "size");
    if ((old != NULL && !grammar_parse_size(old, &was, error)) ||
        (new != NULL && !grammar_parse_size(new, &wanted, error))) {
        return false;
    }
    if (new != NULL && wanted <= was) {
        return true;
    }
    json_auto_t *gain =
        new == NULL ? json_object()
                    : json_pack("{s:o}", "size", json_sprintf("%" G_GINT64_FORMAT, wanted - was));
    return project_allow_volume(table->agent, vol->project, gain, error);
}

/* E1 */
static bool
may_update(PoolTable *table, const Vol *vol, const VolumeRow *row, json_t *config, GError **error)
{
    g_autofree char *disk_name = shelf_disk_name(vol);
    if (!wire_check_volume_config(disk_name, row->content_type, config, error)) {
        return false;
    }
    if (vol->type != VOL_CUSTOM) {
        return !differs(row->config, config, "size") ||
               haw_fail(error, HAW_FAILED, "Instance volume 'size' property cannot be changed");
    }
    bool shifts = differs(row->config, config, "security.shifted") ||
                  differs(row->config, config, "security.unmapped");
    return !shifts || !wire_runs(table, vol) ||
           haw_fail(error, HAW_FAILED,
                    "Cannot modify shifting with running containers using the volume");
}

bool
voledit_update(PoolTable *table, const Vol *vol, const VolumeRow *row, const char *description,
               json_t *config, GError **error)
{
    wire_keep_ids(config, row->config);
    if (!may_update(table, vol, row, config, error)) {
        return false;
    }
    if (vol->type == VOL_CUSTOM && differs(row->config, config, "size") &&
        !(may_grow(table, vol, row, config, error) && resize(table, vol, row, config, error))) {
        return false;
    }
    return volumes_store(table->agent->db, row->id, description, config, error);
}

/* ---- devices that name a volume ---- */

struct rename {
    PoolTable *table;
    const Vol *from, *to;
};

/* True when something in 'devices' changed. */
static bool
rename_in(json_t *devices, const struct rename *job)
{
    bool changed = false;
    const char *name = NULL;
    json_t *device = NULL;
    json_object_foreach (devices, name, device) {
        const char *type = json_string_value(json_object_get(device, "type"));
        const char *pool = json_string_value(json_object_get(device, "pool"));
        const char *source = json_string_value(json_object_get(device, "source"));
        const char *path = json_string_value(json_object_get(device, "path"));
        if (g_strcmp0(type, "disk") == 0 && g_strcmp0(pool, job->from->pool) == 0 &&
            g_strcmp0(source, job->from->name) == 0 && g_strcmp0(path, "/") != 0) {
            json_object_set_new(device, "pool", json_string(job->to->pool));
            json_object_set_new(device, "source", json_string(job->to->name));
            changed = true;
        }
    }
    return changed;
}

static bool
sees_volume(Agent *agent, const char *project, const Vol *vol)
{
    return g_strcmp0(project_for_volumes(agent, project), vol->project) == 0;
}

/* Rows first, as always; what the instances hold in memory follows. */
bool
voledit_devices(PoolTable *table, const Vol *from, const Vol *to, GError **error)
{
    struct rename job = {table, from, to};
    Agent *agent = table->agent;
    g_autoptr(GPtrArray) holders = volume_holders_load(agent->db, error);
    if (holders == NULL) {
        return false;
    }
    for (guint i = 0; i < holders->len; i++) {
        VolumeHolder *holder = holders->pdata[i];
        if (sees_volume(agent, holder->project, from) && rename_in(holder->devices, &job) &&
            !volume_holders_store(agent->db, holder, error)) {
            return false;
        }
    }
    g_autoptr(GPtrArray) all = inst_list(agent->instances, NULL);
    for (guint i = 0; i < all->len; i++) {
        Inst *inst = all->pdata[i];
        if (sees_volume(agent, inst_project(inst), from)) {
            rename_in(inst_devices(inst), &job);
            rename_in(inst_expanded_devices(inst), &job);
        }
    }
    return true;
}

/* ---- move: E2 ---- */

bool
voledit_move(PoolTable *table, const Vol *from, const Vol *to, GCancellable *cancel, GError **error)
{
    const VolMake make = {0};
    if (!volume_copy(table, from, to, true, &make, cancel, error)) {
        return false;
    }
    crash_point("copy");
    bool same_project = strcmp(from->project, to->project) == 0;
    if ((same_project && !voledit_devices(table, from, to, error)) ||
        !backup_remove_all(table, from, error) || !vol_delete(table, from, error)) {
        vol_delete(table, to, NULL);
        return false;
    }
    return true;
}

/* ---- refresh: E3 ---- */

static VolumeSnapRow *
find_snap(GPtrArray *snaps, const VolumeSnapRow *wanted)
{
    for (guint i = 0; i < snaps->len; i++) {
        VolumeSnapRow *snap = snaps->pdata[i];
        if (strcmp(snap->name, wanted->name) == 0) { /* by name only, as LXD */
            return snap;
        }
    }
    return NULL;
}

static bool
match_snapshots(PoolTable *table, const Vol *from, const Vol *to, GCancellable *cancel,
                GError **error)
{
    VolumeWhich from_which = shelf_which(from), to_which = shelf_which(to);
    g_autoptr(GPtrArray) have = volume_snaps_load(table->agent->db, &to_which, error);
    g_autoptr(GPtrArray) want =
        have != NULL ? volume_snaps_load(table->agent->db, &from_which, error) : NULL;
    if (want == NULL) {
        return false;
    }
    for (guint i = 0; i < have->len; i++) {
        VolumeSnapRow *snap = have->pdata[i];
        Vol surplus = *to;
        surplus.snap = snap->name;
        if (find_snap(want, snap) == NULL && !vol_snapshot_delete(table, &surplus, error)) {
            return false;
        }
    }
    for (guint i = 0; i < want->len; i++) {
        if (find_snap(have, want->pdata[i]) == NULL &&
            !volume_copy_snapshot(table, from, to, want->pdata[i], cancel, error)) {
            return false;
        }
    }
    return true;
}

bool
voledit_refresh(PoolTable *table, const Vol *from, const Vol *to, bool with_snapshots,
                GCancellable *cancel, GError **error)
{
    if (with_snapshots && from->snap == NULL && !match_snapshots(table, from, to, cancel, error)) {
        return false;
    }
    return volume_replace_by(table, to, from, cancel, error);
}
