/* Starting a virtual machine.
 * B1  Order: run directory (T1 of start.c), volume, devices' host sides, memory, TPM, QEMU stopped at its
 *     first instruction, rows (T2), QMP, devices plugged, CPUs placed, then the first instruction.
 * B2  QEMU leads a session of its own and survives the agent (vmprocess.c finds it again). It may not fork, so
 *     it does not daemonize. Its sockets and files are opened here and handed over (vmuser.c U2).
 * B3  Whatever fails, QEMU is gone before the function returns; the rest is start_undo()'s.
 * B4  A machine that takes over a state gets the layout of the one that had it.
 * B5  The vsock address is the first from the instance's number on that nobody has on this kernel: tried on
 *     the descriptor that QEMU gets, so nobody takes it in between.
 * Called by driver_qemu.c and vmstate.c. Main loop. */
#include "agent/vm/vmrun.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <linux/vhost.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/api/settings.h"
#include "agent/inst/lifecycle.h"
#include "agent/inst/limits.h"
#include "agent/inst/plug.h"
#include "agent/inst/rootsize.h"
#include "agent/vm/firmware.h"
#include "agent/vm/vmfds.h"
#include "agent/vm/vmmachine.h"
#include "agent/vm/vmhost.h"
#include "agent/vm/vmitem.h"
#include "agent/vm/vmlayout.h"
#include "agent/vm/vmsev.h"
#include "agent/vm/vmsock.h"
#include "agent/vm/vmstate.h"
#include "agent/vm/vmuser.h"
#include "base/clock.h"
#include "base/crash.h"
#include "base/fd.h"
#include "base/ids.h"
#include "base/log.h"
#include "base/proc.h"
#include "proto/keys.h"

enum { QEMU_START_MS = 60000, CID_BASE = 3, CID_TRIES = 64 };
/* The numbers in QEMU of what every machine is handed first, in this order. */
enum { FD_QMP = VMFDS_FIRST, FD_GUEST };
_Static_assert(FD_GUEST + 1 == VM_RUN_DIR_FD && VM_RUN_DIR_FD + 1 == VM_OWN_DIR_FD, "vm.h says so");

