/* Frames by the burst: four passes, so that memory answers while others are looked at.
 *   1  the tuple of each frame, as if it were IPv4 with TCP or UDP; its bucket asked for
 *   2  its signature in the bucket; the permit behind it asked for
 *   3  in order: what is alike its permit (which says that it is IPv4, and all else) is rewritten; the rest
 *      is engine_enter_one()'s, the state machine
 *   4  what was carried is counted: after the permits were read, since a processor that reads a line into
 *      which it has just written a word waits for it, and packets of one flow come one after another
 * F1  A packet that a permit carries is one that the state machine would carry, with the same bytes: each
 *     of its checks is here or was made when the permit was (M1 the address is the key's, M2, M6, M10; here
 *     M1 the MAC, M3 until, M4, M5, M7). tests/unit/fast_burst.c sends the same packets through both.
 * F2  A flow made or ended by a packet of the burst counts for those behind it: after a change the permits
 *     found before are not used. What another thread ends meanwhile says so itself (generation 0), and its
 *     slot rests (T3).
 * The passes are compiled three times, for what compares sixteen signatures. Threads: as engine.h. */
#include "dataplane/fast/burst.h"
#include "dataplane/fast/burst512.h"

typedef __u32 (*Burst)(struct engine *engine, struct engine_seat *seat, __u64 now_ns, __u16 nic,
                       const struct engine_frame *frames, __u32 count,
                       struct engine_verdict *verdicts);

/* All by the state machine: a port that is off, frames that are cut, processors that are not x86. */
static __attribute__((noinline)) __u32
burst_plain(struct engine *engine, struct engine_seat *seat, __u64 now_ns, __u16 nic,
            const struct engine_frame *frames, __u32 count, struct engine_verdict *verdicts)
{
    for (__u32 i = 0; i < count; i++) {
        verdicts[i] = engine_enter_one(engine, seat, now_ns, nic, &frames[i], i);
    }
    return ENGINE_MIXED;
}

#if defined(__x86_64__)
typedef void (*Plans)(const struct flowtable *table, const struct engine_frame *frames, __u32 first,
                      __u32 count, __u16 nic, struct plan *plans);
typedef int (*Alike)(const __u8 *frame, const void *permit, const struct image *image);
/* The third pass as far as it goes four at a time: to the first frame of four of which one is not carried.
 * 'differs' gets bits where their verdicts are not the first's. */
typedef __u32 (*Fours)(struct flowtable_permit *const *found, const struct engine_frame *frames,
                       __u32 first, __u32 count, const struct image *image, __u32 now,
                       struct engine_verdict *verdicts, __u32 *differs);
typedef __u32 (*Ways)(const __u32 *signs, __u32 sign);

static struct flowtable_permit no_permit;

static __attribute__((noinline)) struct flowtable_permit *
second_permit(const struct flowtable *table, __u32 sign)
{
    __u32 first = flowtable_second(table, sign) * FLOWTABLE_WAYS;
    __u32 ways = flowtable_ways(table->signs + first, sign);
    return ways != 0 ? &table->permits[first + (__u32) __builtin_ctz(ways)] : &no_permit;
}

/* Behind the signature in the first bucket, or else the second. */
FAST_FN struct flowtable_permit *
permit_of(const struct flowtable *table, struct plan plan, Ways ways_with)
{
    size_t first = (size_t) plan.bucket * FLOWTABLE_WAYS;
    __u32 ways = ways_with(table->signs + first, plan.sign);
    if (__builtin_expect(ways == 0, 0)) {
        return second_permit(table, plan.sign);
    }
    return &table->permits[first + (__u32) __builtin_ctz(ways)];
}

/* Whether 'permit' carries the frame. F1 */
FAST_FN int
permits(const struct flowtable_permit *permit, const struct engine_frame *frame,
        const struct image *image, __u32 now, Alike alike)
{
    const __u8 *at = frame->data;
    if (!alike(at, permit, image) || (at[AT_FLAGS] & permit->flags) != 0 ||
        (__s32) (permit->until - now) <= 0) {
        return 0;
    }
    __u32 bytes = PACKET_BE16(*(const word16 *) (at + AT_SIZE));
    __u32 least = (at[AT_OFFSET] >> 2 & permit->header) + (__u32) permit->least;
    return bytes <= permit->mtu && bytes + PACKET_ETH <= frame->size && bytes >= least;
}

