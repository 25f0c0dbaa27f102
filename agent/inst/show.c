/* Instances as JSON: what lists, single reads and backup.yaml have in common.
 * H1  Maps are shared with the instance (record.h: they are replaced, never edited), so that a list of
 *     a thousand costs references, not copies.
 * H2  A counter that can't be read is left at LXD's value for "unknown"; a state is never refused.
 * H3  The text of an instance is kept together with all that it was made of, and made anew when any of
 *     that is another: nobody has to say that something changed.
 * Called by api/instances.c, api/snapshots.c and backupfile.c; main loop. */
#include "agent/inst/show.h"
#include "agent/inst/instbackup.h"
#include "agent/inst/instdriver.h"
#include "agent/inst/limits.h"
#include "agent/inst/plug.h"
#include "agent/net/network.h"
#include "base/clock.h"
#include "base/fd.h"
#include "proto/jsontext.h"
#include "proto/keys.h"

#include <string.h>

static json_t *
time_json(gint64 at)
{
    g_autofree char *text = clock_format(at);
    return json_string(text);
}

char *
show_url(Inst *inst, const char *collection)
{
    bool plain = strcmp(inst->project, "default") == 0;
    return g_strdup_printf("/1.0/%s/%s%s%s", collection, inst->name,
                           plain ? "" : "?project=", plain ? "" : inst->project);
}

json_t *
show_instance(Inst *inst)
{
    InstState state = inst->state;
    json_t *object = json_object();
    json_object_set_new(object, "architecture", json_string(inst->architecture));
    json_object_set(object, "config", inst->config);
    json_object_set_new(object, "created_at", time_json(inst->created_at));
    json_object_set_new(object, "description", json_string(inst->description));
    json_object_set(object, "devices", inst->devices);
    json_object_set_new(object, "ephemeral", json_boolean(inst->ephemeral));
    json_object_set(object, "expanded_config", inst->expanded_config);
    json_object_set(object, "expanded_devices", inst->expanded_devices);
    json_object_set_new(object, "last_used_at",
                        inst->last_used_at > 0 ? time_json(inst->last_used_at)
                                               : json_string("1970-01-01T00:00:00Z")); /* LXD's */
    json_object_set_new(object, "location", json_string("none"));
    json_object_set_new(object, "name", json_string(inst->name));
    json_object_set(object, "profiles", inst->profiles);
    json_object_set_new(object, "project", json_string(inst->project));
    json_object_set_new(object, "stateful", json_boolean(inst->stateful));
    bool ready =
        state == INST_RUNNING && keys_get_bool(inst->config, "volatile.last_state.ready", false);
    json_object_set_new(object, "status", json_string(ready ? "Ready" : inst_state_name(state)));
    json_object_set_new(object, "status_code", json_integer(ready ? 113 : inst_state_code(state)));
    json_object_set_new(object, "type", json_string(inst->type));
    return object;
}

/* ---- text for lists ---- */

/* H3: what show_instance() shows and may change. The maps are held, so that a new one can't have an
 * old one's address (H1). */
struct shown_of {
    json_t *config, *devices, *expanded_config, *expanded_devices, *profiles;
    gint64 last_used_at;
    InstState state;
    bool ephemeral, stateful;
};

struct InstShown {
    struct shown_of of;
    char *project, *name, *description;
    size_t size;
    char text[];
};

static struct shown_of
shown_of(Inst *inst)
{
    struct shown_of of;
    memset(&of, 0, sizeof of); /* compared by its bytes */
    of.config = inst->config;
    of.devices = inst->devices;
    of.expanded_config = inst->expanded_config;
    of.expanded_devices = inst->expanded_devices;
    of.profiles = inst->profiles;
    of.last_used_at = inst->last_used_at;
    of.state = inst->state;
    of.ephemeral = inst->ephemeral;
    of.stateful = inst->stateful;
    return of;
}

void
show_forget(InstShown *shown)
{
    if (shown != NULL) {
        json_decref(shown->of.config);
        json_decref(shown->of.devices);
        json_decref(shown->of.expanded_config);
        json_decref(shown->of.expanded_devices);
        json_decref(shown->of.profiles);
        g_free(shown->project);
        g_free(shown->name);
        g_free(shown->description);
        g_free(shown);
    }
}

