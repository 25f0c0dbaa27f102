/* Project quotas. A directory carries a project number that its children inherit; the kernel counts
 * blocks by project, and enforces a limit where the filesystem is mounted with prjquota.
 * Calls go through quotactl_fd(2), so that no device name has to be found. */
#include "agent/store/projquota.h"

#include "base/fd.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/quota.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/quota.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef PRJQUOTA
#define PRJQUOTA 2
#endif

static int
quota_call(const char *path, int command, guint32 project, void *data)
{
    haw_autofd int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        return -1;
    }
    guint32 call = (guint32) command << SUBCMDSHIFT | PRJQUOTA;
    return (int) syscall(SYS_quotactl_fd, fd, call, project, data);
}

bool
projquota_on(const char *path)
{
    struct dqinfo info;
    return quota_call(path, Q_GETINFO, 0, &info) == 0;
}

static bool
assign(int fd, guint32 project, bool inherit)
{
    struct fsxattr attr;
    if (ioctl(fd, FS_IOC_FSGETXATTR, &attr) < 0) {
        return false;
    }
    attr.fsx_projid = project;
    if (inherit) {
        attr.fsx_xflags |= FS_XFLAG_PROJINHERIT;
    }
    return ioctl(fd, FS_IOC_FSSETXATTR, &attr) == 0;
}

static bool
assign_below(int fd, guint32 project)
{
    DIR *entries = fdopendir(dup(fd));
    if (entries == NULL) {
        return false;
    }
    bool ok = true;
    for (struct dirent *entry; ok && (entry = readdir(entries)) != NULL;) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0 ||
            (entry->d_type != DT_DIR && entry->d_type != DT_REG)) {
            continue;
        }
        bool is_dir = entry->d_type == DT_DIR;
        haw_autofd int child =
            openat(fd, entry->d_name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
        ok = child < 0 ||
             (assign(child, project, is_dir) && (!is_dir || assign_below(child, project)));
    }
    closedir(entries);
    return ok;
}

bool
projquota_assign(const char *path, guint32 project, bool deep, GError **error)
{
    haw_autofd int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || !assign(fd, project, true) || (deep && !assign_below(fd, project))) {
        return haw_fail_errno(error, errno, "set the quota project of '%s'", path);
    }
    return true;
}

bool
projquota_limit(const char *path, guint32 project, gint64 bytes, GError **error)
{
    struct if_dqblk limit = {.dqb_valid = QIF_BLIMITS};
    limit.dqb_bhardlimit = (guint64) (bytes + 1023) / 1024;
    limit.dqb_bsoftlimit = limit.dqb_bhardlimit;
    return quota_call(path, Q_SETQUOTA, project, &limit) == 0 ||
           haw_fail_errno(error, errno, "set the quota of '%s'", path);
}

bool
projquota_usage(const char *path, guint32 project, gint64 *ret_used, gint64 *ret_total)
{
    struct if_dqblk now = {0};
    if (quota_call(path, Q_GETQUOTA, project, &now) != 0) {
        return false;
    }
    *ret_used = (gint64) now.dqb_curspace;
    *ret_total = (gint64) now.dqb_bhardlimit * 1024;
    return true;
}
