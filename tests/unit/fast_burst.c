/* dataplane/fast/burst.c and flowtable.c: bursts give what single frames give (F1, F2), whatever compares the
 * signatures; the table finds what is in it and nothing else (T1 to T4), also while others write. */
#include "dataplane/fast/engine.h"
#include "tests/bpf/frames.h"

#include <stdbool.h>
#include <stdlib.h>

#define MS    G_GUINT64_CONSTANT(1000000)
#define SEC   (1000 * MS)
#define CONNS 40

typedef struct {
    struct engine engine;
    struct engine_seat seat;
    guint8 copy[FRAME_MAX];
    void *memory;
} Side;

static void *
copy_room(void *user, __u32 index, __u32 size)
{
    return ((Side *) user)->copy;
}

static void
make_table(struct flowtable *table, void **ret_memory, guint32 flows)
{
    *ret_memory = aligned_alloc(FLOWTABLE_LINE, flowtable_bytes(flows));
    memset(*ret_memory, 0, flowtable_bytes(flows));
    flowtable_init(table, *ret_memory, flows, flowtable_test_seed);
}

static Side *
side_new(guint32 flows)
{
    Side *side = g_new0(Side, 1);
    side->seat = (struct engine_seat){.copy_room = copy_room, .user = side};
    side->engine.nics = g_new0(struct layout_nic, LAYOUT_NICS);
    side->engine.pend = g_new0(struct layout_pend, 2 * LAYOUT_PENDING);
    make_table(&side->engine.table, &side->memory, flows);
    side->engine.config = (struct layout_config){
        .expire_ns = 2 * SEC, .renew_ns = SEC, .retry_ns = 200 * MS, .pend_ns = 200 * MS};
    side->engine.config.generation[5] = 1;
    for (guint16 id = 1; id <= 2; id++) {
        struct layout_nic *nic = &side->engine.nics[id];
        *nic = (struct layout_nic){.ifindex = id, .flags = LAYOUT_NIC_ON, .zone = 5, .mtu = 1500};
        nic->mac[0] = 2;
        nic->mac[5] = (guint8) id;
        nic->addr4_count = nic->addr6_count = 1;
        inet_pton(AF_INET, id == 1 ? "10.0.1.2" : "10.0.2.2", &nic->addr4[0]);
        inet_pton(AF_INET6, id == 1 ? "fd01::2" : "fd02::2", nic->addr6[0]);
    }
    return side;
}

static void
side_free(Side *side)
{
    g_free(side->engine.nics);
    g_free(side->engine.pend);
    free(side->memory);
    g_free(side);
}

G_DEFINE_AUTOPTR_CLEANUP_FUNC(Side, side_free)

/* A frame of connection 'conn' from port 'from', as it enters or (routed) as it leaves. */
static gsize
conn_frame(guint8 *frame, guint conn, guint16 from, guint32 number, bool routed, guint8 flags)
{
    static const guint8 macs[3][6] = {{0}, {2, 0, 0, 0, 0, 1}, {2, 0, 0, 0, 0, 2}};
    static const guint8 gates[3][6] = {{0}, {2, 0, 0, 0, 9, 1}, {2, 0, 0, 0, 9, 2}};
    static const char *const addr[2][3] = {{NULL, "10.0.1.2", "10.0.2.2"},
                                           {NULL, "fd01::2", "fd02::2"}};
    guint16 to = 3 - from, port = (guint16) (1000 + conn);
    int six = conn % 5 == 4;
    FrameSpec spec = {.family = six ? 6 : 4,
                      .proto = conn % 2 ? 6 : 17,
                      .src = addr[six][from],
                      .dst = addr[six][to],
                      .sport = from == 1 ? port : 80,
                      .dport = from == 1 ? 80 : port,
                      .smac = routed ? gates[to] : macs[from],
                      .dmac = routed ? macs[to] : gates[from],
                      .ttl = routed ? 62 : 64,
                      .flags = flags,
                      .id = (guint16) number,
                      .seq = number,
                      .ack = 1,
                      .payload = "some bytes"};
    return frame_build(frame, &spec);
}

/* One frame of a random walk: mostly data of known connections, now and then what ends or breaks them. */
static gsize
random_frame(GRand *rand, guint8 *frame, guint16 from, guint32 number)
{
    guint conn = (guint) g_rand_int_range(rand, 0, CONNS);
    int kind = g_rand_int_range(rand, 0, 40);
    gsize size = conn_frame(frame, conn, from, number, false, kind == 0 ? 0x01 : 0x10);
    if (kind == 1) {
        size = (gsize) g_rand_int_range(rand, 0, (gint32) size);
    } else if (kind < 5) {
        frame[g_rand_int_range(rand, 0, (gint32) size)] ^=
            (guint8) (1 << g_rand_int_range(rand, 0, 8));
    } else if (kind == 5) {
        frame[22] = (guint8) g_rand_int_range(rand, 0, 4); /* TTL */
    }
    return size;
}

