/* Desired ports against made ones.
 * A1  What ought to be is only what an Apply said; what is, only what a port's own fiber saw. A fiber
 *     walks its port towards the wish, again when that has changed meanwhile; so one port that hangs
 *     keeps nobody else waiting.
 * A2  Until the first whole Apply the ledger's ports count as wanted: instances run on while the
 *     agent is away, and after our own restart.
 * A3  A new port that fails is taken back and not tried again before the agent asks; one that was
 *     ready before (a bridge that went away, say), or that can't be taken back, is, ever more slowly.
 * A4  Generations grow. A request that came late, from an agent of yesterday, changes nothing. */
#include "dataplane/slow/ports.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/fiber.h"
#include "base/log.h"
#include "proto/dpdwire.h"
#include "proto/portspec.h"

enum { PAUSE_MS = 500, PAUSE_MAX_MS = 30000, WAIT_MS = 30000 };

typedef struct Port {
    Ports *ports; /* borrowed */
    char *id;
    Dpd__Port *wanted;          /* owned; NULL: it goes */
    Dpd__Port *made;            /* owned: what the ledger's row was made from, NULL for none */
    struct portsteps_port work; /* as last seen */
    Dpd__State state;
    HawCode code;
    char *message; /* owned: of a failure */
    bool running;  /* a fiber is at work */
    bool again;    /* the wish has changed meanwhile */
    bool was_ready;
    guint retry, pause_ms;
} Port;

struct Ports {
    struct portsteps_doors doors;
    PortsChanged changed;
    void *data;
    GHashTable *table; /* id → Port, owned */
    guint64 generation;
    FiberSignal settled; /* some port's state has changed */
};

static void run_port(Port *port);

static bool
same_spec(const Dpd__Port *one, const Dpd__Port *two)
{
    g_autoptr(GBytes) first = dpdwire_pack(&one->base);
    g_autoptr(GBytes) second = dpdwire_pack(&two->base);
    return g_bytes_equal(first, second);
}

static void
spec_free(Dpd__Port *spec)
{
    if (spec != NULL) {
        dpd__port__free_unpacked(spec, NULL);
    }
}

static void
port_free(gpointer data)
{
    Port *port = data;
    if (port->retry != 0) {
        g_source_remove(port->retry);
    }
    spec_free(port->wanted);
    spec_free(port->made);
    g_free(port->message);
    g_free(port->id);
    g_free(port);
}

static Port *
port_new(Ports *ports, const char *id)
{
    Port *port = g_new0(Port, 1);
    port->ports = ports;
    port->id = g_strdup(id);
    port->pause_ms = PAUSE_MS;
    g_hash_table_insert(ports->table, port->id, port);
    return port;
}

/* ---- what is ---- */

static char *
text_dup(const char *text)
{
    return g_strdup(text != NULL ? text : "");
}

static void
fill_state(const Port *port, Dpd__PortState *ret)
{
    const Dpd__Port *spec = port->made != NULL ? port->made : port->wanted;
    const struct portsteps_port *work = &port->work;
    bool own = spec != NULL && spec->netdev[0] != '\0';
    dpd__port_state__init(ret);
    ret->id = text_dup(port->id);
    ret->state = port->state;
    ret->code = port->state == DPD__STATE__FAILED ? port->code : 0;
    ret->message = text_dup(port->state == DPD__STATE__FAILED ? port->message : NULL);
    ret->kind = spec != NULL ? spec->kind : DPD__KIND__NONE;
    ret->netdev = text_dup(own ? spec->netdev : work->netdev);
    ret->pf = text_dup(work->claimed ? work->before.pf_netdev : NULL);
    ret->vf = work->claimed ? (int) work->before.vf : -1;
    ret->pci = text_dup(work->claimed ? work->before.dev : NULL);
    ret->representor = text_dup(work->representor);
    ret->vdpa = text_dup(work->vdpa);
    ret->device = text_dup(work->device);
    ret->slow = text_dup(work->place.slow);
    ret->slow_pair = text_dup(work->place.plug);
    if (work->claimed) {
        ret->before = g_new0(Dpd__Before, 1);
        dpd__before__init(ret->before);
        ret->before->mac = text_dup(work->before.mac);
        ret->before->mtu = work->before.mtu;
        ret->before->vf_mac = text_dup(work->before.props.mac);
        ret->before->vlan = work->before.props.vlan;
        ret->before->spoof_check = work->before.props.spoofchk;
    }
}

