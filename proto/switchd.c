/* What ovs-vswitchd forgets when it starts: that conntrack is to be liberal.
 * Packets that a fast path carries past OVS make its conntrack lose the TCP windows; the next packet it
 * sees would be invalid to it, OVN would drop it, and the connection would hang for ever. So:
 * W1  Each start is noticed by the end of the former process, and the setting is made again, until it is
 *     read back as made. switchd_liberal() is false in between.
 * W2  Userspace datapath: dpctl/ct-disable-tcp-seq-chk. Kernel: nf_conntrack_tcp_be_liberal, which is the
 *     network namespace's and survives.
 * W3  What a rule let through before it went, OVS may let through until its revalidators have been round
 *     once more: switchd_settle() waits for two rounds' ends, for the first may have begun before.
 * Called by the agent (ovn.c, net/fastzone.c) and by hawser-dpd (slow/fastport.c). */
#include "proto/switchd.h"

#include <string.h>
#include <sys/pidfd.h>
#include <unistd.h>

#include "proto/unixctl.h"
#include "base/fd.h"
#include "base/fiber.h"
#include "base/log.h"
#include "base/proc.h"

enum { LOOK_MS = 200, SET_MS = 100, SAY_AFTER = 100 };
#define BE_LIBERAL "/proc/sys/net/netfilter/nf_conntrack_tcp_be_liberal"

struct OvnSwitchd {
    char *rundir;
    bool kernel, liberal;
    guint64 epoch;
    GCancellable *stop; /* owned */
    guint refs;
    SwitchdChanged changed;
    void *data;
};

static void
unref(OvnSwitchd *watch)
{
    if (--watch->refs == 0) {
        g_object_unref(watch->stop);
        g_free(watch->rundir);
        g_free(watch);
    }
}

static void
set_state(OvnSwitchd *watch, bool liberal)
{
    bool was = watch->liberal;
    watch->liberal = liberal;
    if (was != liberal && watch->changed != NULL && !g_cancellable_is_cancelled(watch->stop)) {
        watch->changed(watch->data);
    }
}

static pid_t
read_pid(const OvnSwitchd *watch)
{
    g_autofree char *path = g_build_filename(watch->rundir, "ovs-vswitchd.pid", NULL);
    g_autofree char *text = fd_read_file(path, 64, NULL, NULL);
    return text != NULL ? (pid_t) g_ascii_strtoll(text, NULL, 10) : 0;
}

guint64
switchd_identity(const OvnSwitchd *watch)
{
    pid_t pid = read_pid(watch);
    guint64 began = pid > 0 ? proc_start_time(pid) : 0;
    return began != 0 ? began << 22 | (guint64) pid : 0; /* pids are below 2^22 */
}

/* The embedded one has a fixed name, a system's has its pid in it; caller frees. */
static char *
control_path(const OvnSwitchd *watch, pid_t pid)
{
    g_autofree char *fixed = g_build_filename(watch->rundir, "ovs-vswitchd.ctl", NULL);
    return access(fixed, F_OK) == 0
               ? g_steal_pointer(&fixed)
               : g_strdup_printf("%s/ovs-vswitchd.%d.ctl", watch->rundir, (int) pid);
}

/* W2; read back, for only that is proof. */
static bool
set_liberal(const OvnSwitchd *watch, pid_t pid, GError **error)
{
    if (watch->kernel) {
        return fd_write_kernel(BE_LIBERAL, "1", error);
    }
    g_autofree char *path = control_path(watch, pid);
    g_autofree char *said = unixctl_call(path, error, "dpctl/ct-disable-tcp-seq-chk", NULL);
    if (said == NULL) {
        return false;
    }
    g_autofree char *state = unixctl_call(path, error, "dpctl/ct-get-tcp-seq-chk", NULL);
    return state != NULL &&
           (strstr(state, "disabled") != NULL ||
            haw_fail(error, HAW_FAILED, "ovs-vswitchd says: %s", g_strchomp(state)));
}

/* W1: while this process lives. There is no datapath to set it on before br-int is there. */
static void
assert_liberal(OvnSwitchd *watch, pid_t pid, int pidfd)
{
    for (guint tries = 1; !g_cancellable_is_cancelled(watch->stop); tries++) {
        g_autoptr(GError) why = NULL;
        if (set_liberal(watch, pid, &why)) {
            set_state(watch, true);
            haw_debug("ovn.conntrack_liberal", KI("pid", pid));
            return;
        }
        if (tries == SAY_AFTER) {
            haw_warn("ovn.conntrack_strict", KI("pid", pid), KS("why", why->message));
        }
        if (fiber_wait_fd(pidfd, G_IO_IN, tries < SAY_AFTER ? SET_MS : 100 * SET_MS, watch->stop,
                          NULL)) {
            return;
        }
    }
}

static void
watch_run(void *data)
{
    OvnSwitchd *watch = data;
    while (!g_cancellable_is_cancelled(watch->stop)) {
        pid_t pid = read_pid(watch);
        haw_autofd int pidfd = pid > 0 ? (int) pidfd_open(pid, 0) : -1;
        if (pidfd < 0) {
            fiber_sleep_ms(LOOK_MS, watch->stop, NULL);
            continue;
        }
        watch->epoch++;
        assert_liberal(watch, pid, pidfd);
        fiber_wait_fd(pidfd, G_IO_IN, -1, watch->stop, NULL);
        set_state(watch, false);
    }
    unref(watch);
}

OvnSwitchd *
switchd_watch(const char *rundir, bool kernel, SwitchdChanged changed, void *data)
{
    OvnSwitchd *watch = g_new0(OvnSwitchd, 1);
    watch->rundir = g_strdup(rundir);
    watch->kernel = kernel;
    watch->changed = changed;
    watch->data = data;
    watch->stop = g_cancellable_new();
    watch->refs = 2;
    fiber_start("ovn-vswitchd-watch", watch_run, watch);
    return watch;
}

void
switchd_free(OvnSwitchd *watch)
{
    if (watch != NULL) {
        g_cancellable_cancel(watch->stop);
        unref(watch);
    }
}

guint64
switchd_epoch(const OvnSwitchd *watch)
{
    return watch != NULL ? watch->epoch : 0;
}

bool
switchd_liberal(const OvnSwitchd *watch)
{
    return watch != NULL && watch->liberal;
}

/* W3 */
bool
switchd_settle(OvnSwitchd *watch, GError **error)
{
    pid_t pid = read_pid(watch);
    g_autofree char *path = control_path(watch, pid);
    for (int round = 0; round < 2; round++) {
        g_autofree char *said = unixctl_call(path, error, "revalidator/wait", NULL);
        if (said == NULL) {
            return haw_push(error, "wait for ovs-vswitchd's revalidators");
        }
    }
    return true;
}
