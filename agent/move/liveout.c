/* The source of a live move.
 * G1  Order: preflight of both sides; software stands in for functions of hardware (liveswap.h), before the
 *     target makes ports for the same NICs; volume; the target's QEMU waits; disks mirrored until they stay equal;
 *     memory in rounds; the guest stops; last pages, mirrors' end, devices' state; the target has all; the
 *     decision (livedecide.h); the target runs it; ours ends.
 * G2  Whatever fails before the decision is undone: the guest runs on here, as before.
 * G3  The guest is stopped twice a round for a moment, and once for good, by hawser-pages' wish: pages are
 *     armed only while it stands still.
 * G4  Pages go by connections of their own, sealed unless the operator trusts the network, or through the
 *     move's socket where the hosts can't reach each other.
 * G5  A kernel that can't track, and memory that can't be, leave it to QEMU's own migration, and it is said.
 * Called by moveinst.c. */
#include "agent/move/live.h"

#include "agent/api/settings.h"
#include "agent/auth/trust.h"
#include "agent/inst/plug.h"
#include "agent/move/lanes.h"
#include "agent/move/livebrake.h"
#include "agent/move/livecheck.h"
#include "agent/move/livedecide.h"
#include "agent/move/livehello.h"
#include "agent/move/liveqemu.h"
#include "agent/move/liveswap.h"
#include "agent/move/streamer.h"
#include "agent/vm/vmitem.h"
#include "base/clock.h"
#include "base/crash.h"
#include "base/fd.h"
#include "base/ids.h"
#include "base/log.h"
#include "proto/grammar.h"
#include "proto/keys.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

enum {
    CHANNELS = 2,
    ROUNDS_MAX = 30,
    FIXED_US = 15000, /* of the pause: devices' state, the decision */
    IDLE_MS = 30000,
    GREET_MS = 60000,
    READY_MS = 300000, /* a QEMU starts */
    SWITCH_MS = 60000,
    HEAR_MS = 20000,
    LANES_MS = 3000,
};

struct LiveOut {
    Inst *inst;     /* shares */
    MoveConn *conn; /* borrowed */
    MoveMux *mux;   /* owns */
    struct live_hello hello;
    json_t *ready;
    GPtrArray *disks;  /* char *: block nodes */
    bool begun;        /* and neither undone nor finished */
    bool copy;         /* the guest stays here, too */
    bool ballooned;    /* when it began */
    LiveBrake *brake;  /* owns; while memory goes */
    int devices;       /* the socket for devices' state */
    gint64 stopped_us; /* when the guest stopped for good */
    gint64 pause_us;
    gint64 said_us;
    json_t *figures; /* for the operation's metadata */
};

static const char *
text_of(json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text != NULL ? text : "";
}

static Qmp *
qmp_of(LiveOut *live)
{
    return vm_qmp(vm_session(live->inst)); /* the queue is held: the session stays */
}

static GCancellable *
cancel_of(LiveOut *live)
{
    return moveconn_cancel(live->conn);
}

/* ---- preflight ---- */

bool
liveout_may(Inst *inst, GError **error)
{
    if (strcmp(inst_type(inst), "virtual-machine") != 0) {
        return haw_fail(error, HAW_INVALID,
                        "Unable to perform container live migration: stop the instance, or copy it "
                        "without its state (--stateless)");
    }
    if (!inst_get_bool(inst, "migration.stateful", false)) {
        return haw_fail(error, HAW_INVALID,
                        "Stateful migration requires migration.stateful to be set to true");
    }
    return (inst_state(inst) == INST_RUNNING && vm_session(inst) != NULL) ||
           haw_fail(error, HAW_CONFLICT, "The virtual machine is not running");
}

static gint64
root_bytes(LiveOut *live)
{
    json_auto_t *list =
        qmp_call(qmp_of(live), "query-named-block-nodes", json_pack("{s:b}", "flat", 1), NULL);
    size_t i;
    json_t *node;
    json_array_foreach (list, i, node) {
        if (live->disks->len > 0 &&
            strcmp(text_of(node, "node-name"), live->disks->pdata[0]) == 0) {
            return json_integer_value(
                json_object_get(json_object_get(node, "image"), "virtual-size"));
        }
    }
    return 0;
}

