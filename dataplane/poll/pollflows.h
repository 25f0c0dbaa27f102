/* pollflows.h: learned flows as rules of rte_flow: what a device can do with one, found out by asking it, and a rule
 * made, counted, taken away. DPDK's guide "Generic flow API". Threads: the control thread only. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

struct rte_flow;

enum pollflows {
    POLLFLOWS_NONE,    /* it takes no rule, or its kernel does not */
    POLLFLOWS_MATCH,   /* a flow's rule is taken, but nothing is done there that forwards it */
    POLLFLOWS_FORWARD, /* it would rewrite and send a flow's packets by itself */
};

enum { POLLFLOWS_HOPS = 2 }; /* routers on the way, at most */

/* A flow of TCP or UDP over IPv4; addresses and ports in network order. */
struct pollflows_rule {
    uint8_t dst_mac[6], src_mac[6];         /* as it comes */
    uint8_t new_dst_mac[6], new_src_mac[6]; /* as it leaves */
    uint32_t src, dst;
    uint16_t sport, dport;
    uint8_t proto;
    uint8_t hops; /* up to POLLFLOWS_HOPS: that much less of the TTL */
    uint16_t out; /* the device it leaves by */
};

/* A started device. Leaves no rule behind but, with FORWARD, the one that keeps from all others what may not be
 * forwarded for its TTL; it goes with the device. */
enum pollflows pollflows_probe(uint16_t port);
/* "none", "match", "forward" */
const char *pollflows_word(enum pollflows flows);

/* NULL: the device refuses. With MATCH all that the rule does is to be matched. */
struct rte_flow *pollflows_make(uint16_t port, enum pollflows kind,
                                const struct pollflows_rule *rule);
bool pollflows_unmake(uint16_t port, struct rte_flow *flow);
/* Packets that the rule has forwarded; 0 where it does not. */
uint64_t pollflows_count(uint16_t port, struct rte_flow *flow);
