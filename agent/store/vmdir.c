/* The directory of a virtual machine has its disk, its firmware's variables, its image's metadata and
 * templates. QEMU and the agent open these by name, as root; backups and other servers bring them.
 * D1  So nothing foreign in it may be a symbolic link, a device or a socket: a disk that is a link to a
 *     file of the host would be that file.
 * Called at the end of each filling from a backup (instimport.c, backup_import.c) or from another
 * server (movevol.c). */
#include "agent/store/vmdir.h"

#include "agent/store/pooldriver.h"
#include "base/fiber.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define NVRAM "qemu.nvram"
enum { DEPTH_MAX = 64 };

struct job {
    const char *dir, *name;
    bool ok;
    GError *error;
};

static bool
done(FiberFn fn, struct job *job, GError **error)
{
    fiber_run(fn, job);
    if (job->error != NULL) {
        g_propagate_error(error, job->error);
    }
    return job->ok;
}

static void
take_disk(void *data)
{
    struct job *job = data;
    g_autofree char *from = g_build_filename(job->dir, job->name, NULL);
    g_autofree char *to = g_build_filename(job->dir, DRIVER_BLOCK_FILE, NULL);
    struct stat st;
    if (lstat(from, &st) < 0) {
        job->ok = haw_fail(&job->error, HAW_INVALID, "The disk \"%s\" is missing", job->name);
    } else if (!S_ISREG(st.st_mode)) {
        job->ok = haw_fail(&job->error, HAW_INVALID, "The disk \"%s\" is no plain file", job->name);
    } else {
        job->ok = (chmod(from, 0600) == 0 && rename(from, to) == 0) ||
                  haw_fail_errno(&job->error, errno, "place '%s'", to);
    }
}

bool
vmdir_take_disk(const char *dir, const char *name, GError **error)
{
    struct job job = {.dir = dir, .name = name};
    return done(take_disk, &job, error);
}

/* D1 */
static bool
check_below(const char *dir, int depth, GError **error)
{
    g_autoptr(GDir) list = g_dir_open(dir, 0, error);
    if (list == NULL || depth > DEPTH_MAX) {
        haw_recode(error, HAW_IO);
        return list != NULL ? haw_fail(error, HAW_INVALID, "'%s' is too deep", dir) : false;
    }
    for (const char *name; (name = g_dir_read_name(list)) != NULL;) {
        g_autofree char *path = g_build_filename(dir, name, NULL);
        struct stat st;
        if (lstat(path, &st) < 0) {
            return haw_fail_errno(error, errno, "look at '%s'", path);
        }
        if (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode)) {
            return haw_fail(error, HAW_INVALID,
                            "\"%s\" in the volume of a virtual machine is no plain file", name);
        }
        if (S_ISDIR(st.st_mode) && !check_below(path, depth + 1, error)) {
            return false;
        }
    }
    return true;
}

/* The link goes, and what it names gets its name. */
static bool
straighten(const char *dir, GError **error)
{
    char name[256];
    g_autofree char *link = g_build_filename(dir, NVRAM, NULL);
    ssize_t n = readlink(link, name, sizeof name - 1);
    if (n < 0) {
        return true;
    }
    name[n] = '\0';
    if (strchr(name, '/') != NULL) {
        return true; /* refused below */
    }
    g_autofree char *target = g_build_filename(dir, name, NULL);
    return rename(target, link) == 0 || errno == ENOENT ||
           haw_fail_errno(error, errno, "rename '%s'", target);
}

static void
check(void *data)
{
    struct job *job = data;
    job->ok = straighten(job->dir, &job->error) && check_below(job->dir, 0, &job->error);
}

bool
vmdir_check(const char *dir, GError **error)
{
    struct job job = {.dir = dir};
    return done(check, &job, error);
}