/* Where we can be asked for the decision. */
static json_t *
our_urls(Agent *agent)
{
    size_t i;
    json_t *each, *urls = json_array();
    json_auto_t *addresses = server_addresses(agent->server);
    json_array_foreach (addresses, i, each) {
        g_autofree char *url = g_strdup_printf("https://%s", json_string_value(each));
        json_array_append_new(urls, json_string(url));
    }
    return urls;
}

/* The keys that make it the same machine there, too. */
static json_t *
identity(LiveOut *live)
{
    static const char *const keys[] = {"volatile.uuid", "volatile.uuid.generation",
                                       "volatile.cloud-init.instance-id", NULL};
    json_t *config = json_object();
    for (const char *const *key = keys; *key != NULL; key++) {
        const char *value = inst_get(live->inst, *key);
        if (value != NULL) {
            json_object_set_new(config, *key, json_string(value));
        }
    }
    return config;
}

static void
fill_hello(LiveOut *live)
{
    Agent *agent = live->inst->agent;
    VmSession *vm = vm_session(live->inst);
    struct live_hello *hello = &live->hello;
    hello->blockers = livecheck_blockers(live->inst, live->disks);
    hello->disks = json_array();
    for (guint i = 0; i < live->disks->len; i++) {
        json_array_append_new(hello->disks, json_string(live->disks->pdata[i]));
    }
    hello->uuid = ids_uuid();
    hello->secret = ids_secret(32);
    ids_random(hello->key, sizeof hello->key);
    ids_random(hello->token, sizeof hello->token);
    hello->memory = vm_memory_bytes(vm);
    hello->disk_bytes = root_bytes(live);
    hello->channels = CHANNELS;
    hello->layout = vm_layout(vm);
    hello->identity = identity(live);
    hello->urls = our_urls(agent);
    hello->certificate = json_string(trust_server_cert_pem(agent->trust));
}

static void
choose_stream(LiveOut *live)
{
    g_autoptr(GError) error = NULL;
    const char *stream = settings_get(live->inst->agent->settings, "migration.stream");
    live->hello.sealed = g_strcmp0(stream, "zerocopy") != 0;
    live->hello.native = g_strcmp0(stream, "qemu") == 0;
    if (!live->hello.native && !streamer_works(live->inst->agent, &error)) { /* G5 */
        live->hello.native = true;
        haw_warn("live.native", KS("inst", live->inst->name), KS("why", error->message));
    }
    json_object_set_new(live->figures, "stream",
                        json_string(live->hello.native   ? "qemu"
                                    : live->hello.sealed ? "encrypted"
                                                         : "zerocopy"));
}

static void
show(LiveOut *live, const char *progress)
{
    op_update(moveconn_op(live->conn), json_pack("{s:s,s:o}", "live_progress", progress,
                                                 "migration", json_deep_copy(live->figures)));
}

/* From here on undo() has work. */
static bool
begin(LiveOut *live, GError **error)
{
    live->begun = livedecide_begin(live->inst, live->hello.uuid, live->hello.secret, error);
    return live->begun && liveswap_out(live->inst, error) && livecheck_qemu(live->inst, error);
}

LiveOut *
liveout_greet(Inst *inst, MoveConn *conn, Ws **state, GError **error)
{
    g_autoptr(LiveOut) live = g_new0(LiveOut, 1);
    live->inst = inst_ref(inst);
    live->conn = conn;
    live->devices = -1;
    live->mux = movemux_new(state);
    live->disks = g_ptr_array_new_with_free_func(g_free);
    live->figures = json_object();
    choose_stream(live);
    fill_hello(live);
    if (!movemux_send(live->mux, json_pack("{s:o}", "hello", livehello_make(&live->hello)),
                      error)) {
        return NULL;
    }
    json_auto_t *answer =
        movemux_recv(live->mux, "preflight", GREET_MS, moveconn_cancel(conn), error);
    json_t *preflight = json_object_get(answer, "preflight");
    if (answer == NULL ||
        !livehello_check(live->hello.blockers, json_object_get(preflight, "blockers"), error)) {
        return NULL;
    }
    live->copy = !json_is_true(json_object_get(preflight, "same"));
    if (!begin(live, error)) {
        return NULL;
    }
    show(live, live->hello.native
                   ? "memory goes by QEMU's own migration: this kernel can't track it"
                   : "the target is ready for it");
    return g_steal_pointer(&live);
}

static bool
still_guest(LiveOut *live, GError **error)
{
    bool ok = liveqemu_undo(qmp_of(live), error);
    VmSession *vm = vm_session(live->inst);
    if (vm != NULL) {
        vm_set_moving(vm, false);
    }
    return ok;
}

