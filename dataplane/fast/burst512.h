/* burst512.h: a burst's passes with AVX-512: tuples eight at a time, frames four at a time. Part of burst.c, which
 * says what they do (and has each of them for one frame: the same checks, the same bytes).
 * Four frames, or four permits, lie in a vector as four columns of sixteen bytes. Of each check a bit is left
 * in one vector where it fails; only when none is, all four are written. */
#pragma once
#include "dataplane/fast/burst.h"

#if defined(__x86_64__)

#define AVX512 "avx512f,avx512bw,avx512dq,avx512vl,avx2,bmi,bmi2"

FOR(AVX512) __u32 ways_avx512(const __u32 *signs, __u32 sign)
{
    return _mm512_cmpeq_epi32_mask(_mm512_load_si512(signs), _mm512_set1_epi32((int) sign));
}

/* Sixteen bytes of each of four places. */
FOR(AVX512) __m512i columns(const void *a, const void *b, const void *c, const void *d)
{
    __m512i all = _mm512_castsi128_si512(_mm_loadu_si128(a));
    all = _mm512_inserti32x4(all, _mm_loadu_si128(b), 1);
    all = _mm512_inserti32x4(all, _mm_loadu_si128(c), 2);
    return _mm512_inserti32x4(all, _mm_loadu_si128(d), 3);
}

/* Four frames from TTL to ports: a tuple's words, but for the port's number. */
FOR(AVX512) __m512i four_tuples(const struct engine_frame *frames)
{
    const __u8 *a = frames[0].data, *b = frames[2].data, *c = frames[4].data, *d = frames[6].data;
    return columns(a + AT_TTL, b + AT_TTL, c + AT_TTL, d + AT_TTL);
}

/* flowtable_hash4(), before it is mixed, twice in each 128 bits. */
FOR(AVX512) __m512i four_sums(__m512i words, __m512i only, __m512i seed)
{
    words = _mm512_add_epi32(_mm512_and_si512(words, only), seed);
    words = _mm512_mul_epu32(words, _mm512_srli_epi64(words, 32));
    return _mm512_add_epi64(words, _mm512_shuffle_epi32(words, _MM_PERM_BADC));
}

/* make_plans(), eight at a time. */
FOR(AVX512)
void
plans_avx512(const struct flowtable *table, const struct engine_frame *frames, __u32 first,
             __u32 count, __u16 nic, struct plan *plans)
{
    const __u64 *seed = table->seed;
    const __m512i only = _mm512_broadcast_i32x4(_mm_setr_epi32(0xff00, -1, -1, -1));
    const __m512i keys =
        _mm512_broadcast_i32x4(_mm_setr_epi32((int) ((__u32) seed[0] + FLOWTABLE_KIND(0, nic)),
                                              (int) seed[1], (int) seed[2], (int) seed[3]));
    const __m512i mix1 = _mm512_set1_epi64((long long) FLOWTABLE_MIX1);
    const __m512i mix2 = _mm512_set1_epi64((long long) FLOWTABLE_MIX2);
    const __m512i buckets = _mm512_set1_epi64(table->buckets);
    for (; first + 8 <= count; first += 8) {
        __m512i even = four_sums(four_tuples(frames + first), only, keys);
        __m512i odd = four_sums(four_tuples(frames + first + 1), only, keys);
        __m512i hash = _mm512_unpacklo_epi64(even, odd);
        hash = _mm512_mullo_epi64(_mm512_xor_si512(hash, _mm512_srli_epi64(hash, 32)), mix1);
        hash = _mm512_mullo_epi64(_mm512_xor_si512(hash, _mm512_srli_epi64(hash, 32)), mix2);
        __m512i bucket = _mm512_mul_epu32(_mm512_srli_epi64(hash, 32), buckets);
        hash = _mm512_or_si512(hash, _mm512_set1_epi64(1));
        hash = _mm512_mask_mov_epi32(hash, 0xaaaa, bucket);
        _mm512_store_si512(plans + first, hash);
        for (__u32 i = first; i < first + 8; i++) {
            __builtin_prefetch(table->signs + (size_t) plans[i].bucket * FLOWTABLE_WAYS);
        }
    }
    make_plans(table, frames, first, count, nic, plans);
}