FAST_FN void
carry(const struct flowtable_permit *permit, __u8 *at)
{
    word16 *check = (word16 *) (at + AT_CHECK);
    __u8 delta = (__u8) (permit->least_ttl - 1);
    /* rewrite_check()'s sum for a word that sinks by 'delta': all ones become none. */
    __u32 sum = (__u32) *check + delta;
    *(word64 *) at = *(const word64 *) permit->dst_mac;
    *(word32 *) (at + 8) = *(const word32 *) (permit->src_mac + 2);
    at[AT_TTL] = (__u8) (at[AT_TTL] - delta);
    *check = (__u16) (sum + ((sum + 1) >> 16));
}

FAST_FN void
add_up(struct flowtable_permit *const *carried, const struct engine_frame *frames, __u32 first,
       __u32 count)
{
#pragma GCC unroll 4
    for (__u32 i = first; i < count; i++) {
        carried[i]->carried += FLOWTABLE_PACKET + frames[i].size;
    }
}

FAST_FN int
cut(const struct engine_frame *frames, __u32 count)
{
#pragma GCC unroll 8
    for (__u32 i = 0; i < count; i++) {
        if (__builtin_expect(frames[i].size < LOOKED_AT, 0)) {
            return 1;
        }
    }
    return 0;
}

FAST_FN __u32
burst(struct engine *engine, struct engine_seat *seat, __u64 now_ns, __u16 nic,
      const struct engine_frame *frames, __u32 count, struct engine_verdict *verdicts,
      Plans plans_of, Ways ways_with, Alike alike, Fours fours)
{
    struct plan plans[ENGINE_BURST] __attribute__((aligned(64)));
    struct flowtable_permit *found[ENGINE_BURST];
    struct image image;
    /* Stores into frames might change what is behind a pointer, for all that a compiler knows. */
    const struct flowtable fixed = engine->table;
    const struct layout_nic *own = &engine->nics[nic];
    __u32 generation = engine->config.generation[own->zone % LAYOUT_ZONES];
    __u32 first = 0, slow = 0, differs = 0, now = FLOWTABLE_TICK(now_ns);
    if (__builtin_expect(engine->config.off || !(own->flags & LAYOUT_NIC_ON) || generation == 0 ||
                             count == 0 || cut(frames, count),
                         0)) {
        return burst_plain(engine, seat, now_ns, nic, frames, count, verdicts);
    }
    make_image(own, nic, generation, &image);
    plans_of(&fixed, frames, 0, count, nic, plans);
    __u32 changes = __atomic_load_n(&engine->table.changes, __ATOMIC_ACQUIRE);
#pragma GCC unroll 4
    for (__u32 i = 0; i < count; i++) {
        found[i] = permit_of(&fixed, plans[i], ways_with);
        __builtin_prefetch(found[i], 1);
    }
    __u32 verdict = found[0]->verdict;
    for (__u32 i = 0, singly = 0; i < count; i++) {
        if (fours != NULL && i >= singly) {
            i = fours(found, frames, i, count, &image, now, verdicts, &differs);
            if (i == count) {
                break;
            }
            singly = i + 4;
        }
        if (permits(found[i], &frames[i], &image, now, alike)) {
            carry(found[i], frames[i].data);
            differs |= found[i]->verdict ^ verdict;
            *(word64 *) &verdicts[i] = found[i]->verdict;
            continue;
        }
        add_up(found, frames, first, i);
        verdicts[i] = engine_enter_one(engine, seat, now_ns, nic, &frames[i], i);
        first = i + 1;
        slow++;
        for (__u32 j = first; engine->table.changes != changes && j < count; j++) {
            found[j] = &no_permit; /* F2 */
        }
    }
    add_up(found, frames, first, count);
    seat->counters[LAYOUT_HIT] += count - slow;
    return slow == 0 && differs == 0 ? verdict >> 16 : ENGINE_MIXED;
}

