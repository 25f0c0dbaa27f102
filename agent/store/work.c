/* The bridge from fibers to drivers: arguments are packed into a record on the fiber's stack, a worker
 * thread runs the call, the fiber waits. One record and one body a call. */
#include "agent/store/work.h"

#include "agent/store/disktree.h"
#include "agent/store/gpt.h"
#include "base/fd.h"
#include "base/fiber.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

struct work {
    const Driver *driver, *to_driver;
    const DriverVol *vol, *to;
    const char *path;
    GCancellable *cancel;
    const struct mnt_idmap *map;
    size_t map_count;
    gint64 bytes, used, total;
    bool lazy; /* or: on */
    bool ok;
    GError *error;
};

/* Gives the result to the caller of the work_ function. */
static bool
done(FiberFn fn, struct work *work, GError **error)
{
    fiber_run(fn, work);
    if (work->error != NULL) {
        g_propagate_error(error, work->error);
    }
    return work->ok;
}

static void
run_create(void *data)
{
    struct work *work = data;
    work->ok = work->driver->create(work->vol, &work->error);
}

bool
work_create(const Driver *driver, const DriverVol *vol, GError **error)
{
    struct work work = {.driver = driver, .vol = vol};
    return done(run_create, &work, error);
}

static void
run_clone(void *data)
{
    struct work *work = data;
    work->ok = work->driver->clone(work->vol, work->to, work->cancel, &work->error);
}

bool
work_clone(const Driver *driver, const DriverVol *from, const DriverVol *to, GCancellable *cancel,
           GError **error)
{
    struct work work = {.driver = driver, .vol = from, .to = to, .cancel = cancel};
    return done(run_clone, &work, error);
}

/* The volume's whole content at 'target', a new directory. */
static bool
view_at(const Driver *driver, const DriverVol *vol, const char *target, GError **error)
{
    if (mkdir(target, 0700) < 0) {
        return haw_fail_errno(error, errno, "create '%s'", target);
    }
    if (!driver->view(vol, target, error)) {
        disktree_remove(target, NULL);
        return false;
    }
    return true;
}

static void
unview(const char *target)
{
    g_auto(GStrv) mounts = mnt_list_below(target);
    for (char **each = mounts; *each != NULL; each++) {
        mnt_unmount(*each, true, NULL);
    }
    disktree_remove(target, NULL);
}

static void
run_view(void *data)
{
    struct work *work = data;
    work->ok = view_at(work->driver, work->vol, work->path, &work->error);
}

bool
work_view(const Driver *driver, const DriverVol *vol, const char *target, GError **error)
{
    struct work work = {.driver = driver, .vol = vol, .path = target};
    return done(run_view, &work, error);
}

static void
run_unview(void *data)
{
    unview(((struct work *) data)->path);
}

void
work_unview(const char *target)
{
    struct work work = {.path = target};
    done(run_unview, &work, NULL);
}

static void
run_carry(void *data)
{
    struct work *work = data;
    const char *from = work->vol->path;
    bool viewed = work->driver->view != NULL;
    if (viewed && !view_at(work->driver, work->vol, work->path, &work->error)) {
        return;
    }
    from = viewed ? work->path : from;

    /* A copy does not enter mounts: what a view mounts at rootfs goes over by itself. */
    g_autofree char *root = g_build_filename(from, "rootfs", NULL);
    g_autofree char *to_root = g_build_filename(work->to->path, "rootfs", NULL);
    bool inner = work->to_driver == work->driver && work->driver->inner != NULL;
    work->ok = work->to_driver->create(work->to, &work->error);
    if (work->ok && ((inner && !work->driver->inner(work->vol, work->to, false, &work->error)) ||
                     !disktree_copy(from, work->to->path, work->cancel, &work->error) ||
                     (viewed && mnt_is_mounted(root) &&
                      !disktree_copy(root, to_root, work->cancel, &work->error)) ||
                     (inner && !work->driver->inner(work->vol, work->to, true, &work->error)))) {
        work->to_driver->remove(work->to, NULL);
        work->ok = false;
    }
    if (viewed) {
        unview(work->path);
    }
}

