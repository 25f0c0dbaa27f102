/* dataplane/fast/machine.h, through engine.c: M1 to M10, R1 to R3. Time is a number here.
 * Ports 1 (A) and 2 (B) are in zone 5, port 3 (C) in zone 6. "OVN" is deliver(): it does what two routers
 * do, MACs and two hops, or what the test wants. */
#include "dataplane/fast/engine.h"
#include "dataplane/fast/rewrite.h"
#include "tests/bpf/frames.h"

#include <stdbool.h>

#define MS   G_GUINT64_CONSTANT(1000000)
#define SEC  (1000 * MS)
#define ZONE 5

enum { FLOWS = 56 };

static const guint8 mac_a[6] = {2, 0, 0, 0, 0, 0xa}, mac_b[6] = {2, 0, 0, 0, 0, 0xb};
static const guint8 gate_a[6] = {2, 0, 0, 0, 1, 0xa}, gate_b[6] = {2, 0, 0, 0, 1, 0xb};

typedef struct {
    struct engine engine;
    void *flows;
    guint64 now;
    guint8 frame[FRAME_MAX], copy[FRAME_MAX];
    gsize size;
    struct engine_verdict verdict;
} World;

static void
add_nic(World *w, guint16 id, guint16 zone, const guint8 *mac, const char *addr4, const char *addr6)
{
    struct layout_nic *nic = &w->engine.nics[id];
    nic->ifindex = 100u + id;
    nic->flags = LAYOUT_NIC_ON | LAYOUT_NIC_PAIR;
    nic->zone = zone;
    nic->mtu = 1500;
    memcpy(nic->mac, mac, 6);
    nic->addr4_count = nic->addr6_count = 1;
    inet_pton(AF_INET, addr4, &nic->addr4[0]);
    inet_pton(AF_INET6, addr6, nic->addr6[0]);
}

static World *
world_new(void)
{
    World *w = g_new0(World, 1);
    w->now = 1000 * SEC;
    w->engine.nics = g_new0(struct layout_nic, LAYOUT_NICS);
    w->engine.pend = g_new0(struct layout_pend, 2 * LAYOUT_PENDING);
    w->flows = aligned_alloc(FLOWTABLE_LINE, flowtable_bytes(FLOWS));
    memset(w->flows, 0, flowtable_bytes(FLOWS));
    flowtable_init(&w->engine.table, w->flows, FLOWS, flowtable_test_seed);
    w->engine.config = (struct layout_config){.version = LAYOUT_VERSION,
                                              .expire_ns = 2 * SEC,
                                              .renew_ns = SEC,
                                              .retry_ns = 200 * MS,
                                              .pend_ns = 200 * MS};
    w->engine.config.generation[ZONE] = 10;
    w->engine.config.generation[6] = 11;
    add_nic(w, 1, ZONE, mac_a, "10.1.0.2", "fd01::2");
    add_nic(w, 2, ZONE, mac_b, "10.2.0.2", "fd02::2");
    add_nic(w, 3, 6, mac_b, "10.3.0.2", "fd03::2");
    return w;
}

static void
world_free(World *w)
{
    g_free(w->engine.nics);
    g_free(w->engine.pend);
    free(w->flows);
    g_free(w);
}

G_DEFINE_AUTOPTR_CLEANUP_FUNC(World, world_free)

static FrameSpec
from_a(guint32 seq)
{
    return (FrameSpec){.family = 4,
                       .proto = 6,
                       .src = "10.1.0.2",
                       .dst = "10.2.0.2",
                       .sport = 4000,
                       .dport = 80,
                       .smac = mac_a,
                       .dmac = gate_a,
                       .id = (guint16) seq,
                       .seq = seq,
                       .ack = 7,
                       .payload = "request"};
}

static FrameSpec
from_b(guint32 seq)
{
    return (FrameSpec){.family = 4,
                       .proto = 6,
                       .src = "10.2.0.2",
                       .dst = "10.1.0.2",
                       .sport = 80,
                       .dport = 4000,
                       .smac = mac_b,
                       .dmac = gate_b,
                       .id = (guint16) seq,
                       .seq = seq,
                       .ack = 9,
                       .payload = "answer"};
}

static enum layout_reason
enter(World *w, guint16 nic, const FrameSpec *spec)
{
    w->size = frame_build(w->frame, spec);
    w->verdict = engine_enter(&w->engine, w->now, nic, w->frame, (guint32) w->size, 0, w->copy);
    return w->verdict.reason;
}

