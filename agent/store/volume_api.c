/* /1.0/storage-pools/{pool}/volumes: lists, creation, copies, moves, renames, changes, state.
 * Only custom volumes are made, renamed and deleted here: the others belong to instances and images.
 * Snapshots are in snap_api.c, backups in backup_api.c. Each handler runs in a fiber of its own. */
#include "agent/store/ownvol.h"
#include "agent/store/wire.h"

#include "agent/api/event.h"
#include "agent/api/operation.h"
#include "agent/auth/project.h"
#include "agent/move/movecustom.h"
#include "agent/store/backup.h"
#include "agent/store/snap_api.h"
#include "agent/store/volcopy.h"
#include "agent/store/voledit.h"

#include <string.h>

/* ---- lists ---- */

struct listing {
    Request *req;
    PoolTable *table;
    Filter *filter; /* owned */
    json_t *list;
};

static bool
is_visible(struct listing *job, const VolumeRow *row)
{
    if (req_all_projects(job->req)) {
        return caller_may_project(req_caller(job->req), row->project);
    }
    const char *project = req_project(job->req);
    if (strcmp(row->type, "image") == 0) {
        return true;
    }
    if (strcmp(row->type, "custom") == 0) {
        project = project_for_volumes(req_agent(job->req), project);
    }
    return strcmp(row->project, project) == 0;
}

static void
add_one(struct listing *job, const VolumeRow *row, const VolumeSnapRow *snap)
{
    bool whole = req_recursion(job->req) > 0 || req_query(job->req, "filter") != NULL;
    json_auto_t *object = !whole         ? NULL
                          : snap != NULL ? wire_snapshot_as_volume(row, snap)
                                         : wire_volume(job->table, row);
    if (whole && !filter_matches(job->filter, object)) {
        return;
    }
    if (req_recursion(job->req) > 0) {
        json_array_append(job->list, object);
        return;
    }
    Vol vol = {.pool = row->pool, .project = row->project, .name = row->name};
    shelf_type_parse(row->type, &vol.type);
    vol.snap = snap != NULL ? snap->name : NULL;
    g_autofree char *url = wire_volume_url(&vol);
    json_array_append_new(job->list, json_string(url));
}

/* type NULL: all. */
static bool
list_volumes(Request *req, const char *type, GError **error)
{
    VolType parsed;
    if (type != NULL && !shelf_type_parse(type, &parsed)) {
        return haw_fail(error, HAW_INVALID, "Invalid storage volume type name");
    }
    PoolTable *table = req_agent(req)->pools;
    const VolumeWhich which = {.pool = req_arg(req, "pool"), .type = type};
    if (shelf_pool(table, which.pool, false, error) == NULL) {
        return false;
    }
    g_autoptr(GPtrArray) rows = volumes_load(table->agent->db, &which, error);
    g_autoptr(GPtrArray) snaps =
        rows != NULL ? volume_snaps_load(table->agent->db, &which, error) : NULL;
    g_autoptr(Filter) filter = snaps != NULL ? filter_parse(req_query(req, "filter"), error) : NULL;
    if (filter == NULL) {
        return false;
    }

    /* Both are sorted alike: the snapshots of a row follow it. */
    struct listing job = {.req = req, .table = table, .filter = filter, .list = json_array()};
    guint next = 0;
    for (guint i = 0; i < rows->len; i++) {
        const VolumeRow *row = rows->pdata[i];
        bool visible = is_visible(&job, row);
        if (visible) {
            add_one(&job, row, NULL);
        }
        for (; next < snaps->len && ((VolumeSnapRow *) snaps->pdata[next])->volume_id == row->id;
             next++) {
            if (visible) {
                add_one(&job, row, snaps->pdata[next]);
            }
        }
    }
    return req_reply(req, job.list);
}

static bool
list_all(Request *req, GError **error)
{
    return list_volumes(req, NULL, error);
}

static bool
list_type(Request *req, GError **error)
{
    return list_volumes(req, req_arg(req, "type"), error);
}

/* ---- creation ---- */

static void
tell(Agent *agent, const Caller *caller, const Vol *vol, const char *action)
{
    g_autofree char *url = wire_volume_url(vol);
    event_lifecycle(agent, vol->project, caller, NULL, action, "%s", url);
}

