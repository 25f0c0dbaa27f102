/* Backups of custom volumes: a tar in <dir>/backups/custom/<pool>/<project>_<volume>/<name>.
 * K1  Inside: backup/index.yaml, backup/volume/, backup/volume-snapshots/<snapshot>/ (a block volume's
 *     are files: backup/volume.img …): LXD's form, so that either server reads the other's.
 * K2  A backup has a row only once its file is whole and on the disk: it is written under a temporary
 *     name first.
 * K3  A rename gives the file both names until the row has followed: a crash leaves a name too many,
 *     never a row without its file.
 * K4  A name that is being given is given once: two at a time would find it free, and the one that came too late
 *     would take the other's file along.
 * Reading one back is backup_import.c. Each handler runs in a fiber of its own; operations own copies of their strings. */
#include "agent/store/backup.h"

#include "agent/api/event.h"
#include "agent/api/operation.h"
#include "agent/auth/project.h"
#include "agent/image/archive.h"
#include "agent/store/disktree.h"
#include "agent/store/wire.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "proto/yaml.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

typedef struct {
    PoolTable *table;
    char *pool, *project, *volume; /* of the volume */
    char *name, *new_name;
    char *compression;
    gint64 expires_at;
    bool volume_only;
} Backup;

static void
backup_free(void *data)
{
    Backup *job = data;
    g_free(job->pool);
    g_free(job->project);
    g_free(job->volume);
    g_free(job->name);
    g_free(job->new_name);
    g_free(job->compression);
    g_free(job);
}

static Backup *
backup_new(PoolTable *table, const Vol *vol, const char *name)
{
    Backup *job = g_new0(Backup, 1);
    *job = (Backup){.table = table,
                    .pool = g_strdup(vol->pool),
                    .project = g_strdup(vol->project),
                    .volume = g_strdup(vol->name),
                    .name = g_strdup(name)};
    return job;
}

static Vol
vol_of(const Backup *job)
{
    return (Vol){
        .pool = job->pool, .project = job->project, .type = VOL_CUSTOM, .name = job->volume};
}

static char *
dir_of(PoolTable *table, const Vol *vol)
{
    g_autofree char *disk_name = shelf_disk_name(vol);
    return agent_path(table->agent, "backups/custom/%s/%s", vol->pool, disk_name);
}

static char *
file_of(PoolTable *table, const Vol *vol, const char *name)
{
    g_autofree char *dir = dir_of(table, vol);
    return g_build_filename(dir, name, NULL);
}

/* NOT_FOUND "Storage volume backup not found". */
static VolumeBackupRow *
row_of(PoolTable *table, const Vol *vol, const char *name, GError **error)
{
    VolumeWhich which = shelf_which(vol);
    which.item = name;
    g_autoptr(GPtrArray) rows = volume_backups_load(table->agent->db, &which, error);
    if (rows == NULL) {
        return NULL;
    }
    if (rows->len == 0) {
        haw_fail(error, HAW_NOT_FOUND, "Storage volume backup not found");
        return NULL;
    }
    return g_ptr_array_steal_index(rows, 0);
}

static void
tell(Agent *agent, const Caller *caller, const Vol *vol, const char *name, const char *action)
{
    g_autofree char *url = wire_volume_url(vol);
    event_lifecycle(agent, vol->project, caller, NULL, action, "%s/backups/%s", url, name);
}

static json_t *
backup_json(const VolumeBackupRow *row)
{
    g_autofree char *created = clock_format(row->created_at);
    g_autofree char *expires = clock_format(row->expires_at);
    return json_pack("{s:s, s:s, s:s, s:b, s:b}", "name", row->name, "created_at", created,
                     "expires_at", expires, "volume_only", row->volume_only, "optimized_storage",
                     row->optimized);
}

/* ---- writing one: K1, K2 ---- */

