/* unix-char and unix-block, and the device nodes that hotplug.c's types share.
 * T1  A node is made on the host, in <dir>/devices/NAME/unix.DEV.PATH, owned by the host ids that the
 *     container's map gives; the container gets a bind mount of it. Without that directory's file
 *     nothing of a device is left: names on disk are the record.
 * T2  The container's device cgroup denies all but the harmless: what is added is allowed there, and
 *     denied again when it leaves, unless it is one of those that every container has.
 * T3  required=false: the source's directory is watched; the node comes and goes with the source.
 * Row of devtype.h; main loop. */
#include "agent/inst/unixdev.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "agent/inst/inject.h"
#include "agent/inst/shift.h"
#include "base/fd.h"
#include "base/fiber.h"
#include "base/log.h"
#include "proto/grammar.h"

static bool
check_path(const char *value, GError **error)
{
    return value[0] == '/' || haw_fail(error, HAW_INVALID, "Path \"%s\" must be absolute", value);
}

static const DevtypeOption options[] = {{"source", check_path, false},
                                        {"path", check_path, false},
                                        {"major", grammar_uint32, false},
                                        {"minor", grammar_uint32, false},
                                        {"uid", grammar_uint32, false},
                                        {"gid", grammar_uint32, false},
                                        {"mode", grammar_octal, false},
                                        {"required", grammar_bool, false},
                                        {NULL}};

/* ---- nodes ---- */

static long
number_option(const Device *device, const char *option, long fallback, int base)
{
    const char *text = devtype_get(device, option);

    return text != NULL ? strtol(text, NULL, base) : fallback;
}

static bool
make_node(Agent *agent, const Device *device, const UnixdevNode *node, const char *place,
          GError **error)
{
    g_autofree char *dir = devtype_dir(agent, device);
    json_t *idmap = devtype_idmap(device);
    gint64 uid = shift_to_host(idmap, SHIFT_UID, number_option(device, "uid", 0, 10));
    gint64 gid = shift_to_host(idmap, SHIFT_GID, number_option(device, "gid", 0, 10));
    mode_t mode = (mode_t) number_option(device, "mode", 0660, 8) & 0777;

    json_decref(idmap);
    if (uid == SHIFT_NONE || gid == SHIFT_NONE) {
        return haw_fail(error, HAW_INVALID,
                        "Device \"%s\": uid or gid is not mapped in the "
                        "instance",
                        device->name);
    }
    if (!fd_mkdir_p(dir, 0711, error)) {
        return false;
    }
    unlink(place);
    if (mknod(place, mode | (node->kind == 'b' ? S_IFBLK : S_IFCHR),
              makedev(node->major_no, node->minor_no)) < 0 ||
        chown(place, (uid_t) uid, (gid_t) gid) < 0 || chmod(place, mode) < 0) {
        return haw_fail_errno(error, errno, "Failed to create device \"%s\"", place);
    }
    return true;
}

/* Another device of the instance has a node for the same path: the first is the one that is seen. */
static bool
has_twin(Agent *agent, const Device *device, const char *place, const char *path)
{
    g_autofree char *dir_path = devtype_dir(agent, device);
    g_autofree char *stem = devtype_path(agent, device, "unix", "");
    g_autofree char *whole = devtype_path(agent, device, "unix", path);
    const char *suffix = whole + strlen(stem) - 1; /* ".dev-ttyS0" */
    g_autoptr(GDir) dir = g_dir_open(dir_path, 0, NULL);
    const char *name;

    while (dir != NULL && (name = g_dir_read_name(dir)) != NULL) {
        g_autofree char *other = g_build_filename(dir_path, name, NULL);
        if (g_str_has_suffix(name, suffix) && !g_str_equal(other, place)) {
            return true;
        }
    }
    return false;
}

