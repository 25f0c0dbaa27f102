/* Starting a virtual machine.
 * B1  Order: run directory (T1 of start.c), volume, devices' host sides, memory, TPM, QEMU stopped at its
 *     first instruction, rows (T2), QMP, devices plugged, CPUs placed, then the first instruction.
 * B2  QEMU leads a session of its own and survives the agent (vmprocess.c finds it again). It may not fork, so
 *     it does not daemonize. Its sockets are made here and handed over.
 * B3  Whatever fails, QEMU is gone before the function returns; the rest is start_undo()'s.
 * B4  A machine that takes over a state gets the layout of the one that had it.
 * Called by driver_qemu.c and vmstate.c. Main loop. */
#include "agent/vm/vmrun.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/api/settings.h"
#include "agent/inst/lifecycle.h"
#include "agent/inst/limits.h"
#include "agent/inst/plug.h"
#include "agent/inst/rootsize.h"
#include "agent/vm/firmware.h"
#include "agent/vm/vmmachine.h"
#include "agent/vm/vmhost.h"
#include "agent/vm/vmitem.h"
#include "agent/vm/vmlayout.h"
#include "agent/vm/vmsev.h"
#include "agent/vm/vmsock.h"
#include "agent/vm/vmstate.h"
#include "base/clock.h"
#include "base/crash.h"
#include "base/fd.h"
#include "base/ids.h"
#include "base/log.h"
#include "base/proc.h"
#include "proto/keys.h"

enum { QEMU_START_MS = 60000, CID_BASE = 3 };
/* What QEMU is handed: its number is 3 plus the place here. */
enum { FD_QMP, FD_GUEST, FD_RUN_DIR, FD_TPM, FD_COUNT };
_Static_assert(3 + FD_RUN_DIR == VM_RUN_DIR_FD, "vm.h says so");

struct boot {
    Inst *inst;
    const VmBoot *how;
    char *run_dir, *log_dir, *mount, *memory_path, *nvram;
    json_t *layout, *changes, *items, *sev;
    Firmware firmware;
    const char *qemu;
    GPtrArray *extra; /* of the guest's agent */
    int fds[FD_COUNT];
    pid_t pid;
};

static void
boot_done(struct boot *b)
{
    g_free(b->run_dir);
    g_free(b->log_dir);
    g_free(b->mount);
    g_free(b->memory_path);
    g_free(b->nvram);
    json_decref(b->layout);
    json_decref(b->changes);
    json_decref(b->items);
    json_decref(b->sev);
    firmware_clear(&b->firmware);
    g_ptr_array_unref(b->extra);
    for (int i = 0; i < FD_COUNT; i++) {
        fd_close(&b->fds[i]);
    }
}

static void
set_text(struct boot *b, const char *key, const char *value)
{
    json_object_set_new(b->changes, key, json_string(value));
}

/* ---- what it will be ---- */

static bool
choose_layout(struct boot *b, GError **error)
{
    Inst *inst = b->inst;
    g_autofree char *why = NULL;
    const char *asked = settings_get(inst->agent->settings, "qemu.accel");
    const char *accel = vmhost_accel(asked, &why, error);
    if (accel == NULL) {
        return false;
    }
    if (why != NULL) {
        g_autofree char *text = g_strdup_printf(
            "warning: no hardware virtualization (%s): emulated by TCG, which is slow", why);
        vmsession_note(b->inst, text);
    }
    if (b->how->layout != NULL) { /* B4 */
        b->layout = json_deep_copy(b->how->layout);
        const char *theirs = json_string_value(json_object_get(b->layout, "accel"));
        return vmlayout_check(b->layout, error) &&
               (g_strcmp0(theirs, accel) == 0 ||
                haw_fail(error, HAW_UNSUPPORTED,
                         "The state of the virtual machine needs accelerator \"%s\"; this server "
                         "has \"%s\"",
                         theirs, accel));
    }
    VmlayoutHost host = {.accel = accel,
                         .host_memory = limits_host_memory(),
                         .hugepage_bytes = vmhost_hugepage_bytes(),
                         .host_cpus = vmhost_cpus(),
                         .vsock = vmhost_vsock()};
    b->layout = vmlayout_new(inst->expanded_config, &host, error);
    return b->layout != NULL;
}

