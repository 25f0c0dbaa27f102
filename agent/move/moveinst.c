/* Instances between servers.
 * I1  The target's verdict comes once everything of it is durable; a source that deletes its instance
 *     (a move) waits for it.
 * I2  A running source whose volume changes under the transfer is sent twice: all of it while it runs,
 *     then what changed while it is frozen. A target that does not answer to that gets one pass of a
 *     frozen instance.
 * I3  Ids on disk travel as they are; the map they were made with goes into volatile.last_state.idmap,
 *     and the next start shifts.
 * Called by api/instance_move.c and api/instance_post.c. */
#include "agent/move/moveinst.h"

#include "agent/inst/backupfile.h"
#include "agent/inst/create.h"
#include "agent/inst/show.h"
#include "agent/inst/snaprow.h"
#include "agent/inst/still.h"
#include "agent/move/live.h"
#include "agent/move/livehello.h"
#include "agent/move/movevol.h"
#include "agent/store/volview.h"
#include "agent/store/wire.h"
#include "base/clock.h"
#include "base/crash.h"

#include <string.h>

static MoveConn *
connect_peer(Operation *op, json_t *peer, bool live, GError **error)
{
    return peer != NULL ? moveconn_dial(op, peer, live, error) : moveconn_wait(op, live, error);
}

static Migrate__Header *
receive_header(MoveConn *conn, GError **error)
{
    return (Migrate__Header *) moveconn_recv(conn, &migrate__header__descriptor, error);
}

static void
header_free(Migrate__Header *header)
{
    if (header != NULL) {
        migrate__header__free_unpacked(header, NULL);
    }
}
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Migrate__Header, header_free)

/* A caller with all rights may bring streams that root's tools take as they are. */
static bool
is_foreign(Operation *op)
{
    const Caller *caller = op_caller(op);
    return caller != NULL && caller->restricted;
}

/* ---- source ---- */

/* I3 */
static json_t *
disk_idmap(const MoveOut *out, const Vol *vol)
{
    const char *text = vol_maps_ids(out->inst->agent->pools, vol)
                           ? NULL
                           : inst_get(out->inst, "volatile.last_state.idmap");
    return text != NULL ? json_loads(text, 0, NULL) : NULL;
}

/* A backup's description of what is sent. */
static json_t *
describe(const MoveOut *out, const Vol *vol, GPtrArray *snaps, GError **error)
{
    PoolTable *pools = out->inst->agent->pools;
    json_auto_t *shown = json_array(), *volumes = json_array();
    VolumeWhich which = shelf_which(vol);
    which.item = NULL;
    g_autoptr(VolumeRow) row = volumes_get(pools->agent->db, &which, error);
    g_autoptr(GPtrArray) rows =
        row != NULL ? volume_snaps_load(pools->agent->db, &which, error) : NULL;
    if (rows == NULL) {
        return NULL;
    }
    for (guint i = 0; i < snaps->len; i++) {
        const SnapRow *snap = snaps->pdata[i];
        json_array_append_new(shown, show_snapshot(out->inst, snap));
        for (guint j = 0; j < rows->len; j++) {
            if (strcmp(((VolumeSnapRow *) rows->pdata[j])->name, snap->name) == 0) {
                json_array_append_new(volumes, wire_snapshot(row, rows->pdata[j], false));
            }
        }
    }
    json_auto_t *pool = wire_pool_told(pools, vol->pool, error);
    /* The last name twice: as LXD 5.0 and as later ones read it. */
    return pool != NULL
               ? json_pack("{s:o,s:O,s:O,s:o,s:O,s:O}", "container", show_instance(out->inst),
                           "snapshots", shown, "pool", pool, "volume", wire_volume(pools, row),
                           "volume_snapshots", volumes, "VolumeSnapshots", volumes)
               : NULL;
}

/* On a refresh the target names the snapshots that it lacks. */
static void
keep_wanted(GPtrArray *snaps, const Migrate__Header *answer)
{
    for (guint i = snaps->len; i > 0; i--) {
        const SnapRow *snap = snaps->pdata[i - 1];
        bool wanted = false;
        for (size_t j = 0; j < answer->n_snapshot_names; j++) {
            wanted = wanted || strcmp(answer->snapshot_names[j], snap->name) == 0;
        }
        if (!wanted) {
            g_ptr_array_remove_index(snaps, i - 1);
        }
    }
}

