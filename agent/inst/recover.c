/* Recovery after the database was lost, or put back from an older copy: 'hawser recover', 'lxd recover'.
 * E1  A scan changes nothing: it names what lies on the pools without a row, and what has to be made
 *     before it can be taken in (projects, profiles, networks).
 * E2  An import scans again and does nothing while something is lacking. An instance gets its rows in one
 *     transaction, then its volume: unknown is what has no volume's row, so that an import that was
 *     killed is gone on with by the next.
 * E3  An instance is as its backup.yaml says, volatile keys included, and its root disk on the pool
 *     where it lies; what its driver finds running is adopted.
 * Not here: what is on a pool (store/unknown.c). Main loop, in a request's fiber. */
#include "agent/inst/recover.h"

#include "agent/auth/project.h"
#include "agent/inst/create.h"
#include "agent/inst/lifecycle.h"
#include "agent/inst/plug.h"
#include "agent/net/network.h"
#include "agent/store/told.h"
#include "agent/store/unknown.h"
#include "base/clock.h"
#include "base/crash.h"
#include "base/ids.h"
#include "base/log.h"
#include "proto/grammar.h"
#include "proto/keys.h"

#include <string.h>

typedef struct {
    Agent *agent;       /* borrowed */
    GPtrArray *found;   /* UnknownVol */
    GPtrArray *mounted; /* names of pools that have no row */
    json_t *lacking;    /* texts */
} Scan;

static void
scan_done(Scan *scan)
{
    for (guint i = 0; i < scan->mounted->len; i++) {
        unknown_pool_forget(scan->agent->pools, scan->mounted->pdata[i]);
    }
    g_ptr_array_unref(scan->found);
    g_ptr_array_unref(scan->mounted);
    json_decref(scan->lacking);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Scan, scan_done)

/* ---- what is there, and what it needs: E1 ---- */

static void
add_lacking(Scan *scan, const char *format, const char *name, const char *project)
{
    g_autofree char *text = g_strdup_printf(format, name, project);
    size_t i;
    json_t *each;
    json_array_foreach (scan->lacking, i, each) {
        if (strcmp(json_string_value(each), text) == 0) {
            return;
        }
    }
    json_array_append_new(scan->lacking, json_string(text));
}

static void
check_instance(Scan *scan, const UnknownVol *vol)
{
    json_t *shown = told_instance(vol->document), *each;
    json_auto_t *profiles = told_names(shown, "profiles");
    const char *home = project_for_profiles(scan->agent, vol->project);
    size_t i;
    json_array_foreach (profiles, i, each) {
        json_auto_t *profile = profile_load(scan->agent, home, json_string_value(each), NULL);
        if (profile == NULL) {
            add_lacking(scan, "Profile \"%s\" in project \"%s\"", json_string_value(each),
                        vol->project);
        }
    }
    const char *device;
    home = project_for_networks(scan->agent, vol->project);
    json_object_foreach (json_object_get(shown, "expanded_devices"), device, each) {
        const char *network = keys_get(each, "network");
        if (g_strcmp0(keys_get(each, "type"), "nic") != 0 || network == NULL || *network == '\0') {
            continue;
        }
        json_auto_t *there = net_find(scan->agent->networks, home, network, NULL);
        if (there == NULL) {
            add_lacking(scan, "Network \"%s\" in project \"%s\"", network, vol->project);
        }
    }
    g_autoptr(Inst) other = inst_find(scan->agent->instances, vol->project, vol->name, NULL);
    if (other != NULL && g_strcmp0(other->root_pool, vol->pool) != 0) {
        add_lacking(scan, "A free name: there is another instance \"%s\" in project \"%s\"",
                    vol->name, vol->project);
    }
}

static void
check_needs(Scan *scan)
{
    for (guint i = 0; i < scan->found->len; i++) {
        const UnknownVol *vol = scan->found->pdata[i];
        json_auto_t *project = project_config(scan->agent, vol->project, NULL);
        if (project == NULL) {
            add_lacking(scan, "Project \"%s\"%s", vol->project, "");
        } else if (vol->type != VOL_CUSTOM) {
            check_instance(scan, vol);
        }
    }
}

static bool
scan_pool(Scan *scan, json_t *asked, GError **error)
{
    const char *name = keys_get(asked, "name"), *driver = keys_get(asked, "driver");
    json_t *config = json_object_get(asked, "config");
    if (name == NULL || *name == '\0') {
        return haw_fail(error, HAW_INVALID, "No name provided");
    }
    if (!pool_exists(scan->agent->pools, name)) {
        if (driver == NULL || !json_is_object(config)) {
            return haw_fail(error, HAW_NOT_FOUND,
                            "Failed loading existing pool \"%s\": Storage pool not found", name);
        }
        if (!unknown_pool_mount(scan->agent->pools, name, driver, config, error)) {
            return false;
        }
        g_ptr_array_add(scan->mounted, g_strdup(name));
    }
    g_autoptr(GPtrArray) list = unknown_list(scan->agent->pools, name, error);
    if (list == NULL) {
        return haw_push(error, "Failed checking volumes on pool \"%s\"", name);
    }
    g_ptr_array_extend_and_steal(scan->found, g_steal_pointer(&list));
    return true;
}

