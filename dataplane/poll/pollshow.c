/* What the poll-mode engine has learned, counted, and does with packets.
 * W1  Flows are read while cores use them: each number is whole, a slot that is given up meanwhile is shown once more.
 * W2  One looks at packets at a time; cores stop telling before its memory goes (poller.c's O6).
 * W3  Who looks no longer leaves the place to the next one at once.
 * Called by pollsock.c. */
#include "dataplane/poll/pollshow.h"

#include <rte_cycles.h>
#include <string.h>

#include "base/clock.h"
#include "base/fiber.h"

enum { TRACE_STEP_MS = 10 };

/* ---- the engine as flowshow.c sees it ---- */

const char *
pollshow_id(void *poller, guint nic)
{
    GPtrArray *ports = poller_ports(poller);
    for (guint i = 0; i < ports->len; i++) {
        const PollerSeat *seat = ports->pdata[i];
        if (seat->nic == nic) {
            return seat->id;
        }
    }
    return "";
}

static int
nic_of(void *poller, const char *id)
{
    GPtrArray *ports = poller_ports(poller);
    for (guint i = 0; i < ports->len; i++) {
        const PollerSeat *seat = ports->pdata[i];
        if (strcmp(seat->id, id) == 0) {
            return seat->nic;
        }
    }
    return -1;
}

static const char *
off_of(void *poller, guint nic)
{
    const struct engine *engine = poller_engine(poller);
    return engine->nics[nic % LAYOUT_NICS].flags & LAYOUT_NIC_ON
               ? ""
               : "its port or the fast path is switched off";
}

/* W1 */
guint64
pollshow_walk(void *poller, FlowVisit visit, void *arg)
{
    const struct engine *engine = poller_engine(poller);
    const struct flowtable *table = &engine->table;
    guint64 now_ns = pollcore_ns(poller_core(poller, 0), rte_rdtsc());
    for (guint32 slot = 0; slot < table->buckets * FLOWTABLE_WAYS; slot++) {
        if (__atomic_load_n(&table->signs[slot], __ATOMIC_ACQUIRE) == 0) {
            continue;
        }
        const struct flowtable_entry *entry = &table->entries[slot];
        const struct flowtable_permit *permit = &table->permits[slot];
        FlowSeen seen = {.key = entry->key, .flow = entry->flow};
        guint zone = engine->nics[seen.key.nic % LAYOUT_NICS].zone;
        seen.flow.packets += FLOWTABLE_PACKETS(permit->carried);
        seen.flow.bytes += FLOWTABLE_BYTES(permit->carried);
        seen.state = flowshow_state(&engine->config, zone, &seen.flow, now_ns);
        seen.offloaded = polloffload_has(poller_offload(poller), &seen.key);
        visit(&seen, arg);
    }
    return now_ns;
}

static FlowEngine
engine_of(Poller *poller)
{
    return (FlowEngine){poller, pollshow_id, nic_of, off_of, pollshow_walk};
}

bool
pollshow_flows(Poller *poller, const Dpd__FastFlows *want, ShowPool *pool, Dpd__FastFlows *ret,
               GError **error)
{
    const FlowEngine engine = engine_of(poller);
    return flowshow_list(&engine, want, pool, ret, error);
}

/* ---- counters ---- */

struct sums {
    Dpd__FastStats *ret;
    Dpd__FastPortStats *of[LAYOUT_NICS];
};

static void
sum_one(const FlowSeen *flow, void *data)
{
    struct sums *sums = data;
    Dpd__FastPortStats *port = sums->of[flow->key.nic % LAYOUT_NICS];
    bool fast = flow->state == FLOWSHOW_FAST || flow->state == FLOWSHOW_PROBING;
    sums->ret->flows += fast;
    sums->ret->flows_half += !fast;
    if (port != NULL) {
        port->packets += flow->flow.packets;
        port->bytes += flow->flow.bytes;
    }
}

void
pollshow_stats(Poller *poller, ShowPool *pool, Dpd__FastStats *ret)
{
    guint64 counters[LAYOUT_REASON_COUNT] = {0};
    const struct pollcore *core;
    GPtrArray *ports = poller_ports(poller);
    struct sums *sums = showpool_keep(pool, g_new0(struct sums, 1));
    dpd__fast_stats__init(ret);
    ret->available = true;
    sums->ret = ret;
    ret->ports = showpool_keep(pool, g_new0(Dpd__FastPortStats *, ports->len + 1));
    for (guint i = 0; i < ports->len; i++) {
        const PollerSeat *seat = ports->pdata[i];
        Dpd__FastPortStats *port = showpool_keep(pool, g_new0(Dpd__FastPortStats, 1));
        dpd__fast_port_stats__init(port);
        port->id = showpool_keep(pool, g_strdup(seat->id));
        port->zone = poller_engine(poller)->nics[seat->nic].zone;
        ret->ports[ret->n_ports++] = sums->of[seat->nic] = port;
    }
    pollshow_walk(poller, sum_one, sums);
    for (guint i = 0; (core = poller_core(poller, i)) != NULL; i++) {
        for (guint reason = 0; reason < LAYOUT_REASON_COUNT; reason++) {
            counters[reason] += core->seat.counters[reason];
        }
    }
    flowshow_counts(counters, pool, ret);
}

/* ---- packets ---- */

/* The difference of CLOCK_MONOTONIC and the cores' time. */
static gint64
clock_offset_ns(Poller *poller)
{
    return clock_mono_us() * 1000 - (gint64) pollcore_ns(poller_core(poller, 0), rte_rdtsc());
}

static void
drain(Poller *poller, guint limit, ShowPool *pool, Dpd__FastTrace *ret)
{
    const FlowEngine engine = engine_of(poller);
    gint64 offset_ns = clock_offset_ns(poller);
    struct polltrace *trace;
    struct layout_event event;
    for (guint i = 0; (trace = poller_trace(poller, i)) != NULL; i++) {
        while (polltrace_take(trace, &event)) {
            event.at_ns = (guint64) ((gint64) event.at_ns + offset_ns);
            if (ret->n_events < limit) {
                ret->events[ret->n_events++] = flowshow_event(&engine, &event, pool);
            } else {
                ret->lost++;
            }
        }
    }
}

bool
pollshow_trace(Poller *poller, const Dpd__FastTrace *want, DpdWire *asker, ShowPool *pool,
               Dpd__FastTrace *ret, GError **error)
{
    struct polltrace_want filter = {0};
    int nic = want->port[0] != '\0' ? nic_of(poller, want->port) : 0;
    if (nic < 0) {
        return haw_fail(error, HAW_NOT_FOUND, "Port \"%s\" is not polled", want->port);
    }
    filter.nic = (guint32) nic;
    if (!flowshow_address(want->address, &filter.family, filter.address, error) ||
        !poller_trace_begin(poller, &filter, error)) {
        return false;
    }
    dpd__fast_trace__init(ret);
    guint limit = flowshow_limit(want->limit);
    ret->events = showpool_keep(pool, g_new0(Dpd__FastEvent *, limit + 1));
    gint64 end_us = clock_mono_us() + flowshow_trace_ms(want) * 1000;
    bool waits = true;
    while (waits && ret->n_events < limit && clock_mono_us() < end_us) {
        waits = !dpdwire_wait(asker, TRACE_STEP_MS); /* W3 */
        drain(poller, limit, pool, ret);
    }
    ret->lost += poller_trace_end(poller); /* W2 */
    return true;
}