static bool
check_config(struct boot *b, GError **error)
{
    Inst *inst = b->inst;
    bool csm = inst_get_bool(inst, "security.csm", false);
    bool secure = inst_get_bool(inst, "security.secureboot", true);
    const char *required = inst_get(inst, "image.requirements.secureboot");
    if (csm && secure) {
        return haw_fail(error, HAW_INVALID,
                        "Secure boot can't be enabled while CSM is turned on. Please set "
                        "\"security.secureboot=false\" on the instance");
    }
    if (secure && g_strcmp0(required, "false") == 0) {
        return haw_fail(error, HAW_INVALID,
                        "The image used by this instance is incompatible with secureboot. Please "
                        "set security.secureboot=false on the instance");
    }
    return true;
}

static bool
prepare_firmware(struct boot *b, GError **error)
{
    const char *word = json_string_value(json_object_get(b->layout, "firmware"));
    bool anew = inst_get_bool(b->inst, "volatile.apply_nvram", false);
    if (!firmware_find(firmware_of_word(word), &b->firmware, error)) {
        return false;
    }
    if (b->firmware.kind != FIRMWARE_BIOS &&
        !firmware_nvram(&b->firmware, b->mount, anew, &b->nvram, error)) {
        return false;
    }
    json_object_set_new(b->changes, "volatile.apply_nvram", json_null());
    return true;
}

static bool
make_dirs(struct boot *b, GError **error)
{
    b->run_dir = inst_run_dir(b->inst);
    b->log_dir = inst_log_dir(b->inst);
    g_autofree char *log = g_strdup_printf("%s/qemu.log", b->log_dir);
    g_autofree char *old = g_strdup_printf("%s/qemu.log.old", b->log_dir);
    if (!fd_mkdir_p(b->run_dir, 0711, error) || !fd_mkdir_p(b->log_dir, 0700, error)) {
        return false;
    }
    rename(log, old);
    return true;
}

static bool
prepare_volume(struct boot *b, GError **error)
{
    Vol vol;
    return inst_volume(b->inst, &vol, error) && rootsize_settle(b->inst, b->changes, error) &&
           vol_mount(b->inst->agent->pools, &vol, &b->mount, error);
}

/* UUIDs that an instance from before, or from a copy, may not have yet. */
static void
choose_uuids(struct boot *b)
{
    if (inst_get(b->inst, "volatile.uuid") == NULL) {
        g_autofree char *uuid = ids_uuid();
        set_text(b, "volatile.uuid", uuid);
    }
    if (inst_get(b->inst, "volatile.uuid.generation") == NULL) {
        const char *uuid = inst_get(b->inst, "volatile.uuid");
        uuid = uuid != NULL ? uuid : keys_get(b->changes, "volatile.uuid");
        set_text(b, "volatile.uuid.generation", uuid);
    }
    g_autofree char *cid = g_strdup_printf("%" G_GINT64_FORMAT, CID_BASE + b->inst->id);
    set_text(b, "volatile.vsock_id", cid);
}

static const char *
uuid_of(struct boot *b, const char *key)
{
    const char *value = keys_get(b->changes, key);
    return value != NULL ? value : inst_get(b->inst, key);
}

static bool
start_tpms(struct boot *b, GError **error)
{
    size_t i;
    json_t *item;
    json_array_foreach (b->items, i, item) {
        if (g_strcmp0(vmitem_get(item, "type"), "tpm") != 0) {
            continue;
        }
        if (b->fds[FD_TPM] >= 0) {
            return haw_fail(error, HAW_INVALID, "A virtual machine has one TPM at most");
        }
        g_autofree char *node = vmitem_node(vmitem_get(item, "device"));
        g_autofree char *dir = g_strdup_printf("%s/tpm.%s", b->mount, node);
        if (!vmtpm_start(b->inst, vmitem_get(item, "device"), dir, &b->fds[FD_TPM], error)) {
            return false;
        }
    }
    return true;
}

