/* Requests of hawser-dpd's socket: each is decoded, given to the part that knows, and answered.
 * A1  Each runs in a fiber of its own: one that waits for a device holds up no other. A connection may have
 *     REQUESTS of them at a time; what comes then waits in the socket.
 * A2  Each is answered once, by what it asked for or a failure, unless its peer has gone.
 * Called by dpd.c, which has the connections and sends events. */
#include "dataplane/slow/dpdask.h"

#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "dataplane/slow/fastshow.h"
#include "dataplane/slow/polllook.h"

enum { REQUESTS = 64 };

void
dpdask_unref(DpdPeer *peer)
{
    if (--peer->refs == 0) {
        dpdwire_free(peer->wire);
        g_free(peer);
    }
}

/* ---- answers ---- */

/* Who cannot be reached any more is found by its receiving fiber. */
void
dpdask_answer(DpdPeer *peer, Dpd__Frame *frame, int fd)
{
    g_autoptr(GError) error = NULL;
    if (!peer->closed && !dpdwire_send(peer->wire, frame, fd, &error)) {
        haw_debug("peer.unsent", KS("why", error->message));
        dpdwire_shut(peer->wire);
    }
}

void
dpdask_fail(DpdPeer *peer, guint64 id, const GError *error)
{
    Dpd__Failure failure = DPD__FAILURE__INIT;
    Dpd__Frame frame = DPD__FRAME__INIT;
    failure.code = haw_code(error);
    failure.message = error->message;
    frame.id = id;
    frame.body_case = DPD__FRAME__BODY_FAILURE;
    frame.failure = &failure;
    dpdask_answer(peer, &frame, -1);
}

static void
answer_observed(DpdPeer *peer, guint64 id, Dpd__Observed *observed)
{
    Dpd__Frame frame = DPD__FRAME__INIT;
    frame.id = id;
    frame.body_case = DPD__FRAME__BODY_OBSERVED;
    frame.observed = observed;
    dpdask_answer(peer, &frame, -1);
}

static void
answer_done(DpdPeer *peer, guint64 id)
{
    Dpd__Done nothing = DPD__DONE__INIT;
    Dpd__Frame frame = DPD__FRAME__INIT;
    frame.id = id;
    frame.body_case = DPD__FRAME__BODY_DONE;
    frame.done = &nothing;
    dpdask_answer(peer, &frame, -1);
}

/* ---- requests ---- */

/* Whose bridges these are must be known after a restart, too, before any agent speaks. */
static void
remember_remote(const DpdParts *parts, const char *remote)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *path = g_build_filename(parts->dir, "ovsdb", NULL);
    if (*remote == '\0' || strcmp(remote, ovsport_remote(parts->bridges)) == 0) {
        return;
    }
    if (!fd_write_atomic(path, remote, strlen(remote), 0600, &error)) {
        haw_warn("dpd.remote", KS("why", error->message));
    }
    ovsport_set_remote(parts->bridges, remote);
}

static bool
do_apply(DpdPeer *peer, const Dpd__Frame *request, GError **error)
{
    remember_remote(peer->parts, request->apply->ovsdb);
    Dpd__Observed *observed = ports_apply(peer->parts->ports, request->apply, error);
    if (observed == NULL) {
        return false;
    }
    answer_observed(peer, request->id, observed);
    ports_observed_free(observed);
    return true;
}

static bool
do_list(DpdPeer *peer, const Dpd__Frame *request, GError **error)
{
    Dpd__Observed *observed = ports_observe(peer->parts->ports);
    answer_observed(peer, request->id, observed);
    ports_observed_free(observed);
    return true;
}

static bool
do_take(DpdPeer *peer, const Dpd__Frame *request, GError **error)
{
    g_autofree char *device = NULL;
    haw_autofd int fd = ports_take(peer->parts->ports, request->take->id, &device, error);
    if (fd < 0) {
        return false;
    }
    Dpd__Taken taken = DPD__TAKEN__INIT;
    Dpd__Frame frame = DPD__FRAME__INIT;
    taken.device = device;
    frame.id = request->id;
    frame.body_case = DPD__FRAME__BODY_TAKEN;
    frame.taken = &taken;
    dpdask_answer(peer, &frame, fd);
    return true;
}

static bool
do_watch(DpdPeer *peer, const Dpd__Frame *request, GError **error)
{
    peer->watches = true;
    answer_done(peer, request->id);
    return true;
}

