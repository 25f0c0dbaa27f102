/* Projects: where the objects of a kind live, and what a project's limits and restrictions allow.
 * J1  The default project has every feature and always exists.
 * J2  A check looks at what is stored and running now, with the candidate in place of what has its
 *     name; the caller stores the candidate in the same turn of its queue.
 * The rules themselves are in restrict.c, REST in project_rest.c and profiles.c.
 * Main loop, in fibers. */
#include "agent/auth/project.h"

#include "agent/auth/restrict.h"
#include "agent/inst/inst.h"
#include "agent/state/db.h"
#include "agent/state/project_rows.h"
#include "agent/state/usage_rows.h"
#include "proto/keys.h"

#include <string.h>

struct find {
    const char *project;
    json_t *ret;
};

static bool
find_rows(DbTx *tx, void *data, GError **error)
{
    struct find *find = data;
    find->ret = project_rows_find(tx, find->project, error);
    return find->ret != NULL;
}

json_t *
project_config(Agent *agent, const char *project, GError **error)
{
    struct find find = {project, NULL};
    if (!db_read(agent->db, find_rows, &find, error)) {
        return NULL;
    }
    json_t *config = json_incref(json_object_get(find.ret, "config"));
    json_decref(find.ret);
    return config;
}

/* J1 */
static const char *
home_of(Agent *agent, const char *project, const char *feature)
{
    if (strcmp(project, "default") == 0) {
        return "default";
    }
    json_t *config = project_config(agent, project, NULL);
    bool own = keys_get_bool(config, feature, false);
    json_decref(config);
    return own ? project : "default";
}

const char *
project_for_images(Agent *agent, const char *project)
{
    return home_of(agent, project, "features.images");
}

const char *
project_for_profiles(Agent *agent, const char *project)
{
    return home_of(agent, project, "features.profiles");
}

const char *
project_for_volumes(Agent *agent, const char *project)
{
    return home_of(agent, project, "features.storage.volumes");
}

const char *
project_for_networks(Agent *agent, const char *project)
{
    return home_of(agent, project, "features.networks");
}

char *
project_object_name(const char *project, const char *name)
{
    return strcmp(project, "default") == 0 ? g_strdup(name)
                                           : g_strdup_printf("%s_%s", project, name);
}

/* ---- what is allowed ---- */

struct scope_rows {
    const char *project;
    json_t *config, *volume_sizes, *profiles; /* new references */
    gint64 image_bytes, networks;
};

static bool
load_scope_rows(DbTx *tx, void *data, GError **error)
{
    struct scope_rows *rows = data;
    json_t *project = project_rows_find(tx, rows->project, error);
    if (project == NULL) {
        return false;
    }
    rows->config = json_incref(json_object_get(project, "config"));
    json_decref(project);
    rows->profiles = profile_rows_list(tx, rows->project, error);
    return rows->profiles != NULL && usage_rows_totals(tx, rows->project, &rows->image_bytes,
                                                       &rows->networks, &rows->volume_sizes, error);
}

typedef struct {
    RestrictScope scope;
    json_t *profiles;
} Scope;

static void
scope_done(Scope *scope)
{
    json_decref(scope->scope.config);
    json_decref(scope->scope.instances);
    json_decref(scope->scope.volume_sizes);
    json_decref(scope->profiles);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Scope, scope_done)

static json_t *
list_entities(Agent *agent, const char *project)
{
    g_autoptr(GPtrArray) list = inst_list(agent->instances, project);
    json_t *entities = json_array();
    for (guint i = 0; i < list->len; i++) {
        Inst *inst = list->pdata[i];
        json_array_append_new(entities,
                              json_pack("{s:s,s:s,s:O,s:O}", "name", inst_name(inst), "type",
                                        inst_type(inst), "config", inst_expanded_config(inst),
                                        "devices", inst_expanded_devices(inst)));
    }
    return entities;
}

/* Fills a zeroed *scope. Yields. */
static bool
scope_load(Agent *agent, const char *project, Scope *scope, GError **error)
{
    struct scope_rows rows = {.project = project};
    bool ok = db_read(agent->db, load_scope_rows, &rows, error);
    *scope = (Scope){.scope = {.project = project,
                               .config = rows.config,
                               .instances = ok ? list_entities(agent, project) : NULL,
                               .volume_sizes = rows.volume_sizes,
                               .image_bytes = rows.image_bytes,
                               .networks = rows.networks},
                     .profiles = rows.profiles};
    return ok;
}

