/* vfstate.h: what a virtual function was before a port took it, as text for the ledger, and the changes
 * that make it so again. Threads: any; nothing here asks the kernel. */
#pragma once
#include "hw/inventory.h"

typedef struct {
    char pf[HW_DEV_MAX], pf_netdev[IFNAMSIZ];
    guint vf;
    char dev[HW_DEV_MAX], driver[HW_NAME_MAX];
    char netdev[IFNAMSIZ], mac[HW_MAC_MAX]; /* "" when it had none */
    guint mtu;
    int up;       /* -1 without an interface */
    int checksum; /* whether it leaves checksums to hardware; -1: not looked at */
    struct hw_vf_props props;
    struct hw_port_key key; /* of its representor; switch_id "" without one */
    char rep[IFNAMSIZ];     /* "" when it was not there yet */
    guint rep_mtu;
    int rep_up, rep_checksum; /* -1: not looked at */
} VfState;

/* Of a function as the inventory has it; rep_mtu and rep_up are the caller's to add. */
void vfstate_take(const HwInventory *inventory, const struct hw_vf *vf, VfState *ret);
char *vfstate_text(const VfState *state); /* JSON; caller frees */
bool vfstate_parse(const char *text, VfState *ret, GError **error);
/* What differs between the properties wanted and those found, the rest "as it is"; false when nothing
 * does. Unknown ones ("", -1) are not wanted. */
bool vfstate_differ(const struct hw_vf_props *want, const struct hw_vf_props *found,
                    struct hw_vf_props *ret_change);