/* What OVN makes of a frame of A's or B's: the other side's MACs, two hops less. */
static FrameSpec
routed(FrameSpec spec)
{
    bool to_b = spec.smac == mac_a;
    spec.smac = to_b ? gate_b : gate_a;
    spec.dmac = to_b ? mac_b : mac_a;
    spec.ttl = (guint8) ((spec.ttl ? spec.ttl : 64) - 2);
    return spec;
}

static enum layout_reason
leave(World *w, guint16 nic, const FrameSpec *spec)
{
    guint8 frame[FRAME_MAX];
    gsize size = frame_build(frame, spec);
    w->verdict = engine_leave(&w->engine, NULL, w->now, nic, frame, (guint32) size);
    return w->verdict.reason;
}

/* One frame from each side through OVN. */
static void
make_fast(World *w)
{
    FrameSpec a = from_a(1), b = from_b(2), a2 = routed(a), b2 = routed(b);
    enter(w, 1, &a);
    g_assert_cmpint(leave(w, 2, &a2), ==, LAYOUT_LEARNED);
    enter(w, 2, &b);
    g_assert_cmpint(leave(w, 1, &b2), ==, LAYOUT_PAIRED);
}

static void
expect_fast(World *w, guint32 seq)
{
    FrameSpec a = from_a(seq);
    g_assert_cmpint(enter(w, 1, &a), ==, LAYOUT_HIT);
}

/* ---- M1 ---- */

static void
spoofed_sources_are_never_remembered(void)
{
    g_autoptr(World) w = world_new();
    FrameSpec a = from_a(1), out = routed(a);
    a.smac = mac_b;
    g_assert_cmpint(enter(w, 1, &a), ==, LAYOUT_SPOOF_MAC);
    g_assert_cmpint(leave(w, 2, &out), ==, LAYOUT_UNMATCHED);
    a = from_a(1);
    a.src = "10.1.0.3";
    g_assert_cmpint(enter(w, 1, &a), ==, LAYOUT_SPOOF_ADDR);
    a.family = 6;
    a.src = "fd01::3";
    a.dst = "fd02::2";
    g_assert_cmpint(enter(w, 1, &a), ==, LAYOUT_SPOOF_ADDR);
}

static void
a_spoofer_cannot_use_a_fast_flow_of_another_port(void)
{
    g_autoptr(World) w = world_new();
    make_fast(w);
    FrameSpec a = from_a(3);
    g_assert_cmpint(enter(w, 2, &a), ==, LAYOUT_SPOOF_MAC);
    a.smac = mac_b;
    g_assert_cmpint(enter(w, 2, &a), ==, LAYOUT_SPOOF_ADDR);
}

/* ---- M2 ---- */

static void
both_directions_make_a_flow_fast(void)
{
    g_autoptr(World) w = world_new();
    make_fast(w);
    expect_fast(w, 3);
    g_assert_cmpint(w->verdict.way, ==, ENGINE_FAST);
    g_assert_cmpint(w->verdict.nic, ==, 2);
    FrameSpec want = routed(from_a(3));
    guint8 frame[FRAME_MAX];
    g_assert_cmpmem(w->frame, w->size, frame, frame_build(frame, &want));
    FrameSpec b = from_b(4);
    g_assert_cmpint(enter(w, 2, &b), ==, LAYOUT_HIT);
}

static void
one_direction_is_not_enough(void)
{
    g_autoptr(World) w = world_new();
    for (guint32 seq = 1; seq < 10; seq++) {
        FrameSpec a = from_a(seq), out = routed(a);
        g_assert_cmpint(enter(w, 1, &a), ==, seq == 1 ? LAYOUT_UNKNOWN : LAYOUT_HALF);
        g_assert_cmpint(leave(w, 2, &out), ==, LAYOUT_LEARNED);
    }
}

static void
answers_from_another_port_do_not_pair(void)
{
    g_autoptr(World) w = world_new();
    FrameSpec a = from_a(1), a2 = routed(a), b = from_b(2), b2 = routed(b);
    add_nic(w, 4, ZONE, mac_b, "10.2.0.2", "fd04::2"); /* the same address on another port */
    enter(w, 1, &a);
    g_assert_cmpint(leave(w, 2, &a2), ==, LAYOUT_LEARNED);
    enter(w, 4, &b);
    g_assert_cmpint(leave(w, 1, &b2), ==, LAYOUT_LEARNED);
    a = from_a(3);
    g_assert_cmpint(enter(w, 1, &a), ==, LAYOUT_HALF);
}

