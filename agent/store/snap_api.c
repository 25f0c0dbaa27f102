/* …/volumes/{type}/{volume}/snapshots: made, renamed and deleted by operations; only custom volumes'
 * own. Each handler runs in a fiber of its own; an operation's part owns copies of its strings. */
#include "agent/store/snap_api.h"

#include "agent/api/event.h"
#include "agent/api/operation.h"
#include "agent/auth/project.h"
#include "agent/store/schedule.h"
#include "agent/store/wire.h"
#include "base/clock.h"
#include "proto/grammar.h"
#include "proto/keys.h"

#include <string.h>

typedef struct {
    PoolTable *table;
    char *pool, *project, *volume, *snap, *new_snap;
    gint64 expires_at;
} Snapping;

static void
snapping_free(void *data)
{
    Snapping *job = data;
    g_free(job->pool);
    g_free(job->project);
    g_free(job->volume);
    g_free(job->snap);
    g_free(job->new_snap);
    g_free(job);
}

static Vol
snapping_vol(const Snapping *job, const char *snap)
{
    return (Vol){.pool = job->pool,
                 .project = job->project,
                 .type = VOL_CUSTOM,
                 .name = job->volume,
                 .snap = snap};
}

static void
tell(Agent *agent, const Caller *caller, const Vol *vol, const char *action)
{
    g_autofree char *url = wire_volume_url(vol);
    event_lifecycle(agent, vol->project, caller, NULL, action, "%s", url);
}

static bool
need_custom(const Vol *vol, GError **error)
{
    return vol->type == VOL_CUSTOM ||
           haw_fail(error, HAW_INVALID, "Invalid storage volume type \"%s\"",
                    shelf_type_name(vol->type));
}

/* The snapshot of the path with its volume's row. */
static VolumeSnapRow *
snap_row(Request *req, Vol *ret_vol, VolumeRow **ret_row, GError **error)
{
    g_autoptr(VolumeRow) row = wire_row(req, ret_vol, error);
    if (row == NULL) {
        return NULL;
    }
    ret_vol->snap = req_arg(req, "snapshot");
    VolumeWhich which = shelf_which(ret_vol);
    GError *cause = NULL;
    VolumeSnapRow *snap = volume_snaps_get(req_agent(req)->db, &which, &cause);
    if (snap == NULL) {
        g_error_free(cause);
        haw_fail(error, HAW_NOT_FOUND, "Storage pool volume not found");
        return NULL;
    }
    *ret_row = g_steal_pointer(&row);
    return snap;
}

/* Starts an operation over a copy of what it needs. */
static bool
start(Request *req, const Vol *vol, const char *description, const char *resource, OpFn fn,
      const char *new_snap, gint64 expires_at)
{
    Snapping *job = g_new0(Snapping, 1);
    *job = (Snapping){.table = req_agent(req)->pools,
                      .pool = g_strdup(vol->pool),
                      .project = g_strdup(vol->project),
                      .volume = g_strdup(vol->name),
                      .snap = g_strdup(vol->snap),
                      .new_snap = g_strdup(new_snap),
                      .expires_at = expires_at};
    g_autofree char *url = g_strdup_printf("/1.0/%s/%s", resource, vol->name);
    return op_reply(req, (OpSpec){.class = OP_TASK,
                                  .description = description,
                                  .project = req_project(req),
                                  .resources = json_pack("{s:[s]}", resource, url),
                                  .fn = fn,
                                  .data = job,
                                  .free_data = snapping_free});
}

/* ---- handlers ---- */

bool
snap_api_list(Request *req, GError **error)
{
    Vol vol;
    g_autoptr(VolumeRow) row = wire_row(req, &vol, error);
    if (row == NULL) {
        return false;
    }
    VolumeWhich which = shelf_which(&vol);
    g_autoptr(GPtrArray) snaps = volume_snaps_load(req_agent(req)->db, &which, error);
    if (snaps == NULL) {
        return false;
    }
    json_t *list = json_array();
    for (guint i = 0; i < snaps->len; i++) {
        VolumeSnapRow *snap = snaps->pdata[i];
        if (req_recursion(req) > 0) {
            json_array_append_new(list, wire_snapshot(row, snap, true));
            continue;
        }
        Vol each = vol;
        each.snap = snap->name;
        g_autofree char *url = wire_volume_url(&each);
        json_array_append_new(list, json_string(url));
    }
    return req_reply(req, list);
}

static bool
run_create(Operation *op, void *data, GError **error)
{
    Snapping *job = data;
    Vol vol = snapping_vol(job, job->snap);
    if (!vol_snapshot(job->table, &vol, job->expires_at, error)) {
        return false;
    }
    tell(job->table->agent, op_caller(op), &vol, "storage-volume-snapshot-created");
    return true;
}

