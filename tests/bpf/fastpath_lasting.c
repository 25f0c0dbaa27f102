/* What outlasts a packet: permits, which end with their flow, and what another life of the daemon finds. */
#include "tests/bpf/both_engines.h"

#include "dataplane/slow/fastprobe.h"

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
        const FlowSeen *flow = &g_array_index(flows, FlowSeen, i);
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

/* ---- the loader ---- */

static void
another_daemon_adopts_flows_and_ports(void)
{
    forget_all();
    make_fast(4, 6);
    g_autoptr(GError) error = NULL;
    fastload_close(g_steal_pointer(&load));
    load = fastload_open(pin_dir, 1024, &error);
    g_assert_no_error(error);
    g_autoptr(GArray) ports = fastload_ports(load);
    g_assert_cmpuint(ports->len, ==, 3);
    copy_config();
    FrameSpec a = spec_of(4, 6, 1, 2, 50);
    g_assert_cmpint(enter(1, &a), ==, LAYOUT_HIT);
    g_autoptr(GArray) flows = fastage_flows(load);
    g_assert_cmpuint(flows->len, ==, 2);
    g_assert_cmpint(g_array_index(flows, FlowSeen, 0).state, ==, FLOWSHOW_FAST);
}

/* What is attached at ingress of the interface; false without a pinned link (kernels without tcx). */
static bool
link_at(guint32 ifindex, struct bpf_link_info *ret)
{
    g_autofree char *path = g_strdup_printf("%s/fast/ingress_%u", pin_dir, ifindex);
    guint32 length = sizeof *ret;
    int fd = bpf_obj_get(path);
    if (fd < 0) {
        return false;
    }
    g_assert_cmpint(bpf_obj_get_info_by_fd(fd, ret, &length), ==, 0);
    close(fd);
    return true;
}

static guint8 *
run_alone(int program, const FrameSpec *spec, guint8 out[FRAME_MAX])
{
    struct __sk_buff context = {.ifindex = host[1]};
    size = frame_build(frame, spec);
    DECLARE_LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = frame, .data_size_in = (guint32) size,
                        .data_out = out, .data_size_out = FRAME_MAX, .ctx_in = &context,
                        .ctx_size_in = sizeof context, .repeat = 1);
    g_assert_cmpint(bpf_prog_test_run_opts(program, &opts), ==, 0);
    g_assert_cmpint(opts.retval, ==, TC_ACT_REDIRECT);
    return out;
}

static void
another_layout_ends_flows_but_passes_packets_on(void)
{
    g_autoptr(GError) error = NULL;
    struct bpf_link_info before = {0}, between = {0}, after = {0};
    guint8 out[FRAME_MAX];
    forget_all();
    make_fast(4, 6);
    FrameSpec a = spec_of(4, 6, 1, 2, 50);
    int former = dup(fastload_program(load, "haw_in"));
    g_assert_true(memcmp(run_alone(former, &a, out), frame, size) != 0);
    bool tcx = link_at(host[1], &before);
    fastload_config(load)->version = LAYOUT_VERSION + 1;
    fastload_close(g_steal_pointer(&load));
    load = fastload_open(pin_dir, 1024, &error);
    g_assert_no_error(error);
    /* No port is known, yet each has its program, which calls nothing fast any more. */
    g_autoptr(GArray) ports = fastload_ports(load);
    g_assert_cmpuint(ports->len, ==, 0);
    g_assert_true(link_at(host[1], &between) == tcx);
    g_assert_cmpuint(between.id, ==, before.id);
    g_assert_cmpuint(between.prog_id, ==, before.prog_id);
    g_assert_cmpmem(run_alone(former, &a, out), size, frame, size);
    close(former);
    /* Bound again, it has ours: the same link, so it was never without. */
    bind_ports();
    link_at(host[1], &after);
    g_assert_cmpuint(after.id, ==, before.id);
    g_assert_true(!tcx || after.prog_id != before.prog_id);
    forget_all();
    make_fast(4, 6);
}

static void
a_port_of_another_layout_can_be_unbound(void)
{
    g_autoptr(GError) error = NULL;
    struct bpf_link_info info = {0};
    fastload_config(load)->version = LAYOUT_VERSION + 1;
    fastload_close(g_steal_pointer(&load));
    load = fastload_open(pin_dir, 1024, &error);
    g_assert_no_error(error);
    g_assert_true(fastload_port_unset(load, host[1], &error));
    g_assert_false(link_at(host[1], &info));
    bind_ports();
}

/* As a kernel is that has all but one: what fails is said by name. */
static void
what_the_kernel_lacks_is_named(void)
{
    const struct fastprobe_need wants[] = {
        {FASTPROBE_PROGRAMS, BPF_PROG_TYPE_SCHED_CLS, "programs at tc"},
        {FASTPROBE_MAP, BPF_MAP_TYPE_RINGBUF, "ring buffers"},
        {FASTPROBE_HELPER, BPF_FUNC_redirect_peer, "the helper bpf_redirect_peer"},
        {FASTPROBE_HELPER, 9999, "a helper of years to come"},
    };
    const struct fastprobe_need *missing = fastprobe_first(wants, G_N_ELEMENTS(wants));
    g_assert_true(missing == &wants[3]);
    g_assert_null(fastprobe_first(wants, 3));
    g_autofree char *all = fastprobe_why(EINVAL), *rights = fastprobe_why(EPERM);
    g_assert_nonnull(strstr(all, "verifier refuses them;"));
    g_assert_nonnull(strstr(rights, "CAP_BPF"));
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

int
main(int argc, char **argv)
{
    int status = engines_begin(argc, argv);
    if (status != 0) {
        return status;
    }
#define CLAIM(name) g_test_add_func("/fastpath/" #name, name)
    CLAIM(permits_carry_what_flows_are_shown_to_have_carried);
    CLAIM(a_permit_ends_with_its_flow);
    CLAIM(a_permit_ends_when_its_flow_is_rewritten_otherwise);
    CLAIM(a_permit_waits_for_what_went_slow);
    CLAIM(flows_without_room_for_a_permit_are_as_fast);
    CLAIM(another_daemon_adopts_flows_and_ports);
    CLAIM(another_layout_ends_flows_but_passes_packets_on);
    CLAIM(a_port_of_another_layout_can_be_unbound);
    CLAIM(what_the_kernel_lacks_is_named);
    CLAIM(a_port_that_goes_takes_its_flows_along);
    CLAIM(stale_flows_are_removed_in_batches);
    return engines_end(g_test_run());
}
