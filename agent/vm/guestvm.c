/* hawser-guest in a VM's life: the config share and the shared directories before the start, a session while
 * it runs, and what the guest is told each time that it greets.
 * N1  Everything that the guest is told after a greeting may be told again: it does, after each of its
 *     restarts, ours, and a migration. What fails is logged; nothing waits for it.
 * N2  A share is a directory that an item of kind "share" names; its place is its place among those.
 * Called through vm_guest(). Main loop. */
#include "agent/vm/guestvm.h"

#include <string.h>

#include "agent/inst/record.h"
#include "agent/vm/configshare.h"
#include "agent/vm/guestask.h"
#include "agent/vm/guestdev.h"
#include "agent/vm/guestexec.h"
#include "agent/vm/vmitem.h"
#include "agent/vm/vmrun.h"
#include "agent/vm/vmshare.h"
#include "base/clock.h"
#include "base/fiber.h"
#include "base/log.h"
#include "proto/keys.h"

#define GUESTVM_9P       "9p:trans=virtio,version=9p2000.L,msize=1048576"
#define GUESTVM_TAG_SIZE 32
#define GUESTVM_PLUG_MS  20000

struct GuestVm {
    Inst *inst; /* borrowed: it owns the session that owns this */
    GuestLink *link;
};

/* ---- the session ---- */

static int
dial(void *data, GError **error)
{
    struct GuestVm *guest = data;
    VmSession *vm = guest->inst->vm;

    return vm != NULL ? vm_guest_connect(vm, error)
                      : (haw_fail(error, HAW_UNAVAILABLE, "QEMU has ended"), -1);
}

static GuestLink *
link_of(VmSession *vm, GError **error)
{
    if (vm == NULL || vm->guest == NULL) {
        haw_fail(error, HAW_FAILED, GUESTLINK_OFFLINE);
        return NULL;
    }
    return guestlink_ref(vm->guest->link);
}

GuestLink *
guestvm_link(Inst *inst)
{
    return link_of(inst->vm, NULL);
}

/* ---- what it is told when it greets (N1) ---- */

typedef struct {
    Inst *inst; /* shares */
    GuestLink *link;
} Welcome;

static void
note(Welcome *welcome, const char *what, const GError *error)
{
    haw_warn("guest.setup", KS("inst", inst_name(welcome->inst)), KS("what", what),
             KS("why", error->message));
}

static void
name_nics(Welcome *welcome)
{
    g_autoptr(GPtrArray) lines = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GError) error = NULL;
    json_t *devices = json_incref(inst_expanded_devices(welcome->inst)), *device;
    const char *name;

    json_object_foreach (devices, name, device) {
        json_t *own = record_volatile_of(inst_config(welcome->inst), name);
        const char *mac = keys_get(device, "hwaddr"), *called = keys_get(device, "name");
        const char *mtu = keys_get(device, "mtu");
        mac = mac != NULL ? mac : keys_get(own, "hwaddr");
        if (g_strcmp0(keys_get(device, "type"), "nic") == 0 && mac != NULL) {
            g_ptr_array_add(lines, g_strdup_printf("%s %s %s", mac, called != NULL ? called : name,
                                                   mtu != NULL ? mtu : "0"));
        }
        json_decref(own);
    }
    json_decref(devices);
    g_ptr_array_add(lines, NULL);
    if (lines->len > 1 &&
        !guestask_nics(welcome->link, (const char *const *) lines->pdata, &error)) {
        note(welcome, "interfaces", error);
    }
}

static bool
mount_share(GuestLink *link, const char *device, const char *target, bool readonly, GError **error)
{
    static const char *const kinds[] = {"virtiofs", GUESTVM_9P, NULL};
    g_autofree char *tag = vmitem_node(device);
    g_autofree char *path = target[0] == '/' ? g_strdup(target) : g_strconcat("/", target, NULL);

    tag[MIN(strlen(tag), GUESTVM_TAG_SIZE - 1)] = '\0';
    return guestask_mount(link, tag, path, readonly, kinds, error);
}

/* Which of the disks are directories is known from the machine itself: they have no place on a bus. */
static void
mount_shares(Welcome *welcome)
{
    json_t *devices = json_incref(inst_expanded_devices(welcome->inst)), *device;
    const char *name;

    json_object_foreach (devices, name, device) {
        g_autoptr(GError) error = NULL;
        VmSession *vm = welcome->inst->vm;
        const char *path = keys_get(device, "path");
        if (vm == NULL || path == NULL || g_strcmp0(path, "/") == 0 ||
            g_strcmp0(keys_get(device, "type"), "disk") != 0 || !vmshare_known(vm, name)) {
            continue;
        }
        if (!mount_share(welcome->link, name, path, keys_get_bool(device, "readonly", false),
                         &error)) {
            note(welcome, path, error);
        }
    }
    json_decref(devices);
}

