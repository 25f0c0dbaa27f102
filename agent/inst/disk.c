/* Disks: host paths and custom volumes inside a container; limits and size of the root disk.
 * I1  liblxc mounts as the container's root, which may not walk to the source (/root, a pool's
 *     directories): so for a start the source is bound below <dir>/devices/NAME/ first, as LXD does,
 *     and that mount goes with the stop. forkmount, on a running one, is the host's root and needs
 *     none. A block device's file system is mounted there in either case.
 * I2  A custom volume is mounted (counted) from start to stop. Ids: as they are for privileged
 *     containers and with security.unmapped; else by an id-mapped mount, which changes nothing on
 *     disk, so containers with different maps share a volume.
 * I3  limits.* go to the block device beneath, as the kernel counts it.
 * The root disk's volume, and its size, belong to start.c and change.c. Row of devtype.h; main loop. */
#include "agent/inst/devtype.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "agent/auth/project.h"
#include "agent/inst/inject.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/proc.h"
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

/* "30MB" (a second) or "200iops". */
static bool
parse_limit(const char *value, bool *ret_iops, gint64 *ret_number, GError **error)
{
    *ret_iops = g_str_has_suffix(value, "iops");
    if (*ret_iops) {
        g_autofree char *number = g_strndup(value, strlen(value) - strlen("iops"));
        char *end = NULL;
        *ret_number = g_ascii_strtoll(g_strstrip(number), &end, 10);
        return (number[0] != '\0' && *end == '\0' && *ret_number >= 0) ||
               haw_fail(error, HAW_INVALID, "Invalid value \"%s\" for a number of operations",
                        value);
    }
    return grammar_parse_size(value, ret_number, error);
}

static bool
check_limit(const char *value, GError **error)
{
    bool iops;
    gint64 number;

    return parse_limit(value, &iops, &number, error);
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
                                        {"limits.read", check_limit, false},
                                        {"limits.write", check_limit, false},
                                        {"limits.max", check_limit, false},
                                        {"io.cache", check_io_cache, false},
                                        {"boot.priority", grammar_uint32, false},
                                        {"ceph.cluster_name", NULL, false},
                                        {"ceph.user_name", NULL, false},
                                        {NULL}};

static bool
required(const Device *device)
{
    if (devtype_get(device, "required") != NULL) {
        return devtype_get_bool(device, "required", true);
    }
    return !devtype_get_bool(device, "optional", false);
}

/* The custom volume of a disk with a pool; its strings are borrowed from the device and project. */
static Vol
custom_volume(Agent *agent, const char *project, const Device *device)
{
    return (Vol){.pool = devtype_get(device, "pool"),
                 .project = project_for_volumes(agent, project),
                 .type = VOL_CUSTOM,
                 .name = devtype_get(device, "source")};
}

static bool
is_custom(const Device *device)
{
    return devtype_get(device, "pool") != NULL && devtype_get(device, "source") != NULL;
}

/* ---- validation ---- */

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
    if (path != NULL && (path[0] != '/' || strstr(path, "/../") != NULL)) {
        return haw_fail(error, HAW_INVALID, "Disk path \"%s\" must be absolute", path);
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
        g_str_equal(source, "cloud-init:config")) {
        return device->inst == NULL ||
               haw_fail(error, HAW_UNSUPPORTED, "Source \"%s\" is not supported on containers",
                        source);
    }
    if (source[0] != '/') {
        return haw_fail(error, HAW_INVALID, "Disk source \"%s\" must be an absolute path", source);
    }
    if (device->inst != NULL && required(device) && access(source, F_OK) < 0) {
        return haw_fail(error, HAW_FAILED, "Missing source path \"%s\" for disk \"%s\"", source,
                        device->name);
    }
    return true;
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
    if (source != NULL && device->inst != NULL) {
        Vol vol = custom_volume(agent, project, device);
        json_t *config = vol_config(agent->pools, &vol, error);
        json_decref(config);
        return config != NULL || haw_push(error, "Failed loading custom volume");
    }
    return true;
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
    if (device->inst == NULL) {
        return true;
    }
    if (path == NULL) {
        return haw_fail(error, HAW_INVALID, "Disk entry is missing the required \"path\" property");
    }
    json_object_foreach (inst_devices(device->inst), name, other) {
        if (!g_str_equal(name, device->name) && g_strcmp0(keys_get(other, "type"), "disk") == 0 &&
            g_strcmp0(keys_get(other, "path"), path) == 0) {
            return haw_fail(error, HAW_INVALID,
                            "More than one disk device uses the same path \"%s\"", path);
        }
    }
    return true;
}

