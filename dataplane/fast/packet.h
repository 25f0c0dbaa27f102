/* packet.h: what the fast path has to know of a frame, read once from its bytes.
 * Compiled for BPF too: no loops without a bound, each access behind a comparison with 'end'.
 * Threads: any; touches its arguments only. */
#pragma once
#include "bpf/layout.h"

#define FAST_FN static inline __attribute__((always_inline, unused))

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define PACKET_BE16(x) ((__u16) __builtin_bswap16((__u16) (x)))
#define PACKET_BE32(x) ((__u32) __builtin_bswap32((__u32) (x)))
#else
#define PACKET_BE16(x) ((__u16) (x))
#define PACKET_BE32(x) ((__u32) (x))
#endif

#define PACKET_TCP    6
#define PACKET_UDP    17
#define PACKET_ICMP   1
#define PACKET_ICMP6  58
#define PACKET_ETH    14
#define PACKET_FIN    0x01
#define PACKET_SYN    0x02
#define PACKET_RST    0x04
#define PACKET_URG    0x20
#define PACKET_LINEAR 74 /* the most bytes that parsing looks at: Ethernet, IPv6, TCP */

/* Headers lie at even addresses only; the kernel's verifier lets BPF read whole words there. */
#ifdef __bpf__
#define PACKET_BYTES
#else
#define PACKET_BYTES __attribute__((packed, aligned(2)))
#endif

struct packet_eth {
    __u8 dst[6], src[6];
    __be16 type;
} PACKET_BYTES;

struct packet_ip4 {
    __u8 version_ihl, tos;
    __be16 size, id, fragment;
    __u8 ttl, proto;
    __be16 check;
    __be32 src, dst;
} PACKET_BYTES;

struct packet_ip6 {
    __be32 flow;
    __be16 size;
    __u8 next, hops;
    __be32 src[4], dst[4];
} PACKET_BYTES;

struct packet_tcp {
    __be16 sport, dport;
    __be32 seq, ack;
    __u8 offset, flags;
    __be16 window, check, urgent;
} PACKET_BYTES;

struct packet_udp {
    __be16 sport, dport, size, check;
} PACKET_BYTES;

struct packet_icmp {
    __be16 type_code, check, id, seq;
} PACKET_BYTES;

struct packet {
    struct layout_tuple tuple; /* 'nic' is the caller's to fill */
    struct layout_print print; /* 'head' is, too: it may lie outside the linear part */
    __u32 size;                /* of the IP packet */
    __u32 bytes;               /* behind the L4 header */
    __u16 l4;                  /* offset */
    __u16 payload;             /* offset */
    __u8 dst_mac[6], src_mac[6];
    __u8 ttl;
    __u8 tcp_flags;
    __u8 zero[2];
};

/* MACs are at even addresses, too. */
typedef __u16 __attribute__((may_alias)) packet_half;

FAST_FN void
packet_mac_copy(__u8 *to, const __u8 *from)
{
    packet_half *halves = (packet_half *) to;
    const packet_half *source = (const packet_half *) from;
    halves[0] = source[0];
    halves[1] = source[1];
    halves[2] = source[2];
}

FAST_FN int
packet_mac_same(const __u8 *a, const __u8 *b)
{
    const packet_half *x = (const packet_half *) a, *y = (const packet_half *) b;
    return ((x[0] ^ y[0]) | (x[1] ^ y[1]) | (x[2] ^ y[2])) == 0;
}

/* 'at' is where TCP begins. */
FAST_FN enum layout_reason
packet_tcp_parse(const __u8 *at, const void *end, struct packet *ret, __u32 room)
{
    const struct packet_tcp *tcp = (const struct packet_tcp *) at;
    if ((const void *) (tcp + 1) > end) {
        return LAYOUT_TRUNCATED;
    }
    __u32 header = (__u32) (tcp->offset >> 4) * 4;
    if (header < sizeof *tcp || header > room) {
        return LAYOUT_TRUNCATED;
    }
    ret->tuple.sport = tcp->sport;
    ret->tuple.dport = tcp->dport;
    ret->tcp_flags = tcp->flags;
    ret->payload = (__u16) (ret->l4 + header);
    ret->print.seq = PACKET_BE32(tcp->seq);
    ret->print.ack = PACKET_BE32(tcp->ack);
    ret->bytes = room - header; /* not in the print: offloads cut TCP into segments */
    return tcp->flags & (PACKET_FIN | PACKET_SYN | PACKET_RST | PACKET_URG) ? LAYOUT_TCP_FLAGS
                                                                            : LAYOUT_UNKNOWN;
}

