/* Export of the fast path: what flows there are and why some are slow, what was counted, and packets as they
 * are judged.
 * S1  Tables are walked on a worker, into memory bounded by the request's limit.
 * S2  A rate is the difference of two looks; nothing is kept between requests.
 * S3  One looks at packets at a time: the programs have one filter. It is taken away when the request
 *     ends, however it ends.
 * Called by dpd.c. */
#include "dataplane/slow/fastshow.h"

#include <arpa/inet.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/fiber.h"
#include "dataplane/slow/fastage.h"

enum { LIMIT = 1000, LIMIT_MAX = 20000, RATE_MS = 500, TRACE_MS = 1000, TRACE_MAX_MS = 60000 };

/* ---- memory of an answer ---- */

struct FastPool {
    GPtrArray *blocks; /* owned */
};

FastPool *
fastshow_pool_new(void)
{
    FastPool *pool = g_new0(FastPool, 1);
    pool->blocks = g_ptr_array_new_with_free_func(g_free);
    return pool;
}

void
fastshow_pool_free(FastPool *pool)
{
    if (pool != NULL) {
        g_ptr_array_unref(pool->blocks);
        g_free(pool);
    }
}

static void *
keep(FastPool *pool, void *block)
{
    g_ptr_array_add(pool->blocks, block);
    return block;
}

static char *
keep_address(FastPool *pool, const __be32 *address, guint family)
{
    char text[INET6_ADDRSTRLEN] = "";
    inet_ntop(family == 4 ? AF_INET : AF_INET6, address, text, sizeof text);
    return keep(pool, g_strdup(text));
}

/* ICMP echo has its identifier in the place of the source's port, and a type in the other's. */
static guint
port_text(const struct layout_tuple *tuple, bool source)
{
    bool echo = tuple->proto == IPPROTO_ICMP || tuple->proto == IPPROTO_ICMPV6;
    return source ? ntohs(tuple->sport) : echo ? 0 : ntohs(tuple->dport);
}

static bool
check(FastPorts *fast, GError **error)
{
    return fastport_load(fast) != NULL ||
           haw_fail(error, HAW_UNSUPPORTED, "There is no fast path: %s", fastport_trouble(fast));
}

/* ---- filters ---- */

struct end {
    guint family; /* 0: any */
    __be32 address[4];
};

static bool
end_parse(const char *text, struct end *ret, GError **error)
{
    *ret = (struct end){0};
    if (text[0] == '\0') {
        return true;
    }
    if (inet_pton(AF_INET, text, ret->address) == 1) {
        ret->family = 4;
        return true;
    }
    ret->family = 6;
    return inet_pton(AF_INET6, text, ret->address) == 1 ||
           haw_fail(error, HAW_INVALID, "\"%s\" is no address", text);
}

static bool
end_is(const struct end *end, guint family, const __be32 address[4])
{
    return end->family == 0 ||
           (end->family == family &&
            memcmp(end->address, address, family == 4 ? 4 : sizeof end->address) == 0);
}

struct filter {
    struct end source, destination, any;
    guint sport, dport, any_port, proto;
    int slot; /* -1: any */
    char state[16];
};

static bool
filter_parse(FastPorts *fast, const Dpd__FastFlows *want, struct filter *ret, GError **error)
{
    Dpd__FastFlow none = DPD__FAST_FLOW__INIT;
    const Dpd__FastFlow *one = want->filter != NULL ? want->filter : &none;
    ret->sport = one->source_port;
    ret->dport = one->destination_port;
    ret->any_port = want->any_port;
    ret->proto = one->protocol;
    ret->slot = -1;
    g_strlcpy(ret->state, one->state, sizeof ret->state);
    if (one->port[0] != '\0') {
        ret->slot = fastport_slot(fast, one->port);
        if (ret->slot < 0) {
            return haw_fail(error, HAW_NOT_FOUND, "Port \"%s\" is not on the fast path", one->port);
        }
    }
    return end_parse(one->source, &ret->source, error) &&
           end_parse(one->destination, &ret->destination, error) &&
           end_parse(want->address, &ret->any, error);
}

