/* The one decision of a live move.
 * Y1  The source decides, in one row: before "given" is stored the guest is the source's, and a source that
 *     does not know a move says that it kept its guest. After it, the guest is the target's.
 * Y2  The target has a row from before it could own the guest. While it does not know, its guest stands
 *     still, and it asks the source: over the move's socket, then over HTTPS, for as long as it takes.
 * Y3  A target whose guest never ran may refuse, as long as the source has it still; it says so once, and
 *     drops its own first.
 * Y4  Rows go when both know: the source's when the target has told, the target's when the source has heard.
 * Y5  A move under way in this process is not settled by anybody else.
 * Called by liveout.c, livein.c and inst.c. */
#include "agent/move/livedecide.h"

#include "agent/inst/create.h"
#include "agent/inst/discard.h"
#include "agent/inst/lifecycle.h"
#include "agent/move/dial.h"
#include "agent/move/livedisk.h"
#include "agent/move/liveqemu.h"
#include "agent/move/liveswap.h"
#include "agent/net/ovn_handover.h"
#include "base/crash.h"
#include "base/log.h"

#include <string.h>

enum { ASK_AGAIN_MS = 1000, LOOK_MS = 500 };
#define MOVED "volatile.hawser.moved"

/* Moves of this process, and instances of moves that are not settled. */
static GHashTable *active;    /* uuid → itself */
static GHashTable *unsettled; /* instance id → uuid */
static FiberSignal changed = FIBER_SIGNAL_INIT;

static void
tables(void)
{
    if (active == NULL) {
        active = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
        unsettled = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, g_free);
    }
}

static void
note(gint64 instance_id, const char *uuid)
{
    gint64 *key = g_new(gint64, 1);
    *key = instance_id;
    g_hash_table_replace(unsettled, key, g_strdup(uuid));
}

static bool
store(Inst *inst, const char *uuid, const char *role, const char *phase, const char *secret,
      json_t *peer, GError **error)
{
    const LiveMove move = {.uuid = (char *) uuid,
                           .role = (char *) role,
                           .phase = (char *) phase,
                           .secret = (char *) secret,
                           .instance_id = inst_id(inst),
                           .peer = peer};
    return live_moves_put(inst->agent->db, &move, error);
}

/* ---- source ---- */

bool
livedecide_begin(Inst *inst, const char *uuid, const char *secret, GError **error)
{
    tables();
    g_hash_table_add(active, g_strdup(uuid)); /* Y5 */
    if (!store(inst, uuid, LIVE_SOURCE, LIVE_MOVING, secret, NULL, error)) {
        g_hash_table_remove(active, uuid);
        return false;
    }
    return true;
}

bool
livedecide_give(Inst *inst, const char *uuid, const char *secret, GError **error)
{
    inst->given_away = true;
    if (!store(inst, uuid, LIVE_SOURCE, LIVE_GIVEN, secret, NULL, error)) { /* Y1 */
        inst->given_away = false;
        return false;
    }
    return true;
}

/* The source's phase; caller frees, NULL when there is no row. */
static char *
phase_of(Agent *agent, const char *uuid)
{
    g_autoptr(LiveMove) move = live_moves_find(agent->db, uuid, LIVE_SOURCE, NULL);
    return move != NULL ? g_steal_pointer(&move->phase) : NULL;
}

bool
livedecide_await(Inst *inst, const char *uuid, gint64 wait_ms, bool *ret_owned, GError **error)
{
    for (gint64 waited = 0; wait_ms < 0 || waited <= wait_ms; waited += LOOK_MS) {
        g_autofree char *phase = phase_of(inst->agent, uuid);
        if (g_strcmp0(phase, LIVE_GIVEN) != 0) {
            *ret_owned = g_strcmp0(phase, LIVE_MOVING) != 0;
            return true;
        }
        fiber_signal_wait(&changed, LOOK_MS, NULL, NULL);
    }
    return haw_fail(
        error, HAW_TIMEOUT,
        "The target does not say whether it has taken the virtual machine over: it stands "
        "still here until it does");
}

