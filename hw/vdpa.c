/* vDPA over its generic netlink family and its bus in sysfs.
 * P1  Removing a device whose character device is open hangs in the kernel until that one closes (and
 *     with it every other vdpa request), so we look first: vhost-vdpa has one opener at a time.
 * P2  A device that was made but can't be given to vhost_vdpa is removed again. */
#include "hw/vdpa.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/vdpa.h>
#include <linux/virtio_ids.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "hw/sysfs.h"

static void
handle_of(struct nlattr **attrs, char *ret_handle, char *ret_dev)
{
    char bus[16], dev[HW_DEV_MAX];
    nldoor_text(attrs[VDPA_ATTR_MGMTDEV_BUS_NAME], bus, sizeof bus);
    nldoor_text(attrs[VDPA_ATTR_MGMTDEV_DEV_NAME], dev, sizeof dev);
    g_snprintf(ret_handle, HW_DEV_MAX + 16, "%s%s%s", bus, *bus != '\0' ? "/" : "", dev);
    if (ret_dev != NULL && *bus != '\0') {
        g_strlcpy(ret_dev, dev, HW_DEV_MAX);
    }
}

static void
mgmt_row(struct nlmsghdr *row, void *data)
{
    struct nlattr *attrs[VDPA_ATTR_MAX + 1];
    struct hw_vdpa_mgmt mgmt = {0};
    if (!nldoor_attrs(row, attrs, VDPA_ATTR_MAX)) {
        return;
    }
    handle_of(attrs, mgmt.handle, mgmt.dev);
    mgmt.net = (nldoor_uint(attrs[VDPA_ATTR_MGMTDEV_SUPPORTED_CLASSES], 0) &
                (G_GUINT64_CONSTANT(1) << VIRTIO_ID_NET)) != 0;
    mgmt.features = nldoor_uint(attrs[VDPA_ATTR_DEV_SUPPORTED_FEATURES], 0);
    mgmt.max_vqs = (guint) nldoor_uint(attrs[VDPA_ATTR_DEV_MGMTDEV_MAX_VQS], 0);
    g_array_append_val((GArray *) data, mgmt);
}

static void
device_row(struct nlmsghdr *row, void *data)
{
    struct nlattr *attrs[VDPA_ATTR_MAX + 1];
    struct hw_vdpa vdpa = {0};
    if (!nldoor_attrs(row, attrs, VDPA_ATTR_MAX) || attrs[VDPA_ATTR_DEV_NAME] == NULL ||
        nldoor_uint(attrs[VDPA_ATTR_DEV_ID], VIRTIO_ID_NET) != VIRTIO_ID_NET) {
        return;
    }
    nldoor_text(attrs[VDPA_ATTR_DEV_NAME], vdpa.name, sizeof vdpa.name);
    handle_of(attrs, vdpa.mgmt, NULL);
    vdpa.max_vqs = (guint) nldoor_uint(attrs[VDPA_ATTR_DEV_MAX_VQS], 0);
    g_array_append_val((GArray *) data, vdpa);
}

static void
config_row(struct nlmsghdr *row, void *data)
{
    struct nlattr *attrs[VDPA_ATTR_MAX + 1];
    GArray *devices = data;
    char name[64];
    if (!nldoor_attrs(row, attrs, VDPA_ATTR_MAX)) {
        return;
    }
    nldoor_text(attrs[VDPA_ATTR_DEV_NAME], name, sizeof name);
    for (guint i = 0; i < devices->len; i++) {
        struct hw_vdpa *vdpa = &g_array_index(devices, struct hw_vdpa, i);
        if (strcmp(vdpa->name, name) == 0) {
            nldoor_mac(attrs[VDPA_ATTR_DEV_NET_CFG_MACADDR], vdpa->mac, sizeof vdpa->mac);
            vdpa->mtu = (guint) nldoor_uint(attrs[VDPA_ATTR_DEV_NET_CFG_MTU], 0);
            vdpa->features = nldoor_uint(attrs[VDPA_ATTR_DEV_FEATURES], 0);
        }
    }
}

