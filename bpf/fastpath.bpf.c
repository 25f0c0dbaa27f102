/* The fast path in the kernel: the state machine (dataplane/fast/machine.h) over maps, at tc.
 *   haw_in   ingress of an instance's host side: look up, rewrite and redirect, or hand to the slow path
 *   haw_out  what the slow path sends to the instance: ingress of our end of the slow pair, or (kernel OVS,
 *            no pair) egress of the host side: learn, and deliver
 * B1  With a slow pair a miss is redirected into it; without one it simply goes on to OVS, which is the
 *     interface's own rx handler. Copies then come in once more, known by their mark.
 * B2  Without a pair what haw_in sends out of a tap passes haw_out again: marked, so that it isn't taken for
 *     its own copy.
 * B5  A plain IPv4 packet whose flow has a permit (permit.h) looks up nothing else.
 * B6  bpf_redirect_peer() calls each frame the receiver's own; broadcasts, and what is for another MAC, pass
 *     the veth instead, which sees whose they are.
 * Maps, clock and what the programs share are in doors.bpf.h; what goes to other hosts is in far.bpf.h. */
#include "bpf/doors.bpf.h"
#include "bpf/far.bpf.h"

/* ---- haw_in ---- */

FAST_FN void
probe(const struct machine *m, struct __sk_buff *skb, const struct layout_nic *nic,
      struct layout_flow *flow, struct packet *p)
{
    if (!probe_note(m, skb, nic, flow, p)) {
        return;
    }
    if (nic->flags & LAYOUT_NIC_PAIR) {
        bpf_clone_redirect(skb, nic->slow_ifindex, 0);
    } else {
        __u32 mark = skb->mark;
        skb->mark = MARK_COPY; /* B1 */
        bpf_clone_redirect(skb, skb->ifindex, BPF_F_INGRESS);
        skb->mark = mark;
    }
}

/* B5. The key and the TTL of a frame that a permit may carry, which is what packet_parse() calls UNKNOWN, of TCP or UDP
 * over IPv4, and whose headers are linear; 0 for all others, and for those that are to be looked at. *ret_segment is
 * the largest IP packet that the frame stands for. */
FAST_FN int
glance(struct __sk_buff *skb, __u16 nic, struct layout_key4 *ret, __u32 *ret_segment)
{
    const struct packet_eth *eth = (void *) (long) skb->data;
    const struct packet_ip4 *ip = (const struct packet_ip4 *) (eth + 1);
    const struct packet_tcp *tcp = (const struct packet_tcp *) (ip + 1);
    const struct packet_udp *udp = (const struct packet_udp *) (ip + 1);
    void *end = (void *) (long) skb->data_end;
    if ((void *) (udp + 1) > end || eth->type != PACKET_BE16(0x0800) || ip->version_ihl != 0x45 ||
        (ip->fragment & PACKET_BE16(0xbfff)) || skb->vlan_present) {
        return 0;
    }
    __u32 size = PACKET_BE16(ip->size), header = sizeof *ip + sizeof *udp;
    if (ip->proto == PACKET_TCP) {
        if ((void *) (tcp + 1) > end || tcp->offset < 0x50 ||
            (tcp->flags & (PACKET_FIN | PACKET_SYN | PACKET_RST | PACKET_URG))) {
            return 0;
        }
        header = sizeof *ip + (__u32) (tcp->offset >> 4) * 4;
    } else if (ip->proto != PACKET_UDP) {
        return 0;
    }
    if (header > size || size > skb->len - PACKET_ETH) {
        return 0;
    }
    __u32 gso = gso_size(skb);
    *ret_segment = gso ? header + gso : size;
    ret->src = ip->src;
    ret->dst = ip->dst;
    ret->sport = udp->sport;
    ret->dport = udp->dport;
    ret->proto = ip->proto;
    ret->zero = 0;
    ret->nic = nic;
    return 1;
}

/* B5: what a permit carries: *ret_way is what to return. 0: the packet has to be looked at. */
FAST_FN int
send_permitted(const struct machine *m, struct __sk_buff *skb, const struct layout_nic *nic,
               __u16 id, int *ret_way)
{
    struct layout_key4 key;
    __u32 segment;
    if (!(nic->flags & LAYOUT_NIC_ON) || !glance(skb, id, &key, &segment) || m->config->off ||
        m->config->trace) {
        return 0;
    }
    struct layout_permit *permit = permit_find(&key);
    if (!permit) {
        return 0;
    }
    __u32 seq = PERMIT_SEQ(permit);
    /* What is written below, and what it says that is so: read before 'seq' is once more. P3 */
    struct layout_permit own = *permit;
    struct packet_eth *eth = (void *) (long) skb->data;
    struct packet_ip4 *ip = (struct packet_ip4 *) (eth + 1);
    if ((void *) (ip + 1) > (void *) (long) skb->data_end || (seq & 1) ||
        PERMIT_SEQ(permit) != seq || !permit_same(&own.key, &key) ||
        own.generation != machine_generation(m, nic->zone) || m->now_ns >= own.until_ns ||
        !packet_mac_same(eth->src, nic->mac) || !packet_mac_same(eth->dst, own.gate_mac) ||
        ip->ttl <= own.ttl_delta || segment > own.mtu || own.bytes >= PERMIT_BYTES_MAX) {
        return 0;
    }
    permit->packets++;
    permit->bytes += skb->len;
    rewrite_macs(eth, own.dst_mac, own.src_mac);
    rewrite_ttl4(eth, own.ttl_delta);
    if (own.flags & LAYOUT_PERMIT_MARK) {
        skb->mark = MARK_FAST; /* B2 */
    }
    *ret_way = own.flags & LAYOUT_PERMIT_PEER ? bpf_redirect_peer(own.out_ifindex, 0)
                                              : bpf_redirect(own.out_ifindex, 0);
    return 1;
}

