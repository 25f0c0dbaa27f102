/* Devices of an instance: which module has each, and in which order.
 * D1  Start order: NICs by name; the root disk, other disks by path; then the rest by type, Z first,
 *     then name. Stop is the reverse.
 * D2  All are validated before the first one starts.
 * D3  Stopping repeats safely: it is the undo of a start that failed or was cut short.
 * What a change of the set means is in plugchange.c.
 * Called by start.c, lifecycle.c and change.c; main loop, inside fibers. */
#include "agent/inst/plug.h"
#include "agent/inst/device.h"
#include "agent/inst/instdriver.h"
#include "agent/inst/plugpart.h"
#include "base/fd.h"
#include "base/log.h"
#include "proto/grammar.h"
#include "proto/keys.h"

#include <string.h>
#include <unistd.h>

bool
plugpart_is_type(json_t *device, const char *type)
{
    return g_strcmp0(json_string_value(json_object_get(device, "type")), type) == 0;
}

bool
plug_is_root(json_t *device)
{
    return plugpart_is_type(device, "disk") &&
           g_strcmp0(json_string_value(json_object_get(device, "path")), "/") == 0 &&
           keys_get(device, "source") == NULL;
}

json_t *
plug_root(json_t *devices, const char **ret_name, GError **error)
{
    const char *name;
    json_t *device, *root = NULL;
    json_object_foreach (devices, name, device) {
        if (!plug_is_root(device)) {
            continue;
        }
        if (root != NULL) {
            haw_fail(error, HAW_FAILED, "More than one root device found");
            return NULL;
        }
        root = device;
        *ret_name = name;
    }
    if (root == NULL) {
        haw_fail(error, HAW_FAILED, "No root device could be found");
    }
    return root;
}

json_t *
plug_root_on_pool(json_t *devices, json_t *expanded, const char *pool, GError **error)
{
    const char *name;
    json_t *all = json_copy(devices);
    json_t *root = plug_root(expanded, &name, error);
    if (root == NULL) {
        json_decref(all);
        return NULL;
    }
    json_t *moved = json_copy(root);
    json_object_set_new(moved, "pool", json_string(pool));
    json_object_set_new(all, name, moved);
    return all;
}

/* D1 as a number, then text. */
static int
rank(json_t *device)
{
    if (plugpart_is_type(device, "nic")) {
        return 0;
    }
    if (plugpart_is_type(device, "disk")) {
        return plug_is_root(device) ? 1 : 2;
    }
    return 3;
}

static int
by_start_order(const void *a, const void *b)
{
    const struct plugpart *x = a, *y = b;
    int order = rank(x->config) - rank(y->config);
    if (order == 0 && rank(x->config) == 2) {
        order = g_strcmp0(json_string_value(json_object_get(x->config, "path")),
                          json_string_value(json_object_get(y->config, "path")));
    }
    if (order == 0 && rank(x->config) == 3) {
        order = -g_strcmp0(json_string_value(json_object_get(x->config, "type")),
                           json_string_value(json_object_get(y->config, "type")));
    }
    return order != 0 ? order : strcmp(x->name, y->name);
}

GArray *
plugpart_in_order(json_t *devices)
{
    GArray *list = g_array_new(FALSE, FALSE, sizeof(struct plugpart));
    const char *name;
    json_t *config;
    json_object_foreach (devices, name, config) {
        struct plugpart entry = {name, config};
        g_array_append_val(list, entry);
    }
    g_array_sort(list, by_start_order);
    return list;
}

bool
plugpart_each(Inst *inst, bool (*wants)(json_t *device),
              bool (*act)(Inst *inst, const struct plugpart *entry, GError **error), GError **error)
{
    json_auto_t *devices = json_incref(inst->expanded_devices);
    g_autoptr(GArray) list = plugpart_in_order(devices);
    bool ok = true;
    for (guint i = 0; ok && i < list->len; i++) {
        const struct plugpart *entry = &g_array_index(list, struct plugpart, i);
        ok = !wants(entry->config) || act(inst, entry, error);
    }
    return ok;
}

/* Of a profile that is for both kinds of instances. */
bool
plugpart_misfit(const struct plugpart *entry, const char *inst_type)
{
    Device device = {NULL, entry->name, entry->config};
    return inst_type != NULL && !device_fits(&device, inst_type);
}

/* ---- one device ---- */

Nic
plugpart_nic_of(Inst *inst, const char *name, json_t *config, json_t *volatiles)
{
    return (Nic){.project = inst->project,
                 .inst = inst->name,
                 .device = name,
                 .inst_type = inst->type,
                 .config = config,
                 .volatiles = volatiles,
                 .inst_id = inst->id};
}

