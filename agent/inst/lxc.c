/* Containers, by liblxc in helper processes (forklxc.c); and what runs or looks inside them.
 * X1  The daemon itself never starts or attaches: liblxc forks, and the daemon has threads.
 * X2  After a start the container belongs to liblxc's monitor process, not to us: we find it again
 *     through its command socket, and see its end on a pidfd of the monitor.
 * X3  Signals go through the pidfd of init: never to a pid that may have become somebody else's.
 * Called by start.c and lifecycle.c, and by exec, console and files through inside.c. Main loop. */
#include "agent/inst/instdriver.h"
#include "agent/inst/idmap.h"
#include "agent/inst/limits.h"
#include "agent/inst/record.h"
#include "agent/inst/show.h"
#include "agent/inst/start.h"
#include "base/fd.h"
#include "base/proc.h"

#include <errno.h>
#include <fcntl.h>
#include <lxc/lxccontainer.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

#define CONSOLE_MAX (4 * 1024 * 1024)
#define PID_WAIT_MS 30000

struct lxc_exec {
    InstExec base;
    pid_t helper, pid;
    int pidfd; /* X3 */
    int status;
    bool ended;
};

static char *
container_path(Inst *inst)
{
    return agent_path(inst->agent, "containers");
}

static char *
conf_path(Inst *inst)
{
    return agent_path(inst->agent, "logs/%s/lxc.conf", inst->object);
}

/* ---- the driver ---- */

/* systemd blocks SIGRTMIN+3 to take it from a signalfd; others understand SIGPWR. */
static int
halt_signal(Inst *inst)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/status", (int) inst->pid);
    g_autofree char *text = fd_read_file(path, 65536, NULL, NULL);
    const char *at = text != NULL ? strstr(text, "\nSigBlk:") : NULL;
    if (at != NULL) {
        guint64 blocked = g_ascii_strtoull(at + 8, NULL, 16);
        if (blocked >> (SIGRTMIN + 3 - 1) & 1) {
            return SIGRTMIN + 3;
        }
    }
    return SIGPWR;
}

static bool
send_signal(Inst *inst, int number, GError **error)
{
    if (inst->pidfd >= 0 && pidfd_send_signal(inst->pidfd, number, NULL, 0) < 0 && errno != ESRCH) {
        return haw_fail_errno(error, errno, "Signal the container's init");
    }
    return true;
}

static bool
driver_halt(Inst *inst, GError **error)
{
    return send_signal(inst, halt_signal(inst), error);
}

static bool
driver_kill(Inst *inst, GError **error)
{
    if (!send_signal(inst, SIGKILL, error)) {
        return false;
    }
    /* A frozen task of cgroup v1 takes its signals only once it is thawed. */
    if (inst->cgroup != NULL && cgroup_version(CG_FREEZER) == 1 && cgroup_frozen(inst->cgroup)) {
        cgroup_write(inst->cgroup, CG_FREEZER, "freezer.state", "THAWED", NULL);
    }
    return true;
}

static bool
driver_freeze(Inst *inst, bool frozen, GError **error)
{
    return cgroup_freeze(inst->cgroup, frozen, error);
}

static bool
driver_frozen(Inst *inst)
{
    return cgroup_frozen(inst->cgroup);
}

struct probe {
    char *name, *path;
    pid_t pid;
};

static void
probe_run(void *data)
{
    struct probe *probe = data;
    struct lxc_container *c = lxc_container_new(probe->name, probe->path);
    if (c != NULL) {
        probe->pid = c->init_pid(c);
        lxc_container_put(c);
    }
}

static pid_t
driver_probe(Inst *inst)
{
    struct probe probe = {g_strdup(inst->object), container_path(inst), 0};
    fiber_run(probe_run, &probe);
    g_free(probe.name);
    g_free(probe.path);
    return MAX(0, probe.pid);
}

/* ---- commands inside ---- */

static int
spec_fd(const InstExecSpec *spec, GError **error)
{
    json_t *argv = json_array();
    for (const char *const *arg = spec->argv; *arg != NULL; arg++) {
        json_array_append_new(argv, json_string(*arg));
    }
    json_t *all =
        json_pack("{s:o,s:O,s:s,s:I,s:I,s:b}", "argv", argv, "environment", spec->environment,
                  "cwd", spec->cwd != NULL ? spec->cwd : "", "uid", (json_int_t) spec->uid, "gid",
                  (json_int_t) spec->gid, "terminal", (int) spec->terminal);
    char *text = all != NULL ? json_dumps(all, JSON_COMPACT) : NULL;
    json_decref(all);
    if (text == NULL) {
        haw_fail(error, HAW_INVALID, "A command or its environment is no valid UTF-8");
        return -1;
    }
    haw_autofd int fd = memfd_create("exec", MFD_CLOEXEC);
    bool ok = fd >= 0 ? fd_write_all(fd, text, strlen(text), "memfd", error)
                      : haw_fail_errno(error, errno, "memfd_create");
    free(text);
    return ok ? fd_steal(&fd) : -1;
}

