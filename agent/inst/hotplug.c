/* usb, unix-hotplug and gpu: devices found by what they are, not by a path.
 * H1  sysfs tells what is there; the kernel's uevents tell when to look again. Every look compares
 *     what should be in the container with the nodes on disk (unixdev.h T1), so a lost event costs
 *     nothing but time until the next one.
 * H2  usb gives the bus node (/dev/bus/usb/BBB/DDD); unix-hotplug gives what drivers made of the
 *     device (ttyUSB0, hidraw0, sdb…), but not the bus node.
 * Rows of devtype.h; main loop. */
#include "agent/inst/unixdev.h"

#include <errno.h>
#include <glib-unix.h>
#include <limits.h>
#include <linux/netlink.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/fiber.h"
#include "base/log.h"
#include "proto/grammar.h"

#define HOTPLUG_SETTLE_MS 200

static const DevtypeOption usb_options[] = {{"vendorid", grammar_device_id, false},
                                            {"productid", grammar_device_id, false},
                                            {"uid", grammar_uint32, false},
                                            {"gid", grammar_uint32, false},
                                            {"mode", grammar_octal, false},
                                            {"required", grammar_bool, false},
                                            {NULL}};

static bool
check_gputype(const char *value, GError **error)
{
    static const char *const known[] = {"physical", "mdev", "mig", "sriov", NULL};

    return g_strv_contains(known, value) ||
           haw_fail(error, HAW_INVALID, "Unsupported GPU type \"%s\"", value);
}

static const DevtypeOption gpu_options[] = {{"gputype", check_gputype, false},
                                            {"vendorid", grammar_device_id, false},
                                            {"productid", grammar_device_id, false},
                                            {"id", NULL, false},
                                            {"pci", NULL, false},
                                            {"mdev", NULL, false},
                                            {"mig.uuid", NULL, false},
                                            {"mig.gi", grammar_uint32, false},
                                            {"mig.ci", grammar_uint32, false},
                                            {"uid", grammar_uint32, false},
                                            {"gid", grammar_uint32, false},
                                            {"mode", grammar_octal, false},
                                            {NULL}};

/* ---- sysfs ---- */

typedef struct {
    UnixdevNode node;
    char *path; /* owns what node.path points to */
} Found;

static void
found_free(gpointer data)
{
    Found *found = data;

    g_free(found->path);
    g_free(found);
}

static char *
read_word(const char *dir, const char *name)
{
    g_autofree char *path = g_build_filename(dir, name, NULL);
    char *text = fd_read_file(path, 4096, NULL, NULL);

    return text != NULL ? g_strstrip(text) : NULL;
}

/* Whether dir/vendor_name and dir/product_name are what the device asks for. */
static bool
ids_match(const Device *device, const char *dir, const char *vendor_name, const char *product_name)
{
    const char *want_vendor = devtype_get(device, "vendorid");
    const char *want_product = devtype_get(device, "productid");
    g_autofree char *vendor = read_word(dir, vendor_name);
    g_autofree char *product = read_word(dir, product_name);

    if (vendor == NULL || product == NULL) {
        return false;
    }
    const char *v = g_str_has_prefix(vendor, "0x") ? vendor + 2 : vendor;
    const char *p = g_str_has_prefix(product, "0x") ? product + 2 : product;
    return (want_vendor == NULL || g_str_equal(want_vendor, v)) &&
           (want_product == NULL || g_str_equal(want_product, p));
}

static void
add_found(GPtrArray *list, char kind, const char *dir)
{
    g_autofree char *numbers = read_word(dir, "dev");
    g_autofree char *events = read_word(dir, "uevent");
    const char *name = events != NULL ? strstr(events, "DEVNAME=") : NULL;
    unsigned major_no, minor_no;

    if (numbers == NULL || name == NULL || sscanf(numbers, "%u:%u", &major_no, &minor_no) != 2) {
        return;
    }
    name += strlen("DEVNAME=");
    Found *found = g_new0(Found, 1);
    found->path = g_strdup_printf("/dev/%.*s", (int) strcspn(name, "\n"), name);
    found->node = (UnixdevNode){
        .kind = kind, .major_no = major_no, .minor_no = minor_no, .path = found->path};
    g_ptr_array_add(list, found);
}

static void
each_entry(const char *dir_path, const Device *device, GPtrArray *list,
           void (*look)(const char *path, const Device *device, GPtrArray *list))
{
    GDir *dir = g_dir_open(dir_path, 0, NULL);
    const char *name;

    while (dir != NULL && (name = g_dir_read_name(dir)) != NULL) {
        g_autofree char *path = g_build_filename(dir_path, name, NULL);
        look(path, device, list);
    }
    if (dir != NULL) {
        g_dir_close(dir);
    }
}

static void
look_usb(const char *path, const Device *device, GPtrArray *list)
{
    if (ids_match(device, path, "idVendor", "idProduct")) {
        add_found(list, 'c', path);
    }
}