FOR(AVX512)
int
alike_avx512(const __u8 *frame, const void *permit, const struct image *image)
{
    __m512i port = _mm512_loadu_si512(image->port), bits = _mm512_loadu_si512(image->bits);
    __m512i is = _mm512_mask_loadu_epi8(port, OF_FRAME, frame);
    __m512i want = _mm512_mask_loadu_epi8(port, OF_PERMIT, permit);
    __mmask64 differs = _mm512_test_epi8_mask(_mm512_xor_si512(is, want), bits);
    __mmask64 less = _mm512_mask_cmplt_epu8_mask(LEASTS, is, want);
    return (differs | less) == 0;
}

FOR(AVX512)
__m512i
columns_of(const __u8 *bytes)
{
    return _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *) bytes));
}

/* Sixteen bytes, by halves, in each column; bits of bytes of each; and of a word of each. */
#define EACH(low, high)  _mm512_set_epi64(high, low, high, low, high, low, high, low)
#define COLUMN(from, to) (BYTES(from, to) * 0x0001000100010001ull)
#define WORD(at)         ((__mmask32) (0x01010101u << (at)))

/* 'bad', and where a has bits of 'bits'; and where a and b differ in them. */
#define AND_BITS(bad, a, bits)       _mm512_ternarylogic_epi64(bad, a, bits, 0xf8)
#define AND_DIFFERS(bad, a, b, bits) AND_BITS(bad, _mm512_xor_si512(a, b), bits)

/* Four frames and their permits, and what the port says, in columns: bytes 0, 16, 32, 48. */
struct four {
    __m512i is[3], want[4];
};

struct four_port {
    __m512i says[4];
    __m512i now;
};

/* Neither alike: MACs, type, version; fragment, protocol, number, addresses, ports; generation. */
FOR(AVX512) __m512i four_differ(const struct four *four, const struct four_port *port)
{
    const __m512i *is = four->is, *want = four->want;
    __m512i mac = _mm512_mask_mov_epi8(want[0], COLUMN(6, 14), port->says[0]);
    __m512i own = _mm512_mask_mov_epi8(is[1], COLUMN(8, 9), port->says[1]);
    __m512i bad = _mm512_and_si512(_mm512_xor_si512(is[0], mac), EACH(-1, 0x00ffffffffffffff));
    bad = AND_BITS(bad, is[1], EACH(0x0000ffbf00000000, 0));
    bad = AND_DIFFERS(bad, own, want[1], EACH((long long) 0xff00000000000000, -1));
    bad = AND_DIFFERS(bad, is[2], want[2], EACH(0x0000ffffffffffff, 0));
    return AND_DIFFERS(bad, port->says[3], want[3], EACH(0, (long long) 0xffffffff00000000));
}

/* TTL or offset are less than they must be, a flag is set, the permit is over (now - until is then no
 * less than nothing). */
FOR(AVX512) __m512i four_less(__m512i bad, const struct four *four, const struct four_port *port)
{
    const __m512i *is = four->is, *want = four->want;
    const __m512i minus = EACH(0, 0x80000000);
    bad = AND_BITS(bad, _mm512_subs_epu8(want[1], is[1]), EACH(0x00ff000000000000, 0));
    bad = AND_BITS(bad, _mm512_subs_epu8(want[2], is[2]), EACH(0, 0x00ff000000000000));
    bad = AND_BITS(bad, _mm512_and_si512(want[2], is[2]), EACH(0, (long long) 0xff00000000000000));
    return _mm512_ternarylogic_epi64(bad, _mm512_sub_epi32(port->now, want[2]), minus, 0xf2);
}

/* The IP packet is more than its way or its frame can take, or less than its headers. */
FOR(AVX512)
__m512i
four_sizes(__m512i bad, const struct four *four, const struct engine_frame *frames)
{
    const __m512i *is = four->is, *want = four->want;
    const __m512i size_at = EACH((long long) 0x8080000180808080, 0x0001808080800001);
    const __m512i offset_at = EACH((long long) 0x8080800e80808080, (long long) 0x8080808080808080);
    _Static_assert(sizeof *frames == 16 && offsetof(struct engine_frame, size) == 8, "a column");
    __m512i bytes = _mm512_shuffle_epi8(is[1], size_at); /* as words 2, 4, 7 */
    __m512i room = _mm512_subs_epu16(_mm512_loadu_si512(frames), _mm512_set1_epi16(PACKET_ETH));
    __m512i header = _mm512_srli_epi16(_mm512_shuffle_epi8(is[2], offset_at), 2);
    __m512i least =
        _mm512_add_epi16(_mm512_and_si512(header, want[1]), _mm512_srli_epi16(want[1], 8));
    bad = AND_BITS(bad, _mm512_subs_epu16(bytes, want[0]), EACH(0, (long long) 0xffff000000000000));
    bad = AND_BITS(bad, _mm512_subs_epu16(bytes, room), EACH(0, 0xffff));
    return AND_BITS(bad, _mm512_subs_epu16(least, bytes), EACH(0x0000ffff00000000, 0));
}

