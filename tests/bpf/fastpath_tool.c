/* fastpath_tool: the fast path by hand, for tests and benches. Each call adopts what the one before left.
 *   fastpath_tool DIR set HOST SLOW|- veth|tap ZONE MTU MAC ADDRESS…   binds a port (interface names)
 *   fastpath_tool DIR unset HOST | bump ZONE | on | off | age | clear
 *   fastpath_tool DIR networks VNI ZONE …   between hosts: which networks are of which zone
 *   fastpath_tool DIR uplink NAME OURS|- MTU   and by which interface; OURS is our end of its pair
 *   fastpath_tool DIR steer NAME FAR END|VNI …  Geneve to these ends (addresses), of these networks,
 *                                           goes from NAME into the pair, at FAR
 *   fastpath_tool DIR stats                 "reason count" lines
 *   fastpath_tool DIR flows                 "state proto src:port>dst:port packets bytes" lines
 *   fastpath_tool DIR shell                 verbs by lines of its input; after what one prints comes "= STATUS"
 *   fastpath_tool DIR cost FLOWS            nanoseconds a packet of both programs, by test run: 'empty' is one that
 *                                           does nothing, 'own' less that; 'any': each packet of another flow;
 *                                           'memory' is reading one line of that table */
#include "base/error.h"
#include "dataplane/slow/fastage.h"
#include "dataplane/slow/fastattach.h"
#include "dataplane/slow/fastfar.h"
#include "dataplane/slow/fastload.h"
#include "dataplane/slow/fastpins.h"
#include "dataplane/slow/uplink.h"
#include "tests/bpf/cost.skel.h"
#include "tests/bpf/frames.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>

/* Short batches, of which the best counts: what else runs on the machine lengthens the others. What reads much
 * memory needs longer ones, and first a turn in which all flows are met. */
#define COST_BATCH 2000
#define COST_MANY  50000
#define COST_WARM  1000000
#define COST_RUNS  4000000

static bool
set(FastLoad *load, char **args, int count, GError **error)
{
    if (count < 6) {
        return haw_fail(error, HAW_INVALID, "set HOST SLOW|- veth|tap ZONE MTU MAC ADDRESS…");
    }
    FastPort port = {.ifindex = if_nametoindex(args[0]),
                     .slow = strcmp(args[1], "-") == 0 ? 0 : if_nametoindex(args[1]),
                     .peer = strcmp(args[2], "veth") == 0,
                     .on = true,
                     .zone = (guint16) atoi(args[3]),
                     .mtu = (guint16) atoi(args[4])};
    unsigned mac[6];
    if (sscanf(args[5], "%x:%x:%x:%x:%x:%x", &mac[0], &mac[1], &mac[2], &mac[3], &mac[4],
               &mac[5]) != 6) {
        return haw_fail(error, HAW_INVALID, "'%s' is no MAC", args[5]);
    }
    for (int i = 0; i < 6; i++) {
        port.mac[i] = (guint8) mac[i];
    }
    for (int i = 6; i < count; i++) {
        if (port.addr4_count < LAYOUT_ADDRS &&
            inet_pton(AF_INET, args[i], &port.addr4[port.addr4_count]) == 1) {
            port.addr4_count++;
        } else if (port.addr6_count < LAYOUT_ADDRS &&
                   inet_pton(AF_INET6, args[i], port.addr6[port.addr6_count]) == 1) {
            port.addr6_count++;
        } else {
            return haw_fail(error, HAW_INVALID, "'%s' is no address, or one too many", args[i]);
        }
    }
    return fastload_port_set(load, &port, error);
}

/* ---- between hosts ---- */

static bool
networks(FastLoad *load, char **args, int count, GError **error)
{
    FarNetwork list[16];
    gsize known = 0;
    for (int i = 0; i + 1 < count && known < G_N_ELEMENTS(list); i += 2) {
        list[known++] = (FarNetwork){(guint32) atoi(args[i]), (guint16) atoi(args[i + 1])};
    }
    return fastfar_set_networks(load, list, known, error);
}

static bool
uplink(FastLoad *load, char **args, int count, GError **error)
{
    guint32 ifindex = count == 3 ? if_nametoindex(args[0]) : 0;
    if (ifindex == 0) {
        return haw_fail(error, HAW_INVALID, "uplink NAME OURS|- MTU");
    }
    return fastfar_set_uplink(load, ifindex, if_nametoindex(args[1]), (guint) atoi(args[2]), error);
}