/* ---- the same thrice ---- */

FOR("avx2") __u32 ways_avx2(const __u32 *signs, __u32 sign)
{
    const __m256i *line = (const __m256i *) signs, want = _mm256_set1_epi32((int) sign);
    __m256i low = _mm256_cmpeq_epi32(_mm256_load_si256(line), want);
    __m256i high = _mm256_cmpeq_epi32(_mm256_load_si256(line + 1), want);
    return (__u32) _mm256_movemask_ps(_mm256_castsi256_ps(low)) |
           (__u32) _mm256_movemask_ps(_mm256_castsi256_ps(high)) << 8;
}

/* Sixteen bytes at a time: those of 'frames' are the frame's, else the port's; so 'permits'. */
FAST_FN __m128i
differs(const __u8 *frame, const __u8 *permit, const struct image *image, __u32 at, __m128i frames,
        __m128i permits)
{
    __m128i port = _mm_loadu_si128((const __m128i *) (image->port + at));
    __m128i is = _mm_loadu_si128((const __m128i *) (frame + at));
    __m128i want = _mm_load_si128((const __m128i *) (permit + at));
    is = _mm_or_si128(_mm_and_si128(frames, is), _mm_andnot_si128(frames, port));
    want = _mm_or_si128(_mm_and_si128(permits, want), _mm_andnot_si128(permits, port));
    return _mm_and_si128(_mm_xor_si128(is, want),
                         _mm_loadu_si128((const __m128i *) (image->bits + at)));
}

FAST_FN int
alike_sse2(const __u8 *frame, const void *data, const struct image *image)
{
    const struct flowtable_permit *permit = data;
    const __m128i all = _mm_set1_epi8(-1);
    const __m128i mac = _mm_set_epi64x((long long) 0xff00000000000000, 0x0000ffffffffffff);
    const __m128i fragment = _mm_set_epi64x(-1, (long long) 0xffff0000ffffffff);
    const __m128i own = _mm_set_epi64x((long long) 0xffffffffffff0000, -1);
    __m128i any = _mm_or_si128(differs(frame, data, image, 0, all, mac),
                               differs(frame, data, image, 16, own, fragment));
    any = _mm_or_si128(any, differs(frame, data, image, 32, all, all));
    return (_mm_movemask_epi8(_mm_cmpeq_epi8(any, _mm_setzero_si128())) == 0xffff) &
           (permit->generation == *(const word32 *) (image->port + AT_GENERATION)) &
           (frame[AT_TTL] >= permit->least_ttl) & (frame[AT_OFFSET] >= permit->least_offset);
}

#define BURST(name, isa, plans, ways, alike, fours)                                                \
    static __attribute__((target(isa))) __u32 burst_##name(                                        \
        struct engine *engine, struct engine_seat *seat, __u64 now_ns, __u16 nic,                  \
        const struct engine_frame *frames, __u32 count, struct engine_verdict *verdicts)           \
    {                                                                                              \
        return burst(engine, seat, now_ns, nic, frames, count, verdicts, plans, ways, alike,       \
                     fours);                                                                       \
    }
BURST(sse2, "sse2", make_plans, flowtable_ways, alike_sse2, NULL)
BURST(avx2, "avx2,bmi,bmi2", make_plans, ways_avx2, alike_sse2, NULL)
BURST(avx512, AVX512, plans_avx512, ways_avx512, alike_avx512, fours_avx512)
#endif

static Burst chosen;

const char *
engine_isa_set(enum engine_isa isa)
{
#if defined(__x86_64__)
    if ((isa == ENGINE_ISA_BEST || isa == ENGINE_ISA_AVX512) &&
        __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl")) {
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

__u32
engine_enter_burst(struct engine *engine, struct engine_seat *seat, __u64 now_ns, __u16 nic,
                   const struct engine_frame *frames, __u32 count,
                   struct engine_verdict *ret_verdicts)
{
    if (__builtin_expect(chosen == NULL, 0)) {
        engine_isa_set(ENGINE_ISA_BEST);
    }
    return chosen(engine, seat, now_ns, nic, frames, count, ret_verdicts);
}
