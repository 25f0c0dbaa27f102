/* What does a forwarded packet cost on DPDK, by the number of flows? One mode a run:
 *   bench_dpdk pcap FLOWS A.pcap B.pcap            writes what FLOWS/2 connections send in each direction, shuffled
 *   bench_dpdk MODE FLOWS SECONDS A.pcap B.pcap    forwards that between two net_pcap devices (infinite_rx)
 *     bare   MACs and TTL rewritten, nothing looked up
 *     own    hawser-dpd-poll's own round: all flows learned by the state machine before
 *     hash   the same permits, found by rte_hash's bulk lookup
 *     sse2, avx2  as own, without the larger instruction sets
 * Nanoseconds are the forwarding thread's CPU time, so that neighbours on the machine count less. */
#include "dataplane/poll/pollcore.h"
#include "dataplane/fast/rewrite.h"
#include "tests/bpf/frames.h"

#include <rte_cycles.h>
#include <rte_eal.h>
#include <rte_ethdev.h>
#include <rte_hash.h>
#include <rte_hash_crc.h>
#include <rte_mbuf.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>

enum { ROUNDS = 2000, ZONE = 1, FOREVER_S = 1000000 };
#define SEC_NS G_GUINT64_CONSTANT(1000000000)

static const guint8 macs[3][6] = {{0}, {2, 0, 0, 0, 0, 1}, {2, 0, 0, 0, 0, 2}};
static const guint8 gates[3][6] = {{0}, {2, 0, 0, 0, 9, 1}, {2, 0, 0, 0, 9, 2}};

/* What connection 'conn' sends from NIC 'from', as it enters or as OVN lets it out. */
static gsize
conn_frame(guint8 *frame, guint32 conn, guint16 from, bool routed)
{
    guint16 to = 3 - from, port = (guint16) (1024 + conn % 60000),
            other = (guint16) (80 + conn / 60000);
    FrameSpec spec = {.family = 4,
                      .proto = conn % 4 ? 17 : 6,
                      .src = from == 1 ? "10.0.1.2" : "10.0.2.2",
                      .dst = from == 1 ? "10.0.2.2" : "10.0.1.2",
                      .sport = from == 1 ? port : other,
                      .dport = from == 1 ? other : port,
                      .smac = routed ? gates[to] : macs[from],
                      .dmac = routed ? macs[to] : gates[from],
                      .ttl = routed ? 62 : 64,
                      .flags = 0x10,
                      .id = (guint16) conn,
                      .seq = conn,
                      .ack = 1,
                      .payload = conn % 4 ? "eighteen bytes: 60" : "six by"};
    return frame_build(frame, &spec);
}

/* ---- pcap files ---- */

static int
write_pcap(const char *path, guint32 conns, guint16 from)
{
    const guint32 head[6] = {0xa1b2c3d4, 2 | 4 << 16, 0, 0, 65535, 1};
    g_autofree guint32 *order = g_new(guint32, conns);
    g_autoptr(GRand) rand = g_rand_new_with_seed(from);
    FILE *file = fopen(path, "we");
    if (file == NULL) {
        perror(path);
        return 1;
    }
    fwrite(head, sizeof head, 1, file);
    for (guint32 i = 0; i < conns; i++) {
        order[i] = i;
    }
    for (guint32 i = conns; i-- > 1;) {
        guint32 other = (guint32) g_rand_int_range(rand, 0, (gint32) i + 1), kept = order[i];
        order[i] = order[other];
        order[other] = kept;
    }
    for (guint32 i = 0; i < conns; i++) {
        guint8 frame[FRAME_MAX];
        guint32 size = (guint32) conn_frame(frame, order[i], from, false);
        const guint32 record[4] = {0, 0, size, size};
        fwrite(record, sizeof record, 1, file);
        fwrite(frame, size, 1, file);
    }
    return fclose(file) == 0 ? 0 : 1;
}

/* ---- tables ---- */

static struct pollcore core;
static struct pollcore_plan plan;
static struct engine engine;
static struct rte_hash *hash;