FAST_FN int
send_fast(const struct machine *m, struct __sk_buff *skb, const struct layout_nic *nic,
          struct layout_flow *flow, struct packet *p)
{
    const struct layout_wrap *wrap = flow->far ? far_wrap(skb, flow, p) : NULL;
    if (flow->far && !wrap) {
        return slow(skb, nic);
    }
    if (machine_probe_due(m, flow)) {
        probe(m, skb, nic, flow, p);
    }
    if (!pass(m, skb, flow, p)) {
        return TC_ACT_SHOT;
    }
    if (wrap) {
        return far_send(skb, wrap, flow, p);
    }
    const struct layout_nic *to = door_nic(m, flow->out.nic);
    if (!to) {
        return TC_ACT_SHOT;
    }
    permit_make(m, &p->tuple, flow, to);
    return deliver_fast(skb, to);
}

SEC("syscall")
int
haw_now(void *context)
{
    __u32 zero = 0;
    struct layout_config *config = bpf_map_lookup_elem(&haw_config, &zero);
    if (config) {
        config->clock_ns = now_ns();
    }
    return 0;
}

FAST_FN int
enter(struct __sk_buff *skb)
{
    struct layout_if *from = if_of(skb->ifindex);
    struct machine m = {.now_ns = now_ns()};
    __u32 zero = 0;
    m.config = bpf_map_lookup_elem(&haw_config, &zero);
    if (!from || from->role != LAYOUT_ROLE_NIC || !m.config) {
        count(LAYOUT_FOREIGN);
        return TC_ACT_OK;
    }
    if (skb->mark == MARK_COPY) { /* B1 */
        skb->mark = 0;
        return TC_ACT_OK;
    }
    __u16 id = from->nic;
    const struct layout_nic *nic = door_nic(&m, id);
    if (!nic) {
        return TC_ACT_OK;
    }
    int remember = 0, way;
    if (send_permitted(&m, skb, nic, id, &way)) {
        count(LAYOUT_HIT);
        return way;
    }
    pull(skb);
    struct packet p = {};
    struct layout_flow *flow = NULL;
    p.tuple.nic = id; /* M6 */
    enum layout_reason parsed = parse(skb, &p);
    __u32 gso = gso_size(skb), segment = gso ? p.payload - PACKET_ETH + gso : p.size;
    enum layout_reason reason = machine_enter(&m, id, nic, &p, parsed, segment, &flow, &remember);
    if (reason == LAYOUT_HIT && flow) {
        count(reason);
        trace(&m, &p, id, reason, 0);
        return send_fast(&m, skb, nic, flow, &p);
    }
    struct scratch *scratch = scratch_of_cpu();
    if (remember && scratch) {
        read_head(skb, &p);
        if (!machine_pend(&m, nic, &p, &scratch->pend, 0, flow)) {
            reason = LAYOUT_BUSY;
        }
        if (flow && p.tuple.family == 4) { /* M11 */
            struct layout_key4 key;
            key4_of(&p.tuple, &key);
            permit_void(&key, 0);
        }
    }
    count(reason);
    trace(&m, &p, id, reason, 0);
    return slow(skb, nic);
}

SEC("tc")
int
haw_in(struct __sk_buff *skb)
{
    return enter(skb);
}

/* ---- haw_out ---- */

SEC("tc")
int
haw_out(struct __sk_buff *skb)
{
    struct layout_if *at = if_of(skb->ifindex);
    struct scratch *scratch = scratch_of_cpu();
    struct machine m = {.now_ns = now_ns()};
    __u32 zero = 0;
    m.config = bpf_map_lookup_elem(&haw_config, &zero);
    if (!at || at->role == LAYOUT_ROLE_NONE || !m.config || !scratch) {
        count(LAYOUT_FOREIGN);
        return TC_ACT_OK;
    }
    if (skb->mark == MARK_FAST) { /* B2 */
        skb->mark = 0;
        return TC_ACT_OK;
    }
    const struct layout_nic *nic = door_nic(&m, at->nic);
    if (!nic) {
        return TC_ACT_OK;
    }
    pull(skb);
    struct packet p = {};
    enum layout_reason reason = parse(skb, &p);
    if (reason == LAYOUT_UNKNOWN) {
        read_head(skb, &p);
        __builtin_memset(&scratch->fresh, 0, sizeof scratch->fresh);
        reason = machine_leave(&m, at->nic, nic, &p, reason, &scratch->pend, &scratch->recalled,
                               &scratch->fresh);
    }
    count(reason);
    trace(&m, &p, at->nic, reason, 1);
    if (reason == LAYOUT_SWALLOWED) {
        return TC_ACT_SHOT;
    }
    if (at->role != LAYOUT_ROLE_SLOW) {
        return TC_ACT_OK;
    }
    /* B6 */
    return packet_mac_same(p.dst_mac, nic->mac) ? deliver(skb, nic) : bpf_redirect(nic->ifindex, 0);
}

char LICENSE[] SEC("license") = "Apache-2.0";
