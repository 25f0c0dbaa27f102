/* Instances in memory: their rows, and what profiles make of them.
 * R1  What is in memory is what is stored: a change is committed first, then taken over.
 * R2  JSON maps are replaced, never edited (record.h), so readers need no lock across a wait.
 * R3  Equal profile lists share one merged map, and an instance without keys of its own uses it as
 *     its expanded map: a thousand instances cost little more than their rows.
 * Called by the files of this folder; main loop, inside fibers. */
#include "agent/inst/record.h"
#include "agent/auth/project.h"
#include "base/clock.h"

#include <string.h>

static char *
table_key(const char *project, const char *name)
{
    return g_strdup_printf("%s/%s", project, name);
}

json_t *
record_merge(json_t *object, json_t *changes)
{
    json_t *merged = json_copy(object);
    const char *key;
    json_t *value;
    json_object_foreach (changes, key, value) {
        const char *text = json_string_value(value);
        if (text == NULL || *text == '\0') {
            json_object_del(merged, key);
        } else {
            json_object_set(merged, key, value);
        }
    }
    return merged;
}

json_t *
record_volatile_of(json_t *config, const char *device)
{
    g_autofree char *prefix = g_strdup_printf("volatile.%s.", device);
    json_t *own = json_object();
    const char *key;
    json_t *value;
    json_object_foreach (config, key, value) {
        if (g_str_has_prefix(key, prefix)) {
            json_object_set(own, key + strlen(prefix), value);
        }
    }
    return own;
}

json_t *
record_volatile_diff(json_t *config, const char *device, json_t *now)
{
    json_t *before = record_volatile_of(config, device);
    json_t *changes = json_object();
    const char *key;
    json_t *value;
    json_object_foreach (now, key, value) {
        json_t *old = json_object_get(before, key);
        if (old == NULL || !json_equal(old, value)) {
            g_autofree char *full = g_strdup_printf("volatile.%s.%s", device, key);
            json_object_set(changes, full, value);
        }
    }
    json_object_foreach (before, key, value) {
        if (json_object_get(now, key) == NULL) {
            g_autofree char *full = g_strdup_printf("volatile.%s.%s", device, key);
            json_object_set_new(changes, full, json_null());
        }
    }
    json_decref(before);
    return changes;
}

/* ---- expansion ---- */

static json_t *
overlay(json_t *base, json_t *own)
{
    if (json_object_size(own) == 0) {
        return json_incref(base); /* R3 */
    }
    if (json_object_size(base) == 0) {
        return json_incref(own);
    }
    json_t *all = json_copy(base);
    json_object_update(all, own);
    return all;
}

static void
expand_from_base(Inst *inst)
{
    json_decref(inst->expanded_config);
    json_decref(inst->expanded_devices);
    inst->expanded_config = overlay(inst->base_config, inst->config);
    inst->expanded_devices = overlay(inst->base_devices, inst->devices);
}

static bool
base_of_profiles(Agent *agent, const char *project, json_t *profiles, json_t **ret_config,
                 json_t **ret_devices, GError **error)
{
    json_t *config = json_object(), *devices = json_object();
    size_t i;
    json_t *name;
    json_array_foreach (profiles, i, name) {
        json_t *profile = profile_load(agent, project, json_string_value(name), error);
        if (profile == NULL) {
            json_decref(config);
            json_decref(devices);
            return false;
        }
        json_object_update(config, json_object_get(profile, "config"));
        json_object_update(devices, json_object_get(profile, "devices"));
        json_decref(profile);
    }
    *ret_config = config;
    *ret_devices = devices;
    return true;
}

bool
record_expand(Agent *agent, const char *project, json_t *profiles, json_t *config, json_t *devices,
              json_t **ret_config, json_t **ret_devices, GError **error)
{
    json_t *base_config, *base_devices;
    if (!base_of_profiles(agent, project, profiles, &base_config, &base_devices, error)) {
        return false;
    }
    *ret_config = overlay(base_config, config);
    *ret_devices = overlay(base_devices, devices);
    json_decref(base_config);
    json_decref(base_devices);
    return true;
}

