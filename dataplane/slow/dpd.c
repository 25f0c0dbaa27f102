/* hawser-dpd's parts, made in order, and the requests of its socket.
 * D1  One process a directory: an flock on <dir>/dpd.lock, which the kernel drops with us. Who has it
 *     may replace a socket that an earlier one left.
 * D2  Only root and our own user may speak to us (SO_PEERCRED); a frame that is none ends the
 *     connection, never us.
 * D3  Each request runs in a fiber of its own: one that waits for a device holds up no other. A
 *     connection may have REQUESTS of them at a time; what comes then waits in the socket.
 * D4  A plain end changes nothing in the world: the next start adopts it. */
#include "dataplane/slow/dpd.h"

#include <errno.h>
#include <fcntl.h>
#include <glib-unix.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/fiber.h"
#include "base/log.h"
#include "dataplane/slow/farlink.h"
#include "dataplane/slow/fastshow.h"
#include "dataplane/slow/ports.h"
#include "proto/dpdwire.h"

enum { REQUESTS = 64, PEERS = 64, IDLE_S = 10, NUDGE_MS = 100, HELLO_MS = 10000 };

struct Dpd {
    char *dir;
    bool embedded;
    int lock, listener; /* owned */
    guint accepts, idle, nudge;
    Workers *workers;
    Ledger *ledger;
    Fleet *fleet;
    OvsPorts *bridges;
    FastPorts *fast;
    FarLinks *far;
    Ports *ports;
    GPtrArray *peers; /* Peer, shared */
    DpdDone done;
    void *data;
};

typedef struct {
    Dpd *dpd;      /* borrowed */
    DpdWire *wire; /* owned */
    guint refs, requests;
    bool watches, closed;
    FiberSignal room; /* a request has ended */
} Peer;

static void
peer_unref(Peer *peer)
{
    if (--peer->refs == 0) {
        dpdwire_free(peer->wire);
        g_free(peer);
    }
}

/* ---- answers ---- */

/* Who cannot be reached any more is found by its receiving fiber. */
static void
answer(Peer *peer, Dpd__Frame *frame, int fd)
{
    g_autoptr(GError) error = NULL;
    if (!peer->closed && !dpdwire_send(peer->wire, frame, fd, &error)) {
        haw_debug("peer.unsent", KS("why", error->message));
        dpdwire_shut(peer->wire);
    }
}

static void
answer_failure(Peer *peer, guint64 id, const GError *error)
{
    Dpd__Failure failure = DPD__FAILURE__INIT;
    Dpd__Frame frame = DPD__FRAME__INIT;
    failure.code = haw_code(error);
    failure.message = error->message;
    frame.id = id;
    frame.body_case = DPD__FRAME__BODY_FAILURE;
    frame.failure = &failure;
    answer(peer, &frame, -1);
}

static void
answer_observed(Peer *peer, guint64 id, Dpd__Observed *observed)
{
    Dpd__Frame frame = DPD__FRAME__INIT;
    frame.id = id;
    frame.body_case = DPD__FRAME__BODY_OBSERVED;
    frame.observed = observed;
    answer(peer, &frame, -1);
}

static void
answer_done(Peer *peer, guint64 id)
{
    Dpd__Done nothing = DPD__DONE__INIT;
    Dpd__Frame frame = DPD__FRAME__INIT;
    frame.id = id;
    frame.body_case = DPD__FRAME__BODY_DONE;
    frame.done = &nothing;
    answer(peer, &frame, -1);
}

/* ---- requests ---- */

/* Whose bridges these are must be known after a restart, too, before any agent speaks. */
static void
remember_remote(Dpd *dpd, const char *remote)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *path = g_build_filename(dpd->dir, "ovsdb", NULL);
    if (*remote == '\0' || strcmp(remote, ovsport_remote(dpd->bridges)) == 0) {
        return;
    }
    if (!fd_write_atomic(path, remote, strlen(remote), 0600, &error)) {
        haw_warn("dpd.remote", KS("why", error->message));
    }
    ovsport_set_remote(dpd->bridges, remote);
}

static bool
do_apply(Peer *peer, const Dpd__Frame *request, GError **error)
{
    remember_remote(peer->dpd, request->apply->ovsdb);
    Dpd__Observed *observed = ports_apply(peer->dpd->ports, request->apply, error);
    if (observed == NULL) {
        return false;
    }
    answer_observed(peer, request->id, observed);
    ports_observed_free(observed);
    return true;
}

