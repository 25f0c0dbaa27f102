/* Backups of instances: a tar in <dir>/backups/instances/<project_instance>/<name>.
 * Z2  A backup has a row (with the volume's, so both go together) only once its file is whole and on
 *     the disk.
 * Z3  A rename gives the file both names until the row has followed: a crash leaves a name too many,
 *     never a row without its file.
 * A name that is being given is given once (store/backup.c, K4).
 * Rows are those of volume backups: an instance's volume is a volume. The archive itself is
 * backuppack.c's, import instimport.c's. */
#include "agent/inst/instbackup.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/api/event.h"
#include "agent/api/operation.h"
#include "agent/api/settings.h"
#include "agent/auth/project.h"
#include "agent/image/archive.h"
#include "agent/inst/backuppack.h"
#include "agent/inst/optimized.h"
#include "agent/inst/show.h"
#include "agent/store/backup.h"
#include "agent/store/shelf.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "proto/keys.h"

typedef struct {
    Inst *inst; /* shares */
    char *name, *new_name, *compression;
    gint64 expires_at;
    bool instance_only, optimized;
} Job;

static void
job_free(void *data)
{
    Job *job = data;

    inst_unref(job->inst);
    g_free(job->name);
    g_free(job->new_name);
    g_free(job->compression);
    g_free(job);
}

static char *
dir_of(Inst *inst)
{
    return agent_path(inst->agent, "backups/instances/%s", inst->object);
}

static char *
file_of(Inst *inst, const char *name)
{
    return agent_path(inst->agent, "backups/instances/%s/%s", inst->object, name);
}

static GPtrArray *
rows_of(Inst *inst, const char *name, GError **error)
{
    Vol vol;

    if (!inst_volume(inst, &vol, error)) {
        return NULL;
    }
    VolumeWhich which = shelf_which(&vol);
    which.item = name;
    return volume_backups_load(inst->agent->db, &which, error);
}

/* NOT_FOUND in LXD's words. */
static VolumeBackupRow *
row_of(Inst *inst, const char *name, GError **error)
{
    g_autoptr(GPtrArray) rows = rows_of(inst, name, error);

    if (rows == NULL) {
        return NULL;
    }
    if (rows->len == 0) {
        haw_fail(error, HAW_NOT_FOUND, "Load backup from database: Instance backup not found");
        return NULL;
    }
    return g_ptr_array_steal_index(rows, 0);
}

static void
announce(Inst *inst, const Caller *caller, const char *name, const char *action)
{
    event_lifecycle(inst->agent, inst->project, caller, NULL, action,
                    "/1.0/instances/%s/backups/%s", inst->name, name);
}

static json_t *
show_row(const VolumeBackupRow *row)
{
    g_autofree char *created = clock_format(row->created_at);
    g_autofree char *expires = clock_format(row->expires_at);

    return json_pack("{s:s,s:s,s:s,s:b,s:b,s:b}", "name", row->name, "created_at", created,
                     "expires_at", expires, "instance_only", row->volume_only, "container_only",
                     row->volume_only, "optimized_storage", row->optimized);
}

json_t *
instbackup_show(Inst *inst)
{
    json_t *list = json_array();
    g_autoptr(GPtrArray) rows = rows_of(inst, NULL, NULL);

    for (guint i = 0; rows != NULL && i < rows->len; i++) {
        json_array_append_new(list, show_row(rows->pdata[i]));
    }
    return list;
}

void
instbackup_follow(Agent *agent, const char *from_object, const char *to_object)
{
    g_autofree char *from = agent_path(agent, "backups/instances/%s", from_object);
    g_autofree char *to =
        to_object != NULL ? agent_path(agent, "backups/instances/%s", to_object) : NULL;

    if (to == NULL) {
        fd_remove_tree(from, NULL);
    } else if (rename(from, to) < 0 && errno != ENOENT) {
        haw_warn("instbackup.not_moved", KS("path", from), KS("why", g_strerror(errno)));
    }
}

/* ---- making one ---- */