/* B1, before QEMU. */
static bool
prepare(struct boot *b, GError **error)
{
    Inst *inst = b->inst;
    b->qemu = vmhost_qemu(inst->architecture, error);
    if (b->qemu == NULL || !check_config(b, error) || !make_dirs(b, error)) {
        return false;
    }
    crash_point("vm_start");
    if (!choose_layout(b, error) || !prepare_volume(b, error) || !prepare_firmware(b, error)) {
        return false;
    }
    choose_uuids(b);
    if (!b->how->incoming) { /* they are in the config share */
        json_object_set_new(b->changes, "volatile.apply_template", json_null());
    }
    crash_point("vm_start");
    if (!plug_start_all(inst, 0, b->changes, &b->items, error)) {
        return false;
    }
    crash_point("vm_start");
    gint64 bytes = json_integer_value(json_object_get(b->layout, "memory"));
    gint64 page = json_integer_value(json_object_get(b->layout, "page_bytes"));
    if (!vm_memory_make(inst, bytes, page, &b->memory_path, error) || !start_tpms(b, error)) {
        return false;
    }
    if (b->how->state_dir != NULL &&
        !vmstate_fill_memory(b->how->state_dir, b->memory_path, error)) {
        return haw_push(error, "Load the saved memory");
    }
    const VmGuest *guest = vm_guest();
    return guest->prepare == NULL || guest->prepare(inst, b->mount, b->items, b->extra, error);
}

/* ---- QEMU ---- */

