/* Uplinks of the fast path between hosts.
 *
 *   userspace datapath: uplink ── XDP (uplink.bpf.c) ── near ══ ours ── haw_far_in
 *   kernel's datapath:  uplink ── haw_far_in
 *
 * U1  What comes in is steered into the pair last, and no longer before anything of it goes: until then, and after,
 *     the switch gets it.
 * U2  Steering needs XDP in the driver: run by the stack (generic) it would see again what the pair's end gives
 *     back. Such an uplink sends fast and receives slow.
 * U3  Names of the pair follow from the uplink's, so a later life finds it.
 * U4  The filter drops only while it is asked for, after its tables are full.
 * Called by dpd.c. Not here: the tables of fastfar.c. */
#include "dataplane/slow/farlink.h"

#include <string.h>

#include "base/fd.h"
#include "base/fiber.h"
#include "base/log.h"
#include "dataplane/slow/fastfar.h"
#include "dataplane/slow/uplink.h"
#include "hw/link.h"
#include "hw/offload.h"

struct FarLinks {
    FastLoad *load;   /* borrowed; NULL: there is no fast path */
    GPtrArray *links; /* struct link, owned */
    GPtrArray *shown; /* blocks of the last farlink_states() */
    FiberLock lock;
};

struct link {
    char *name;
    guint ifindex;
    Uplink *filter;     /* owned; NULL: see 'slow' */
    GHashTable *wanted; /* guint64: vni << 32 | port → how */
    GHashTable *ends;   /* addresses, owned */
    char slow[160];     /* why what comes in is not fast */
};

static void
link_free(gpointer data)
{
    struct link *link = data;
    uplink_leave(link->filter);
    g_hash_table_unref(link->wanted);
    g_hash_table_unref(link->ends);
    g_free(link->name);
    g_free(link);
}

/* ---- pairs ---- */

struct pair_visit {
    char uplink[IFNAMSIZ], near[IFNAMSIZ], ours[IFNAMSIZ];
    bool make, clear;
    guint ifindex, near_index, ours_index, mtu; /* results; 0: not there */
    GError *error;
};

static bool
pair_make(NlSock *sock, const struct pair_visit *visit, GError **error)
{
    if (link_index(sock, visit->near) == 0 &&
        !link_add_veth(sock, visit->near, visit->ours, visit->mtu, 0, NULL, error)) {
        return false;
    }
    const char *const ends[] = {visit->near, visit->ours};
    for (size_t i = 0; i < G_N_ELEMENTS(ends); i++) {
        g_autofree char *quiet =
            g_strdup_printf("/proc/sys/net/ipv6/conf/%s/disable_ipv6", ends[i]);
        fd_write_kernel(quiet, "1", NULL); /* where there is IPv6 */
        if (!link_set_mtu(sock, ends[i], visit->mtu, error) ||
            !link_set_up(sock, ends[i], true, error)) {
            return false;
        }
    }
    return offload_set_merge(visit->ours, true,
                             error); /* without it a veth takes nothing from XDP */
}

static void
pair_run(void *data)
{
    struct pair_visit *visit = data;
    struct link_info info;
    g_autoptr(NlSock) sock = nlsock_open(&visit->error);
    if (sock == NULL || (visit->clear && !link_del(sock, visit->near, &visit->error))) {
        return;
    }
    if (link_get(sock, visit->uplink, &info, NULL)) {
        visit->ifindex = (guint) info.index;
        visit->mtu = info.mtu;
        if (visit->make && !pair_make(sock, visit, &visit->error)) {
            return;
        }
    }
    visit->near_index = (guint) link_index(sock, visit->near);
    visit->ours_index = (guint) link_index(sock, visit->ours);
}

/* U3 */
static void
pair_prepare(struct pair_visit *visit, const char *uplink)
{
    g_autofree char *sum = g_compute_checksum_for_string(G_CHECKSUM_SHA256, uplink, -1);
    g_strlcpy(visit->uplink, uplink, sizeof visit->uplink);
    g_snprintf(visit->near, IFNAMSIZ, "hwn%.10s", sum);
    g_snprintf(visit->ours, IFNAMSIZ, "hwm%.10s", sum);
}

/* ---- one uplink ---- */

static void
say_slow(struct link *link, const char *why)
{
    if (strcmp(link->slow, why) != 0) {
        haw_info("far.uplink", KS("uplink", link->name), KS("slow", why));
    }
    g_strlcpy(link->slow, why, sizeof link->slow);
}

static bool
want_one(struct link *link, guint32 vni, guint32 port, guint32 how, GError **error)
{
    guint64 key = (guint64) vni << 32 | port;
    gpointer before = g_hash_table_lookup(link->wanted, &key);
    if (GPOINTER_TO_UINT(before) == how) {
        return true;
    }
    if (!uplink_want(link->filter, vni, port, how, error)) {
        return false;
    }
    if (how != 0) {
        g_hash_table_insert(link->wanted, g_memdup2(&key, sizeof key), GUINT_TO_POINTER(how));
    } else {
        g_hash_table_remove(link->wanted, &key);
    }
    return true;
}