/* The pid that the helper writes once the command is there. Yields. */
static bool
read_pid(int fd, pid_t *ret_pid, GError **error)
{
    char text[32] = "";
    if (!fiber_wait_fd(fd, G_IO_IN, PID_WAIT_MS, NULL, error)) {
        return false;
    }
    ssize_t n = read(fd, text, sizeof text - 1);
    *ret_pid = n > 0 ? (pid_t) g_ascii_strtoll(text, NULL, 10) : 0;
    return *ret_pid > 0 || haw_fail(error, HAW_FAILED, "The command could not be attached");
}

static pid_t
lxc_exec_pid(InstExec *exec)
{
    return ((struct lxc_exec *) exec)->pid;
}

static void
lxc_exec_signal(InstExec *base, int number)
{
    struct lxc_exec *exec = (struct lxc_exec *) base;
    if (exec->pidfd >= 0) {
        pidfd_send_signal(exec->pidfd, number, NULL, 0);
    }
}

static bool
lxc_exec_wait(InstExec *base, GCancellable *cancel, int *ret_code, GError **error)
{
    struct lxc_exec *exec = (struct lxc_exec *) base;
    if (!exec->ended) {
        if (!fiber_wait_pid(exec->helper, -1, cancel, &exec->status, error)) {
            return false;
        }
        exec->ended = true;
    }
    *ret_code =
        WIFSIGNALED(exec->status) ? 128 + WTERMSIG(exec->status) : WEXITSTATUS(exec->status);
    return true;
}

static void
reap(void *data)
{
    int status;
    fiber_wait_pid(GPOINTER_TO_INT(data), -1, NULL, &status, NULL);
}

static void
lxc_exec_free(InstExec *base)
{
    struct lxc_exec *exec = (struct lxc_exec *) base;
    if (!exec->ended) {
        lxc_exec_signal(base, SIGKILL);
        fiber_start("exec-reap", reap, GINT_TO_POINTER(exec->helper));
    }
    fd_close(&exec->pidfd);
    g_free(exec);
}

static const ExecOps lxc_exec_ops = {
    .pid = lxc_exec_pid, .signal = lxc_exec_signal, .wait = lxc_exec_wait, .free = lxc_exec_free};

static InstExec *
driver_exec(Inst *inst, const InstExecSpec *spec, GError **error)
{
    haw_autofd int fd_spec = spec_fd(spec, error);
    int pipe_fds[2];
    if (fd_spec < 0) {
        return NULL;
    }
    if (pipe2(pipe_fds, O_CLOEXEC) < 0) {
        haw_fail_errno(error, errno, "Make a pipe");
        return NULL;
    }
    haw_autofd int pid_in = pipe_fds[0];
    haw_autofd int pid_out = pipe_fds[1];
    g_autofree char *path = container_path(inst), *conf = conf_path(inst);
    const char *argv[] = {inst->agent->exe, "forkexec", inst->object, path, conf, NULL};
    int fds[] = {spec->fds[0], spec->fds[1], spec->fds[2], pid_out, fd_spec};
    pid_t helper = proc_spawn(argv, NULL, NULL, fds, G_N_ELEMENTS(fds), error);
    if (helper < 0) {
        return NULL;
    }
    fd_close(&pid_out);

    g_autofree struct lxc_exec *exec = g_new0(struct lxc_exec, 1);
    exec->base.ops = &lxc_exec_ops;
    exec->helper = helper;
    if (!read_pid(pid_in, &exec->pid, error)) {
        kill(helper, SIGKILL);
        fiber_wait_pid(helper, -1, NULL, &exec->status, NULL);
        return NULL;
    }
    exec->pidfd = pidfd_open(exec->pid, 0);
    return &g_steal_pointer(&exec)->base;
}

/* ---- console ---- */

struct console {
    char *name, *path;
    bool clear;
    int fd, token;
    char *log; /* malloc'd */
    size_t size;
    int result;
};

static void
console_open_run(void *data)
{
    struct console *job = data;
    int tty = 0;
    struct lxc_container *c = lxc_container_new(job->name, job->path);
    job->token = job->fd = -1;
    if (c != NULL) {
        job->token = c->console_getfd(c, &tty, &job->fd);
        lxc_container_put(c);
    }
}

static int
driver_console(Inst *inst, int *ret_token, GError **error)
{
    struct console job = {.name = g_strdup(inst->object), .path = container_path(inst)};
    fiber_run(console_open_run, &job);
    g_free(job.name);
    g_free(job.path);
    if (job.token < 0 || job.fd < 0) {
        fd_close(&job.token);
        fd_close(&job.fd);
        haw_fail(error, HAW_BUSY, "The console is in use");
        return -1;
    }
    fcntl(job.fd, F_SETFD, FD_CLOEXEC);
    fcntl(job.token, F_SETFD, FD_CLOEXEC);
    *ret_token = job.token;
    return job.fd;
}

