/* The source of a live move.
 * G1  Order: preflight of both sides; software stands in for functions of hardware (liveswap.h), before the
 *     target makes ports for the same NICs; volume; the target's QEMU waits; disks mirrored until they stay equal;
 *     memory in rounds; the guest stops; last pages, mirrors' end, devices' state; the target has all; the
 *     decision (livedecide.h); the target runs it; ours ends.
 * G2  Whatever fails before the decision is undone: the guest runs on here, as before.
 * G3  Memory goes by hawser-pages (livememory.h); a kernel that can't track, at either end, leaves it to QEMU's own
 *     migration (livenative.h), and it is said.
 * G4  Cancelling undoes the move, up to the decision; from there on the operation can't be cancelled.
 * G5  Where pages are owed (post-copy), the guest runs at the target when they begin to follow: the move goes on until
 *     they have, and what breaks it then costs the guest, which the target ends.
 * Called by moveinst.c. */
#include "agent/move/live.h"

#include "agent/api/settings.h"
#include "agent/auth/trust.h"
#include "agent/move/livecheck.h"
#include "agent/move/livedecide.h"
#include "agent/move/livememory.h"
#include "agent/move/livenative.h"
#include "agent/move/liveoutobj.h"
#include "agent/move/liveqemu.h"
#include "agent/move/liveswap.h"
#include "agent/move/streamer.h"
#include "agent/vm/vmhost.h"
#include "base/clock.h"
#include "base/crash.h"
#include "base/fd.h"
#include "base/ids.h"
#include "base/log.h"
#include "proto/grammar.h"

#include <string.h>

enum {
    GREET_MS = 60000,
    READY_MS = 300000, /* a QEMU starts */
    HEAR_MS = 20000,
};

static const char *
text_of(json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text != NULL ? text : "";
}

Qmp *
liveout_qmp(LiveOut *live)
{
    return vm_qmp(vm_session(live->inst)); /* the queue is held: the session stays */
}

GCancellable *
liveout_cancel(LiveOut *live)
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

/* Of each disk that moves. */
static json_t *
disk_sizes(LiveOut *live)
{
    json_t *sizes = json_array(), *node;
    json_auto_t *list =
        qmp_call(liveout_qmp(live), "query-named-block-nodes", json_pack("{s:b}", "flat", 1), NULL);
    for (guint i = 0; i < live->disks->len; i++) {
        size_t k;
        json_int_t bytes = 0;
        json_array_foreach (list, k, node) {
            if (strcmp(text_of(node, "node-name"), live->disks->pdata[i]) == 0) {
                bytes = json_integer_value(
                    json_object_get(json_object_get(node, "image"), "virtual-size"));
            }
        }
        json_array_append_new(sizes, json_integer(bytes));
    }
    return sizes;
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

static char *
our_cpu(VmSession *vm)
{
    json_auto_t *layout = vm_layout(vm);
    return strcmp(text_of(layout, "accel"), "kvm") == 0 ? vmhost_cpu_features(NULL) : g_strdup("");
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
    hello->cpu = our_cpu(vm);
    hello->sizes = disk_sizes(live);
    hello->channels = LIVEOUT_CHANNELS;
    hello->marks = true;
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
    if (g_strcmp0(stream, "qemu") == 0) {
        live->native_why = g_strdup("migration.stream says so");
    } else if (!streamer_works(live->inst->agent, &error)) { /* G3 */
        live->native_why = g_strdup(error->message);
    }
    live->hello.native = live->native_why != NULL;
}

/* With what the target says of itself. */
static void
agree_on_stream(LiveOut *live, json_t *preflight)
{
    const char *theirs = text_of(preflight, "native");
    if (live->native_why == NULL && *theirs != '\0') {
        live->native_why = g_strdup_printf("the target: %s", theirs);
        live->hello.native = true;
    }
    if (live->hello.native) {
        haw_warn("live.native", KS("inst", live->inst->name), KS("why", live->native_why));
        json_object_set_new(live->figures, "stream_why", json_string(live->native_why));
    }
    json_object_set_new(live->figures, "stream",
                        json_string(live->hello.native   ? "qemu"
                                    : live->hello.sealed ? "encrypted"
                                                         : "zerocopy"));
}

void
liveout_show(LiveOut *live, const char *progress)
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
    live->may_owe = json_is_true(json_object_get(preflight, "owing"));
    agree_on_stream(live, preflight);
    if (!begin(live, error)) {
        return NULL;
    }
    g_autofree char *text =
        live->hello.native
            ? g_strdup_printf("memory goes by QEMU's own migration: %s", live->native_why)
            : g_strdup("the target is ready for it");
    liveout_show(live, text);
    return g_steal_pointer(&live);
}