static InstShown *
shown_new(Inst *inst, const struct shown_of *of)
{
    g_autoptr(GString) text = g_string_sized_new(2048);
    json_t *object = show_instance(inst);
    jsontext_append(text, object);
    json_decref(object);
    InstShown *shown = g_malloc(sizeof *shown + text->len);
    shown->of = *of;
    json_incref(of->config);
    json_incref(of->devices);
    json_incref(of->expanded_config);
    json_incref(of->expanded_devices);
    json_incref(of->profiles);
    shown->project = g_strdup(inst->project);
    shown->name = g_strdup(inst->name);
    shown->description = g_strdup(inst->description);
    shown->size = text->len;
    memcpy(shown->text, text->str, text->len);
    return shown;
}

const char *
show_instance_text(Inst *inst, size_t *ret_size)
{
    InstShown *shown = inst->shown;
    struct shown_of of = shown_of(inst);
    if (shown == NULL || memcmp(&shown->of, &of, sizeof of) != 0 ||
        strcmp(shown->name, inst->name) != 0 || strcmp(shown->project, inst->project) != 0 ||
        strcmp(shown->description, inst->description) != 0) {
        InstShown *fresh = shown_new(inst, &of);
        show_forget(shown);
        inst->shown = shown = fresh;
    }
    *ret_size = shown->size;
    return shown->text;
}

json_t *
show_tagged(Inst *inst)
{
    return json_pack("[s,O,O,b,O,O]", inst->architecture, inst->config, inst->devices,
                     (int) inst->ephemeral, inst->profiles, inst->base_config);
}

/* Profiles of the snapshot as they are today would be wrong: what it had is in its own maps. */
json_t *
show_snapshot(Inst *inst, const SnapRow *snap)
{
    json_t *config = json_copy(inst->base_config), *devices = json_copy(inst->base_devices);
    json_object_update(config, snap->config);
    json_object_update(devices, snap->devices);
    return json_pack(
        "{s:s,s:O,s:o,s:O,s:b,s:o,s:o,s:o,s:o,s:s,s:O,s:b,s:I}", "architecture", snap->architecture,
        "config", snap->config, "created_at", time_json(snap->created_at), "devices", snap->devices,
        "ephemeral", (int) snap->ephemeral, "expanded_config", config, "expanded_devices", devices,
        "expires_at", time_json(snap->expires_at), "last_used_at", time_json(0), "name", snap->name,
        "profiles", snap->profiles, "stateful", (int) snap->stateful, "size", (json_int_t) -1);
}

/* ---- state ---- */

static gint64
not_negative(gint64 value)
{
    return MAX(0, value);
}

static json_t *
memory_json(const Cgroup *group)
{
    bool v1 = cgroup_version(CG_MEMORY) == 1;
    gint64 used = cgroup_number(group, CG_MEMORY, v1 ? "memory.usage_in_bytes" : "memory.current");
    gint64 peak = cgroup_number(group, CG_MEMORY, v1 ? "memory.max_usage_in_bytes" : "memory.peak");
    gint64 limit = cgroup_number(group, CG_MEMORY, v1 ? "memory.limit_in_bytes" : "memory.max");
    gint64 swap = v1 ? cgroup_keyed(group, CG_MEMORY, "memory.stat", "swap")
                     : cgroup_number(group, CG_MEMORY, "memory.swap.current");
    gint64 total = limits_host_memory();
    total = limit > 0 && limit < total ? limit : total;
    return json_pack("{s:I,s:I,s:I,s:I,s:I}", "swap_usage", (json_int_t) not_negative(swap),
                     "swap_usage_peak", (json_int_t) 0, "total", (json_int_t) total, "usage",
                     (json_int_t) not_negative(used), "usage_peak",
                     (json_int_t) not_negative(peak));
}

static gint64
cpu_usage_ns(const Cgroup *group)
{
    if (cgroup_version(CG_CPUACCT) == 1) {
        return not_negative(cgroup_number(group, CG_CPUACCT, "cpuacct.usage"));
    }
    return not_negative(cgroup_keyed(group, CG_CPU, "cpu.stat", "usage_usec")) * 1000;
}

