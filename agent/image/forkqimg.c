/* The child that runs qemu-img: D2 to D4 of diskimg.c, which starts it.
 * Called by fork.c of hawserd. A room of its own, so that the helpers do without the agent (forkmain.c). */
#include "agent/image/forkqimg.h"

#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/landlock.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { FD_IN = 3, FD_OUT = 4, MEMORY_GIB = 4 };

static bool
allow(int ruleset, int fd, guint64 access)
{
    const struct landlock_path_beneath_attr rule = {.allowed_access = access, .parent_fd = fd};
    return fd >= 0 &&
           syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) == 0;
}

/* Kernels without Landlock: the rest has to do. */
static bool
fence(void)
{
    static const char *const programs[] = {"/usr", "/lib", "/lib64", "/bin", "/etc/ld.so.cache"};
    const guint64 reads = LANDLOCK_ACCESS_FS_READ_FILE,
                  runs = reads | LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_READ_DIR,
                  writes = reads | LANDLOCK_ACCESS_FS_WRITE_FILE;
    const struct landlock_ruleset_attr attr = {.handled_access_fs =
                                                   (LANDLOCK_ACCESS_FS_MAKE_SYM << 1) - 1};
    haw_autofd int ruleset = (int) syscall(SYS_landlock_create_ruleset, &attr, sizeof attr, 0);
    if (ruleset < 0) {
        return errno == ENOSYS || errno == EOPNOTSUPP;
    }
    for (size_t i = 0; i < G_N_ELEMENTS(programs); i++) {
        haw_autofd int fd = open(programs[i], O_PATH | O_CLOEXEC);
        bool file = g_str_has_prefix(programs[i], "/etc/");
        if (fd >= 0 && !allow(ruleset, fd, file ? reads : runs)) {
            return false;
        }
    }
    return allow(ruleset, FD_IN, reads) && allow(ruleset, FD_OUT, writes) &&
           syscall(SYS_landlock_restrict_self, ruleset, 0) == 0;
}

static bool
drop_capabilities(void)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct none[2] = {{0}, {0}};
    for (int cap = 0; prctl(PR_CAPBSET_READ, cap) >= 0; cap++) {
        prctl(PR_CAPBSET_DROP, cap);
    }
    return syscall(SYS_capset, &header, none) == 0;
}

static void
bound(int what, rlim_t most)
{
    const struct rlimit limit = {.rlim_cur = most, .rlim_max = most};
    setrlimit((__rlimit_resource_t) what, &limit);
}

static int
convert(const char *operation, rlim_t limit)
{
    bool to_raw = strcmp(operation, "to-raw") == 0;
    bool small = strcmp(operation, "to-small-qcow2") == 0;
    const char *const env[] = {"PATH=/usr/bin:/bin", "LC_ALL=C", NULL};
    const char *argv[16] = {"qemu-img",
                            "convert",
                            "-q",
                            "-f",
                            to_raw ? "qcow2" : "raw",
                            "-O",
                            to_raw ? "raw" : "qcow2"};
    int n = 7;
    if (to_raw) { /* D3 */
        argv[n++] = "-n";
        argv[n++] = "--target-is-zero";
    }
    if (small) {
        argv[n++] = "-c";
    }
    argv[n++] = "/proc/self/fd/3";
    argv[n++] = "/proc/self/fd/4";
    bound(RLIMIT_AS, (rlim_t) MEMORY_GIB << 30);
    bound(RLIMIT_FSIZE, limit);
    bound(RLIMIT_CORE, 0);
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
        !drop_capabilities() || !fence()) {
        fprintf(stderr, "confine qemu-img: %s\n", strerror(errno));
        return 1;
    }
    execvpe("qemu-img", (char *const *) argv, (char *const *) env);
    fprintf(stderr, "run qemu-img: %s (install qemu-utils)\n", strerror(errno));
    return 1;
}

int
forkqimg_main(int argc, char **argv)
{
    int status = 1;
    if (argc != 3) {
        return 2;
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (unshare(CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWPID) < 0) {
        fprintf(stderr, "confine qemu-img: %s\n", strerror(errno));
        return 1;
    }
    pid_t child = fork();
    if (child == 0) {
        _exit(convert(argv[1], (rlim_t) g_ascii_strtoull(argv[2], NULL, 10)));
    }
    if (child < 0 || waitpid(child, &status, 0) < 0) {
        fprintf(stderr, "run qemu-img: %s\n", strerror(errno));
        return 1;
    }
    if (WIFSIGNALED(status)) {
        fprintf(stderr, "qemu-img was ended by signal %d\n", WTERMSIG(status));
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}
