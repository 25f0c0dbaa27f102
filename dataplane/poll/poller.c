/* The poll-mode engine's root.
 * O1  A core sees ports through its plan only: an immutable one that is swapped, and freed when every core
 *     has begun a round since. A device is closed after that.
 * O2  A port that comes, changes or goes bumps its zone first: no flow outlives what it was learned with.
 * O3  A generation is never given twice.
 * O4  The epoch moves on only when all cores have seen it (flowtable.h's T3); without cores' help nothing
 *     is freed.
 * O5  Rules in hardware end with what they were made of: after the bump, before it returns (polloffload.c).
 * O6  A core's ring of traced packets is freed after every core has begun a round without it.
 * Ports are dealt out to the cores in turn, both devices of one to the same core, so that each flow's
 * counters have one writer (engine.c's E1). Called by pollsock.c and the bench. */
#include "dataplane/poll/poller.h"

#include <errno.h>
#include <rte_cycles.h>
#include <rte_ethdev.h>
#include <rte_launch.h>
#include <rte_lcore.h>
#include <rte_malloc.h>
#include <string.h>
#include <sys/mman.h>

#include "base/log.h"

enum {
    FLOWS = 1 << 20,
    OFFLOAD_PACKETS = 512,
    MBUFS = 16384,
    TICK_MS = 10,
    AGE_TICKS = 500,
    QUIET_MS = 30000
};
#define AGE_IDLE_NS (60 * G_GUINT64_CONSTANT(1000000000))
#define AGE_HALF_NS (10 * G_GUINT64_CONSTANT(1000000000))
#define MS_NS       G_GINT64_CONSTANT(1000000)

struct Poller {
    struct engine engine;
    size_t memory_bytes;
    void *memory; /* the table's */
    guint8 *pend_locks;
    struct rte_mempool *pool;
    guint cores_count;
    struct pollcore *cores[RTE_MAX_LCORE]; /* owned, cache aligned */
    struct pollcore_plan *plans[RTE_MAX_LCORE];
    rte_spinlock_t *locks; /* one a device */
    GPtrArray *ports;      /* PollerSeat */
    PollOffload *offload;
    guint32 generation;
    guint ticks, tick;
};

static void
seat_free(void *data)
{
    PollerSeat *seat = data;
    polldev_close(seat->dev);
    polldev_close(seat->slow);
    g_free(seat->id);
    g_free(seat);
}

/* ---- epochs ---- */

/* O4 */
static void
advance(Poller *poller)
{
    struct flowtable *table = &poller->engine.table;
    guint64 epoch = table->epoch;
    for (guint i = 0; i < poller->cores_count; i++) {
        if (__atomic_load_n(&poller->cores[i]->seen, __ATOMIC_ACQUIRE) != epoch) {
            return;
        }
    }
    __atomic_store_n(&table->safe, epoch, __ATOMIC_RELEASE);
    __atomic_store_n(&table->epoch, epoch + 1, __ATOMIC_RELEASE);
}

/* Until every core has begun a round after this call. */
static void
wait_quiet(Poller *poller)
{
    guint64 want = poller->engine.table.epoch + 1;
    for (guint i = 0; i < QUIET_MS * 10 && poller->engine.table.safe < want; i++) {
        advance(poller);
        g_usleep(100);
    }
    g_assert(poller->engine.table.safe >= want);
}

static gboolean
on_tick(gpointer data)
{
    Poller *poller = data;
    guint64 now_ns = pollcore_ns(poller->cores[0], rte_rdtsc());
    advance(poller);
    polloffload_tick(poller->offload, now_ns);
    if (++poller->ticks % AGE_TICKS == 0) {
        engine_age(&poller->engine, now_ns, AGE_IDLE_NS, AGE_HALF_NS);
    }
    return G_SOURCE_CONTINUE;
}

/* ---- plans ---- */

static void
plan_out(Poller *poller, struct pollcore_plan *plan, guint core, const PollDev *dev)
{
    struct pollcore_out *out = &plan->outs[dev->port];
    bool own = dev->tx_queues >= poller->cores_count;
    out->queue = own ? (uint16_t) core : (uint16_t) (core % dev->tx_queues);
    out->lock = own ? NULL : &poller->locks[dev->port];
}

static void
plan_side(struct pollcore_plan *plan, const PollerSeat *seat, const PollDev *dev,
          const PollDev *other, enum pollcore_role role)
{
    if (dev != NULL) {
        plan->sides[plan->sides_count++] = (struct pollcore_side){
            dev->port, seat->nic, other != NULL ? other->port : (uint16_t) POLLCORE_NONE, role};
        plan->interrupts &= dev->interrupts;
    }
}

