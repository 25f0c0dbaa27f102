/* New instances.
 * V1  The row comes first, marked unfinished, then the volume, then the mark goes: a crash between
 *     leaves a row by which the next start removes the volume and itself (adopt.c).
 * V2  What POST, PUT and PATCH accept is decided here, in create_check(), for all of them.
 * Called by api/instances.c in an operation's fiber. */
#include "agent/inst/create.h"
#include "agent/auth/project.h"
#include "agent/auth/restrict.h"
#include "agent/image/image.h"
#include "agent/inst/backupfile.h"
#include "agent/inst/discard.h"
#include "agent/inst/instdriver.h"
#include "agent/inst/intercept.h"
#include "agent/inst/lxcconf.h"
#include "agent/inst/plug.h"
#include "base/clock.h"
#include "base/crash.h"
#include "base/ids.h"
#include "base/log.h"
#include "proto/keys.h"

#include <string.h>

/* ---- V2 ---- */

static bool
is_vm(const char *type)
{
    return strcmp(type, "virtual-machine") == 0;
}

/* Whether there is a map for it at all; which ids an isolated instance gets is chosen at its start. */
static bool
check_idmap(json_t *expanded, GError **error)
{
    IdmapRange host = idmap_host_range("/etc/subuid", "/etc/subgid", "/proc/self/uid_map");
    g_autoptr(GArray) chosen = idmap_choose(expanded, host, NULL, error);
    return chosen != NULL;
}

static bool
check_config(const char *type, json_t *config, json_t *expanded, GError **error)
{
    const char *raw_lxc = keys_get(expanded, "raw.lxc");
    json_auto_t *mounts = intercept_mounts(expanded, error);
    return mounts != NULL && keys_check_all(keys_instance, config, error) &&
           keys_check_instance_type(config, type, error) &&
           keys_check_instance_rules(expanded, error) &&
           restrict_unprivileged_only(expanded, error) &&
           (raw_lxc == NULL || lxcconf_check_raw(raw_lxc, error)) &&
           (is_vm(type) || check_idmap(expanded, error));
}

static bool
check_expanded(Agent *agent, const char *project, const char *name, const char *type, Inst *inst,
               json_t *config, json_t *devices, json_t *x_config, json_t *x_devices, GError **error)
{
    const char *root;
    if (!check_config(type, config, x_config, error)) {
        haw_recode(error, HAW_FAILED);
        return haw_push(error, "Invalid config");
    }
    if (!plug_validate(agent, project, name, type, inst, config, x_devices, devices, error) ||
        plug_root(x_devices, &root, error) == NULL) {
        return haw_push(error, "Invalid devices");
    }
    json_t *whole = json_pack("{s:s,s:s,s:O,s:O}", "name", name, "type", type, "config", x_config,
                              "devices", x_devices);
    bool ok = project_allow_instance(agent, project, whole, error);
    json_decref(whole);
    return ok ||
           (inst != NULL ? haw_push(error, "Failed checking if instance update allowed") : false);
}

bool
create_check(Agent *agent, const char *project, const char *name, const char *type, Inst *inst,
             json_t *profiles, json_t *config, json_t *devices, GError **error)
{
    json_t *x_config, *x_devices;
    if (!record_expand(agent, project, profiles, config, devices, &x_config, &x_devices, error)) {
        return false;
    }
    bool ok = check_expanded(agent, project, name, type, inst, config, devices, x_config, x_devices,
                             error);
    json_decref(x_config);
    json_decref(x_devices);
    return ok;
}

/* ---- the row ---- */

/* A root disk on the only pool, when neither profiles nor the request bring one. */
static bool
add_root(Agent *agent, InstRow *row, GError **error)
{
    json_t *x_config, *x_devices;
    const char *name;
    g_autoptr(GError) none = NULL;
    if (!record_expand(agent, row->project, row->profiles, row->config, row->devices, &x_config,
                       &x_devices, error)) {
        return false;
    }
    g_autofree char *pool = pool_only(agent->pools);
    if (plug_root(x_devices, &name, &none) == NULL && pool != NULL &&
        json_object_get(x_devices, "root") == NULL) {
        json_object_set_new(row->devices, "root",
                            json_pack("{s:s,s:s,s:s}", "type", "disk", "path", "/", "pool", pool));
    }
    json_decref(x_config);
    json_decref(x_devices);
    return true;
}

/* MAC addresses of NICs that have none, so that they are known before the first start. */
void
create_add_hwaddrs(json_t *config, json_t *x_devices)
{
    const char *name;
    json_t *device;
    json_object_foreach (x_devices, name, device) {
        const char *nictype = keys_get(device, "nictype");
        g_autofree char *key = g_strdup_printf("volatile.%s.hwaddr", name);
        if (g_strcmp0(keys_get(device, "type"), "nic") == 0 && keys_get(device, "hwaddr") == NULL &&
            g_strcmp0(nictype, "physical") != 0 && g_strcmp0(nictype, "ipvlan") != 0 &&
            keys_get(config, key) == NULL) {
            g_autofree char *hwaddr = ids_hwaddr();
            json_object_set_new(config, key, json_string(hwaddr));
        }
    }
}

