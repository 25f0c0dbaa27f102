/* The target of a live move.
 * H1  Until the source has given the guest away, nothing of it runs here: QEMU waits, and all of it goes
 *     when the move fails. After "prepared" was said only the source knows (livedecide.h).
 * H2  What the source says is checked before it is used: sizes, numbers, names of disks. Pages are written by
 *     hawser-pages into the guest's own memory file, disks by QEMU into the guest's own disk.
 * H3  Devices' state is kept back until the memory is whole (livestate.h).
 * H4  A QEMU of ours that ends while it waits ends the move at once, whatever is being waited for.
 * H5  Where this kernel can't do what hawser-pages needs, QEMU's own migration is asked for (livenative.h).
 * H6  A guest that runs before all of its memory is there (post-copy) is held back from what is missing by hawser-pages.
 *     What ends that before all has come ends the guest, as a power cut would: it is never let go on with old pages.
 * Called by moveinst.c. */
#include "agent/move/live.h"

#include "agent/api/listen.h"
#include "agent/inst/lifecycle.h"
#include "agent/move/lanes.h"
#include "agent/move/livecheck.h"
#include "agent/move/livedecide.h"
#include "agent/move/livedisk.h"
#include "agent/move/livefresh.h"
#include "agent/move/livehello.h"
#include "agent/move/livenative.h"
#include "agent/move/liveqemu.h"
#include "agent/move/livestate.h"
#include "agent/move/liveswap.h"
#include "agent/move/streamer.h"
#include "agent/net/ovn_handover.h"
#include "base/clock.h"
#include "base/crash.h"
#include "base/fd.h"
#include "base/log.h"
#include "proto/keys.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    HELLO_MS = 60000,
    LANES_MS = 30000,
    IDLE_MS = 30000,
    LOAD_MS = 60000,
    DATA_MS = 24 * 3600 * 1000, /* disks */
    GO_MS = 20000,
    WATCH_MS = 200,
};

struct LiveIn {
    Inst *inst;     /* shares */
    MoveConn *conn; /* borrowed */
    MoveMux *mux;   /* owns */
    struct live_hello hello;
    bool same; /* not a copy */
    int listener, memory_fd;
    LiveState *state;   /* owns; H3 */
    LiveNative *native; /* owns; memory comes by QEMU's own migration */
    bool owing;         /* pages may be owed to us */
    Streamer *debt;     /* owns; receives them */
    bool watching;
    FiberSignal happened;
    GCancellable *ended;
    GCancellable *stop; /* the client's cancel, or H4 */
    gulong stop_id;
};

static const char *
text_of(json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text != NULL ? text : "";
}

static Qmp *
qmp_of(LiveIn *live)
{
    VmSession *vm = vm_session(live->inst);
    return vm != NULL ? vm_qmp(vm) : NULL;
}

static bool
alive(LiveIn *live, GError **error)
{
    Qmp *qmp = qmp_of(live);
    return (qmp != NULL && qmp_alive(qmp)) ||
           haw_fail(error, HAW_FAILED, "QEMU ended at the target");
}

static GCancellable *
cancel_of(LiveIn *live)
{
    return live->stop;
}

static void
pass_cancel(GCancellable *theirs, GCancellable *ours)
{
    g_cancellable_cancel(ours);
}

/* ---- preflight ---- */

static bool
is_same(LiveIn *live)
{
    const char *uuid = inst_get(live->inst, "volatile.uuid");
    return g_strcmp0(uuid, text_of(live->hello.identity, "volatile.uuid")) == 0;
}

/* The very same machine: its generation, too. */
static bool
take_identity(LiveIn *live, GError **error)
{
    static const char *const keys[] = {"volatile.uuid.generation",
                                       "volatile.cloud-init.instance-id", NULL};
    json_t *changes = json_object();
    for (const char *const *key = keys; live->same && *key != NULL; key++) {
        const char *value = text_of(live->hello.identity, *key);
        if (g_uuid_string_is_valid(value)) {
            json_object_set_new(changes, *key, json_string(value));
        }
    }
    json_object_set_new(changes, "volatile.hawser.moved", json_null());
    return inst_set_config(live->inst, changes, error);
}