void
livedecide_end(Inst *inst, const char *uuid)
{
    g_autoptr(GError) error = NULL;
    inst->given_away = false;
    if (!live_moves_drop(inst->agent->db, uuid, LIVE_SOURCE, &error)) {
        haw_warn("live.row", KS("inst", inst->name), KS("why", error->message));
    }
    g_hash_table_remove(active, uuid);
    gint64 id = inst_id(inst);
    g_hash_table_remove(unsettled, &id);
}

/* The guest goes on here: what an earlier process had begun is undone. */
static bool
go_on(Inst *inst, GError **error)
{
    VmSession *vm = vm_session(inst);
    if (vm == NULL || !qmp_alive(vm_qmp(vm))) {
        return true; /* it has ended, and that is what is seen to elsewhere */
    }
    if (!liveqemu_undo(vm_qmp(vm), error)) {
        return false;
    }
    vm = vm_session(inst);
    if (vm != NULL) {
        vm_set_moving(vm, false);
    }
    if (inst->state == INST_FROZEN) { /* as it was adopted */
        inst_move(inst, INST_THAWING);
        inst_move(inst, INST_RUNNING);
    }
    liveswap_back(inst);
    return true;
}

static bool
let_go(Inst *inst, GError **error)
{
    return inst_set_config(inst, json_pack("{s:s}", MOVED, "true"), error) &&
           (inst->pid == 0 || vm_outgoing_finish(inst, error));
}

typedef struct {
    Inst *inst; /* shares */
    char *uuid;
} Settling;

static void
settle_source(void *data)
{
    Settling *job = data;
    g_autoptr(Inst) inst = job->inst;
    g_autofree char *uuid = job->uuid;
    g_autoptr(GError) error = NULL;
    g_free(job);
    g_auto(FiberHold) hold = inst_hold(inst, "migrate", NULL);
    bool owned = false;
    if (hold != NULL && livedecide_await(inst, uuid, -1, &owned, NULL)) {
        inst->given_away = false;
        if (!(owned ? let_go(inst, &error) : go_on(inst, &error))) {
            haw_error("live.settle", KS("inst", inst->name), KS("why", error->message));
            return; /* the row stays: the next start tries again */
        }
        haw_info("live.settled", KS("inst", inst->name), KS("here", owned ? "no" : "yes"));
    }
    livedecide_end(inst, uuid);
}

void
livedecide_settle(Inst *inst, const char *uuid)
{
    Settling *job = g_new0(Settling, 1);
    *job = (Settling){.inst = inst_ref(inst), .uuid = g_strdup(uuid)};
    fiber_start("live-settle", settle_source, job);
}

/* ---- the source's door ---- */

typedef struct {
    Agent *agent;
    char *uuid, *secret;
} Asked;

static bool
same_secret(const char *one, const char *other)
{
    size_t size = strlen(one);
    unsigned char differs = strlen(other) != size;
    for (size_t i = 0; i < size && differs == 0; i++) {
        differs |= (unsigned char) (one[i] ^ other[i]);
    }
    return differs == 0;
}

/* Y1, Y3: what the target says, against what is stored; the answer. */
static const char *
hear(const Asked *asked, const char *said)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(LiveMove) move = live_moves_find(asked->agent->db, asked->uuid, LIVE_SOURCE, &error);
    if (error != NULL) {
        return "wait";
    }
    if (move == NULL) {
        return "kept";
    }
    if (!same_secret(move->secret, asked->secret)) {
        return "denied";
    }
    if (strcmp(move->phase, LIVE_GIVEN) != 0) {
        return strcmp(move->phase, LIVE_MOVING) != 0        ? "given"
               : g_hash_table_contains(active, asked->uuid) ? "wait" /* Y5 */
                                                            : "kept";
    }
    if (strcmp(said, "prepared") == 0) {
        return "given";
    }
    g_free(move->phase);
    move->phase = g_strdup(strcmp(said, "owned") == 0 ? LIVE_GONE : LIVE_MOVING);
    if (!live_moves_put(asked->agent->db, move, &error)) {
        return "wait";
    }
    fiber_signal_all(&changed);
    return strcmp(said, "owned") == 0 ? "given" : "kept";
}

