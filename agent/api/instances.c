/* /1.0/instances: lists, single instances, their state; creation is in instance_post.c, snapshots in
 * instance_snapshots.c. Decodes, calls the owner (agent/inst), encodes. Each request is a fiber. */
#include "agent/api/instances.h"
#include "agent/api/instance_move.h"
#include "agent/api/operation.h"
#include "agent/inst/change.h"
#include "agent/inst/discard.h"
#include "agent/inst/instdriver.h"
#include "agent/inst/lifecycle.h"
#include "agent/inst/show.h"
#include "agent/inst/snapshot.h"
#include "proto/grammar.h"
#include "proto/jsontext.h"
#include "proto/keys.h"

#include <string.h>

/* ---- what the handlers share ---- */

Inst *
instances_req(Request *req, GError **error)
{
    return inst_find(req_agent(req)->instances, req_project(req), req_arg(req, "name"), error);
}

json_t *
instances_resources(Inst *inst)
{
    g_autofree char *url = show_url(inst, "instances"), *twin = show_url(inst, "containers");
    if (strcmp(inst_type(inst), "container") != 0) {
        return json_pack("{s:[s]}", "instances", url);
    }
    return json_pack("{s:[s],s:[s]}", "instances", url, "containers", twin);
}

/* "instances", "containers", "virtual-machines": as the client named it. */
static const char *
collection(Request *req)
{
    const char *path = req_path(req);
    return g_str_has_prefix(path, "/1.0/containers")         ? "containers"
           : g_str_has_prefix(path, "/1.0/virtual-machines") ? "virtual-machines"
                                                             : "instances";
}

static bool
in_collection(Inst *inst, const char *name)
{
    return strcmp(name, "instances") == 0 ||
           (strcmp(name, "containers") == 0) == (strcmp(inst->type, "container") == 0);
}

/* ---- GET ---- */

/* What a list says of one. Yields. */
static void
append_listed(GString *text, Inst *inst, int recursion, const char *kind,
              GHashTable *with_snapshots)
{
    if (recursion >= 2) {
        json_t *full = show_full_listed(inst, with_snapshots);
        jsontext_append(text, full);
        json_decref(full);
    } else if (recursion == 1) {
        size_t size;
        const char *shown = show_instance_text(inst, &size);
        g_string_append_len(text, shown, (gssize) size);
    } else {
        g_autofree char *url = show_url(inst, kind);
        jsontext_append_string(text, url, strlen(url));
    }
}

static bool
matches(Inst *inst, const Filter *filter)
{
    json_t *object = show_instance(inst);
    bool match = filter_matches(filter, object);
    json_decref(object);
    return match;
}

static bool
get_all(Request *req, GError **error)
{
    int recursion = req_recursion(req);
    const char *project = req_all_projects(req) ? NULL : req_project(req);
    const char *kind = collection(req);
    g_autoptr(Filter) filter = filter_parse(req_query(req, "filter"), error);
    if (filter == NULL) {
        return false;
    }
    bool filtered = req_query(req, "filter") != NULL;
    g_autoptr(GPtrArray) all = inst_list(req_agent(req)->instances, project);
    g_autoptr(GHashTable) with_snapshots =
        recursion >= 2 ? show_with_snapshots(req_agent(req)) : NULL;
    GString *text = req_text_new();
    char before = '[';
    for (guint i = 0; i < all->len; i++) {
        Inst *inst = all->pdata[i];
        if (!in_collection(inst, kind) || inst->deleted ||
            (project == NULL && !caller_may_project(req_caller(req), inst->project)) ||
            (filtered && !matches(inst, filter))) {
            continue;
        }
        g_string_append_c(text, before);
        append_listed(text, inst, recursion, kind, with_snapshots);
        before = ',';
    }
    g_string_append(text, before == '[' ? "[]" : "]");
    return req_reply_text(req, text);
}

static bool
get_one(Request *req, GError **error)
{
    g_autoptr(Inst) inst = instances_req(req, error);
    if (inst == NULL) {
        return false;
    }
    json_t *object = req_recursion(req) > 0 ? show_full(inst) : show_instance(inst);
    return req_reply_etag(req, object, show_tagged(inst));
}

