/* A running VM, as the agent holds it: QMP, pid, layout; and what QEMU tells by itself.
 * V1  The session belongs to the instance and ends with QEMU, or with the agent's interest in it; the VM
 *     does not need it.
 * V2  A reset by the guest ends QEMU (set-action reboot=shutdown) and leaves run/NAME/reboot behind, as a
 *     container's reboot does: the next start takes changed configuration with it.
 * V3  A guest that QEMU stopped or resumed without being asked by us is shown as what it is.
 * Called by vmboot.c, adopt.c through the driver, and agent/move. Main loop. */
#include "agent/vm/vmrun.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "agent/inst/lifecycle.h"
#include "agent/vm/vmlayout.h"
#include "agent/vm/vmsock.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"

enum { LAYOUT_MAX = 1024 * 1024, CONNECT_STEP_MS = 20 };

static const VmGuest no_guest;
static const VmGuest *guest_ops = &no_guest;

void
vm_set_guest(const VmGuest *guest)
{
    guest_ops = guest;
}

const VmGuest *
vm_guest(void)
{
    return guest_ops;
}

/* ---- what others ask ---- */

VmSession *
vm_session(Inst *inst)
{
    return inst->vm;
}

Qmp *
vm_qmp(VmSession *vm)
{
    return vm->qmp;
}

Inst *
vm_inst(VmSession *vm)
{
    return vm->inst;
}

pid_t
vm_pid(VmSession *vm)
{
    return vm->pid;
}

const char *
vm_run_dir(VmSession *vm)
{
    return vm->run_dir;
}

const char *
vm_memory_path(VmSession *vm)
{
    return vm->memory_path;
}

gint64
vm_memory_bytes(VmSession *vm)
{
    return json_integer_value(json_object_get(vm->layout, "memory"));
}

json_t *
vm_layout(VmSession *vm)
{
    return json_deep_copy(vm->layout);
}

void
vm_set_moving(VmSession *vm, bool moving)
{
    vm->moving = moving;
}

void
vm_keep_place(VmSession *vm, const char *device)
{
    g_free(vm->kept);
    vm->kept = g_strdup(device);
}

int
vm_guest_connect(VmSession *vm, GError **error)
{
    return vmsock_connect(vm->run_dir, "guest.sock", error);
}

bool
vm_guest_open(VmSession *vm)
{
    return vm->guest_open;
}

/* ---- events ---- */

/* V2 */
static void
on_shutdown(VmSession *vm, json_t *data)
{
    const char *reason = json_string_value(json_object_get(data, "reason"));
    haw_info("vm.shutdown", KS("inst", vm->inst->name), KS("reason", reason != NULL ? reason : ""));
    if (g_strcmp0(reason, "guest-reset") == 0) {
        g_autofree char *mark = g_strdup_printf("%s/reboot", vm->run_dir);
        if (!g_file_set_contents_full(mark, "", 0, G_FILE_SET_CONTENTS_NONE, 0600, NULL)) {
            haw_warn("vm.reboot_mark", KS("inst", vm->inst->name));
        }
    }
}

/* V3: the states that a fiber of ours is not about to set. */
static void
on_stopped(VmSession *vm, bool stopped)
{
    Inst *inst = vm->inst;
    if (vm->moving || vm->incoming) {
        return;
    }
    if (stopped && inst->state == INST_RUNNING && inst->queue.holder == NULL) {
        inst_move(inst, INST_FREEZING);
        inst_move(inst, INST_FROZEN);
    } else if (!stopped && inst->state == INST_FROZEN && inst->queue.holder == NULL) {
        inst_move(inst, INST_THAWING);
        inst_move(inst, INST_RUNNING);
    }
}

static void
on_port(VmSession *vm, json_t *data)
{
    if (g_strcmp0(json_string_value(json_object_get(data, "id")), "guest-port") == 0) {
        vm->guest_open = json_is_true(json_object_get(data, "open"));
        if (guest_ops->port != NULL) {
            guest_ops->port(vm, vm->guest_open);
        }
    }
}

static void
on_event(const char *name, json_t *data, void *user)
{
    VmSession *vm = user;
    const char *device = json_string_value(json_object_get(data, "device"));
    if (strcmp(name, "SHUTDOWN") == 0) {
        on_shutdown(vm, data);
    } else if (strcmp(name, "STOP") == 0 || strcmp(name, "RESUME") == 0) {
        on_stopped(vm, strcmp(name, "STOP") == 0);
    } else if (strcmp(name, "VSERPORT_CHANGE") == 0) {
        on_port(vm, data);
    } else if (strcmp(name, "DEVICE_DELETED") == 0 && device != NULL) {
        g_hash_table_add(vm->deleted, g_strdup(device));
    } else if (strcmp(name, "RESET") == 0) {
        vm->was_reset = true;
    } else if (strcmp(name, "BLOCK_IO_ERROR") == 0) {
        const char *reason = json_string_value(json_object_get(data, "reason"));
        haw_warn("vm.disk_error", KS("inst", vm->inst->name), KS("why", reason ? reason : ""));
    }
    fiber_signal_all(&vm->happened);
}

