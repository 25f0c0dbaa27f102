/* Projects over REST: /1.0/projects.
 * R1  A project's name, features and rows change in one transaction, with its default profile and
 *     the certificates that name it.
 * R2  A feature changes only while nothing but the default profile is in the project.
 * R3  A restricted caller sees its own projects and changes none.
 * Main loop, in fibers. */
#include "agent/api/body.h"
#include "agent/api/event.h"
#include "agent/api/operation.h"
#include "agent/auth/project.h"
#include "agent/auth/trust.h"
#include "agent/state/db.h"
#include "agent/state/project_rows.h"
#include "agent/state/trust_rows.h"
#include "agent/state/usage_rows.h"
#include "proto/keys.h"

#include <string.h>

static const char *const project_features[] = {
    "features.images",   "features.networks",        "features.networks.zones",
    "features.profiles", "features.storage.buckets", "features.storage.volumes"};

/* ---- checks ---- */

static bool
check_name(const char *name, GError **error)
{
    static const struct {
        const char *bytes, *words;
    } rules[] = {{"/", "slashes"}, {" ", "spaces"}, {"_", "underscores"}, {"'\"", "quotes"}};

    if (*name == '\0') {
        return haw_fail(error, HAW_INVALID, "No name provided");
    }
    for (size_t i = 0; i < G_N_ELEMENTS(rules); i++) {
        if (strpbrk(name, rules[i].bytes) != NULL) {
            return haw_fail(error, HAW_INVALID, "Project names may not contain %s", rules[i].words);
        }
    }
    if (strcmp(name, "*") == 0) {
        return haw_fail(error, HAW_INVALID, "Reserved project name");
    }
    if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0 || strlen(name) > 63) {
        return haw_fail(error, HAW_INVALID, "Invalid project name \"%s\"", name);
    }
    for (const char *at = name; *at != '\0'; at++) {
        if ((guchar) *at < 0x20 || strchr("?&+#%\\:,", *at) != NULL) {
            return haw_fail(error, HAW_INVALID, "Invalid project name \"%s\"", name);
        }
    }
    return true;
}

static bool
check_config(json_t *config, GError **error)
{
    const char *name;
    json_t *value;

    json_object_foreach (config, name, value) {
        if (keys_find(keys_project, name) == NULL) {
            return haw_fail(error, HAW_INVALID, "Invalid project configuration key \"%s\"", name);
        }
        if (!keys_check(keys_project, name, json_string_value(value), error)) {
            return haw_push(error, "Invalid project configuration key \"%s\" value", name);
        }
    }
    if (keys_get_bool(config, "restricted", false) &&
        !keys_get_bool(config, "features.profiles", false)) {
        return haw_fail(error, HAW_INVALID,
                        "Projects without their own profiles cannot be restricted");
    }
    return true;
}

/* Keys with empty values are keys that are not set. */
static void
drop_empty(json_t *config)
{
    const char *name;
    json_t *value;
    void *next;

    json_object_foreach_safe (config, next, name, value) {
        if (*json_string_value(value) == '\0') {
            json_object_del(config, name);
        }
    }
}

/* ---- rows ---- */

struct job {
    const char *name, *new_name;
    json_t *project, *used_by; /* in or out, by function */
    bool make_profile, drop_profile;
};

static bool
load_project(DbTx *tx, void *data, GError **error)
{
    struct job *job = data;
    job->project = project_rows_find(tx, job->name, error);
    if (job->project == NULL) {
        return false;
    }
    job->used_by = usage_rows_project(tx, job->name, error);
    json_object_set(job->project, "used_by", job->used_by);
    json_decref(job->used_by);
    return job->used_by != NULL;
}

/* With "used_by"; a new reference. Yields. */
static json_t *
load(Agent *agent, const char *name, GError **error)
{
    struct job job = {.name = name};
    if (!db_read(agent->db, load_project, &job, error)) {
        json_decref(job.project);
        return NULL;
    }
    return job.project;
}

static bool
load_all(DbTx *tx, void *data, GError **error)
{
    struct job *job = data;
    json_t *project;
    size_t i;

    job->project = project_rows_list(tx, error);
    json_array_foreach (job->project, i, project) {
        json_t *used_by =
            usage_rows_project(tx, json_string_value(json_object_get(project, "name")), error);
        if (used_by == NULL) {
            return false;
        }
        json_object_set_new(project, "used_by", used_by);
    }
    return job->project != NULL;
}