/* G2 */
static void
undo(LiveOut *live)
{
    live->begun = false;
    g_autoptr(GError) error = NULL;
    if (vm_session(live->inst) != NULL && qmp_alive(qmp_of(live)) && !still_guest(live, &error)) {
        haw_error("live.undo", KS("inst", live->inst->name), KS("why", error->message));
    }
    liveswap_back(live->inst);
    livedecide_end(live->inst, live->hello.uuid);
}

void
liveout_free(LiveOut *live)
{
    if (live != NULL) {
        if (live->begun) {
            undo(live);
        }
        fd_close(&live->devices);
        movemux_free(live->mux);
        livehello_done(&live->hello);
        g_ptr_array_unref(live->disks);
        json_decref(live->ready);
        json_decref(live->figures);
        inst_unref(live->inst);
        g_free(live);
    }
}

/* ---- disks ---- */

static void
tell_disks(gint64 done, gint64 total, void *data)
{
    LiveOut *live = data;
    if (clock_mono_us() - live->said_us > 500000) {
        g_autofree char *text =
            g_strdup_printf("disk: %" G_GINT64_FORMAT " of %" G_GINT64_FORMAT " MB", done / 1000000,
                            total / 1000000);
        live->said_us = clock_mono_us();
        show(live, text);
    }
}

static gint64
bandwidth(LiveOut *live)
{
    gint64 bytes = 0;
    const char *limit = settings_get(live->inst->agent->settings, "migration.bandwidth");
    return limit != NULL && grammar_parse_size(limit, &bytes, NULL) ? bytes : 0;
}

static bool
mirror_disks(LiveOut *live, GError **error)
{
    for (guint i = 0; i < live->disks->len; i++) {
        g_autofree char *name = NULL;
        if (!movemux_door(live->mux, MOVEMUX_DISK + i, vm_pid(vm_session(live->inst)), &name,
                          error) ||
            !liveqemu_mirror(qmp_of(live), live->disks->pdata[i], name, bandwidth(live), error)) {
            return false;
        }
        crash_point("live_source");
    }
    return liveqemu_mirrors_ready(qmp_of(live), tell_disks, live, cancel_of(live), error);
}

/* ---- memory ---- */

/* The guest stands still: devices' state may go, up to the door. */
static bool
stop_for_good(LiveOut *live, GError **error)
{
    crash_point("live_source");
    if (!liveqemu_migrate(qmp_of(live), "migrate", live->devices, error)) {
        return false;
    }
    fd_close(&live->devices); /* QEMU has its own */
    bool ok = liveqemu_await(qmp_of(live), "pre-switchover",
                             live->hello.native ? READY_MS : SWITCH_MS, cancel_of(live), error);
    live->stopped_us = clock_mono_us();
    crash_point("live_source");
    return ok;
}

/* Beside the last pages. */
static bool
go_through(LiveOut *live, GError **error)
{
    return liveqemu_mirrors_end(qmp_of(live), error) &&
           qmp_do(qmp_of(live), "migrate-continue", json_pack("{s:s}", "state", "pre-switchover"),
                  error);
}

static bool
on_wish(Pages__Wish wish, void *data, GError **error)
{
    LiveOut *live = data;
    switch (wish) {
    case PAGES__WISH__STOP:
        livebrake_hold(live->brake);
        return qmp_do(qmp_of(live), "stop", NULL, error);
    case PAGES__WISH__RESUME: {
        bool ok = qmp_do(qmp_of(live), "cont", NULL, error);
        livebrake_let(live->brake);
        return ok;
    }
    case PAGES__WISH__STOP_FINAL:
        livebrake_hold(live->brake);
        return stop_for_good(live, error);
    case PAGES__WISH__SLOW_DOWN:
        json_object_set_new(live->figures, "throttle", json_integer(livebrake_harder(live->brake)));
        return true;
    default:
        return haw_fail(error, HAW_INVALID, "hawser-pages wishes what is unknown");
    }
}

/* Nobody else moves a balloon meanwhile: the queue is held. */
static bool
on_punched(void *data)
{
    LiveOut *live = data;
    return live->ballooned ||
           liveqemu_ballooned(qmp_of(live), vm_memory_bytes(vm_session(live->inst)));
}

static bool
on_answered(Pages__Wish wish, void *data, GError **error)
{
    return wish != PAGES__WISH__STOP_FINAL || go_through(data, error);
}

