/* Frames by the burst: three passes, so that memory answers while others are looked at.
 *   1  the tuple of each frame, as if it were IPv4 with TCP or UDP; its bucket asked for
 *   2  its signature in the bucket; the permit behind it asked for
 *   3  in order: what is alike its permit (which says that it is IPv4, and all else) is rewritten; the rest
 *      is engine_enter_one()'s, the state machine
 * F1  A packet that a permit carries is one that the state machine would carry, with the same bytes: each
 *     of its checks is here or was made when the permit was (M1 the address is the key's, M2, M6, M10; here
 *     M1 the MAC, M3 until, M4, M5, M7). tests/unit/fast_burst.c sends the same packets through both.
 * F2  A flow made or ended by a packet of the burst counts for those behind it: after a change the slots
 *     found before are not used.
 * The passes are compiled three times, for what compares sixteen signatures. Threads: as engine.h. */
#include "dataplane/fast/engine.h"
#include "dataplane/fast/rewrite.h"

#include <string.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

typedef void (*Burst)(struct engine *engine, struct engine_seat *seat, __u64 now_ns, __u16 nic,
                      const struct engine_frame *frames, __u32 count,
                      struct engine_verdict *verdicts);

#if defined(__x86_64__)
/* What the first pass found out about a frame. */
struct plan {
    __u32 sign, bucket;
    __u32 slot;     /* first the second bucket, then what was found */
    __u32 short_of; /* not 0: too short to be looked at here */
};

typedef __u64 __attribute__((may_alias, aligned(1))) word64;
typedef __u32 __attribute__((may_alias, aligned(1))) word32;
typedef __u16 __attribute__((may_alias, aligned(1))) word16;

enum {
    AT_SIZE = 16,
    AT_TTL = 22,
    AT_PROTO = 23,
    AT_CHECK = 24,
    AT_ADDRESSES = 26,
    AT_L4 = 34,
    AT_OFFSET = 46
};
enum { LOOKED_AT = 48 };

/* The bits of a frame's first bytes that must be those of its permit, or of its port. */
struct image {
    __u8 port[64]; /* what the port says: its MAC, IPv4 without options, no fragment */
    __u8 bits[64]; /* which are compared at all */
};
#define PORT_BYTES 0x0000000000307fc0ull /* source MAC, type, version; fragment */
#define TCP_FLAGS  47

FAST_FN void
make_image(const struct layout_nic *nic, struct image *ret)
{
    static const __u8 bits[LOOKED_AT] = {0xff,
                                         0xff,
                                         0xff,
                                         0xff,
                                         0xff,
                                         0xff,
                                         0xff,
                                         0xff,
                                         0xff,
                                         0xff,
                                         0xff,
                                         0xff, /* MACs */
                                         0xff,
                                         0xff,
                                         0xff,
                                         0,
                                         0,
                                         0,
                                         0,
                                         0,
                                         0xbf,
                                         0xff,
                                         0,
                                         0xff, /* to the protocol */
                                         0,
                                         0,
                                         0xff,
                                         0xff,
                                         0xff,
                                         0xff,
                                         0xff,
                                         0xff,
                                         0xff,
                                         0xff,
                                         0xff,
                                         0xff, /* addresses, */
                                         0xff,
                                         0xff,
                                         0,
                                         0,
                                         0,
                                         0,
                                         0,
                                         0,
                                         0,
                                         0,
                                         0, /* ports */
                                         PACKET_FIN | PACKET_SYN | PACKET_RST | PACKET_URG};
    *ret = (struct image){.port = {[12] = 0x08, [14] = 0x45}};
    memcpy(ret->port + 6, nic->mac, 6);
    memcpy(ret->bits, bits, sizeof bits);
}

FAST_FN void
make_plan(const struct flowtable *table, const struct engine_frame *frame, __u64 tail,
          struct plan *plan)
{
    const __u8 *at = frame->data;
    plan->short_of = frame->size < LOOKED_AT;
    if (__builtin_expect(plan->short_of != 0, 0)) {
        return;
    }
    tail |= *(const word32 *) (at + AT_L4) | (__u64) at[AT_PROTO] << 32;
    __u64 hash = flowtable_hash4(table->seed, *(const word64 *) (at + AT_ADDRESSES), tail);
    plan->sign = flowtable_sign(hash);
    plan->bucket = flowtable_bucket(table, hash) * FLOWTABLE_WAYS;
    plan->slot = flowtable_second(table, hash) * FLOWTABLE_WAYS;
    __builtin_prefetch(table->signs + plan->bucket);
}

typedef int (*Alike)(const __u8 *frame, const void *permit, const struct image *image, int tcp);
typedef __u32 (*Ways)(const __u32 *signs, __u32 sign);

