/* Disks: host paths and custom volumes inside a container; limits and size of the root disk.
 * The sources, and where they are mounted, are disksource.c; limits.* are disklimit.c.
 * The root disk's volume, and its size, belong to start.c and change.c. Row of devtype.h; main loop. */
#include "agent/inst/devtype.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "agent/inst/disklimit.h"
#include "agent/inst/disksource.h"
#include "agent/inst/diskvm.h"
#include "agent/inst/inject.h"
#include "proto/grammar.h"
#include "proto/keys.h"

static const char *const propagations[] = {"private",    "shared",      "slave",
                                           "unbindable", "rprivate",    "rshared",
                                           "rslave",     "runbindable", NULL};

static bool
check_propagation(const char *value, GError **error)
{
    return g_strv_contains(propagations, value) ||
           haw_fail(error, HAW_INVALID, "Invalid value \"%s\" (not one of %s)", value,
                    "private, shared, slave, unbindable, rprivate, rshared, rslave, runbindable");
}

static bool
check_io_cache(const char *value, GError **error)
{
    static const char *const known[] = {"none", "writeback", "unsafe", NULL};

    return g_strv_contains(known, value) ||
           haw_fail(error, HAW_INVALID, "Invalid value \"%s\" (not one of [none writeback unsafe])",
                    value);
}

static const DevtypeOption options[] = {{"path", NULL, false},
                                        {"source", NULL, false},
                                        {"pool", NULL, false},
                                        {"required", grammar_bool, false},
                                        {"optional", grammar_bool, false},
                                        {"readonly", grammar_bool, false},
                                        {"recursive", grammar_bool, false},
                                        {"shift", grammar_bool, false},
                                        {"propagation", check_propagation, false},
                                        {"raw.mount.options", NULL, false},
                                        {"size", grammar_size, false},
                                        {"size.state", grammar_size, false},
                                        {"limits.read", disklimit_check, false},
                                        {"limits.write", disklimit_check, false},
                                        {"limits.max", disklimit_check, false},
                                        {"io.cache", check_io_cache, false},
                                        {"boot.priority", grammar_uint32, false},
                                        {"ceph.cluster_name", NULL, false},
                                        {"ceph.user_name", NULL, false},
                                        {NULL}};

/* ---- validation ---- */

static bool
is_vm(const Device *device)
{
    return g_strcmp0(device->inst_type, "virtual-machine") == 0;
}

static bool
validate_words(const Device *device, GError **error)
{
    const char *path = devtype_get(device, "path"), *source = devtype_get(device, "source");
    bool root = device_is_root(device);

    if (devtype_get(device, "required") != NULL && devtype_get(device, "optional") != NULL) {
        return haw_fail(error, HAW_INVALID,
                        "Cannot use both \"required\" and deprecated \"optional\" properties at "
                        "the same time");
    }
    if (source == NULL && !root) {
        return haw_fail(error, HAW_INVALID,
                        "Disk entry is missing the required \"source\" or \"path\" property");
    }
    if (root && source != NULL) {
        return haw_fail(error, HAW_INVALID,
                        "Root disk entry may not have a \"source\" property set");
    }
    if (root && devtype_get(device, "pool") == NULL) {
        return haw_fail(error, HAW_INVALID, "Root disk entry must have a \"pool\" property set");
    }
    if (devtype_get(device, "size") != NULL && !root) {
        return haw_fail(error, HAW_INVALID, "Only the root disk may have a size quota");
    }
    if (devtype_get(device, "size.state") != NULL && !root) {
        return haw_fail(error, HAW_INVALID, "Only the root disk may have a migration size quota");
    }
    if (path != NULL && (strstr(path, "/../") != NULL || g_str_has_prefix(path, "../") ||
                         g_str_has_suffix(path, "/..") || g_str_equal(path, ".."))) {
        return haw_fail(error, HAW_INVALID, "Disk path \"%s\" leaves the container", path);
    }
    return true;
}

