/* Rules for learned flows (H1 to H5 of polloffload.c), over an engine's table and a device that is none: what a real one
 * would be told. */
#include "dataplane/poll/polloffload.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

#define MS  G_GUINT64_CONSTANT(1000000)
#define SEC (1000 * MS)
enum { ZONE = 5, OTHER_ZONE = 6, FLOWS = 4096, PACKETS = 100, TICKS = 8 };

/* ---- a device ---- */

static struct {
    GHashTable *rules; /* struct rte_flow * → struct pollflows_rule, owned */
    guint made, refuses;
    guint16 port; /* asked last */
} device;

static struct rte_flow *
make(uint16_t port, enum pollflows kind, const struct pollflows_rule *rule)
{
    g_assert_cmpint(kind, !=, POLLFLOWS_NONE);
    if (device.refuses > 0) {
        device.refuses--;
        return NULL;
    }
    struct pollflows_rule *copy = g_memdup2(rule, sizeof *rule);
    device.made++;
    device.port = port;
    g_hash_table_add(device.rules, copy);
    return (struct rte_flow *) copy;
}

static bool
unmake(uint16_t port, struct rte_flow *flow)
{
    g_assert_true(g_hash_table_remove(device.rules, flow));
    return true;
}

static uint64_t
count(uint16_t port, struct rte_flow *flow)
{
    g_assert_true(g_hash_table_contains(device.rules, flow));
    return 7;
}

static const struct polloffload_ops ops = {make, unmake, count};

static guint
standing(void)
{
    return g_hash_table_size(device.rules);
}

/* ---- an engine with flows ---- */

typedef struct {
    struct engine engine;
    void *memory;
    PollOffload *offload;
    guint64 now_ns;
} Rig;

static void
add_nic(Rig *rig, guint16 id, guint16 zone, guint16 mtu)
{
    struct layout_nic *nic = &rig->engine.nics[id];
    *nic = (struct layout_nic){.ifindex = id, .flags = LAYOUT_NIC_ON, .zone = zone, .mtu = mtu};
    nic->mac[0] = 2;
    nic->mac[5] = (guint8) id;
}

static Rig *
rig_new(enum pollflows least, enum pollflows can)
{
    static const __u64 seed[4] = {1, 3, 5, 7};
    Rig *rig = g_new0(Rig, 1);
    rig->engine.nics = g_new0(struct layout_nic, LAYOUT_NICS);
    rig->memory = aligned_alloc(FLOWTABLE_LINE, flowtable_bytes(FLOWS));
    memset(rig->memory, 0, flowtable_bytes(FLOWS));
    flowtable_init(&rig->engine.table, rig->memory, FLOWS, seed);
    rig->engine.config = (struct layout_config){
        .expire_ns = 2 * SEC, .renew_ns = SEC, .retry_ns = 100 * MS, .pend_ns = 200 * MS};
    rig->engine.config.generation[ZONE] = 1;
    rig->engine.config.generation[OTHER_ZONE] = 1;
    rig->now_ns = 100 * SEC;
    device.rules = g_hash_table_new_full(NULL, NULL, g_free, NULL);
    device.made = device.refuses = 0;
    rig->offload = polloffload_new(&rig->engine, &ops, least, PACKETS);
    for (guint16 id = 1; id <= 4; id++) {
        add_nic(rig, id, id == 4 ? OTHER_ZONE : ZONE, 1500);
        polloffload_port(rig->offload, id, (guint16) (10 + id), 1500, can);
    }
    return rig;
}

static void
rig_free(Rig *rig)
{
    polloffload_free(rig->offload);
    g_assert_cmpuint(standing(), ==, 0); /* none is left behind */
    g_hash_table_unref(device.rules);
    g_free(rig->engine.nics);
    free(rig->memory);
    g_free(rig);
}

