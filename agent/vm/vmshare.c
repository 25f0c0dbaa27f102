/* Shares of a virtual machine.
 * S1  PCI addresses 8.0 to 15.7 of pcie.0: function 2n is the n-th share's 9p, 2n+1 its virtiofs. A machine
 *     that takes over another's state has the same shares in the same order, so the same devices.
 * S2  What is read-only is so on the host: QEMU's readonly=on, and a read-only mount in a namespace of the
 *     daemon's own (forkshare.c); a guest that mounts it otherwise gets EROFS.
 * S3  A daemon serves one connection of QEMU's and ends with it; what never got one is ended by its pid
 *     file, which has the time of its start as well: a number that somebody else has now is none of ours.
 * S4  QEMU is nobody (vmuser.c): it serves 9p of its own directory alone, the config share. Other
 *     directories have daemons, which are root so that owners and modes are the guest's to set.
 * Called by guestvm.c. Main loop. */
#include "agent/vm/vmshare.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/inst/record.h"
#include "agent/vm/vmitem.h"
#include "agent/vm/vmfds.h"
#include "agent/vm/vmlayout.h"
#include "agent/vm/vmrun.h"
#include "agent/vm/vmsock.h"
#include "base/fd.h"
#include "base/fiber.h"
#include "base/log.h"
#include "base/proc.h"

#define SHARE_SLOT_FIRST 8
#define SHARE_FUNCTIONS  64
#define SHARE_TAG_MAX    31

typedef struct {
    const char *kind, *suffix; /* of its socket */
    const char *paths[3];
} Daemon;

static const Daemon virtiofs = {
    "virtiofs",
    "sock",
    {"/usr/lib/qemu/virtiofsd", "/usr/libexec/virtiofsd", "/usr/lib/virtiofsd"}};
static const Daemon plan9 = {
    "9p", "9p.sock", {"/usr/lib/qemu/virtfs-proxy-helper", "/usr/libexec/virtfs-proxy-helper"}};

static const char *
program(const Daemon *daemon)
{
    for (size_t i = 0; i < G_N_ELEMENTS(daemon->paths); i++) {
        if (daemon->paths[i] != NULL && access(daemon->paths[i], X_OK) == 0) {
            return daemon->paths[i];
        }
    }
    return NULL;
}

static char *
socket_name(const Daemon *daemon, const char *name)
{
    g_autofree char *node = vmitem_node(name);

    return g_strdup_printf("fs.%s.%s", node, daemon->suffix);
}

/* ---- the daemon ---- */

static void
remember(const char *dir, const char *socket, pid_t pid)
{
    g_autofree char *path = g_strdup_printf("%s/%s.pid", dir, socket);
    g_autofree char *text =
        g_strdup_printf("%d %" G_GUINT64_FORMAT "\n", (int) pid, proc_start_time(pid));

    g_file_set_contents(path, text, -1, NULL);
}

static void
reap_body(void *data)
{
    int status;

    fiber_wait_pid(GPOINTER_TO_INT(data), -1, NULL, &status, NULL);
}

static bool
start_on(Inst *inst, const Daemon *daemon, const VmShare *share, int fd, GError **error)
{
    g_autofree char *dir = inst_run_dir(inst), *socket = socket_name(daemon, share->name);
    g_autofree char *logs = inst_log_dir(inst);
    g_autofree char *log = g_strdup_printf("%s/%s.log", logs, socket);
    const char *argv[] = {
        inst->agent->exe, "forkshare",     share->path, share->readonly ? "ro" : "rw",
        daemon->kind,     program(daemon), NULL};
    pid_t pid = proc_spawn(argv, NULL, log, &fd, 1, error);
    if (pid < 0) {
        return haw_push(error, "Start %s for \"%s\"", program(daemon), share->name);
    }
    remember(dir, socket, pid);
    fiber_start("share", reap_body, GINT_TO_POINTER(pid));
    return true;
}

/* Listens on a socket of the run directory and hands it to the daemon. Returns a connection, or -1. */
static int
start_virtiofs(Inst *inst, const VmShare *share, GError **error)
{
    g_autofree char *dir = inst_run_dir(inst), *socket = socket_name(&virtiofs, share->name);
    haw_autofd int listener = vmsock_listen(dir, socket, error);

    return listener >= 0 && start_on(inst, &virtiofs, share, listener, error)
               ? vmsock_connect(dir, socket, error)
               : -1;
}

/* QEMU's end of its socket, or -1. */
static int
start_9p(Inst *inst, const VmShare *share, GError **error)
{
    int pair[2];

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0) {
        haw_fail_errno(error, errno, "Make a socket pair");
        return -1;
    }
    haw_autofd int ours = pair[0], theirs = pair[1];
    return start_on(inst, &plan9, share, theirs, error) ? fd_steal(&ours) : -1;
}

