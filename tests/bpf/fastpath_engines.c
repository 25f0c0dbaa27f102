/* What is said of a packet: by the kernel's programs as by the engine over memory, for each kind and each reason. */
#include "tests/bpf/both_engines.h"

static void
each_kind_becomes_fast_and_leaves_as_the_slow_path_sent_it(void)
{
    for (gsize i = 0; i < G_N_ELEMENTS(kinds); i++) {
        forget_all();
        make_fast(kinds[i].family, kinds[i].proto);
        for (guint32 n = 10; n < 20; n++) {
            guint8 want[FRAME_MAX];
            FrameSpec a = spec_of(kinds[i].family, kinds[i].proto, 1, 2, n), a2 = routed(a, 2);
            FrameSpec b = spec_of(kinds[i].family, kinds[i].proto, 2, 1, n), b2 = routed(b, 1);
            g_assert_cmpint(enter(1, &a), ==, LAYOUT_HIT);
            g_assert_cmpmem(frame, size, want, frame_build(want, &a2));
            g_assert_cmpint(enter(2, &b), ==, LAYOUT_HIT);
            g_assert_cmpmem(frame, size, want, frame_build(want, &b2));
        }
    }
}

static void
nat_of_each_kind_is_learned_and_done_byte_for_byte(void)
{
    for (gsize i = 0; i < G_N_ELEMENTS(kinds); i++) {
        bool ports = kinds[i].proto == 6 || kinds[i].proto == 17;
        forget_all();
        for (guint32 n = 1; n < 4; n++) {
            guint8 want[FRAME_MAX];
            FrameSpec a = spec_of(kinds[i].family, kinds[i].proto, 1, 2, n);
            FrameSpec b = spec_of(kinds[i].family, kinds[i].proto, 2, 1, n);
            FrameSpec a2 = routed(a, 2), b2 = routed(b, 1);
            a.dst = b2.src = kinds[i].family == 4 ? "10.9.9.9" : "fd09::9";
            if (ports) {
                a2.dport = b.sport = 8080;
            }
            enter(1, &a);
            if (n == 3) {
                g_assert_cmpint(reason, ==, LAYOUT_HIT);
                g_assert_cmpmem(frame, size, want, frame_build(want, &a2));
                g_assert_cmpint(enter(2, &b), ==, LAYOUT_HIT);
                g_assert_cmpmem(frame, size, want, frame_build(want, &b2));
            } else {
                leave(2, &a2);
                enter(2, &b);
                leave(1, &b2);
            }
        }
    }
}

static void
each_reason_to_be_slow(void)
{
    forget_all();
    make_fast(4, 6);
    FrameSpec a = spec_of(4, 6, 1, 2, 50);
    a.smac = macs[2];
    g_assert_cmpint(enter(1, &a), ==, LAYOUT_SPOOF_MAC);
    a = spec_of(4, 6, 1, 2, 50), a.src = "10.2.0.2";
    g_assert_cmpint(enter(1, &a), ==, LAYOUT_SPOOF_ADDR);
    a = spec_of(6, 6, 1, 2, 50), a.src = "fd02::2";
    g_assert_cmpint(enter(1, &a), ==, LAYOUT_SPOOF_ADDR);
    /* First, middle and last ones, such as lie over the header of a first, and the reserved bit. */
    static const guint16 fragments[] = {0x2000, 0x2001, 0x0001, 0x0002, 0x3fff, 0x1fff, 0x8000};
    for (gsize i = 0; i < G_N_ELEMENTS(fragments); i++) {
        a = spec_of(4, 6, 1, 2, 50), a.fragment = fragments[i];
        g_assert_cmpint(enter(1, &a), ==, LAYOUT_FRAGMENT);
    }
    a = spec_of(4, 6, 1, 2, 50), a.dst = "224.0.0.1";
    g_assert_cmpint(enter(1, &a), ==, LAYOUT_MULTICAST);
    a = spec_of(6, 17, 1, 2, 50), a.dst = "ff02::1";
    g_assert_cmpint(enter(1, &a), ==, LAYOUT_MULTICAST);
    a = spec_of(4, 6, 1, 2, 50), a.ttl = 2;
    g_assert_cmpint(enter(1, &a), ==, LAYOUT_TTL);
    a = spec_of(4, 6, 1, 2, 50), a.dmac = gates[2];
    g_assert_cmpint(enter(1, &a), ==, LAYOUT_GATEWAY);
    a = spec_of(4, 1, 1, 2, 50), a.icmp_type = 3;
    g_assert_cmpint(enter(1, &a), ==, LAYOUT_PROTOCOL);
    a = spec_of(4, 50, 1, 2, 50);
    g_assert_cmpint(enter(1, &a), ==, LAYOUT_PROTOCOL);
    g_autofree char *large = g_strnfill(1500, 'x');
    a = spec_of(4, 6, 1, 2, 50), a.payload = large;
    g_assert_cmpint(enter(1, &a), ==, LAYOUT_MTU);
    a = spec_of(4, 6, 1, 2, 50);
    size = frame_build(frame, &a) - 1;
    g_assert_cmpint(enter_frame(1), ==, LAYOUT_TRUNCATED);
    a = spec_of(4, 6, 1, 2, 50), a.flags = 0x11;
    g_assert_cmpint(enter(1, &a), ==, LAYOUT_TCP_FLAGS);
    a.flags = 0;
    g_assert_cmpint(enter(1, &a), ==, LAYOUT_UNKNOWN);
}