static bool
create_plain(Request *req, const Vol *vol, const VolMake *make, GError **error)
{
    g_autofree char *disk_name = shelf_disk_name(vol);
    g_auto(FiberHold) limits = project_hold(req_agent(req), vol->project);
    wire_keep_ids(make->config, NULL);
    if (!wire_check_volume_config(disk_name, make->content_type, make->config, error) ||
        !project_allow_volume(req_agent(req), vol->project, make->config, error) ||
        !volume_create(req_agent(req)->pools, vol, make, NULL, NULL, error)) {
        return false;
    }
    tell(req_agent(req), req_caller(req), vol, "storage-volume-created");
    return req_reply(req, NULL);
}

/* The type is custom, and the name is right and free (or a refresh was asked for). */
static bool
check_new(Request *req, const char *type, const char *name, json_t *source, GError **error)
{
    Agent *agent = req_agent(req);
    if (shelf_pool(agent->pools, req_arg(req, "pool"), true, error) == NULL ||
        !wire_check_volume_name(name, error)) {
        return false;
    }
    if (strcmp(type, "custom") != 0) {
        return haw_fail(error, HAW_INVALID,
                        "Currently not allowed to create storage volumes of type \"%s\"", type);
    }
    const VolumeWhich which = {.pool = req_arg(req, "pool"),
                               .project = project_for_volumes(agent, req_project(req)),
                               .type = "custom",
                               .name = name};
    g_autoptr(VolumeRow) there = volumes_get(agent->db, &which, NULL);
    return there == NULL || json_is_true(json_object_get(source, "refresh")) ||
           haw_fail(error, HAW_EXISTS, "Volume by that name already exists");
}

/* path_type NULL: the body has it. */
static bool
create_volume(Request *req, const char *path_type, GError **error)
{
    if (req_body_fd(req) >= 0) {
        return backup_import(req, path_type != NULL ? path_type : "", error);
    }
    json_t *body = req_json(req), *source = json_object_get(body, "source");
    const char *name = NULL, *type = NULL, *content = NULL, *description = NULL, *from = NULL;
    json_auto_t *config = NULL;
    if (!wire_text(body, "name", &name, error) || !wire_text(body, "type", &type, error) ||
        !wire_text(body, "content_type", &content, error) ||
        !wire_text(body, "description", &description, error) ||
        !wire_text(source, "type", &from, error) || !wire_config(body, &config, error)) {
        return false;
    }
    type = path_type != NULL ? path_type : type;
    if (!check_new(req, type, name, source, error)) {
        return false;
    }
    content = *content != '\0' ? content : "filesystem";
    if (strcmp(content, "filesystem") != 0 && strcmp(content, "block") != 0) {
        return haw_fail(error, HAW_INVALID, "Invalid volume content type name");
    }
    const Vol vol = {.pool = req_arg(req, "pool"),
                     .project = project_for_volumes(req_agent(req), req_project(req)),
                     .type = VOL_CUSTOM,
                     .name = name};
    if (*from == '\0') {
        const VolMake make = {
            .content_type = content, .description = description, .config = config};
        return create_plain(req, &vol, &make, error);
    }
    if (strcmp(from, "copy") == 0) {
        return volcopy_start(req, &vol, source, config, description, error);
    }
    if (strcmp(from, "migration") == 0) {
        return movecustom_receive(req, &vol, source, config, description, content, error);
    }
    return haw_fail(error, HAW_INVALID, "Unknown source type \"%s\"", from);
}

static bool
create_any(Request *req, GError **error)
{
    return create_volume(req, NULL, error);
}

static bool
create_typed(Request *req, GError **error)
{
    return create_volume(req, req_arg(req, "type"), error);
}

/* ---- one volume ---- */

static bool
get_volume(Request *req, GError **error)
{
    Vol vol;
    g_autoptr(VolumeRow) row = wire_row(req, &vol, error);
    if (row == NULL) {
        return false;
    }
    return req_reply_etag(req, wire_volume(req_agent(req)->pools, row), wire_volume_tag(row));
}

