/* Changing what an instance is.
 * G1  Rows first, then the running container; a failure there puts rows and container back.
 * G2  The ids of the container are ours: a request may neither change nor drop their keys.
 * G3  cloud-init sees a new instance-id whenever what it is fed with changes.
 * G4  Another firmware needs its variables made anew at the next start.
 * Called by api/instances.c, and by profiles through inst_profile_changed(). Main loop. */
#include "agent/inst/change.h"
#include "agent/auth/project.h"
#include "agent/inst/backupfile.h"
#include "agent/inst/create.h"
#include "agent/inst/devlxd.h"
#include "agent/inst/inject.h"
#include "agent/inst/instbackup.h"
#include "agent/inst/instdriver.h"
#include "agent/inst/journal.h"
#include "agent/inst/limits.h"
#include "agent/inst/plug.h"
#include "agent/inst/rootsize.h"
#include "base/crash.h"
#include "base/fd.h"
#include "base/ids.h"
#include "proto/grammar.h"
#include "proto/keys.h"

#include <stdio.h>
#include <string.h>

/* G2. A client that leaves out what it can't know (the refresh of a copy does) keeps what is there;
 * only volatile.idmap.next has to come back, which shows that it was read. */
bool
change_keep_volatile(json_t *from, json_t *to, GError **error)
{
    static const struct {
        const char *name;
        bool fixed;
    } keys[] = {
        {"volatile.idmap.base", true},
        {"volatile.idmap.current", true},
        {"volatile.last_state.idmap", true},
        {"volatile.last_state.power", false},
        {"volatile.uuid", false},
        {"volatile.uuid.generation", false},
        {"volatile.apply_template", false},
        {"volatile.cloud-init.instance-id", false},
    };
    const char *next = keys_get(from, "volatile.idmap.next");
    if (next != NULL && keys_get(to, "volatile.idmap.next") == NULL) {
        return haw_fail(error, HAW_FAILED, "Volatile idmap keys can't be deleted by the user");
    }
    if (g_strcmp0(next, keys_get(to, "volatile.idmap.next")) != 0) {
        return haw_fail(error, HAW_FAILED, "Volatile idmap keys can't be changed by the user");
    }
    /* The refresh of a copy sends the addresses of the source. */
    const char *key;
    json_t *value;
    json_object_foreach (from, key, value) {
        if (g_str_has_prefix(key, "volatile.") && g_str_has_suffix(key, ".hwaddr")) {
            json_object_set(to, key, value);
        }
    }
    for (size_t i = 0; i < G_N_ELEMENTS(keys); i++) {
        const char *old = keys_get(from, keys[i].name), *new = keys_get(to, keys[i].name);
        if (old != NULL && new == NULL) {
            json_object_set_new(to, keys[i].name, json_string(old));
        } else if (keys[i].fixed && old == NULL) {
            json_object_del(to, keys[i].name);
        } else if (keys[i].fixed && g_strcmp0(old, new) != 0) {
            return haw_fail(error, HAW_FAILED, "Volatile idmap keys can't be changed by the user");
        }
    }
    return true;
}

/* The guest names of all NICs, in order, for G3. */
static char *
nic_names(json_t *config, json_t *devices)
{
    g_autoptr(GString) names = g_string_new(NULL);
    char *text = json_dumps(devices, JSON_SORT_KEYS);
    json_t *sorted = json_loads(text, 0, NULL), *device;
    const char *name;
    json_object_foreach (sorted, name, device) {
        g_autofree char *key = g_strdup_printf("volatile.%s.name", name);
        const char *guest = keys_get(device, "name");
        guest = guest != NULL ? guest : keys_get(config, key);
        if (g_strcmp0(keys_get(device, "type"), "nic") == 0) {
            g_string_append_printf(names, "%s ", guest != NULL ? guest : name);
        }
    }
    json_decref(sorted);
    free(text);
    return g_string_free(g_steal_pointer(&names), FALSE);
}

static bool
cloud_init_changed(json_t *from, json_t *to, json_t *from_devices, json_t *to_devices)
{
    static const char *const keys[] = {"cloud-init.user-data",      "cloud-init.vendor-data",
                                       "cloud-init.network-config", "user.user-data",
                                       "user.vendor-data",          "user.network-config"};
    for (size_t i = 0; i < G_N_ELEMENTS(keys); i++) {
        if (g_strcmp0(keys_get(from, keys[i]), keys_get(to, keys[i])) != 0) {
            return true;
        }
    }
    g_autofree char *old = nic_names(to, from_devices), *new = nic_names(to, to_devices);
    return strcmp(old, new) != 0;
}

static bool
check_root_pool(json_t *from, json_t *to, GError **error)
{
    const char *name;
    json_t *old = plug_root(from, &name, NULL), *new = plug_root(to, &name, error);
    if (new == NULL) {
        return haw_push(error, "Invalid devices");
    }
    if (old != NULL && g_strcmp0(keys_get(old, "pool"), keys_get(new, "pool")) != 0) {
        const char *pool = keys_get(new, "pool");
        return haw_fail(error, HAW_FAILED,
                        "Cannot update root disk device pool name to \"%s\": it can only be "
                        "changed through move",
                        pool != NULL ? pool : "");
    }
    return true;
}