static bool
do_list(Peer *peer, const Dpd__Frame *request, GError **error)
{
    Dpd__Observed *observed = ports_observe(peer->dpd->ports);
    answer_observed(peer, request->id, observed);
    ports_observed_free(observed);
    return true;
}

static bool
do_take(Peer *peer, const Dpd__Frame *request, GError **error)
{
    g_autofree char *device = NULL;
    haw_autofd int fd = ports_take(peer->dpd->ports, request->take->id, &device, error);
    if (fd < 0) {
        return false;
    }
    Dpd__Taken taken = DPD__TAKEN__INIT;
    Dpd__Frame frame = DPD__FRAME__INIT;
    taken.device = device;
    frame.id = request->id;
    frame.body_case = DPD__FRAME__BODY_TAKEN;
    frame.taken = &taken;
    answer(peer, &frame, fd);
    return true;
}

static bool
do_watch(Peer *peer, const Dpd__Frame *request, GError **error)
{
    peer->watches = true;
    answer_done(peer, request->id);
    return true;
}

static void
add_claim(Dpd *dpd, const LedgerRow *row, GPtrArray *claims)
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
do_status(Peer *peer, const Dpd__Frame *request, GError **error)
{
    Dpd *dpd = peer->dpd;
    g_autoptr(GPtrArray) ids = ledger_ids(dpd->ledger);
    g_autoptr(GPtrArray) claims = g_ptr_array_new();
    for (guint i = 0; i < ids->len; i++) {
        add_claim(dpd, ledger_find(dpd->ledger, ids->pdata[i]), claims);
    }
    Dpd__Status status = DPD__STATUS__INIT;
    Dpd__Frame frame = DPD__FRAME__INIT;
    g_autoptr(GPtrArray) parts = NULL;
    status.backend = (char *) (guintptr) fleet_spec(dpd->fleet);
    status.generation = ports_generation(dpd->ports);
    status.pid = (guint) getpid();
    status.busy_us = fleet_busy_us(dpd->fleet);
    status.claims = (Dpd__Claim **) claims->pdata;
    status.n_claims = claims->len;
    frame.id = request->id;
    frame.body_case = DPD__FRAME__BODY_STATUS;
    frame.status = &status;
    answer(peer, &frame, -1);
    for (guint i = 0; i < claims->len; i++) {
        g_free(((Dpd__Claim *) claims->pdata[i])->pf);
        g_free(claims->pdata[i]);
    }
    return true;
}

/* Where there is no fast path, there is nothing to forget. */
static bool
do_fast_bump(Peer *peer, const Dpd__Frame *request, GError **error)
{
    FastLoad *load = fastport_load(peer->dpd->fast);
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
    answer_done(peer, request->id);
    return true;
}

static bool
do_fast_switch(Peer *peer, const Dpd__Frame *request, GError **error)
{
    if (!fastport_switch(peer->dpd->fast, request->fast_switch->on, error)) {
        return false;
    }
    answer_done(peer, request->id);
    return true;
}

static bool
do_fast_flows(Peer *peer, const Dpd__Frame *request, GError **error)
{
    g_autoptr(FastPool) pool = fastshow_pool_new();
    Dpd__FastFlows flows;
    Dpd__Frame frame = DPD__FRAME__INIT;
    if (!fastshow_flows(peer->dpd->fast, request->fast_flows, pool, &flows, error)) {
        return false;
    }
    frame.id = request->id;
    frame.body_case = DPD__FRAME__BODY_FAST_FLOWS;
    frame.fast_flows = &flows;
    answer(peer, &frame, -1);
    return true;
}

static bool
do_fast_stats(Peer *peer, const Dpd__Frame *request, GError **error)
{
    g_autoptr(FastPool) pool = fastshow_pool_new();
    Dpd__FastStats stats;
    Dpd__Frame frame = DPD__FRAME__INIT;
    if (!fastshow_stats(peer->dpd->fast, pool, &stats, error)) {
        return false;
    }
    farlink_states(peer->dpd->far, &stats);
    frame.id = request->id;
    frame.body_case = DPD__FRAME__BODY_FAST_STATS;
    frame.fast_stats = &stats;
    answer(peer, &frame, -1);
    return true;
}

