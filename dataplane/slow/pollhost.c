/* The poll-mode process beside the daemon.
 * H1  It outlives us. Who finds one that was started as is wished now (its tag says how) adopts it, with its flows;
 *     any other is ended first.
 * H2  What it polls is levelled with what ought to be each time that we are connected anew: ports that are missing
 *     are added, and those removed that we decided against. Ports of a former life count as wished until the daemon
 *     has come to them.
 * H3  Its death is seen (pidfd) without asking it, and it is started again, with pauses that grow while that fails. It
 *     opens its ports again by itself (poll/pollkeep.c); packets of these ports are lost that long.
 * H4  The wish is on disk before it is answered.
 * H5  A bump has reached it, or nothing of it can be fast, when pollhost_bump() says true.
 * Called by fastport.c and dpdask.c. */
#include "dataplane/slow/pollhost.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/crash.h"
#include "base/fd.h"
#include "base/fiber.h"
#include "base/log.h"
#include "base/proc.h"

enum {
    START_MS = 60000, /* hugepages are cleared */
    STEP_MS = 20,
    ANSWER_MS = 40000, /* a device may take its time, and the cores theirs */
    HELLO_MS = 10000,
    END_MS = 10000,
    PAUSE_MS = 100,
    PAUSE_MAX_MS = 10000,
    CONFIG_BYTES = 4096,
    FLOWS = 65536,
};

struct PollHost {
    char *dir, *socket, *config; /* owned */
    PollHostKnows knows;
    void *data;
    Dpd__FastPoll *wish; /* owned, unpacked; never NULL */
    GHashTable *ports;   /* id → Dpd__PollPort, owned: that ought to be polled */
    GHashTable *decided; /* ids that were put or dropped in this life */
    DpdWire *wire;       /* owned; NULL: not connected */
    int pidfd;           /* of the process at the other end */
    FiberLock lock;      /* of the wire */
    char *trouble;
    guint64 asked;
    bool off, keeping;
    GCancellable *ending;
};

static void
port_free(gpointer port)
{
    dpd__poll_port__free_unpacked(port, NULL);
}

/* Borrowed, for as long as the caller has the lock. */
static GPtrArray *
all_ports(const PollHost *host)
{
    GPtrArray *all = g_ptr_array_new();
    GHashTableIter iter;
    gpointer port;
    g_hash_table_iter_init(&iter, host->ports);
    while (g_hash_table_iter_next(&iter, NULL, &port)) {
        g_ptr_array_add(all, port);
    }
    return all;
}

static bool
wanted(const PollHost *host)
{
    return host->wish->cores[0] != '\0';
}

static char *
tag_of(const Dpd__FastPoll *wish)
{
    return g_strdup_printf("cores=%s,flows=%u,memory=%u,huge=%d", wish->cores, wish->flows,
                           wish->memory_mb, wish->huge);
}

/* ---- one exchange ---- */

static void
disconnect(PollHost *host)
{
    g_clear_pointer(&host->wire, dpdwire_free);
    fd_close(&host->pidfd);
}

/* The answer, which is of the kind 'want'. A failure that the process answers leaves the connection. */
static Dpd__Frame *
exchange(PollHost *host, Dpd__Frame *frame, Dpd__Frame__BodyCase want, gint64 wait_ms,
         GError **error)
{
    frame->id = ++host->asked;
    g_autoptr(DpdFrame) answer =
        dpdwire_send(host->wire, frame, -1, error)
            ? dpdwire_receive(host->wire, NULL, wait_ms, host->ending, error)
            : NULL;
    if (answer == NULL) {
        disconnect(host);
        haw_push(error, "ask the poll-mode process");
    } else if (answer->body_case == DPD__FRAME__BODY_FAILURE) {
        guint code = answer->failure->code;
        haw_fail(error, code < HAW_CODE_COUNT ? (HawCode) code : HAW_FAILED, "%s",
                 answer->failure->message);
        return NULL;
    } else if (answer->body_case != want || answer->id != frame->id) {
        disconnect(host);
        haw_fail(error, HAW_INVALID, "The poll-mode process gave another answer");
        return NULL;
    }
    return g_steal_pointer(&answer);
}