static void
on_ended(const GError *why, void *user)
{
    VmSession *vm = user;
    Inst *inst = vm->inst;
    fiber_signal_all(&vm->happened);
    haw_debug("vm.monitor_closed", KS("inst", inst->name), KS("why", why->message));
}

bool
vmsession_await_gone(VmSession *vm, const char *id, gint64 wait_ms, GError **error)
{
    gint64 until = clock_mono_us() / 1000 + wait_ms;
    while (!g_hash_table_contains(vm->deleted, id)) {
        gint64 left = until - clock_mono_us() / 1000;
        if (!qmp_alive(vm->qmp)) {
            return haw_fail(error, HAW_UNAVAILABLE, "QEMU closed its monitor");
        }
        if (left <= 0) {
            return haw_fail(error, HAW_TIMEOUT,
                            "The guest does not let go of device \"%s\": try again once it runs",
                            id);
        }
        fiber_signal_wait(&vm->happened, left, NULL, NULL);
    }
    g_hash_table_remove(vm->deleted, id);
    return true;
}

/* ---- the layout's file ---- */

void
vmsession_store_layout(VmSession *vm)
{
    g_autofree char *path = g_strdup_printf("%s/layout.json", vm->run_dir);
    g_autoptr(GError) error = NULL;
    char *text = json_dumps(vm->layout, JSON_INDENT(1) | JSON_SORT_KEYS);
    if (!fd_write_atomic(path, text, strlen(text), 0600, &error)) {
        haw_warn("vm.layout", KS("inst", vm->inst->name), KS("why", error->message));
    }
    free(text);
}

json_t *
vmsession_load_layout(const char *run_dir)
{
    g_autofree char *path = g_strdup_printf("%s/layout.json", run_dir);
    g_autofree char *text = fd_read_file(path, LAYOUT_MAX, NULL, NULL);
    json_t *layout = text != NULL ? json_loads(text, 0, NULL) : NULL;
    if (layout != NULL && !vmlayout_check(layout, NULL)) {
        json_decref(layout);
        layout = NULL;
    }
    return layout;
}

/* ---- its life ---- */

static void
session_free(VmSession *vm)
{
    if (vm == NULL) {
        return;
    }
    qmp_close(vm->qmp);
    json_decref(vm->layout);
    g_hash_table_unref(vm->deleted);
    g_free(vm->kept);
    g_free(vm->run_dir);
    g_free(vm->memory_path);
    g_free(vm);
}

void
vmsession_end(Inst *inst)
{
    VmSession *vm = g_steal_pointer(&inst->vm);
    if (vm == NULL) {
        return;
    }
    if (guest_ops->gone != NULL) {
        guest_ops->gone(vm);
    }
    fiber_signal_all(&vm->happened);
    session_free(vm);
}

bool
vmsession_open(Inst *inst, pid_t pid, json_t *layout, gint64 wait_ms, GError **error)
{
    VmSession *vm = g_new0(VmSession, 1);
    g_autofree char *memory_dir = vmmemory_dir(inst);
    vm->inst = inst;
    vm->pid = pid;
    vm->layout = layout;
    vm->run_dir = inst_run_dir(inst);
    vm->memory_path = g_strdup_printf("%s/ram", memory_dir);
    vm->deleted = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    vm->happened = (FiberSignal) FIBER_SIGNAL_INIT;
    haw_autofd int fd = vmsock_connect(vm->run_dir, "qmp.sock", error);
    QmpOptions options = {.event = on_event, .ended = on_ended, .user = vm, .wait_ms = wait_ms};
    vm->qmp = fd >= 0 ? qmp_open(&fd, &options, error) : NULL;
    if (vm->qmp == NULL) {
        session_free(vm);
        return false;
    }
    vmsession_end(inst);
    inst->vm = vm;
    return true;
}

void
vmsession_note(Inst *inst, const char *text)
{
    g_autofree char *dir = inst_log_dir(inst);
    g_autofree char *path = g_build_filename(dir, "qemu.log", NULL);
    g_autofree char *now = clock_format(clock_real_us());
    g_autofree char *line = g_strdup_printf("%s hawserd: %s\n", now, text);
    haw_autofd int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (fd < 0 || !fd_write_all(fd, line, strlen(line), path, NULL)) {
        haw_warn("vm.log", KS("inst", inst->name), KS("path", path));
    }
}
