/* From one set of devices to another, on an instance that runs or does not.
 * D4  On a running instance a device that changed is updated in place when its owner can do that,
 *     else taken out and put in again; what can't be hotplugged is an error.
 * Called by change.c; main loop, inside fibers. */
#include "agent/inst/plugpart.h"

#include "agent/inst/device.h"
#include "agent/inst/instdriver.h"

bool
plugpart_hot_add_vm(Inst *inst, const struct plugpart *entry, json_t *changes, GError **error)
{
    json_t *items = json_array();
    bool started = plugpart_start_vm_device(inst, entry, changes, items, error);
    json_t *item = json_array_get(items, 0);
    bool ok = started && (item == NULL || inst->driver->plug(inst, item, error));
    json_decref(items);
    if (started && !ok) {
        plugpart_stop_one(inst, entry, changes);
    }
    return ok;
}

bool
plugpart_hot_remove_vm(Inst *inst, const struct plugpart *entry, json_t *changes, GError **error)
{
    if (!inst->driver->unplug(inst, entry->name, entry->config, error)) {
        return false;
    }
    plugpart_stop_one(inst, entry, changes);
    return true;
}

static bool
hot_add(Inst *inst, const struct plugpart *entry, json_t *changes, GError **error)
{
    bool ok;
    if (plugpart_is_type(entry->config, "nic") && inst_pid(inst) == 0) {
        return plugpart_settle_nic(inst, entry, changes, error);
    }
    if (plugpart_is_type(entry->config, "none") || inst_pid(inst) == 0 ||
        plug_is_root(entry->config) || plugpart_misfit(entry, inst->type)) {
        return true;
    }
    if (inst->driver->plug != NULL) {
        Device device = {inst, entry->name, entry->config};
        ok = plugpart_is_type(entry->config, "nic") || device_can_hotplug(&device)
                 ? plugpart_hot_add_vm(inst, entry, changes, error)
                 : haw_fail(error, HAW_FAILED, "Device cannot be started when instance is running");
    } else if (plugpart_is_type(entry->config, "nic")) {
        json_t *volatiles = plugpart_volatiles_of(inst, changes, entry->name);
        Nic nic = plugpart_nic_of(inst, entry->name, entry->config, volatiles);
        ok = nic_hotplug(inst->agent->networks, &nic, inst->pid, error);
        plugpart_merge_changes(changes, inst, entry->name, volatiles);
        json_decref(volatiles);
    } else {
        Device device = {inst, entry->name, entry->config};
        ok = device_can_hotplug(&device)
                 ? device_hotplug(inst->agent, &device, error)
                 : haw_fail(error, HAW_FAILED, "Device cannot be started when instance is running");
    }
    return ok || haw_push(error, "Failed to start device \"%s\"", entry->name);
}

static bool
hot_remove(Inst *inst, const struct plugpart *entry, json_t *changes, GError **error)
{
    bool ok = true;
    bool vm = inst->driver != NULL && inst->driver->unplug != NULL;
    if (vm && inst_pid(inst) != 0 && !plugpart_is_type(entry->config, "none") &&
        !plug_is_root(entry->config)) {
        Device device = {inst, entry->name, entry->config};
        ok = plugpart_is_type(entry->config, "nic") || device_can_hotplug(&device)
                 ? plugpart_hot_remove_vm(inst, entry, changes, error)
                 : haw_fail(error, HAW_FAILED, "Device cannot be stopped when instance is running");
    } else if (plugpart_is_type(entry->config, "nic") && inst_pid(inst) != 0) {
        json_t *volatiles = plugpart_volatiles_of(inst, changes, entry->name);
        Nic nic = plugpart_nic_of(inst, entry->name, entry->config, volatiles);
        ok = nic_hotunplug(inst->agent->networks, &nic, inst->pid, error);
        plugpart_merge_changes(changes, inst, entry->name, volatiles);
        json_decref(volatiles);
    } else if (inst_pid(inst) != 0 && !plugpart_is_type(entry->config, "none") &&
               !plug_is_root(entry->config)) { /* the root disk may come from another profile */
        Device device = {inst, entry->name, entry->config};
        ok = device_can_hotplug(&device)
                 ? device_hotunplug(inst->agent, &device, error)
                 : haw_fail(error, HAW_FAILED, "Device cannot be stopped when instance is running");
    }
    return ok || haw_push(error, "Failed to stop device \"%s\"", entry->name);
}