FAST_FN enum layout_reason
packet_udp_parse(const __u8 *at, const void *end, struct packet *ret, __u32 room)
{
    const struct packet_udp *udp = (const struct packet_udp *) at;
    if ((const void *) (udp + 1) > end || room < sizeof *udp) {
        return LAYOUT_TRUNCATED;
    }
    ret->tuple.sport = udp->sport;
    ret->tuple.dport = udp->dport;
    ret->payload = (__u16) (ret->l4 + sizeof *udp);
    ret->print.size = ret->bytes = room - (__u32) sizeof *udp;
    return LAYOUT_UNKNOWN;
}

FAST_FN enum layout_reason
packet_icmp_parse(const __u8 *at, const void *end, struct packet *ret, __u32 room)
{
    const struct packet_icmp *icmp = (const struct packet_icmp *) at;
    if ((const void *) (icmp + 1) > end || room < sizeof *icmp) {
        return LAYOUT_TRUNCATED;
    }
    __u16 type = PACKET_BE16(icmp->type_code);
    int echo = ret->tuple.proto == PACKET_ICMP ? type == 8 << 8 || type == 0
                                               : type == 128 << 8 || type == 129 << 8;
    if (!echo) {
        return LAYOUT_PROTOCOL;
    }
    ret->tuple.sport = icmp->id;
    ret->tuple.dport = icmp->type_code;
    ret->payload = (__u16) (ret->l4 + sizeof *icmp);
    ret->print.seq = PACKET_BE16(icmp->seq);
    ret->print.size = ret->bytes = room - (__u32) sizeof *icmp;
    return LAYOUT_UNKNOWN;
}

/* 'room' is what IP says that follows its header. */
FAST_FN enum layout_reason
packet_l4_parse(const __u8 *at, const void *end, struct packet *ret, __u32 room)
{
    switch (ret->tuple.proto) {
    case PACKET_TCP:
        return packet_tcp_parse(at, end, ret, room);
    case PACKET_UDP:
        return packet_udp_parse(at, end, ret, room);
    case PACKET_ICMP:
        return ret->tuple.family == 4 ? packet_icmp_parse(at, end, ret, room) : LAYOUT_PROTOCOL;
    case PACKET_ICMP6:
        return ret->tuple.family == 6 ? packet_icmp_parse(at, end, ret, room) : LAYOUT_PROTOCOL;
    default:
        return LAYOUT_PROTOCOL;
    }
}

FAST_FN enum layout_reason
packet_ip4_parse(const __u8 *at, const void *end, struct packet *ret, __u32 room)
{
    const struct packet_ip4 *ip = (const struct packet_ip4 *) at;
    if ((const void *) (ip + 1) > end) {
        return LAYOUT_TRUNCATED;
    }
    if (ip->version_ihl != 0x45) {
        return ip->version_ihl >> 4 == 4 && ip->version_ihl > 0x45 ? LAYOUT_OPTIONS
                                                                   : LAYOUT_TRUNCATED;
    }
    if (ip->fragment & PACKET_BE16(0xbfff)) { /* all but "don't fragment" */
        return LAYOUT_FRAGMENT;
    }
    __u32 size = PACKET_BE16(ip->size);
    if (size < sizeof *ip || size > room) {
        return LAYOUT_TRUNCATED;
    }
    ret->tuple.src[0] = ip->src;
    ret->tuple.dst[0] = ip->dst;
    ret->tuple.proto = ip->proto;
    ret->tuple.family = 4;
    ret->print.id = PACKET_BE16(ip->id);
    ret->ttl = ip->ttl;
    ret->size = size;
    ret->l4 = PACKET_ETH + sizeof *ip;
    if (PACKET_BE32(ip->dst) >> 28 >= 14) { /* multicast, reserved and broadcast */
        return LAYOUT_MULTICAST;
    }
    return packet_l4_parse((const __u8 *) (ip + 1), end, ret, size - (__u32) sizeof *ip);
}