/* The name asked for, or the next by the volume's pattern; caller frees. */
static char *
new_name(Request *req, const Vol *vol, const VolumeRow *row, const char *name, GError **error)
{
    if (*name == '\0') {
        return schedule_next_name(req_agent(req)->pools, vol,
                                  keys_get(row->config, "snapshots.pattern"), error);
    }
    if (strchr(name, '/') != NULL) {
        haw_fail(error, HAW_INVALID, "Storage name cannot contain \"/\"");
        return NULL;
    }
    if (!grammar_snapshot_name(name, error)) {
        return NULL;
    }
    Vol taken = *vol;
    taken.snap = name;
    VolumeWhich which = shelf_which(&taken);
    g_autoptr(VolumeSnapRow) snap = volume_snaps_get(req_agent(req)->db, &which, NULL);
    if (snap != NULL) {
        haw_fail(error, HAW_EXISTS, "Snapshot \"%s\" already in use", name);
        return NULL;
    }
    return g_strdup(name);
}

bool
snap_api_create(Request *req, GError **error)
{
    Vol vol;
    g_autoptr(VolumeRow) row = wire_row(req, &vol, error);
    const char *name = NULL;
    gint64 expires_at = 0;
    bool given = false;
    if (row == NULL || !need_custom(&vol, error) ||
        !wire_text(req_json(req), "name", &name, error) ||
        !wire_time(req_json(req), "expires_at", &expires_at, &given, error) ||
        !project_allow_snapshot(req_agent(req), req_project(req), error)) {
        return false;
    }
    g_autofree char *snap = new_name(req, &vol, row, name, error);
    if (snap == NULL) {
        return false;
    }
    const char *expiry = keys_get(row->config, "snapshots.expiry");
    if (!(given && json_is_string(json_object_get(req_json(req), "expires_at"))) &&
        expiry != NULL) {
        expires_at = grammar_expiry_after(expiry, clock_real_us());
    }
    vol.snap = snap;
    return start(req, &vol, "Creating storage volume snapshot", "storage_volumes", run_create, NULL,
                 expires_at);
}

bool
snap_api_get(Request *req, GError **error)
{
    Vol vol;
    g_autoptr(VolumeRow) row = NULL;
    g_autoptr(VolumeSnapRow) snap = snap_row(req, &vol, &row, error);
    return snap != NULL &&
           req_reply_etag(req, wire_snapshot(row, snap, false), wire_snapshot_tag(snap));
}

static bool
change(Request *req, bool patch, GError **error)
{
    Vol vol;
    g_autoptr(VolumeRow) row = NULL;
    g_autoptr(VolumeSnapRow) snap = snap_row(req, &vol, &row, error);
    json_t *body = req_json(req);
    const char *description = NULL;
    gint64 expires_at = 0;
    bool given = false;
    if (snap == NULL || !req_check_etag(req, wire_snapshot_tag(snap), error) ||
        !wire_text(body, "description", &description, error) ||
        !wire_time(body, "expires_at", &expires_at, &given, error)) {
        return false;
    }
    if (patch && json_object_get(body, "description") == NULL) {
        description = snap->description;
    }
    if (patch && !given) {
        expires_at = snap->expires_at;
    }
    if (!volume_snaps_store(req_agent(req)->db, snap->id, description, expires_at, error)) {
        return false;
    }
    tell(req_agent(req), req_caller(req), &vol, "storage-volume-snapshot-updated");
    return req_reply(req, NULL);
}

bool
snap_api_put(Request *req, GError **error)
{
    return change(req, false, error);
}

bool
snap_api_patch(Request *req, GError **error)
{
    return change(req, true, error);
}

static bool
run_rename(Operation *op, void *data, GError **error)
{
    Snapping *job = data;
    Vol vol = snapping_vol(job, job->snap), to = snapping_vol(job, job->new_snap);
    if (!vol_snapshot_rename(job->table, &vol, job->new_snap, error)) {
        return false;
    }
    tell(job->table->agent, op_caller(op), &to, "storage-volume-snapshot-renamed");
    return true;
}

bool
snap_api_rename(Request *req, GError **error)
{
    Vol vol;
    g_autoptr(VolumeRow) row = NULL;
    const char *name = NULL;
    if (!wire_text(req_json(req), "name", &name, error) || !wire_check_volume_name(name, error)) {
        return false;
    }
    g_autoptr(VolumeSnapRow) snap = snap_row(req, &vol, &row, error);
    if (snap == NULL || !need_custom(&vol, error) || !grammar_snapshot_name(name, error)) {
        return false;
    }
    return start(req, &vol, "Renaming storage volume snapshot", "storage_volume_snapshots",
                 run_rename, name, 0);
}

static bool
run_delete(Operation *op, void *data, GError **error)
{
    Snapping *job = data;
    Vol vol = snapping_vol(job, job->snap);
    if (!vol_snapshot_delete(job->table, &vol, error)) {
        return false;
    }
    tell(job->table->agent, op_caller(op), &vol, "storage-volume-snapshot-deleted");
    return true;
}

bool
snap_api_delete(Request *req, GError **error)
{
    Vol vol;
    g_autoptr(VolumeRow) row = NULL;
    g_autoptr(VolumeSnapRow) snap = snap_row(req, &vol, &row, error);
    if (snap == NULL || !need_custom(&vol, error)) {
        return false;
    }
    return start(req, &vol, "Deleting storage volume snapshot", "storage_volume_snapshots",
                 run_delete, NULL, 0);
}
