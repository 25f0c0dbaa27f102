/* Custom volumes between servers.
 * K1  As with instances (moveinst.c, I1): the verdict comes once everything is durable.
 * K2  What the source says of the volume (index header) is foreign: only keys that volumes have are
 *     taken, and what the request says comes first.
 * Called by store/volume_api.c. */
#include "agent/move/movecustom.h"

#include "agent/api/event.h"
#include "agent/api/operation.h"
#include "agent/auth/project.h"
#include "agent/move/movevol.h"
#include "agent/store/wire.h"
#include "base/crash.h"
#include "proto/keys.h"

#include <string.h>

typedef struct {
    PoolTable *pools;
    char *pool, *project, *name, *snap;
    bool volume_only, refresh;
    json_t *peer; /* whom to dial; NULL: the peer connects to us */
    /* target */
    json_t *config;
    char *description, *content_type;
} Custom;

static void
custom_free(void *data)
{
    Custom *job = data;
    g_free(job->pool);
    g_free(job->project);
    g_free(job->name);
    g_free(job->snap);
    json_decref(job->peer);
    json_decref(job->config);
    g_free(job->description);
    g_free(job->content_type);
    g_free(job);
}

static Custom *
custom_new(Request *req, const Vol *vol)
{
    Custom *job = g_new0(Custom, 1);
    *job = (Custom){.pools = req_agent(req)->pools,
                    .pool = g_strdup(vol->pool),
                    .project = g_strdup(vol->project),
                    .name = g_strdup(vol->name),
                    .snap = g_strdup(vol->snap)};
    return job;
}

static Vol
vol_of(const Custom *job)
{
    return (Vol){.pool = job->pool,
                 .project = job->project,
                 .type = VOL_CUSTOM,
                 .name = job->name,
                 .snap = job->snap};
}

static void
header_free(Migrate__Header *header)
{
    if (header != NULL) {
        migrate__header__free_unpacked(header, NULL);
    }
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Migrate__Header, header_free)

static MoveConn *
connect_peer(Operation *op, const Custom *job, GError **error)
{
    MoveConn *conn = job->peer != NULL ? moveconn_dial(op, job->peer, false, error)
                                       : moveconn_wait(op, false, error);
    if (conn == NULL) {
        haw_push(error, "Connect to the other server");
    }
    return conn;
}

static bool
end(MoveConn *conn, bool ok, GError **error)
{
    if (ok) {
        moveconn_tell(conn, NULL);
    } else {
        moveconn_blame(conn, error);
        moveconn_tell(conn, *error);
    }
    return ok;
}

/* Snapshots of the volume as rows that headers know. */
static GPtrArray *
snapshots_of(PoolTable *pools, const Vol *vol, GError **error)
{
    VolumeWhich which = shelf_which(vol);
    which.item = NULL;
    g_autoptr(GPtrArray) rows = volume_snaps_load(pools->agent->db, &which, error);
    GPtrArray *snaps = g_ptr_array_new_with_free_func((GDestroyNotify) snap_row_free);
    if (rows == NULL) {
        g_ptr_array_unref(snaps);
        return NULL;
    }
    for (guint i = 0; i < rows->len; i++) {
        const VolumeSnapRow *row = rows->pdata[i];
        SnapRow *snap = g_new0(SnapRow, 1);
        *snap = (SnapRow){.name = g_strdup(row->name),
                          .description = g_strdup(row->description),
                          .architecture = g_strdup(""),
                          .created_at = row->created_at,
                          .expires_at = row->expires_at,
                          .config = json_incref(row->config),
                          .devices = json_object(),
                          .profiles = json_array()};
        g_ptr_array_add(snaps, snap);
    }
    return snaps;
}

/* ---- source ---- */

