/* Copies, refreshes and moves of custom volumes within the server, as operations.
 * C1  What a project may hold is asked in the project that the volume comes to, before anything is copied.
 * Who may name which project is the handlers' to check, and volcopy_start()'s for the source. Called by volume_api.c. */
#include "agent/store/volcopy.h"

#include "agent/api/event.h"
#include "agent/api/operation.h"
#include "agent/auth/project.h"
#include "agent/store/voledit.h"
#include "agent/store/wire.h"

#include <string.h>

/* What a copy, a move or a refresh needs after the request has gone; owns its strings. */
typedef struct {
    PoolTable *table;
    char *from_pool, *from_project, *from_name, *from_snap;
    char *to_pool, *to_project, *to_name;
    char *description;
    json_t *config; /* NULL: the source's */
    bool with_snapshots, refresh;
} Copying;

static void
copying_free(void *data)
{
    Copying *job = data;
    g_free(job->from_pool);
    g_free(job->from_project);
    g_free(job->from_name);
    g_free(job->from_snap);
    g_free(job->to_pool);
    g_free(job->to_project);
    g_free(job->to_name);
    g_free(job->description);
    json_decref(job->config);
    g_free(job);
}

static void
copying_vols(const Copying *job, Vol *from, Vol *to)
{
    *from = (Vol){.pool = job->from_pool,
                  .project = job->from_project,
                  .type = VOL_CUSTOM,
                  .name = job->from_name,
                  .snap = job->from_snap};
    *to = (Vol){
        .pool = job->to_pool, .project = job->to_project, .type = VOL_CUSTOM, .name = job->to_name};
}

static void
tell(Agent *agent, const Caller *caller, const Vol *vol, const char *action)
{
    g_autofree char *url = wire_volume_url(vol);
    event_lifecycle(agent, vol->project, caller, NULL, action, "%s", url);
}

/* C1; and is what the request says anything that a volume like its source can be? */
static bool
check_copy(const Copying *job, const Vol *from, const Vol *to, json_t *config, GError **error)
{
    Vol whole = *from;
    whole.snap = NULL;
    VolumeWhich which = shelf_which(&whole);
    g_autofree char *disk_name = shelf_disk_name(to);
    g_autoptr(VolumeRow) row = volumes_get(job->table->agent->db, &which, error);
    return row != NULL && wire_check_volume_config(disk_name, row->content_type, config, error) &&
           project_allow_volume(job->table->agent, to->project, config, error);
}

/* The source's config, a new reference. */
static json_t *
source_config(PoolTable *table, const Vol *from, GError **error)
{
    VolumeWhich which = shelf_which(from);
    g_autoptr(VolumeRow) row = NULL;
    g_autoptr(VolumeSnapRow) snap = NULL;
    if (shelf_pool(table, from->pool, true, error) == NULL) {
        return NULL;
    }
    if (from->snap != NULL) {
        snap = volume_snaps_get(table->agent->db, &which, NULL);
    } else {
        row = volumes_get(table->agent->db, &which, NULL);
    }
    if (row != NULL || snap != NULL) {
        return json_incref(row != NULL ? row->config : snap->config);
    }
    haw_fail(error, HAW_NOT_FOUND,
             "Failed generating volume copy config: Storage volume \"%s%s%s\" in project "
             "\"%s\" of type \"custom\" does not exist on pool \"%s\": Storage volume not "
             "found",
             from->name, from->snap != NULL ? "/" : "", from->snap != NULL ? from->snap : "",
             from->project, from->pool);
    return NULL;
}