static void *
big(size_t bytes)
{
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    madvise(memory, bytes, MADV_HUGEPAGE);
    return memory;
}

static void
make_engine(guint32 flows)
{
    __u64 seed[4];
    for (guint i = 0; i < 4; i++) {
        seed[i] = (__u64) g_random_int() << 32 | g_random_int() | 1;
    }
    flowtable_init(&engine.table, big(flowtable_bytes(flows + 64)), flows + 64, seed);
    engine.nics = g_new0(struct layout_nic, LAYOUT_NICS);
    engine.pend = g_new0(struct layout_pend, 2 * LAYOUT_PENDING);
    engine.config = (struct layout_config){.expire_ns = FOREVER_S * SEC_NS,
                                           .renew_ns = FOREVER_S * SEC_NS,
                                           .retry_ns = SEC_NS,
                                           .pend_ns = FOREVER_S * SEC_NS};
    engine.config.generation[ZONE] = 7;
    for (guint16 id = 1; id <= 2; id++) {
        struct layout_nic *nic = &engine.nics[id];
        *nic = (struct layout_nic){
            .ifindex = id, .flags = LAYOUT_NIC_ON, .zone = ZONE, .mtu = 1500, .addr4_count = 1};
        memcpy(nic->mac, macs[id], 6);
        inet_pton(AF_INET, id == 1 ? "10.0.1.2" : "10.0.2.2", &nic->addr4[0]);
    }
}

/* Each connection, both ways, through the state machine; then once more, for its permit. */
static void
learn(guint32 flows)
{
    guint8 frame[FRAME_MAX], copy[FRAME_MAX];
    guint32 fast = 0;
    for (guint round = 0; round < 2; round++) {
        for (guint32 i = 0; i < flows; i++) {
            guint16 from = (guint16) (1 + i % 2);
            gsize size = conn_frame(frame, i / 2, from, false);
            fast +=
                engine_enter(&engine, 1, from, frame, (guint32) size, 0, copy).way == ENGINE_FAST;
            if (round == 0) {
                size = conn_frame(frame, i / 2, from, true);
                engine_leave(&engine, NULL, 1, 3 - from, frame, (guint32) size);
            }
        }
    }
    if (fast < flows) {
        fprintf(stderr, "only %u of %u flows are fast\n", fast, flows);
        exit(1);
    }
}

struct key {
    guint64 addresses, tail;
};

static void
fill_hash(guint32 flows)
{
    struct rte_hash_parameters parameters = {.name = "flows",
                                             .entries = flows * 5 / 4 + 64,
                                             .key_len = 16,
                                             .hash_func = rte_hash_crc,
                                             .socket_id = 0};
    hash = rte_hash_create(&parameters);
    if (hash == NULL) {
        fprintf(stderr, "rte_hash: %s\n", rte_strerror(rte_errno));
        exit(1);
    }
    for (guint32 slot = 0; slot < engine.table.buckets * FLOWTABLE_WAYS; slot++) {
        if (engine.table.signs[slot] != 0) {
            struct flowtable_permit *permit = &engine.table.permits[slot];
            struct key key = {permit->src | (guint64) permit->dst << 32,
                              permit->sport | (guint64) permit->dport << 16 |
                                  (guint64) permit->proto << 32 | (guint64) 4 << 40 |
                                  (guint64) permit->own << 48};
            rte_hash_add_key_data(hash, &key, permit);
        }
    }
}

/* ---- forwarding ---- */

static inline void
rewrite(guint8 *at, const guint8 *to_mac, guint8 delta)
{
    guint16 *ttl = (guint16 *) (at + 22), *check = (guint16 *) (at + 24);
    guint32 sum = (guint32) (guint16) ~*check + 0xffff - delta;
    memcpy(at, to_mac, 12);
    *ttl = (guint16) (*ttl - delta);
    *check = (guint16) ~((sum & 0xffff) + (sum >> 16));
}