static bool
validate_bind(const Device *device, GError **error)
{
    const char *source = devtype_get(device, "source");
    const char *pool = devtype_get(device, "pool");

    if (devtype_get_bool(device, "recursive", false)) {
        if (source == NULL || pool != NULL ||
            (device->inst != NULL && !g_file_test(source, G_FILE_TEST_IS_DIR))) {
            return haw_fail(error, HAW_INVALID,
                            "The recursive option is only supported for additional bind-mounted "
                            "paths");
        }
        if (devtype_get_bool(device, "readonly", false)) {
            return haw_fail(error, HAW_INVALID,
                            "Recursive read-only bind-mounts aren't currently supported by the "
                            "kernel");
        }
    }
    if ((devtype_get(device, "ceph.cluster_name") != NULL ||
         devtype_get(device, "ceph.user_name") != NULL) &&
        (source == NULL || !g_str_has_prefix(source, "ceph"))) {
        return haw_fail(error, HAW_INVALID,
                        "Invalid options ceph.cluster_name/ceph.user_name for source \"%s\"",
                        source != NULL ? source : "");
    }
    if (pool != NULL || source == NULL) {
        return true;
    }
    if (g_str_has_prefix(source, "ceph:") || g_str_has_prefix(source, "cephfs:") ||
        diskvm_is_config(source)) {
        return device->inst_type == NULL || (is_vm(device) && diskvm_is_config(source)) ||
               haw_fail(error, HAW_UNSUPPORTED, "Source \"%s\" is not supported here", source);
    }
    if (source[0] != '/') {
        return haw_fail(error, HAW_INVALID, "Disk source \"%s\" must be an absolute path", source);
    }
    if (device->inst != NULL && disksource_required(device) && access(source, F_OK) < 0) {
        return haw_fail(error, HAW_FAILED, "Missing source path \"%s\" for disk \"%s\"", source,
                        device->name);
    }
    return true;
}

static bool
validate_volume(Agent *agent, const char *project, const Device *device, GError **error)
{
    bool block = false, path = devtype_get(device, "path") != NULL;
    Vol vol = disksource_volume(agent, project, device);

    if (!vol_is_block(agent->pools, &vol, &block, error)) {
        return haw_push(error, "Failed loading custom volume");
    }
    if (block && !is_vm(device)) {
        return haw_fail(error, HAW_INVALID, "Custom block volumes cannot be used on containers");
    }
    if (block && path) {
        return haw_fail(error, HAW_INVALID, "Custom block volumes cannot have a path defined");
    }
    return block || path ||
           haw_fail(error, HAW_INVALID, "Custom filesystem volumes require a path to be defined");
}

static bool
validate_pool(Agent *agent, const char *project, const Device *device, GError **error)
{
    const char *pool = devtype_get(device, "pool"), *source = devtype_get(device, "source");

    if (pool == NULL) {
        return true;
    }
    if (devtype_get(device, "shift") != NULL) {
        return haw_fail(error, HAW_INVALID,
                        "The \"shift\" property cannot be used with custom storage volumes");
    }
    if (source != NULL && source[0] == '/') {
        return haw_fail(error, HAW_INVALID,
                        "Storage volumes cannot be specified as absolute paths");
    }
    if (!pool_exists(agent->pools, pool)) {
        return haw_fail(error, HAW_NOT_FOUND,
                        "Failed to get storage pool \"%s\": Storage pool not found", pool);
    }
    return source == NULL || device->inst_type == NULL ||
           validate_volume(agent, project, device, error);
}

/* Disks of a virtual machine appear on its bus; only a directory is mounted somewhere. */
static bool
validate_pathless(const Device *device, GError **error)
{
    const char *source = devtype_get(device, "source");

    if (!is_vm(device)) {
        return haw_fail(error, HAW_INVALID, "Disk entry is missing the required \"path\" property");
    }
    return devtype_get(device, "pool") != NULL || source == NULL ||
           !g_file_test(source, G_FILE_TEST_IS_DIR) ||
           haw_fail(error, HAW_INVALID, "Missing mount \"path\" setting");
}

static bool
validate(Agent *agent, const char *project, const Device *device, GError **error)
{
    const char *name, *path = devtype_get(device, "path");
    json_t *other;

    if (!validate_words(device, error) || !validate_bind(device, error) ||
        !validate_pool(agent, project, device, error)) {
        return false;
    }
    if (device->inst_type != NULL && path == NULL && !validate_pathless(device, error)) {
        return false;
    }
    if (device->inst == NULL) {
        return true;
    }
    json_object_foreach (inst_devices(device->inst), name, other) {
        if (path != NULL && !g_str_equal(name, device->name) &&
            g_strcmp0(keys_get(other, "type"), "disk") == 0 &&
            g_strcmp0(keys_get(other, "path"), path) == 0) {
            return haw_fail(error, HAW_INVALID,
                            "More than one disk device uses the same path \"%s\"", path);
        }
    }
    return true;
}

