/* Volumes between servers.
 * M1  Order on the wire: index header, the header of subvolumes (btrfs), each snapshot oldest first, then
 *     the volume. A snapshot of an rsync transfer is received into the volume under construction, and
 *     then cloned from it, so that what they share is sent once.
 * M2  A new volume lies in .new until all has arrived; a refreshed one is exchanged at the end. So a
 *     crash or a peer that goes away leaves nothing half-made.
 * M3  A list of subvolumes is foreign: paths are checked, and walked beneath the volume without
 *     following symlinks.
 * M4  A block volume is one file. A virtual machine's is, in LXD's order, its directory by rsync without
 *     that file, then the file.
 * M5  Nothing in a volume with a disk is a link, nor is a container's rootfs: whoever opens a name in it opens what
 *     lies there.
 * Called by moveinst.c and movecustom.c. */
#include "agent/move/movevol.h"

#include "agent/move/subvols.h"
#include "agent/store/instdir.h"
#include "agent/store/vmdir.h"
#include "agent/store/volview.h"
#include "agent/store/work.h"
#include "base/clock.h"
#include "base/crash.h"
#include "base/fd.h"
#include "proto/keys.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

static VolumeRow *
row_of(PoolTable *pools, const Vol *vol, GError **error)
{
    VolumeWhich which = shelf_which(vol);
    which.item = NULL;
    return volumes_get(pools->agent->db, &which, error);
}

bool
movevol_ours(PoolTable *pools, const Vol *vol, bool foreign, OfferOurs *ret, GError **error)
{
    Pool *pool = shelf_pool(pools, vol->pool, true, error);
    if (pool == NULL) {
        return false;
    }
    *ret = (OfferOurs){.btrfs = strcmp(pool->driver->name, "btrfs") == 0 && !foreign,
                       .compress = keys_get_bool(pool->row->config, "rsync.compression", true)};
    g_autoptr(VolumeRow) row = row_of(pools, vol, NULL);
    ret->block = vol->type == VOL_VM || (row != NULL && strcmp(row->content_type, "block") == 0);
    return true;
}

/* ---- source ---- */

bool
movevol_send_index(MoveVol *job, json_t *config, GError **error)
{
    json_auto_t *index = json_pack("{s:o}", "config", config);
    if (!job->how.index_header) {
        return true;
    }
    g_autofree char *text = json_dumps(index, JSON_COMPACT), *reply = NULL;
    size_t size = 0;
    if (!moveconn_write_frame(job->conn, text, strlen(text), error) ||
        !moveconn_read_frame(job->conn, &reply, &size, error)) {
        return false;
    }
    json_auto_t *answer = json_loadb(reply, size, 0, NULL);
    const char *why = json_string_value(json_object_get(answer, "Error"));
    if (answer == NULL) {
        return haw_fail(error, HAW_CORRUPT, "The other server's answer can't be read");
    }
    return json_integer_value(json_object_get(answer, "StatusCode")) == 200 ||
           haw_fail(error, HAW_FAILED, "%s", why != NULL ? why : "The other server refuses");
}

static bool
send_view(MoveVol *job, const Vol *vol, GError **error)
{
    g_auto(VolView) view = {0};
    if (!volview_open(job->pools, vol, &view, error)) {
        return false;
    }
    PourRsync how = job->how.rsync;
    how.volatile_source = volview_moves(job->pools, vol);
    how.bwlimit = keys_get(view.pool->row->config, "rsync.bwlimit");
    if (job->how.fs != MIGRATE__FS_TYPE__BLOCK_AND_RSYNC) {
        return pour_rsync_send(job->conn, view.path, &how, error);
    }
    g_autofree char *file = g_build_filename(view.path, DRIVER_BLOCK_FILE, NULL);
    how.exclude = DRIVER_BLOCK_FILE;
    bool disk = !job->live || vol->snap != NULL;
    return (vol->type != VOL_VM || pour_rsync_send(job->conn, view.path, &how, error)) && /* M4 */
           (!disk || pour_file_send(job->conn, file, error));
}

