/* dataplane/fast/machine.h and rewrite.h: what is done to a packet, and what must not be (M8 to M11, R1 to R3); a full
 * table; bytes that mean harm. */
#include "tests/unit/fast_world.h"

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