static json_t *
index_json(const VolumeRow *row, const char *driver, GPtrArray *snaps)
{
    json_t *names = json_array(), *details = json_array();
    for (guint i = 0; snaps != NULL && i < snaps->len; i++) {
        VolumeSnapRow *snap = snaps->pdata[i];
        json_array_append_new(names, json_string(snap->name));
        json_array_append_new(details, wire_snapshot(row, snap, false));
    }
    g_autofree char *created = clock_format(row->created_at);
    json_t *volume = json_pack("{s:O, s:s, s:s, s:s, s:s, s:s}", "config", row->config,
                               "description", row->description, "name", row->name, "type",
                               row->type, "content_type", row->content_type, "created_at", created);
    return json_pack("{s:s, s:s, s:s, s:s, s:b, s:b, s:o, s:{s:o, s:o}}", "name", row->name,
                     "backend", driver, "pool", row->pool, "type", "custom", "optimized", 0,
                     "optimized_header", 0, "snapshots", names, "config", "volume", volume,
                     "volume_snapshots", details);
}

/* Where the content of a volume or snapshot is, and how it is called in the archive. */
static void
add_member(GArray *members, GPtrArray *texts, PoolTable *table, const Vol *vol, bool block)
{
    g_autofree char *dir = vol_path(table, vol);
    char *path = block ? g_build_filename(dir, DRIVER_BLOCK_FILE, NULL) : g_strdup(dir);
    char *name = vol->snap != NULL ? g_strdup_printf("backup/volume-snapshots/%s%s", vol->snap,
                                                     block ? ".img" : "")
                                   : g_strdup(block ? "backup/volume.img" : "backup/volume");
    ArchiveMember member = {.name = name, .path = path};
    g_array_append_val(members, member);
    g_ptr_array_add(texts, path);
    g_ptr_array_add(texts, name);
}

static bool
write_archive(Backup *job, const VolumeRow *row, int fd, Meter *meter, GError **error)
{
    Vol vol = vol_of(job);
    bool block = strcmp(row->content_type, "block") == 0;
    VolumeWhich which = shelf_which(&vol);
    g_autoptr(GPtrArray) snaps =
        job->volume_only ? NULL : volume_snaps_load(job->table->agent->db, &which, error);
    if (!job->volume_only && snaps == NULL) {
        return false;
    }
    json_auto_t *index = index_json(row, pool_driver(job->table, job->pool), snaps);
    g_autofree char *yaml = yaml_from_json(index);
    g_autoptr(GPtrArray) texts = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GArray) members = g_array_new(FALSE, TRUE, sizeof(ArchiveMember));
    ArchiveMember first = {.name = "backup/index.yaml", .bytes = yaml, .size = strlen(yaml)};
    g_array_append_val(members, first);
    for (guint i = 0; snaps != NULL && i < snaps->len; i++) {
        Vol snap = vol;
        snap.snap = ((VolumeSnapRow *) snaps->pdata[i])->name;
        add_member(members, texts, job->table, &snap, block);
    }
    add_member(members, texts, job->table, &vol, block);
    return archive_pack(fd, (const ArchiveMember *) (void *) members->data, members->len,
                        job->compression, meter, error);
}

struct placing {
    int fd;
    const char *temp, *file;
    GError **error;
    bool ok;
};

static void
place(void *data)
{
    struct placing *job = data;
    job->ok = fd_place(job->fd, job->temp, job->file, job->error);
}

bool
backup_place(int fd, const char *temp, const char *file, GError **error)
{
    struct placing job = {.fd = fd, .temp = temp, .file = file, .error = error};
    fiber_run(place, &job); /* waits for the disk */
    return job.ok;
}

/* K4 */
static GHashTable *claims; /* paths of files */

bool
backup_claim(const char *file, GError **error)
{
    if (claims == NULL) {
        claims = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    }
    if (g_hash_table_contains(claims, file)) {
        g_autofree char *name = g_path_get_basename(file);
        return haw_fail(error, HAW_EXISTS, "Backup \"%s\" is being made already", name);
    }
    g_hash_table_add(claims, g_strdup(file));
    return true;
}

void
backup_release(const char *file)
{
    g_hash_table_remove(claims, file);
}

