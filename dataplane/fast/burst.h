/* burst.h: what the passes of a burst share (burst.c tells of them), for any processor's: where a frame and its
 * permit have what is compared, the image of what a port says, the first pass for one frame after another. */
#pragma once
#include "dataplane/fast/engine.h"

#include <string.h>
#if defined(__x86_64__)
#include <immintrin.h>

#define FOR(isa) static inline __attribute__((always_inline, target(isa)))

/* What the first pass found out about a frame. */
struct plan {
    __u32 sign, bucket;
};

typedef __u64 __attribute__((may_alias, aligned(1))) word64;
typedef __u32 __attribute__((may_alias, aligned(1))) word32;
typedef __u16 __attribute__((may_alias, aligned(1))) word16;

enum {
    AT_SIZE = 16,
    AT_TTL = 22,
    AT_PROTO = 23,
    AT_CHECK = 24,
    AT_SRC = 26,
    AT_DST = 30,
    AT_PORTS = 34,
    AT_OFFSET = 46,
    AT_FLAGS = 47,
    AT_GENERATION = 60 /* of a permit */
};
enum { LOOKED_AT = 48 };

/* Bytes by their bit. What the port says lies in a permit's line where the permit has other things, and in a
 * frame's where the frame does. */
#define BYTES(from, to) ((to) == 63 ? -(1ull << (from)) : (1ull << ((to) + 1)) - (1ull << (from)))
#define OF_FRAME        (BYTES(0, LOOKED_AT - 1) & ~BYTES(24, 25))
#define LEASTS          (BYTES(AT_TTL, AT_TTL) | BYTES(AT_OFFSET, AT_OFFSET))
#define OF_PERMIT       (BYTES(0, 63) & ~(BYTES(6, 14) | BYTES(20, 21)))

struct image {
    __u8 port[64]; /* MAC, IPv4 without options, no fragment; the port's number, its generation */
    __u8 bits[64]; /* which of the bits must be equal */
};

FAST_FN void
make_image(const struct layout_nic *nic, __u16 own, __u32 generation, struct image *ret)
{
    *ret = (struct image){.port = {[12] = 0x08, [14] = 0x45}};
    memcpy(ret->port + 6, nic->mac, 6);
    memcpy(ret->port + AT_CHECK, &own, sizeof own);
    memcpy(ret->port + AT_GENERATION, &generation, sizeof generation);
    memset(ret->bits, 0xff, 15); /* MACs, type, version */
    ret->bits[20] = 0xbf;        /* fragment, but for "do not" */
    memset(ret->bits + 21, 0xff, 1);
    memset(ret->bits + AT_PROTO, 0xff, 15); /* protocol, port's number, addresses, ports */
    memset(ret->bits + AT_GENERATION, 0xff, 4);
}

FAST_FN struct plan
make_plan(const struct flowtable *table, const __u8 *at, __u16 nic)
{
    __u64 hash = flowtable_hash4(table->seed, FLOWTABLE_KIND(at[AT_PROTO], nic),
                                 *(const word32 *) (at + AT_SRC), *(const word32 *) (at + AT_DST),
                                 *(const word32 *) (at + AT_PORTS));
    return (struct plan){flowtable_sign(hash), flowtable_bucket(table, hash)};
}

/* From 'first' on. */
FAST_FN void
make_plans(const struct flowtable *table, const struct engine_frame *frames, __u32 first,
           __u32 count, __u16 nic, struct plan *plans)
{
    for (__u32 i = first; i < count; i++) {
        plans[i] = make_plan(table, frames[i].data, nic);
        __builtin_prefetch(table->signs + (size_t) plans[i].bucket * FLOWTABLE_WAYS);
    }
}
#endif
