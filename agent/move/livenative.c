/* QEMU's own migration of memory.
 * T1  Each connection that QEMU makes is a stream of the move's socket, in the order in which they are made: the
 *     first is its main one, the others are its channels. It is TLS between agents whatever migration.stream says.
 * T2  The target's QEMU reads a greeting as soon as somebody connects, and does nothing else until it has it: so a
 *     connection is made once there is something to read, and the main one first.
 * T3  QEMU converges by itself, to migration.vm.downtime. Where it has not after LIVEOUT_ROUNDS_MAX rounds,
 *     migration.vm.stall says what is done.
 * T4  QEMU connects to a socket in the run directory, and makes its own in the one that it may write; it
 *     has both directories as descriptors.
 * Called by liveout.c and livein.c. */
#include "agent/move/livenative.h"

#include "agent/move/liveqemu.h"
#include "agent/vm/vmsock.h"
#include "agent/vm/vmuser.h"
#include "base/clock.h"
#include "base/crash.h"
#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define SOCKET "move.sock"

enum { CHUNK = 256 * 1024, LOOK_MS = 20, SHOW_US = 500000, PAUSE_MOST_MS = 2000000 };

guint
livenative_channels(const struct live_hello *hello, bool copy)
{
    return copy ? 0 : hello->channels;
}

static bool
set_channels(Qmp *qmp, guint channels, GError **error)
{
    static const char *const several[] = {"multifd", NULL};
    return channels == 0 ||
           (liveqemu_set(qmp, several, true, error) &&
            liveqemu_tune(qmp, json_pack("{s:i}", "multifd-channels", (int) channels), error));
}

/* T4 */
static json_t *
uri(int dir_fd)
{
    g_autofree char *text = g_strdup_printf("unix:/proc/self/fd/%d/" SOCKET, dir_fd);
    return json_pack("{s:s}", "uri", text);
}

static void
forget_socket(const char *dir)
{
    g_autofree char *path = g_build_filename(dir, SOCKET, NULL);
    unlink(path);
}

/* ---- source ---- */

/* QEMU's connections until they are all there. */
typedef struct {
    MoveMux *mux;
    int listener;
    guint count;
    GCancellable *stop;
    bool working;
    FiberSignal ended;
} Door;

static guint
stream_of(guint connection)
{
    return connection == 0 ? MOVEMUX_DEVICES : MOVEMUX_PAGES + connection - 1;
}

/* T1 */
static void
keep_door(void *data)
{
    Door *door = data;
    for (guint i = 0; i < door->count;) {
        if (!fiber_wait_fd(door->listener, G_IO_IN, -1, door->stop, NULL)) {
            break;
        }
        int fd = accept4(door->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd >= 0 && !movemux_attach(door->mux, stream_of(i++), &fd, NULL)) {
            fd_close(&fd); /* the other side has gone: QEMU sees it */
        }
    }
    door->working = false;
    fiber_signal_all(&door->ended);
}

static void
tell(LiveOut *live, json_t *info)
{
    json_t *ram = json_object_get(info, "ram");
    json_int_t sent = json_integer_value(json_object_get(ram, "transferred"));
    json_int_t round = json_integer_value(json_object_get(ram, "dirty-sync-count"));
    double mbps = json_number_value(json_object_get(ram, "mbps"));
    json_int_t pages = json_integer_value(json_object_get(ram, "dirty-pages-rate"));
    g_autofree char *text = g_strdup_printf("memory: round %" JSON_INTEGER_FORMAT
                                            ", %" JSON_INTEGER_FORMAT " MB at %.0f MB/s by QEMU",
                                            round, sent / 1000000, mbps / 8);
    json_auto_t *now = json_pack("{s:I,s:I,s:I,s:I}", "round", round, "sent", sent, "rate",
                                 (json_int_t) (mbps * 125000), "dirty_rate", pages * 4096);
    json_object_update(live->figures, now);
    if (clock_mono_us() - live->said_us > SHOW_US) {
        live->said_us = clock_mono_us();
        liveout_show(live, text);
    }
}

/* T3 */
static bool
give_way(LiveOut *live, GError **error)
{
    const char *stall = inst_get(live->inst, "migration.vm.stall");
    if (g_strcmp0(stall, "abort") == 0) {
        return haw_fail(error, HAW_FAILED,
                        "the guest writes faster than its memory can be sent "
                        "(migration.vm.stall=abort)");
    }
    return liveqemu_tune(liveout_qmp(live), json_pack("{s:i}", "downtime-limit", PAUSE_MOST_MS),
                         error);
}

/* Up to the last door. For as long as it takes: a peer that has gone ends QEMU's connections. */
static bool
await_door(LiveOut *live, GError **error)
{
    bool gave_way = false;
    for (;;) {
        json_auto_t *info = qmp_call(liveout_qmp(live), "query-migrate", NULL, error);
        const char *status = json_string_value(json_object_get(info, "status"));
        if (info == NULL) {
            return false;
        }
        if (g_strcmp0(status, "active") != 0 && g_strcmp0(status, "setup") != 0) {
            return liveqemu_await(liveout_qmp(live), "pre-switchover", LIVEOUT_SWITCH_MS,
                                  liveout_cancel(live), error);
        }
        tell(live, info);
        json_t *rounds = json_object_get(json_object_get(info, "ram"), "dirty-sync-count");
        if (!gave_way && json_integer_value(rounds) > LIVEOUT_ROUNDS_MAX) {
            gave_way = true;
            if (!give_way(live, error)) {
                return false;
            }
        }
        if (!fiber_sleep_ms(LOOK_MS, liveout_cancel(live), error)) {
            return false;
        }
    }
}

