/* Two system calls made by another process on our behalf.
 * T1  Nothing is written into the process: its own code has a `syscall` instruction somewhere, which one
 *     single step executes with registers of ours.
 * T2  Its registers come back exactly, the number of an interrupted system call included, so that the
 *     kernel restarts that as if nothing had been.
 * T3  A signal that arrives meanwhile is kept and sent again afterwards.
 * T4  Whatever fails, the process runs on: closing the tracer's hold detaches it.
 * T5  Faults that KVM takes are the kernel's, which a process that is nobody may not have handled
 *     (vm.unprivileged_userfaultfd): it was handed /dev/userfaultfd open, which may, and which is closed then. */
#include "dataplane/pages/trackfd.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"

#ifdef __x86_64__

enum { KEPT_SIGNALS = 8, STEPS_MAX = 32, CODE_MAX = 1 << 20 };

struct tracee {
    pid_t pid;
    unsigned long gadget; /* address of a `syscall` instruction */
    struct user_regs_struct saved;
    int kept[KEPT_SIGNALS]; /* T3 */
    int n_kept;
};

/* The first 0f 05 in one mapping; 0 when there is none. */
static unsigned long
search(int memory, unsigned long start, unsigned long end)
{
    size_t size = MIN(end - start, (unsigned long) CODE_MAX);
    g_autofree guint8 *code = g_malloc(size);
    ssize_t got = pread(memory, code, size, (off_t) start);
    for (ssize_t i = 0; i + 1 < got; i++) {
        if (code[i] == 0x0f && code[i + 1] == 0x05) {
            return start + (unsigned long) i;
        }
    }
    return 0;
}

static bool
find_gadget(struct tracee *tracee, GError **error)
{
    g_autofree char *maps = g_strdup_printf("/proc/%d/maps", (int) tracee->pid);
    g_autofree char *mem = g_strdup_printf("/proc/%d/mem", (int) tracee->pid);
    g_autofree char *text = NULL;
    haw_autofd int memory = open(mem, O_RDONLY | O_CLOEXEC);
    if (memory < 0 || !g_file_get_contents(maps, &text, NULL, NULL)) {
        return haw_fail_errno(error, errno, "reading the code of process %d", (int) tracee->pid);
    }
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    for (char **line = lines; *line != NULL && tracee->gadget == 0; line++) {
        unsigned long start, end;
        char mode[8];
        if (sscanf(*line, "%lx-%lx %7s", &start, &end, mode) == 3 && mode[2] == 'x' &&
            strstr(*line, "[vsyscall]") == NULL) {
            tracee->gadget = search(memory, start, end);
        }
    }
    return tracee->gadget != 0 ||
           haw_fail(error, HAW_NOT_FOUND, "process %d has no system call instruction in its code",
                    (int) tracee->pid);
}

static bool
wait_stop(struct tracee *tracee, int *ret_signal, GError **error)
{
    int status;
    if (waitpid(tracee->pid, &status, __WALL) != tracee->pid || !WIFSTOPPED(status)) {
        return haw_fail(error, HAW_NOT_FOUND, "process %d ended", (int) tracee->pid);
    }
    *ret_signal = WSTOPSIG(status);
    return true;
}

struct call {
    long number;
    unsigned long arguments[3];
};

/* Makes the process do 'call'; *ret_value is what it returned. */
static bool
remote_call(struct tracee *tracee, struct call call, long *ret_value, GError **error)
{
    struct user_regs_struct regs = tracee->saved;
    regs.rax = (unsigned long) call.number;
    regs.rdi = call.arguments[0];
    regs.rsi = call.arguments[1];
    regs.rdx = call.arguments[2];
    regs.rip = tracee->gadget;
    regs.orig_rax = (unsigned long) -1; /* T2: nothing to restart while it is ours */
    if (ptrace(PTRACE_SETREGS, tracee->pid, NULL, &regs) != 0) {
        return haw_fail_errno(error, errno, "setting registers of process %d", (int) tracee->pid);
    }
    for (int i = 0; i < STEPS_MAX; i++) {
        int got = 0;
        if (ptrace(PTRACE_SINGLESTEP, tracee->pid, NULL, NULL) != 0) {
            return haw_fail_errno(error, errno, "stepping process %d", (int) tracee->pid);
        }
        if (!wait_stop(tracee, &got, error)) {
            return false;
        }
        if (ptrace(PTRACE_GETREGS, tracee->pid, NULL, &regs) != 0) {
            return haw_fail_errno(error, errno, "reading registers of process %d",
                                  (int) tracee->pid);
        }
        if (regs.rip == tracee->gadget + 2) {
            *ret_value = (long) regs.rax;
            return true;
        }
        if (got != SIGTRAP && tracee->n_kept < KEPT_SIGNALS) {
            tracee->kept[tracee->n_kept++] = got; /* T3 */
        }
    }
    return haw_fail(error, HAW_BUSY, "process %d is kept busy by signals", (int) tracee->pid);
}

