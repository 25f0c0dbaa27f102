/* The sources of disk devices: how each is opened, and where liblxc finds it.
 * K1  liblxc mounts as the container's root, which may not walk to the source (/root, a pool's
 *     directories): so for a start the source is bound below <dir>/devices/NAME/ first, as LXD does,
 *     and that mount goes with the stop. forkmount, on a running one, is the host's root and needs
 *     none. A block device's file system is mounted there in either case.
 * K2  A custom volume is mounted (counted) from start to stop. Ids: as they are with security.unmapped;
 *     on disk as the container has them without security.shifted, through a mount with an id map with
 *     it (diskshift.c).
 * K3  Where the project names the paths that may be shared, the source is opened beneath the one that
 *     it is said to be in, links that lead out being errors, and what is mounted is what was opened:
 *     whoever swaps a directory for a link afterwards gains nothing.
 * Called by disk.c. Main loop. */
#include "agent/inst/disksource.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "agent/auth/project.h"
#include "agent/inst/diskshift.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/proc.h"
#include "proto/keys.h"

/* The custom volume of a disk with a pool; its strings are borrowed from the device and project. */
Vol
disksource_volume(Agent *agent, const char *project, const Device *device)
{
    return (Vol){.pool = devtype_get(device, "pool"),
                 .project = project_for_volumes(agent, project),
                 .type = VOL_CUSTOM,
                 .name = devtype_get(device, "source")};
}

bool
disksource_is_custom(const Device *device)
{
    return devtype_get(device, "pool") != NULL && devtype_get(device, "source") != NULL;
}

bool
disksource_required(const Device *device)
{
    if (devtype_get(device, "required") != NULL) {
        return devtype_get_bool(device, "required", true);
    }
    return !devtype_get_bool(device, "optional", false);
}

/* ---- which custom volumes we hold mounted: "<instance id>/<device>" (K2) ---- */

static GHashTable *held;

static char *
held_key(const Device *device)
{
    return g_strdup_printf("%" G_GINT64_FORMAT "/%s", inst_id(device->inst), device->name);
}

static bool
is_held(const Device *device)
{
    g_autofree char *key = held_key(device);

    return held != NULL && g_hash_table_contains(held, key);
}

void
disksource_hold(const Device *device)
{
    if (held == NULL) {
        held = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    }
    g_hash_table_add(held, held_key(device));
}

static void
let_go(const Device *device)
{
    g_autofree char *key = held_key(device);

    g_hash_table_remove(held, key);
}

/* ---- sources ---- */

void
disksource_clear(Disksource *source)
{
    fd_close(&source->fd);
    g_clear_pointer(&source->path, g_free);
}

static bool
privileged(const Device *device)
{
    return inst_get_bool(device->inst, "security.privileged", false);
}

static bool
open_custom(Agent *agent, const Device *device, Disksource *source, GError **error)
{
    Vol vol = disksource_volume(agent, inst_project(device->inst), device);
    json_auto_t *config = vol_config(agent->pools, &vol, error);

    if (config == NULL) {
        return haw_push(error, "Failed loading custom volume");
    }
    bool shifted = keys_get_bool(config, "security.shifted", false) && !privileged(device);
    if (keys_get_bool(config, "security.unmapped", false)) {
        return vol_mount(agent->pools, &vol, &source->path, error);
    }
    if (shifted && !vol_idmap_mountable(agent->pools, &vol)) {
        return haw_fail(
            error, HAW_UNSUPPORTED,
            "Volume \"%s\": the file system of pool \"%s\" can't be mounted with an "
            "id map on this kernel; unset security.shifted to have owners changed on disk",
            vol.name, vol.pool);
    }
    if (!vol_mount(agent->pools, &vol, &source->path, error)) {
        return false;
    }
    if (!diskshift(agent, device, &vol, source->path, config, shifted, error)) {
        vol_unmount(agent->pools, &vol, NULL);
        return false;
    }
    source->idmap = shifted;
    return true;
}

static bool
is_mount_point(const char *path)
{
    struct statx stx;

    return statx(AT_FDCWD, path, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT, STATX_TYPE, &stx) == 0 &&
           (stx.stx_attributes & STATX_ATTR_MOUNT_ROOT) != 0;
}

/* A block device's file system, mounted below devices/ first (K1). */
static bool
open_block(Agent *agent, const Device *device, const char *device_path, Disksource *source,
           GError **error)
{
    g_autofree char *place = devtype_path(agent, device, "disk", devtype_get(device, "path"));
    const char *raw = devtype_get(device, "raw.mount.options");
    bool readonly = devtype_get_bool(device, "readonly", false);

    if (!fd_mkdir_p(place, 0700, error)) {
        return false;
    }
    if (!is_mount_point(place)) {
        g_autofree char *words = g_strdup_printf("%s%s%s", readonly ? "ro" : "rw",
                                                 raw != NULL ? "," : "", raw != NULL ? raw : "");
        if (!proc_runv(NULL, error, "mount", "-o", words, "--", device_path, place, NULL)) {
            rmdir(place);
            return haw_push(error, "Failed mounting \"%s\"", device_path);
        }
    }
    source->path = g_steal_pointer(&place);
    return true;
}

void
disksource_release(Agent *agent, const Device *device)
{
    Vol vol = disksource_volume(agent, inst_project(device->inst), device);
    g_autoptr(GError) failure = NULL;

    if (!is_held(device)) {
        return;
    }
    let_go(device);
    if (!vol_unmount(agent->pools, &vol, &failure) && haw_code(failure) != HAW_NOT_FOUND) {
        haw_warn("disk.unmount_failed", KS("volume", vol.name), KS("why", failure->message));
    }
}

