/* A virtual TPM: one swtpm process a device, its state in the instance's volume (tpm.NAME), so that keys
 * sealed in it are copied, moved and restored with the disk.
 * T1  swtpm and QEMU share a socket pair: nobody else can connect, and the end of QEMU is the end of swtpm
 *     (--terminate). It daemonizes, as QEMU does, and so outlives the agent.
 * Called by vmboot.c. */
#include "agent/vm/vmrun.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/vm/vmitem.h"
#include "base/fd.h"
#include "base/proc.h"

enum { END_MS = 5000 };

static char *
pid_path(Inst *inst, const char *device)
{
    g_autofree char *run_dir = inst_run_dir(inst), *node = vmitem_node(device);
    return g_strdup_printf("%s/tpm.%s.pid", run_dir, node);
}

bool
vmtpm_start(Inst *inst, const char *device, const char *state_dir, int *ret_fd, GError **error)
{
    g_autofree char *program = g_find_program_in_path("swtpm");
    g_autofree char *pid = pid_path(inst, device);
    g_autofree char *state = g_strdup_printf("dir=%s,mode=0600", state_dir);
    g_autofree char *pid_arg = g_strdup_printf("file=%s", pid);
    g_autofree char *log_dir = inst_log_dir(inst);
    g_autofree char *log = g_strdup_printf("file=%s/tpm.log,level=1", log_dir);
    int pair[2];
    if (program == NULL) {
        return haw_fail(error, HAW_UNSUPPORTED,
                        "Required tool \"swtpm\" is missing: install the package 'swtpm'");
    }
    if (!fd_mkdir_p(state_dir, 0700, error)) {
        return false;
    }
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0) {
        return haw_fail_errno(error, errno, "Make a socket pair");
    }
    haw_autofd int ours = pair[0], theirs = pair[1];
    const char *argv[] = {program,
                          "socket",
                          "--tpm2",
                          "--tpmstate",
                          state,
                          "--ctrl",
                          "type=unixio,clientfd=3",
                          "--pid",
                          pid_arg,
                          "--log",
                          log,
                          "--terminate",
                          "--daemon",
                          NULL};
    ProcSpec spec = {.argv = argv,
                     .fd_in = -1,
                     .fd_out = -1,
                     .wait_ms = END_MS * 2,
                     .fds = &theirs,
                     .fd_count = 1};
    g_autofree char *out = NULL;
    if (!proc_run(&spec, &out, error)) {
        return haw_push(error, "Failed to start swtpm for \"%s\"", device);
    }
    *ret_fd = fd_steal(&ours); /* T1 */
    return true;
}

void
vmtpm_stop(Inst *inst, const char *device)
{
    g_autofree char *path = pid_path(inst, device);
    g_autofree char *text = fd_read_file(path, 64, NULL, NULL);
    pid_t pid = text != NULL ? (pid_t) g_ascii_strtoll(text, NULL, 10) : 0;
    g_autofree char *proc = g_strdup_printf("/proc/%d/cmdline", (int) pid);
    size_t size = 0;
    g_autofree char *line = pid > 1 ? fd_read_file(proc, 65536, &size, NULL) : NULL;
    if (line == NULL || size == 0 || memmem(line, size, path, strlen(path)) == NULL) {
        return;
    }
    haw_autofd int fd = pidfd_open(pid, 0);
    if (fd >= 0) {
        pidfd_send_signal(fd, SIGTERM, NULL, 0);
        fiber_wait_fd(fd, G_IO_IN, END_MS, NULL, NULL);
    }
}