LiveIn *
livein_greet(Inst *inst, MoveConn *conn, Ws **state, GError **error)
{
    g_autoptr(LiveIn) live = g_new0(LiveIn, 1);
    live->inst = inst_ref(inst);
    live->conn = conn;
    live->mux = movemux_new(state);
    live->listener = live->memory_fd = -1;
    live->happened = (FiberSignal) FIBER_SIGNAL_INIT;
    live->ended = g_cancellable_new();
    live->stop = g_cancellable_new();
    live->stop_id = g_cancellable_connect(moveconn_cancel(conn), G_CALLBACK(pass_cancel),
                                          g_object_ref(live->stop), g_object_unref);
    g_autoptr(GError) pageless = NULL;
    json_auto_t *hello = movemux_recv(live->mux, "hello", HELLO_MS, cancel_of(live), error);
    if (hello == NULL ||
        !livehello_read(json_object_get(hello, "hello"), &live->hello, error)) { /* H2 */
        return NULL;
    }
    live->same = is_same(live);
    json_t *blockers = livecheck_here(live->inst, &live->hello);
    bool good = livehello_check(live->hello.blockers, blockers, error);
    if (!streamer_works(live->inst->agent, &pageless)) { /* H5 */
        live->hello.native = true;
    }
    json_t *preflight =
        json_pack("{s:{s:o,s:b,s:b,s:s}}", "preflight", "blockers", blockers, "same", live->same,
                  "owing", 1, "native", pageless != NULL ? pageless->message : "");
    if (!movemux_send(live->mux, preflight, good ? error : NULL) || !good) {
        return NULL;
    }
    return take_identity(live, error) ? g_steal_pointer(&live) : NULL;
}

gint64
livein_disk_bytes(LiveIn *live)
{
    return json_integer_value(json_array_get(live->hello.sizes, 0));
}

void
livein_free(LiveIn *live)
{
    if (live == NULL) {
        return;
    }
    g_cancellable_cancel(live->ended);
    while (live->watching) {
        fiber_signal_wait(&live->happened, -1, NULL, NULL);
    }
    streamer_free(live->debt);
    livestate_free(live->state);
    livenative_free(live->native);
    movemux_free(live->mux);
    fd_close(&live->listener);
    fd_close(&live->memory_fd);
    livehello_done(&live->hello);
    g_object_unref(live->ended);
    g_cancellable_disconnect(moveconn_cancel(live->conn), live->stop_id);
    g_object_unref(live->stop);
    inst_unref(live->inst);
    g_free(live);
}

/* ---- getting ready ---- */

/* H4: until the guest is ours, or the move has ended. */
static void
watch_qemu(void *data)
{
    LiveIn *live = data;
    while (alive(live, NULL) && fiber_sleep_ms(WATCH_MS, live->ended, NULL)) {
        continue;
    }
    g_cancellable_cancel(live->stop);
    live->watching = false;
    fiber_signal_all(&live->happened);
}

static bool
serve_disks(LiveIn *live, GError **error)
{
    size_t i;
    json_t *each;
    int fds[MOVEMUX_DEVICES] = {0};
    g_autoptr(GPtrArray) nodes = g_ptr_array_new();
    json_array_foreach (live->hello.disks, i, each) {
        g_ptr_array_add(nodes, (char *) json_string_value(each));
    }
    guint n = nodes->len;
    g_ptr_array_add(nodes, NULL);
    if (!liveqemu_serve(qmp_of(live), (const char *const *) nodes->pdata, fds, error)) {
        return false;
    }
    bool ok = true;
    for (guint k = 0; k < n; k++) {
        ok = ok && movemux_attach(live->mux, MOVEMUX_DISK + k, &fds[k], error);
        fd_close(&fds[k]);
    }
    return ok;
}

/* Where the source may reach us. */
static json_t *
our_hosts(Agent *agent)
{
    size_t i;
    json_t *each, *hosts = json_array();
    json_auto_t *bound = server_addresses(agent->server);
    json_auto_t *any = json_array_size(bound) == 0 ? listen_addresses("", "1") : json_incref(bound);
    json_array_foreach (any, i, each) {
        g_autofree char *host = NULL, *port = NULL;
        listen_split(json_string_value(each), "1", &host, &port);
        json_array_append_new(hosts, json_string(host));
    }
    return hosts;
}

static bool
await_state(LiveIn *live, GError **error)
{
    haw_autofd int fd = -1;
    if (!liveqemu_prepare(qmp_of(live), false, live->hello.native, error)) {
        return false;
    }
    if (live->hello.native) {
        live->native = livenative_take(vm_session(live->inst), live->mux,
                                       livenative_channels(&live->hello, !live->same), error);
        return live->native != NULL;
    }
    live->state = livestate_new(live->mux, live->hello.marks, &fd, error);
    return live->state != NULL && liveqemu_migrate(qmp_of(live), "migrate-incoming", fd, error);
}

