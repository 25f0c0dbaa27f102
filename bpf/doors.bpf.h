/* doors.bpf.h: the maps of the fast path, the state machine's doors to them (dataplane/fast/machine.h), and what all
 * programs share: counting, parsing, showing, rewriting, delivering. Part of fastpath.bpf.c.
 * B3  Headers are changed in place; addresses and ports (NAT) by helpers, which know about checksums that a
 *     device is to finish.
 * B4  The clock counts the kernel's ticks (jiffies), which costs nothing to read; time in it is the same
 *     everywhere below, and the daemon asks haw_now for it.
 * Maps are pinned and shared by all ports; dataplane/slow/fastload.c attaches and fills them.
 * Threads: any core at any time. */
#pragma once
#define MACHINE_DOOR static
#include "dataplane/fast/permit.h"
#include "dataplane/fast/rewrite.h"

#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <stddef.h>
#include <bpf/bpf_helpers.h>

#include "bpf/permits.bpf.h"

#define MARK_COPY 0x48570001u /* B1 */
#define MARK_FAST 0x48570002u /* B2 */

/* The loader's to say, before it loads. */
const volatile __u32 tick_ns = 4000000;

struct slot {
    struct bpf_spin_lock lock;
    __u32 zero;
    struct layout_pend pend;
};

struct scratch {
    struct layout_pend pend, recalled;
    struct layout_flow fresh;
};

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, LAYOUT_IFINDEXES);
    __type(key, __u32);
    __type(value, struct layout_if);
} haw_ifs SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, LAYOUT_FAR(LAYOUT_ZONES));
    __type(key, __u32);
    __type(value, struct layout_nic);
} haw_nics SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(map_flags, BPF_F_MMAPABLE);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, struct layout_config);
} haw_config SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 65536);
    __type(key, struct layout_tuple);
    __type(value, struct layout_flow);
} haw_flow6 SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, MACHINE_PEND_TABLES *LAYOUT_PENDING);
    __type(key, __u32);
    __type(value, struct slot);
} haw_pend SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, LAYOUT_FAR(LAYOUT_ZONES));
    __type(key, __u32);
    __type(value, struct layout_order);
} haw_order SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, LAYOUT_REASON_COUNT);
    __type(key, __u32);
    __type(value, __u64);
} haw_count SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, struct scratch);
} haw_scratch SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_RINGBUF);
    __uint(max_entries, LAYOUT_TRACE_BYTES);
} haw_trace SEC(".maps");

/* ---- doors ---- */

FAST_FN struct layout_flow *
door_flow(const struct machine *m, const struct layout_tuple *key)
{
    if (key->family == 4) {
        struct layout_key4 key4;
        key4_of(key, &key4);
        return bpf_map_lookup_elem(&haw_flow4, &key4);
    }
    return bpf_map_lookup_elem(&haw_flow6, key);
}

FAST_FN int
door_flow_put(const struct machine *m, const struct layout_tuple *key,
              const struct layout_flow *flow)
{
    if (key->family == 4) {
        struct layout_key4 key4;
        key4_of(key, &key4);
        permit_void(&key4, 1);
        return (int) bpf_map_update_elem(&haw_flow4, &key4, flow, BPF_ANY);
    }
    return (int) bpf_map_update_elem(&haw_flow6, key, flow, BPF_ANY);
}

FAST_FN void
door_flow_drop(const struct machine *m, const struct layout_tuple *key)
{
    if (key->family == 4) {
        struct layout_key4 key4;
        key4_of(key, &key4);
        permit_void(&key4, 1);
        bpf_map_delete_elem(&haw_flow4, &key4);
    } else {
        bpf_map_delete_elem(&haw_flow6, key);
    }
}

FAST_FN const struct layout_nic *
door_nic(const struct machine *m, __u16 nic)
{
    __u32 index = nic;
    return bpf_map_lookup_elem(&haw_nics, &index);
}

FAST_FN struct layout_order *
door_order(const struct machine *m, __u16 nic)
{
    __u32 index = nic;
    return bpf_map_lookup_elem(&haw_order, &index);
}

FAST_FN int
door_pend_offer(const struct machine *m, int table, __u32 slot, const struct layout_pend *pend)
{
    __u32 index = (__u32) table * LAYOUT_PENDING + slot;
    struct slot *at = bpf_map_lookup_elem(&haw_pend, &index);
    if (!at) {
        return 0;
    }
    __u64 life = m->config->pend_ns;
    bpf_spin_lock(&at->lock);
    int taken = machine_pend_offer(&at->pend, pend, m->now_ns, life);
    bpf_spin_unlock(&at->lock);
    return taken;
}

