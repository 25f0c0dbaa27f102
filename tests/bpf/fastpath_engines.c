/* The same frames through the kernel's programs (by test run) and through the engine over memory, frame by
 * frame and as DPDK calls it, in bursts: equal verdicts, reasons, bytes. Ports 1 (A) and 2 (B) are in zone 5, port 3 (C) in zone 6.
 * Root only: makes network and mount namespaces of its own, whose interfaces exist for their indexes. */
#include "dataplane/fast/engine.h"
#include "dataplane/fast/permit.h"
#include "dataplane/slow/fastage.h"
#include "dataplane/slow/fastload.h"
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
#include <unistd.h>

#define ZONE 5

static const guint8 macs[4][6] = {
    {0}, {2, 0, 0, 0, 0, 0xa}, {2, 0, 0, 0, 0, 0xb}, {2, 0, 0, 0, 0, 0xc}};
static const guint8 gates[4][6] = {
    {0}, {2, 0, 0, 0, 1, 0xa}, {2, 0, 0, 0, 1, 0xb}, {2, 0, 0, 0, 1, 0xc}};
static const char *const addr4[4] = {NULL, "10.1.0.2", "10.2.0.2", "10.3.0.2"};
static const char *const addr6[4] = {NULL, "fd01::2", "fd02::2", "fd03::2"};

static FastLoad *load;
static struct engine engine, native; /* frame by frame; in bursts */
static guint8 copy[FRAME_MAX];

static void *
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

static void
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

static void
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
static void
copy_config(void)
{
    memcpy(&engine.config, (const void *) fastload_config(load), sizeof engine.config);
    native.config = engine.config;
}

static void
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
static int
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

static enum layout_reason
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
static void
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
static enum layout_reason
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
    g_assert_cmpstr(fastage_reason_text(reason), ==, fastage_reason_text(want.reason));
    g_assert_cmpint(verdict, ==, TC_ACT_REDIRECT);
    g_assert_cmpmem(out, out_size, frame, size);
    if (want.way == ENGINE_SLOW) {
        g_assert_cmpmem(out, out_size, was, size);
    }
    return reason;
}

static enum layout_reason
enter(guint i, const FrameSpec *spec)
{
    size = frame_build(frame, spec);
    return enter_frame(i);
}

static enum layout_reason
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
    g_assert_cmpstr(fastage_reason_text(reason), ==, fastage_reason_text(want.reason));
    g_assert_cmpint(verdict, ==, want.way == ENGINE_SWALLOW ? TC_ACT_SHOT : TC_ACT_REDIRECT);
    g_assert_cmpmem(out, out_size, frame, size);
    return reason;
}

static enum layout_reason
leave(guint i, const FrameSpec *spec)
{
    size = frame_build(frame, spec);
    return leave_frame(i);
}

/* ---- frames ---- */

static FrameSpec
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

static FrameSpec
routed(FrameSpec spec, guint to)
{
    spec.smac = gates[to];
    spec.dmac = macs[to];
    spec.ttl = (guint8) ((spec.ttl ? spec.ttl : 64) - 2);
    return spec;
}

static void
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
    a = spec_of(4, 6, 1, 2, 50), a.fragment = 0x2000;
    g_assert_cmpint(enter(1, &a), ==, LAYOUT_FRAGMENT);
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
    a = spec_of(4, 6, 1, 2, 50), a.flags = 0x11;
    g_assert_cmpint(enter(1, &a), ==, LAYOUT_TCP_FLAGS);
    a.flags = 0;
    g_assert_cmpint(enter(1, &a), ==, LAYOUT_UNKNOWN);
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
    leave(2, &later2);
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

/* ---- permits ---- */

static struct layout_permit
permit_of(const struct layout_key4 *key)
{
    guint32 count;
    const struct layout_permit *permits = fastload_permits(load, &count);
    guint32 slot = permit_slot(key, count);
    struct layout_permit none = {0};
    return permit_same(&permits[slot].key, key)       ? permits[slot]
           : permit_same(&permits[slot ^ 1].key, key) ? permits[slot ^ 1]
                                                      : none;
}

