/* The serial console. While nobody looks it goes into a ring in QEMU (1 MiB), which needs no agent; whoever
 * opens it gets a socket in its place (chardev-change), and the ring is back when he leaves.
 * O1  One at a time has it.
 * O2  What the ring held is appended to logs/NAME/console.log whenever it is looked at or about to go; that
 *     file is cut to its last LOG_MAX bytes: a guest that prints for ever fills no disk.
 * O3  The watcher that brings the ring back lives as long as the caller keeps the token open, and no longer
 *     than the session.
 * Called through the driver. Main loop. */
#include "agent/vm/vmconsole.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/vm/vmrun.h"
#include "agent/vm/vmsock.h"
#include "base/fd.h"
#include "base/log.h"

enum { RING = 1024 * 1024, LOG_MAX = 1024 * 1024 };

static char *
log_path(Inst *inst)
{
    g_autofree char *dir = inst_log_dir(inst);
    return g_strdup_printf("%s/console.log", dir);
}

/* O2 */
static bool
append_log(Inst *inst, const guint8 *bytes, size_t size, GError **error)
{
    g_autofree char *path = log_path(inst);
    size_t old_size = 0;
    g_autofree char *old = size > 0 ? fd_read_file(path, 2 * LOG_MAX, &old_size, NULL) : NULL;
    if (size == 0) {
        return true;
    }
    g_autoptr(GByteArray) all = g_byte_array_new();
    if (old != NULL) {
        g_byte_array_append(all, (const guint8 *) old, (guint) old_size);
    }
    g_byte_array_append(all, bytes, (guint) size);
    guint skip = all->len > LOG_MAX ? all->len - LOG_MAX : 0;
    return fd_write_atomic(path, all->data + skip, all->len - skip, 0600, error);
}

static bool
drain(VmSession *vm, GError **error)
{
    g_autoptr(Inst) inst = inst_ref(vm->inst);
    if (vm->console_taken) {
        return true;
    }
    json_t *held = qmp_call(
        vm->qmp, "ringbuf-read",
        json_pack("{s:s,s:i,s:s}", "device", "console", "size", RING, "format", "base64"), error);
    const char *text = json_string_value(held);
    gsize size = 0;
    g_autofree guchar *bytes = text != NULL ? g_base64_decode(text, &size) : NULL;
    bool ok = held != NULL && append_log(inst, bytes, size, error);
    json_decref(held);
    return ok;
}

static json_t *
ring_backend(void)
{
    return json_pack("{s:s,s:{s:s,s:{s:i}}}", "id", "console", "backend", "type", "ringbuf", "data",
                     "size", RING);
}

struct watch {
    Inst *inst;   /* shares */
    Qmp *session; /* which it was opened on; compared, never used */
    int fd;
};

/* O3 */
static void
watcher(void *data)
{
    struct watch *watch = data;
    g_autoptr(Inst) inst = watch->inst;
    g_autoptr(GError) error = NULL;
    fiber_wait_fd(watch->fd, G_IO_IN, -1, inst->agent->stopping, NULL);
    if (inst->vm != NULL && inst->vm->qmp == watch->session) {
        if (qmp_alive(inst->vm->qmp) &&
            !qmp_do(inst->vm->qmp, "chardev-change", ring_backend(), &error)) {
            haw_debug("vm.console", KS("inst", inst->name), KS("why", error->message));
        }
        if (inst->vm != NULL && inst->vm->qmp == watch->session) {
            inst->vm->console_taken = false;
        }
    }
    fd_close(&watch->fd);
    g_free(watch);
}

static bool
hand_over(VmSession *vm, int fd, GError **error)
{
    return qmp_send_fd(vm->qmp, "console", fd, error) &&
           qmp_do(vm->qmp, "chardev-change",
                  json_pack("{s:s,s:{s:s,s:{s:{s:s,s:{s:s}},s:b}}}", "id", "console", "backend",
                            "type", "socket", "data", "addr", "type", "fd", "data", "str",
                            "console", "server", 0),
                  error);
}

int
vmconsole_open(Inst *inst, int *ret_token, GError **error)
{
    VmSession *vm = inst->vm;
    int pair[2], token[2];
    if (vm == NULL || vm->console_taken) { /* O1 */
        haw_fail(error, HAW_BUSY, "The console is in use");
        return -1;
    }
    drain(vm, NULL);
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0) {
        haw_fail_errno(error, errno, "Make a socket pair");
        return -1;
    }
    haw_autofd int near = pair[0], far = pair[1];
    if (pipe2(token, O_CLOEXEC) < 0) {
        haw_fail_errno(error, errno, "Make a pipe");
        return -1;
    }
    haw_autofd int token_out = token[0], token_in = token[1];
    if (inst->vm != vm || !hand_over(vm, far, error)) {
        return -1;
    }
    vm->console_taken = true;
    struct watch *watch = g_new0(struct watch, 1);
    watch->inst = inst_ref(inst);
    watch->session = vm->qmp;
    watch->fd = fd_steal(&token_out);
    fiber_start("vm-console", watcher, watch);
    *ret_token = fd_steal(&token_in);
    return fd_steal(&near);
}

static void
restore_ring(void *data)
{
    g_autoptr(Inst) inst = data;
    if (inst->vm != NULL && qmp_alive(inst->vm->qmp)) {
        json_t *held = qmp_call(inst->vm->qmp, "query-chardev", NULL, NULL), *item;
        size_t i;
        bool ring = false;
        json_array_foreach (held, i, item) {
            const char *label = json_string_value(json_object_get(item, "label"));
            const char *file = json_string_value(json_object_get(item, "filename"));
            ring = ring || (g_strcmp0(label, "console") == 0 && g_strcmp0(file, "ringbuf") == 0);
        }
        json_decref(held);
        if (!ring && inst->vm != NULL) {
            qmp_do(inst->vm->qmp, "chardev-change", ring_backend(), NULL);
        }
    }
}

void
vmconsole_adopt(VmSession *vm)
{
    fiber_start("vm-console", restore_ring, inst_ref(vm->inst));
}

char *
vmconsole_log(Inst *inst, size_t *ret_size, GError **error)
{
    g_autofree char *path = log_path(inst);
    if (inst->vm != NULL && qmp_alive(inst->vm->qmp) && !drain(inst->vm, error)) {
        return NULL;
    }
    if (access(path, F_OK) < 0) {
        *ret_size = 0;
        return g_strdup("");
    }
    return fd_read_file(path, 2 * LOG_MAX, ret_size, error);
}

bool
vmconsole_clear(Inst *inst, GError **error)
{
    g_autofree char *path = log_path(inst);
    if (inst->vm != NULL && qmp_alive(inst->vm->qmp) && !drain(inst->vm, error)) {
        return false;
    }
    return truncate(path, 0) == 0 || errno == ENOENT ||
           haw_fail_errno(error, errno, "Clear '%s'", path);
}

int
vmconsole_display(Inst *inst, GError **error)
{
    g_autofree char *run_dir = inst_run_dir(inst);
    g_autofree char *own = g_build_filename(run_dir, VM_OWN_DIR, NULL);
    return vmsock_connect(own, "spice", error);
}