static bool
get_ready(LiveIn *live, GError **error)
{
    g_autofree char *path = NULL;
    json_t *layout = live->hello.layout;
    gint64 page = json_integer_value(json_object_get(layout, "page_bytes"));
    guint16 port = 0;
    crash_point("live_target");
    if (!liveswap_expect(live->inst, error) ||
        !vm_memory_make(live->inst, live->hello.memory, page, &path, error) ||
        !vm_incoming_begin(live->inst, layout, error)) {
        vm_memory_drop(live->inst, NULL);
        return haw_push(error, "Start QEMU at the target");
    }
    live->watching = true;
    fiber_start("live-qemu", watch_qemu, live);
    crash_point("live_target");
    live->memory_fd = open(path, O_RDWR | O_CLOEXEC);
    if (live->memory_fd < 0) {
        return haw_fail_errno(error, errno, "Open '%s'", path);
    }
    json_auto_t *peer =
        json_pack("{s:O,s:O}", "urls", live->hello.urls, "certificate", live->hello.certificate);
    if (!livedecide_prepare(live->inst, live->hello.uuid, live->hello.secret, peer, error)) {
        return false;
    }
    crash_point("live_target");
    live->listener = live->hello.native ? -1 : lanes_listen(NULL, &port, error);
    if ((live->listener < 0 && !live->hello.native) || !alive(live, error) ||
        !serve_disks(live, error) || !await_state(live, error)) {
        return false;
    }
    return movemux_send(live->mux,
                        json_pack("{s:{s:i,s:o}}", "ready", "port", (int) port, "hosts",
                                  our_hosts(live->inst->agent)),
                        error);
}

/* ---- memory ---- */

/* The source says whether it reaches us directly; until then its connections wait in the listener. */
static bool
open_lanes(LiveIn *live, int *fds, GError **error)
{
    json_auto_t *said = movemux_recv(live->mux, "direct", DATA_MS, cancel_of(live), error);
    if (said == NULL) {
        return false;
    }
    live->owing = json_is_true(json_object_get(said, "owing"));
    if (json_is_true(json_object_get(said, "direct"))) {
        return lanes_accept(live->listener, live->hello.token, live->hello.channels, LANES_MS, fds,
                            cancel_of(live), error);
    }
    for (guint i = 0; i < live->hello.channels; i++) {
        fds[i] = movemux_open(live->mux, MOVEMUX_PAGES + i, error);
        if (fds[i] < 0) {
            return false;
        }
    }
    return true;
}

static void
tell_memory(const Pages__Progress *at, void *data)
{
    LiveIn *live = data;
    g_autofree char *text =
        g_strdup_printf("memory: %" G_GUINT64_FORMAT " MB received", at->sent_bytes / 1000000);
    op_update(moveconn_op(live->conn), json_pack("{s:s}", "live_progress", text));
}

static bool
receive_memory(LiveIn *live, GError **error)
{
    int fds[1 + LANES_MAX];
    const StreamerHooks hooks = {.progress = tell_memory, .data = live};
    Pages__Start start = PAGES__START__INIT;
    for (size_t i = 0; i < G_N_ELEMENTS(fds); i++) {
        fds[i] = -1;
    }
    start.sink = true;
    start.memory_bytes = (guint64) live->hello.memory;
    start.token = (ProtobufCBinaryData){sizeof live->hello.token, live->hello.token};
    if (live->hello.sealed) {
        start.key = (ProtobufCBinaryData){sizeof live->hello.key, live->hello.key};
    }
    start.idle_ms = IDLE_MS;
    fds[0] = fd_steal(&live->memory_fd);
    bool ok = open_lanes(live, fds + 1, error);
    fd_close(&live->listener);
    crash_point("live_target");
    if (live->owing && vm_session(live->inst) != NULL) {
        start.guard_pid = vm_pid(vm_session(live->inst));
    }
    ok = ok && streamer_run(live->inst->agent, &start, fds, 1 + live->hello.channels, &hooks,
                            cancel_of(live), NULL, &live->debt, error);
    for (size_t i = 0; i < G_N_ELEMENTS(fds); i++) {
        fd_close(&fds[i]);
    }
    return ok;
}

/* ---- the switch ---- */

static bool
take_all(LiveIn *live, GError **error)
{
    if (!live->hello.native && !receive_memory(live, error)) {
        return false;
    }
    crash_point("live_target");
    if (live->state != NULL) {
        livestate_release(live->state);
    }
    if (!alive(live, error) ||
        !liveqemu_await(qmp_of(live), "completed", live->hello.native ? DATA_MS : LOAD_MS,
                        cancel_of(live), error)) {
        return false;
    }
    return alive(live, error) && liveqemu_serve_end(qmp_of(live), error);
}