/* Usage of the root volume and of attached custom volumes. Yields. */
static json_t *
disk_json(Inst *inst)
{
    json_t *disks = json_object(), *devices = json_incref(inst->expanded_devices), *device;
    const char *name;
    json_object_foreach (devices, name, device) {
        const char *pool = keys_get(device, "pool"), *source = keys_get(device, "source");
        Vol vol = {.pool = pool, .project = inst->project, .type = VOL_CUSTOM, .name = source};
        gint64 used = -1, total = 0;
        if (pool == NULL || g_strcmp0(keys_get(device, "type"), "disk") != 0) {
            continue;
        }
        if ((plug_is_root(device) && !inst_volume(inst, &vol, NULL)) || vol.name == NULL ||
            !vol_usage(inst->agent->pools, &vol, &used, &total, NULL) || used < 0) {
            continue;
        }
        json_object_set_new(
            disks, name,
            json_pack("{s:I,s:I}", "usage", (json_int_t) used, "total", (json_int_t) total));
    }
    json_decref(devices);
    return disks;
}

/* The host's names of the interfaces, which the container can't know. */
static void
add_host_names(Inst *inst, json_t *network)
{
    const char *device, *guest;
    json_t *config;
    json_object_foreach (inst->expanded_devices, device, config) {
        if (g_strcmp0(keys_get(config, "type"), "nic") != 0) {
            continue;
        }
        json_t *own = record_volatile_of(inst->config, device);
        const char *host = keys_get(own, "host_name");
        guest = keys_get(config, "name");
        guest = guest != NULL ? guest : keys_get(own, "name");
        json_t *entry = guest != NULL ? json_object_get(network, guest) : NULL;
        if (entry != NULL && host != NULL) {
            json_object_set_new(entry, "host_name", json_string(host));
        }
        json_decref(own);
    }
}

json_t *
show_container_state(Inst *inst)
{
    pid_t pid = inst_pid(inst);
    json_t *network = NULL;
    if (pid != 0) {
        network = net_state_of_pid(pid, NULL);
    }
    if (network != NULL) {
        add_host_names(inst, network);
    }
    /* It may have ended while we waited. */
    bool runs = pid != 0 && inst->cgroup != NULL;
    const Cgroup *group = runs ? inst->cgroup : NULL;
    json_t *memory = runs ? memory_json(group)
                          : json_pack("{s:i,s:i,s:i,s:i,s:i}", "swap_usage", 0, "swap_usage_peak",
                                      0, "total", 0, "usage", 0, "usage_peak", 0);
    return json_pack("{s:{s:I},s:o,s:o,s:I,s:I}", "cpu", "usage",
                     (json_int_t) (runs ? cpu_usage_ns(group) : 0), "memory", memory, "network",
                     network != NULL ? network : json_null(), "pid", (json_int_t) (runs ? pid : 0),
                     "processes", (json_int_t) (runs ? cgroup_processes(group) : 0));
}

json_t *
show_state(Inst *inst)
{
    g_autoptr(Inst) held = inst_ref(inst);
    json_t *disks = disk_json(inst);
    json_t *state = driver_of_type(inst->type)->state(inst);
    json_object_set_new(state, "disk", disks);
    json_object_set_new(state, "status", json_string(inst_state_name(inst->state)));
    json_object_set_new(state, "status_code", json_integer(inst_state_code(inst->state)));
    return state;
}

json_t *
show_full_listed(Inst *inst, GHashTable *with_snapshots)
{
    json_t *object = show_instance(inst), *snapshots = json_array();
    bool any = with_snapshots == NULL || g_hash_table_contains(with_snapshots, &inst->id);
    g_autoptr(GPtrArray) rows = any ? record_snapshots(inst, NULL) : NULL;
    for (guint i = 0; rows != NULL && i < rows->len; i++) {
        json_array_append_new(snapshots, show_snapshot(inst, rows->pdata[i]));
    }
    json_object_set_new(object, "backups", json_array());
    json_object_set_new(object, "snapshots", snapshots);
    json_object_set_new(object, "state", show_state(inst));
    return object;
}

json_t *
show_full(Inst *inst)
{
    return show_full_listed(inst, NULL);
}

static bool
counts_tx(DbTx *tx, void *data, GError **error)
{
    GHashTable **counts = data;
    *counts = inst_rows_snapshot_counts(tx, error);
    return *counts != NULL;
}

GHashTable *
show_with_snapshots(Agent *agent)
{
    GHashTable *counts = NULL;
    if (!db_read(agent->db, counts_tx, &counts, NULL)) {
        return NULL;
    }
    return counts;
}