static void
on_progress(const Pages__Progress *at, void *data)
{
    LiveOut *live = data;
    g_autofree char *text = g_strdup_printf("memory: round %u, %" G_GUINT64_FORMAT
                                            " MB at %.0f MB/s, written %.0f MB/s, pause %.0f ms",
                                            at->round, at->sent_bytes / 1000000, at->rate / 1e6,
                                            at->dirty_rate / 1e6, (double) at->pause_us / 1e3);
    json_t *now = json_pack("{s:i,s:I,s:I,s:I,s:I,s:I,s:I,s:I}", "round", (int) at->round, "sent",
                            (json_int_t) at->sent_bytes, "zeroes", (json_int_t) at->punched_bytes,
                            "dirty", (json_int_t) at->dirty_bytes, "rate", (json_int_t) at->rate,
                            "dirty_rate", (json_int_t) at->dirty_rate, "predicted_pause_us",
                            (json_int_t) at->pause_us, "predicted_end_us", (json_int_t) at->end_us);
    json_object_update(live->figures, now);
    json_decref(now);
    if (clock_mono_us() - live->said_us > 200000 && live->stopped_us == 0) {
        live->said_us = clock_mono_us();
        show(live, text);
    }
}

/* G4 */
static bool
open_lanes(LiveOut *live, int *fds, GError **error)
{
    size_t i;
    json_t *each;
    g_autoptr(GPtrArray) hosts = g_ptr_array_new();
    g_autoptr(GError) why = NULL;
    guint16 port = (guint16) json_integer_value(json_object_get(live->ready, "port"));
    json_array_foreach (json_object_get(live->ready, "hosts"), i, each) {
        if (json_is_string(each)) {
            g_ptr_array_add(hosts, (char *) json_string_value(each));
        }
    }
    g_ptr_array_add(hosts, NULL);
    bool direct = lanes_connect((const char *const *) hosts->pdata, port, live->hello.token,
                                CHANNELS, LANES_MS, fds, cancel_of(live), &why);
    if (!movemux_send(live->mux, json_pack("{s:b}", "direct", direct), error)) {
        return false;
    }
    json_object_set_new(live->figures, "route", json_string(direct ? "direct" : "relayed"));
    for (int n = 0; n < CHANNELS && !direct; n++) {
        fds[n] = movemux_open(live->mux, MOVEMUX_PAGES + (guint) n, error);
        if (fds[n] < 0) {
            return false;
        }
    }
    return true;
}

static gint64
downtime_us(LiveOut *live)
{
    const char *ms = inst_get(live->inst, "migration.vm.downtime");
    return (ms != NULL ? g_ascii_strtoll(ms, NULL, 10) : 50) * 1000;
}

static void
fill_start(LiveOut *live, Pages__Start *start)
{
    const char *stall = inst_get(live->inst, "migration.vm.stall");
    start->memory_bytes = (guint64) vm_memory_bytes(vm_session(live->inst));
    start->token = (ProtobufCBinaryData){sizeof live->hello.token, live->hello.token};
    if (live->hello.sealed) {
        start->key = (ProtobufCBinaryData){sizeof live->hello.key, live->hello.key};
    }
    start->idle_ms = IDLE_MS;
    start->pid = vm_pid(vm_session(live->inst));
    start->limit_bytes_s = (guint64) bandwidth(live);
    start->downtime_us = (guint64) downtime_us(live);
    start->fixed_us = FIXED_US;
    start->rounds_max = ROUNDS_MAX;
    start->stall = g_strcmp0(stall, "abort") == 0      ? PAGES__STALL__ABORT
                   : g_strcmp0(stall, "throttle") == 0 ? PAGES__STALL__THROTTLE
                                                       : PAGES__STALL__PAUSE;
}

static bool
send_memory(LiveOut *live, GError **error)
{
    int fds[1 + CHANNELS] = {-1, -1, -1};
    Pages__Start start = PAGES__START__INIT;
    const StreamerHooks hooks = {.ask = on_wish,
                                 .punched = on_punched,
                                 .answered = on_answered,
                                 .progress = on_progress,
                                 .data = live};
    live->ballooned = false;
    live->ballooned = on_punched(live);
    fds[0] = open(vm_memory_path(vm_session(live->inst)), O_RDWR | O_CLOEXEC);
    bool ok = fds[0] >= 0 || haw_fail(error, HAW_IO, "The guest's memory can't be opened");
    ok = ok && open_lanes(live, fds + 1, error);
    fill_start(live, &start);
    live->brake = livebrake_new(qmp_of(live));
    ok = ok && streamer_run(live->inst->agent, &start, fds, 1 + CHANNELS, &hooks, cancel_of(live),
                            NULL, error);
    livebrake_free(g_steal_pointer(&live->brake));
    for (size_t i = 0; i < G_N_ELEMENTS(fds); i++) {
        fd_close(&fds[i]);
    }
    return ok;
}

