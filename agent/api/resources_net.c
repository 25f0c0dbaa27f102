/* Resources: network cards: the ports of one PCI (or other) device are one card. Links without a device
 * (bridges, veths, loopback) are no hardware. VFs, vDPA and RDMA are in resources_sriov.c. */
#include "agent/api/resources.h"

#include "base/fd.h"
#include "hw/sysfs.h"

#include <linux/ethtool.h>
#include <linux/if_arp.h>
#include <linux/sockios.h>
#include <linux/if.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

/* Asks the driver; false when it does not say. */
static bool
ethtool(int fd, const char *name, void *command)
{
    struct ifreq request = {.ifr_data = command};
    g_strlcpy(request.ifr_name, name, sizeof request.ifr_name);
    return ioctl(fd, SIOCETHTOOL, &request) == 0;
}

static void
put_link(json_t *port, int fd, const char *name)
{
    static const char *const kinds[] = {"twisted pair", "AUI", "media-independent",
                                        "fibre",        "BNC", "direct attach"};
    struct ethtool_cmd link = {.cmd = ETHTOOL_GSET};
    struct ethtool_value up = {.cmd = ETHTOOL_GLINK};
    const char *kind = "other";
    bool known = ethtool(fd, name, &link);

    if (known && link.port < G_N_ELEMENTS(kinds)) {
        kind = kinds[link.port];
    }
    json_object_set_new(port, "port_type", json_string(kind));
    json_object_set_new(
        port, "transceiver_type",
        json_string(known && link.transceiver == XCVR_EXTERNAL ? "external" : "internal"));
    json_object_set_new(port, "auto_negotiation", json_boolean(known && link.autoneg != 0));
    bool detected = ethtool(fd, name, &up) ? up.data != 0
                                           : sysfs_int(0, "/sys/class/net/%s/carrier", name) == 1;
    json_object_set_new(port, "link_detected", json_boolean(detected));
    gint64 speed = sysfs_int(-1, "/sys/class/net/%s/speed", name);
    if (speed > 0) {
        json_object_set_new(port, "link_speed", json_integer(speed));
    }
    g_autofree char *duplex = sysfs_text("/sys/class/net/%s/duplex", name);
    if (*duplex != '\0' && strcmp(duplex, "unknown") != 0) {
        json_object_set_new(port, "link_duplex", json_string(duplex));
    }
}

static json_t *
port_of(int fd, const char *name)
{
    g_autofree char *address = sysfs_text("/sys/class/net/%s/address", name);
    gint64 type = sysfs_int(0, "/sys/class/net/%s/type", name);
    gint64 number = MAX(sysfs_int(0, "/sys/class/net/%s/dev_port", name), 0);
    json_t *port =
        json_pack("{s:s,s:s,s:I,s:s}", "id", name, "address", address, "port", (json_int_t) number,
                  "protocol", type == ARPHRD_INFINIBAND ? "infiniband" : "ethernet");
    put_link(port, fd, name);
    return port;
}

json_t *
resources_port(const char *netdev)
{
    haw_autofd int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    return port_of(fd, netdev);
}

static json_t *
card_of(int fd, const char *name, const char *pci)
{
    struct ethtool_drvinfo info = {.cmd = ETHTOOL_GDRVINFO};
    g_autofree char *driver = sysfs_link("/sys/class/net/%s/device/driver", name);
    json_t *card = json_pack("{s:s,s:s,s:[]}", "driver", driver, "driver_version", "", "ports");

    if (ethtool(fd, name, &info)) {
        info.version[sizeof info.version - 1] = info.fw_version[sizeof info.fw_version - 1] = '\0';
        json_object_set_new(card, "driver_version", json_string(info.version));
        if (info.fw_version[0] != '\0') {
            json_object_set_new(card, "firmware_version", json_string(info.fw_version));
        }
    }
    resources_put_pci(card, pci);
    return card;
}

json_t *
resources_network(void)
{
    haw_autofd int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    g_auto(GStrv) names = sysfs_list("/sys/class/net");
    g_autoptr(GHashTable) by_device = g_hash_table_new_full(g_str_hash, g_str_equal, free, NULL);
    json_t *list = json_array();

    for (char **name = names; *name != NULL; name++) {
        g_autofree char *link = g_strdup_printf("/sys/class/net/%s/device", *name);
        g_autofree char *pf = sysfs_link("%s/physfn", link);
        char *device = *pf == '\0' ? realpath(link, NULL) : NULL;
        if (device == NULL) {
            continue; /* no hardware, or a VF: those are told of below their PF */
        }
        json_t *card = g_hash_table_lookup(by_device, device);
        if (card == NULL) {
            g_autofree char *pci = sysfs_pci_of("%s", link);
            card = card_of(fd, *name, pci);
            json_array_append_new(list, card);
            g_hash_table_insert(by_device, device, card);
        } else {
            free(device);
        }
        json_array_append_new(json_object_get(card, "ports"), port_of(fd, *name));
    }
    resources_put_functions(list);
    return json_pack("{s:o,s:I}", "cards", list, "total", (json_int_t) json_array_size(list));
}
