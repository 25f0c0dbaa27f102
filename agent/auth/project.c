/* Projects: where the objects of a kind live, and what a project's limits and restrictions allow.
 * J1  The default project has every feature and always exists.
 * J2  A check looks at what is stored and running now, with the candidate in place of what has its
 *     name; the caller stores the candidate in the same turn of its queue, and while it holds project_hold():
 *     what is checked meanwhile in the same project is another candidate.
 * The rules themselves are in restrict.c, REST in project_rest.c and profiles.c.
 * Main loop, in fibers. */
#include "agent/auth/project.h"

#include "agent/auth/restrict.h"
#include "agent/inst/inst.h"
#include "agent/state/db.h"
#include "agent/state/project_rows.h"
#include "agent/state/usage_rows.h"
#include "proto/grammar.h"
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

const char *
project_for_zones(Agent *agent, const char *project)
{
    return home_of(agent, project, "features.networks.zones");
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
    json_t *config, *volumes, *profiles; /* new references */
    gint64 networks;
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
    return rows->profiles != NULL &&
           usage_rows_totals(tx, rows->project, &rows->networks, &rows->volumes, error);
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
    json_decref(scope->scope.volumes);
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
                               .volumes = rows.volumes,
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

/* J2 */
FiberHold
project_hold(Agent *agent, const char *project)
{
    static FiberLock limits_lock = FIBER_LOCK_INIT;
    json_t *config = project_config(agent, project, NULL);
    const char *key;
    json_t *value;
    bool limited = false;
    json_object_foreach (config, key, value) {
        limited = limited || g_str_has_prefix(key, "limits.");
    }
    json_decref(config);
    return limited ? fiber_hold(&limits_lock) : NULL;
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
    json_object_set_new(scope.scope.volumes, "", json_string(size != NULL ? size : ""));
    return restrict_totals(&scope.scope, false, error) ||
           haw_push(error, "Failed checking if volume creation allowed");
}

bool
project_allow_image(Agent *agent, const char *project, gint64 bytes, GError **error)
{
    g_auto(Scope) scope = {0};
    json_t *config = project_config(agent, project, error);
    bool limited = keys_get(config, "limits.disk") != NULL;
    json_decref(config);
    if (config == NULL || !limited) {
        return config != NULL;
    }
    if (!scope_load(agent, project, &scope, error)) {
        return false;
    }
    scope.scope.image_bytes = bytes; /* as in LXD: those that are there do not count */
    return restrict_totals(&scope.scope, false, error);
}

bool
project_allow_network(Agent *agent, const char *project, const char *network, bool managed,
                      GError **error)
{
    json_t *config = project_config(agent, project, error);
    if (config == NULL) {
        return false;
    }
    bool allowed = restrict_network_allowed(config, network, managed);
    json_decref(config);
    return allowed || haw_fail(error, HAW_INVALID, "Network not allowed in project");
}

bool
project_allow_zone(Agent *agent, const char *project, const char *zone, GError **error)
{
    json_t *config = project_config(agent, project, error);
    if (config == NULL) {
        return false;
    }
    bool allowed = !keys_get_bool(config, "restricted", false);
    g_auto(GStrv) list = grammar_list(keys_get(config, "restricted.networks.zones"));
    for (char **one = list; *one != NULL && !allowed; one++) {
        g_autofree char *below = g_strconcat(".", *one, NULL);
        allowed = strcmp(*one, "block") != 0 &&
                  (strcmp(zone, *one) == 0 || g_str_has_suffix(zone, below));
    }
    json_decref(config);
    return allowed ||
           haw_fail(error, HAW_DENIED, "Project isn't allowed to use the DNS zone \"%s\"", zone);
}

bool
project_allow_disk(Agent *agent, const char *project, const char *source, char **ret_parent,
                   GError **error)
{
    json_t *config = project_config(agent, project, error);
    if (config == NULL) {
        return false;
    }
    g_autofree char *parent = NULL;
    bool allowed = !keys_get_bool(config, "restricted", false) ||
                   restrict_disk_parent(config, source, &parent);
    json_decref(config);
    if (!allowed) {
        return haw_fail(error, HAW_DENIED, "Disk source path \"%s\" not allowed by project",
                        source);
    }
    *ret_parent = g_steal_pointer(&parent);
    return true;
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

static bool
allow_unless_blocked(Agent *agent, const char *project, const char *what, GError **error)
{
    json_t *config = project_config(agent, project, error);
    if (config == NULL) {
        return false;
    }
    g_autofree char *key = g_strdup_printf("restricted.%ss", what);
    bool allowed = !keys_get_bool(config, "restricted", false) ||
                   g_strcmp0(keys_get(config, key), "allow") == 0;
    json_decref(config);
    return allowed || haw_fail(error, HAW_INVALID, "Project \"%s\" doesn't allow for %s creation",
                               project, what);
}

bool
project_allow_snapshot(Agent *agent, const char *project, GError **error)
{
    return allow_unless_blocked(agent, project, "snapshot", error);
}

bool
project_allow_backup(Agent *agent, const char *project, GError **error)
{
    return allow_unless_blocked(agent, project, "backup", error);
}

static bool
is_harmless(const char *key)
{
    static const char *const names[] = {"volatile.apply_template", "volatile.base_image",
                                        "volatile.last_state.power", NULL};
    return g_strv_contains(names, key) || g_str_has_suffix(key, ".apply_quota") ||
           (g_str_has_suffix(key, ".hwaddr") && strstr(key, ".last_state.") == NULL);
}

bool
project_allow_volatile(Agent *agent, const char *project, const char *type, const char *name,
                       json_t *old, json_t *config, GError **error)
{
    json_t *rules = project_config(agent, project, error), *value;
    const char *key;
    if (rules == NULL) {
        return false;
    }
    const char *level = keys_get(rules, strcmp(type, "virtual-machine") == 0
                                            ? "restricted.virtual-machines.lowlevel"
                                            : "restricted.containers.lowlevel");
    bool free = !keys_get_bool(rules, "restricted", false) || g_strcmp0(level, "allow") == 0;
    json_decref(rules);
    json_object_foreach (config, key, value) {
        if (!free && g_str_has_prefix(key, "volatile.") && !is_harmless(key) &&
            g_strcmp0(keys_get(old, key), keys_get(config, key)) != 0) {
            return haw_fail(error, HAW_INVALID,
                            "Setting \"%s\" on %s \"%s\" in project \"%s\" is forbidden", key, type,
                            name, project);
        }
    }
    return true;
}

/* The first key below 'prefix' (in alphabetical order) in which the two differ; caller frees. */
static char *
changed_key(json_t *old, json_t *new, const char *prefix)
{
    char *first = NULL;
    for (const Key *key = keys_project; key->name != NULL; key++) {
        if (g_str_has_prefix(key->name, prefix) &&
            g_strcmp0(keys_get(old, key->name), keys_get(new, key->name)) != 0 &&
            (first == NULL || strcmp(key->name, first) < 0)) {
            g_free(first);
            first = g_strdup(key->name);
        }
    }
    return first != NULL ? first : g_strdup(prefix);
}

static json_t *
profile_entity(json_t *profile)
{
    return json_pack("{s:O,s:s,s:O,s:O}", "name", json_object_get(profile, "name"), "type",
                     "profile", "config", json_object_get(profile, "config"), "devices",
                     json_object_get(profile, "devices"));
}

static bool
uses_limits(json_t *config)
{
    const char *name;
    json_t *value;
    json_object_foreach (config, name, value) {
        if (g_str_has_prefix(name, "limits.") || strcmp(name, "restricted") == 0) {
            return true;
        }
    }
    return false;
}

/* What the instance would be with 'profile' in place of the one of its name; a new reference. Yields. */
static json_t *
expand_with(Agent *agent, Inst *inst, json_t *profile, GError **error)
{
    json_t *config = json_object(), *devices = json_object(), *item;
    json_t *names = json_incref(inst_profiles(inst));
    size_t i;
    bool ok = true;

    json_array_foreach (names, i, item) {
        bool ours = json_equal(item, json_object_get(profile, "name"));
        json_t *part =
            ours ? json_incref(profile)
                 : profile_load(agent, inst_project(inst), json_string_value(item), error);
        ok = part != NULL;
        if (!ok) {
            break;
        }
        json_object_update(config, json_object_get(part, "config"));
        json_object_update(devices, json_object_get(part, "devices"));
        json_decref(part);
    }
    json_decref(names);
    if (!ok) {
        json_decref(config);
        json_decref(devices);
        return NULL;
    }
    json_object_update(config, inst_config(inst));
    json_object_update(devices, inst_devices(inst));
    return json_pack("{s:s,s:s,s:o,s:o}", "name", inst_name(inst), "type", inst_type(inst),
                     "config", config, "devices", devices);
}

/* An instance that uses the profile is held against the rules as it would become, too: else a profile
 * would be the way around the limits. */
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
    if (!ok || !uses_limits(scope.scope.config)) {
        return ok;
    }
    g_autoptr(GPtrArray) list = inst_list(agent->instances, project);
    for (guint i = 0; ok && i < list->len; i++) {
        json_t *follower = expand_with(agent, list->pdata[i], profile, error);
        ok = follower != NULL && restrict_entity(&scope.scope, follower, error);
        if (ok) {
            put_candidate(scope.scope.instances, follower);
        }
        json_decref(follower);
    }
    return ok && restrict_totals(&scope.scope, false, error);
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
    g_autofree char *key = changed_key(scope.scope.config, config, "restricted");
    json_decref(scope.scope.config);
    scope.scope.config = json_incref(config);
    json_array_foreach (scope.scope.instances, i, entity) {
        if (!restrict_entity(&scope.scope, entity, error)) {
            return haw_push(error, "Conflict detected when changing \"%s\" in project \"%s\"", key,
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
