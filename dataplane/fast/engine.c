/* The doors of the state machine over memory: an open-addressed flow table, two arrays of pending
 * packets. E1: at most seven eighths of the slots are ever taken, so each search ends.
 * Called by front ends that are not BPF; the caller's thread. */
#include "dataplane/fast/engine.h"

#define MACHINE_DOOR static
#include "dataplane/fast/machine.h"
#include "dataplane/fast/rewrite.h"

#include <string.h>

enum { SLOT_EMPTY, SLOT_USED, SLOT_GONE };

static __u32
slot_of(const struct engine *engine, const struct layout_tuple *key)
{
    __u32 words[10], hash = 0;
    _Static_assert(sizeof words == sizeof *key, "whole words");
    memcpy(words, key, sizeof words);
    for (int i = 0; i < 10; i++) {
        hash = machine_mix(hash, words[i]);
    }
    return hash & (engine->flow_slots - 1);
}

static struct engine_flow *
find(struct engine *engine, const struct layout_tuple *key)
{
    __u32 at = slot_of(engine, key);
    for (__u32 i = 0; i < engine->flow_slots; i++) {
        struct engine_flow *slot = &engine->flows[(at + i) & (engine->flow_slots - 1)];
        if (slot->used == SLOT_EMPTY) {
            return NULL;
        }
        if (slot->used == SLOT_USED && memcmp(&slot->key, key, sizeof *key) == 0) {
            return slot;
        }
    }
    return NULL;
}

struct layout_flow *
engine_find(struct engine *engine, const struct layout_tuple *key)
{
    struct engine_flow *slot = find(engine, key);
    return slot != NULL ? &slot->flow : NULL;
}

/* ---- doors ---- */

static struct layout_flow *
door_flow(const struct machine *m, const struct layout_tuple *key)
{
    return engine_find(m->tables, key);
}

static int
door_flow_put(const struct machine *m, const struct layout_tuple *key,
              const struct layout_flow *flow)
{
    struct engine *engine = m->tables;
    struct engine_flow *slot = find(engine, key);
    if (slot == NULL && engine->flow_count >= engine->flow_slots / 8 * 7) { /* E1 */
        return -1;
    }
    for (__u32 at = slot_of(engine, key); slot == NULL; at++) {
        struct engine_flow *free_slot = &engine->flows[at & (engine->flow_slots - 1)];
        if (free_slot->used != SLOT_USED) {
            slot = free_slot;
            engine->flow_count++;
        }
    }
    slot->key = *key;
    slot->flow = *flow;
    slot->used = SLOT_USED;
    return 0;
}

/* The last of a chain leaves no mark, nor do the marks before it: searches for what isn't there end. */
static void
release(struct engine *engine, struct engine_flow *slot)
{
    __u32 mask = engine->flow_slots - 1, at = (__u32) (slot - engine->flows);
    engine->flow_count--;
    slot->used = SLOT_GONE;
    while (engine->flows[(at + 1) & mask].used == SLOT_EMPTY &&
           engine->flows[at & mask].used == SLOT_GONE) {
        engine->flows[at & mask].used = SLOT_EMPTY;
        at--;
    }
}

static void
door_flow_drop(const struct machine *m, const struct layout_tuple *key)
{
    struct engine_flow *slot = find(m->tables, key);
    if (slot != NULL) {
        release(m->tables, slot);
    }
}

static const struct layout_nic *
door_nic(const struct machine *m, __u16 nic)
{
    const struct engine *engine = m->tables;
    return nic < LAYOUT_NICS ? &engine->nics[nic] : NULL;
}

static int
door_pend_offer(const struct machine *m, int table, __u32 slot, const struct layout_pend *pend)
{
    const struct engine *engine = m->tables;
    return machine_pend_offer(&engine->pend[(__u32) table * LAYOUT_PENDING + slot], pend, m->now_ns,
                              m->config->pend_ns);
}

static void
door_pend_take(const struct machine *m, int table, __u32 slot, const struct layout_pend *want,
               int whole, struct layout_pend *ret)
{
    const struct engine *engine = m->tables;
    machine_pend_take(&engine->pend[(__u32) table * LAYOUT_PENDING + slot], want, whole, m->now_ns,
                      m->config->pend_ns, ret);
}

/* ---- frames ---- */

