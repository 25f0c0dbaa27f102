/* bpf() for a container: programs that decide about devices of its own control groups, as systemd and nested
 * containers load them (security.syscalls.intercept.bpf.devices).
 * B1  Only programs of type CGROUP_DEVICE are loaded, and only to BPF_CGROUP_DEVICE are they attached.
 *     They can take devices away; what the container itself may not, no program of it gives back.
 * B2  A program is checked by the kernel as anybody's is; its text is copied first, so it cannot change.
 * B3  Descriptors are taken from the task, so a group that it couldn't open can't be named.
 * Called by forksyscall.c. */
#include "agent/inst/forksyscall.h"

#include "base/fd.h"

#include <errno.h>
#include <linux/bpf.h>
#include <linux/capability.h>
#include <linux/kcmp.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/pidfd.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { INSTRUCTIONS_MAX = 1000000, LOG_MAX = 4096, LICENSE_MAX = 128 };

static TaskAnswer
load(Task *task, union bpf_attr *attr)
{
    char log[LOG_MAX] = "", license[LICENSE_MAX] = "";
    if (attr->prog_type != BPF_PROG_TYPE_CGROUP_DEVICE || /* B1 */
        attr->insn_cnt == 0 || attr->insn_cnt > INSTRUCTIONS_MAX) {
        return task_own();
    }
    size_t size = attr->insn_cnt * sizeof(struct bpf_insn);
    g_autofree struct bpf_insn *program = g_malloc(size); /* B2 */
    g_autofree char *terms = task_text(task, attr->license);
    if (!task_bytes(task, attr->insns, program, size) || terms == NULL) {
        return task_own();
    }
    g_strlcpy(license, terms, sizeof license);
    guint64 log_to = attr->log_buf;
    size_t log_size = MIN(attr->log_size, sizeof log);
    union bpf_attr own = {.prog_type = attr->prog_type,
                          .insn_cnt = attr->insn_cnt,
                          .insns = (guint64) (guintptr) program,
                          .license = (guint64) (guintptr) license,
                          .prog_flags = attr->prog_flags,
                          .expected_attach_type = attr->expected_attach_type,
                          .log_level = log_size > 0 ? attr->log_level : 0,
                          .log_size = attr->log_level != 0 ? (guint32) log_size : 0,
                          .log_buf = attr->log_level != 0 ? (guint64) (guintptr) log : 0};
    memcpy(own.prog_name, attr->prog_name, sizeof own.prog_name);
    haw_autofd int fd = (int) syscall(SYS_bpf, BPF_PROG_LOAD, &own, sizeof own);
    if (fd < 0) {
        int failed = errno;
        if (own.log_size > 0) {
            (void) !pwrite(task->mem_fd, log, log_size, (off_t) log_to);
        }
        return task_errno(failed);
    }
    struct seccomp_notif_addfd add = {.id = task->notif.id,
                                      .srcfd = (guint32) fd,
                                      .newfd_flags = 02000000 /* O_CLOEXEC, as bpf() has it */};
    int given = ioctl(task->notify_fd, SECCOMP_IOCTL_NOTIF_ADDFD, &add);
    return given < 0 ? task_errno(errno) : (TaskAnswer){.value = given};
}

static TaskAnswer
attach(Task *task, int command, union bpf_attr *attr)
{
    if (attr->attach_type != BPF_CGROUP_DEVICE) { /* B1 */
        return task_own();
    }
    pid_t thread = (pid_t) task->notif.pid;
    haw_autofd int process = pidfd_open(task->tgid, 0);
    if (process < 0 || /* a thread with descriptors of its own is beyond us */
        (thread != task->tgid && syscall(SYS_kcmp, task->tgid, thread, KCMP_FILES, 0, 0) != 0) ||
        ioctl(task->notify_fd, SECCOMP_IOCTL_NOTIF_ID_VALID, &task->notif.id) < 0) {
        return task_own();
    }
    haw_autofd int group = pidfd_getfd(process, (int) attr->target_fd, 0); /* B3 */
    haw_autofd int program = pidfd_getfd(process, (int) attr->attach_bpf_fd, 0);
    haw_autofd int former = -1;
    if (group < 0 || program < 0) {
        return task_errno(EBADF);
    }
    union bpf_attr own = {.target_fd = (guint32) group,
                          .attach_bpf_fd = (guint32) program,
                          .attach_type = BPF_CGROUP_DEVICE,
                          .attach_flags = attr->attach_flags};
    if (attr->attach_flags & BPF_F_REPLACE) {
        former = pidfd_getfd(process, (int) attr->replace_bpf_fd, 0);
        if (former < 0) {
            return task_errno(EBADF);
        }
        own.replace_bpf_fd = (guint32) former;
    }
    return task_errno(syscall(SYS_bpf, command, &own, sizeof own) < 0 ? errno : 0);
}

TaskAnswer
callbpf(Task *task)
{
    union bpf_attr attr = {0};
    const __u64 *args = task->notif.data.args;
    size_t size = MIN((size_t) args[2], sizeof attr);
    if (!task_can(task, CAP_SYS_ADMIN) || !task_bytes(task, args[1], &attr, size)) {
        return task_own();
    }
    switch (args[0]) {
    case BPF_PROG_LOAD:
        return load(task, &attr);
    case BPF_PROG_ATTACH:
    case BPF_PROG_DETACH:
        return attach(task, (int) args[0], &attr);
    default:
        return task_own();
    }
}