FAST_FN void
door_pend_take(const struct machine *m, int table, __u32 slot, const struct layout_pend *want,
               int whole, struct layout_pend *ret)
{
    __u32 index = (__u32) table * LAYOUT_PENDING + slot;
    struct slot *at = bpf_map_lookup_elem(&haw_pend, &index);
    if (!at) {
        ret->flags = 0;
        return;
    }
    __u64 life = m->config->pend_ns;
    bpf_spin_lock(&at->lock);
    machine_pend_take(&at->pend, want, whole, m->now_ns, life, ret);
    bpf_spin_unlock(&at->lock);
}

/* ---- shared by both programs ---- */

FAST_FN void
count(enum layout_reason reason)
{
    __u32 index = reason;
    __u64 *counter = bpf_map_lookup_elem(&haw_count, &index);
    if (counter) {
        ++*counter;
    }
}

FAST_FN struct layout_if *
if_of(__u32 ifindex)
{
    return bpf_map_lookup_elem(&haw_ifs, &ifindex);
}

/* The verifier wants its offset in the load itself, not computed before. */
FAST_FN __u32
gso_size(struct __sk_buff *skb)
{
    __asm__ volatile("" : "+r"(skb));
    return skb->gso_size;
}

/* Makes the headers linear when they aren't. */
FAST_FN void
pull(struct __sk_buff *skb)
{
    __u32 want = skb->len < PACKET_LINEAR ? skb->len : PACKET_LINEAR;
    if ((void *) (long) skb->data + want > (void *) (long) skb->data_end) {
        bpf_skb_pull_data(skb, want);
    }
}

FAST_FN enum layout_reason
parse(struct __sk_buff *skb, struct packet *ret)
{
    if (skb->vlan_present) {
        return LAYOUT_NOT_IP;
    }
    return packet_parse((void *) (long) skb->data, (void *) (long) skb->data_end, skb->len, ret);
}

/* TCP needs no more than its sequence numbers. */
FAST_FN void
read_head(struct __sk_buff *skb, struct packet *p)
{
    if (p->tuple.proto == PACKET_TCP || p->payload == 0) {
        return;
    }
    if (p->bytes >= 8) {
        bpf_skb_load_bytes(skb, p->payload, p->print.head, 8);
    } else if (p->bytes >= 4) {
        bpf_skb_load_bytes(skb, p->payload, p->print.head, 4);
    }
}

FAST_FN int
deliver(struct __sk_buff *skb, const struct layout_nic *to)
{
    return to->flags & LAYOUT_NIC_PEER ? bpf_redirect_peer(to->ifindex, 0)
                                       : bpf_redirect(to->ifindex, 0);
}

/* What passed: out of a host side that haw_out watches it goes marked, so that it isn't taken for its own copy. */
FAST_FN int
deliver_fast(struct __sk_buff *skb, const struct layout_nic *to)
{
    if (!(to->flags & (LAYOUT_NIC_PAIR | LAYOUT_NIC_PEER))) {
        skb->mark = MARK_FAST; /* B2 */
    }
    return deliver(skb, to);
}

static __attribute__((noinline)) int
show(const struct layout_config *config, const struct packet *p, __u64 now_ns, __u32 reason,
     __u32 out)
{
    if (!config || !p) {
        return 0;
    }
    const struct layout_tuple *tuple = &p->tuple;
    if (config->trace_nic && config->trace_nic != tuple->nic + 1u) {
        return 0;
    }
    if (config->trace_family) {
        __u32 src = config->trace_family ^ tuple->family, dst = src;
        for (int i = 0; i < 4; i++) {
            src |= config->trace_addr[i] ^ tuple->src[i];
            dst |= config->trace_addr[i] ^ tuple->dst[i];
        }
        if (src && dst) {
            return 0;
        }
    }
    struct layout_event *event = bpf_ringbuf_reserve(&haw_trace, sizeof *event, 0);
    if (event) {
        event->at_ns = now_ns;
        event->tuple = *tuple;
        event->size = p->size;
        event->reason = (__u16) reason;
        event->out = (__u16) out;
        bpf_ringbuf_submit(event, 0);
    }
    return 0;
}

FAST_FN void
trace(const struct machine *m, struct packet *p, __u16 nic, enum layout_reason reason, int out)
{
    if (m->config->trace) {
        p->tuple.nic = nic;
        show(m->config, p, m->now_ns, reason, (__u32) out);
    }
}
FAST_FN int
slow(struct __sk_buff *skb, const struct layout_nic *nic)
{
    return nic->flags & LAYOUT_NIC_PAIR ? bpf_redirect(nic->slow_ifindex, 0) : TC_ACT_OK;
}

FAST_FN struct scratch *
scratch_of_cpu(void)
{
    __u32 zero = 0;
    return bpf_map_lookup_elem(&haw_scratch, &zero);
}

