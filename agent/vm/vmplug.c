/* Devices into a QEMU that is there already, and out of it: the same way before the first instruction and
 * while the guest runs.
 * P1  A device has its place in the layout before QEMU hears of it, and loses it once QEMU says that it is
 *     gone; a plug that fails half-way takes back what it had added.
 * P2  A NIC is reached by descriptors: QEMU opens no interface by name. The tap and its persistence are
 *     the network's (agent/net): they go with the NIC's stop, whatever became of QEMU.
 * P3  Unplugging asks the guest. One that does not let go (it has not booted, say) keeps the device, and
 *     the caller hears of it.
 * P4  QEMU is nobody (vmuser.c): files and devices are opened here. It keeps the descriptor under the
 *     node's name until the node goes.
 * Called by vmboot.c and driver_qemu.c. */
#include "agent/vm/vmrun.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "agent/dpd/dpdclient.h"
#include "agent/vm/vmitem.h"
#include "agent/vm/vmlayout.h"
#include "agent/vm/vmuser.h"
#include "base/fd.h"
#include "base/log.h"
#include "hw/tap.h"
#include "proto/keys.h"

enum { QUEUES_MAX = 8, GONE_MS = 20000 };

struct plug {
    VmSession *vm;
    json_t *item;
    const char *device;
    char *node, *id;
};

static bool
is(const struct plug *p, const char *key, const char *value)
{
    return g_strcmp0(vmitem_get(p->item, key), value) == 0;
}

/* ---- NICs ---- */

typedef struct {
    int fds[QUEUES_MAX], vhost[QUEUES_MAX];
    int count, vhost_count;
} Queues;

static void
queues_clear(Queues *q)
{
    for (int i = 0; i < QUEUES_MAX; i++) {
        fd_close(&q->fds[i]);
        fd_close(&q->vhost[i]);
    }
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Queues, queues_clear)

static void
queues_init(Queues *q, int count)
{
    *q = (Queues){.count = count};
    for (int i = 0; i < QUEUES_MAX; i++) {
        q->fds[i] = q->vhost[i] = -1;
    }
}

/* As many as the guest had vCPUs when it got the NIC. */
static int
queue_count(struct plug *p)
{
    int known = vmlayout_get(p->vm->layout, p->device, "queues");
    int cpus = (int) json_integer_value(json_object_get(p->vm->layout, "cpus"));
    int count = CLAMP(known > 0 ? known : cpus, 1, QUEUES_MAX);
    vmlayout_set(p->vm->layout, p->device, "queues", count);
    return count;
}

/* The node of a macvtap, which may be missing where devtmpfs is not this namespace's. */
static int
open_macvtap(const char *link, GError **error)
{
    g_autofree char *index_path = g_strdup_printf("/sys/class/net/%s/ifindex", link);
    g_autofree char *index = fd_read_file(index_path, 64, NULL, error);
    if (index == NULL) {
        return -1;
    }
    g_autofree char *path = g_strdup_printf("/dev/tap%s", g_strchomp(index));
    int fd = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        haw_fail_errno(error, errno, "Open '%s'", path);
    }
    return fd;
}

static bool
open_queues(struct plug *p, Queues *q, GError **error)
{
    const char *link = vmitem_get(p->item, "link");
    bool macvtap = is(p, "kind", "macvtap");
    for (int i = 0; i < q->count; i++) {
        q->fds[i] = macvtap ? open_macvtap(link, error) : tap_open(link, error);
        if (q->fds[i] < 0) {
            return false;
        }
        q->vhost[i] = open("/dev/vhost-net", O_RDWR | O_CLOEXEC);
        q->vhost_count += q->vhost[i] >= 0;
    }
    return true;
}

