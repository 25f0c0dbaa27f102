/* Rules for learned flows.
 * H1  A rule forwards what the state machine would, and no more (pollflows.c says which frames): of flows that are fast
 *     both ways, plain, wait for nothing in the slow path, and whose frames fit where they go.
 * H2  A rule ends a little before its flow's next copy is due, a second before its proof ends: then software sees the next
 *     frame, and proves the flow once more. When that has come the rule is made again.
 * H3  What takes a permission back (a bump, a port that changes or goes) takes its rules away before it returns. The
 *     control thread makes rules, ends them, and is who is asked: nothing runs beside it.
 * H4  What takes long on this thread (a device that opens) has no rule standing meanwhile: H2 would not hold.
 * H5  Only flows that carry much are worth a rule: a permit's own count tells (flowtable.h). The table is looked through in
 *     parts, a tick each; flows that had a rule are looked at each tick until it is clear that they rest.
 * A frame that the device forwards may overtake one that still waits in software when the rule is made, as with other
 * switches: this is why rules are asked for (--offload).
 * Called by poller.c. */
#include "dataplane/poll/polloffload.h"

enum {
    WALK_SLOTS = 16384,
    MARGIN_MS = 50,
    LEAST_LIFE_MS = 200,
    REST_MS = 3000,
    REFUSED_MS = 10000
};
#define MS_NS ((guint64) 1000000)

typedef struct {
    struct layout_tuple key;
    __u32 slot;
    guint32 generation;
    guint16 out, zone;     /* the NIC that it leaves by; its own's */
    guint64 until_ns;      /* the rule's, or until which none is made */
    guint64 rests_ns;      /* without a rule: when to forget it */
    struct rte_flow *flow; /* NULL: none now */
} Rule;

typedef struct {
    bool there;
    guint16 port, mtu;
    enum pollflows can;
    guint rules; /* with and without a flow */
    struct polloffload_total total;
} Device;

struct PollOffload {
    struct engine *engine;
    const struct polloffload_ops *ops;
    enum pollflows least;
    guint32 packets;
    Device *devices;   /* LAYOUT_NICS */
    GHashTable *rules; /* layout_tuple (the Rule's) → Rule, owned */
    __u32 at;          /* the slot to look at next */
};

static guint
key_hash(gconstpointer data)
{
    const struct layout_tuple *key = data;
    guint hash = key->src[0] * 31 + key->dst[0];
    return hash * 31 + ((guint) key->sport << 16 | key->dport) + key->nic * 7 + key->proto;
}

static gboolean
key_equal(gconstpointer a, gconstpointer b)
{
    return packet_tuple_same(a, b) &&
           ((const struct layout_tuple *) a)->nic == ((const struct layout_tuple *) b)->nic;
}

PollOffload *
polloffload_new(struct engine *engine, const struct polloffload_ops *ops, enum pollflows least,
                guint32 packets)
{
    PollOffload *offload = g_new0(PollOffload, 1);
    *offload = (PollOffload){.engine = engine, .ops = ops, .least = least, .packets = packets};
    offload->devices = g_new0(Device, LAYOUT_NICS);
    offload->rules = g_hash_table_new_full(key_hash, key_equal, NULL, g_free);
    return offload;
}

/* ---- one rule ---- */

static void
end_rule(PollOffload *offload, Rule *rule)
{
    Device *device = &offload->devices[rule->key.nic];
    if (rule->flow != NULL) {
        device->total.packets += offload->ops->count(device->port, rule->flow);
        offload->ops->unmake(device->port, rule->flow);
        rule->flow = NULL;
        device->total.rules--;
    }
}

/* H1: until when a rule of what the slot holds may stand; 0: it gets none. */
static guint64
may_until(const PollOffload *offload, const struct layout_tuple *key,
          const struct layout_flow *flow)
{
    const struct engine *engine = offload->engine;
    const struct layout_config *config = &engine->config;
    const struct layout_nic *nic = &engine->nics[key->nic], *to = &engine->nics[flow->out.nic];
    const Device *device = &offload->devices[key->nic];
    guint64 ends = flow->proven_ns + config->expire_ns, due = flow->proven_ns + config->renew_ns;
    if (key->family != 4 || (key->proto != PACKET_TCP && key->proto != PACKET_UDP) ||
        flow->flags != LAYOUT_FLOW_FAST || flow->far != 0 || flow->order != 0 ||
        flow->ttl_delta > POLLFLOWS_HOPS || config->off || !(nic->flags & LAYOUT_NIC_ON) ||
        flow->generation != config->generation[nic->zone % LAYOUT_ZONES] || !device->there ||
        !offload->devices[flow->out.nic].there || device->mtu > to->mtu) {
        return 0;
    }
    return MIN(MAX(due, flow->probe_ns + config->retry_ns), ends) - MARGIN_MS * MS_NS; /* H2 */
}

static void
make_rule(PollOffload *offload, Rule *rule, const struct layout_flow *flow, guint64 until_ns,
          guint64 now_ns)
{
    Device *device = &offload->devices[rule->key.nic];
    struct pollflows_rule match = {.src = rule->key.src[0],
                                   .dst = rule->key.dst[0],
                                   .sport = rule->key.sport,
                                   .dport = rule->key.dport,
                                   .proto = rule->key.proto,
                                   .hops = flow->ttl_delta,
                                   .out = offload->devices[flow->out.nic].port};
    packet_mac_copy(match.dst_mac, flow->gate_mac);
    packet_mac_copy(match.src_mac, offload->engine->nics[rule->key.nic].mac);
    packet_mac_copy(match.new_dst_mac, flow->dst_mac);
    packet_mac_copy(match.new_src_mac, flow->src_mac);
    rule->flow = offload->ops->make(device->port, device->can, &match);
    rule->out = flow->out.nic;
    rule->generation = flow->generation;
    rule->rests_ns = now_ns + REST_MS * MS_NS;
    if (rule->flow != NULL) {
        rule->until_ns = until_ns;
        device->total.made++;
        device->total.rules++;
    } else { /* full, perhaps: not each tick */
        rule->until_ns = now_ns + REFUSED_MS * MS_NS;
        rule->rests_ns = rule->until_ns;
        device->total.refused++;
    }
}