/* TTLs and checksums as carry() makes them: words 3 and 4 from byte 16 on. */
FOR(AVX512) __m512i four_hops(const struct four *four)
{
    const __m512i ttl_at = EACH((long long) 0x8006808080808080, (long long) 0x8080808080808006);
    const __m512i is = four->is[1];
    __m512i delta =
        _mm512_add_epi8(_mm512_shuffle_epi8(four->want[1], ttl_at), EACH(0x00ff000000000000, 0xff));
    __m512i sums = _mm512_adds_epu16(is, delta), ones = _mm512_set1_epi64(-1);
    __mmask32 over = _mm512_mask_cmpeq_epi16_mask(WORD(4), sums, ones);
    __m512i after = _mm512_mask_add_epi16(is, WORD(4), is, delta);
    after = _mm512_mask_sub_epi16(after, WORD(3), after, delta);
    return _mm512_mask_sub_epi16(after, over, after, ones);
}

FOR(AVX512)
void
four_write(const struct engine_frame *frames, size_t at, __m512i all)
{
    _mm_storeu_si128((__m128i *) ((__u8 *) frames[0].data + at), _mm512_castsi512_si128(all));
    _mm_storeu_si128((__m128i *) ((__u8 *) frames[1].data + at), _mm512_extracti32x4_epi32(all, 1));
    _mm_storeu_si128((__m128i *) ((__u8 *) frames[2].data + at), _mm512_extracti32x4_epi32(all, 2));
    _mm_storeu_si128((__m128i *) ((__u8 *) frames[3].data + at), _mm512_extracti32x4_epi32(all, 3));
}

FOR(AVX512)
void
four_read(struct flowtable_permit *const *found, const struct engine_frame *frames,
          struct four *ret)
{
    const __u8 *a = frames[0].data, *b = frames[1].data, *c = frames[2].data, *d = frames[3].data;
    const __u8 *p = (const __u8 *) found[0], *q = (const __u8 *) found[1];
    const __u8 *r = (const __u8 *) found[2], *s = (const __u8 *) found[3];
    ret->is[0] = columns(a, b, c, d);
    ret->is[1] = columns(a + 16, b + 16, c + 16, d + 16);
    ret->is[2] = columns(a + 32, b + 32, c + 32, d + 32);
    ret->want[0] = columns(p, q, r, s);
    ret->want[1] = columns(p + 16, q + 16, r + 16, s + 16);
    ret->want[2] = columns(p + 32, q + 32, r + 32, s + 32);
    ret->want[3] = columns(p + 48, q + 48, r + 48, s + 48);
}

FOR(AVX512)
__u32
fours_avx512(struct flowtable_permit *const *found, const struct engine_frame *frames, __u32 first,
             __u32 count, const struct image *image, __u32 now, struct engine_verdict *verdicts,
             __u32 *differs)
{
    const __m512i verdict = _mm512_set1_epi32((int) found[0]->verdict), only = EACH(0xffffffff, 0);
    const __m512i next = _mm512_setr_epi64(0, 2, 4, 6, 0, 0, 0, 0);
    const struct four_port port = {{columns_of(image->port), columns_of(image->port + 16),
                                    _mm512_setzero_si512(), columns_of(image->port + 48)},
                                   _mm512_set1_epi32((int) now)};
    __m512i mixed = _mm512_setzero_si512();
    for (; first + 4 <= count; first += 4) {
        struct four four;
        four_read(found + first, frames + first, &four);
        __m512i bad = four_less(four_differ(&four, &port), &four, &port);
        bad = four_sizes(bad, &four, frames + first);
        if (__builtin_expect(_mm512_test_epi64_mask(bad, bad) != 0, 0)) {
            break;
        }
        four_write(frames + first, 0,
                   _mm512_mask_mov_epi8(four.is[0], COLUMN(0, 11), four.want[3]));
        four_write(frames + first, 16, four_hops(&four));
        mixed = AND_DIFFERS(mixed, four.want[1], verdict, only);
        _mm256_storeu_si256((__m256i *) (verdicts + first),
                            _mm512_castsi512_si256(_mm512_permutexvar_epi64(
                                next, _mm512_and_si512(four.want[1], only))));
    }
    *differs |= _mm512_test_epi64_mask(mixed, mixed);
    return first;
}
#endif