/* Hands descriptors over; "a:b" of their names there, which the caller frees. */
static char *
send_fds(struct plug *p, const char *what, const int *fds, int count, GError **error)
{
    g_autoptr(GString) names = g_string_new(NULL);
    for (int i = 0; i < count; i++) {
        g_autofree char *name = g_strdup_printf("%s-%s-%d", p->node, what, i);
        if (!qmp_send_fd(p->vm->qmp, name, fds[i], error)) {
            return NULL;
        }
        g_string_append_printf(names, "%s%s", names->len > 0 ? ":" : "", name);
    }
    return g_string_free(g_steal_pointer(&names), FALSE);
}

static bool
add_tap(struct plug *p, Queues *q, GError **error)
{
    if (!open_queues(p, q, error)) {
        return false;
    }
    g_autofree char *fds = send_fds(p, "tap", q->fds, q->count, error);
    if (fds == NULL) {
        return false;
    }
    json_t *args =
        json_pack("{s:s,s:s,s:s}", "type", "tap", "id", p->node, q->count > 1 ? "fds" : "fd", fds);
    if (q->vhost_count == q->count) {
        g_autofree char *vhost = send_fds(p, "vhost", q->vhost, q->count, error);
        if (vhost == NULL) {
            json_decref(args);
            return false;
        }
        json_object_set_new(args, "vhost", json_true());
        json_object_set_new(args, q->count > 1 ? "vhostfds" : "vhostfd", json_string(vhost));
    }
    return qmp_do(p->vm->qmp, "netdev_add", args, error);
}

static bool
add_vdpa(struct plug *p, GError **error)
{
    haw_autofd int fd = dpdclient_take(p->vm->inst->agent->dpd, vmitem_get(p->item, "id"), error);
    if (fd < 0) {
        return false;
    }
    g_autofree char *name = send_fds(p, "vdpa", &fd, 1, error);
    return name != NULL &&
           qmp_do(p->vm->qmp, "netdev_add",
                  json_pack("{s:s,s:s,s:s}", "type", "vhost-vdpa", "id", p->node, "vhostfd", name),
                  error);
}

static json_t *
nic_device(struct plug *p, const Queues *q, int port)
{
    g_autofree char *bus = g_strdup_printf("port%d", port);
    json_t *args = json_pack("{s:s,s:s,s:s}", "id", p->id, "bus", bus, "addr", "0");
    if (is(p, "kind", "vfio")) {
        json_object_set_new(args, "driver", json_string("vfio-pci"));
        json_object_set(args, "host", json_object_get(p->item, "pci"));
        return args;
    }
    json_object_set_new(args, "driver", json_string("virtio-net-pci"));
    json_object_set_new(args, "netdev", json_string(p->node));
    json_object_set(args, "mac", json_object_get(p->item, "mac"));
    if (is(p, "kind", "vdpa")) {
        json_object_set_new(args, "page-per-vq", json_true());
        json_object_set_new(args, "iommu_platform", json_true());
        json_object_set_new(args, "disable-legacy", json_string("on"));
    } else {
        json_object_set_new(args, "mq", json_boolean(q->count > 1));
        json_object_set_new(args, "vectors", json_integer(2 * q->count + 2));
    }
    return args;
}

static void
add_bootindex(struct plug *p, json_t *args)
{
    json_t *index = json_object_get(p->item, "bootindex");
    if (index != NULL) {
        json_object_set(args, "bootindex", index);
    }
}

static bool
add_nic(struct plug *p, GError **error)
{
    g_auto(Queues) q;
    queues_init(&q, queue_count(p));
    bool vfio = is(p, "kind", "vfio");
    int port = vmlayout_port(p->vm->layout, p->device, error);
    if (port < 0 || (vfio && !vmuser_give_group(p->vm->inst, vmitem_get(p->item, "pci"), error)) ||
        (is(p, "kind", "vdpa") ? !add_vdpa(p, error) : !vfio && !add_tap(p, &q, error))) {
        return false;
    }
    json_t *args = nic_device(p, &q, port);
    add_bootindex(p, args);
    if (qmp_do(p->vm->qmp, "device_add", args, error)) {
        return true;
    }
    if (!vfio) { /* P1 */
        qmp_do(p->vm->qmp, "netdev_del", json_pack("{s:s}", "id", p->node), NULL);
    }
    return false;
}

