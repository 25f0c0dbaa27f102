/* The task behind an intercepted system call.
 * T1  All is found below the descriptors that came with the call: a pid may be another's by now.
 * T2  After task_enter() names mean what they mean to the task; nothing of the host can be named.
 * T3  After task_become() we have no capability that the task hasn't: but its are its container's,
 *     ours the host's. So whoever calls this checks first what is asked for (forksyscall.c, F2).
 * Called by forksyscall.c, callmount.c, callbpf.c in `hawserd forksyscall`. */
#include "agent/inst/task.h"

#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <linux/capability.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { STATUS_MAX = 16 * 1024 };

/* The text behind "\nName:\t", up to the end of the line. */
static const char *
field(const char *status, const char *name)
{
    const char *at = strstr(status, name);
    return at != NULL ? at + strlen(name) : "";
}

/* The fields of "Uid:" and "Gid:" are real, effective, saved, file system. */
static void
two_ids(const char *text, guint *ret_effective, guint *ret_fs)
{
    guint64 ids[4] = {0};
    for (size_t i = 0; i < G_N_ELEMENTS(ids); i++) {
        char *end = NULL;
        ids[i] = g_ascii_strtoull(text, &end, 10);
        text = end;
    }
    *ret_effective = (guint) ids[1];
    *ret_fs = (guint) ids[3];
}

bool
task_load(Task *task)
{
    char status[STATUS_MAX];
    haw_autofd int fd = openat(task->proc_fd, "status", O_RDONLY | O_CLOEXEC);
    ssize_t size = fd >= 0 ? read(fd, status, sizeof status - 1) : -1;
    if (size <= 0) {
        return false;
    }
    status[size] = '\0';
    two_ids(field(status, "\nUid:"), &task->uid, &task->fsuid);
    two_ids(field(status, "\nGid:"), &task->gid, &task->fsgid);
    task->tgid = (pid_t) g_ascii_strtoll(field(status, "\nTgid:"), NULL, 10);
    task->mask = (mode_t) g_ascii_strtoull(field(status, "\nUmask:"), NULL, 8);
    task->caps = g_ascii_strtoull(field(status, "\nCapEff:"), NULL, 16);
    const char *at = field(status, "\nGroups:");
    for (at += strspn(at, " \t");
         g_ascii_isdigit(*at) && task->group_count < G_N_ELEMENTS(task->groups);
         at += strspn(at, " \t")) {
        char *end = NULL;
        task->groups[task->group_count++] = (gid_t) g_ascii_strtoull(at, &end, 10);
        at = end;
    }
    /* T1: it waits for us still, so what we read was its own. */
    return ioctl(task->notify_fd, SECCOMP_IOCTL_NOTIF_ID_VALID, &task->notif.id) == 0;
}

bool
task_is_of(const Task *task, int users_fd)
{
    struct stat its, wanted;
    return fstatat(task->proc_fd, "ns/user", &its, 0) == 0 && fstat(users_fd, &wanted) == 0 &&
           its.st_ino == wanted.st_ino && its.st_dev == wanted.st_dev;
}

bool
task_can(const Task *task, int capability)
{
    return (task->caps >> capability & 1) != 0;
}

bool
task_bytes(const Task *task, guint64 address, void *ret, size_t size)
{
    return pread(task->mem_fd, ret, size, (off_t) address) == (ssize_t) size;
}

/* Page by page: behind the end of the text there may be nothing. */
char *
task_text(const Task *task, guint64 address)
{
    char bytes[PATH_MAX];
    size_t have = 0, page = (size_t) sysconf(_SC_PAGESIZE);
    while (have < sizeof bytes) {
        guint64 at = address + have;
        size_t want = MIN(sizeof bytes - have, page - (size_t) (at % page));
        ssize_t got = pread(task->mem_fd, bytes + have, want, (off_t) at);
        if (got <= 0) {
            return NULL;
        }
        if (memchr(bytes + have, '\0', (size_t) got) != NULL) {
            return g_strdup(bytes);
        }
        have += (size_t) got;
    }
    return NULL;
}

bool
task_enter(const Task *task)
{
    haw_autofd int root = openat(task->proc_fd, "root", O_PATH | O_CLOEXEC);
    haw_autofd int cwd = openat(task->proc_fd, "cwd", O_PATH | O_CLOEXEC);
    haw_autofd int mounts = openat(task->proc_fd, "ns/mnt", O_RDONLY | O_CLOEXEC);
    return root >= 0 && cwd >= 0 && mounts >= 0 && setns(mounts, CLONE_NEWNS) == 0 &&
           fchdir(root) == 0 && chroot(".") == 0 && fchdir(cwd) == 0; /* T2 */
}

static bool
set_capabilities(guint64 caps)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2];
    if (syscall(SYS_capget, &header, data) < 0) {
        return false;
    }
    for (size_t i = 0; i < G_N_ELEMENTS(data); i++) {
        data[i].permitted &= (guint32) (caps >> 32 * i); /* root of a host may lack some itself */
        data[i].effective = data[i].permitted;
        data[i].inheritable = 0;
    }
    return syscall(SYS_capset, &header, data) == 0;
}

bool
task_become(const Task *task)
{
    umask(task->mask);
    if (prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) < 0 || setgroups(task->group_count, task->groups) < 0 ||
        setresgid(task->gid, task->gid, task->gid) < 0 ||
        setresuid(task->uid, task->uid, task->uid) < 0) {
        return false;
    }
    setfsgid(task->fsgid);
    setfsuid(task->fsuid);
    return set_capabilities(task->caps) && /* T3 */
           (uid_t) setfsuid((uid_t) -1) == task->fsuid &&
           (gid_t) setfsgid((gid_t) -1) == task->fsgid;
}