static void
add_claim(const DpdParts *parts, const LedgerRow *row, GPtrArray *claims)
{
    VfState before;
    if (row->vf == NULL || !vfstate_parse(row->before, &before, NULL)) {
        return;
    }
    Dpd__Claim *claim = g_new0(Dpd__Claim, 1);
    dpd__claim__init(claim);
    claim->vf = row->vf;
    claim->port = row->id;
    claim->pf = g_strdup(before.pf_netdev);
    claim->index = (gint32) before.vf;
    g_ptr_array_add(claims, claim);
}

static bool
do_status(DpdPeer *peer, const Dpd__Frame *request, GError **error)
{
    const DpdParts *parts = peer->parts;
    g_autoptr(GPtrArray) ids = ledger_ids(parts->ledger);
    g_autoptr(GPtrArray) claims = g_ptr_array_new();
    for (guint i = 0; i < ids->len; i++) {
        add_claim(parts, ledger_find(parts->ledger, ids->pdata[i]), claims);
    }
    Dpd__Status status = DPD__STATUS__INIT;
    Dpd__Frame frame = DPD__FRAME__INIT;
    status.backend = (char *) (guintptr) fleet_spec(parts->fleet);
    status.generation = ports_generation(parts->ports);
    status.pid = (guint) getpid();
    status.busy_us = fleet_busy_us(parts->fleet);
    status.claims = (Dpd__Claim **) claims->pdata;
    status.n_claims = claims->len;
    frame.id = request->id;
    frame.body_case = DPD__FRAME__BODY_STATUS;
    frame.status = &status;
    dpdask_answer(peer, &frame, -1);
    for (guint i = 0; i < claims->len; i++) {
        g_free(((Dpd__Claim *) claims->pdata[i])->pf);
        g_free(claims->pdata[i]);
    }
    return true;
}

/* Where there is no fast path, there is nothing to forget. */
static bool
do_fast_bump(DpdPeer *peer, const Dpd__Frame *request, GError **error)
{
    FastLoad *load = fastport_load(peer->parts->fast);
    const Dpd__FastBump *bump = request->fast_bump;
    for (size_t i = 0; load != NULL && i < bump->n_zones; i++) {
        if (bump->zones[i] >= LAYOUT_ZONES) {
            return haw_fail(error, HAW_INVALID, "There is no zone %u", bump->zones[i]);
        }
        fastload_bump(load, bump->zones[i]);
    }
    if (load != NULL && bump->n_zones == 0) {
        fastload_bump_all(load);
    }
    if (!pollhost_bump(peer->parts->poll, bump->zones, bump->n_zones, error)) {
        return false;
    }
    answer_done(peer, request->id);
    return true;
}

static bool
do_fast_switch(DpdPeer *peer, const Dpd__Frame *request, GError **error)
{
    if (!fastport_switch(peer->parts->fast, request->fast_switch->on, error)) {
        return false;
    }
    answer_done(peer, request->id);
    return true;
}

/* What is asked of both engines fails when neither can say. */
static bool
either(bool one, bool other, GError **error)
{
    if (other) {
        g_clear_error(error);
    }
    return one || other;
}

static bool
do_fast_flows(DpdPeer *peer, const Dpd__Frame *request, GError **error)
{
    const Dpd__FastFlows *want = request->fast_flows;
    g_autoptr(ShowPool) pool = showpool_new();
    g_autoptr(PollLook) look = polllook_start(peer->parts->poll, request);
    Dpd__FastFlows flows = DPD__FAST_FLOWS__INIT;
    Dpd__Frame frame = DPD__FRAME__INIT;
    bool ok = fastshow_flows(peer->parts->fast, want, pool, &flows, error);
    if (!either(ok, polllook_flows(look, want, pool, &flows), error)) {
        return false;
    }
    frame.id = request->id;
    frame.body_case = DPD__FRAME__BODY_FAST_FLOWS;
    frame.fast_flows = &flows;
    dpdask_answer(peer, &frame, -1);
    return true;
}

static bool
do_fast_stats(DpdPeer *peer, const Dpd__Frame *request, GError **error)
{
    g_autoptr(ShowPool) pool = showpool_new();
    g_autoptr(PollLook) look = polllook_start(peer->parts->poll, request);
    Dpd__FastStats stats;
    Dpd__Frame frame = DPD__FRAME__INIT;
    if (!fastshow_stats(peer->parts->fast, pool, &stats, error)) {
        return false;
    }
    polllook_stats(look, pool, &stats);
    farlink_states(peer->parts->far, &stats);
    frame.id = request->id;
    frame.body_case = DPD__FRAME__BODY_FAST_STATS;
    frame.fast_stats = &stats;
    dpdask_answer(peer, &frame, -1);
    return true;
}