bool
unixdev_add(Agent *agent, const Device *device, const UnixdevNode *node, json_t *lxc,
            GError **error)
{
    g_autofree char *place = devtype_path(agent, device, "unix", node->path);

    if (!make_node(agent, device, node, place, error)) {
        return false;
    }
    bool twin = has_twin(agent, device, place, node->path);
    if (lxc == NULL) {
        InjectMount mount = {.source = place, .target = node->path, .file = true};
        return (twin || inject_mount(agent, device->inst, &mount, error)) &&
               inject_allow(agent, device->inst, node->kind, node->major_no, node->minor_no, true,
                            error);
    }
    g_autofree char *from = devtype_fstab(place);
    g_autofree char *to = devtype_fstab(node->path + strspn(node->path, "/"));
    if (!twin) {
        devtype_lxc(lxc, "lxc.mount.entry", "%s %s none bind,create=file 0 0", from, to);
    }
    int version = cgroup_version(CG_DEVICES);
    if (version != 0) { /* T2 */
        devtype_lxc(lxc, version == 1 ? "lxc.cgroup.devices.allow" : "lxc.cgroup2.devices.allow",
                    "%c %u:%u rwm", node->kind, node->major_no, node->minor_no);
    }
    return true;
}

/* What every container may use (lxcconf.c's list), and what another node of the instance still
 * stands for, stays allowed. */
static bool
still_needed(Agent *agent, const Device *device, const struct stat *gone)
{
    static const unsigned always[][2] = {{1, 3}, {1, 5}, {1, 7}, {1, 8},    {1, 9},
                                         {5, 0}, {5, 1}, {5, 2}, {10, 200}, {10, 229}};
    g_autofree char *dir_path = devtype_dir(agent, device);
    g_autoptr(GDir) dir = g_dir_open(dir_path, 0, NULL);
    const char *name;

    for (size_t i = 0; S_ISCHR(gone->st_mode) && i < G_N_ELEMENTS(always); i++) {
        if (gone->st_rdev == makedev(always[i][0], always[i][1])) {
            return true;
        }
    }
    while (dir != NULL && (name = g_dir_read_name(dir)) != NULL) {
        g_autofree char *path = g_build_filename(dir_path, name, NULL);
        struct stat st;
        if (lstat(path, &st) == 0 && st.st_rdev == gone->st_rdev &&
            (st.st_mode & S_IFMT) == (gone->st_mode & S_IFMT)) {
            return true;
        }
    }
    return false;
}

static bool
remove_place(Agent *agent, const Device *device, const char *place, const char *path,
             GError **error)
{
    struct stat st;

    if (lstat(place, &st) < 0) {
        return true;
    }
    bool running = inst_pid(device->inst) > 0;
    if (running && !has_twin(agent, device, place, path) &&
        !inject_unmount(agent, device->inst, path, true, error)) {
        return false;
    }
    if (unlink(place) < 0 && errno != ENOENT) {
        return haw_fail_errno(error, errno, "remove '%s'", place);
    }
    return !running || still_needed(agent, device, &st) ||
           inject_allow(agent, device->inst, S_ISBLK(st.st_mode) ? 'b' : 'c', major(st.st_rdev),
                        minor(st.st_rdev), false, error);
}

/* The opposite of devtype_path()'s encoding: "--" is "-", "-" is "/". */
static char *
decode_path(const char *text)
{
    GString *path = g_string_new("/");

    for (; text[0] != '\0'; text++) {
        if (text[0] == '-' && text[1] == '-') {
            g_string_append_c(path, '-');
            text++;
        } else {
            g_string_append_c(path, text[0] == '-' ? '/' : text[0]);
        }
    }
    return g_string_free(path, FALSE);
}

bool
unixdev_remove_all(Agent *agent, const Device *device, GError **error)
{
    g_autofree char *dir_path = devtype_dir(agent, device);
    g_autofree char *stem_path = devtype_path(agent, device, "unix", "");
    const char *stem = stem_path + strlen(dir_path) + 1, *name;
    GDir *dir = g_dir_open(dir_path, 0, NULL);
    g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);

    while (dir != NULL && (name = g_dir_read_name(dir)) != NULL) {
        if (g_str_has_prefix(name, stem)) {
            g_ptr_array_add(names, g_strdup(name));
        }
    }
    if (dir != NULL) {
        g_dir_close(dir);
    }
    for (guint i = 0; i < names->len; i++) {
        const char *found = g_ptr_array_index(names, i);
        g_autofree char *place = g_build_filename(dir_path, found, NULL);
        g_autofree char *path = decode_path(found + strlen(stem));
        if (!remove_place(agent, device, place, path, error)) {
            return false;
        }
    }
    return true;
}

/* ---- unix-char, unix-block ---- */