static bool
create_claimed(Operation *op, Backup *job, const char *file, GError **error)
{
    Vol vol = vol_of(job);
    VolumeWhich which = shelf_which(&vol);
    g_autoptr(VolumeBackupRow) there = row_of(job->table, &vol, job->name, NULL);
    if (there != NULL) {
        return haw_fail(error, HAW_EXISTS, "Create volume backup: Backup \"%s/%s\" already exists",
                        job->volume, job->name);
    }
    g_autoptr(VolumeRow) row = volumes_get(job->table->agent->db, &which, error);
    g_autofree char *dir = dir_of(job->table, &vol);
    if (row == NULL || !fd_mkdir_p(dir, 0700, error)) {
        return false;
    }
    g_autofree char *temp = g_build_filename(dir, ".new-XXXXXX", NULL);
    haw_autofd int fd = mkostemp(temp, O_CLOEXEC);
    if (fd < 0) {
        return haw_fail_errno(error, errno, "create a file in '%s'", dir);
    }

    g_autoptr(Meter) meter = meter_start(op, "create_backup_progress", NULL);
    g_autoptr(VolumeBackupRow) made = g_new0(VolumeBackupRow, 1);
    *made = (VolumeBackupRow){.volume_id = row->id,
                              .name = g_strdup(job->name),
                              .created_at = clock_real_us(),
                              .expires_at = job->expires_at,
                              .volume_only = job->volume_only};
    bool placed = write_archive(job, row, fd, meter, error) && backup_place(fd, temp, file, error);
    if (!placed || !volume_backups_insert(job->table->agent->db, made, error)) {
        unlink(placed ? file : temp);
        return haw_push(error, "Create volume backup");
    }
    tell(job->table->agent, op_caller(op), &vol, job->name, "storage-volume-backup-created");
    return true;
}

static bool
run_create(Operation *op, void *data, GError **error)
{
    Backup *job = data;
    Vol vol = vol_of(job);
    g_autofree char *file = file_of(job->table, &vol, job->name);
    if (!backup_claim(file, error)) {
        return false;
    }
    bool ok = create_claimed(op, job, file, error);
    backup_release(file);
    return ok;
}

/* ---- handlers ---- */

/* The custom volume of the path. */
static VolumeRow *
custom_row(Request *req, Vol *ret_vol, GError **error)
{
    g_autoptr(VolumeRow) row = wire_row(req, ret_vol, error);
    if (row != NULL && ret_vol->type != VOL_CUSTOM) {
        haw_fail(error, HAW_INVALID, "Invalid storage volume type \"%s\"", row->type);
        return NULL;
    }
    return g_steal_pointer(&row);
}

bool
backup_list(Request *req, GError **error)
{
    Vol vol;
    g_autoptr(VolumeRow) row = custom_row(req, &vol, error);
    if (row == NULL) {
        return false;
    }
    VolumeWhich which = shelf_which(&vol);
    g_autoptr(GPtrArray) rows = volume_backups_load(req_agent(req)->db, &which, error);
    if (rows == NULL) {
        return false;
    }
    g_autofree char *url = wire_volume_url(&vol);
    g_auto(GStrv) parts = g_strsplit(url, "?", 2);
    json_t *list = json_array();
    for (guint i = 0; i < rows->len; i++) {
        VolumeBackupRow *backup = rows->pdata[i];
        json_array_append_new(list, req_recursion(req) > 0
                                        ? backup_json(backup)
                                        : json_sprintf("%s/backups/%s", parts[0], backup->name));
    }
    return req_reply(req, list);
}

static bool
check_backup_name(const char *name, GError **error)
{
    if (strchr(name, '/') != NULL) {
        return haw_fail(error, HAW_INVALID, "Backup names may not contain slashes");
    }
    if (*name == '.' || strlen(name) > 200) {
        return haw_fail(error, HAW_INVALID, "Invalid backup name \"%s\"", name);
    }
    return true;
}

/* "backup0", "backup1", …: the first that is free; caller frees. */
static char *
next_name(PoolTable *table, const Vol *vol)
{
    for (int i = 0;; i++) {
        g_autofree char *name = g_strdup_printf("backup%d", i);
        g_autoptr(VolumeBackupRow) row = row_of(table, vol, name, NULL);
        if (row == NULL) {
            return g_steal_pointer(&name);
        }
    }
}