static bool
get_state(Request *req, GError **error)
{
    g_autoptr(Inst) inst = instances_req(req, error);
    return inst != NULL && req_reply(req, show_state(inst));
}

/* ---- PUT and PATCH ---- */

struct update {
    Inst *inst;
    InstRow *row;
    char *restore;
    bool stateful; /* of a restore */
};

static void
update_free(void *data)
{
    struct update *update = data;
    inst_unref(update->inst);
    inst_row_free(update->row);
    g_free(update->restore);
    g_free(update);
}

static bool
update_op(Operation *op, void *data, GError **error)
{
    struct update *update = data;
    if (update->restore != NULL) {
        const char *name = strrchr(update->restore, '/');
        return snapshot_restore(update->inst, name != NULL ? name + 1 : update->restore,
                                update->stateful, op_caller(op), error);
    }
    return change_update(update->inst, update->row, op_caller(op), error);
}

/* Takes a map of strings: numbers and booleans are refused, nulls dropped. New reference. */
json_t *
instances_string_map(json_t *map, const char *what, GError **error)
{
    json_t *clean = json_object();
    const char *key;
    json_t *value;
    if (map != NULL && !json_is_null(map) && !json_is_object(map)) {
        json_decref(clean);
        haw_fail(error, HAW_INVALID, "%s must be an object", what);
        return NULL;
    }
    json_object_foreach (map, key, value) {
        if (json_is_string(value)) {
            if (*json_string_value(value) != '\0') {
                json_object_set(clean, key, value);
            }
        } else if (!json_is_null(value)) {
            json_decref(clean);
            haw_fail(error, HAW_INVALID, "%s: the value of \"%s\" must be a string", what, key);
            return NULL;
        }
    }
    return clean;
}

json_t *
instances_device_map(json_t *map, GError **error)
{
    json_t *clean = json_object();
    const char *name;
    json_t *device;
    if (map != NULL && !json_is_null(map) && !json_is_object(map)) {
        json_decref(clean);
        haw_fail(error, HAW_INVALID, "devices must be an object");
        return NULL;
    }
    json_object_foreach (map, name, device) {
        json_t *own = grammar_device_name(name, error)
                          ? instances_string_map(device, "devices", error)
                          : NULL;
        if (own == NULL) {
            json_decref(clean);
            return NULL;
        }
        json_object_set_new(clean, name, own);
    }
    return clean;
}

/* Profiles as a list of names; NULL in gives NULL out without an error. New reference. */
json_t *
instances_profiles(json_t *list, GError **error)
{
    size_t i;
    json_t *item;
    if (list == NULL || json_is_null(list)) {
        return NULL;
    }
    if (!json_is_array(list)) {
        haw_fail(error, HAW_INVALID, "profiles must be a list");
        return NULL;
    }
    json_array_foreach (list, i, item) {
        if (!json_is_string(item)) {
            haw_fail(error, HAW_INVALID, "profiles must be a list of names");
            return NULL;
        }
    }
    return json_incref(list);
}

static void
replace(json_t **place, json_t *value)
{
    json_decref(*place);
    *place = value;
}

/* The row that a body asks for. PATCH merges, PUT replaces. */
static bool
row_of_body(InstRow *row, json_t *body, bool patch, GError **error)
{
    json_t *config = instances_string_map(json_object_get(body, "config"), "config", error);
    json_t *devices =
        config != NULL ? instances_device_map(json_object_get(body, "devices"), error) : NULL;
    if (devices == NULL) {
        json_decref(config);
        return false;
    }
    if (patch) {
        json_t *merged = json_copy(row->config), *all = json_copy(row->devices);
        json_object_update(merged, config);
        json_object_update(all, devices);
        replace(&config, merged);
        replace(&devices, all);
    }
    replace(&row->config, config);
    replace(&row->devices, devices);
    g_autoptr(GError) local = NULL;
    json_t *profiles = instances_profiles(json_object_get(body, "profiles"), &local);
    if (local != NULL) {
        g_propagate_error(error, g_steal_pointer(&local));
        return false;
    }
    if (profiles != NULL || !patch) {
        replace(&row->profiles, profiles != NULL ? profiles : json_array());
    }
    const char *description = json_string_value(json_object_get(body, "description"));
    if (description != NULL || !patch) {
        g_free(row->description);
        row->description = g_strdup(description != NULL ? description : "");
    }
    if (json_is_boolean(json_object_get(body, "ephemeral")) || !patch) {
        row->ephemeral = json_is_true(json_object_get(body, "ephemeral"));
    }
    return true;
}