static struct layout_key4
key_of(const FrameSpec *spec, guint nic)
{
    struct layout_key4 key = {.sport = htons(spec->sport),
                              .dport = htons(spec->dport),
                              .proto = spec->proto,
                              .nic = nic_of[nic]};
    inet_pton(AF_INET, spec->src, &key.src);
    inet_pton(AF_INET, spec->dst, &key.dst);
    return key;
}

/* Packets and bytes of all flows that enter at port 'nic'. */
static guint64
carried(guint nic, guint64 *ret_bytes)
{
    g_autoptr(GArray) flows = fastage_flows(load);
    guint64 packets = 0;
    *ret_bytes = 0;
    for (guint i = 0; i < flows->len; i++) {
        const FastFlow *flow = &g_array_index(flows, FastFlow, i);
        packets += flow->key.nic == nic_of[nic] ? flow->flow.packets : 0;
        *ret_bytes += flow->key.nic == nic_of[nic] ? flow->flow.bytes : 0;
    }
    return packets;
}

static void
permits_carry_what_flows_are_shown_to_have_carried(void)
{
    const guint8 protos[] = {6, 17};
    for (gsize i = 0; i < G_N_ELEMENTS(protos); i++) {
        guint64 bytes;
        forget_all();
        make_fast(4, protos[i]);
        for (guint32 n = 10; n < 15; n++) {
            FrameSpec a = spec_of(4, protos[i], 1, 2, n);
            g_assert_cmpint(enter(1, &a), ==, LAYOUT_HIT);
        }
        FrameSpec a = spec_of(4, protos[i], 1, 2, 9);
        struct layout_key4 key = key_of(&a, 1);
        g_assert_cmpuint(permit_of(&key).packets, ==, 4); /* the flow itself carried the first */
        g_assert_cmpuint(carried(1, &bytes), ==, 5);
        g_assert_cmpuint(bytes, ==, 5 * size);
        g_assert_cmpuint(carried(2, &bytes), ==, 0);
    }
}

static void
a_permit_ends_with_its_flow(void)
{
    forget_all();
    make_fast(4, 6);
    FrameSpec a = spec_of(4, 6, 1, 2, 10), b = spec_of(4, 6, 2, 1, 10), end = a;
    for (int i = 0; i < 2; i++) {
        g_assert_cmpint(enter(1, &a), ==, LAYOUT_HIT);
        g_assert_cmpint(enter(2, &b), ==, LAYOUT_HIT);
    }
    end.flags = 0x11;
    g_assert_cmpint(enter(1, &end), ==, LAYOUT_TCP_FLAGS);
    struct layout_key4 key = key_of(&a, 1), answers = key_of(&b, 2);
    g_assert_cmpuint(permit_of(&key).generation, ==, 0);
    g_assert_cmpuint(permit_of(&answers).generation, ==, 0);
    g_assert_cmpint(enter(2, &b), ==, LAYOUT_UNKNOWN);
    g_assert_cmpint(enter(1, &a), ==, LAYOUT_UNKNOWN);
}

static void
a_permit_ends_when_its_flow_is_rewritten_otherwise(void)
{
    forget_all();
    make_fast(4, 17);
    FrameSpec a = spec_of(4, 17, 1, 2, 10), slow_one = a, moved;
    g_assert_cmpint(enter(1, &a), ==, LAYOUT_HIT);
    g_assert_cmpint(enter(1, &a), ==, LAYOUT_HIT);
    slow_one.dmac = gates[2], slow_one.id = 99;
    g_assert_cmpint(enter(1, &slow_one), ==, LAYOUT_GATEWAY);
    moved = routed(slow_one, 2), moved.smac = gates[3];
    g_assert_cmpint(leave(2, &moved), ==, LAYOUT_LEARNED);
    g_assert_cmpint(enter(1, &a), !=, LAYOUT_HIT);
}

static void
a_permit_waits_for_what_went_slow(void)
{
    forget_all();
    make_fast(4, 17);
    FrameSpec a = spec_of(4, 17, 1, 2, 10), other = a, other2;
    g_assert_cmpint(enter(1, &a), ==, LAYOUT_HIT);
    g_assert_cmpint(enter(1, &a), ==, LAYOUT_HIT);
    other.dmac = gates[2], other.id = 77;
    g_assert_cmpint(enter(1, &other), ==, LAYOUT_GATEWAY);
    a.id = 11;
    g_assert_cmpint(enter(1, &a), ==, LAYOUT_ORDER); /* M11 */
    FrameSpec a2 = routed(a, 2);
    other2 = routed(other, 2);
    leave(2, &other2);
    leave(2, &a2);
}

