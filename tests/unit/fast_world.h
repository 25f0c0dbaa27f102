/* fast_world.h: ports, frames and a clock for tests of dataplane/fast/machine.h, through engine.c. Time is a number here.
 * Ports 1 (A) and 2 (B) are in zone 5, port 3 (C) in zone 6. "OVN" is leave(): it does what two routers
 * do, MACs and two hops, or what the test wants. */
#pragma once
#include "dataplane/fast/engine.h"
#include "dataplane/fast/rewrite.h"
#include "tests/bpf/frames.h"

#include <stdbool.h>

#define MS   G_GUINT64_CONSTANT(1000000)
#define SEC  (1000 * MS)
#define ZONE 5

enum { FLOWS = 56 };

static const guint8 mac_a[6] = {2, 0, 0, 0, 0, 0xa}, mac_b[6] = {2, 0, 0, 0, 0, 0xb};
static const guint8 gate_a[6] = {2, 0, 0, 0, 1, 0xa}, gate_b[6] = {2, 0, 0, 0, 1, 0xb};

typedef struct {
    struct engine engine;
    void *flows;
    guint64 now;
    guint8 frame[FRAME_MAX], copy[FRAME_MAX];
    gsize size;
    struct engine_verdict verdict;
} World;

static inline void
add_nic(World *w, guint16 id, guint16 zone, const guint8 *mac, const char *addr4, const char *addr6)
{
    struct layout_nic *nic = &w->engine.nics[id];
    nic->ifindex = 100u + id;
    nic->flags = LAYOUT_NIC_ON | LAYOUT_NIC_PAIR;
    nic->zone = zone;
    nic->mtu = 1500;
    memcpy(nic->mac, mac, 6);
    nic->addr4_count = nic->addr6_count = 1;
    inet_pton(AF_INET, addr4, &nic->addr4[0]);
    inet_pton(AF_INET6, addr6, nic->addr6[0]);
}

static inline World *
world_new(void)
{
    World *w = g_new0(World, 1);
    w->now = 1000 * SEC;
    w->engine.nics = g_new0(struct layout_nic, LAYOUT_NICS);
    w->engine.pend = g_new0(struct layout_pend, 2 * LAYOUT_PENDING);
    w->flows = aligned_alloc(FLOWTABLE_LINE, flowtable_bytes(FLOWS));
    memset(w->flows, 0, flowtable_bytes(FLOWS));
    flowtable_init(&w->engine.table, w->flows, FLOWS, flowtable_test_seed);
    w->engine.config = (struct layout_config){.version = LAYOUT_VERSION,
                                              .expire_ns = 2 * SEC,
                                              .renew_ns = SEC,
                                              .retry_ns = 200 * MS,
                                              .pend_ns = 200 * MS};
    w->engine.config.generation[ZONE] = 10;
    w->engine.config.generation[6] = 11;
    add_nic(w, 1, ZONE, mac_a, "10.1.0.2", "fd01::2");
    add_nic(w, 2, ZONE, mac_b, "10.2.0.2", "fd02::2");
    add_nic(w, 3, 6, mac_b, "10.3.0.2", "fd03::2");
    return w;
}

static inline void
world_free(World *w)
{
    g_free(w->engine.nics);
    g_free(w->engine.pend);
    free(w->flows);
    g_free(w);
}

G_DEFINE_AUTOPTR_CLEANUP_FUNC(World, world_free)

static inline FrameSpec
from_a(guint32 seq)
{
    return (FrameSpec){.family = 4,
                       .proto = 6,
                       .src = "10.1.0.2",
                       .dst = "10.2.0.2",
                       .sport = 4000,
                       .dport = 80,
                       .smac = mac_a,
                       .dmac = gate_a,
                       .id = (guint16) seq,
                       .seq = seq,
                       .ack = 7,
                       .payload = "request"};
}

static inline FrameSpec
from_b(guint32 seq)
{
    return (FrameSpec){.family = 4,
                       .proto = 6,
                       .src = "10.2.0.2",
                       .dst = "10.1.0.2",
                       .sport = 80,
                       .dport = 4000,
                       .smac = mac_b,
                       .dmac = gate_b,
                       .id = (guint16) seq,
                       .seq = seq,
                       .ack = 9,
                       .payload = "answer"};
}

static inline FrameSpec
udp_a(guint16 id)
{
    FrameSpec spec = from_a(id);
    spec.proto = 17;
    spec.payload = "datagram";
    return spec;
}

static inline FrameSpec
udp_b(guint16 id)
{
    FrameSpec spec = from_b(id);
    spec.proto = 17;
    spec.payload = "reply...";
    return spec;
}

static inline enum layout_reason
enter(World *w, guint16 nic, const FrameSpec *spec)
{
    w->size = frame_build(w->frame, spec);
    w->verdict = engine_enter(&w->engine, w->now, nic, w->frame, (guint32) w->size, 0, w->copy);
    return w->verdict.reason;
}

/* What OVN makes of a frame of A's or B's: the other side's MACs, two hops less. */
static inline FrameSpec
routed(FrameSpec spec)
{
    bool to_b = spec.smac == mac_a;
    spec.smac = to_b ? gate_b : gate_a;
    spec.dmac = to_b ? mac_b : mac_a;
    spec.ttl = (guint8) ((spec.ttl ? spec.ttl : 64) - 2);
    return spec;
}

static inline enum layout_reason
leave(World *w, guint16 nic, const FrameSpec *spec)
{
    guint8 frame[FRAME_MAX];
    gsize size = frame_build(frame, spec);
    w->verdict = engine_leave(&w->engine, NULL, w->now, nic, frame, (guint32) size);
    return w->verdict.reason;
}

/* One frame from each side through OVN. */
static inline void
make_fast(World *w)
{
    FrameSpec a = from_a(1), b = from_b(2), a2 = routed(a), b2 = routed(b);
    enter(w, 1, &a);
    g_assert_cmpint(leave(w, 2, &a2), ==, LAYOUT_LEARNED);
    enter(w, 2, &b);
    g_assert_cmpint(leave(w, 1, &b2), ==, LAYOUT_PAIRED);
}

static inline void
expect_fast(World *w, guint32 seq)
{
    FrameSpec a = from_a(seq);
    g_assert_cmpint(enter(w, 1, &a), ==, LAYOUT_HIT);
}

static inline void
make_udp_fast(World *w)
{
    FrameSpec a = udp_a(1), b = udp_b(2), a2 = routed(a), b2 = routed(b);
    enter(w, 1, &a);
    g_assert_cmpint(leave(w, 2, &a2), ==, LAYOUT_LEARNED);
    enter(w, 2, &b);
    g_assert_cmpint(leave(w, 1, &b2), ==, LAYOUT_PAIRED);
}
