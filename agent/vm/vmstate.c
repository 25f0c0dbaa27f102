/* A VM's state in its volume. QEMU writes what its devices are (a few hundred KiB, by its migration code
 * with shared memory left out), and the memory file is copied as the sparse file that it is: blocks of
 * zeroes are holes at both ends.
 * S1  The three files are there or none is: state.json is renamed into place last and removed first.
 * S2  The guest is paused while it is saved, by the caller.
 * S3  What is loaded was written by a machine of the same layout: it is given to the QEMU that loads.
 * Called by driver_qemu.c and vmboot.c. */
#include "agent/vm/vmstate.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/vm/vmlayout.h"
#include "agent/vm/vmrun.h"
#include "base/clock.h"
#include "base/fd.h"

enum { MIGRATE_MS = 600000, POLL_MS = 10, BLOCK = 65536, LAYOUT_MAX = 1024 * 1024 };

/* ---- memory ---- */

struct copy {
    const char *from, *to;
    GError *error;
    bool ok;
};

static bool
is_zero(const char *bytes, size_t size)
{
    return bytes[0] == 0 && memcmp(bytes, bytes + 1, size - 1) == 0;
}

/* One stretch of data; what is zero stays a hole. */
static bool
copy_range(int from, int to, off_t at, off_t end, char *buffer, GError **error)
{
    while (at < end) {
        ssize_t n = pread(from, buffer, (size_t) MIN(end - at, BLOCK), at);
        if (n <= 0) {
            return n < 0 ? haw_fail_errno(error, errno, "Read the memory")
                         : haw_fail(error, HAW_CORRUPT, "The saved memory ends early");
        }
        for (ssize_t done = 0; done < n && !is_zero(buffer, (size_t) n);) {
            ssize_t written = pwrite(to, buffer + done, (size_t) (n - done), at + done);
            if (written < 0 && errno != EINTR) {
                return haw_fail_errno(error, errno, "Write the memory");
            }
            done += MAX(written, 0);
        }
        at += n;
    }
    return true;
}

static bool
copy_sparse(int from, int to, off_t size, GError **error)
{
    g_autofree char *buffer = g_malloc(BLOCK);
    for (off_t at = 0; at < size;) {
        off_t data = lseek(from, at, SEEK_DATA);
        if (data < 0) {
            return errno == ENXIO || haw_fail_errno(error, errno, "Read the memory");
        }
        off_t end = lseek(from, data, SEEK_HOLE);
        end = end < 0 ? size : end;
        if (!copy_range(from, to, data, end, buffer, error)) {
            return false;
        }
        at = end;
    }
    return true;
}

static void
copy_run(void *data)
{
    struct copy *copy = data;
    struct stat st;
    haw_autofd int from = open(copy->from, O_RDONLY | O_CLOEXEC);
    haw_autofd int to = from >= 0 ? open(copy->to, O_RDWR | O_CREAT | O_CLOEXEC, 0600) : -1;
    if (to < 0 || fstat(from, &st) < 0) {
        copy->ok = haw_fail_errno(&copy->error, errno, "Copy '%s' to '%s'", copy->from, copy->to);
        return;
    }
    /* A hugetlbfs file may be longer than it has to be, never shorter. */
    if (ftruncate(to, 0) < 0 || ftruncate(to, st.st_size) < 0) {
        copy->ok = haw_fail_errno(&copy->error, errno, "Resize '%s'", copy->to);
        return;
    }
    copy->ok = copy_sparse(from, to, st.st_size, &copy->error);
    if (copy->ok && fsync(to) < 0 && errno != EINVAL) {
        copy->ok = haw_fail_errno(&copy->error, errno, "Write '%s'", copy->to);
    }
}

static bool
copy_memory(const char *from, const char *to, GError **error)
{
    struct copy copy = {.from = from, .to = to};
    fiber_run(copy_run, &copy);
    if (!copy.ok) {
        g_propagate_error(error, copy.error);
    }
    return copy.ok;
}

bool
vmstate_fill_memory(const char *dir, const char *memory_path, GError **error)
{
    g_autofree char *path = g_strdup_printf("%s/state.ram", dir);
    return copy_memory(path, memory_path, error);
}