static bool
put_one(Request *req, GError **error)
{
    g_autoptr(Inst) inst = instances_req(req, error);
    if (inst == NULL || !req_check_etag(req, show_tagged(inst), error)) {
        return false;
    }
    json_t *body = req_json(req);
    const char *restore = json_string_value(json_object_get(body, "restore"));
    g_autoptr(InstRow) row = record_row(inst);
    bool restoring = restore != NULL && *restore != '\0';
    if (!restoring && !row_of_body(row, body, false, error)) {
        return false;
    }
    struct update *update = g_new0(struct update, 1);
    update->inst = inst_ref(inst);
    update->row = g_steal_pointer(&row);
    update->restore = restoring ? g_strdup(restore) : NULL;
    update->stateful = restoring && json_is_true(json_object_get(body, "stateful"));
    return op_reply(req,
                    (OpSpec){.class = OP_TASK,
                             .description = restoring ? "Restoring snapshot" : "Updating instance",
                             .project = inst->project,
                             .resources = instances_resources(inst),
                             .fn = update_op,
                             .data = update,
                             .free_data = update_free});
}

static bool
patch_one(Request *req, GError **error)
{
    g_autoptr(Inst) inst = instances_req(req, error);
    if (inst == NULL || !req_check_etag(req, show_tagged(inst), error)) {
        return false;
    }
    json_t *body = req_json(req);
    const char *restore = json_string_value(json_object_get(body, "restore"));
    if (restore != NULL && *restore != '\0') {
        return haw_fail(error, HAW_INVALID, "Can't call PATCH in restore mode");
    }
    g_autoptr(InstRow) row = record_row(inst);
    return row_of_body(row, body, true, error) &&
           change_update(inst, row, req_caller(req), error) && req_reply(req, NULL);
}

/* ---- rename, delete ---- */

struct rename {
    Inst *inst;
    char *name;
};

static void
rename_free(void *data)
{
    struct rename *job = data;
    inst_unref(job->inst);
    g_free(job->name);
    g_free(job);
}

static bool
rename_op(Operation *op, void *data, GError **error)
{
    struct rename *job = data;
    return change_rename(job->inst, job->name, op_caller(op), error);
}

bool
instances_check_name(const char *name, GError **error)
{
    g_autoptr(GError) local = NULL;
    if (name == NULL || *name == '\0' || strchr(name, '/') != NULL) {
        return haw_fail(error, HAW_INVALID, "Invalid instance name: \"%s\"",
                        name != NULL ? name : "");
    }
    if (!grammar_hostname(name, &local)) {
        return haw_fail(error, HAW_INVALID, "Invalid instance name: %s", local->message);
    }
    return true;
}

static bool
post_one(Request *req, GError **error)
{
    g_autoptr(Inst) inst = instances_req(req, error);
    if (inst == NULL) {
        return false;
    }
    json_t *body = req_json(req);
    const char *name = json_string_value(json_object_get(body, "name"));
    if (json_is_true(json_object_get(body, "migration"))) {
        return instance_move_post(req, inst, NULL, error);
    }
    if (!instances_check_name(name, error)) {
        return false;
    }
    g_autoptr(Inst) other = inst_find(req_agent(req)->instances, inst->project, name, NULL);
    if (other != NULL) {
        return haw_fail(error, HAW_EXISTS, "Name \"%s\" already in use", name);
    }
    struct rename *job = g_new0(struct rename, 1);
    job->inst = inst_ref(inst);
    job->name = g_strdup(name);
    return op_reply(req, (OpSpec){.class = OP_TASK,
                                  .description = "Renaming instance",
                                  .project = inst->project,
                                  .resources = instances_resources(inst),
                                  .fn = rename_op,
                                  .data = job,
                                  .free_data = rename_free});
}