static bool
restore(Request *req, const Vol *vol, const char *snap, GError **error)
{
    PoolTable *table = req_agent(req)->pools;
    Vol wanted = *vol;
    wanted.snap = snap;
    VolumeWhich which = shelf_which(&wanted);
    g_autoptr(VolumeSnapRow) row = volume_snaps_get(table->agent->db, &which, NULL);
    if (row == NULL) {
        return haw_fail(error, HAW_FAILED, "Snapshot not found");
    }
    if (wire_runs(table, vol)) {
        return haw_fail(error, HAW_FAILED,
                        "Cannot restore custom volume used by running instances");
    }
    if (!vol_restore(table, &wanted, error)) {
        return false;
    }
    tell(table->agent, req_caller(req), vol, "storage-volume-restored");
    return req_reply(req, NULL);
}

static bool
change_volume(Request *req, GError **error)
{
    bool patch = req_patches(req);
    Vol vol;
    g_autoptr(VolumeRow) row = wire_row(req, &vol, error);
    json_t *body = req_json(req);
    const char *description = NULL, *snap = NULL;
    json_auto_t *config = NULL;
    if (row == NULL || !req_check_etag(req, wire_volume_tag(row), error) ||
        !wire_text(body, "description", &description, error) ||
        !wire_text(body, "restore", &snap, error) || !wire_config(body, &config, error)) {
        return false;
    }
    if (*snap != '\0' && vol.type == VOL_CUSTOM && !patch) {
        return restore(req, &vol, snap, error);
    }
    if (patch) {
        json_object_update_missing(config, row->config);
        if (json_object_get(body, "description") == NULL) {
            description = row->description;
        }
    }
    if (!voledit_update(req_agent(req)->pools, &vol, row, description, config, error)) {
        return false;
    }
    tell(req_agent(req), req_caller(req), &vol, "storage-volume-updated");
    return req_reply(req, NULL);
}

static bool
delete_volume(Request *req, GError **error)
{
    Vol vol;
    g_autoptr(VolumeRow) row = wire_row(req, &vol, error);
    if (row == NULL) {
        return false;
    }
    PoolTable *table = req_agent(req)->pools;
    if (vol.type != VOL_CUSTOM && vol.type != VOL_IMAGE) {
        return haw_fail(error, HAW_INVALID,
                        "Storage volumes of type \"%s\" cannot be deleted with the storage API",
                        row->type);
    }
    json_auto_t *used_by = wire_used_by(table, row);
    if (ownvol_is(table->agent, &vol) || (vol.type == VOL_CUSTOM && json_array_size(used_by) > 0)) {
        return haw_fail(error, HAW_CONFLICT, "The storage volume is still in use");
    }
    if (!backup_remove_all(table, &vol, error) || !vol_delete(table, &vol, error)) {
        return false;
    }
    tell(table->agent, req_caller(req), &vol, "storage-volume-deleted");
    return req_reply(req, NULL);
}

static bool
volume_state(Request *req, GError **error)
{
    Vol vol;
    gint64 used = 0, total = 0;
    g_autoptr(VolumeRow) row = wire_row(req, &vol, error);
    if (row == NULL || !vol_usage(req_agent(req)->pools, &vol, &used, &total, error)) {
        return false;
    }
    if (used < 0) {
        return haw_fail(error, HAW_FAILED, "Not supported");
    }
    return req_reply(req, json_pack("{s:{s:I, s:I}}", "usage", "used", (json_int_t) used, "total",
                                    (json_int_t) total));
}

/* ---- renames ---- */

static bool
rename_here(Request *req, const Vol *vol, const Vol *to, GError **error)
{
    PoolTable *table = req_agent(req)->pools;
    if (!vol_rename(table, vol, to->name, error) || !voledit_devices(table, vol, to, error)) {
        return false;
    }
    backup_follow(table, vol, to);
    g_autofree char *url = wire_volume_url(to);
    event_lifecycle(table->agent, to->project, req_caller(req),
                    json_pack("{s:s}", "old_name", vol->name), "storage-volume-renamed", "%s", url);
    return req_reply_created(req, "%s", url);
}

