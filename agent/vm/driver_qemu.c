/* Virtual machines, by QEMU: the driver behind instdriver.h.
 * D1  What asks the guest (a clean stop, exec, files) goes by its agent when that answers, else by ACPI, or
 *     is refused with the reason.
 * D2  QEMU's process is the instance: its end is the end (lifecycle.c), whoever caused it.
 * D3  A volume that holds a saved state is started from it, once: the state goes before the guest runs, as
 *     a guest that ran on must never be set back to it.
 * Called through inst->driver; main loop, inside fibers. */
#include "agent/inst/instdriver.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>
#include <unistd.h>

#include "agent/inst/lifecycle.h"
#include "agent/inst/start.h"
#include "agent/vm/vmconsole.h"
#include "agent/vm/vmlayout.h"
#include "agent/vm/vmrun.h"
#include "agent/vm/vmshow.h"
#include "agent/vm/vmstate.h"
#include "base/crash.h"
#include "base/fd.h"
#include "base/log.h"
#include "proto/keys.h"

enum { ADOPT_MS = 5000 };

/* ---- start ---- */

/* The saved state's layout, with the volume mounted for the look. */
static bool
look_for_state(Inst *inst, char **ret_dir, json_t **ret_layout, GError **error)
{
    Vol vol;
    g_autofree char *mount = NULL;
    g_autoptr(GError) local = NULL;
    *ret_layout = NULL;
    if (!inst_volume(inst, &vol, error) || !vol_mount(inst->agent->pools, &vol, &mount, error)) {
        return false;
    }
    *ret_layout = vmstate_layout(mount, &local);
    vol_unmount(inst->agent->pools, &vol, NULL);
    *ret_dir = g_steal_pointer(&mount);
    if (local != NULL) {
        g_propagate_error(error, g_steal_pointer(&local));
        return false;
    }
    return true;
}

static bool
resume(Inst *inst, const char *dir, json_t *layout, GError **error)
{
    g_autofree char *state = g_strdup_printf("%s/state", dir);
    VmBoot how = {.layout = layout, .state_path = state, .state_dir = dir};
    return vmboot_run(inst, &how, error);
}

static bool
driver_start(Inst *inst, GError **error)
{
    VmBoot fresh = {.layout = NULL};
    g_autofree char *dir = NULL;
    json_t *layout = NULL;
    if (!inst->stateful) {
        return vmboot_run(inst, &fresh, error);
    }
    if (!look_for_state(inst, &dir, &layout, error)) {
        return false;
    }
    bool ok = layout != NULL ? resume(inst, dir, layout, error) : vmboot_run(inst, &fresh, error);
    json_decref(layout);
    return ok && lifecycle_set_stateful(inst, false, error); /* D3 */
}

/* ---- stop ---- */

static bool
need_session(Inst *inst, GError **error)
{
    return (inst->vm != NULL && qmp_alive(inst->vm->qmp)) ||
           haw_fail(error, HAW_UNAVAILABLE, "QEMU of \"%s\" does not answer", inst->name);
}

static bool
driver_halt(Inst *inst, GError **error)
{
    const VmGuest *guest = vm_guest();
    if (!need_session(inst, error)) {
        return false;
    }
    /* The agent knows its init system; the button is pressed as well, for a guest that has let the agent's
     * word pass. To one that is on its way down it means nothing new. */
    if (guest->shutdown != NULL) {
        guest->shutdown(inst->vm, NULL);
    }
    return inst->pid == 0 ||
           (need_session(inst, error) && qmp_do(inst->vm->qmp, "system_powerdown", NULL, error));
}

static bool
driver_kill(Inst *inst, GError **error)
{
    if (inst->pidfd >= 0 && pidfd_send_signal(inst->pidfd, SIGKILL, NULL, 0) < 0 &&
        errno != ESRCH) {
        return haw_fail_errno(error, errno, "Kill QEMU");
    }
    return true;
}

static bool
driver_freeze(Inst *inst, bool frozen, GError **error)
{
    return need_session(inst, error) &&
           qmp_do(inst->vm->qmp, frozen ? "stop" : "cont", NULL, error);
}

static bool
driver_frozen(Inst *inst)
{
    json_t *status = inst->vm != NULL ? qmp_call(inst->vm->qmp, "query-status", NULL, NULL) : NULL;
    const char *word = json_string_value(json_object_get(status, "status"));
    bool frozen = g_strcmp0(word, "paused") == 0 || g_strcmp0(word, "postmigrate") == 0;
    json_decref(status);
    return frozen;
}

