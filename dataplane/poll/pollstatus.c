/* The poll-mode engine in numbers: ports, cores (counters, reasons, latency), flows. All strings and
 * messages belong to one GPtrArray, and go with it. Called by pollsock.c. */
#include "dataplane/poll/pollstatus.h"

#include <arpa/inet.h>
#include <rte_cycles.h>
#include <rte_ethdev.h>
#include <string.h>
#include <unistd.h>

struct PollStatus {
    Dpd__PollStatus message;
    GPtrArray *owned; /* g_free() */
};

static void *
own(PollStatus *status, void *memory)
{
    g_ptr_array_add(status->owned, memory);
    return memory;
}

#define NEW(status, type, count) ((type *) own((status), g_new0(type, MAX((count), 1u))))

/* ---- ports ---- */

static char *
driver_of(PollStatus *status, const PollDev *dev)
{
    struct rte_eth_dev_info info;
    if (dev == NULL || rte_eth_dev_info_get(dev->port, &info) != 0) {
        return (char *) "";
    }
    return own(status, g_strdup(info.driver_name));
}

static void
add_ports(PollStatus *status, Poller *poller)
{
    GPtrArray *ports = poller_ports(poller);
    Dpd__PollStatus *message = &status->message;
    message->ports = NEW(status, Dpd__PollPortState *, ports->len);
    for (guint i = 0; i < ports->len; i++) {
        const PollerSeat *seat = ports->pdata[i];
        Dpd__PollPortState *state = NEW(status, Dpd__PollPortState, 1);
        struct rte_eth_stats stats = {0};
        dpd__poll_port_state__init(state);
        rte_eth_stats_get(seat->dev->port, &stats);
        state->id = seat->id;
        state->nic = seat->nic;
        state->device = driver_of(status, seat->dev);
        state->slow = driver_of(status, seat->slow);
        state->interrupts = seat->dev->interrupts;
        state->flows = (char *) (guintptr) pollflows_word(seat->dev->flows);
        state->offload = seat->dev->flows == POLLFLOWS_FORWARD;
        struct polloffload_total total = polloffload_total(poller_offload(poller), seat->nic);
        state->rules = total.rules;
        state->rules_made = total.made;
        state->rules_refused = total.refused;
        state->rules_packets = total.packets;
        message->offloaded += total.rules;
        state->received = stats.ipackets;
        state->sent = stats.opackets;
        state->missed = stats.imissed + stats.rx_nombuf;
        message->ports[message->n_ports++] = state;
    }
}

/* ---- cores ---- */

static void
add_reasons(PollStatus *status, const struct pollcore *core, Dpd__PollCore *state)
{
    static const char *const words[] = {
#define WORD(name, word) word,
        LAYOUT_REASONS(WORD)
#undef WORD
    };
    state->reasons = NEW(status, Dpd__Pair *, LAYOUT_REASON_COUNT);
    for (guint i = 0; i < LAYOUT_REASON_COUNT; i++) {
        if (core->seat.counters[i] > 0) {
            Dpd__Pair *pair = NEW(status, Dpd__Pair, 1);
            dpd__pair__init(pair);
            pair->key = (char *) (guintptr) words[i];
            pair->value = own(status, g_strdup_printf("%llu", core->seat.counters[i]));
            state->reasons[state->n_reasons++] = pair;
        }
    }
}

static void
add_latency(PollStatus *status, const struct pollcore *core, Dpd__PollCore *state)
{
    state->latency = NEW(status, uint64_t, 2u * POLLCORE_HIST);
    for (guint i = 0; i < POLLCORE_HIST; i++) {
        if (core->hist[i] > 0) {
            state->latency[state->n_latency++] = pollcore_hist_ns(i);
            state->latency[state->n_latency++] = core->hist[i];
        }
    }
}

static void
add_cores(PollStatus *status, Poller *poller)
{
    Dpd__PollStatus *message = &status->message;
    message->cores = NEW(status, Dpd__PollCore *, RTE_MAX_LCORE);
    for (guint i = 0; poller_core(poller, i) != NULL; i++) {
        const struct pollcore *core = poller_core(poller, i);
        Dpd__PollCore *state = NEW(status, Dpd__PollCore, 1);
        dpd__poll_core__init(state);
        state->cpu = core->lcore;
        state->loops = core->stats.loops;
        state->received = core->stats.received;
        state->fast = core->stats.fast;
        state->slow = core->stats.slow;
        state->delivered = core->stats.delivered;
        state->swallowed = core->stats.swallowed;
        state->copies = core->stats.copies;
        state->unsent = core->stats.unsent;
        state->unroutable = core->stats.unroutable;
        state->naps = core->stats.naps;
        state->napped_ns = core->stats.napped_ns;
        state->busy_ns =
            (guint64) ((double) core->stats.busy_cycles * 1e9 / (double) rte_get_tsc_hz());
        add_reasons(status, core, state);
        add_latency(status, core, state);
        message->cores[message->n_cores++] = state;
    }
}