static void
answer(Ws *ws, void *data)
{
    Asked *asked = data;
    g_autofree guint8 *bytes = NULL;
    size_t size = 0;
    if (ws_recv(ws, &bytes, &size) == WS_TEXT) {
        const char *reply = hear(asked, (const char *) bytes);
        ws_send(ws, WS_TEXT, reply, strlen(reply));
    }
    ws_free(ws);
    g_free(asked->uuid);
    g_free(asked->secret);
    g_free(asked);
}

static bool
get_move(Request *req, GError **error)
{
    const char *secret = req_query(req, "secret");
    if (secret == NULL || *secret == '\0') {
        return haw_fail(error, HAW_INVALID, "Missing websocket secret");
    }
    tables();
    Asked *asked = g_new0(Asked, 1);
    *asked = (Asked){.agent = req_agent(req),
                     .uuid = g_strdup(req_arg(req, "uuid")),
                     .secret = g_strdup(secret)};
    if (req_upgrade_ws(req, answer, asked, error)) {
        return true;
    }
    g_free(asked->uuid);
    g_free(asked->secret);
    g_free(asked);
    return false;
}

const Route livedecide_routes[] = {
    {"GET", "/1.0/hawser/moves/{uuid}/websocket", get_move, ROUTE_UNTRUSTED},
    {NULL, NULL, NULL, 0},
};

/* ---- target ---- */

bool
livedecide_prepare(Inst *inst, const char *uuid, const char *secret, json_t *peer, GError **error)
{
    tables();
    g_hash_table_add(active, g_strdup(uuid));
    note(inst_id(inst), uuid);
    return store(inst, uuid, LIVE_TARGET, LIVE_PREPARED, secret, peer, error);
}

/* One try at each address; the source's answer, NULL when it can't be had. */
static char *
call_source(const LiveMove *move, const char *said)
{
    size_t i;
    json_t *each;
    const char *pem = json_string_value(json_object_get(move->peer, "certificate"));
    json_array_foreach (json_object_get(move->peer, "urls"), i, each) {
        g_autofree char *url =
            g_strdup_printf("%s/1.0/hawser/moves/%s", json_string_value(each), move->uuid);
        g_autoptr(GError) error = NULL;
        g_autoptr(Ws) ws = dial_websocket(url, move->secret, pem, NULL, &error);
        g_autofree guint8 *bytes = NULL;
        size_t size = 0;
        if (ws != NULL && ws_send(ws, WS_TEXT, said, strlen(said)) &&
            ws_recv(ws, &bytes, &size) == WS_TEXT) {
            return (char *) g_steal_pointer(&bytes);
        }
        haw_debug("live.source_away", KS("url", url),
                  KS("why", error != NULL ? error->message : "it hung up"));
    }
    return NULL;
}

bool
livedecide_ask(Inst *inst, const char *uuid)
{
    g_autoptr(LiveMove) move = live_moves_find(inst->agent->db, uuid, LIVE_TARGET, NULL);
    for (bool warned = false;; warned = true) {
        g_autofree char *word = move != NULL ? call_source(move, "prepared") : g_strdup("kept");
        if (g_strcmp0(word, "given") == 0) {
            return true;
        }
        if (g_strcmp0(word, "kept") == 0 || g_strcmp0(word, "denied") == 0) {
            return false;
        }
        if (!warned) {
            haw_warn("live.in_doubt", KS("inst", inst->name),
                     KS("why", "the source does not answer: the guest waits for its word"));
        }
        fiber_sleep_ms(ASK_AGAIN_MS, NULL, NULL);
    }
}

void
livedecide_forget(Inst *inst, const char *uuid)
{
    gint64 id = inst_id(inst);
    g_autoptr(GError) error = NULL;
    if (!live_moves_drop(inst->agent->db, uuid, LIVE_TARGET, &error)) {
        haw_warn("live.row", KS("inst", inst->name), KS("why", error->message));
    }
    g_hash_table_remove(active, uuid);
    g_hash_table_remove(unsettled, &id);
}

typedef struct {
    Agent *agent;
    char *uuid;
    bool owned;
} Telling;

