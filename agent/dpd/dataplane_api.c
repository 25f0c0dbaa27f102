/* /1.0/hawser/dataplane: the fast path between OVN's ports, as hawser-dpd has it. Ours, not LXD's.
 *
 *   GET  /1.0/hawser/dataplane         counters, ports, and why one is slow
 *   PUT  /1.0/hawser/dataplane         {"fastpath": false}: all ports of this host go slow, or may be fast again
 *   GET  /1.0/hawser/dataplane/flows   ?nic= &address= &source= &destination= &port= &protocol= &state= &limit=
 *                                      &rates=true
 *   GET  /1.0/hawser/dataplane/trace   ?nic= &address= &limit= &wait_ms=: what becomes of packets meanwhile
 *
 * A NIC is "instance", "instance/device" or "project/instance/device". */
#include <string.h>

#include "agent/api/server.h"
#include "agent/dpd/dpdclient.h"
#include "agent/dpd/pollwish.h"
#include "agent/net/fastzone.h"
#include "proto/dpdwire.h"

enum { WAIT_MS = 20000, TRACE_MS = 1000, TRACE_MAX_MS = 30000 };

/* ---- names ---- */

/* "project/instance/device" of dpd's id, or that itself. */
static const char *
name_of(GHashTable *names, const char *id)
{
    const char *name = g_hash_table_lookup(names, id);
    return name != NULL ? name : id;
}

static bool
matches(const char *name, const char *wanted)
{
    g_auto(GStrv) parts = g_strsplit(name, "/", 3);
    g_auto(GStrv) asked = g_strsplit(wanted, "/", 3);
    guint count = g_strv_length(asked);
    if (g_strv_length(parts) != 3 || count == 0) {
        return false;
    }
    if (count == 3) {
        return strcmp(name, wanted) == 0;
    }
    return strcmp(parts[1], asked[0]) == 0 && (count == 1 || strcmp(parts[2], asked[1]) == 0);
}

/* dpd's id of the NIC that is asked for, borrowed from 'names'; "" when none is. */
static const char *
id_of(Request *req, GHashTable *names, GError **error)
{
    const char *wanted = req_query(req, "nic");
    GHashTableIter iter;
    gpointer id, name;
    const char *found = NULL;
    if (wanted == NULL || *wanted == '\0') {
        return "";
    }
    g_hash_table_iter_init(&iter, names);
    while (g_hash_table_iter_next(&iter, &id, &name)) {
        if (matches(name, wanted)) {
            if (found != NULL) {
                haw_fail(error, HAW_INVALID,
                         "\"%s\" has several NICs: say \"project/instance/device\"", wanted);
                return NULL;
            }
            found = id;
        }
    }
    if (found == NULL) {
        haw_fail(error, HAW_NOT_FOUND, "No NIC \"%s\" on an OVN network", wanted);
    }
    return found;
}

static bool
number_of(Request *req, const char *name, guint most, guint32 *ret, GError **error)
{
    const char *text = req_query(req, name);
    guint64 value = 0;
    if (text != NULL && *text != '\0' &&
        !g_ascii_string_to_unsigned(text, 10, 0, most, &value, NULL)) {
        return haw_fail(error, HAW_INVALID, "Invalid %s \"%s\"", name, text);
    }
    *ret = (guint32) value;
    return true;
}

static bool
protocol_of(Request *req, guint32 *ret, GError **error)
{
    static const struct {
        const char *name;
        guint number;
    } known[] = {{"icmp", 1}, {"tcp", 6}, {"udp", 17}, {"icmp6", 58}};
    const char *text = req_query(req, "protocol");
    for (size_t i = 0; text != NULL && i < G_N_ELEMENTS(known); i++) {
        if (strcmp(text, known[i].name) == 0) {
            *ret = known[i].number;
            return true;
        }
    }
    return number_of(req, "protocol", 255, ret, error);
}

static const char *
protocol_name(guint number)
{
    return number == 6    ? "tcp"
           : number == 17 ? "udp"
           : number == 1  ? "icmp"
           : number == 58 ? "icmp6"
                          : "other";
}