static bool
steer(char **args, int count, GError **error)
{
    Uplink *link = count > 2 ? uplink_open(args[0], error) : NULL;
    bool ok = link != NULL && uplink_steer(link, if_nametoindex(args[1]), error);
    for (int i = 2; ok && i < count; i++) {
        if (strchr(args[i], '.') != NULL) {
            ok = uplink_add_end(link, args[i], error);
        } else {
            ok = uplink_want(link, (guint32) atoi(args[i]), UPLINK_ANY_PORT,
                             UPLINK_WANT_PORT | UPLINK_STEER, error);
        }
    }
    uplink_leave(link);
    return ok;
}

/* By the pin alone: suites ask very often, and loading the programs takes a busy machine a second. */
static int
stats(const char *bpf_dir)
{
    g_autofree char *pin = g_build_filename(bpf_dir, "fast", "haw_count", NULL);
    int map = bpf_obj_get(pin), cores = libbpf_num_possible_cpus();
    g_autofree guint64 *each = g_new0(guint64, MAX(cores, 1));
    for (guint32 reason = 0; reason < LAYOUT_REASON_COUNT; reason++) {
        guint64 sum = 0;
        if (bpf_map_lookup_elem(map, &reason, each) < 0) {
            fprintf(stderr, "fastpath_tool: %s: %s\n", pin, strerror(errno));
            return 1;
        }
        for (int core = 0; core < cores; core++) {
            sum += each[core];
        }
        printf("%s %" G_GUINT64_FORMAT "\n", flowshow_reason_text(reason), sum);
    }
    return 0;
}

static void
flows(FastLoad *load)
{
    g_autoptr(GArray) all = fastage_flows(load);
    for (guint i = 0; i < all->len; i++) {
        const FlowSeen *one = &g_array_index(all, FlowSeen, i);
        int family = one->key.family == 4 ? AF_INET : AF_INET6;
        char src[INET6_ADDRSTRLEN], dst[INET6_ADDRSTRLEN];
        inet_ntop(family, one->key.src, src, sizeof src);
        inet_ntop(family, one->key.dst, dst, sizeof dst);
        printf("%s %u %s:%u>%s:%u %llu %llu\n", flowshow_state_text(one->state), one->key.proto,
               src, ntohs(one->key.sport), dst, ntohs(one->key.dport),
               (unsigned long long) one->flow.packets, (unsigned long long) one->flow.bytes);
    }
}

/* ---- cost ---- */

static const guint8 cost_mac[6] = {2, 0, 0, 0, 0, 1}, cost_gate[6] = {2, 0, 0, 0, 0, 2};

static guint32
run_cost(int program, const FrameSpec *spec, guint32 batch)
{
    guint32 best = G_MAXUINT32;
    struct __sk_buff context = {.ifindex = if_nametoindex("lo")};
    guint8 frame[FRAME_MAX], out[FRAME_MAX];
    DECLARE_LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = frame, .data_out = out,
                        .ctx_in = &context, .ctx_size_in = sizeof context, .repeat = (int) batch);
    opts.data_size_in = (guint32) frame_build(frame, spec);
    for (guint32 runs = 0; runs < COST_RUNS; runs += batch) {
        opts.data_size_out = sizeof out;
        if (bpf_prog_test_run_opts(program, &opts) != 0) {
            return 0;
        }
        best = MIN(best, opts.duration);
    }
    return best;
}

static guint32
verified(FastLoad *load, const char *program)
{
    struct bpf_prog_info info = {0};
    guint32 size = sizeof info;
    return bpf_obj_get_info_by_fd(fastload_program(load, program), &info, &size) == 0
               ? info.xlated_prog_len / 8
               : 0;
}