/* ---- after a restart of the agent ---- */

static pid_t
driver_probe(Inst *inst)
{
    return vmprocess_find(inst);
}

/* A QEMU that was still being set up, or waited for a state that nobody sends any more, is no guest. */
static bool
check_runs(Inst *inst, GError **error)
{
    json_t *status = qmp_call(inst->vm->qmp, "query-status", NULL, error);
    const char *word = json_string_value(json_object_get(status, "status"));
    bool ok =
        status != NULL && g_strcmp0(word, "prelaunch") != 0 && g_strcmp0(word, "inmigrate") != 0;
    if (status != NULL && !ok) {
        haw_fail(error, HAW_FAILED, "QEMU is in state \"%s\"", word != NULL ? word : "");
    }
    json_decref(status);
    return ok;
}

static bool
driver_adopt(Inst *inst, GError **error)
{
    g_autofree char *run_dir = inst_run_dir(inst);
    json_t *layout = vmsession_load_layout(run_dir);
    if (layout == NULL) {
        return haw_fail(error, HAW_CORRUPT, "'%s/layout.json' is missing or broken", run_dir);
    }
    if (!vmsession_open(inst, inst->pid, layout, ADOPT_MS, error) || !check_runs(inst, error)) {
        return false;
    }
    /* D3: an agent that ended between saving and stopping: the guest may run on from here. */
    if (inst->stateful && !lifecycle_set_stateful(inst, false, error)) {
        return false;
    }
    vmconsole_adopt(inst->vm);
    if (vm_guest()->attached != NULL) {
        vm_guest()->attached(inst->vm);
    }
    return true;
}

static void
driver_forget(Inst *inst)
{
    vmsession_end(inst);
}

/* ---- devices and limits ---- */

static bool
driver_plug(Inst *inst, json_t *item, GError **error)
{
    if (!need_session(inst, error) || !vmplug_add(inst->vm, item, error)) {
        return false;
    }
    vmsession_store_layout(inst->vm);
    return true;
}

static bool
driver_unplug(Inst *inst, const char *device, json_t *config, GError **error)
{
    return need_session(inst, error) && vmplug_remove(inst->vm, device, config, error);
}

static bool
may_change_key(const char *key, json_t *from, json_t *to)
{
    static const char *const exact[] = {
        "cluster.evacuate",    "limits.memory",   "limits.cpu", "security.agent.metrics",
        "security.secureboot", "security.devlxd", NULL};
    static const char *const prefixes[] = {"boot.",  "cloud-init.",   "environment.",
                                           "image.", "migration.vm.", "snapshots.",
                                           "user.",  "volatile.",     NULL};
    bool pinned = false;
    if (strcmp(key, "limits.cpu") == 0) {
        const char *old = keys_get(from, key), *new = keys_get(to, key);
        pinned = (old != NULL && strpbrk(old, "-,") != NULL) ||
                 (new != NULL &&strpbrk(new, "-,") != NULL);
    }
    for (size_t i = 0; prefixes[i] != NULL; i++) {
        if (g_str_has_prefix(key, prefixes[i])) {
            return true;
        }
    }
    return !pinned && g_strv_contains(exact, key);
}

static bool
driver_may_change(Inst *inst, json_t *from, json_t *to, GError **error)
{
    json_t *both = json_copy(from), *value;
    const char *key;
    bool ok = true;
    json_object_update(both, to);
    json_object_foreach (both, key, value) {
        if (ok && g_strcmp0(keys_get(from, key), keys_get(to, key)) != 0 &&
            !may_change_key(key, from, to)) {
            ok = haw_fail(error, HAW_INVALID, "Key \"%s\" cannot be updated when VM is running",
                          key);
        }
    }
    json_decref(both);
    return ok;
}

static bool
driver_change(Inst *inst, json_t *from, json_t *to, GError **error)
{
    const char *old_cpu = keys_get(from, "limits.cpu"), *cpu = keys_get(to, "limits.cpu");
    const char *old_memory = keys_get(from, "limits.memory"),
               *memory = keys_get(to, "limits.memory");
    if (g_strcmp0(old_cpu, cpu) != 0 &&
        (!need_session(inst, error) || !vmcpu_change(inst->vm, vmlayout_cpus(cpu), error))) {
        return haw_push(error, "Failed updating CPU limit");
    }
    if (g_strcmp0(old_memory, memory) != 0 &&
        (!need_session(inst, error) || !vmcpu_balloon(inst->vm, memory, error))) {
        return haw_push(error, "Failed updating memory limit");
    }
    return true;
}