FAST_FN enum layout_reason
packet_ip6_parse(const __u8 *at, const void *end, struct packet *ret, __u32 room)
{
    const struct packet_ip6 *ip = (const struct packet_ip6 *) at;
    if ((const void *) (ip + 1) > end) {
        return LAYOUT_TRUNCATED;
    }
    __u32 flow = PACKET_BE32(ip->flow), size = PACKET_BE16(ip->size);
    if (flow >> 28 != 6 || size + sizeof *ip > room) {
        return LAYOUT_TRUNCATED;
    }
    for (int i = 0; i < 4; i++) {
        ret->tuple.src[i] = ip->src[i];
        ret->tuple.dst[i] = ip->dst[i];
    }
    ret->tuple.proto = ip->next;
    ret->tuple.family = 6;
    ret->print.id = flow & 0xfffff;
    ret->ttl = ip->hops;
    ret->size = size + (__u32) sizeof *ip;
    ret->l4 = PACKET_ETH + sizeof *ip;
    if ((PACKET_BE32(ip->dst[0]) >> 24) == 0xff) {
        return LAYOUT_MULTICAST;
    }
    switch (ip->next) {
    case 0:   /* hop by hop */
    case 43:  /* routing */
    case 51:  /* authentication */
    case 60:  /* destination options */
    case 135: /* mobility */
        return LAYOUT_OPTIONS;
    case 44:
        return LAYOUT_FRAGMENT;
    default:
        return packet_l4_parse((const __u8 *) (ip + 1), end, ret, size);
    }
}

/* Reads the frame in [data, end), whose whole length is 'frame' (more than end - data when the rest is
 * not linear). UNKNOWN for one that could be fast; TCP_FLAGS for a whole tuple with a flag that says it
 * must not; else why not. '*ret' must be zeroed. */
FAST_FN enum layout_reason
packet_parse(const void *data, const void *end, __u32 frame, struct packet *ret)
{
    const struct packet_eth *eth = data;
    if ((const void *) (eth + 1) > end || frame < PACKET_ETH) {
        return LAYOUT_TRUNCATED;
    }
    packet_mac_copy(ret->dst_mac, eth->dst);
    packet_mac_copy(ret->src_mac, eth->src);
    __u16 type = PACKET_BE16(eth->type);
    if (type != 0x0800 && type != 0x86dd) {
        return LAYOUT_NOT_IP;
    }
    if (eth->dst[0] & 1) {
        return LAYOUT_MULTICAST;
    }
    return type == 0x0800
               ? packet_ip4_parse((const __u8 *) (eth + 1), end, ret, frame - PACKET_ETH)
               : packet_ip6_parse((const __u8 *) (eth + 1), end, ret, frame - PACKET_ETH);
}

/* The tuple of the answers to 'tuple'. 'nic' is left as it is. */
FAST_FN void
packet_reverse(const struct layout_tuple *tuple, struct layout_tuple *ret)
{
    *ret = *tuple;
    for (int i = 0; i < 4; i++) {
        ret->src[i] = tuple->dst[i];
        ret->dst[i] = tuple->src[i];
    }
    if (tuple->proto == PACKET_ICMP) {
        ret->dport = tuple->dport ^ PACKET_BE16(8 << 8);
    } else if (tuple->proto == PACKET_ICMP6) {
        ret->dport = tuple->dport ^ PACKET_BE16((128 ^ 129) << 8);
    } else {
        ret->sport = tuple->dport;
        ret->dport = tuple->sport;
    }
}

/* Whether both name the same ends; 'nic' is not looked at. */
FAST_FN int
packet_tuple_same(const struct layout_tuple *a, const struct layout_tuple *b)
{
    __u32 differs = 0;
    for (int i = 0; i < 4; i++) {
        differs |= (a->src[i] ^ b->src[i]) | (a->dst[i] ^ b->dst[i]);
    }
    return differs == 0 && a->sport == b->sport && a->dport == b->dport && a->proto == b->proto &&
           a->family == b->family;
}

FAST_FN int
packet_print_same(const struct layout_print *a, const struct layout_print *b)
{
    return a->id == b->id && a->seq == b->seq && a->ack == b->ack && a->size == b->size &&
           a->head[0] == b->head[0] && a->head[1] == b->head[1];
}
