/* `hawserd forksyscall`: a system call that seccomp held back, made for the container or left to the kernel.
 * F1  What is not exactly one of the cases below goes on in the kernel (task_own), which then answers as
 *     it always would: a container can lose nothing by interception.
 * F2  Only calls of the container's own user namespace, and only where the task has the capability there
 *     that the kernel wants here. What they can reach is named by us: devices that do no harm,
 *     overlayfs's mark of an opaque directory, file systems that the configuration lists.
 * F3  Arguments are read once, and what was read is used: the task may change its memory meanwhile.
 * Asked by intercept.c; the answer is {"own", "error", "value"}. */
#include "agent/inst/forksyscall.h"

#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#define OPAQUE "trusted.overlay.opaque"

/* Character devices that every container has, and overlayfs's whiteout. */
static bool
harmless(mode_t mode, dev_t device)
{
    static const struct {
        unsigned major_no, minor_no;
    } devices[] = {{0, 0}, {1, 3}, {1, 5}, {1, 7}, {1, 8}, {1, 9}, {5, 0}, {5, 1}};
    for (size_t i = 0; S_ISCHR(mode) && i < G_N_ELEMENTS(devices); i++) {
        if (device == makedev(devices[i].major_no, devices[i].minor_no)) {
            return true;
        }
    }
    return false;
}

/* Where a name of the task begins; AT_FDCWD, or a descriptor like its own. -1. */
static int
dir_of(const Task *task, int number)
{
    if (number == AT_FDCWD) {
        return AT_FDCWD;
    }
    g_autofree char *path = g_strdup_printf("fd/%d", number);
    return number >= 0 ? openat(task->proc_fd, path, O_PATH | O_DIRECTORY | O_CLOEXEC) : -1;
}

/* mknod(path, mode, device): args as of mknodat from the path on. */
static TaskAnswer
call_mknod(Task *task, int dir_number, const __u64 *args)
{
    mode_t mode = (mode_t) args[1];
    dev_t device = (dev_t) (guint32) args[2];
    if (!harmless(mode, device) || !task_can(task, CAP_MKNOD)) { /* F2 */
        return task_own();
    }
    g_autofree char *path = task_text(task, args[0]);
    int dir = dir_of(task, dir_number);
    if (path == NULL || (dir < 0 && dir != AT_FDCWD) || !task_enter(task) || !task_become(task)) {
        return task_own();
    }
    return task_errno(mknodat(dir, path, mode, device) < 0 ? errno : 0);
}

static TaskAnswer
call_setxattr(Task *task)
{
    const __u64 *args = task->notif.data.args;
    char value = '\0';
    g_autofree char *name = task_text(task, args[1]);
    if (g_strcmp0(name, OPAQUE) != 0 || args[3] != 1 || !task_bytes(task, args[2], &value, 1) ||
        value != 'y' || !task_can(task, CAP_SYS_ADMIN)) { /* F2 */
        return task_own();
    }
    g_autofree char *path = task_text(task, args[0]);
    if (path == NULL || !task_enter(task) || !task_become(task)) {
        return task_own();
    }
    haw_autofd int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    return task_errno(fd < 0 || fsetxattr(fd, OPAQUE, "y", 1, (int) args[4]) < 0 ? errno : 0);
}

/* In a child, which the process namespace is entered by: a pid means there what it means to the task. */
static int
set_scheduler(const Task *task, pid_t pid, int policy, const struct sched_param *param)
{
    haw_autofd int pids = openat(task->proc_fd, "ns/pid", O_RDONLY | O_CLOEXEC);
    if (pids < 0 || setns(pids, CLONE_NEWPID) < 0) {
        return errno;
    }
    pid_t child = fork();
    if (child == 0) {
        _exit(sched_setscheduler(pid, policy, param) < 0 ? errno : 0);
    }
    int status = 0;
    if (child < 0 || waitpid(child, &status, 0) < 0) {
        return errno;
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : EPERM;
}

static TaskAnswer
call_sched_setscheduler(Task *task)
{
    const __u64 *args = task->notif.data.args;
    struct sched_param param = {0};
    pid_t pid = (pid_t) args[0];
    int policy = (int) args[1];
    if (pid < 0 || policy < 0 || !task_can(task, CAP_SYS_NICE) ||
        !task_bytes(task, args[2], &param, sizeof param)) {
        return task_own();
    }
    if (pid == 0) { /* itself, whose pid here we know */
        return task_errno(sched_setscheduler((pid_t) task->notif.pid, policy, &param) < 0 ? errno
                                                                                          : 0);
    }
    return task_errno(set_scheduler(task, pid, policy, &param));
}

static TaskAnswer
call(Task *task, json_t *request)
{
    const __u64 *args = task->notif.data.args;
    switch (task->notif.data.nr) {
#ifdef SYS_mknod
    case SYS_mknod:
        return call_mknod(task, AT_FDCWD, args);
#endif
    case SYS_mknodat:
        return call_mknod(task, (int) args[0], args + 1);
    case SYS_setxattr:
        return call_setxattr(task);
    case SYS_sched_setscheduler:
        return call_sched_setscheduler(task);
    case SYS_mount:
        return callmount(task, json_object_get(request, "mount"),
                         json_is_true(json_object_get(request, "shift")), FORKSYSCALL_USERS);
    case SYS_bpf:
        return json_is_true(json_object_get(request, "bpf")) ? callbpf(task) : task_own();
    default:
        return task_own(); /* F1 */
    }
}

static bool
serve(json_t *request, json_t **ret_reply, int *ret_fd, GError **error)
{
    Task task = {
        .proc_fd = FORKSYSCALL_PROC, .mem_fd = FORKSYSCALL_MEM, .notify_fd = FORKSYSCALL_NOTIFY};
    const char *text = json_string_value(json_object_get(request, "notif"));
    gsize size = 0;
    g_autofree guchar *bytes = text != NULL ? g_base64_decode(text, &size) : NULL;
    if (size != sizeof task.notif) {
        return haw_fail(error, HAW_INVALID, "A notification of %zu bytes", size);
    }
    memcpy(&task.notif, bytes, size);
    for (int fd = FORKSYSCALL_PROC; fd <= FORKSYSCALL_USERS; fd++) {
        fcntl(fd, F_SETFD, FD_CLOEXEC);
    }
    TaskAnswer answer = task_load(&task) && task_is_of(&task, FORKSYSCALL_USERS) /* F2 */
                            ? call(&task, request)
                            : task_own();
    *ret_reply = json_pack("{s:b,s:i,s:I}", "own", (int) answer.own, "error", answer.error, "value",
                           (json_int_t) answer.value);
    return true;
}

int
forksyscall_main(int argc, char **argv)
{
    return forkserve(serve);
}