bool
record_refresh(Inst *inst, GError **error)
{
    json_t *config, *devices;
    if (!base_of_profiles(inst->agent, inst->project, inst->profiles, &config, &devices, error)) {
        return false;
    }
    json_decref(inst->base_config);
    json_decref(inst->base_devices);
    inst->base_config = config;
    inst->base_devices = devices;
    expand_from_base(inst);
    return true;
}

/* ---- rows ---- */

static Inst *
inst_from_row(Agent *agent, const InstRow *row)
{
    Inst *inst = g_new0(Inst, 1);
    inst->refs = 1;
    inst->agent = agent;
    inst->id = row->id;
    inst->created_at = row->created_at;
    inst->last_used_at = row->last_used_at;
    inst->project = g_strdup(row->project);
    inst->name = g_strdup(row->name);
    inst->type = g_strdup(row->type);
    inst->architecture = g_strdup(row->architecture);
    inst->description = g_strdup(row->description);
    inst->object = project_object_name(row->project, row->name);
    inst->ephemeral = row->ephemeral;
    inst->stateful = row->stateful;
    inst->config = json_incref(row->config);
    inst->devices = json_incref(row->devices);
    inst->profiles = json_incref(row->profiles);
    inst->pidfd = inst->monitor_fd = -1;
    return inst;
}

InstRow *
record_row(Inst *inst)
{
    InstRow *row = g_new0(InstRow, 1);
    row->id = inst->id;
    row->created_at = inst->created_at;
    row->last_used_at = inst->last_used_at;
    row->project = g_strdup(inst->project);
    row->name = g_strdup(inst->name);
    row->type = g_strdup(inst->type);
    row->architecture = g_strdup(inst->architecture);
    row->description = g_strdup(inst->description);
    row->ephemeral = inst->ephemeral;
    row->stateful = inst->stateful;
    row->config = json_incref(inst->config);
    row->devices = json_incref(inst->devices);
    row->profiles = json_incref(inst->profiles);
    return row;
}

struct load {
    GPtrArray *instances, *profiles;
};

static bool
load_tx(DbTx *tx, void *data, GError **error)
{
    struct load *load = data;
    load->instances = inst_rows_load(tx, error);
    if (load->instances == NULL) {
        return false;
    }
    load->profiles = inst_rows_load_profiles(tx, error);
    return load->profiles != NULL;
}

/* The merged maps of a profile list, made once for all that have it (R3). */
static json_t *
shared_base(GHashTable *bases, GHashTable *profiles, const char *project, json_t *names)
{
    char *list = json_dumps(names, JSON_COMPACT);
    g_autofree char *key = g_strdup_printf("%s %s", project, list);
    free(list);
    json_t *base = g_hash_table_lookup(bases, key);
    if (base != NULL) {
        return base;
    }
    json_t *config = json_object(), *devices = json_object();
    size_t i;
    json_t *name;
    json_array_foreach (names, i, name) {
        g_autofree char *profile_key = table_key(project, json_string_value(name));
        ProfileRow *profile = g_hash_table_lookup(profiles, profile_key);
        if (profile != NULL) {
            json_object_update(config, profile->config);
            json_object_update(devices, profile->devices);
        }
    }
    base = json_pack("[oo]", config, devices);
    g_hash_table_insert(bases, g_steal_pointer(&key), base);
    return base;
}

static void
table_add(InstTable *table, Inst *inst)
{
    g_hash_table_insert(table->by_key, table_key(inst->project, inst->name), inst_ref(inst));
}

static void
load_take(InstTable *table, struct load *load)
{
    g_autoptr(GHashTable) profiles = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    g_autoptr(GHashTable) bases =
        g_hash_table_new_full(g_str_hash, g_str_equal, g_free, (GDestroyNotify) json_decref);
    for (guint i = 0; i < load->profiles->len; i++) {
        ProfileRow *profile = load->profiles->pdata[i];
        g_hash_table_insert(profiles, table_key(profile->project, profile->name), profile);
    }
    for (guint i = 0; i < load->instances->len; i++) {
        InstRow *row = load->instances->pdata[i];
        g_autoptr(Inst) inst = inst_from_row(table->agent, row);
        const char *project = project_for_profiles(table->agent, row->project);
        json_t *base = shared_base(bases, profiles, project, row->profiles);
        inst->base_config = json_incref(json_array_get(base, 0));
        inst->base_devices = json_incref(json_array_get(base, 1));
        expand_from_base(inst);
        table_add(table, inst);
    }
}