static void
add_volatile(json_t *config, const char *type)
{
    g_autofree char *uuid = ids_uuid(), *cloud = ids_uuid();
    if (keys_get(config, "volatile.uuid") == NULL) { /* a move to another pool brings its own */
        json_object_set_new(config, "volatile.uuid", json_string(uuid));
    }
    json_object_set_new(config, "volatile.uuid.generation", json_string(uuid));
    json_object_set_new(config, "volatile.cloud-init.instance-id", json_string(cloud));
    json_object_set_new(config, CREATE_UNFINISHED, json_string("true"));
    if (is_vm(type)) {
        return;
    }
    if (keys_get(config, "volatile.last_state.idmap") == NULL) {
        json_object_set_new(config, "volatile.last_state.idmap", json_string("[]"));
    }
    json_object_set_new(config, "volatile.idmap.base", json_string("0"));
    json_object_set_new(config, "volatile.idmap.next", json_string("[]"));
}

static bool
complete_row(Agent *agent, InstRow *row, GError **error)
{
    json_t *x_config, *x_devices;
    if (!record_expand(agent, row->project, row->profiles, row->config, row->devices, &x_config,
                       &x_devices, error)) {
        return false;
    }
    bool ok = check_expanded(agent, row->project, row->name, row->type, NULL, row->config,
                             row->devices, x_config, x_devices, error);
    if (ok) {
        add_volatile(row->config, row->type);
        create_add_hwaddrs(row->config, x_devices);
        row->created_at = clock_real_us();
    }
    json_decref(x_config);
    json_decref(x_devices);
    return ok;
}

Inst *
create_record(Agent *agent, InstRow **row, bool find_root, GError **error)
{
    g_autoptr(InstRow) own = g_steal_pointer(row);
    Inst *inst = NULL;
    g_auto(FiberHold) limits = project_hold(agent, own->project);
    if ((!find_root || add_root(agent, own, error)) && complete_row(agent, own, error)) {
        crash_point("create");
        inst = record_create(agent->instances, &own, error);
    }
    if (inst == NULL) {
        haw_push(error, "Failed creating instance record");
        return NULL;
    }
    inst->unfinished = true;
    inst->driver = driver_of_type(inst->type);
    crash_point("create");
    return inst;
}

void
create_abort(Inst *inst)
{
    g_autoptr(GError) error = NULL;
    g_auto(FiberHold) hold = inst_hold(inst, "create", NULL);
    if (hold != NULL && !discard_instance(inst, &error)) {
        haw_warn("inst.create_undo", KS("inst", inst->name), KS("why", error->message));
    }
}

bool
create_finish(Inst *inst, const char *trigger, GError **error)
{
    json_t *changes = json_object();
    json_object_set_new(changes, CREATE_UNFINISHED, json_null());
    json_object_set_new(changes, "volatile.apply_template", json_string(trigger));
    crash_point("create");
    if (!inst_set_config(inst, changes, error) || !plug_settle_all(inst, error)) {
        return false;
    }
    crash_point("create");
    inst->unfinished = false;
    backupfile_store(inst);
    return true;
}

bool
create_renamed(Inst *inst, GError **error)
{
    const char *due = keys_get(inst->config, "volatile.apply_template");
    g_autofree char *uuid = ids_uuid();
    return inst_set_config(inst,
                           json_pack("{s:s,s:s}", "volatile.apply_template",
                                     due != NULL && *due != '\0' ? due : "rename",
                                     "volatile.cloud-init.instance-id", uuid),
                           error);
}

/* ---- contents ---- */

json_t *
create_volume_config(Inst *inst)
{
    const char *name;
    json_t *config = json_object();
    json_t *root = plug_root(inst->expanded_devices, &name, NULL);
    const char *size = root != NULL ? keys_get(root, "size") : NULL;
    if (size != NULL) {
        json_object_set_new(config, "size", json_string(size));
    }
    return config;
}

struct fill {
    Agent *agent;
    Operation *op;
    const char *fingerprint;
};

static bool
fill_from_image(const char *path, void *data, GError **error)
{
    struct fill *fill = data;
    crash_point("create");
    return image_unpack(fill->agent->images, fill->op, fill->fingerprint, path, error);
}

bool
create_from_image(Inst *inst, Operation *op, const char *fingerprint, GError **error)
{
    struct fill fill = {inst->agent, op, fingerprint};
    Vol vol;
    json_t *config = create_volume_config(inst);
    bool ok = inst_volume(inst, &vol, error) &&
              vol_create_from_image(inst->agent->pools, &vol, fingerprint, config, fill_from_image,
                                    &fill, error);
    json_decref(config);
    if (!ok) {
        return haw_push(error, "Failed creating instance from image");
    }
    image_touch(inst->agent->images, inst->project, fingerprint);
    return create_finish(inst, "create", error);
}

static bool
fill_empty(const char *path, void *data, GError **error)
{
    g_autofree char *rootfs = g_strdup_printf("%s/rootfs", path);
    return g_mkdir_with_parents(rootfs, 0755) == 0 || haw_fail(error, HAW_IO, "Make '%s'", rootfs);
}

bool
create_empty(Inst *inst, GError **error)
{
    Vol vol;
    json_t *config = create_volume_config(inst);
    bool ok = inst_volume(inst, &vol, error) &&
              vol_create(inst->agent->pools, &vol, config, is_vm(inst->type) ? NULL : fill_empty,
                         NULL, error);
    json_decref(config);
    return ok ? create_finish(inst, "create", error) : haw_push(error, "Failed creating instance");
}