/* K3: opens the source of a project that names what may be shared; source->fd stays -1 elsewhere. */
static bool
open_allowed(Agent *agent, const Device *device, Disksource *source, GError **error)
{
    const char *path = devtype_get(device, "source");
    g_autofree char *parent = NULL;
    if (!project_allow_disk(agent, inst_project(device->inst), path, &parent, error)) {
        return false;
    }
    if (parent == NULL) {
        return true;
    }
    if (devtype_get_bool(device, "shift", false)) {
        return haw_fail(error, HAW_INVALID,
                        "The \"shift\" property cannot be used with a restricted source path");
    }
    haw_autofd int parent_fd = open(parent, O_PATH | O_CLOEXEC);
    if (parent_fd < 0) {
        return haw_fail_errno(error, errno, "Failed opening allowed parent source path \"%s\"",
                              parent);
    }
    g_autofree char *clean = g_canonicalize_filename(path, "/");
    const char *rest = clean + strlen(parent);
    rest += strspn(rest, "/");
    struct open_how how = {.flags = O_PATH | O_CLOEXEC,
                           .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS};
    source->fd =
        (int) syscall(SYS_openat2, parent_fd, *rest != '\0' ? rest : ".", &how, sizeof how);
    if (source->fd < 0 && errno == EXDEV) {
        return haw_fail(error, HAW_DENIED,
                        "Source path \"%s\" resolves outside of restricted parent source path "
                        "\"%s\"",
                        path, parent);
    }
    return source->fd >= 0 || haw_fail_errno(error, errno, "Failed opening \"%s\"", path);
}

bool
disksource_open_path(Agent *agent, const Device *device, Disksource *source, GError **error)
{
    const char *path = devtype_get(device, "source");
    struct stat st;

    if (stat(path, &st) < 0) {
        return !disksource_required(device) ||
               haw_fail(error, HAW_FAILED, "Missing source path \"%s\" for disk \"%s\"", path,
                        device->name);
    }
    if (!open_allowed(agent, device, source, error)) {
        return false;
    }
    g_autofree char *opened =
        source->fd >= 0 ? g_strdup_printf("/proc/%d/fd/%d", getpid(), source->fd) : g_strdup(path);
    if (stat(opened, &st) < 0) {
        return haw_fail_errno(error, errno, "look at \"%s\"", path);
    }
    source->path = g_steal_pointer(&opened);
    source->file = !S_ISDIR(st.st_mode);
    source->block = S_ISBLK(st.st_mode);
    return true;
}

bool
disksource_open(Agent *agent, const Device *device, Disksource *source, GError **error)
{
    if (disksource_is_custom(device)) {
        if (is_held(device)) {
            disksource_release(agent, device);
        }
        if (!open_custom(agent, device, source, error)) {
            return false;
        }
        disksource_hold(device);
        return true;
    }
    if (!disksource_open_path(agent, device, source, error)) {
        return false;
    }
    if (source->path == NULL) {
        return true;
    }
    source->idmap = devtype_get_bool(device, "shift", false) && !privileged(device);
    if (source->block) {
        g_autofree char *node = g_steal_pointer(&source->path);
        source->file = false; /* what is on it is mounted, and shown as a directory */
        return open_block(agent, device, node, source, error);
    }
    return true;
}

/* ---- places ---- */

/* A bind mount of the source where the container's own set-up process may walk to (K1). */
bool
disksource_place(Agent *agent, const Device *device, Disksource *source, GError **error)
{
    g_autofree char *place = devtype_path(agent, device, "disk", devtype_get(device, "path"));
    g_autofree char *dir = devtype_dir(agent, device);
    unsigned long recursive = devtype_get_bool(device, "recursive", false) ? MS_REC : 0;

    if (g_str_equal(source->path, place)) {
        return true; /* a block device: mounted there already */
    }
    if (is_mount_point(place)) {
        umount2(place, MNT_DETACH);
    }
    if (!fd_mkdir_p(dir, 0711, error) || (!source->file && !fd_mkdir_p(place, 0700, error))) {
        return false;
    }
    haw_autofd int made = source->file ? open(place, O_CREAT | O_WRONLY | O_CLOEXEC, 0600) : -1;
    if (mount(source->path, place, NULL, MS_BIND | recursive, NULL) < 0) {
        return haw_fail_errno(error, errno, "mount '%s' on '%s'", source->path, place);
    }
    if (devtype_get(device, "propagation") == NULL) {
        mount(NULL, place, NULL, MS_PRIVATE | recursive, NULL);
    }
    g_free(source->path);
    source->path = g_steal_pointer(&place);
    return true;
}

bool
disksource_remove_place(Agent *agent, const Device *device, GError **error)
{
    g_autofree char *place = devtype_path(agent, device, "disk", devtype_get(device, "path"));

    while (is_mount_point(place)) {
        if (umount2(place, MNT_DETACH) < 0) {
            return haw_fail_errno(error, errno, "unmount '%s'", place);
        }
    }
    return rmdir(place) == 0 || unlink(place) == 0 || errno == ENOENT ||
           haw_fail_errno(error, errno, "remove '%s'", place);
}

void
disksource_adopt(Agent *agent, const Device *device)
{
    if (disksource_is_custom(device)) {
        Vol vol = disksource_volume(agent, inst_project(device->inst), device);
        vol_adopt(agent->pools, &vol);
        disksource_hold(device);
    }
}