static bool
offer(const MoveOut *out, MoveVol *job, const Vol *vol, const OfferOurs *ours, bool twice,
      bool *ret_twice, GError **error)
{
    g_autoptr(Offer) made = offer_new(ours);
    json_auto_t *idmap = disk_idmap(out, vol);
    offer_add_idmap(made, idmap);
    for (guint i = 0; i < job->snaps->len; i++) {
        offer_add_snapshot(made, job->snaps->pdata[i]);
    }
    Migrate__Header *header = offer_header(made);
    gint64 used = 0, total = 0;
    if (ours->block && vol_usage(job->pools, vol, &used, &total, NULL)) {
        header->has_volume_size = true;
        header->volume_size = total;
    }
    header->has_predump = true;
    if (twice) { /* I2 */
        header->has_criu = true;
        header->criu = MIGRATE__CRIU__NONE;
    }
    if (out->live) {
        header->has_criu = header->has_live_version = true;
        header->criu = MIGRATE__CRIU__VM_QEMU;
        header->live_version = LIVEHELLO_VERSION;
    }
    if (!moveconn_send(job->conn, &header->base, error)) {
        return false;
    }
    g_autoptr(Migrate__Header) answer = receive_header(job->conn, error);
    if (answer == NULL || !offer_match(answer, ours, &job->how, error)) {
        return false;
    }
    if (out->live && !answer->has_live_version) {
        return haw_fail(
            error, HAW_UNSUPPORTED,
            "The other server can't take a virtual machine that runs: copy it without its "
            "state (--stateless)");
    }
    if (answer->refresh) {
        keep_wanted(job->snaps, answer);
    }
    *ret_twice = twice && answer->has_criu && answer->criu == MIGRATE__CRIU__NONE &&
                 job->how.fs == MIGRATE__FS_TYPE__RSYNC;
    return true;
}

static bool
send_content(const MoveOut *out, MoveVol *job, const Vol *vol, bool twice, GError **error)
{
    bool moves = volview_moves(job->pools, vol) && !out->inconsistent;
    bool frozen = moves && !twice && still_begin(out->inst);
    bool ok = movevol_send(job, vol, error);
    if (ok && twice) { /* I2 */
        frozen = moves && still_begin(out->inst);
        ok = movevol_send_again(job, vol, error);
    }
    still_end(out->inst, frozen);
    crash_point("migrate");
    return ok && moveconn_verdict(job->conn, error); /* I1 */
}

/* A virtual machine that runs: what lies beside its disk, then the rest while it does. */
static bool
send_live(const MoveOut *out, MoveVol *job, const Vol *vol, json_t *config, GError **error)
{
    job->live = true;
    if (!movevol_send_index(job, config, error)) {
        return false;
    }
    g_autoptr(LiveOut) live = liveout_greet(out->inst, job->conn, moveconn_state(job->conn), error);
    return live != NULL && movevol_send(job, vol, error) && liveout_move(live, error);
}

static bool
send_on(const MoveOut *out, MoveVol *job, GError **error)
{
    Vol vol;
    OfferOurs ours;
    bool twice = false;
    g_auto(FiberHold) hold = inst_hold(out->inst, "copy", error);
    if (hold == NULL || !inst_volume(out->inst, &vol, error)) {
        return false;
    }
    vol.snap = out->snap;
    bool with_snapshots = out->snap == NULL && !out->instance_only;
    job->snaps = with_snapshots ? record_snapshots(out->inst, error)
                                : g_ptr_array_new_with_free_func((GDestroyNotify) snap_row_free);
    if (job->snaps == NULL || !movevol_ours(job->pools, &vol, false, &ours, error)) {
        return false;
    }
    ours.btrfs = ours.btrfs && !out->live; /* the disk is mirrored */
    bool runs = !out->live && out->inst->pid != 0 && volview_moves(job->pools, &vol);
    crash_point("migrate");
    if (!offer(out, job, &vol, &ours, runs, &twice, error)) {
        return false;
    }
    moveconn_watch(job->conn);
    json_t *config = describe(out, &vol, job->snaps, error);
    crash_point("migrate");
    if (out->live && config != NULL) {
        return send_live(out, job, &vol, config, error);
    }
    return config != NULL && movevol_send_index(job, config, error) &&
           send_content(out, job, &vol, twice, error);
}