bool
record_load_all(InstTable *table, GError **error)
{
    struct load load = {0};
    bool ok = db_read(table->agent->db, load_tx, &load, error);
    if (ok) {
        load_take(table, &load);
    }
    g_clear_pointer(&load.instances, g_ptr_array_unref);
    g_clear_pointer(&load.profiles, g_ptr_array_unref);
    return ok;
}

struct change {
    InstRow *row;
    GPtrArray *snaps; /* SnapRow; NULL: none */
    const InstRow *update;
    const char *profile_project, *name;
    gint64 id, used_at;
    json_t *config;
};

static bool
create_tx(DbTx *tx, void *data, GError **error)
{
    struct change *change = data;
    bool ok = inst_rows_insert(tx, change->row, change->profile_project, error);
    for (guint i = 0; ok && change->snaps != NULL && i < change->snaps->len; i++) {
        SnapRow *snap = change->snaps->pdata[i];
        snap->instance_id = change->row->id;
        ok = inst_rows_snapshot_insert(tx, snap, error);
    }
    return ok;
}

Inst *
record_create_whole(InstTable *table, InstRow **row, GPtrArray *snaps, GError **error)
{
    g_autoptr(InstRow) own = g_steal_pointer(row);
    json_t *config, *devices;
    if (!base_of_profiles(table->agent, own->project, own->profiles, &config, &devices, error)) {
        return NULL;
    }
    struct change change = {.row = own,
                            .snaps = snaps,
                            .profile_project = project_for_profiles(table->agent, own->project)};
    if (!db_write(table->agent->db, create_tx, &change, error)) {
        json_decref(config);
        json_decref(devices);
        return NULL;
    }
    Inst *inst = inst_from_row(table->agent, own);
    inst->base_config = config;
    inst->base_devices = devices;
    expand_from_base(inst);
    table_add(table, inst);
    return inst;
}

Inst *
record_create(InstTable *table, InstRow **row, GError **error)
{
    return record_create_whole(table, row, NULL, error);
}

/* The instance as 'row' has it, with the profiles' part as computed (both stolen). */
static void
take_over(Inst *inst, const InstRow *row, json_t *config, json_t *devices)
{
    json_decref(inst->base_config);
    json_decref(inst->base_devices);
    inst->base_config = config;
    inst->base_devices = devices;
    json_incref(row->config);
    json_incref(row->devices);
    json_incref(row->profiles);
    json_decref(inst->config);
    json_decref(inst->devices);
    json_decref(inst->profiles);
    inst->config = row->config;
    inst->devices = row->devices;
    inst->profiles = row->profiles;
    g_free(inst->description);
    inst->description = g_strdup(row->description);
    g_free(inst->architecture);
    inst->architecture = g_strdup(row->architecture);
    inst->ephemeral = row->ephemeral;
    inst->stateful = row->stateful;
    expand_from_base(inst);
}

static bool
update_tx(DbTx *tx, void *data, GError **error)
{
    struct change *change = data;
    return inst_rows_update(tx, change->update, change->profile_project, error);
}

bool
record_update(Inst *inst, const InstRow *row, GError **error)
{
    json_t *config, *devices;
    if (!base_of_profiles(inst->agent, inst->project, row->profiles, &config, &devices, error)) {
        return false;
    }
    struct change change = {.update = row,
                            .profile_project = project_for_profiles(inst->agent, inst->project)};
    if (!db_write(inst->agent->db, update_tx, &change, error)) {
        json_decref(config);
        json_decref(devices);
        return false;
    }
    take_over(inst, row, config, devices);
    return true;
}

