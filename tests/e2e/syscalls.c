/* Made static and run inside containers by lxc_syscalls.sh: calls that no command makes. Prints what came of
 * one: "0", or the name of the error. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

static int
bpf(int command, union bpf_attr *attr)
{
    return (int) syscall(SYS_bpf, command, attr, sizeof *attr);
}

/* A program that lets all devices be; attached to, and taken from, the group 'path' unless it is "-". */
static int
device_program(const char *path, int type)
{
    struct bpf_insn program[] = {
        {.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = 1},
        {.code = BPF_JMP | BPF_EXIT},
    };
    union bpf_attr load = {.prog_type = (uint32_t) type,
                           .insn_cnt = 2,
                           .insns = (uintptr_t) program,
                           .license = (uintptr_t) "GPL"};
    int fd = bpf(BPF_PROG_LOAD, &load);
    if (fd < 0 || strcmp(path, "-") == 0) {
        return fd < 0 ? -1 : 0;
    }
    int group = open(path, O_RDONLY | O_DIRECTORY);
    union bpf_attr attach = {.target_fd = (uint32_t) group,
                             .attach_bpf_fd = (uint32_t) fd,
                             .attach_type = BPF_CGROUP_DEVICE,
                             .attach_flags = BPF_F_ALLOW_MULTI};
    if (group < 0 || bpf(BPF_PROG_ATTACH, &attach) < 0) {
        return -1;
    }
    attach.attach_flags = 0;
    return bpf(BPF_PROG_DETACH, &attach);
}

/* A listener of the container's own, which would be asked before ours. */
static int
own_listener(void)
{
    struct sock_filter allow = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    struct sock_fprog program = {.len = 1, .filter = &allow};
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    return (int) syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER,
                         &program);
}

static int
scheduler(int policy, const char *pid)
{
    struct sched_param param = {.sched_priority = policy == SCHED_FIFO ? 1 : 0};
    return (int) syscall(SYS_sched_setscheduler, atoi(pid), policy, &param);
}

int
main(int argc, char **argv)
{
    int result = -1;
    if (argc < 3) {
        return 2;
    }
    if (strcmp(argv[1], "opaque") == 0) {
        result = setxattr(argv[2], "trusted.overlay.opaque", "y", 1, 0);
    } else if (strcmp(argv[1], "trusted") == 0) {
        result = setxattr(argv[2], "trusted.other", "y", 1, 0);
    } else if (strcmp(argv[1], "user") == 0) {
        result = setxattr(argv[2], "user.other", "y", 1, 0);
    } else if (strcmp(argv[1], "mknodat") == 0) { /* argv[2]: a directory */
        result =
            mknodat(open(argv[2], O_PATH | O_DIRECTORY), "by-fd", S_IFCHR | 0666, makedev(1, 3));
    } else if (strcmp(argv[1], "bpf") == 0) {
        result = device_program(argv[2], BPF_PROG_TYPE_CGROUP_DEVICE);
    } else if (strcmp(argv[1], "bpf-other") == 0) {
        result = device_program(argv[2], BPF_PROG_TYPE_SOCKET_FILTER);
    } else if (strcmp(argv[1], "listener") == 0) {
        result = own_listener();
    } else if (strcmp(argv[1], "batch") == 0) {
        result = scheduler(SCHED_BATCH, argv[2]);
    } else if (strcmp(argv[1], "fifo") == 0) {
        result = scheduler(SCHED_FIFO, argv[2]);
    } else if (strcmp(argv[1], "memory") == 0 || strcmp(argv[1], "age") == 0) {
        struct sysinfo info;
        sysinfo(&info);
        printf("%lu\n",
               *argv[1] == 'm' ? info.totalram * info.mem_unit : (unsigned long) info.uptime);
        return 0;
    }
    puts(result < 0 ? strerrorname_np(errno) : "0");
    return 0;
}
