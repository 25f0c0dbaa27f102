/* Devices: the table of types, and what all of them share: option checks and names on disk.
 * D1  Nothing but what a type's row says reaches its code: unknown options are refused here.
 * D2  stop and unplug repeat safely: they find what is there by name on disk, not by memory.
 * D3  A type that this machine cannot serve is valid in configuration and refused at start.
 * Called by inst.c (create, update, start, stop). NICs never come here: see net/network.h. */
#include "agent/inst/device.h"
#include "agent/inst/devtype.h"

#include <string.h>

#include "agent/auth/project.h"
#include "proto/grammar.h"

/* ---- types without code of their own ---- */

static bool
unserved_start(Agent *agent, const Device *device, json_t *lxc, GError **error)
{
    const char *type = devtype_get(device, "type");
    const char *parent = devtype_get(device, "parent");

    if (g_str_equal(type, "infiniband")) { /* D3 */
        return haw_fail(error, HAW_UNSUPPORTED,
                        "Parent device \"%s\" doesn't exist: no InfiniBand hardware was found",
                        parent != NULL ? parent : "");
    }
    return haw_fail(error, HAW_UNSUPPORTED,
                    "Required tool \"swtpm\" with a CUSE or vTPM proxy is missing");
}

static const DevtypeOption none_options[] = {{NULL}};
static const DevtypeOption infiniband_options[] = {
    {"nictype", NULL, true},     {"parent", NULL, true},  {"name", NULL, false},
    {"mtu", grammar_mtu, false}, {"hwaddr", NULL, false}, {NULL}};
static const DevtypeOption tpm_options[] = {{"path", NULL, false}, {"pathrm", NULL, false}, {NULL}};

/* A swtpm of its own: vm/vmtpm.c. */
static bool
tpm_start_vm(Agent *agent, const Device *device, json_t *item, GError **error)
{
    json_object_set_new(item, "kind", json_string("tpm"));
    return true;
}

/* A container has the TPM as files; a virtual machine has it on its bus. */
static bool
tpm_validate(Agent *agent, const char *project, const Device *device, GError **error)
{
    static const char *const names[] = {"path", "pathrm"};

    for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
        if (g_strcmp0(device->inst_type, "container") == 0 &&
            devtype_get(device, names[i]) == NULL) {
            return haw_fail(error, HAW_INVALID,
                            "Invalid value for device option \"%s\": Required value", names[i]);
        }
    }
    return true;
}

static const Devtype none_devtype = {.type = "none", .hotplug = true, .options = none_options};
static const Devtype infiniband_devtype = {
    .type = "infiniband", .hotplug = true, .options = infiniband_options, .start = unserved_start};
static const Devtype tpm_devtype = {.type = "tpm",
                                    .hotplug = true,
                                    .options = tpm_options,
                                    .validate = tpm_validate,
                                    .start = unserved_start,
                                    .start_vm = tpm_start_vm};

static const Devtype *const devtypes[] = {
    &disk_devtype,         &proxy_devtype,       &unixdev_char_devtype, &unixdev_block_devtype,
    &hotplug_unix_devtype, &hotplug_usb_devtype, &hotplug_gpu_devtype,  &none_devtype,
    &infiniband_devtype,   &tpm_devtype,         &pcipass_devtype,
};

/* Types that one kind of instance has only; LXD's. */
static const struct {
    const char *type, *inst_type;
} exclusive[] = {
    {"unix-char", "container"},  {"unix-block", "container"}, {"unix-hotplug", "container"},
    {"infiniband", "container"}, {"pci", "virtual-machine"},
};

bool
device_fits(const Device *device, const char *inst_type)
{
    const char *type = devtype_get(device, "type");

    for (size_t i = 0; i < G_N_ELEMENTS(exclusive); i++) {
        if (g_strcmp0(type, exclusive[i].type) == 0) {
            return strcmp(exclusive[i].inst_type, inst_type) == 0;
        }
    }
    return true;
}