static void
stop_one(const char *path)
{
    g_autofree char *text = fd_read_file(path, 64, NULL, NULL);
    char *rest = NULL;
    pid_t pid = text != NULL ? (pid_t) g_ascii_strtoll(text, &rest, 10) : 0;
    guint64 began = pid > 1 ? g_ascii_strtoull(rest, NULL, 10) : 0;

    if (began > 0 && proc_start_time(pid) == began) { /* S3 */
        kill(pid, SIGTERM);
    }
    unlink(path);
}

void
vmshare_stop_all(Inst *inst)
{
    g_autofree char *dir = inst_run_dir(inst);
    g_autoptr(GDir) entries = g_dir_open(dir, 0, NULL);
    const char *name;

    while (entries != NULL && (name = g_dir_read_name(entries)) != NULL) {
        if (g_str_has_prefix(name, "fs.") && g_str_has_suffix(name, ".sock.pid")) {
            g_autofree char *path = g_build_filename(dir, name, NULL);
            stop_one(path);
        }
    }
}

/* ---- at the start ---- */

static char *
address(guint function)
{
    return g_strdup_printf("%d.%d%s", SHARE_SLOT_FIRST + (int) function / 8, (int) function % 8,
                           function % 8 == 0 ? ",multifunction=on" : "");
}

/* QEMU's option parser wants commas doubled. */
static char *
escaped(const char *text)
{
    g_auto(GStrv) parts = g_strsplit(text, ",", -1);

    return g_strjoinv(",,", parts);
}

/* S4 */
static bool
add_9p(Inst *inst, const VmShare *share, guint function, GPtrArray *argv, GArray *fds,
       GError **error)
{
    g_autofree char *node = vmitem_node(share->name), *at = address(function);
    g_autofree char *tag = escaped(share->tag);
    haw_autofd int fd = share->own ? open(share->path, O_PATH | O_DIRECTORY | O_CLOEXEC)
                                   : start_9p(inst, share, error);

    if (fd < 0) {
        return !share->own || haw_fail_errno(error, errno, "Open '%s'", share->path);
    }
    int number = vmfds_add(fds, &fd);
    g_ptr_array_add(argv, g_strdup("-fsdev"));
    g_ptr_array_add(argv, share->own
                              ? g_strdup_printf("local,id=p9-%s,path=/proc/self/fd/%d,"
                                                "security_model=none,multidevs=remap,"
                                                "readonly=on",
                                                node, number)
                              : g_strdup_printf("proxy,id=p9-%s,sock_fd=%d,readonly=%s", node,
                                                number, share->readonly ? "on" : "off"));
    g_ptr_array_add(argv, g_strdup("-device"));
    g_ptr_array_add(argv, g_strdup_printf("virtio-9p-pci,id=dev-p9-%s,fsdev=p9-%s,mount_tag=%s,"
                                          "bus=pcie.0,addr=%s",
                                          node, node, tag, at));
    return true;
}

static void
add_virtiofs(const VmShare *share, guint function, int fd, GPtrArray *argv)
{
    g_autofree char *node = vmitem_node(share->name), *at = address(function);
    g_autofree char *tag = escaped(share->tag);

    g_ptr_array_add(argv, g_strdup("-chardev"));
    g_ptr_array_add(argv, g_strdup_printf("socket,id=fs-%s,fd=%d", node, fd));
    g_ptr_array_add(argv, g_strdup("-device"));
    g_ptr_array_add(argv, g_strdup_printf("vhost-user-fs-pci,id=dev-fs-%s,chardev=fs-%s,tag=%s,"
                                          "queue-size=1024,bus=pcie.0,addr=%s",
                                          node, node, tag, at));
}

bool
vmshare_add(Inst *inst, const VmShare *share, guint index, GPtrArray *argv, GArray *fds,
            GError **error)
{
    g_autoptr(GError) local = NULL;
    bool by_virtiofs = share->virtiofs && program(&virtiofs) != NULL;
    bool by_9p = share->own || program(&plan9) != NULL;

    if (2 * index + 1 >= SHARE_FUNCTIONS) {
        return haw_fail(error, HAW_LIMIT, "A virtual machine can have %d shared directories",
                        SHARE_FUNCTIONS / 2 - 1);
    }
    if (strlen(share->tag) > SHARE_TAG_MAX) {
        return haw_fail(error, HAW_INVALID, "The name of disk \"%s\" is too long for a share",
                        share->name);
    }
    if (!by_9p && !by_virtiofs) {
        return haw_fail(error, HAW_UNSUPPORTED,
                        "Directory \"%s\" needs virtiofsd%s (package qemu-system-common)",
                        share->name,
                        share->virtiofs ? ""
                                        : ", which one with migration.stateful cannot have, or "
                                          "virtfs-proxy-helper");
    }
    if (by_9p && !add_9p(inst, share, 2 * index, argv, fds, error)) {
        return false;
    }
    if (!by_virtiofs) {
        return true;
    }
    haw_autofd int fd = start_virtiofs(inst, share, &local);
    if (fd >= 0) {
        add_virtiofs(share, 2 * index + 1, vmfds_add(fds, &fd), argv);
        return true;
    }
    haw_warn("vm.virtiofsd", KS("inst", inst_name(inst)), KS("why", local->message));
    return by_9p || haw_fail(error, HAW_FAILED, "%s", local->message); /* 9p does it as well */
}