static bool
config_tx(DbTx *tx, void *data, GError **error)
{
    struct change *change = data;
    if (change->used_at != 0) {
        return inst_rows_set_used(tx, change->id, change->config, change->used_at, error);
    }
    return inst_rows_set_config(tx, change->id, change->config, error);
}

bool
record_set_used(Inst *inst, json_t *changes, gint64 used_at, GError **error)
{
    json_t *config = record_merge(inst->config, changes);
    struct change change = {.id = inst->id, .config = config, .used_at = used_at};
    if (used_at == 0 && json_equal(config, inst->config)) {
        json_decref(config);
        return true;
    }
    if (!db_write(inst->agent->db, config_tx, &change, error)) {
        json_decref(config);
        return false;
    }
    json_decref(inst->config);
    inst->config = config;
    if (used_at != 0) {
        inst->last_used_at = used_at;
    }
    expand_from_base(inst);
    return true;
}

bool
inst_set_config(Inst *inst, json_t *changes, GError **error)
{
    bool ok = record_set_used(inst, changes, 0, error);
    json_decref(changes);
    return ok;
}

static bool
rename_tx(DbTx *tx, void *data, GError **error)
{
    struct change *change = data;
    return inst_rows_rename(tx, change->id, change->name, error);
}

static void
rekey(Inst *inst, const char *project, const char *name)
{
    g_autofree char *old_key = table_key(inst->project, inst->name);
    inst_ref(inst);
    g_hash_table_remove(inst->agent->instances->by_key, old_key);
    char *object = project_object_name(project, name), *own = g_strdup(project);
    g_free(inst->object);
    inst->object = object;
    g_free(inst->project);
    inst->project = own;
    char *own_name = g_strdup(name);
    g_free(inst->name);
    inst->name = own_name;
    table_add(inst->agent->instances, inst);
    inst_unref(inst);
}

bool
record_rename(Inst *inst, const char *name, GError **error)
{
    struct change change = {.id = inst->id, .name = name};
    if (!db_write(inst->agent->db, rename_tx, &change, error)) {
        return false;
    }
    rekey(inst, inst->project, name);
    return true;
}

bool
record_moved(Inst *inst, const InstRow *row, GError **error)
{
    json_t *config, *devices;
    if (!base_of_profiles(inst->agent, row->project, row->profiles, &config, &devices, error)) {
        return false;
    }
    rekey(inst, row->project, row->name);
    take_over(inst, row, config, devices);
    return true;
}

static bool
delete_tx(DbTx *tx, void *data, GError **error)
{
    struct change *change = data;
    return inst_rows_delete(tx, change->id, error);
}

bool
record_delete(Inst *inst, GError **error)
{
    struct change change = {.id = inst->id};
    if (!db_write(inst->agent->db, delete_tx, &change, error)) {
        return false;
    }
    g_autofree char *key = table_key(inst->project, inst->name);
    inst->deleted = true;
    g_hash_table_remove(inst->agent->instances->by_key, key);
    return true;
}

/* ---- snapshots ---- */

struct snapshots {
    gint64 id;
    GPtrArray *list;
};

static bool
snapshots_tx(DbTx *tx, void *data, GError **error)
{
    struct snapshots *query = data;
    query->list = inst_rows_snapshots(tx, query->id, error);
    return query->list != NULL;
}

GPtrArray *
record_snapshots(Inst *inst, GError **error)
{
    struct snapshots query = {.id = inst->id};
    if (!db_read(inst->agent->db, snapshots_tx, &query, error)) {
        g_clear_pointer(&query.list, g_ptr_array_unref);
        return NULL;
    }
    return query.list;
}

SnapRow *
record_snapshot(Inst *inst, const char *name, GError **error)
{
    g_autoptr(GPtrArray) list = record_snapshots(inst, error);
    for (guint i = 0; list != NULL && i < list->len; i++) {
        SnapRow *row = list->pdata[i];
        if (strcmp(row->name, name) == 0) {
            return g_ptr_array_steal_index(list, i);
        }
    }
    if (list != NULL) {
        haw_fail(error, HAW_NOT_FOUND, "Instance snapshot not found");
    }
    return NULL;
}