static const char *
source_of(const Device *device)
{
    const char *source = devtype_get(device, "source");

    return source != NULL ? source : devtype_get(device, "path");
}

static bool
validate(Agent *agent, const char *project, const Device *device, GError **error)
{
    const char *source = devtype_get(device, "source");

    if (source == NULL && devtype_get(device, "path") == NULL) {
        return haw_fail(error, HAW_INVALID,
                        "Unix device entry is missing the required \"source\" "
                        "or \"path\" property");
    }
    if ((devtype_get(device, "major") == NULL) != (devtype_get(device, "minor") == NULL)) {
        return haw_fail(error, HAW_INVALID, "Both major and minor must be supplied for device");
    }
    return true;
}

/* False without an error when the source is not there (yet) and need not be. */
static bool
find_node(const Device *device, UnixdevNode *node, bool *ret_there, GError **error)
{
    const char *path = devtype_get(device, "path");
    struct stat st;

    node->kind = g_str_equal(devtype_get(device, "type"), "unix-block") ? 'b' : 'c';
    node->path = path != NULL ? path : devtype_get(device, "source");
    *ret_there = true;
    if (devtype_get(device, "major") != NULL && devtype_get(device, "minor") != NULL) {
        node->major_no = (unsigned) number_option(device, "major", 0, 10);
        node->minor_no = (unsigned) number_option(device, "minor", 0, 10);
        return true;
    }
    if (stat(source_of(device), &st) < 0) {
        *ret_there = false;
        return !devtype_get_bool(device, "required", true) ||
               haw_fail(error, HAW_FAILED,
                        "The required device path doesn't exist and the major "
                        "and minor settings are not specified");
    }
    if (!(node->kind == 'b' ? S_ISBLK(st.st_mode) : S_ISCHR(st.st_mode))) {
        return haw_fail(error, HAW_INVALID, "Device \"%s\" is not a %s device", source_of(device),
                        node->kind == 'b' ? "block" : "character");
    }
    node->major_no = major(st.st_rdev);
    node->minor_no = minor(st.st_rdev);
    return true;
}

/* ---- T3 ---- */

typedef struct {
    Agent *agent; /* borrowed */
    Inst *inst;   /* shares */
    char *name;
    json_t *config; /* shares */
    GFileMonitor *monitor;
    char *dir; /* what it watches */
    bool busy; /* a fiber looks at it */
} Watch;

static GHashTable *watches; /* "<instance id>/<device>" → Watch, owned */

static char *
watch_key(const Device *device)
{
    return g_strdup_printf("%" G_GINT64_FORMAT "/%s", inst_id(device->inst), device->name);
}

static void
watch_free(gpointer data)
{
    Watch *watch = data;

    if (watch->monitor != NULL) {
        g_file_monitor_cancel(watch->monitor);
        g_object_unref(watch->monitor);
    }
    inst_unref(watch->inst);
    json_decref(watch->config);
    g_free(watch->dir);
    g_free(watch->name);
    g_free(watch);
}

static void on_change(GFileMonitor *monitor, GFile *file, GFile *other, GFileMonitorEvent event,
                      gpointer data);

/* The directory of the source, or the closest one above it that exists. Caller frees. */
static char *
closest_dir(const char *source)
{
    char *dir = g_path_get_dirname(source);
    while (!g_file_test(dir, G_FILE_TEST_IS_DIR) && strcmp(dir, "/") != 0) {
        char *above = g_path_get_dirname(dir);
        g_free(dir);
        dir = above;
    }
    return dir;
}

static void
watch_arm(Watch *watch)
{
    Device device = {.inst = watch->inst, .name = watch->name, .config = watch->config};
    g_autofree char *path = closest_dir(source_of(&device));
    if (watch->monitor != NULL && g_strcmp0(path, watch->dir) == 0) {
        return;
    }
    if (watch->monitor != NULL) {
        g_file_monitor_cancel(watch->monitor);
        g_clear_object(&watch->monitor);
    }
    g_autoptr(GFile) dir = g_file_new_for_path(path);
    g_free(watch->dir);
    watch->dir = g_steal_pointer(&path);
    watch->monitor = g_file_monitor_directory(dir, G_FILE_MONITOR_NONE, NULL, NULL);
    if (watch->monitor != NULL) {
        g_file_monitor_set_rate_limit(watch->monitor, 100);
        g_signal_connect(watch->monitor, "changed", G_CALLBACK(on_change), watch);
    }
}

