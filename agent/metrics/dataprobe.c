/* Ports, functions and representors: hawser-dpd's ledger held against the hardware's inventory.
 * A function that has no port is free; what a port of hawser-dpd has is counted by that port's kind.
 * Called by metrics.c, once a pass: looking at the hardware takes milliseconds. */
#include "agent/metrics/dataprobe.h"

#include "agent/dpd/dpdclient.h"
#include "agent/dpd/pollwish.h"
#include "base/fiber.h"
#include "hw/backend.h"
#include "proto/dpdwire.h"

#include <string.h>

enum { FLOWS_WAIT_MS = 2000 };

static void
look_run(void *data)
{
    HwInventory **inventory = data;
    g_autoptr(HwBackend) hw = hw_open(NULL, NULL);
    *inventory = hw != NULL ? hw_inventory(hw, NULL) : NULL;
}

static const char *
text_at(json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text != NULL ? text : "";
}

static void
count(GHashTable *counts, char *labels, guint add)
{
    guint before = GPOINTER_TO_UINT(g_hash_table_lookup(counts, labels));
    g_hash_table_insert(counts, labels, GUINT_TO_POINTER(before + add));
}

static void
put_counts(GHashTable *counts, MetricId id, Exposition *samples)
{
    GHashTableIter iter;
    gpointer labels, number;
    g_hash_table_iter_init(&iter, counts);
    while (g_hash_table_iter_next(&iter, &labels, &number)) {
        exposition_add(samples, id, labels, GPOINTER_TO_UINT(number));
    }
}

static GHashTable *
counts_new(void)
{
    return g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
}

static void
put_ports(json_t *status, Exposition *samples)
{
    g_autoptr(GHashTable) counts = counts_new();
    size_t i;
    json_t *port;
    json_array_foreach (json_object_get(status, "ports"), i, port) {
        count(counts,
              g_strdup_printf("kind=\"%s\",state=\"%s\"", text_at(port, "kind"),
                              text_at(port, "state")),
              1);
    }
    put_counts(counts, METRIC_PORTS, samples);
}

/* The kind of the port that has this function, NULL. */
static const char *
claimed_by(json_t *status, const char *vf)
{
    size_t i, j;
    json_t *claim, *port;
    json_array_foreach (json_object_get(status, "claims"), i, claim) {
        if (strcmp(text_at(claim, "vf"), vf) != 0) {
            continue;
        }
        json_array_foreach (json_object_get(status, "ports"), j, port) {
            if (strcmp(text_at(port, "id"), text_at(claim, "port")) == 0) {
                return text_at(port, "kind");
            }
        }
        return "claimed"; /* its port is going */
    }
    return NULL;
}

static char *
pf_label(const struct hw_pf *pf)
{
    return exposition_label("pf", pf->netdev[0] != '\0' ? pf->netdev : pf->dev);
}

static void
put_functions(const HwInventory *inventory, json_t *status, Exposition *samples)
{
    static const char *const always[] = {"free", "vf", "vdpa"};
    g_autoptr(GHashTable) counts = counts_new();
    for (guint i = 0; i < inventory->pfs->len; i++) {
        g_autofree char *pf = pf_label(hw_pf_at(inventory, i));
        for (size_t j = 0; j < G_N_ELEMENTS(always); j++) {
            count(counts, g_strdup_printf("%s,state=\"%s\"", pf, always[j]), 0);
        }
    }
    for (guint i = 0; i < inventory->vfs->len; i++) {
        const struct hw_vf *vf = hw_vf_at(inventory, i);
        g_autofree char *pf = pf_label(hw_pf_at(inventory, vf->pf));
        const char *kind = claimed_by(status, vf->dev);
        count(counts, g_strdup_printf("%s,state=\"%s\"", pf, kind != NULL ? kind : "free"), 1);
    }
    put_counts(counts, METRIC_VFS, samples);
}

static void
put_devices(const HwInventory *inventory, Exposition *samples)
{
    g_autoptr(GHashTable) vdpas = counts_new();
    g_autoptr(GHashTable) reps = counts_new();
    for (guint i = 0; i < inventory->vdpas->len; i++) {
        const struct hw_vdpa *vdpa = hw_vdpa_at(inventory, i);
        count(vdpas, exposition_label("driver", vdpa->driver), 1);
    }
    for (guint i = 0; i < inventory->reps->len; i++) {
        const struct hw_rep *rep = hw_rep_at(inventory, i);
        const struct hw_pf *pf = hw_find_pf(inventory, rep->dev);
        count(reps, pf != NULL ? pf_label(pf) : exposition_label("pf", rep->dev), 1);
    }
    put_counts(vdpas, METRIC_VDPA, samples);
    put_counts(reps, METRIC_REPS, samples);
}