/* ---- device state ---- */

static bool
leave_memory_out(VmSession *vm, GError **error)
{
    return qmp_do(vm->qmp, "migrate-set-capabilities",
                  json_pack("{s:[{s:s,s:b},{s:s,s:b}]}", "capabilities", "capability",
                            "x-ignore-shared", "state", 1, "capability", "events", "state", 1),
                  error);
}

/* Until a migration of either direction is over. */
static bool
await_end(VmSession *vm, GError **error)
{
    gint64 until = clock_mono_us() / 1000 + MIGRATE_MS;
    while (clock_mono_us() / 1000 < until) {
        json_t *info = qmp_call(vm->qmp, "query-migrate", NULL, error);
        const char *status = json_string_value(json_object_get(info, "status"));
        if (info == NULL) {
            return false;
        }
        bool done = g_strcmp0(status, "completed") == 0;
        bool failed = g_strcmp0(status, "failed") == 0 || g_strcmp0(status, "cancelled") == 0;
        const char *why = json_string_value(json_object_get(info, "error-desc"));
        if (failed) {
            haw_fail(error, HAW_FAILED, "QEMU: %s", why != NULL ? why : "the state was not taken");
        }
        json_decref(info);
        if (done || failed) {
            return done;
        }
        fiber_signal_wait(&vm->happened, POLL_MS, NULL, NULL);
    }
    return haw_fail(error, HAW_TIMEOUT, "QEMU does not finish with the state");
}

static bool
stream(VmSession *vm, const char *command, int fd, GError **error)
{
    return qmp_send_fd(vm->qmp, "state", fd, error) &&
           qmp_do(vm->qmp, command, json_pack("{s:s}", "uri", "fd:state"), error) &&
           await_end(vm, error);
}

static bool
save_devices(VmSession *vm, const char *path, GError **error)
{
    haw_autofd int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0) {
        return haw_fail_errno(error, errno, "Open '%s'", path);
    }
    return leave_memory_out(vm, error) && stream(vm, "migrate", fd, error) &&
           (fsync(fd) == 0 || haw_fail_errno(error, errno, "Write '%s'", path));
}

bool
vmstate_save(VmSession *vm, const char *dir, GError **error)
{
    g_autofree char *state = g_strdup_printf("%s/state", dir);
    g_autofree char *ram = g_strdup_printf("%s/state.ram", dir);
    g_autofree char *layout = g_strdup_printf("%s/state.json", dir);
    char *text = json_dumps(vm->layout, JSON_COMPACT | JSON_SORT_KEYS);
    vmstate_drop(dir);
    bool ok = save_devices(vm, state, error) && copy_memory(vm->memory_path, ram, error) &&
              fd_write_atomic(layout, text, strlen(text), 0600, error); /* S1 */
    free(text);
    if (!ok) {
        vmstate_drop(dir);
    }
    return ok;
}

bool
vmstate_load(VmSession *vm, const char *path, GError **error)
{
    haw_autofd int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return haw_fail_errno(error, errno, "Open '%s'", path);
    }
    if (!leave_memory_out(vm, error) || !stream(vm, "migrate-incoming", fd, error)) {
        return false;
    }
    vm->incoming = false;
    return qmp_do(vm->qmp, "cont", NULL, error);
}

json_t *
vmstate_layout(const char *dir, GError **error)
{
    g_autofree char *path = g_strdup_printf("%s/state.json", dir);
    if (access(path, F_OK) < 0) {
        return NULL;
    }
    g_autofree char *text = fd_read_file(path, LAYOUT_MAX, NULL, error);
    json_t *layout = text != NULL ? json_loads(text, 0, NULL) : NULL;
    if (text != NULL && layout == NULL) {
        haw_fail(error, HAW_CORRUPT, "'%s' is no valid JSON", path);
    }
    if (layout != NULL && !vmlayout_check(layout, error)) {
        json_decref(layout);
        layout = NULL;
    }
    return layout;
}

void
vmstate_drop(const char *dir)
{
    static const char *const names[] = {"state.json", "state", "state.ram"}; /* S1 */
    for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
        g_autofree char *path = g_strdup_printf("%s/%s", dir, names[i]);
        unlink(path);
    }
}
