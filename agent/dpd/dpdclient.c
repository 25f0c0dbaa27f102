/* The desired ports, sent to hawser-dpd.
 * C1  'wanted' is all that ought to exist. A new session begins with the whole of it, so whatever was
 *     lost with the session before (dpd's death, a request in flight) is made good.
 * C2  Until dpdclient_settle() that list is not complete: no whole Apply is sent, and dpd keeps what
 *     it has.
 * C3  A port is wanted before it is sent, and until dpd says that it is gone.
 * C4  hawser-dpd is started when something is wanted and nobody listens; it leads its own session and
 *     outlives us. An agent with no such port never starts one.
 * C5  What the server's configuration says of polling is told at the beginning of each session, and as it changes.
 * Called by net/hostport.c and net/nic_parent.c. Not here: what becomes of frames (dpdsession.c). */
#include "agent/dpd/dpdclient.h"

#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/dpd/dpdsession.h"
#include "agent/dpd/pollwish.h"
#include "agent/ovn/ovn.h"
#include "base/clock.h"
#include "base/fiber.h"
#include "base/log.h"
#include "base/proc.h"
#include "proto/dpdwire.h"

enum {
    START_MS = 30000, /* a busy machine, a cold cache */
    START_STEP_MS = 10,
    TRIES = 3,
    PAUSE_MS = 100,
    PAUSE_MAX_MS = 10000,
    BUMP_MS = 2000
};

struct DpdClient {
    Agent *agent;        /* borrowed */
    char *dir, *path;    /* owned: of dpd, and of its socket */
    GHashTable *wanted;  /* id → packed Dpd__Port (GBytes), owned */
    DpdSession *session; /* shares; NULL when there is none */
    FiberLock connecting;
    guint64 generation, epoch;
    bool settled, watching;
};

char *
dpdclient_id(const char *project, const char *inst, const char *device)
{
    return g_strdup_printf("%s/%s/%s", project, inst, device);
}

DpdClient *
dpdclient_new(Agent *agent)
{
    DpdClient *client = g_new0(DpdClient, 1);
    client->agent = agent;
    client->dir = agent_path(agent, "dpd");
    client->path = g_build_filename(client->dir, "dpd.socket", NULL);
    client->wanted =
        g_hash_table_new_full(g_str_hash, g_str_equal, g_free, (GDestroyNotify) g_bytes_unref);
    return client;
}

void
dpdclient_free(DpdClient *client)
{
    if (client != NULL) {
        dpdsession_end(client->session);
        g_hash_table_unref(client->wanted);
        g_free(client->dir);
        g_free(client->path);
        g_free(client);
    }
}

static Dpd__Port *
unpack(GBytes *packed)
{
    gsize size = 0;
    const guint8 *bytes = g_bytes_get_data(packed, &size);
    return dpd__port__unpack(NULL, size, bytes);
}

/* ---- having one ---- */

/* Beside us when installed, in its own folder of the build tree, or wherever HAWSER_DPD says. */
static char *
find_program(void)
{
    const char *env = g_getenv("HAWSER_DPD");
    g_autofree char *own = g_file_read_link("/proc/self/exe", NULL);
    g_autofree char *here = own != NULL ? g_path_get_dirname(own) : g_strdup(".");
    const char *const places[] = {"hawser-dpd", "../dataplane/hawser-dpd"};
    if (env != NULL && *env != '\0') {
        return g_strdup(env);
    }
    for (size_t i = 0; i < G_N_ELEMENTS(places); i++) {
        g_autofree char *path = g_build_filename(here, places[i], NULL);
        if (access(path, X_OK) == 0) {
            return g_steal_pointer(&path);
        }
    }
    return g_strdup("hawser-dpd");
}

static void
reap(void *data)
{
    int status = 0;
    fiber_wait_pid(GPOINTER_TO_INT(data), -1, NULL, &status, NULL);
}

/* C4 */
static bool
start_program(DpdClient *client, pid_t *ret_pid, GError **error)
{
    g_autofree char *program = find_program();
    g_autofree char *log = agent_path(client->agent, "logs/hawser-dpd.log");
    const char *const argv[] = {
        program, "--embedded", "--dir", client->dir, client->agent->debug ? "--debug" : NULL, NULL};
    pid_t pid = proc_spawn(argv, NULL, log, NULL, 0, error);
    if (pid < 0) {
        return haw_push(error, "start hawser-dpd");
    }
    haw_info("dpd.started", KI("pid", pid), KS("dir", client->dir));
    *ret_pid = pid;
    return true;
}