static bool
filter_takes(const struct filter *filter, const FastFlow *flow)
{
    const struct layout_tuple *key = &flow->key;
    guint sport = port_text(key, true), dport = port_text(key, false);
    return end_is(&filter->source, key->family, key->src) &&
           end_is(&filter->destination, key->family, key->dst) &&
           (end_is(&filter->any, key->family, key->src) ||
            end_is(&filter->any, key->family, key->dst)) &&
           (filter->sport == 0 || filter->sport == sport) &&
           (filter->dport == 0 || filter->dport == dport) &&
           (filter->any_port == 0 || filter->any_port == sport || filter->any_port == dport) &&
           (filter->proto == 0 || filter->proto == key->proto) &&
           (filter->slot < 0 || filter->slot == key->nic) &&
           (filter->state[0] == '\0' ||
            strcmp(filter->state, fastage_state_text(flow->state)) == 0);
}

/* ---- flows ---- */

/* S1 */
struct look {
    FastLoad *load;
    const struct filter *filter;
    gint64 at_ns;
    guint limit;
    guint64 total;
    GArray *flows;
};

static void
look_one(const FastFlow *flow, void *data)
{
    struct look *look = data;
    if (!filter_takes(look->filter, flow)) {
        return;
    }
    look->total++;
    if (look->flows->len < look->limit) {
        g_array_append_vals(look->flows, flow, 1);
    }
}

static void
look_run(void *data)
{
    struct look *look = data;
    look->at_ns = (gint64) fastload_now_ns(look->load);
    fastage_visit(look->load, look_one, look);
}

static guint
tuple_hash(gconstpointer key)
{
    const guint32 *words = key;
    guint hash = 5381;
    for (size_t i = 0; i < sizeof(struct layout_tuple) / sizeof *words; i++) {
        hash = hash * 33 + words[i];
    }
    return hash;
}

static gboolean
tuple_same(gconstpointer a, gconstpointer b)
{
    return memcmp(a, b, sizeof(struct layout_tuple)) == 0;
}

/* S2: tuple of the look before → its flow, borrowed from there. */
static GHashTable *
index_of(const struct look *look)
{
    GHashTable *table = g_hash_table_new(tuple_hash, tuple_same);
    for (guint i = 0; look->flows != NULL && i < look->flows->len; i++) {
        FastFlow *flow = &g_array_index(look->flows, FastFlow, i);
        g_hash_table_insert(table, &flow->key, flow);
    }
    return table;
}

static guint32
age_ms(gint64 now_ns, guint64 then_ns)
{
    return (guint64) now_ns > then_ns ? (guint32) (((guint64) now_ns - then_ns) / 1000000) : 0;
}

/* Why its next packet takes the slow path; "" when it doesn't. */
static const char *
why_slow(FastPorts *fast, const FastFlow *flow)
{
    struct layout_nic nic;
    switch (flow->state) {
    case FASTAGE_HALF:
        return "no answer of the other end has been seen yet";
    case FASTAGE_STALE:
        return "its networks have changed since it was learned";
    case FASTAGE_EXPIRED:
        return "no packet of it came out of OVN within the time of a proof";
    default:
        break;
    }
    if (fastload_config(fastport_load(fast))->off & FASTLOAD_OFF_ASKED) {
        return "the fast path is switched off";
    }
    if (fastload_config(fastport_load(fast))->off != 0) {
        return "the switch's conntrack is not shown to be liberal";
    }
    return fastload_port_at(fastport_load(fast), flow->key.nic, &nic) && (nic.flags & LAYOUT_NIC_ON)
               ? ""
               : "its port is switched off";
}

static Dpd__FastFlow *
flow_show(FastPorts *fast, FastPool *pool, const FastFlow *flow, gint64 now_ns)
{
    Dpd__FastFlow *ret = keep(pool, g_new0(Dpd__FastFlow, 1));
    const struct layout_tuple *key = &flow->key, *out = &flow->flow.out;
    dpd__fast_flow__init(ret);
    ret->port = keep(pool, g_strdup(fastport_id(fast, key->nic)));
    ret->to_port = keep(pool, g_strdup(fastport_id(fast, out->nic)));
    ret->source = keep_address(pool, key->src, key->family);
    ret->destination = keep_address(pool, key->dst, key->family);
    ret->source_port = port_text(key, true);
    ret->destination_port = port_text(key, false);
    ret->protocol = key->proto;
    if (flow->flow.flags & LAYOUT_FLOW_NAT) {
        ret->to_source = keep_address(pool, out->src, out->family);
        ret->to_destination = keep_address(pool, out->dst, out->family);
        ret->to_source_port = port_text(out, true);
        ret->to_destination_port = port_text(out, false);
    }
    ret->state = (char *) (guintptr) fastage_state_text(flow->state);
    ret->why = (char *) (guintptr) why_slow(fast, flow);
    ret->packets = flow->flow.packets;
    ret->bytes = flow->flow.bytes;
    ret->idle_ms = age_ms(now_ns, MAX(flow->flow.used_ns, flow->flow.proven_ns));
    ret->proven_ms = age_ms(now_ns, flow->flow.proven_ns);
    ret->proofs = flow->flow.matched;
    ret->hops = flow->flow.ttl_delta;
    return ret;
}