static void
leave_both(Side *one, Side *many, guint64 now, guint16 to, const guint8 *frame, gsize size)
{
    struct engine_verdict a =
        engine_leave(&one->engine, &one->seat, now, to, frame, (guint32) size);
    struct engine_verdict b =
        engine_leave(&many->engine, &many->seat, now, to, frame, (guint32) size);
    g_assert_cmpmem(&a, sizeof a, &b, sizeof b);
}

static void
learn_all(Side *one, Side *many, guint64 now, guint32 number)
{
    guint8 frame[FRAME_MAX];
    struct engine_verdict verdict;
    for (guint i = 0; i < 2 * CONNS; i++) {
        guint16 from = (guint16) (1 + i % 2);
        gsize size = conn_frame(frame, i / 2, from, number + i, false, 0x10);
        struct engine_frame in = {frame, (guint32) size};
        engine_enter_one(&one->engine, &one->seat, now, from, &in, 0);
        conn_frame(frame, i / 2, from, number + i, false, 0x10);
        engine_enter_burst(&many->engine, &many->seat, now, from, &in, 1, &verdict);
        size = conn_frame(frame, i / 2, from, number + i, true, 0x10);
        leave_both(one, many, now, 3 - from, frame, size);
    }
}

static void
bursts_with(enum engine_isa isa)
{
    g_autoptr(Side) one = side_new(2 * CONNS);
    g_autoptr(Side) many = side_new(2 * CONNS);
    g_autoptr(GRand) rand = g_rand_new_with_seed(20261 + isa);
    g_test_message("signatures by %s", engine_isa_set(isa));
    guint64 now = 1000 * SEC;
    guint32 number = 1;
    for (guint round = 0; round < 3000; round++) {
        static guint8 singly[ENGINE_BURST][FRAME_MAX], together[ENGINE_BURST][FRAME_MAX];
        struct engine_frame frames[ENGINE_BURST];
        struct engine_verdict verdicts[ENGINE_BURST];
        guint16 from = (guint16) g_rand_int_range(rand, 1, 3);
        guint count = (guint) g_rand_int_range(rand, 0, ENGINE_BURST + 1);
        if (round % 50 == 0) {
            learn_all(one, many, now, number += 1000);
        }
        if (round % 400 == 399) {
            one->engine.config.generation[5] = ++many->engine.config.generation[5];
        }
        now += (guint64) g_rand_int_range(rand, 0, 60) * MS;
        for (guint i = 0; i < count; i++) {
            gsize size = random_frame(rand, singly[i], from, number++);
            memcpy(together[i], singly[i], size);
            frames[i] = (struct engine_frame){together[i], (guint32) size};
        }
        engine_enter_burst(&many->engine, &many->seat, now, from, frames, count, verdicts);
        for (guint i = 0; i < count; i++) {
            struct engine_frame in = {singly[i], frames[i].size};
            struct engine_verdict want =
                engine_enter_one(&one->engine, &one->seat, now, from, &in, i);
            g_assert_cmpmem(&verdicts[i], sizeof want, &want, sizeof want);
            g_assert_cmpmem(together[i], frames[i].size, singly[i], frames[i].size);
        }
    }
    g_assert_cmpmem(one->seat.counters, sizeof one->seat.counters, many->seat.counters,
                    sizeof many->seat.counters);
    g_assert_cmpuint(many->seat.counters[LAYOUT_HIT], >, 10000);
    g_assert_cmpuint(many->seat.counters[LAYOUT_TCP_FLAGS], >, 100);
    g_assert_cmpuint(many->engine.table.count, ==, one->engine.table.count);
}

static void
bursts_give_what_single_frames_give_by_sse2(void)
{
    bursts_with(ENGINE_ISA_SSE2);
}

static void
bursts_give_what_single_frames_give_by_avx2(void)
{
    bursts_with(ENGINE_ISA_AVX2);
}

static void
bursts_give_what_single_frames_give_by_avx512(void)
{
    bursts_with(ENGINE_ISA_AVX512);
}