static void on_end(void *data);

static bool
connect_once(DpdClient *client, GError **error)
{
    guint64 generation = 0;
    client->session = dpdsession_open(client->path, on_end, client, &generation, error);
    client->generation = MAX(client->generation, generation);
    client->epoch += client->session != NULL;
    return client->session != NULL;
}

guint64
dpdclient_epoch(const DpdClient *client)
{
    return client->epoch;
}

/* The last words of one that did not come up. */
static bool
explain(DpdClient *client, GError **error)
{
    return haw_push(error, "hawser-dpd does not answer (its log: %s/logs/hawser-dpd.log)",
                    client->agent->dir);
}

static bool
start_and_connect(DpdClient *client, GError **error)
{
    pid_t pid = 0;
    if (!start_program(client, &pid, error)) {
        return false;
    }
    gint64 end_us = clock_mono_us() + START_MS * 1000;
    int status = 0;
    bool ended = false;
    for (;;) {
        g_autoptr(GError) why = NULL;
        if (connect_once(client, &why)) {
            break;
        }
        ended = ended || waitpid(pid, &status, WNOHANG) == pid;
        if (clock_mono_us() > end_us || (ended && haw_code(why) != HAW_UNAVAILABLE)) {
            g_propagate_error(error, g_steal_pointer(&why));
            if (!ended) {
                fiber_start("reap dpd", reap, GINT_TO_POINTER((int) pid));
            }
            return explain(client, error);
        }
        fiber_sleep_ms(START_STEP_MS, NULL, NULL);
    }
    if (!ended) {
        fiber_start("reap dpd", reap, GINT_TO_POINTER((int) pid));
    }
    return true;
}

/* The bridges' database moves with whose OVN is used. */
static void
name_database(DpdClient *client, Dpd__Apply *apply)
{
    const char *remote = client->agent->ovn != NULL ? ovn_local_remote(client->agent) : NULL;
    apply->ovsdb = (char *) (guintptr) (remote != NULL ? remote : "");
}

/* C1, C2. Failures of single ports are dpd's to log and to try again. */
static bool
send_whole(DpdClient *client, GError **error)
{
    Dpd__Apply apply = DPD__APPLY__INIT;
    guint count = g_hash_table_size(client->wanted);
    g_autofree Dpd__Port **ports = g_new0(Dpd__Port *, count + 1);
    GHashTableIter iter;
    gpointer packed;
    g_hash_table_iter_init(&iter, client->wanted);
    while (g_hash_table_iter_next(&iter, NULL, &packed)) {
        ports[apply.n_ports++] = unpack(packed);
    }
    apply.ports = ports;
    apply.partial = !client->settled;
    apply.generation = ++client->generation;
    apply.wait_ms = 1;
    name_database(client, &apply);
    Dpd__Frame *answer = dpdsession_apply(client->session, &apply, error);
    for (size_t i = 0; i < apply.n_ports; i++) {
        dpd__port__free_unpacked(ports[i], NULL);
    }
    bool ok = answer != NULL;
    dpdsession_answer_free(answer);
    return ok;
}

/* C5. One of an older release has no such process, and need not. */
static void
send_poll(DpdClient *client)
{
    g_autoptr(GError) why = NULL;
    if (!pollwish_send(client->agent, client->session, &why)) {
        haw_warn("dpd.poll", KS("why", why->message));
    }
}

static bool
connected(DpdClient *client, bool may_start, GError **error)
{
    g_auto(FiberHold) hold = fiber_hold(&client->connecting);
    if (client->session != NULL && dpdsession_alive(client->session)) {
        return true;
    }
    dpdsession_end(g_steal_pointer(&client->session));
    g_autoptr(GError) why = NULL;
    if (!connect_once(client, &why)) {
        bool nobody = haw_code(why) == HAW_NOT_FOUND || haw_code(why) == HAW_UNAVAILABLE;
        if (!nobody || !may_start) {
            g_propagate_error(error, g_steal_pointer(&why));
            return false;
        }
        if (!start_and_connect(client, error)) {
            return false;
        }
    }
    send_poll(client);
    return (g_hash_table_size(client->wanted) == 0 && !client->settled) ||
           send_whole(client, error);
}