static struct layout_tuple
tuple_of(guint16 nic, guint16 port)
{
    struct layout_tuple key = {.proto = 6, .family = 4, .nic = nic, .dport = htons(80)};
    inet_pton(AF_INET, "10.0.1.2", &key.src[0]);
    inet_pton(AF_INET, "10.0.2.2", &key.dst[0]);
    key.sport = htons(port);
    return key;
}

static struct layout_flow
flow_to(const Rig *rig, guint16 nic)
{
    struct layout_flow flow = {.proven_ns = rig->now_ns,
                               .used_ns = rig->now_ns,
                               .generation = 1,
                               .flags = LAYOUT_FLOW_FAST,
                               .dst_mac = {2, 9},
                               .src_mac = {2, 8},
                               .gate_mac = {2, 7},
                               .ttl_delta = 2};
    flow.out.nic = nic;
    return flow;
}

static __u32
put(Rig *rig, struct layout_tuple key, struct layout_flow flow, guint32 packets)
{
    __u32 slot = flowtable_put(&rig->engine.table, &key, &flow);
    g_assert_cmpuint(slot, !=, FLOWTABLE_NONE);
    rig->engine.table.permits[slot].carried = packets * FLOWTABLE_PACKET;
    return slot;
}

/* So many ticks of 10 ms; the whole table is looked through in one. */
static void
pass(Rig *rig, guint ms)
{
    for (guint at = 0; at < ms; at += 10) {
        rig->now_ns += 10 * MS;
        polloffload_tick(rig->offload, rig->now_ns);
    }
}

static void
prove(Rig *rig, __u32 slot)
{
    rig->engine.table.entries[slot].flow.proven_ns = rig->now_ns;
    rig->engine.table.entries[slot].flow.used_ns = rig->now_ns;
}

/* ---- claims ---- */

static void
carries_much(void)
{
    Rig *rig = rig_new(POLLFLOWS_FORWARD, POLLFLOWS_FORWARD);
    GHashTableIter iter;
    const struct pollflows_rule *rule;
    struct layout_tuple key = tuple_of(1, 4000);
    put(rig, key, flow_to(rig, 2), PACKETS);
    put(rig, tuple_of(1, 4001), flow_to(rig, 2), PACKETS - 1);
    pass(rig, 10);
    g_assert_cmpuint(standing(), ==, 1);
    g_hash_table_iter_init(&iter, device.rules);
    g_assert_true(g_hash_table_iter_next(&iter, (gpointer *) &rule, NULL));
    g_assert_cmpuint(device.port, ==, 11);
    g_assert_cmpuint(rule->out, ==, 12);
    g_assert_cmpuint(rule->src, ==, key.src[0]);
    g_assert_cmpuint(rule->dst, ==, key.dst[0]);
    g_assert_cmpuint(rule->sport, ==, htons(4000));
    g_assert_cmpuint(rule->dport, ==, htons(80));
    g_assert_cmpuint(rule->proto, ==, 6);
    g_assert_cmpuint(rule->hops, ==, 2);
    g_assert_cmpuint(rule->dst_mac[1], ==, 7);
    g_assert_cmpuint(rule->src_mac[5], ==, 1);
    g_assert_cmpuint(rule->new_dst_mac[1], ==, 9);
    g_assert_cmpuint(rule->new_src_mac[1], ==, 8);
    g_assert_true(polloffload_has(rig->offload, &key));
    g_assert_cmpuint(polloffload_total(rig->offload, 1).rules, ==, 1);
    rig_free(rig);
}

