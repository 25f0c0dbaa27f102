/* far.bpf.h: the fast path between hosts, at the uplink that OVN's Geneve packets use. Each host learns its half.
 *   haw_far_out  egress of the uplink: what OVS wrapped teaches how to wrap ('haw_in' then does it itself)
 *   haw_far_in   what comes in: a hit is unwrapped, rewritten and given to the instance; all else goes to OVS
 *
 *   instance ── haw_in ── miss ── OVS ── haw_far_out ── uplink     what is learned goes from haw_in to the uplink
 *   uplink ── (XDP: pair) ── haw_far_in ── miss ── OVS ── haw_out ── instance
 *
 * With OVS's userspace datapath, which reads the uplink by AF_PACKET and so before tc, the uplink's XDP program
 * (uplink.bpf.c) sends Geneve into a pair, at whose end haw_far_in sits; what is a miss enters the uplink again.
 * With the kernel's datapath haw_far_in sits at the ingress of the uplink.
 * G1  Only Geneve over IPv4 with OVN's option, and no other, in networks (VNIs) of a zone: else OVS's alone.
 * G2  What a packet was wrapped in has a number (haw_far_serial), never used twice. Coming in, it stands where
 *     machine.h compares the gateway's MAC, so the same tuple by another tunnel, port or network is no hit.
 *     Going out, it is part of what was learned, so another remote host is another rewrite.
 * G3  The outer UDP checksum follows from the inner one without reading the payload, since that one is right; where it
 *     is none (UDP, 0) the packet goes slow. Frames that are cut later (GSO) have none, which IPv4 allows.
 * G4  Outer ECN marks, fragments, padding and aggregates that come in are OVS's to treat.
 * Part of fastpath.bpf.c. */
#pragma once
#include "bpf/doors.bpf.h"
#include "bpf/layout_far.h"

#define FAR_PORT 6081
#define FAR_DECAP_IPV6                                                                             \
    (1ULL << 8) /* BPF_F_ADJ_ROOM_DECAP_L3_IPV6, newer than Debian 12's headers */

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, FAR_NETWORKS);
    __uint(map_flags, BPF_F_NO_PREALLOC);
    __type(key, __u32);   /* VNI */
    __type(value, __u32); /* zone */
} haw_far_zones SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 2 * FAR_UPLINKS);
    __type(key, __u32);
    __type(value, struct layout_uplink);
} haw_far_uplinks SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_LRU_HASH);
    __uint(max_entries, FAR_WRAPS);
    __type(key, struct layout_wrap);
    __type(value, __u32);
} haw_far_serial SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_LRU_HASH);
    __uint(max_entries, FAR_WRAPS);
    __type(key, __u32);
    __type(value, struct layout_wrap);
} haw_far_wraps SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, __u32);
} haw_far_last SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
    __uint(max_entries, 1);
    __type(key, __u32);
    __type(value, struct layout_wrap);
} haw_far_temp SEC(".maps");

struct far_geneve {
    __u8 version_options, flags;
    __be16 type;
    __be32 vni; /* and a byte that is not used */
    __be16 class;
    __u8 option, words;
    __be32 ports; /* OVN's: where it entered the network, and where it leaves */
};

struct far_head {
    struct packet_eth eth;
    struct packet_ip4 ip;
    struct packet_udp udp;
    struct far_geneve geneve;
} __attribute__((packed, aligned(2)));
_Static_assert(sizeof(struct far_head) == FAR_HEAD, "as in layout_far.h");

/* ---- what it is wrapped in ---- */

/* G1. The zone of a packet between hosts; 0 when it is none of ours. */
FAST_FN __u32
far_zone(struct __sk_buff *skb)
{
    const struct far_head *head = (void *) (long) skb->data;
    __u32 vni;
    if ((void *) (head + 1) > (void *) (long) skb->data_end || skb->vlan_present ||
        head->eth.type != PACKET_BE16(0x0800) || head->ip.version_ihl != 0x45 ||
        head->ip.proto != PACKET_UDP || (head->ip.fragment & PACKET_BE16(0xbfff)) ||
        head->udp.dport != PACKET_BE16(FAR_PORT) || head->geneve.version_options != 2 ||
        (head->geneve.flags & ~0x40) || head->geneve.type != PACKET_BE16(0x6558) ||
        head->geneve.class != PACKET_BE16(0x0102) || (head->geneve.option & 0x7f) ||
        head->geneve.words != 1) {
        return 0;
    }
    vni = PACKET_BE32(head->geneve.vni) >> 8;
    const __u32 *zone = bpf_map_lookup_elem(&haw_far_zones, &vni);
    return zone && *zone < LAYOUT_ZONES ? *zone : 0;
}