/* Climbs from a device that a driver made to the USB device above it (H2). */
static void
look_made(const char *path, const Device *device, GPtrArray *list)
{
    char real[PATH_MAX];

    if (realpath(path, real) == NULL) {
        return;
    }
    g_autofree char *own = g_build_filename(real, "idVendor", NULL);
    if (access(own, F_OK) == 0) {
        return;
    }
    g_autofree char *start = g_strdup(real);
    for (char *slash = strrchr(real, '/'); slash != NULL && slash > real;
         slash = strrchr(real, '/')) {
        *slash = '\0';
        g_autofree char *id = g_build_filename(real, "idVendor", NULL);
        if (access(id, F_OK) == 0) {
            if (ids_match(device, real, "idVendor", "idProduct")) {
                add_found(list, strstr(path, "/dev/block/") != NULL ? 'b' : 'c', start);
            }
            return;
        }
    }
}

static void
look_gpu(const char *path, const Device *device, GPtrArray *list)
{
    g_autofree char *base = g_path_get_basename(path);
    g_autofree char *card = g_build_filename(path, "device", NULL);
    const char *pci = devtype_get(device, "pci"), *id = devtype_get(device, "id");
    char real[PATH_MAX];

    if ((!g_str_has_prefix(base, "card") && !g_str_has_prefix(base, "renderD")) ||
        strchr(base, '-') != NULL || realpath(card, real) == NULL ||
        !ids_match(device, card, "vendor", "device")) {
        return;
    }
    g_autofree char *address = g_path_get_basename(real);
    if (pci != NULL && !g_str_has_suffix(address, pci)) {
        return;
    }
    g_autofree char *numbered = id != NULL ? g_strdup_printf("%s/drm/card%s", real, id) : NULL;
    if (numbered == NULL || access(numbered, F_OK) == 0) {
        add_found(list, 'c', path);
    }
}

static GPtrArray *
find_all(const Device *device)
{
    const char *type = devtype_get(device, "type");
    GPtrArray *list = g_ptr_array_new_with_free_func(found_free);

    if (g_str_equal(type, "usb")) {
        each_entry("/sys/bus/usb/devices", device, list, look_usb);
    } else if (g_str_equal(type, "gpu")) {
        each_entry("/sys/class/drm", device, list, look_gpu);
    } else {
        each_entry("/sys/dev/char", device, list, look_made);
        each_entry("/sys/dev/block", device, list, look_made);
    }
    return list;
}

/* ---- the watch (H1) ---- */

typedef struct {
    Agent *agent; /* borrowed */
    Inst *inst;   /* shares */
    char *name;
    json_t *config; /* shares */
} Watch;

static GHashTable *watches; /* "<instance id>/<device>" → Watch, owned */
static bool looking;

static void
watch_free(gpointer data)
{
    Watch *watch = data;

    inst_unref(watch->inst);
    json_decref(watch->config);
    g_free(watch->name);
    g_free(watch);
}

static char *
watch_key(const Device *device)
{
    return g_strdup_printf("%" G_GINT64_FORMAT "/%s", inst_id(device->inst), device->name);
}

static bool
bring_in(Agent *agent, const Device *device, json_t *lxc, guint *ret_count, GError **error)
{
    g_autoptr(GPtrArray) list = find_all(device);

    for (guint i = 0; i < list->len; i++) {
        Found *found = g_ptr_array_index(list, i);
        g_autofree char *place = devtype_path(agent, device, "unix", found->path);
        if (lxc == NULL && access(place, F_OK) == 0) {
            continue;
        }
        if (!unixdev_add(agent, device, &found->node, lxc, error)) {
            return false;
        }
    }
    *ret_count = list->len;
    return true;
}

static void
look_at(Watch *watch)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(Inst) inst = inst_ref(watch->inst);
    g_autofree char *name = g_strdup(watch->name);
    json_t *config = json_incref(watch->config);
    Device device = {.inst = inst, .name = name, .config = config};
    Agent *agent = watch->agent;
    guint count = 0;

    bool ok = inst_pid(inst) <= 0 || bring_in(agent, &device, NULL, &count, &error);
    if (ok && count == 0) {
        ok = unixdev_remove_all(agent, &device, &error);
    }
    if (!ok) {
        haw_warn("hotplug.failed", KS("inst", inst_name(inst)), KS("device", name),
                 KS("why", error->message));
    }
    json_decref(config);
}

static void
look_again(void *unused)
{
    fiber_sleep_ms(HOTPLUG_SETTLE_MS, NULL, NULL);
    looking = false;
    g_autoptr(GPtrArray) keys = g_ptr_array_new_with_free_func(g_free);
    GHashTableIter iter;
    gpointer key;
    g_hash_table_iter_init(&iter, watches);
    while (g_hash_table_iter_next(&iter, &key, NULL)) {
        g_ptr_array_add(keys, g_strdup(key));
    }
    for (guint i = 0; i < keys->len; i++) {
        Watch *watch = g_hash_table_lookup(watches, g_ptr_array_index(keys, i));
        if (watch != NULL) {
            look_at(watch);
        }
    }
}