void
plugpart_merge_changes(json_t *changes, Inst *inst, const char *name, json_t *volatiles)
{
    json_t *diff = record_volatile_diff(inst->config, name, volatiles);
    g_autofree char *prefix = g_strdup_printf("volatile.%s.", name);
    const char *key;
    json_t *value;
    void *next;
    /* 'volatiles' is all of it: an earlier change that was taken back is no change. */
    json_object_foreach_safe (changes, next, key, value) {
        if (g_str_has_prefix(key, prefix)) {
            json_object_del(changes, key);
        }
    }
    json_object_update(changes, diff);
    json_decref(diff);
}

/* What is stored and what this operation is about to store, together. */
json_t *
plugpart_volatiles_of(Inst *inst, json_t *changes, const char *name)
{
    json_t *config = record_merge(inst->config, changes);
    json_t *own = record_volatile_of(config, name);
    json_decref(config);
    return own;
}

static void
take_nic_items(json_t *items, json_t *block, int index)
{
    g_autofree char *number = g_strdup_printf("%d", index);
    const char *key;
    json_t *value;
    json_object_foreach (block, key, value) {
        g_auto(GStrv) parts = g_strsplit(key, "%d", 2);
        g_autofree char *full = g_strjoinv(number, parts);
        size_t many = json_is_array(value) ? json_array_size(value) : 1;
        for (size_t i = 0; i < many; i++) {
            json_t *one = json_is_array(value) ? json_array_get(value, i) : value;
            json_array_append_new(items, json_pack("[s,O]", full, one));
        }
    }
}

struct starting {
    json_t *changes, *items;
    int nics; /* so far */
    int netns;
};

static bool
start_nic(Inst *inst, const struct plugpart *entry, struct starting *all, GError **error)
{
    json_t *changes = all->changes;
    json_t *volatiles = plugpart_volatiles_of(inst, changes, entry->name), *block = NULL;
    Nic nic = plugpart_nic_of(inst, entry->name, entry->config, volatiles);
    nic.netns = all->netns;
    bool ok = nic_start(inst->agent->networks, &nic, &block, error);
    plugpart_merge_changes(changes, inst, entry->name, volatiles);
    json_decref(volatiles);
    if (ok) {
        take_nic_items(all->items, block, all->nics++);
        json_decref(block);
    }
    return ok;
}

/* One object for all that the device gave: see vm/vmitem.h. */
static void
add_vm_item(json_t *items, const struct plugpart *entry, json_t *block /* an object */)
{
    json_t *item = json_pack("{s:s}", "device", entry->name);
    json_object_set(item, "type", json_object_get(entry->config, "type"));
    json_object_update(item, block);
    const char *boot = keys_get(entry->config, "boot.priority");
    if (boot != NULL || plug_is_root(entry->config)) {
        gint64 priority = boot != NULL ? g_ascii_strtoll(boot, NULL, 10) : 1;
        json_object_set_new(item, "boot", json_integer(priority));
    }
    json_array_append_new(items, item);
}

bool
plugpart_start_vm_device(Inst *inst, const struct plugpart *entry, json_t *changes, json_t *items,
                         GError **error)
{
    json_t *block = NULL;
    bool ok;
    if (plugpart_is_type(entry->config, "nic")) {
        json_t *volatiles = plugpart_volatiles_of(inst, changes, entry->name);
        Nic nic = plugpart_nic_of(inst, entry->name, entry->config, volatiles);
        ok = nic_start(inst->agent->networks, &nic, &block, error);
        plugpart_merge_changes(changes, inst, entry->name, volatiles);
        json_decref(volatiles);
    } else {
        Device device = {inst, entry->name, entry->config};
        ok = device_start_vm(inst->agent, &device, &block, error);
    }
    if (ok && block != NULL && json_object_size(block) > 0) {
        add_vm_item(items, entry, block);
    }
    json_decref(block);
    return ok;
}

static bool
start_one(Inst *inst, const struct plugpart *entry, struct starting *all, GError **error)
{
    bool ok;
    if (plugpart_misfit(entry, inst->type)) {
        return true;
    }
    if (inst->driver->plug != NULL) {
        ok = plugpart_is_type(entry->config, "none") ||
             plugpart_start_vm_device(inst, entry, all->changes, all->items, error);
        return ok || haw_push(error, "Failed to start device \"%s\"", entry->name);
    }
    if (plugpart_is_type(entry->config, "nic")) {
        ok = start_nic(inst, entry, all, error);
    } else if (plugpart_is_type(entry->config, "none")) {
        return true;
    } else { /* the root disk as well: its limits; the volume is start.c's */
        Device device = {.inst = inst,
                         .name = entry->name,
                         .config = entry->config,
                         .idmap = keys_get(all->changes, "volatile.idmap.next")};
        json_t *list = NULL;
        ok = device_start(inst->agent, &device, &list, error);
        if (ok) {
            json_array_extend(all->items, list);
            json_decref(list);
        }
    }
    return ok || haw_push(error, "Failed to start device \"%s\"", entry->name);
}

