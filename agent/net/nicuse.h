/* nicuse.h: a NIC with its network and its keys resolved, and the kinds of NIC behind one table.
 * Threads: main loop, inside fibers. */
#pragma once
#include "agent/net/netobj.h"

struct nic_driver;
typedef struct NicUse {
    NetTable *table; /* borrowed, as is the Nic */
    const Nic *nic;
    const struct nic_driver *driver;
    Network *net;        /* shares; NULL for a NIC with nictype only, and for a bridged
                                        one whose parent is no network of ours */
    char *parent, *vlan; /* owned; of the device or of its network; NULL for none */
    guint mtu;           /* 0: the parent's */
    bool gvrp;
    char *label; /* owned: "[project_]instance.device" */
} NicUse;

/* Which NIC this is: its kind and network. INVALID with LXD's words. Yields. */
NicUse *nicuse_new(NetTable *table, const Nic *nic, GError **error);
void nicuse_free(NicUse *use);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(NicUse, nicuse_free)

/* A key of the device; NULL when missing or empty. */
const char *nicuse_get(const NicUse *use, const char *key);
bool nicuse_bool(const NicUse *use, const char *key);
const char *nicuse_volatile(const NicUse *use, const char *key);
void nicuse_set_volatile(const NicUse *use, const char *key, const char *value); /* NULL removes */
/* Address and subnets behind "ipv4.…" (family 4 or 6) of the device; NULL for none. */
const char *nicuse_ip(const NicUse *use, int family, const char *suffix);
void nicuse_set_number(const NicUse *use, const char *key, gint64 value);
bool nicuse_is_vm(const NicUse *use);
/* The MAC, the name inside, the host interface's name: as configured, as remembered, or chosen now
 * and remembered. Borrowed from the device. */
const char *nicuse_mac(const NicUse *use);
const char *nicuse_name(const NicUse *use); /* Yields. */
char *nicuse_new_host_name(const NicUse *use, const char *prefix);
/* {"lxc.net.%d.type": "phys", …} that hands 'link' in under the NIC's name. */
json_t *nicuse_lxc(const NicUse *use, const char *link);
/* Rates of limits.ingress/egress/max in bit/s, 0 for none. */
void nicuse_limits(const NicUse *use, gint64 *ret_ingress, gint64 *ret_egress);
/* The comma lists ipvN.routes and ipvN.routes.external together; caller frees. */
char **nicuse_routes(const NicUse *use, int family);

struct nic_driver {
    const char *nictype;
    const char *fixed_by_network; /* keys that a network= owns, separated by blanks */
    /* Makes the host side; *ret_link is the interface to hand in (owned by the caller), NULL for none. */
    bool (*start)(NicUse *use, char **ret_link, GError **error);
    /* Removes the host side; repeats safely. */
    bool (*stop)(NicUse *use, GError **error);
    /* What a running instance needs beside the move; NULL: nothing. */
    bool (*plugged)(NicUse *use, pid_t pid, GError **error);
    /* More keys of lxc.net; NULL: none. */
    void (*lxc)(NicUse *use, json_t *lxc);
    /* For a virtual machine: makes 'item' (vm/vmitem.h) more than a tap; NULL: it is one. */
    void (*vm)(NicUse *use, json_t *item);
    /* Checks beyond single keys; NULL: none. */
    bool (*check)(NicUse *use, GError **error);
    /* Changes in place; NULL: none can be. */
    bool (*update)(NicUse *use, json_t *old_config, GError **error);
    /* The device leaves its instance for good; NULL: nothing stays of it. */
    bool (*remove)(NicUse *use, GError **error);
    const char *live_keys; /* that can change in place, beside those of every kind; NULL */
    /* The agent was restarted and found the instance running: the port is to be kept. False when it
     * cannot be told which; NULL: it has none. */
    bool (*adopt)(NicUse *use, GError **error);
    bool inside;     /* makes the instance's end in nic->netns, where that is known, and down */
    bool cold;       /* only a start can bring it, only a stop take it */
    bool gives_back; /* the interface exists without the instance and comes back at its stop */
};
extern const struct nic_driver nic_bridged, nic_p2p, nic_routed, nic_ipvlan, nic_macvlan,
    nic_physical, nic_sriov, nic_ovn;
/* NULL for a word that is no nictype. */
const struct nic_driver *nicuse_driver(const char *nictype);
/* Keys the kind takes, and their values. INVALID with LXD's words. */
bool nickeys_check(const NicUse *use, GError **error);
/* Against other instances on the network: MAC, addresses, name (409). Yields. */
bool nicclash_check(NicUse *use, GError **error);
/* After a restart: keeps the namespaces of running instances that hold interfaces of the host. Yields. */
void nicadopt_all(NetTable *table);
