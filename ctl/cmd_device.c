/* Devices of instances ('config device …') and of profiles ('profile device …'): the same verbs,
 * the row's entity tells whose. */
#include <stdio.h>
#include <string.h>

#include "ctl/cmd.h"
#include "ctl/entity.h"
#include "ctl/out.h"

typedef struct {
    const char *name;
    json_t *device; /* NULL: take it away */
} Put;

static bool
apply_put(json_t *object, void *data, GError **error)
{
    const Put *put = data;
    json_t *devices = json_object_get(object, "devices");
    if (!json_is_object(devices)) {
        devices = json_object();
        json_object_set_new(object, "devices", devices);
    }
    if (put->device != NULL) {
        json_object_set(devices, put->name, put->device);
        return true;
    }
    return json_object_del(devices, put->name) == 0 ||
           haw_fail(error, HAW_NOT_FOUND, "device '%s' doesn't exist", put->name);
}

/* What PUT takes of the object at 'path'. */
static const char *
writable_at(const char *path)
{
    return g_str_has_prefix(path, "/1.0/profiles/")
               ? "config description devices"
               : "architecture config devices ephemeral profiles stateful description";
}

bool
cmd_device_put(Ctl *ctl, Rest *rest, const char *path, const char *name, json_t *device,
               GError **error)
{
    Put put = {.name = name, .device = device};
    return entity_update(ctl, rest, path, writable_at(path), apply_put, &put, error);
}

static bool
fail_owner(Ctl *ctl, const EntityPick *pick, GError **error)
{
    return haw_push(error, "%s '%s'", ctl_row(ctl)->entity->what, pick->name);
}

/* The owner's object and the device of argument 1 in 'map' of it. */
static json_t *
load_device(Ctl *ctl, EntityPick *pick, const char *map, json_t **ret_device, GError **error)
{
    if (!entity_pick(ctl, ctl_row(ctl)->entity, pick, error)) {
        return NULL;
    }
    g_autoptr(json_t) object = rest_get(pick->rest, pick->path, error);
    if (object == NULL) {
        fail_owner(ctl, pick, error);
        return NULL;
    }
    *ret_device = json_object_get(json_object_get(object, map), ctl_arg(ctl, 1));
    return g_steal_pointer(&object);
}

bool
cmd_device_add(Ctl *ctl, GError **error)
{
    g_auto(EntityPick) pick = {0};
    json_t *existing = NULL;
    g_autoptr(json_t) device = json_object();
    g_autoptr(json_t) object = load_device(ctl, &pick, "devices", &existing, error);
    if (object == NULL) {
        return false;
    }
    if (existing != NULL) {
        haw_fail(error, HAW_EXISTS, "device '%s' already exists", ctl_arg(ctl, 1));
        return fail_owner(ctl, &pick, error);
    }
    if (!entity_parse_settings(ctl_args_from(ctl, 3), device, error)) {
        return false;
    }
    json_object_set_new(device, "type", json_string(ctl_arg(ctl, 2)));
    return cmd_device_put(ctl, pick.rest, pick.path, ctl_arg(ctl, 1), device, error) ||
           fail_owner(ctl, &pick, error);
}

bool
cmd_device_get(Ctl *ctl, GError **error)
{
    g_auto(EntityPick) pick = {0};
    json_t *device = NULL;
    g_autoptr(json_t) object = load_device(ctl, &pick, "devices", &device, error);
    if (object == NULL) {
        return false;
    }
    if (device == NULL) {
        haw_fail(error, HAW_NOT_FOUND, "device '%s' doesn't exist", ctl_arg(ctl, 1));
        return fail_owner(ctl, &pick, error);
    }
    puts(out_get(device, ctl_arg(ctl, 2)));
    return true;
}