static void
welcome_body(void *data)
{
    Welcome *welcome = data;
    g_autoptr(GError) error = NULL;

    if (!guestask_time(welcome->link, &error)) {
        note(welcome, "clock", error);
        g_clear_error(&error);
    }
    if (!guestask_hostname(welcome->link, inst_name(welcome->inst), &error)) {
        note(welcome, "host name", error);
        g_clear_error(&error);
    }
    if (inst_get_bool(welcome->inst, "agent.nic_config", false)) {
        name_nics(welcome);
    }
    mount_shares(welcome);
    if (!guestask_ready(welcome->link, &error)) {
        note(welcome, "readiness", error);
    }
    if (inst_get_bool(welcome->inst, "security.devlxd", true)) {
        guestdev_serve(welcome->inst, welcome->link);
    }
    guestlink_unref(welcome->link);
    inst_unref(welcome->inst);
    g_free(welcome);
}

static void
greeted(GuestLink *link, void *data)
{
    struct GuestVm *guest = data;
    Welcome *welcome = g_new0(Welcome, 1);

    welcome->inst = inst_ref(guest->inst);
    welcome->link = guestlink_ref(link);
    fiber_start("guest welcome", welcome_body, welcome);
}

/* ---- the life of the VM ---- */

static void
attached(VmSession *vm)
{
    struct GuestVm *guest = g_new0(struct GuestVm, 1);

    guest->inst = vm_inst(vm);
    vm->guest = guest;
    guest->link = guestlink_new(inst_name(guest->inst), dial, greeted, guest);
}

static void
port(VmSession *vm, bool open)
{
    if (vm->guest != NULL) {
        guestlink_port(vm->guest->link, open);
    }
}

static void
gone(VmSession *vm)
{
    struct GuestVm *guest = g_steal_pointer(&vm->guest);

    if (guest != NULL) {
        guestlink_close(guest->link);
        guestlink_unref(guest->link);
        g_free(guest);
    }
}

/* What moves, or is stopped with its state, can't have vhost-user-fs. */
static bool
may_virtiofs(Inst *inst)
{
    return !inst_get_bool(inst, "migration.stateful", false);
}

static json_t *
mount_entry(const char *tag, const char *target)
{
    return json_pack("{s:s,s:s,s:s,s:[s,s]}", "source", tag, "target", target, "fstype", "9p",
                     "options", "trans=virtio", "version=9p2000.L");
}

static bool
add_item(Inst *inst, json_t *item, guint index, json_t *mounts, GPtrArray *argv, GArray *fds,
         GError **error)
{
    const char *device = vmitem_get(item, "device"), *target = vmitem_get(item, "target");
    g_autofree char *tag = vmitem_node(device);
    VmShare share = {.name = device,
                     .tag = tag,
                     .path = vmitem_get(item, "path"),
                     .readonly = json_is_true(json_object_get(item, "readonly"))};

    share.virtiofs = may_virtiofs(inst);
    tag[MIN(strlen(tag), GUESTVM_TAG_SIZE - 1)] = '\0';
    json_array_append_new(mounts, mount_entry(tag, target != NULL ? target : ""));
    json_object_set_new(item, "at_start", json_true());
    return vmshare_add(inst, &share, index, argv, fds, error);
}

static bool
prepare(Inst *inst, const char *mount, json_t *items, GPtrArray *argv, GArray *fds, GError **error)
{
    g_autofree char *path = NULL;
    json_t *mounts = json_array(), *item;
    guint index = 1; /* behind the config share */
    bool ok = true;
    size_t i;

    json_array_foreach (items, i, item) {
        if (ok && g_strcmp0(vmitem_get(item, "kind"), "share") == 0) {
            ok = add_item(inst, item, index++, mounts, argv, fds, error); /* N2 */
        }
    }
    ok = ok && configshare_write(inst, mount, mounts, &path, error);
    json_decref(mounts);
    VmShare config = {.name = "config",
                      .tag = "config",
                      .path = path,
                      .readonly = true,
                      .own = true,
                      .virtiofs = may_virtiofs(inst)};
    return ok && vmshare_add(inst, &config, 0, argv, fds, error);
}

/* ---- shares while it runs ---- */

/* The guest's kernel takes some seconds to find what is plugged. */
static void
mount_soon(GuestLink *link, const char *device, const char *target, bool readonly)
{
    gint64 until_us = clock_mono_us() + (gint64) GUESTVM_PLUG_MS * 1000;
    g_autoptr(GError) error = NULL;

    while (guestlink_present(link) && !mount_share(link, device, target, readonly, &error)) {
        if (clock_mono_us() > until_us) {
            haw_warn("guest.mount", KS("device", device), KS("why", error->message));
            return;
        }
        g_clear_error(&error);
        fiber_sleep_ms(500, NULL, NULL);
    }
}

