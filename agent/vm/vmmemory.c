/* The guest's memory: one file on a mount of its own, so that it can be mapped by whoever streams it, is
 * bounded by the mount's size, and goes with an unmount whatever still has it open.
 * M1  <dir>/memory/<project_inst> is mounted while the VM runs and is in nobody else's hands (0700).
 * M2  hugetlbfs where limits.memory.hugepages asks for it, reserved at once: too few pages is an error
 *     before QEMU starts, not a fault in the guest later.
 * M3  A tmpfs gives huge pages to who asks for them, as QEMU and hawser-pages do, where the kernel has any.
 * Called by vmboot.c and agent/move. */
#include "agent/vm/vmrun.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <linux/magic.h>
#include <unistd.h>

#include "base/fd.h"

char *
vmmemory_dir(Inst *inst)
{
    return agent_path(inst->agent, "memory/%s", inst->object);
}

struct job {
    const char *dir;
    gint64 bytes, page_bytes;
    GError *error;
    bool ok;
};

/* What of ours is mounted there. */
static bool
is_mounted(const char *dir)
{
    struct statfs fs;
    return statfs(dir, &fs) == 0 && (fs.f_type == TMPFS_MAGIC || fs.f_type == HUGETLBFS_MAGIC) &&
           fs.f_namelen != 0;
}

/* A mount point has another device than its parent. */
static bool
is_own_mount(const char *dir)
{
    g_autofree char *up = g_strdup_printf("%s/..", dir);
    struct stat here, above;
    return stat(dir, &here) == 0 && stat(up, &above) == 0 && here.st_dev != above.st_dev &&
           is_mounted(dir);
}

static bool
mount_as(const struct job *job, const char *type, const char *options)
{
    return mount("hawser", job->dir, type, MS_NOSUID | MS_NODEV | MS_NOEXEC, options) == 0;
}

static bool
mount_it(const struct job *job, GError **error)
{
    if (job->page_bytes > 0) {
        g_autofree char *options =
            g_strdup_printf("mode=0700,pagesize=%" G_GINT64_FORMAT ",size=%" G_GINT64_FORMAT
                            ",min_size=%" G_GINT64_FORMAT,
                            job->page_bytes, job->bytes, job->bytes);
        if (mount_as(job, "hugetlbfs", options)) {
            return true;
        }
        if (errno == ENOMEM) { /* M2 */
            return haw_fail(error, HAW_LIMIT,
                            "limits.memory.hugepages: not enough free huge pages for "
                            "%" G_GINT64_FORMAT " MiB: raise vm.nr_hugepages",
                            job->bytes >> 20);
        }
    } else {
        g_autofree char *options =
            g_strdup_printf("mode=0700,size=%" G_GINT64_FORMAT, job->bytes + (1 << 20));
        g_autofree char *huge = g_strconcat(options, ",huge=advise", NULL);
        if (mount_as(job, "tmpfs", huge) || mount_as(job, "tmpfs", options)) { /* M3 */
            return true;
        }
    }
    return haw_fail_errno(error, errno, "Mount the memory of the virtual machine on '%s'",
                          job->dir);
}

static void
make_run(void *data)
{
    struct job *job = data;
    g_autofree char *path = g_strdup_printf("%s/ram", job->dir);
    job->ok = fd_mkdir_p(job->dir, 0700, &job->error) &&
              (is_own_mount(job->dir) || mount_it(job, &job->error));
    haw_autofd int fd = job->ok ? open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600) : -1;
    if (job->ok && (fd < 0 || ftruncate(fd, job->bytes) < 0)) {
        job->ok = haw_fail_errno(&job->error, errno, "Make '%s'", path);
    }
    if (!job->ok) {
        umount2(job->dir, MNT_DETACH);
        rmdir(job->dir);
    }
}

static void
drop_run(void *data)
{
    struct job *job = data;
    job->ok = true;
    if (access(job->dir, F_OK) < 0) {
        return;
    }
    if (is_own_mount(job->dir) && umount2(job->dir, MNT_DETACH) < 0) {
        job->ok = haw_fail_errno(&job->error, errno, "Unmount '%s'", job->dir);
    } else if (rmdir(job->dir) < 0 && errno != ENOENT) {
        job->ok = haw_fail_errno(&job->error, errno, "Remove '%s'", job->dir);
    }
}

bool
vm_memory_make(Inst *inst, gint64 bytes, gint64 page_bytes, char **ret_path, GError **error)
{
    g_autofree char *dir = vmmemory_dir(inst);
    struct job job = {.dir = dir, .bytes = bytes, .page_bytes = page_bytes};
    fiber_run(make_run, &job);
    if (!job.ok) {
        g_propagate_error(error, job.error);
        return false;
    }
    *ret_path = g_strdup_printf("%s/ram", dir);
    return true;
}

bool
vm_memory_drop(Inst *inst, GError **error)
{
    g_autofree char *dir = vmmemory_dir(inst);
    struct job job = {.dir = dir};
    fiber_run(drop_run, &job);
    if (!job.ok) {
        g_propagate_error(error, job.error);
    }
    return job.ok;
}