/* Which the engine over memory does not have: interfaces. */
static void
strangers(void)
{
    static const char *const programs[] = {"haw_in", "haw_out"};
    guint64 before[LAYOUT_REASON_COUNT];
    guint8 out[FRAME_MAX];
    gsize out_size;
    forget_all();
    FrameSpec a = spec_of(4, 6, 1, 2, 1);
    size = frame_build(frame, &a);
    for (gsize i = 0; i < G_N_ELEMENTS(programs); i++) {
        fastage_counters(load, before, NULL);
        g_assert_cmpint(kernel_run(programs[i], 1, frame, out, &out_size), ==, TC_ACT_OK);
        g_assert_cmpint(kernel_reason(before), ==, LAYOUT_FOREIGN);
        g_assert_cmpmem(out, out_size, frame, size);
    }
}

/* Until no flow fits any more. */
static void
fill_table(struct flowtable *table)
{
    struct layout_tuple key = {.proto = 6, .family = 4};
    const struct layout_flow flow = {.generation = 1};
    while (flowtable_put(table, &key, &flow) != FLOWTABLE_NONE) {
        key.src[0]++;
    }
    g_assert_cmpuint(key.src[0], >=, 1024);
}

static void
full_tables_learn_nothing(void)
{
    struct layout_key4 key = {.proto = 6};
    const struct layout_flow flow = {.generation = 1};
    forget_all();
    while (bpf_map_update_elem(fastload_map(load, "haw_flow4"), &key, &flow, BPF_ANY) == 0) {
        key.src++;
    }
    g_assert_cmpuint(key.src, >=, 1024);
    fill_table(&engine.table);
    fill_table(&native.table);
    FrameSpec a = spec_of(4, 6, 1, 2, 1), a2 = routed(a, 2);
    g_assert_cmpint(enter(1, &a), ==, LAYOUT_UNKNOWN);
    g_assert_cmpint(leave(2, &a2), ==, LAYOUT_FULL);
}

static void
frames_that_are_no_plain_ip_are_slow(void)
{
    forget_all();
    FrameSpec a = spec_of(4, 6, 1, 2, 1);
    size = frame_build(frame, &a);
    frame_put16(frame + 12, 0x0806);
    g_assert_cmpint(enter_frame(1), ==, LAYOUT_NOT_IP);
    size = frame_build(frame, &a);
    frame[14] = 0x46;
    g_assert_cmpint(enter_frame(1), ==, LAYOUT_OPTIONS);
    a = spec_of(6, 6, 1, 2, 1);
    const guint8 headers[] = {0, 43, 51, 60, 135};
    for (gsize i = 0; i < G_N_ELEMENTS(headers); i++) {
        size = frame_build(frame, &a);
        frame[14 + 6] = headers[i];
        g_assert_cmpint(enter_frame(1), ==, LAYOUT_OPTIONS);
    }
    /* Jumbo frames of segmentation offload say that they have no size. */
    size = frame_build(frame, &a);
    frame_put16(frame + 14 + 4, 0);
    g_assert_cmpint(enter_frame(1), ==, LAYOUT_TRUNCATED);
    FrameSpec four = spec_of(4, 6, 1, 2, 1);
    size = frame_build(frame, &four);
    frame_put16(frame + 14 + 2, 0);
    g_assert_cmpint(enter_frame(1), ==, LAYOUT_TRUNCATED);
    size = frame_build(frame, &a);
    frame[14 + 6] = 44;
    g_assert_cmpint(enter_frame(1), ==, LAYOUT_FRAGMENT);
}

static void
time_generation_and_switches(void)
{
    volatile struct layout_config *config = fastload_config(load);
    FrameSpec a = spec_of(4, 6, 1, 2, 50), a2 = routed(a, 2);
    forget_all();
    make_fast(4, 6);
    config->expire_ns = 0;
    copy_config();
    g_assert_cmpint(enter(1, &a), ==, LAYOUT_EXPIRED);
    config->expire_ns = 60 * G_GUINT64_CONSTANT(1000000000);
    copy_config();
    FrameSpec later = spec_of(4, 6, 1, 2, 51), later2 = routed(later, 2);
    g_assert_cmpint(enter(1, &later), ==, LAYOUT_ORDER); /* the expired one is still inside */
    g_assert_cmpint(leave(2, &later2), ==, LAYOUT_RENEWED);
    g_assert_cmpint(enter(1, &a), ==, LAYOUT_HIT);
    config->off = 1;
    copy_config();
    g_assert_cmpint(enter(1, &a), ==, LAYOUT_OFF);
    config->off = 0;
    fastload_bump(load, ZONE);
    copy_config();
    g_assert_cmpint(enter(1, &a), ==, LAYOUT_GENERATION);
    fastload_bump(load, ZONE);
    copy_config();
    g_assert_cmpint(leave(2, &a2), ==, LAYOUT_GENERATION);
}

