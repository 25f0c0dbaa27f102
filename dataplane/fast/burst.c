/* Frames by the burst: three passes, so that memory answers while others are looked at.
 *   1  the tuple of each plain IPv4 packet of TCP or UDP, its bucket asked for
 *   2  its signature in the bucket, the permit behind it asked for
 *   3  in order: what its permit carries is rewritten; all else is engine_enter_one()'s, the state machine
 * F1  A packet that a permit carries is one that the state machine would carry, with the same bytes: each
 *     of its checks is here or was made when the permit was (M1 the address is the key's, M2, M6, M10; here
 *     M1 the MAC, M3 until_ns, M4, M5, M7). tests/unit/fast_burst.c sends the same packets through both.
 * F2  A flow made or ended by a packet of the burst counts for those behind it: after a change slots are
 *     searched for anew.
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
struct plan {
    __u64 addresses, tail, hash;
    __u32 slot;
    __u16 bytes; /* of the IP packet; 0: the state machine's */
    __u16 zero;
};

typedef __u64 __attribute__((may_alias, aligned(1))) word64;
typedef __u32 __attribute__((may_alias, aligned(1))) word32;
typedef __u16 __attribute__((may_alias, aligned(1))) word16;

enum {
    AT_SRC_MAC = 6,
    AT_TYPE = 12,
    AT_SIZE = 16,
    AT_FRAGMENT = 20,
    AT_TTL = 22,
    AT_PROTO = 23,
    AT_ADDRESSES = 26,
    AT_L4 = 34
};

/* Ethernet's type, IP's version and header size, without the type of service. */
#define PLAIN_IP4      PACKET_BE32(0x08004500u)
#define PLAIN_IP4_MASK PACKET_BE32(0xffffff00u)

/* Whether what lies behind IP is whole and without flags that end flows. M5 */
FAST_FN int
l4_plain(const __u8 *frame, __u32 room)
{
    if (frame[AT_PROTO] == PACKET_UDP) {
        return room >= sizeof(struct packet_udp);
    }
    const struct packet_tcp *tcp = (const struct packet_tcp *) (frame + AT_L4);
    __u32 header = (__u32) (tcp->offset >> 4) * 4;
    return frame[AT_PROTO] == PACKET_TCP && room >= sizeof *tcp && header >= sizeof *tcp &&
           header <= room && !(tcp->flags & (PACKET_FIN | PACKET_SYN | PACKET_RST | PACKET_URG));
}

FAST_FN void
make_plan(const struct engine *engine, const struct engine_frame *frame, __u64 own_mac, __u16 nic,
          struct plan *plan)
{
    const __u8 *at = frame->data;
    plan->bytes = 0;
    if (frame->size < AT_L4 + sizeof(struct packet_udp)) {
        return;
    }
    __u32 bytes = PACKET_BE16(*(const word16 *) (at + AT_SIZE));
    /* The MAC's six bytes are the low ones of the word that begins there. */
    __u64 mac = *(const word64 *) (at + AT_SRC_MAC) << 16;
    if ((*(const word32 *) (at + AT_TYPE) & PLAIN_IP4_MASK) != PLAIN_IP4 || mac != own_mac ||
        (*(const word16 *) (at + AT_FRAGMENT) & PACKET_BE16(0xbfff)) != 0 ||
        bytes > frame->size - PACKET_ETH || bytes < 20 || !l4_plain(at, bytes - 20)) {
        return;
    }
    plan->bytes = (__u16) bytes;
    plan->addresses = *(const word64 *) (at + AT_ADDRESSES);
    plan->tail = *(const word32 *) (at + AT_L4) | (__u64) at[AT_PROTO] << 32 | (__u64) 4 << 40 |
                 (__u64) nic << 48;
    plan->hash = flowtable_hash4(engine->table.seed, plan->addresses, plan->tail);
    __builtin_prefetch(engine->table.signs +
                       flowtable_bucket(&engine->table, plan->hash) * FLOWTABLE_WAYS);
}

/* Whether 'permit' carries the packet. F1 */
FAST_FN int
permits(const struct flowtable_permit *permit, const struct plan *plan, const __u8 *frame,
        __u64 now_ns, __u32 generation)
{
    return (((*(const word64 *) &permit->src ^ plan->addresses) | (permit->tail ^ plan->tail)) ==
            0) &
           (permit->until_ns > now_ns) & (permit->generation == generation) &
           (frame[AT_TTL] > permit->ttl_delta) & (plan->bytes <= permit->mtu) &
           packet_mac_same(frame, permit->gate_mac);
}

FAST_FN void
carry(struct flowtable_permit *permit, const struct engine_frame *frame,
      struct engine_verdict *verdict)
{
    __u8 *at = frame->data;
    word16 *check = (word16 *) (at + 24);
    __u16 from = *(const word16 *) (at + AT_TTL);
    memcpy(at, permit->dst_mac, 12);
    at[AT_TTL] = (__u8) (at[AT_TTL] - permit->ttl_delta);
    *check = rewrite_check(*check, from, *(const word16 *) (at + AT_TTL));
    permit->packets++;
    permit->bytes += frame->size;
    *verdict =
        (struct engine_verdict){.way = ENGINE_FAST, .reason = LAYOUT_HIT, .nic = permit->nic};
}

typedef __u32 (*Ways)(const __u32 *signs, __u32 sign);

FAST_FN __u32
slot_of(const struct flowtable *table, __u64 hash, Ways ways_with)
{
    __u32 first = flowtable_bucket(table, hash) * FLOWTABLE_WAYS, sign = flowtable_sign(hash);
    __u32 ways = ways_with(table->signs + first, sign);
    if (__builtin_expect(ways == 0, 0)) {
        first = flowtable_second(table, hash) * FLOWTABLE_WAYS;
        ways = ways_with(table->signs + first, sign);
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
    __u64 own_mac = 0;
    __u32 carried = 0, generation = engine->config.generation[own->zone % LAYOUT_ZONES];
    memcpy((__u8 *) &own_mac + 2, own->mac, 6);
    for (__u32 i = 0; i < count; i++) {
        make_plan(engine, &frames[i], own_mac, nic, &plans[i]);
    }
    __u32 changes = __atomic_load_n(&table->changes, __ATOMIC_ACQUIRE);
    for (__u32 i = 0; i < count; i++) {
        if (plans[i].bytes != 0) {
            plans[i].slot = slot_of(table, plans[i].hash, ways_with);
            if (plans[i].slot != FLOWTABLE_NONE) {
                __builtin_prefetch(&table->permits[plans[i].slot], 1);
            }
        }
    }
    int on = !engine->config.off && (own->flags & LAYOUT_NIC_ON);
    for (__u32 i = 0; i < count; i++) {
        struct plan *plan = &plans[i];
        if (plan->bytes != 0 && __atomic_load_n(&table->changes, __ATOMIC_RELAXED) != changes) {
            plan->slot = slot_of(table, plan->hash, ways_with); /* F2 */
        }
        if (plan->bytes != 0 && plan->slot != FLOWTABLE_NONE && on &&
            permits(&table->permits[plan->slot], plan, frames[i].data, now_ns, generation)) {
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
