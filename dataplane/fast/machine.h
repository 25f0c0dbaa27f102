/* machine.h: the flow state machine of the fast path. OVN alone decides what is allowed: a flow is learned
 * from packets that OVN let through, and forgotten quickly. Packet bytes in, verdict out.
 *
 *   unknown --enters--> pending --comes out of OVN--> half --the answers' direction too--> fast
 *   fast --a second after its last proof--> probing --its copy comes out--> fast
 *   probing --2 s without proof--> expired --a packet comes out of OVN--> fast
 *   any --generation bumped, SYN, FIN, RST, other rewrite seen--> unknown
 *
 * M1  Nothing is remembered of a packet whose source MAC or address isn't its port's own.
 * M2  A flow is fast only when both directions were proven in one generation and mirror each other.
 * M3  A proof dates from the entry of the packet that proved it; older than expire_ns it is none.
 * M4  A flow of another generation than its zone's present one is no flow. Generations are never reused.
 * M5  SYN, FIN, RST, fragments, options, extension headers, other ICMP, multicast and VLANs go slow.
 * M6  A flow belongs to the port that it was learned on: the same tuple from another port is another.
 * M7  What would end on its way (TTL) or does not fit (MTU) goes slow.
 * M8  Nothing is dropped but our own probes.
 * M9  What looks like two packets teaches nothing; what changed at both ends neither (double NAT).
 * M10 Sender and receiver are ports of one zone.
 * M11 A fast packet does not overtake what its flow sent into the slow path before: that is out, or was lost
 *     (pend_ns). Ports number what they send slow, and OVS keeps a port's order.
 * M12 The other hosts of a zone are one more NIC of it. What comes from them is checked by what it was wrapped in
 *     (tunnel's ends, network, ports, MACs: bpf/far.bpf.h puts a number for it where the gateway's MAC is
 *     compared), what goes to them is known again by what OVN wrapped it in ('far').
 *
 * The tables are behind "doors" that whoever includes this file defines first: the BPF programs over
 * maps (bpf/fastpath.bpf.c), user space over memory (engine.c). No allocation, no locks, no clock here.
 *   struct layout_flow *door_flow(m, key)                       NULL when there is none
 *   int door_flow_put(m, key, flow)                             0, or not when the table is full
 *   void door_flow_drop(m, key)
 *   const struct layout_nic *door_nic(m, nic)                   NULL when out of range
 *   struct layout_order *door_order(m, nic)                     likewise
 *   int door_pend_offer(m, table, slot, pend)                   machine_pend_offer() under the slot's lock
 *   void door_pend_take(m, table, slot, want, whole, ret)       machine_pend_take(), likewise
 * Threads: any; the doors say what may run at once. */
#pragma once
#include "dataplane/fast/packet.h"

struct machine {
    const struct layout_config *config;
    __u64 now_ns;
    void *tables; /* the doors' */
    __u32 far;    /* what the packet at hand is wrapped in as it leaves the host; 0: it does not */
};

#define MACHINE_SWALLOW_NS 2000000000ULL /* how long a late copy of UDP or ICMP is recognised */

/* ---- pending packets ---- */

enum { MACHINE_EXACT, MACHINE_NAT, MACHINE_PEND_TABLES };

FAST_FN __u32
machine_mix(__u32 hash, __u32 word)
{
    hash ^= word;
    hash *= 0x9e3779b1u;
    return hash ^ hash >> 15;
}

/* Where a packet is remembered: by all that it has, and by what no NAT changes. */
FAST_FN __u32
machine_slot(int table, const struct layout_tuple *tuple, const struct layout_print *print,
             __u16 zone)
{
    __u32 hash = machine_mix(zone, (__u32) tuple->proto << 8 | tuple->family);
    hash = machine_mix(machine_mix(hash, print->id), print->seq);
    hash = machine_mix(machine_mix(hash, print->ack), print->size);
    hash = machine_mix(machine_mix(hash, print->head[0]), print->head[1]);
    if (table == MACHINE_EXACT) {
        for (int i = 0; i < 4; i++) {
            hash = machine_mix(hash, tuple->src[i]);
            hash = machine_mix(hash, tuple->dst[i]);
        }
        hash = machine_mix(hash, (__u32) tuple->sport << 16 | tuple->dport);
    }
    return hash % LAYOUT_PENDING;
}