/* What failed is told to the other side, whose own words come first when it was the one. */
static bool
end(MoveConn *conn, bool ok, GError **error)
{
    if (!ok) {
        moveconn_blame(conn, error);
        moveconn_tell(conn, error != NULL ? *error : NULL);
    }
    return ok;
}

bool
moveinst_send(Operation *op, const MoveOut *out, GError **error)
{
    g_autoptr(MoveConn) conn = connect_peer(op, out->peer, out->live, error);
    if (conn == NULL) {
        return haw_push(error, "Connect to the target");
    }
    MoveVol job = {.conn = conn, .pools = out->inst->agent->pools};
    bool ok = send_on(out, &job, error);
    g_clear_pointer(&job.snaps, g_ptr_array_unref);
    return end(conn, ok, error);
}

/* ---- target ---- */

typedef struct {
    Operation *op;
    const MoveIn *in;
    MoveVol job;
    Vol vol;
    json_t *idmap;
    bool again; /* the main volume comes twice */
} Taking;

static bool
answer(Taking *take, const Migrate__Header *theirs, GError **error)
{
    g_autoptr(Offer) made = offer_answer(&take->job.how, take->in->refresh);
    for (guint i = 0; i < take->job.snaps->len; i++) {
        offer_add_snapshot(made, take->job.snaps->pdata[i]);
    }
    Migrate__Header *header = offer_header(made);
    if (take->in->live && theirs->has_live_version) {
        header->has_criu = header->has_live_version = true;
        header->criu = MIGRATE__CRIU__VM_QEMU;
        header->live_version = LIVEHELLO_VERSION;
    } else if (theirs->has_criu && theirs->criu == MIGRATE__CRIU__NONE) {
        header->has_criu = true;
        header->criu = MIGRATE__CRIU__NONE;
        take->again = take->job.how.fs == MIGRATE__FS_TYPE__RSYNC;
    }
    return moveconn_send(take->job.conn, &header->base, error);
}

static bool
has_same(GPtrArray *rows, const SnapRow *snap)
{
    for (guint i = 0; i < rows->len; i++) {
        if (offer_same_snapshot(rows->pdata[i], snap)) {
            return true;
        }
    }
    return false;
}

/* Ours that are not theirs go; of theirs, those that we lack stay in the list. */
static bool
compare_snapshots(Taking *take, GError **error)
{
    Inst *inst = take->in->inst;
    g_autoptr(GPtrArray) have = record_snapshots(inst, error);
    for (guint i = 0; have != NULL && i < have->len; i++) {
        if (!has_same(take->job.snaps, have->pdata[i]) &&
            !snaprow_drop(inst, &take->vol, have->pdata[i], error)) {
            return false;
        }
    }
    for (guint i = have != NULL ? take->job.snaps->len : 0; i > 0; i--) {
        if (has_same(have, take->job.snaps->pdata[i - 1])) {
            g_ptr_array_remove_index(take->job.snaps, i - 1);
        }
    }
    return have != NULL;
}

static bool
negotiate(Taking *take, GError **error)
{
    OfferOurs ours;
    g_autoptr(Migrate__Header) theirs = receive_header(take->job.conn, error);
    if (theirs == NULL ||
        !movevol_ours(take->job.pools, &take->vol, is_foreign(take->op), &ours, error)) {
        return false;
    }
    ours.btrfs = ours.btrfs && !take->in->refresh; /* what is there already is not sent again */
    take->job.snaps = offer_snapshots(theirs, error);
    for (guint i = 0; take->job.snaps != NULL && i < take->job.snaps->len; i++) {
        SnapRow *snap = take->job.snaps->pdata[i];
        snap->created_at = snap->created_at != 0 ? snap->created_at : clock_real_us();
    }
    if (take->job.snaps == NULL || !offer_match(theirs, &ours, &take->job.how, error)) {
        return false;
    }
    if (take->in->instance_only) {
        g_ptr_array_set_size(take->job.snaps, 0);
    } else if (take->in->refresh && !compare_snapshots(take, error)) {
        return false;
    }
    take->idmap = offer_idmap(theirs);
    return answer(take, theirs, error);
}