/* Also where sums are of all ones, four at a time where that is done. */
static void
each_checksum_is_what_a_single_frame_gets(void)
{
    for (guint isa = ENGINE_ISA_SSE2; isa <= ENGINE_ISA_AVX512; isa++) {
        g_autoptr(Side) one = side_new(2 * CONNS);
        g_autoptr(Side) many = side_new(2 * CONNS);
        guint64 now = 1000 * SEC;
        engine_isa_set(isa);
        learn_all(one, many, now, 1);
        for (guint round = 0; round < 65536 / 4 + 1; round++) {
            guint8 singly[4][FRAME_MAX], together[4][FRAME_MAX];
            struct engine_frame frames[4];
            struct engine_verdict verdicts[4], want;
            for (guint i = 0; i < 4; i++) {
                guint16 check = (guint16) (round > 0 ? (round - 1) * 4 + i : 0);
                gsize size = conn_frame(singly[i], i, 1, 2, false, 0x10);
                memcpy(singly[i] + 24, &check, sizeof check);
                memcpy(together[i], singly[i], size);
                frames[i] = (struct engine_frame){together[i], (guint32) size};
            }
            engine_enter_burst(&many->engine, &many->seat, now, 1, frames, 4, verdicts);
            for (guint i = 0; i < 4; i++) {
                struct engine_frame in = {singly[i], frames[i].size};
                want = engine_enter_one(&one->engine, &one->seat, now, 1, &in, i);
                g_assert_cmpmem(&verdicts[i], sizeof want, &want, sizeof want);
                g_assert_cmpmem(together[i], frames[i].size, singly[i], frames[i].size);
            }
        }
        g_assert_cmpuint(many->seat.counters[LAYOUT_HIT], >=, 60000);
    }
}

/* ---- the table ---- */

static struct layout_tuple
tuple_of(guint32 number)
{
    struct layout_tuple tuple = {.family = number % 3 ? 4 : 6, .proto = 6, .nic = 1};
    tuple.src[0] = number;
    if (tuple.family == 6) {
        tuple.src[3] = ~number;
    }
    tuple.sport = (__be16) number;
    return tuple;
}

static void
what_is_put_is_found_until_it_is_dropped(void)
{
    enum { FLOWS = 20000 };
    struct flowtable table;
    g_autofree guint8 *there = g_new0(guint8, 3 * FLOWS);
    g_autoptr(GRand) rand = g_rand_new_with_seed(7);
    void *memory;
    struct layout_flow flow = {0};
    guint refused = 0;
    make_table(&table, &memory, FLOWS);
    for (guint i = 0; i < 400000; i++) {
        guint32 number = (guint32) g_rand_int_range(rand, 0, 3 * FLOWS);
        struct layout_tuple tuple = tuple_of(number);
        __u32 slot = flowtable_find(&table, &tuple);
        g_assert_cmpint(slot != FLOWTABLE_NONE, ==, there[number]);
        if (slot != FLOWTABLE_NONE) {
            g_assert_cmpuint(table.entries[slot].flow.packets, ==, number);
        }
        if (g_rand_boolean(rand)) {
            flow.packets = number;
            there[number] = flowtable_put(&table, &tuple, &flow) != FLOWTABLE_NONE;
            refused += !there[number];
            g_assert_true(there[number] || table.count == FLOWS); /* T1, T4 */
        } else if (slot != FLOWTABLE_NONE && i % 3 == 0) {
            flowtable_drop(&table, slot);
            there[number] = 0;
        }
    }
    g_assert_cmpuint(refused, >, 0);
    g_assert_cmpuint(table.count, ==, FLOWS);
    flowtable_clear(&table);
    g_assert_cmpuint(table.count, ==, 0);
    free(memory);
}

static void
a_slot_rests_until_its_readers_are_gone(void)
{
    enum { FLOWS = 1 };
    struct flowtable table;
    void *memory;
    struct layout_flow flow = {0};
    struct layout_tuple tuple = tuple_of(1);
    guint rested = 0;
    make_table(&table, &memory, FLOWS);
    table.safe = table.epoch = 5;
    while (flowtable_put(&table, &tuple, &flow) !=
           FLOWTABLE_NONE) { /* T3: each put takes another slot */
        flowtable_drop(&table, flowtable_find(&table, &tuple));
        g_assert_cmpuint(++rested, <=, 2 * FLOWTABLE_WAYS);
    }
    g_assert_cmpuint(rested, >=, FLOWTABLE_WAYS);
    table.safe = table.epoch = 6;
    g_assert_cmpuint(flowtable_put(&table, &tuple, &flow), ==, FLOWTABLE_NONE);
    table.safe = table.epoch = 7;
    g_assert_cmpuint(flowtable_put(&table, &tuple, &flow), !=, FLOWTABLE_NONE);
    free(memory);
}