static guint32
receive(guint16 port, struct rte_mbuf **packets)
{
    guint32 count = rte_eth_rx_burst(port, 0, packets, POLLCORE_BURST);
    for (guint32 i = 0; i < count; i++) {
        rte_prefetch0(rte_pktmbuf_mtod(packets[i], void *));
    }
    return count;
}

static void
transmit(guint16 port, struct rte_mbuf **packets, guint32 count)
{
    guint16 sent = rte_eth_tx_burst(port, 0, packets, (guint16) count);
    if (sent < count) {
        rte_pktmbuf_free_bulk(packets + sent, count - sent);
    }
}

static guint32
round_bare(void)
{
    struct rte_mbuf *packets[POLLCORE_BURST];
    guint8 to[12] = {2};
    guint32 total = 0;
    for (guint16 port = 0; port < 2; port++) {
        guint32 count = receive(port, packets);
        for (guint32 i = 0; i < count; i++) {
            rewrite(rte_pktmbuf_mtod(packets[i], guint8 *), to, 2);
        }
        transmit(!port, packets, count);
        total += count;
    }
    return total;
}

static guint32
round_hash(void)
{
    struct rte_mbuf *packets[POLLCORE_BURST];
    guint32 total = 0;
    for (guint16 port = 0; port < 2; port++) {
        struct key keys[POLLCORE_BURST];
        const void *wanted[POLLCORE_BURST];
        void *found[POLLCORE_BURST];
        guint64 hits = 0;
        guint32 now = FLOWTABLE_TICK(pollcore_ns(&core, rte_rdtsc()));
        guint32 count = receive(port, packets);
        for (guint32 i = 0; i < count; i++) {
            const guint8 *at = rte_pktmbuf_mtod(packets[i], const guint8 *);
            guint32 ports;
            memcpy(&keys[i].addresses, at + 26, 8);
            memcpy(&ports, at + 34, 4);
            keys[i].tail =
                ports | (guint64) at[23] << 32 | (guint64) 4 << 40 | (guint64) (port + 1) << 48;
            wanted[i] = &keys[i];
        }
        if (count > 0) {
            rte_hash_lookup_bulk_data(hash, wanted, count, &hits, found);
        }
        for (guint32 i = 0; i < count; i++) {
            struct flowtable_permit *permit = found[i];
            guint8 *at = rte_pktmbuf_mtod(packets[i], guint8 *);
            if ((hits >> i & 1) && permit->generation == 7 && (gint32) (permit->until - now) > 0 &&
                packet_mac_same(at, permit->gate_mac) && at[22] >= permit->least_ttl) {
                rewrite(at, permit->dst_mac, (guint8) (permit->least_ttl - 1));
                permit->carried += FLOWTABLE_PACKET + packets[i]->data_len;
            }
        }
        transmit(!port, packets, count);
        total += count;
    }
    return total;
}

static guint32
round_own(void)
{
    return pollcore_round(&core, &plan);
}

static guint64
cpu_ns(void)
{
    struct timespec time;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return (guint64) time.tv_sec * SEC_NS + (guint64) time.tv_nsec;
}

/* Packets in 'seconds' of CPU time; *ret_ns is a packet's share. */
static guint64
forward(guint32 (*round)(void), double seconds, double *ret_ns)
{
    guint64 packets = 0, begin, now;
    for (guint i = 0; i < ROUNDS; i++) {
        round();
    }
    begin = now = cpu_ns();
    while ((double) (now - begin) < seconds * 1e9) {
        for (guint i = 0; i < ROUNDS; i++) {
            packets += round();
        }
        now = cpu_ns();
    }
    *ret_ns = (double) (now - begin) / (double) packets;
    return packets;
}

static void
open_port(guint16 port, struct rte_mempool *pool)
{
    struct rte_eth_conf conf = {0};
    if (rte_eth_dev_configure(port, 1, 1, &conf) < 0 ||
        rte_eth_rx_queue_setup(port, 0, 512, 0, NULL, pool) < 0 ||
        rte_eth_tx_queue_setup(port, 0, 512, 0, NULL) < 0 || rte_eth_dev_start(port) < 0) {
        fprintf(stderr, "port %u does not start\n", port);
        exit(1);
    }
}

