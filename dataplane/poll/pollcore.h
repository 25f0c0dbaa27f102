/* pollcore.h: what one core does for ever: receive a burst, ask the engine, send. It never blocks (but for
 * its naps), allocates outside its pool, locks (but for devices with too few queues) or logs.
 * Threads: pollcore_run() on its core; the fields say who writes them. */
#pragma once
#include "dataplane/fast/engine.h"
#include "dataplane/poll/polltrace.h"

#include <rte_common.h>
#include <rte_mempool.h>
#include <rte_spinlock.h>
#include <stdint.h>

#define POLLCORE_BURST 64
#define POLLCORE_OUTS  RTE_MAX_ETHPORTS
#define POLLCORE_NONE  0xffff
#define POLLCORE_HIST  128 /* four for each doubling of nanoseconds */

enum pollcore_role {
    POLLCORE_NIC,  /* an instance is behind it */
    POLLCORE_SLOW, /* OVN is */
};

/* A device that this core receives from. */
struct pollcore_side {
    uint16_t port; /* DPDK's */
    uint16_t nic;
    uint16_t
        other; /* where its slow packets go: the slow device of a NIC, the NIC of a slow device */
    uint16_t role; /* enum pollcore_role */
};

/* A device that may be sent to, by DPDK's number. */
struct pollcore_out {
    rte_spinlock_t *lock; /* NULL: 'queue' is this core's own */
    uint16_t queue;
};

/* Never changed once a core has it; the one before is freed when the core has passed an epoch. */
struct pollcore_plan {
    uint32_t sides_count;
    struct pollcore_side sides[POLLCORE_OUTS];
    struct pollcore_out outs[POLLCORE_OUTS];
    uint16_t out_of[LAYOUT_NICS]; /* device of a NIC, or POLLCORE_NONE */
    uint8_t interrupts;           /* each side can wake the core */
};

struct pollcore_stats {
    uint64_t loops, received, fast, slow, delivered, swallowed, copies;
    uint64_t unsent;     /* the device would not take it */
    uint64_t unroutable; /* its port has gone meanwhile */
    uint64_t naps, napped_ns, busy_cycles;
};

struct pollcore_buffer {
    uint16_t count;
    struct rte_mbuf *packets[2 * POLLCORE_BURST];
};

struct pollcore {
    /* written by the control thread, read by the core */
    const struct pollcore_plan *plan; /* atomic: partner of 'seen' */
    struct polltrace *trace;          /* atomic; NULL: nobody looks */
    uint32_t stop;                    /* atomic */
    uint32_t nap_us;                  /* the longest nap; 0: never */
    uint32_t id, lcore;
    struct engine *engine;
    struct rte_mempool *pool;
    uint64_t cycles_mult; /* nanoseconds of a cycle, << 32 */
    uint64_t start_cycles;

    /* written by the core, read by the control thread */
    uint64_t seen __rte_cache_aligned; /* epoch, atomic: all before is not used any more */
    struct engine_seat seat;
    struct pollcore_stats stats;
    uint64_t hist[POLLCORE_HIST]; /* frames by the time from received to sent */

    /* the core's own */
    uint32_t idle_loops, copies_count;
    uint16_t copies_slow;
    struct rte_mbuf *copies[POLLCORE_BURST];
    struct pollcore_buffer buffers[POLLCORE_OUTS];
    uint64_t dirty; /* a bit for each buffer that has something */
};

/* Nanoseconds since the cores' common start. */
static inline uint64_t
pollcore_ns(const struct pollcore *core, uint64_t cycles)
{
    return (uint64_t) ((unsigned __int128) (cycles - core->start_cycles) * core->cycles_mult >> 32);
}

/* The upper end of 'bucket' of a histogram, in nanoseconds. */
uint64_t pollcore_hist_ns(uint32_t bucket);
/* The engine's room for copies. */
void *pollcore_copy_room(void *core, uint32_t index, uint32_t size);
/* One round over all sides; frames received. */
uint32_t pollcore_round(struct pollcore *core, const struct pollcore_plan *plan);
/* Until 'stop'; an lcore function. */
int pollcore_run(void *core);