static bool
snap_before(const SnapRow *snap, void *data, GError **error)
{
    return snaprow_begin(data, (SnapRow *) snap, error);
}

static bool
snap_after(const SnapRow *snap, void *data, GError **error)
{
    return snaprow_done(data, snap, error);
}

static bool
take_content(Taking *take, GError **error)
{
    Inst *inst = take->in->inst;
    if (take->in->refresh) {
        const MoveSnapHook hook = {.before = snap_before, .after = snap_after, .data = inst};
        return movevol_refresh(&take->job, &take->vol, &hook, take->again, error);
    }
    json_auto_t *config = create_volume_config(inst);
    json_auto_t *theirs = movevol_told_config(json_object_get(take->job.index, "volume"));
    json_object_update(config, theirs);
    const VolMake make = {.config = config, .as_is = true};
    return movevol_receive(&take->job, &take->vol, &make, take->again, error) &&
           snaprow_insert_all(inst, take->job.snaps, error);
}

static bool
complete(Taking *take, GError **error)
{
    Inst *inst = take->in->inst;
    char *text = json_dumps(take->idmap, JSON_COMPACT);
    json_t *changes = json_pack("{s:s}", "volatile.last_state.idmap", text);
    free(text);
    crash_point("migrate");
    if (!inst_set_config(inst, changes, error)) { /* I3 */
        return false;
    }
    if (!take->in->refresh) {
        return create_finish(inst, "copy", error);
    }
    backupfile_store(inst);
    return true;
}

/* The mark of an unfinished creation stays until it runs here for sure. */
static bool
receive_live(Taking *take, GError **error)
{
    Inst *inst = take->in->inst;
    g_autoptr(LiveIn) live =
        livein_greet(inst, take->job.conn, moveconn_state(take->job.conn), error);
    if (live == NULL) {
        return false;
    }
    take->job.live = true;
    take->job.disk_bytes = livein_disk_bytes(live);
    if (!take_content(take, error) || !livein_move(live, error) || !complete(take, error) ||
        !inst_set_config(inst, json_pack("{s:n}", "volatile.apply_template"), error)) {
        return false;
    }
    return livein_settle(live, error);
}

static bool
receive_on(Taking *take, GError **error)
{
    Inst *inst = take->in->inst;
    g_auto(FiberHold) hold = inst_hold(inst, take->in->refresh ? "refresh" : "create", error);
    if (hold == NULL || !inst_volume(inst, &take->vol, error)) {
        return false;
    }
    if (take->in->refresh && inst->pid != 0) {
        return haw_fail(error, HAW_CONFLICT, "Cannot refresh a running instance");
    }
    if (!negotiate(take, error)) {
        return false;
    }
    moveconn_watch(take->job.conn);
    json_auto_t *index = movevol_receive_index(&take->job, take->in->refresh, error);
    if (index == NULL) {
        return false;
    }
    take->job.index = index;
    return take->in->live ? receive_live(take, error)
                          : take_content(take, error) && complete(take, error);
}

bool
moveinst_receive(Operation *op, const MoveIn *in, GError **error)
{
    g_autoptr(MoveConn) conn = connect_peer(op, in->peer, in->live, error);
    if (conn == NULL) {
        return haw_push(error, "Connect to the source");
    }
    Taking take = {.op = op, .in = in, .job = {.conn = conn, .pools = in->inst->agent->pools}};
    bool ok = receive_on(&take, error);
    g_clear_pointer(&take.job.snaps, g_ptr_array_unref);
    json_decref(take.idmap);
    crash_point("migrate");
    if (ok) { /* I1 */
        moveconn_tell(conn, NULL);
    }
    return end(conn, ok, error);
}