static bool
do_fast_trace(Peer *peer, const Dpd__Frame *request, GError **error)
{
    g_autoptr(FastPool) pool = fastshow_pool_new();
    Dpd__FastTrace trace;
    Dpd__Frame frame = DPD__FRAME__INIT;
    if (!fastshow_trace(peer->dpd->fast, request->fast_trace, pool, &trace, error)) {
        return false;
    }
    frame.id = request->id;
    frame.body_case = DPD__FRAME__BODY_FAST_TRACE;
    frame.fast_trace = &trace;
    answer(peer, &frame, -1);
    return true;
}

static bool
do_fast_far(Peer *peer, const Dpd__Frame *request, GError **error)
{
    if (!farlink_apply(peer->dpd->far, request->fast_far, error)) {
        return false;
    }
    answer_done(peer, request->id);
    return true;
}

static const struct {
    Dpd__Frame__BodyCase body;
    bool (*run)(Peer *peer, const Dpd__Frame *request, GError **error);
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
};

struct request {
    Peer *peer;
    Dpd__Frame *frame;
};

static void
request_fiber(void *data)
{
    struct request *request = data;
    Peer *peer = request->peer;
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
        answer_failure(peer, request->frame->id, error);
    }
    dpdwire_frame_free(request->frame);
    g_free(request);
    peer->requests--;
    fiber_signal_all(&peer->room);
    peer_unref(peer);
}

/* ---- connections ---- */

static void
say_hello(Peer *peer, guint64 id)
{
    Dpd__Hello hello = DPD__HELLO__INIT;
    Dpd__Frame frame = DPD__FRAME__INIT;
    hello.lowest = DPDWIRE_LOWEST;
    hello.highest = DPDWIRE_HIGHEST;
    hello.generation = ports_generation(peer->dpd->ports);
    hello.software = (char *) (guintptr) HAWSER_VERSION;
    frame.id = id;
    frame.body_case = DPD__FRAME__BODY_HELLO;
    frame.hello = &hello;
    answer(peer, &frame, -1);
}

static bool
greet(Peer *peer, GError **error)
{
    g_autoptr(DpdFrame) frame = dpdwire_receive(peer->wire, NULL, HELLO_MS, NULL, error);
    if (frame == NULL) {
        return false;
    }
    const Dpd__Hello *hello = frame->body_case == DPD__FRAME__BODY_HELLO ? frame->hello : NULL;
    if (hello == NULL) {
        return haw_fail(error, HAW_INVALID, "a peer that does not say hello");
    }
    if (dpdwire_agree(DPDWIRE_LOWEST, DPDWIRE_HIGHEST, hello->lowest, hello->highest) == 0) {
        haw_fail(error, HAW_UNSUPPORTED,
                 "hawser-dpd %s speaks versions %d to %d of its protocol, the peer (%s) %u to %u: "
                 "install the same release of both",
                 HAWSER_VERSION, DPDWIRE_LOWEST, DPDWIRE_HIGHEST, hello->software, hello->lowest,
                 hello->highest);
        answer_failure(peer, frame->id, *error);
        return false;
    }
    say_hello(peer, frame->id);
    return true;
}

static void
serve(Peer *peer, GError **error)
{
    if (!greet(peer, error)) {
        return;
    }
    for (;;) {
        Dpd__Frame *frame = dpdwire_receive(peer->wire, NULL, -1, NULL, error);
        if (frame == NULL) {
            return;
        }
        struct request *request = g_new0(struct request, 1);
        request->peer = peer;
        request->frame = frame;
        peer->refs++;
        peer->requests++;
        fiber_start("request", request_fiber, request);
        while (peer->requests >= REQUESTS) { /* D3 */
            fiber_signal_wait(&peer->room, -1, NULL, NULL);
        }
    }
}

static void look_idle(Dpd *dpd);

static void
peer_fiber(void *data)
{
    Peer *peer = data;
    g_autoptr(GError) error = NULL;
    if (dpdwire_check_peer(peer->wire, &error)) { /* D2 */
        serve(peer, &error);
    } else {
        answer_failure(peer, 0, error);
    }
    if (haw_code(error) != HAW_UNAVAILABLE) {
        haw_warn("peer.refused", KS("why", error->message));
    }
    peer->closed = true;
    dpdwire_shut(peer->wire);
    g_ptr_array_remove(peer->dpd->peers, peer);
    look_idle(peer->dpd);
    peer_unref(peer);
}

