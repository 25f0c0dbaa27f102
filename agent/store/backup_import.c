/* A custom volume from a backup's archive (backup.c tells its form).
 * I1  The archive is a stranger's: it is unpacked through image/archive.h, which lets nothing out of the
 *     volume's directory, and its index is bounded YAML.
 * I2  The volume is made first, then its snapshots; a failure leaves none of them.
 * The request's handler checks what can be known at once; the rest is an operation. */
#include "agent/store/backup.h"

#include "agent/api/event.h"
#include "agent/api/operation.h"
#include "agent/auth/project.h"
#include "agent/image/archive.h"
#include "agent/store/vmdir.h"
#include "agent/store/wire.h"
#include "base/fd.h"
#include "proto/grammar.h"
#include "proto/yaml.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

enum { INDEX_BYTES = 1 << 20 };

typedef struct {
    PoolTable *table;
    char *pool, *project, *volume;
    int fd;
} Import;

static void
import_free(void *data)
{
    Import *job = data;
    g_free(job->pool);
    g_free(job->project);
    g_free(job->volume);
    fd_close(&job->fd);
    g_free(job);
}

static Vol
vol_of(const Import *job)
{
    return (Vol){
        .pool = job->pool, .project = job->project, .type = VOL_CUSTOM, .name = job->volume};
}

struct filling {
    int fd;
    bool block;
    char *prefix;
};

static bool
fill(const char *path, void *data, GError **error)
{
    struct filling *job = data;
    const char *const only[] = {job->prefix, NULL};
    const ArchiveUnpack spec = {.fd = job->fd,
                                .dir = path,
                                .prefix = job->block ? "backup" : job->prefix,
                                .only = job->block ? only : NULL};
    if (!archive_unpack(&spec, error)) {
        return false;
    }
    if (!job->block) {
        return true;
    }
    return vmdir_take_disk(path, job->prefix, error);
}

static json_t *
read_index(int fd, GError **error)
{
    size_t size = 0;
    g_autofree char *text =
        archive_read_member(fd, "backup/index.yaml", INDEX_BYTES, &size, NULL, error);
    if (text == NULL) {
        haw_push(error, "Failed getting backup info");
        haw_recode(error, HAW_INVALID);
        return NULL;
    }
    json_auto_t *index = yaml_to_json(text, size, yaml_text_keys, error);
    if (index == NULL) {
        return NULL;
    }
    if (g_strcmp0(json_string_value(json_object_get(index, "type")), "custom") != 0) {
        haw_fail(error, HAW_INVALID, "Backup does not contain a custom volume");
        return NULL;
    }
    return json_incref(index);
}

/* The snapshots come first, each through the volume itself: it is what the snapshot is made of. */
static bool
import_volume(Import *job, json_t *index, GError **error)
{
    json_t *volume = json_object_get(json_object_get(index, "config"), "volume");
    const char *content = NULL, *description = NULL;
    json_auto_t *config = NULL;
    if (!wire_text(volume, "content_type", &content, error) ||
        !wire_text(volume, "description", &description, error) ||
        !wire_config(volume, &config, error)) {
        return false;
    }
    content = *content != '\0' ? content : "filesystem";
    Vol vol = vol_of(job);
    g_autofree char *disk_name = shelf_disk_name(&vol);
    if (!wire_check_volume_config(disk_name, content, config, error) ||
        !project_allow_volume(job->table->agent, vol.project, config, error)) {
        return false;
    }
    bool block = strcmp(content, "block") == 0;
    struct filling filling = {
        .fd = job->fd, .block = block, .prefix = g_strdup(block ? "volume.img" : "backup/volume")};
    const VolMake make = {.content_type = content, .description = description, .config = config};
    bool ok = volume_create(job->table, &vol, &make, fill, &filling, error);
    g_free(filling.prefix);
    return ok;
}