static bool
add_default_profile(DbTx *tx, const char *project, GError **error)
{
    json_t *profile =
        json_pack("{s:s,s:o,s:{},s:{}}", "name", "default", "description",
                  json_sprintf("Default LXD profile for project %s", project), "config", "devices");
    bool ok = profile_rows_add(tx, project, profile, error);
    json_decref(profile);
    return ok;
}

static bool
add_rows(DbTx *tx, void *data, GError **error)
{
    struct job *job = data;
    return project_rows_add(tx, job->project, error) &&
           (!job->make_profile || add_default_profile(tx, job->name, error));
}

static bool
update_rows(DbTx *tx, void *data, GError **error) /* R1 */
{
    struct job *job = data;
    return project_rows_update(tx, job->project, error) &&
           (!job->make_profile || add_default_profile(tx, job->name, error)) &&
           (!job->drop_profile || profile_rows_delete(tx, job->name, "default", error));
}

static bool
rename_rows(DbTx *tx, void *data, GError **error)
{
    struct job *job = data;
    return project_rows_rename(tx, job->name, job->new_name, error) &&
           trust_rows_project(tx, job->name, job->new_name, error);
}

static bool
delete_rows(DbTx *tx, void *data, GError **error)
{
    struct job *job = data;
    return trust_rows_project(tx, job->name, NULL, error) &&
           project_rows_delete(tx, job->name, error);
}

/* Nothing but the default profile? */
static bool
is_empty(json_t *project)
{
    json_t *used_by = json_object_get(project, "used_by");
    const char *only = json_string_value(json_array_get(used_by, 0));
    return json_array_size(used_by) == 0 ||
           (json_array_size(used_by) == 1 && g_str_has_prefix(only, "/1.0/profiles/default"));
}

/* ---- reading ---- */

static json_t *
tag_of(json_t *project)
{
    return json_pack("[O,O]", json_object_get(project, "description"),
                     json_object_get(project, "config"));
}

static bool
list_all(Request *req, GError **error)
{
    struct job job = {0};
    json_t *list = json_array(), *project;
    size_t i;
    bool ok = db_read(req_agent(req)->db, load_all, &job, error);

    for (i = 0; ok && i < json_array_size(job.project); i++) {
        project = json_array_get(job.project, i);
        const char *name = json_string_value(json_object_get(project, "name"));
        if (!caller_may_project(req_caller(req), name)) {
            continue; /* R3 */
        }
        if (req_recursion(req) > 0) {
            json_array_append(list, project);
        } else {
            json_array_append_new(list, json_sprintf("/1.0/projects/%s", name));
        }
    }
    json_decref(job.project);
    if (!ok) {
        json_decref(list);
        return false;
    }
    return req_reply(req, list);
}

static bool
check_visible(Request *req, GError **error)
{
    return caller_may_project(req_caller(req), req_arg(req, "name")) ||
           haw_fail(error, HAW_DENIED, "not authorized"); /* R3 */
}

static bool
get(Request *req, GError **error)
{
    if (!check_visible(req, error)) {
        return false;
    }
    json_t *project = load(req_agent(req), req_arg(req, "name"), error);
    return project != NULL && req_reply_etag(req, project, tag_of(project));
}

static bool
get_state(Request *req, GError **error)
{
    if (!check_visible(req, error)) {
        return false;
    }
    json_t *state = project_state(req_agent(req), req_arg(req, "name"), error);
    return state != NULL && req_reply(req, json_pack("{s:o}", "resources", state));
}

/* ---- making ---- */