struct boot {
    Inst *inst;
    const VmBoot *how;
    char *run_dir, *log_dir, *mount, *memory_path, *nvram;
    json_t *layout, *changes, *items, *sev;
    Firmware firmware;
    const char *qemu;
    GPtrArray *extra; /* of the guest's agent */
    GArray *fds;      /* vmfds.h */
    int tpm_fd, vsock_fd;
    gint64 cid;
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
    g_array_unref(b->fds);
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
    b->layout =
        vmlayout_new(inst->expanded_config, json_object_size(inst->expanded_devices), &host, error);
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
make_sockets(struct boot *b, GError **error)
{
    g_autofree char *own = g_build_filename(b->run_dir, VM_OWN_DIR, NULL);
    haw_autofd int qmp = vmsock_listen(b->run_dir, "qmp.sock", error);
    haw_autofd int guest = qmp >= 0 ? vmsock_listen(b->run_dir, "guest.sock", error) : -1;
    if (guest < 0 || !fd_remove_tree(own, error) || !fd_mkdir_p(own, 0700, error)) {
        return false;
    }
    haw_autofd int dir = open(b->run_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    haw_autofd int own_dir = open(own, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (dir < 0 || own_dir < 0) {
        return haw_fail_errno(error, errno, "Open '%s'", b->run_dir);
    }
    if (!vmuser_give(b->inst, own_dir, own, error)) {
        return false;
    }
    int *const in_order[] = {&qmp, &guest, &dir, &own_dir};
    for (size_t i = 0; i < G_N_ELEMENTS(in_order); i++) {
        vmfds_add(b->fds, in_order[i]);
    }
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
}

/* B5 */
static bool
choose_cid(struct boot *b, GError **error)
{
    bool wanted = json_is_true(json_object_get(b->layout, "vsock"));
    haw_autofd int fd = wanted ? open("/dev/vhost-vsock", O_RDWR | O_CLOEXEC) : -1;
    b->cid = CID_BASE + b->inst->id;
    if (wanted && fd < 0) {
        return haw_fail_errno(error, errno, "Open '/dev/vhost-vsock'");
    }
    for (int left = CID_TRIES; fd >= 0; left--, b->cid++) {
        guint64 cid = (guint64) b->cid;
        if (ioctl(fd, VHOST_VSOCK_SET_GUEST_CID, &cid) == 0) {
            break;
        }
        if (errno != EADDRINUSE || left == 0) {
            return haw_fail_errno(error, errno, "Take vsock address %" G_GINT64_FORMAT, b->cid);
        }
    }
    g_autofree char *text = g_strdup_printf("%" G_GINT64_FORMAT, b->cid);
    set_text(b, "volatile.vsock_id", text);
    b->vsock_fd = vmfds_add(b->fds, &fd);
    return true;
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
        if (b->tpm_fd >= 0) {
            return haw_fail(error, HAW_INVALID, "A virtual machine has one TPM at most");
        }
        haw_autofd int fd = -1;
        g_autofree char *node = vmitem_node(vmitem_get(item, "device"));
        g_autofree char *dir = g_strdup_printf("%s/tpm.%s", b->mount, node);
        if (!vmtpm_start(b->inst, vmitem_get(item, "device"), dir, &fd, error)) {
            return false;
        }
        b->tpm_fd = vmfds_add(b->fds, &fd);
    }
    return true;
}

/* B1, before QEMU. */
static bool
prepare(struct boot *b, GError **error)
{
    Inst *inst = b->inst;
    b->qemu = vmhost_qemu(inst->architecture, error);
    if (b->qemu == NULL || !check_config(b, error) || !make_dirs(b, error) ||
        !make_sockets(b, error)) {
        return false;
    }
    crash_point("vm_start");
    if (!choose_layout(b, error) || !prepare_volume(b, error) || !prepare_firmware(b, error)) {
        return false;
    }
    choose_uuids(b);
    if (!choose_cid(b, error)) {
        return false;
    }
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
    return guest->prepare == NULL ||
           guest->prepare(inst, b->mount, b->items, b->extra, b->fds, error);
}

/* ---- QEMU ---- */

/* An open file for QEMU: *ret is its number there. */
static bool
hand(struct boot *b, const char *path, int flags, int *ret, GError **error)
{
    haw_autofd int fd = open(path, flags | O_CLOEXEC);
    if (fd < 0) {
        return haw_fail_errno(error, errno, "Open '%s'", path);
    }
    *ret = vmfds_add(b->fds, &fd);
    return true;
}

static bool
hand_files(struct boot *b, VmMachine *spec, GError **error)
{
    if (!hand(b, b->memory_path, O_RDWR, &spec->memory_fd, error) ||
        !vmuser_give(b->inst, g_array_index(b->fds, int, spec->memory_fd - VMFDS_FIRST),
                     b->memory_path, error)) {
        return false;
    }
    return b->firmware.code == NULL ||
           (hand(b, b->firmware.code, O_RDONLY, &spec->code_fd, error) &&
            hand(b, b->nvram, O_RDWR, &spec->nvram_fd, error));
}

/* For a guest whose memory may come after it: trackfd.c's T5. Kernels before 6.1 have no such device. */
static void
hand_userfaults(struct boot *b)
{
    const char *stall = inst_get(b->inst, "migration.vm.stall");
    haw_autofd int fd = b->how->incoming && g_strcmp0(stall, "postcopy") == 0
                            ? open("/dev/userfaultfd", O_RDWR | O_CLOEXEC)
                            : -1;
    vmfds_add(b->fds, &fd);
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
    VmMachine spec = {.name = inst->name,
                      .uuid = uuid_of(b, "volatile.uuid"),
                      .generation = uuid_of(b, "volatile.uuid.generation"),
                      .layout = b->layout,
                      .overrides = inst_get(inst, "raw.qemu.conf"),
                      .qmp_fd = FD_QMP,
                      .guest_fd = FD_GUEST,
                      .own_dir_fd = VM_OWN_DIR_FD,
                      .code_fd = -1,
                      .nvram_fd = -1,
                      .tpm_fd = b->tpm_fd,
                      .vsock_fd = b->vsock_fd,
                      .spice = true,
                      .vsock_cid = b->cid,
                      .incoming = b->how->incoming || b->how->state_path != NULL,
                      .sev = b->sev};
    hand_userfaults(b);
    g_autoptr(VmArgs) args = hand_files(b, &spec, error) ? vmmachine_args(&spec, error) : NULL;
    g_autoptr(GPtrArray) argv = g_ptr_array_new_with_free_func(g_free);
    if (args == NULL) {
        return NULL;
    }
    vmuser_argv(inst, argv);
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
    b->pid = proc_spawn((const char *const *) argv->pdata, NULL, log, (const int *) b->fds->data,
                        b->fds->len, error); /* B2 */
    g_array_set_size(b->fds, 0);             /* so that the end of QEMU is the end of its sockets */
    return b->pid > 0 ? vmprocess_note(b->inst, b->pid, error)
                      : haw_push(error, "Failed to run: %s", b->qemu);
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
    struct boot b = {.inst = inst,
                     .how = how,
                     .changes = json_object(),
                     .extra = g_ptr_array_new_with_free_func(g_free),
                     .fds = vmfds_new(),
                     .tpm_fd = -1,
                     .vsock_fd = -1};
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