static bool
scan_start(Request *req, Scan *scan, GError **error)
{
    *scan = (Scan){.agent = req_agent(req),
                   .found = g_ptr_array_new_with_free_func((GDestroyNotify) unknown_vol_free),
                   .mounted = g_ptr_array_new_with_free_func(g_free),
                   .lacking = json_array()};
    json_t *pools = json_object_get(req_json(req), "pools"), *each;
    size_t i;
    if (!json_is_array(pools)) {
        return haw_fail(error, HAW_INVALID, "\"pools\" is no list");
    }
    json_array_foreach (pools, i, each) {
        if (!scan_pool(scan, each, error)) {
            return false;
        }
    }
    check_needs(scan);
    return true;
}

static json_t *
scan_json(const Scan *scan)
{
    static const char *const words[] = {
        [VOL_CONTAINER] = "container", [VOL_VM] = "virtual-machine", [VOL_CUSTOM] = "custom"};
    json_t *list = json_array();
    for (guint i = 0; i < scan->found->len; i++) {
        const UnknownVol *vol = scan->found->pdata[i];
        json_array_append_new(list,
                              json_pack("{s:s,s:s,s:i,s:s,s:s}", "name", vol->name, "type",
                                        words[vol->type], "snapshotCount", (int) vol->snaps->len,
                                        "project", vol->project, "pool", vol->pool));
    }
    return json_pack("{s:o,s:O}", "UnknownVolumes", list, "DependencyErrors", scan->lacking);
}

static bool
post_validate(Request *req, GError **error)
{
    g_auto(Scan) scan = {0};
    return scan_start(req, &scan, error) && req_reply(req, scan_json(&scan));
}

/* ---- taken in: E2, E3 ---- */

static json_t *
config_of(json_t *shown)
{
    json_t *config = told_texts(shown, "config");
    json_object_del(config, CREATE_UNFINISHED);
    return config;
}

/* E3: a root disk of its own when the profiles have none, or another pool's. */
static bool
place_root(Agent *agent, InstRow *row, const char *pool, json_t *shown, GError **error)
{
    json_t *x_config, *x_devices;
    const char *name = NULL;
    if (!record_expand(agent, row->project, row->profiles, row->config, row->devices, &x_config,
                       &x_devices, error)) {
        return false;
    }
    json_t *root = plug_root(x_devices, &name, NULL);
    if (root == NULL || g_strcmp0(keys_get(root, "pool"), pool) != 0) {
        json_t *told = plug_root(json_object_get(shown, "expanded_devices"), &name, NULL);
        json_t *own = root != NULL   ? json_deep_copy(root)
                      : told != NULL ? json_deep_copy(told)
                                     : json_pack("{s:s,s:s}", "type", "disk", "path", "/");
        json_object_set_new(own, "pool", json_string(pool));
        json_object_set_new(row->devices, name != NULL ? name : "root", own);
    }
    json_decref(x_config);
    json_decref(x_devices);
    return true;
}

static InstRow *
instance_row(Agent *agent, const UnknownVol *vol, GError **error)
{
    json_t *shown = told_instance(vol->document);
    const char *architecture = keys_get(shown, "architecture");
    g_autoptr(InstRow) row = g_new0(InstRow, 1);
    row->project = g_strdup(vol->project);
    row->name = g_strdup(vol->name);
    row->type = g_strdup(vol->type == VOL_VM ? "virtual-machine" : "container");
    row->architecture = g_strdup(architecture != NULL ? architecture : "x86_64");
    row->description = g_strdup(told_text(shown, "description"));
    row->ephemeral = json_is_true(json_object_get(shown, "ephemeral"));
    row->stateful = json_is_true(json_object_get(shown, "stateful"));
    row->created_at = told_time(shown, "created_at");
    row->last_used_at = told_time(shown, "last_used_at");
    row->config = config_of(shown);
    row->devices = told_objects(shown, "devices");
    row->profiles = told_names(shown, "profiles");
    g_autofree char *generation =
        ids_uuid(); /* backup.yaml leaves it out: the clock may have gone back */
    json_object_set_new(row->config, "volatile.uuid.generation", json_string(generation));
    bool ok = json_is_object(shown) && grammar_hostname(vol->name, error) &&
              place_root(agent, row, vol->pool, shown, error) &&
              create_check(agent, row->project, row->name, row->type, NULL, row->profiles,
                           row->config, row->devices, error);
    if (!ok && !json_is_object(shown)) {
        haw_fail(error, HAW_INVALID, "its backup.yaml describes no instance");
    }
    return ok ? g_steal_pointer(&row) : NULL;
}