/* ---- disks ---- */

/* Where the file system does it, the guest's own cache is the only one. */
static bool
can_direct(const char *path, bool read_only)
{
    haw_autofd int fd = open(path, (read_only ? O_RDONLY : O_RDWR) | O_DIRECT | O_CLOEXEC);
    return fd >= 0;
}

/* 'path': what QEMU is to open. */
static json_t *
block_node(struct plug *p, const char *path)
{
    const char *cache = vmitem_get(p->item, "cache");
    bool read_only = json_is_true(json_object_get(p->item, "readonly"));
    bool direct = (cache == NULL || strcmp(cache, "none") == 0) &&
                  !json_is_false(json_object_get(p->item, "direct")) &&
                  can_direct(vmitem_get(p->item, "path"), read_only);
    return json_pack("{s:s,s:s,s:b,s:s,s:{s:b,s:b},s:{s:s,s:s,s:s,s:s,s:s,s:{s:b,s:b}}}", "driver",
                     "raw", "node-name", p->node, "read-only", (int) read_only, "discard", "unmap",
                     "cache", "direct", (int) direct, "no-flush",
                     (int) (g_strcmp0(cache, "unsafe") == 0), "file", "driver",
                     is(p, "kind", "block") ? "host_device" : "file", "filename", path, "aio",
                     direct ? "native" : "threads", "locking", "off", "discard", "unmap", "cache",
                     "direct", (int) direct, "no-flush", (int) (g_strcmp0(cache, "unsafe") == 0));
}

/* P4. What QEMU is to open; the caller's. */
static char *
hand_file(struct plug *p, const char *path, int flags, GError **error)
{
    haw_autofd int fd = open(path, flags | O_CLOEXEC);
    if (fd < 0) {
        haw_fail_errno(error, errno, "Open '%s'", path);
        return NULL;
    }
    return qmp_add_file(p->vm->qmp, p->node, fd, error);
}

static bool
add_block_node(struct plug *p, GError **error)
{
    bool read_only = json_is_true(json_object_get(p->item, "readonly"));
    g_autofree char *path =
        hand_file(p, vmitem_get(p->item, "path"), read_only ? O_RDONLY : O_RDWR, error);
    if (path == NULL) {
        return false;
    }
    if (!qmp_do(p->vm->qmp, "blockdev-add", block_node(p, path), error)) {
        qmp_drop_file(p->vm->qmp, p->node);
        return false;
    }
    return true;
}

static bool
add_disk(struct plug *p, GError **error)
{
    Qmp *qmp = p->vm->qmp;
    int scsi = vmlayout_scsi(p->vm->layout, p->device, error);
    bool cdrom = json_is_true(json_object_get(p->item, "cdrom"));
    if (scsi < 0 || !add_block_node(p, error)) {
        return false;
    }
    json_t *args =
        json_pack("{s:s,s:s,s:s,s:i,s:i,s:i,s:s,s:s,s:s}", "driver", cdrom ? "scsi-cd" : "scsi-hd",
                  "id", p->id, "bus", "scsi.0", "channel", 0, "scsi-id", scsi, "lun", 1, "drive",
                  p->node, "serial", p->node, "device_id", p->node);
    add_bootindex(p, args);
    if (qmp_do(qmp, "device_add", args, error)) {
        return true;
    }
    qmp_do(qmp, "blockdev-del", json_pack("{s:s}", "node-name", p->node), NULL); /* P1 */
    qmp_drop_file(qmp, p->node);
    return false;
}

/* ---- others ---- */