static char *
query(Request *req, const char *name)
{
    const char *text = req_query(req, name);
    return (char *) (guintptr) (text != NULL ? text : "");
}

/* ---- what is ---- */

static json_t *
port_json(const Dpd__FastPortStats *port, GHashTable *names)
{
    return json_pack("{s:s, s:s, s:s, s:i, s:b, s:s, s:I, s:I}", "nic", name_of(names, port->id),
                     "id", port->id, "interface", port->netdev, "zone", (int) port->zone, "fast",
                     port->slow[0] == '\0', "why", port->slow, "packets",
                     (json_int_t) port->packets, "bytes", (json_int_t) port->bytes);
}

static json_t *
counts_json(Dpd__FastCount **counts, size_t count)
{
    json_t *object = json_object();
    for (size_t i = 0; i < count; i++) {
        json_object_set_new(object, counts[i]->reason,
                            json_integer((json_int_t) counts[i]->packets));
    }
    return object;
}

/* Between hosts: by which interfaces. */
static json_t *
uplinks_json(const Dpd__FastStats *stats)
{
    json_t *uplinks = json_array();
    for (size_t i = 0; i < stats->n_uplinks; i++) {
        const Dpd__FarState *one = stats->uplinks[i];
        json_array_append_new(uplinks,
                              json_pack("{s:s, s:b, s:s, s:o}", "interface", one->uplink, "fast",
                                        one->slow[0] == '\0', "why", one->slow, "packets",
                                        counts_json(one->counts, one->n_counts)));
    }
    return uplinks;
}

static json_t *
stats_json(const Dpd__FastStats *stats, GHashTable *names)
{
    json_t *ports = json_array();
    for (size_t i = 0; i < stats->n_ports; i++) {
        json_array_append_new(ports, port_json(stats->ports[i], names));
    }
    const char *why = !stats->available ? stats->trouble
                      : stats->off      ? "switched off: 'hawser dataplane on'"
                      : stats->strict   ? "the switch's conntrack is not shown to be liberal"
                                        : "";
    return json_pack(
        "{s:b, s:b, s:b, s:b, s:s, s:I, s:I, s:I, s:o, s:o, s:o}", "available", stats->available,
        "fastpath", stats->available && !stats->off && !stats->strict, "switched_off", stats->off,
        "conntrack_strict", stats->strict, "why", why, "flows_fast", (json_int_t) stats->flows,
        "flows_slow", (json_int_t) stats->flows_half, "flows_max", (json_int_t) stats->room,
        "packets", counts_json(stats->counts, stats->n_counts), "ports", ports, "uplinks",
        uplinks_json(stats));
}

static json_t *
polled_ports(const Dpd__PollStatus *status, GHashTable *names)
{
    json_t *ports = json_array();
    for (size_t i = 0; i < status->n_ports; i++) {
        const Dpd__PollPortState *one = status->ports[i];
        json_array_append_new(
            ports, json_pack("{s:s, s:s, s:s, s:I, s:I, s:I}", "nic", name_of(names, one->id), "id",
                             one->id, "driver", one->device, "received", (json_int_t) one->received,
                             "sent", (json_int_t) one->sent, "missed", (json_int_t) one->missed));
    }
    return ports;
}

static json_t *
polling_cores(const Dpd__PollStatus *status)
{
    json_t *cores = json_array();
    for (size_t i = 0; i < status->n_cores; i++) {
        const Dpd__PollCore *one = status->cores[i];
        json_array_append_new(cores, json_pack("{s:i, s:I, s:I, s:I, s:I, s:I}", "processor",
                                               (int) one->cpu, "fast", (json_int_t) one->fast,
                                               "slow", (json_int_t) one->slow, "delivered",
                                               (json_int_t) one->delivered, "busy_ms",
                                               (json_int_t) (one->busy_ns / 1000000), "napped_ms",
                                               (json_int_t) (one->napped_ns / 1000000)));
    }
    return cores;
}