/* "go", or, when it can't be heard, the source's word: true when the guest is ours. */
static bool
is_ours(LiveIn *live)
{
    g_autoptr(GError) error = NULL;
    op_commit(
        moveconn_op(live->conn),
        "Everything of the virtual machine is here, and its source decides: the move can't be "
        "cancelled any more");
    bool sent = movemux_send(live->mux, json_pack("{s:b}", "prepared", 1), &error);
    crash_point("live_target");
    json_auto_t *go = sent ? movemux_recv(live->mux, "go", GO_MS, NULL, &error) : NULL;
    if (go != NULL) {
        return true;
    }
    haw_info("live.asks", KS("inst", live->inst->name), KS("why", error->message));
    return livedecide_ask(live->inst, live->hello.uuid);
}

static bool
run_it(LiveIn *live, GError **error)
{
    crash_point("live_target");
    if (!alive(live, error) || (!live->same && !livefresh_cut(live->inst, error)) ||
        !alive(live, error) || !qmp_do(qmp_of(live), "cont", NULL, error)) {
        return false;
    }
    crash_point("live_target");
    if (live->same && qmp_of(live) != NULL) { /* switches and controllers learn where it is now */
        qmp_do(qmp_of(live), "announce-self",
               json_pack("{s:i,s:i,s:i,s:i}", "initial", 20, "max", 200, "rounds", 5, "step", 50),
               NULL);
    }
    return true;
}

static void
undo(LiveIn *live)
{
    vm_incoming_abort(live->inst);
    vm_memory_drop(live->inst, NULL);
    livedisk_clear(live->inst);
}

/* Both know, or the source is told until it does. */
static void
settle(LiveIn *live)
{
    json_auto_t *settled = movemux_recv(live->mux, "settled", GO_MS, NULL, NULL);
    liveswap_back(live->inst); /* the source has let its ports go; while the row is there: W1 */
    if (settled != NULL) {
        livedecide_forget(live->inst, live->hello.uuid);
    } else {
        livedecide_tell(live->inst->agent, live->hello.uuid, true);
    }
}

/* H6 */
static bool
await_rest(LiveIn *live, GError **error)
{
    GError *why = NULL;
    if (live->debt == NULL) {
        return true;
    }
    crash_point("live_owed");
    bool ok = streamer_pay(live->debt, NULL, &why); /* whether the source's agent lives or not */
    if (!ok) {
        lifecycle_kill(live->inst, NULL);
        haw_fail(error, HAW_FAILED,
                 "The virtual machine was ended, as by a power cut: it ran here, and the rest of "
                 "its memory did not come (%s). Start it again",
                 why->message);
        g_error_free(why);
    }
    g_clear_pointer(&live->debt, streamer_free);
    return ok;
}

static bool
refuse(LiveIn *live, GError *why, GError **error)
{
    undo(live);
    json_t *outcome = json_pack("{s:s,s:s}", "outcome", "refused", "why", why->message);
    if (movemux_send(live->mux, outcome, NULL)) {
        settle(live);
    } else {
        livedecide_tell(live->inst->agent, live->hello.uuid, false);
    }
    g_propagate_error(error, why);
    return false;
}

bool
livein_settle(LiveIn *live, GError **error)
{
    bool ok = await_rest(live, error);
    settle(live);
    if (ok && !live->same) {
        livefresh_start(live->inst);
    }
    return ok;
}

bool
livein_move(LiveIn *live, GError **error)
{
    GError *why = NULL;
    if (!get_ready(live, &why) || !take_all(live, &why)) {
        if (live->watching || alive(live, NULL)) {
            g_propagate_error(error, g_steal_pointer(&why));
        } else { /* H4: what was waited for tells less */
            alive(live, error);
            g_clear_error(&why);
        }
        undo(live);
        livedecide_forget(live->inst, live->hello.uuid); /* the source can't have given it away */
        return false;
    }
    if (!is_ours(live)) {
        undo(live);
        livedecide_forget(live->inst, live->hello.uuid);
        return haw_fail(error, HAW_FAILED, "The source kept the virtual machine");
    }
    if (!run_it(live, &why)) {
        return refuse(live, why, error);
    }
    ovn_handover_take(live->inst->agent, inst_id(live->inst));
    crash_point("live_target");
    movemux_send(live->mux, json_pack("{s:s}", "outcome", "running"), NULL);
    bool ok = vm_incoming_finish(live->inst, error);
    crash_point("live_target");
    if (!ok) {
        settle(live);
    }
    return ok;
}
