/* The doors of the state machine over memory: the flow table (flowtable.c), two arrays of pending packets.
 * E1  One writer of a flow's counters: the thread that its port's frames enter by.
 * E2  Several threads: flows are made and ended under one lock, pending packets under one a slot. Who
 *     looks a flow up takes none: a slot is not used again while anybody may still read it (flowtable.h's T3),
 *     and single words are each written whole. What another thread has just ended is used no longer than
 *     one burst, as if its packets had come before.
 * E3  A permit is made of a flow when it carried a packet, and says no more than machine_judge() would.
 * Called by front ends that are not BPF, and by burst.c. */
#include "dataplane/fast/engine.h"

#define MACHINE_DOOR static
#include "dataplane/fast/machine.h"
#include "dataplane/fast/rewrite.h"

#include <string.h>

#if defined(__x86_64__)
#define PAUSE() __builtin_ia32_pause()
#else
#define PAUSE() __asm__ volatile("" ::: "memory")
#endif

enum { SLOT_EMPTY, SLOT_USED, SLOT_GONE };

/* One search of a flow, remembered for who needs its slot. */
struct walk {
    struct engine *engine;
    __u32 slot; /* found last */
};

static struct layout_flow *
find(struct walk *walk, const struct layout_tuple *key)
{
    struct flowtable *table = &walk->engine->table;
    walk->slot = flowtable_find(table, key);
    return walk->slot != FLOWTABLE_NONE ? &table->entries[walk->slot].flow : NULL;
}

struct layout_flow *
engine_find(struct engine *engine, const struct layout_tuple *key)
{
    struct walk walk = {engine, FLOWTABLE_NONE};
    return find(&walk, key);
}

void
engine_share(struct engine *engine, __u8 *locks)
{
    engine->pend_locks = locks;
    engine->table.safe = engine->table.epoch;
}

/* ---- locks: E2; free when there is one thread ---- */

static void
lock_table(struct engine *engine)
{
    while (engine->pend_locks != NULL && __atomic_exchange_n(&engine->lock, 1, __ATOMIC_ACQUIRE)) {
        while (__atomic_load_n(&engine->lock, __ATOMIC_RELAXED)) {
            PAUSE();
        }
    }
}

static void
unlock_table(struct engine *engine)
{
    if (engine->pend_locks != NULL) {
        __atomic_store_n(&engine->lock, 0, __ATOMIC_RELEASE);
    }
}

static void
lock_pend(const struct engine *engine, __u32 at)
{
    while (engine->pend_locks != NULL &&
           __atomic_test_and_set(&engine->pend_locks[at], __ATOMIC_ACQUIRE)) {
        PAUSE();
    }
}

static void
unlock_pend(const struct engine *engine, __u32 at)
{
    if (engine->pend_locks != NULL) {
        __atomic_clear(&engine->pend_locks[at], __ATOMIC_RELEASE);
    }
}

/* ---- doors ---- */

static struct layout_flow *
door_flow(const struct machine *m, const struct layout_tuple *key)
{
    return find(m->tables, key);
}

static int
door_flow_put(const struct machine *m, const struct layout_tuple *key,
              const struct layout_flow *flow)
{
    struct walk *walk = m->tables;
    return flowtable_put(&walk->engine->table, key, flow) != FLOWTABLE_NONE ? 0 : -1;
}

static void
door_flow_drop(const struct machine *m, const struct layout_tuple *key)
{
    struct walk *walk = m->tables;
    __u32 slot = flowtable_find(&walk->engine->table, key);
    if (slot != FLOWTABLE_NONE) {
        flowtable_drop(&walk->engine->table, slot);
    }
}

static const struct layout_nic *
door_nic(const struct machine *m, __u16 nic)
{
    const struct engine *engine = ((struct walk *) m->tables)->engine;
    return nic < LAYOUT_NICS ? &engine->nics[nic] : NULL;
}

static struct layout_order *
door_order(const struct machine *m, __u16 nic)
{
    struct engine *engine = ((struct walk *) m->tables)->engine;
    return nic < LAYOUT_NICS ? &engine->order[nic] : NULL;
}

static int
door_pend_offer(const struct machine *m, int table, __u32 slot, const struct layout_pend *pend)
{
    const struct engine *engine = ((struct walk *) m->tables)->engine;
    __u32 at = (__u32) table * LAYOUT_PENDING + slot;
    lock_pend(engine, at);
    int taken = machine_pend_offer(&engine->pend[at], pend, m->now_ns, m->config->pend_ns);
    unlock_pend(engine, at);
    return taken;
}