static bool
store_new(Request *req, const char *name, json_t *project, GError **error)
{
    static const char *const created_on[] = {"features.images", "features.profiles",
                                             "features.storage.buckets",
                                             "features.storage.volumes"};
    g_autoptr(GError) why = NULL;
    json_t *config = json_object_get(project, "config");

    drop_empty(config);
    for (size_t i = 0; i < G_N_ELEMENTS(created_on); i++) {
        if (json_object_get(config, created_on[i]) == NULL) {
            json_object_set_new(config, created_on[i], json_string("true"));
        }
    }
    if (!check_config(config, error)) {
        return false;
    }
    struct job job = {.name = name,
                      .project = project,
                      .make_profile = keys_get_bool(config, "features.profiles", false)};
    if (!db_write(req_agent(req)->db, add_rows, &job, &why)) {
        if (haw_code(why) == HAW_EXISTS) {
            return haw_fail(error, HAW_EXISTS,
                            "Failed creating project \"%s\": Failed adding database record: This "
                            "\"projects\" entry already exists",
                            name);
        }
        g_propagate_error(error, g_steal_pointer(&why));
        return false;
    }
    event_lifecycle(req_agent(req), NULL, req_caller(req), NULL, "project-created",
                    "/1.0/projects/%s", name);
    return req_reply_created(req, "/1.0/projects/%s", name);
}

static bool
post(Request *req, GError **error)
{
    static const char type[] = "ProjectsPost";
    json_t *body = req_json(req), *config;
    const char *name, *description;

    if (!body_object(body, type, error) || !body_text(body, type, "name", &name, error) ||
        !body_text(body, type, "description", &description, error) || !check_name(name, error) ||
        !body_map(body, type, "config", &config, error)) {
        return false;
    }
    json_t *project =
        json_pack("{s:s,s:s,s:o}", "name", name, "description", description, "config", config);
    bool ok = store_new(req, name, project, error);
    json_decref(project);
    return ok;
}

/* ---- changing ---- */

static bool
feature_on(json_t *config, const char *feature)
{
    return keys_get_bool(config, feature, false);
}

/* R2; *ret_profiles: +1 the default profile must be made, -1 it must go. */
static bool
check_features(json_t *project, json_t *config, int *ret_profiles, GError **error)
{
    json_t *old = json_object_get(project, "config");
    bool is_default = strcmp(json_string_value(json_object_get(project, "name")), "default") == 0;

    *ret_profiles = 0;
    for (size_t i = 0; i < G_N_ELEMENTS(project_features); i++) {
        const char *feature = project_features[i];
        bool was = feature_on(old, feature), now = feature_on(config, feature);
        if (was == now) {
            continue;
        }
        if (is_default) {
            return haw_fail(error, HAW_INVALID,
                            "You can't change the features of the default project");
        }
        bool zones = strcmp(feature, "features.networks.zones") == 0 && now;
        if (!is_empty(project) && !zones) {
            return haw_fail(error, HAW_INVALID,
                            "Project feature \"%s\" cannot be %s on non-empty projects", feature,
                            now ? "enabled" : "disabled");
        }
        if (strcmp(feature, "features.profiles") == 0) {
            *ret_profiles = now ? 1 : -1;
        }
    }
    return true;
}

/* 'config' and 'description' replace the project's. Yields. */
static bool
store_change(Request *req, json_t *project, json_t *config, const char *description, GError **error)
{
    Agent *agent = req_agent(req);
    const char *name = req_arg(req, "name");
    int profiles;

    drop_empty(config);
    if (!check_features(project, config, &profiles, error) || !check_config(config, error) ||
        !project_allow_config(agent, name, config, error)) {
        return false;
    }
    json_t *changed =
        json_pack("{s:s,s:s,s:O}", "name", name, "description", description, "config", config);
    struct job job = {.name = name,
                      .project = changed,
                      .make_profile = profiles > 0,
                      .drop_profile = profiles < 0};
    bool ok = db_write(agent->db, update_rows, &job, error);
    json_decref(changed);
    if (!ok) {
        return false;
    }
    event_lifecycle(agent, NULL, req_caller(req), NULL, "project-updated", "/1.0/projects/%s",
                    name);
    return req_reply(req, NULL);
}

static bool
change(Request *req, GError **error)
{
    bool whole = !req_patches(req);
    static const char type[] = "ProjectPut";
    json_t *body = req_json(req), *config = NULL;
    const char *description;
    json_t *project = load(req_agent(req), req_arg(req, "name"), error);
    if (project == NULL) {
        return false;
    }
    bool ok = req_check_etag(req, tag_of(project), error) && body_object(body, type, error) &&
              body_text(body, type, "description", &description, error) &&
              body_map(body, type, "config", &config, error);
    if (ok && !whole) {
        json_object_update_missing(config, json_object_get(project, "config"));
        if (json_object_get(body, "description") == NULL) {
            description = json_string_value(json_object_get(project, "description"));
        }
    }
    ok = ok && store_change(req, project, config, description, error);
    json_decref(config);
    json_decref(project);
    return ok;
}