static json_t *
describe(const Custom *job, GPtrArray *snaps, GError **error)
{
    Vol vol = vol_of(job);
    VolumeWhich which = shelf_which(&vol);
    which.item = NULL;
    g_autoptr(VolumeRow) row = volumes_get(job->pools->agent->db, &which, error);
    g_autoptr(GPtrArray) rows =
        row != NULL ? volume_snaps_load(job->pools->agent->db, &which, error) : NULL;
    if (rows == NULL) {
        return NULL;
    }
    json_auto_t *shown = json_array();
    for (guint i = 0; i < rows->len && snaps->len > 0; i++) {
        json_array_append_new(shown, wire_snapshot(row, rows->pdata[i], false));
    }
    json_auto_t *pool = wire_pool_told(job->pools, job->pool, error);
    return pool != NULL ? json_pack("{s:O,s:o,s:O,s:O}", "pool", pool, "volume",
                                    wire_volume(job->pools, row), "volume_snapshots", shown,
                                    "VolumeSnapshots", shown)
                        : NULL;
}

static void
keep_wanted(GPtrArray *snaps, const Migrate__Header *answer)
{
    for (guint i = snaps->len; i > 0; i--) {
        bool wanted = false;
        for (size_t j = 0; j < answer->n_snapshot_names; j++) {
            const SnapRow *snap = snaps->pdata[i - 1];
            wanted = wanted || strcmp(answer->snapshot_names[j], snap->name) == 0;
        }
        if (!wanted) {
            g_ptr_array_remove_index(snaps, i - 1);
        }
    }
}

static bool
offer(MoveVol *move, const OfferOurs *ours, GError **error)
{
    g_autoptr(Offer) made = offer_new(ours);
    for (guint i = 0; i < move->snaps->len; i++) {
        offer_add_snapshot(made, move->snaps->pdata[i]);
    }
    if (!moveconn_send(move->conn, &offer_header(made)->base, error)) {
        return false;
    }
    g_autoptr(Migrate__Header) answer =
        (Migrate__Header *) moveconn_recv(move->conn, &migrate__header__descriptor, error);
    if (answer == NULL || !offer_match(answer, ours, &move->how, error)) {
        return false;
    }
    if (answer->refresh) {
        keep_wanted(move->snaps, answer);
    }
    return true;
}

static bool
send_on(const Custom *job, MoveVol *move, GError **error)
{
    Vol vol = vol_of(job);
    OfferOurs ours;
    move->snaps = job->volume_only || job->snap != NULL
                      ? g_ptr_array_new_with_free_func((GDestroyNotify) snap_row_free)
                      : snapshots_of(job->pools, &vol, error);
    if (move->snaps == NULL || !movevol_ours(job->pools, &vol, false, &ours, error) ||
        !offer(move, &ours, error)) {
        return false;
    }
    moveconn_watch(move->conn);
    json_t *config = describe(job, move->snaps, error);
    return config != NULL && movevol_send_index(move, config, error) &&
           movevol_send(move, &vol, error) && moveconn_verdict(move->conn, error);
}

static bool
send_op(Operation *op, void *data, GError **error)
{
    Custom *job = data;
    g_autoptr(MoveConn) conn = connect_peer(op, job, error);
    if (conn == NULL) {
        return false;
    }
    MoveVol move = {.conn = conn, .pools = job->pools};
    bool ok = send_on(job, &move, error);
    g_clear_pointer(&move.snaps, g_ptr_array_unref);
    if (!ok) { /* only a target gives a good verdict */
        return end(conn, false, error);
    }
    return true;
}

static bool
start(Request *req, Custom *job, const char *description, OpFn fn)
{
    json_auto_t *secrets = job->peer != NULL ? NULL : moveconn_secrets(false);
    return op_reply(req, (OpSpec){.class = job->peer != NULL ? OP_TASK : OP_WEBSOCKET,
                                  .description = description,
                                  .project = req_project(req),
                                  .metadata = json_copy(secrets),
                                  .fds = json_incref(secrets),
                                  .cancellable = true,
                                  .fn = fn,
                                  .data = job,
                                  .free_data = custom_free});
}