/* Flows whose rewrite changes nothing, so that the same frame hits again and again. */
static void
put_flows(FastLoad *load, guint32 count, guint16 nic)
{
    struct layout_flow flow = {.proven_ns = fastload_now_ns(load),
                               .generation = fastload_config(load)->generation[1],
                               .flags = LAYOUT_FLOW_FAST,
                               .out = {.family = 4, .nic = nic}};
    memcpy(flow.gate_mac, cost_gate, 6);
    memcpy(flow.dst_mac, cost_gate, 6);
    memcpy(flow.src_mac, cost_mac, 6);
    for (guint32 i = 0; i < count; i++) {
        struct layout_key4 key = {.proto = 6, .nic = nic, .sport = htons(4000)};
        inet_pton(AF_INET, "10.1.0.2", &key.src);
        inet_pton(AF_INET, "10.2.0.2", &key.dst);
        key.dst = htonl(ntohl(key.dst) + (i & 0xffff));
        key.dport = htons((guint16) (80 + (i >> 16)));
        bpf_map_update_elem(fastload_map(load, "haw_flow4"), &key, &flow, BPF_ANY);
    }
}

/* cost.bpf.c over the maps of 'load'; caller destroys. */
static struct cost *
cost_load(FastLoad *load, guint32 flows)
{
    struct cost *cost = cost__open();
    struct bpf_map *map;
    guint32 permits;
    fastload_permits(load, &permits);
    cost->rodata->cost_flows = flows;
    cost->rodata->permit_count = permits;
    bpf_object__for_each_map(map, cost->obj)
    {
        int fd = fastload_map(load, bpf_map__name(map));
        if (fd >= 0) {
            bpf_map__reuse_fd(map, fd);
        }
    }
    return cost__load(cost) == 0 ? cost : NULL;
}

/* What reading one permit anywhere costs this machine, when nothing else is known of it. */
static double
memory_ns(FastLoad *load)
{
    guint32 count, next = 1;
    const struct layout_permit *permits = fastload_permits(load, &count);
    gint64 began = 0;
    for (guint i = 0; i < 2 * COST_WARM;
         i++) { /* the first half meets pages that are not there yet */
        began = i == COST_WARM ? g_get_monotonic_time() : began;
        next = next * 1664525 + 1013904223 + (permits[(next >> 8) % count].seq & 1);
    }
    __asm__ volatile("" : : "r"(next)); /* else nobody needs what is read, and nothing is */
    return (double) (g_get_monotonic_time() - began) * 1000 / COST_WARM;
}

/* Each packet of another flow, then the same one again and again. */
static void
cost_hits(FastLoad *load, guint32 flows, const FrameSpec *hit)
{
    struct cost *cost = cost_load(load, flows);
    if (cost == NULL) {
        return;
    }
    int each = bpf_program__fd(cost->progs.cost_hit);
    run_cost(each, hit, COST_WARM);
    guint32 none = run_cost(bpf_program__fd(cost->progs.cost_none), hit, COST_BATCH);
    guint32 picked = run_cost(bpf_program__fd(cost->progs.cost_pick), hit, COST_MANY);
    guint32 same = run_cost(fastload_program(load, "haw_in"), hit, COST_BATCH);
    printf("empty %u ns\nhit %u ns\nhit-own %u ns\nhit-any-own %u ns\n", none, same, same - none,
           run_cost(each, hit, COST_MANY) - picked);
    printf("memory %.0f ns\n", memory_ns(load));
    cost__destroy(cost);
}

static bool
cost(FastLoad *load, guint32 count, GError **error)
{
    FastPort port = {
        .ifindex = if_nametoindex("lo"), .on = true, .zone = 1, .mtu = 1500, .addr4_count = 1};
    memcpy(port.mac, cost_mac, 6);
    inet_pton(AF_INET, "10.1.0.2", &port.addr4[0]);
    if (!fastload_port_set(load, &port, error)) {
        return false;
    }
    guint nic = 0;
    struct layout_nic found;
    fastload_port_find(load, port.ifindex, false, &found, &nic);
    fastload_config(load)->expire_ns = fastload_config(load)->renew_ns =
        600 * G_GUINT64_CONSTANT(1000000000);
    put_flows(load, count, (guint16) nic);
    FrameSpec hit = {.family = 4,
                     .proto = 6,
                     .src = "10.1.0.2",
                     .dst = "10.2.0.2",
                     .sport = 4000,
                     .dport = 80,
                     .smac = cost_mac,
                     .dmac = cost_gate,
                     .payload = "payload"};
    FrameSpec miss = hit, syn = hit, spoof = hit, udp = hit;
    miss.dport = 9, syn.flags = 2, spoof.src = "10.1.0.3", udp.proto = 17, udp.dport = 9;
    const struct {
        const char *name, *program;
        const FrameSpec *spec;
    } runs[] = {{"miss", "haw_in", &miss},
                {"miss-udp", "haw_in", &udp},
                {"syn", "haw_in", &syn},
                {"spoof", "haw_in", &spoof},
                {"out-unmatched", "haw_out", &miss}};
    cost_hits(load, count, &hit);
    for (gsize i = 0; i < G_N_ELEMENTS(runs); i++) {
        printf("%s %u ns\n", runs[i].name,
               run_cost(fastload_program(load, runs[i].program), runs[i].spec, COST_BATCH));
    }
    printf("haw_in %u instructions\nhaw_out %u instructions\n", verified(load, "haw_in"),
           verified(load, "haw_out"));
    return fastload_port_unset(load, port.ifindex, error);
}

