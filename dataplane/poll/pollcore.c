/* The loop of a core.
 * C1  A frame is sent, delivered, or freed, once: what a device does not take is freed and counted.
 * C2  A copy goes into the slow path before anything behind it does, and never to a NIC.
 * C3  'seen' is the epoch in which the round began: the control thread frees plans and slots by it.
 * C4  After IDLE_LOOPS empty rounds the core naps, longer each time, up to nap_us; where each device can
 *     wake it, until one does. The first frame ends that.
 * C5  Frames in several parts, or larger than a burst's copy has room for, are made one or go slow. */
#include "dataplane/poll/pollcore.h"

#include <rte_cycles.h>
#include <rte_ethdev.h>
#include <rte_interrupts.h>
#include <rte_mbuf.h>
#include <rte_pause.h>
#include <rte_prefetch.h>
#include <stdbool.h>
#include <time.h>

enum { IDLE_LOOPS = 2000, NAP_FIRST_US = 5, WAKE_MS = 20 };

/* ---- the histogram ---- */

static inline uint32_t
hist_bucket(uint64_t ns)
{
    if (ns < 4) {
        return (uint32_t) ns;
    }
    uint32_t top = 63 - (uint32_t) __builtin_clzll(ns);
    uint32_t bucket = top * 4 + (uint32_t) (ns >> (top - 2) & 3) - 4;
    return RTE_MIN(bucket, (uint32_t) POLLCORE_HIST - 1);
}

uint64_t
pollcore_hist_ns(uint32_t bucket)
{
    if (bucket < 4) {
        return bucket;
    }
    uint32_t top = bucket / 4 + 1;
    return ((uint64_t) 1 << top) + ((uint64_t) (bucket % 4 + 1) << (top - 2)) - 1;
}

/* ---- sending ---- */

static void
transmit(struct pollcore *core, const struct pollcore_out *out, uint16_t port,
         struct rte_mbuf **packets, uint32_t count)
{
    if (out->lock != NULL) {
        rte_spinlock_lock(out->lock);
    }
    uint16_t sent = rte_eth_tx_burst(port, out->queue, packets, (uint16_t) count);
    if (out->lock != NULL) {
        rte_spinlock_unlock(out->lock);
    }
    if (unlikely(sent < count)) { /* C1 */
        core->stats.unsent += count - sent;
        rte_pktmbuf_free_bulk(packets + sent, count - sent);
    }
}

static void
flush(struct pollcore *core, const struct pollcore_plan *plan, uint16_t port)
{
    struct pollcore_buffer *buffer = &core->buffers[port];
    transmit(core, &plan->outs[port], port, buffer->packets, buffer->count);
    buffer->count = 0;
    core->dirty &= ~((uint64_t) 1 << port);
}

static inline void
push(struct pollcore *core, const struct pollcore_plan *plan, uint16_t port,
     struct rte_mbuf *packet)
{
    if (unlikely(port >= POLLCORE_OUTS)) {
        core->stats.unroutable++;
        rte_pktmbuf_free(packet);
        return;
    }
    struct pollcore_buffer *buffer = &core->buffers[port];
    buffer->packets[buffer->count++] = packet;
    core->dirty |= (uint64_t) 1 << port;
    if (unlikely(buffer->count == RTE_DIM(buffer->packets))) {
        flush(core, plan, port);
    }
}

static inline void
flush_all(struct pollcore *core, const struct pollcore_plan *plan)
{
    while (core->dirty != 0) {
        flush(core, plan, (uint16_t) __builtin_ctzll(core->dirty));
    }
}

/* ---- from an instance ---- */

void *
pollcore_copy_room(void *data, uint32_t index, uint32_t size)
{
    struct pollcore *core = data;
    struct rte_mbuf *copy = rte_pktmbuf_alloc(core->pool);
    (void) index;
    if (copy == NULL || rte_pktmbuf_tailroom(copy) < size) {
        rte_pktmbuf_free(copy);
        return NULL;
    }
    core->copies[core->copies_count++] = copy;
    return rte_pktmbuf_append(copy, (uint16_t) size);
}

