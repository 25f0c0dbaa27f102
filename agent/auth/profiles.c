/* Profiles over REST: /1.0/profiles.
 * F1  A profile is validated as "any type of instance"; image.* and volatile.* are not for profiles.
 * F2  A change is stored first; then every instance that uses the profile follows, live; their
 *     failures are one error, and the change stays (LXD's way).
 * F3  The default profile keeps its name and stays.
 * Main loop, in fibers. */
#include "agent/api/body.h"
#include "agent/api/event.h"
#include "agent/auth/project.h"
#include "agent/auth/restrict.h"
#include "agent/inst/device.h"
#include "agent/inst/inst.h"
#include "agent/net/network.h"
#include "agent/state/db.h"
#include "agent/state/project_rows.h"
#include "agent/state/usage_rows.h"
#include "proto/grammar.h"
#include "proto/keys.h"

#include <string.h>

/* Where a request's profiles live. With 'to_change' a restricted caller must be at home there: its
 * project may only borrow the default project's profiles. NULL with DENIED. Yields. */
static const char *
home_of(Request *req, bool to_change, GError **error)
{
    const char *project = project_for_profiles(req_agent(req), req_project(req));
    if (to_change && !caller_may_project(req_caller(req), project)) {
        haw_fail(error, HAW_DENIED, "not authorized");
        return NULL;
    }
    return project;
}

struct job {
    const char *project, *name, *new_name;
    json_t *profile; /* in or out, by function */
};

static bool
add_used_by(DbTx *tx, const char *project, json_t *profile, GError **error)
{
    json_t *used_by =
        usage_rows_profile(tx, project, json_string_value(json_object_get(profile, "name")), error);
    json_object_set_new(profile, "used_by", used_by);
    return used_by != NULL;
}

static bool
load_row(DbTx *tx, void *data, GError **error)
{
    struct job *job = data;
    job->profile = profile_rows_find(tx, job->project, job->name, error);
    return job->profile != NULL && add_used_by(tx, job->project, job->profile, error);
}

static bool
load_rows(DbTx *tx, void *data, GError **error)
{
    struct job *job = data;
    json_t *profile;
    size_t i;

    job->profile = profile_rows_list(tx, job->project, error);
    json_array_foreach (job->profile, i, profile) {
        if (!add_used_by(tx, job->project, profile, error)) {
            return false;
        }
    }
    return job->profile != NULL;
}

static bool
add_row(DbTx *tx, void *data, GError **error)
{
    struct job *job = data;
    return profile_rows_add(tx, job->project, job->profile, error);
}

static bool
update_row(DbTx *tx, void *data, GError **error)
{
    struct job *job = data;
    return profile_rows_update(tx, job->project, job->profile, error);
}

static bool
rename_row(DbTx *tx, void *data, GError **error)
{
    struct job *job = data;
    return profile_rows_rename(tx, job->project, job->name, job->new_name, error);
}

static bool
delete_row(DbTx *tx, void *data, GError **error)
{
    struct job *job = data;
    return profile_rows_delete(tx, job->project, job->name, error);
}

/* With "used_by"; a new reference. Yields. */
static json_t *
load(Agent *agent, const char *project, const char *name, GError **error)
{
    struct job job = {.project = project, .name = name};
    if (!db_read(agent->db, load_row, &job, error)) {
        json_decref(job.profile);
        return NULL;
    }
    return job.profile;
}

json_t *
profile_load(Agent *agent, const char *project, const char *name, GError **error)
{
    json_t *profile = load(agent, project_for_profiles(agent, project), name, error);
    json_object_del(profile, "used_by");
    return profile;
}

/* ---- reading ---- */

static json_t *
tag_of(json_t *profile)
{
    return json_pack("[O,O,O]", json_object_get(profile, "config"),
                     json_object_get(profile, "description"), json_object_get(profile, "devices"));
}

/* "/1.0/profiles/p1?project=x"; caller frees. */
static char *
url_of(const char *project, const char *name)
{
    g_autofree char *escaped = g_uri_escape_string(name, NULL, FALSE);
    return strcmp(project, "default") == 0
               ? g_strdup_printf("/1.0/profiles/%s", escaped)
               : g_strdup_printf("/1.0/profiles/%s?project=%s", escaped, project);
}

static bool
list_all(Request *req, GError **error)
{
    struct job job = {.project = home_of(req, false, NULL)};
    json_t *list = json_array(), *profile;
    size_t i;

    if (!db_read(req_agent(req)->db, load_rows, &job, error)) {
        json_decref(job.profile);
        json_decref(list);
        return false;
    }
    json_array_foreach (job.profile, i, profile) {
        g_autofree char *url =
            url_of(job.project, json_string_value(json_object_get(profile, "name")));
        if (req_recursion(req) > 0) {
            json_array_append(list, profile);
        } else {
            json_array_append_new(list, json_string(url));
        }
    }
    json_decref(job.profile);
    return req_reply(req, list);
}

