/* dataplane/fast/machine.h: who may be fast, by which proofs, and for how long (M1 to M5, M7). */
#include "tests/unit/fast_world.h"

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
    return g_test_run();
}