static gboolean
on_uevent(gint fd, GIOCondition condition, gpointer unused)
{
    char text[8192];

    while (recv(fd, text, sizeof(text), MSG_DONTWAIT) > 0) {
    }
    if (!looking) {
        looking = true;
        fiber_start("hotplug", look_again, NULL);
    }
    return G_SOURCE_CONTINUE;
}

static void
listen_uevents(void)
{
    struct sockaddr_nl addr = {.nl_family = AF_NETLINK, .nl_groups = 1};
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_KOBJECT_UEVENT);

    if (fd < 0 || bind(fd, (struct sockaddr *) &addr, sizeof(addr)) < 0) {
        haw_warn("hotplug.no_uevents", KS("why", g_strerror(errno)));
        fd_close(&fd);
        return;
    }
    g_unix_fd_add(fd, G_IO_IN, on_uevent, NULL); /* for the process's life */
}

static void
watch_start(Agent *agent, const Device *device)
{
    Watch *watch = g_new0(Watch, 1);

    if (watches == NULL) {
        watches = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, watch_free);
        listen_uevents();
    }
    watch->agent = agent;
    watch->inst = inst_ref(device->inst);
    watch->name = g_strdup(device->name);
    watch->config = json_incref(device->config);
    g_hash_table_replace(watches, watch_key(device), watch);
}

/* ---- steps ---- */

static bool
validate_hotplug(Agent *agent, const char *project, const Device *device, GError **error)
{
    return devtype_get(device, "vendorid") != NULL || devtype_get(device, "productid") != NULL ||
           haw_fail(error, HAW_INVALID, "Unix hotplug devices require a vendorid or a productid");
}

static bool
add(Agent *agent, const Device *device, json_t *lxc, GError **error)
{
    guint count = 0;

    watch_start(agent, device);
    if (!bring_in(agent, device, lxc, &count, error)) {
        return false;
    }
    return count > 0 || !devtype_get_bool(device, "required", false) ||
           haw_fail(error, HAW_FAILED, "Required device \"%s\" was not found", device->name);
}

static bool
plug(Agent *agent, const Device *device, GError **error)
{
    return add(agent, device, NULL, error);
}

static bool
stop(Agent *agent, const Device *device, GError **error)
{
    g_autofree char *key = watch_key(device);

    if (watches != NULL) {
        g_hash_table_remove(watches, key);
    }
    return unixdev_remove_all(agent, device, error);
}

static bool
validate_gpu(Agent *agent, const char *project, const Device *device, GError **error)
{
    const char *kind = devtype_get(device, "gputype");
    bool by_ids =
        devtype_get(device, "vendorid") != NULL || devtype_get(device, "productid") != NULL;

    if (kind != NULL && !g_str_equal(kind, "physical")) {
        return device->inst == NULL ||
               haw_fail(error, HAW_UNSUPPORTED, "GPU type \"%s\" is not supported on containers",
                        kind);
    }
    if (devtype_get(device, "pci") != NULL && (by_ids || devtype_get(device, "id") != NULL)) {
        return haw_fail(error, HAW_INVALID, "Cannot use \"%s\" when \"pci\" is set",
                        by_ids ? "vendorid" : "id");
    }
    if (devtype_get(device, "id") != NULL && by_ids) {
        return haw_fail(error, HAW_INVALID, "Cannot use \"vendorid\" when \"id\" is set");
    }
    return true;
}

static bool
add_gpu(Agent *agent, const Device *device, json_t *lxc, GError **error)
{
    guint count = 0;

    return bring_in(agent, device, lxc, &count, error) &&
           (count > 0 || haw_fail(error, HAW_FAILED, "Failed to detect requested GPU device"));
}

static bool
plug_gpu(Agent *agent, const Device *device, GError **error)
{
    return add_gpu(agent, device, NULL, error);
}

const Devtype hotplug_unix_devtype = {.type = "unix-hotplug",
                                      .hotplug = true,
                                      .options = usb_options,
                                      .validate = validate_hotplug,
                                      .start = add,
                                      .stop = stop,
                                      .adopt = watch_start,
                                      .plug = plug,
                                      .unplug = stop};
const Devtype hotplug_usb_devtype = {.type = "usb",
                                     .hotplug = true,
                                     .options = usb_options,
                                     .start = add,
                                     .stop = stop,
                                     .adopt = watch_start,
                                     .plug = plug,
                                     .unplug = stop};
const Devtype hotplug_gpu_devtype = {.type = "gpu",
                                     .hotplug = true,
                                     .options = gpu_options,
                                     .validate = validate_gpu,
                                     .start = add_gpu,
                                     .stop = unixdev_remove_all,
                                     .plug = plug_gpu,
                                     .unplug = unixdev_remove_all};
