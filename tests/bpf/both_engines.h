/* both_engines.h: the same frames through the kernel's programs (by test run) and through the engine over memory, frame by
 * frame and as DPDK calls it, in bursts: equal verdicts, reasons, bytes. Ports 1 (A) and 2 (B) are in zone 5, port 3 (C) in zone 6.
 * Root only: makes network and mount namespaces of its own, whose interfaces exist for their indexes. Included once a
 * suite, which calls engines_begin() and engines_end(). */
#pragma once
#include "dataplane/fast/engine.h"
#include "dataplane/fast/permit.h"
#include "dataplane/slow/fastage.h"
#include "dataplane/slow/fastload.h"
#include "dataplane/slow/fastpins.h"
#include "tests/bpf/frames.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <linux/pkt_cls.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#define ZONE 5

static const guint8 macs[4][6] = {
    {0}, {2, 0, 0, 0, 0, 0xa}, {2, 0, 0, 0, 0, 0xb}, {2, 0, 0, 0, 0, 0xc}};
static const guint8 gates[4][6] = {
    {0}, {2, 0, 0, 0, 1, 0xa}, {2, 0, 0, 0, 1, 0xb}, {2, 0, 0, 0, 1, 0xc}};
static const char *const addr4[4] = {NULL, "10.1.0.2", "10.2.0.2", "10.3.0.2"};
static const char *const addr6[4] = {NULL, "fd01::2", "fd02::2", "fd03::2"};

static FastLoad *load;
static const char *pin_dir;
static struct engine engine, native; /* frame by frame; in bursts */
static guint8 copy[FRAME_MAX];

static inline void *
copy_room(void *user, __u32 index, __u32 wanted)
{
    return copy;
}

static struct engine_seat seat = {.copy_room = copy_room};
static guint32 host[4], slow[4];
static guint16 nic_of[4];
static guint8 frame[FRAME_MAX];
static gsize size;
static enum layout_reason reason; /* of the last frame, which both agreed on */

/* ---- both worlds ---- */

static inline void
make_links(void)
{
    /* The kernel's own multicast would move the counters, too. */
    g_assert_cmpint(
        system("for f in all default; do echo 1 >/proc/sys/net/ipv6/conf/$f/disable_ipv6; done"),
        ==, 0);
    for (guint i = 1; i < 4; i++) {
        char command[256];
        snprintf(
            command, sizeof command,
            "ip link add h%u type veth peer name i%u && ip link add s%u type veth peer name o%u"
            " && ip link set s%u up && ip link set o%u up",
            i, i, i, i, i, i);
        g_assert_cmpint(system(command), ==, 0);
        char name[8];
        snprintf(name, sizeof name, "h%u", i);
        host[i] = if_nametoindex(name);
        snprintf(name, sizeof name, "s%u", i);
        slow[i] = if_nametoindex(name);
    }
}

static inline void
bind_ports(void)
{
    g_autoptr(GError) error = NULL;
    for (guint i = 1; i < 4; i++) {
        FastPort port = {.ifindex = host[i],
                         .slow = slow[i],
                         .peer = true,
                         .on = true,
                         .zone = i == 3 ? 6 : ZONE,
                         .mtu = 1500,
                         .addr4_count = 1,
                         .addr6_count = 1};
        memcpy(port.mac, macs[i], 6);
        inet_pton(AF_INET, addr4[i], &port.addr4[0]);
        inet_pton(AF_INET6, addr6[i], port.addr6[0]);
        g_assert_true(fastload_port_set(load, &port, &error));
        g_assert_no_error(error);
    }
    for (guint32 id = 0; id < LAYOUT_NICS; id++) {
        struct layout_nic *nic = &engine.nics[id];
        g_assert_cmpint(bpf_map_lookup_elem(fastload_map(load, "haw_nics"), &id, nic), ==, 0);
        for (guint i = 1; i < 4; i++) {
            nic_of[i] = nic->ifindex == host[i] ? (guint16) id : nic_of[i];
        }
    }
}

/* The engine's configuration is the programs'. */
static inline void
copy_config(void)
{
    memcpy(&engine.config, (const void *) fastload_config(load), sizeof engine.config);
    native.config = engine.config;
}