/* What is not said any more is taken out. */
static bool
unwant(struct link *link, GHashTable *said, GError **error)
{
    g_autoptr(GList) keys = g_hash_table_get_keys(link->wanted);
    for (GList *at = keys; at != NULL; at = at->next) {
        guint64 key = *(guint64 *) at->data;
        if (!g_hash_table_contains(said, &key) &&
            !want_one(link, (guint32) (key >> 32), (guint32) key, 0, error)) {
            return false;
        }
    }
    return true;
}

static void
say(GHashTable *said, guint32 vni, guint32 port)
{
    guint64 key = (guint64) vni << 32 | port;
    g_hash_table_add(said, g_memdup2(&key, sizeof key));
}

static bool
fill_tables(struct link *link, const Dpd__FastFar *want, GError **error)
{
    g_autoptr(GHashTable) said = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, NULL);
    for (size_t i = 0; i < want->n_networks; i++) {
        const Dpd__FarNetwork *net = want->networks[i];
        guint32 how = UPLINK_WANT_PORT | (net->zone != 0 ? UPLINK_STEER : 0);
        say(said, net->vni, UPLINK_ANY_PORT);
        if (!want_one(link, net->vni, UPLINK_ANY_PORT, how, error)) {
            return false;
        }
        for (size_t p = 0; p < net->n_ports; p++) {
            say(said, net->vni, net->ports[p]);
            if (!want_one(link, net->vni, net->ports[p], UPLINK_WANT_PORT, error)) {
                return false;
            }
        }
    }
    for (size_t i = 0; i < want->n_ends; i++) {
        if (!g_hash_table_contains(link->ends, want->ends[i])) {
            if (!uplink_add_end(link->filter, want->ends[i], error)) {
                return false;
            }
            g_hash_table_add(link->ends, g_strdup(want->ends[i]));
        }
    }
    return unwant(link, said, error);
}

/* Sees to the XDP program; without one what comes in takes the switch. U1, U4 */
static void
make_filter(struct link *link, const Dpd__FastFar *want, guint32 near)
{
    g_autoptr(GError) why = NULL;
    if (link->filter == NULL) {
        link->filter = uplink_open(link->name, &why);
    }
    bool steers = link->filter != NULL && near != 0 && uplink_is_native(link->filter);
    bool ok = link->filter != NULL && fill_tables(link, want, &why) &&
              uplink_switch(link->filter, want->filter, &why) &&
              uplink_steer(link->filter, steers ? near : 0, &why);
    if (!ok) {
        if (link->filter != NULL) {
            uplink_switch(link->filter, false, NULL); /* U4 */
        }
        say_slow(link, why->message);
    } else if (near != 0 && !steers) {
        say_slow(link, "its driver has no XDP of its own"); /* U2 */
    } else {
        say_slow(link, "");
    }
}

static void
make_link(FarLinks *links, struct link *link, const Dpd__FastFar *want)
{
    g_autoptr(GError) why = NULL;
    struct pair_visit visit = {.make = want->userspace};
    pair_prepare(&visit, link->name);
    fiber_run(pair_run, &visit);
    why = visit.error;
    if (why == NULL && visit.ifindex == 0) {
        haw_fail(&why, HAW_NOT_FOUND, "there is no interface \"%s\"", link->name);
    }
    guint32 ours = want->userspace ? visit.ours_index : 0;
    if (why != NULL || !fastfar_set_uplink(links->load, visit.ifindex, ours, visit.mtu, &why)) {
        say_slow(link, why->message);
        return;
    }
    link->ifindex = visit.ifindex;
    if (want->userspace || want->filter || link->filter != NULL) {
        make_filter(link, want, want->userspace ? visit.near_index : 0);
    }
}

/* U1 */
static void
undo_link(FarLinks *links, struct link *link)
{
    g_autoptr(GError) why = NULL;
    struct pair_visit clear = {.clear = true};
    uplink_close(g_steal_pointer(&link->filter));
    if (link->ifindex != 0 && !fastfar_unset_uplink(links->load, link->ifindex, &why)) {
        haw_warn("far.not_undone", KS("uplink", link->name), KS("why", why->message));
    }
    pair_prepare(&clear, link->name);
    if (fiber_self() != NULL) {
        fiber_run(pair_run, &clear);
    } else { /* the daemon ends */
        pair_run(&clear);
    }
    if (clear.error != NULL) {
        haw_warn("far.not_undone", KS("uplink", link->name), KS("why", clear.error->message));
        g_error_free(clear.error);
    }
}

/* ---- all ---- */

