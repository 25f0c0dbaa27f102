/* Disks of a machine that moves while it runs.
 * D1  A custom volume is overwritten at the target: only one that is empty, so that nobody's data is lost. It is made
 *     by the operator, as every device of an instance has to be valid before the instance is made.
 * D2  What is written at the target is the instance's own, by its own configuration: a source names nodes, and one that
 *     is not among the target's is refused, whatever it is.
 * D3  A volume that other instances use, too, does not move: they would go on with another content.
 * Called by livecheck.c, livein.c and livedecide.c. */
#include "agent/move/livedisk.h"

#include "agent/inst/disksource.h"
#include "agent/inst/diskvm.h"
#include "agent/move/movemux.h"
#include "agent/state/volumes.h"
#include "agent/store/shelf.h"
#include "agent/store/wire.h"
#include "agent/vm/vmitem.h"
#include "base/fd.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { DISKS_MAX = MOVEMUX_DEVICES - MOVEMUX_DISK };

/* ---- the disks of an instance ---- */

typedef void (*DiskFunc)(const Device *device, const char *node, void *data);

/* Those with an image: no discs that are made of the configuration. The root disk comes first. */
static void
each_disk(Inst *inst, DiskFunc func, void *data)
{
    json_auto_t *devices = json_incref(inst->expanded_devices);
    for (int root = 1; root >= 0; root--) {
        const char *name;
        json_t *config;
        json_object_foreach (devices, name, config) {
            const Device device = {.inst = inst, .name = name, .config = config};
            if (g_strcmp0(devtype_get(&device, "type"), "disk") == 0 &&
                device_is_root(&device) == (root == 1) &&
                !diskvm_is_config(devtype_get(&device, "source"))) {
                g_autofree char *node = vmitem_node(name);
                func(&device, node, data);
            }
        }
    }
}

static Vol
volume_of(const Device *device)
{
    return disksource_volume(device->inst->agent, inst_project(device->inst), device);
}

static bool
is_block_volume(const Device *device)
{
    bool block = false;
    if (!disksource_is_custom(device)) {
        return false;
    }
    Vol vol = volume_of(device);
    return vol_is_block(device->inst->agent->pools, &vol, &block, NULL) && block;
}

/* D3 */
static bool
is_shared(const Device *device)
{
    size_t i, users = 0;
    json_t *each;
    PoolTable *pools = device->inst->agent->pools;
    Vol vol = volume_of(device);
    VolumeWhich which = shelf_which(&vol);
    g_autoptr(VolumeRow) row = volumes_get(pools->agent->db, &which, NULL);
    json_auto_t *urls = row != NULL ? wire_used_by(pools, row) : NULL;
    json_array_foreach (urls, i, each) {
        users += g_str_has_prefix(json_string_value(each), "/1.0/instances/");
    }
    return users > 1;
}

/* Why it can't move; NULL: it does. A literal. */
static const char *
why_not(const Device *device)
{
    if (device_is_root(device)) {
        return NULL;
    }
    if (!is_block_volume(device)) {
        return "only the root disk and custom block volumes move with a running virtual machine";
    }
    if (devtype_get_bool(device, "readonly", false)) {
        return "a volume that is attached read-only can't be mirrored";
    }
    return is_shared(device) ? "its volume is used by other instances, too" : NULL;
}

/* ---- source ---- */

struct list {
    GPtrArray *nodes;
    json_t *blockers;
};

static void
list_one(const Device *device, const char *node, void *data)
{
    struct list *list = data;
    const char *why = why_not(device);
    if (why != NULL) {
        livehello_block(list->blockers, "disk \"%s\": %s", device->name, why);
    } else {
        g_ptr_array_add(list->nodes, g_strdup(node));
    }
}

void
livedisk_list(Inst *inst, GPtrArray *nodes, json_t *blockers)
{
    struct list list = {nodes, blockers};
    each_disk(inst, list_one, &list);
    if (nodes->len > DISKS_MAX) {
        livehello_block(blockers, "%u disks: no more than %d can move", nodes->len, DISKS_MAX);
    }
}

