/* layout_uplink.h: what the uplink's filter and user space share. Addresses and ports of UDP are in network
 * order, everything else in the host's. */
#pragma once
#include <linux/types.h>

#define UPLINK_ENDS     64
#define UPLINK_PORTS    65536
#define UPLINK_ANY_PORT 0xffffffffu /* the entry that stands for a network itself */
#define UPLINK_GROUPS   0x8000      /* OVN's multicast groups begin here */
#define UPLINK_OPTIONS  8           /* that are looked at */

/* Why a packet passed or was dropped (the last two): enum, counter, word. */
#define UPLINK_REASONS(X)                                                                          \
    X(OFF, "off")                                                                                  \
    X(OTHER, "other") /* no tunnel of ours */                                                      \
    X(PLAIN, "plain") /* a tunnel, but not OVN's logical port: BFD, or malformed */                \
    X(WANTED, "wanted")                                                                            \
    X(STEERED, "steered")       /* wanted, and sent where the fast path looks at it */             \
    X(GROUP, "group")           /* multicast of a network that is here */                          \
    X(NO_NETWORK, "no-network") /* dropped: nobody here is in it */                                \
    X(NO_PORT, "no-port")       /* dropped: the network is here, the port is not */

enum uplink_reason {
#define UPLINK_ENUM(name, word) UPLINK_##name,
    UPLINK_REASONS(UPLINK_ENUM)
#undef UPLINK_ENUM
        UPLINK_REASON_COUNT
};

struct uplink_config {
    __u32 on;    /* drops what nobody wants */
    __u32 pair;  /* where steered packets go: an interface's index; 0: nothing is steered */
    __be16 port; /* of Geneve */
    __u16 zero;
};
struct uplink_end { /* IPv4 in word 0, the others are 0 */
    __be32 addr[4];
};
#define UPLINK_WANT_PORT 1u
#define UPLINK_STEER     2u /* of a network: its packets may be fast */
struct uplink_port {        /* haw_up_ports: UPLINK_WANT_PORT, with UPLINK_STEER */
    __u32 vni;
    __u32 port;
};
_Static_assert(sizeof(struct uplink_end) == 16 && sizeof(struct uplink_port) == 8,
               "the kernel hashes these bytes");
