/* Ageing and export of learned flows.
 * A1  Only what the programs would not use any more, or has been idle for long, is removed: a removal that
 *     races with a packet costs that flow one trip through the slow path, never a packet.
 * A2  Tables are walked in batches: a million flows in some hundred system calls. */
#include "dataplane/slow/fastage.h"

#include "dataplane/fast/permit.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <string.h>

#define BATCH 4096

typedef void (*Visit)(const struct layout_tuple *key, const void *raw_key,
                      const struct layout_flow *flow, void *data);

static void
key_widen(const struct layout_key4 *key, struct layout_tuple *ret)
{
    memset(ret, 0, sizeof *ret);
    ret->src[0] = key->src;
    ret->dst[0] = key->dst;
    ret->sport = key->sport;
    ret->dport = key->dport;
    ret->proto = key->proto;
    ret->family = 4;
    ret->nic = key->nic;
}

/* A2 */
static void
walk(int fd, bool is4, Visit visit, void *data)
{
    size_t key_size = is4 ? sizeof(struct layout_key4) : sizeof(struct layout_tuple);
    g_autofree guint8 *keys = g_malloc(BATCH * key_size);
    g_autofree struct layout_flow *flows = g_new(struct layout_flow, BATCH);
    guint32 place = 0, next = 0;
    bool first = true, more = true;
    while (more) {
        guint32 count = BATCH;
        int status =
            bpf_map_lookup_batch(fd, first ? NULL : &place, &next, keys, flows, &count, NULL);
        if (status < 0 && errno != ENOENT) {
            return;
        }
        more = status == 0;
        for (guint32 i = 0; i < count; i++) {
            struct layout_tuple wide;
            const void *raw = keys + i * key_size;
            if (is4) {
                key_widen(raw, &wide);
            } else {
                memcpy(&wide, raw, sizeof wide);
            }
            visit(&wide, raw, &flows[i], data);
        }
        place = next;
        first = false;
    }
}

/* ---- states ---- */

struct view {
    const volatile struct layout_config *config;
    guint64 now_ns;
    struct layout_nic *nics;
    const struct layout_permit *permits;
    guint32 permit_count;
};

static void
view_init(struct view *view, FastLoad *load)
{
    view->config = fastload_config(load);
    view->now_ns = fastload_now_ns(load);
    view->permits = fastload_permits(load, &view->permit_count);
    view->nics = g_new0(struct layout_nic, LAYOUT_NICS);
    g_autofree guint32 *keys = g_new(guint32, LAYOUT_NICS);
    guint32 next = 0, count = LAYOUT_NICS;
    bpf_map_lookup_batch(fastload_map(load, "haw_nics"), NULL, &next, keys, view->nics, &count,
                         NULL);
}

/* What the flow's permit carried is the flow's. */
static void
add_permit(const struct view *view, const struct layout_key4 *key, struct layout_flow *flow)
{
    guint32 slot = permit_slot(key, view->permit_count);
    for (guint i = 0; i < 2; i++) {
        const struct layout_permit *permit = &view->permits[slot ^ i];
        if (permit_same(&permit->key, key)) {
            permit_fold(permit, flow);
            return;
        }
    }
}

static FlowState
state_of(const struct view *view, const struct layout_tuple *key, const struct layout_flow *flow)
{
    guint zone = key->nic < LAYOUT_NICS ? view->nics[key->nic].zone
                                        : (key->nic - LAYOUT_FAR(0)) % LAYOUT_ZONES;
    return flowshow_state(view->config, zone, flow, view->now_ns);
}

/* ---- ageing ---- */

struct ageing {
    struct view view;
    GByteArray *dead; /* raw keys */
    size_t key_size;
    guint left;
};

static void
age_one(const struct layout_tuple *key, const void *raw_key, const struct layout_flow *flow,
        void *data)
{
    struct ageing *ageing = data;
    FlowState state = state_of(&ageing->view, key, flow);
    guint64 last = MAX(flow->used_ns, flow->proven_ns);
    guint64 life_ms = state == FLOWSHOW_HALF ? FASTAGE_HALF_MS : FASTAGE_IDLE_MS;
    if (state == FLOWSHOW_STALE || ageing->view.now_ns >= last + life_ms * 1000000) { /* A1 */
        g_byte_array_append(ageing->dead, raw_key, (guint) ageing->key_size);
    } else {
        ageing->left++;
    }
}

guint
fastage_run(FastLoad *load, guint *ret_left)
{
    struct ageing ageing = {.dead = g_byte_array_new()};
    guint removed = 0;
    view_init(&ageing.view, load);
    for (int is4 = 0; is4 < 2; is4++) {
        int fd = fastload_map(load, is4 ? "haw_flow4" : "haw_flow6");
        ageing.key_size = is4 ? sizeof(struct layout_key4) : sizeof(struct layout_tuple);
        g_byte_array_set_size(ageing.dead, 0);
        walk(fd, is4, age_one, &ageing);
        for (guint at = 0; at < ageing.dead->len; at += (guint) ageing.key_size) {
            removed += bpf_map_delete_elem(fd, ageing.dead->data + at) == 0;
        }
    }
    g_byte_array_unref(ageing.dead);
    g_free(ageing.view.nics);
    if (ret_left != NULL) {
        *ret_left = ageing.left;
    }
    return removed;
}

/* ---- export ---- */

struct showing {
    struct view view;
    FlowVisit visit;
    void *data;
};

static void
show_one(const struct layout_tuple *key, const void *raw_key, const struct layout_flow *flow,
         void *data)
{
    const struct showing *showing = data;
    FlowSeen one = {*key, *flow, state_of(&showing->view, key, flow)};
    if (key->family == 4) {
        add_permit(&showing->view, raw_key, &one.flow);
    }
    showing->visit(&one, showing->data);
}

void
fastage_visit(FastLoad *load, FlowVisit visit, void *data)
{
    struct showing showing = {.visit = visit, .data = data};
    view_init(&showing.view, load);
    walk(fastload_map(load, "haw_flow4"), true, show_one, &showing);
    walk(fastload_map(load, "haw_flow6"), false, show_one, &showing);
    g_free(showing.view.nics);
}

static void
list_one(const FlowSeen *flow, void *data)
{
    g_array_append_vals(data, flow, 1);
}

GArray *
fastage_flows(FastLoad *load)
{
    GArray *flows = g_array_new(FALSE, FALSE, sizeof(FlowSeen));
    fastage_visit(load, list_one, flows);
    return flows;
}

bool
fastage_counters(FastLoad *load, guint64 *ret_counters, GError **error)
{
    int cores = libbpf_num_possible_cpus();
    g_autofree guint64 *each = g_new0(guint64, MAX(cores, 1));
    for (guint32 reason = 0; reason < LAYOUT_REASON_COUNT; reason++) {
        if (bpf_map_lookup_elem(fastload_map(load, "haw_count"), &reason, each) < 0) {
            return haw_fail_errno(error, errno, "Read the fast path's counters");
        }
        ret_counters[reason] = 0;
        for (int core = 0; core < cores; core++) {
            ret_counters[reason] += each[core];
        }
    }
    return true;
}