bool
movevol_send(MoveVol *job, const Vol *vol, GError **error)
{
    if (job->how.fs == MIGRATE__FS_TYPE__BTRFS) {
        return subvols_send(job->conn, job->pools, vol, job->snaps, error);
    }
    for (guint i = 0; i < job->snaps->len; i++) {
        Vol snap = *vol;
        snap.snap = ((SnapRow *) job->snaps->pdata[i])->name;
        crash_point("migrate");
        if (!send_view(job, &snap, error)) {
            return false;
        }
    }
    crash_point("migrate");
    return send_view(job, vol, error);
}

bool
movevol_send_again(MoveVol *job, const Vol *vol, GError **error)
{
    return job->how.fs != MIGRATE__FS_TYPE__RSYNC || send_view(job, vol, error);
}

/* ---- target ---- */

json_t *
movevol_receive_index(MoveVol *job, bool refresh, GError **error)
{
    g_autofree char *text = NULL;
    size_t size = 0;
    if (!job->how.index_header) {
        return json_object();
    }
    if (!moveconn_read_frame(job->conn, &text, &size, error)) {
        return NULL;
    }
    json_auto_t *index = json_loadb(text, size, 0, NULL);
    json_auto_t *answer =
        json_pack("{s:i,s:s,s:b}", "StatusCode", index != NULL ? 200 : 400, "Error",
                  index != NULL ? "" : "The index can't be read", "Refresh", refresh);
    g_autofree char *reply = json_dumps(answer, JSON_COMPACT);
    if (!moveconn_write_frame(job->conn, reply, strlen(reply), error)) {
        return NULL;
    }
    if (index == NULL) {
        haw_fail(error, HAW_CORRUPT, "The other server's index can't be read");
        return NULL;
    }
    json_t *config = json_object_get(index, "config");
    return json_is_object(config) ? json_incref(config) : json_object();
}

json_t *
movevol_told_snapshot(json_t *index, const char *name)
{
    size_t i = 0;
    json_t *each = NULL, *list = json_object_get(index, "volume_snapshots");
    list = list != NULL ? list : json_object_get(index, "VolumeSnapshots");
    json_array_foreach (list, i, each) {
        const char *theirs = keys_get(each, "name");
        const char *slash = theirs != NULL ? strrchr(theirs, '/') : NULL;
        if (g_strcmp0(slash != NULL ? slash + 1 : theirs, name) == 0) {
            return each;
        }
    }
    return NULL;
}

json_t *
movevol_told_config(json_t *shown)
{
    const char *key = NULL;
    json_t *config = json_object(), *value = NULL;
    json_object_foreach (json_object_get(shown, "config"), key, value) {
        if (json_is_string(value) && g_str_has_prefix(key, "user.")) {
            json_object_set(config, key, value);
        }
    }
    return config;
}

typedef struct {
    MoveVol *job;
    const Vol *vol;
    const MoveSnapHook *hook; /* may be NULL */
    bool again, block;
} Receiving;