/* Ports of three flows whose permits have the same two slots. */
static void
neighbours(guint16 ret_ports[3])
{
    guint32 count, first = 0;
    guint found = 0;
    fastload_permits(load, &count);
    for (guint port = 1; port < 65536 && found < 3; port++) {
        FrameSpec a = spec_of(4, 17, 1, 2, 1);
        a.sport = (guint16) port;
        struct layout_key4 key = key_of(&a, 1);
        guint32 slot = permit_slot(&key, count) | 1;
        if (found == 0 || slot == first) {
            first = slot;
            ret_ports[found++] = (guint16) port;
        }
    }
    g_assert_cmpuint(found, ==, 3);
}

static void
learn_by_port(guint16 port)
{
    FrameSpec a = spec_of(4, 17, 1, 2, port), b = spec_of(4, 17, 2, 1, port);
    a.sport = b.dport = port;
    FrameSpec a2 = routed(a, 2), b2 = routed(b, 1);
    enter(1, &a);
    leave(2, &a2);
    enter(2, &b);
    g_assert_cmpint(leave(1, &b2), ==, LAYOUT_PAIRED);
}

static void
flows_without_room_for_a_permit_are_as_fast(void)
{
    guint16 ports[3];
    guint64 bytes;
    forget_all();
    fastload_config(load)->renew_ns = 3 * G_GUINT64_CONSTANT(1000000000);
    copy_config();
    neighbours(ports);
    for (guint i = 0; i < 3; i++) {
        learn_by_port(ports[i]);
    }
    for (guint32 n = 0; n < 30; n++) {
        FrameSpec a = spec_of(4, 17, 1, 2, n);
        a.sport = ports[n % 3];
        g_assert_cmpint(enter(1, &a), ==, LAYOUT_HIT);
    }
    FrameSpec last = spec_of(4, 17, 1, 2, 1);
    last.sport = ports[2];
    struct layout_key4 key = key_of(&last, 1);
    g_assert_cmpuint(permit_of(&key).packets, ==, 0);
    g_assert_cmpuint(carried(1, &bytes), ==, 30);
    /* Permits that are over change hands: nothing that they carried is forgotten. */
    g_usleep(3200000);
    for (guint32 n = 0; n < 30; n++) {
        FrameSpec a = spec_of(4, 17, 1, 2, 100 + n);
        a.sport = ports[n % 3];
        g_assert_cmpint(enter(1, &a), ==, LAYOUT_HIT);
    }
    g_assert_cmpuint(carried(1, &bytes), ==, 60);
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

/* ---- the loader ---- */

static void
another_daemon_adopts_flows_and_ports(void)
{
    forget_all();
    make_fast(4, 6);
    const char *dir = g_getenv("FASTPATH_PINS");
    g_autoptr(GError) error = NULL;
    fastload_close(g_steal_pointer(&load));
    load = fastload_open(dir, 1024, &error);
    g_assert_no_error(error);
    g_autoptr(GArray) ports = fastload_ports(load);
    g_assert_cmpuint(ports->len, ==, 3);
    copy_config();
    FrameSpec a = spec_of(4, 6, 1, 2, 50);
    g_assert_cmpint(enter(1, &a), ==, LAYOUT_HIT);
    g_autoptr(GArray) flows = fastage_flows(load);
    g_assert_cmpuint(flows->len, ==, 2);
    g_assert_cmpint(g_array_index(flows, FastFlow, 0).state, ==, FASTAGE_FAST);
}

static void
another_layout_starts_anew(void)
{
    const char *dir = g_getenv("FASTPATH_PINS");
    g_autoptr(GError) error = NULL;
    fastload_config(load)->version = LAYOUT_VERSION + 1;
    fastload_close(g_steal_pointer(&load));
    load = fastload_open(dir, 1024, &error);
    g_assert_no_error(error);
    g_autoptr(GArray) ports = fastload_ports(load);
    g_assert_cmpuint(ports->len, ==, 0);
    bind_ports();
    forget_all();
    make_fast(4, 6);
}

static void
a_port_that_goes_takes_its_flows_along(void)
{
    g_autoptr(GError) error = NULL;
    forget_all();
    make_fast(4, 6);
    g_assert_true(fastload_port_unset(load, host[2], &error));
    copy_config();
    FrameSpec a = spec_of(4, 6, 1, 2, 50);
    g_assert_cmpint(enter(1, &a), ==, LAYOUT_GENERATION);
    g_assert_cmpuint(fastage_run(load, NULL), ==, 2);
    bind_ports();
}

static void
stale_flows_are_removed_in_batches(void)
{
    struct layout_key4 key = {.proto = 6};
    struct layout_flow flow = {.generation = 1};
    for (guint32 i = 0; i < 1000; i++) {
        key.src = i;
        g_assert_cmpint(bpf_map_update_elem(fastload_map(load, "haw_flow4"), &key, &flow, BPF_ANY),
                        ==, 0);
    }
    guint left;
    g_assert_cmpuint(fastage_run(load, &left), >=, 1000);
    g_assert_cmpuint(left, ==, 0);
}

static int
skip(const char *why)
{
    printf("1..0 # SKIP %s\n", why);
    return 77;
}

static void
make_tables(struct engine *of)
{
    enum { FLOWS = 3500 };
    void *memory = aligned_alloc(FLOWTABLE_LINE, flowtable_bytes(FLOWS));
    memset(memory, 0, flowtable_bytes(FLOWS));
    flowtable_init(&of->table, memory, FLOWS, flowtable_test_seed);
}

int
main(int argc, char **argv)
{
    char pins[] = "/tmp/hawser-fastpath-XXXXXX";
    g_autoptr(GError) error = NULL;
    g_test_init(&argc, &argv, NULL);
    if (geteuid() != 0) {
        return skip("needs root");
    }
    if (unshare(CLONE_NEWNET | CLONE_NEWNS) < 0 ||
        mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 || mkdtemp(pins) == NULL) {
        return skip("needs namespaces of its own");
    }
    load = fastload_open(pins, 1024, &error);
    if (load == NULL) {
        return skip(error->message);
    }
    g_setenv("FASTPATH_PINS", pins, TRUE);
    engine.nics = g_new0(struct layout_nic, LAYOUT_NICS);
    engine.pend = g_new0(struct layout_pend, 2 * LAYOUT_PENDING);
    make_tables(&engine);
    native.nics = engine.nics;
    native.pend = g_new0(struct layout_pend, 2 * LAYOUT_PENDING);
    make_tables(&native);
    make_links();
    bind_ports();
#define CLAIM(name) g_test_add_func("/fastpath/" #name, name)
    CLAIM(each_kind_becomes_fast_and_leaves_as_the_slow_path_sent_it);
    CLAIM(nat_of_each_kind_is_learned_and_done_byte_for_byte);
    CLAIM(each_reason_to_be_slow);
    CLAIM(frames_that_are_no_plain_ip_are_slow);
    CLAIM(time_generation_and_switches);
    CLAIM(copies_are_sent_recognised_and_renew);
    CLAIM(permits_carry_what_flows_are_shown_to_have_carried);
    CLAIM(a_permit_ends_with_its_flow);
    CLAIM(a_permit_ends_when_its_flow_is_rewritten_otherwise);
    CLAIM(a_permit_waits_for_what_went_slow);
    CLAIM(flows_without_room_for_a_permit_are_as_fast);
    CLAIM(lookalikes_zones_and_half_flows);
    CLAIM(every_truncation_agrees);
    CLAIM(random_frames_agree);
    CLAIM(another_daemon_adopts_flows_and_ports);
    CLAIM(another_layout_starts_anew);
    CLAIM(a_port_that_goes_takes_its_flows_along);
    CLAIM(stale_flows_are_removed_in_batches);
    int status = g_test_run();
    fastload_close(g_steal_pointer(&load));
    fastload_remove(pins, NULL);
    umount2(pins, MNT_DETACH);
    rmdir(pins);
    return status;
}