/* ---- renaming and removing ---- */

struct rename {
    char *name, *new_name;
};

static void
rename_free(void *data)
{
    struct rename *rename = data;
    g_free(rename->name);
    g_free(rename->new_name);
    g_free(rename);
}

static bool
run_rename(Operation *op, void *data, GError **error)
{
    struct rename *rename = data;
    Agent *agent = op_agent(op);
    struct job job = {.name = rename->name, .new_name = rename->new_name};

    json_t *taken = project_config(agent, rename->new_name, NULL);
    json_decref(taken);
    if (taken != NULL) {
        return haw_fail(error, HAW_EXISTS, "A project named \"%s\" already exists",
                        rename->new_name);
    }
    json_t *project = load(agent, rename->name, error);
    if (project == NULL) {
        return haw_push(error, "Failed loading project \"%s\"", rename->name);
    }
    bool empty = is_empty(project);
    json_decref(project);
    if (!empty) {
        return haw_fail(error, HAW_CONFLICT, "Only empty projects can be renamed");
    }
    if (!check_name(rename->new_name, error) || !db_write(agent->db, rename_rows, &job, error) ||
        !trust_reload(agent->trust, error)) {
        return false;
    }
    json_t *context = json_pack("{s:s}", "old_name", rename->name);
    event_lifecycle(agent, NULL, op_caller(op), context, "project-renamed", "/1.0/projects/%s",
                    rename->new_name);
    return true;
}

static bool
post_one(Request *req, GError **error)
{
    static const char type[] = "ProjectPost";
    const char *name = req_arg(req, "name"), *new_name;

    if (!body_object(req_json(req), type, error) ||
        !body_text(req_json(req), type, "name", &new_name, error)) {
        return false;
    }
    if (strcmp(name, "default") == 0) {
        return haw_fail(error, HAW_DENIED, "The 'default' project cannot be renamed");
    }
    struct rename *rename = g_new0(struct rename, 1);
    rename->name = g_strdup(name);
    rename->new_name = g_strdup(new_name);
    return op_reply(req, (OpSpec){.class = OP_TASK,
                                  .description = "Renaming project",
                                  .fn = run_rename,
                                  .data = rename,
                                  .free_data = rename_free});
}

static bool
delete_one(Request *req, GError **error)
{
    Agent *agent = req_agent(req);
    const char *name = req_arg(req, "name");
    struct job job = {.name = name};

    if (strcmp(name, "default") == 0) {
        return haw_fail(error, HAW_DENIED, "The 'default' project cannot be deleted");
    }
    json_t *project = load(agent, name, error);
    if (project == NULL) {
        return haw_push(error, "Fetch project \"%s\"", name);
    }
    bool empty = is_empty(project);
    json_decref(project);
    if (!empty) {
        return haw_fail(error, HAW_FAILED, "Only empty projects can be removed");
    }
    if (!db_write(agent->db, delete_rows, &job, error) || !trust_reload(agent->trust, error)) {
        return false;
    }
    event_lifecycle(agent, NULL, req_caller(req), NULL, "project-deleted", "/1.0/projects/%s",
                    name);
    return req_reply(req, NULL);
}

const Route project_routes[] = {
    {"GET", "/1.0/projects", list_all, 0},
    {"POST", "/1.0/projects", post, ROUTE_BODY_JSON | ROUTE_ADMIN},
    {"GET", "/1.0/projects/{name}", get, 0},
    {"GET", "/1.0/projects/{name}/state", get_state, 0},
    {"PUT", "/1.0/projects/{name}", change, ROUTE_BODY_JSON | ROUTE_ADMIN},
    {"PATCH", "/1.0/projects/{name}", change, ROUTE_BODY_JSON | ROUTE_ADMIN},
    {"POST", "/1.0/projects/{name}", post_one, ROUTE_BODY_JSON | ROUTE_ADMIN},
    {"DELETE", "/1.0/projects/{name}", delete_one, ROUTE_ADMIN},
    {NULL},
};
