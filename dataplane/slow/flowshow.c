/* Flows as people see them: what both engines, the kernel's and the polled one, say of what they have learned.
 * S1  A walk keeps no more than the request's limit; the rest is counted.
 * S2  A rate is the difference of two looks; nothing is kept between requests.
 * Called by fastshow.c and poll/pollshow.c. */
#include "dataplane/slow/flowshow.h"

#include <arpa/inet.h>
#include <string.h>

#include "base/fiber.h"

enum { LIMIT = 1000, LIMIT_MAX = 20000, RATE_MS = 500, TRACE_MS = 1000, TRACE_MAX_MS = 60000 };

/* ---- words ---- */

const char *
flowshow_reason_text(guint reason)
{
    static const char *const words[] = {
#define WORD(name, word) word,
        LAYOUT_REASONS(WORD)
#undef WORD
    };
    return reason < G_N_ELEMENTS(words) ? words[reason] : NULL;
}

const char *
flowshow_state_text(FlowState state)
{
    static const char *const words[] = {"half", "fast", "probing", "expired", "stale"};
    return words[state];
}

FlowState
flowshow_state(const volatile struct layout_config *config, guint zone,
               const struct layout_flow *flow, guint64 now_ns)
{
    if (flow->generation != config->generation[zone % LAYOUT_ZONES]) {
        return FLOWSHOW_STALE;
    }
    if (!(flow->flags & LAYOUT_FLOW_FAST)) {
        return FLOWSHOW_HALF;
    }
    if (now_ns >= flow->proven_ns + config->expire_ns) {
        return FLOWSHOW_EXPIRED;
    }
    return flow->probe_ns > flow->proven_ns ? FLOWSHOW_PROBING : FLOWSHOW_FAST;
}

/* ---- memory of an answer ---- */

struct ShowPool {
    GPtrArray *blocks; /* owned */
};

ShowPool *
showpool_new(void)
{
    ShowPool *pool = g_new0(ShowPool, 1);
    pool->blocks = g_ptr_array_new_with_free_func(g_free);
    return pool;
}

void
showpool_free(ShowPool *pool)
{
    if (pool != NULL) {
        g_ptr_array_unref(pool->blocks);
        g_free(pool);
    }
}

void *
showpool_keep(ShowPool *pool, void *block)
{
    g_ptr_array_add(pool->blocks, block);
    return block;
}

static char *
keep_address(ShowPool *pool, const __be32 *address, guint family)
{
    char text[INET6_ADDRSTRLEN] = "";
    inet_ntop(family == 4 ? AF_INET : AF_INET6, address, text, sizeof text);
    return showpool_keep(pool, g_strdup(text));
}

/* ICMP echo has its identifier in the place of the source's port, and a type in the other's. */
static guint
port_text(const struct layout_tuple *tuple, bool source)
{
    bool echo = tuple->proto == IPPROTO_ICMP || tuple->proto == IPPROTO_ICMPV6;
    return source ? ntohs(tuple->sport) : echo ? 0 : ntohs(tuple->dport);
}

/* ---- filters ---- */

struct end {
    guint family; /* 0: any */
    __be32 address[4];
};

bool
flowshow_address(const char *text, guint *ret_family, __be32 ret_address[4], GError **error)
{
    memset(ret_address, 0, 4 * sizeof *ret_address);
    *ret_family = text[0] == '\0'                               ? 0
                  : inet_pton(AF_INET, text, ret_address) == 1  ? 4
                  : inet_pton(AF_INET6, text, ret_address) == 1 ? 6
                                                                : G_MAXUINT;
    return *ret_family != G_MAXUINT || haw_fail(error, HAW_INVALID, "\"%s\" is no address", text);
}

static bool
end_parse(const char *text, struct end *ret, GError **error)
{
    return flowshow_address(text, &ret->family, ret->address, error);
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
    int nic; /* -1: any */
    char state[16];
};