static bool
apply(PollHost *host, Dpd__PollApply *change, GError **error)
{
    Dpd__Frame frame = DPD__FRAME__INIT;
    frame.body_case = DPD__FRAME__BODY_POLL_APPLY;
    frame.poll_apply = change;
    g_autoptr(DpdFrame) answer =
        exchange(host, &frame, DPD__FRAME__BODY_POLL_STATUS, ANSWER_MS, error);
    return answer != NULL;
}

static Dpd__Frame *
ask_status(PollHost *host, guint flows, GError **error)
{
    Dpd__PollAsk ask = DPD__POLL_ASK__INIT;
    Dpd__Frame frame = DPD__FRAME__INIT;
    ask.flows = flows;
    frame.body_case = DPD__FRAME__BODY_POLL_ASK;
    frame.poll_ask = &ask;
    return exchange(host, &frame, DPD__FRAME__BODY_POLL_STATUS, HELLO_MS, error);
}

static bool
add_one(PollHost *host, const Dpd__PollPort *port, GError **error)
{
    Dpd__PollPort now = *port;
    Dpd__PollPort *ports[] = {&now};
    Dpd__PollApply change = DPD__POLL_APPLY__INIT;
    now.off = port->off || host->off;
    change.ports = ports;
    change.n_ports = 1;
    return apply(host, &change, error);
}

static bool
remove_one(PollHost *host, const char *id, GError **error)
{
    char *ids[] = {(char *) (guintptr) id};
    Dpd__PollApply change = DPD__POLL_APPLY__INIT;
    g_autoptr(GError) why = NULL;
    change.remove = ids;
    change.n_remove = 1;
    if (apply(host, &change, &why) || haw_code(why) == HAW_NOT_FOUND) {
        return true;
    }
    g_propagate_error(error, g_steal_pointer(&why));
    return false;
}

/* ---- being connected ---- */

/* H2 */
static bool
level(PollHost *host, const Dpd__PollStatus *status, GError **error)
{
    g_autoptr(GPtrArray) all = all_ports(host);
    for (size_t i = 0; i < status->n_ports; i++) {
        const char *id = status->ports[i]->id;
        bool open = !g_hash_table_contains(host->decided, id) && host->knows(id, host->data);
        if (!open && !g_hash_table_contains(host->ports, id) && !remove_one(host, id, error)) {
            return false;
        }
    }
    for (guint i = 0; i < all->len; i++) {
        const Dpd__PollPort *port = all->pdata[i];
        g_autoptr(GError) why = NULL;
        if (!add_one(host, port, &why)) {
            if (host->wire == NULL) {
                g_propagate_error(error, g_steal_pointer(&why));
                return false;
            }
            haw_warn("poll.port", KS("port", port->id), KS("why", why->message));
        }
    }
    return true;
}

static bool
greet(PollHost *host, GError **error)
{
    Dpd__Hello hello;
    Dpd__Frame frame;
    dpdwire_hello(&hello, &frame);
    g_autoptr(DpdFrame) answer = exchange(host, &frame, DPD__FRAME__BODY_HELLO, HELLO_MS, error);
    return answer != NULL;
}

/* Its process ends; the caller has the lock. */
static void
end_process(PollHost *host)
{
    haw_autofd int pidfd = host->pidfd;
    host->pidfd = -1;
    disconnect(host);
    syscall(SYS_pidfd_send_signal, pidfd, SIGTERM, NULL, 0);
    if (pidfd >= 0 && !fiber_wait_fd(pidfd, G_IO_IN, END_MS, NULL, NULL)) {
        syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0);
        fiber_wait_fd(pidfd, G_IO_IN, END_MS, NULL, NULL);
    }
    haw_info("poll.ended", KS("dir", host->dir));
}

/* H1. NOT_FOUND or UNAVAILABLE: none that may stay. */
static bool
connect_once(PollHost *host, GError **error)
{
    host->wire = dpdwire_connect(host->socket, error);
    if (host->wire == NULL || !dpdwire_check_peer(host->wire, error) || !greet(host, error)) {
        disconnect(host);
        return false;
    }
    g_autoptr(DpdFrame) answer = ask_status(host, 0, error);
    if (answer == NULL) {
        return false;
    }
    const Dpd__PollStatus *status = answer->poll_status;
    g_autofree char *tag = tag_of(host->wish);
    host->pidfd = (int) syscall(SYS_pidfd_open, (pid_t) status->pid, 0);
    if (host->pidfd < 0) {
        disconnect(host);
        return haw_fail_errno(error, errno, "watch the poll-mode process %u", status->pid);
    }
    if (!wanted(host) || strcmp(status->tag, tag) != 0) {
        end_process(host);
        return haw_fail(error, HAW_UNAVAILABLE, "The poll-mode process was started otherwise");
    }
    if (!level(host, status, error)) {
        disconnect(host);
        return false;
    }
    haw_info("poll.connected", KU("pid", status->pid), KS("with", tag));
    return true;
}