/* Headers as they are compared and kept, in memory of this processor. far_zone() has checked the bounds. */
FAST_FN struct layout_wrap *
far_read(struct __sk_buff *skb, int out)
{
    __u32 zero = 0;
    struct layout_wrap *wrap = bpf_map_lookup_elem(&haw_far_temp, &zero);
    if (!wrap || bpf_skb_load_bytes(skb, 0, wrap->head, FAR_HEAD) ||
        bpf_skb_load_bytes(skb, FAR_HEAD, wrap->inner_macs, sizeof wrap->inner_macs)) {
        return NULL;
    }
    struct far_head *head = (struct far_head *) wrap->head;
    head->ip.size = head->ip.id = head->ip.check = 0;
    head->udp.sport = head->udp.size = 0;
    head->udp.check = out && head->udp.check; /* what comes in may have one or not: GSO */
    wrap->zero = 0;
    wrap->ifindex = 0;
    if (out) {
        wrap->ifindex = skb->ifindex;
        __builtin_memset(wrap->inner_macs, 0, sizeof wrap->inner_macs);
    }
    return wrap;
}

/* G2. 0 when there is no room. */
FAST_FN __u32
far_number(const struct layout_wrap *wrap, int out)
{
    __u32 zero = 0;
    const __u32 *known = bpf_map_lookup_elem(&haw_far_serial, wrap);
    __u32 *last = bpf_map_lookup_elem(&haw_far_last, &zero), number;
    if (!last) {
        return 0;
    }
    if (known) {
        number = *known;
    } else {
        number = __sync_fetch_and_add(last, 1) + 1;
        if (number == 0 || bpf_map_update_elem(&haw_far_serial, wrap, &number, BPF_NOEXIST)) {
            return 0; /* another processor was first: the next packet finds it */
        }
    }
    if (out && !bpf_map_lookup_elem(&haw_far_wraps, &number)) {
        bpf_map_update_elem(&haw_far_wraps, &number, wrap, BPF_ANY);
    }
    return number;
}

/* ---- leaving this host ---- */

/* How to wrap a packet of the flow; NULL when it has to go slow. G3 */
FAST_FN const struct layout_wrap *
far_wrap(struct __sk_buff *skb, const struct layout_flow *flow, const struct packet *p)
{
    const struct layout_wrap *wrap = bpf_map_lookup_elem(&haw_far_wraps, &flow->far);
    if (!wrap || skb->len != p->size + PACKET_ETH) {
        return NULL;
    }
    if (p->tuple.proto != PACKET_UDP) {
        return wrap;
    }
    __be16 check = 0;
    bpf_skb_load_bytes(skb, p->l4 + offsetof(struct packet_udp, check), &check, sizeof check);
    return check ? wrap : NULL;
}

FAST_FN __u32
far_fold(__u64 sum)
{
    sum = (sum & 0xffffffff) + (sum >> 32);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    return (__u32) sum;
}

FAST_FN __u64
far_sum(const void *words, int count)
{
    const __u16 *at = words;
    __u64 sum = 0;
#pragma unroll
    for (int i = 0; i < count; i++) {
        sum += at[i];
    }
    return sum;
}

/* G3. The sum of the inner IP packet, told from its headers: a right checksum makes what it covers, with the pseudo
 * header, add up to nothing. 'ip' is the header as it leaves. */
FAST_FN __u64
far_inner_sum(const void *ip, const struct packet *p)
{
    if (p->tuple.family == 4) { /* the header adds up to nothing, too */
        if (p->tuple.proto == PACKET_ICMP) {
            return 0;
        }
        __u32 pseudo =
            (__u32) far_sum(ip + 12, 4) + PACKET_BE16(p->tuple.proto) + PACKET_BE16(p->size - 20);
        return (__u16) ~far_fold(pseudo);
    }
    /* Addresses and length are in both. */
    return far_sum(ip, 2) + far_sum(ip + 6, 1) + (__u16) ~PACKET_BE16(p->tuple.proto);
}