static const Devtype *
devtype_find(const Device *device)
{
    const char *type = devtype_get(device, "type");

    for (size_t i = 0; type != NULL && i < G_N_ELEMENTS(devtypes); i++) {
        if (g_str_equal(devtypes[i]->type, type)) {
            return devtypes[i];
        }
    }
    return NULL;
}

static const Devtype *
devtype_need(const Device *device, GError **error)
{
    const Devtype *devtype = devtype_find(device);

    if (devtype == NULL) {
        haw_fail(error, HAW_INVALID, "Unsupported device type");
    }
    return devtype;
}

/* ---- what the types share ---- */

const char *
devtype_get(const Device *device, const char *option)
{
    const char *value = json_string_value(json_object_get(device->config, option));

    return value != NULL && value[0] != '\0' ? value : NULL;
}

bool
devtype_get_bool(const Device *device, const char *option, bool fallback)
{
    const char *value = devtype_get(device, option);

    return value != NULL ? grammar_parse_bool(value, fallback) : fallback;
}

char *
devtype_dir(Agent *agent, const Device *device)
{
    g_autofree char *object =
        project_object_name(inst_project(device->inst), inst_name(device->inst));

    return agent_path(agent, "devices/%s", object);
}

static void
append_encoded(GString *text, const char *path)
{
    while (path[0] == '/') {
        path++;
    }
    for (; path[0] != '\0'; path++) {
        if (path[0] == '-') {
            g_string_append(text, "--");
        } else {
            g_string_append_c(text, path[0] == '/' ? '-' : path[0]);
        }
    }
}

char *
devtype_path(Agent *agent, const Device *device, const char *prefix, const char *path)
{
    g_autofree char *dir = devtype_dir(agent, device);
    GString *text = g_string_new(dir);

    g_string_append_printf(text, "/%s.", prefix);
    append_encoded(text, device->name);
    if (path != NULL) {
        g_string_append_c(text, '.');
        append_encoded(text, path);
    }
    return g_string_free(text, FALSE);
}

json_t *
devtype_idmap(const Device *device)
{
    const char *text = inst_get(device->inst, "volatile.idmap.next");
    json_t *idmap = NULL;

    if (inst_get_bool(device->inst, "security.privileged", false)) {
        return json_array();
    }
    if (device->idmap != NULL) {
        text = device->idmap;
    } else if (inst_pid(device->inst) > 0 || text == NULL) {
        const char *current = inst_get(device->inst, "volatile.idmap.current");
        text = current != NULL ? current : text;
    }
    if (text != NULL) {
        idmap = json_loads(text, 0, NULL);
    }
    return json_is_array(idmap) ? idmap : (json_decref(idmap), json_array());
}

void
devtype_lxc(json_t *lxc, const char *key, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    g_autofree char *value = g_strdup_vprintf(format, args);
    va_end(args);
    json_array_append_new(lxc, json_pack("[s,s]", key, value));
}

char *
devtype_fstab(const char *path)
{
    GString *text = g_string_new(NULL);

    for (; path[0] != '\0'; path++) {
        if (strchr(" \t\n\\", path[0]) != NULL) {
            g_string_append_printf(text, "\\%03o", (unsigned) path[0]);
        } else {
            g_string_append_c(text, path[0]);
        }
    }
    return g_string_free(text, FALSE);
}

/* ---- device.h ---- */

static const DevtypeOption *
option_find(const Devtype *devtype, const char *name)
{
    for (const DevtypeOption *option = devtype->options; option->name != NULL; option++) {
        if (g_str_equal(option->name, name)) {
            return option;
        }
    }
    return NULL;
}

static bool
check_options(const Devtype *devtype, json_t *config, GError **error)
{
    const char *name;
    json_t *value;

    for (const DevtypeOption *option = devtype->options; option->name != NULL; option++) {
        const char *text = json_string_value(json_object_get(config, option->name));
        if (option->required && (text == NULL || text[0] == '\0')) {
            return haw_fail(error, HAW_INVALID,
                            "Invalid value for device option \"%s\": Required value", option->name);
        }
    }
    json_object_foreach (config, name, value) {
        const char *text = json_string_value(value);
        if (g_str_equal(name, "type") || g_str_has_prefix(name, "user.")) {
            continue;
        }
        const DevtypeOption *option = option_find(devtype, name);
        if (option == NULL) { /* D1 */
            return haw_fail(error, HAW_INVALID, "Invalid device option \"%s\"", name);
        }
        if (text == NULL) {
            return haw_fail(error, HAW_INVALID,
                            "Invalid value for device option \"%s\": not a string", name);
        }
        if (text[0] != '\0' && option->check != NULL && !option->check(text, error)) {
            return haw_push(error, "Invalid value for device option \"%s\"", name);
        }
    }
    return true;
}