/* ---- target ---- */

/* The volume's image, which stays mounted until close_image(); -1. */
static int
open_image(const Device *device, GError **error)
{
    g_autofree char *mount = NULL;
    Vol vol = volume_of(device);
    if (!vol_mount(device->inst->agent->pools, &vol, &mount, error)) {
        return -1;
    }
    g_autofree char *path = g_strdup_printf("%s/root.img", mount);
    int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0) {
        haw_fail_errno(error, errno, "Open '%s'", path);
        vol_unmount(device->inst->agent->pools, &vol, NULL);
    }
    return fd;
}

static void
close_image(const Device *device, int *fd)
{
    Vol vol = volume_of(device);
    fd_close(fd);
    vol_unmount(device->inst->agent->pools, &vol, NULL);
}

struct check {
    const struct live_hello *hello;
    json_t *blockers;
    guint taken; /* of the source's disks */
};

static void
check_image(const Device *device, gint64 bytes, json_t *blockers)
{
    struct stat file;
    g_autoptr(GError) error = NULL;
    const char *volume = devtype_get(device, "source"), *pool = devtype_get(device, "pool");
    int fd = open_image(device, &error);
    if (fd < 0) {
        livehello_block(blockers, "disk \"%s\" at the target: %s", device->name, error->message);
        return;
    }
    if (fstat(fd, &file) != 0 || file.st_size != bytes) {
        livehello_block(
            blockers,
            "disk \"%s\": volume \"%s\" of pool \"%s\" at the target has %" G_GINT64_FORMAT
            " bytes, and the source's %" G_GINT64_FORMAT,
            device->name, volume, pool, (gint64) file.st_size, bytes);
    } else if (lseek(fd, 0, SEEK_DATA) >= 0 || errno != ENXIO) { /* D1 */
        livehello_block(blockers,
                        "disk \"%s\": volume \"%s\" of pool \"%s\" at the target is not empty, and "
                        "would be overwritten: make it anew, or take another",
                        device->name, volume, pool);
    }
    close_image(device, &fd);
}

static void
check_one(const Device *device, const char *node, void *data)
{
    size_t i;
    json_t *each;
    struct check *check = data;
    const char *why = why_not(device);
    if (why != NULL) {
        livehello_block(check->blockers, "disk \"%s\" at the target: %s", device->name, why);
        return;
    }
    json_array_foreach (check->hello->disks, i, each) {
        if (strcmp(json_string_value(each), node) == 0) {
            check->taken++;
            if (!device_is_root(device)) {
                gint64 bytes = json_integer_value(json_array_get(check->hello->sizes, i));
                check_image(device, bytes, check->blockers);
            }
            return;
        }
    }
    livehello_block(check->blockers, "disk \"%s\" of the target is none of the source's",
                    device->name);
}

void
livedisk_check(Inst *inst, const struct live_hello *hello, json_t *blockers)
{
    struct check check = {hello, blockers, 0};
    each_disk(inst, check_one, &check);
    if (check.taken != json_array_size(hello->disks)) { /* D2 */
        livehello_block(blockers, "the source has disks that the target's instance has not");
    }
}

static void
clear_one(const Device *device, const char *node, void *data)
{
    struct stat file;
    g_autoptr(GError) error = NULL;
    if (why_not(device) != NULL || device_is_root(device)) {
        return;
    }
    int fd = open_image(device, &error);
    if (fd < 0) {
        haw_warn("live.clear", KS("disk", node), KS("why", error->message));
        return;
    }
    if (fstat(fd, &file) != 0 || ftruncate(fd, 0) != 0 || ftruncate(fd, file.st_size) != 0) {
        haw_warn("live.clear", KS("disk", node), KS("why", g_strerror(errno)));
    }
    close_image(device, &fd);
}

void
livedisk_clear(Inst *inst)
{
    each_disk(inst, clear_one, NULL);
}