/* ---- M3 ---- */

static void
a_flow_without_proof_ends_after_two_seconds(void)
{
    g_autoptr(World) w = world_new();
    make_fast(w);
    w->now += 2 * SEC - 1;
    expect_fast(w, 1000);
    w->now += 1;
    FrameSpec a = from_a(2000), out = routed(a);
    g_assert_cmpint(enter(w, 1, &a), ==, LAYOUT_EXPIRED);
    w->now += 150 * MS;
    g_assert_cmpint(leave(w, 2, &out), ==, LAYOUT_RENEWED);
    w->now += 2 * SEC - 150 * MS - 1; /* counted from its entry */
    expect_fast(w, 3000);
    w->now += 1;
    a = from_a(4000);
    g_assert_cmpint(enter(w, 1, &a), ==, LAYOUT_EXPIRED);
}

static void
a_packet_that_was_long_on_its_way_proves_nothing(void)
{
    g_autoptr(World) w = world_new();
    FrameSpec a = from_a(1), out = routed(a);
    enter(w, 1, &a);
    w->now += 200 * MS;
    g_assert_cmpint(leave(w, 2, &out), ==, LAYOUT_UNMATCHED);
}

static void
a_copy_each_second_keeps_tcp_fast_and_is_swallowed(void)
{
    g_autoptr(World) w = world_new();
    make_fast(w);
    for (guint32 seq = 100; seq < 110; seq++) {
        w->now += SEC;
        expect_fast(w, seq);
        g_assert_true(w->verdict.probe);
        FrameSpec was = from_a(seq), out = routed(was);
        guint8 frame[FRAME_MAX];
        g_assert_cmpmem(w->copy, w->size, frame, frame_build(frame, &was));
        expect_fast(w, seq + 1000);
        g_assert_false(w->verdict.probe);
        g_assert_cmpint(leave(w, 2, &out), ==, LAYOUT_SWALLOWED);
        g_assert_cmpint(w->verdict.way, ==, ENGINE_SWALLOW);
    }
}

static void
a_copy_that_offloads_cut_is_swallowed_whole(void)
{
    g_autoptr(World) w = world_new();
    make_fast(w);
    w->now += SEC;
    FrameSpec a = from_a(1000);
    a.payload = "0123456789";
    g_assert_cmpint(enter(w, 1, &a), ==, LAYOUT_HIT);
    g_assert_true(w->verdict.probe);
    FrameSpec part = routed(a), rest = part, next = part;
    part.payload = "01234";
    rest.seq = 1005, rest.payload = "56789";
    next.seq = 1010;
    g_assert_cmpint(leave(w, 2, &part), ==, LAYOUT_SWALLOWED);
    g_assert_cmpint(leave(w, 2, &rest), ==, LAYOUT_SWALLOWED);
    g_assert_cmpint(leave(w, 2, &next), ==, LAYOUT_UNMATCHED);
}

static FrameSpec
udp_a(guint16 id)
{
    FrameSpec spec = from_a(id);
    spec.proto = 17;
    spec.payload = "datagram";
    return spec;
}

static FrameSpec
udp_b(guint16 id)
{
    FrameSpec spec = from_b(id);
    spec.proto = 17;
    spec.payload = "reply...";
    return spec;
}

static void
make_udp_fast(World *w)
{
    FrameSpec a = udp_a(1), b = udp_b(2), a2 = routed(a), b2 = routed(b);
    enter(w, 1, &a);
    g_assert_cmpint(leave(w, 2, &a2), ==, LAYOUT_LEARNED);
    enter(w, 2, &b);
    g_assert_cmpint(leave(w, 1, &b2), ==, LAYOUT_PAIRED);
}

static void
a_copy_each_second_keeps_udp_fast_and_is_swallowed(void)
{
    g_autoptr(World) w = world_new();
    make_udp_fast(w);
    for (guint16 id = 10; id < 20; id++) {
        w->now += SEC;
        FrameSpec a = udp_a(id), out = routed(a);
        g_assert_cmpint(enter(w, 1, &a), ==, LAYOUT_HIT);
        g_assert_true(w->verdict.probe);
        g_assert_cmpint(leave(w, 2, &out), ==, LAYOUT_SWALLOWED);
    }
}

