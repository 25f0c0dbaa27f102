/* QEMU's process, whoever started it.
 * E1  A pid is believed when the process's arguments name the instance's pid file.
 * E2  In the moment before the file is written, the process is looked for by those arguments.
 * Called by vmboot.c, vmincoming.c and driver_qemu.c. Main loop. */

#include "agent/vm/vmrun.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/inst/lifecycle.h"
#include "base/fd.h"

enum { KILL_MS = 30000 };

/* Whether the process's arguments name the pid file: a number that somebody else has now is none of ours. */
static bool
names_file(pid_t pid, const char *path)
{
    size_t size = 0;
    g_autofree char *proc = g_strdup_printf("/proc/%d/cmdline", (int) pid);
    g_autofree char *line = fd_read_file(proc, 1024 * 1024, &size, NULL);
    return line != NULL && size > 0 && memmem(line, size, path, strlen(path) + 1) != NULL;
}

/* E2 */
static pid_t
search(const char *path)
{
    g_autoptr(GDir) dir = g_dir_open("/proc", 0, NULL);
    for (const char *name = dir != NULL ? g_dir_read_name(dir) : NULL; name != NULL;
         name = g_dir_read_name(dir)) {
        gint64 pid = g_ascii_isdigit(*name) ? g_ascii_strtoll(name, NULL, 10) : 0;
        if (pid > 1 && names_file((pid_t) pid, path)) {
            return (pid_t) pid;
        }
    }
    return 0;
}

pid_t
vmprocess_find(Inst *inst)
{
    g_autofree char *run_dir = inst_run_dir(inst);
    g_autofree char *path = g_strdup_printf("%s/qemu.pid", run_dir);
    g_autofree char *text = fd_read_file(path, 64, NULL, NULL);
    gint64 pid = text != NULL ? g_ascii_strtoll(text, NULL, 10) : 0;
    if (text == NULL) {
        return access(run_dir, F_OK) == 0 ? search(path) : 0;
    }
    return pid > 1 && pid <= G_MAXINT32 && names_file((pid_t) pid, path) ? (pid_t) pid : 0;
}

void
vmprocess_kill(Inst *inst)
{
    pid_t pid = vmprocess_find(inst);
    haw_autofd int fd = pid > 0 ? pidfd_open(pid, 0) : -1;
    if (fd >= 0) {
        pidfd_send_signal(fd, SIGKILL, NULL, 0);
        fiber_wait_fd(fd, G_IO_IN, KILL_MS, NULL, NULL);
        waitpid(pid, NULL, WNOHANG);
    }
    lifecycle_forget(inst);
}
