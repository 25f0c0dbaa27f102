/* Entering a container, for helpers that serve files there (forkfile.c) or mount there.
 * N1  After enter_guest() the kernel judges every access as it does for the container's own root: a
 *     hostile tree can trick the helper into nothing that its root could not do by itself.
 * N2  The helper stays in the host's pid namespace, so nobody inside can see, ptrace or signal it.
 * N3  In a privileged container (no user namespace of its own) root is the host's: enter_lock()
 *     leaves it the file capabilities only, and the mount namespace confines the names.
 * N4  A stopped container has no namespaces: chroot into its tree, then the same lock; without
 *     CAP_SYS_CHROOT there is no second chroot and hence no way out. */
#include "agent/inst/enter.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <sched.h>
#include <seccomp.h>
#include <stdio.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fd.h"

int
enter_pidfd(pid_t pid, GError **error)
{
    int fd = pidfd_open(pid, 0);

    if (fd < 0) {
        haw_fail_errno(error, errno, "open the container's init %d", (int) pid);
    }
    return fd;
}

bool
enter_mounts(int pidfd, GError **error)
{
    if (setns(pidfd, CLONE_NEWNS) < 0) {
        return haw_fail_errno(error, errno, "enter the container's mount namespace");
    }
    return true;
}

bool
enter_user_flag(pid_t pid, int *ret_flag, GError **error)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/ns/user", (int) pid);
    struct stat theirs, ours;

    if (stat(path, &theirs) < 0 || stat("/proc/self/ns/user", &ours) < 0) {
        return haw_fail_errno(error, errno, "see the container's user namespace");
    }
    bool same = theirs.st_ino == ours.st_ino && theirs.st_dev == ours.st_dev;
    *ret_flag = same ? 0 : CLONE_NEWUSER;
    return true;
}

bool
enter_guest(pid_t pid, int pidfd, GError **error)
{
    int user = 0;

    if (!enter_user_flag(pid, &user, error)) {
        return false;
    }
    if (setns(pidfd, CLONE_NEWNS | user) < 0) {
        return haw_fail_errno(error, errno, "enter the container's namespaces");
    }
    if (setgroups(0, NULL) < 0 || setresgid(0, 0, 0) < 0 || setresuid(0, 0, 0) < 0) {
        return haw_fail_errno(error, errno, "become the container's root");
    }
    umask(0);
    return chdir("/") == 0 || haw_fail_errno(error, errno, "enter the container's root directory");
}

bool
enter_root(int root_fd, GError **error)
{
    if (fchdir(root_fd) < 0 || chroot(".") < 0 || chdir("/") < 0) {
        return haw_fail_errno(error, errno, "enter the container's root directory");
    }
    umask(0);
    return true;
}

static bool
lock_capabilities(void)
{
    const unsigned keep = 1U << CAP_CHOWN | 1U << CAP_DAC_OVERRIDE | 1U << CAP_DAC_READ_SEARCH |
                          1U << CAP_FOWNER | 1U << CAP_FSETID | 1U << CAP_LEASE | 1U << CAP_SETFCAP;
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2] = {{.effective = keep, .permitted = keep}, {0}};

    for (int cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++) {
        if (cap >= 32 || (keep & 1U << cap) == 0) {
            prctl(PR_CAPBSET_DROP, cap, 0, 0, 0);
        }
    }
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    return syscall(SYS_capset, &header, data) == 0;
}

static bool
lock_calls(void)
{
    static const int refused[] = {
        SCMP_SYS(execve),
        SCMP_SYS(execveat),
        SCMP_SYS(fork),
        SCMP_SYS(vfork),
        SCMP_SYS(socket),
        SCMP_SYS(socketpair),
        SCMP_SYS(connect),
        SCMP_SYS(bind),
        SCMP_SYS(listen),
        SCMP_SYS(mount),
        SCMP_SYS(umount2),
        SCMP_SYS(pivot_root),
        SCMP_SYS(chroot),
        SCMP_SYS(setns),
        SCMP_SYS(unshare),
        SCMP_SYS(open_tree),
        SCMP_SYS(move_mount),
        SCMP_SYS(fsopen),
        SCMP_SYS(ptrace),
        SCMP_SYS(process_vm_readv),
        SCMP_SYS(process_vm_writev),
        SCMP_SYS(init_module),
        SCMP_SYS(finit_module),
        SCMP_SYS(kexec_load),
        SCMP_SYS(bpf),
        SCMP_SYS(perf_event_open),
        SCMP_SYS(keyctl),
        SCMP_SYS(add_key),
        SCMP_SYS(request_key),
        SCMP_SYS(open_by_handle_at),
        SCMP_SYS(io_uring_setup),
        SCMP_SYS(userfaultfd),
        SCMP_SYS(kill),
        SCMP_SYS(swapon),
        SCMP_SYS(reboot),
        SCMP_SYS(mknod),
        SCMP_SYS(mknodat),
        SCMP_SYS(personality),
    };
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
    bool ok = filter != NULL;

    for (size_t i = 0; ok && i < G_N_ELEMENTS(refused); i++) {
        ok = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), refused[i], 0) == 0;
    }
    ok = ok && seccomp_load(filter) == 0;
    if (filter != NULL) {
        seccomp_release(filter);
    }
    return ok;
}

bool
enter_lock(GError **error)
{
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || !lock_capabilities()) {
        return haw_fail_errno(error, errno, "give up capabilities");
    }
    if (!lock_calls()) {
        return haw_fail(error, HAW_FAILED, "load the system call filter");
    }
    return true;
}