/* Whether 'slot' still counts. Probes are recognised longer than they prove anything. */
FAST_FN int
machine_pend_live(const struct layout_pend *slot, __u64 now_ns, __u64 pend_ns)
{
    __u64 life = slot->flags & LAYOUT_PEND_PROBE ? MACHINE_SWALLOW_NS : pend_ns;
    return (slot->flags & LAYOUT_PEND_LIVE) && now_ns < slot->born_ns + life;
}

/* Puts 'pend' into its slot; 0 when a live probe is there. M9 */
FAST_FN int
machine_pend_offer(struct layout_pend *slot, const struct layout_pend *pend, __u64 now_ns,
                   __u64 pend_ns)
{
    int live = machine_pend_live(slot, now_ns, pend_ns);
    if (live && (slot->flags & LAYOUT_PEND_PROBE)) {
        return 0;
    }
    int alike = live && slot->zone == pend->zone && packet_print_same(&slot->print, &pend->print) &&
                slot->tuple.proto == pend->tuple.proto;
    int same = alike && slot->tuple.nic == pend->tuple.nic &&
               packet_tuple_same(&slot->tuple, &pend->tuple);
    __u8 ambiguous = slot->flags & LAYOUT_PEND_AMBIGUOUS;
    *slot = *pend;
    if (alike && (!same || ambiguous)) {
        slot->flags |= LAYOUT_PEND_AMBIGUOUS;
    }
    return 1;
}

/* Takes what 'want' (zone, print, protocol; when 'whole' the tuple, too) stands for out of its slot.
 * ret->flags is 0 when it isn't there. What is ambiguous stays so until its time is over. M9 */
FAST_FN void
machine_pend_take(struct layout_pend *slot, const struct layout_pend *want, int whole, __u64 now_ns,
                  __u64 pend_ns, struct layout_pend *ret)
{
    if (!machine_pend_live(slot, now_ns, pend_ns) || slot->zone != want->zone ||
        slot->tuple.proto != want->tuple.proto || slot->tuple.family != want->tuple.family ||
        !packet_print_same(&slot->print, &want->print) ||
        (whole && !packet_tuple_same(&slot->tuple, &want->tuple))) {
        ret->flags = 0;
        return;
    }
    *ret = *slot;
    if (!(slot->flags & LAYOUT_PEND_AMBIGUOUS)) {
        slot->flags = 0;
    }
}

/* The doors, defined by who includes us, as static functions. */
#ifndef MACHINE_DOOR
#define MACHINE_DOOR extern
#endif
MACHINE_DOOR struct layout_flow *door_flow(const struct machine *m, const struct layout_tuple *key);
MACHINE_DOOR int door_flow_put(const struct machine *m, const struct layout_tuple *key,
                               const struct layout_flow *flow);
MACHINE_DOOR void door_flow_drop(const struct machine *m, const struct layout_tuple *key);
MACHINE_DOOR const struct layout_nic *door_nic(const struct machine *m, __u16 nic);
MACHINE_DOOR struct layout_order *door_order(const struct machine *m, __u16 nic);
MACHINE_DOOR int door_pend_offer(const struct machine *m, int table, __u32 slot,
                                 const struct layout_pend *pend);
MACHINE_DOOR void door_pend_take(const struct machine *m, int table, __u32 slot,
                                 const struct layout_pend *want, int whole,
                                 struct layout_pend *ret);

FAST_FN __u32
machine_generation(const struct machine *m, __u16 zone)
{
    return m->config->generation[zone % LAYOUT_ZONES];
}

/* ---- ports ---- */