/* ---- several threads ---- */

typedef struct {
    Side *side;
    struct engine_seat seat;
    guint8 copy[FRAME_MAX];
    guint16 from;
    guint64 *seen;
    gint *stop;
    guint64 fast;
} Core;

static void *
core_copy(void *user, __u32 index, __u32 size)
{
    return ((Core *) user)->copy;
}

/* Sends frames of its port, and lets each that is slow come out of "OVN" at once. */
static void *
core_run(void *data)
{
    Core *core = data;
    struct engine *engine = &core->side->engine;
    g_autoptr(GRand) rand = g_rand_new_with_seed(core->from);
    for (guint32 number = 1; !g_atomic_int_get(core->stop); number++) {
        guint8 frame[FRAME_MAX], out[FRAME_MAX];
        guint conn = (guint) g_rand_int_range(rand, 0, CONNS);
        guint8 flags = number % 97 ? 0x10 : 0x11;
        gsize size = conn_frame(frame, conn, core->from, number, false, flags);
        gsize out_size = conn_frame(out, conn, core->from, number, true, flags);
        struct engine_frame in = {frame, (guint32) size};
        struct engine_verdict verdict;
        __atomic_store_n(core->seen, __atomic_load_n(&engine->table.epoch, __ATOMIC_ACQUIRE),
                         __ATOMIC_RELEASE);
        engine_enter_burst(engine, &core->seat, number * MS, core->from, &in, 1, &verdict);
        if (verdict.way == ENGINE_FAST) {
            g_assert_cmpmem(frame, size, out, out_size);
            core->fast++;
        }
        if (verdict.way == ENGINE_SLOW || verdict.probe) {
            engine_leave(engine, &core->seat, number * MS, 3 - core->from, out, (guint32) out_size);
        }
    }
    return NULL;
}

static void
two_threads_learn_end_and_forward_at_once(void)
{
    g_autoptr(Side) side = side_new(4 * CONNS);
    guint64 seen[2] = {0};
    gint stop = 0;
    guint64 bytes = 0;
    Core cores[2];
    GThread *threads[2];
    g_autofree guint8 *locks = g_new0(guint8, 2 * LAYOUT_PENDING);
    engine_share(&side->engine, locks);
    for (guint i = 0; i < 2; i++) {
        cores[i] = (Core){.side = side, .from = (guint16) (1 + i), .seen = &seen[i], .stop = &stop};
        cores[i].seat = (struct engine_seat){.copy_room = core_copy, .user = &cores[i]};
        threads[i] = g_thread_new("core", core_run, &cores[i]);
    }
    for (guint i = 0; i < 400; i++) {
        struct flowtable *table = &side->engine.table;
        g_usleep(100);
        guint64 a = __atomic_load_n(&seen[0], __ATOMIC_ACQUIRE);
        guint64 b = __atomic_load_n(&seen[1], __ATOMIC_ACQUIRE);
        if (MIN(a, b) == table->epoch) { /* T3 */
            __atomic_store_n(&table->safe, table->epoch, __ATOMIC_RELEASE);
            __atomic_store_n(&table->epoch, table->epoch + 1, __ATOMIC_RELEASE);
        }
        bytes += engine_age(&side->engine, i * 10 * MS, SEC, SEC);
    }
    g_atomic_int_set(&stop, 1);
    g_thread_join(threads[0]);
    g_thread_join(threads[1]);
    g_test_message("%" G_GUINT64_FORMAT " and %" G_GUINT64_FORMAT " fast, %" G_GUINT64_FORMAT
                   " aged",
                   cores[0].fast, cores[1].fast, bytes);
    g_assert_cmpuint(cores[0].fast + cores[1].fast, >, 0);
    g_assert_cmpuint(side->engine.table.count, <=, 4 * CONNS);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define CLAIM(name) g_test_add_func("/burst/" #name, name)
    CLAIM(bursts_give_what_single_frames_give_by_sse2);
    CLAIM(bursts_give_what_single_frames_give_by_avx2);
    CLAIM(bursts_give_what_single_frames_give_by_avx512);
    CLAIM(each_checksum_is_what_a_single_frame_gets);
    CLAIM(what_is_put_is_found_until_it_is_dropped);
    CLAIM(a_slot_rests_until_its_readers_are_gone);
    CLAIM(two_threads_learn_end_and_forward_at_once);
    return g_test_run();
}