static gint64
volume_id(Inst *inst, GError **error)
{
    Vol vol;

    if (!inst_volume(inst, &vol, error)) {
        return -1;
    }
    VolumeWhich which = shelf_which(&vol);
    g_autoptr(VolumeRow) row = volumes_get(inst->agent->db, &which, error);
    return row != NULL ? row->id : -1;
}

static bool
create_claimed(Operation *op, Job *job, const char *file, GError **error)
{
    Inst *inst = job->inst;
    g_autofree char *dir = dir_of(inst);
    g_autoptr(VolumeBackupRow) there = row_of(inst, job->name, NULL);
    gint64 volume = volume_id(inst, error);

    if (there != NULL) {
        return haw_fail(error, HAW_EXISTS, "Create backup: Backup \"%s/%s\" already exists",
                        inst->name, job->name);
    }
    if (volume < 0 || !fd_mkdir_p(dir, 0700, error)) {
        return false;
    }
    g_autofree char *temp = g_build_filename(dir, ".new-XXXXXX", NULL);
    haw_autofd int fd = mkostemp(temp, O_CLOEXEC);
    if (fd < 0) {
        return haw_fail_errno(error, errno, "create a file in '%s'", dir);
    }
    g_autoptr(Meter) meter = meter_start(op, "create_backup_progress", NULL);
    g_autoptr(VolumeBackupRow) made = g_new0(VolumeBackupRow, 1);
    *made = (VolumeBackupRow){.volume_id = volume,
                              .name = g_strdup(job->name),
                              .created_at = clock_real_us(),
                              .expires_at = job->expires_at,
                              .volume_only = job->instance_only,
                              .optimized = job->optimized};
    const BackupPack pack = {.inst = inst,
                             .dir = dir,
                             .compression = job->compression,
                             .instance_only = job->instance_only,
                             .optimized = job->optimized,
                             .fd = fd,
                             .meter = meter};
    bool placed = backuppack_write(&pack, error) && backup_place(fd, temp, file, error);
    if (!placed || !volume_backups_insert(inst->agent->db, made, error)) { /* Z2 */
        unlink(placed ? file : temp);
        return haw_push(error, "Create backup");
    }
    announce(inst, op_caller(op), job->name, "instance-backup-created");
    return true;
}

static bool
run_create(Operation *op, void *data, GError **error)
{
    Job *job = data;
    g_autofree char *file = file_of(job->inst, job->name);

    if (!backup_claim(file, error)) {
        return false;
    }
    bool ok = create_claimed(op, job, file, error);
    backup_release(file);
    return ok;
}

/* ---- renaming, deletion, expiry ---- */

static bool
run_rename(Operation *op, void *data, GError **error)
{
    Job *job = data;
    Inst *inst = job->inst;
    g_autoptr(VolumeBackupRow) row = row_of(inst, job->name, error);
    g_autofree char *from = file_of(inst, job->name), *to = file_of(inst, job->new_name);

    if (row == NULL) {
        return false;
    }
    if (!backup_claim(to, error)) {
        return false;
    }
    /* Z3 */
    bool linked = link(from, to) == 0 || haw_fail_errno(error, errno, "rename '%s'", from);
    bool ok = linked && volume_backups_rename(inst->agent->db, row->id, job->new_name, error);
    if (linked) {
        unlink(ok ? from : to);
    }
    backup_release(to);
    if (!ok) {
        return false;
    }
    announce(inst, op_caller(op), job->new_name, "instance-backup-renamed");
    return true;
}

static bool
delete_one(Inst *inst, const Caller *caller, const char *name, GError **error)
{
    g_autoptr(VolumeBackupRow) row = row_of(inst, name, error);
    g_autofree char *file = file_of(inst, name);

    if (row == NULL) {
        return false;
    }
    if (unlink(file) < 0 && errno != ENOENT) {
        return haw_fail_errno(error, errno, "remove '%s'", file);
    }
    if (!volume_backups_delete(inst->agent->db, row->id, error)) {
        return false;
    }
    g_autofree char *dir = g_path_get_dirname(file);
    rmdir(dir); /* stays while it has others */
    announce(inst, caller, name, "instance-backup-deleted");
    return true;
}