static void
watch_look(void *data)
{
    g_autofree char *key = data;
    g_autoptr(GError) error = NULL;
    Watch *watch = watches != NULL ? g_hash_table_lookup(watches, key) : NULL;
    UnixdevNode node = {0};
    bool there = false, ok = true;

    if (watch == NULL) {
        return;
    }
    watch->busy = false;
    watch_arm(watch);
    if (inst_pid(watch->inst) <= 0) {
        return;
    }
    g_autoptr(Inst) inst = inst_ref(watch->inst);
    g_autofree char *name = g_strdup(watch->name);
    json_t *config = json_incref(watch->config);
    Device device = {.inst = inst, .name = name, .config = config};
    Agent *agent = watch->agent;
    if (find_node(&device, &node, &there, &error)) {
        g_autofree char *place = devtype_path(agent, &device, "unix", node.path);
        bool placed = access(place, F_OK) == 0;
        if (there && !placed) {
            ok = unixdev_add(agent, &device, &node, NULL, &error);
        } else if (!there && placed) {
            ok = unixdev_remove_all(agent, &device, &error);
        }
    }
    if (!ok || error != NULL) {
        haw_warn("unixdev.watch_failed", KS("inst", inst_name(inst)), KS("device", name),
                 KS("why", error->message));
    }
    json_decref(config);
}

static void
on_change(GFileMonitor *monitor, GFile *file, GFile *other, GFileMonitorEvent event, gpointer data)
{
    Watch *watch = data;
    Device device = {.inst = watch->inst, .name = watch->name, .config = watch->config};
    g_autofree char *path = g_file_get_path(file);

    /* The source, or a directory on the way to it. */
    size_t size = path != NULL ? strlen(path) : 0;
    const char *source = source_of(&device);
    bool on_the_way = size > 0 && strncmp(source, path, size) == 0 &&
                      (source[size] == '\0' || source[size] == '/');
    if (!watch->busy && (on_the_way || event == G_FILE_MONITOR_EVENT_DELETED)) {
        watch->busy = true;
        fiber_start("unixdev watch", watch_look, watch_key(&device));
    }
}

static void
watch_start(Agent *agent, const Device *device)
{
    Watch *watch = g_new0(Watch, 1);

    if (watches == NULL) {
        watches = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, watch_free);
    }
    watch->agent = agent;
    watch->inst = inst_ref(device->inst);
    watch->name = g_strdup(device->name);
    watch->config = json_incref(device->config);
    watch_arm(watch);
    g_hash_table_replace(watches, watch_key(device), watch);
}

static void
watch_stop(const Device *device)
{
    g_autofree char *key = watch_key(device);

    if (watches != NULL) {
        g_hash_table_remove(watches, key);
    }
}

/* ---- steps ---- */

static bool
add(Agent *agent, const Device *device, json_t *lxc, GError **error)
{
    UnixdevNode node = {0};
    bool there;

    if (!find_node(device, &node, &there, error)) {
        return false;
    }
    if (!devtype_get_bool(device, "required", true)) {
        watch_start(agent, device);
    }
    return !there || unixdev_add(agent, device, &node, lxc, error);
}

static bool
plug(Agent *agent, const Device *device, GError **error)
{
    return add(agent, device, NULL, error);
}

static bool
stop(Agent *agent, const Device *device, GError **error)
{
    watch_stop(device);
    return unixdev_remove_all(agent, device, error);
}

static void
adopt(Agent *agent, const Device *device)
{
    if (!devtype_get_bool(device, "required", true)) {
        watch_start(agent, device);
    }
}

const Devtype unixdev_char_devtype = {.type = "unix-char",
                                      .hotplug = true,
                                      .options = options,
                                      .validate = validate,
                                      .start = add,
                                      .stop = stop,
                                      .adopt = adopt,
                                      .plug = plug,
                                      .unplug = stop};
const Devtype unixdev_block_devtype = {.type = "unix-block",
                                       .hotplug = true,
                                       .options = options,
                                       .validate = validate,
                                       .start = add,
                                       .stop = stop,
                                       .adopt = adopt,
                                       .plug = plug,
                                       .unplug = stop};