static void
state_done(Dpd__PortState *state)
{
    char *texts[] = {state->id,   state->message,  state->netdev, state->pf,
                     state->pci,  state->vdpa,     state->device, state->representor,
                     state->slow, state->slow_pair};
    for (size_t i = 0; i < G_N_ELEMENTS(texts); i++) {
        g_free(texts[i]);
    }
    if (state->before != NULL) {
        g_free(state->before->mac);
        g_free(state->before->vf_mac);
        g_free(state->before);
    }
}

static void
announce(Port *port)
{
    Dpd__PortState state;
    fill_state(port, &state);
    if (port->ports->changed != NULL) {
        port->ports->changed(&state, port->ports->data);
    }
    state_done(&state);
    fiber_signal_all(&port->ports->settled);
}

/* ---- one port's fiber ---- */

static gboolean
retry(gpointer data)
{
    Port *port = data;
    port->retry = 0;
    run_port(port);
    return G_SOURCE_REMOVE;
}

static void
retry_later(Port *port)
{
    if (port->retry == 0) {
        port->retry = g_timeout_add(port->pause_ms, retry, port);
        port->pause_ms = MIN(port->pause_ms * 2, PAUSE_MAX_MS);
    }
}

static void
fail(Port *port, const GError *error)
{
    haw_warn("port.failed", KS("port", port->id), KS("why", error->message));
    port->state = DPD__STATE__FAILED;
    port->code = haw_code(error);
    g_free(port->message);
    port->message = g_strdup(error->message);
}

/* Takes back what the ledger has of it. */
static bool
take_down(Port *port, GError **error)
{
    Dpd__Port *spec = port->made;
    if (spec == NULL) {
        return true;
    }
    struct portsteps_port work = {.id = port->id, .spec = spec};
    port->was_ready = false;
    if (!portsteps_down(&port->ports->doors, &work, error)) {
        return false;
    }
    memset(&port->work, 0, sizeof(port->work));
    spec_free(g_steal_pointer(&port->made));
    return true;
}

/* A change that the bridge alone can take: the function and the interface stay. */
static bool
is_replug(const Dpd__Port *from, const Dpd__Port *to)
{
    return from->kind == to->kind && strcmp(from->netdev, to->netdev) == 0 &&
           (to->kind == DPD__KIND__VETH || to->kind == DPD__KIND__TAP);
}

static bool
bring_up(Port *port, GError **error)
{
    Ports *ports = port->ports;
    const LedgerRow *row = ledger_find(ports->doors.ledger, port->id);
    bool other = port->made != NULL && !same_spec(port->made, port->wanted);
    if (port->made != NULL &&
        ((row != NULL && row->going) || (other && !is_replug(port->made, port->wanted)))) {
        if (!take_down(port, error)) {
            return false;
        }
    }
    if (port->made == NULL || other) {
        spec_free(port->made);
        port->made = dpdwire_dup(&port->wanted->base);
    }
    Dpd__Port *spec =
        dpdwire_dup(&port->made->base); /* an Apply may change the wish while we work */
    struct portsteps_port work = {.id = port->id, .spec = spec};
    bool ok = portsteps_up(&ports->doors, &work, error);
    work.spec = NULL;
    work.id = NULL;
    spec_free(spec);
    if (ledger_find(ports->doors.ledger, port->id) == NULL) { /* all is undone */
        spec_free(g_steal_pointer(&port->made));
        memset(&port->work, 0, sizeof(port->work));
    } else {
        port->work = work;
    }
    return ok;
}

static void
port_fiber(void *data)
{
    Port *port = data;
    Ports *ports = port->ports;
    g_autoptr(GError) error = NULL;
    do {
        port->again = false;
        g_clear_error(&error);
        gint64 began_us = clock_mono_us();
        bool up = port->wanted != NULL;
        if (up ? bring_up(port, &error) : take_down(port, &error)) {
            port->state = up ? DPD__STATE__READY : DPD__STATE__GONE;
            port->was_ready = up;
            port->pause_ms = PAUSE_MS;
            haw_info(up ? "port.ready" : "port.gone", KS("port", port->id),
                     KS("vf", port->work.claimed ? port->work.before.dev : ""),
                     KI("took_us", clock_mono_us() - began_us));
        } else {
            fail(port, error);
        }
    } while (port->again);
    port->running = false;
    if (port->state == DPD__STATE__FAILED &&
        (port->was_ready || port->wanted == NULL || port->made != NULL)) { /* A3 */
        retry_later(port);
    }
    announce(port);
    if (port->state == DPD__STATE__GONE) {
        g_hash_table_remove(ports->table, port->id);
    }
}