/* Wraps the packet, whose headers are already those that it leaves with, and sends it. */
FAST_FN int
far_send(struct __sk_buff *skb, const struct layout_wrap *wrap, const struct layout_flow *flow,
         const struct packet *p)
{
    struct {
        struct far_head outer;
        struct packet_eth inner;
    } __attribute__((packed, aligned(4))) heads;
    __u8 ip[20];
    __u32 size = p->size + FAR_HEAD, gso = gso_size(skb);
    const __u64 flags = BPF_F_ADJ_ROOM_FIXED_GSO | BPF_F_ADJ_ROOM_ENCAP_L3_IPV4 |
                        BPF_F_ADJ_ROOM_ENCAP_L4_UDP | BPF_F_ADJ_ROOM_ENCAP_L2(PACKET_ETH) |
                        BPF_F_ADJ_ROOM_ENCAP_L2_ETH;
    __builtin_memcpy(&heads.outer, wrap->head, FAR_HEAD);
    packet_mac_copy(heads.inner.dst, flow->dst_mac);
    packet_mac_copy(heads.inner.src, flow->src_mac);
    heads.inner.type = p->tuple.family == 4 ? PACKET_BE16(0x0800) : PACKET_BE16(0x86dd);
    if (bpf_skb_load_bytes(skb, PACKET_ETH, ip, sizeof ip) ||
        bpf_skb_adjust_room(skb, FAR_HEAD, BPF_ADJ_ROOM_MAC, flags)) {
        return TC_ACT_SHOT;
    }
    heads.outer.ip.size = PACKET_BE16(size);
    heads.outer.ip.check = ~far_fold(far_sum(&heads.outer.ip, 10));
    heads.outer.udp.sport = flow->far_sport;
    heads.outer.udp.size = PACKET_BE16(size - 20);
    if (heads.outer.udp.check && !gso) {
        heads.outer.udp.check = 0;
        __u64 sum = far_inner_sum(ip, p) + PACKET_BE16(PACKET_UDP) + heads.outer.udp.size +
                    far_sum(&heads.outer.ip.src, 4) +
                    far_sum(&heads.outer.udp, 12 + PACKET_ETH / 2);
        __u16 check = ~far_fold(sum);
        heads.outer.udp.check = check ? check : 0xffff;
    } else {
        heads.outer.udp.check = 0;
    }
    if (bpf_skb_store_bytes(skb, 0, &heads, sizeof heads, 0)) {
        return TC_ACT_SHOT;
    }
    skb->mark = MARK_FAST;
    return bpf_redirect(wrap->ifindex, 0);
}

/* ---- both programs ---- */

FAST_FN void
far_pull(struct __sk_buff *skb)
{
    __u32 want = skb->len < FAR_HEAD + PACKET_LINEAR ? skb->len : FAR_HEAD + PACKET_LINEAR;
    if ((void *) (long) skb->data + want > (void *) (long) skb->data_end) {
        bpf_skb_pull_data(skb, want);
    }
}

/* The inner packet. Its payload's offset is that in the frame, those of its headers are its own. */
FAST_FN enum layout_reason
far_parse(struct __sk_buff *skb, struct packet *ret)
{
    void *inner = (void *) (long) skb->data + FAR_HEAD;
    enum layout_reason reason =
        packet_parse(inner, (void *) (long) skb->data_end, skb->len - FAR_HEAD, ret);
    if (reason == LAYOUT_UNKNOWN) {
        ret->payload += FAR_HEAD;
    }
    return reason;
}

SEC("tc")
int
haw_far_out(struct __sk_buff *skb)
{
    if (skb->mark == MARK_FAST) {
        skb->mark = 0;
        return TC_ACT_OK;
    }
    struct scratch *scratch = scratch_of_cpu();
    struct machine m = {.now_ns = now_ns()};
    __u32 zero = 0, ifindex = skb->ifindex;
    const struct layout_uplink *uplink = bpf_map_lookup_elem(&haw_far_uplinks, &ifindex);
    m.config = bpf_map_lookup_elem(&haw_config, &zero);
    far_pull(skb);
    __u32 zone = far_zone(skb);
    if (!zone || !uplink || !m.config || !scratch) {
        return TC_ACT_OK;
    }
    struct packet p = {};
    __be16 sport = 0;
    enum layout_reason reason = far_parse(skb, &p);
    const struct layout_nic *far = door_nic(&m, LAYOUT_FAR(zone));
    const struct layout_wrap *wrap = far_read(skb, 1);
    if (reason != LAYOUT_UNKNOWN || !far || !wrap) {
        return TC_ACT_OK;
    }
    m.far = far_number(wrap, 1);
    bpf_skb_load_bytes(skb, PACKET_ETH + sizeof(struct packet_ip4), &sport, sizeof sport);
    read_head(skb, &p);
    __builtin_memset(&scratch->fresh, 0, sizeof scratch->fresh);
    scratch->fresh.far_sport = sport;
    scratch->recalled.flags = 0;
    reason = machine_leave(&m, LAYOUT_FAR(zone), far, &p, reason, &scratch->pend,
                           &scratch->recalled, &scratch->fresh);
    count(reason);
    trace(&m, &p, LAYOUT_FAR(zone), reason, 1);
    if (reason != LAYOUT_SWALLOWED) {
        return TC_ACT_OK;
    }
    /* Who sends it is not told of a drop: AF_PACKET would give up what else it had to send. Our end of the pair
     * leads to nobody. */
    return uplink->pair ? bpf_redirect(uplink->pair, 0) : TC_ACT_SHOT;
}

