/* Instances: the table of them, the states of each, and what other modules may ask.
 * N1  inst_move() is the only writer of a state, and takes only the moves that the table allows.
 * N2  Whoever changes an instance or its world holds its queue; readers never wait for it.
 * N3  An instance that was deleted stays readable for whoever holds a reference, and can't be held.
 *
 *            .-------- start failed -------.
 *            v                             |
 *        STOPPED ------ start ------> STARTING ----> RUNNING <----------.
 *            ^                             |         |  |   ^           |
 *            |                             |         |  |   |        THAWING
 *        STOPPING <------------------------'---------'  |   |           ^
 *            ^  ^                                       v   | failed    |
 *            |  '---------------------------------- FREEZING ---> FROZEN
 *            '------------------------------------------------------'
 *        ERROR: a running container that no longer answers; leads to STOPPING only.
 *
 * Called by everybody; main loop, inside fibers. Lifecycle in lifecycle.c, rows in record.c. */
#include "agent/inst/inst.h"
#include "agent/api/event.h"
#include "agent/auth/project.h"
#include "agent/inst/discard.h"
#include "agent/inst/journal.h"
#include "agent/inst/lifecycle.h"
#include "agent/inst/record.h"
#include "agent/inst/show.h"
#include "agent/inst/snapshot.h"
#include "agent/move/livedecide.h"
#include "base/fd.h"
#include "base/log.h"
#include "proto/grammar.h"

#include <string.h>

#define TO(state) (1u << INST_##state)

static const guint inst_next[] = {
    [INST_STOPPED] = TO(STARTING),
    [INST_STARTING] = TO(RUNNING) | TO(STOPPED) | TO(STOPPING),
    [INST_RUNNING] = TO(FREEZING) | TO(STOPPING) | TO(ERROR),
    [INST_FREEZING] = TO(FROZEN) | TO(RUNNING) | TO(STOPPING),
    [INST_FROZEN] = TO(THAWING) | TO(STOPPING) | TO(ERROR),
    [INST_THAWING] = TO(RUNNING) | TO(FROZEN) | TO(STOPPING),
    [INST_STOPPING] = TO(STOPPED) | TO(ERROR),
    [INST_ERROR] = TO(STOPPING),
};

static const struct {
    const char *name;
    int code;
} state_table[] = {
    [INST_STOPPED] = {"Stopped", 102},  [INST_STARTING] = {"Stopped", 102},
    [INST_RUNNING] = {"Running", 103},  [INST_FREEZING] = {"Freezing", 109},
    [INST_FROZEN] = {"Frozen", 110},    [INST_THAWING] = {"Frozen", 110},
    [INST_STOPPING] = {"Running", 103}, [INST_ERROR] = {"Error", 112},
};

bool
inst_may_move(InstState from, InstState to)
{
    return (inst_next[from] >> to & 1) != 0;
}

void
inst_move(Inst *inst, InstState to)
{
    g_assert(inst_may_move(inst->state, to)); /* N1 */
    inst->state = to;
    fiber_signal_all(&inst->changed);
}

const char *
inst_state_name(InstState state)
{
    return state_table[state].name;
}

int
inst_state_code(InstState state)
{
    return state_table[state].code;
}

/* ---- the table ---- */

InstTable *
inst_table_new(Agent *agent)
{
    InstTable *table = g_new0(InstTable, 1);
    table->agent = agent;
    table->by_key =
        g_hash_table_new_full(g_str_hash, g_str_equal, g_free, (GDestroyNotify) inst_unref);
    return table;
}

void
inst_table_free(InstTable *table)
{
    if (table == NULL) {
        return;
    }
    if (table->minute != 0) {
        g_source_remove(table->minute);
    }
    g_hash_table_unref(table->by_key);
    g_free(table);
}

bool
inst_table_start(InstTable *table, GError **error)
{
    if (!record_load_all(table, error)) {
        return haw_push(error, "Load instances");
    }
    if (!livedecide_load(table->agent, error)) {
        return haw_push(error, "Load moves");
    }
    lifecycle_adopt_all(table);
    journal_repair(table);
    discard_unfinished(table);
    snapshot_clear_unfinished(table);
    table->minute = g_timeout_add_seconds(60, snapshot_minute, table);
    livedecide_start(table);
    lifecycle_autostart(table);
    return true;
}

Inst *
inst_find(InstTable *table, const char *project, const char *name, GError **error)
{
    g_autofree char *key = g_strdup_printf("%s/%s", project, name);
    Inst *inst = g_hash_table_lookup(table->by_key, key);
    if (inst == NULL) {
        haw_fail(error, HAW_NOT_FOUND, "Instance not found");
        return NULL;
    }
    return inst_ref(inst);
}

static int
by_project_and_name(const void *a, const void *b)
{
    const Inst *first = *(Inst *const *) a, *second = *(Inst *const *) b;
    int order = strcmp(first->project, second->project);
    return order != 0 ? order : strcmp(first->name, second->name);
}

GPtrArray *
inst_list(InstTable *table, const char *project)
{
    GPtrArray *list = g_ptr_array_new_with_free_func((GDestroyNotify) inst_unref);
    GHashTableIter iter;
    Inst *inst;
    g_hash_table_iter_init(&iter, table->by_key);
    while (g_hash_table_iter_next(&iter, NULL, (void **) &inst)) {
        if (project == NULL || strcmp(inst->project, project) == 0) {
            g_ptr_array_add(list, inst_ref(inst));
        }
    }
    g_ptr_array_sort(list, by_project_and_name);
    return list;
}

Inst *
inst_ref(Inst *inst)
{
    inst->refs++;
    return inst;
}