/* Volatile keys of a device that is gone, or became another type. */
static void
drop_volatiles(Inst *inst, json_t *changes, const char *name)
{
    json_t *nothing = json_object();
    plugpart_merge_changes(changes, inst, name, nothing);
    json_decref(nothing);
}

/* Volatile keys that the device now says itself: its MAC, say. */
static void
drop_replaced(Inst *inst, json_t *changes, const char *name, json_t *device)
{
    json_t *volatiles = plugpart_volatiles_of(inst, changes, name);
    const char *key;
    json_t *value;
    json_object_foreach (device, key, value) {
        json_object_del(volatiles, key);
    }
    plugpart_merge_changes(changes, inst, name, volatiles);
    json_decref(volatiles);
}

static bool
nic_only_live(Inst *inst, const char *name, json_t *from, json_t *to)
{
    Nic nic = plugpart_nic_of(inst, name, to, NULL);
    json_t *both = json_copy(from);
    json_object_update(both, to);
    const char *key;
    json_t *value;
    bool live = true;
    json_object_foreach (both, key, value) {
        json_t *a = json_object_get(from, key), *b = json_object_get(to, key);
        if ((a == NULL || b == NULL || !json_equal(a, b)) &&
            !nic_can_update_live(inst->agent->networks, &nic, key)) {
            live = false;
        }
    }
    json_decref(both);
    return live;
}

/* *ret_done: changed without being taken out. */
static bool
update_in_place(Inst *inst, const char *name, json_t *from, json_t *to, json_t *changes,
                bool *ret_done, GError **error)
{
    *ret_done = false;
    if (plugpart_is_type(from, "none") && plugpart_is_type(to, "none")) {
        *ret_done = true;
        return true;
    }
    if (!json_equal(json_object_get(from, "type"), json_object_get(to, "type"))) {
        return true;
    }
    if (!plugpart_is_type(to, "nic")) {
        Device device = {inst, name, to};
        return device_update(inst->agent, &device, from, ret_done, error);
    }
    if (!nic_only_live(inst, name, from, to)) {
        return true;
    }
    json_t *volatiles = plugpart_volatiles_of(inst, changes, name);
    Nic nic = plugpart_nic_of(inst, name, to, volatiles);
    bool ok = nic_update(inst->agent->networks, &nic, from, error);
    plugpart_merge_changes(changes, inst, name, volatiles);
    json_decref(volatiles);
    *ret_done = ok;
    return ok;
}

static bool
change_one(Inst *inst, const char *name, json_t *from, json_t *to, json_t *changes, GError **error)
{
    bool done = false;
    if (json_equal(from, to)) {
        return true;
    }
    if (inst_pid(inst) != 0 && !update_in_place(inst, name, from, to, changes, &done, error)) {
        return haw_push(error, "Failed to update device \"%s\"", name);
    }
    if (done || plug_is_root(to)) {
        return true;
    }
    struct plugpart old = {name, from}, new = {name, to};
    if (!hot_remove(inst, &old, changes, error)) {
        return false;
    }
    if (plugpart_is_type(from, "nic")) {
        plugpart_forget_nic(inst, &old);
    }
    if (!json_equal(json_object_get(from, "type"), json_object_get(to, "type")) ||
        g_strcmp0(json_string_value(json_object_get(from, "nictype")),
                  json_string_value(json_object_get(to, "nictype"))) != 0) {
        drop_volatiles(inst, changes, name);
    } else {
        drop_replaced(inst, changes, name, to);
    }
    return hot_add(inst, &new, changes, error);
}

bool
plug_change(Inst *inst, json_t *from, json_t *to, json_t *changes, GError **error)
{
    g_autoptr(GArray) old = plugpart_in_order(from), new = plugpart_in_order(to);
    for (guint i = old->len; i > 0; i--) {
        const struct plugpart *entry = &g_array_index(old, struct plugpart, i - 1);
        if (json_object_get(to, entry->name) == NULL) {
            if (!hot_remove(inst, entry, changes, error)) {
                return false;
            }
            if (plugpart_is_type(entry->config, "nic")) {
                plugpart_forget_nic(inst, entry);
            }
            drop_volatiles(inst, changes, entry->name);
        }
    }
    for (guint i = 0; i < new->len; i++) {
        const struct plugpart *entry = &g_array_index(new, struct plugpart, i);
        json_t *before = json_object_get(from, entry->name);
        bool ok = before == NULL
                      ? hot_add(inst, entry, changes, error)
                      : change_one(inst, entry->name, before, entry->config, changes, error);
        if (!ok) {
            return false;
        }
    }
    return true;
}