static bool
run(FastLoad *load, char **args, int count, GError **error)
{
    const char *verb = args[0], *what = count > 1 ? args[1] : "";
    if (strcmp(verb, "set") == 0) {
        return set(load, args + 1, count - 1, error);
    } else if (strcmp(verb, "unset") == 0) {
        return fastload_port_unset(load, if_nametoindex(what), error);
    } else if (strcmp(verb, "networks") == 0) {
        return networks(load, args + 1, count - 1, error);
    } else if (strcmp(verb, "uplink") == 0) {
        return uplink(load, args + 1, count - 1, error);
    } else if (strcmp(verb, "steer") == 0) {
        return steer(args + 1, count - 1, error);
    } else if (strcmp(verb, "bump") == 0) {
        fastload_bump(load, (guint) atoi(what));
    } else if (strcmp(verb, "on") == 0 || strcmp(verb, "off") == 0) {
        fastload_hold(load, FASTLOAD_OFF_ASKED, strcmp(verb, "off") == 0);
    } else if (strcmp(verb, "age") == 0) {
        guint left, removed = fastage_run(load, &left);
        printf("removed %u, left %u\n", removed, left);
    } else if (strcmp(verb, "flows") == 0) {
        flows(load);
    } else if (strcmp(verb, "cost") == 0) {
        return cost(load, (guint32) atoi(what), error);
    } else {
        return haw_fail(error, HAW_INVALID, "There is no verb '%s'", verb);
    }
    return true;
}

/* Loading the programs takes the verifier most of a second: suites that ask often do it once. */
static int
shell(FastLoad *load)
{
    g_autofree char *line = NULL;
    size_t room = 0;
    ssize_t size;
    puts("= 0");
    fflush(stdout);
    while ((size = getline(&line, &room, stdin)) > 0) {
        g_autoptr(GError) error = NULL;
        g_auto(GStrv) words = g_strsplit(g_strchomp(line), " ", -1);
        bool done = run(load, words, (int) g_strv_length(words), &error);
        printf("%s%s= %d\n", done ? "" : error->message, done ? "" : "\n", done ? 0 : 1);
        fflush(stdout);
    }
    return 0;
}

int
main(int argc, char **argv)
{
    g_autoptr(GError) error = NULL;
    if (argc < 3) {
        fprintf(stderr, "usage: fastpath_tool DIR VERB …\n");
        return 2;
    }
    if (strcmp(argv[2], "clear") == 0) {
        return fastpins_remove(argv[1], NULL) ? 0 : 1;
    }
    if (strcmp(argv[2], "stats") == 0) {
        return stats(argv[1]);
    }
    if (g_getenv("FASTPATH_CLSACT") != NULL) {
        fastattach_without_tcx();
    }
    bool large = strcmp(argv[2], "cost") == 0 && argc > 3 && atoi(argv[3]) > 60000;
    const char *flows_asked = g_getenv("FASTPATH_FLOWS");
    guint room = flows_asked != NULL ? (guint) atoi(flows_asked) : large ? 1100000 : 65536;
    g_autoptr(FastLoad) load = fastload_open(argv[1], room, &error);
    if (load != NULL && strcmp(argv[2], "shell") == 0) {
        return shell(load);
    }
    if (load == NULL || !run(load, argv + 2, argc - 2, &error)) {
        fprintf(stderr, "fastpath_tool: %s\n", error->message);
        return 1;
    }
    return 0;
}