static void
console_log_run(void *data)
{
    struct console *job = data;
    uint64_t read_max = 0;
    struct lxc_console_log log = {.clear = job->clear, .read = !job->clear, .read_max = &read_max};
    struct lxc_container *c = lxc_container_new(job->name, job->path);
    job->result = -ENOENT;
    if (c != NULL) {
        job->result = c->console_log(c, &log);
        job->log = log.data;
        job->size = log.data != NULL ? read_max : 0;
        lxc_container_put(c);
    }
}

static bool
console_ring(Inst *inst, bool clear, char **ret_log, size_t *ret_size, GError **error)
{
    struct console job = {
        .name = g_strdup(inst->object), .path = container_path(inst), .clear = clear};
    fiber_run(console_log_run, &job);
    g_free(job.name);
    g_free(job.path);
    if (job.result < 0 && job.result != -ENODATA) {
        free(job.log);
        return haw_fail_errno(error, -job.result, "Read the console log");
    }
    *ret_log = g_malloc0(job.size + 1);
    if (job.size > 0) {
        memcpy(*ret_log, job.log, job.size);
    }
    *ret_size = job.size;
    free(job.log);
    return true;
}

static char *
driver_console_log(Inst *inst, size_t *ret_size, GError **error)
{
    char *log = NULL;
    if (inst_pid(inst) != 0) {
        return console_ring(inst, false, &log, ret_size, error) ? log : NULL;
    }
    g_autofree char *path = agent_path(inst->agent, "logs/%s/console.log", inst->object);
    if (access(path, F_OK) < 0) {
        *ret_size = 0;
        return g_strdup("");
    }
    return fd_read_file(path, CONSOLE_MAX, ret_size, error);
}

static bool
driver_console_clear(Inst *inst, GError **error)
{
    g_autofree char *log = NULL;
    size_t size;
    if (inst_pid(inst) != 0 && !console_ring(inst, true, &log, &size, error)) {
        return false;
    }
    g_autofree char *path = agent_path(inst->agent, "logs/%s/console.log", inst->object);
    if (inst_pid(inst) == 0 && truncate(path, 0) < 0 && errno != ENOENT) {
        return haw_fail_errno(error, errno, "Clear '%s'", path);
    }
    return true;
}

const Driver driver_lxc = {
    .type = "container",
    .monitored = true,
    .grouped = true,
    .start = start_container,
    .halt = driver_halt,
    .kill = driver_kill,
    .freeze = driver_freeze,
    .frozen = driver_frozen,
    .probe = driver_probe,
    .change = limits_change,
    .state = show_container_state,
    .exec = driver_exec,
    .console = driver_console,
    .console_log = driver_console_log,
    .console_clear = driver_console_clear,
};

/* ---- the root filesystem ---- */

static json_t *
idmap_of(Inst *inst, const char *key)
{
    json_t *map = json_loads(inst_get(inst, key) != NULL ? inst_get(inst, key) : "[]", 0, NULL);
    return map != NULL ? map : json_array();
}

bool
inst_root_open(Inst *inst, InstRoot *ret_root, GError **error)
{
    InstRoot root = {.root_fd = -1, .pid = inst_pid(inst)};
    g_autofree char *path = NULL;
    Vol vol;
    if (strcmp(inst->type, driver_lxc.type) != 0) {
        return haw_fail(error, HAW_UNSUPPORTED, "The files of a virtual machine are its own");
    }
    if (root.pid != 0) {
        path = g_strdup_printf("/proc/%d/root", (int) root.pid);
        root.idmap = idmap_of(inst, "volatile.idmap.current");
    } else {
        g_autofree char *mount = NULL;
        if (!inst_volume(inst, &vol, error) ||
            !vol_mount(inst->agent->pools, &vol, &mount, error)) {
            return false;
        }
        root.mounted = true;
        path = g_strdup_printf("%s/rootfs", mount);
        root.idmap = idmap_of(inst, "volatile.last_state.idmap");
    }
    /* /proc/PID/root is a magic link; a rootfs that is a link leads out (store/instdir.h). */
    root.root_fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC | (root.pid != 0 ? 0 : O_NOFOLLOW));
    if (root.root_fd < 0) {
        haw_fail_errno(error, errno, "Open the root of '%s'", inst->name);
        inst_root_close(inst, &root);
        return false;
    }
    *ret_root = root;
    return true;
}

void
inst_root_close(Inst *inst, InstRoot *root)
{
    Vol vol;
    fd_close(&root->root_fd);
    json_decref(root->idmap);
    root->idmap = NULL;
    if (root->mounted && inst_volume(inst, &vol, NULL)) {
        vol_unmount(inst->agent->pools, &vol, NULL);
    }
    root->mounted = false;
}

gint64
inst_root_device(Inst *inst)
{
    Vol vol;
    struct stat st;
    if (!inst_volume(inst, &vol, NULL)) {
        return 0;
    }
    g_autofree char *dir = vol_path(inst->agent->pools, &vol);
    g_autofree char *rootfs = g_build_filename(dir, "rootfs", NULL);
    return lstat(rootfs, &st) == 0 ? (gint64) st.st_dev : 0;
}