/* ---- steps ---- */

static bool
start(Agent *agent, const Device *device, json_t *lxc, GError **error)
{
    g_auto(Disksource) source = DISKSOURCE_NONE;

    if (device_is_root(device)) {
        return disklimit_to_lxc(agent, device, lxc, error);
    }
    if (!disksource_open(agent, device, &source, error)) {
        return false;
    }
    if (source.path == NULL) {
        return true;
    }
    if (!disksource_place(agent, device, &source, error)) {
        disksource_release(agent, device);
        return false;
    }
    const char *path = devtype_get(device, "path");
    const char *propagation = devtype_get(device, "propagation");
    g_autofree char *from = devtype_fstab(source.path);
    g_autofree char *to = devtype_fstab(path + strspn(path, "/"));
    devtype_lxc(lxc, "lxc.mount.entry", "%s %s none %s,create=%s%s%s%s%s 0 0", from, to,
                devtype_get_bool(device, "recursive", false) ? "rbind" : "bind",
                source.file ? "file" : "dir",
                devtype_get_bool(device, "readonly", false) ? ",ro" : "",
                source.idmap ? ",idmap=container" : "", propagation != NULL ? "," : "",
                propagation != NULL ? propagation : "");
    return disklimit_to_lxc(agent, device, lxc, error);
}

static bool
stop(Agent *agent, const Device *device, GError **error)
{
    if (strcmp(inst_type(device->inst), "container") != 0) {
        return diskvm_stop(agent, device, error);
    }
    if (device_is_root(device) || devtype_get(device, "path") == NULL) {
        return true;
    }
    bool ok = disksource_remove_place(agent, device, error);
    if (disksource_is_custom(device)) {
        disksource_release(agent, device);
    }
    return ok;
}

static bool
plug(Agent *agent, const Device *device, GError **error)
{
    g_auto(Disksource) source = DISKSOURCE_NONE;

    if (device_is_root(device)) {
        return haw_fail(error, HAW_INVALID, "The root disk can't be plugged");
    }
    if (!disksource_open(agent, device, &source, error)) {
        return false;
    }
    if (source.path == NULL) {
        return true;
    }
    InjectMount mount = {.source = source.path,
                         .target = devtype_get(device, "path"),
                         .file = source.file,
                         .readonly = devtype_get_bool(device, "readonly", false),
                         .recursive = devtype_get_bool(device, "recursive", false),
                         .idmap = source.idmap,
                         .propagation = devtype_get(device, "propagation")};
    if (!inject_mount(agent, device->inst, &mount, error)) {
        stop(agent, device, NULL);
        return haw_push(error, "Failed to add mount for device inside container");
    }
    return disklimit_live(agent, device, false, error);
}

static bool
unplug(Agent *agent, const Device *device, GError **error)
{
    if (device_is_root(device)) {
        return haw_fail(error, HAW_INVALID, "The root disk can't be removed");
    }
    if (!inject_unmount(agent, device->inst, devtype_get(device, "path"), false, error)) {
        return false;
    }
    return stop(agent, device, error);
}

static bool
same_but(json_t *a, json_t *b, const char *const *live)
{
    const char *name;
    json_t *value;

    json_object_foreach (a, name, value) {
        if (!g_strv_contains(live, name) && !json_equal(value, json_object_get(b, name))) {
            return false;
        }
    }
    return true;
}

static bool
update(Agent *agent, const Device *device, json_t *old_config, bool *ret_done, GError **error)
{
    static const char *const live[] = {"limits.read", "limits.write", "limits.max",
                                       "size",        "size.state",   NULL};

    if (!same_but(device->config, old_config, live) ||
        !same_but(old_config, device->config, live)) {
        return true;
    }
    *ret_done = true;
    if (inst_pid(device->inst) <= 0) {
        return true;
    }
    return disklimit_live(agent, device, true, error);
}

const Devtype disk_devtype = {.type = "disk",
                              .hotplug = true,
                              .options = options,
                              .validate = validate,
                              .start = start,
                              .start_vm = diskvm_start,
                              .stop = stop,
                              .adopt = disksource_adopt,
                              .plug = plug,
                              .unplug = unplug,
                              .update = update};