static bool
still_guest(LiveOut *live, GError **error)
{
    bool ok = liveqemu_undo(liveout_qmp(live), error);
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
    g_clear_pointer(&live->owing,
                    streamer_free); /* nothing reads the memory when the guest goes on */
    if (vm_session(live->inst) != NULL && qmp_alive(liveout_qmp(live)) &&
        !still_guest(live, &error)) {
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
        streamer_free(live->owing);
        fd_close(&live->devices);
        g_free(live->native_why);
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
        liveout_show(live, text);
    }
}

gint64
liveout_bandwidth(LiveOut *live)
{
    gint64 bytes = 0;
    const char *limit = settings_get(live->inst->agent->settings, "migration.bandwidth");
    return limit != NULL && grammar_parse_size(limit, &bytes, NULL) ? bytes : 0;
}

gint64
liveout_downtime_us(LiveOut *live)
{
    const char *ms = inst_get(live->inst, "migration.vm.downtime");
    return (ms != NULL ? g_ascii_strtoll(ms, NULL, 10) : 50) * 1000;
}

static bool
mirror_disks(LiveOut *live, GError **error)
{
    gint64 bandwidth = liveout_bandwidth(live) / MAX(live->disks->len, 1); /* for all of them */
    for (guint i = 0; i < live->disks->len; i++) {
        g_autofree char *name = NULL;
        if (!movemux_door(live->mux, MOVEMUX_DISK + i, vm_pid(vm_session(live->inst)), &name,
                          error) ||
            !liveqemu_mirror(liveout_qmp(live), live->disks->pdata[i], name, bandwidth, error)) {
            return false;
        }
        crash_point("live_source");
    }
    return liveqemu_mirrors_ready(liveout_qmp(live), tell_disks, live, liveout_cancel(live), error);
}

/* ---- the switch ---- */

/* Beside the last pages. */
bool
liveout_go_through(LiveOut *live, GError **error)
{
    return liveqemu_mirrors_end(liveout_qmp(live), error) &&
           qmp_do(liveout_qmp(live), "migrate-continue",
                  json_pack("{s:s}", "state", "pre-switchover"), error);
}

static bool
hand_over(LiveOut *live, GError **error)
{
    if (!liveqemu_prepare(liveout_qmp(live), true, live->hello.native, error)) {
        return false;
    }
    bool ok = live->hello.native ? livenative_send(live, error) : livememory_send(live, error);
    if (!ok || !liveqemu_await(liveout_qmp(live), "completed", LIVEOUT_SWITCH_MS,
                               liveout_cancel(live), error)) {
        return false;
    }
    crash_point("live_source");
    json_auto_t *prepared =
        movemux_recv(live->mux, "prepared", LIVEOUT_SWITCH_MS, liveout_cancel(live), error);
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

/* G5 */
static bool
pay(LiveOut *live, GError **error)
{
    json_object_set_new(live->figures, "downtime_us", json_integer(live->pause_us));
    if (live->owing == NULL) {
        return true;
    }
    gint64 from_us = clock_mono_us();
    json_object_set_new(live->figures, "postcopy", json_true());
    liveout_show(live, "it runs at the target; the rest of its memory follows");
    crash_point("live_owing");
    bool ok = streamer_pay(live->owing, NULL, error);
    json_object_set_new(live->figures, "postcopy_us", json_integer(clock_mono_us() - from_us));
    g_clear_pointer(&live->owing, streamer_free);
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
        streamer_leave(g_steal_pointer(&live->owing));
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
    bool paid = pay(live, &why);
    g_autofree char *text =
        g_strdup_printf("moved; the guest stood still for %.1f ms", (double) live->pause_us / 1e3);
    liveout_show(live, text);
    if (!finish(live, error)) {
        return false;
    }
    return paid || haw_fail(error, HAW_FAILED,
                            "The virtual machine ran at the target before all of its memory was "
                            "there, and the rest could not follow: %s",
                            why->message);
}

/* G4. Nothing may yield between here and the decision's row. */
static bool
commit(LiveOut *live, GError **error)
{
    if (g_cancellable_is_cancelled(liveout_cancel(live))) {
        return haw_fail(error, HAW_CANCELLED, "The migration was cancelled");
    }
    op_commit(
        moveconn_op(live->conn),
        "The virtual machine has been given to the target: its move can't be cancelled any more");
    return true;
}

static bool
decide(LiveOut *live, GError **error)
{
    if (!commit(live, error)) {
        undo(live);
        return false;
    }
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
    json_auto_t *ready = movemux_recv(live->mux, "ready", READY_MS, liveout_cancel(live), error);
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