bool
movecustom_send(Request *req, const Vol *vol, GError **error)
{
    json_t *body = req_json(req), *peer = json_object_get(body, "target");
    if (json_is_object(peer) && !moveconn_check_peer(peer, false, error)) {
        return false;
    }
    Custom *job = custom_new(req, vol);
    job->volume_only = json_is_true(json_object_get(body, "volume_only"));
    job->peer = json_is_object(peer) ? json_incref(peer) : NULL;
    return start(req, job, "Migrating storage volume", send_op);
}

/* ---- target ---- */

static bool
has_same(GPtrArray *rows, const SnapRow *snap)
{
    for (guint i = 0; i < rows->len; i++) {
        if (strcmp(((SnapRow *) rows->pdata[i])->name, snap->name) ==
            0) { /* by name only, as LXD */
            return true;
        }
    }
    return false;
}

static bool
compare_snapshots(const Custom *job, GPtrArray *wanted, GError **error)
{
    Vol vol = vol_of(job);
    g_autoptr(GPtrArray) have = snapshots_of(job->pools, &vol, error);
    for (guint i = 0; have != NULL && i < have->len; i++) {
        const SnapRow *snap = have->pdata[i];
        Vol extra = vol;
        extra.snap = snap->name;
        if (!has_same(wanted, snap) && !vol_snapshot_delete(job->pools, &extra, error)) {
            return false;
        }
    }
    for (guint i = have != NULL ? wanted->len : 0; i > 0; i--) {
        if (has_same(have, wanted->pdata[i - 1])) {
            g_ptr_array_remove_index(wanted, i - 1);
        }
    }
    return have != NULL;
}

static bool
negotiate(Operation *op, const Custom *job, MoveVol *move, bool refresh, GError **error)
{
    OfferOurs ours;
    Vol vol = vol_of(job);
    const Caller *caller = op_caller(op);
    g_autoptr(Migrate__Header) theirs =
        (Migrate__Header *) moveconn_recv(move->conn, &migrate__header__descriptor, error);
    if (theirs == NULL ||
        !movevol_ours(job->pools, &vol, caller != NULL && caller->restricted, &ours, error)) {
        return false;
    }
    ours.block = strcmp(job->content_type, "block") == 0;
    ours.btrfs = ours.btrfs && !refresh;
    move->snaps = offer_snapshots(theirs, error);
    if (move->snaps == NULL || !offer_match(theirs, &ours, &move->how, error)) {
        return false;
    }
    if (job->volume_only) {
        g_ptr_array_set_size(move->snaps, 0);
    } else if (refresh && !compare_snapshots(job, move->snaps, error)) {
        return false;
    }
    g_autoptr(Offer) made = offer_answer(&move->how, refresh);
    for (guint i = 0; i < move->snaps->len; i++) {
        offer_add_snapshot(made, move->snaps->pdata[i]);
    }
    return moveconn_send(move->conn, &offer_header(made)->base, error);
}

/* K2; a new reference. */
static json_t *
merged_config(const Custom *job, json_t *index)
{
    json_t *config = json_object(), *value;
    const char *key;
    json_t *theirs = json_object_get(json_object_get(index, "volume"), "config");
    json_object_foreach (json_object_size(job->config) > 0 ? job->config : theirs, key, value) {
        if (json_is_string(value) && keys_find(keys_volume, key) != NULL) {
            json_object_set(config, key, value);
        }
    }
    wire_keep_ids(config, theirs);
    return config;
}

/* What only the index has of the snapshots. */
static void
describe_snapshots(GPtrArray *snaps, json_t *index)
{
    for (guint i = 0; i < snaps->len; i++) {
        SnapRow *snap = snaps->pdata[i];
        const char *text = keys_get(movevol_told_snapshot(index, snap->name), "description");
        if (text != NULL) {
            g_free(snap->description);
            snap->description = g_strdup(text);
        }
    }
}