/* Driver and character device, which sysfs knows. */
static void
read_bus(const char *sysfs, struct hw_vdpa *vdpa)
{
    g_autofree char *driver = sysfs_link("%s/bus/vdpa/devices/%s/driver", sysfs, vdpa->name);
    g_auto(GStrv) entries = sysfs_list("%s/bus/vdpa/devices/%s", sysfs, vdpa->name);
    g_strlcpy(vdpa->driver, driver, sizeof vdpa->driver);
    vdpa->chardev[0] = '\0';
    for (char **entry = entries; *entry != NULL; entry++) {
        if (g_str_has_prefix(*entry, "vhost-vdpa-")) {
            g_snprintf(vdpa->chardev, sizeof vdpa->chardev, "/dev/%s", *entry);
        }
    }
}

bool
vdpa_list(NlDoor *door, GArray *mgmts, GArray *devices, GError **error)
{
    if (!nldoor_ask(door, NLDOOR_VDPA_MGMTS, NULL, NULL, mgmt_row, mgmts, error)) {
        return false;
    }
    if (mgmts->len == 0) {
        return true; /* no management device, no device */
    }
    if (!nldoor_ask(door, NLDOOR_VDPA_DEVS, NULL, NULL, device_row, devices, error) ||
        (devices->len > 0 &&
         !nldoor_ask(door, NLDOOR_VDPA_CONFIGS, NULL, NULL, config_row, devices, error))) {
        return false;
    }
    for (guint i = 0; i < devices->len; i++) {
        read_bus(nldoor_sysfs(door), &g_array_index(devices, struct hw_vdpa, i));
    }
    return true;
}

static NlSock *
family_open(int *ret_family, GError **error)
{
    g_autoptr(NlSock) sock = nlsock_open_generic(error);
    if (sock == NULL) {
        return NULL;
    }
    *ret_family = nldoor_family(sock, VDPA_GENL_NAME);
    if (*ret_family == 0) {
        haw_fail(error, HAW_UNSUPPORTED, "this kernel has no vDPA: load the module 'vdpa'");
        return NULL;
    }
    return g_steal_pointer(&sock);
}

static bool
put_new(struct nl_msg *msg, const struct hw_vdpa_new *want, GError **error)
{
    g_auto(GStrv) handle = g_strsplit(want->mgmt, "/", 2);
    guint8 mac[6];
    if (handle[0] != NULL && handle[1] != NULL) {
        nla_put_string(msg, VDPA_ATTR_MGMTDEV_BUS_NAME, handle[0]);
        nla_put_string(msg, VDPA_ATTR_MGMTDEV_DEV_NAME, handle[1]);
    } else {
        nla_put_string(msg, VDPA_ATTR_MGMTDEV_DEV_NAME, want->mgmt);
    }
    nla_put_string(msg, VDPA_ATTR_DEV_NAME, want->name);
    if (want->mac != NULL) {
        if (sscanf(want->mac, "%2hhx:%2hhx:%2hhx:%2hhx:%2hhx:%2hhx", mac, mac + 1, mac + 2, mac + 3,
                   mac + 4, mac + 5) != 6) {
            return haw_fail(error, HAW_INVALID, "Invalid MAC address \"%s\"", want->mac);
        }
        nla_put(msg, VDPA_ATTR_DEV_NET_CFG_MACADDR, sizeof mac, mac);
    }
    if (want->mtu != 0) {
        nla_put_u16(msg, VDPA_ATTR_DEV_NET_CFG_MTU, (guint16) want->mtu);
    }
    if (want->queue_pairs != 0) {
        nla_put_u16(msg, VDPA_ATTR_DEV_NET_CFG_MAX_VQP, (guint16) want->queue_pairs);
    }
    return true;
}

static bool
write_bus(const char *name, const char *path, const char *text, GError **error)
{
    return fd_write_kernel(path, text, error) ||
           haw_push(error, "give vDPA device '%s' to vhost_vdpa", name);
}

