/* link.h: network interfaces: made, changed, looked at, removed, over rtnetlink.
 * Threads: any, one a socket. Calls block; removing an interface can take tens of milliseconds. */
#pragma once
#include "hw/nlsock.h"
#include <net/if.h>
#include <sys/types.h>

struct link_counters {
    guint64 rx_bytes, tx_bytes, rx_packets, tx_packets;
    guint64 rx_errors, tx_errors, rx_dropped, tx_dropped;
};

/* What the kernel says of an interface. Fields that do not apply are 0 or "". */
struct link_info {
    int index, master, parent; /* parent: IFLA_LINK: the lower device, or a veth's peer */
    int parent_netnsid;        /* namespace id of 'parent', -1: the interface's own */
    char name[IFNAMSIZ];
    char kind[16]; /* "bridge", "veth", "vlan", …; "" for hardware */
    char mac[18];  /* "" when it has none */
    guint mtu, flags, txqlen;
    unsigned short type; /* ARPHRD_… */
    int vlan_id;
    int vlan_filtering; /* of a bridge */
    guint64 forward_delay;
    int stp;
    char bridge_id[20];
    struct link_counters counters;
};

/* Each makes one interface, down. EXISTS when the name is taken. */
bool link_add(NlSock *sock, const char *name, const char *kind, GError **error);
bool link_add_veth(NlSock *sock, const char *name, const char *peer, guint mtu, guint txqlen,
                   const char *peer_mac, GError **error);
/* The same with the peer in the network namespace behind the descriptor: to move it there later would
 * cost the kernel tens of milliseconds. */
bool link_add_veth_in(NlSock *sock, const char *name, const char *peer, int netns_fd, guint mtu,
                      guint txqlen, const char *peer_mac, GError **error);
bool link_add_vlan(NlSock *sock, const char *name, const char *parent, guint id, bool gvrp,
                   GError **error);
bool link_add_macvlan(NlSock *sock, const char *name, const char *parent, guint mode,
                      const char *mac, GError **error);
/* The same with a character device /dev/tap<ifindex> in place of a stack's end. */
bool link_add_macvtap(NlSock *sock, const char *name, const char *parent, guint mode,
                      const char *mac, GError **error);
struct link_tunnel {
    const char *local, *remote; /* addresses, NULL for none */
    const char *group;          /* multicast group instead of remote */
    const char *dev;            /* lower device, NULL */
    guint id, port, ttl;
};
bool link_add_vxlan(NlSock *sock, const char *name, const struct link_tunnel *tunnel,
                    GError **error);
bool link_add_gretap(NlSock *sock, const char *name, const struct link_tunnel *tunnel,
                     GError **error);
/* Not there is success. */
bool link_del(NlSock *sock, const char *name, GError **error);

bool link_set_up(NlSock *sock, const char *name, bool up, GError **error);
bool link_set_mtu(NlSock *sock, const char *name, guint mtu, GError **error);
bool link_set_mac(NlSock *sock, const char *name, const char *mac, GError **error);
bool link_set_name(NlSock *sock, const char *name, const char *new_name, GError **error);
bool link_set_txqlen(NlSock *sock, const char *name, guint length, GError **error);
/* NULL frees it from its master. */
bool link_set_master(NlSock *sock, const char *name, const char *master, GError **error);
/* Moves it into the network namespace behind the descriptor under a new name, down. */
bool link_move(NlSock *sock, const char *name, int netns_fd, const char *new_name, GError **error);

/* Attributes of a bridge, and of a port of one; numbers as in linux/if_link.h. */
bool link_set_bridge(NlSock *sock, const char *name, int attr, guint value, size_t value_bytes,
                     GError **error);
bool link_set_port_isolated(NlSock *sock, const char *name, bool isolated, GError **error);
/* Whether a frame may leave by the port that it came in by. */
bool link_set_port_hairpin(NlSock *sock, const char *name, bool on, GError **error);
/* VLANs first..last of a bridge port. */
bool link_port_vlan(NlSock *sock, const char *name, bool add, guint first, guint last, bool pvid,
                    bool untagged, GError **error);

/* SR-IOV: one virtual function of a PF. mac NULL, vlan or spoofcheck -1: as it is. */
bool link_set_vf(NlSock *sock, const char *pf, guint vf, const char *mac, int vlan, int spoofcheck,
                 GError **error);

/* All interfaces, struct link_info elements in the kernel's order; or one: false with NOT_FOUND. */
GArray *link_list(NlSock *sock, GError **error);
bool link_get(NlSock *sock, const char *name, struct link_info *ret_info, GError **error);
/* The id under which this socket's namespace knows the one behind the descriptor; -1 unknown. */
int link_netnsid(NlSock *sock, int netns_fd);
/* 0 when there is none. */
int link_index(NlSock *sock, const char *name);
