/* Frames by the burst: three passes, so that memory answers while others are looked at.
 *   1  the tuple of each plain IPv4 packet of TCP or UDP, its bucket asked for
 *   2  its signature in the bucket, the permit behind it asked for
 *   3  in order: what its permit carries is rewritten; all else is engine_enter_one()'s, the state machine
 * F1  A packet that a permit carries is one that the state machine would carry, with the same bytes: each
 *     of its checks is here or was made when the permit was (M1 the address is the key's, M2, M6, M10; here
 *     M1 the MAC, M3 until_ns, M4, M5, M7). tests/unit/fast_burst.c sends the same packets through both.
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
    __m128i key; /* addresses and tail, as a permit has them */
    __u32 sign, bucket, slot;
    __u32 bytes; /* of the IP packet; 0: the state machine's */
};

typedef __u64 __attribute__((may_alias, aligned(1))) word64;
typedef __u32 __attribute__((may_alias, aligned(1))) word32;
typedef __u16 __attribute__((may_alias, aligned(1))) word16;

enum { AT_IP_SIZE = 16, AT_TTL = 22, AT_CHECK = 24, AT_ADDRESSES = 26, AT_L4 = 34 };
enum {
    ETH_PLAIN_IP4 = 0x7fc0
}; /* of its first sixteen bytes: all but the target's MAC and the tos */

/* The bytes that a plain IPv4 frame of the port's own begins with. */
FAST_FN __m128i
eth_wanted(const struct layout_nic *nic)
{
    __u8 bytes[16] = {[12] = 0x08, [13] = 0x00, [14] = 0x45};
    memcpy(bytes + 6, nic->mac, 6);
    return _mm_loadu_si128((const __m128i *) bytes);
}

/* Whether what lies behind IP is whole and without flags that end flows. No branches: protocols of
 * neighbouring packets are anybody's guess. M5 */
FAST_FN int
l4_plain(const __u8 *frame, __u32 size, __u32 proto, __u32 room)
{
    int tcp = proto == PACKET_TCP;
    /* A frame too short for TCP is none: any byte of it will do. */
    __u32 word =
        *(const word16 *) (frame + (size >= AT_L4 + sizeof(struct packet_tcp) ? AT_L4 + 12 : 0));
    __u32 header = tcp ? word >> 2 & 0x3c : (__u32) sizeof(struct packet_udp);
    __u32 least = tcp ? sizeof(struct packet_tcp) : sizeof(struct packet_udp);
    __u32 flags = tcp ? word >> 8 & (PACKET_FIN | PACKET_SYN | PACKET_RST | PACKET_URG) : 0;
    return (tcp | (proto == PACKET_UDP)) & (room >= least) & (header >= least) & (header <= room) &
           (flags == 0);
}

FAST_FN void
make_plan(const struct flowtable *table, const struct engine_frame *frame, __m128i wanted,
          __u64 tail, struct plan *plan)
{
    const __u8 *at = frame->data;
    plan->bytes = 0;
    if (frame->size < AT_L4 + sizeof(struct packet_udp)) {
        return;
    }
    /* IP's size, identification, fragment; TTL and protocol. */
    __u64 middle = *(const word64 *) (at + AT_IP_SIZE);
    __u32 bytes = PACKET_BE16((__u16) middle), proto = (__u32) (middle >> 56);
    int eth = _mm_movemask_epi8(_mm_cmpeq_epi8(_mm_loadu_si128((const __m128i *) at), wanted));
    if (!(((eth & ETH_PLAIN_IP4) == ETH_PLAIN_IP4) &
          (((__u16) (middle >> 32) & PACKET_BE16(0xbfff)) == 0) & (bytes >= 20) &
          (bytes <= frame->size - PACKET_ETH) & l4_plain(at, frame->size, proto, bytes - 20))) {
        return;
    }
    __u64 addresses = *(const word64 *) (at + AT_ADDRESSES);
    tail |= *(const word32 *) (at + AT_L4) | (__u64) proto << 32;
    __u64 hash = flowtable_hash4(table->seed, addresses, tail);
    plan->key = _mm_set_epi64x((long long) tail, (long long) addresses);
    plan->bytes = bytes;
    plan->sign = flowtable_sign(hash);
    plan->bucket = flowtable_bucket(table, hash) * FLOWTABLE_WAYS;
    plan->slot = flowtable_second(table, hash) * FLOWTABLE_WAYS;
    __builtin_prefetch(table->signs + plan->bucket);
}