static void
put_rate(Dpd__FastFlow *ret, const FastFlow *now, const FastFlow *before, gint64 passed_ns)
{
    if (before == NULL || passed_ns <= 0 || now->flow.packets < before->flow.packets) {
        return;
    }
    double seconds = (double) passed_ns / 1e9;
    ret->packets_per_s =
        (guint64) ((double) (now->flow.packets - before->flow.packets) / seconds + 0.5);
    ret->bits_per_s = (guint64) ((double) (now->flow.bytes - before->flow.bytes) * 8 / seconds);
}

bool
fastshow_flows(FastPorts *fast, const Dpd__FastFlows *want, FastPool *pool, Dpd__FastFlows *ret,
               GError **error)
{
    struct filter filter = {0};
    if (!check(fast, error) || !filter_parse(fast, want, &filter, error)) {
        return false;
    }
    guint limit = want->limit != 0 ? MIN(want->limit, (guint) LIMIT_MAX) : (guint) LIMIT;
    struct look before = {.load = fastport_load(fast), .filter = &filter, .limit = limit};
    struct look now = before;
    g_autoptr(GArray) first = g_array_new(FALSE, FALSE, sizeof(FastFlow));
    g_autoptr(GArray) second = g_array_new(FALSE, FALSE, sizeof(FastFlow));
    before.flows = first;
    now.flows = second;
    if (want->rates) {
        fiber_run(look_run, &before);
        fiber_sleep_ms(RATE_MS, NULL, NULL);
    }
    fiber_run(look_run, &now);
    g_autoptr(GHashTable) known = index_of(&before);
    dpd__fast_flows__init(ret);
    ret->total = now.total;
    ret->flows = keep(pool, g_new0(Dpd__FastFlow *, second->len + 1));
    for (guint i = 0; i < second->len; i++) {
        const FastFlow *flow = &g_array_index(second, FastFlow, i);
        Dpd__FastFlow *shown = flow_show(fast, pool, flow, now.at_ns);
        put_rate(shown, flow, g_hash_table_lookup(known, &flow->key), now.at_ns - before.at_ns);
        ret->flows[ret->n_flows++] = shown;
    }
    return true;
}

/* ---- counters ---- */

struct sums {
    FastLoad *load;
    guint64 fast, half;
    guint64 packets[LAYOUT_NICS], bytes[LAYOUT_NICS];
};