static inline void
forget_all(void)
{
    volatile struct layout_config *config = fastload_config(load);
    config->expire_ns = 60 * G_GUINT64_CONSTANT(1000000000);
    config->renew_ns = 30 * G_GUINT64_CONSTANT(1000000000);
    config->retry_ns = 0;
    config->pend_ns = 50 * G_GUINT64_CONSTANT(1000000000);
    config->off = 0;
    fastload_bump_all(load);
    fastage_run(load, NULL);
    struct {
        guint64 lock;
        struct layout_pend pend;
    } empty = {0};
    for (guint32 i = 0; i < 2 * LAYOUT_PENDING; i++) {
        if (engine.pend[i].flags != 0) {
            bpf_map_update_elem(fastload_map(load, "haw_pend"), &i, &empty, BPF_ANY);
        }
    }
    memset(engine.pend, 0, sizeof(struct layout_pend) * 2 * LAYOUT_PENDING);
    memset(native.pend, 0, sizeof(struct layout_pend) * 2 * LAYOUT_PENDING);
    flowtable_clear(&engine.table);
    flowtable_clear(&native.table);
    copy_config();
}

/* Runs a program on the frame at interface 'ifindex'; its verdict, and the bytes back into 'out'. */
static inline int
kernel_run(const char *program, guint32 ifindex, const guint8 *in, guint8 *out, gsize *out_size)
{
    struct __sk_buff context = {.ifindex = ifindex};
    DECLARE_LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = in, .data_size_in = (guint32) size,
                        .data_out = out, .data_size_out = FRAME_MAX, .ctx_in = &context,
                        .ctx_size_in = sizeof context, .repeat = 1);
    g_assert_cmpint(bpf_prog_test_run_opts(fastload_program(load, program), &opts), ==, 0);
    *out_size = opts.data_size_out;
    return (int) opts.retval;
}

static inline enum layout_reason
kernel_reason(const guint64 *before)
{
    guint64 after[LAYOUT_REASON_COUNT];
    int found = -1;
    g_assert_true(fastage_counters(load, after, NULL));
    for (int i = 0; i < LAYOUT_REASON_COUNT; i++) {
        if (after[i] != before[i]) {
            g_assert_cmpint(found, ==, -1); /* one reason a frame */
            found = i;
        }
    }
    g_assert_cmpint(found, >=, 0);
    return (enum layout_reason) found;
}

/* The same in DPDK's way, by bursts: equal verdict, equal bytes, equal copy. */
static inline void
natively_enter(guint i, guint64 now, const guint8 *was, const struct engine_verdict *want)
{
    guint8 bytes[FRAME_MAX];
    struct engine_frame one = {bytes, (guint32) size};
    struct engine_verdict also;
    memcpy(bytes, was, size);
    engine_enter_burst(&native, &seat, now, nic_of[i], &one, 1, &also);
    g_assert_cmpmem(&also, sizeof also, want, sizeof *want);
    g_assert_cmpmem(bytes, size, frame, size);
    if (want->probe) {
        g_assert_cmpmem(copy, size, was, size);
    }
}

/* 'frame' enters at port 'i', through all. */
static inline enum layout_reason
enter_frame(guint i)
{
    guint8 out[FRAME_MAX], was[FRAME_MAX];
    gsize out_size;
    guint64 before[LAYOUT_REASON_COUNT];
    memcpy(was, frame, size);
    fastage_counters(load, before, NULL);
    int verdict = kernel_run("haw_in", host[i], frame, out, &out_size);
    reason = kernel_reason(before);
    guint64 now = fastload_now_ns(load);
    struct engine_verdict want =
        engine_enter(&engine, now, nic_of[i], frame, (guint32) size, 0, NULL);
    natively_enter(i, now, was, &want);
    g_assert_cmpstr(flowshow_reason_text(reason), ==, flowshow_reason_text(want.reason));
    g_assert_cmpint(verdict, ==, TC_ACT_REDIRECT);
    g_assert_cmpmem(out, out_size, frame, size);
    if (want.way == ENGINE_SLOW) {
        g_assert_cmpmem(out, out_size, was, size);
    }
    return reason;
}

static inline enum layout_reason
enter(guint i, const FrameSpec *spec)
{
    size = frame_build(frame, spec);
    return enter_frame(i);
}