static bool
delete_op(Operation *op, void *data, GError **error)
{
    Inst *inst = data;
    g_auto(FiberHold) hold = inst_hold(inst, "delete", error);
    if (hold == NULL) {
        return false;
    }
    if (inst_get_bool(inst, "security.protection.delete", false)) {
        return haw_fail(error, HAW_FAILED, "Instance is protected");
    }
    if (inst->pid != 0) {
        return haw_fail(error, HAW_CONFLICT, "Instance is running");
    }
    return discard_instance(inst, error);
}

static bool
delete_one(Request *req, GError **error)
{
    g_autoptr(Inst) inst = instances_req(req, error);
    if (inst == NULL) {
        return false;
    }
    if (inst->pid != 0) {
        return haw_fail(error, HAW_CONFLICT, "Instance is running");
    }
    return op_reply(req, (OpSpec){.class = OP_TASK,
                                  .description = "Deleting instance",
                                  .project = inst->project,
                                  .resources = instances_resources(inst),
                                  .fn = delete_op,
                                  .data = inst_ref(inst),
                                  .free_data = (GDestroyNotify) inst_unref});
}

/* ---- state ---- */

enum action { START, STOP, RESTART, FREEZE, UNFREEZE, ACTION_COUNT };

static const struct {
    const char *name, *description;
} actions[ACTION_COUNT] = {
    [START] = {"start", "Starting instance"},         [STOP] = {"stop", "Stopping instance"},
    [RESTART] = {"restart", "Restarting instance"},   [FREEZE] = {"freeze", "Freezing instance"},
    [UNFREEZE] = {"unfreeze", "Unfreezing instance"},
};

struct state {
    GPtrArray *list; /* of instances, owned references */
    enum action action;
    gint64 timeout_s;
    bool force, bulk, stateful;
};

static void
state_free(void *data)
{
    struct state *state = data;
    g_ptr_array_unref(state->list);
    g_free(state);
}

static bool
parse_state(json_t *body, struct state *ret_state, GError **error)
{
    const char *name = json_string_value(json_object_get(body, "action"));
    json_t *timeout = json_object_get(body, "timeout");
    ret_state->timeout_s = json_is_integer(timeout) ? json_integer_value(timeout) : -1;
    ret_state->force = json_is_true(json_object_get(body, "force"));
    ret_state->stateful = json_is_true(json_object_get(body, "stateful"));
    for (int i = 0; i < ACTION_COUNT; i++) {
        if (g_strcmp0(name, actions[i].name) == 0) {
            ret_state->action = i;
            return true;
        }
    }
    return haw_fail(error, HAW_INVALID, "Unknown action: '%s'", name != NULL ? name : "");
}

static bool
act(Operation *op, Inst *inst, const struct state *state, GError **error)
{
    const Caller *caller = op_caller(op);
    bool saves = driver_of_type(inst->type)->save != NULL;
    if (state->stateful && !saves) {
        return haw_fail(error, HAW_CONFLICT,
                        "Stateful operations are not supported: they need CRIU, which this server "
                        "does not use");
    }
    switch (state->action) {
    case START:
        return (state->stateful || lifecycle_forget_state(inst, error)) &&
               lifecycle_start(inst, caller, error);
    case STOP:
        if (state->stateful) {
            return lifecycle_stop_stateful(inst, caller, error);
        }
        return lifecycle_stop(inst, state->force, state->timeout_s, op_cancel(op), caller, error);
    case RESTART:
        return lifecycle_restart(inst, state->force, state->timeout_s, op_cancel(op), caller,
                                 error);
    case FREEZE:
    case UNFREEZE:
        return lifecycle_freeze(inst, state->action == FREEZE, caller, error);
    default:
        return haw_fail(error, HAW_BUG, "No such action");
    }
}

/* Bulk changes leave alone what is in the wanted state already. */
static bool
is_there(Inst *inst, enum action action)
{
    bool runs = inst->pid != 0;
    return action == START      ? runs
           : action == FREEZE   ? !runs || inst->state == INST_FROZEN
           : action == UNFREEZE ? !runs || inst->state != INST_FROZEN
                                : !runs;
}

