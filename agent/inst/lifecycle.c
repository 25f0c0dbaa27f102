/* Stop, restart, freeze, and the end of a container that nobody asked for.
 * E1  The end of the monitor process is the end of the container: only then is it cleaned up, once,
 *     by whoever holds the queue first: the stop that asked for it, or the exit fiber.
 * E2  A clean stop asks and waits without holding the queue, so that a forced stop can overtake it.
 * E3  A reboot from inside leaves run/NAME/reboot behind (lxcconf.c): we start it again.
 * E4  While the whole server stops, the power state stays RUNNING: the next start brings it back.
 * Called by api/instances.c, adopt.c and snapshot.c; main loop, inside fibers. */
#include "agent/inst/lifecycle.h"
#include "agent/inst/discard.h"
#include "agent/inst/instdriver.h"
#include "agent/inst/limits.h"
#include "agent/inst/start.h"
#include "base/clock.h"
#include "base/crash.h"
#include "base/fd.h"
#include "base/log.h"

#include <errno.h>
#include <glib-unix.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

#define KILL_WAIT_MS 30000

/* ---- the process ---- */

void
lifecycle_forget(Inst *inst)
{
    if (inst->monitor_source != 0) {
        g_source_remove(inst->monitor_source);
        inst->monitor_source = 0;
    }
    if (inst->driver != NULL && inst->driver->forget != NULL) {
        inst->driver->forget(inst);
    }
    fd_close(&inst->pidfd);
    fd_close(&inst->monitor_fd);
    g_clear_pointer(&inst->cgroup, cgroup_free);
    inst->pid = inst->monitor = 0;
}

static void exit_fiber(void *data);

static gboolean
on_monitor_end(gint fd, GIOCondition condition, gpointer data)
{
    Inst *inst = data;
    inst->monitor_source = 0;
    inst->monitor_gone = true;
    if (inst->driver != NULL && !inst->driver->monitored) {
        waitpid(inst->pid, NULL, WNOHANG); /* ours, unless an earlier agent started it */
    }
    fiber_signal_all(&inst->changed);
    fiber_start("inst-exit", exit_fiber, inst_ref(inst));
    return G_SOURCE_REMOVE;
}

static pid_t
parent_of(pid_t pid)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/status", (int) pid);
    g_autofree char *text = fd_read_file(path, 65536, NULL, NULL);
    const char *at = text != NULL ? strstr(text, "\nPPid:") : NULL;
    return at != NULL ? (pid_t) g_ascii_strtoll(at + 6, NULL, 10) : 0;
}

static void
let_go(Inst *inst)
{
    fd_close(&inst->pidfd);
    fd_close(&inst->monitor_fd);
    g_clear_pointer(&inst->cgroup, cgroup_free);
}

bool
lifecycle_attach(Inst *inst, pid_t pid, GError **error)
{
    const Driver *driver = inst->driver;
    let_go(inst);
    inst->pidfd = pidfd_open(pid, 0);
    struct pollfd ended = {.fd = inst->pidfd, .events = POLLIN};
    if (inst->pidfd < 0 || poll(&ended, 1, 0) > 0) { /* its monitor is still about to notice */
        let_go(inst);
        return haw_fail(error, HAW_FAILED, "The %s stopped right after its start", inst->type);
    }
    pid_t monitor = driver->monitored ? parent_of(pid) : 0;
    inst->monitor_fd = monitor > 1 ? pidfd_open(monitor, 0) : -1;
    if (inst->monitor_fd < 0) {
        /* liblxc's monitor is gone: init itself is what can be watched. */
        inst->monitor_fd = pidfd_open(pid, 0);
    }
    g_autoptr(GError) local = NULL;
    inst->cgroup = driver->grouped ? cgroup_of_pid(pid, &local) : NULL;
    if (inst->monitor_fd < 0 || (driver->grouped && inst->cgroup == NULL)) {
        let_go(inst);
        return haw_fail(error, HAW_FAILED, "The %s stopped right after its start", inst->type);
    }
    inst->pid = pid;
    inst->monitor = monitor;
    inst->monitor_gone = false;
    inst->incarnation++;
    inst->monitor_source = g_unix_fd_add(inst->monitor_fd, G_IO_IN, on_monitor_end, inst);
    return true;
}

/* E1. With the queue held. *ret_reboot: it wants to run again. */
static void
ended(Inst *inst, bool *ret_reboot)
{
    g_autofree char *run_dir = inst_run_dir(inst);
    g_autofree char *mark = g_strdup_printf("%s/reboot", run_dir);
    bool reboot = access(mark, F_OK) == 0;
    if (inst->state != INST_STOPPING) {
        inst_move(inst, INST_STOPPING);
    }
    if (inst->pidfd >= 0) { /* a monitor that was killed leaves init alone */
        pidfd_send_signal(inst->pidfd, SIGKILL, NULL, 0);
        fiber_wait_fd(inst->pidfd, G_IO_IN, KILL_WAIT_MS, NULL, NULL);
    }
    lifecycle_forget(inst);
    crash_point("stop");
    start_undo(inst, inst->agent->instances->stopping || reboot ? NULL : "STOPPED"); /* E4 */
    inst_move(inst, INST_STOPPED);
    *ret_reboot = reboot && !inst->agent->instances->stopping; /* E3 */
    g_free(limits_balance(inst->agent->instances, NULL));
}