static void
set_core(struct rte_mempool *pool)
{
    core.engine = &engine;
    core.pool = pool;
    core.seat.copy_room = pollcore_copy_room;
    core.seat.user = &core;
    core.start_cycles = rte_rdtsc();
    core.cycles_mult = (guint64) ((1e9 / (double) rte_get_tsc_hz()) * 4294967296.0);
    memset(plan.out_of, 0xff, sizeof plan.out_of);
    plan.sides_count = 2;
    for (guint16 nic = 1; nic <= 2; nic++) {
        plan.out_of[nic] = nic - 1;
        plan.sides[nic - 1] = (struct pollcore_side){
            .port = nic - 1, .nic = nic, .other = POLLCORE_NONE, .role = POLLCORE_NIC};
    }
}

static int
run_forward(const char *mode, guint32 flows, double seconds, char **files)
{
    g_autofree char *devices[2] = {g_strdup_printf("net_pcap0,rx_pcap=%s,infinite_rx=1", files[0]),
                                   g_strdup_printf("net_pcap1,rx_pcap=%s,infinite_rx=1", files[1])};
    double ns;
    struct rte_mempool *pool =
        rte_pktmbuf_pool_create("packets", flows + 16384, 256, 0, 256 + RTE_PKTMBUF_HEADROOM, 0);
    if (pool == NULL || rte_dev_probe(devices[0]) < 0 || rte_dev_probe(devices[1]) < 0) {
        fprintf(stderr, "packets or devices: %s\n", rte_strerror(rte_errno));
        return 1;
    }
    make_engine(flows);
    if (strcmp(mode, "bare") != 0) {
        learn(flows);
    }
    if (strcmp(mode, "hash") == 0) {
        fill_hash(flows);
    }
    open_port(0, pool);
    open_port(1, pool);
    set_core(pool);
    engine_isa_set(strcmp(mode, "sse2") == 0   ? ENGINE_ISA_SSE2
                   : strcmp(mode, "avx2") == 0 ? ENGINE_ISA_AVX2
                                               : ENGINE_ISA_BEST);
    guint64 packets = forward(strcmp(mode, "bare") == 0   ? round_bare
                              : strcmp(mode, "hash") == 0 ? round_hash
                                                          : round_own,
                              seconds, &ns);
    printf("%s %u ns=%.2f packets=%" G_GUINT64_FORMAT " fast=%" G_GUINT64_FORMAT
           " bytes_a_flow=%zu\n",
           mode, flows, ns, packets, core.stats.fast, flowtable_bytes(flows) / flows);
    return core.stats.received > 0 && core.stats.fast < packets ? 1 : 0;
}

int
main(int argc, char **argv)
{
    if (argc == 5 && strcmp(argv[1], "pcap") == 0) {
        guint32 conns = (guint32) MAX(1, strtoul(argv[2], NULL, 10) / 2);
        return write_pcap(argv[3], conns, 1) + write_pcap(argv[4], conns, 2);
    }
    if (argc != 6) {
        fputs("see the first lines of pollpath.c\n", stderr);
        return 2;
    }
    const char *memory = g_getenv("BENCH_EAL") != NULL ? g_getenv("BENCH_EAL") : "--in-memory";
    g_auto(GStrv) extra = g_strsplit(memory, " ", -1);
    char *eal[24] = {argv[0], (char *) "-l1", (char *) "--no-pci", (char *) "--no-telemetry",
                     (char *) "--log-level=*:warning"};
    int count = 5;
    for (guint i = 0; extra[i] != NULL && count < 20; i++) {
        eal[count++] = extra[i];
    }
    if (rte_eal_init(count, eal) < 0) {
        return 1;
    }
    guint32 flows = (guint32) MAX(2, strtoul(argv[2], NULL, 10));
    double seconds = g_ascii_strtod(argv[3], NULL);
    return run_forward(argv[1], flows, seconds, argv + 4);
}