static void
run_port(Port *port)
{
    port->state = DPD__STATE__WORKING;
    port->again = true;
    if (port->retry != 0) {
        g_source_remove(port->retry);
        port->retry = 0;
    }
    if (!port->running) {
        port->running = true;
        fiber_start("port", port_fiber, port);
    }
}

/* ---- what ought to be ---- */

/* An agent that has just started does not know yet what it told us before. */
static Dpd__Port *
spec_take(const Dpd__Port *spec, const Dpd__Port *before)
{
    Dpd__Port *copy = dpdwire_dup(&spec->base);
    if (copy->fast != NULL && copy->fast->keep && before != NULL && before->fast != NULL) {
        Dpd__Port *other = dpdwire_dup(&before->base);
        Dpd__Fast *unknown = copy->fast;
        copy->fast = other->fast;
        other->fast = unknown;
        spec_free(other);
    }
    return copy;
}

static void
want(Ports *ports, const Dpd__Port *asked)
{
    Port *port = g_hash_table_lookup(ports->table, asked->id);
    Dpd__Port *spec = spec_take(asked, port != NULL ? port->wanted : NULL);
    if (port != NULL && port->wanted != NULL && same_spec(port->wanted, spec) &&
        port->state != DPD__STATE__FAILED) {
        spec_free(spec);
        return;
    }
    port = port != NULL ? port : port_new(ports, spec->id);
    spec_free(port->wanted);
    port->wanted = spec;
    run_port(port);
}

static void
unwant(Port *port)
{
    if (port->wanted != NULL) {
        spec_free(g_steal_pointer(&port->wanted));
        run_port(port);
    }
}

static void
unwant_others(Ports *ports, const Dpd__Apply *apply)
{
    g_autoptr(GHashTable) named = g_hash_table_new(g_str_hash, g_str_equal);
    for (size_t i = 0; i < apply->n_ports; i++) {
        g_hash_table_add(named, apply->ports[i]->id);
    }
    GHashTableIter iter;
    gpointer value;
    g_hash_table_iter_init(&iter, ports->table);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        Port *port = value;
        if (!g_hash_table_contains(named, port->id)) {
            unwant(port);
        }
    }
}

static bool
is_settled(Ports *ports, const char *id)
{
    const Port *port = g_hash_table_lookup(ports->table, id);
    return port == NULL || (!port->running && port->state != DPD__STATE__WORKING);
}

static bool
all_settled(Ports *ports, const Dpd__Apply *apply)
{
    for (size_t i = 0; i < apply->n_ports; i++) {
        if (!is_settled(ports, apply->ports[i]->id)) {
            return false;
        }
    }
    for (size_t i = 0; i < apply->n_remove; i++) {
        if (!is_settled(ports, apply->remove[i])) {
            return false;
        }
    }
    GHashTableIter iter;
    gpointer id;
    g_hash_table_iter_init(&iter, ports->table);
    while (!apply->partial && g_hash_table_iter_next(&iter, &id, NULL)) {
        if (!is_settled(ports, id)) {
            return false;
        }
    }
    return true;
}

static Dpd__Observed *
observed_new(const Ports *ports, size_t room)
{
    Dpd__Observed *observed = g_new0(Dpd__Observed, 1);
    dpd__observed__init(observed);
    observed->generation = ports->generation;
    observed->ports = g_new0(Dpd__PortState *, room + 1);
    return observed;
}

static void
observe_one(Ports *ports, const char *id, Dpd__Observed *observed)
{
    const Port *port = g_hash_table_lookup(ports->table, id);
    Dpd__PortState *state = g_new0(Dpd__PortState, 1);
    Port none = {.id = (char *) (guintptr) id, .state = DPD__STATE__GONE};
    fill_state(port != NULL ? port : &none, state);
    observed->ports[observed->n_ports++] = state;
}

void
ports_observed_free(Dpd__Observed *observed)
{
    for (size_t i = 0; observed != NULL && i < observed->n_ports; i++) {
        state_done(observed->ports[i]);
        g_free(observed->ports[i]);
    }
    if (observed != NULL) {
        g_free(observed->ports);
        g_free(observed);
    }
}