static bool
run_delete(Operation *op, void *data, GError **error)
{
    Job *job = data;

    return delete_one(job->inst, op_caller(op), job->name, error);
}

void
instbackup_expire(InstTable *table)
{
    const VolumeWhich all = {0};
    g_autoptr(GPtrArray) rows = volume_backups_load(table->agent->db, &all, NULL);
    gint64 now = clock_real_us();

    for (guint i = 0; rows != NULL && i < rows->len; i++) {
        VolumeBackupRow *row = rows->pdata[i];
        g_autoptr(GError) error = NULL;
        if (row->expires_at == 0 || row->expires_at > now || strcmp(row->type, "custom") == 0) {
            continue;
        }
        g_autoptr(Inst) inst = inst_find(table, row->project, row->volume, NULL);
        if (inst != NULL && !delete_one(inst, NULL, row->name, &error)) {
            haw_warn("instbackup.not_expired", KS("inst", inst->name), KS("backup", row->name),
                     KS("why", error->message));
        }
    }
}

/* ---- handlers ---- */

static Inst *
find_instance(Request *req, GError **error)
{
    return inst_find(req_agent(req)->instances, req_project(req), req_arg(req, "name"), error);
}

static bool
check_name(const char *name, GError **error)
{
    if (strchr(name, '/') != NULL) {
        return haw_fail(error, HAW_INVALID, "Backup names may not contain slashes");
    }
    return (name[0] != '.' && strlen(name) <= 200) ||
           haw_fail(error, HAW_INVALID, "Invalid backup name \"%s\"", name);
}

static bool
handle_list(Request *req, GError **error)
{
    g_autoptr(Inst) inst = find_instance(req, error);
    g_autoptr(GPtrArray) rows = inst != NULL ? rows_of(inst, NULL, error) : NULL;

    if (rows == NULL) {
        return false;
    }
    json_t *list = json_array();
    for (guint i = 0; i < rows->len; i++) {
        VolumeBackupRow *row = rows->pdata[i];
        json_array_append_new(
            list, req_recursion(req) > 0
                      ? show_row(row)
                      : json_sprintf("/1.0/instances/%s/backups/%s", inst->name, row->name));
    }
    return req_reply(req, list);
}

/* "backup0", "backup1", …: the first that is free; caller frees. */
static char *
next_name(Inst *inst)
{
    for (int i = 0;; i++) {
        g_autofree char *name = g_strdup_printf("backup%d", i);
        g_autoptr(VolumeBackupRow) row = row_of(inst, name, NULL);
        if (row == NULL) {
            return g_steal_pointer(&name);
        }
    }
}

static char *
compression_of(Inst *inst, json_t *body)
{
    const char *asked = keys_get(body, "compression_algorithm");
    json_auto_t *config = asked == NULL ? project_config(inst->agent, inst->project, NULL) : NULL;
    const char *own = keys_get(config, "backups.compression_algorithm");
    const char *ours = settings_get(inst->agent->settings, "backups.compression_algorithm");

    return g_strdup(asked != NULL ? asked : own != NULL ? own : ours != NULL ? ours : "gzip");
}

static bool
start(Request *req, Job *job, const char *description, OpFn fn)
{
    g_autofree char *url = g_strdup_printf("/1.0/instances/%s", job->inst->name);
    g_autofree char *backup = g_strdup_printf("/1.0/backups/%s", job->name); /* LXD's odd one */

    return op_reply(
        req, (OpSpec){.class = OP_TASK,
                      .description = description,
                      .project = req_project(req),
                      .resources = json_pack("{s:[s],s:[s]}", "instances", url, "backups", backup),
                      .cancellable = fn == run_create,
                      .fn = fn,
                      .data = job,
                      .free_data = job_free});
}

static Job *
job_new(Inst *inst, const char *name)
{
    Job *job = g_new0(Job, 1);

    job->inst = inst_ref(inst);
    job->name = g_strdup(name);
    return job;
}