static void
delete_ephemeral(Inst *inst)
{
    g_autoptr(GError) error = NULL;
    if (!inst->ephemeral || inst->restarting || inst->agent->instances->stopping) {
        return;
    }
    if (!discard_instance(inst, &error)) {
        haw_warn("inst.ephemeral", KS("inst", inst->name), KS("why", error->message));
    }
}

static void
exit_fiber(void *data)
{
    g_autoptr(Inst) inst = data;
    guint64 incarnation = inst->incarnation;
    g_autoptr(GError) error = NULL;
    g_auto(FiberHold) hold = inst_hold(inst, "stop", NULL);
    if (hold == NULL || inst->incarnation != incarnation || inst->pid == 0) {
        return; /* E1: the stop that waited for it was first */
    }
    bool reboot;
    ended(inst, &reboot);
    haw_info("inst.exited", KS("inst", inst->name), KS("project", inst->project),
             KU("reboot", reboot));
    if (reboot) {
        if (!start_run(inst, &error)) {
            haw_error("inst.reboot", KS("inst", inst->name), KS("why", error->message));
            return;
        }
        inst_lifecycle(inst, NULL, "instance-restarted");
        return;
    }
    inst_lifecycle(inst, NULL, "instance-shutdown");
    delete_ephemeral(inst);
}

/* ---- what is asked for ---- */

bool
lifecycle_run(Inst *inst, GError **error)
{
    if (inst->state == INST_ERROR) {
        return haw_fail(error, HAW_CONFLICT, "The instance cannot be started as in Error status");
    }
    if (inst->state != INST_STOPPED) {
        return haw_fail(error, HAW_CONFLICT, "The instance is already running");
    }
    if (inst->given_away || inst_get(inst, "volatile.hawser.moved") != NULL) {
        return haw_fail(
            error, HAW_CONFLICT,
            "The virtual machine has moved to another server and runs there: delete this "
            "one, or unset volatile.hawser.moved to start it all the same");
    }
    gint64 from = clock_mono_us();
    if (!start_run(inst, error)) {
        return false;
    }
    haw_info("inst.started", KS("inst", inst->name), KS("project", inst->project),
             KU("pid", inst->pid), KU("took_ms", (clock_mono_us() - from) / 1000));
    return true;
}

bool
lifecycle_start(Inst *inst, const Caller *caller, GError **error)
{
    g_auto(FiberHold) hold = inst_hold(inst, "start", error);
    if (hold == NULL) {
        return false;
    }
    if (inst->state == INST_FROZEN) {
        return haw_fail(error, HAW_CONFLICT, "The instance is already running");
    }
    if (!lifecycle_run(inst, error)) {
        return false;
    }
    inst_lifecycle(inst, caller, "instance-started");
    return true;
}

bool
lifecycle_kill(Inst *inst, GError **error)
{
    if (inst->state == INST_STOPPED || inst->pid == 0) {
        return haw_fail(error, HAW_CONFLICT, "The instance is already stopped");
    }
    gint64 until = clock_mono_us() + KILL_WAIT_MS * G_GINT64_CONSTANT(1000);
    if (inst->state != INST_STOPPING) {
        inst_move(inst, INST_STOPPING);
    }
    crash_point("stop");
    if (!inst->driver->kill(inst, error)) {
        return false;
    }
    while (!inst->monitor_gone) {
        gint64 left_ms = (until - clock_mono_us()) / 1000;
        if (left_ms <= 0) {
            inst_move(inst, INST_ERROR);
            return haw_fail(error, HAW_TIMEOUT, "The instance's process did not end");
        }
        fiber_signal_wait(&inst->changed, left_ms, NULL, NULL);
    }
    bool reboot;
    ended(inst, &reboot);
    return true;
}

