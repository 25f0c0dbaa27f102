/* hawser-dpd's parts, made in order, and the connections of its socket.
 * D1  One process a directory: an flock on <dir>/dpd.lock, which the kernel drops with us. Who has it
 *     may replace a socket that an earlier one left.
 * D2  Only root and our own user may speak to us (SO_PEERCRED); a frame that is none ends the
 *     connection, never us.
 * D3  A plain end changes nothing in the world: the next start adopts it.
 * Not here: what a peer may ask (dpdask.c). */
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
#include "base/log.h"
#include "dataplane/slow/dpdask.h"

enum { PEERS = 64, IDLE_S = 10, NUDGE_MS = 100, HELLO_MS = 10000 };

struct Dpd {
    DpdParts parts; /* owned */
    bool embedded;
    int lock, listener; /* owned */
    guint accepts, idle, nudge;
    Workers *workers;
    GPtrArray *peers; /* DpdPeer, shared */
    DpdDone done;
    void *data;
};

/* ---- connections ---- */

static void
say_hello(DpdPeer *peer, guint64 id)
{
    Dpd__Hello hello = DPD__HELLO__INIT;
    Dpd__Frame frame = DPD__FRAME__INIT;
    hello.lowest = DPDWIRE_LOWEST;
    hello.highest = DPDWIRE_HIGHEST;
    hello.generation = ports_generation(peer->parts->ports);
    hello.software = (char *) (guintptr) HAWSER_VERSION;
    frame.id = id;
    frame.body_case = DPD__FRAME__BODY_HELLO;
    frame.hello = &hello;
    dpdask_answer(peer, &frame, -1);
}

static bool
greet(DpdPeer *peer, GError **error)
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
        dpdask_fail(peer, frame->id, *error);
        return false;
    }
    say_hello(peer, frame->id);
    return true;
}

static void
serve(DpdPeer *peer, GError **error)
{
    if (!greet(peer, error)) {
        return;
    }
    for (;;) {
        Dpd__Frame *frame = dpdwire_receive(peer->wire, NULL, -1, NULL, error);
        if (frame == NULL) {
            return;
        }
        dpdask_start(peer, &frame);
    }
}

static void look_idle(Dpd *dpd);

static void
peer_fiber(void *data)
{
    DpdPeer *peer = data;
    Dpd *dpd = peer->owner;
    g_autoptr(GError) error = NULL;
    if (dpdwire_check_peer(peer->wire, &error)) { /* D2 */
        serve(peer, &error);
    } else {
        dpdask_fail(peer, 0, error);
    }
    if (haw_code(error) != HAW_UNAVAILABLE) {
        haw_warn("peer.refused", KS("why", error->message));
    }
    peer->closed = true;
    dpdwire_shut(peer->wire);
    g_ptr_array_remove(dpd->peers, peer);
    look_idle(dpd);
    dpdask_unref(peer);
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
    DpdPeer *peer = g_new0(DpdPeer, 1);
    peer->parts = &dpd->parts;
    peer->owner = dpd;
    peer->wire = dpdwire_new(&fd);
    peer->refs = 1;
    g_ptr_array_add(dpd->peers, peer);
    look_idle(dpd);
    fiber_start("peer", peer_fiber, peer);
    return G_SOURCE_CONTINUE;
}

/* ---- events ---- */

struct event {
    DpdPeer *peer;
    Dpd__Frame *frame; /* owned */
};

static void
event_fiber(void *data)
{
    struct event *event = data;
    dpdask_answer(event->peer, event->frame, -1);
    dpdwire_frame_free(event->frame);
    dpdask_unref(event->peer);
    g_free(event);
}

static Dpd__Frame *
event_frame(Dpd *dpd, const Dpd__PortState *state)
{
    Dpd__Observed observed = DPD__OBSERVED__INIT;
    Dpd__Frame frame = DPD__FRAME__INIT;
    Dpd__PortState *one = (Dpd__PortState *) (guintptr) state;
    observed.generation = ports_generation(dpd->parts.ports);
    observed.ports = &one;
    observed.n_ports = 1;
    frame.body_case = DPD__FRAME__BODY_OBSERVED;
    frame.observed = &observed;
    return dpdwire_dup(&frame.base);
}