FAST_FN int
machine_address_owned(const struct layout_nic *nic, const struct layout_tuple *tuple)
{
    if (tuple->family == 4) {
        for (int i = 0; i < LAYOUT_ADDRS; i++) {
            if (i < nic->addr4_count && nic->addr4[i] == tuple->src[0]) {
                return 1;
            }
        }
        return 0;
    }
    for (int i = 0; i < LAYOUT_ADDRS; i++) {
        if (i < nic->addr6_count && nic->addr6[i][0] == tuple->src[0] &&
            nic->addr6[i][1] == tuple->src[1] && nic->addr6[i][2] == tuple->src[2] &&
            nic->addr6[i][3] == tuple->src[3]) {
            return 1;
        }
    }
    return 0;
}

/* ---- entering: from an instance ---- */

/* Whether 'flow' may carry the packet: HIT, or why not. 'segment' is the largest IP packet that the
 * frame stands for (with segmentation offload it is many). */
FAST_FN enum layout_reason
machine_judge(const struct machine *m, const struct layout_flow *flow, const struct packet *p,
              __u32 generation, __u16 mtu, __u32 segment)
{
    if (flow->generation != generation) { /* M4 */
        return LAYOUT_GENERATION;
    }
    if (!(flow->flags & LAYOUT_FLOW_FAST)) { /* M2 */
        return LAYOUT_HALF;
    }
    if (m->now_ns >= flow->proven_ns + m->config->expire_ns) { /* M3 */
        return LAYOUT_EXPIRED;
    }
    if (!packet_mac_same(p->dst_mac, flow->gate_mac)) {
        return LAYOUT_GATEWAY;
    }
    if (p->ttl <= flow->ttl_delta) { /* M7 */
        return LAYOUT_TTL;
    }
    return segment > mtu ? LAYOUT_MTU : LAYOUT_HIT;
}

FAST_FN int
machine_probe_due(const struct machine *m, const struct layout_flow *flow)
{
    return m->now_ns >= flow->proven_ns + m->config->renew_ns &&
           m->now_ns >= flow->probe_ns + m->config->retry_ns;
}

/* Both directions, so that what comes next is learned anew. */
FAST_FN void
machine_forget(const struct machine *m, const struct layout_tuple *key,
               const struct layout_flow *flow)
{
    struct layout_tuple reverse;
    packet_reverse(&flow->out, &reverse);
    door_flow_drop(m, &reverse);
    door_flow_drop(m, key);
}

/* M11: numbers a packet that is about to go slow; 'flow' (may be NULL) is its own. */
FAST_FN __u32
machine_number(const struct machine *m, __u16 nic, struct layout_flow *flow)
{
    struct layout_order *order = door_order(m, nic);
    if (!order) {
        return 0;
    }
    __u32 number = __sync_fetch_and_add(&order->sent, 1) + 1;
    if (flow) {
        if (!flow->order) {
            flow->order_ns = m->now_ns;
        }
        flow->order = number;
    }
    return number;
}

/* M11: whether a fast packet of the flow overtakes nothing. */
FAST_FN int
machine_in_order(const struct machine *m, __u16 nic, struct layout_flow *flow)
{
    const struct layout_order *order = door_order(m, nic);
    if (order && (__s32) (order->out - flow->order) < 0 &&
        m->now_ns < flow->order_ns + m->config->pend_ns) {
        return 0;
    }
    flow->order = 0;
    return 1;
}

/* Remembers the packet (p->tuple.nic, p->print whole) until it comes out of OVN. 0: no room. 'flow' (may be
 * NULL) is what machine_enter() found. */
FAST_FN int
machine_pend(const struct machine *m, const struct layout_nic *nic, const struct packet *p,
             struct layout_pend *pend, __u8 flags, struct layout_flow *flow)
{
    pend->order = flags & LAYOUT_PEND_PROBE ? 0 : machine_number(m, p->tuple.nic, flow);
    pend->born_ns = m->now_ns;
    pend->tuple = p->tuple;
    pend->print = p->print;
    pend->generation = machine_generation(m, nic->zone);
    pend->zone = nic->zone;
    pend->ttl = p->ttl;
    pend->flags = LAYOUT_PEND_LIVE | flags;
    packet_mac_copy(pend->gate_mac, p->dst_mac);
    int exact = door_pend_offer(m, MACHINE_EXACT,
                                machine_slot(MACHINE_EXACT, &p->tuple, &p->print, nic->zone), pend);
    int nat = door_pend_offer(m, MACHINE_NAT,
                              machine_slot(MACHINE_NAT, &p->tuple, &p->print, nic->zone), pend);
    return exact && nat;
}