static inline enum layout_reason
leave_frame(guint i)
{
    guint8 out[FRAME_MAX];
    gsize out_size;
    guint64 before[LAYOUT_REASON_COUNT];
    fastage_counters(load, before, NULL);
    int verdict = kernel_run("haw_out", slow[i], frame, out, &out_size);
    reason = kernel_reason(before);
    guint64 now = fastload_now_ns(load);
    struct engine_verdict want = engine_leave(&engine, NULL, now, nic_of[i], frame, (guint32) size);
    struct engine_verdict also =
        engine_leave(&native, &seat, now, nic_of[i], frame, (guint32) size);
    g_assert_cmpmem(&also, sizeof also, &want, sizeof want);
    g_assert_cmpstr(flowshow_reason_text(reason), ==, flowshow_reason_text(want.reason));
    g_assert_cmpint(verdict, ==, want.way == ENGINE_SWALLOW ? TC_ACT_SHOT : TC_ACT_REDIRECT);
    g_assert_cmpmem(out, out_size, frame, size);
    return reason;
}

static inline enum layout_reason
leave(guint i, const FrameSpec *spec)
{
    size = frame_build(frame, spec);
    return leave_frame(i);
}

/* ---- frames ---- */

static inline FrameSpec
spec_of(int family, guint8 proto, guint from, guint to, guint32 number)
{
    FrameSpec spec = {.family = family,
                      .proto = proto,
                      .src = family == 4 ? addr4[from] : addr6[from],
                      .dst = family == 4 ? addr4[to] : addr6[to],
                      .sport = 4000,
                      .dport = 4000,
                      .smac = macs[from],
                      .dmac = gates[from],
                      .id = (guint16) number,
                      .seq = number * 1000,
                      .ack = 7,
                      .payload = "some bytes here"};
    if (proto == 1 || proto == 58) {
        spec.icmp_type = proto == 1 ? (from < to ? 8 : 0) : (from < to ? 128 : 129);
        spec.dport = (guint16) number;
    }
    return spec;
}

static inline FrameSpec
routed(FrameSpec spec, guint to)
{
    spec.smac = gates[to];
    spec.dmac = macs[to];
    spec.ttl = (guint8) ((spec.ttl ? spec.ttl : 64) - 2);
    return spec;
}

static inline void
make_fast(int family, guint8 proto)
{
    FrameSpec a = spec_of(family, proto, 1, 2, 1), b = spec_of(family, proto, 2, 1, 2);
    FrameSpec a2 = routed(a, 2), b2 = routed(b, 1);
    g_assert_cmpint(enter(1, &a), ==, LAYOUT_UNKNOWN);
    g_assert_cmpint(leave(2, &a2), ==, LAYOUT_LEARNED);
    g_assert_cmpint(enter(2, &b), ==, LAYOUT_UNKNOWN);
    g_assert_cmpint(leave(1, &b2), ==, LAYOUT_PAIRED);
}

static const struct {
    int family;
    guint8 proto;
} kinds[] = {{4, 6}, {4, 17}, {4, 1}, {6, 6}, {6, 17}, {6, 58}};

/* ---- begin and end ---- */

static inline int
skip(const char *why)
{
    printf("1..0 # SKIP %s\n", why);
    return 77;
}

static inline void
make_tables(struct engine *of)
{
    enum { FLOWS = 3500 };
    void *memory = aligned_alloc(FLOWTABLE_LINE, flowtable_bytes(FLOWS));
    memset(memory, 0, flowtable_bytes(FLOWS));
    flowtable_init(&of->table, memory, FLOWS, flowtable_test_seed);
}

/* The programs, and ports for them; 0, or how the suite ends without them. */
static inline int
engines_begin(int argc, char **argv)
{
    static const char pins[] = "/run/pins"; /* of our own: gone with us, however we end */
    g_autoptr(GError) error = NULL;
    g_test_init(&argc, &argv, NULL);
    if (geteuid() != 0) {
        return skip("needs root");
    }
    if (unshare(CLONE_NEWNET | CLONE_NEWNS) < 0 ||
        mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
        mount("none", "/run", "tmpfs", 0, NULL) < 0 || mkdir(pins, 0700) < 0) {
        return skip("needs namespaces of its own");
    }
    load = fastload_open(pins, 1024, &error);
    if (load == NULL) {
        return skip(error->message);
    }
    pin_dir = pins;
    engine.nics = g_new0(struct layout_nic, LAYOUT_NICS);
    engine.pend = g_new0(struct layout_pend, 2 * LAYOUT_PENDING);
    make_tables(&engine);
    native.nics = engine.nics;
    native.pend = g_new0(struct layout_pend, 2 * LAYOUT_PENDING);
    make_tables(&native);
    make_links();
    bind_ports();
    return 0;
}

static inline int
engines_end(int status)
{
    fastload_close(g_steal_pointer(&load));
    fastpins_remove(pin_dir, NULL);
    return status;
}