static void
reap(void *data)
{
    int status = 0;
    fiber_wait_pid(GPOINTER_TO_INT(data), -1, NULL, &status, NULL);
}

static pid_t
start_program(const PollHost *host, GError **error)
{
    const Dpd__FastPoll *wish = host->wish;
    g_autofree char *program = g_file_read_link("/proc/self/exe", error);
    g_autofree char *log = g_build_filename(host->dir, "log", NULL);
    g_autofree char *tag = tag_of(wish);
    g_autofree char *flows = g_strdup_printf("%u", wish->flows != 0 ? wish->flows : FLOWS);
    g_autofree char *memory = g_strdup_printf("%u", wish->memory_mb);
    const char *const argv[] = {program,    "--dpdk",
                                "--dir",    host->dir,
                                "--cores",  wish->cores,
                                "--flows",  flows,
                                "--tag",    tag,
                                "--memory", memory,
                                "--no-pci", wish->huge ? NULL : "--no-huge",
                                NULL};
    return program != NULL && fd_mkdir_p(host->dir, 0700, error)
               ? proc_spawn(argv, NULL, log, NULL, 0, error)
               : -1;
}

static bool
start_and_connect(PollHost *host, GError **error)
{
    pid_t pid = start_program(host, error);
    if (pid < 0) {
        return haw_push(error, "start the poll-mode process");
    }
    haw_info("poll.started", KI("pid", pid), KS("dir", host->dir));
    crash_point("poll");
    gint64 end_us = clock_mono_us() + START_MS * 1000;
    bool ok = false;
    while (!ok) {
        g_autoptr(GError) why = NULL;
        int status = 0;
        ok = connect_once(host, &why);
        if (!ok && waitpid(pid, &status, WNOHANG) == pid) {
            return haw_fail(error, HAW_UNAVAILABLE,
                            "The poll-mode process does not start (its log: %s/log)", host->dir);
        }
        if (!ok && (clock_mono_us() > end_us || !fiber_sleep_ms(STEP_MS, host->ending, NULL))) {
            g_propagate_error(error, g_steal_pointer(&why));
            break;
        }
    }
    fiber_start("reap poll", reap, GINT_TO_POINTER((int) pid));
    return ok;
}

/* The caller has the lock. */
static bool
connected(PollHost *host, bool may_start, GError **error)
{
    g_autoptr(GError) why = NULL;
    if (poll(&(struct pollfd){.fd = host->pidfd, .events = POLLIN}, 1, 0) > 0) { /* H3: dead */
        disconnect(host);
    }
    if (host->wire != NULL || connect_once(host, &why)) {
        return true;
    }
    bool nobody = haw_code(why) == HAW_NOT_FOUND || haw_code(why) == HAW_UNAVAILABLE;
    if (nobody && may_start && wanted(host)) {
        return start_and_connect(host, error);
    }
    g_propagate_error(error, g_steal_pointer(&why));
    return false;
}

/* ---- staying so ---- */

static void
tell_trouble(PollHost *host, const GError *why)
{
    g_free(host->trouble);
    host->trouble = why != NULL ? g_strdup(why->message) : NULL;
}

/* A descriptor of its own, since an exchange that fails gives the other one up. -1 without an error: there ought to
 * be no process. */
static int
watch_process(PollHost *host, GError **error)
{
    g_auto(FiberHold) hold = fiber_hold(&host->lock);
    g_autoptr(GError) why = NULL;
    bool ok = connected(host, true, &why);
    int pidfd = ok ? fcntl(host->pidfd, F_DUPFD_CLOEXEC, 0) : -1;
    tell_trouble(host, wanted(host) ? why : NULL);
    host->keeping = wanted(host);
    if (host->keeping && why != NULL) {
        g_propagate_error(error, g_steal_pointer(&why));
    }
    return pidfd;
}