/* Whether 'permit' carries the packet. F1 */
FAST_FN int
permits(const struct flowtable_permit *permit, const struct plan *plan, const __u8 *frame,
        __u64 now_ns, __u32 generation)
{
    __m128i key = _mm_load_si128((const __m128i *) permit);
    __u64 gate =
        *(const word64 *) frame ^ *(const word64 *) permit->gate_mac; /* and two bytes more */
    return (_mm_movemask_epi8(_mm_cmpeq_epi8(key, plan->key)) == 0xffff) & (gate << 16 == 0) &
           (permit->until_ns > now_ns) & (permit->generation == generation) &
           (frame[AT_TTL] > permit->ttl_delta) & (plan->bytes <= permit->mtu);
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
    *(word32 *) (at + 8) = *(const word32 *) (permit->dst_mac + 8);
    *ttl = (__u16) (*ttl - delta);
    *check = (__u16) ~((sum & 0xffff) + (sum >> 16));
    permit->packets++;
    permit->bytes += frame->size;
    /* Way, reason, NIC: as one word, since compilers put it together in memory otherwise. */
    *(word64 *) verdict = ENGINE_FAST | LAYOUT_HIT << 8 | (__u64) permit->nic << 16;
}

typedef __u32 (*Ways)(const __u32 *signs, __u32 sign);

/* In the first bucket, or else the second, which make_plan() left in 'slot'. */
FAST_FN __u32
slot_of(const struct flowtable *table, const struct plan *plan, __u32 second, Ways ways_with)
{
    __u32 first = plan->bucket;
    __u32 ways = ways_with(table->signs + first, plan->sign);
    if (__builtin_expect(ways == 0, 0)) {
        first = second;
        ways = ways_with(table->signs + first, plan->sign);
    }
    return ways != 0 ? first + (__u32) __builtin_ctz(ways) : FLOWTABLE_NONE;
}

FAST_FN void
burst(struct engine *engine, struct engine_seat *seat, __u64 now_ns, __u16 nic,
      const struct engine_frame *frames, __u32 count, struct engine_verdict *verdicts,
      Ways ways_with)
{
    struct plan plans[ENGINE_BURST];
    struct flowtable *table = &engine->table;
    const struct layout_nic *own = &engine->nics[nic];
    __m128i wanted = eth_wanted(own);
    __u64 tail = (__u64) 4 << 40 | (__u64) nic << 48;
    __u32 carried = 0, generation = engine->config.generation[own->zone % LAYOUT_ZONES];
    for (__u32 i = 0; i < count; i++) {
        make_plan(table, &frames[i], wanted, tail, &plans[i]);
    }
    __u32 changes = __atomic_load_n(&table->changes, __ATOMIC_ACQUIRE);
    for (__u32 i = 0; i < count; i++) {
        if (plans[i].bytes != 0) {
            plans[i].slot = slot_of(table, &plans[i], plans[i].slot, ways_with);
            /* Without a slot there is nothing to ask for, and asking does no harm. */
            __builtin_prefetch(&table->permits[plans[i].slot], 1);
        }
    }
    int on = !engine->config.off && (own->flags & LAYOUT_NIC_ON);
    for (__u32 i = 0; i < count; i++) {
        const struct plan *plan = &plans[i];
        if (__builtin_expect(
                on && plan->bytes != 0 && plan->slot != FLOWTABLE_NONE &&
                    __atomic_load_n(&table->changes, __ATOMIC_RELAXED) == changes && /* F2 */
                    permits(&table->permits[plan->slot], plan, frames[i].data, now_ns, generation),
                1)) {
            carry(&table->permits[plan->slot], &frames[i], &verdicts[i]);
            carried++;
        } else {
            verdicts[i] = engine_enter_one(engine, seat, now_ns, nic, &frames[i], i);
        }
    }
    seat->counters[LAYOUT_HIT] += carried;
}

/* ---- the same thrice ---- */

#define FOR(isa) static inline __attribute__((always_inline, target(isa))) __u32

FOR("avx2")
ways_avx2(const __u32 *signs, __u32 sign)
{
    const __m256i *line = (const __m256i *) signs, want = _mm256_set1_epi32((int) sign);
    __m256i low = _mm256_cmpeq_epi32(_mm256_load_si256(line), want);
    __m256i high = _mm256_cmpeq_epi32(_mm256_load_si256(line + 1), want);
    return (__u32) _mm256_movemask_ps(_mm256_castsi256_ps(low)) |
           (__u32) _mm256_movemask_ps(_mm256_castsi256_ps(high)) << 8;
}

FOR("avx512f")
ways_avx512(const __u32 *signs, __u32 sign)
{
    return _mm512_cmpeq_epi32_mask(_mm512_load_si512(signs), _mm512_set1_epi32((int) sign));
}

#define BURST(name, isa, ways)                                                                     \
    static __attribute__((target(isa))) void burst_##name(                                         \
        struct engine *engine, struct engine_seat *seat, __u64 now_ns, __u16 nic,                  \
        const struct engine_frame *frames, __u32 count, struct engine_verdict *verdicts)           \
    {                                                                                              \
        burst(engine, seat, now_ns, nic, frames, count, verdicts, ways);                           \
    }
BURST(sse2, "sse2", flowtable_ways)
BURST(avx2, "avx2,bmi,bmi2", ways_avx2)
BURST(avx512, "avx512f,avx2,bmi,bmi2", ways_avx512)
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
    if ((isa == ENGINE_ISA_BEST || isa == ENGINE_ISA_AVX512) && __builtin_cpu_supports("avx512f")) {
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