/* E2: asks init and waits for the exit fiber's work. */
static bool
stop_clean(Inst *inst, gint64 wait_s, GCancellable *cancel, GError **error)
{
    guint64 incarnation;
    {
        g_auto(FiberHold) hold = inst_hold(inst, "stop", error);
        if (hold == NULL) {
            return false;
        }
        if (inst->pid == 0) {
            return haw_fail(error, HAW_CONFLICT, "The instance is already stopped");
        }
        incarnation = inst->incarnation;
        if (inst->state == INST_FROZEN) {
            inst_move(inst, INST_THAWING);
            bool thawed = inst->driver->freeze(inst, false, error);
            inst_move(inst, thawed ? INST_RUNNING : INST_FROZEN);
            if (!thawed) {
                return false;
            }
        }
        if (!inst->driver->halt(inst, error)) {
            return false;
        }
    }
    gint64 until = clock_mono_us() + wait_s * G_USEC_PER_SEC;
    while (!inst->deleted && inst->incarnation == incarnation && inst->state != INST_STOPPED) {
        gint64 left_ms = wait_s < 0 ? -1 : MAX(0, (until - clock_mono_us()) / 1000);
        if (left_ms == 0) {
            return haw_fail(error, HAW_TIMEOUT,
                            "Failed shutting down instance, status is \"%s\": context deadline "
                            "exceeded",
                            inst_state_name(inst->state));
        }
        if (!fiber_signal_wait(&inst->changed, left_ms, cancel, NULL) &&
            g_cancellable_is_cancelled(cancel)) {
            return haw_fail(error, HAW_CANCELLED, "The stop was cancelled");
        }
    }
    return true;
}

static bool
stop_forced(Inst *inst, GError **error)
{
    g_auto(FiberHold) hold = inst_hold(inst, "stop", error);
    if (hold == NULL || !lifecycle_kill(inst, error)) {
        return false;
    }
    return true;
}

bool
lifecycle_stop(Inst *inst, bool force, gint64 wait_s, GCancellable *cancel, const Caller *caller,
               GError **error)
{
    if (!(force || wait_s == 0)) {
        return stop_clean(inst, wait_s, cancel, error);
    }
    g_auto(FiberHold) hold = inst_hold(inst, "stop", error);
    if (hold == NULL || !lifecycle_kill(inst, error)) {
        return false;
    }
    inst_lifecycle(inst, caller, "instance-stopped");
    delete_ephemeral(inst);
    return true;
}

bool
lifecycle_set_stateful(Inst *inst, bool stateful, GError **error)
{
    g_autoptr(InstRow) row = record_row(inst);
    if (!stateful && inst->driver != NULL && inst->driver->drop_state != NULL) {
        inst->driver->drop_state(inst);
    }
    row->stateful = stateful;
    return record_update(inst, row, error);
}

bool
lifecycle_forget_state(Inst *inst, GError **error)
{
    g_auto(FiberHold) hold = inst_hold(inst, "start", error);
    return hold != NULL &&
           (!inst->stateful || inst->pid != 0 || lifecycle_set_stateful(inst, false, error));
}

bool
lifecycle_stop_stateful(Inst *inst, const Caller *caller, GError **error)
{
    g_auto(FiberHold) hold = inst_hold(inst, "stop", error);
    if (hold == NULL) {
        return false;
    }
    if (inst->pid == 0) {
        return haw_fail(error, HAW_CONFLICT, "The instance is already stopped");
    }
    if (!inst->driver->save(inst, error)) {
        return false;
    }
    crash_point("stop");
    if (!lifecycle_set_stateful(inst, true, error)) {
        inst->driver->resume(inst, NULL);
        return false;
    }
    crash_point("stop");
    if (!lifecycle_kill(inst, error)) {
        return false;
    }
    inst_lifecycle(inst, caller, "instance-stopped");
    return true;
}

bool
lifecycle_restart(Inst *inst, bool force, gint64 wait_s, GCancellable *cancel, const Caller *caller,
                  GError **error)
{
    if (inst->pid == 0) {
        return haw_fail(error, HAW_CONFLICT, "The instance is not running");
    }
    inst->restarting = true;
    bool ok =
        force || wait_s == 0 ? stop_forced(inst, error) : stop_clean(inst, wait_s, cancel, error);
    inst->restarting = false;
    if (!ok) {
        return false;
    }
    g_auto(FiberHold) hold = inst_hold(inst, "restart", error);
    if (hold == NULL || !lifecycle_run(inst, error)) {
        return false;
    }
    inst_lifecycle(inst, caller, "instance-restarted");
    return true;
}

bool
lifecycle_freeze(Inst *inst, bool frozen, const Caller *caller, GError **error)
{
    g_auto(FiberHold) hold = inst_hold(inst, frozen ? "freeze" : "unfreeze", error);
    if (hold == NULL) {
        return false;
    }
    if (inst->pid == 0) {
        return haw_fail(error, HAW_CONFLICT, "The instance isn't running");
    }
    if (inst->state == (frozen ? INST_FROZEN : INST_RUNNING)) {
        return haw_fail(error, HAW_CONFLICT,
                        frozen ? "The instance is already frozen"
                               : "The instance is already running");
    }
    inst_move(inst, frozen ? INST_FREEZING : INST_THAWING);
    bool ok = inst->driver->freeze(inst, frozen, error);
    if (!ok && frozen) {
        inst->driver->freeze(inst, false, NULL);
    }
    if (inst->state == (frozen ? INST_FREEZING : INST_THAWING)) {
        inst_move(inst, ok == frozen ? INST_FROZEN : INST_RUNNING);
    }
    if (ok) {
        inst_lifecycle(inst, caller, frozen ? "instance-paused" : "instance-resumed");
    }
    return ok;
}
