/* Instances that leave: within the server (pool, project), or as the source of a copy to another one.
 * Decodes, and starts the operation that does it. Each request is a fiber. */
#include "agent/api/instance_move.h"

#include "agent/api/instances.h"
#include "agent/auth/project.h"
#include "agent/inst/change.h"
#include "agent/inst/relocate.h"
#include "agent/move/live.h"
#include "agent/move/moveinst.h"

#include <string.h>

static const char *
text_of(json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text != NULL ? text : "";
}

static bool
is_true(json_t *object, const char *key)
{
    return json_is_true(json_object_get(object, key));
}

/* ---- to another server ---- */

struct sending {
    Inst *inst; /* shares */
    char *snap;
    bool instance_only, inconsistent, live;
    json_t *peer;
};

static void
sending_free(void *data)
{
    struct sending *job = data;
    inst_unref(job->inst);
    g_free(job->snap);
    json_decref(job->peer);
    g_free(job);
}

static bool
send_op(Operation *op, void *data, GError **error)
{
    struct sending *job = data;
    const MoveOut out = {.inst = job->inst,
                         .snap = job->snap,
                         .instance_only = job->instance_only,
                         .inconsistent = job->inconsistent,
                         .live = job->live,
                         .peer = job->peer};
    return moveinst_send(op, &out, error);
}

static bool
start_sending(Request *req, Inst *inst, const char *snap, GError **error)
{
    json_t *body = req_json(req), *peer = json_object_get(body, "target");
    json_t *live = json_object_get(body, "live");
    bool push = json_is_object(peer);
    bool runs = snap == NULL && inst_pid(inst) != 0 && (live == NULL || json_is_true(live));
    if (runs && !liveout_may(inst, error)) {
        return false;
    }
    if (push && !moveconn_check_peer(peer, runs, error)) {
        return false;
    }
    struct sending *job = g_new0(struct sending, 1);
    *job = (struct sending){.inst = inst_ref(inst),
                            .snap = g_strdup(snap),
                            .instance_only =
                                is_true(body, "instance_only") || is_true(body, "container_only"),
                            .inconsistent = is_true(body, "allow_inconsistent"),
                            .live = runs,
                            .peer = push ? json_incref(peer) : NULL};
    json_auto_t *secrets = push ? NULL : moveconn_secrets(runs);
    return op_reply(req, (OpSpec){.class = push ? OP_TASK : OP_WEBSOCKET,
                                  .description = snap != NULL ? "Transferring snapshot"
                                                 : runs       ? "Live-migrating instance"
                                                              : "Migrating instance",
                                  .project = inst_project(inst),
                                  .resources = instances_resources(inst),
                                  .metadata = secrets != NULL ? json_copy(secrets) : NULL,
                                  .fds = json_incref(secrets),
                                  .cancellable = true,
                                  .fn = send_op,
                                  .data = job,
                                  .free_data = sending_free});
}

/* ---- within the server ---- */

struct moving {
    Inst *inst; /* shares */
    char *pool, *project, *name;
    json_t *config, *devices, *profiles; /* NULL: as they are */
    bool instance_only;
};

static void
moving_free(void *data)
{
    struct moving *job = data;
    inst_unref(job->inst);
    g_free(job->pool);
    g_free(job->project);
    g_free(job->name);
    json_decref(job->config);
    json_decref(job->devices);
    json_decref(job->profiles);
    g_free(job);
}

static void
lay_over(json_t **place, json_t *over)
{
    if (over != NULL) {
        json_t *all = json_copy(*place);
        json_object_update(all, over);
        json_decref(*place);
        *place = all;
    }
}

/* The keys of the request lie over the instance's: what it may not change by PUT, it may not by a move. */
static bool
lay_config_over(const struct moving *job, InstRow *row, GError **error)
{
    json_t *own = inst_config(job->inst);
    lay_over(&row->config, job->config);
    return job->config == NULL || (change_keep_volatile(own, row->config, error) &&
                                   project_allow_volatile(job->inst->agent, job->project, row->type,
                                                          row->name, own, row->config, error));
}

static bool
move_op(Operation *op, void *data, GError **error)
{
    struct moving *job = data;
    g_autoptr(InstRow) row = relocate_row(job->inst, *job->pool != '\0' ? job->pool : NULL,
                                          job->project, job->name, error);
    if (row == NULL || !lay_config_over(job, row, error)) {
        return false;
    }
    lay_over(&row->devices, job->devices);
    if (job->profiles != NULL) {
        json_decref(row->profiles);
        row->profiles = json_incref(job->profiles);
    }
    return relocate_move(job->inst, op, row, job->instance_only, error);
}

static bool
parse_moving(Request *req, struct moving *job, GError **error)
{
    json_t *body = req_json(req), *config = json_object_get(body, "config");
    json_t *devices = json_object_get(body, "devices");
    g_autoptr(GError) local = NULL;
    if (json_is_object(config)) {
        job->config = instances_string_map(config, "config", error);
    }
    if (json_is_object(devices)) {
        job->devices = instances_device_map(devices, error);
    }
    job->profiles = instances_profiles(json_object_get(body, "profiles"), &local);
    if (local != NULL) {
        g_propagate_error(error, g_steal_pointer(&local));
        return false;
    }
    return (!json_is_object(config) || job->config != NULL) &&
           (!json_is_object(devices) || job->devices != NULL);
}

static bool
start_moving(Request *req, Inst *inst, GError **error)
{
    json_t *body = req_json(req);
    const char *pool = text_of(body, "pool"), *project = text_of(body, "project");
    const char *name = text_of(body, "name");
    Agent *agent = req_agent(req);
    json_auto_t *there = NULL;
    if (*pool != '\0' && !pool_exists(agent->pools, pool)) {
        return haw_fail(error, HAW_NOT_FOUND, "Storage pool not found");
    }
    if (*project != '\0') {
        if (!caller_may_project(req_caller(req), project)) {
            return haw_fail(error, HAW_DENIED, "not authorized");
        }
        there = project_config(agent, project, error);
        if (there == NULL) {
            return false;
        }
    }
    if (*name != '\0' && !instances_check_name(name, error)) {
        return false;
    }
    if (inst_pid(inst) != 0) {
        return haw_fail(error, HAW_INVALID,
                        "Instance must be stopped to move between %s statelessly",
                        *pool != '\0' ? "pools" : "projects");
    }
    struct moving *job = g_new0(struct moving, 1);
    *job = (struct moving){.inst = inst_ref(inst),
                           .pool = g_strdup(pool),
                           .project = g_strdup(*project != '\0' ? project : inst_project(inst)),
                           .name = g_strdup(*name != '\0' ? name : inst_name(inst)),
                           .instance_only =
                               is_true(body, "instance_only") || is_true(body, "container_only")};
    if (!parse_moving(req, job, error)) {
        moving_free(job);
        return false;
    }
    return op_reply(req, (OpSpec){.class = OP_TASK,
                                  .description = "Moving instance",
                                  .project = inst_project(inst),
                                  .resources = instances_resources(inst),
                                  .cancellable = true,
                                  .fn = move_op,
                                  .data = job,
                                  .free_data = moving_free});
}

bool
instance_move_post(Request *req, Inst *inst, const char *snap, GError **error)
{
    json_t *body = req_json(req);
    bool within = *text_of(body, "pool") != '\0' || *text_of(body, "project") != '\0';
    if (*text_of(body, "name") == '\0' && snap != NULL) {
        return haw_fail(error, HAW_INVALID, "A new name for the snapshot must be provided");
    }
    return within && snap == NULL ? start_moving(req, inst, error)
                                  : start_sending(req, inst, snap, error);
}