/* ---- the switch ---- */

static bool
hand_over(LiveOut *live, GError **error)
{
    if (!liveqemu_prepare(qmp_of(live), true, live->hello.native, error)) {
        return false;
    }
    live->devices = movemux_open(live->mux, MOVEMUX_DEVICES, error);
    if (live->devices < 0) {
        return false;
    }
    bool ok = live->hello.native ? stop_for_good(live, error) && go_through(live, error)
                                 : send_memory(live, error);
    if (!ok || !liveqemu_await(qmp_of(live), "completed", SWITCH_MS, cancel_of(live), error)) {
        return false;
    }
    crash_point("live_source");
    json_auto_t *prepared = movemux_recv(live->mux, "prepared", SWITCH_MS, cancel_of(live), error);
    crash_point("live_source");
    return prepared != NULL;
}

static bool
finish(LiveOut *live, GError **error)
{
    Inst *inst = live->inst;
    crash_point("live_source");
    json_t *changes = json_pack("{s:s}", "volatile.hawser.moved", "true");
    live->begun = false;
    bool ok = inst_set_config(inst, changes, error) && vm_outgoing_finish(inst, error);
    crash_point("live_source");
    livedecide_end(inst, live->hello.uuid);
    movemux_send(live->mux, json_pack("{s:b}", "settled", 1), NULL);
    haw_info("live.moved", KS("inst", inst->name), KS("uuid", live->hello.uuid),
             KU("pause_us", (guint64) live->pause_us));
    return ok;
}

/* After the decision: what the target says is what is. */
static bool
conclude(LiveOut *live, GError **error)
{
    g_autoptr(GError) why = NULL;
    bool owned = false;
    json_auto_t *outcome = movemux_recv(live->mux, "outcome", HEAR_MS, NULL, &why);
    if (outcome != NULL) {
        owned = strcmp(text_of(outcome, "outcome"), "running") == 0;
    } else if (!livedecide_await(live->inst, live->hello.uuid, HEAR_MS, &owned, error)) {
        live->begun = false;
        livedecide_settle(live->inst, live->hello.uuid);
        return false;
    }
    if (!owned) {
        undo(live);
        movemux_send(live->mux, json_pack("{s:b}", "settled", 1), NULL);
        return haw_fail(error, HAW_FAILED, "The target could not take the virtual machine over: %s",
                        outcome != NULL ? text_of(outcome, "why") : "it said no");
    }
    live->pause_us = clock_mono_us() - live->stopped_us;
    g_autofree char *text =
        g_strdup_printf("moved; the guest stood still for %.1f ms", (double) live->pause_us / 1e3);
    json_object_set_new(live->figures, "downtime_us", json_integer(live->pause_us));
    show(live, text);
    return finish(live, error);
}

static bool
decide(LiveOut *live, GError **error)
{
    if (live->copy) { /* both go on */
        movemux_send(live->mux, json_pack("{s:b}", "go", 1), NULL);
        undo(live);
        movemux_send(live->mux, json_pack("{s:b}", "settled", 1), NULL);
        return true;
    }
    if (!livedecide_give(live->inst, live->hello.uuid, live->hello.secret, error)) {
        undo(live);
        return false;
    }
    crash_point("live_source");
    movemux_send(live->mux, json_pack("{s:b}", "go", 1), NULL); /* unheard, it asks */
    crash_point("live_source");
    return conclude(live, error);
}

bool
liveout_move(LiveOut *live, GError **error)
{
    json_auto_t *ready = movemux_recv(live->mux, "ready", READY_MS, cancel_of(live), error);
    if (ready == NULL) {
        return false;
    }
    live->ready = json_incref(json_object_get(ready, "ready"));
    vm_set_moving(vm_session(live->inst), true);
    crash_point("live_source");
    if (!mirror_disks(live, error) || !hand_over(live, error)) {
        undo(live);
        return false;
    }
    return decide(live, error);
}