static void
sum_one(const FastFlow *flow, void *data)
{
    struct sums *sums = data;
    bool fast = flow->state == FASTAGE_FAST || flow->state == FASTAGE_PROBING;
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

static void
show_counts(FastLoad *load, FastPool *pool, Dpd__FastStats *ret)
{
    guint64 counters[LAYOUT_REASON_COUNT];
    if (!fastage_counters(load, counters, NULL)) {
        return;
    }
    ret->counts = keep(pool, g_new0(Dpd__FastCount *, LAYOUT_REASON_COUNT));
    for (guint i = 0; i < LAYOUT_REASON_COUNT; i++) {
        Dpd__FastCount *count = keep(pool, g_new0(Dpd__FastCount, 1));
        dpd__fast_count__init(count);
        count->reason = (char *) (guintptr) fastage_reason_text(i);
        count->packets = counters[i];
        ret->counts[ret->n_counts++] = count;
    }
}

struct listing {
    FastPorts *fast;
    FastPool *pool;
    const struct sums *sums; /* NULL without a fast path */
    Dpd__FastStats *ret;
};

static void
show_port(const char *id, const char *netdev, const char *slow, void *data)
{
    const struct listing *listing = data;
    FastPool *pool = listing->pool;
    Dpd__FastPortStats *port = keep(pool, g_new0(Dpd__FastPortStats, 1));
    dpd__fast_port_stats__init(port);
    port->id = keep(pool, g_strdup(id));
    port->netdev = keep(pool, g_strdup(netdev));
    port->slow = keep(pool, g_strdup(slow));
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
fastshow_stats(FastPorts *fast, FastPool *pool, Dpd__FastStats *ret, GError **error)
{
    FastLoad *load = fastport_load(fast);
    struct sums *sums = load != NULL ? keep(pool, g_new0(struct sums, 1)) : NULL;
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
        show_counts(load, pool, ret);
    }
    struct listing listing = {fast, pool, sums, ret};
    ret->ports = keep(pool, g_new0(Dpd__FastPortStats *, fastport_count(fast) + 1));
    fastport_each(fast, show_port, &listing);
    return true;
}

/* ---- packets ---- */

struct trace {
    FastPool *pool;
    FastPorts *fast;
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
        return 0;
    }
    Dpd__FastEvent *shown = keep(trace->pool, g_new0(Dpd__FastEvent, 1));
    dpd__fast_event__init(shown);
    shown->port = keep(trace->pool, g_strdup(fastport_id(trace->fast, event->tuple.nic)));
    shown->out = event->out != 0;
    if (event->tuple.family != 0) {
        shown->source = keep_address(trace->pool, event->tuple.src, event->tuple.family);
        shown->destination = keep_address(trace->pool, event->tuple.dst, event->tuple.family);
    }
    shown->source_port = port_text(&event->tuple, true);
    shown->destination_port = port_text(&event->tuple, false);
    shown->protocol = event->tuple.proto;
    shown->size = event->size;
    shown->verdict = (char *) (guintptr) fastage_reason_text(event->reason);
    shown->at_ns = event->at_ns;
    trace->ret->events[trace->ret->n_events++] = shown;
    return 0;
}

static bool
trace_begin(FastPorts *fast, const Dpd__FastTrace *want, GError **error)
{
    volatile struct layout_config *config = fastload_config(fastport_load(fast));
    struct end end = {0};
    int slot = want->port[0] != '\0' ? fastport_slot(fast, want->port) : 0;
    if (slot < 0) {
        return haw_fail(error, HAW_NOT_FOUND, "Port \"%s\" is not on the fast path", want->port);
    }
    if (!end_parse(want->address, &end, error)) {
        return false;
    }
    config->trace_nic = want->port[0] != '\0' ? (guint32) slot + 1 : 0;
    config->trace_family = end.family;
    for (int i = 0; i < 4; i++) {
        config->trace_addr[i] = end.address[i];
    }
    config->trace = 1;
    return true;
}

bool
fastshow_trace(FastPorts *fast, const Dpd__FastTrace *want, FastPool *pool, Dpd__FastTrace *ret,
               GError **error)
{
    static bool busy; /* S3 */
    if (!check(fast, error)) {
        return false;
    }
    if (busy) {
        return haw_fail(error, HAW_BUSY, "Somebody else traces packets");
    }
    dpd__fast_trace__init(ret);
    struct trace trace = {.pool = pool,
                          .fast = fast,
                          .ret = ret,
                          .limit = want->limit != 0 ? MIN(want->limit, (guint) LIMIT_MAX)
                                                    : (guint) LIMIT};
    ret->events = keep(pool, g_new0(Dpd__FastEvent *, trace.limit + 1));
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
    gint64 wait_ms = want->wait_ms != 0 ? MIN(want->wait_ms, (guint) TRACE_MAX_MS) : TRACE_MS;
    gint64 end_us = clock_mono_us() + wait_ms * 1000;
    busy = ok;
    for (gint64 left_us;
         ok && ret->n_events < trace.limit && (left_us = end_us - clock_mono_us()) > 0;) {
        fiber_wait_fd(ring_buffer__epoll_fd(ring), G_IO_IN, left_us / 1000 + 1, NULL, NULL);
        ring_buffer__consume(ring);
    }
    fastload_config(fastport_load(fast))->trace = 0;
    busy = false;
    ring_buffer__free(ring);
    return ok;
}