/* H1 */
static void
what_gets_none(void)
{
    Rig *rig = rig_new(POLLFLOWS_MATCH, POLLFLOWS_FORWARD);
    struct layout_tuple key = tuple_of(1, 4000);
    struct layout_flow flow;
    key.proto = PACKET_ICMP;
    put(rig, key, flow_to(rig, 2), PACKETS);
    key = tuple_of(1, 4001);
    key.family = 6;
    put(rig, key, flow_to(rig, 2), PACKETS);
    flow = flow_to(rig, 2);
    flow.flags = 0; /* half */
    put(rig, tuple_of(1, 4002), flow, PACKETS);
    flow.flags = LAYOUT_FLOW_FAST | LAYOUT_FLOW_NAT;
    put(rig, tuple_of(1, 4003), flow, PACKETS);
    flow = flow_to(rig, 2);
    flow.order = 3; /* waits for what went slow */
    put(rig, tuple_of(1, 4004), flow, PACKETS);
    flow = flow_to(rig, 2);
    flow.generation = 2;
    put(rig, tuple_of(1, 4005), flow, PACKETS);
    flow = flow_to(rig, 2);
    flow.proven_ns -= SEC; /* a copy is due */
    put(rig, tuple_of(1, 4006), flow, PACKETS);
    flow = flow_to(rig, 2);
    flow.far = 1;
    put(rig, tuple_of(1, 4007), flow, PACKETS);
    flow = flow_to(rig, 2);
    flow.ttl_delta = POLLFLOWS_HOPS + 1;
    put(rig, tuple_of(1, 4008), flow, PACKETS);
    put(rig, tuple_of(1, 4009), flow_to(rig, 9), PACKETS); /* no device is there */
    rig->engine.nics[3].mtu = 1400;
    put(rig, tuple_of(1, 4010), flow_to(rig, 3), PACKETS); /* what enters may not fit */
    pass(rig, TICKS * 10);
    g_assert_cmpuint(device.made, ==, 0);
    rig_free(rig);
}

static void
devices_that_can_too_little(void)
{
    Rig *rig = rig_new(POLLFLOWS_FORWARD, POLLFLOWS_MATCH);
    put(rig, tuple_of(1, 4000), flow_to(rig, 2), PACKETS);
    pass(rig, TICKS * 10);
    g_assert_cmpuint(device.made, ==, 0);
    rig_free(rig);
    rig = rig_new(POLLFLOWS_NONE, POLLFLOWS_FORWARD);
    put(rig, tuple_of(1, 4000), flow_to(rig, 2), PACKETS);
    pass(rig, TICKS * 10);
    g_assert_cmpuint(device.made, ==, 0);
    rig_free(rig);
}

/* H2 */
static void
ends_before_its_proof(void)
{
    Rig *rig = rig_new(POLLFLOWS_FORWARD, POLLFLOWS_FORWARD);
    struct layout_tuple key = tuple_of(1, 4000);
    __u32 slot = put(rig, key, flow_to(rig, 2), PACKETS);
    guint64 due_ns = rig->now_ns + SEC;
    pass(rig, 10);
    g_assert_cmpuint(standing(), ==, 1);
    while (standing() > 0) {
        pass(rig, 10);
        g_assert_cmpuint(rig->now_ns, <, due_ns);
    }
    g_assert_false(polloffload_has(rig->offload, &key));
    g_assert_cmpuint(polloffload_total(rig->offload, 1).packets, ==, 7);
    pass(rig, 300);
    g_assert_cmpuint(standing(), ==, 0); /* not before it is proven anew */
    prove(rig, slot);
    rig->engine.table.permits[slot].carried =
        FLOWTABLE_PACKET; /* what it carried was counted by the device */
    pass(rig, 10);
    g_assert_cmpuint(standing(), ==, 1);
    g_assert_cmpuint(device.made, ==, 2);
    pass(rig, 10000); /* it rests */
    g_assert_cmpuint(standing(), ==, 0);
    prove(rig, slot);
    pass(rig, 100); /* a flow like others now, and it carries little */
    g_assert_cmpuint(standing(), ==, 0);
    rig_free(rig);
}

static void
ends_with_its_flow(void)
{
    Rig *rig = rig_new(POLLFLOWS_FORWARD, POLLFLOWS_FORWARD);
    __u32 slot = put(rig, tuple_of(1, 4000), flow_to(rig, 2), PACKETS);
    pass(rig, 10);
    g_assert_cmpuint(standing(), ==, 1);
    flowtable_drop(&rig->engine.table, slot); /* a FIN */
    pass(rig, 10);
    g_assert_cmpuint(standing(), ==, 0);
    rig_free(rig);
}