/* The number of its open /dev/userfaultfd; -1. */
static int
find_device(const struct tracee *tracee)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/fd", (int) tracee->pid);
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    for (const char *name = dir != NULL ? g_dir_read_name(dir) : NULL; name != NULL;
         name = g_dir_read_name(dir)) {
        g_autofree char *link = g_build_filename(path, name, NULL);
        g_autofree char *target = g_file_read_link(link, NULL);
        if (g_strcmp0(target, "/dev/userfaultfd") == 0) {
            return atoi(name);
        }
    }
    return -1;
}

/* T5. *ret_value: its descriptor, or a negative error number. */
static bool
make(struct tracee *tracee, enum trackfd kind, long *ret_value, GError **error)
{
    unsigned long mode = kind == TRACKFD_KEPT ? 0 : UFFD_USER_MODE_ONLY;
    const unsigned long flags = O_CLOEXEC | O_NONBLOCK | mode;
    long closed;
    if (!remote_call(tracee, (struct call){__NR_userfaultfd, {flags}}, ret_value, error)) {
        return false;
    }
    int device = *ret_value == -EPERM ? find_device(tracee) : -1;
    if (device < 0) {
        return true;
    }
    const unsigned long fd = (unsigned long) device;
    return remote_call(tracee, (struct call){__NR_ioctl, {fd, USERFAULTFD_IOC_NEW, flags}},
                       ret_value, error) &&
           remote_call(tracee, (struct call){__NR_close, {fd}}, &closed, error);
}

static bool
take(struct tracee *tracee, enum trackfd kind, int *ret_fd, GError **error)
{
    long remote, closed;
    if (!make(tracee, kind, &remote, error)) {
        return false;
    }
    if (remote < 0) {
        return haw_fail_errno(error, (int) -remote, "userfaultfd in process %d", (int) tracee->pid);
    }
    haw_autofd int pidfd = (int) syscall(__NR_pidfd_open, tracee->pid, 0);
    int fd = pidfd < 0 ? -1 : (int) syscall(__NR_pidfd_getfd, pidfd, (int) remote, 0);
    int reason = errno;
    if ((kind == TRACKFD_OURS || fd < 0) &&
        !remote_call(tracee, (struct call){__NR_close, {(unsigned long) remote}}, &closed, error)) {
        fd_close(&fd);
        return false;
    }
    if (fd < 0) {
        return haw_fail_errno(error, reason, "taking the userfaultfd of process %d",
                              (int) tracee->pid);
    }
    *ret_fd = fd;
    return true;
}

int
trackfd_open(pid_t pid, enum trackfd kind, GError **error)
{
    struct tracee tracee = {.pid = pid};
    int fd = -1, first = 0;
    if (!find_gadget(&tracee, error)) {
        return -1;
    }
    if (ptrace(PTRACE_SEIZE, pid, NULL, NULL) != 0) {
        haw_fail_errno(error, errno, "tracing process %d", (int) pid);
        return -1;
    }
    bool ok = ptrace(PTRACE_INTERRUPT, pid, NULL, NULL) == 0 && wait_stop(&tracee, &first, error);
    if (ok && ptrace(PTRACE_GETREGS, pid, NULL, &tracee.saved) == 0) {
        if (first != SIGTRAP) {
            tracee.kept[tracee.n_kept++] = first;
        }
        ok = take(&tracee, kind, &fd, error);
        ptrace(PTRACE_SETREGS, pid, NULL, &tracee.saved); /* T2 */
    } else if (ok) {
        haw_fail_errno(error, errno, "reading registers of process %d", (int) pid);
    }
    ptrace(PTRACE_DETACH, pid, NULL, NULL); /* T4 */
    for (int i = 0; i < tracee.n_kept; i++) {
        syscall(__NR_tgkill, pid, pid, tracee.kept[i]);
    }
    return fd;
}

#else

int
trackfd_open(pid_t pid, enum trackfd kind, GError **error)
{
    haw_fail(error, HAW_UNSUPPORTED,
             "tracking the memory of a running process is written for x86-64 only");
    return -1;
}

#endif