/* ---- while it runs ---- */

static bool
plug_device(VmSession *vm, const VmShare *share, int port, GError **error)
{
    g_autofree char *node = vmitem_node(share->name);
    g_autofree char *chardev = g_strdup_printf("fs-%s", node);
    g_autofree char *id = g_strdup_printf("dev-fs-%s", node);
    g_autofree char *bus = g_strdup_printf("port%d", port);
    haw_autofd int fd = start_virtiofs(vm->inst, share, error);

    if (fd < 0 || !qmp_send_fd(vm->qmp, chardev, fd, error)) {
        return false;
    }
    if (!qmp_do(vm->qmp, "chardev-add",
                json_pack("{s:s,s:{s:s,s:{s:{s:s,s:{s:s}},s:b}}}", "id", chardev, "backend", "type",
                          "socket", "data", "addr", "type", "fd", "data", "str", chardev, "server",
                          0),
                error)) {
        return false;
    }
    if (qmp_do(vm->qmp, "device_add",
               json_pack("{s:s,s:s,s:s,s:s,s:s,s:s}", "driver", "vhost-user-fs-pci", "id", id,
                         "chardev", chardev, "tag", share->tag, "bus", bus, "addr", "0"),
               error)) {
        return true;
    }
    qmp_do(vm->qmp, "chardev-remove", json_pack("{s:s}", "id", chardev), NULL);
    return false;
}

bool
vmshare_plug(VmSession *vm, const VmShare *share, GError **error)
{
    if (!share->virtiofs || program(&virtiofs) == NULL) {
        return haw_fail(error, HAW_UNSUPPORTED,
                        "Directories are plugged into a running virtual machine by virtiofs, which "
                        "%s: restart it",
                        program(&virtiofs) == NULL ? "is not installed (package qemu-system-common)"
                                                   : "one with migration.stateful cannot have");
    }
    if (strlen(share->tag) > SHARE_TAG_MAX) {
        return haw_fail(error, HAW_INVALID, "The name of disk \"%s\" is too long for a share",
                        share->name);
    }
    g_autofree char *place = g_strdup_printf("share:%s", share->name);
    int port = vmlayout_port(vm->layout, place, error);
    if (port < 0) {
        return false;
    }
    if (!plug_device(vm, share, port, error)) {
        vmlayout_forget(vm->layout, place);
        return false;
    }
    if (share->target != NULL) {
        json_object_set_new(json_object_get(json_object_get(vm->layout, "devices"), place),
                            "target", json_string(share->target));
    }
    vmsession_store_layout(vm);
    return true;
}

char *
vmshare_target(VmSession *vm, const char *name)
{
    g_autofree char *place = g_strdup_printf("share:%s", name);
    json_t *entry = json_object_get(json_object_get(vm->layout, "devices"), place);
    const char *target = json_string_value(json_object_get(entry, "target"));

    return target == NULL     ? NULL
           : target[0] == '/' ? g_strdup(target)
                              : g_strconcat("/", target, NULL);
}

bool
vmshare_unplug(VmSession *vm, const char *name, GError **error)
{
    g_autofree char *node = vmitem_node(name), *place = g_strdup_printf("share:%s", name);
    g_autofree char *chardev = g_strdup_printf("fs-%s", node);
    g_autofree char *id = g_strdup_printf("dev-fs-%s", node);
    g_autoptr(GError) local = NULL;

    if (vmlayout_get(vm->layout, place, "port") < 0) {
        return haw_fail(
            error, HAW_UNSUPPORTED,
            "Directory \"%s\" was there at the start of the virtual machine: stop it to "
            "take it away",
            name);
    }
    g_hash_table_remove(vm->deleted, id);
    if (!qmp_do(vm->qmp, "device_del", json_pack("{s:s}", "id", id), &local)) {
        if (haw_code(local) != HAW_NOT_FOUND) {
            g_propagate_error(error, g_steal_pointer(&local));
            return false;
        }
    } else if (!vmsession_await_gone(vm, id, 30000, error)) {
        return false;
    }
    qmp_do(vm->qmp, "chardev-remove", json_pack("{s:s}", "id", chardev),
           NULL); /* ends the daemon */
    vmlayout_forget(vm->layout, place);
    vmsession_store_layout(vm);
    return true;
}

void
vmshare_note(VmSession *vm, const char *name)
{
    json_t *shares = json_object_get(vm->layout, "shares");

    if (shares == NULL) {
        shares = json_object();
        json_object_set_new(vm->layout, "shares", shares);
    }
    json_object_set_new(shares, name, json_true());
    vmsession_store_layout(vm);
}

bool
vmshare_known(VmSession *vm, const char *name)
{
    g_autofree char *place = g_strdup_printf("share:%s", name);

    return vmlayout_get(vm->layout, place, "port") >= 0 ||
           json_object_get(json_object_get(vm->layout, "shares"), name) != NULL;
}