bool
backup_create(Request *req, GError **error)
{
    Vol vol;
    g_autoptr(VolumeRow) row = custom_row(req, &vol, error);
    json_t *body = req_json(req);
    const char *name = NULL, *compression = NULL;
    gint64 expires_at = 0;
    bool volume_only = false, optimized = false;
    if (row == NULL || !wire_text(body, "name", &name, error) ||
        !wire_text(body, "compression_algorithm", &compression, error) ||
        !wire_time(body, "expires_at", &expires_at, NULL, error) ||
        !wire_bool(body, "volume_only", &volume_only, error) ||
        !wire_bool(body, "optimized_storage", &optimized, error) ||
        !check_backup_name(name, error) ||
        !project_allow_backup(req_agent(req), req_project(req), error)) {
        return false;
    }
    compression = *compression != '\0' ? compression : "gzip";
    if (!archive_compression_known(compression, error)) {
        return haw_recode(error, HAW_INVALID);
    }
    PoolTable *table = req_agent(req)->pools;
    g_autofree char *chosen = *name != '\0' ? g_strdup(name) : next_name(table, &vol);
    Backup *job = backup_new(table, &vol, chosen);
    job->compression = g_strdup(compression);
    job->expires_at = expires_at;
    job->volume_only = volume_only;
    g_autofree char *backup_url = g_strconcat("/1.0/backups/", chosen, NULL);
    g_autofree char *volume_url = g_strconcat("/1.0/storage_volumes/", vol.name, NULL);
    return op_reply(req, (OpSpec){.class = OP_TASK,
                                  .description = "Creating custom volume backup",
                                  .project = req_project(req),
                                  .resources = json_pack("{s:[s], s:[s]}", "backups", backup_url,
                                                         "storage_volumes", volume_url),
                                  .fn = run_create,
                                  .data = job,
                                  .free_data = backup_free});
}

bool
backup_get(Request *req, GError **error)
{
    Vol vol;
    g_autoptr(VolumeRow) row = custom_row(req, &vol, error);
    g_autoptr(VolumeBackupRow) backup =
        row != NULL ? row_of(req_agent(req)->pools, &vol, req_arg(req, "backup"), error) : NULL;
    return backup != NULL && req_reply(req, backup_json(backup));
}

bool
backup_export(Request *req, GError **error)
{
    Vol vol;
    PoolTable *table = req_agent(req)->pools;
    g_autoptr(VolumeRow) row = custom_row(req, &vol, error);
    g_autoptr(VolumeBackupRow) backup =
        row != NULL ? row_of(table, &vol, req_arg(req, "backup"), error) : NULL;
    if (backup == NULL) {
        return false;
    }
    g_autofree char *file = file_of(table, &vol, backup->name);
    haw_autofd int fd = open(file, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return haw_fail_errno(error, errno, "open '%s'", file);
    }
    tell(table->agent, req_caller(req), &vol, backup->name, "storage-volume-backup-retrieved");
    return req_reply_fd(req, &fd, "application/octet-stream", NULL, NULL);
}

/* ---- rename and deletion ---- */

static bool
run_rename(Operation *op, void *data, GError **error)
{
    Backup *job = data;
    Vol vol = vol_of(job);
    g_autoptr(VolumeBackupRow) row = row_of(job->table, &vol, job->name, error);
    if (row == NULL) {
        return false;
    }
    g_autofree char *from = file_of(job->table, &vol, job->name);
    g_autofree char *to = file_of(job->table, &vol, job->new_name);
    if (!backup_claim(to, error)) {
        return false;
    }
    /* K3 */
    bool linked = link(from, to) == 0 || haw_fail_errno(error, errno, "rename '%s'", from);
    bool ok = linked && volume_backups_rename(job->table->agent->db, row->id, job->new_name, error);
    if (linked) {
        unlink(ok ? from : to);
    }
    backup_release(to);
    if (!ok) {
        return false;
    }
    tell(job->table->agent, op_caller(op), &vol, job->new_name, "storage-volume-backup-renamed");
    return true;
}