/* Changes keys of one device; each empty value deletes. */
static bool
change_device(Ctl *ctl, json_t *settings, GError **error)
{
    g_auto(EntityPick) pick = {0};
    json_t *device = NULL;
    g_autoptr(json_t) object = load_device(ctl, &pick, "devices", &device, error);
    if (object == NULL) {
        return false;
    }
    if (device == NULL) {
        bool inherited =
            json_object_get(json_object_get(object, "expanded_devices"), ctl_arg(ctl, 1)) != NULL;
        haw_fail(error, HAW_NOT_FOUND,
                 inherited ? "device '%s' comes from a profile (change it there, or use 'hawser "
                             "config device override')"
                           : "device '%s' doesn't exist",
                 ctl_arg(ctl, 1));
        return fail_owner(ctl, &pick, error);
    }
    const char *key;
    json_t *value;
    json_object_foreach (settings, key, value) {
        if (*json_string_value(value) == '\0') {
            json_object_del(device, key);
        } else {
            json_object_set(device, key, value);
        }
    }
    return cmd_device_put(ctl, pick.rest, pick.path, ctl_arg(ctl, 1), device, error) ||
           fail_owner(ctl, &pick, error);
}

bool
cmd_device_set(Ctl *ctl, GError **error)
{
    g_autoptr(json_t) settings = json_object();
    return entity_parse_settings(ctl_args_from(ctl, 2), settings, error) &&
           change_device(ctl, settings, error);
}

bool
cmd_device_unset(Ctl *ctl, GError **error)
{
    g_autoptr(json_t) settings = json_pack("{ss}", ctl_arg(ctl, 2), "");
    return change_device(ctl, settings, error);
}

bool
cmd_device_list(Ctl *ctl, GError **error)
{
    g_auto(EntityPick) pick = {0};
    json_t *device;
    g_autoptr(json_t) object = NULL;
    if (!entity_pick(ctl, ctl_row(ctl)->entity, &pick, error)) {
        return false;
    }
    object = rest_get(pick.rest, pick.path, error);
    if (object == NULL) {
        return fail_owner(ctl, &pick, error);
    }
    const char *name;
    json_object_foreach (json_object_get(object, "devices"), name, device) {
        puts(name);
    }
    return true;
}

bool
cmd_device_show(Ctl *ctl, GError **error)
{
    g_auto(EntityPick) pick = {0};
    g_autoptr(json_t) object = NULL;
    if (!entity_pick(ctl, ctl_row(ctl)->entity, &pick, error)) {
        return false;
    }
    object = rest_get(pick.rest, pick.path, error);
    if (object == NULL) {
        return fail_owner(ctl, &pick, error);
    }
    out_yaml(json_object_get(object, "devices"));
    return true;
}

bool
cmd_device_remove(Ctl *ctl, GError **error)
{
    g_auto(EntityPick) pick = {0};
    if (!entity_pick(ctl, ctl_row(ctl)->entity, &pick, error)) {
        return false;
    }
    for (char *const *name = ctl_args_from(ctl, 1); *name != NULL; name++) {
        if (!cmd_device_put(ctl, pick.rest, pick.path, *name, NULL, error)) {
            return fail_owner(ctl, &pick, error);
        }
    }
    return true;
}

bool
cmd_device_override(Ctl *ctl, GError **error)
{
    g_auto(EntityPick) pick = {0};
    json_t *own = NULL;
    g_autoptr(json_t) object = load_device(ctl, &pick, "devices", &own, error);
    if (object == NULL) {
        return false;
    }
    json_t *inherited =
        json_object_get(json_object_get(object, "expanded_devices"), ctl_arg(ctl, 1));
    if (own != NULL || inherited == NULL) {
        haw_fail(error, own != NULL ? HAW_EXISTS : HAW_NOT_FOUND,
                 own != NULL ? "device '%s' is already the instance's own"
                             : "no profile of the instance has a device '%s'",
                 ctl_arg(ctl, 1));
        return fail_owner(ctl, &pick, error);
    }
    g_autoptr(json_t) device = json_deep_copy(inherited);
    if (!entity_parse_settings(ctl_args_from(ctl, 2), device, error)) {
        return false;
    }
    return cmd_device_put(ctl, pick.rest, pick.path, ctl_arg(ctl, 1), device, error) ||
           fail_owner(ctl, &pick, error);
}