/* The poll-mode process; null of a hawser-dpd that has none. */
static json_t *
poll_json(Agent *agent, GHashTable *names)
{
    g_autoptr(DpdFrame) answer = pollwish_look(agent, 0, NULL);
    const Dpd__FastPoll *poll = answer != NULL ? answer->fast_poll : NULL;
    const Dpd__PollStatus *status = poll != NULL ? poll->status : NULL;
    if (poll == NULL) {
        return json_null();
    }
    return json_pack("{s:s, s:b, s:s, s:i, s:s, s:i, s:i, s:o, s:o}", "processors", poll->cores,
                     "running", status != NULL, "why", poll->trouble, "pid",
                     status != NULL ? (int) status->pid : 0, "compares_by",
                     status != NULL ? status->signatures : "", "flows",
                     status != NULL ? (int) status->flows : 0, "flows_max",
                     status != NULL ? (int) status->flows_limit : (int) poll->flows, "ports",
                     status != NULL ? polled_ports(status, names) : json_array(), "cores",
                     status != NULL ? polling_cores(status) : json_array());
}

static bool
get_stats(Request *req, GError **error)
{
    Agent *agent = req_agent(req);
    Dpd__FastStats want = DPD__FAST_STATS__INIT;
    Dpd__Frame frame = DPD__FRAME__INIT;
    frame.body_case = DPD__FRAME__BODY_FAST_STATS;
    frame.fast_stats = &want;
    g_autoptr(DpdFrame) answer = dpdclient_fast(agent->dpd, &frame, WAIT_MS, error);
    if (answer == NULL) {
        return false;
    }
    g_autoptr(GHashTable) names = fastzone_names(agent);
    json_t *stats = stats_json(answer->fast_stats, names);
    json_object_set_new(stats, "poll", poll_json(agent, names));
    return req_reply(req, stats);
}

static bool
put_switch(Request *req, GError **error)
{
    json_t *on = json_object_get(req_json(req), "fastpath");
    Dpd__FastSwitch want = DPD__FAST_SWITCH__INIT;
    Dpd__Frame frame = DPD__FRAME__INIT;
    if (!json_is_boolean(on)) {
        return haw_fail(error, HAW_INVALID, "\"fastpath\" is true or false");
    }
    want.on = json_is_true(on);
    frame.body_case = DPD__FRAME__BODY_FAST_SWITCH;
    frame.fast_switch = &want;
    g_autoptr(DpdFrame) answer = dpdclient_fast(req_agent(req)->dpd, &frame, WAIT_MS, error);
    return answer != NULL && req_reply(req, NULL);
}

/* ---- flows ---- */

static json_t *
end_json(const char *address, guint port)
{
    return json_pack("{s:s, s:i}", "address", address, "port", (int) port);
}

static json_t *
flow_json(const Dpd__FastFlow *flow, GHashTable *names)
{
    json_t *nat =
        flow->to_source[0] != '\0'
            ? json_pack("{s:o, s:o}", "source", end_json(flow->to_source, flow->to_source_port),
                        "destination", end_json(flow->to_destination, flow->to_destination_port))
            : json_null();
    return json_pack(
        "{s:s, s:s, s:s, s:o, s:o, s:o, s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:i, s:i, s:b}",
        "nic", name_of(names, flow->port), "to", name_of(names, flow->to_port), "protocol",
        protocol_name(flow->protocol), "source", end_json(flow->source, flow->source_port),
        "destination", end_json(flow->destination, flow->destination_port), "nat", nat, "state",
        flow->state, "why", flow->why, "packets", (json_int_t) flow->packets, "bytes",
        (json_int_t) flow->bytes, "packets_per_second", (json_int_t) flow->packets_per_s,
        "bits_per_second", (json_int_t) flow->bits_per_s, "idle_ms", (json_int_t) flow->idle_ms,
        "proven_ms", (json_int_t) flow->proven_ms, "proofs", (int) flow->proofs, "hops",
        (int) flow->hops, "offloaded", flow->offloaded);
}