static bool
handle_post(Request *req, GError **error)
{
    g_autoptr(Inst) inst = find_instance(req, error);
    json_t *body = req_json(req);
    const char *name = keys_get(body, "name"), *expires = keys_get(body, "expires_at");
    gint64 expires_at = 0;

    if (inst == NULL || (name != NULL && !check_name(name, error)) ||
        !project_allow_backup(inst->agent, inst->project, error)) {
        return false;
    }
    if (expires != NULL && !clock_parse(expires, &expires_at)) {
        return haw_fail(error, HAW_INVALID, "Invalid expiry \"%s\"", expires);
    }
    g_autofree char *compression = compression_of(inst, body);
    if (!archive_compression_known(compression, error)) {
        return haw_recode(error, HAW_INVALID);
    }
    g_autofree char *chosen = name != NULL ? g_strdup(name) : next_name(inst);
    Job *job = job_new(inst, chosen);
    job->compression = g_steal_pointer(&compression);
    job->expires_at = expires_at;
    job->instance_only = json_is_true(json_object_get(body, "instance_only")) ||
                         json_is_true(json_object_get(body, "container_only"));
    Vol vol;
    job->optimized = json_is_true(json_object_get(body, "optimized_storage")) &&
                     inst_volume(inst, &vol, NULL) && optimized_can(inst->agent->pools, &vol);
    return start(req, job, "Backing up instance", run_create);
}

static bool
handle_get(Request *req, GError **error)
{
    g_autoptr(Inst) inst = find_instance(req, error);
    g_autoptr(VolumeBackupRow) row =
        inst != NULL ? row_of(inst, req_arg(req, "backup"), error) : NULL;

    return row != NULL && req_reply(req, show_row(row));
}

static bool
handle_rename(Request *req, GError **error)
{
    g_autoptr(Inst) inst = find_instance(req, error);
    const char *name = keys_get(req_json(req), "name");
    g_autoptr(VolumeBackupRow) row =
        inst != NULL ? row_of(inst, req_arg(req, "backup"), error) : NULL;

    if (row == NULL) {
        return false;
    }
    if (name == NULL || !check_name(name, error)) {
        return name != NULL ? false : haw_fail(error, HAW_INVALID, "No name provided");
    }
    g_autoptr(VolumeBackupRow) taken = row_of(inst, name, NULL);
    if (taken != NULL) {
        return haw_fail(error, HAW_EXISTS, "Backup \"%s/%s\" already exists", inst->name, name);
    }
    Job *job = job_new(inst, row->name);
    job->new_name = g_strdup(name);
    return start(req, job, "Renaming instance backup", run_rename);
}

static bool
handle_delete(Request *req, GError **error)
{
    g_autoptr(Inst) inst = find_instance(req, error);
    g_autoptr(VolumeBackupRow) row =
        inst != NULL ? row_of(inst, req_arg(req, "backup"), error) : NULL;

    return row != NULL &&
           start(req, job_new(inst, row->name), "Removing instance backup", run_delete);
}

static bool
handle_export(Request *req, GError **error)
{
    g_autoptr(Inst) inst = find_instance(req, error);
    g_autoptr(VolumeBackupRow) row =
        inst != NULL ? row_of(inst, req_arg(req, "backup"), error) : NULL;

    if (row == NULL) {
        return false;
    }
    g_autofree char *file = file_of(inst, row->name);
    haw_autofd int fd = open(file, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return haw_fail_errno(error, errno, "open '%s'", file);
    }
    announce(inst, req_caller(req), row->name, "instance-backup-retrieved");
    return req_reply_fd(req, &fd, "application/octet-stream", NULL, NULL);
}

const Route instbackup_routes[] = {
    INST_ROUTES("GET", "/{name}/backups", handle_list, 0),
    INST_ROUTES("POST", "/{name}/backups", handle_post, ROUTE_BODY_JSON),
    INST_ROUTES("GET", "/{name}/backups/{backup}", handle_get, 0),
    INST_ROUTES("POST", "/{name}/backups/{backup}", handle_rename, ROUTE_BODY_JSON),
    INST_ROUTES("DELETE", "/{name}/backups/{backup}", handle_delete, 0),
    INST_ROUTES("GET", "/{name}/backups/{backup}/export", handle_export, 0),
    {NULL},
};
