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

/* B5: what a permit carries: *ret_way is what to return. 0: the flow has to be looked at. 'segment' is the
 * largest IP packet that the frame stands for. */
FAST_FN int
send_permitted(const struct machine *m, struct __sk_buff *skb, const struct layout_nic *nic,
               const struct packet *p, __u32 segment, int *ret_way)
{
    struct layout_key4 key;
    if (p->tuple.family != 4 || m->config->off || m->config->trace ||
        !(nic->flags & LAYOUT_NIC_ON) || !packet_mac_same(p->src_mac, nic->mac)) {
        return 0;
    }
    key4_of(&p->tuple, &key);
    struct layout_permit *permit = permit_find(&key);
    if (!permit) {
        return 0;
    }
    __u32 seq = PERMIT_SEQ(permit);
    /* What is written below, and what it says that is so: read before 'seq' is once more. P3 */
    struct layout_permit own = *permit;
    if ((seq & 1) || PERMIT_SEQ(permit) != seq || !permit_same(&own.key, &key) ||
        own.generation != machine_generation(m, nic->zone) || m->now_ns >= own.until_ns ||
        !packet_mac_same(p->dst_mac, own.gate_mac) || p->ttl <= own.ttl_delta ||
        segment > own.mtu || own.bytes >= PERMIT_BYTES_MAX) {
        return 0;
    }
    void *data = (void *) (long) skb->data;
    if (data + PACKET_ETH + sizeof(struct packet_ip4) > (void *) (long) skb->data_end) {
        return 0;
    }
    permit->packets++;
    permit->bytes += skb->len;
    rewrite_macs(data, own.dst_mac, own.src_mac);
    rewrite_ttl4(data, own.ttl_delta);
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
    pull(skb);
    struct packet p = {};
    struct layout_flow *flow = NULL;
    int remember = 0, way;
    p.tuple.nic = id; /* M6 */
    enum layout_reason parsed = parse(skb, &p);
    __u32 gso = gso_size(skb), segment = gso ? p.payload - PACKET_ETH + gso : p.size;
    if (parsed == LAYOUT_UNKNOWN && send_permitted(&m, skb, nic, &p, segment, &way)) {
        count(LAYOUT_HIT);
        return way;
    }
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