/* Reasons for which a packet went through the switch; the others tell what came back out of it. */
static bool
is_slow(const char *reason)
{
    static const char *const others[] = {"hit",       "swallowed", "learned", "paired", "renewed",
                                         "unmatched", "ambiguous", "full",    NULL};
    return !g_strv_contains(others, reason);
}

static void
put_flow_counts(const Dpd__FastStats *stats, Exposition *samples)
{
    double fast = 0, slow = 0, learned = 0;
    for (size_t i = 0; i < stats->n_counts; i++) {
        const Dpd__FastCount *count = stats->counts[i];
        g_autofree char *label = exposition_label("reason", count->reason);
        double packets = (double) count->packets;
        exposition_add(samples, METRIC_FLOW_REASONS, label, packets);
        fast += strcmp(count->reason, "hit") == 0 ? packets : 0;
        learned += strcmp(count->reason, "paired") == 0 ? packets : 0;
        slow += is_slow(count->reason) ? packets : 0;
    }
    exposition_add(samples, METRIC_FLOW_PACKETS, "path=\"fast\"", fast);
    exposition_add(samples, METRIC_FLOW_PACKETS, "path=\"slow\"", slow);
    exposition_add(samples, METRIC_FLOW_LEARNED, "", learned);
    exposition_add(samples, METRIC_FLOWS, "state=\"fast\"", (double) stats->flows);
    exposition_add(samples, METRIC_FLOWS, "state=\"slow\"", (double) stats->flows_half);
}

/* An older hawser-dpd has no fast path, and says so. */
static void
put_flows(Agent *agent, Exposition *samples)
{
    Dpd__FastStats want = DPD__FAST_STATS__INIT;
    Dpd__Frame frame = DPD__FRAME__INIT;
    frame.body_case = DPD__FRAME__BODY_FAST_STATS;
    frame.fast_stats = &want;
    Dpd__Frame *answer = dpdclient_has_fast(agent->dpd)
                             ? dpdclient_fast(agent->dpd, &frame, FLOWS_WAIT_MS, NULL)
                             : NULL;
    if (answer != NULL) {
        put_flow_counts(answer->fast_stats, samples);
        dpdclient_answer_free(answer);
    }
}

static void
put_poll_counts(const Dpd__PollStatus *status, Exposition *samples)
{
    double fast = 0, slow = 0, delivered = 0;
    for (size_t i = 0; i < status->n_cores; i++) {
        const Dpd__PollCore *core = status->cores[i];
        g_autofree char *number = g_strdup_printf("%u", core->cpu);
        g_autofree char *label = exposition_label("processor", number);
        exposition_add(samples, METRIC_POLL_BUSY, label, (double) core->busy_ns / 1e9);
        fast += (double) core->fast;
        slow += (double) core->slow;
        delivered += (double) core->delivered;
    }
    exposition_add(samples, METRIC_POLL_PACKETS, "path=\"fast\"", fast);
    exposition_add(samples, METRIC_POLL_PACKETS, "path=\"slow\"", slow);
    exposition_add(samples, METRIC_POLL_PACKETS, "path=\"delivered\"", delivered);
    exposition_add(samples, METRIC_POLL_PORTS, "", (double) status->n_ports);
    exposition_add(samples, METRIC_POLL_FLOWS, "", (double) status->flows);
}

static void
put_poll(Agent *agent, Exposition *samples)
{
    g_autoptr(DpdFrame) answer =
        dpdclient_has_fast(agent->dpd) ? pollwish_look(agent, 0, NULL) : NULL;
    const Dpd__FastPoll *poll = answer != NULL ? answer->fast_poll : NULL;
    if (poll != NULL && poll->cores[0] != '\0') {
        exposition_add(samples, METRIC_POLL_UP, "", poll->status != NULL);
    }
    if (poll != NULL && poll->status != NULL) {
        put_poll_counts(poll->status, samples);
    }
}

void
dataprobe_read(Agent *agent, Exposition *samples)
{
    g_autoptr(HwInventory) inventory = NULL;
    json_auto_t *status = dpdclient_status(agent->dpd, NULL);
    fiber_run(look_run, &inventory);
    bool up = json_object_size(status) > 0;
    if (up) {
        g_autofree char *backend = exposition_label("backend", text_at(status, "backend"));
        exposition_add(samples, METRIC_DPD_UP, backend, 1);
        exposition_add(samples, METRIC_DPD_GENERATION, "",
                       (double) json_integer_value(json_object_get(status, "generation")));
        exposition_add(samples, METRIC_DPD_BUSY, "",
                       (double) json_integer_value(json_object_get(status, "busy_us")) / 1e6);
        put_ports(status, samples);
        put_flows(agent, samples);
        put_poll(agent, samples);
    } else if (status == NULL) { /* it ought to answer, and does not */
        exposition_add(samples, METRIC_DPD_UP, "backend=\"\"", 0);
    }
    if (inventory != NULL) {
        put_functions(inventory, status, samples);
        put_devices(inventory, samples);
    }
}
