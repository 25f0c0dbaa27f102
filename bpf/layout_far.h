/* layout_far.h: what the programs at the uplink and user space share: networks, tunnels' headers.
 * Addresses and ports are in network order, everything else in the host's. */
#pragma once
#include <linux/types.h>

#define FAR_NETWORKS 16384
#define FAR_WRAPS                                                                                  \
    16384 /* kinds of outer headers: about one for each remote port that is talked to */
#define FAR_UPLINKS 64
#define FAR_HEAD    58 /* Ethernet, IPv4, UDP, Geneve, OVN's option */

struct layout_uplink { /* haw_far_uplinks[ifindex], by the uplink's and by our end of its pair */
    __u32 ifindex;     /* the uplink's */
    __u32 pair;        /* of our end; 0: packets are seen on the uplink itself */
};
_Static_assert(sizeof(struct layout_uplink) == 8, "no hidden padding");

/* What a packet is wrapped in between hosts, without what each packet has of its own: lengths, identification
 * and checksum of IP are 0, so is UDP's source port; UDP's checksum is 1 where what goes out has one. */
struct layout_wrap {
    __u8 head[FAR_HEAD];
    __u8 inner_macs[12]; /* of what comes in; 0 for what goes out */
    __u16 zero;
    __u32 ifindex; /* by which it goes out; 0 for what comes in */
};
_Static_assert(sizeof(struct layout_wrap) == 76, "no hidden padding");
