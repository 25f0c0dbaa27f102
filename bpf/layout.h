/* layout.h: what the fast path's programs, the engines and user space share: keys, values, reasons.
 * The only copy of these bytes. Maps are pinned and outlive the daemon: whoever changes a struct here
 * raises LAYOUT_VERSION, and the loader then starts with maps of its own.
 * Addresses and ports are in network order, everything else in the host's. */
#pragma once
#include <linux/types.h>

#define LAYOUT_VERSION   4
#define LAYOUT_IFINDEXES 65536 /* interfaces with a higher index stay on the slow path */
#define LAYOUT_NICS      4096
#define LAYOUT_FAR(zone) (LAYOUT_NICS + (zone)) /* the NIC that stands for a zone's other hosts */
#define LAYOUT_ZONES     4096
#define LAYOUT_ADDRS     4 /* of each family that a NIC may send from */
#define LAYOUT_PENDING   16384

/* ---- verdicts ---- */

/* Why a packet went the way it went: enum, counter, and the word that people see.
 * HIT is forwarded, SWALLOWED is dropped (it was a copy); all others took the slow path. */
#define LAYOUT_REASONS(X)                                                                          \
    X(HIT, "hit")                    /* forwarded by a fast flow */                                \
    X(SWALLOWED, "swallowed")        /* our own copy, back from the slow path */                   \
    X(FOREIGN, "foreign")            /* came from an interface that no port is bound to */         \
    X(OFF, "off")                    /* the port or its network is switched off */                 \
    X(TRUNCATED, "truncated")        /* shorter than its headers say */                            \
    X(NOT_IP, "not-ip")              /* ARP, VLANs and the like */                                 \
    X(MULTICAST, "multicast")        /* or broadcast */                                            \
    X(FRAGMENT, "fragment")          /* first or later one */                                      \
    X(OPTIONS, "options")            /* IP options or extension headers */                         \
    X(PROTOCOL, "protocol")          /* neither TCP, UDP nor ICMP echo */                          \
    X(TCP_FLAGS, "tcp-flags")        /* SYN, FIN, RST or URG */                                    \
    X(SPOOF_MAC, "spoofed-mac")      /* not the port's own */                                      \
    X(SPOOF_ADDR, "spoofed-address") /* not one of the port's */                                   \
    X(UNKNOWN, "unknown")            /* no flow: remembered as pending */                          \
    X(HALF, "half")                  /* the other direction is not proven yet */                   \
    X(GENERATION, "generation")      /* proven before the last change of its network */            \
    X(EXPIRED, "expired")            /* the last proof is too old */                               \
    X(GATEWAY, "gateway")            /* addressed to another MAC than when it was proven */        \
    X(TTL, "ttl")                    /* would end on the way */                                    \
    X(MTU, "mtu")                    /* too large for where it goes */                             \
    X(ORDER, "order")                /* what it sent before is still on the slow path */           \
    X(BUSY, "busy")                  /* its pending slot holds a live probe */                     \
    X(LEARNED, "learned")            /* this direction is proven */                                \
    X(PAIRED, "paired")              /* and with it the other: fast from now on */                 \
    X(RENEWED, "renewed")            /* proven once more */                                        \
    X(UNMATCHED, "unmatched")        /* came out of the slow path, and nobody remembers it */      \
    X(AMBIGUOUS, "ambiguous")        /* two packets look alike, so it teaches nothing */           \
    X(FULL, "full")                  /* no room for one more flow */

enum layout_reason {
#define LAYOUT_ENUM(name, word) LAYOUT_##name,
    LAYOUT_REASONS(LAYOUT_ENUM)
#undef LAYOUT_ENUM
        LAYOUT_REASON_COUNT
};

/* ---- what the daemon tells the programs ---- */

enum layout_role {
    LAYOUT_ROLE_NONE,
    LAYOUT_ROLE_NIC,  /* the instance's host side */
    LAYOUT_ROLE_SLOW, /* our end of the pair whose other end is the port on br-int */
};

struct layout_if { /* haw_ifs[ifindex] */
    __u16 nic;     /* index of haw_nics */
    __u16 role;
};
_Static_assert(sizeof(struct layout_if) == 4, "no hidden padding");

#define LAYOUT_NIC_ON   1u /* may be fast */
#define LAYOUT_NIC_PEER 2u /* a veth whose peer is in the instance: bpf_redirect_peer() */
#define LAYOUT_NIC_PAIR 4u /* has a slow pair; else the interface itself is the port on br-int */
#define LAYOUT_NIC_FAR  8u /* no port: the other hosts, as a zone sees them (LAYOUT_FAR) */

struct layout_nic { /* haw_nics[nic] */
    __u32 ifindex;
    __u32 slow_ifindex; /* 0 without LAYOUT_NIC_PAIR */
    __u32 flags;
    __u16 zone; /* of peered networks */
    __u16 mtu;
    __u8 mac[6];
    __u8 addr4_count, addr6_count;
    __be32 addr4[LAYOUT_ADDRS];
    __be32 addr6[LAYOUT_ADDRS][4];
};
_Static_assert(sizeof(struct layout_nic) == 104, "no hidden padding");