static bool
make_sockets(struct boot *b, GError **error)
{
    b->fds[FD_QMP] = vmsock_listen(b->run_dir, "qmp.sock", error);
    b->fds[FD_GUEST] = b->fds[FD_QMP] >= 0 ? vmsock_listen(b->run_dir, "guest.sock", error) : -1;
    if (b->fds[FD_GUEST] < 0) {
        return false;
    }
    b->fds[FD_RUN_DIR] = open(b->run_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return b->fds[FD_RUN_DIR] >= 0 || haw_fail_errno(error, errno, "Open '%s'", b->run_dir);
}

static bool
add_raw(struct boot *b, GPtrArray *argv, GError **error)
{
    const char *raw = inst_get(b->inst, "raw.qemu");
    g_auto(GStrv) words = NULL;
    g_autoptr(GError) local = NULL;
    if (raw == NULL) {
        return true;
    }
    if (!g_shell_parse_argv(raw, NULL, &words, &local)) {
        return haw_fail(error, HAW_INVALID, "raw.qemu: %s", local->message);
    }
    for (char **word = words; *word != NULL; word++) {
        g_ptr_array_add(argv, g_strdup(*word));
    }
    return true;
}

static GPtrArray *
build_argv(struct boot *b, GError **error)
{
    Inst *inst = b->inst;
    g_autofree char *pid_path = g_strdup_printf("%s/qemu.pid", b->run_dir);
    VmMachine spec = {.name = inst->name,
                      .uuid = uuid_of(b, "volatile.uuid"),
                      .generation = uuid_of(b, "volatile.uuid.generation"),
                      .pid_path = pid_path,
                      .memory_path = b->memory_path,
                      .code = b->firmware.code,
                      .nvram = b->nvram,
                      .layout = b->layout,
                      .overrides = inst_get(inst, "raw.qemu.conf"),
                      .qmp_fd = 3 + FD_QMP,
                      .guest_fd = 3 + FD_GUEST,
                      .run_dir_fd = 3 + FD_RUN_DIR,
                      .tpm_fd = b->fds[FD_TPM] >= 0 ? 3 + FD_TPM : -1,
                      .spice = true,
                      .vsock_cid = CID_BASE + inst->id,
                      .incoming = b->how->incoming || b->how->state_path != NULL,
                      .sev = b->sev};
    g_autoptr(VmArgs) args = vmmachine_args(&spec, error);
    g_autoptr(GPtrArray) argv = g_ptr_array_new_with_free_func(g_free);
    if (args == NULL) {
        return NULL;
    }
    g_ptr_array_add(argv, g_strdup(b->qemu));
    vmargs_render(args, argv);
    for (guint i = 0; i < b->extra->len; i++) {
        g_ptr_array_add(argv, g_strdup(b->extra->pdata[i]));
    }
    if (!add_raw(b, argv, error)) {
        return NULL;
    }
    g_ptr_array_add(argv, NULL);
    return g_steal_pointer(&argv);
}

/* What was run, for whoever looks for a reason. */
static void
store_argv(struct boot *b, GPtrArray *argv)
{
    g_autoptr(GString) text = g_string_new(NULL);
    g_autofree char *path = g_strdup_printf("%s/qemu.conf", b->log_dir);
    for (guint i = 0; i + 1 < argv->len; i++) {
        g_autofree char *quoted = g_shell_quote(argv->pdata[i]);
        g_string_append_printf(text, "%s\n", quoted);
    }
    g_file_set_contents_full(path, text->str, (gssize) text->len, G_FILE_SET_CONTENTS_NONE, 0600,
                             NULL);
}

/* The last line that QEMU wrote before it ended. */
static char *
last_words(struct boot *b)
{
    g_autofree char *path = g_strdup_printf("%s/qemu.log", b->log_dir);
    g_autofree char *text = fd_read_file(path, 1024 * 1024, NULL, NULL);
    char *line = text != NULL ? strrchr(g_strchomp(text), '\n') : NULL;
    return g_strdup(line != NULL ? line + 1 : text != NULL ? text : "");
}

static bool
spawn(struct boot *b, GError **error)
{
    g_autofree char *log = g_strdup_printf("%s/qemu.log", b->log_dir);
    g_autoptr(GPtrArray) argv = build_argv(b, error);
    if (argv == NULL) {
        return false;
    }
    store_argv(b, argv);
    b->pid = proc_spawn((const char *const *) argv->pdata, NULL, log, b->fds,
                        b->fds[FD_TPM] >= 0 ? FD_COUNT : FD_TPM, error); /* B2 */
    for (int i = 0; i < FD_COUNT; i++) { /* so that the end of QEMU is the end of its sockets */
        fd_close(&b->fds[i]);
    }
    return b->pid > 0 || haw_push(error, "Failed to run: %s", b->qemu);
}

static bool
connect_qmp(struct boot *b, GError **error)
{
    g_autoptr(GError) local = NULL;
    if (vmsession_open(b->inst, b->pid, json_incref(b->layout), QEMU_START_MS, &local)) {
        return true;
    }
    g_autofree char *why = last_words(b);
    return haw_fail(error, HAW_FAILED, "Failed to run: %s: %s", b->qemu,
                    *why != '\0' ? why : local->message);
}

static bool
launch(struct boot *b, GError **error)
{
    Inst *inst = b->inst;
    if (!make_sockets(b, error)) {
        return false;
    }
    set_text(b, "volatile.last_state.power", "RUNNING");
    if (!b->how->incoming && !record_set_used(inst, b->changes, clock_real_us(), error)) { /* T2 */
        return false;
    }
    crash_point("vm_start");
    if (!spawn(b, error)) {
        return false;
    }
    crash_point("vm_start");
    if (!connect_qmp(b, error)) {
        return false;
    }
    inst->vm->incoming = b->how->incoming || b->how->state_path != NULL;
    if (!lifecycle_attach(inst, b->pid, error) || !vmsettle_run(inst->vm, b->items, error)) {
        return false;
    }
    if (b->how->state_path != NULL && !vmstate_load(inst->vm, b->how->state_path, error)) {
        return haw_push(error, "Resume from the saved state");
    }
    return true;
}

bool
vmboot_run(Inst *inst, const VmBoot *how, GError **error)
{
    struct boot b = {.inst = inst, .how = how, .changes = json_object()};
    b.extra = g_ptr_array_new_with_free_func(g_free);
    for (int i = 0; i < FD_COUNT; i++) {
        b.fds[i] = -1;
    }
    bool ok = vmsev_prepare(inst, &b.sev, error) && prepare(&b, error) && launch(&b, error);
    if (ok && !how->incoming) {
        ok = plug_post_start_all(inst, error);
    }
    if (!ok) { /* B3 */
        vmprocess_kill(inst);
        record_set_used(inst, b.changes, 0, NULL); /* names of host interfaces, for the undo */
    } else if (how->incoming) {
        ok = record_set_used(inst, b.changes, 0, error);
    } else if (vm_guest()->attached != NULL) {
        vm_guest()->attached(inst->vm);
    }
    boot_done(&b);
    return ok;
}

void
vmboot_undo(Inst *inst)
{
    g_autoptr(GError) error = NULL;
    vmprocess_kill(inst);
    const char *name;
    json_t *device, *devices = json_incref(inst->expanded_devices);
    json_object_foreach (devices, name, device) {
        if (g_strcmp0(keys_get(device, "type"), "tpm") == 0) {
            vmtpm_stop(inst, name);
        }
    }
    json_decref(devices);
    if (vm_guest()->undo != NULL) {
        vm_guest()->undo(inst);
    }
    if (!vm_memory_drop(inst, &error)) {
        haw_warn("vm.memory", KS("inst", inst->name), KS("why", error->message));
    }
}