/* security.devlxd: the socket's directory comes and goes. */
static bool
apply_devlxd(Inst *inst, json_t *from, json_t *to, GError **error)
{
    bool was = keys_get_bool(from, "security.devlxd", true);
    bool wanted = keys_get_bool(to, "security.devlxd", true);
    if (was == wanted || inst_pid(inst) <= 0 || inst->cgroup == NULL) {
        return true;
    }
    if (!wanted) {
        return inject_unmount(inst->agent, inst, "/dev/lxd", false, error);
    }
    g_autofree char *dir = agent_path(inst->agent, "devlxd");
    InjectMount mount = {.source = dir, .target = "/dev/lxd"};
    return fd_mkdir_p(dir, 0755, error) && inject_mount(inst->agent, inst, &mount, error);
}

/* The running container and the volume follow from one set of expanded maps to another. */
static bool
apply(Inst *inst, json_t *config, json_t *devices, GError **error)
{
    json_t *to_config = json_incref(inst->expanded_config);
    json_t *to_devices = json_incref(inst->expanded_devices), *changes = json_object();
    bool ok = plug_change(inst, devices, to_devices, changes, error) &&
              rootsize_change(inst, devices, to_devices, changes, error) &&
              apply_devlxd(inst, config, to_config, error) &&
              (inst_pid(inst) == 0 || inst->driver->change(inst, config, to_config, error));
    if (ok && inst->cgroup != NULL &&
        g_strcmp0(keys_get(config, "limits.cpu"), keys_get(to_config, "limits.cpu")) != 0) {
        g_free(limits_balance(inst->agent->instances, NULL));
    }
    ok = record_set_used(inst, changes, 0, ok ? error : NULL) && ok;
    json_decref(to_config);
    json_decref(to_devices);
    json_decref(changes);
    return ok;
}

/* G1. 'old' is what to go back to. */
static bool
apply_or_revert(Inst *inst, const InstRow *old, json_t *config, json_t *devices, GError **error)
{
    if (apply(inst, config, devices, error)) {
        return true;
    }
    json_t *failed_config = json_incref(inst->expanded_config);
    json_t *failed_devices = json_incref(inst->expanded_devices);
    if (record_update(inst, old, NULL)) {
        apply(inst, failed_config, failed_devices, NULL);
    }
    json_decref(failed_config);
    json_decref(failed_devices);
    return false;
}

static bool
firmware_changed(json_t *from, json_t *to)
{
    return keys_get_bool(from, "security.secureboot", true) !=
               keys_get_bool(to, "security.secureboot", true) ||
           keys_get_bool(from, "security.csm", false) != keys_get_bool(to, "security.csm", false);
}

static bool
update_held(Inst *inst, const InstRow *wanted, GError **error)
{
    json_t *x_config, *x_devices;
    if (!change_keep_volatile(inst->config, wanted->config, error) ||
        !project_allow_volatile(inst->agent, inst->project, inst->type, inst->name, inst->config,
                                wanted->config, error) ||
        !record_expand(inst->agent, inst->project, wanted->profiles, wanted->config,
                       wanted->devices, &x_config, &x_devices, error)) {
        return false;
    }
    g_auto(FiberHold) limits = project_hold(inst->agent, inst->project);
    bool ok = (inst_pid(inst) == 0 || inst->driver->may_change == NULL ||
               inst->driver->may_change(inst, inst->expanded_config, x_config, error)) &&
              check_root_pool(inst->expanded_devices, x_devices, error) &&
              create_check(inst->agent, inst->project, inst->name, inst->type, inst,
                           wanted->profiles, wanted->config, wanted->devices, error);
    if (ok && cloud_init_changed(inst->expanded_config, x_config, inst->expanded_devices,
                                 x_devices)) { /* G3 */
        g_autofree char *uuid = ids_uuid();
        json_object_set_new(wanted->config, "volatile.cloud-init.instance-id", json_string(uuid));
    }
    if (ok && firmware_changed(inst->expanded_config, x_config)) { /* G4 */
        json_object_set_new(wanted->config, "volatile.apply_nvram", json_string("true"));
    }
    create_add_hwaddrs(wanted->config, x_devices);
    json_decref(x_config);
    json_decref(x_devices);
    if (!ok) {
        return false;
    }
    g_autoptr(InstRow) old = record_row(inst);
    json_t *config = json_incref(inst->expanded_config);
    json_t *devices = json_incref(inst->expanded_devices);
    ok = record_update(inst, wanted, error);
    fiber_hold_done(&limits);
    ok = ok && apply_or_revert(inst, old, config, devices, error);
    if (ok && inst_pid(inst) > 0) {
        devlxd_changed(inst, config, devices);
    }
    json_decref(config);
    json_decref(devices);
    return ok;
}

bool
change_update(Inst *inst, const InstRow *wanted, const Caller *caller, GError **error)
{
    g_auto(FiberHold) hold = inst_hold(inst, "update", error);
    if (hold == NULL || !update_held(inst, wanted, error)) {
        return false;
    }
    backupfile_store(inst);
    inst_lifecycle(inst, caller, "instance-updated");
    return true;
}

