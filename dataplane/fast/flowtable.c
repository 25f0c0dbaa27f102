/* Flows in buckets.
 * T1  A flow is in the first of its two buckets, or, when that was nearly full, in the emptier of them.
 * T2  A signature is written after the slot behind it is whole, and cleared before the slot may change:
 *     a reader without a lock sees a flow or none, never half of one.
 * T3  A slot is used again only once each reader has begun anew in a later epoch. Who ends it may read the
 *     epoch just before it moves on, hence one more; the epoch moves on only when all have seen it.
 * T4  At most 'limit' flows; buckets are made for two thirds of their slots, so that by T1 none is full.
 * Called by engine.c; the bench measures it beside rte_hash. */
#include "dataplane/fast/flowtable.h"

#include <string.h>

static size_t
up(size_t bytes)
{
    return (bytes + FLOWTABLE_LINE - 1) / FLOWTABLE_LINE * FLOWTABLE_LINE;
}

static __u32
buckets_for(__u32 flows)
{
    __u64 slots = (__u64) flows * 3 / 2;
    return (__u32) (slots / FLOWTABLE_WAYS + 2);
}

size_t
flowtable_bytes(__u32 flows)
{
    size_t slots = (size_t) buckets_for(flows) * FLOWTABLE_WAYS;
    return slots * sizeof(__u32) + slots * sizeof(struct flowtable_permit) +
           up(slots * sizeof(struct flowtable_entry));
}

void
flowtable_init(struct flowtable *table, void *memory, __u32 flows, const __u64 seed[4])
{
    *table = (struct flowtable){.buckets = buckets_for(flows), .limit = flows, .safe = ~(__u64) 0};
    size_t slots = (size_t) table->buckets * FLOWTABLE_WAYS;
    memcpy(table->seed, seed, sizeof table->seed);
    table->signs = memory;
    table->permits = (struct flowtable_permit *) (table->signs + slots);
    table->entries = (struct flowtable_entry *) (table->permits + slots);
}

void
flowtable_clear(struct flowtable *table)
{
    size_t slots = (size_t) table->buckets * FLOWTABLE_WAYS;
    memset(table->signs, 0, slots * sizeof *table->signs);
    memset(table->permits, 0, slots * sizeof *table->permits);
    memset(table->entries, 0, slots * sizeof *table->entries);
    table->count = 0;
    table->changes++;
}

static __u64
hash_of(const struct flowtable *table, const struct layout_tuple *key)
{
    __u64 words[5];
    const __u64 *seed = table->seed;
    _Static_assert(sizeof words == sizeof *key, "whole words");
    memcpy(words, key, sizeof words);
    if (key->family == 4) {
        return flowtable_hash4(seed, FLOWTABLE_KIND(key->proto, key->nic), key->src[0], key->dst[0],
                               key->sport | (__u32) key->dport << 16);
    }
    __u64 hash = flowtable_fold(words[0] ^ seed[0], words[1] ^ seed[1]);
    hash ^= flowtable_fold(words[2] ^ seed[2], words[3] ^ seed[3]);
    return flowtable_fold(hash ^ seed[0], words[4] ^ seed[1]);
}

static __u32
find_in(const struct flowtable *table, __u32 bucket, __u32 sign, const struct layout_tuple *key)
{
    __u32 first = bucket * FLOWTABLE_WAYS;
    for (__u32 ways = flowtable_ways(table->signs + first, sign); ways != 0; ways &= ways - 1) {
        __u32 slot = first + (__u32) __builtin_ctz(ways);
        if (memcmp(&table->entries[slot].key, key, sizeof *key) == 0) {
            return slot;
        }
    }
    return FLOWTABLE_NONE;
}

__u32
flowtable_find(const struct flowtable *table, const struct layout_tuple *key)
{
    __u64 hash = hash_of(table, key);
    __u32 slot = find_in(table, flowtable_bucket(table, hash), flowtable_sign(hash), key);
    return slot != FLOWTABLE_NONE ? slot
                                  : find_in(table, flowtable_second(table, flowtable_sign(hash)),
                                            flowtable_sign(hash), key); /* T1 */
}

/* Slots of 'bucket' that may be used, and the first of them. */
static __u32
room_in(const struct flowtable *table, __u32 bucket, __u32 *ret_slot)
{
    __u32 first = bucket * FLOWTABLE_WAYS, room = 0;
    for (__u32 slot = first + FLOWTABLE_WAYS; slot-- > first;) {
        if (table->signs[slot] == 0 && table->entries[slot].ended <= table->safe) { /* T3 */
            *ret_slot = slot;
            room++;
        }
    }
    return room;
}

/* T1 */
static __u32
choose(const struct flowtable *table, __u64 hash)
{
    __u32 slot = FLOWTABLE_NONE, other = FLOWTABLE_NONE;
    __u32 room = room_in(table, flowtable_bucket(table, hash), &slot);
    if (room > FLOWTABLE_WAYS / 8) {
        return slot;
    }
    return room_in(table, flowtable_second(table, flowtable_sign(hash)), &other) > room ? other
                                                                                        : slot;
}

__u32
flowtable_put(struct flowtable *table, const struct layout_tuple *key,
              const struct layout_flow *flow)
{
    __u64 hash = hash_of(table, key);
    __u32 known = flowtable_find(table, key);
    if (known != FLOWTABLE_NONE) {
        flowtable_drop(table, known);
    }
    __u32 slot = table->count < table->limit ? choose(table, hash) : FLOWTABLE_NONE; /* T4 */
    if (slot == FLOWTABLE_NONE) {
        return FLOWTABLE_NONE;
    }
    table->permits[slot] = (struct flowtable_permit){0};
    table->entries[slot] = (struct flowtable_entry){.key = *key, .flow = *flow};
    __atomic_store_n(&table->signs[slot], flowtable_sign(hash), __ATOMIC_RELEASE); /* T2 */
    table->count++;
    table->changes++;
    return slot;
}

void
flowtable_drop(struct flowtable *table, __u32 slot)
{
    __atomic_store_n(&table->signs[slot], 0, __ATOMIC_RELEASE); /* T2 */
    table->permits[slot].generation = 0;
    table->entries[slot].ended = table->epoch + 2; /* T3 */
    table->count--;
    table->changes++;
}