static void
on_port(const Dpd__PortState *state, void *data)
{
    Dpd *dpd = data;
    for (guint i = 0; i < dpd->peers->len; i++) {
        DpdPeer *peer = dpd->peers->pdata[i];
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
    ports_nudge(dpd->parts.ports);
    return G_SOURCE_REMOVE;
}

/* Changes come in bursts, and most are our own: one look after each. */
static void
on_bridges(void *data)
{
    Dpd *dpd = data;
    if (dpd->nudge == 0 && dpd->parts.ports != NULL) {
        dpd->nudge = g_timeout_add(NUDGE_MS, nudge, dpd);
    }
}

static gboolean
idle_too_long(gpointer data)
{
    Dpd *dpd = data;
    dpd->idle = 0;
    haw_info("dpd.idle", KS("dir", dpd->parts.dir));
    farlink_free(g_steal_pointer(&dpd->parts.far), true);
    fastport_free(g_steal_pointer(&dpd->parts.fast), true);
    pollhost_free(g_steal_pointer(&dpd->parts.poll), true);
    dpd->done(dpd->data);
    return G_SOURCE_REMOVE;
}

static void
look_idle(Dpd *dpd)
{
    bool idle = dpd->embedded && dpd->peers->len == 0 && dpd->parts.ports != NULL &&
                ports_count(dpd->parts.ports) == 0;
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
    g_autofree char *path = g_build_filename(dpd->parts.dir, "dpd.lock", NULL);
    dpd->lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (dpd->lock < 0) {
        return haw_fail_errno(error, errno, "open '%s'", path);
    }
    if (flock(dpd->lock, LOCK_EX | LOCK_NB) < 0) {
        return haw_fail(error, HAW_BUSY, "another hawser-dpd runs in '%s'", dpd->parts.dir);
    }
    return true;
}

static bool
listen_at(Dpd *dpd, GError **error)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    g_autofree char *path = g_build_filename(dpd->parts.dir, "dpd.socket", NULL);
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
    g_autoptr(FleetView) view = fleet_look(dpd->parts.fleet, &error);
    if (view == NULL) {
        haw_warn("fleet.unseen", KS("why", error->message));
    }
}

static bool
knows_port(const char *id, void *data)
{
    const Dpd *dpd = data;
    return ledger_find(dpd->parts.ledger, id) != NULL;
}

Dpd *
dpd_new(const DpdOptions *options, DpdDone done, void *data, GError **error)
{
    g_autoptr(Dpd) dpd = g_new0(Dpd, 1);
    dpd->lock = dpd->listener = -1;
    dpd->parts.dir = g_strdup(options->dir);
    dpd->embedded = options->embedded;
    dpd->done = done;
    dpd->data = data;
    dpd->peers = g_ptr_array_new();
    g_autofree char *path = g_build_filename(dpd->parts.dir, "ledger.db", NULL);
    if (!fd_mkdir_p(dpd->parts.dir, 0700, error) || !take_lock(dpd, error)) {
        return NULL;
    }
    dpd->parts.ledger = ledger_open(path, error);
    dpd->workers = workers_new();
    dpd->parts.fleet = dpd->parts.ledger != NULL
                           ? fleet_new(options->backend, dpd->workers, on_bridges, dpd, error)
                           : NULL;
    if (dpd->parts.fleet == NULL) {
        return NULL;
    }
    g_autofree char *remembered = g_build_filename(dpd->parts.dir, "ovsdb", NULL);
    g_autofree char *remote = options->ovsdb != NULL ? g_strdup(options->ovsdb)
                                                     : fd_read_file(remembered, 4096, NULL, NULL);
    dpd->parts.bridges = ovsport_open(remote, on_bridges, dpd);
    g_autofree char *pins = options->bpf != NULL ? g_strdup(options->bpf)
                                                 : g_build_filename(dpd->parts.dir, "bpf", NULL);
    dpd->parts.poll = pollhost_new(dpd->parts.dir, knows_port, dpd);
    dpd->parts.fast = fastport_new(pins, dpd->parts.dir, dpd->parts.poll);
    dpd->parts.far = farlink_new(fastport_load(dpd->parts.fast));
    struct portsteps_doors doors = {dpd->parts.fleet, dpd->parts.ledger, dpd->parts.bridges,
                                    dpd->parts.fast};
    dpd->parts.ports = ports_new(&doors, on_port, dpd);
    if (!listen_at(dpd, error)) {
        return NULL;
    }
    fiber_start("first look", first_look, dpd);
    haw_info("dpd.ready", KS("dir", dpd->parts.dir), KS("backend", fleet_spec(dpd->parts.fleet)),
             KU("ports", ports_count(dpd->parts.ports)));
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
    farlink_free(dpd->parts.far, false);
    fastport_free(dpd->parts.fast, false);
    pollhost_free(dpd->parts.poll, false);
    ports_free(dpd->parts.ports);
    ovsport_close(dpd->parts.bridges);
    fleet_free(dpd->parts.fleet);
    workers_free(dpd->workers);
    ledger_close(dpd->parts.ledger);
    g_ptr_array_unref(dpd->peers);
    fd_close(&dpd->listener);
    fd_close(&dpd->lock);
    g_free(dpd->parts.dir);
    g_free(dpd);
}