static bool
delete_one(PoolTable *table, const Vol *vol, const char *name, const Caller *caller, GError **error)
{
    g_autoptr(VolumeBackupRow) row = row_of(table, vol, name, error);
    if (row == NULL) {
        return false;
    }
    g_autofree char *file = file_of(table, vol, name);
    if (unlink(file) < 0 && errno != ENOENT) {
        return haw_fail_errno(error, errno, "remove '%s'", file);
    }
    if (!volume_backups_delete(table->agent->db, row->id, error)) {
        return false;
    }
    g_autofree char *dir = dir_of(table, vol);
    rmdir(dir); /* stays while it has others */
    tell(table->agent, caller, vol, name, "storage-volume-backup-deleted");
    return true;
}

static bool
run_delete(Operation *op, void *data, GError **error)
{
    Backup *job = data;
    Vol vol = vol_of(job);
    return delete_one(job->table, &vol, job->name, op_caller(op), error);
}

void
backup_expire(PoolTable *table, gint64 now_us)
{
    const VolumeWhich custom = {.type = "custom"};
    g_autoptr(GPtrArray) rows = volume_backups_load(table->agent->db, &custom, NULL);
    for (guint i = 0; rows != NULL && i < rows->len; i++) {
        const VolumeBackupRow *row = rows->pdata[i];
        const Vol vol = {
            .pool = row->pool, .project = row->project, .type = VOL_CUSTOM, .name = row->volume};
        g_autoptr(GError) error = NULL;
        if (row->expires_at != 0 && row->expires_at <= now_us &&
            !delete_one(table, &vol, row->name, NULL, &error)) {
            haw_warn("backup.not_expired", KS("pool", row->pool), KS("volume", row->volume),
                     KS("backup", row->name), KS("why", error->message));
        }
    }
}

static bool
start(Request *req, const Vol *vol, const char *description, OpFn fn, const char *new_name)
{
    Backup *job = backup_new(req_agent(req)->pools, vol, req_arg(req, "backup"));
    job->new_name = g_strdup(new_name);
    g_autofree char *url = g_strconcat("/1.0/volume/", vol->name, NULL);
    return op_reply(req, (OpSpec){.class = OP_TASK,
                                  .description = description,
                                  .project = req_project(req),
                                  .resources = json_pack("{s:[s]}", "volume", url),
                                  .fn = fn,
                                  .data = job,
                                  .free_data = backup_free});
}

bool
backup_rename(Request *req, GError **error)
{
    Vol vol;
    const char *name = NULL;
    g_autoptr(VolumeRow) row = custom_row(req, &vol, error);
    if (row == NULL || !wire_text(req_json(req), "name", &name, error) ||
        !check_backup_name(name, error)) {
        return false;
    }
    if (*name == '\0') {
        return haw_fail(error, HAW_INVALID, "No name provided");
    }
    g_autoptr(VolumeBackupRow) backup =
        row_of(req_agent(req)->pools, &vol, req_arg(req, "backup"), error);
    g_autoptr(VolumeBackupRow) taken = row_of(req_agent(req)->pools, &vol, name, NULL);
    if (taken != NULL && backup != NULL) {
        return haw_fail(error, HAW_EXISTS, "Backup \"%s/%s\" already exists", vol.name, name);
    }
    return backup != NULL && start(req, &vol, "Renaming custom volume backup", run_rename, name);
}

bool
backup_delete(Request *req, GError **error)
{
    Vol vol;
    g_autoptr(VolumeRow) row = custom_row(req, &vol, error);
    g_autoptr(VolumeBackupRow) backup =
        row != NULL ? row_of(req_agent(req)->pools, &vol, req_arg(req, "backup"), error) : NULL;
    return backup != NULL && start(req, &vol, "Deleting custom volume backup", run_delete, NULL);
}

bool
backup_remove_all(PoolTable *table, const Vol *vol, GError **error)
{
    g_autofree char *dir = dir_of(table, vol);
    return vol->type != VOL_CUSTOM || disktree_remove(dir, error);
}

void
backup_follow(PoolTable *table, const Vol *from, const Vol *to)
{
    g_autofree char *old = dir_of(table, from);
    g_autofree char *new = dir_of(table, to);
    if (rename(old, new) < 0 && errno != ENOENT) {
        haw_warn("backup.not_moved", KS("path", old), KS("why", g_strerror(errno)));
    }
}