/* Whether 'permit' carries the frame. No branches: protocols of neighbouring packets are anybody's guess. F1 */
FAST_FN int
permits(const struct flowtable_permit *permit, const struct engine_frame *frame,
        const struct image *image, __u16 own, __u32 now, __u32 generation, Alike alike)
{
    const __u8 *at = frame->data;
    int tcp = at[AT_PROTO] == PACKET_TCP;
    __u32 bytes = PACKET_BE16(*(const word16 *) (at + AT_SIZE));
    __u32 header = (__u32) (at[AT_OFFSET] >> 4) * 4;
    __u32 least =
        tcp ? 20 + (header < 20 ? 0x10000 : header) : 20 + (__u32) sizeof(struct packet_udp);
    return alike(at, permit, image, tcp) & (permit->own == own) &
           (permit->generation == generation) & ((__s32) (permit->until - now) > 0) &
           (at[AT_TTL] > permit->ttl_delta) & (bytes <= permit->mtu) &
           (bytes <= frame->size - PACKET_ETH) & (bytes >= least);
}

FAST_FN void
carry(struct flowtable_permit *permit, const struct engine_frame *frame,
      struct engine_verdict *verdict)
{
    __u8 *at = frame->data;
    word16 *ttl = (word16 *) (at + AT_TTL), *check = (word16 *) (at + AT_CHECK);
    __u32 delta = permit->ttl_delta;
    /* rewrite_check()'s sum for a word that sinks by 'delta'. */
    __u32 sum = (__u32) (__u16) ~*check + 0xffff - delta;
    *(word64 *) at = *(const word64 *) permit->dst_mac;
    *(word32 *) (at + 8) = *(const word32 *) (permit->src_mac + 2);
    *ttl = (__u16) (*ttl - delta);
    *check = (__u16) ~((sum & 0xffff) + (sum >> 16));
    permit->packets++;
    permit->bytes += frame->size;
    /* Way, reason, NIC: as one word, since compilers put it together in memory otherwise. */
    *(word64 *) verdict = ENGINE_FAST | LAYOUT_HIT << 8 | (__u64) permit->nic << 16;
}

/* In the first bucket, or else the second. */
FAST_FN __u32
slot_of(const struct flowtable *table, const struct plan *plan, Ways ways_with)
{
    __u32 first = plan->bucket;
    __u32 ways = ways_with(table->signs + first, plan->sign);
    if (__builtin_expect(ways == 0, 0)) {
        first = plan->slot;
        ways = ways_with(table->signs + first, plan->sign);
    }
    return ways != 0 ? first + (__u32) __builtin_ctz(ways) : FLOWTABLE_NONE;
}

FAST_FN void
burst(struct engine *engine, struct engine_seat *seat, __u64 now_ns, __u16 nic,
      const struct engine_frame *frames, __u32 count, struct engine_verdict *verdicts,
      Ways ways_with, Alike alike)
{
    struct plan plans[ENGINE_BURST];
    struct image image;
    struct flowtable *table = &engine->table;
    /* Stores into frames might change what is behind a pointer, for all that a compiler knows. */
    const struct flowtable fixed = *table;
    const struct layout_nic *own = &engine->nics[nic];
    __u64 tail = (__u64) 4 << 40 | (__u64) nic << 48;
    __u32 carried = 0, generation = engine->config.generation[own->zone % LAYOUT_ZONES];
    make_image(own, &image);
    for (__u32 i = 0; i < count; i++) {
        make_plan(&fixed, &frames[i], tail, &plans[i]);
    }
    __u32 changes = __atomic_load_n(&table->changes, __ATOMIC_ACQUIRE);
    for (__u32 i = 0; i < count; i++) {
        if (__builtin_expect(plans[i].short_of == 0, 1)) {
            plans[i].slot = slot_of(&fixed, &plans[i], ways_with);
            /* Without a slot there is nothing to ask for, and asking does no harm. */
            __builtin_prefetch(&fixed.permits[plans[i].slot], 1);
        }
    }
    int on = !engine->config.off && (own->flags & LAYOUT_NIC_ON) && generation != 0;
    for (__u32 i = 0; i < count; i++) {
        const struct plan *plan = &plans[i];
        if (__builtin_expect(on && plan->short_of == 0 && plan->slot != FLOWTABLE_NONE &&
                                 __atomic_load_n(&table->changes, __ATOMIC_RELAXED) ==
                                     changes && /* F2 */
                                 permits(&fixed.permits[plan->slot], &frames[i], &image, nic,
                                         FLOWTABLE_TICK(now_ns), generation, alike),
                             1)) {
            carry(&fixed.permits[plan->slot], &frames[i], &verdicts[i]);
            carried++;
        } else {
            verdicts[i] = engine_enter_one(engine, seat, now_ns, nic, &frames[i], i);
        }
    }
    seat->counters[LAYOUT_HIT] += carried;
}

/* ---- the same thrice ---- */

#define FOR(isa) static inline __attribute__((always_inline, target(isa)))

FOR("avx2") __u32 ways_avx2(const __u32 *signs, __u32 sign)
{
    const __m256i *line = (const __m256i *) signs, want = _mm256_set1_epi32((int) sign);
    __m256i low = _mm256_cmpeq_epi32(_mm256_load_si256(line), want);
    __m256i high = _mm256_cmpeq_epi32(_mm256_load_si256(line + 1), want);
    return (__u32) _mm256_movemask_ps(_mm256_castsi256_ps(low)) |
           (__u32) _mm256_movemask_ps(_mm256_castsi256_ps(high)) << 8;
}

