/* netdev.h: network interfaces as hardware: which device and which switch port one belongs to, and what
 * a PF keeps for its VFs. (What agents do with interfaces is in link.h.) Threads: any, one a door. */
#pragma once
#include "hw/inventory.h"
#include "hw/nldoor.h"

struct netdev_info {
    int index, master;
    int link;            /* index of the lower or the other end, 0 */
    bool link_elsewhere; /* it is in another namespace */
    char name[IFNAMSIZ], mac[HW_MAC_MAX], kind[16];
    guint mtu, flags;
    int carrier;
    char switch_id[HW_SWITCH_ID_MAX], port_name[32];
    char parent_bus[16], parent_dev[HW_DEV_MAX];
    int bond_mode; /* of a bond, else -1 */
    GArray *vfs;   /* of a PF: struct hw_vf_props, by number; owned, NULL */
};

/* All in our namespace: struct netdev_info elements; unref frees them all. */
GArray *netdev_list(NlDoor *door, GError **error);
/* One of our namespace by its index, or by name with index 0; NOT_FOUND. netdev_info_done() it. */
bool netdev_get(NlSock *sock, int index, const char *name, struct netdev_info *ret_info,
                GError **error);
void netdev_info_done(struct netdev_info *info);
/* What a row of rtnetlink tells, were it a new link or one that goes; false for any other row. */
bool netdev_parse(struct nlmsghdr *row, struct netdev_info *ret_info);
/* Changes what is not "" or -1 of one VF of a PF. */
bool netdev_set_vf(NlSock *sock, const char *pf, guint vf, const struct hw_vf_props *props,
                   GError **error);