static bool
get(Request *req, GError **error)
{
    const char *project = home_of(req, false, NULL);
    json_t *profile = load(req_agent(req), project, req_arg(req, "name"), error);
    if (profile == NULL) {
        return haw_push(error, "Fetch profile");
    }
    return req_reply_etag(req, profile, tag_of(profile));
}

/* ---- checks ---- */

static bool
check_name(const char *name, GError **error)
{
    if (*name == '\0') {
        return haw_fail(error, HAW_INVALID, "No name provided");
    }
    if (strchr(name, '/') != NULL) {
        return haw_fail(error, HAW_INVALID, "Profile names may not contain slashes");
    }
    for (const char *at = name; *at != '\0'; at++) {
        if ((guchar) *at < 0x20) {
            return haw_fail(error, HAW_INVALID, "Profile names may not contain control characters");
        }
    }
    return (strcmp(name, ".") != 0 && strcmp(name, "..") != 0 && strlen(name) <= 255) ||
           haw_fail(error, HAW_INVALID, "Invalid profile name \"%s\"", name);
}

/* F1 */
static bool
check_config(json_t *config, GError **error)
{
    const char *name;
    json_t *value;

    json_object_foreach (config, name, value) {
        if (g_str_has_prefix(name, "volatile.")) {
            return haw_fail(error, HAW_INVALID, "Volatile keys can only be set on instances");
        }
        if (g_str_has_prefix(name, "image.")) {
            return haw_fail(error, HAW_INVALID, "Image keys can only be set on instances");
        }
        if (!keys_check(keys_instance, name, json_string_value(value), error)) {
            return false;
        }
    }
    return keys_check_instance_rules(config, error) && restrict_unprivileged_only(config, error);
}

static bool
check_device(Agent *agent, const char *project, const char *name, json_t *device, GError **error)
{
    if (!grammar_device_name(name, error)) {
        return false;
    }
    const char *type = keys_get(device, "type");
    if (type == NULL) {
        return haw_fail(error, HAW_INVALID,
                        "Failed loading device \"%s\": Missing device type in config", name);
    }
    if (strcmp(type, "nic") == 0) {
        json_t *volatiles = json_object();
        Nic nic = {.project = project, .device = name, .config = device, .volatiles = volatiles};
        bool ok = nic_validate(agent->networks, &nic, error);
        json_decref(volatiles);
        return ok;
    }
    return device_validate(agent, project, &(Device){.inst = NULL, .name = name, .config = device},
                           error);
}

static bool
check_devices(Agent *agent, const char *project, json_t *devices, GError **error)
{
    const char *name;
    json_t *device;
    guint roots = 0;

    json_object_foreach (devices, name, device) {
        if (!check_device(agent, project, name, device, error)) {
            haw_recode(error, HAW_INVALID);
            return haw_push(error, "Device validation failed for \"%s\"", name);
        }
        roots += g_strcmp0(keys_get(device, "type"), "disk") == 0 &&
                 g_strcmp0(keys_get(device, "path"), "/") == 0;
    }
    return roots <= 1 || haw_fail(error, HAW_INVALID, "More than one root device found");
}

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

/* All that can be said about a profile before it is stored. Yields. */
static bool
check_profile(Agent *agent, const char *project, json_t *profile, GError **error)
{
    json_t *config = json_object_get(profile, "config");
    drop_empty(config);
    return check_config(config, error) &&
           check_devices(agent, project, json_object_get(profile, "devices"), error) &&
           (project_allow_profile(agent, project, profile, error) ||
            haw_push(error, "Failed checking if profile update allowed"));
}

/* {"name","description","config","devices"} of a body; a new reference. */
static json_t *
read_body(json_t *body, const char *type, const char *name, GError **error)
{
    const char *description;
    json_t *config = NULL, *devices = NULL;

    if (!body_object(body, type, error) ||
        !body_text(body, type, "description", &description, error) ||
        !body_map(body, type, "config", &config, error) ||
        !body_maps(body, type, "devices", &devices, error)) {
        json_decref(config);
        return NULL;
    }
    const char *device, *key;
    json_t *options, *value;
    void *next;
    json_object_foreach (devices, device, options) { /* an option that is unset comes as "" */
        json_object_foreach_safe (options, next, key, value) {
            if (*json_string_value(value) == '\0') {
                json_object_del(options, key);
            }
        }
    }
    return json_pack("{s:s,s:s,s:o,s:o}", "name", name, "description", description, "config",
                     config, "devices", devices);
}