/* A packet that was parsed ('parsed' is packet_parse()'s answer) at port 'id'. HIT: rewrite by *ret_flow
 * and send. Else it goes slow; *ret_pend says whether machine_pend() has to remember it first. */
FAST_FN enum layout_reason
machine_enter(const struct machine *m, __u16 id, const struct layout_nic *nic, struct packet *p,
              enum layout_reason parsed, __u32 segment, struct layout_flow **ret_flow,
              int *ret_pend)
{
    *ret_pend = 0;
    *ret_flow = 0;
    if (parsed != LAYOUT_UNKNOWN && parsed != LAYOUT_TCP_FLAGS) { /* M5 */
        return parsed;
    }
    if (m->config->off || !(nic->flags & LAYOUT_NIC_ON)) {
        return LAYOUT_OFF;
    }
    int far = nic->flags & LAYOUT_NIC_FAR;                /* M12 */
    if (!far && !packet_mac_same(p->src_mac, nic->mac)) { /* M1 */
        return LAYOUT_SPOOF_MAC;
    }
    if (!far && !machine_address_owned(nic, &p->tuple)) {
        return LAYOUT_SPOOF_ADDR;
    }
    p->tuple.nic = id; /* M6 */
    struct layout_flow *flow = door_flow(m, &p->tuple);
    if (parsed == LAYOUT_TCP_FLAGS) {
        if (flow) {
            machine_forget(m, &p->tuple, flow);
        }
        return parsed;
    }
    if (!flow) {
        *ret_pend = 1;
        return LAYOUT_UNKNOWN;
    }
    const struct layout_nic *to = door_nic(m, flow->out.nic);
    __u16 mtu = to ? to->mtu : 0;
    enum layout_reason reason =
        machine_judge(m, flow, p, machine_generation(m, nic->zone), mtu, segment);
    if (reason == LAYOUT_HIT && flow->order && !machine_in_order(m, id, flow)) {
        reason = LAYOUT_ORDER;
    }
    *ret_flow = flow;
    *ret_pend = reason != LAYOUT_HIT && reason != LAYOUT_TTL && reason != LAYOUT_MTU;
    return reason;
}

/* ---- leaving: out of OVN, towards an instance ---- */

/* Whether 'flow' is what the packet that just came out shows, sent to port 'id' by 'pend'. */
FAST_FN int
machine_as_before(const struct machine *m, const struct layout_flow *flow, const struct packet *p,
                  __u8 ttl_delta)
{
    return flow->far == m->far && flow->out.nic == p->tuple.nic &&
           packet_tuple_same(&flow->out, &p->tuple) && packet_mac_same(flow->dst_mac, p->dst_mac) &&
           packet_mac_same(flow->src_mac, p->src_mac) && flow->ttl_delta == ttl_delta;
}

/* A TCP copy, known by its flow and the bytes it covers (offloads may have cut it). M8 */
FAST_FN int
machine_swallow_tcp(const struct machine *m, const struct packet *p, __u32 generation)
{
    struct layout_tuple key;
    packet_reverse(&p->tuple, &key);
    struct layout_flow *answers = door_flow(m, &key);
    if (!answers || !(answers->flags & LAYOUT_FLOW_FAST)) {
        return 0;
    }
    packet_reverse(&answers->out, &key);
    struct layout_flow *flow = door_flow(m, &key);
    /* Once the flow has expired its own packets take the slow path; a copy that comes late is delivered,
     * which TCP does not mind. */
    if (!flow || flow->generation != generation || !flow->probe_ns ||
        m->now_ns >= flow->probe_ns + m->config->pend_ns ||
        m->now_ns >= flow->proven_ns + m->config->expire_ns) {
        return 0;
    }
    __u32 span = flow->probe_end - flow->probe_seq;
    if (p->print.seq - flow->probe_seq >= (span > 0 ? span : 1)) {
        return 0;
    }
    if (!machine_as_before(m, flow, p, flow->ttl_delta)) {
        machine_forget(m, &key, flow);
    } else {
        flow->proven_ns = flow->probe_ns; /* M3 */
    }
    return 1;
}