static void
door_pend_take(const struct machine *m, int table, __u32 slot, const struct layout_pend *want,
               int whole, struct layout_pend *ret)
{
    const struct engine *engine = ((struct walk *) m->tables)->engine;
    __u32 at = (__u32) table * LAYOUT_PENDING + slot;
    lock_pend(engine, at);
    machine_pend_take(&engine->pend[at], want, whole, m->now_ns, m->config->pend_ns, ret);
    unlock_pend(engine, at);
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

static int
probe(const struct machine *m, const struct layout_nic *nic, struct layout_flow *flow,
      struct packet *p)
{
    struct layout_pend pend = {0};
    if (p->tuple.proto == PACKET_TCP) {
        flow->probe_seq = p->print.seq;
        flow->probe_end = p->print.seq + p->bytes;
    } else if (!machine_pend(m, nic, p, &pend, LAYOUT_PEND_PROBE, NULL)) {
        return 0;
    }
    flow->probe_ns = m->now_ns;
    return 1;
}

/* What a permit carried belongs to its flow. */
static void
fold_permit(struct flowtable *table, __u32 slot, struct layout_flow *flow)
{
    struct flowtable_permit *permit = &table->permits[slot];
    flow->packets += FLOWTABLE_PACKETS(permit->carried);
    flow->bytes += FLOWTABLE_BYTES(permit->carried);
    permit->carried = 0;
}

/* E3: a permit says no more than machine_judge() would, and ends before it would say otherwise. */
static void
make_permit(const struct machine *m, const struct packet *p, __u32 slot,
            const struct layout_flow *flow)
{
    const struct walk *walk = m->tables;
    struct flowtable_permit *permit = &walk->engine->table.permits[slot];
    __u64 ends = flow->proven_ns + m->config->expire_ns,
          due = flow->proven_ns + m->config->renew_ns;
    int tcp = p->tuple.proto == PACKET_TCP;
    if (due < flow->probe_ns + m->config->retry_ns) {
        due = flow->probe_ns + m->config->retry_ns;
    }
    if (p->tuple.family != 4 || (flow->flags & LAYOUT_FLOW_NAT) ||
        (p->tuple.proto != PACKET_TCP && p->tuple.proto != PACKET_UDP) || flow->ttl_delta == 0xff) {
        return;
    }
    permit->own = p->tuple.nic;
    permit->src = p->tuple.src[0];
    permit->dst = p->tuple.dst[0];
    permit->sport = p->tuple.sport;
    permit->dport = p->tuple.dport;
    permit->proto = p->tuple.proto;
    packet_mac_copy(permit->gate_mac, flow->gate_mac);
    packet_mac_copy(permit->dst_mac, flow->dst_mac);
    packet_mac_copy(permit->src_mac, flow->src_mac);
    permit->verdict = ENGINE_FAST | LAYOUT_HIT << 8 | (__u32) flow->out.nic << 16;
    permit->mtu = walk->engine->nics[flow->out.nic].mtu;
    permit->least_ttl = (__u8) (flow->ttl_delta + 1);
    permit->header = tcp ? 0x3c : 0;
    permit->least = tcp ? 20 : 20 + (__u8) sizeof(struct packet_udp);
    permit->least_offset = tcp ? 0x50 : 0;
    permit->flags = tcp ? PACKET_FIN | PACKET_SYN | PACKET_RST | PACKET_URG : 0;
    permit->until = FLOWTABLE_TICK(due < ends ? due : ends);
    permit->generation = flow->generation;
}

/* A frame on its way in: whose it is, and where a copy goes. */
struct entry {
    struct engine_seat *seat; /* NULL: 'copy' is the room, and may be NULL, too */
    const struct layout_nic *nic;
    const struct engine_frame *frame;
    __u32 index;
    __u32 segment; /* 0: the frame is what it is */
    void *copy;
};

/* Makes the copy that proves the flow once more, when there is room for it. */
static int
send_probe(const struct machine *m, const struct entry *entry, struct packet *p,
           struct layout_flow *flow)
{
    void *room = entry->copy;
    if (!machine_probe_due(m, flow) || (entry->segment != 0 && p->tuple.proto != PACKET_TCP)) {
        return 0;
    }
    read_head(entry->frame->data, entry->frame->size, p);
    if (entry->seat != NULL) {
        room = entry->seat->copy_room(entry->seat->user, entry->index, entry->frame->size);
    }
    if ((entry->seat != NULL && room == NULL) || !probe(m, entry->nic, flow, p)) {
        return 0;
    }
    if (room != NULL) {
        memcpy(room, entry->frame->data, entry->frame->size);
    }
    return 1;
}

/* A frame that 'flow' carries. */
static void
send_fast(const struct machine *m, const struct entry *entry, struct packet *p,
          struct layout_flow *flow, struct engine_verdict *verdict)
{
    const struct walk *walk = m->tables;
    verdict->probe = (__u8) send_probe(m, entry, p, flow);
    fold_permit(&walk->engine->table, walk->slot, flow);
    flow->used_ns = m->now_ns;
    flow->packets++;
    flow->bytes += entry->frame->size;
    make_permit(m, p, walk->slot, flow);
    if (flow->flags & LAYOUT_FLOW_NAT) {
        rewrite_nat(entry->frame->data, p, &flow->out);
    }
    rewrite_hop(entry->frame->data, flow);
    verdict->way = ENGINE_FAST;
    verdict->nic = flow->out.nic;
}

static struct engine_verdict
enter(struct engine *engine, __u64 now_ns, __u16 nic, const struct entry *entry)
{
    struct walk walk = {engine, FLOWTABLE_NONE};
    struct machine m = {&engine->config, now_ns, &walk};
    struct engine_verdict verdict = {.way = ENGINE_SLOW};
    struct packet p = {0};
    struct layout_pend pend = {0};
    struct layout_flow *flow;
    int remember;
    const struct engine_frame *frame = entry->frame;
    enum layout_reason parsed =
        packet_parse(frame->data, (const __u8 *) frame->data + frame->size, frame->size, &p);
    if (parsed == LAYOUT_TCP_FLAGS) { /* may end a flow: E2 */
        lock_table(engine);
    }
    enum layout_reason reason =
        machine_enter(&m, nic, entry->nic, &p, parsed,
                      entry->segment != 0 ? entry->segment : p.size, &flow, &remember);
    if (parsed == LAYOUT_TCP_FLAGS) {
        unlock_table(engine);
    }
    if (reason == LAYOUT_HIT) {
        send_fast(&m, entry, &p, flow, &verdict);
    } else if (remember) {
        read_head(frame->data, frame->size, &p);
        if (!machine_pend(&m, entry->nic, &p, &pend, 0, flow)) {
            reason = LAYOUT_BUSY;
        }
        if (flow != NULL && walk.slot != FLOWTABLE_NONE) {
            engine->table.permits[walk.slot].until = FLOWTABLE_TICK(now_ns); /* M11 */
        }
    }
    verdict.reason = (__u8) reason;
    return verdict;
}

struct engine_verdict
engine_enter(struct engine *engine, __u64 now_ns, __u16 nic, void *frame, __u32 size, __u32 segment,
             void *copy)
{
    struct engine_frame one = {frame, size};
    struct entry entry = {
        .nic = &engine->nics[nic], .frame = &one, .segment = segment, .copy = copy};
    struct engine_verdict verdict = enter(engine, now_ns, nic, &entry);
    engine->counters[verdict.reason]++;
    return verdict;
}

struct engine_verdict
engine_enter_one(struct engine *engine, struct engine_seat *seat, __u64 now_ns, __u16 nic,
                 const struct engine_frame *frame, __u32 index)
{
    struct entry entry = {.seat = seat, .nic = &engine->nics[nic], .frame = frame, .index = index};
    struct engine_verdict verdict = enter(engine, now_ns, nic, &entry);
    seat->counters[verdict.reason]++;
    return verdict;
}

struct engine_verdict
engine_leave(struct engine *engine, struct engine_seat *seat, __u64 now_ns, __u16 nic,
             const void *frame, __u32 size)
{
    struct walk walk = {engine, FLOWTABLE_NONE};
    struct machine m = {&engine->config, now_ns, &walk};
    struct engine_verdict verdict = {.way = ENGINE_SLOW};
    struct packet p = {0};
    struct layout_pend want = {0}, recalled = {0};
    struct layout_flow fresh = {0};
    enum layout_reason parsed = packet_parse(frame, (const __u8 *) frame + size, size, &p);
    read_head(frame, size, &p);
    lock_table(engine); /* E2 */
    enum layout_reason reason =
        machine_leave(&m, nic, &engine->nics[nic], &p, parsed, &want, &recalled, &fresh);
    unlock_table(engine);
    if (reason == LAYOUT_SWALLOWED) {
        verdict.way = ENGINE_SWALLOW;
    }
    verdict.reason = (__u8) reason;
    (seat != NULL ? seat->counters : engine->counters)[reason]++;
    return verdict;
}

__u32
engine_age(struct engine *engine, __u64 now_ns, __u64 idle_ns, __u64 half_ns)
{
    struct flowtable *table = &engine->table;
    __u32 removed = 0;
    for (__u32 slot = 0; slot < table->buckets * FLOWTABLE_WAYS; slot++) {
        if (__atomic_load_n(&table->signs[slot], __ATOMIC_ACQUIRE) == 0) {
            continue;
        }
        lock_table(engine);
        const struct layout_flow *flow = &table->entries[slot].flow;
        __u64 last = flow->used_ns > flow->proven_ns ? flow->used_ns : flow->proven_ns;
        __u64 life = flow->flags & LAYOUT_FLOW_FAST ? idle_ns : half_ns;
        if (table->signs[slot] != 0 && now_ns >= last + life) {
            flowtable_drop(table, slot);
            removed++;
        }
        unlock_table(engine);
    }
    return removed;
}

int
engine_look(struct engine *engine, __u32 slot, struct engine_slot *ret_slot)
{
    const struct flowtable *table = &engine->table;
    lock_table(engine);
    int there = table->signs[slot] != 0;
    if (there) {
        *ret_slot = (struct engine_slot){table->entries[slot].key, table->entries[slot].flow};
    }
    unlock_table(engine);
    return there;
}
