/* engine.h: the state machine over plain memory: frames in, verdicts out. For engines that are not in
 * the kernel (DPDK), and for tests, which send the same frames through this and through the BPF programs.
 * Threads: one engine, one thread. Nothing here allocates: the caller gives the memory of the tables. */
#pragma once
#include "bpf/layout.h"

struct engine_flow {
    struct layout_tuple key;
    struct layout_flow flow;
    __u32 used; /* 0 empty, 1 in use, 2 was in use */
    __u32 zero;
};

struct engine {
    struct layout_config config;
    struct layout_nic *nics;   /* LAYOUT_NICS of them */
    struct layout_pend *pend;  /* 2 * LAYOUT_PENDING */
    struct engine_flow *flows; /* 'flow_slots', a power of two, zeroed */
    __u32 flow_slots, flow_count;
    __u64 counters[LAYOUT_REASON_COUNT];
};

enum engine_way {
    ENGINE_SLOW,    /* unchanged into the slow path; from it: to the port that it was sent to */
    ENGINE_FAST,    /* rewritten, out of port 'nic' */
    ENGINE_SWALLOW, /* drop it */
};

struct engine_verdict {
    enum engine_way way;
    enum layout_reason reason;
    __u16 nic;  /* of ENGINE_FAST */
    __u8 probe; /* send a copy of the frame as it was into the slow path, too */
};

/* A frame from the instance at port 'nic'; rewritten in place when it is fast. 'segment' is the size of
 * the largest IP packet that it stands for, 0 when it is what it is. 'copy' (may be NULL) gets the frame as
 * it was when verdict.probe is set; it has room for 'size' bytes. */
struct engine_verdict engine_enter(struct engine *engine, __u64 now_ns, __u16 nic, void *frame,
                                   __u32 size, __u32 segment, void *copy);
/* A frame of the slow path's towards the instance at port 'nic'; never changed. */
struct engine_verdict engine_leave(struct engine *engine, __u64 now_ns, __u16 nic,
                                   const void *frame, __u32 size);
/* Removes flows that carried nothing for idle_ns (half ones: half_ns); how many. */
__u32 engine_age(struct engine *engine, __u64 now_ns, __u64 idle_ns, __u64 half_ns);
/* NULL when there is none; valid until the next call. */
struct layout_flow *engine_find(struct engine *engine, const struct layout_tuple *key);