FAST_FN __u64
now_ns(void)
{
    return bpf_jiffies64() * tick_ns; /* B4 */
}

/* Makes ready for a copy that proves the flow; 0 when none can be sent now. */
FAST_FN int
probe_note(const struct machine *m, struct __sk_buff *skb, const struct layout_nic *nic,
           struct layout_flow *flow, struct packet *p)
{
    if (p->tuple.proto == PACKET_TCP) {
        flow->probe_seq = p->print.seq;
        flow->probe_end = p->print.seq + p->bytes;
    } else {
        struct scratch *scratch = scratch_of_cpu();
        read_head(skb, p);
        if (gso_size(skb) || !scratch ||
            !machine_pend(m, nic, p, &scratch->pend, LAYOUT_PEND_PROBE, NULL)) {
            return 0;
        }
    }
    flow->probe_ns = m->now_ns;
    return 1;
}

#define IP4_CHECK (PACKET_ETH + offsetof(struct packet_ip4, check))
#define IP4_SRC   (PACKET_ETH + offsetof(struct packet_ip4, src))
#define IP4_DST   (PACKET_ETH + offsetof(struct packet_ip4, dst))
#define IP6_SRC   (PACKET_ETH + offsetof(struct packet_ip6, src))
#define IP6_DST   (PACKET_ETH + offsetof(struct packet_ip6, dst))

/* One word of the addresses: its bytes, and the checksums that cover it. */
FAST_FN void
nat_word(struct __sk_buff *skb, const struct packet *p, __u32 at, __u32 check, __u64 l4_flags,
         __be32 from, __be32 to)
{
    if (from == to) {
        return;
    }
    if (p->tuple.family == 4) {
        bpf_l3_csum_replace(skb, IP4_CHECK, from, to, 4);
    }
    if (p->tuple.proto != PACKET_ICMP) {
        bpf_l4_csum_replace(skb, check, from, to, l4_flags | BPF_F_PSEUDO_HDR | 4);
    }
    bpf_skb_store_bytes(skb, at, &to, 4, 0);
}

FAST_FN void
nat_port(struct __sk_buff *skb, __u32 at, __u32 check, __u64 l4_flags, __be16 from, __be16 to)
{
    if (from != to) {
        bpf_l4_csum_replace(skb, check, from, to, l4_flags | 2);
        bpf_skb_store_bytes(skb, at, &to, 2, 0);
    }
}

/* B3 */
FAST_FN void
nat(struct __sk_buff *skb, const struct packet *p, const struct layout_tuple *to)
{
    const struct layout_tuple *from = &p->tuple;
    __u32 l4 = p->l4, check = l4 + offsetof(struct packet_icmp, check);
    __u64 flags = 0;
    if (from->proto == PACKET_TCP) {
        check = l4 + offsetof(struct packet_tcp, check);
    } else if (from->proto == PACKET_UDP) {
        check = l4 + offsetof(struct packet_udp, check);
        flags = BPF_F_MARK_MANGLED_0;
    }
    if (from->family == 4) {
        nat_word(skb, p, IP4_SRC, check, flags, from->src[0], to->src[0]);
        nat_word(skb, p, IP4_DST, check, flags, from->dst[0], to->dst[0]);
    } else {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            nat_word(skb, p, IP6_SRC + 4 * i, check, flags, from->src[i], to->src[i]);
            nat_word(skb, p, IP6_DST + 4 * i, check, flags, from->dst[i], to->dst[i]);
        }
    }
    if (from->proto == PACKET_TCP || from->proto == PACKET_UDP) {
        nat_port(skb, l4, check, flags, from->sport, to->sport);
        nat_port(skb, l4 + 2, check, flags, from->dport, to->dport);
    } else {
        nat_port(skb, l4 + offsetof(struct packet_icmp, id), check, flags, from->sport, to->sport);
    }
}

/* Makes of the packet what leaves, and counts it as its flow's; 0 when its headers are not all there: helpers may have
 * moved the bytes. */
FAST_FN int
pass(const struct machine *m, struct __sk_buff *skb, struct layout_flow *flow,
     const struct packet *p)
{
    if (flow->flags & LAYOUT_FLOW_NAT) {
        nat(skb, p, &flow->out);
    }
    void *data = (void *) (long) skb->data;
    if (data + PACKET_ETH + sizeof(struct packet_ip6) > (void *) (long) skb->data_end &&
        data + PACKET_ETH + sizeof(struct packet_ip4) > (void *) (long) skb->data_end) {
        return 0;
    }
    flow->used_ns = m->now_ns;
    flow->packets++;
    flow->bytes += skb->len;
    rewrite_hop(data, flow);
    return 1;
}
