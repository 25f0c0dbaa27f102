/* A source's memory, by hawser-pages.
 * M1  The guest is stopped twice a round for a moment, and once for good, by hawser-pages' wish: pages are
 *     armed only while it stands still.
 * M2  Pages go by connections of their own, sealed unless the operator trusts the network, or through the
 *     move's socket where the hosts can't reach each other.
 * M3  With migration.vm.stall=postcopy, and not for a copy, whose source goes on writing: what the guest wrote last
 *     follows while it runs at the target.
 * Called by liveout.c. */
#include "agent/move/livememory.h"

#include "agent/api/settings.h"
#include "agent/move/lanes.h"
#include "agent/move/liveqemu.h"
#include "agent/move/streamer.h"
#include "base/clock.h"
#include "base/crash.h"
#include "base/fd.h"

#include <fcntl.h>
#include <string.h>

enum {
    FIXED_US = 15000, /* of the pause: devices' state, the decision */
    IDLE_MS = 30000,
    LANES_MS = 3000,
    PAGE = 4096,
};

/* The guest stands still when QEMU comes to its door, with no device's state sent yet. */
static bool
stop_for_good(LiveOut *live, GError **error)
{
    crash_point("live_source");
    if (!liveqemu_migrate(liveout_qmp(live), "migrate", live->devices, error)) {
        return false;
    }
    fd_close(&live->devices); /* QEMU has its own */
    bool ok = liveqemu_await(liveout_qmp(live), "pre-switchover", LIVEOUT_SWITCH_MS,
                             liveout_cancel(live), error);
    live->stopped_us = clock_mono_us();
    movemux_mark(live->mux, MOVEMUX_DEVICES);
    crash_point("live_source");
    return ok;
}

static bool
on_wish(Pages__Wish wish, void *data, GError **error)
{
    LiveOut *live = data;
    switch (wish) {
    case PAGES__WISH__STOP:
        livebrake_hold(live->brake);
        return qmp_do(liveout_qmp(live), "stop", NULL, error);
    case PAGES__WISH__RESUME: {
        bool ok = qmp_do(liveout_qmp(live), "cont", NULL, error);
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
           liveqemu_ballooned(liveout_qmp(live), vm_memory_bytes(vm_session(live->inst)));
}

static bool
on_answered(Pages__Wish wish, void *data, GError **error)
{
    return wish != PAGES__WISH__STOP_FINAL || liveout_go_through(data, error);
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
    if (at->rdma) {
        json_object_set_new(live->figures, "route", json_string("rdma"));
    }
    json_decref(now);
    if (clock_mono_us() - live->said_us > 200000 && live->stopped_us == 0) {
        live->said_us = clock_mono_us();
        liveout_show(live, text);
    }
}

/* M2 */
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
                                LIVEOUT_CHANNELS, LANES_MS, fds, liveout_cancel(live), &why);
    if (!movemux_send(live->mux, json_pack("{s:b,s:b}", "direct", direct, "owing", live->may_owe),
                      error)) {
        return false;
    }
    json_object_set_new(live->figures, "route", json_string(direct ? "direct" : "relayed"));
    for (int n = 0; n < LIVEOUT_CHANNELS && !direct; n++) {
        fds[n] = movemux_open(live->mux, MOVEMUX_PAGES + (guint) n, error);
        if (fds[n] < 0) {
            return false;
        }
    }
    return true;
}

/* M3 */
static bool
may_owe(LiveOut *live)
{
    json_auto_t *layout = vm_layout(vm_session(live->inst));
    return live->may_owe && !live->copy &&
           g_strcmp0(inst_get(live->inst, "migration.vm.stall"), "postcopy") == 0 &&
           json_integer_value(json_object_get(layout, "page_bytes")) <= PAGE;
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
    start->limit_bytes_s = (guint64) liveout_bandwidth(live);
    start->downtime_us = (guint64) liveout_downtime_us(live);
    start->fixed_us = FIXED_US;
    start->rounds_max = LIVEOUT_ROUNDS_MAX;
    start->rdma = settings_bool(live->inst->agent->settings, "migration.rdma");
    start->stall = g_strcmp0(stall, "abort") == 0      ? PAGES__STALL__ABORT
                   : g_strcmp0(stall, "throttle") == 0 ? PAGES__STALL__THROTTLE
                   : live->may_owe                     ? PAGES__STALL__POSTCOPY
                                                       : PAGES__STALL__PAUSE;
}

bool
livememory_send(LiveOut *live, GError **error)
{
    int fds[1 + LIVEOUT_CHANNELS] = {-1, -1, -1};
    Pages__Start start = PAGES__START__INIT;
    const StreamerHooks hooks = {.ask = on_wish,
                                 .punched = on_punched,
                                 .answered = on_answered,
                                 .progress = on_progress,
                                 .data = live};
    live->devices = movemux_open(live->mux, MOVEMUX_DEVICES, error);
    if (live->devices < 0) {
        return false;
    }
    live->ballooned = false;
    live->ballooned = on_punched(live);
    live->may_owe = may_owe(live);
    fds[0] = open(vm_memory_path(vm_session(live->inst)), O_RDWR | O_CLOEXEC);
    bool ok = fds[0] >= 0 || haw_fail(error, HAW_IO, "The guest's memory can't be opened");
    ok = ok && open_lanes(live, fds + 1, error);
    fill_start(live, &start);
    live->brake = livebrake_new(liveout_qmp(live));
    ok = ok && streamer_run(live->inst->agent, &start, fds, 1 + LIVEOUT_CHANNELS, &hooks,
                            liveout_cancel(live), NULL, &live->owing, error);
    livebrake_free(g_steal_pointer(&live->brake));
    for (size_t i = 0; i < G_N_ELEMENTS(fds); i++) {
        fd_close(&fds[i]);
    }
    return ok;
}