/* C2 */
static void
push_copies(struct pollcore *core, const struct pollcore_plan *plan, uint16_t port)
{
    for (uint32_t i = 0; i < core->copies_count; i++) {
        push(core, plan, port, core->copies[i]);
    }
    core->stats.copies += core->copies_count;
    core->copies_count = 0;
}

/* A whole burst that goes the same way; what waits for that device goes before it. */
static void
push_all(struct pollcore *core, const struct pollcore_plan *plan, uint16_t port,
         struct rte_mbuf **packets, uint32_t count)
{
    if (unlikely(port >= POLLCORE_OUTS)) {
        core->stats.unroutable += count;
        rte_pktmbuf_free_bulk(packets, count);
        return;
    }
    if (core->buffers[port].count > 0) {
        flush(core, plan, port);
    }
    transmit(core, &plan->outs[port], port, packets, count);
}

/* C5 */
static __rte_noinline void
read_parts(struct rte_mbuf *packet, struct engine_frame *ret_frame)
{
    bool whole = rte_pktmbuf_linearize(packet) == 0;
    ret_frame->data = rte_pktmbuf_mtod(packet, void *);
    ret_frame->size = whole ? packet->data_len : 0;
}

/* What the engine reads of a burst. */
static inline void
read_frames(struct rte_mbuf **packets, uint32_t count, struct engine_frame *ret_frames)
{
#pragma GCC unroll 4
    for (uint32_t i = 0; i < count; i++) {
        struct rte_mbuf *packet = packets[i];
        void *data = rte_pktmbuf_mtod(packet, void *);
        rte_prefetch0(data);
        ret_frames[i].data = data;
        ret_frames[i].size = packet->data_len;
        if (unlikely(packet->nb_segs != 1)) {
            read_parts(packet, &ret_frames[i]);
        }
    }
}

static void
from_nic(struct pollcore *core, const struct pollcore_plan *plan, const struct pollcore_side *side,
         struct rte_mbuf **packets, uint32_t count, uint64_t now_ns)
{
    struct engine_frame frames[POLLCORE_BURST];
    struct engine_verdict verdicts[POLLCORE_BURST] __rte_aligned(8);
    struct polltrace *trace = __atomic_load_n(&core->trace, __ATOMIC_ACQUIRE);
    read_frames(packets, count, frames);
    if (unlikely(trace != NULL)) {
        polltrace_see(trace, now_ns, side->nic, frames, count);
    }
    uint32_t to =
        engine_enter_burst(core->engine, &core->seat, now_ns, side->nic, frames, count, verdicts);
    for (uint32_t i = 0; unlikely(trace != NULL) && i < count; i++) {
        polltrace_tell(trace, i, verdicts[i].reason, false);
    }
    if (unlikely(core->copies_count > 0)) {
        push_copies(core, plan, side->other);
    }
    if (likely(to != ENGINE_MIXED)) {
        core->stats.fast += count;
        push_all(core, plan, plan->out_of[to], packets, count);
        return;
    }
    for (uint32_t i = 0; i < count; i++) {
        bool quick = verdicts[i].way == ENGINE_FAST;
        core->stats.fast += quick;
        core->stats.slow += !quick;
        push(core, plan, quick ? plan->out_of[verdicts[i].nic] : side->other, packets[i]);
    }
}

/* ---- from OVN ---- */

static void
from_slow(struct pollcore *core, const struct pollcore_plan *plan, const struct pollcore_side *side,
          struct rte_mbuf **packets, uint32_t count, uint64_t now_ns)
{
    struct engine_frame frames[POLLCORE_BURST];
    struct polltrace *trace = __atomic_load_n(&core->trace, __ATOMIC_ACQUIRE);
    read_frames(packets, count, frames);
    if (unlikely(trace != NULL)) {
        polltrace_see(trace, now_ns, side->nic, frames, count);
    }
    for (uint32_t i = 0; i < count; i++) {
        struct engine_verdict verdict = engine_leave(core->engine, &core->seat, now_ns, side->nic,
                                                     frames[i].data, frames[i].size);
        if (unlikely(trace != NULL)) {
            polltrace_tell(trace, i, verdict.reason, true);
        }
        if (verdict.way == ENGINE_SWALLOW) {
            core->stats.swallowed++;
            rte_pktmbuf_free(packets[i]);
        } else {
            core->stats.delivered++;
            push(core, plan, side->other, packets[i]);
        }
    }
}