static bool
make_new(const Custom *job, MoveVol *move, json_t *index, GError **error)
{
    Vol vol = vol_of(job);
    json_auto_t *config = merged_config(job, index);
    const char *theirs = keys_get(json_object_get(index, "volume"), "description");
    g_autofree char *disk_name = shelf_disk_name(&vol);
    const VolMake make = {.config = config,
                          .content_type = job->content_type,
                          .description = job->description != NULL ? job->description : theirs};
    return wire_check_volume_config(disk_name, job->content_type, config, error) &&
           project_allow_volume(job->pools->agent, vol.project, config, error) &&
           movevol_receive(move, &vol, &make, false, error);
}

/* Of a refreshed volume: owners came as they are at the source. */
static bool
keep_ids(const Custom *job, const Vol *vol, json_t *index, GError **error)
{
    VolumeWhich which = shelf_which(vol);
    g_autoptr(VolumeRow) row = volumes_get(job->pools->agent->db, &which, error);
    if (row == NULL) {
        return false;
    }
    wire_keep_ids(row->config, json_object_get(json_object_get(index, "volume"), "config"));
    return volumes_store(job->pools->agent->db, row->id, row->description, row->config, error);
}

static bool
receive_on(Operation *op, const Custom *job, MoveVol *move, bool refresh, GError **error)
{
    Vol vol = vol_of(job);
    if (!negotiate(op, job, move, refresh, error)) {
        return false;
    }
    moveconn_watch(move->conn);
    json_auto_t *index = movevol_receive_index(move, refresh, error);
    if (index == NULL) {
        return false;
    }
    describe_snapshots(move->snaps, index);
    bool ok = refresh ? movevol_refresh(move, &vol, NULL, false, error) &&
                            keep_ids(job, &vol, index, error)
                      : make_new(job, move, index, error);
    crash_point("migrate");
    return ok;
}

static bool
receive_op(Operation *op, void *data, GError **error)
{
    Custom *job = data;
    Vol vol = vol_of(job);
    VolumeWhich which = shelf_which(&vol);
    g_autoptr(VolumeRow) there =
        job->refresh ? volumes_get(job->pools->agent->db, &which, NULL) : NULL;
    if (there != NULL && wire_runs(job->pools, &vol)) {
        return haw_fail(error, HAW_CONFLICT, "Cannot refresh a volume that running instances use");
    }
    g_autoptr(MoveConn) conn = connect_peer(op, job, error);
    if (conn == NULL) {
        return false;
    }
    MoveVol move = {.conn = conn, .pools = job->pools};
    bool ok = receive_on(op, job, &move, there != NULL, error);
    g_clear_pointer(&move.snaps, g_ptr_array_unref);
    if (ok) {
        g_autofree char *url = wire_volume_url(&vol);
        event_lifecycle(job->pools->agent, vol.project, op_caller(op), NULL,
                        there != NULL ? "storage-volume-updated" : "storage-volume-created", "%s",
                        url);
    }
    return end(conn, ok, error);
}

bool
movecustom_receive(Request *req, const Vol *to, json_t *source, json_t *config,
                   const char *description, const char *content_type, GError **error)
{
    const char *mode = NULL;
    if (!wire_text(source, "mode", &mode, error)) {
        return false;
    }
    bool pull = *mode == '\0' || strcmp(mode, "pull") == 0;
    if (!pull && strcmp(mode, "push") != 0) {
        return haw_fail(error, HAW_UNSUPPORTED, "Mode '%s' not implemented", mode);
    }
    if (pull && !moveconn_check_peer(source, false, error)) {
        return false;
    }
    Custom *job = custom_new(req, to);
    job->volume_only = json_is_true(json_object_get(source, "volume_only"));
    job->refresh = json_is_true(json_object_get(source, "refresh"));
    job->peer = pull ? json_incref(source) : NULL;
    job->config = json_incref(config);
    job->description = *description != '\0' ? g_strdup(description) : NULL;
    job->content_type = g_strdup(content_type);
    return start(req, job, "Creating storage volume", receive_op);
}
