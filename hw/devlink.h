/* devlink.h: embedded switches: their ports, their mode, their firmware. Threads: any, one a door. */
#pragma once
#include "hw/inventory.h"
#include "hw/nldoor.h"

struct devlink_port {
    char bus[16], dev[HW_DEV_MAX]; /* of the device that has the port */
    int flavour;                   /* DEVLINK_PORT_FLAVOUR_… */
    guint controller, pf, vf;      /* of a PCI port */
    bool external;                 /* its function is on another host */
    int ifindex;                   /* 0 without an interface here */
};
/* Ports of all devices: struct devlink_port elements. */
GArray *devlink_ports(NlDoor *door, GError **error);
/* UNKNOWN for a device without embedded switch. */
bool devlink_eswitch(NlDoor *door, const char *bus, const char *dev, HwEswitch *ret_mode,
                     GError **error);
/* The running firmware's version, "" when it isn't told. */
bool devlink_firmware(NlDoor *door, const char *bus, const char *dev, char *ret_version,
                      size_t size, GError **error);

bool devlink_set_eswitch(const char *bus, const char *dev, HwEswitch mode, GError **error);
