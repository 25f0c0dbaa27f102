/* dataplane/slow/flowshow.h and dataplane/poll/polltrace.h: what is listed of an engine's flows (S1, S2), and of its
 * packets. */
#include "dataplane/slow/flowshow.h"

#include <arpa/inet.h>
#include <string.h>

#include "base/fiber.h"
#include "dataplane/poll/polltrace.h"

enum { FLOWS = 6, SEC_NS = 1000000000 };

typedef struct {
    FlowSeen flows[FLOWS];
    guint64 now_ns, step_packets;
} Engine;

static const char *
id_of(void *data, guint nic)
{
    return nic == 1 ? "one" : nic == 2 ? "two" : "";
}

static int
nic_of(void *data, const char *id)
{
    return strcmp(id, "one") == 0 ? 1 : strcmp(id, "two") == 0 ? 2 : -1;
}

static const char *
off_of(void *data, guint nic)
{
    return nic == 2 ? "off" : "";
}

/* A second passes with each look. */
static guint64
walk(void *data, FlowVisit visit, void *arg)
{
    Engine *engine = data;
    engine->now_ns += SEC_NS;
    for (guint i = 0; i < FLOWS; i++) {
        engine->flows[i].flow.packets += engine->step_packets;
        engine->flows[i].flow.bytes += 100 * engine->step_packets;
        visit(&engine->flows[i], arg);
    }
    return engine->now_ns;
}

/* Even ones leave port 1 for 10.2.0.N, odd ones port 2 for 10.1.0.N. */
static void
engine_fill(Engine *engine)
{
    *engine = (Engine){.now_ns = SEC_NS, .step_packets = 7};
    for (guint i = 0; i < FLOWS; i++) {
        struct layout_tuple *key = &engine->flows[i].key;
        key->family = 4;
        key->proto = IPPROTO_UDP;
        key->nic = (guint16) (1 + i % 2);
        key->src[0] = htonl(0x0a010001 + i);
        key->dst[0] = htonl(0x0a020001 + i);
        key->sport = htons((guint16) (1000 + i));
        key->dport = htons(53);
        engine->flows[i].flow.out.nic = 2;
        engine->flows[i].flow.proven_ns = SEC_NS;
        engine->flows[i].state = i < 4 ? FLOWSHOW_FAST : FLOWSHOW_HALF;
    }
}

struct run {
    FiberFn check;
    GMainLoop *loop;
};

static void
run_fiber(void *data)
{
    struct run *run = data;
    run->check(NULL);
    g_main_loop_quit(run->loop);
}

static void
in_fiber(FiberFn check)
{
    g_autoptr(GMainLoop) loop = g_main_loop_new(NULL, FALSE);
    struct run run = {check, loop};
    fiber_start("check", run_fiber, &run);
    g_main_loop_run(loop);
}

static bool
list(Engine *engine, Dpd__FastFlow *filter, guint limit, bool rates, ShowPool *pool,
     Dpd__FastFlows *ret, GError **error)
{
    const FlowEngine as = {engine, id_of, nic_of, off_of, walk};
    Dpd__FastFlows want = DPD__FAST_FLOWS__INIT;
    want.filter = filter;
    want.limit = limit;
    want.rates = rates;
    return flowshow_list(&as, &want, pool, ret, error);
}

static void
listing_fiber(void *data)
{
    Engine engine;
    g_autoptr(ShowPool) pool = showpool_new();
    Dpd__FastFlow filter = DPD__FAST_FLOW__INIT;
    Dpd__FastFlows flows;
    g_autoptr(GError) error = NULL;
    engine_fill(&engine);
    engine.flows[1].offloaded = true;
    g_assert_true(list(&engine, NULL, 4, false, pool, &flows, &error));
    g_assert_cmpuint(flows.n_flows, ==, 4); /* S1 */
    g_assert_cmpuint(flows.total, ==, FLOWS);
    g_assert_cmpstr(flows.flows[0]->source, ==, "10.1.0.1");
    g_assert_cmpuint(flows.flows[0]->source_port, ==, 1000);
    g_assert_cmpstr(flows.flows[0]->to_port, ==, "two");
    g_assert_cmpstr(flows.flows[0]->why, ==, "");
    g_assert_cmpstr(flows.flows[1]->why, ==, "off");
    g_assert_true(flows.flows[1]->offloaded && !flows.flows[0]->offloaded);
    filter.port = (char *) "two";
    g_assert_true(list(&engine, &filter, 0, false, pool, &flows, &error));
    g_assert_cmpuint(flows.n_flows, ==, 3);
    filter.state = (char *) "half";
    g_assert_true(list(&engine, &filter, 0, false, pool, &flows, &error));
    g_assert_cmpuint(flows.n_flows, ==, 1);
    g_assert_cmpstr(flows.flows[0]->source, ==, "10.1.0.6");
    filter.port = (char *) "three";
    g_assert_false(list(&engine, &filter, 0, false, pool, &flows, &error));
    g_assert_cmpint(haw_code(error), ==, HAW_NOT_FOUND);
    g_clear_error(&error);
    filter.port = (char *) "";
    filter.source = (char *) "10.1.0";
    g_assert_false(list(&engine, &filter, 0, false, pool, &flows, &error));
    g_assert_cmpint(haw_code(error), ==, HAW_INVALID);
}

