/* permit.h: what carries a plain IPv4 packet of TCP or UDP in the kernel: one cache line, made of a flow and
 * good until the flow has to be looked at again. The flow table stays the authority: a permit only says
 * sooner what machine_judge() would.
 * P1  A permit ends when its flow's proof does, or when a copy is due, and with its generation; and at once
 *     when its flow is dropped, is written anew, or sent a packet into the slow path (M11).
 * P2  Only flows without NAT that wait for nothing (M11) get one.
 * P3  Who reads takes no lock: 'seq' is odd while somebody writes, and another one afterwards. Who finds it
 *     odd or moved looks the flow up instead. Who may not write, because another does, leaves it.
 * P4  What a permit carried belongs to its flow: added when the permit is made anew or given to another, and
 *     by whoever shows flows (slow/fastage.c).
 * Two packets of a flow on two cores at the moment it ends may leave a permit behind: it carries the flow no
 * longer than until a copy is due, hence less than a proof's life.
 * Compiled for BPF. Threads: any. */
#pragma once
#include "dataplane/fast/machine.h"

#define PERMIT_BYTES_MAX 0x80000000u /* then the flow is looked at, and gets them */

/* x86 reads and writes in order; elsewhere an atomic addition of nothing says so. */
#if defined(__TARGET_ARCH_x86) || defined(__x86_64__)
#define PERMIT_SEQ(permit)                                                                         \
    ({                                                                                             \
        __asm__ volatile("" ::: "memory");                                                         \
        __u32 permit_seq = *(volatile const __u32 *) &(permit)->seq;                               \
        __asm__ volatile("" ::: "memory");                                                         \
        permit_seq;                                                                                \
    })
#else
#define PERMIT_SEQ(permit) __sync_fetch_and_add(&(permit)->seq, 0)
#endif

/* One of the two slots of a flow; the other is its neighbour (slot ^ 1). 'count' is a power of two. */
FAST_FN __u32
permit_slot(const struct layout_key4 *key, __u32 count)
{
    __u64 addresses = key->src | (__u64) key->dst << 32;
    __u64 tail =
        key->sport | (__u64) key->dport << 16 | (__u64) key->nic << 32 | (__u64) key->proto << 48;
    __u64 hash = addresses ^ tail * 0x9e3779b97f4a7c15ULL;
    /* What only the high bits know has to reach the others before a product, whose high bits know all. */
    hash = (hash ^ hash >> 32) * 0xc2b2ae3d27d4eb4fULL;
    return (__u32) (hash >> 40) & (count - 1);
}

FAST_FN int
permit_same(const struct layout_key4 *a, const struct layout_key4 *b)
{
    const __u64 *x = (const __u64 *) a, *y = (const __u64 *) b;
    return ((x[0] ^ y[0]) | (x[1] ^ y[1])) == 0;
}

/* 0: somebody else does. P3 */
FAST_FN int
permit_lock(struct layout_permit *permit)
{
    __u32 seq = PERMIT_SEQ(permit);
    return !(seq & 1) && __sync_val_compare_and_swap(&permit->seq, seq, seq + 1) == seq;
}

FAST_FN void
permit_unlock(struct layout_permit *permit)
{
    __sync_fetch_and_add(&permit->seq, 1);
}

/* Adds what it carried to 'flow', which has its key; nothing of a flow that this one replaced. P4 */
FAST_FN void
permit_fold(const struct layout_permit *permit, struct layout_flow *flow)
{
    if (permit->generation == 0 || permit->generation == flow->generation) {
        flow->packets += permit->packets;
        flow->bytes += permit->bytes;
    }
}

/* The permit, locked by the caller, says what 'flow' does with packets of 'key' towards 'to'. P1 */
FAST_FN void
permit_fill(struct layout_permit *permit, const struct layout_config *config,
            const struct layout_key4 *key, const struct layout_flow *flow,
            const struct layout_nic *to)
{
    __u64 ends = flow->proven_ns + config->expire_ns, due = flow->proven_ns + config->renew_ns;
    if (due < flow->probe_ns + config->retry_ns) {
        due = flow->probe_ns + config->retry_ns;
    }
    permit->key = *key;
    permit->until_ns = due < ends ? due : ends;
    permit->generation = flow->generation;
    packet_mac_copy(permit->gate_mac, flow->gate_mac);
    packet_mac_copy(permit->dst_mac, flow->dst_mac);
    packet_mac_copy(permit->src_mac, flow->src_mac);
    permit->mtu = to->mtu;
    permit->out_ifindex = (__u16) to->ifindex;
    permit->ttl_delta = flow->ttl_delta;
    permit->flags = to->flags & LAYOUT_NIC_PEER   ? LAYOUT_PERMIT_PEER
                    : to->flags & LAYOUT_NIC_PAIR ? 0
                                                  : LAYOUT_PERMIT_MARK;
}

/* Whether the permit may go to another flow, or to none. */
FAST_FN int
permit_over(const struct layout_permit *permit, __u64 now_ns)
{
    return permit->generation == 0 || now_ns >= permit->until_ns;
}