/* M2: both directions become fast once each is the other's mirror. */
FAST_FN enum layout_reason
machine_pair(const struct machine *m, const struct layout_tuple *key)
{
    struct layout_tuple reverse, mirror;
    struct layout_flow *flow = door_flow(m, key);
    if (!flow) {
        return LAYOUT_FULL;
    }
    packet_reverse(&flow->out, &reverse);
    struct layout_flow *answers = door_flow(m, &reverse);
    if (!answers || answers->generation != flow->generation ||
        m->now_ns >= answers->proven_ns + 5 * m->config->expire_ns) {
        return LAYOUT_LEARNED;
    }
    packet_reverse(key, &mirror);
    if (answers->out.nic != key->nic || !packet_tuple_same(&answers->out, &mirror)) {
        return LAYOUT_LEARNED;
    }
    answers->order_ns = flow->order_ns = m->now_ns;
    answers->flags |= LAYOUT_FLOW_FAST;
    flow->flags |= LAYOUT_FLOW_FAST;
    return LAYOUT_PAIRED;
}

/* M9: at most one end was rewritten. */
FAST_FN int
machine_one_end(const struct layout_tuple *a, const struct layout_tuple *b)
{
    __u32 src = a->sport ^ b->sport, dst = a->dport ^ b->dport;
    for (int i = 0; i < 4; i++) {
        src |= a->src[i] ^ b->src[i];
        dst |= a->dst[i] ^ b->dst[i];
    }
    return src == 0 || dst == 0;
}

/* 'pend' entered, and 'p' is what OVN made of it. */
FAST_FN enum layout_reason
machine_learn(const struct machine *m, const struct packet *p, const struct layout_pend *pend,
              struct layout_flow *fresh)
{
    __u8 delta = (__u8) (pend->ttl - p->ttl);
    struct layout_flow *known = door_flow(m, &pend->tuple);
    if (known && known->generation == pend->generation && machine_as_before(m, known, p, delta) &&
        packet_mac_same(known->gate_mac, pend->gate_mac)) {
        if (pend->born_ns > known->proven_ns) {
            known->proven_ns = pend->born_ns; /* M3 */
        }
        known->matched += known->matched < 255;
        if (known->flags & LAYOUT_FLOW_FAST) {
            return LAYOUT_RENEWED;
        }
        return machine_pair(m, &pend->tuple);
    }
    if (known && known->generation == pend->generation) {
        machine_forget(m, &pend->tuple, known);
    }
    fresh->proven_ns = fresh->used_ns = pend->born_ns;
    fresh->generation = pend->generation;
    fresh->out = p->tuple;
    fresh->flags = packet_tuple_same(&p->tuple, &pend->tuple) ? 0 : LAYOUT_FLOW_NAT;
    packet_mac_copy(fresh->dst_mac, p->dst_mac);
    packet_mac_copy(fresh->src_mac, p->src_mac);
    packet_mac_copy(fresh->gate_mac, pend->gate_mac);
    fresh->ttl_delta = delta;
    fresh->matched = 1;
    fresh->far = m->far;
    const struct layout_order *order = door_order(m, pend->tuple.nic);
    fresh->order = order ? order->sent : 0; /* M11: any of them may be its own */
    fresh->order_ns = m->now_ns;
    if (door_flow_put(m, &pend->tuple, fresh) != 0) {
        return LAYOUT_FULL;
    }
    return machine_pair(m, &pend->tuple);
}

/* Finds who sent what just came out, and clears both of its slots. ret->flags is 0 when nobody did.
 * 'want' has the zone; it is scratch memory afterwards. */