static void
copies_are_sent_recognised_and_renew(void)
{
    for (gsize i = 0; i < G_N_ELEMENTS(kinds); i++) {
        forget_all();
        make_fast(kinds[i].family, kinds[i].proto);
        fastload_config(load)->renew_ns = 0;
        copy_config();
        for (guint32 n = 10; n < 15; n++) {
            FrameSpec a = spec_of(kinds[i].family, kinds[i].proto, 1, 2, n), a2 = routed(a, 2);
            g_assert_cmpint(enter(1, &a), ==, LAYOUT_HIT);
            g_assert_cmpint(leave(2, &a2), ==, LAYOUT_SWALLOWED);
            g_assert_cmpint(leave(2, &a2), ==,
                            kinds[i].proto == 6 ? LAYOUT_SWALLOWED : LAYOUT_UNMATCHED);
        }
    }
}

static void
lookalikes_zones_and_half_flows(void)
{
    forget_all();
    FrameSpec one = spec_of(4, 17, 1, 2, 0), two = one;
    one.dst = "10.9.0.1", two.dst = "10.9.0.2", two.sport = 5;
    enter(1, &one);
    enter(1, &two);
    FrameSpec out = routed(two, 2);
    out.dst = addr4[2];
    g_assert_cmpint(leave(2, &out), ==, LAYOUT_AMBIGUOUS);
    /* One that looks like a copy that is on its way. */
    forget_all();
    make_fast(4, 17);
    fastload_config(load)->renew_ns = 0;
    copy_config();
    one = two = spec_of(4, 17, 1, 2, 77);
    g_assert_cmpint(enter(1, &one), ==, LAYOUT_HIT);
    two.sport = 4444, two.dst = "10.9.0.1";
    g_assert_cmpint(enter(1, &two), ==, LAYOUT_BUSY);
    forget_all();
    FrameSpec a = spec_of(4, 6, 1, 3, 9), a2 = routed(a, 3);
    enter(1, &a);
    g_assert_cmpint(leave(3, &a2), ==, LAYOUT_UNMATCHED);
    a = spec_of(4, 6, 1, 2, 1), a2 = routed(a, 2);
    enter(1, &a);
    g_assert_cmpint(leave(2, &a2), ==, LAYOUT_LEARNED);
    a = spec_of(4, 6, 1, 2, 2);
    g_assert_cmpint(enter(1, &a), ==, LAYOUT_HALF);
}

static void
every_truncation_agrees(void)
{
    for (gsize i = 0; i < G_N_ELEMENTS(kinds); i++) {
        forget_all();
        make_fast(kinds[i].family, kinds[i].proto);
        FrameSpec a = spec_of(kinds[i].family, kinds[i].proto, 1, 2, 9);
        /* Test runs refuse frames without a whole IP header. */
        for (gsize cut = 14 + (kinds[i].family == 4 ? 20 : 40); cut < frame_build(frame, &a);
             cut++) {
            frame_build(frame, &a);
            size = cut;
            g_assert_cmpint(enter_frame(1), !=, LAYOUT_HIT);
        }
    }
}

static void
random_frames_agree(void)
{
    forget_all();
    make_fast(4, 6);
    make_fast(6, 17);
    for (guint round = 0; round < 20000; round++) {
        gsize kind = round % G_N_ELEMENTS(kinds);
        guint from = 1 + round % 2;
        FrameSpec spec = spec_of(kinds[kind].family, kinds[kind].proto, from, 3 - from, round);
        size = frame_build(frame, &spec);
        for (guint i = 0; i < (round / 8) % 4; i++) {
            frame[g_test_rand_int_range(0, (gint32) size)] ^= (guint8) g_test_rand_int();
        }
        if (round % 3 == 0) {
            size = (gsize) g_test_rand_int_range(54, (gint32) size + 1);
        }
        if (round % 4 < 2) {
            enter_frame(from);
        } else {
            leave_frame(3 - from);
        }
    }
}

int
main(int argc, char **argv)
{
    int status = engines_begin(argc, argv);
    if (status != 0) {
        return status;
    }
#define CLAIM(name) g_test_add_func("/fastpath/" #name, name)
    CLAIM(each_kind_becomes_fast_and_leaves_as_the_slow_path_sent_it);
    CLAIM(nat_of_each_kind_is_learned_and_done_byte_for_byte);
    CLAIM(each_reason_to_be_slow);
    CLAIM(strangers);
    CLAIM(full_tables_learn_nothing);
    CLAIM(frames_that_are_no_plain_ip_are_slow);
    CLAIM(time_generation_and_switches);
    CLAIM(copies_are_sent_recognised_and_renew);
    CLAIM(lookalikes_zones_and_half_flows);
    CLAIM(every_truncation_agrees);
    CLAIM(random_frames_agree);
    return engines_end(g_test_run());
}
