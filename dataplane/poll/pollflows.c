/* Rules of rte_flow.
 * R1  A rule that forwards matches what the engine's fast frames have, and no other: MACs, IPv4 without options or
 *     fragments, addresses, protocol, ports, TCP without SYN, FIN, RST and URG. A TTL can be matched, not compared:
 *     one rule of the device, before all others, leaves frames with a TTL below 8 to the engine.
 * R2  What a driver says that it can do and what it does are two things (a tap's rules need parts of the kernel that
 *     the driver does not ask for), so the probe makes a rule and takes it away again: that of a TCP flow between two
 *     addresses of documentation (192.0.2.1 and 198.51.100.1), which no packet has.
 * R3  Where forwarding is refused, a rule that only matches is tried: addresses, protocol and ports, into the queue
 *     that the frames go to anyway.
 * Called by polldev.c and polloffload.c. */
#include "dataplane/poll/pollflows.h"

#include <rte_byteorder.h>
#include <rte_ethdev.h>
#include <rte_flow.h>
#include <string.h>

enum { TCP = 6, TCP_STATE = 0x27 }; /* FIN, SYN, RST, URG */
enum { ACTIONS_MAX = 6 + POLLFLOWS_HOPS, PATTERN_MAX = 5 };

struct flow_pattern {
    struct rte_flow_item_ethdev from;
    struct rte_flow_item_eth eth, eth_mask;
    struct rte_flow_item_ipv4 ip, ip_mask;
    struct rte_flow_item_tcp tcp, tcp_mask;
    struct rte_flow_item_udp udp, udp_mask;
    struct rte_flow_item items[PATTERN_MAX];
};

static void
fill_ports(struct flow_pattern *pattern, const struct pollflows_rule *rule, bool forwards)
{
    pattern->tcp.hdr.src_port = pattern->udp.hdr.src_port = rule->sport;
    pattern->tcp.hdr.dst_port = pattern->udp.hdr.dst_port = rule->dport;
    pattern->tcp_mask.hdr.src_port = pattern->tcp_mask.hdr.dst_port = UINT16_MAX;
    pattern->udp_mask.hdr.src_port = pattern->udp_mask.hdr.dst_port = UINT16_MAX;
    pattern->tcp_mask.hdr.tcp_flags = forwards ? TCP_STATE : 0; /* R1 */
}

static void
fill_ip(struct flow_pattern *pattern, const struct pollflows_rule *rule, bool forwards)
{
    pattern->ip.hdr.src_addr = rule->src;
    pattern->ip.hdr.dst_addr = rule->dst;
    pattern->ip_mask.hdr.src_addr = pattern->ip_mask.hdr.dst_addr = UINT32_MAX;
    if (forwards) { /* R1 */
        pattern->ip.hdr.version_ihl = 0x45;
        pattern->ip_mask.hdr.version_ihl = UINT8_MAX;
        pattern->ip_mask.hdr.fragment_offset = RTE_BE16(0x3fff);
    }
}

static void
fill_pattern(struct flow_pattern *pattern, uint16_t port, const struct pollflows_rule *rule,
             bool forwards)
{
    struct rte_flow_item *item = pattern->items;
    memset(pattern, 0, sizeof *pattern);
    fill_ip(pattern, rule, forwards);
    fill_ports(pattern, rule, forwards);
    if (forwards) {
        pattern->from.port_id = port;
        memcpy(&pattern->eth.hdr.dst_addr, rule->dst_mac, sizeof rule->dst_mac);
        memcpy(&pattern->eth.hdr.src_addr, rule->src_mac, sizeof rule->src_mac);
        memset(&pattern->eth_mask.hdr.dst_addr, 0xff, sizeof rule->dst_mac);
        memset(&pattern->eth_mask.hdr.src_addr, 0xff, sizeof rule->src_mac);
        *item++ = (struct rte_flow_item){.type = RTE_FLOW_ITEM_TYPE_REPRESENTED_PORT,
                                         .spec = &pattern->from};
        *item++ = (struct rte_flow_item){
            .type = RTE_FLOW_ITEM_TYPE_ETH, .spec = &pattern->eth, .mask = &pattern->eth_mask};
    } else {
        *item++ = (struct rte_flow_item){.type = RTE_FLOW_ITEM_TYPE_ETH};
    }
    *item++ = (struct rte_flow_item){
        .type = RTE_FLOW_ITEM_TYPE_IPV4, .spec = &pattern->ip, .mask = &pattern->ip_mask};
    *item++ = rule->proto == TCP ? (struct rte_flow_item){.type = RTE_FLOW_ITEM_TYPE_TCP,
                                                          .spec = &pattern->tcp,
                                                          .mask = &pattern->tcp_mask}
                                 : (struct rte_flow_item){.type = RTE_FLOW_ITEM_TYPE_UDP,
                                                          .spec = &pattern->udp,
                                                          .mask = &pattern->udp_mask};
    *item = (struct rte_flow_item){.type = RTE_FLOW_ITEM_TYPE_END};
}