/* H3 */
static void
revoked_at_once(void)
{
    Rig *rig = rig_new(POLLFLOWS_FORWARD, POLLFLOWS_FORWARD);
    put(rig, tuple_of(1, 4000), flow_to(rig, 2), PACKETS);
    put(rig, tuple_of(4, 4000), flow_to(rig, 4), PACKETS);
    pass(rig, 10);
    g_assert_cmpuint(standing(), ==, 2);
    rig->engine.config.generation[ZONE] = 2;
    polloffload_flush(rig->offload, ZONE);
    g_assert_cmpuint(standing(), ==, 1);
    pass(rig, 100);
    g_assert_cmpuint(standing(), ==, 1); /* the other zone's */
    polloffload_flush(rig->offload, 0);
    g_assert_cmpuint(standing(), ==, 0);
    rig_free(rig);
}

static void
ports_that_go(void)
{
    Rig *rig = rig_new(POLLFLOWS_FORWARD, POLLFLOWS_FORWARD);
    put(rig, tuple_of(1, 4000), flow_to(rig, 2), PACKETS);
    put(rig, tuple_of(2, 4000), flow_to(rig, 3), PACKETS);
    put(rig, tuple_of(3, 4000), flow_to(rig, 1), PACKETS);
    pass(rig, 10);
    g_assert_cmpuint(standing(), ==, 3);
    polloffload_port_gone(rig->offload, 2);
    g_assert_cmpuint(standing(), ==, 1); /* neither from it nor to it */
    pass(rig, 100);
    g_assert_cmpuint(standing(), ==, 1);
    rig_free(rig);
}

static void
refused(void)
{
    Rig *rig = rig_new(POLLFLOWS_FORWARD, POLLFLOWS_FORWARD);
    __u32 slot = put(rig, tuple_of(1, 4000), flow_to(rig, 2), PACKETS);
    device.refuses = 1;
    pass(rig, 500);
    g_assert_cmpuint(device.made, ==, 0);
    g_assert_cmpuint(polloffload_total(rig->offload, 1).refused, ==, 1); /* not each tick */
    for (guint i = 0; i < 30; i++) {
        prove(rig, slot);
        pass(rig, 500);
    }
    g_assert_cmpuint(standing(), ==, 1); /* but again, later */
    rig_free(rig);
}

/* H5 */
static void
no_more_than_fit(void)
{
    Rig *rig = rig_new(POLLFLOWS_FORWARD, POLLFLOWS_FORWARD);
    for (guint16 port = 0; port < POLLOFFLOAD_RULES + 100; port++) {
        put(rig, tuple_of(1, (guint16) (1000 + port)), flow_to(rig, 2), PACKETS);
    }
    pass(rig, 20);
    g_assert_cmpuint(standing(), ==, POLLOFFLOAD_RULES);
    polloffload_flush(rig->offload, ZONE);
    pass(rig, 20);
    g_assert_cmpuint(standing(), ==, POLLOFFLOAD_RULES); /* room is given back */
    rig_free(rig);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/offload/who-carries-much-gets-a-rule", carries_much);
    g_test_add_func("/offload/what-gets-none", what_gets_none);
    g_test_add_func("/offload/devices-that-can-too-little", devices_that_can_too_little);
    g_test_add_func("/offload/a-rule-ends-before-its-proof", ends_before_its_proof);
    g_test_add_func("/offload/and-with-its-flow", ends_with_its_flow);
    g_test_add_func("/offload/revoked-at-once", revoked_at_once);
    g_test_add_func("/offload/ports-that-go", ports_that_go);
    g_test_add_func("/offload/refused-is-asked-later", refused);
    g_test_add_func("/offload/no-more-than-fit", no_more_than_fit);
    return g_test_run();
}
