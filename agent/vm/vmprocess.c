/* QEMU's process, whoever started it.
 * E1  A pid is believed when its process has the instance's run directory open where only QEMU has it
 *     (VM_RUN_DIR_FD): a number that somebody else has now is none of ours.
 * E2  In the moment before the file is written, the process is looked for by that.
 * Called by vmboot.c, vmincoming.c and driver_qemu.c. Main loop. */

#include "agent/vm/vmrun.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/inst/lifecycle.h"
#include "base/fd.h"

enum { KILL_MS = 30000 };

/* E1 */
static bool
holds(pid_t pid, const struct stat *run_dir)
{
    g_autofree char *proc = g_strdup_printf("/proc/%d/fd/%d", (int) pid, VM_RUN_DIR_FD);
    struct stat its;
    return pid != getpid() && stat(proc, &its) == 0 && its.st_dev == run_dir->st_dev &&
           its.st_ino == run_dir->st_ino;
}

/* E2 */
static pid_t
search(const struct stat *run_dir)
{
    g_autoptr(GDir) dir = g_dir_open("/proc", 0, NULL);
    for (const char *name = dir != NULL ? g_dir_read_name(dir) : NULL; name != NULL;
         name = g_dir_read_name(dir)) {
        gint64 pid = g_ascii_isdigit(*name) ? g_ascii_strtoll(name, NULL, 10) : 0;
        if (pid > 1 && holds((pid_t) pid, run_dir)) {
            return (pid_t) pid;
        }
    }
    return 0;
}

static char *
pid_path(Inst *inst)
{
    g_autofree char *run_dir = inst_run_dir(inst);
    return g_strdup_printf("%s/qemu.pid", run_dir);
}

bool
vmprocess_note(Inst *inst, pid_t pid, GError **error)
{
    g_autofree char *path = pid_path(inst);
    g_autofree char *text = g_strdup_printf("%d\n", (int) pid);
    return fd_write_copy(path, text, strlen(text), 0600, error);
}

pid_t
vmprocess_find(Inst *inst)
{
    g_autofree char *run_dir = inst_run_dir(inst);
    g_autofree char *path = pid_path(inst);
    g_autofree char *text = fd_read_file(path, 64, NULL, NULL);
    gint64 pid = text != NULL ? g_ascii_strtoll(text, NULL, 10) : 0;
    struct stat dir;
    if (stat(run_dir, &dir) < 0) {
        return 0;
    }
    if (text == NULL) {
        return search(&dir);
    }
    return pid > 1 && pid <= G_MAXINT32 && holds((pid_t) pid, &dir) ? (pid_t) pid : 0;
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