static struct pollcore_plan *
make_plan(Poller *poller, guint core)
{
    struct pollcore_plan *plan = g_new0(struct pollcore_plan, 1);
    plan->interrupts = 1;
    memset(plan->out_of, 0xff, sizeof plan->out_of);
    for (guint i = 0; i < poller->ports->len; i++) {
        const PollerSeat *seat = poller->ports->pdata[i];
        plan->out_of[seat->nic] = seat->dev->port;
        plan_out(poller, plan, core, seat->dev);
        if (seat->slow != NULL) {
            plan_out(poller, plan, core, seat->slow);
        }
        if (seat->nic % poller->cores_count == core) {
            plan_side(plan, seat, seat->dev, seat->slow, POLLCORE_NIC);
            plan_side(plan, seat, seat->slow, seat->dev, POLLCORE_SLOW);
        }
    }
    return plan;
}

/* O1 */
static void
publish(Poller *poller)
{
    struct pollcore_plan *before[RTE_MAX_LCORE];
    for (guint i = 0; i < poller->cores_count; i++) {
        before[i] = poller->plans[i];
        poller->plans[i] = make_plan(poller, i);
        __atomic_store_n(&poller->cores[i]->plan, poller->plans[i], __ATOMIC_RELEASE);
    }
    wait_quiet(poller);
    for (guint i = 0; i < poller->cores_count; i++) {
        g_free(before[i]);
    }
}

/* ---- ports ---- */

/* O3, O5 */
void
poller_bump(Poller *poller, guint16 zone)
{
    __atomic_store_n(&poller->engine.config.generation[zone % LAYOUT_ZONES], ++poller->generation,
                     __ATOMIC_RELEASE);
    polloffload_flush(poller->offload, zone);
}

static PollerSeat *
find(const Poller *poller, const char *id, guint *ret_index)
{
    for (guint i = 0; i < poller->ports->len; i++) {
        PollerSeat *seat = poller->ports->pdata[i];
        if (strcmp(seat->id, id) == 0) {
            *ret_index = i;
            return seat;
        }
    }
    return NULL;
}

static bool
nic_taken(const Poller *poller, guint16 nic)
{
    for (guint i = 0; i < poller->ports->len; i++) {
        if (((PollerSeat *) poller->ports->pdata[i])->nic == nic) {
            return true;
        }
    }
    return false;
}

static guint16
mtu_of(const PollerPort *port)
{
    return port->mtu != 0 ? port->mtu : 1500;
}

static struct layout_nic
nic_of(guint16 nic, const PollerPort *port)
{
    struct layout_nic fresh = {.ifindex = nic, .flags = LAYOUT_NIC_PAIR};
    fresh.zone = port->zone;
    fresh.mtu = mtu_of(port);
    fresh.flags |= port->off ? 0 : LAYOUT_NIC_ON;
    memcpy(fresh.mac, port->mac, sizeof fresh.mac);
    fresh.addr4_count = port->addr4_count;
    fresh.addr6_count = port->addr6_count;
    memcpy(fresh.addr4, port->addr4, sizeof fresh.addr4);
    memcpy(fresh.addr6, port->addr6, sizeof fresh.addr6);
    return fresh;
}

/* Whether it is the same devices that are asked for; the MTU is theirs. */
static bool
same_devices(const Poller *poller, const PollerSeat *seat, const PollerPort *port)
{
    const char *slow = seat->slow != NULL ? seat->slow->args : "";
    return strcmp(seat->dev->args, port->device) == 0 &&
           strcmp(slow, port->slow != NULL ? port->slow : "") == 0 &&
           poller->engine.nics[seat->nic].mtu == mtu_of(port);
}

/* What is known of a port whose devices stay: no packet of it is judged by half of it. O2 */
static void
revise(Poller *poller, const PollerSeat *seat, const PollerPort *port)
{
    struct layout_nic *nic = &poller->engine.nics[seat->nic];
    struct layout_nic fresh = nic_of(seat->nic, port);
    guint32 flags = fresh.flags;
    if (memcmp(nic, &fresh, sizeof fresh) == 0) {
        return;
    }
    __atomic_store_n(&nic->flags, LAYOUT_NIC_PAIR, __ATOMIC_RELEASE);
    poller_bump(poller, nic->zone);
    wait_quiet(poller);
    fresh.flags = LAYOUT_NIC_PAIR;
    *nic = fresh;
    poller_bump(poller, port->zone);
    __atomic_store_n(&nic->flags, flags, __ATOMIC_RELEASE);
    haw_info("poll.revised", KS("port", seat->id));
}