/* TCP needs no more than its sequence numbers. */
static void
read_head(const void *frame, __u32 size, struct packet *p)
{
    if (p->tuple.proto != PACKET_TCP && p->payload > 0 && p->payload + 4u <= size &&
        p->bytes >= 4) {
        __u32 bytes = p->bytes >= 8 && p->payload + 8u <= size ? 8 : 4;
        memcpy(p->print.head, (const __u8 *) frame + p->payload, bytes);
    }
}

static void
probe(const struct machine *m, const struct layout_nic *nic, struct layout_flow *flow,
      struct packet *p, struct engine_verdict *verdict)
{
    struct layout_pend pend = {0};
    if (p->tuple.proto == PACKET_TCP) {
        flow->probe_seq = p->print.seq;
        flow->probe_end = p->print.seq + p->bytes;
    } else if (!machine_pend(m, nic, p, &pend, LAYOUT_PEND_PROBE)) {
        return;
    }
    flow->probe_ns = m->now_ns;
    verdict->probe = 1;
}

struct engine_verdict
engine_enter(struct engine *engine, __u64 now_ns, __u16 nic, void *frame, __u32 size, __u32 segment,
             void *copy)
{
    struct machine m = {&engine->config, now_ns, engine};
    struct engine_verdict verdict = {.way = ENGINE_SLOW};
    struct packet p = {0};
    struct layout_pend pend = {0};
    struct layout_flow *flow;
    int remember;
    enum layout_reason parsed = packet_parse(frame, (const __u8 *) frame + size, size, &p);
    verdict.reason = machine_enter(&m, nic, &engine->nics[nic], &p, parsed,
                                   segment != 0 ? segment : p.size, &flow, &remember);
    if (remember || (verdict.reason == LAYOUT_HIT && machine_probe_due(&m, flow))) {
        read_head(frame, size, &p);
    }
    if (verdict.reason == LAYOUT_HIT) {
        if (machine_probe_due(&m, flow) && (segment == 0 || p.tuple.proto == PACKET_TCP)) {
            probe(&m, &engine->nics[nic], flow, &p, &verdict);
        }
        if (verdict.probe && copy != NULL) {
            memcpy(copy, frame, size);
        }
        flow->used_ns = now_ns;
        flow->packets++;
        flow->bytes += size;
        if (flow->flags & LAYOUT_FLOW_NAT) {
            rewrite_nat(frame, &p, &flow->out);
        }
        rewrite_hop(frame, flow);
        verdict.way = ENGINE_FAST;
        verdict.nic = flow->out.nic;
    } else if (remember && !machine_pend(&m, &engine->nics[nic], &p, &pend, 0)) {
        verdict.reason = LAYOUT_BUSY;
    }
    engine->counters[verdict.reason]++;
    return verdict;
}

struct engine_verdict
engine_leave(struct engine *engine, __u64 now_ns, __u16 nic, const void *frame, __u32 size)
{
    struct machine m = {&engine->config, now_ns, engine};
    struct engine_verdict verdict = {.way = ENGINE_SLOW};
    struct packet p = {0};
    struct layout_pend want = {0}, recalled = {0};
    struct layout_flow fresh = {0};
    enum layout_reason parsed = packet_parse(frame, (const __u8 *) frame + size, size, &p);
    read_head(frame, size, &p);
    verdict.reason =
        machine_leave(&m, nic, &engine->nics[nic], &p, parsed, &want, &recalled, &fresh);
    if (verdict.reason == LAYOUT_SWALLOWED) {
        verdict.way = ENGINE_SWALLOW;
    }
    engine->counters[verdict.reason]++;
    return verdict;
}

__u32
engine_age(struct engine *engine, __u64 now_ns, __u64 idle_ns, __u64 half_ns)
{
    __u32 removed = 0;
    for (__u32 i = 0; i < engine->flow_slots; i++) {
        struct engine_flow *slot = &engine->flows[i];
        const struct layout_flow *flow = &slot->flow;
        __u64 last = flow->used_ns > flow->proven_ns ? flow->used_ns : flow->proven_ns;
        __u64 life = flow->flags & LAYOUT_FLOW_FAST ? idle_ns : half_ns;
        if (slot->used == SLOT_USED && now_ns >= last + life) {
            release(engine, slot);
            removed++;
        }
    }
    return removed;
}