static void
a_late_copy_is_swallowed_but_proves_nothing(void)
{
    g_autoptr(World) w = world_new();
    make_udp_fast(w);
    w->now += 1900 * MS;
    FrameSpec a = udp_a(10), out = routed(a);
    g_assert_cmpint(enter(w, 1, &a), ==, LAYOUT_HIT);
    w->now += 300 * MS;
    g_assert_cmpint(leave(w, 2, &out), ==, LAYOUT_SWALLOWED);
    a = udp_a(11);
    g_assert_cmpint(enter(w, 1, &a), ==, LAYOUT_EXPIRED);
}

static void
a_copy_that_ovn_drops_ends_the_flow(void)
{
    g_autoptr(World) w = world_new();
    make_fast(w);
    guint64 revoked = w->now;
    guint32 seq = 10;
    do {
        w->now += 50 * MS;
        FrameSpec a = from_a(seq++);
        enter(w, 1, &a);
    } while (w->verdict.way == ENGINE_FAST);
    g_assert_cmpuint(w->now - revoked, <=, 2 * SEC);
}

/* ---- M4 ---- */

static void
a_bump_forgets_at_once(void)
{
    g_autoptr(World) w = world_new();
    make_fast(w);
    w->engine.config.generation[ZONE] = 12;
    FrameSpec a = from_a(3);
    g_assert_cmpint(enter(w, 1, &a), ==, LAYOUT_GENERATION);
    g_assert_cmpint(w->verdict.way, ==, ENGINE_SLOW);
}

static void
what_was_under_way_during_a_bump_proves_nothing(void)
{
    g_autoptr(World) w = world_new();
    FrameSpec a = from_a(1), out = routed(a);
    enter(w, 1, &a);
    w->engine.config.generation[ZONE] = 12;
    g_assert_cmpint(leave(w, 2, &out), ==, LAYOUT_GENERATION);
    make_fast(w);
    w->now += SEC;
    expect_fast(w, 50);
    g_assert_true(w->verdict.probe);
    w->engine.config.generation[ZONE] = 13;
    out = routed(from_a(50));
    leave(w, 2, &out);
    a = from_a(51);
    g_assert_cmpint(enter(w, 1, &a), ==, LAYOUT_GENERATION);
}

/* ---- M5 ---- */

static void
flags_that_open_or_end_a_connection_go_slow_and_forget(void)
{
    const guint8 flags[] = {0x02, 0x12, 0x11, 0x04, 0x14, 0x30};
    for (gsize i = 0; i < G_N_ELEMENTS(flags); i++) {
        g_autoptr(World) w = world_new();
        make_fast(w);
        FrameSpec a = from_a(3), b = from_b(4);
        a.flags = flags[i];
        g_assert_cmpint(enter(w, 1, &a), ==, LAYOUT_TCP_FLAGS);
        a = from_a(5);
        g_assert_cmpint(enter(w, 1, &a), ==, LAYOUT_UNKNOWN);
        g_assert_cmpint(enter(w, 2, &b), ==, LAYOUT_UNKNOWN);
    }
}

static void
fragments_go_slow(void)
{
    g_autoptr(World) w = world_new();
    make_fast(w);
    const guint16 fields[] = {0x2000, 0x0001, 0x3fff, 0x8000};
    for (gsize i = 0; i < G_N_ELEMENTS(fields); i++) {
        FrameSpec a = from_a(3);
        a.fragment = fields[i];
        g_assert_cmpint(enter(w, 1, &a), ==, LAYOUT_FRAGMENT);
    }
    FrameSpec a = from_a(3);
    a.fragment = 0x4000; /* "don't" */
    g_assert_cmpint(enter(w, 1, &a), ==, LAYOUT_HIT);
}

/* ---- M7 ---- */

static void
what_would_end_on_the_way_goes_slow(void)
{
    g_autoptr(World) w = world_new();
    make_fast(w);
    FrameSpec a = from_a(3);
    a.ttl = 2;
    g_assert_cmpint(enter(w, 1, &a), ==, LAYOUT_TTL);
    a.ttl = 3;
    g_assert_cmpint(enter(w, 1, &a), ==, LAYOUT_HIT);
    g_assert_cmpint(w->frame[14 + 8], ==, 1);
}