/* H3 */
static void
keep_fiber(void *data)
{
    PollHost *host = data;
    gint64 pause_ms = PAUSE_MS;
    while (host->keeping && !g_cancellable_is_cancelled(host->ending)) {
        g_autoptr(GError) error = NULL;
        haw_autofd int pidfd = watch_process(host, &error);
        if (pidfd >= 0) {
            pause_ms = PAUSE_MS;
            fiber_wait_fd(pidfd, G_IO_IN, -1, host->ending, NULL);
        } else if (error != NULL) {
            haw_warn("poll.lost", KS("why", error->message), KI("again_ms", pause_ms));
            fiber_sleep_ms(pause_ms, host->ending, NULL);
            pause_ms = MIN(pause_ms * 2, PAUSE_MAX_MS);
        }
    }
}

static void
keep(PollHost *host)
{
    if (!host->keeping) {
        host->keeping = true;
        fiber_start("poll", keep_fiber, host);
    }
}

/* ---- the wish ---- */

static Dpd__FastPoll *
read_wish(const PollHost *host)
{
    const Dpd__FastPoll none = DPD__FAST_POLL__INIT;
    size_t size = 0;
    g_autofree char *bytes = fd_read_file(host->config, CONFIG_BYTES, &size, NULL);
    Dpd__FastPoll *wish =
        bytes != NULL ? dpd__fast_poll__unpack(NULL, size, (const guint8 *) bytes) : NULL;
    return wish != NULL ? wish : dpdwire_dup(&none.base);
}

bool
pollhost_configure(PollHost *host, const Dpd__FastPoll *wish, GError **error)
{
    Dpd__FastPoll plain = DPD__FAST_POLL__INIT;
    plain.cores = wish->cores;
    plain.flows = wish->flows;
    plain.memory_mb = wish->memory_mb;
    plain.huge = wish->huge;
    g_auto(FiberHold) hold = fiber_hold(&host->lock);
    g_autofree char *before = tag_of(host->wish);
    g_autofree char *now = tag_of(&plain);
    if (strcmp(before, now) == 0) {
        return true;
    }
    if (plain.cores[0] == '\0' && g_hash_table_size(host->ports) > 0) {
        return haw_fail(error, HAW_BUSY,
                        "%u NICs of running instances are polled: stop these first",
                        g_hash_table_size(host->ports));
    }
    g_autoptr(GBytes) bytes = dpdwire_pack(&plain.base);
    gsize size = 0;
    const void *at = g_bytes_get_data(bytes, &size);
    if (!fd_write_atomic(host->config, at, size, 0600, error)) { /* H4 */
        return false;
    }
    dpd__fast_poll__free_unpacked(host->wish, NULL);
    host->wish = dpdwire_dup(&plain.base);
    haw_info("poll.configured", KS("with", now));
    crash_point("poll");
    if (host->wire != NULL) {
        end_process(host); /* the keeper sees to the next one */
    }
    keep(host);
    return true;
}

PollHost *
pollhost_new(const char *dir, PollHostKnows knows, void *data)
{
    PollHost *host = g_new0(PollHost, 1);
    host->dir = g_build_filename(dir, "poll", NULL);
    host->socket = g_build_filename(host->dir, "poll.socket", NULL);
    host->config = g_build_filename(dir, "poll.wish", NULL);
    host->knows = knows;
    host->data = data;
    host->ports = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, port_free);
    host->decided = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    host->pidfd = -1;
    host->off = true; /* until the daemon knows better */
    host->lock = (FiberLock) FIBER_LOCK_INIT;
    host->ending = g_cancellable_new();
    host->wish = read_wish(host);
    if (wanted(host) || access(host->socket, F_OK) == 0) {
        keep(host);
    }
    return host;
}

void
pollhost_free(PollHost *host, bool end)
{
    if (host == NULL) {
        return;
    }
    g_cancellable_cancel(host->ending);
    if (end && host->pidfd >= 0) {
        syscall(SYS_pidfd_send_signal, host->pidfd, SIGTERM, NULL, 0);
    }
    if (host->keeping || host->lock.holder != NULL) {
        return; /* fibers of ours have still to end; the process is about to */
    }
    disconnect(host);
    dpd__fast_poll__free_unpacked(host->wish, NULL);
    g_hash_table_unref(host->ports);
    g_hash_table_unref(host->decided);
    g_object_unref(host->ending);
    g_free(host->trouble);
    g_free(host->config);
    g_free(host->socket);
    g_free(host->dir);
    g_free(host);
}

