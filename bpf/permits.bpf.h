/* permits.bpf.h: the kernel's permits (dataplane/fast/permit.h) over their map, beside the IPv4 flows that they
 * are made of. Part of fastpath.bpf.c.
 * Threads: any core at any time. */
#pragma once
#include "dataplane/fast/permit.h"

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

/* The loader's to say, before it loads: a power of two. */
const volatile __u32 permit_count = 1024;

struct {
    __uint(type, BPF_MAP_TYPE_HASH);
    __uint(max_entries, 65536);
    __type(key, struct layout_key4);
    __type(value, struct layout_flow);
} haw_flow4 SEC(".maps");

struct {
    __uint(type, BPF_MAP_TYPE_ARRAY);
    __uint(map_flags, BPF_F_MMAPABLE); /* which puts entries at cache lines, too */
    __uint(max_entries, 1024);
    __type(key, __u32);
    __type(value, struct layout_permit);
} haw_permit SEC(".maps");

FAST_FN void
key4_of(const struct layout_tuple *tuple, struct layout_key4 *ret)
{
    ret->src = tuple->src[0];
    ret->dst = tuple->dst[0];
    ret->sport = tuple->sport;
    ret->dport = tuple->dport;
    ret->proto = tuple->proto;
    ret->zero = 0;
    ret->nic = tuple->nic;
}

FAST_FN struct layout_permit *
permit_at(__u32 slot)
{
    return bpf_map_lookup_elem(&haw_permit, &slot);
}

/* The permit of 'key', or NULL. */
FAST_FN struct layout_permit *
permit_find(const struct layout_key4 *key)
{
    __u32 slot = permit_slot(key, permit_count);
    struct layout_permit *permit = permit_at(slot);
    if (permit && permit_same(&permit->key, key)) {
        return permit;
    }
    permit = permit_at(slot ^ 1);
    return permit && permit_same(&permit->key, key) ? permit : NULL;
}

/* P1; 'flow_too': it ends, and nothing is to be added to one that follows. */
FAST_FN void
permit_void(const struct layout_key4 *key, int flow_too)
{
    struct layout_permit *permit = permit_find(key);
    if (permit && permit_lock(permit)) {
        permit->generation = 0;
        if (flow_too) {
            permit->packets = permit->bytes = 0;
        }
        permit_unlock(permit);
    }
}

/* Where 'key' gets its permit: where it had one, else where another's is over. NULL: nowhere. */
FAST_FN struct layout_permit *
permit_room(const struct layout_key4 *key, __u64 now_ns)
{
    __u32 slot = permit_slot(key, permit_count);
    struct layout_permit *permit = permit_find(key);
    if (permit) {
        return permit;
    }
    permit = permit_at(slot);
    if (permit && permit_over(permit, now_ns)) {
        return permit;
    }
    permit = permit_at(slot ^ 1);
    return permit && permit_over(permit, now_ns) ? permit : NULL;
}

/* P2, P4 */
FAST_FN void
permit_make(const struct machine *m, const struct layout_tuple *tuple, struct layout_flow *flow,
            const struct layout_nic *to)
{
    struct layout_key4 key;
    if (tuple->family != 4 || (flow->flags & LAYOUT_FLOW_NAT) ||
        (tuple->proto != PACKET_TCP && tuple->proto != PACKET_UDP)) {
        return;
    }
    key4_of(tuple, &key);
    struct layout_permit *permit = permit_room(&key, m->now_ns);
    if (!permit || !permit_lock(permit)) {
        return;
    }
    if (permit_same(&permit->key, &key)) {
        permit_fold(permit, flow);
    } else if (permit->packets) {
        struct layout_flow *before = bpf_map_lookup_elem(&haw_flow4, &permit->key);
        if (before) {
            permit_fold(permit, before);
        }
    }
    permit->packets = permit->bytes = 0;
    permit_fill(permit, m->config, &key, flow, to);
    permit_unlock(permit);
}