bool
dpdclient_poll(DpdClient *client, GError **error)
{
    if (!dpdclient_has_ports(client) && client->session == NULL) {
        return true; /* C5 */
    }
    return connected(client, dpdclient_has_ports(client), error) &&
           pollwish_send(client->agent, client->session, error);
}

/* ---- staying connected ---- */

static void
watch_fiber(void *data)
{
    DpdClient *client = data;
    GCancellable *stop = client->agent->stopping;
    gint64 pause_ms = PAUSE_MS;
    while (g_hash_table_size(client->wanted) > 0 && !g_cancellable_is_cancelled(stop)) {
        g_autoptr(GError) error = NULL;
        if (connected(client, true, &error)) {
            break;
        }
        haw_warn("dpd.lost", KS("why", error->message), KI("again_ms", pause_ms));
        fiber_sleep_ms(pause_ms, stop, NULL);
        pause_ms = MIN(pause_ms * 2, PAUSE_MAX_MS);
    }
    client->watching = false;
}

/* The session has ended; with ports to look after, there has to be another. */
static void
on_end(void *data)
{
    DpdClient *client = data;
    bool stopping = g_cancellable_is_cancelled(client->agent->stopping);
    if (!client->watching && !stopping && g_hash_table_size(client->wanted) > 0) {
        client->watching = true;
        fiber_start("dpd", watch_fiber, client);
    }
}

static void
settle_fiber(void *data)
{
    DpdClient *client = data;
    g_autoptr(GError) error = NULL;
    bool needed = g_hash_table_size(client->wanted) > 0;
    bool was = client->session != NULL && dpdsession_alive(client->session);
    /* One that still runs may hold ports of instances that ended while we were away; one that does
     * not, but left a ledger, too. */
    g_autofree char *ledger = g_build_filename(client->dir, "ledger.db", NULL);
    if (!connected(client, needed || access(ledger, F_OK) == 0, &error) ||
        (was && !send_whole(client, &error))) {
        if (needed || haw_code(error) != HAW_NOT_FOUND) {
            haw_warn("dpd.unsettled", KS("why", error->message));
            on_end(client);
        }
    }
}

void
dpdclient_settle(DpdClient *client)
{
    g_autofree char *ledger = g_build_filename(client->dir, "ledger.db", NULL);
    client->settled = true;
    if (g_hash_table_size(client->wanted) > 0 || access(ledger, F_OK) == 0) { /* C4 */
        fiber_start("dpd", settle_fiber, client);
    }
}

/* ---- ports ---- */

void
dpdclient_adopt(DpdClient *client, const Dpd__Port *spec)
{
    g_hash_table_replace(client->wanted, g_strdup(spec->id), dpdwire_pack(&spec->base));
}

static void
take_port(const Dpd__PortState *state, DpdPort *ret)
{
    *ret = (DpdPort){.kind = state->kind, .vf = state->vf, .old_vlan = -1, .old_spoof_check = -1};
    g_strlcpy(ret->netdev, state->netdev, sizeof(ret->netdev));
    g_strlcpy(ret->representor, state->representor, sizeof(ret->representor));
    g_strlcpy(ret->pf, state->pf, sizeof(ret->pf));
    g_strlcpy(ret->pci, state->pci, sizeof(ret->pci));
    g_strlcpy(ret->vdpa, state->vdpa, sizeof(ret->vdpa));
    g_strlcpy(ret->device, state->device, sizeof(ret->device));
    if (state->before != NULL) {
        g_strlcpy(ret->old_mac, state->before->mac, sizeof(ret->old_mac));
        g_strlcpy(ret->old_vf_mac, state->before->vf_mac, sizeof(ret->old_vf_mac));
        ret->old_mtu = state->before->mtu;
        ret->old_vlan = state->before->vlan;
        ret->old_spoof_check = state->before->spoof_check;
    }
}

/* Sends one change and gives its port's state. A session that breaks is replaced and the change sent
 * again: ports are the same however often they are asked for. */