/* ---- ports ---- */

bool
pollhost_has(const PollHost *host, const char *id)
{
    return g_hash_table_contains(host->ports, id);
}

bool
pollhost_put(PollHost *host, const Dpd__PollPort *port, GError **error)
{
    if (!wanted(host)) {
        return haw_fail(error, HAW_UNAVAILABLE,
                        "no processor polls: set dataplane.poll.cores, and start it anew");
    }
    g_auto(FiberHold) hold = fiber_hold(&host->lock);
    g_hash_table_add(host->decided, g_strdup(port->id));
    g_hash_table_replace(host->ports, g_strdup(port->id), dpdwire_dup(&port->base));
    if (connected(host, true, error) && add_one(host, port, error)) {
        crash_point("poll");
        return true;
    }
    g_hash_table_remove(host->ports, port->id);
    return false;
}

bool
pollhost_drop(PollHost *host, const char *id, GError **error)
{
    bool decided = g_hash_table_contains(host->decided, id);
    if (decided && !pollhost_has(host, id)) {
        return true;
    }
    g_auto(FiberHold) hold = fiber_hold(&host->lock);
    g_autoptr(GError) why = NULL;
    g_hash_table_add(host->decided, g_strdup(id));
    g_hash_table_remove(host->ports, id);
    if ((connected(host, false, &why) && remove_one(host, id, &why)) || host->wire == NULL) {
        return true; /* H2: or when it is there again */
    }
    g_propagate_error(error, g_steal_pointer(&why));
    return false;
}

bool
pollhost_bump(PollHost *host, const guint32 *zones, size_t count, GError **error)
{
    Dpd__PollApply change = DPD__POLL_APPLY__INIT;
    g_autoptr(GError) why = NULL;
    if (!wanted(host) && host->wire == NULL) {
        return true;
    }
    g_auto(FiberHold) hold = fiber_hold(&host->lock);
    change.bump = (guint32 *) (guintptr) zones;
    change.n_bump = count;
    change.bump_all = count == 0;
    if (connected(host, false, &why) && apply(host, &change, &why)) {
        return true;
    }
    HawCode code = haw_code(why);
    if (host->wire == NULL && (code == HAW_NOT_FOUND || code == HAW_UNAVAILABLE)) {
        return true; /* H5: nobody is there, nor any flow */
    }
    g_propagate_error(error, g_steal_pointer(&why));
    return false;
}

bool
pollhost_hold(PollHost *host, bool off, GError **error)
{
    g_auto(FiberHold) hold = fiber_hold(&host->lock);
    bool ok = true;
    if (host->off == off) {
        return true;
    }
    host->off = off;
    g_autoptr(GPtrArray) all = all_ports(host);
    for (guint i = 0; i < all->len && host->wire != NULL && ok; i++) {
        ok = add_one(host, all->pdata[i], error);
    }
    if (!ok && host->wire == NULL) { /* the next one is told */
        g_clear_error(error);
        ok = true;
    }
    return ok;
}

/* ---- looking ---- */

const char *
pollhost_socket(const PollHost *host)
{
    return host->wire != NULL ? host->socket : NULL;
}

Dpd__Frame *
pollhost_look(PollHost *host, guint flows)
{
    g_auto(FiberHold) hold = fiber_hold(&host->lock);
    g_autoptr(GError) why = NULL;
    Dpd__FastPoll shown = DPD__FAST_POLL__INIT;
    Dpd__Frame frame = DPD__FRAME__INIT;
    g_autoptr(DpdFrame) status =
        connected(host, false, &why) ? ask_status(host, flows, &why) : NULL;
    shown.cores = host->wish->cores;
    shown.flows = host->wish->flows;
    shown.memory_mb = host->wish->memory_mb;
    shown.huge = host->wish->huge;
    const char *trouble = host->trouble != NULL ? host->trouble : why != NULL ? why->message : "";
    shown.trouble = (char *) (guintptr) (wanted(host) && status == NULL ? trouble : "");
    shown.status = status != NULL ? status->poll_status : NULL;
    frame.body_case = DPD__FRAME__BODY_FAST_POLL;
    frame.fast_poll = &shown;
    return dpdwire_dup(&frame.base);
}