static void
what_does_not_fit_goes_slow(void)
{
    g_autoptr(World) w = world_new();
    make_fast(w);
    w->engine.nics[2].mtu = 46;
    FrameSpec a = from_a(3);
    g_assert_cmpint(enter(w, 1, &a), ==, LAYOUT_MTU);
    w->engine.nics[2].mtu = 47;
    g_assert_cmpint(enter(w, 1, &a), ==, LAYOUT_HIT);
    w->size = frame_build(w->frame, &a);
    w->verdict = engine_enter(&w->engine, w->now, 1, w->frame, (guint32) w->size, 1501, NULL);
    g_assert_cmpint(w->verdict.reason, ==, LAYOUT_MTU);
}

static void
another_gateway_is_learned_anew(void)
{
    g_autoptr(World) w = world_new();
    make_fast(w);
    FrameSpec a = from_a(3), out = routed(a);
    a.dmac = gate_b;
    g_assert_cmpint(enter(w, 1, &a), ==, LAYOUT_GATEWAY);
    g_assert_cmpint(leave(w, 2, &out), ==, LAYOUT_LEARNED);
}

/* ---- M8, M9 ---- */

static void
two_that_look_alike_teach_no_nat(void)
{
    g_autoptr(World) w = world_new();
    FrameSpec one = udp_a(0), two = udp_a(0);
    one.dst = "10.9.0.1", one.sport = 1000;
    two.dst = "10.9.0.2", two.sport = 1001;
    enter(w, 1, &one);
    enter(w, 1, &two);
    FrameSpec out = routed(two);
    out.dst = "10.2.0.2";
    g_assert_cmpint(leave(w, 2, &out), ==, LAYOUT_AMBIGUOUS);
    g_assert_cmpint(w->verdict.way, ==, ENGINE_SLOW);
}

static void
both_ends_rewritten_teaches_nothing(void)
{
    g_autoptr(World) w = world_new();
    FrameSpec a = from_a(1), out = routed(a);
    out.src = "10.2.0.1", out.sport = 5000, out.dst = "10.2.0.9", out.dport = 8080;
    enter(w, 1, &a);
    g_assert_cmpint(leave(w, 2, &out), ==, LAYOUT_AMBIGUOUS);
}

static void
a_lookalike_of_a_copy_is_delivered(void)
{
    g_autoptr(World) w = world_new();
    make_udp_fast(w);
    w->now += SEC;
    FrameSpec a = udp_a(0), other = udp_a(0);
    g_assert_cmpint(enter(w, 1, &a), ==, LAYOUT_HIT);
    g_assert_true(w->verdict.probe);
    other.sport = 4444, other.dst = "10.9.0.1";
    g_assert_cmpint(enter(w, 1, &other), ==, LAYOUT_BUSY);
    FrameSpec out = routed(other);
    out.dst = "10.2.0.2";
    leave(w, 2, &out);
    g_assert_cmpint(w->verdict.way, ==, ENGINE_SLOW);
}

/* ---- M10 ---- */

static void
ports_of_two_zones_never_share_a_flow(void)
{
    g_autoptr(World) w = world_new();
    FrameSpec a = from_a(1), out = routed(a);
    enter(w, 1, &a);
    g_assert_cmpint(leave(w, 3, &out), ==, LAYOUT_UNMATCHED);
}

/* ---- NAT, R1 to R3 ---- */

static void
nat_round(guint8 proto, int family, bool no_check)
{
    g_autoptr(World) w = world_new();
    FrameSpec a = from_a(1), b = from_b(2);
    a.family = b.family = family;
    a.proto = b.proto = proto;
    a.no_udp_check = b.no_udp_check = no_check;
    a.src = family == 4 ? "10.1.0.2" : "fd01::2";
    a.dst = family == 4 ? "10.9.9.9" : "fd09::9"; /* a load balancer's address */
    b.src = family == 4 ? "10.2.0.2" : "fd02::2";
    b.dst = family == 4 ? "10.1.0.2" : "fd01::2";
    a.payload = "12345678a", b.payload = "87654321b";
    bool echo = proto == 1 || proto == 58;
    if (echo) {
        a.icmp_type = proto == 1 ? 8 : 128, b.icmp_type = proto == 1 ? 0 : 129;
        b.sport = a.sport, b.dport = a.dport;
    }
    for (guint32 round = 0; round < 3; round++) {
        a.id = (guint16) (10 + round), b.id = (guint16) (20 + round);
        a.seq = 1000 + round, b.seq = 2000 + round;
        FrameSpec a2 = routed(a), b2 = routed(b);
        a2.dst = family == 4 ? "10.2.0.2" : "fd02::2";
        b2.src = a.dst;
        if (!echo) {
            a2.dport = 8080, b.sport = 8080, b2.sport = a.dport;
        }
        guint8 frame[FRAME_MAX];
        enum layout_reason reason = enter(w, 1, &a);
        if (round == 2) {
            g_assert_cmpint(reason, ==, LAYOUT_HIT);
            g_assert_cmpmem(w->frame, w->size, frame, frame_build(frame, &a2));
            g_assert_cmpint(enter(w, 2, &b), ==, LAYOUT_HIT);
            g_assert_cmpmem(w->frame, w->size, frame, frame_build(frame, &b2));
        } else {
            leave(w, 2, &a2);
            enter(w, 2, &b);
            leave(w, 1, &b2);
        }
    }
}