static gboolean
on_connection(gint listener, GIOCondition condition, gpointer data)
{
    (void) condition;
    Dpd *dpd = data;
    haw_autofd int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0 || dpd->peers->len >= PEERS) {
        return G_SOURCE_CONTINUE;
    }
    Peer *peer = g_new0(Peer, 1);
    peer->dpd = dpd;
    peer->wire = dpdwire_new(&fd);
    peer->refs = 1;
    g_ptr_array_add(dpd->peers, peer);
    look_idle(dpd);
    fiber_start("peer", peer_fiber, peer);
    return G_SOURCE_CONTINUE;
}

/* ---- events ---- */

struct event {
    Peer *peer;
    Dpd__Frame *frame; /* owned */
};

static void
event_fiber(void *data)
{
    struct event *event = data;
    answer(event->peer, event->frame, -1);
    dpdwire_frame_free(event->frame);
    peer_unref(event->peer);
    g_free(event);
}

static Dpd__Frame *
event_frame(Dpd *dpd, const Dpd__PortState *state)
{
    Dpd__Observed observed = DPD__OBSERVED__INIT;
    Dpd__Frame frame = DPD__FRAME__INIT;
    Dpd__PortState *one = (Dpd__PortState *) (guintptr) state;
    observed.generation = ports_generation(dpd->ports);
    observed.ports = &one;
    observed.n_ports = 1;
    frame.body_case = DPD__FRAME__BODY_OBSERVED;
    frame.observed = &observed;
    size_t size = dpd__frame__get_packed_size(&frame);
    g_autofree guint8 *bytes = g_malloc(size);
    dpd__frame__pack(&frame, bytes);
    return dpd__frame__unpack(NULL, size, bytes);
}

static void
on_port(const Dpd__PortState *state, void *data)
{
    Dpd *dpd = data;
    for (guint i = 0; i < dpd->peers->len; i++) {
        Peer *peer = dpd->peers->pdata[i];
        if (peer->watches && !peer->closed) {
            struct event *event = g_new0(struct event, 1);
            event->peer = peer;
            event->frame = event_frame(dpd, state);
            peer->refs++;
            fiber_start("event", event_fiber, event);
        }
    }
    look_idle(dpd);
}

static gboolean
nudge(gpointer data)
{
    Dpd *dpd = data;
    dpd->nudge = 0;
    ports_nudge(dpd->ports);
    return G_SOURCE_REMOVE;
}

/* Changes come in bursts, and most are our own: one look after each. */
static void
on_bridges(void *data)
{
    Dpd *dpd = data;
    if (dpd->nudge == 0 && dpd->ports != NULL) {
        dpd->nudge = g_timeout_add(NUDGE_MS, nudge, dpd);
    }
}

static gboolean
idle_too_long(gpointer data)
{
    Dpd *dpd = data;
    dpd->idle = 0;
    haw_info("dpd.idle", KS("dir", dpd->dir));
    farlink_free(g_steal_pointer(&dpd->far), true);
    fastport_free(g_steal_pointer(&dpd->fast), true);
    dpd->done(dpd->data);
    return G_SOURCE_REMOVE;
}

static void
look_idle(Dpd *dpd)
{
    bool idle =
        dpd->embedded && dpd->peers->len == 0 && dpd->ports != NULL && ports_count(dpd->ports) == 0;
    if (dpd->idle != 0) {
        g_source_remove(dpd->idle);
        dpd->idle = 0;
    }
    if (idle) {
        dpd->idle = g_timeout_add_seconds(IDLE_S, idle_too_long, dpd);
    }
}

/* ---- coming up ---- */

/* D1 */
static bool
take_lock(Dpd *dpd, GError **error)
{
    g_autofree char *path = g_build_filename(dpd->dir, "dpd.lock", NULL);
    dpd->lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (dpd->lock < 0) {
        return haw_fail_errno(error, errno, "open '%s'", path);
    }
    if (flock(dpd->lock, LOCK_EX | LOCK_NB) < 0) {
        return haw_fail(error, HAW_BUSY, "another hawser-dpd runs in '%s'", dpd->dir);
    }
    return true;
}