FAST_FN void
machine_recall(const struct machine *m, const struct packet *p, struct layout_pend *want,
               struct layout_pend *ret)
{
    want->tuple = p->tuple;
    want->print = p->print;
    __u16 zone = want->zone;
    __u32 exact = machine_slot(MACHINE_EXACT, &p->tuple, &p->print, zone);
    __u32 nat = machine_slot(MACHINE_NAT, &p->tuple, &p->print, zone);
    door_pend_take(m, MACHINE_EXACT, exact, want, 1, ret);
    if (ret->flags) {
        door_pend_take(m, MACHINE_NAT, nat, want, 1, want);
        return;
    }
    door_pend_take(m, MACHINE_NAT, nat, want, 0, ret);
    if (!ret->flags) {
        return;
    }
    if (!machine_one_end(&ret->tuple, &p->tuple)) {
        ret->flags |= LAYOUT_PEND_AMBIGUOUS;
    }
    want->tuple = ret->tuple;
    exact = machine_slot(MACHINE_EXACT, &ret->tuple, &p->print, zone);
    door_pend_take(m, MACHINE_EXACT, exact, want, 1, want);
}

/* Whether the packet is our own copy: it shows what its flow makes of packets. M8 */
FAST_FN int
machine_is_copy(const struct machine *m, const struct packet *p, const struct layout_pend *recalled)
{
    if (!(recalled->flags & LAYOUT_PEND_PROBE) || (recalled->flags & LAYOUT_PEND_AMBIGUOUS)) {
        return 0;
    }
    struct layout_flow *flow = door_flow(m, &recalled->tuple);
    return flow && flow->out.nic == p->tuple.nic && packet_tuple_same(&flow->out, &p->tuple);
}

/* A packet of OVN's towards port 'id', p->print whole. SWALLOWED: drop it; all else is delivered.
 * 'want', 'recalled' and 'fresh' are the caller's scratch memory, the last one zeroed. */
FAST_FN enum layout_reason
machine_leave(const struct machine *m, __u16 id, const struct layout_nic *nic, struct packet *p,
              enum layout_reason parsed, struct layout_pend *want, struct layout_pend *recalled,
              struct layout_flow *fresh)
{
    if (parsed != LAYOUT_UNKNOWN) {
        return parsed;
    }
    p->tuple.nic = id;
    __u32 generation = machine_generation(m, nic->zone);
    if (p->tuple.proto == PACKET_TCP && machine_swallow_tcp(m, p, generation)) {
        return LAYOUT_SWALLOWED;
    }
    want->zone = nic->zone;
    machine_recall(m, p, want, recalled);
    if (!recalled->flags) {
        return LAYOUT_UNMATCHED;
    }
    struct layout_order *order = door_order(m, recalled->tuple.nic);
    if (order && recalled->order && (__s32) (recalled->order - order->out) > 0) {
        order->out = recalled->order; /* M11 */
    }
    int copy = machine_is_copy(m, p, recalled);
    enum layout_reason reason;
    if (recalled->flags & LAYOUT_PEND_AMBIGUOUS) { /* M9 */
        reason = LAYOUT_AMBIGUOUS;
    } else if (recalled->generation != generation) { /* M4 */
        reason = LAYOUT_GENERATION;
    } else if (m->now_ns >= recalled->born_ns + m->config->pend_ns) {
        reason = LAYOUT_EXPIRED;
    } else if (m->config->off || !(nic->flags & LAYOUT_NIC_ON)) {
        reason = LAYOUT_OFF;
    } else if (!(nic->flags & LAYOUT_NIC_FAR) && !packet_mac_same(p->dst_mac, nic->mac)) {
        reason = LAYOUT_SPOOF_MAC;
    } else if (p->ttl > recalled->ttl || p->ttl == 0) {
        reason = LAYOUT_TTL;
    } else {
        reason = machine_learn(m, p, recalled, fresh);
    }
    return copy ? LAYOUT_SWALLOWED : reason;
}