/* ---- making, changing ---- */

static bool
store_new(Request *req, const char *project, json_t *profile, GError **error)
{
    Agent *agent = req_agent(req);
    const char *name = json_string_value(json_object_get(profile, "name"));
    struct job job = {.project = project, .profile = profile};
    g_autoptr(GError) why = NULL;

    if (!check_profile(agent, project, profile, error)) {
        return false;
    }
    if (!db_write(agent->db, add_row, &job, &why)) {
        if (haw_code(why) == HAW_EXISTS) {
            return haw_fail(error, HAW_FAILED,
                            "Error inserting \"%s\" into database: The profile already exists",
                            name);
        }
        g_propagate_error(error, g_steal_pointer(&why));
        return false;
    }
    g_autofree char *url = url_of(project, name);
    event_lifecycle(agent, project, req_caller(req), NULL, "profile-created", "/1.0/profiles/%s",
                    name);
    return req_reply_created(req, "%s", url);
}

static bool
post(Request *req, GError **error)
{
    static const char type[] = "ProfilesPost";
    const char *project = home_of(req, true, error), *name;

    if (project == NULL || !body_object(req_json(req), type, error) ||
        !body_text(req_json(req), type, "name", &name, error) || !check_name(name, error)) {
        return false;
    }
    json_t *profile = read_body(req_json(req), type, name, error);
    bool ok = profile != NULL && store_new(req, project, profile, error);
    json_decref(profile);
    return ok;
}

/* Whether the instance's root disk comes from its own devices, or another of its profiles names the same
 * pool. Yields. */
static bool
has_other_root(Agent *agent, Inst *inst, const char *pool, const char *but)
{
    const char *name;
    json_t *device, *profile;
    size_t i;

    json_object_foreach (inst_devices(inst), name, device) {
        if (g_strcmp0(keys_get(device, "path"), "/") == 0) {
            return true;
        }
    }
    json_array_foreach (inst_profiles(inst), i, profile) {
        if (g_strcmp0(json_string_value(profile), but) == 0) {
            continue;
        }
        json_t *other = profile_load(agent, project_for_profiles(agent, inst_project(inst)),
                                     json_string_value(profile), NULL);
        bool has = false;
        json_object_foreach (json_object_get(other, "devices"), name, device) {
            has = has || (g_strcmp0(keys_get(device, "path"), "/") == 0 &&
                          g_strcmp0(keys_get(device, "pool"), pool) == 0);
        }
        json_decref(other);
        if (has) {
            return true;
        }
    }
    return false;
}

/* The root disk's pool may not change under instances that have no root disk of their own. */
static bool
check_root(Agent *agent, json_t *old, json_t *new, GError **error)
{
    const char *name;
    json_t *device;
    const char *was = NULL, *now = NULL;

    json_object_foreach (json_object_get(old, "devices"), name, device) {
        if (g_strcmp0(keys_get(device, "path"), "/") == 0) {
            was = keys_get(device, "pool");
        }
    }
    json_object_foreach (json_object_get(new, "devices"), name, device) {
        if (g_strcmp0(keys_get(device, "path"), "/") == 0) {
            now = keys_get(device, "pool");
        }
    }
    if (was == NULL || g_strcmp0(was, now) == 0) {
        return true;
    }
    g_autoptr(GPtrArray) list = inst_list(agent->instances, NULL);
    json_t *used_by = json_object_get(old, "used_by"), *url;
    size_t i;
    json_array_foreach (used_by, i, url) {
        for (guint at = 0; at < list->len; at++) {
            Inst *inst = list->pdata[at];
            bool plain = strcmp(inst_project(inst), "default") == 0;
            g_autofree char *its =
                g_strdup_printf("/1.0/instances/%s%s%s", inst_name(inst),
                                plain ? "" : "?project=", plain ? "" : inst_project(inst));
            if (strcmp(its, json_string_value(url)) == 0 &&
                !has_other_root(agent, inst, was,
                                json_string_value(json_object_get(old, "name")))) {
                return haw_fail(error, HAW_FAILED,
                                "At least one instance relies on this profile's root disk device");
            }
        }
    }
    return true;
}

/* F2. Yields. */
static bool
store_change(Request *req, const char *project, json_t *old, json_t *profile, GError **error)
{
    Agent *agent = req_agent(req);
    const char *name = req_arg(req, "name");
    struct job job = {.project = project, .profile = profile};

    if (!check_profile(agent, project, profile, error)) {
        return haw_recode(error, HAW_FAILED); /* 500 where POST says 400: LXD's way */
    }
    if (!check_root(agent, old, profile, error) || !db_write(agent->db, update_row, &job, error)) {
        return false;
    }
    if (json_array_size(json_object_get(old, "used_by")) > 0 &&
        !inst_profile_changed(agent->instances, project, name, error)) {
        return false;
    }
    event_lifecycle(agent, project, req_caller(req), NULL, "profile-updated", "/1.0/profiles/%s",
                    name);
    return req_reply(req, NULL);
}