FOR("avx512f") __u32 ways_avx512(const __u32 *signs, __u32 sign)
{
    return _mm512_cmpeq_epi32_mask(_mm512_load_si512(signs), _mm512_set1_epi32((int) sign));
}

FOR("avx512f,avx512bw")
int
alike_avx512(const __u8 *frame, const void *permit, const struct image *image, int tcp)
{
    __mmask64 looked_at = ((__mmask64) 1 << TCP_FLAGS) - 1 + ((__mmask64) tcp << TCP_FLAGS);
    __m512i want = _mm512_mask_loadu_epi8(_mm512_load_si512(permit), PORT_BYTES, image->port);
    __m512i is = _mm512_maskz_loadu_epi8(((__mmask64) 1 << LOOKED_AT) - 1, frame);
    return _mm512_mask_test_epi8_mask(looked_at, _mm512_xor_si512(is, want),
                                      _mm512_loadu_si512(image->bits)) == 0;
}

/* Sixteen bytes at a time; 'ours' are those that the port says. */
FAST_FN __m128i
differs(const __u8 *frame, const __u8 *permit, const struct image *image, __u32 at, __m128i ours)
{
    __m128i port = _mm_loadu_si128((const __m128i *) (image->port + at));
    __m128i want = _mm_load_si128((const __m128i *) (permit + at));
    want = _mm_or_si128(_mm_and_si128(ours, port), _mm_andnot_si128(ours, want));
    want = _mm_xor_si128(want, _mm_loadu_si128((const __m128i *) (frame + at)));
    return _mm_and_si128(want, _mm_loadu_si128((const __m128i *) (image->bits + at)));
}

FAST_FN int
alike_sse2(const __u8 *frame, const void *permit, const struct image *image, int tcp)
{
    const __m128i none = _mm_setzero_si128();
    const __m128i first = _mm_set_epi64x(0x00ffffffffffffff, (long long) 0xffff000000000000);
    const __m128i second = _mm_set_epi64x(0, 0x0000ffff00000000);
    __m128i all = _mm_or_si128(differs(frame, permit, image, 0, first),
                               differs(frame, permit, image, 16, second));
    __m128i last = differs(frame, permit, image, 32, none);
    /* Its last byte is TCP's flags. */
    __m128i flags = _mm_set_epi64x((long long) ((__u64) - !tcp & 0xff00000000000000), 0);
    all = _mm_or_si128(all, _mm_andnot_si128(flags, last));
    return _mm_movemask_epi8(_mm_cmpeq_epi8(all, none)) == 0xffff;
}

#define BURST(name, isa, ways, alike)                                                              \
    static __attribute__((target(isa))) void burst_##name(                                         \
        struct engine *engine, struct engine_seat *seat, __u64 now_ns, __u16 nic,                  \
        const struct engine_frame *frames, __u32 count, struct engine_verdict *verdicts)           \
    {                                                                                              \
        burst(engine, seat, now_ns, nic, frames, count, verdicts, ways, alike);                    \
    }
BURST(sse2, "sse2", flowtable_ways, alike_sse2)
BURST(avx2, "avx2,bmi,bmi2", ways_avx2, alike_sse2)
BURST(avx512, "avx512f,avx512bw,avx2,bmi,bmi2", ways_avx512, alike_avx512)
#else
/* The words above are read as little-endian processors do. */
static void
burst_plain(struct engine *engine, struct engine_seat *seat, __u64 now_ns, __u16 nic,
            const struct engine_frame *frames, __u32 count, struct engine_verdict *verdicts)
{
    for (__u32 i = 0; i < count; i++) {
        verdicts[i] = engine_enter_one(engine, seat, now_ns, nic, &frames[i], i);
    }
}
#endif

static Burst chosen;

const char *
engine_isa_set(enum engine_isa isa)
{
#if defined(__x86_64__)
    if ((isa == ENGINE_ISA_BEST || isa == ENGINE_ISA_AVX512) && __builtin_cpu_supports("avx512f") &&
        __builtin_cpu_supports("avx512bw")) {
        chosen = burst_avx512;
        return "avx512";
    }
    if (isa != ENGINE_ISA_SSE2 && __builtin_cpu_supports("avx2")) {
        chosen = burst_avx2;
        return "avx2";
    }
    chosen = burst_sse2;
    return "sse2";
#else
    chosen = burst_plain;
    return "plain";
#endif
}

void
engine_enter_burst(struct engine *engine, struct engine_seat *seat, __u64 now_ns, __u16 nic,
                   const struct engine_frame *frames, __u32 count,
                   struct engine_verdict *ret_verdicts)
{
    if (__builtin_expect(chosen == NULL, 0)) {
        engine_isa_set(ENGINE_ISA_BEST);
    }
    chosen(engine, seat, now_ns, nic, frames, count, ret_verdicts);
}