static bool
run_copy(Operation *op, void *data, GError **error)
{
    Copying *job = data;
    Vol from, to;
    copying_vols(job, &from, &to);
    json_auto_t *config = source_config(job->table, &from, error);
    if (config == NULL) {
        return false;
    }
    VolumeWhich which = shelf_which(&to);
    g_autoptr(VolumeRow) there =
        job->refresh ? volumes_get(job->table->agent->db, &which, NULL) : NULL;
    json_t *wanted = job->config != NULL ? job->config : config;
    wire_keep_ids(wanted, config);
    if (there == NULL && !check_copy(job, &from, &to, wanted, error)) {
        return false;
    }
    const VolMake make = {.config = wanted, .description = job->description};
    if (there != NULL) {
        wire_keep_ids(there->config, config);
    }
    bool ok =
        there != NULL
            ? voledit_refresh(job->table, &from, &to, job->with_snapshots, op_cancel(op), error) &&
                  volumes_store(job->table->agent->db, there->id, there->description, there->config,
                                error)
            : volume_copy(job->table, &from, &to, job->with_snapshots, &make, op_cancel(op), error);
    if (ok) {
        tell(job->table->agent, op_caller(op), &to,
             there != NULL ? "storage-volume-updated" : "storage-volume-created");
    }
    return ok;
}

bool
volcopy_start(Request *req, const Vol *to, json_t *source, json_t *config, const char *description,
              GError **error)
{
    const char *name = NULL, *pool = NULL, *project = NULL;
    bool refresh = false, volume_only = false;
    if (!wire_text(source, "name", &name, error) || !wire_text(source, "pool", &pool, error) ||
        !wire_text(source, "project", &project, error) ||
        !wire_bool(source, "refresh", &refresh, error) ||
        !wire_bool(source, "volume_only", &volume_only, error)) {
        return false;
    }
    if (*name == '\0') {
        return haw_fail(error, HAW_INVALID, "No source volume name supplied");
    }
    if (*project != '\0' && !caller_may_project(req_caller(req), project)) {
        return haw_fail(error, HAW_DENIED, "not authorized");
    }
    Copying *job = g_new0(Copying, 1);
    const char *slash = strchr(name, '/');
    Agent *agent = req_agent(req);
    *job = (Copying){
        .table = agent->pools,
        .from_pool = g_strdup(pool),
        .from_project =
            g_strdup(project_for_volumes(agent, *project != '\0' ? project : req_project(req))),
        .from_name = slash != NULL ? g_strndup(name, (gsize) (slash - name)) : g_strdup(name),
        .from_snap = slash != NULL ? g_strdup(slash + 1) : NULL,
        .to_pool = g_strdup(to->pool),
        .to_project = g_strdup(to->project),
        .to_name = g_strdup(to->name),
        .description = *description != '\0' ? g_strdup(description) : NULL,
        .config = json_object_size(config) > 0 ? json_incref(config) : NULL,
        .with_snapshots = !volume_only,
        .refresh = refresh};
    return op_reply(req, (OpSpec){.class = OP_TASK,
                                  .description = "Copying storage volume",
                                  .project = req_project(req),
                                  .cancellable = true,
                                  .fn = run_copy,
                                  .data = job,
                                  .free_data = copying_free});
}

/* ---- moves ---- */

static bool
run_move(Operation *op, void *data, GError **error)
{
    Copying *job = data;
    Vol from, to;
    copying_vols(job, &from, &to);
    bool stays = strcmp(from.project, to.project) == 0; /* and counts there already */
    json_auto_t *config = source_config(job->table, &from, error);
    if (config == NULL ||
        (!stays && !project_allow_volume(job->table->agent, to.project, config, error)) ||
        !voledit_move(job->table, &from, &to, op_cancel(op), error)) {
        return false;
    }
    tell(job->table->agent, op_caller(op), &to, "storage-volume-renamed");
    return true;
}

bool
volcopy_start_move(Request *req, const Vol *from, const Vol *to, GError **error)
{
    Copying *job = g_new0(Copying, 1);
    *job = (Copying){.table = req_agent(req)->pools,
                     .from_pool = g_strdup(from->pool),
                     .from_project = g_strdup(from->project),
                     .from_name = g_strdup(from->name),
                     .to_pool = g_strdup(to->pool),
                     .to_project = g_strdup(to->project),
                     .to_name = g_strdup(to->name)};
    return op_reply(req, (OpSpec){.class = OP_TASK,
                                  .description = "Moving storage volume",
                                  .project = req_project(req),
                                  .cancellable = true,
                                  .fn = run_move,
                                  .data = job,
                                  .free_data = copying_free});
}