static bool
listen_at(Dpd *dpd, GError **error)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    g_autofree char *path = g_build_filename(dpd->dir, "dpd.socket", NULL);
    if (g_strlcpy(address.sun_path, path, sizeof(address.sun_path)) >= sizeof(address.sun_path)) {
        return haw_fail(error, HAW_INVALID, "the path '%s' is too long for a socket", path);
    }
    unlink(path);
    dpd->listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    mode_t mask = umask(0177);
    bool ok = dpd->listener >= 0 &&
              bind(dpd->listener, (struct sockaddr *) &address, sizeof(address)) == 0 &&
              listen(dpd->listener, PEERS) == 0;
    umask(mask);
    if (!ok) {
        return haw_fail_errno(error, errno, "listen at '%s'", path);
    }
    dpd->accepts = g_unix_fd_add(dpd->listener, G_IO_IN, on_connection, dpd);
    return true;
}

/* The first look warms the cache, and makes a simulated NIC's interfaces. */
static void
first_look(void *data)
{
    Dpd *dpd = data;
    g_autoptr(GError) error = NULL;
    g_autoptr(FleetView) view = fleet_look(dpd->fleet, &error);
    if (view == NULL) {
        haw_warn("fleet.unseen", KS("why", error->message));
    }
}

Dpd *
dpd_new(const DpdOptions *options, DpdDone done, void *data, GError **error)
{
    g_autoptr(Dpd) dpd = g_new0(Dpd, 1);
    dpd->lock = dpd->listener = -1;
    dpd->dir = g_strdup(options->dir);
    dpd->embedded = options->embedded;
    dpd->done = done;
    dpd->data = data;
    dpd->peers = g_ptr_array_new();
    g_autofree char *path = g_build_filename(dpd->dir, "ledger.db", NULL);
    if (!fd_mkdir_p(dpd->dir, 0700, error) || !take_lock(dpd, error)) {
        return NULL;
    }
    dpd->ledger = ledger_open(path, error);
    dpd->workers = workers_new();
    dpd->fleet = dpd->ledger != NULL
                     ? fleet_new(options->backend, dpd->workers, on_bridges, dpd, error)
                     : NULL;
    if (dpd->fleet == NULL) {
        return NULL;
    }
    g_autofree char *remembered = g_build_filename(dpd->dir, "ovsdb", NULL);
    g_autofree char *remote = options->ovsdb != NULL ? g_strdup(options->ovsdb)
                                                     : fd_read_file(remembered, 4096, NULL, NULL);
    dpd->bridges = ovsport_open(remote, on_bridges, dpd);
    g_autofree char *pins =
        options->bpf != NULL ? g_strdup(options->bpf) : g_build_filename(dpd->dir, "bpf", NULL);
    dpd->fast = fastport_new(pins, dpd->dir);
    dpd->far = farlink_new(fastport_load(dpd->fast));
    struct portsteps_doors doors = {dpd->fleet, dpd->ledger, dpd->bridges, dpd->fast};
    dpd->ports = ports_new(&doors, on_port, dpd);
    if (!listen_at(dpd, error)) {
        return NULL;
    }
    fiber_start("first look", first_look, dpd);
    haw_info("dpd.ready", KS("dir", dpd->dir), KS("backend", fleet_spec(dpd->fleet)),
             KU("ports", ports_count(dpd->ports)));
    look_idle(dpd);
    return g_steal_pointer(&dpd);
}

void
dpd_free(Dpd *dpd)
{
    if (dpd == NULL) {
        return;
    }
    guint sources[] = {dpd->accepts, dpd->idle, dpd->nudge};
    for (size_t i = 0; i < G_N_ELEMENTS(sources); i++) {
        if (sources[i] != 0) {
            g_source_remove(sources[i]);
        }
    }
    farlink_free(dpd->far, false);
    fastport_free(dpd->fast, false);
    ports_free(dpd->ports);
    ovsport_close(dpd->bridges);
    fleet_free(dpd->fleet);
    workers_free(dpd->workers);
    ledger_close(dpd->ledger);
    g_ptr_array_unref(dpd->peers);
    fd_close(&dpd->listener);
    fd_close(&dpd->lock);
    g_free(dpd->dir);
    g_free(dpd);
}