static bool
plug(VmSession *vm, json_t *item, GError **error)
{
    const char *device = vmitem_get(item, "device"), *target = vmitem_get(item, "target");
    g_autofree char *tag = vmitem_node(device);
    VmShare share = {.name = device,
                     .tag = tag,
                     .path = vmitem_get(item, "path"),
                     .target = target,
                     .readonly = json_is_true(json_object_get(item, "readonly"))};
    g_autoptr(GuestLink) link = link_of(vm, NULL);

    share.virtiofs = may_virtiofs(vm_inst(vm));
    tag[MIN(strlen(tag), GUESTVM_TAG_SIZE - 1)] = '\0';
    if (json_is_true(json_object_get(item, "at_start"))) {
        vmshare_note(vm, device);
        return true;
    }
    if (!vmshare_plug(vm, &share, error)) {
        return false;
    }
    if (link != NULL && target != NULL) {
        mount_soon(link, device, target, share.readonly);
    }
    return true;
}

static bool
unplug(VmSession *vm, const char *device, GError **error)
{
    g_autoptr(GuestLink) link = link_of(vm, NULL);
    g_autoptr(Inst) inst = inst_ref(vm_inst(vm));
    g_autofree char *target = vmshare_target(vm, device);

    if (link != NULL && guestlink_present(link) && target != NULL &&
        !guestask_umount(link, target, error)) {
        return haw_push(error, "Failed to unmount \"%s\" in the virtual machine", target);
    }
    return (inst->vm == vm || haw_fail(error, HAW_UNAVAILABLE, "QEMU has ended")) &&
           vmshare_unplug(vm, device, error);
}

/* ---- what is asked of it ---- */

static bool
shut_down(VmSession *vm, GError **error)
{
    g_autoptr(GuestLink) link = link_of(vm, error);

    return link != NULL && guestask_power(link, false, error);
}

static InstExec *
exec(VmSession *vm, const InstExecSpec *spec, GError **error)
{
    g_autoptr(GuestLink) link = link_of(vm, error);

    return link != NULL ? guestexec_start(link, spec, error) : NULL;
}

/* Names are the content of a directory, as forkfile.c gives it: a file with a JSON list. */
static bool
names_as_file(json_t *reply, const char *dir, int *ret_fd, GError **error)
{
    json_t *names = json_object_get(reply, "names");

    if (names == NULL) {
        return true;
    }
    *ret_fd = guestask_names(names, dir, error);
    json_object_del(reply, "names");
    return *ret_fd >= 0;
}

static bool
get(GuestLink *link, Inst *inst, json_t *request, json_t **ret_reply, int *ret_fd, GError **error)
{
    g_autofree char *dir = inst_log_dir(inst);
    const char *path = vmitem_get(request, "path");
    bool head = json_is_true(json_object_get(request, "head"));
    int fd = -1;
    json_t *reply = guestask_get(link, path, head, dir, &fd, error);

    if (reply == NULL || !names_as_file(reply, dir, &fd, error)) {
        json_decref(reply);
        return false;
    }
    *ret_reply = reply;
    *ret_fd = fd;
    return true;
}

static bool
files(VmSession *vm, json_t *request, int body_fd, json_t **ret_reply, int *ret_fd, GError **error)
{
    g_autoptr(GuestLink) link = link_of(vm, error);
    g_autoptr(Inst) inst = inst_ref(vm_inst(vm));
    const char *what = vmitem_get(request, "what");
    bool ok = link != NULL;

    if (ok && g_strcmp0(what, "put") == 0) {
        ok = guestask_put(link, request, body_fd, error);
    } else if (ok && g_strcmp0(what, "delete") == 0) {
        ok = guestask_delete(link, vmitem_get(request, "path"), error);
    } else if (ok) {
        ok = get(link, inst, request, ret_reply, ret_fd, error);
    }
    json_decref(request);
    return ok;
}

static bool
sftp(VmSession *vm, int fd, GError **error)
{
    g_autoptr(GuestLink) link = link_of(vm, error);

    return link != NULL && guestask_sftp(link, fd, NULL, error);
}

static json_t *
state(VmSession *vm)
{
    g_autoptr(GuestLink) link = link_of(vm, NULL);

    return link != NULL && guestlink_present(link) ? guestask_state(link, NULL) : NULL;
}

json_t *
guestvm_metrics(Inst *inst)
{
    g_autoptr(GuestLink) link = guestvm_link(inst);
    bool asked = link != NULL && guestlink_present(link) && inst_state(inst) == INST_RUNNING &&
                 inst_get_bool(inst, "security.agent.metrics", true);

    return asked ? guestask_metrics(link, NULL) : NULL;
}

const VmGuest guestvm = {.prepare = prepare,
                         .undo = vmshare_stop_all,
                         .plug = plug,
                         .unplug = unplug,
                         .attached = attached,
                         .port = port,
                         .gone = gone,
                         .shutdown = shut_down,
                         .exec = exec,
                         .files = files,
                         .sftp = sftp,
                         .state = state};