static bool
tune(LiveOut *live, GError **error)
{
    static const char *const converge[] = {"auto-converge", NULL};
    const char *stall = inst_get(live->inst, "migration.vm.stall");
    gint64 limit = liveout_bandwidth(live);
    json_t *parameters =
        json_pack("{s:I}", "downtime-limit", (json_int_t) MAX(1, liveout_downtime_us(live) / 1000));
    if (limit > 0) {
        json_object_set_new(parameters, "max-bandwidth", json_integer(limit));
    }
    return set_channels(liveout_qmp(live), livenative_channels(&live->hello, live->copy), error) &&
           liveqemu_tune(liveout_qmp(live), parameters, error) &&
           liveqemu_set(liveout_qmp(live), converge, g_strcmp0(stall, "throttle") == 0, error);
}

bool
livenative_send(LiveOut *live, GError **error)
{
    const char *run_dir = vm_run_dir(vm_session(live->inst));
    uid_t user = vmuser_of(live->inst);
    Door door = {.mux = live->mux,
                 .listener = vmsock_listen_for(run_dir, SOCKET, user, error),
                 .count = 1 + livenative_channels(&live->hello, live->copy),
                 .stop = g_cancellable_new(),
                 .ended = FIBER_SIGNAL_INIT};
    door.working = door.listener >= 0;
    bool ok = door.working && tune(live, error);
    if (door.working) {
        fiber_start("native-door", keep_door, &door);
    }
    crash_point("live_source");
    ok = ok && qmp_do(liveout_qmp(live), "migrate", uri(VM_RUN_DIR_FD), error) &&
         await_door(live, error);
    live->stopped_us = clock_mono_us();
    g_cancellable_cancel(door.stop);
    while (door.working) {
        fiber_signal_wait(&door.ended, -1, NULL, NULL);
    }
    fd_close(&door.listener);
    if (vm_session(live->inst) != NULL) {
        forget_socket(vm_run_dir(vm_session(live->inst)));
    }
    g_object_unref(door.stop);
    crash_point("live_source");
    return ok && liveout_go_through(live, error);
}

/* ---- target ---- */

typedef struct {
    LiveNative *native;
    int from, to;
} Line;

struct LiveNative {
    char *dir; /* where QEMU listens */
    Line *lines;
    guint count, working;
    bool begun; /* the main connection is made */
    GCancellable *stop;
    FiberSignal changed;
};

static bool
connect_line(Line *line)
{
    LiveNative *native = line->native;
    bool first = line == native->lines;
    if (!fiber_wait_fd(line->from, G_IO_IN, -1, native->stop, NULL)) { /* T2 */
        return false;
    }
    while (!first && !native->begun) {
        if (!fiber_signal_wait(&native->changed, -1, native->stop, NULL)) {
            return false;
        }
    }
    line->to = vmsock_connect(native->dir, SOCKET, NULL);
    if (line->to >= 0) {
        fcntl(line->to, F_SETFL, fcntl(line->to, F_GETFL) | O_NONBLOCK);
        native->begun = native->begun || first;
        fiber_signal_all(&native->changed);
    }
    return line->to >= 0;
}

static void
carry(void *data)
{
    Line *line = data;
    LiveNative *native = line->native;
    g_autofree guint8 *chunk = g_malloc(CHUNK);
    bool more = connect_line(line);
    while (more) {
        ssize_t n = recv(line->from, chunk, CHUNK, MSG_DONTWAIT);
        if (n < 0 && errno == EAGAIN) {
            more = fiber_wait_fd(line->from, G_IO_IN, -1, native->stop, NULL);
            continue;
        }
        more = n > 0 && fiber_write(line->to, chunk, (size_t) n, native->stop, NULL);
    }
    fd_close(&line->to);
    fd_close(&line->from);
    native->working--;
    fiber_signal_all(&native->changed);
}

LiveNative *
livenative_take(VmSession *vm, MoveMux *mux, guint channels, GError **error)
{
    LiveNative *native = g_new0(LiveNative, 1);
    Qmp *qmp = vm_qmp(vm);
    native->dir = g_build_filename(vm_run_dir(vm), VM_OWN_DIR, NULL);
    native->lines = g_new0(Line, 1 + channels);
    native->stop = g_cancellable_new();
    native->changed = (FiberSignal) FIBER_SIGNAL_INIT;
    bool ok = set_channels(qmp, channels, error) &&
              qmp_do(qmp, "migrate-incoming", uri(VM_OWN_DIR_FD), error);
    for (guint i = 0; ok && i < 1 + channels; i++) {
        Line *line = &native->lines[i];
        *line = (Line){.native = native, .to = -1, .from = movemux_open(mux, stream_of(i), error)};
        ok = line->from >= 0;
        if (ok) {
            native->working++;
            fiber_start("native-line", carry, line);
        }
    }
    if (!ok) {
        livenative_free(native);
        return NULL;
    }
    return native;
}

void
livenative_free(LiveNative *native)
{
    if (native == NULL) {
        return;
    }
    g_cancellable_cancel(native->stop);
    while (native->working > 0) {
        fiber_signal_wait(&native->changed, -1, NULL, NULL);
    }
    forget_socket(native->dir);
    g_object_unref(native->stop);
    g_free(native->lines);
    g_free(native->dir);
    g_free(native);
}