Dpd__Observed *
ports_apply(Ports *ports, const Dpd__Apply *apply, GError **error)
{
    for (size_t i = 0; i < apply->n_ports; i++) {
        if (!portspec_check(apply->ports[i], error)) {
            return NULL;
        }
    }
    if (apply->generation <= ports->generation) { /* A4 */
        haw_fail(error, HAW_STALE,
                 "generation %" G_GUINT64_FORMAT " is not above %" G_GUINT64_FORMAT
                 ", which was applied already",
                 apply->generation, ports->generation);
        return NULL;
    }
    ports->generation = apply->generation;
    if (!apply->partial) {
        unwant_others(ports, apply);
    }
    for (size_t i = 0; i < apply->n_remove; i++) {
        Port *port = g_hash_table_lookup(ports->table, apply->remove[i]);
        if (port != NULL) {
            unwant(port);
        }
    }
    for (size_t i = 0; i < apply->n_ports; i++) {
        want(ports, apply->ports[i]);
    }

    gint64 end_us =
        clock_mono_us() + (gint64) (apply->wait_ms > 0 ? apply->wait_ms : WAIT_MS) * 1000;
    for (gint64 left_us; !all_settled(ports, apply) && (left_us = end_us - clock_mono_us()) > 0;) {
        fiber_signal_wait(&ports->settled, left_us / 1000 + 1, NULL, NULL);
    }
    Dpd__Observed *observed = observed_new(ports, apply->n_ports + apply->n_remove);
    for (size_t i = 0; i < apply->n_ports; i++) {
        observe_one(ports, apply->ports[i]->id, observed);
    }
    for (size_t i = 0; i < apply->n_remove; i++) {
        observe_one(ports, apply->remove[i], observed);
    }
    return observed;
}

Dpd__Observed *
ports_observe(Ports *ports)
{
    Dpd__Observed *observed = observed_new(ports, g_hash_table_size(ports->table));
    g_autoptr(GList) ids = g_list_sort(g_hash_table_get_keys(ports->table), (GCompareFunc) strcmp);
    for (GList *at = ids; at != NULL; at = at->next) {
        observe_one(ports, at->data, observed);
    }
    return observed;
}

int
ports_take(Ports *ports, const char *id, char **ret_device, GError **error)
{
    const Port *port = g_hash_table_lookup(ports->table, id);
    if (port == NULL || port->state != DPD__STATE__READY) {
        haw_fail(error, HAW_NOT_FOUND, "port \"%s\" is not ready", id);
        return -1;
    }
    if (port->made->kind != DPD__KIND__VDPA || port->work.device[0] == '\0') {
        haw_fail(error, HAW_CONFLICT, "port \"%s\" has no character device", id);
        return -1;
    }
    int fd = open(port->work.device, O_RDWR | O_CLOEXEC);
    if (fd < 0) {
        haw_fail_errno(error, errno, "open '%s' of port \"%s\"", port->work.device, id);
        return -1;
    }
    *ret_device = g_strdup(port->work.device);
    return fd;
}

guint64
ports_generation(const Ports *ports)
{
    return ports->generation;
}

guint
ports_count(const Ports *ports)
{
    return g_hash_table_size(ports->table);
}

void
ports_nudge(Ports *ports)
{
    bool ready = ovsport_ready(ports->doors.bridges);
    GHashTableIter iter;
    gpointer value;
    g_hash_table_iter_init(&iter, ports->table);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        Port *port = value;
        bool lost =
            ready && port->state == DPD__STATE__READY && !port->running &&
            portsteps_bridged(port->made) &&
            !ovsport_has(ports->doors.bridges, port->id, portsteps_plug(&port->work, port->made));
        if (lost || (port->retry != 0 && ready)) {
            port->pause_ms = PAUSE_MS;
            run_port(port);
        }
    }
}

/* A2 */
Ports *
ports_new(const struct portsteps_doors *doors, PortsChanged changed, void *data)
{
    Ports *ports = g_new0(Ports, 1);
    ports->doors = *doors;
    ports->changed = changed;
    ports->data = data;
    ports->table = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, port_free);
    g_autoptr(GPtrArray) ids = ledger_ids(doors->ledger);
    for (guint i = 0; i < ids->len; i++) {
        const LedgerRow *row = ledger_find(doors->ledger, ids->pdata[i]);
        gsize size = 0;
        const guint8 *bytes = g_bytes_get_data(row->spec, &size);
        Port *port = port_new(ports, row->id);
        port->made = dpd__port__unpack(NULL, size, bytes);
        if (port->made == NULL) { /* the ledger's own bytes; nothing can be known of the port */
            haw_warn("port.unreadable", KS("port", row->id));
            port->made = g_new0(Dpd__Port, 1);
            dpd__port__init(port->made);
        }
        port->was_ready = row->step == LEDGER_READY;
        port->wanted = row->going ? NULL : dpdwire_dup(&port->made->base);
        run_port(port);
    }
    return ports;
}

void
ports_free(Ports *ports)
{
    if (ports != NULL) {
        g_hash_table_unref(ports->table);
        g_free(ports);
    }
}