static bool
get_flows(Request *req, GError **error)
{
    Agent *agent = req_agent(req);
    Dpd__FastFlow filter = DPD__FAST_FLOW__INIT;
    Dpd__FastFlows want = DPD__FAST_FLOWS__INIT;
    Dpd__Frame frame = DPD__FRAME__INIT;
    g_autoptr(GHashTable) names = fastzone_names(agent);
    const char *id = id_of(req, names, error);
    if (id == NULL || !number_of(req, "port", 65535, &want.any_port, error) ||
        !number_of(req, "limit", G_MAXUINT32, &want.limit, error) ||
        !protocol_of(req, &filter.protocol, error)) {
        return false;
    }
    filter.port = (char *) (guintptr) id;
    filter.source = query(req, "source");
    filter.destination = query(req, "destination");
    filter.state = query(req, "state");
    want.filter = &filter;
    want.address = query(req, "address");
    want.rates = req_query_bool(req, "rates");
    frame.body_case = DPD__FRAME__BODY_FAST_FLOWS;
    frame.fast_flows = &want;
    g_autoptr(DpdFrame) answer = dpdclient_fast(agent->dpd, &frame, WAIT_MS, error);
    if (answer == NULL) {
        return false;
    }
    const Dpd__FastFlows *flows = answer->fast_flows;
    json_t *list = json_array();
    for (size_t i = 0; i < flows->n_flows; i++) {
        json_array_append_new(list, flow_json(flows->flows[i], names));
    }
    return req_reply(req,
                     json_pack("{s:I, s:o}", "total", (json_int_t) flows->total, "flows", list));
}

/* ---- packets ---- */

static json_t *
event_json(const Dpd__FastEvent *event, GHashTable *names)
{
    return json_pack("{s:I, s:s, s:s, s:s, s:o, s:o, s:i, s:s}", "at_ns", (json_int_t) event->at_ns,
                     "nic", name_of(names, event->port), "direction", event->out ? "out" : "in",
                     "protocol", protocol_name(event->protocol), "source",
                     end_json(event->source, event->source_port), "destination",
                     end_json(event->destination, event->destination_port), "bytes",
                     (int) event->size, "verdict", event->verdict);
}

static bool
get_trace(Request *req, GError **error)
{
    Agent *agent = req_agent(req);
    Dpd__FastTrace want = DPD__FAST_TRACE__INIT;
    Dpd__Frame frame = DPD__FRAME__INIT;
    g_autoptr(GHashTable) names = fastzone_names(agent);
    const char *id = id_of(req, names, error);
    if (id == NULL || !number_of(req, "limit", G_MAXUINT32, &want.limit, error) ||
        !number_of(req, "wait_ms", TRACE_MAX_MS, &want.wait_ms, error)) {
        return false;
    }
    want.port = (char *) (guintptr) id;
    want.address = query(req, "address");
    want.wait_ms = want.wait_ms != 0 ? want.wait_ms : TRACE_MS;
    frame.body_case = DPD__FRAME__BODY_FAST_TRACE;
    frame.fast_trace = &want;
    g_autoptr(DpdFrame) answer = dpdclient_fast(agent->dpd, &frame, WAIT_MS + TRACE_MAX_MS, error);
    if (answer == NULL) {
        return false;
    }
    json_t *list = json_array();
    for (size_t i = 0; i < answer->fast_trace->n_events; i++) {
        json_array_append_new(list, event_json(answer->fast_trace->events[i], names));
    }
    return req_reply(req, json_pack("{s:I, s:o}", "lost", (json_int_t) answer->fast_trace->lost,
                                    "packets", list));
}

const Route dataplane_routes[] = {
    {"GET", "/1.0/hawser/dataplane", get_stats, ROUTE_ADMIN},
    {"PUT", "/1.0/hawser/dataplane", put_switch, ROUTE_ADMIN | ROUTE_BODY_JSON},
    {"GET", "/1.0/hawser/dataplane/flows", get_flows, ROUTE_ADMIN},
    {"GET", "/1.0/hawser/dataplane/trace", get_trace, ROUTE_ADMIN},
    {NULL},
};