bool
work_carry(const Driver *driver, const DriverVol *from, const char *scratch,
           const Driver *to_driver, const DriverVol *to, GCancellable *cancel, GError **error)
{
    struct work work = {.driver = driver,
                        .vol = from,
                        .path = scratch,
                        .to_driver = to_driver,
                        .to = to,
                        .cancel = cancel};
    return done(run_carry, &work, error);
}

static void
run_seal(void *data)
{
    struct work *work = data;
    work->ok = work->driver->seal(work->vol, work->lazy, &work->error);
}

bool
work_seal(const Driver *driver, const DriverVol *vol, bool on, GError **error)
{
    struct work work = {.driver = driver, .vol = vol, .lazy = on};
    return driver->seal == NULL || done(run_seal, &work, error);
}

static void
run_remove(void *data)
{
    struct work *work = data;
    work->ok = work->driver->remove(work->vol, &work->error);
}

bool
work_remove(const Driver *driver, const DriverVol *vol, GError **error)
{
    struct work work = {.driver = driver, .vol = vol};
    return done(run_remove, &work, error);
}

static void
run_quota(void *data)
{
    struct work *work = data;
    work->ok = work->driver->set_quota(work->vol, work->bytes, &work->error);
}

bool
work_quota(const Driver *driver, const DriverVol *vol, gint64 bytes, GError **error)
{
    struct work work = {.driver = driver, .vol = vol, .bytes = bytes};
    return driver->set_quota == NULL || done(run_quota, &work, error);
}

static void
run_usage(void *data)
{
    struct work *work = data;
    work->ok = work->driver->usage(work->vol, &work->used, &work->total);
}

bool
work_usage(const Driver *driver, const DriverVol *vol, gint64 *ret_used, gint64 *ret_total)
{
    struct work work = {.driver = driver, .vol = vol};
    if (driver->usage == NULL || !done(run_usage, &work, NULL)) {
        return false;
    }
    *ret_used = work.used;
    *ret_total = work.total;
    return true;
}

static void
run_mount(void *data)
{
    struct work *work = data;
    work->ok = work->driver->mount(work->vol, work->map, work->map_count, &work->error);
}

bool
work_mount(const Driver *driver, const DriverVol *vol, const struct mnt_idmap *map,
           size_t map_count, GError **error)
{
    struct work work = {.driver = driver, .vol = vol, .map = map, .map_count = map_count};
    return driver->mount == NULL || done(run_mount, &work, error);
}

static void
run_unmount(void *data)
{
    struct work *work = data;
    work->ok = work->driver->unmount(work->vol, work->lazy, &work->error);
}

bool
work_unmount(const Driver *driver, const DriverVol *vol, bool lazy, GError **error)
{
    struct work work = {.driver = driver, .vol = vol, .lazy = lazy};
    return driver->unmount == NULL || done(run_unmount, &work, error);
}

static void
run_block_size(void *data)
{
    struct work *work = data;
    g_autofree char *file = g_build_filename(work->vol->path, DRIVER_BLOCK_FILE, NULL);
    haw_autofd int fd = open(file, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0) {
        work->ok = haw_fail_errno(&work->error, errno, "open '%s'", file);
    } else if (work->bytes < st.st_size) {
        work->ok =
            haw_fail(&work->error, HAW_FAILED, "Block volumes cannot be shrunk: Cannot be shrunk");
    } else if (ftruncate(fd, work->bytes) < 0) {
        work->ok = haw_fail_errno(&work->error, errno, "resize '%s'", file);
    } else {
        bool grown = st.st_size > 0 && work->bytes > st.st_size && work->vol->type == VOL_VM;
        work->ok = !grown || gpt_follow(fd, work->bytes, &work->error);
    }
}

bool
work_block_size(const DriverVol *vol, gint64 bytes, GError **error)
{
    struct work work = {.vol = vol, .bytes = bytes};
    return done(run_block_size, &work, error);
}

static void
run_can_idmap(void *data)
{
    struct work *work = data;
    work->ok = mnt_can_idmap(work->path);
}

bool
work_can_idmap(const char *path)
{
    struct work work = {.path = path};
    return done(run_can_idmap, &work, NULL);
}