static bool
filter_parse(const FlowEngine *engine, const Dpd__FastFlows *want, struct filter *ret,
             GError **error)
{
    Dpd__FastFlow none = DPD__FAST_FLOW__INIT;
    const Dpd__FastFlow *one = want->filter != NULL ? want->filter : &none;
    ret->sport = one->source_port;
    ret->dport = one->destination_port;
    ret->any_port = want->any_port;
    ret->proto = one->protocol;
    ret->nic = -1;
    g_strlcpy(ret->state, one->state, sizeof ret->state);
    if (one->port[0] != '\0') {
        ret->nic = engine->nic(engine->data, one->port);
        if (ret->nic < 0) {
            return haw_fail(error, HAW_NOT_FOUND, "Port \"%s\" is not on the fast path", one->port);
        }
    }
    return end_parse(one->source, &ret->source, error) &&
           end_parse(one->destination, &ret->destination, error) &&
           end_parse(want->address, &ret->any, error);
}

static bool
filter_takes(const struct filter *filter, const FlowSeen *flow)
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
           (filter->nic < 0 || filter->nic == key->nic) &&
           (filter->state[0] == '\0' ||
            strcmp(filter->state, flowshow_state_text(flow->state)) == 0);
}

/* ---- flows ---- */

/* S1 */
struct look {
    const struct filter *filter;
    guint64 at_ns;
    guint limit;
    guint64 total;
    GArray *flows;
};

static void
look_one(const FlowSeen *flow, void *data)
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
        FlowSeen *flow = &g_array_index(look->flows, FlowSeen, i);
        g_hash_table_insert(table, &flow->key, flow);
    }
    return table;
}

static guint32
age_ms(guint64 now_ns, guint64 then_ns)
{
    return now_ns > then_ns ? (guint32) ((now_ns - then_ns) / 1000000) : 0;
}

/* Why its next packet takes the slow path; "" when it doesn't. */
static const char *
why_slow(const FlowEngine *engine, const FlowSeen *flow)
{
    switch (flow->state) {
    case FLOWSHOW_HALF:
        return "no answer of the other end has been seen yet";
    case FLOWSHOW_STALE:
        return "its networks have changed since it was learned";
    case FLOWSHOW_EXPIRED:
        return "no packet of it came out of OVN within the time of a proof";
    default:
        return engine->off(engine->data, flow->key.nic);
    }
}

static Dpd__FastFlow *
flow_show(const FlowEngine *engine, ShowPool *pool, const FlowSeen *flow, guint64 now_ns)
{
    Dpd__FastFlow *ret = showpool_keep(pool, g_new0(Dpd__FastFlow, 1));
    const struct layout_tuple *key = &flow->key, *out = &flow->flow.out;
    dpd__fast_flow__init(ret);
    ret->port = showpool_keep(pool, g_strdup(engine->id(engine->data, key->nic)));
    ret->to_port = showpool_keep(pool, g_strdup(engine->id(engine->data, out->nic)));
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
    ret->state = (char *) (guintptr) flowshow_state_text(flow->state);
    ret->why = (char *) (guintptr) why_slow(engine, flow);
    ret->packets = flow->flow.packets;
    ret->bytes = flow->flow.bytes;
    ret->idle_ms = age_ms(now_ns, MAX(flow->flow.used_ns, flow->flow.proven_ns));
    ret->proven_ms = age_ms(now_ns, flow->flow.proven_ns);
    ret->proofs = flow->flow.matched;
    ret->hops = flow->flow.ttl_delta;
    ret->offloaded = flow->offloaded;
    return ret;
}

static void
put_rate(Dpd__FastFlow *ret, const FlowSeen *now, const FlowSeen *before, guint64 passed_ns)
{
    if (before == NULL || passed_ns == 0 || now->flow.packets < before->flow.packets) {
        return;
    }
    double seconds = (double) passed_ns / 1e9;
    ret->packets_per_s =
        (guint64) ((double) (now->flow.packets - before->flow.packets) / seconds + 0.5);
    ret->bits_per_s = (guint64) ((double) (now->flow.bytes - before->flow.bytes) * 8 / seconds);
}