bool
device_validate(Agent *agent, const char *project, const Device *device, GError **error)
{
    const Devtype *devtype = devtype_need(device, error);

    if (devtype == NULL || !check_options(devtype, device->config, error)) {
        return false;
    }
    if (device->inst_type != NULL && !device_fits(device, device->inst_type)) {
        return haw_fail(error, HAW_INVALID, "Unsupported device type");
    }
    return devtype->validate == NULL || devtype->validate(agent, project, device, error);
}

bool
device_start(Agent *agent, const Device *device, json_t **ret_lxc, GError **error)
{
    const Devtype *devtype = devtype_need(device, error);
    json_t *lxc = json_array();

    if (devtype == NULL || (devtype->start != NULL && !devtype->start(agent, device, lxc, error))) {
        json_decref(lxc);
        return false;
    }
    *ret_lxc = lxc;
    return true;
}

bool
device_start_vm(Agent *agent, const Device *device, json_t **ret_item, GError **error)
{
    const Devtype *devtype = devtype_need(device, error);
    json_t *item = json_object();

    if (devtype != NULL && devtype->start_vm == NULL) {
        haw_fail(error, HAW_UNSUPPORTED, "Unsupported device type \"%s\" for virtual machines",
                 devtype->type);
    }
    if (devtype == NULL || devtype->start_vm == NULL ||
        !devtype->start_vm(agent, device, item, error)) {
        json_decref(item);
        return false;
    }
    *ret_item = item;
    return true;
}

bool
device_post_start(Agent *agent, const Device *device, GError **error)
{
    const Devtype *devtype = devtype_need(device, error);

    return devtype != NULL &&
           (devtype->post_start == NULL || devtype->post_start(agent, device, error));
}

bool
device_stop(Agent *agent, const Device *device, GError **error)
{
    const Devtype *devtype = devtype_find(device);

    return devtype == NULL || devtype->stop == NULL || devtype->stop(agent, device, error);
}

void
device_adopt(Agent *agent, const Device *device)
{
    const Devtype *devtype = devtype_find(device);

    if (devtype != NULL && devtype->adopt != NULL) {
        devtype->adopt(agent, device);
    }
}

bool
device_hotplug(Agent *agent, const Device *device, GError **error)
{
    const Devtype *devtype = devtype_need(device, error);

    if (devtype == NULL) {
        return false;
    }
    if (devtype->plug != NULL) {
        return devtype->plug(agent, device, error);
    }
    return devtype->start == NULL || devtype->start(agent, device, NULL, error);
}

bool
device_hotunplug(Agent *agent, const Device *device, GError **error)
{
    const Devtype *devtype = devtype_find(device);

    if (devtype == NULL) {
        return true;
    }
    if (devtype->unplug != NULL) {
        return devtype->unplug(agent, device, error);
    }
    return devtype->stop == NULL || devtype->stop(agent, device, error);
}

bool
device_can_hotplug(const Device *device)
{
    const Devtype *devtype = devtype_find(device);

    return devtype != NULL && devtype->hotplug;
}

bool
device_update(Agent *agent, const Device *device, json_t *old_config, bool *ret_done,
              GError **error)
{
    const Devtype *devtype = devtype_need(device, error);

    *ret_done = false;
    if (devtype == NULL) {
        return false;
    }
    return devtype->update == NULL || devtype->update(agent, device, old_config, ret_done, error);
}

bool
device_is_root(const Device *device)
{
    return g_strcmp0(devtype_get(device, "type"), "disk") == 0 &&
           g_strcmp0(devtype_get(device, "path"), "/") == 0;
}