static void
a_list_is_what_was_asked_for(void)
{
    in_fiber(listing_fiber);
}

static void
rates_fiber(void *data)
{
    Engine engine;
    g_autoptr(ShowPool) pool = showpool_new();
    Dpd__FastFlows flows;
    g_autoptr(GError) error = NULL;
    engine_fill(&engine);
    g_assert_true(list(&engine, NULL, 0, true, pool, &flows, &error));
    g_assert_cmpuint(flows.n_flows, ==, FLOWS);
    g_assert_cmpuint(flows.flows[0]->packets, ==, 14);
    g_assert_cmpuint(flows.flows[0]->packets_per_s, ==, 7); /* S2 */
    g_assert_cmpuint(flows.flows[0]->bits_per_s, ==, 5600);
    g_assert_cmpuint(flows.flows[0]->proven_ms, ==, 2000);
}

static void
a_rate_is_the_difference_of_two_looks(void)
{
    in_fiber(rates_fiber);
}

/* ---- packets ---- */

static guint
udp(guint8 *frame, guint32 src, guint32 dst)
{
    const guint8 head[] = {2, 0,    0, 0, 0,  1, 2, 0, 0, 0,  0,  2, 8,
                           0, 0x45, 0, 0, 32, 0, 0, 0, 0, 64, 17, 0, 0};
    const guint8 tail[] = {3, 232, 0, 53, 0, 12, 0, 0, 'a', 'b', 'c', 'd'};
    guint32 ends[] = {htonl(src), htonl(dst)};
    memcpy(frame, head, sizeof head);
    memcpy(frame + sizeof head, ends, sizeof ends);
    memcpy(frame + sizeof head + sizeof ends, tail, sizeof tail);
    return sizeof head + sizeof ends + sizeof tail;
}

static void
see(struct polltrace *trace, guint16 nic, guint32 src, guint32 dst)
{
    guint8 bytes[64];
    struct engine_frame frame = {bytes, udp(bytes, src, dst)};
    polltrace_see(trace, 5, nic, &frame, 1);
    memset(bytes, 0, sizeof bytes); /* as a rewrite would */
    polltrace_tell(trace, 0, LAYOUT_HIT, false);
}

static void
a_trace_tells_of_what_is_wanted_as_it_came(void)
{
    g_autofree struct polltrace *trace = g_new0(struct polltrace, 1);
    struct layout_event event;
    trace->want.nic = 2;
    trace->want.family = 4;
    trace->want.address[0] = htonl(0x0a020002);
    see(trace, 1, 0x0a010001, 0x0a020002);
    see(trace, 2, 0x0a010001, 0x0a020003);
    g_assert_false(polltrace_take(trace, &event));
    see(trace, 2, 0x0a010001, 0x0a020002);
    see(trace, 2, 0x0a020002, 0x0a010001);
    g_assert_true(polltrace_take(trace, &event));
    g_assert_cmpuint(event.tuple.src[0], ==, htonl(0x0a010001));
    g_assert_cmpuint(ntohs(event.tuple.dport), ==, 53);
    g_assert_cmpuint(event.reason, ==, LAYOUT_HIT);
    g_assert_cmpuint(event.size, ==, 32);
    g_assert_true(polltrace_take(trace, &event));
    g_assert_cmpuint(event.tuple.src[0], ==, trace->want.address[0]);
    g_assert_false(polltrace_take(trace, &event));
}

static void
a_full_trace_loses_the_newest_and_counts_them(void)
{
    g_autofree struct polltrace *trace = g_new0(struct polltrace, 1);
    struct layout_event event;
    guint taken = 0;
    for (guint i = 0; i < POLLTRACE_ROOM + 3; i++) {
        see(trace, 1, 0x0a010000 + i, 0x0a020002);
    }
    g_assert_cmpuint(trace->lost, ==, 3);
    while (polltrace_take(trace, &event)) {
        g_assert_cmpuint(ntohl(event.tuple.src[0]), ==, 0x0a010000 + taken);
        taken++;
    }
    g_assert_cmpuint(taken, ==, POLLTRACE_ROOM);
}

int
main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define CLAIM(name) g_test_add_func("/dataplane/flowshow/" #name, name)
    CLAIM(a_list_is_what_was_asked_for);
    CLAIM(a_rate_is_the_difference_of_two_looks);
    CLAIM(a_trace_tells_of_what_is_wanted_as_it_came);
    CLAIM(a_full_trace_loses_the_newest_and_counts_them);
    return g_test_run();
}