guint
flowshow_limit(guint asked)
{
    return asked != 0 ? MIN(asked, (guint) LIMIT_MAX) : (guint) LIMIT;
}

bool
flowshow_list(const FlowEngine *engine, const Dpd__FastFlows *want, ShowPool *pool,
              Dpd__FastFlows *ret, GError **error)
{
    struct filter filter = {0};
    if (!filter_parse(engine, want, &filter, error)) {
        return false;
    }
    g_autoptr(GArray) first = g_array_new(FALSE, FALSE, sizeof(FlowSeen));
    g_autoptr(GArray) second = g_array_new(FALSE, FALSE, sizeof(FlowSeen));
    guint limit = flowshow_limit(want->limit);
    struct look before = {.filter = &filter, .limit = limit, .flows = first};
    struct look now = {.filter = &filter, .limit = limit, .flows = second};
    if (want->rates) {
        before.at_ns = engine->walk(engine->data, look_one, &before);
        fiber_sleep_ms(RATE_MS, NULL, NULL);
    }
    now.at_ns = engine->walk(engine->data, look_one, &now);
    g_autoptr(GHashTable) known = index_of(&before);
    dpd__fast_flows__init(ret);
    ret->total = now.total;
    ret->flows = showpool_keep(pool, g_new0(Dpd__FastFlow *, second->len + 1));
    for (guint i = 0; i < second->len; i++) {
        const FlowSeen *flow = &g_array_index(second, FlowSeen, i);
        Dpd__FastFlow *shown = flow_show(engine, pool, flow, now.at_ns);
        put_rate(shown, flow, g_hash_table_lookup(known, &flow->key), now.at_ns - before.at_ns);
        ret->flows[ret->n_flows++] = shown;
    }
    return true;
}

/* ---- counters and packets ---- */

void
flowshow_counts(const guint64 *counters, ShowPool *pool, Dpd__FastStats *ret)
{
    ret->counts = showpool_keep(pool, g_new0(Dpd__FastCount *, LAYOUT_REASON_COUNT));
    for (guint i = 0; i < LAYOUT_REASON_COUNT; i++) {
        Dpd__FastCount *count = showpool_keep(pool, g_new0(Dpd__FastCount, 1));
        dpd__fast_count__init(count);
        count->reason = (char *) (guintptr) flowshow_reason_text(i);
        count->packets = counters[i];
        ret->counts[ret->n_counts++] = count;
    }
}

Dpd__FastEvent *
flowshow_event(const FlowEngine *engine, const struct layout_event *event, ShowPool *pool)
{
    Dpd__FastEvent *shown = showpool_keep(pool, g_new0(Dpd__FastEvent, 1));
    const struct layout_tuple *tuple = &event->tuple;
    dpd__fast_event__init(shown);
    shown->port = showpool_keep(pool, g_strdup(engine->id(engine->data, tuple->nic)));
    shown->out = event->out != 0;
    if (tuple->family != 0) {
        shown->source = keep_address(pool, tuple->src, tuple->family);
        shown->destination = keep_address(pool, tuple->dst, tuple->family);
    }
    shown->source_port = port_text(tuple, true);
    shown->destination_port = port_text(tuple, false);
    shown->protocol = tuple->proto;
    shown->size = event->size;
    shown->verdict = (char *) (guintptr) flowshow_reason_text(event->reason);
    shown->at_ns = event->at_ns;
    return shown;
}

gint64
flowshow_trace_ms(const Dpd__FastTrace *want)
{
    return want->wait_ms != 0 ? MIN(want->wait_ms, (guint) TRACE_MAX_MS) : TRACE_MS;
}
