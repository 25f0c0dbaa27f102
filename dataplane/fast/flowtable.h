/* flowtable.h: flows by their tuple, over memory that the caller gives: buckets of sixteen signatures in one
 * cache line, a permit of one cache line for what each fast packet needs, and the rest of the flow apart.
 * A hit touches two lines. Nothing here allocates.
 * Threads: who writes (put, drop, permit of a slot that others read) holds the owner's lock; flowtable_find()
 * needs none. A slot that was dropped is not used again while somebody may still read it. */
#pragma once
#include "dataplane/fast/packet.h"

#include <stddef.h>
#if defined(__x86_64__)
#include <emmintrin.h>
#endif

#define FLOWTABLE_WAYS 16
#define FLOWTABLE_LINE 64
#define FLOWTABLE_NONE 0xffffffffu

/* What carries a plain IPv4 packet of TCP or UDP: taken from the flow and good until then, so that nothing
 * else need be looked at. Laid out as the packet itself: what must be equal lies where the packet has it,
 * least values lie there, too, and the rest where it has what may differ. All zero: none. */
struct flowtable_permit {
    __u8 gate_mac[6]; /*  0  as it must come */
    __u64 carried;    /*  6  (source MAC, type) by this permit, not yet added to the flow */
    __u16 mtu;        /* 14  (version, tos) the largest IP packet */
    __u32 verdict;    /* 16  (size, identification) the first half of a struct engine_verdict */
    __u8 header;      /* 20  (fragment) bits of the offset, in bytes, that count: none of UDP's */
    __u8 least;       /* 21  bytes of an IP packet, besides */
    __u8 least_ttl;   /* 22  (TTL) one more than it sinks by */
    __u8 proto;       /* 23 */
    __u16 own;        /* 24  (checksum) the port that it enters by */
    __be32 src, dst;  /* 26 */
    __be16 sport, dport; /* 34 */
    __u8 zero[2];        /* 38 */
    __u32 until;         /* 40  in FLOWTABLE_TICKs: the proof ends, or a probe is due */
    __u8 nought[2];      /* 44 */
    __u8 least_offset;   /* 46  (TCP's offset) */
    __u8 flags;          /* 47  (TCP's flags) none of these */
    __u8 dst_mac[6];     /* 48  as it leaves */
    __u8 src_mac[6];
    __u32 generation; /* 60  in which it holds; 0: never */
} __attribute__((packed, aligned(64)));
_Static_assert(sizeof(struct flowtable_permit) == FLOWTABLE_LINE, "one cache line");

/* Bytes and packets in one word: a permit lives for a second, and no core carries 64 GiB in that. */
#define FLOWTABLE_PACKET     (1ull << 36)
#define FLOWTABLE_BYTES(n)   ((n) & (FLOWTABLE_PACKET - 1))
#define FLOWTABLE_PACKETS(n) ((n) >> 36)

#define FLOWTABLE_TICK(ns)                                                                         \
    ((__u32) ((ns) >> 22)) /* four milliseconds; they wrap, so compare differences */

struct flowtable_entry {
    struct layout_tuple key;
    struct layout_flow flow;
    __u64 ended; /* the epoch from which on it may be used again */
};
_Static_assert(sizeof(struct flowtable_entry) == 184, "no hidden padding");

struct flowtable {
    __u32 *signs; /* FLOWTABLE_WAYS a bucket; 0: empty */
    struct flowtable_permit *permits;
    struct flowtable_entry *entries;
    __u32 buckets;
    __u32 limit, count; /* flows there may be, and are */
    __u32 changes;      /* puts and drops so far: slots found before may be others by now */
    __u64 epoch, safe;  /* now; the last that all readers have begun a round in */
    __u64 seed[4];
};

/* Memory for 'flows' of them, and where they may start (FLOWTABLE_LINE). */
size_t flowtable_bytes(__u32 flows);
/* 'memory' is zeroed, of flowtable_bytes(flows), aligned to FLOWTABLE_LINE, and stays the caller's. 'seed' should be
 * random: who knows it can choose tuples that share buckets. One thread reads and writes until the caller
 * sets 'safe' himself. */
void flowtable_init(struct flowtable *table, void *memory, __u32 flows, const __u64 seed[4]);
/* Forgets everything at once; nobody else may be reading. */
void flowtable_clear(struct flowtable *table);
/* FLOWTABLE_NONE when there is none. */
__u32 flowtable_find(const struct flowtable *table, const struct layout_tuple *key);
/* The slot of a new flow, with no permit, instead of one of the same key; FLOWTABLE_NONE: no room. */
__u32 flowtable_put(struct flowtable *table, const struct layout_tuple *key,
                    const struct layout_flow *flow);
void flowtable_drop(struct flowtable *table, __u32 slot);

/* ---- what a burst does itself ---- */

FAST_FN __u64
flowtable_fold(__u64 a, __u64 b)
{
    unsigned __int128 product = (unsigned __int128) a * b;
    return (__u64) product ^ (__u64) (product >> 64);
}

#define FLOWTABLE_MIX1 0x9e3779b97f4a7c15ULL
#define FLOWTABLE_MIX2 0xd6e8feb86659fd93ULL

/* The word of an IPv4 tuple that is not on the wire in one piece. */
#define FLOWTABLE_KIND(proto, nic) ((__u32) (proto) << 8 | (__u32) (nic) << 16 | 4)

/* Of an IPv4 tuple: four words, as a vector multiplies them (NH: two collide for one seed of 2^32), then
 * mixed, since neighbouring ports must not share buckets. */
FAST_FN __u64
flowtable_hash4(const __u64 *seed, __u32 kind, __u32 src, __u32 dst, __u32 ports)
{
    __u64 hash = (__u64) (kind + (__u32) seed[0]) * (src + (__u32) seed[1]) +
                 (__u64) (dst + (__u32) seed[2]) * (ports + (__u32) seed[3]);
    hash = (hash ^ hash >> 32) * FLOWTABLE_MIX1;
    return (hash ^ hash >> 32) * FLOWTABLE_MIX2;
}

FAST_FN __u32
flowtable_sign(__u64 hash)
{
    return (__u32) hash | 1;
}

FAST_FN __u32
flowtable_bucket(const struct flowtable *table, __u64 hash)
{
    return (__u32) ((hash >> 32) * table->buckets >> 32);
}

FAST_FN __u32
flowtable_second(const struct flowtable *table, __u32 sign)
{
    return (__u32) ((__u64) (sign * 0x9e3779b1u) * table->buckets >> 32);
}

/* A bit for each way of a bucket whose signature is 'sign'. */
FAST_FN __u32
flowtable_ways(const __u32 *signs, __u32 sign)
{
#if defined(__x86_64__)
    const __m128i *line = (const __m128i *) signs, want = _mm_set1_epi32((int) sign);
    __m128i low = _mm_packs_epi32(_mm_cmpeq_epi32(_mm_load_si128(line), want),
                                  _mm_cmpeq_epi32(_mm_load_si128(line + 1), want));
    __m128i high = _mm_packs_epi32(_mm_cmpeq_epi32(_mm_load_si128(line + 2), want),
                                   _mm_cmpeq_epi32(_mm_load_si128(line + 3), want));
    return (__u32) _mm_movemask_epi8(_mm_packs_epi16(low, high));
#else
    __u32 ways = 0;
    for (__u32 i = 0; i < FLOWTABLE_WAYS; i++) {
        ways |= (__u32) (signs[i] == sign) << i;
    }
    return ways;
#endif
}