/* After a crash between the making of a link and the storing of its name: what nic.c noted. */
static void
recall_host_name(Inst *inst, const struct plugpart *entry, json_t *volatiles)
{
    g_autofree char *dir = inst_run_dir(inst);
    g_autofree char *path = g_strdup_printf("%s/nic.%s", dir, entry->name);
    g_autofree char *noted = fd_read_file(path, 64, NULL, NULL);
    const char *name = noted != NULL ? noted : keys_get(entry->config, "host_name");
    if (name == NULL || keys_get(volatiles, "host_name") != NULL || !grammar_ifname(name, NULL)) {
        return;
    }
    g_autofree char *link = g_strdup_printf("/sys/class/net/%s", name);
    if (access(link, F_OK) == 0) {
        json_object_set_new(volatiles, "host_name", json_string(name));
    }
}

void
plugpart_stop_one(Inst *inst, const struct plugpart *entry, json_t *changes)
{
    g_autoptr(GError) error = NULL;
    bool ok = true;
    if (plugpart_is_type(entry->config, "nic")) {
        json_t *volatiles = plugpart_volatiles_of(inst, changes, entry->name);
        recall_host_name(inst, entry, volatiles);
        Nic nic = plugpart_nic_of(inst, entry->name, entry->config, volatiles);
        ok = nic_stop(inst->agent->networks, &nic, &error);
        plugpart_merge_changes(changes, inst, entry->name, volatiles);
        json_decref(volatiles);
    } else if (!plugpart_is_type(entry->config, "none") && !plug_is_root(entry->config)) {
        Device device = {inst, entry->name, entry->config};
        ok = device_stop(inst->agent, &device, &error);
    }
    if (!ok) {
        haw_warn("inst.device_stop", KS("inst", inst->name), KS("device", entry->name),
                 KS("why", error->message));
    }
}

/* ---- all of them ---- */

static bool
validate_one(Agent *agent, const char *project, const char *name, const char *inst_type, Inst *inst,
             json_t *config, const struct plugpart *entry, GError **error)
{
    const char *type = json_string_value(json_object_get(entry->config, "type"));
    bool ok;
    if (type == NULL) {
        ok = haw_fail(error, HAW_FAILED, "Missing device type");
    } else if (strcmp(type, "nic") == 0) {
        json_t *volatiles = record_volatile_of(config, entry->name);
        Nic nic = {.project = project,
                   .inst = inst != NULL ? inst->name : name,
                   .device = entry->name,
                   .inst_type = inst_type,
                   .uuid = keys_get(config, "volatile.uuid"),
                   .config = entry->config,
                   .volatiles = volatiles,
                   .inst_id = inst != NULL ? inst->id : 0};
        ok = nic_validate(agent->networks, &nic, error);
        json_decref(volatiles);
    } else {
        Device device = {inst, entry->name, entry->config, inst_type};
        ok = device_validate(agent, project, &device, error);
    }
    return ok || haw_push(error, "Device validation failed for \"%s\"", entry->name);
}

/* All that is wrong is one error, of the first one's code. */
static void
add_reason(GError **first, GError **why)
{
    if (*first == NULL) {
        *first = g_steal_pointer(why);
        return;
    }
    g_autofree char *both = g_strdup_printf("%s; %s", (*first)->message, (*why)->message);
    g_free((*first)->message);
    (*first)->message = g_steal_pointer(&both);
}

bool
plug_validate(Agent *agent, const char *project, const char *name, const char *inst_type,
              Inst *inst, json_t *config, json_t *devices, json_t *local, GError **error)
{
    g_autoptr(GArray) list = plugpart_in_order(devices);
    GError *first = NULL;
    for (guint i = 0; i < list->len; i++) {
        const struct plugpart *entry = &g_array_index(list, struct plugpart, i);
        bool own = local == NULL || json_object_get(local, entry->name) != NULL;
        g_autoptr(GError) why = NULL;
        if ((own || !plugpart_misfit(entry, inst_type)) &&
            !validate_one(agent, project, name, inst_type, inst, config, entry, &why)) {
            add_reason(&first, &why);
        }
    }
    if (first != NULL) {
        g_propagate_error(error, first);
    }
    return first == NULL;
}

bool
plug_nics_inside(Inst *inst)
{
    json_t *devices = json_incref(inst->expanded_devices);
    g_autoptr(GArray) list = plugpart_in_order(devices);
    bool all = true;
    for (guint i = 0; all && i < list->len; i++) {
        const struct plugpart *entry = &g_array_index(list, struct plugpart, i);
        if (plugpart_is_type(entry->config, "nic") && !plugpart_misfit(entry, inst->type)) {
            json_t *volatiles = record_volatile_of(inst->config, entry->name);
            Nic nic = plugpart_nic_of(inst, entry->name, entry->config, volatiles);
            all = nic_can_start_inside(inst->agent->networks, &nic);
            json_decref(volatiles);
        }
    }
    json_decref(devices);
    return all;
}