/* One for each that is on disk; of those that the file does not tell, the instance's own values. */
static GPtrArray *
snapshot_rows(const UnknownVol *vol, const InstRow *inst)
{
    GPtrArray *rows = g_ptr_array_new_with_free_func((GDestroyNotify) snap_row_free);
    for (guint i = 0; i < vol->snaps->len; i++) {
        const char *name = vol->snaps->pdata[i];
        json_t *told = told_snapshot(vol->document, "snapshots", name);
        SnapRow *row = g_new0(SnapRow, 1);
        row->name = g_strdup(name);
        row->description = g_strdup("");
        row->architecture = g_strdup(inst->architecture);
        row->ephemeral = json_is_true(json_object_get(told, "ephemeral"));
        row->stateful = json_is_true(json_object_get(told, "stateful"));
        row->created_at = told != NULL ? told_time(told, "created_at") : clock_real_us();
        row->expires_at = told_time(told, "expires_at");
        row->config = told != NULL ? config_of(told) : json_deep_copy(inst->config);
        row->devices = told != NULL ? told_objects(told, "devices") : json_deep_copy(inst->devices);
        row->profiles =
            told != NULL ? told_names(told, "profiles") : json_deep_copy(inst->profiles);
        g_ptr_array_add(rows, row);
    }
    return rows;
}

static Inst *
make_instance(Agent *agent, const UnknownVol *vol, GError **error)
{
    g_autoptr(InstRow) row = instance_row(agent, vol, error);
    g_autoptr(GPtrArray) snaps = row != NULL ? snapshot_rows(vol, row) : NULL;
    return row != NULL ? record_create_whole(agent->instances, &row, snaps, error) : NULL;
}

static bool
take_instance(Request *req, const UnknownVol *vol, GError **error)
{
    Agent *agent = req_agent(req);
    g_autoptr(Inst) there = inst_find(agent->instances, vol->project, vol->name, NULL);
    g_autoptr(Inst) made = there == NULL ? make_instance(agent, vol, error) : NULL;
    if (there == NULL && made == NULL) {
        return haw_push(error, "Failed creating instance \"%s\" record in project \"%s\"",
                        vol->name, vol->project);
    }
    crash_point("recover");
    if (!unknown_take(agent->pools, vol, vol->document, error)) {
        if (made != NULL) {
            record_delete(made, NULL);
        }
        return false;
    }
    crash_point("recover");
    if (made != NULL) {
        lifecycle_adopt(made);
        inst_lifecycle(made, req_caller(req), "instance-created");
    }
    return true;
}

/* The "pool" that one of the pool's instances notes; NULL. */
static json_t *
pool_told(const Scan *scan, const char *name)
{
    for (guint i = 0; i < scan->found->len; i++) {
        const UnknownVol *vol = scan->found->pdata[i];
        json_t *told = json_object_get(vol->document, "pool");
        if (strcmp(vol->pool, name) == 0 && json_is_object(told)) {
            return told;
        }
    }
    return NULL;
}

static bool
take_all(Request *req, const Scan *scan, GError **error)
{
    PoolTable *pools = scan->agent->pools;
    for (guint i = 0; i < scan->mounted->len; i++) {
        const char *name = scan->mounted->pdata[i];
        if (!unknown_pool_take(pools, name, pool_told(scan, name), error)) {
            return haw_push(error, "Failed creating storage pool \"%s\" database entry", name);
        }
    }
    /* Custom volumes first: instances may have them as disks. */
    for (guint i = 0; i < scan->found->len; i++) {
        const UnknownVol *vol = scan->found->pdata[i];
        if (vol->type == VOL_CUSTOM && !unknown_take(pools, vol, NULL, error)) {
            return false;
        }
    }
    for (guint i = 0; i < scan->found->len; i++) {
        const UnknownVol *vol = scan->found->pdata[i];
        if (vol->type != VOL_CUSTOM && !take_instance(req, vol, error)) {
            return false;
        }
    }
    return true;
}

static bool
post_import(Request *req, GError **error)
{
    g_auto(Scan) scan = {0};
    if (!scan_start(req, &scan, error)) {
        return false;
    }
    if (json_array_size(scan.lacking) > 0) { /* E2 */
        return req_reply(req, scan_json(&scan));
    }
    return take_all(req, &scan, error) && req_reply(req, NULL);
}

const Route recover_routes[] = {
    {"POST", "/internal/recover/validate", post_validate, ROUTE_SOCKET | ROUTE_BODY_JSON},
    {"POST", "/internal/recover/import", post_import, ROUTE_SOCKET | ROUTE_BODY_JSON},
    {NULL, NULL, NULL, 0},
};