static void
nat_is_learned_and_done_byte_for_byte(void)
{
    nat_round(6, 4, false);
    nat_round(17, 4, false);
    nat_round(17, 4, true);
    nat_round(1, 4, false);
    nat_round(6, 6, false);
    nat_round(17, 6, false);
    nat_round(58, 6, false);
}

static void
checksums_change_by_what_changed(void)
{
    for (guint32 round = 0; round < 100000; round++) {
        guint16 words[4] = {(guint16) g_test_rand_int(), (guint16) g_test_rand_int(),
                            (guint16) g_test_rand_int(), 0};
        guint8 bytes[8], fresh[2];
        for (int i = 0; i < 3; i++) {
            memcpy(bytes + 2 * i, &words[i], 2);
        }
        frame_put_check(fresh, frame_sum(bytes, 6, 0));
        guint16 check, to = (guint16) g_test_rand_int(), want;
        memcpy(&check, fresh, 2);
        guint16 got = rewrite_check(check, words[1], to);
        memcpy(bytes + 2, &to, 2);
        frame_put_check(fresh, frame_sum(bytes, 6, 0));
        memcpy(&want, fresh, 2);
        g_assert_true(got == want || (got ^ want) == 0xffff);
    }
}

/* ---- the table ---- */

static void
a_full_table_sends_new_flows_slow(void)
{
    g_autoptr(World) w = world_new();
    guint full = 0;
    for (guint16 port = 1; port < 200; port++) {
        FrameSpec a = from_a(port), out;
        a.sport = port;
        out = routed(a);
        enter(w, 1, &a);
        full += leave(w, 2, &out) == LAYOUT_FULL;
    }
    g_assert_cmpuint(full, ==, 199 - FLOWS);
    w->now += 11 * SEC;
    g_assert_cmpuint(engine_age(&w->engine, w->now, 60 * SEC, 10 * SEC), ==, FLOWS);
    make_fast(w);
    expect_fast(w, 3);
}

static void
idle_flows_age(void)
{
    g_autoptr(World) w = world_new();
    make_fast(w);
    w->now += 59 * SEC;
    g_assert_cmpuint(engine_age(&w->engine, w->now, 60 * SEC, 10 * SEC), ==, 0);
    w->now += SEC;
    g_assert_cmpuint(engine_age(&w->engine, w->now, 60 * SEC, 10 * SEC), ==, 2);
    g_assert_cmpuint(w->engine.table.count, ==, 0);
}

/* ---- foreign bytes ---- */

static void
truncated_frames_are_never_fast(void)
{
    g_autoptr(World) w = world_new();
    make_fast(w);
    FrameSpec a = from_a(3);
    guint8 whole[FRAME_MAX];
    gsize size = frame_build(whole, &a);
    for (gsize cut = 0; cut < size; cut++) {
        g_autofree guint8 *frame = g_memdup2(whole, cut); /* so that sanitizers see the end */
        struct engine_verdict verdict =
            engine_enter(&w->engine, w->now, 1, frame, (guint32) cut, 0, NULL);
        g_assert_cmpint(verdict.way, ==, ENGINE_SLOW);
    }
}

/* ---- M11 ---- */