/* ---- flows ---- */

static char *
id_of(Poller *poller, guint16 nic)
{
    GPtrArray *ports = poller_ports(poller);
    for (guint i = 0; i < ports->len; i++) {
        const PollerSeat *seat = ports->pdata[i];
        if (seat->nic == nic) {
            return seat->id;
        }
    }
    return (char *) "";
}

static char *
flow_text(PollStatus *status, const struct layout_tuple *key)
{
    char src[INET6_ADDRSTRLEN], dst[INET6_ADDRSTRLEN];
    int family = key->family == 4 ? AF_INET : AF_INET6;
    inet_ntop(family, key->src, src, sizeof src);
    inet_ntop(family, key->dst, dst, sizeof dst);
    const char *proto = key->proto == PACKET_TCP   ? "tcp"
                        : key->proto == PACKET_UDP ? "udp"
                                                   : "icmp";
    return own(status, g_strdup_printf("%s %s:%u > %s:%u", proto, src, ntohs(key->sport), dst,
                                       ntohs(key->dport)));
}

static const char *
flow_state(Poller *poller, const struct flowtable_entry *entry, guint64 now_ns)
{
    const struct engine *engine = poller_engine(poller);
    guint16 zone = engine->nics[entry->key.nic % LAYOUT_NICS].zone;
    if (entry->flow.generation != engine->config.generation[zone % LAYOUT_ZONES]) {
        return "generation";
    }
    if (!(entry->flow.flags & LAYOUT_FLOW_FAST)) {
        return "half";
    }
    return now_ns >= entry->flow.proven_ns + engine->config.expire_ns ? "expired" : "fast";
}

static void
add_flows(PollStatus *status, Poller *poller, guint limit)
{
    Dpd__PollStatus *message = &status->message;
    const struct flowtable *table = &poller_engine(poller)->table;
    const struct pollcore *core = poller_core(poller, 0);
    guint64 now_ns = pollcore_ns(core, rte_rdtsc());
    message->listed = NEW(status, Dpd__PollFlow *, MIN(limit, table->limit));
    for (guint32 slot = 0; slot < table->buckets * FLOWTABLE_WAYS && message->n_listed < limit;
         slot++) {
        if (__atomic_load_n(&table->signs[slot], __ATOMIC_ACQUIRE) == 0) {
            continue;
        }
        const struct flowtable_entry *entry = &table->entries[slot];
        const struct flowtable_permit *permit = &table->permits[slot];
        Dpd__PollFlow *flow = NEW(status, Dpd__PollFlow, 1);
        dpd__poll_flow__init(flow);
        flow->text = flow_text(status, &entry->key);
        flow->from = id_of(poller, entry->key.nic);
        flow->to = id_of(poller, entry->flow.out.nic);
        flow->state = (char *) (guintptr) flow_state(poller, entry, now_ns);
        flow->packets = entry->flow.packets + FLOWTABLE_PACKETS(permit->carried);
        flow->bytes = entry->flow.bytes + FLOWTABLE_BYTES(permit->carried);
        flow->offloaded = polloffload_has(poller_offload(poller), &entry->key);
        message->listed[message->n_listed++] = flow;
    }
}

PollStatus *
pollstatus_new(Poller *poller, guint flows)
{
    PollStatus *status = g_new0(PollStatus, 1);
    Dpd__PollStatus *message = &status->message;
    dpd__poll_status__init(message);
    status->owned = g_ptr_array_new_with_free_func(g_free);
    message->pid = (guint32) getpid();
    message->signatures = (char *) (guintptr) engine_isa_set(ENGINE_ISA_BEST);
    message->flows = poller_engine(poller)->table.count;
    message->flows_limit = poller_engine(poller)->table.limit;
    message->table_bytes = poller_table_bytes(poller);
    add_ports(status, poller);
    add_cores(status, poller);
    add_flows(status, poller, flows);
    return status;
}

Dpd__PollStatus *
pollstatus_message(PollStatus *status)
{
    return &status->message;
}

void
pollstatus_free(PollStatus *status)
{
    if (status != NULL) {
        g_ptr_array_unref(status->owned);
        g_free(status);
    }
}
