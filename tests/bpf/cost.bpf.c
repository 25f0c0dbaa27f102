/* What a hit costs when each packet is of another flow, so that tables are read from memory and not from a
 * cache: the fast path's own code over its own maps, behind a few instructions that choose the flow.
 *   cost_pick   chooses only      cost_hit   chooses, and enters      cost_none   does nothing
 * Chosen are the flows that fastpath_tool puts: addresses from 10.2.0.2 on, then ports from 80 on. */
#include "bpf/fastpath.bpf.c"

const volatile __u32 cost_flows = 1;
__u64 cost_state = 1;

FAST_FN int
pick(struct __sk_buff *skb)
{
    __u8 *data = (void *) (long) skb->data;
    if (data + PACKET_ETH + sizeof(struct packet_ip4) + 4 > (__u8 *) (long) skb->data_end) {
        return 0;
    }
    cost_state = cost_state * 6364136223846793005ULL + 1442695040888963407ULL;
    __u32 flow = (__u32) ((cost_state >> 32) * cost_flows >> 32);
    struct packet_ip4 *ip = (struct packet_ip4 *) (data + PACKET_ETH);
    ip->ttl = 64; /* runs change the same frame */
    ip->dst = PACKET_BE32(0x0a020002 + (flow & 0xffff));
    ((__be16 *) (ip + 1))[1] = PACKET_BE16((__u16) (80 + (flow >> 16)));
    return 1;
}

SEC("tc")
int
cost_none(struct __sk_buff *skb)
{
    return 0;
}

SEC("tc")
int
cost_pick(struct __sk_buff *skb)
{
    return pick(skb) ? TC_ACT_OK : TC_ACT_SHOT;
}

SEC("tc")
int
cost_hit(struct __sk_buff *skb)
{
    return pick(skb) ? enter(skb) : TC_ACT_SHOT;
}