/* ---- rounds ---- */

uint32_t
pollcore_round(struct pollcore *core, const struct pollcore_plan *plan)
{
    struct rte_mbuf *packets[POLLCORE_BURST];
    uint32_t received = 0;
    for (uint32_t i = 0; i < plan->sides_count; i++) {
        const struct pollcore_side *side = &plan->sides[i];
        uint32_t count = rte_eth_rx_burst(side->port, 0, packets, POLLCORE_BURST);
        if (count == 0) {
            continue;
        }
        uint64_t begin = rte_rdtsc(), now_ns = pollcore_ns(core, begin);
        if (side->role == POLLCORE_NIC) {
            from_nic(core, plan, side, packets, count, now_ns);
        } else {
            from_slow(core, plan, side, packets, count, now_ns);
        }
        flush_all(core, plan);
        uint64_t took = rte_rdtsc() - begin;
        core->hist[hist_bucket((uint64_t) ((unsigned __int128) took * core->cycles_mult >> 32))] +=
            count;
        core->stats.busy_cycles += took;
        received += count;
    }
    core->stats.received += received;
    core->stats.loops++;
    return received;
}

/* Until a device has something, or WAKE_MS are over. */
static void
wait_for_devices(const struct pollcore_plan *plan)
{
    struct rte_epoll_event events[POLLCORE_OUTS];
    for (uint32_t i = 0; i < plan->sides_count; i++) {
        rte_eth_dev_rx_intr_ctl_q(plan->sides[i].port, 0, RTE_EPOLL_PER_THREAD, RTE_INTR_EVENT_ADD,
                                  NULL);
        rte_eth_dev_rx_intr_enable(plan->sides[i].port, 0);
    }
    rte_epoll_wait(RTE_EPOLL_PER_THREAD, events, POLLCORE_OUTS, WAKE_MS);
    for (uint32_t i = 0; i < plan->sides_count; i++) {
        rte_eth_dev_rx_intr_disable(plan->sides[i].port, 0);
        rte_eth_dev_rx_intr_ctl_q(plan->sides[i].port, 0, RTE_EPOLL_PER_THREAD, RTE_INTR_EVENT_DEL,
                                  NULL);
    }
}

/* C4 */
static void
nap(struct pollcore *core, const struct pollcore_plan *plan)
{
    uint64_t begin = rte_rdtsc();
    uint32_t beyond = core->idle_loops - IDLE_LOOPS;
    uint32_t us = NAP_FIRST_US << RTE_MIN(beyond, 10u);
    if (plan->interrupts && plan->sides_count > 0 && us >= core->nap_us) {
        wait_for_devices(plan);
    } else {
        struct timespec time = {.tv_nsec = (long) RTE_MIN(us, core->nap_us) * 1000};
        nanosleep(&time, NULL);
    }
    core->stats.naps++;
    core->stats.napped_ns +=
        (uint64_t) ((unsigned __int128) (rte_rdtsc() - begin) * core->cycles_mult >> 32);
}

int
pollcore_run(void *data)
{
    struct pollcore *core = data;
    while (!__atomic_load_n(&core->stop, __ATOMIC_ACQUIRE)) {
        uint64_t epoch = __atomic_load_n(&core->engine->table.epoch, __ATOMIC_ACQUIRE);
        __atomic_store_n(&core->seen, epoch, __ATOMIC_RELEASE); /* C3 */
        const struct pollcore_plan *plan = __atomic_load_n(&core->plan, __ATOMIC_ACQUIRE);
        if (pollcore_round(core, plan) > 0) {
            core->idle_loops = 0;
        } else if (++core->idle_loops > IDLE_LOOPS && core->nap_us > 0) {
            nap(core, plan);
        } else {
            rte_pause();
        }
    }
    return 0;
}