static bool
state_op(Operation *op, void *data, GError **error)
{
    struct state *state = data;
    g_autoptr(GString) failures = g_string_new(NULL);
    for (guint i = 0; i < state->list->len; i++) {
        Inst *inst = state->list->pdata[i];
        g_autoptr(GError) local = NULL;
        if (!state->bulk) {
            return act(op, inst, state, error);
        }
        if (!inst->deleted && !is_there(inst, state->action) && !act(op, inst, state, &local)) {
            g_string_append_printf(failures, "%s%s: %s", failures->len > 0 ? "\n" : "", inst->name,
                                   local->message);
        }
    }
    return failures->len == 0 || haw_fail(error, HAW_FAILED, "%s", failures->str);
}

static bool
put_state(Request *req, GError **error)
{
    g_autoptr(Inst) inst = instances_req(req, error);
    struct state parsed = {0};
    if (inst == NULL || !parse_state(req_json(req), &parsed, error)) {
        return false;
    }
    struct state *state = g_memdup2(&parsed, sizeof parsed);
    state->list = g_ptr_array_new_with_free_func((GDestroyNotify) inst_unref);
    g_ptr_array_add(state->list, inst_ref(inst));
    return op_reply(req, (OpSpec){.class = OP_TASK,
                                  .description = actions[state->action].description,
                                  .project = inst->project,
                                  .resources = instances_resources(inst),
                                  .fn = state_op,
                                  .data = state,
                                  .free_data = state_free});
}

static bool
put_all(Request *req, GError **error)
{
    struct state parsed = {0};
    if (!parse_state(json_object_get(req_json(req), "state"), &parsed, error)) {
        return false;
    }
    struct state *state = g_memdup2(&parsed, sizeof parsed);
    state->bulk = true;
    state->list = inst_list(req_agent(req)->instances, req_project(req));
    json_t *urls = json_array();
    for (guint i = 0; i < state->list->len; i++) {
        g_autofree char *url = show_url(state->list->pdata[i], "instances");
        json_array_append_new(urls, json_string(url));
    }
    return op_reply(req, (OpSpec){.class = OP_TASK,
                                  .description = actions[state->action].description,
                                  .project = req_project(req),
                                  .resources = json_pack("{s:o}", "instances", urls),
                                  .fn = state_op,
                                  .data = state,
                                  .free_data = state_free});
}

const Route instance_routes[] = {
    INST_ROUTES("GET", "", get_all, 0),
    INST_ROUTES("POST", "", instance_post, ROUTE_BODY_JSON | ROUTE_BODY_FILE),
    INST_ROUTES("PUT", "", put_all, ROUTE_BODY_JSON),
    INST_ROUTES("GET", "/{name}", get_one, 0),
    INST_ROUTES("PUT", "/{name}", put_one, ROUTE_BODY_JSON),
    INST_ROUTES("PATCH", "/{name}", patch_one, ROUTE_BODY_JSON),
    INST_ROUTES("POST", "/{name}", post_one, ROUTE_BODY_JSON),
    INST_ROUTES("DELETE", "/{name}", delete_one, 0),
    INST_ROUTES("GET", "/{name}/state", get_state, 0),
    INST_ROUTES("PUT", "/{name}/state", put_state, ROUTE_BODY_JSON),
    INST_ROUTES("GET", "/{name}/snapshots", instance_snapshots_get, 0),
    INST_ROUTES("POST", "/{name}/snapshots", instance_snapshots_post, ROUTE_BODY_JSON),
    INST_ROUTES("GET", "/{name}/snapshots/{snapshot}", instance_snapshot_get, 0),
    INST_ROUTES("PUT", "/{name}/snapshots/{snapshot}", instance_snapshot_put, ROUTE_BODY_JSON),
    INST_ROUTES("PATCH", "/{name}/snapshots/{snapshot}", instance_snapshot_put, ROUTE_BODY_JSON),
    INST_ROUTES("POST", "/{name}/snapshots/{snapshot}", instance_snapshot_post, ROUTE_BODY_JSON),
    INST_ROUTES("DELETE", "/{name}/snapshots/{snapshot}", instance_snapshot_delete, 0),
    {NULL},
};