/* Y4. A source that does not know the move (any more) has heard. */
static void
tell_source(void *data)
{
    Telling *job = data;
    g_autofree char *uuid = job->uuid;
    Agent *agent = job->agent;
    g_autoptr(LiveMove) move = live_moves_find(agent->db, uuid, LIVE_TARGET, NULL);
    const char *said = job->owned ? "owned" : "refused";
    g_free(job);
    while (move != NULL) {
        g_autofree char *word = call_source(move, said);
        if (word != NULL && strcmp(word, "wait") != 0) {
            break;
        }
        fiber_sleep_ms(ASK_AGAIN_MS, NULL, NULL);
    }
    live_moves_drop(agent->db, uuid, LIVE_TARGET, NULL);
    g_hash_table_remove(active, uuid);
    if (move != NULL) {
        g_hash_table_remove(unsettled, &move->instance_id);
    }
}

void
livedecide_tell(Agent *agent, const char *uuid, bool owned)
{
    Telling *job = g_new0(Telling, 1);
    *job = (Telling){.agent = agent, .uuid = g_strdup(uuid), .owned = owned};
    fiber_start("live-tell", tell_source, job);
}

/* After a restart: the QEMU that waits here runs, or goes. */
static void
settle_target(void *data)
{
    Settling *job = data;
    g_autoptr(Inst) inst = job->inst;
    g_autofree char *uuid = job->uuid;
    g_autoptr(GError) error = NULL;
    Agent *agent = inst->agent;
    g_free(job);
    g_auto(FiberHold) hold = inst_hold(inst, "create", NULL);
    bool ours = hold != NULL && livedecide_ask(inst, uuid);
    VmSession *vm = vm_session(inst);
    if (ours) {
        bool ran = vm != NULL && qmp_do(vm_qmp(vm), "cont", NULL, &error);
        if (ran && inst->state == INST_FROZEN) {
            inst_move(inst, INST_THAWING);
            inst_move(inst, INST_RUNNING);
        }
        ovn_handover_take(agent, inst_id(inst));
        /* QEMU gone: its disk is what there is, and it is ours. */
        create_finish(inst, "copy", NULL);
        liveswap_back(inst);
        haw_info("live.settled", KS("inst", inst->name), KS("here", "yes"));
        livedecide_tell(agent, uuid, true);
        return;
    }
    if (hold != NULL) {
        if (inst->pid != 0) {
            lifecycle_kill(inst, NULL);
        }
        livedisk_clear(inst);
        if (!discard_instance(inst, &error)) {
            haw_warn("live.discard", KS("inst", inst->name), KS("why", error->message));
        }
        haw_info("live.settled", KS("inst", inst->name), KS("here", "no"));
    }
    livedecide_tell(agent, uuid, false);
}

/* ---- at start ---- */

bool
livedecide_holds(Inst *inst)
{
    gint64 id = inst_id(inst);
    return unsettled != NULL && g_hash_table_contains(unsettled, &id);
}

bool
livedecide_load(Agent *agent, GError **error)
{
    tables();
    g_autoptr(GPtrArray) rows = live_moves_list(agent->db, error);
    for (guint i = 0; rows != NULL && i < rows->len; i++) {
        const LiveMove *move = rows->pdata[i];
        note(move->instance_id, move->uuid);
    }
    return rows != NULL;
}

static void
resume(InstTable *table, const LiveMove *move)
{
    g_autoptr(GPtrArray) all = inst_list(table, NULL);
    bool source = strcmp(move->role, LIVE_SOURCE) == 0;
    for (guint i = 0; i < all->len; i++) {
        Inst *inst = all->pdata[i];
        if (inst_id(inst) == move->instance_id) {
            Settling *job = g_new0(Settling, 1);
            *job = (Settling){.inst = inst_ref(inst), .uuid = g_strdup(move->uuid)};
            inst->given_away = source && strcmp(move->phase, LIVE_GIVEN) == 0;
            fiber_start("live-settle", source ? settle_source : settle_target, job);
            return;
        }
    }
    if (source) { /* deleted meanwhile: nothing of it is left here to run */
        live_moves_drop(table->agent->db, move->uuid, LIVE_SOURCE, NULL);
    } else {
        livedecide_tell(table->agent, move->uuid, false);
    }
}

void
livedecide_start(InstTable *table)
{
    g_autoptr(GPtrArray) rows = live_moves_list(table->agent->db, NULL);
    for (guint i = 0; rows != NULL && i < rows->len; i++) {
        resume(table, rows->pdata[i]);
    }
}
