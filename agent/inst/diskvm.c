/* Disks of virtual machines: the root volume's image, files, block devices and ISO images of the host, and
 * custom volumes; directories become shares, which the guest's agent mounts.
 * K1  The root volume is mounted by the start (vm/vmboot.c); a custom volume is mounted here, counted.
 * K2  On btrfs an image keeps the page cache: direct I/O on copy-on-write files costs more than it saves.
 * K3  "cloud-init:config" and "agent:config" are discs made anew at each start (vm/configshare.c).
 * Called by disk.c. */
#include "agent/inst/diskvm.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/inst/disksource.h"
#include "agent/vm/configshare.h"
#include "base/fd.h"

static void
set_text(json_t *item, const char *key, const char *value)
{
    if (value != NULL) {
        json_object_set_new(item, key, json_string(value));
    }
}

static void
set_common(const Device *device, json_t *item, const char *path)
{
    bool iso = g_str_has_suffix(path, ".iso");
    set_text(item, "path", path);
    set_text(item, "cache", devtype_get(device, "io.cache"));
    json_object_set_new(item, "readonly",
                        json_boolean(iso || devtype_get_bool(device, "readonly", false)));
    json_object_set_new(item, "cdrom", json_boolean(iso));
}

/* A volume's image, or the directory that it is. */
static bool
from_volume(Agent *agent, const Device *device, const Vol *vol, const char *mount, json_t *item,
            GError **error)
{
    g_autofree char *image = g_strdup_printf("%s/root.img", mount);
    bool btrfs = g_strcmp0(pool_driver(agent->pools, vol->pool), "btrfs") == 0, block = false;
    if (!vol_is_block(agent->pools, vol, &block, error)) {
        return false;
    }
    if (block && access(image, F_OK) < 0) {
        return haw_fail(error, HAW_NOT_FOUND, "Volume \"%s\" has no image: '%s' is missing",
                        vol->name, image);
    }
    if (block) {
        set_text(item, "kind", "file");
        set_common(device, item, image);
        json_object_set_new(item, "direct", json_boolean(!btrfs)); /* K2 */
        return true;
    }
    set_text(item, "kind", "share");
    set_text(item, "path", mount);
    set_text(item, "target", devtype_get(device, "path"));
    json_object_set_new(item, "readonly",
                        json_boolean(devtype_get_bool(device, "readonly", false)));
    return true;
}

static bool
start_root(Agent *agent, const Device *device, json_t *item, GError **error)
{
    Vol vol;
    if (!inst_volume(device->inst, &vol, error)) {
        return false;
    }
    g_autofree char *mount = vol_path(agent->pools, &vol);
    return from_volume(agent, device, &vol, mount, item, error);
}

static bool
start_custom(Agent *agent, const Device *device, json_t *item, GError **error)
{
    g_autofree char *mount = NULL;
    Vol vol = disksource_volume(agent, inst_project(device->inst), device);
    if (!vol_mount(agent->pools, &vol, &mount, error)) {
        return haw_push(error, "Mount volume \"%s\"", vol.name);
    }
    disksource_hold(device);
    if (!from_volume(agent, device, &vol, mount, item, error)) {
        disksource_release(agent, device);
        return false;
    }
    return true;
}

/* A path of a restricted project is shown by a bind mount of what was opened: names below the allowed one
 * are the project's to change. */
static bool
start_path(Agent *agent, const Device *device, json_t *item, GError **error)
{
    g_auto(Disksource) source = DISKSOURCE_NONE;
    if (!disksource_open_path(agent, device, &source, error)) {
        return false;
    }
    if (source.path == NULL) {
        return true;
    }
    if (source.fd >= 0 && !disksource_place(agent, device, &source, error)) {
        return false;
    }
    if (!source.file) {
        set_text(item, "kind", "share");
        set_text(item, "path", source.path);
        set_text(item, "target", devtype_get(device, "path"));
        json_object_set_new(item, "readonly",
                            json_boolean(devtype_get_bool(device, "readonly", false)));
        return true;
    }
    set_text(item, "kind", source.block ? "block" : "file");
    set_common(device, item, source.path);
    return true;
}

bool
diskvm_is_config(const char *source)
{
    return g_strcmp0(source, "cloud-init:config") == 0 || g_strcmp0(source, "agent:config") == 0;
}

/* K3 */
static bool
start_config(const Device *device, json_t *item, GError **error)
{
    bool cloud_only = g_str_equal(devtype_get(device, "source"), "cloud-init:config");
    g_autofree char *dir = inst_run_dir(device->inst);
    g_autofree char *path = g_strdup_printf("%s/%s.iso", dir, cloud_only ? "cloud-init" : "agent");
    if (!fd_mkdir_p(dir, 0700, error) || !configshare_iso(device->inst, cloud_only, path, error)) {
        return false;
    }
    set_text(item, "kind", "file");
    set_common(device, item, path);
    return true;
}

bool
diskvm_start(Agent *agent, const Device *device, json_t *item, GError **error)
{
    if (device_is_root(device)) {
        return start_root(agent, device, item, error); /* K1 */
    }
    if (diskvm_is_config(devtype_get(device, "source"))) {
        return start_config(device, item, error);
    }
    return disksource_is_custom(device) ? start_custom(agent, device, item, error)
                                        : start_path(agent, device, item, error);
}

bool
diskvm_stop(Agent *agent, const Device *device, GError **error)
{
    if (device_is_root(device)) {
        return true;
    }
    if (disksource_is_custom(device)) {
        disksource_release(agent, device);
        return true;
    }
    return disksource_remove_place(agent, device, error);
}