static void
a_fast_packet_overtakes_no_slow_one(void)
{
    g_autoptr(World) w = world_new();
    FrameSpec first = from_a(1), last = from_a(3), b = from_b(2);
    FrameSpec first2 = routed(first), last2 = routed(last), b2 = routed(b);
    enter(w, 1, &first);
    enter(w, 1, &last);
    leave(w, 2, &first2);
    enter(w, 2, &b);
    g_assert_cmpint(leave(w, 1, &b2), ==, LAYOUT_PAIRED);
    FrameSpec next = from_a(4), next2 = routed(next);
    g_assert_cmpint(enter(w, 1, &next), ==, LAYOUT_ORDER); /* the last is still inside */
    leave(w, 2, &last2);
    next = from_a(5);
    g_assert_cmpint(enter(w, 1, &next), ==, LAYOUT_ORDER); /* and now that one */
    leave(w, 2, &next2);
    next2 = routed(next);
    leave(w, 2, &next2);
    expect_fast(w, 6);
    g_assert_cmpint(enter(w, 2, &b), ==, LAYOUT_HIT); /* the other direction waits for none */
}

static void
a_slow_packet_that_was_lost_holds_nothing_up_for_long(void)
{
    g_autoptr(World) w = world_new();
    FrameSpec first = from_a(1), lost = from_a(3), b = from_b(2);
    FrameSpec first2 = routed(first), b2 = routed(b), next = from_a(4);
    enter(w, 1, &first);
    enter(w, 1, &lost);
    leave(w, 2, &first2);
    enter(w, 2, &b);
    leave(w, 1, &b2);
    g_assert_cmpint(enter(w, 1, &next), ==, LAYOUT_ORDER);
    w->now += w->engine.config.pend_ns;
    expect_fast(w, 5);
}

static void
random_changes_never_leave_memory(void)
{
    g_autoptr(World) w = world_new();
    for (guint round = 0; round < 200000; round++) {
        FrameSpec spec = round % 2 ? from_a(round) : udp_a((guint16) round);
        guint8 whole[FRAME_MAX];
        gsize size = frame_build(whole, &spec);
        for (guint i = 0; i < round % 5; i++) {
            whole[g_test_rand_int_range(12, (gint32) size)] ^= (guint8) g_test_rand_int();
        }
        gsize cut = round % 3 ? size : (gsize) g_test_rand_int_range(0, (gint32) size + 1);
        g_autofree guint8 *frame = g_memdup2(whole, cut);
        engine_enter(&w->engine, w->now, 1, frame, (guint32) cut, 0, NULL);
        engine_leave(&w->engine, NULL, w->now, 2, frame, (guint32) cut);
        w->now += MS;
    }
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define CLAIM(name) g_test_add_func("/fast/" #name, name)
    CLAIM(spoofed_sources_are_never_remembered);
    CLAIM(a_spoofer_cannot_use_a_fast_flow_of_another_port);
    CLAIM(both_directions_make_a_flow_fast);
    CLAIM(one_direction_is_not_enough);
    CLAIM(answers_from_another_port_do_not_pair);
    CLAIM(a_flow_without_proof_ends_after_two_seconds);
    CLAIM(a_packet_that_was_long_on_its_way_proves_nothing);
    CLAIM(a_copy_each_second_keeps_tcp_fast_and_is_swallowed);
    CLAIM(a_copy_that_offloads_cut_is_swallowed_whole);
    CLAIM(a_copy_each_second_keeps_udp_fast_and_is_swallowed);
    CLAIM(a_late_copy_is_swallowed_but_proves_nothing);
    CLAIM(a_copy_that_ovn_drops_ends_the_flow);
    CLAIM(a_bump_forgets_at_once);
    CLAIM(what_was_under_way_during_a_bump_proves_nothing);
    CLAIM(flags_that_open_or_end_a_connection_go_slow_and_forget);
    CLAIM(fragments_go_slow);
    CLAIM(what_would_end_on_the_way_goes_slow);
    CLAIM(what_does_not_fit_goes_slow);
    CLAIM(another_gateway_is_learned_anew);
    CLAIM(two_that_look_alike_teach_no_nat);
    CLAIM(both_ends_rewritten_teaches_nothing);
    CLAIM(a_lookalike_of_a_copy_is_delivered);
    CLAIM(ports_of_two_zones_never_share_a_flow);
    CLAIM(nat_is_learned_and_done_byte_for_byte);
    CLAIM(checksums_change_by_what_changed);
    CLAIM(a_full_table_sends_new_flows_slow);
    CLAIM(idle_flows_age);
    CLAIM(a_fast_packet_overtakes_no_slow_one);
    CLAIM(a_slow_packet_that_was_lost_holds_nothing_up_for_long);
    CLAIM(truncated_frames_are_never_fast);
    CLAIM(random_changes_never_leave_memory);
    return g_test_run();
}