static Dpd__Frame *
change(DpdClient *client, Dpd__Apply *apply, GError **error)
{
    for (int left = TRIES;; left--) {
        g_autoptr(GError) why = NULL;
        if (connected(client, true, &why)) {
            apply->partial = true;
            name_database(client, apply);
            apply->generation = ++client->generation;
            Dpd__Frame *answer = dpdsession_apply(client->session, apply, &why);
            if (answer != NULL) {
                return answer;
            }
        }
        if (left == 1 || haw_code(why) != HAW_UNAVAILABLE) {
            g_propagate_error(error, g_steal_pointer(&why));
            return NULL;
        }
    }
}

static bool
put(DpdClient *client, const Dpd__Port *spec, DpdPort *ret, GError **error)
{
    Dpd__Apply apply = DPD__APPLY__INIT;
    Dpd__Port *ports[] = {(Dpd__Port *) (guintptr) spec};
    apply.ports = ports;
    apply.n_ports = 1;
    Dpd__Frame *answer = change(client, &apply, error);
    if (answer == NULL) {
        return false;
    }
    const Dpd__PortState *state = answer->observed->ports[0];
    bool ok = state->state == DPD__STATE__READY;
    if (ok && ret != NULL) {
        take_port(state, ret);
    } else if (state->state == DPD__STATE__WORKING) {
        haw_fail(error, HAW_TIMEOUT, "hawser-dpd is still at work on port \"%s\"", spec->id);
    } else if (!ok) {
        haw_fail(error, state->code < HAW_CODE_COUNT ? (HawCode) state->code : HAW_FAILED, "%s",
                 state->message[0] != '\0' ? state->message : "hawser-dpd gave the port up");
    }
    dpdsession_answer_free(answer);
    return ok;
}

bool
dpdclient_put(DpdClient *client, const Dpd__Port *spec, DpdPort *ret, GError **error)
{
    dpdclient_adopt(client, spec); /* C3 */
    if (put(client, spec, ret, error)) {
        return true;
    }
    g_autoptr(GError) left = NULL;
    if (!dpdclient_drop(client, spec->id, &left)) {
        haw_warn("dpd.not_dropped", KS("port", spec->id), KS("why", left->message));
    }
    return false;
}

bool
dpdclient_drop(DpdClient *client, const char *id, GError **error)
{
    if (!g_hash_table_contains(client->wanted, id) && client->session == NULL) {
        return true;
    }
    char *ids[] = {(char *) (guintptr) id};
    Dpd__Apply apply = DPD__APPLY__INIT;
    apply.remove = ids;
    apply.n_remove = 1;
    g_hash_table_remove(client->wanted, id);
    Dpd__Frame *answer = change(client, &apply, error);
    if (answer == NULL) {
        return false;
    }
    const Dpd__PortState *state = answer->observed->ports[0];
    bool ok = state->state == DPD__STATE__GONE;
    if (!ok) {
        haw_fail(error, state->code < HAW_CODE_COUNT ? (HawCode) state->code : HAW_FAILED, "%s",
                 state->message[0] != '\0' ? state->message : "hawser-dpd still holds the port");
    }
    dpdsession_answer_free(answer);
    return ok;
}

int
dpdclient_take(DpdClient *client, const char *id, GError **error)
{
    return connected(client, false, error) ? dpdsession_take(client->session, id, error) : -1;
}

json_t *
dpdclient_status(DpdClient *client, GError **error)
{
    g_autoptr(GError) why = NULL;
    if (connected(client, g_hash_table_size(client->wanted) > 0, &why)) {
        return dpdsession_status(client->session, error);
    }
    if (haw_code(why) == HAW_NOT_FOUND || haw_code(why) == HAW_UNAVAILABLE) {
        return json_object();
    }
    g_propagate_error(error, g_steal_pointer(&why));
    return NULL;
}

/* ---- the fast path ---- */

bool
dpdclient_has_ports(DpdClient *client)
{
    return g_hash_table_size(client->wanted) > 0;
}

bool
dpdclient_has_fast(DpdClient *client)
{
    GHashTableIter iter;
    gpointer packed;
    bool found = false;
    g_hash_table_iter_init(&iter, client->wanted);
    while (!found && g_hash_table_iter_next(&iter, NULL, &packed)) {
        Dpd__Port *spec = unpack(packed);
        found = spec->fast != NULL;
        dpd__port__free_unpacked(spec, NULL);
    }
    return found;
}

