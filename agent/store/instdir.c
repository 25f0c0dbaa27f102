/* The directory of a container has rootfs/, its image's metadata.yaml and templates/, and backup.yaml. Archives
 * and other servers bring it.
 * D1  rootfs/ is mounted, shifted and looked into by name, as root: a link in its place would hand over what it
 *     leads to, the host's root directory for one. So it has to be a directory at the end of each filling, and is
 *     looked at again before each start: older volumes were never asked.
 * D2  ".layers" is the overlay driver's: brought by another server, it would make any directory of the host a part of
 *     the root. Archives are unpacked by a list of names that does not have it.
 * The files beside it are read through base/confine.h, which takes no links.
 * Called by instimport.c, movevol.c and start.c. */
#include "agent/store/instdir.h"

#include "base/fiber.h"

#include <errno.h>
#include <sys/stat.h>

struct job {
    const char *dir;
    bool ok;
    GError *error;
};

static void
check(void *data)
{
    struct job *job = data;
    g_autofree char *rootfs = g_build_filename(job->dir, "rootfs", NULL);
    struct stat st;
    if (lstat(rootfs, &st) < 0) {
        job->ok = errno == ENOENT ? haw_fail(&job->error, HAW_INVALID,
                                             "The volume of a container is missing a rootfs")
                                  : haw_fail_errno(&job->error, errno, "look at '%s'", rootfs);
        return;
    }
    job->ok = S_ISDIR(st.st_mode) ||
              haw_fail(&job->error, HAW_INVALID, "The rootfs of a container is no directory");
}

/* D2 */
static void
check_foreign(void *data)
{
    struct job *job = data;
    g_autofree char *layers = g_build_filename(job->dir, ".layers", NULL);
    struct stat st;
    check(job);
    if (job->ok && lstat(layers, &st) == 0) {
        job->ok =
            haw_fail(&job->error, HAW_INVALID, "A volume that is sent may not have \".layers\"");
    }
}

static bool
done(FiberFn fn, const char *dir, GError **error)
{
    struct job job = {.dir = dir};
    fiber_run(fn, &job);
    if (job.error != NULL) {
        g_propagate_error(error, job.error);
    }
    return job.ok;
}

bool
instdir_check_foreign(const char *dir, GError **error)
{
    return done(check_foreign, dir, error);
}

bool
instdir_check(const char *dir, GError **error)
{
    return done(check, dir, error);
}
