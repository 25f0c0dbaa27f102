/* rte_flow's probe. What a driver says that it can do and what it does are two things (a tap's rules need parts of the
 * kernel that the driver does not ask for), so a rule is made and taken away again: that of a TCP flow between two
 * addresses of documentation (192.0.2.1 and 198.51.100.1), which no packet has. It asks for what a learned flow needs (other MACs, a
 * lower TTL, out of a port), or, where that is refused, for no more than to be matched.
 * Called by polldev.c. Not here: rules for learned flows; there are none. */
#include "dataplane/poll/pollflows.h"

#include <rte_byteorder.h>
#include <rte_ethdev.h>
#include <rte_flow.h>
#include <stdbool.h>

static bool
takes(uint16_t port, const struct rte_flow_action *actions)
{
    const struct rte_flow_attr attr = {.ingress = 1};
    const struct rte_flow_item_ipv4 ip = {
        .hdr = {.src_addr = RTE_BE32(0xc0000201), .dst_addr = RTE_BE32(0xc6336401)}};
    const struct rte_flow_item_ipv4 ip_mask = {
        .hdr = {.src_addr = RTE_BE32(UINT32_MAX), .dst_addr = RTE_BE32(UINT32_MAX)}};
    const struct rte_flow_item_tcp tcp = {
        .hdr = {.src_port = RTE_BE16(49152), .dst_port = RTE_BE16(443)}};
    const struct rte_flow_item_tcp tcp_mask = {
        .hdr = {.src_port = RTE_BE16(UINT16_MAX), .dst_port = RTE_BE16(UINT16_MAX)}};
    const struct rte_flow_item pattern[] = {
        {.type = RTE_FLOW_ITEM_TYPE_ETH},
        {.type = RTE_FLOW_ITEM_TYPE_IPV4, .spec = &ip, .mask = &ip_mask},
        {.type = RTE_FLOW_ITEM_TYPE_TCP, .spec = &tcp, .mask = &tcp_mask},
        {.type = RTE_FLOW_ITEM_TYPE_END}};
    struct rte_flow_error error = {0};
    if (rte_flow_validate(port, &attr, pattern, actions, &error) != 0) {
        return false;
    }
    struct rte_flow *flow = rte_flow_create(port, &attr, pattern, actions, &error);
    return flow != NULL && rte_flow_destroy(port, flow, &error) == 0;
}

enum pollflows
pollflows_probe(uint16_t port)
{
    const struct rte_flow_action_set_mac mac = {.mac_addr = {0x02}};
    const struct rte_flow_action_ethdev out = {.port_id = port};
    const struct rte_flow_action_queue queue = {.index = 0};
    const struct rte_flow_action forward[] = {
        {.type = RTE_FLOW_ACTION_TYPE_SET_MAC_SRC, .conf = &mac},
        {.type = RTE_FLOW_ACTION_TYPE_SET_MAC_DST, .conf = &mac},
        {.type = RTE_FLOW_ACTION_TYPE_DEC_TTL},
        {.type = RTE_FLOW_ACTION_TYPE_REPRESENTED_PORT, .conf = &out},
        {.type = RTE_FLOW_ACTION_TYPE_END}};
    const struct rte_flow_action match[] = {{.type = RTE_FLOW_ACTION_TYPE_QUEUE, .conf = &queue},
                                            {.type = RTE_FLOW_ACTION_TYPE_END}};
    return takes(port, forward) ? POLLFLOWS_FORWARD
           : takes(port, match) ? POLLFLOWS_MATCH
                                : POLLFLOWS_NONE;
}

const char *
pollflows_word(enum pollflows flows)
{
    return flows == POLLFLOWS_FORWARD ? "forward" : flows == POLLFLOWS_MATCH ? "match" : "none";
}
