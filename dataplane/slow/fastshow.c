/* Export of the kernel's fast path: what flows there are and why some are slow, what was counted, and packets as they
 * are judged.
 * S1  Tables are walked on a worker.
 * S2  One looks at packets at a time: the programs have one filter. It is taken away when the request
 *     ends, however it ends.
 * Called by dpdask.c. */
#include "dataplane/slow/fastshow.h"

#include <bpf/libbpf.h>
#include <errno.h>

#include "base/clock.h"
#include "base/fiber.h"
#include "dataplane/slow/fastage.h"

static bool
check(FastPorts *fast, GError **error)
{
    return fastport_load(fast) != NULL ||
           haw_fail(error, HAW_UNSUPPORTED, "There is no fast path: %s", fastport_trouble(fast));
}

/* ---- flows ---- */

static const char *
id_of(void *fast, guint nic)
{
    return fastport_id(fast, nic);
}

static int
nic_of(void *fast, const char *id)
{
    return fastport_slot(fast, id);
}

static const char *
off_of(void *fast, guint slot)
{
    struct layout_nic nic;
    guint off = fastload_config(fastport_load(fast))->off;
    if (off & FASTLOAD_OFF_ASKED) {
        return "the fast path is switched off";
    }
    if (off != 0) {
        return "the switch's conntrack is not shown to be liberal";
    }
    return fastload_port_at(fastport_load(fast), slot, &nic) && (nic.flags & LAYOUT_NIC_ON)
               ? ""
               : "its port is switched off";
}

struct walk {
    FastLoad *load;
    FlowVisit visit;
    void *arg;
    guint64 at_ns;
};

static void
walk_run(void *data)
{
    struct walk *walk = data;
    walk->at_ns = fastload_now_ns(walk->load);
    fastage_visit(walk->load, walk->visit, walk->arg);
}

/* S1 */
static guint64
walk(void *fast, FlowVisit visit, void *arg)
{
    struct walk walk = {.load = fastport_load(fast), .visit = visit, .arg = arg};
    fiber_run(walk_run, &walk);
    return walk.at_ns;
}

static FlowEngine
engine_of(FastPorts *fast)
{
    return (FlowEngine){fast, id_of, nic_of, off_of, walk};
}

bool
fastshow_flows(FastPorts *fast, const Dpd__FastFlows *want, ShowPool *pool, Dpd__FastFlows *ret,
               GError **error)
{
    const FlowEngine engine = engine_of(fast);
    return check(fast, error) && flowshow_list(&engine, want, pool, ret, error);
}

/* ---- counters ---- */

struct sums {
    FastLoad *load;
    guint64 fast, half;
    guint64 packets[LAYOUT_NICS], bytes[LAYOUT_NICS];
};

static void
sum_one(const FlowSeen *flow, void *data)
{
    struct sums *sums = data;
    bool fast = flow->state == FLOWSHOW_FAST || flow->state == FLOWSHOW_PROBING;
    sums->fast += fast;
    sums->half += !fast;
    if (flow->key.nic < LAYOUT_NICS) {
        sums->packets[flow->key.nic] += flow->flow.packets;
        sums->bytes[flow->key.nic] += flow->flow.bytes;
    }
}

static void
sum_run(void *data)
{
    struct sums *sums = data;
    fastage_visit(sums->load, sum_one, sums);
}

struct listing {
    FastPorts *fast;
    ShowPool *pool;
    const struct sums *sums; /* NULL without a fast path */
    Dpd__FastStats *ret;
};

static void
show_port(const char *id, const char *netdev, const char *slow, void *data)
{
    const struct listing *listing = data;
    ShowPool *pool = listing->pool;
    Dpd__FastPortStats *port = showpool_keep(pool, g_new0(Dpd__FastPortStats, 1));
    dpd__fast_port_stats__init(port);
    port->id = showpool_keep(pool, g_strdup(id));
    port->netdev = showpool_keep(pool, g_strdup(netdev));
    port->slow = showpool_keep(pool, g_strdup(slow));
    struct layout_nic nic;
    int slot = listing->sums != NULL ? fastport_slot(listing->fast, id) : -1;
    if (slot >= 0 && fastload_port_at(listing->sums->load, (guint) slot, &nic)) {
        port->zone = nic.zone;
        port->packets = listing->sums->packets[slot];
        port->bytes = listing->sums->bytes[slot];
    }
    listing->ret->ports[listing->ret->n_ports++] = port;
}