/* ---- which custom volumes we hold mounted: "<instance id>/<device>" (D2) ---- */

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

static void
hold(const Device *device)
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

typedef struct {
    char *path; /* NULL: not there and not required */
    bool file;
    bool idmap;
} Source;

static void
source_clear(Source *source)
{
    g_free(source->path);
    source->path = NULL;
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Source, source_clear)

static bool
privileged(const Device *device)
{
    return inst_get_bool(device->inst, "security.privileged", false);
}

static bool
open_custom(Agent *agent, const Device *device, Source *source, GError **error)
{
    Vol vol = custom_volume(agent, inst_project(device->inst), device);
    json_t *config = vol_config(agent->pools, &vol, error);
    bool unmapped, mapped = false;

    if (config == NULL) {
        return haw_push(error, "Failed loading custom volume");
    }
    unmapped = privileged(device) || keys_get_bool(config, "security.unmapped", false);
    json_decref(config);
    if (unmapped) {
        return vol_mount(agent->pools, &vol, &source->path, error);
    }
    if (!vol_idmap_mountable(agent->pools, &vol)) { /* I2 */
        return haw_fail(error, HAW_UNSUPPORTED,
                        "Volume \"%s\": the file system of pool \"%s\" can't be mounted with an "
                        "id map on this kernel; set security.unmapped=true to attach it as it is",
                        vol.name, vol.pool);
    }
    if (vol_maps_ids(agent->pools, &vol)) {
        json_t *idmap = devtype_idmap(device);
        bool ok = vol_mount_idmapped(agent->pools, &vol, idmap, &source->path, &mapped, error);
        json_decref(idmap);
        source->idmap = ok && !mapped;
        return ok;
    }
    source->idmap = true;
    return vol_mount(agent->pools, &vol, &source->path, error);
}

static bool
is_mount_point(const char *path)
{
    struct statx stx;

    return statx(AT_FDCWD, path, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT, STATX_TYPE, &stx) == 0 &&
           (stx.stx_attributes & STATX_ATTR_MOUNT_ROOT) != 0;
}

