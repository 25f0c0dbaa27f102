/* /1.0/instances/NAME/snapshots: decodes, calls inst/snapshot.c, encodes. Each request is a fiber. */
#include "agent/api/instances.h"
#include "agent/api/instance_move.h"
#include "agent/api/operation.h"
#include "agent/auth/project.h"
#include "agent/inst/show.h"
#include "agent/inst/snapshot.h"
#include "base/clock.h"

#include <string.h>

struct job {
    Inst *inst;
    char *name, *new_name; /* name NULL: from the pattern */
    gint64 expires_at;
    bool stateful;
};

static void
job_free(void *data)
{
    struct job *job = data;
    inst_unref(job->inst);
    g_free(job->name);
    g_free(job->new_name);
    g_free(job);
}

static struct job *
job_new(Inst *inst, const char *name)
{
    struct job *job = g_new0(struct job, 1);
    job->inst = inst_ref(inst);
    job->name = g_strdup(name);
    job->expires_at = -1;
    return job;
}

static char *
snapshot_url(Inst *inst, const char *name)
{
    bool plain = strcmp(inst_project(inst), "default") == 0;
    return g_strdup_printf("/1.0/instances/%s/snapshots/%s%s%s", inst_name(inst), name,
                           plain ? "" : "?project=", plain ? "" : inst_project(inst));
}

static bool
reply(Request *req, Inst *inst, const char *description, OpFn fn, struct job *job)
{
    return op_reply(req, (OpSpec){.class = OP_TASK,
                                  .description = description,
                                  .project = inst_project(inst),
                                  .resources = instances_resources(inst),
                                  .fn = fn,
                                  .data = job,
                                  .free_data = job_free});
}

/* The "expires_at" of a body: -1 when absent. */
static bool
parse_expiry(json_t *body, gint64 *ret_expires_at, GError **error)
{
    json_t *value = json_object_get(body, "expires_at");
    *ret_expires_at = -1;
    if (value == NULL || json_is_null(value)) {
        return true;
    }
    if (!json_is_string(value) || !clock_parse(json_string_value(value), ret_expires_at)) {
        return haw_fail(error, HAW_INVALID, "Invalid expires_at");
    }
    return true;
}

bool
instance_snapshots_get(Request *req, GError **error)
{
    g_autoptr(Inst) inst = instances_req(req, error);
    g_autoptr(GPtrArray) rows = inst != NULL ? record_snapshots(inst, error) : NULL;
    if (rows == NULL) {
        return false;
    }
    json_t *list = json_array();
    for (guint i = 0; i < rows->len; i++) {
        SnapRow *snap = rows->pdata[i];
        g_autofree char *url = snapshot_url(inst, snap->name);
        json_array_append_new(list, req_recursion(req) > 0 ? show_snapshot(inst, snap)
                                                           : json_string(url));
    }
    return req_reply(req, list);
}

static json_t *
tag_of(const SnapRow *snap)
{
    return json_integer(snap->expires_at);
}

bool
instance_snapshot_get(Request *req, GError **error)
{
    g_autoptr(Inst) inst = instances_req(req, error);
    g_autoptr(SnapRow) snap =
        inst != NULL ? record_snapshot(inst, req_arg(req, "snapshot"), error) : NULL;
    return snap != NULL && req_reply_etag(req, show_snapshot(inst, snap), tag_of(snap));
}

static bool
take_op(Operation *op, void *data, GError **error)
{
    struct job *job = data;
    return snapshot_take(job->inst, job->name, job->expires_at, job->stateful, op_caller(op), NULL,
                         error);
}

bool
instance_snapshots_post(Request *req, GError **error)
{
    g_autoptr(Inst) inst = instances_req(req, error);
    json_t *body = req_json(req);
    const char *name = json_string_value(json_object_get(body, "name"));
    gint64 expires_at;
    if (inst == NULL || !parse_expiry(body, &expires_at, error) ||
        !project_allow_snapshot(inst->agent, inst->project, error)) {
        return false;
    }
    if (json_object_get(body, "name") != NULL && name == NULL) {
        return haw_fail(error, HAW_INVALID, "\"name\" must be a text");
    }
    if (name != NULL && *name != '\0' && strpbrk(name, " /") != NULL) {
        return haw_fail(error, HAW_INVALID, "Invalid snapshot name: \"%s\"", name);
    }
    struct job *job = job_new(inst, name != NULL && *name != '\0' ? name : NULL);
    job->expires_at = expires_at;
    job->stateful = json_is_true(json_object_get(body, "stateful"));
    return reply(req, inst, "Snapshotting instance", take_op, job);
}

static bool
nothing_op(Operation *op, void *data, GError **error)
{
    return true;
}

bool
instance_snapshot_put(Request *req, GError **error)
{
    g_autoptr(Inst) inst = instances_req(req, error);
    g_autoptr(SnapRow) snap =
        inst != NULL ? record_snapshot(inst, req_arg(req, "snapshot"), error) : NULL;
    gint64 expires_at;
    if (snap == NULL || !req_check_etag(req, tag_of(snap), error) ||
        !parse_expiry(req_json(req), &expires_at, error)) {
        return false;
    }
    if (expires_at >= 0 && !snapshot_set_expiry(inst, snap->name, expires_at, error)) {
        return false;
    }
    /* LXD answers with an operation; this one has nothing left to do. */
    return reply(req, inst, "Updating snapshot", nothing_op, job_new(inst, snap->name));
}

static bool
rename_op(Operation *op, void *data, GError **error)
{
    struct job *job = data;
    return snapshot_rename(job->inst, job->name, job->new_name, op_caller(op), error);
}

bool
instance_snapshot_post(Request *req, GError **error)
{
    g_autoptr(Inst) inst = instances_req(req, error);
    const char *name = json_string_value(json_object_get(req_json(req), "name"));
    g_autoptr(SnapRow) snap =
        inst != NULL ? record_snapshot(inst, req_arg(req, "snapshot"), error) : NULL;
    if (snap == NULL) {
        return false;
    }
    if (json_is_true(json_object_get(req_json(req), "migration"))) {
        return instance_move_post(req, inst, snap->name, error);
    }
    if (name == NULL || *name == '\0' || strpbrk(name, " /") != NULL) {
        return haw_fail(error, HAW_INVALID, "A new name for the snapshot must be provided");
    }
    g_autoptr(SnapRow) other = record_snapshot(inst, name, NULL);
    if (other != NULL) {
        return haw_fail(error, HAW_EXISTS, "Name \"%s\" already in use", name);
    }
    struct job *job = job_new(inst, snap->name);
    job->new_name = g_strdup(name);
    return reply(req, inst, "Renaming snapshot", rename_op, job);
}

static bool
delete_op(Operation *op, void *data, GError **error)
{
    struct job *job = data;
    return snapshot_delete(job->inst, job->name, op_caller(op), error);
}

bool
instance_snapshot_delete(Request *req, GError **error)
{
    g_autoptr(Inst) inst = instances_req(req, error);
    g_autoptr(SnapRow) snap =
        inst != NULL ? record_snapshot(inst, req_arg(req, "snapshot"), error) : NULL;
    return snap != NULL &&
           reply(req, inst, "Deleting snapshot", delete_op, job_new(inst, snap->name));
}