bool
poller_remove(Poller *poller, const char *id, GError **error)
{
    guint index;
    PollerSeat *seat = find(poller, id, &index);
    if (seat == NULL) {
        return haw_fail(error, HAW_NOT_FOUND, "there is no port '%s'", id);
    }
    struct layout_nic *nic = &poller->engine.nics[seat->nic];
    __atomic_store_n(&nic->flags, 0, __ATOMIC_RELEASE);
    poller_bump(poller, nic->zone);        /* O2 */
    polloffload_flush(poller->offload, 0); /* its H4 */
    polloffload_port_gone(poller->offload, seat->nic);
    g_ptr_array_steal_index(poller->ports, index);
    publish(poller);
    *nic = (struct layout_nic){0};
    haw_info("poll.removed", KS("port", id));
    seat_free(seat);
    return true;
}

bool
poller_add(Poller *poller, const PollerPort *port, GError **error)
{
    guint index;
    PollerSeat *seat = find(poller, port->id, &index);
    if (seat != NULL && same_devices(poller, seat, port)) {
        revise(poller, seat, port);
        return true;
    }
    if (seat != NULL && !poller_remove(poller, port->id, error)) {
        return false;
    }
    polloffload_flush(poller->offload, 0); /* its H4 */
    seat = g_new0(PollerSeat, 1);
    guint16 queues = (guint16) poller->cores_count;
    seat->id = g_strdup(port->id);
    seat->nic = 1;
    while (nic_taken(poller, seat->nic)) {
        seat->nic++;
    }
    seat->dev = polldev_open(port->device, queues, port->mtu, poller->pool, error);
    if (seat->dev != NULL && port->slow != NULL && port->slow[0] != '\0') {
        seat->slow = polldev_open(port->slow, queues, port->mtu, poller->pool, error);
    }
    if (seat->dev == NULL || (port->slow != NULL && port->slow[0] != '\0' && seat->slow == NULL)) {
        haw_push(error, "port '%s'", port->id);
        seat_free(seat);
        return false;
    }
    poller->engine.nics[seat->nic] = nic_of(seat->nic, port);
    polloffload_port(poller->offload, seat->nic, seat->dev->port, seat->dev->mtu, seat->dev->flows);
    poller_bump(poller, port->zone); /* O2 */
    g_ptr_array_add(poller->ports, seat);
    publish(poller);
    haw_info("poll.added", KS("port", seat->id), KS("device", port->device), KU("nic", seat->nic));
    return true;
}

/* ---- coming up ---- */