static struct rte_flow *
make_forwarding(uint16_t port, const struct pollflows_rule *rule)
{
    const struct rte_flow_attr attr = {.transfer = 1, .priority = 1};
    struct rte_flow_action_set_mac from, to;
    const struct rte_flow_action_ethdev out = {.port_id = rule->out};
    struct rte_flow_action actions[ACTIONS_MAX], *action = actions;
    struct flow_pattern pattern;
    struct rte_flow_error error;
    if (rule->hops > POLLFLOWS_HOPS) {
        return NULL;
    }
    fill_pattern(&pattern, port, rule, true);
    memcpy(from.mac_addr, rule->new_src_mac, sizeof from.mac_addr);
    memcpy(to.mac_addr, rule->new_dst_mac, sizeof to.mac_addr);
    *action++ = (struct rte_flow_action){.type = RTE_FLOW_ACTION_TYPE_COUNT};
    *action++ = (struct rte_flow_action){.type = RTE_FLOW_ACTION_TYPE_SET_MAC_SRC, .conf = &from};
    *action++ = (struct rte_flow_action){.type = RTE_FLOW_ACTION_TYPE_SET_MAC_DST, .conf = &to};
    for (uint8_t i = 0; i < rule->hops; i++) {
        *action++ = (struct rte_flow_action){.type = RTE_FLOW_ACTION_TYPE_DEC_TTL};
    }
    *action++ =
        (struct rte_flow_action){.type = RTE_FLOW_ACTION_TYPE_REPRESENTED_PORT, .conf = &out};
    *action = (struct rte_flow_action){.type = RTE_FLOW_ACTION_TYPE_END};
    return rte_flow_create(port, &attr, pattern.items, actions, &error);
}

static struct rte_flow *
make_matching(uint16_t port, const struct pollflows_rule *rule)
{
    static const struct rte_flow_action_queue queue = {.index = 0};
    static const struct rte_flow_action actions[] = {
        {.type = RTE_FLOW_ACTION_TYPE_QUEUE, .conf = &queue}, {.type = RTE_FLOW_ACTION_TYPE_END}};
    const struct rte_flow_attr attr = {.ingress = 1};
    struct flow_pattern pattern;
    struct rte_flow_error error;
    fill_pattern(&pattern, port, rule, false);
    return rte_flow_create(port, &attr, pattern.items, actions, &error);
}

struct rte_flow *
pollflows_make(uint16_t port, enum pollflows kind, const struct pollflows_rule *rule)
{
    return kind == POLLFLOWS_FORWARD ? make_forwarding(port, rule)
           : kind == POLLFLOWS_MATCH ? make_matching(port, rule)
                                     : NULL;
}

bool
pollflows_unmake(uint16_t port, struct rte_flow *flow)
{
    struct rte_flow_error error;
    return rte_flow_destroy(port, flow, &error) == 0;
}

uint64_t
pollflows_count(uint16_t port, struct rte_flow *flow)
{
    static const struct rte_flow_action count[] = {{.type = RTE_FLOW_ACTION_TYPE_COUNT},
                                                   {.type = RTE_FLOW_ACTION_TYPE_END}};
    struct rte_flow_query_count result = {0};
    struct rte_flow_error error;
    return rte_flow_query(port, flow, count, &result, &error) == 0 && result.hits_set ? result.hits
                                                                                      : 0;
}

/* R1 */
static bool
make_guard(uint16_t port)
{
    const struct rte_flow_attr attr = {.transfer = 1, .priority = 0};
    const struct rte_flow_action_ethdev us = {.port_id = port};
    const struct rte_flow_item_ethdev from = {.port_id = port};
    const struct rte_flow_item_ipv4 low = {.hdr = {.time_to_live = 0}},
                                    mask = {.hdr = {.time_to_live = 0xf8}};
    const struct rte_flow_item pattern[] = {
        {.type = RTE_FLOW_ITEM_TYPE_REPRESENTED_PORT, .spec = &from},
        {.type = RTE_FLOW_ITEM_TYPE_ETH},
        {.type = RTE_FLOW_ITEM_TYPE_IPV4, .spec = &low, .mask = &mask},
        {.type = RTE_FLOW_ITEM_TYPE_END}};
    const struct rte_flow_action actions[] = {
        {.type = RTE_FLOW_ACTION_TYPE_PORT_REPRESENTOR, .conf = &us},
        {.type = RTE_FLOW_ACTION_TYPE_END}};
    struct rte_flow_error error;
    return rte_flow_create(port, &attr, pattern, actions, &error) != NULL;
}

/* R2 */
static bool
takes(uint16_t port, enum pollflows kind)
{
    const struct pollflows_rule rule = {.dst_mac = {0x02},
                                        .src_mac = {0x02, 1},
                                        .new_dst_mac = {0x02, 2},
                                        .new_src_mac = {0x02, 3},
                                        .src = RTE_BE32(0xc0000201),
                                        .dst = RTE_BE32(0xc6336401),
                                        .sport = RTE_BE16(49152),
                                        .dport = RTE_BE16(443),
                                        .proto = TCP,
                                        .hops = POLLFLOWS_HOPS,
                                        .out = port};
    struct rte_flow *flow = pollflows_make(port, kind, &rule);
    return flow != NULL && pollflows_unmake(port, flow);
}

enum pollflows
pollflows_probe(uint16_t port)
{
    return takes(port, POLLFLOWS_FORWARD) && make_guard(port) ? POLLFLOWS_FORWARD
           : takes(port, POLLFLOWS_MATCH)                     ? POLLFLOWS_MATCH
                                                              : POLLFLOWS_NONE;
}

const char *
pollflows_word(enum pollflows flows)
{
    return flows == POLLFLOWS_FORWARD ? "forward" : flows == POLLFLOWS_MATCH ? "match" : "none";
}
