/* devlink: ports in one dump; mode and firmware by device, for PFs only: mlx5 asks its firmware for each
 * answer, and every VF is a devlink device of its own.
 * E1  Rows of other devices than asked for are passed over: a recorded door has all in one file. */
#include "hw/devlink.h"

#include <linux/devlink.h>
#include <linux/genetlink.h>
#include <string.h>

static void
port_row(struct nlmsghdr *row, void *data)
{
    struct nlattr *attrs[DEVLINK_ATTR_MAX + 1];
    struct devlink_port port = {0};
    if (!nldoor_attrs(row, attrs, DEVLINK_ATTR_MAX)) {
        return;
    }
    nldoor_text(attrs[DEVLINK_ATTR_BUS_NAME], port.bus, sizeof port.bus);
    nldoor_text(attrs[DEVLINK_ATTR_DEV_NAME], port.dev, sizeof port.dev);
    port.flavour = (int) nldoor_uint(attrs[DEVLINK_ATTR_PORT_FLAVOUR], (guint64) -1);
    port.controller = (guint) nldoor_uint(attrs[DEVLINK_ATTR_PORT_CONTROLLER_NUMBER], 0);
    port.pf = (guint) nldoor_uint(attrs[DEVLINK_ATTR_PORT_PCI_PF_NUMBER], 0);
    port.vf = (guint) nldoor_uint(attrs[DEVLINK_ATTR_PORT_PCI_VF_NUMBER], 0);
    port.external = nldoor_uint(attrs[DEVLINK_ATTR_PORT_EXTERNAL], 0) != 0;
    port.ifindex = (int) nldoor_uint(attrs[DEVLINK_ATTR_PORT_NETDEV_IFINDEX], 0);
    if (port.dev[0] != '\0') {
        g_array_append_val((GArray *) data, port);
    }
}

GArray *
devlink_ports(NlDoor *door, GError **error)
{
    g_autoptr(GArray) ports = g_array_new(FALSE, FALSE, sizeof(struct devlink_port));
    if (!nldoor_ask(door, NLDOOR_PORTS, NULL, NULL, port_row, ports, error)) {
        return NULL;
    }
    return g_steal_pointer(&ports);
}

/* What one device is asked for, and what it said. */
struct answer {
    const char *bus, *dev;
    HwEswitch mode;
    char *version;
    size_t size;
    bool exact; /* the version is that of the whole firmware */
};

/* E1 */
static bool
is_of(struct nlattr **attrs, const struct answer *answer)
{
    char bus[16], dev[HW_DEV_MAX];
    nldoor_text(attrs[DEVLINK_ATTR_BUS_NAME], bus, sizeof bus);
    nldoor_text(attrs[DEVLINK_ATTR_DEV_NAME], dev, sizeof dev);
    return strcmp(bus, answer->bus) == 0 && strcmp(dev, answer->dev) == 0;
}

static void
eswitch_row(struct nlmsghdr *row, void *data)
{
    struct nlattr *attrs[DEVLINK_ATTR_MAX + 1];
    struct answer *answer = data;
    if (nldoor_attrs(row, attrs, DEVLINK_ATTR_MAX) && is_of(attrs, answer) &&
        attrs[DEVLINK_ATTR_ESWITCH_MODE] != NULL) {
        answer->mode =
            nldoor_uint(attrs[DEVLINK_ATTR_ESWITCH_MODE], 0) == DEVLINK_ESWITCH_MODE_SWITCHDEV
                ? HW_ESWITCH_SWITCHDEV
                : HW_ESWITCH_LEGACY;
    }
}

bool
devlink_eswitch(NlDoor *door, const char *bus, const char *dev, HwEswitch *ret_mode, GError **error)
{
    struct answer answer = {.bus = bus, .dev = dev, .mode = HW_ESWITCH_UNKNOWN};
    if (!nldoor_ask(door, NLDOOR_ESWITCH, bus, dev, eswitch_row, &answer, error)) {
        return false;
    }
    *ret_mode = answer.mode;
    return true;
}

/* Drivers list many parts; "fw" or "fw.version" is the whole, else the first one that is told. */
static void
info_row(struct nlmsghdr *row, void *data)
{
    struct nlattr *attrs[DEVLINK_ATTR_MAX + 1], *entry;
    struct answer *answer = data;
    int left;
    if (!nldoor_attrs(row, attrs, DEVLINK_ATTR_MAX) || !is_of(attrs, answer)) {
        return;
    }
    nlmsg_for_each_attr(entry, row, GENL_HDRLEN, left)
    {
        char name[64];
        if (nla_type(entry) != DEVLINK_ATTR_INFO_VERSION_RUNNING) {
            continue;
        }
        nldoor_text(nla_find(nla_data(entry), nla_len(entry), DEVLINK_ATTR_INFO_VERSION_NAME), name,
                    sizeof name);
        bool exact = strcmp(name, "fw") == 0 || strcmp(name, "fw.version") == 0;
        if ((exact && !answer->exact) || answer->version[0] == '\0') {
            nldoor_text(nla_find(nla_data(entry), nla_len(entry), DEVLINK_ATTR_INFO_VERSION_VALUE),
                        answer->version, answer->size);
            answer->exact = exact;
        }
    }
}

bool
devlink_firmware(NlDoor *door, const char *bus, const char *dev, char *ret_version, size_t size,
                 GError **error)
{
    struct answer answer = {.bus = bus, .dev = dev, .version = ret_version, .size = size};
    ret_version[0] = '\0';
    return nldoor_ask(door, NLDOOR_INFO, bus, dev, info_row, &answer, error);
}

bool
devlink_set_eswitch(const char *bus, const char *dev, HwEswitch mode, GError **error)
{
    g_autoptr(NlSock) sock = nlsock_open_generic(error);
    if (sock == NULL) {
        return false;
    }
    int family = nldoor_family(sock, DEVLINK_GENL_NAME);
    if (family == 0) {
        return haw_fail(error, HAW_UNSUPPORTED, "this kernel has no devlink");
    }
    struct nl_msg *msg = nldoor_msg(family, DEVLINK_CMD_ESWITCH_SET, 0);
    nla_put_string(msg, DEVLINK_ATTR_BUS_NAME, bus);
    nla_put_string(msg, DEVLINK_ATTR_DEV_NAME, dev);
    nla_put_u16(msg, DEVLINK_ATTR_ESWITCH_MODE,
                mode == HW_ESWITCH_SWITCHDEV ? DEVLINK_ESWITCH_MODE_SWITCHDEV
                                             : DEVLINK_ESWITCH_MODE_LEGACY);
    return nlsock_ask(sock, &msg, error, "set the eswitch of '%s/%s' to %s", bus, dev,
                      hw_eswitch_name(mode));
}
