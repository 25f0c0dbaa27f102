/* engine.h: the state machine over plain memory: frames in, verdicts out. For engines that are not in
 * the kernel (DPDK), and for tests, which send the same frames through this and through the BPF programs.
 * Threads: engine_enter(), engine_leave() and engine_age() by one thread, or, after engine_share(), each by
 * any: then a port's frames must enter by one thread at a time, and each thread has a seat of its own.
 * Nothing here allocates: the caller gives the memory of the tables. */
#pragma once
#include "dataplane/fast/flowtable.h"

#define ENGINE_BURST 64

struct engine {
    struct layout_config config;
    struct layout_order order[LAYOUT_NICS];
    struct layout_nic *nics;  /* LAYOUT_NICS of them; who changes one bumps its zone, too */
    struct layout_pend *pend; /* 2 * LAYOUT_PENDING, zeroed */
    __u8 *pend_locks;         /* as many, zeroed, when shared; else NULL */
    struct flowtable table;   /* flowtable_init()'s */
    __u32 lock;
    __u64 counters[LAYOUT_REASON_COUNT]; /* of those without a seat */
};

/* Whose counters, and where copies go. */
struct engine_seat {
    __u64 counters[LAYOUT_REASON_COUNT];
    /* Room for a copy of frame 'index' of the burst, as it was before it is rewritten; NULL: there is none. */
    void *(*copy_room)(void *user, __u32 index, __u32 size);
    void *user;
};

enum engine_way {
    ENGINE_SLOW,    /* unchanged into the slow path; from it: to the port that it was sent to */
    ENGINE_FAST,    /* rewritten, out of port 'nic' */
    ENGINE_SWALLOW, /* drop it */
};

struct engine_verdict {
    __u8 way;    /* enum engine_way */
    __u8 reason; /* enum layout_reason */
    __u16 nic;   /* of ENGINE_FAST */
    __u8 probe;  /* send a copy of the frame as it was into the slow path, too */
    __u8 zero[3];
};
_Static_assert(sizeof(struct engine_verdict) == 8, "one word: burst.c writes it whole");

struct engine_frame {
    void *data;
    __u32 size;
};

/* A frame from the instance at port 'nic'; rewritten in place when it is fast. 'segment' is the size of
 * the largest IP packet that it stands for, 0 when it is what it is. 'copy' (may be NULL) gets the frame as
 * it was when verdict.probe is set; it has room for 'size' bytes. */
struct engine_verdict engine_enter(struct engine *engine, __u64 now_ns, __u16 nic, void *frame,
                                   __u32 size, __u32 segment, void *copy);
/* The same for a frame of a burst, with a seat's counters and copies. */
struct engine_verdict engine_enter_one(struct engine *engine, struct engine_seat *seat,
                                       __u64 now_ns, __u16 nic, const struct engine_frame *frame,
                                       __u32 index);
/* The same for up to ENGINE_BURST frames, in their order: equal verdicts and bytes, sooner. The port that all
 * of them leave by, when all are fast; else ENGINE_MIXED. */
#define ENGINE_MIXED 0xffffffffu
__u32 engine_enter_burst(struct engine *engine, struct engine_seat *seat, __u64 now_ns, __u16 nic,
                         const struct engine_frame *frames, __u32 count,
                         struct engine_verdict *ret_verdicts);
/* A frame of the slow path's towards the instance at port 'nic'; never changed. 'seat' may be NULL. */
struct engine_verdict engine_leave(struct engine *engine, struct engine_seat *seat, __u64 now_ns,
                                   __u16 nic, const void *frame, __u32 size);
/* Removes flows that carried nothing for idle_ns (half ones: half_ns); how many. */
__u32 engine_age(struct engine *engine, __u64 now_ns, __u64 idle_ns, __u64 half_ns);
/* NULL when there is none; valid until the next call. */
struct layout_flow *engine_find(struct engine *engine, const struct layout_tuple *key);
/* What a slot of the table holds, as it was at one moment; 0: nothing. */
struct engine_slot {
    struct layout_tuple key;
    struct layout_flow flow;
};
int engine_look(struct engine *engine, __u32 slot, struct engine_slot *ret_slot);
/* From now on by several threads; 'locks' is 2 * LAYOUT_PENDING zeroed bytes. */
void engine_share(struct engine *engine, __u8 *locks);

/* How signatures are compared: chosen from what the processor has when first needed. */
enum engine_isa {
    ENGINE_ISA_BEST,
    ENGINE_ISA_SSE2,
    ENGINE_ISA_AVX2,
    ENGINE_ISA_AVX512,
};
/* Asks for one; what is used then (less when the processor has less), as a word. */
const char *engine_isa_set(enum engine_isa isa);