bool
plug_start_all(Inst *inst, int netns, json_t *changes, json_t **ret_lxc, GError **error)
{
    json_t *devices = json_incref(inst->expanded_devices);
    g_autoptr(GArray) list = plugpart_in_order(devices);
    struct starting all = {.changes = changes, .items = json_array(), .netns = netns};
    bool ok = true;
    for (guint i = 0; ok && i < list->len; i++) {
        ok = start_one(inst, &g_array_index(list, struct plugpart, i), &all, error);
    }
    if (!ok) {
        json_decref(all.items);
        plug_stop_all(inst, changes);
    } else {
        *ret_lxc = all.items;
    }
    json_decref(devices);
    return ok;
}

bool
plug_post_start_all(Inst *inst, GError **error)
{
    json_t *devices = json_incref(inst->expanded_devices);
    g_autoptr(GArray) list = plugpart_in_order(devices);
    bool ok = true;
    for (guint i = 0; ok && i < list->len; i++) {
        const struct plugpart *entry = &g_array_index(list, struct plugpart, i);
        if (rank(entry->config) >= 2 && !plugpart_is_type(entry->config, "none")) {
            Device device = {inst, entry->name, entry->config};
            ok = device_post_start(inst->agent, &device, error) ||
                 haw_push(error, "Failed to start device \"%s\"", entry->name);
        }
    }
    json_decref(devices);
    return ok;
}

void
plug_adopt_all(Inst *inst)
{
    json_t *devices = json_incref(inst->expanded_devices);
    g_autoptr(GArray) list = plugpart_in_order(devices);
    for (guint i = 0; i < list->len; i++) {
        const struct plugpart *entry = &g_array_index(list, struct plugpart, i);
        if (!plugpart_is_type(entry->config, "nic")) {
            Device device = {inst, entry->name, entry->config};
            device_adopt(inst->agent, &device);
        }
    }
    json_decref(devices);
}

void
plug_stop_all(Inst *inst, json_t *changes)
{
    json_t *devices = json_incref(inst->expanded_devices);
    g_autoptr(GArray) list = plugpart_in_order(devices);
    for (guint i = list->len; i > 0; i--) {
        plugpart_stop_one(inst, &g_array_index(list, struct plugpart, i - 1), changes);
    }
    json_decref(devices);
}

/* ---- changes ---- */

/* A NIC of a stopped instance: its network reserves its addresses. */
bool
plugpart_settle_nic(Inst *inst, const struct plugpart *entry, json_t *changes, GError **error)
{
    json_t *volatiles = plugpart_volatiles_of(inst, changes, entry->name);
    Nic nic = plugpart_nic_of(inst, entry->name, entry->config, volatiles);
    bool ok = nic_update(inst->agent->networks, &nic, NULL, error);
    plugpart_merge_changes(changes, inst, entry->name, volatiles);
    json_decref(volatiles);
    return ok;
}

void
plugpart_forget_nic(Inst *inst, const struct plugpart *entry)
{
    g_autoptr(GError) error = NULL;
    json_t *volatiles = record_volatile_of(inst->config, entry->name);
    Nic nic = plugpart_nic_of(inst, entry->name, entry->config, volatiles);
    if (!nic_remove(inst->agent->networks, &nic, &error)) {
        haw_warn("inst.nic_remove", KS("inst", inst->name), KS("device", entry->name),
                 KS("why", error->message));
    }
    json_decref(volatiles);
}

bool
plug_settle_all(Inst *inst, GError **error)
{
    json_t *devices = json_incref(inst->expanded_devices), *changes = json_object();
    g_autoptr(GArray) list = plugpart_in_order(devices);
    bool ok = true;
    for (guint i = 0; ok && i < list->len; i++) {
        const struct plugpart *entry = &g_array_index(list, struct plugpart, i);
        ok = !plugpart_is_type(entry->config, "nic") ||
             plugpart_settle_nic(inst, entry, changes, error);
    }
    json_decref(devices);
    if (json_object_size(changes) == 0 || !ok) {
        json_decref(changes);
        return ok;
    }
    return inst_set_config(inst, changes, error);
}

void
plug_forget_all(Inst *inst)
{
    json_t *devices = json_incref(inst->expanded_devices);
    g_autoptr(GArray) list = plugpart_in_order(devices);
    for (guint i = 0; i < list->len; i++) {
        const struct plugpart *entry = &g_array_index(list, struct plugpart, i);
        if (plugpart_is_type(entry->config, "nic")) {
            plugpart_forget_nic(inst, entry);
        }
    }
    json_decref(devices);
}