/* A block device's file system, mounted below devices/ first (I1). */
static bool
open_block(Agent *agent, const Device *device, const char *device_path, Source *source,
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

static void
stop_custom(Agent *agent, const Device *device)
{
    Vol vol = custom_volume(agent, inst_project(device->inst), device);
    g_autoptr(GError) failure = NULL;

    if (!is_held(device)) {
        return;
    }
    let_go(device);
    if (!vol_unmount(agent->pools, &vol, &failure) && haw_code(failure) != HAW_NOT_FOUND) {
        haw_warn("disk.unmount_failed", KS("volume", vol.name), KS("why", failure->message));
    }
}

static bool
source_open(Agent *agent, const Device *device, Source *source, GError **error)
{
    const char *path = devtype_get(device, "source");
    struct stat st;

    if (is_custom(device)) {
        if (is_held(device)) {
            stop_custom(agent, device);
        }
        if (!open_custom(agent, device, source, error)) {
            return false;
        }
        hold(device);
        return true;
    }
    if (stat(path, &st) < 0) {
        return !required(device) ||
               haw_fail(error, HAW_FAILED, "Missing source path \"%s\" for disk \"%s\"", path,
                        device->name);
    }
    source->idmap = devtype_get_bool(device, "shift", false) && !privileged(device);
    if (S_ISBLK(st.st_mode)) {
        return open_block(agent, device, path, source, error);
    }
    source->path = g_strdup(path);
    source->file = !S_ISDIR(st.st_mode);
    return true;
}

/* ---- limits ---- */

/* The device that holds 'path': of btrfs and overlay, whose numbers are made up, the one that
 * /proc/self/mountinfo names. False when there is none (tmpfs). */
static bool
block_device_of(const char *path, unsigned *ret_major, unsigned *ret_minor)
{
    struct stat st;
    g_autofree char *text = NULL;
    g_autofree char *best = NULL;
    size_t best_size = 0;

    if (stat(path, &st) < 0) {
        return false;
    }
    if (major(st.st_dev) != 0) {
        *ret_major = major(st.st_dev);
        *ret_minor = minor(st.st_dev);
        return true;
    }
    text = fd_read_file("/proc/self/mountinfo", 16 * 1024 * 1024, NULL, NULL);
    g_auto(GStrv) lines = g_strsplit(text != NULL ? text : "", "\n", -1);
    for (char **line = lines; *line != NULL; line++) {
        g_auto(GStrv) f = g_strsplit(*line, " ", -1);
        char *tail = strstr(*line, " - ");
        if (g_strv_length(f) < 7 || tail == NULL) {
            continue;
        }
        size_t size = strlen(f[4]);
        bool below = strncmp(path, f[4], size) == 0 &&
                     (path[size] == '/' || path[size] == '\0' || size == 1);
        if (below && size >= best_size) {
            g_auto(GStrv) t = g_strsplit(tail + 3, " ", 3);
            g_free(best);
            best = g_strdup(t[0] != NULL && t[1] != NULL ? t[1] : "");
            best_size = size;
        }
    }
    if (best == NULL || stat(best, &st) < 0 || !S_ISBLK(st.st_mode)) {
        return false;
    }
    *ret_major = major(st.st_rdev);
    *ret_minor = minor(st.st_rdev);
    return true;
}

typedef struct {
    const char *option, *v1_bytes, *v1_iops, *v2_bytes, *v2_iops;
} LimitRow;

static const LimitRow limit_rows[] = {
    {"limits.read", "blkio.throttle.read_bps_device", "blkio.throttle.read_iops_device", "rbps",
     "riops"},
    {"limits.write", "blkio.throttle.write_bps_device", "blkio.throttle.write_iops_device", "wbps",
     "wiops"},
};

typedef bool (*LimitFn)(const char *v1_file, const char *v1_value, const char *v2_value, void *data,
                        GError **error);

/* Calls fn for each limit that is set (I3); 'all' also for those that are not, with 0 ("max"). */
static bool
limits_each(const Device *device, const char *path, bool all, LimitFn fn, void *data,
            GError **error)
{
    const char *max = devtype_get(device, "limits.max");
    unsigned major_no = 0, minor_no = 0;
    bool known = false;

    for (size_t i = 0; i < G_N_ELEMENTS(limit_rows); i++) {
        const LimitRow *row = &limit_rows[i];
        const char *value = max != NULL ? max : devtype_get(device, row->option);
        bool iops = false;
        gint64 number = 0;
        if (value == NULL && !all) {
            continue;
        }
        if (value != NULL && !parse_limit(value, &iops, &number, error)) {
            return haw_push(error, "%s", row->option);
        }
        if (!known && !block_device_of(path, &major_no, &minor_no)) {
            return all && max == NULL && value == NULL
                       ? true
                       : haw_fail(error, HAW_UNSUPPORTED,
                                  "Block device doesn't support quotas: none lies under \"%s\"",
                                  path);
        }
        known = true;
        for (int kind = 0; kind < 2; kind++) {
            bool mine = value != NULL && (kind == 1) == iops;
            if (!mine && !all) {
                continue;
            }
            g_autofree char *v1 =
                g_strdup_printf("%u:%u %" G_GINT64_FORMAT, major_no, minor_no, mine ? number : 0);
            g_autofree char *amount =
                mine ? g_strdup_printf("%" G_GINT64_FORMAT, number) : g_strdup("max");
            g_autofree char *v2 = g_strdup_printf("%u:%u %s=%s", major_no, minor_no,
                                                  kind == 1 ? row->v2_iops : row->v2_bytes, amount);
            if (!fn(kind == 1 ? row->v1_iops : row->v1_bytes, v1, v2, data, error)) {
                return false;
            }
        }
    }
    return true;
}

static bool
limit_to_lxc(const char *v1_file, const char *v1_value, const char *v2_value, void *data,
             GError **error)
{
    if (cgroup_version(CG_BLKIO) == 1) {
        g_autofree char *key = g_strdup_printf("lxc.cgroup.%s", v1_file);
        devtype_lxc(data, key, "%s", v1_value);
    } else {
        devtype_lxc(data, "lxc.cgroup2.io.max", "%s", v2_value);
    }
    return true;
}

static bool
limit_live(const char *v1_file, const char *v1_value, const char *v2_value, void *data,
           GError **error)
{
    Inst *inst = data;

    return inject_cgroup(inst, CG_BLKIO, v1_file, "io.max",
                         cgroup_version(CG_BLKIO) == 1 ? v1_value : v2_value, error);
}

/* Where the device's bytes are: for limits. Caller frees. */
static char *
limits_path(Agent *agent, const Device *device)
{
    Vol vol;

    if (device_is_root(device)) {
        return inst_volume(device->inst, &vol, NULL) ? vol_path(agent->pools, &vol) : g_strdup("/");
    }
    if (is_custom(device)) {
        vol = custom_volume(agent, inst_project(device->inst), device);
        return vol_path(agent->pools, &vol);
    }
    return g_strdup(devtype_get(device, "source"));
}

/* ---- steps ---- */

/* A bind mount of the source where the container's own set-up process may walk to (I1). */
static bool
place_source(Agent *agent, const Device *device, Source *source, GError **error)
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

static bool
remove_place(Agent *agent, const Device *device, GError **error)
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

static bool
start(Agent *agent, const Device *device, json_t *lxc, GError **error)
{
    g_auto(Source) source = {0};
    g_autofree char *measured = limits_path(agent, device);

    if (device_is_root(device)) {
        return limits_each(device, measured, false, limit_to_lxc, lxc, error);
    }
    if (!source_open(agent, device, &source, error)) {
        return false;
    }
    if (source.path == NULL) {
        return true;
    }
    if (!place_source(agent, device, &source, error)) {
        stop_custom(agent, device);
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
    return limits_each(device, measured, false, limit_to_lxc, lxc, error);
}

static bool
stop(Agent *agent, const Device *device, GError **error)
{
    if (device_is_root(device) || devtype_get(device, "path") == NULL) {
        return true;
    }
    bool ok = remove_place(agent, device, error);
    if (is_custom(device)) {
        stop_custom(agent, device);
    }
    return ok;
}

static void
adopt(Agent *agent, const Device *device)
{
    if (is_custom(device)) {
        Vol vol = custom_volume(agent, inst_project(device->inst), device);
        vol_adopt(agent->pools, &vol);
        hold(device);
    }
}

static bool
plug(Agent *agent, const Device *device, GError **error)
{
    g_auto(Source) source = {0};

    if (device_is_root(device)) {
        return haw_fail(error, HAW_INVALID, "The root disk can't be plugged");
    }
    if (!source_open(agent, device, &source, error)) {
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
    g_autofree char *measured = limits_path(agent, device);
    return limits_each(device, measured, false, limit_live, device->inst, error);
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
    g_autofree char *measured = limits_path(agent, device);
    return limits_each(device, measured, true, limit_live, device->inst, error);
}

const Devtype disk_devtype = {.type = "disk",
                              .hotplug = true,
                              .options = options,
                              .validate = validate,
                              .start = start,
                              .stop = stop,
                              .adopt = adopt,
                              .plug = plug,
                              .unplug = unplug,
                              .update = update};