/* The kernel gives a new device to the first driver of its bus, which may be virtio_vdpa. */
static bool
give_to_vhost(struct hw_vdpa *vdpa, GError **error)
{
    read_bus("/sys", vdpa);
    if (strcmp(vdpa->driver, "vhost_vdpa") != 0) {
        g_autofree char *override =
            g_strdup_printf("/sys/bus/vdpa/devices/%s/driver_override", vdpa->name);
        g_autofree char *unbind = g_strdup_printf("/sys/bus/vdpa/drivers/%s/unbind", vdpa->driver);
        if (access("/sys/bus/vdpa/drivers/vhost_vdpa", F_OK) < 0) {
            return haw_fail(error, HAW_UNSUPPORTED,
                            "this kernel has no vhost_vdpa: load the module 'vhost_vdpa'");
        }
        if ((access(override, F_OK) == 0 &&
             !write_bus(vdpa->name, override, "vhost_vdpa", error)) ||
            (vdpa->driver[0] != '\0' && !write_bus(vdpa->name, unbind, vdpa->name, error)) ||
            !write_bus(vdpa->name, "/sys/bus/vdpa/drivers/vhost_vdpa/bind", vdpa->name, error)) {
            return false;
        }
        read_bus("/sys", vdpa);
    }
    return vdpa->chardev[0] != '\0' ||
           haw_fail(error, HAW_NOT_FOUND, "vDPA device '%s' ('%s') has no character device",
                    vdpa->name, vdpa->driver);
}

/* P2 */
bool
vdpa_add(const struct hw_vdpa_new *want, struct hw_vdpa *ret_vdpa, GError **error)
{
    int family;
    g_autoptr(NlSock) sock = family_open(&family, error);
    if (sock == NULL) {
        return false;
    }
    struct nl_msg *msg = nldoor_msg(family, VDPA_CMD_DEV_NEW, 0);
    if (!put_new(msg, want, error)) {
        nlmsg_free(msg);
        return false;
    }
    if (!nlsock_ask(sock, &msg, error, "add vDPA device '%s' on '%s'", want->name, want->mgmt)) {
        return false;
    }
    struct hw_vdpa vdpa = {.mtu = want->mtu, .max_vqs = want->queue_pairs * 2};
    g_strlcpy(vdpa.name, want->name, sizeof vdpa.name);
    g_strlcpy(vdpa.mgmt, want->mgmt, sizeof vdpa.mgmt);
    g_strlcpy(vdpa.mac, want->mac != NULL ? want->mac : "", sizeof vdpa.mac);
    if (!give_to_vhost(&vdpa, error)) {
        vdpa_del(want->name, NULL);
        return false;
    }
    *ret_vdpa = vdpa;
    return true;
}

/* P1 */
static bool
is_free(const struct hw_vdpa *vdpa, GError **error)
{
    if (vdpa->chardev[0] == '\0') {
        return true;
    }
    haw_autofd int fd = open(vdpa->chardev, O_RDWR | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0 && errno == EBUSY) {
        return haw_fail(error, HAW_BUSY,
                        "vDPA device '%s' is in use: whoever has '%s' open must end first",
                        vdpa->name, vdpa->chardev);
    }
    return true;
}

bool
vdpa_del(const char *name, GError **error)
{
    int family;
    g_autoptr(GError) why = NULL;
    g_autofree char *path = g_strdup_printf("/sys/bus/vdpa/devices/%s", name);
    if (access(path, F_OK) < 0) {
        return true;
    }
    g_autoptr(NlSock) sock = family_open(&family, error);
    struct hw_vdpa vdpa = {0};
    g_strlcpy(vdpa.name, name, sizeof vdpa.name);
    read_bus("/sys", &vdpa);
    if (sock == NULL || !is_free(&vdpa, error)) {
        return false;
    }
    struct nl_msg *msg = nldoor_msg(family, VDPA_CMD_DEV_DEL, 0);
    nla_put_string(msg, VDPA_ATTR_DEV_NAME, name);
    if (nlsock_ask(sock, &msg, &why, "remove vDPA device '%s'", name) ||
        haw_code(why) == HAW_NOT_FOUND) {
        return true;
    }
    g_propagate_error(error, g_steal_pointer(&why));
    return false;
}