/* J2 */
static void
put_candidate(json_t *entities, json_t *candidate)
{
    const char *name = json_string_value(json_object_get(candidate, "name"));
    json_t *entity;
    size_t i;

    json_array_foreach (entities, i, entity) {
        if (g_strcmp0(json_string_value(json_object_get(entity, "name")), name) == 0) {
            json_array_set(entities, i, candidate);
            return;
        }
    }
    json_array_append(entities, candidate);
}

bool
project_allow_instance(Agent *agent, const char *project, json_t *instance, GError **error)
{
    g_auto(Scope) scope = {0};
    if (!scope_load(agent, project, &scope, error)) {
        return false;
    }
    put_candidate(scope.scope.instances, instance);
    return restrict_entity(&scope.scope, instance, error) &&
           restrict_totals(&scope.scope, false, error);
}

bool
project_allow_volume(Agent *agent, const char *project, json_t *volume_config, GError **error)
{
    g_auto(Scope) scope = {0};
    if (!scope_load(agent, project, &scope, error)) {
        return false;
    }
    const char *size = keys_get(volume_config, "size");
    json_array_append_new(scope.scope.volume_sizes, json_string(size != NULL ? size : ""));
    return restrict_totals(&scope.scope, false, error);
}

bool
project_allow_image(Agent *agent, const char *project, gint64 bytes, GError **error)
{
    g_auto(Scope) scope = {0};
    if (!scope_load(agent, project, &scope, error)) {
        return false;
    }
    scope.scope.image_bytes += bytes;
    return restrict_totals(&scope.scope, false, error);
}

bool
project_allow_network(Agent *agent, const char *project, const char *network, GError **error)
{
    json_t *config = project_config(agent, project, error);
    if (config == NULL) {
        return false;
    }
    bool allowed = restrict_network_allowed(config, network, true);
    json_decref(config);
    return allowed || haw_fail(error, HAW_INVALID, "Network not allowed in project");
}

bool
project_allow_new_network(Agent *agent, const char *project, GError **error)
{
    g_auto(Scope) scope = {0};
    if (!scope_load(agent, project, &scope, error)) {
        return false;
    }
    const char *limit = keys_get(scope.scope.config, "limits.networks");
    return limit == NULL || scope.scope.networks < g_ascii_strtoll(limit, NULL, 10) ||
           haw_fail(error, HAW_INVALID, "Networks limit has been reached");
}

bool
project_allow_snapshot(Agent *agent, const char *project, GError **error)
{
    json_t *config = project_config(agent, project, error);
    if (config == NULL) {
        return false;
    }
    bool allowed = !keys_get_bool(config, "restricted", false) ||
                   g_strcmp0(keys_get(config, "restricted.snapshots"), "allow") == 0;
    json_decref(config);
    return allowed || haw_fail(error, HAW_INVALID,
                               "Project \"%s\" doesn't allow for snapshot creation", project);
}

static json_t *
profile_entity(json_t *profile)
{
    return json_pack("{s:O,s:s,s:O,s:O}", "name", json_object_get(profile, "name"), "type",
                     "profile", "config", json_object_get(profile, "config"), "devices",
                     json_object_get(profile, "devices"));
}

bool
project_allow_profile(Agent *agent, const char *project, json_t *profile, GError **error)
{
    g_auto(Scope) scope = {0};
    if (!scope_load(agent, project, &scope, error)) {
        return false;
    }
    json_t *entity = profile_entity(profile);
    bool ok = restrict_entity(&scope.scope, entity, error);
    json_decref(entity);
    return ok;
}

bool
project_allow_config(Agent *agent, const char *project, json_t *config, GError **error)
{
    g_auto(Scope) scope = {0};
    json_t *entity;
    size_t i;

    if (!scope_load(agent, project, &scope, error)) {
        return false;
    }
    json_decref(scope.scope.config);
    scope.scope.config = json_incref(config);
    json_array_foreach (scope.scope.instances, i, entity) {
        if (!restrict_entity(&scope.scope, entity, error)) {
            return haw_push(error,
                            "Conflict detected when changing \"restricted\" in project "
                            "\"%s\"",
                            project);
        }
    }
    bool ok = true;
    for (i = 0; ok && i < json_array_size(scope.profiles); i++) {
        entity = profile_entity(json_array_get(scope.profiles, i));
        ok = restrict_entity(&scope.scope, entity, error);
        json_decref(entity);
    }
    return ok && restrict_totals(&scope.scope, true, error);
}

json_t *
project_state(Agent *agent, const char *project, GError **error)
{
    g_auto(Scope) scope = {0};
    return scope_load(agent, project, &scope, error) ? restrict_state(&scope.scope) : NULL;
}