/* ---- renaming ---- */

void
change_follow(Inst *inst, const char *old_name)
{
    g_autofree char *object = project_object_name(inst->project, old_name);
    g_autofree char *from = agent_path(inst->agent, "logs/%s", object), *to = inst_log_dir(inst);
    rename(from, to);
    instbackup_follow(inst->agent, object, inst->object);
}

static bool
rename_held(Inst *inst, const char *name, GError **error)
{
    Vol vol;
    g_autofree char *old_name = g_strdup(inst->name);
    if (!inst_volume(inst, &vol, error)) {
        return false;
    }
    char *note = journal_begin(inst, "instance-rename",
                               json_pack("{s:s,s:s}", "from", inst->name, "to", name), error);
    if (note == NULL) {
        return false;
    }
    crash_point("rename");
    plug_forget_all(inst);
    bool ok = vol_rename(inst->agent->pools, &vol, name, error);
    crash_point("rename");
    ok = ok && record_rename(inst, name, error);
    crash_point("rename");
    if (ok) {
        change_follow(inst, old_name);
    }
    crash_point("rename");
    journal_end(inst, note);
    if (ok) {
        ok = create_renamed(inst, error);
    }
    return plug_settle_all(inst, ok ? error : NULL) && ok;
}

bool
change_rename(Inst *inst, const char *name, const Caller *caller, GError **error)
{
    g_auto(FiberHold) hold = inst_hold(inst, "rename", error);
    if (hold == NULL) {
        return false;
    }
    if (inst->pid != 0 || inst->state != INST_STOPPED) {
        return haw_fail(error, HAW_CONFLICT, "Renaming of running instance not allowed");
    }
    g_autoptr(Inst) other = inst_find(inst->agent->instances, inst->project, name, NULL);
    if (other != NULL) {
        return haw_fail(error, HAW_EXISTS, "Name \"%s\" already in use", name);
    }
    if (!rename_held(inst, name, error)) {
        return haw_push(error, "Rename instance");
    }
    backupfile_store(inst);
    inst_lifecycle(inst, caller, "instance-renamed");
    return true;
}

/* ---- profiles ---- */

static bool
has_profile(json_t *profiles, const char *name)
{
    size_t i;
    json_t *item;
    json_array_foreach (profiles, i, item) {
        if (g_strcmp0(json_string_value(item), name) == 0) {
            return true;
        }
    }
    return false;
}

void
inst_profile_renamed(InstTable *table, const char *project, const char *profile,
                     const char *new_name)
{
    g_autoptr(GPtrArray) all = inst_list(table, NULL);
    for (guint i = 0; i < all->len; i++) {
        Inst *inst = all->pdata[i];
        if (inst->deleted || !has_profile(inst->profiles, profile) ||
            strcmp(project_for_profiles(table->agent, inst->project), project) != 0) {
            continue;
        }
        json_t *names = json_array(), *item;
        size_t at;
        json_array_foreach (inst->profiles, at, item) {
            bool same = g_strcmp0(json_string_value(item), profile) == 0;
            json_array_append_new(names, same ? json_string(new_name) : json_incref(item));
        }
        json_decref(inst->profiles);
        inst->profiles = names;
        backupfile_store(inst);
    }
}

static bool
follow_profile(Inst *inst, GError **error)
{
    g_auto(FiberHold) hold = inst_hold(inst, "update", error);
    if (hold == NULL) {
        return false;
    }
    json_t *config = json_incref(inst->expanded_config);
    json_t *devices = json_incref(inst->expanded_devices);
    const char *root;
    bool ok = record_refresh(inst, error);
    if (ok && plug_root(inst->expanded_devices, &root, error) == NULL) {
        ok = haw_push(error, "Invalid devices");
    }
    ok = ok && apply(inst, config, devices, error);
    if (ok && inst_pid(inst) > 0) {
        devlxd_changed(inst, config, devices);
    }
    json_decref(config);
    json_decref(devices);
    if (ok) {
        backupfile_store(inst);
    }
    return ok;
}

bool
inst_profile_changed(InstTable *table, const char *project, const char *profile, GError **error)
{
    g_autoptr(GPtrArray) all = inst_list(table, NULL);
    g_autoptr(GString) failures = g_string_new(NULL);
    for (guint i = 0; i < all->len; i++) {
        Inst *inst = all->pdata[i];
        g_autoptr(GError) local = NULL;
        if (inst->deleted || !has_profile(inst->profiles, profile) ||
            strcmp(project_for_profiles(table->agent, inst->project), project) != 0) {
            continue;
        }
        if (!follow_profile(inst, &local)) {
            g_string_append_printf(failures, "\n - Project: %s, Instance: %s: %s", inst->project,
                                   inst->name, local->message);
        }
    }
    if (failures->len > 0) {
        return haw_fail(error, HAW_FAILED,
                        "The following instances failed to update (profile change still saved):%s",
                        failures->str);
    }
    return true;
}
