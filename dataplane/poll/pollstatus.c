/* The poll-mode engine in numbers: ports, cores (counters, reasons, latency), flows. All strings and
 * messages belong to one GPtrArray, and go with it. Called by pollsock.c. */
#include "dataplane/poll/pollstatus.h"

#include <arpa/inet.h>
#include <rte_cycles.h>
#include <rte_ethdev.h>
#include <string.h>
#include <unistd.h>

#include "dataplane/poll/pollshow.h"

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
    state->reasons = NEW(status, Dpd__Pair *, LAYOUT_REASON_COUNT);
    for (guint i = 0; i < LAYOUT_REASON_COUNT; i++) {
        if (core->seat.counters[i] > 0) {
            Dpd__Pair *pair = NEW(status, Dpd__Pair, 1);
            dpd__pair__init(pair);
            pair->key = (char *) (guintptr) flowshow_reason_text(i);
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

struct listing {
    PollStatus *status;
    Poller *poller;
    guint limit;
};

static void
add_flow(const FlowSeen *seen, void *data)
{
    const struct listing *listing = data;
    PollStatus *status = listing->status;
    if (status->message.n_listed == listing->limit) {
        return;
    }
    Dpd__PollFlow *flow = NEW(status, Dpd__PollFlow, 1);
    dpd__poll_flow__init(flow);
    flow->text = flow_text(status, &seen->key);
    flow->from = own(status, g_strdup(pollshow_id(listing->poller, seen->key.nic)));
    flow->to = own(status, g_strdup(pollshow_id(listing->poller, seen->flow.out.nic)));
    flow->state = (char *) (guintptr) flowshow_state_text(seen->state);
    flow->packets = seen->flow.packets;
    flow->bytes = seen->flow.bytes;
    flow->offloaded = seen->offloaded;
    status->message.listed[status->message.n_listed++] = flow;
}

static void
add_flows(PollStatus *status, Poller *poller, guint limit)
{
    struct listing listing = {status, poller, MIN(limit, poller_engine(poller)->table.limit)};
    if (listing.limit > 0) {
        status->message.listed = NEW(status, Dpd__PollFlow *, listing.limit);
        pollshow_walk(poller, add_flow, &listing);
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