bool
fastshow_stats(FastPorts *fast, ShowPool *pool, Dpd__FastStats *ret, GError **error)
{
    FastLoad *load = fastport_load(fast);
    struct sums *sums = load != NULL ? showpool_keep(pool, g_new0(struct sums, 1)) : NULL;
    dpd__fast_stats__init(ret);
    ret->available = load != NULL;
    if (load == NULL) {
        ret->trouble = (char *) (guintptr) fastport_trouble(fast);
    } else {
        sums->load = load;
        fiber_run(sum_run, sums);
        ret->off = (fastload_config(load)->off & FASTLOAD_OFF_ASKED) != 0;
        ret->strict = (fastload_config(load)->off & FASTLOAD_OFF_STRICT) != 0;
        ret->flows = sums->fast;
        ret->flows_half = sums->half;
        ret->room = FASTPORT_FLOWS;
        guint64 counters[LAYOUT_REASON_COUNT];
        if (fastage_counters(load, counters, NULL)) {
            flowshow_counts(counters, pool, ret);
        }
    }
    struct listing listing = {fast, pool, sums, ret};
    ret->ports = showpool_keep(pool, g_new0(Dpd__FastPortStats *, fastport_count(fast) + 1));
    fastport_each(fast, show_port, &listing);
    return true;
}

/* ---- packets ---- */

struct trace {
    ShowPool *pool;
    const FlowEngine *engine;
    Dpd__FastTrace *ret;
    guint limit;
};

static int
trace_one(void *data, void *bytes, size_t size)
{
    struct trace *trace = data;
    const struct layout_event *event = bytes;
    if (trace->ret->n_events >= trace->limit || size < sizeof *event) {
        trace->ret->lost++;
    } else {
        trace->ret->events[trace->ret->n_events++] =
            flowshow_event(trace->engine, event, trace->pool);
    }
    return 0;
}

static bool
trace_begin(FastPorts *fast, const Dpd__FastTrace *want, GError **error)
{
    volatile struct layout_config *config = fastload_config(fastport_load(fast));
    __be32 address[4];
    guint family;
    int slot = want->port[0] != '\0' ? fastport_slot(fast, want->port) : 0;
    if (slot < 0) {
        return haw_fail(error, HAW_NOT_FOUND, "Port \"%s\" is not on the fast path", want->port);
    }
    if (!flowshow_address(want->address, &family, address, error)) {
        return false;
    }
    config->trace_nic = want->port[0] != '\0' ? (guint32) slot + 1 : 0;
    config->trace_family = family;
    for (int i = 0; i < 4; i++) {
        config->trace_addr[i] = address[i];
    }
    config->trace = 1;
    return true;
}

bool
fastshow_trace(FastPorts *fast, const Dpd__FastTrace *want, GCancellable *enough, ShowPool *pool,
               Dpd__FastTrace *ret, GError **error)
{
    static bool busy; /* S2 */
    if (!check(fast, error)) {
        return false;
    }
    if (busy) {
        return haw_fail(error, HAW_BUSY, "Somebody else traces packets");
    }
    dpd__fast_trace__init(ret);
    const FlowEngine engine = engine_of(fast);
    struct trace trace = {pool, &engine, ret, flowshow_limit(want->limit)};
    ret->events = showpool_keep(pool, g_new0(Dpd__FastEvent *, trace.limit + 1));
    struct ring_buffer *ring =
        ring_buffer__new(fastload_map(fastport_load(fast), "haw_trace"), trace_one, &trace, NULL);
    if (ring == NULL) {
        return haw_fail_errno(error, errno, "Open the ring of traced packets");
    }
    guint limit = trace.limit;
    trace.limit = 0;
    ring_buffer__consume(ring); /* what an earlier one left */
    trace.limit = limit;
    ret->lost = 0;
    bool ok = trace_begin(fast, want, error);
    gint64 end_us = clock_mono_us() + flowshow_trace_ms(want) * 1000;
    busy = ok;
    for (gint64 left_us; ok && ret->n_events < trace.limit && !g_cancellable_is_cancelled(enough) &&
                         (left_us = end_us - clock_mono_us()) > 0;) {
        fiber_wait_fd(ring_buffer__epoll_fd(ring), G_IO_IN, left_us / 1000 + 1, enough, NULL);
        ring_buffer__consume(ring);
    }
    fastload_config(fastport_load(fast))->trace = 0;
    busy = false;
    ring_buffer__free(ring);
    return ok;
}