/* What has become of it. False: it is to be forgotten. */
static bool
look_at(PollOffload *offload, Rule *rule, guint64 now_ns)
{
    struct engine_slot now;
    if (!engine_look(offload->engine, rule->slot, &now) ||
        !packet_tuple_same(&now.key, &rule->key) || now.key.nic != rule->key.nic) {
        return false;
    }
    guint64 until_ns = may_until(offload, &rule->key, &now.flow);
    if (rule->flow != NULL) {
        if (until_ns == 0 || now_ns >= rule->until_ns || now.flow.generation != rule->generation ||
            now.flow.out.nic != rule->out) {
            end_rule(offload, rule);
            rule->rests_ns = now_ns + REST_MS * MS_NS;
        }
        return true;
    }
    bool proven = until_ns > now_ns + LEAST_LIFE_MS * MS_NS && now_ns >= rule->until_ns;
    if (proven && now.flow.used_ns + REST_MS * MS_NS > now_ns) {
        make_rule(offload, rule, &now.flow, until_ns, now_ns);
    }
    return now_ns < rule->rests_ns;
}

/* ---- many ---- */

typedef bool (*RuleFn)(const PollOffload *offload, const Rule *rule, guint number);

static void
drop_where(PollOffload *offload, RuleFn fn, guint number)
{
    GHashTableIter iter;
    Rule *rule;
    g_hash_table_iter_init(&iter, offload->rules);
    while (g_hash_table_iter_next(&iter, NULL, (gpointer *) &rule)) {
        if (fn(offload, rule, number)) {
            end_rule(offload, rule);
            offload->devices[rule->key.nic].rules--;
            g_hash_table_iter_remove(&iter);
        }
    }
}

static bool
is_of_zone(const PollOffload *offload, const Rule *rule, guint zone)
{
    return zone == 0 || rule->zone == zone;
}

static bool
is_of_nic(const PollOffload *offload, const Rule *rule, guint nic)
{
    return rule->key.nic == nic || rule->out == nic;
}

void
polloffload_flush(PollOffload *offload, guint16 zone)
{
    drop_where(offload, is_of_zone, zone); /* H3 */
}

void
polloffload_free(PollOffload *offload)
{
    if (offload != NULL) {
        polloffload_flush(offload, 0);
        g_hash_table_unref(offload->rules);
        g_free(offload->devices);
        g_free(offload);
    }
}

void
polloffload_port(PollOffload *offload, guint16 nic, guint16 port, guint16 mtu, enum pollflows can)
{
    offload->devices[nic] = (Device){.there = true, .port = port, .mtu = mtu, .can = can};
}

void
polloffload_port_gone(PollOffload *offload, guint16 nic)
{
    drop_where(offload, is_of_nic, nic); /* H3 */
    offload->devices[nic] = (Device){0};
}

/* H5 */
static void
consider(PollOffload *offload, __u32 slot, guint64 now_ns)
{
    struct engine_slot found;
    const struct flowtable *table = &offload->engine->table;
    if (__atomic_load_n(&table->signs[slot], __ATOMIC_ACQUIRE) == 0 ||
        FLOWTABLE_PACKETS(table->permits[slot].carried) < offload->packets || /* a hint: no lock */
        !engine_look(offload->engine, slot, &found) ||
        g_hash_table_contains(offload->rules, &found.key)) {
        return;
    }
    Device *device = &offload->devices[found.key.nic];
    guint64 until_ns = may_until(offload, &found.key, &found.flow);
    if (until_ns <= now_ns + LEAST_LIFE_MS * MS_NS || device->can < offload->least ||
        device->rules >= POLLOFFLOAD_RULES) {
        return;
    }
    Rule *rule = g_new0(Rule, 1);
    rule->key = found.key;
    rule->slot = slot;
    rule->zone = offload->engine->nics[found.key.nic].zone;
    device->rules++;
    g_hash_table_insert(offload->rules, &rule->key, rule);
    make_rule(offload, rule, &found.flow, until_ns, now_ns);
}

void
polloffload_tick(PollOffload *offload, guint64 now_ns)
{
    GHashTableIter iter;
    Rule *rule;
    if (offload->least == POLLFLOWS_NONE) {
        return;
    }
    g_hash_table_iter_init(&iter, offload->rules);
    while (g_hash_table_iter_next(&iter, NULL, (gpointer *) &rule)) {
        if (!look_at(offload, rule, now_ns)) {
            end_rule(offload, rule);
            offload->devices[rule->key.nic].rules--;
            g_hash_table_iter_remove(&iter);
        }
    }
    __u32 slots = offload->engine->table.buckets * FLOWTABLE_WAYS;
    for (__u32 i = 0; i < MIN((__u32) WALK_SLOTS, slots); i++) {
        consider(offload, offload->at, now_ns);
        offload->at = offload->at + 1 < slots ? offload->at + 1 : 0;
    }
}

/* ---- to look at ---- */

struct polloffload_total
polloffload_total(const PollOffload *offload, guint16 nic)
{
    return offload->devices[nic].total;
}

bool
polloffload_has(const PollOffload *offload, const struct layout_tuple *key)
{
    const Rule *rule = g_hash_table_lookup(offload->rules, key);
    return rule != NULL && rule->flow != NULL;
}