/* ---- inside ---- */

static InstExec *
driver_exec(Inst *inst, const InstExecSpec *spec, GError **error)
{
    const VmGuest *guest = vm_guest();
    if (!need_session(inst, error)) {
        return NULL;
    }
    if (guest->exec == NULL) {
        haw_fail(error, HAW_UNAVAILABLE, "LXD VM agent isn't currently running");
        return NULL;
    }
    return guest->exec(inst->vm, spec, error);
}

static bool
driver_files(Inst *inst, json_t *request, int body_fd, json_t **ret_reply, int *ret_fd,
             GError **error)
{
    const VmGuest *guest = vm_guest();
    if (inst_pid(inst) == 0 || !need_session(inst, NULL) || guest->files == NULL) {
        json_decref(request);
        return haw_fail(error, HAW_UNAVAILABLE, "LXD VM agent isn't currently running");
    }
    return guest->files(inst->vm, request, body_fd, ret_reply, ret_fd, error);
}

static bool
driver_sftp(Inst *inst, int fd, GError **error)
{
    const VmGuest *guest = vm_guest();
    if (inst_pid(inst) == 0 || !need_session(inst, NULL) || guest->sftp == NULL) {
        return haw_fail(error, HAW_UNAVAILABLE, "LXD VM agent isn't currently running");
    }
    return guest->sftp(inst->vm, fd, error);
}

/* ---- state on disk ---- */

static bool
save_into(Inst *inst, const char *dir, GError **error)
{
    VmSession *vm = inst->vm;
    vm->moving = true;
    bool ok = qmp_do(vm->qmp, "stop", NULL, error) && vmstate_save(vm, dir, error);
    if (!ok && inst->vm != NULL) {
        qmp_do(inst->vm->qmp, "cont", NULL, NULL);
    }
    if (inst->vm != NULL) {
        inst->vm->moving = false;
    }
    return ok;
}

static bool
driver_save(Inst *inst, GError **error)
{
    Vol vol;
    if (!need_session(inst, error) || !inst_volume(inst, &vol, error)) {
        return false;
    }
    if (!inst_get_bool(inst, "migration.stateful", false)) {
        return haw_fail(error, HAW_CONFLICT,
                        "Stateful stop and snapshots require that the instance has "
                        "migration.stateful be set to true");
    }
    g_autofree char *mount = vol_path(inst->agent->pools, &vol);
    return save_into(inst, mount, error);
}

static void
driver_drop_state(Inst *inst)
{
    Vol vol;
    g_autofree char *mount = NULL;
    g_autoptr(GError) error = NULL;
    if (!inst_volume(inst, &vol, &error) || !vol_mount(inst->agent->pools, &vol, &mount, &error)) {
        haw_warn("vm.state", KS("inst", inst->name), KS("why", error->message));
        return;
    }
    vmstate_drop(mount);
    vol_unmount(inst->agent->pools, &vol, NULL);
}

static bool
driver_resume(Inst *inst, GError **error)
{
    return need_session(inst, error) && qmp_do(inst->vm->qmp, "cont", NULL, error);
}

const Driver driver_qemu = {
    .type = "virtual-machine",
    .start = driver_start,
    .undo = vmboot_undo,
    .halt = driver_halt,
    .kill = driver_kill,
    .freeze = driver_freeze,
    .frozen = driver_frozen,
    .probe = driver_probe,
    .adopt = driver_adopt,
    .forget = driver_forget,
    .plug = driver_plug,
    .unplug = driver_unplug,
    .may_change = driver_may_change,
    .change = driver_change,
    .state = vmshow_state,
    .own_terminals = true,
    .exec = driver_exec,
    .console = vmconsole_open,
    .console_log = vmconsole_log,
    .console_clear = vmconsole_clear,
    .display = vmconsole_display,
    .files = driver_files,
    .sftp = driver_sftp,
    .save = driver_save,
    .resume = driver_resume,
    .drop_state = driver_drop_state,
};