static bool
add_pci(struct plug *p, GError **error)
{
    int port = vmlayout_port(p->vm->layout, p->device, error);
    g_autofree char *bus = g_strdup_printf("port%d", port);
    return port >= 0 && vmuser_give_group(p->vm->inst, vmitem_get(p->item, "pci"), error) &&
           qmp_do(p->vm->qmp, "device_add",
                  json_pack("{s:s,s:s,s:s,s:s,s:s}", "driver", "vfio-pci", "id", p->id, "bus", bus,
                            "addr", "0", "host", vmitem_get(p->item, "pci")),
                  error);
}

static bool
add_share(struct plug *p, GError **error)
{
    const VmGuest *guest = vm_guest();
    return guest->plug == NULL || guest->plug(p->vm, p->item, error);
}

static const struct {
    const char *type, *kind; /* kind NULL: any */
    bool (*add)(struct plug *p, GError **error);
} kinds[] = {{"nic", NULL, add_nic},
             {"disk", "share", add_share},
             {"disk", NULL, add_disk},
             {"pci", NULL, add_pci}};

bool
vmplug_add(VmSession *vm, json_t *item, GError **error)
{
    struct plug p = {.vm = vm, .item = item, .device = vmitem_get(item, "device")};
    bool ok = true;
    p.node = vmitem_node(p.device);
    p.id = vmitem_id(p.device);
    for (size_t i = 0; i < G_N_ELEMENTS(kinds); i++) {
        if (is(&p, "type", kinds[i].type) &&
            (kinds[i].kind == NULL || is(&p, "kind", kinds[i].kind))) {
            bool known = json_object_get(json_object_get(vm->layout, "devices"), p.device) != NULL;
            ok = kinds[i].add(&p, error);
            if (!ok && !known) {
                vmlayout_forget(vm->layout, p.device); /* P1 */
            }
            break;
        }
    }
    g_free(p.node);
    g_free(p.id);
    return ok;
}

/* ---- out ---- */

static bool
delete_device(VmSession *vm, const char *id, GError **error)
{
    g_autoptr(GError) local = NULL;
    g_hash_table_remove(vm->deleted, id);
    if (!qmp_do(vm->qmp, "device_del", json_pack("{s:s}", "id", id), &local)) {
        if (haw_code(local) == HAW_NOT_FOUND) {
            return true;
        }
        /* An earlier request is still with the guest. */
        if (strstr(local->message, "in the process of unplug") == NULL) {
            g_propagate_error(error, g_steal_pointer(&local));
            return false;
        }
    }
    return vmsession_await_gone(vm, id, GONE_MS, error); /* P3 */
}

/* The back end; one that is not there is gone. */
static void
delete_backend(VmSession *vm, const char *command, const char *key, const char *node)
{
    g_autoptr(GError) error = NULL;
    if (!qmp_do(vm->qmp, command, json_pack("{s:s}", key, node), &error)) {
        haw_debug("vm.backend", KS("inst", vm->inst->name), KS("why", error->message));
    }
}

bool
vmplug_remove(VmSession *vm, const char *device, json_t *config, GError **error)
{
    g_autofree char *node = vmitem_node(device), *id = vmitem_id(device);
    const char *type = keys_get(config, "type");
    const VmGuest *guest = vm_guest();
    bool disk = g_strcmp0(type, "disk") == 0;
    bool share = disk && vmlayout_get(vm->layout, device, "scsi") < 0;
    if (share) {
        return guest->unplug == NULL || guest->unplug(vm, device, error);
    }
    if (!delete_device(vm, id, error)) {
        return false;
    }
    if (disk) {
        delete_backend(vm, "blockdev-del", "node-name", node);
        qmp_drop_file(vm->qmp, node);
    } else if (g_strcmp0(type, "nic") == 0) {
        delete_backend(vm, "netdev_del", "id", node);
    }
    if (g_strcmp0(vm->kept, device) != 0) {
        vmlayout_forget(vm->layout, device);
    }
    vmsession_store_layout(vm);
    return true;
}