struct layout_config { /* haw_config[0], mapped by the daemon */
    __u32 version;     /* LAYOUT_VERSION */
    __u32 off;         /* not 0: everything goes slow */
    __u64 expire_ns;   /* a proof's life */
    __u64 renew_ns;    /* age at which a flow in use sends a probe */
    __u64 retry_ns;    /* and the next one */
    __u64 pend_ns;     /* how long the slow path may take */
    __u64 clock_ns;    /* of haw_now, when the daemon last ran it */
    __u64 switchd; /* the process whose conntrack was shown to be as it must; the daemon's own */
    /* Whoever wants to see packets: which (haw_trace). */
    __u32 trace;        /* 0: nobody does */
    __u32 trace_nic;    /* its index and 1; 0: all */
    __u32 trace_family; /* 4 or 6: either end is trace_addr; 0: any */
    __u32 zero;
    __be32 trace_addr[4];
    /* Unique among all zones and times: a flow of another generation is no flow. */
    __u32 generation[LAYOUT_ZONES];
};

#define LAYOUT_TRACE_BYTES (256 * 1024)

/* ---- flows ---- */

/* A direction of a connection as one NIC sends it. IPv4 addresses are in word 0, the others are 0.
 * ICMP echo: sport is the identifier, dport the type in its high byte. */
struct layout_tuple {
    __be32 src[4], dst[4];
    __be16 sport, dport;
    __u8 proto;
    __u8 family; /* 4 or 6 */
    __u16 nic;   /* sender in a key, receiver in a flow's 'out' */
};
_Static_assert(sizeof(struct layout_tuple) == 40, "the kernel hashes these bytes");

struct layout_key4 {
    __be32 src, dst;
    __be16 sport, dport;
    __u8 proto;
    __u8 zero;
    __u16 nic;
};
_Static_assert(sizeof(struct layout_key4) == 16, "the kernel hashes these bytes");

#define LAYOUT_FLOW_FAST 1u
#define LAYOUT_FLOW_NAT  2u /* 'out' differs from the key */

struct layout_flow {
    __u64 proven_ns; /* when the packet entered that OVN last let through */
    __u64 used_ns;
    __u64 probe_ns;       /* when the last probe was sent */
    __u64 packets, bytes; /* sent fast; one sender writes, so plain additions */
    __u32 generation;
    __u32 flags;
    __u32 probe_seq, probe_end; /* TCP: the bytes of the last probe */
    struct layout_tuple out;
    __u8 dst_mac[6], src_mac[6]; /* as it leaves */
    __u8 gate_mac[6];            /* as it must come */
    __u8 ttl_delta;
    __u8 matched; /* proofs, up to 255 */
    __u32 far;    /* the number of what it is wrapped in (layout_far.h); 0: it stays on this host */
    __u32
        order; /* the sender's last packet that may be of this flow and went slow; 0: none is left */
    __be16 far_sport; /* outer UDP source port, which follows the flow */
    __u16 zero;
    __u64 order_ns; /* since when it waits for that one */
};
_Static_assert(sizeof(struct layout_flow) == 136, "no hidden padding");

#define LAYOUT_PERMIT_PEER 1u /* bpf_redirect_peer() */
#define LAYOUT_PERMIT_MARK 2u /* what leaves passes haw_out again */

struct layout_permit { /* haw_permit: dataplane/fast/permit.h tells */
    struct layout_key4 key;
    __u64 until_ns;
    __u32 seq;
    __u32 generation; /* 0: none */
    __u8 gate_mac[6], dst_mac[6], src_mac[6];
    __u16 mtu;
    __u16 out_ifindex;
    __u8 ttl_delta;
    __u8 flags;
    __u32 packets, bytes; /* that the flow does not have yet */
};
_Static_assert(sizeof(struct layout_permit) == 64, "one cache line");

/* haw_order[nic]: which of the packets that a port sent into the slow path came out of it, by number. */
struct layout_order {
    __u32 sent, out;
};
_Static_assert(sizeof(struct layout_order) == 8, "no hidden padding");

struct layout_event { /* of haw_trace */
    __u64 at_ns;
    struct layout_tuple tuple; /* nic: the port where it was seen */
    __u32 size;
    __u16 reason;
    __u16 out; /* seen at haw_out */
};
_Static_assert(sizeof(struct layout_event) == 56, "no hidden padding");

/* What a packet keeps on its way through OVN, whatever is rewritten. */
struct layout_print {
    __u32 id;       /* IPv4 identification, IPv6 flow label */
    __u32 seq, ack; /* TCP; ICMP echo: the sequence number */
    __u32 size;     /* bytes behind the L4 header; 0 for TCP, which offloads cut into segments */
    __u32 head[2];  /* the first eight of them */
};
_Static_assert(sizeof(struct layout_print) == 24, "no hidden padding");

#define LAYOUT_PEND_LIVE      1u
#define LAYOUT_PEND_PROBE     2u /* a copy: swallowed when it comes out */
#define LAYOUT_PEND_AMBIGUOUS 4u

struct layout_pend {
    __u64 born_ns;
    struct layout_tuple tuple;
    struct layout_print print;
    __u32 generation;
    __u16 zone;
    __u8 ttl;
    __u8 flags;
    __u8 gate_mac[6];
    __u8 zero[6];
    __u32 order; /* its number among the port's; 0 for a copy */
};
_Static_assert(sizeof(struct layout_pend) == 96, "no hidden padding");