static bool
post_volume(Request *req, GError **error)
{
    json_t *body = req_json(req);
    Agent *agent = req_agent(req);
    const char *name = NULL, *pool = NULL, *project = NULL;
    if (!wire_text(body, "name", &name, error) || !wire_text(body, "pool", &pool, error) ||
        !wire_text(body, "project", &project, error) || !wire_check_volume_name(name, error)) {
        return false;
    }
    if (strcmp(req_arg(req, "type"), "custom") != 0) {
        return haw_fail(error, HAW_INVALID,
                        "Renaming storage volumes of type \"%s\" is not allowed",
                        req_arg(req, "type"));
    }
    Vol vol;
    g_autoptr(VolumeRow) row = wire_row(req, &vol, error);
    if (row == NULL) {
        return false;
    }
    if (json_is_true(json_object_get(body, "migration"))) {
        return movecustom_send(req, &vol, error);
    }
    if (*project != '\0' && !caller_may_project(req_caller(req), project)) {
        return haw_fail(error, HAW_DENIED, "not authorized");
    }
    if (ownvol_is(agent, &vol)) {
        return haw_fail(error, HAW_INVALID, "Volumes used by LXD itself cannot be renamed");
    }
    Vol to = vol;
    to.name = name;
    to.pool = *pool != '\0' ? pool : vol.pool;
    to.project = *project != '\0' ? project_for_volumes(agent, project) : vol.project;
    if (!caller_may_project(req_caller(req),
                            to.project)) { /* a project that only borrows volumes */
        return haw_fail(error, HAW_DENIED, "not authorized");
    }
    if (shelf_pool(agent->pools, to.pool, true, error) == NULL) {
        return false;
    }
    VolumeWhich which = shelf_which(&to);
    g_autoptr(VolumeRow) there = volumes_get(agent->db, &which, NULL);
    if (there != NULL) {
        return haw_fail(error, HAW_EXISTS, "Volume by that name already exists");
    }
    if (wire_runs(agent->pools, &vol)) {
        return haw_fail(error, HAW_CONFLICT, "Volume is still in use by running instances");
    }
    bool here = strcmp(to.pool, vol.pool) == 0 && strcmp(to.project, vol.project) == 0;
    return here ? rename_here(req, &vol, &to, error) : volcopy_start_move(req, &vol, &to, error);
}

#define VOLUMES "/1.0/storage-pools/{pool}/volumes"
#define VOLUME  VOLUMES "/{type}/{volume}"
const Route volume_routes[] = {
    {"GET", VOLUMES, list_all, 0},
    {"POST", VOLUMES, create_any, ROUTE_BODY_JSON | ROUTE_BODY_FILE},
    {"GET", VOLUMES "/{type}", list_type, 0},
    {"POST", VOLUMES "/{type}", create_typed, ROUTE_BODY_JSON | ROUTE_BODY_FILE},
    {"GET", VOLUME, get_volume, 0},
    {"PUT", VOLUME, change_volume, ROUTE_BODY_JSON},
    {"PATCH", VOLUME, change_volume, ROUTE_BODY_JSON},
    {"POST", VOLUME, post_volume, ROUTE_BODY_JSON},
    {"DELETE", VOLUME, delete_volume, 0},
    {"GET", VOLUME "/state", volume_state, 0},
    {"GET", VOLUME "/snapshots", snap_api_list, 0},
    {"POST", VOLUME "/snapshots", snap_api_create, ROUTE_BODY_JSON},
    {"GET", VOLUME "/snapshots/{snapshot}", snap_api_get, 0},
    {"PUT", VOLUME "/snapshots/{snapshot}", snap_api_put, ROUTE_BODY_JSON},
    {"PATCH", VOLUME "/snapshots/{snapshot}", snap_api_patch, ROUTE_BODY_JSON},
    {"POST", VOLUME "/snapshots/{snapshot}", snap_api_rename, ROUTE_BODY_JSON},
    {"DELETE", VOLUME "/snapshots/{snapshot}", snap_api_delete, 0},
    {"GET", VOLUME "/backups", backup_list, 0},
    {"POST", VOLUME "/backups", backup_create, ROUTE_BODY_JSON},
    {"GET", VOLUME "/backups/{backup}", backup_get, 0},
    {"POST", VOLUME "/backups/{backup}", backup_rename, ROUTE_BODY_JSON},
    {"DELETE", VOLUME "/backups/{backup}", backup_delete, 0},
    {"GET", VOLUME "/backups/{backup}/export", backup_export, 0},
    {NULL, NULL, NULL, 0},
};