FAST_FN int
far_slow(struct __sk_buff *skb, const struct layout_uplink *uplink)
{
    return uplink->pair ? bpf_redirect(uplink->ifindex, BPF_F_INGRESS) : TC_ACT_OK;
}

/* Unwraps the packet and gives it to the instance. */
FAST_FN int
far_receive(const struct machine *m, struct __sk_buff *skb, const struct layout_uplink *uplink,
            struct layout_flow *flow, struct packet *p)
{
    const struct layout_nic *far = door_nic(m, p->tuple.nic), *to = door_nic(m, flow->out.nic);
    if (!far || !to || flow->far) {
        return far_slow(skb, uplink);
    }
    if (machine_probe_due(m, flow) && probe_note(m, skb, far, flow, p)) {
        __u32 mark = skb->mark;
        skb->mark = uplink->pair ? mark : MARK_COPY;
        bpf_clone_redirect(skb, uplink->ifindex, BPF_F_INGRESS);
        skb->mark = mark;
    }
    __be16 type = p->tuple.family == 4 ? PACKET_BE16(0x0800) : PACKET_BE16(0x86dd);
    __u64 flags = p->tuple.family == 4 ? 0 : FAR_DECAP_IPV6;
    if (bpf_skb_adjust_room(skb, -FAR_HEAD, BPF_ADJ_ROOM_MAC, flags)) {
        return far_slow(skb, uplink); /* Linux before 6.3 */
    }
    bpf_skb_store_bytes(skb, offsetof(struct packet_eth, type), &type, sizeof type, 0);
    return pass(m, skb, flow, p) ? deliver_fast(skb, to) : TC_ACT_SHOT;
}

/* G4 */
FAST_FN int
far_plain(struct __sk_buff *skb, const struct packet *p)
{
    const struct far_head *head = (void *) (long) skb->data;
    return (void *) (head + 1) <= (void *) (long) skb->data_end && !gso_size(skb) &&
           (head->ip.tos & 3) != 3 && PACKET_BE16(head->ip.size) == skb->len - PACKET_ETH &&
           PACKET_BE16(head->udp.size) == skb->len - PACKET_ETH - sizeof(struct packet_ip4) &&
           skb->len == FAR_HEAD + PACKET_ETH + p->size;
}

SEC("tc")
int
haw_far_in(struct __sk_buff *skb)
{
    struct scratch *scratch = scratch_of_cpu();
    struct machine m = {.now_ns = now_ns()};
    __u32 zero = 0, ifindex = skb->ifindex;
    const struct layout_uplink *uplink = bpf_map_lookup_elem(&haw_far_uplinks, &ifindex);
    m.config = bpf_map_lookup_elem(&haw_config, &zero);
    if (!uplink || !m.config || !scratch) {
        return TC_ACT_OK;
    }
    if (skb->mark == MARK_COPY) {
        skb->mark = 0;
        return TC_ACT_OK;
    }
    far_pull(skb);
    __u32 zone = far_zone(skb);
    if (!zone) {
        return far_slow(skb, uplink);
    }
    struct packet p = {};
    struct layout_flow *flow = NULL;
    int remember = 0;
    enum layout_reason parsed = far_parse(skb, &p);
    const struct layout_nic *far = door_nic(&m, LAYOUT_FAR(zone));
    const struct layout_wrap *wrap = far_read(skb, 0);
    __u32 number = wrap ? far_number(wrap, 0) : 0;
    if (!far || !number || !far_plain(skb, &p)) {
        return far_slow(skb, uplink);
    }
    __builtin_memset(p.dst_mac, 0, sizeof p.dst_mac);
    __builtin_memcpy(p.dst_mac, &number, sizeof number); /* G2 */
    enum layout_reason reason =
        machine_enter(&m, LAYOUT_FAR(zone), far, &p, parsed, p.size, &flow, &remember);
    if (reason != LAYOUT_HIT && remember) {
        read_head(skb, &p);
        if (!machine_pend(&m, far, &p, &scratch->pend, 0, flow)) {
            reason = LAYOUT_BUSY;
        }
    }
    count(reason);
    trace(&m, &p, LAYOUT_FAR(zone), reason, 0);
    return reason == LAYOUT_HIT && flow ? far_receive(&m, skb, uplink, flow, &p)
                                        : far_slow(skb, uplink);
}