static bool
change(Request *req, GError **error)
{
    bool whole = !req_patches(req);
    Agent *agent = req_agent(req);
    const char *project = home_of(req, true, error);
    const char *name = req_arg(req, "name");
    if (project == NULL) {
        return false;
    }
    json_t *old = load(agent, project, name, error), *body = req_json(req);
    if (old == NULL) {
        return haw_push(error,
                        whole ? "Failed to retrieve profile \"%s\""
                              : "Failed to retrieve profile=\"%s\"",
                        name);
    }
    json_t *profile =
        req_check_etag(req, tag_of(old), error) ? read_body(body, "ProfilePut", name, error) : NULL;
    if (profile != NULL && !whole) {
        json_object_update_missing(json_object_get(profile, "config"),
                                   json_object_get(old, "config"));
        json_object_update_missing(json_object_get(profile, "devices"),
                                   json_object_get(old, "devices"));
        if (json_object_get(body, "description") == NULL) {
            json_object_set(profile, "description", json_object_get(old, "description"));
        }
    }
    bool ok = profile != NULL && store_change(req, project, old, profile, error);
    json_decref(profile);
    json_decref(old);
    return ok;
}

/* ---- renaming and removing ---- */

static bool
post_one(Request *req, GError **error)
{
    static const char type[] = "ProfilePost";
    Agent *agent = req_agent(req);
    const char *project = home_of(req, true, error), *new_name;
    const char *name = req_arg(req, "name");

    if (project == NULL) {
        return false;
    }
    if (strcmp(name, "default") == 0) {
        return haw_fail(error, HAW_DENIED, "The \"default\" profile cannot be renamed"); /* F3 */
    }
    if (!body_object(req_json(req), type, error) ||
        !body_text(req_json(req), type, "name", &new_name, error) || !check_name(new_name, error)) {
        return false;
    }
    json_t *taken = load(agent, project, new_name, NULL);
    json_decref(taken);
    if (taken != NULL) {
        return haw_fail(error, HAW_FAILED, "Name \"%s\" already in use", new_name);
    }
    json_t *old = load(agent, project, name, error);
    struct job job = {.project = project, .name = name, .new_name = new_name};
    json_decref(old);
    if (old == NULL || !db_write(agent->db, rename_row, &job, error)) {
        return false;
    }
    inst_profile_renamed(agent->instances, project, name, new_name);
    g_autofree char *url = url_of(project, new_name);
    event_lifecycle(agent, project, req_caller(req), json_pack("{s:s}", "old_name", name),
                    "profile-renamed", "/1.0/profiles/%s", new_name);
    return req_reply_created(req, "%s", url);
}

static bool
delete_one(Request *req, GError **error)
{
    Agent *agent = req_agent(req);
    const char *project = home_of(req, true, error);
    const char *name = req_arg(req, "name");
    struct job job = {.project = project, .name = name};

    if (project == NULL) {
        return false;
    }
    if (strcmp(name, "default") == 0) {
        return haw_fail(error, HAW_DENIED, "The \"default\" profile cannot be deleted"); /* F3 */
    }
    json_t *profile = load(agent, project, name, error);
    if (profile == NULL) {
        return false;
    }
    bool used = json_array_size(json_object_get(profile, "used_by")) > 0;
    json_decref(profile);
    if (used) {
        return haw_fail(error, HAW_FAILED, "Profile is currently in use");
    }
    if (!db_write(agent->db, delete_row, &job, error)) {
        return false;
    }
    event_lifecycle(agent, project, req_caller(req), NULL, "profile-deleted", "/1.0/profiles/%s",
                    name);
    return req_reply(req, NULL);
}

const Route profile_routes[] = {
    {"GET", "/1.0/profiles", list_all, 0},
    {"POST", "/1.0/profiles", post, ROUTE_BODY_JSON},
    {"GET", "/1.0/profiles/{name}", get, 0},
    {"PUT", "/1.0/profiles/{name}", change, ROUTE_BODY_JSON},
    {"PATCH", "/1.0/profiles/{name}", change, ROUTE_BODY_JSON},
    {"POST", "/1.0/profiles/{name}", post_one, ROUTE_BODY_JSON},
    {"DELETE", "/1.0/profiles/{name}", delete_one, 0},
    {NULL},
};