static bool
import_snapshot(Import *job, json_t *index, json_t *snap, GError **error)
{
    json_t *volume = json_object_get(json_object_get(index, "config"), "volume");
    bool block =
        g_strcmp0(json_string_value(json_object_get(volume, "content_type")), "block") == 0;
    const char *name = NULL, *description = NULL;
    gint64 created_at = 0, expires_at = 0;
    json_auto_t *config = NULL;
    if (!wire_text(snap, "name", &name, error) ||
        !wire_text(snap, "description", &description, error) ||
        !wire_config(snap, &config, error) ||
        !wire_time(snap, "created_at", &created_at, NULL, error) ||
        !wire_time(snap, "expires_at", &expires_at, NULL, error) ||
        !wire_check_volume_name(name, error) || !grammar_snapshot_name(name, error)) {
        return false;
    }
    struct filling filling = {
        .fd = job->fd,
        .block = block,
        .prefix = g_strdup_printf(block ? "volume-snapshots/%s.img" : "backup/volume-snapshots/%s",
                                  name)};
    g_autofree char *prefix = filling.prefix;
    Vol vol = vol_of(job);
    const VolumeSnapRow row = {.name = (char *) name,
                               .description = (char *) description,
                               .config = config,
                               .created_at = created_at,
                               .expires_at = expires_at};
    return volume_import_snapshot(job->table, &vol, &row, fill, &filling, error);
}

static bool
run_import(Operation *op, void *data, GError **error)
{
    Import *job = data;
    json_auto_t *index = read_index(job->fd, error);
    if (index == NULL || !import_volume(job, index, error)) {
        return false;
    }
    json_t *snaps = json_object_get(json_object_get(index, "config"), "volume_snapshots");
    json_t *snap = NULL;
    size_t i = 0;
    Vol vol = vol_of(job);
    json_array_foreach (snaps, i, snap) {
        if (!import_snapshot(job, index, snap, error)) {
            vol_delete(job->table, &vol, NULL);
            return false;
        }
    }
    g_autofree char *url = wire_volume_url(&vol);
    event_lifecycle(job->table->agent, vol.project, op_caller(op), NULL, "storage-volume-created",
                    "%s", url);
    return true;
}

bool
backup_import(Request *req, const char *type, GError **error)
{
    Agent *agent = req_agent(req);
    const char *name = req_header(req, "X-LXD-name");
    Vol vol = {.pool = req_arg(req, "pool"),
               .project = project_for_volumes(agent, req_project(req)),
               .type = VOL_CUSTOM};
    if (shelf_pool(agent->pools, vol.pool, true, error) == NULL) {
        return false;
    }
    if (strcmp(type, "custom") != 0) {
        return haw_fail(error, HAW_INVALID,
                        "Currently not allowed to create storage volumes of type \"%s\"", type);
    }
    json_auto_t *index = read_index(req_body_fd(req), error);
    if (index == NULL) {
        return false;
    }
    vol.name =
        name != NULL && *name != '\0' ? name : json_string_value(json_object_get(index, "name"));
    if (!wire_check_volume_name(vol.name != NULL ? vol.name : "", error)) {
        return false;
    }
    VolumeWhich which = shelf_which(&vol);
    g_autoptr(VolumeRow) there = volumes_get(agent->db, &which, NULL);
    if (there != NULL) {
        return haw_fail(error, HAW_EXISTS, "Volume by that name already exists");
    }
    Import *job = g_new0(Import, 1);
    *job = (Import){.table = agent->pools,
                    .pool = g_strdup(vol.pool),
                    .project = g_strdup(vol.project),
                    .volume = g_strdup(vol.name),
                    .fd = fcntl(req_body_fd(req), F_DUPFD_CLOEXEC, 0)};
    return op_reply(req, (OpSpec){.class = OP_TASK,
                                  .description = "Restoring custom volume backup",
                                  .project = req_project(req),
                                  .fn = run_import,
                                  .data = job,
                                  .free_data = import_free});
}