static struct link *
find_link(FarLinks *links, const char *name)
{
    for (guint i = 0; i < links->links->len; i++) {
        struct link *link = links->links->pdata[i];
        if (strcmp(link->name, name) == 0) {
            return link;
        }
    }
    struct link *link = g_new0(struct link, 1);
    link->name = g_strdup(name);
    link->wanted = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, NULL);
    link->ends = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    g_ptr_array_add(links->links, link);
    return link;
}

static bool
names_link(const Dpd__FastFar *want, const char *name)
{
    for (size_t i = 0; i < want->n_uplinks; i++) {
        if (strcmp(want->uplinks[i], name) == 0) {
            return true;
        }
    }
    return false;
}

static bool
set_networks(FarLinks *links, const Dpd__FastFar *want, GError **error)
{
    g_autoptr(GArray) list = g_array_new(FALSE, FALSE, sizeof(FarNetwork));
    for (size_t i = 0; i < want->n_networks; i++) {
        FarNetwork one = {want->networks[i]->vni,
                          (guint16) MIN(want->networks[i]->zone, G_MAXUINT16)};
        if (one.zone != 0) {
            g_array_append_val(list, one);
        }
    }
    return fastfar_set_networks(links->load, (const FarNetwork *) (gpointer) list->data, list->len,
                                error);
}

/* What an earlier life saw to, and nobody names now. */
static void
forget_strangers(FarLinks *links)
{
    g_autoptr(GArray) bound = fastfar_uplinks(links->load);
    for (guint i = 0; i < bound->len; i++) {
        guint32 ifindex = g_array_index(bound, guint32, i);
        bool known = false;
        for (guint n = 0; n < links->links->len && !known; n++) {
            known = ((struct link *) links->links->pdata[n])->ifindex == ifindex;
        }
        if (!known) {
            fastfar_unset_uplink(links->load, ifindex, NULL);
        }
    }
}

bool
farlink_apply(FarLinks *links, const Dpd__FastFar *want, GError **error)
{
    if (links->load == NULL) {
        return haw_fail(error, HAW_UNSUPPORTED, "There is no fast path here");
    }
    g_auto(FiberHold) hold = fiber_hold(&links->lock);
    if (!set_networks(links, want, error)) {
        return false;
    }
    for (size_t i = 0; i < want->n_uplinks; i++) {
        make_link(links, find_link(links, want->uplinks[i]), want);
    }
    for (guint i = links->links->len; i > 0; i--) {
        struct link *link = links->links->pdata[i - 1];
        if (!names_link(want, link->name)) {
            undo_link(links, link);
            g_ptr_array_remove_index(links->links, i - 1);
        }
    }
    forget_strangers(links);
    return true;
}

FarLinks *
farlink_new(FastLoad *load)
{
    FarLinks *links = g_new0(FarLinks, 1);
    links->load = load;
    links->links = g_ptr_array_new_with_free_func(link_free);
    links->shown = g_ptr_array_new_with_free_func(g_free);
    return links;
}

void
farlink_free(FarLinks *links, bool end)
{
    if (links == NULL) {
        return;
    }
    for (guint i = 0; end && i < links->links->len; i++) {
        undo_link(links, links->links->pdata[i]);
    }
    g_ptr_array_unref(links->links);
    g_ptr_array_unref(links->shown);
    g_free(links);
}

/* ---- for people ---- */

static void *
keep(FarLinks *links, void *block)
{
    g_ptr_array_add(links->shown, block);
    return block;
}

static void
show_counts(FarLinks *links, const struct link *link, Dpd__FarState *ret)
{
    guint64 counters[UPLINK_REASON_COUNT];
    if (link->filter == NULL || !uplink_counters(link->filter, counters, NULL)) {
        return;
    }
    ret->counts = keep(links, g_new0(Dpd__FastCount *, UPLINK_REASON_COUNT));
    for (guint i = 0; i < UPLINK_REASON_COUNT; i++) {
        Dpd__FastCount *count = keep(links, g_new0(Dpd__FastCount, 1));
        dpd__fast_count__init(count);
        count->reason = (char *) (guintptr) uplink_reason_text(i);
        count->packets = counters[i];
        ret->counts[ret->n_counts++] = count;
    }
}

void
farlink_states(FarLinks *links, Dpd__FastStats *ret)
{
    g_ptr_array_set_size(links->shown, 0);
    ret->uplinks = keep(links, g_new0(Dpd__FarState *, links->links->len + 1));
    for (guint i = 0; i < links->links->len; i++) {
        const struct link *link = links->links->pdata[i];
        Dpd__FarState *state = keep(links, g_new0(Dpd__FarState, 1));
        dpd__far_state__init(state);
        state->uplink = keep(links, g_strdup(link->name));
        state->slow = keep(links, g_strdup(link->slow));
        show_counts(links, link, state);
        ret->uplinks[ret->n_uplinks++] = state;
    }
}