static bool
make_tables(Poller *poller, const PollerOptions *options, GError **error)
{
    guint32 flows = options->flows != 0 ? options->flows : FLOWS;
    struct engine *engine = &poller->engine;
    __u64 seed[4];
    for (guint i = 0; i < 4; i++) {
        seed[i] = (__u64) g_random_int() << 32 | g_random_int() | 1;
    }
    poller->memory_bytes = flowtable_bytes(flows);
    poller->memory = mmap(NULL, poller->memory_bytes, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (poller->memory == MAP_FAILED) {
        poller->memory = NULL;
        return haw_fail_errno(error, errno, "memory for %u flows", flows);
    }
    madvise(poller->memory, poller->memory_bytes, MADV_HUGEPAGE);
    flowtable_init(&engine->table, poller->memory, flows, seed);
    engine->nics = g_new0(struct layout_nic, LAYOUT_NICS);
    engine->pend = g_new0(struct layout_pend, 2 * LAYOUT_PENDING);
    poller->pend_locks = g_new0(guint8, 2 * LAYOUT_PENDING);
    engine->table.epoch = 1;
    engine_share(engine, poller->pend_locks);
    engine->config.version = LAYOUT_VERSION;
    engine->config.renew_ns =
        (guint64) ((options->renew_ms != 0 ? options->renew_ms : 1000) * MS_NS);
    engine->config.expire_ns =
        (guint64) ((options->expire_ms != 0 ? options->expire_ms : 2000) * MS_NS);
    engine->config.retry_ns = 100 * MS_NS;
    engine->config.pend_ns = 200 * MS_NS;
    return true;
}

static bool
start_cores(Poller *poller, const PollerOptions *options, GError **error)
{
    guint64 start = rte_rdtsc(),
            mult = (guint64) ((1e9 / (double) rte_get_tsc_hz()) * 4294967296.0);
    guint lcore;
    RTE_LCORE_FOREACH_WORKER(lcore)
    {
        struct pollcore *core = NULL;
        if (posix_memalign((void **) &core, FLOWTABLE_LINE, sizeof *core) != 0) {
            return haw_fail(error, HAW_UNAVAILABLE, "no memory for core %u", lcore);
        }
        memset(core, 0, sizeof *core);
        core->id = poller->cores_count;
        core->lcore = lcore;
        core->nap_us = options->nap_us;
        core->engine = &poller->engine;
        core->pool = poller->pool;
        core->start_cycles = start;
        core->cycles_mult = mult;
        core->seat.copy_room = pollcore_copy_room;
        core->seat.user = core;
        poller->cores[poller->cores_count++] = core;
    }
    for (guint i = 0; i < poller->cores_count; i++) {
        poller->plans[i] = make_plan(poller, i);
        poller->cores[i]->plan = poller->plans[i];
        rte_eal_remote_launch(pollcore_run, poller->cores[i], poller->cores[i]->lcore);
    }
    return poller->cores_count > 0
               ? true
               : haw_fail(error, HAW_UNAVAILABLE,
                          "poll mode needs a processor beside the main one: see --cores");
}

static const struct polloffload_ops offload_ops = {
    .make = pollflows_make, .unmake = pollflows_unmake, .count = pollflows_count};

Poller *
poller_new(const PollerOptions *options, GError **error)
{
    g_autoptr(Poller) poller = g_new0(Poller, 1);
    poller->ports = g_ptr_array_new_with_free_func(seat_free);
    poller->locks = g_new0(rte_spinlock_t, RTE_MAX_ETHPORTS);
    guint room = options->room != 0 ? options->room : RTE_MBUF_DEFAULT_DATAROOM;
    poller->pool =
        rte_pktmbuf_pool_create("haw_packets", options->mbufs != 0 ? options->mbufs : MBUFS, 256, 0,
                                (uint16_t) (room + RTE_PKTMBUF_HEADROOM), (int) rte_socket_id());
    if (poller->pool == NULL) {
        haw_fail(error, HAW_UNAVAILABLE, "no memory for packets (%s): give DPDK more with --memory",
                 rte_strerror(rte_errno));
        return NULL;
    }
    if (!make_tables(poller, options, error) || !start_cores(poller, options, error)) {
        return NULL;
    }
    poller->offload =
        polloffload_new(&poller->engine, &offload_ops, options->offload,
                        options->offload_packets != 0 ? options->offload_packets : OFFLOAD_PACKETS);
    poller->tick = g_timeout_add(TICK_MS, on_tick, poller);
    return g_steal_pointer(&poller);
}

void
poller_free(Poller *poller)
{
    if (poller == NULL) {
        return;
    }
    if (poller->tick != 0) {
        g_source_remove(poller->tick);
    }
    for (guint i = 0; i < poller->cores_count; i++) {
        __atomic_store_n(&poller->cores[i]->stop, 1, __ATOMIC_RELEASE);
        rte_eal_wait_lcore(poller->cores[i]->lcore);
    }
    polloffload_free(poller->offload);
    g_ptr_array_unref(poller->ports);
    for (guint i = 0; i < poller->cores_count; i++) {
        g_free(poller->plans[i]);
        g_free(poller->cores[i]->trace);
        free(poller->cores[i]);
    }
    rte_mempool_free(poller->pool);
    if (poller->memory != NULL) {
        munmap(poller->memory, poller->memory_bytes);
    }
    g_free(poller->engine.nics);
    g_free(poller->engine.pend);
    g_free(poller->pend_locks);
    g_free(poller->locks);
    g_free(poller);
}

/* ---- to look at ---- */

static void
set_trace(Poller *poller, guint core, struct polltrace *trace)
{
    __atomic_store_n(&poller->cores[core]->trace, trace, __ATOMIC_RELEASE);
}

bool
poller_trace_begin(Poller *poller, const struct polltrace_want *want, GError **error)
{
    if (poller->cores[0]->trace != NULL) {
        return haw_fail(error, HAW_BUSY, "Somebody else traces packets");
    }
    for (guint i = 0; i < poller->cores_count; i++) {
        struct polltrace *trace = g_new0(struct polltrace, 1);
        trace->want = *want;
        set_trace(poller, i, trace);
    }
    return true;
}

/* O6 */
guint64
poller_trace_end(Poller *poller)
{
    struct polltrace *before[RTE_MAX_LCORE];
    guint64 lost = 0;
    for (guint i = 0; i < poller->cores_count; i++) {
        before[i] = poller->cores[i]->trace;
        set_trace(poller, i, NULL);
    }
    wait_quiet(poller);
    for (guint i = 0; i < poller->cores_count; i++) {
        lost += before[i]->lost;
        g_free(before[i]);
    }
    return lost;
}

struct polltrace *
poller_trace(const Poller *poller, guint core)
{
    return core < poller->cores_count ? poller->cores[core]->trace : NULL;
}

GPtrArray *
poller_ports(const Poller *poller)
{
    return poller->ports;
}

struct engine *
poller_engine(Poller *poller)
{
    return &poller->engine;
}

const PollOffload *
poller_offload(const Poller *poller)
{
    return poller->offload;
}

const struct pollcore *
poller_core(const Poller *poller, guint index)
{
    return index < poller->cores_count ? poller->cores[index] : NULL;
}

guint64
poller_table_bytes(const Poller *poller)
{
    return poller->memory_bytes;
}