void
inst_unref(Inst *inst)
{
    if (inst == NULL || --inst->refs > 0) {
        return;
    }
    lifecycle_forget(inst);
    g_free(inst->project);
    g_free(inst->name);
    g_free(inst->type);
    g_free(inst->architecture);
    g_free(inst->description);
    g_free(inst->object);
    g_free(inst->root_pool);
    json_decref(inst->config);
    json_decref(inst->devices);
    json_decref(inst->profiles);
    json_decref(inst->base_config);
    json_decref(inst->base_devices);
    json_decref(inst->expanded_config);
    json_decref(inst->expanded_devices);
    show_forget(inst->shown);
    g_free(inst);
}

FiberHold
inst_hold(Inst *inst, const char *doing, GError **error)
{
    fiber_lock(&inst->queue);
    if (inst->deleted) { /* N3 */
        fiber_unlock(&inst->queue);
        haw_fail(error, HAW_NOT_FOUND, "Instance not found");
        return NULL;
    }
    if (inst->unfinished && strcmp(doing, "create") != 0) {
        fiber_unlock(&inst->queue);
        haw_fail(error, HAW_BUSY, "Instance is busy running a \"create\" operation");
        return NULL;
    }
    inst->doing = doing;
    return &inst->queue;
}

void
inst_lifecycle(Inst *inst, const Caller *caller, const char *action)
{
    event_lifecycle(inst->agent, inst->project, caller, NULL, action, "/1.0/instances/%s",
                    inst->name);
}

/* ---- what others ask ---- */

const char *
inst_name(Inst *inst)
{
    return inst->name;
}

const char *
inst_project(Inst *inst)
{
    return inst->project;
}

const char *
inst_type(Inst *inst)
{
    return inst->type;
}

gint64
inst_id(Inst *inst)
{
    return inst->id;
}

InstState
inst_state(Inst *inst)
{
    return inst->state;
}

pid_t
inst_pid(Inst *inst)
{
    return inst->state == INST_RUNNING || inst->state == INST_FROZEN ? inst->pid : 0;
}

json_t *
inst_config(Inst *inst)
{
    return inst->config;
}

json_t *
inst_profiles(Inst *inst)
{
    return inst->profiles;
}

json_t *
inst_devices(Inst *inst)
{
    return inst->devices;
}

json_t *
inst_expanded_config(Inst *inst)
{
    return inst->expanded_config;
}

json_t *
inst_expanded_devices(Inst *inst)
{
    return inst->expanded_devices;
}

const char *
inst_get(Inst *inst, const char *key)
{
    const char *value = json_string_value(json_object_get(inst->expanded_config, key));
    return value != NULL && *value != '\0' ? value : NULL;
}

bool
inst_get_bool(Inst *inst, const char *key, bool fallback)
{
    const char *value = inst_get(inst, key);
    return value != NULL ? grammar_parse_bool(value, fallback) : fallback;
}

bool
inst_volume(Inst *inst, Vol *ret_vol, GError **error)
{
    const char *name;
    json_t *device;
    json_object_foreach (inst->expanded_devices, name, device) {
        const char *type = json_string_value(json_object_get(device, "type"));
        const char *path = json_string_value(json_object_get(device, "path"));
        const char *pool = json_string_value(json_object_get(device, "pool"));
        if (g_strcmp0(type, "disk") == 0 && g_strcmp0(path, "/") == 0 && pool != NULL) {
            if (g_strcmp0(inst->root_pool, pool) != 0) {
                g_free(inst->root_pool);
                inst->root_pool = g_strdup(pool);
            }
            *ret_vol = (Vol){.pool = inst->root_pool,
                             .project = inst->project,
                             .type = strcmp(inst->type, "container") == 0 ? VOL_CONTAINER : VOL_VM,
                             .name = inst->name};
            return true;
        }
    }
    return haw_fail(error, HAW_FAILED, "No root device could be found");
}

char *
inst_log_dir(Inst *inst)
{
    return agent_path(inst->agent, "logs/%s", inst->object);
}

char *
inst_run_dir(Inst *inst)
{
    return agent_path(inst->agent, "run/%s", inst->object);
}

FiberLock *
inst_queue(Inst *inst)
{
    return &inst->queue;
}

/* ---- users of a thing ---- */

static void
used_by_add(json_t *urls, const char *kind, const char *project, const char *name)
{
    bool plain = strcmp(project, "default") == 0;
    g_autofree char *url = g_strdup_printf("/1.0/%s/%s%s%s", kind, name,
                                           plain ? "" : "?project=", plain ? "" : project);
    json_array_append_new(urls, json_string(url));
}

static bool
profiles_tx(DbTx *tx, void *data, GError **error)
{
    GPtrArray **list = data;
    *list = inst_rows_load_profiles(tx, error);
    return *list != NULL;
}

json_t *
inst_used_by(InstTable *table, InstUses uses, void *data)
{
    json_t *urls = json_array();
    g_autoptr(GPtrArray) profiles = NULL;
    g_autoptr(GError) error = NULL;
    if (!db_read(table->agent->db, profiles_tx, &profiles, &error)) {
        haw_warn("inst.used_by", KS("why", error->message));
    }
    g_autoptr(GPtrArray) list = inst_list(table, NULL);
    for (guint i = 0; i < list->len; i++) {
        Inst *inst = list->pdata[i];
        if (uses(inst->project, inst->expanded_config, inst->expanded_devices, data)) {
            used_by_add(urls, "instances", inst->project, inst->name);
        }
    }
    for (guint i = 0; profiles != NULL && i < profiles->len; i++) {
        ProfileRow *profile = profiles->pdata[i];
        if (uses(profile->project, profile->config, profile->devices, data)) {
            used_by_add(urls, "profiles", profile->project, profile->name);
        }
    }
    return urls;
}