static bool
do_fast_trace(DpdPeer *peer, const Dpd__Frame *request, GError **error)
{
    const Dpd__FastTrace *want = request->fast_trace;
    g_autoptr(ShowPool) pool = showpool_new();
    g_autoptr(GCancellable) enough = g_cancellable_new();
    g_autoptr(PollLook) look = polllook_start(peer->parts->poll, request);
    Dpd__FastTrace trace = DPD__FAST_TRACE__INIT;
    Dpd__Frame frame = DPD__FRAME__INIT;
    polllook_watch(look, want, enough);
    bool ok = fastshow_trace(peer->parts->fast, want, enough, pool, &trace, error);
    if (!either(ok, polllook_trace(look, want, pool, &trace), error)) {
        return false;
    }
    frame.id = request->id;
    frame.body_case = DPD__FRAME__BODY_FAST_TRACE;
    frame.fast_trace = &trace;
    dpdask_answer(peer, &frame, -1);
    return true;
}

static bool
do_fast_far(DpdPeer *peer, const Dpd__Frame *request, GError **error)
{
    if (!farlink_apply(peer->parts->far, request->fast_far, error)) {
        return false;
    }
    answer_done(peer, request->id);
    return true;
}

static bool
do_fast_poll(DpdPeer *peer, const Dpd__Frame *request, GError **error)
{
    const Dpd__FastPoll *wish = request->fast_poll;
    if (!wish->ask && !pollhost_configure(peer->parts->poll, wish, error)) {
        return false;
    }
    g_autoptr(DpdFrame) frame = pollhost_look(peer->parts->poll, wish->ask ? wish->flows : 0);
    frame->id = request->id;
    dpdask_answer(peer, frame, -1);
    return true;
}

static const struct {
    Dpd__Frame__BodyCase body;
    bool (*run)(DpdPeer *peer, const Dpd__Frame *request, GError **error);
} requests[] = {
    {DPD__FRAME__BODY_APPLY, do_apply},
    {DPD__FRAME__BODY_LIST, do_list},
    {DPD__FRAME__BODY_TAKE, do_take},
    {DPD__FRAME__BODY_WATCH, do_watch},
    {DPD__FRAME__BODY_STATUS, do_status},
    {DPD__FRAME__BODY_FAST_BUMP, do_fast_bump},
    {DPD__FRAME__BODY_FAST_SWITCH, do_fast_switch},
    {DPD__FRAME__BODY_FAST_FLOWS, do_fast_flows},
    {DPD__FRAME__BODY_FAST_STATS, do_fast_stats},
    {DPD__FRAME__BODY_FAST_TRACE, do_fast_trace},
    {DPD__FRAME__BODY_FAST_FAR, do_fast_far},
    {DPD__FRAME__BODY_FAST_POLL, do_fast_poll},
};

struct request {
    DpdPeer *peer;
    Dpd__Frame *frame;
};

static void
request_fiber(void *data)
{
    struct request *request = data;
    DpdPeer *peer = request->peer;
    g_autoptr(GError) error = NULL;
    bool known = false;
    for (size_t i = 0; i < G_N_ELEMENTS(requests); i++) {
        if (requests[i].body == request->frame->body_case) {
            known = true;
            requests[i].run(peer, request->frame, &error);
        }
    }
    if (!known) {
        haw_fail(&error, HAW_UNSUPPORTED, "hawser-dpd does not know this request");
    }
    if (error != NULL) {
        dpdask_fail(peer, request->frame->id, error);
    }
    dpdwire_frame_free(request->frame);
    g_free(request);
    peer->requests--;
    fiber_signal_all(&peer->room);
    dpdask_unref(peer);
}

void
dpdask_start(DpdPeer *peer, Dpd__Frame **frame)
{
    struct request *request = g_new0(struct request, 1);
    request->peer = peer;
    request->frame = g_steal_pointer(frame);
    peer->refs++;
    peer->requests++;
    fiber_start("request", request_fiber, request);
    while (peer->requests >= REQUESTS) { /* A1 */
        fiber_signal_wait(&peer->room, -1, NULL, NULL);
    }
}