/* What QEMU's mirror fills: holes, as long as the source's; whatever a snapshot left there goes. */
static bool
make_disk(const char *file, gint64 bytes, GError **error)
{
    haw_autofd int fd = open(file, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    return (fd >= 0 && ftruncate(fd, bytes) == 0) ||
           haw_fail_errno(error, errno, "Make '%s'", file);
}

static bool
receive_once(const Receiving *state, const char *path, bool snapshot, GError **error)
{
    MoveVol *job = state->job;
    bool disk = snapshot || !job->live;
    if (job->how.fs != MIGRATE__FS_TYPE__BLOCK_AND_RSYNC) {
        return pour_rsync_receive(job->conn, path, &job->how.rsync, error) &&
               (state->vol->type != VOL_CONTAINER || instdir_check_foreign(path, error)); /* M5 */
    }
    g_autofree char *file = g_build_filename(path, DRIVER_BLOCK_FILE, NULL);
    if (state->vol->type == VOL_VM && /* M4 */
        !pour_rsync_receive(job->conn, path, &job->how.rsync, error)) {
        return false;
    }
    return (disk ? pour_file_receive(job->conn, file, error)
                 : make_disk(file, job->disk_bytes, error)) &&
           vmdir_check(path, error); /* M5 */
}

/* The volume's row of a snapshot; borrows but for its config, a new reference. An instance's volume has a config of
 * its own: the snapshot's is the instance's. */
static VolumeSnapRow
volume_row(const Receiving *state, const SnapRow *snap)
{
    json_t *config =
        state->vol->type == VOL_CUSTOM
            ? json_incref(snap->config)
            : movevol_told_config(movevol_told_snapshot(state->job->index, snap->name));
    return (VolumeSnapRow){.name = snap->name,
                           .description = snap->description,
                           .config = config,
                           .created_at = snap->created_at != 0 ? snap->created_at : clock_real_us(),
                           .expires_at = snap->expires_at};
}

static bool
make_snapshot(const Receiving *state, const SnapRow *snap, const char *path, GError **error)
{
    const MoveSnapHook *hook = state->hook;
    const VolumeSnapRow row = volume_row(state, snap);
    bool ok = (hook == NULL || hook->before(snap, hook->data, error)) &&
              volume_snapshot_of(state->job->pools, state->vol, &row, path,
                                 moveconn_cancel(state->job->conn), error) &&
              (hook == NULL || hook->after(snap, hook->data, error));
    json_decref(row.config);
    return ok;
}

/* A VolFill. M1 */
static bool
fill_by_rsync(const char *path, void *data, GError **error)
{
    const Receiving *state = data;
    MoveVol *job = state->job;
    for (guint i = 0; i < job->snaps->len; i++) {
        if (!receive_once(state, path, true, error)) {
            return false;
        }
        crash_point("migrate");
        if (!make_snapshot(state, job->snaps->pdata[i], path, error)) {
            return false;
        }
        crash_point("migrate");
    }
    return receive_once(state, path, false, error) &&
           (!state->again || receive_once(state, path, false, error));
}

/* The same by streams: each snapshot arrives as a subvolume of its own. */
typedef struct {
    const Receiving *state;
    SubvolsIn *in;
    const char *snap; /* NULL: the volume */
} Landing;

static bool
land(const char *path, void *data, GError **error)
{
    const Landing *landing = data;
    return subvols_receive(landing->in, landing->snap, path, error) &&
           (!landing->state->block || vmdir_check(path, error)) && /* M5 */
           (landing->state->vol->type != VOL_CONTAINER || instdir_check_foreign(path, error));
}

static bool
fill_by_streams(const char *path, void *data, GError **error)
{
    const Receiving *state = data;
    MoveVol *job = state->job;
    g_autoptr(SubvolsIn) in = subvols_in_new(job->conn, job->pools, state->vol, job->snaps, error);
    if (in == NULL) {
        return false;
    }
    for (guint i = 0; i < job->snaps->len; i++) {
        const SnapRow *snap = job->snaps->pdata[i];
        Landing landing = {.state = state, .in = in, .snap = snap->name};
        const VolumeSnapRow row = volume_row(state, snap);
        bool ok = volume_import_snapshot(job->pools, state->vol, &row, land, &landing, error);
        json_decref(row.config);
        if (!ok) {
            return false;
        }
        crash_point("migrate");
    }
    Landing landing = {.state = state, .in = in};
    return land(path, &landing, error);
}

bool
movevol_receive(MoveVol *job, const Vol *vol, const VolMake *make, bool again, GError **error)
{
    bool streams = job->how.fs == MIGRATE__FS_TYPE__BTRFS;
    Receiving state = {.job = job,
                       .vol = vol,
                       .again = again && job->how.fs == MIGRATE__FS_TYPE__RSYNC,
                       .block = vol->type == VOL_VM || g_strcmp0(make->content_type, "block") == 0};
    crash_point("migrate");
    return volume_create(job->pools, vol, make, streams ? fill_by_streams : fill_by_rsync, &state,
                         error) ||
           moveconn_blame(job->conn, error);
}

bool
movevol_refresh(MoveVol *job, const Vol *vol, const MoveSnapHook *hook, bool again, GError **error)
{
    Receiving state = {.job = job, .vol = vol, .hook = hook, .again = again};
    crash_point("migrate");
    return volume_replace(job->pools, vol, true, fill_by_rsync, &state, error) ||
           moveconn_blame(job->conn, error);
}