void
dpdclient_set_fast(Dpd__Port *spec, const Dpd__Fast *fast)
{
    if (spec->fast != NULL) {
        dpd__fast__free_unpacked(spec->fast, NULL);
        spec->fast = NULL;
    }
    if (fast != NULL) {
        spec->fast = dpdwire_dup(&fast->base);
    }
}

static void
port_unpacked_free(gpointer spec)
{
    dpd__port__free_unpacked(spec, NULL);
}

/* Those that fn changed, unpacked; 'wanted' has them already. */
static GPtrArray *
revised(DpdClient *client, DpdRevise fn, void *data)
{
    GPtrArray *changed = g_ptr_array_new_with_free_func(port_unpacked_free);
    GHashTableIter iter;
    gpointer before;
    g_hash_table_iter_init(&iter, client->wanted);
    while (g_hash_table_iter_next(&iter, NULL, &before)) {
        Dpd__Port *spec = unpack(before);
        fn(spec, data);
        g_autoptr(GBytes) after = dpdwire_pack(&spec->base);
        if (g_bytes_equal(before, after)) {
            dpd__port__free_unpacked(spec, NULL);
        } else {
            g_ptr_array_add(changed, spec);
        }
    }
    for (guint i = 0; i < changed->len; i++) {
        dpdclient_adopt(client, changed->pdata[i]);
    }
    return changed;
}

bool
dpdclient_revise(DpdClient *client, DpdRevise fn, void *data, GError **error)
{
    g_autoptr(GPtrArray) changed = revised(client, fn, data);
    Dpd__Apply apply = DPD__APPLY__INIT;
    if (changed->len == 0) {
        return true;
    }
    apply.ports = (Dpd__Port **) changed->pdata;
    apply.n_ports = changed->len;
    Dpd__Frame *answer = change(client, &apply, error);
    dpdsession_answer_free(answer);
    return answer != NULL;
}

static Dpd__Frame *
ask(DpdClient *client, Dpd__Frame *request, bool may_start, gint64 wait_ms, GError **error)
{
    for (int left = TRIES;; left--) {
        g_autoptr(GError) why = NULL;
        Dpd__Frame *answer = connected(client, may_start, &why)
                                 ? dpdsession_ask(client->session, request, wait_ms, &why)
                                 : NULL;
        if (answer != NULL) {
            return answer;
        }
        if (left == 1 || haw_code(why) != HAW_UNAVAILABLE) {
            g_propagate_error(error, g_steal_pointer(&why));
            return NULL;
        }
    }
}

bool
dpdclient_bump(DpdClient *client, const GArray *zones, GError **error)
{
    Dpd__FastBump bump = DPD__FAST_BUMP__INIT;
    Dpd__Frame frame = DPD__FRAME__INIT;
    g_autoptr(GError) why = NULL;
    frame.body_case = DPD__FRAME__BODY_FAST_BUMP;
    frame.fast_bump = &bump;
    if (zones != NULL) {
        bump.zones = (guint32 *) (gpointer) zones->data;
        bump.n_zones = zones->len;
    }
    g_autoptr(DpdFrame) answer = ask(client, &frame, true, BUMP_MS, &why);
    if (answer != NULL || haw_code(why) == HAW_UNSUPPORTED) {
        return true;
    }
    g_propagate_error(error, g_steal_pointer(&why));
    return false;
}

Dpd__Frame *
dpdclient_fast(DpdClient *client, Dpd__Frame *request, gint64 wait_ms, GError **error)
{
    g_autoptr(GError) why = NULL;
    Dpd__Frame *answer = ask(client, request, dpdclient_has_ports(client), wait_ms, &why);
    if (answer == NULL && haw_code(why) == HAW_NOT_FOUND && !dpdclient_has_ports(client)) {
        haw_fail(error, HAW_UNAVAILABLE,
                 "hawser-dpd does not run: no instance has an OVN NIC here");
    } else if (answer == NULL) {
        g_propagate_error(error, g_steal_pointer(&why));
    }
    return answer;
}

void
dpdclient_answer_free(Dpd__Frame *answer)
{
    dpdsession_answer_free(answer);
}
