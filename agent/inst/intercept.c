/* Intercepted system calls: liblxc's monitor of each container passes them on over a socket of ours, and
 * waits for what to answer.
 * I1  A message says by liblxc's cookie whose it is: the instance's id, which its configuration was given.
 *     Monitors are root's, and so is the socket's directory entry (mode 0600).
 * I2  A call is made by a helper (forksyscall.c) that gets the descriptors and what the configuration allows.
 *     sysinfo() alone is answered here: it is asked often, and changes nothing.
 * I3  Whatever goes wrong, the call goes on in the kernel, which refuses what it always refused. While
 *     the agent is away the monitor answers ENOSYS, and comes back.
 * I4  A container's calls come one at a time: its monitor waits for each. So a flood of them keeps one
 *     helper busy, not the agent.
 * Called by agent.c (start), start.c (path) and by the check of an instance's config. */
#include "agent/inst/intercept.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/seccomp.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "agent/inst/forkcall.h"
#include "agent/inst/record.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/proc.h"
#include "proto/grammar.h"
#include "proto/keys.h"

enum { HELPER_MS = 20 * 1000, COOKIE_MAX = 64, FDS = 3 };
#if defined __x86_64__
#define OWN_ARCH AUDIT_ARCH_X86_64
#elif defined __aarch64__
#define OWN_ARCH AUDIT_ARCH_AARCH64
#else
#define OWN_ARCH 0
#endif

/* liblxc's, in front of the kernel's own two. */
struct proxy_head {
    guint64 reserved;
    pid_t monitor, init;
    struct seccomp_notif_sizes sizes;
    guint64 cookie_size;
};
struct proxy_message {
    struct proxy_head head;
    struct seccomp_notif notif;
    struct seccomp_notif_resp answer;
};
_Static_assert(sizeof(struct proxy_message) == 32 + 80 + 24, "as liblxc sends it, no padding");

typedef struct {
    Agent *agent; /* borrowed */
    int fd;       /* owns */
} Monitor;

typedef struct {
    struct proxy_message message;
    char cookie[COOKIE_MAX + 1];
    int fds[FDS]; /* /proc/PID, its mem, the listener; own */
} Call;

static void
call_done(Call *call)
{
    for (size_t i = 0; i < FDS; i++) {
        fd_close(&call->fds[i]);
    }
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Call, call_done)

/* ---- what the configuration allows ---- */

json_t *
intercept_mounts(json_t *config, GError **error)
{
    json_auto_t *types = json_object();
    const char *fuse = keys_get(config, "security.syscalls.intercept.mount.fuse");
    const char *plain = keys_get(config, "security.syscalls.intercept.mount.allowed");
    g_auto(GStrv) programs = grammar_list(fuse != NULL ? fuse : "");
    g_auto(GStrv) names = grammar_list(plain != NULL ? plain : "");
    for (char **item = programs; *item != NULL; item++) {
        char *program = strchr(*item, '=');
        if (program == NULL || program == *item || program[1] == '\0' ||
            strchr(program + 1, '=') != NULL) {
            haw_fail(error, HAW_INVALID,
                     "security.syscalls.intercept.mount.fuse is not of the form "
                     "'filesystem=fuse-binary': %s",
                     *item);
            return NULL;
        }
        *program = '\0';
        json_object_set_new(types, *item, json_string(program + 1));
    }
    for (char **name = names; *name != NULL; name++) {
        if (json_object_get(types, *name) != NULL) {
            haw_fail(error, HAW_INVALID,
                     "Filesystem %s cannot appear in security.syscalls.intercept.mount.allowed and "
                     "security.syscalls.intercept.mount.fuse",
                     *name);
            return NULL;
        }
        json_object_set_new(types, *name, json_string(""));
    }
    return json_incref(types);
}

/* ---- one call ---- */

/* What the container sees of the host: its limits, its processes, its age. */
static bool
answer_sysinfo(Inst *inst, const Call *call)
{
    struct sysinfo info;
    struct timespec now;
    gint64 limit = -1, used = -1, processes = -1;
    if (inst->cgroup == NULL || sysinfo(&info) < 0) {
        return false;
    }
    bool v1 = cgroup_version(CG_MEMORY) == 1;
    limit = cgroup_number(inst->cgroup, CG_MEMORY, v1 ? "memory.limit_in_bytes" : "memory.max");
    used = cgroup_number(inst->cgroup, CG_MEMORY, v1 ? "memory.usage_in_bytes" : "memory.current");
    processes = cgroup_processes(inst->cgroup);
    gint64 total = (gint64) info.totalram * info.mem_unit;
    if (limit > 0 && limit < total && used >= 0) {
        info.totalram = (gulong) limit / info.mem_unit;
        info.freeram = (gulong) MAX(0, limit - used) / info.mem_unit;
        info.bufferram = info.sharedram = 0;
        info.totalhigh = info.freehigh = 0;
    }
    if (processes > 0) {
        info.procs = (unsigned short) MIN(processes, G_MAXUSHORT);
    }
    guint64 began = proc_start_time(inst->pid);
    if (began != 0 && clock_gettime(CLOCK_BOOTTIME, &now) == 0) {
        info.uptime = (long) now.tv_sec - (long) (began / (guint64) sysconf(_SC_CLK_TCK));
    }
    guint64 address = call->message.notif.data.args[0];
    return pwrite(call->fds[1], &info, sizeof info, (off_t) address) == sizeof info;
}

static json_t *
request_of(Inst *inst, const Call *call, GError **error)
{
    const struct seccomp_notif *notif = &call->message.notif;
    g_autofree char *text = g_base64_encode((const guchar *) notif, sizeof *notif);
    json_t *config = inst_expanded_config(inst);
    json_auto_t *types = intercept_mounts(config, error);
    if (types == NULL) {
        return NULL;
    }
    return json_pack("{s:s,s:O,s:b,s:b}", "notif", text, "mount", types, "shift",
                     (int) keys_get_bool(config, "security.syscalls.intercept.mount.shift", false),
                     "bpf",
                     (int) keys_get_bool(config, "security.syscalls.intercept.bpf.devices", false));
}

static bool
answer_by_helper(Inst *inst, Call *call, GError **error)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/ns/user", (int) call->message.head.init);
    haw_autofd int users = open(path, O_RDONLY | O_CLOEXEC);
    if (users < 0) {
        return haw_fail_errno(error, errno, "open '%s'", path);
    }
    const int fds[] = {call->fds[0], call->fds[1], call->fds[2], users};
    json_t *request = request_of(inst, call, error);
    json_auto_t *reply = NULL;
    if (request == NULL || !forkcall(inst->agent, "forksyscall", request, fds, G_N_ELEMENTS(fds),
                                     HELPER_MS, NULL, &reply, NULL, error)) {
        return false;
    }
    if (!json_is_true(json_object_get(reply, "own"))) {
        struct seccomp_notif_resp *answer = &call->message.answer;
        answer->flags = 0;
        answer->error = -(int) json_integer_value(json_object_get(reply, "error"));
        answer->val = answer->error == 0 ? json_integer_value(json_object_get(reply, "value")) : 0;
    }
    return true;
}

static Inst *
inst_of(Agent *agent, const char *cookie)
{
    gint64 id = g_ascii_strtoll(cookie, NULL, 10);
    GHashTableIter iter;
    gpointer value;
    g_hash_table_iter_init(&iter, agent->instances->by_key);
    while (g_hash_table_iter_next(&iter, NULL, &value)) {
        if (inst_id(value) == id) {
            return inst_ref(value);
        }
    }
    return NULL;
}

static void
answer(Monitor *monitor, Call *call)
{
    const struct seccomp_notif *notif = &call->message.notif;
    g_autoptr(GError) error = NULL;
    g_autoptr(Inst) inst = inst_of(monitor->agent, call->cookie); /* I1 */
    call->message.answer =
        (struct seccomp_notif_resp){.id = notif->id, .flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE};
    if (inst == NULL || notif->data.arch != OWN_ARCH) {
        return;
    }
    if (notif->data.nr == SYS_sysinfo) { /* I2 */
        call->message.answer.flags =
            answer_sysinfo(inst, call) ? 0 : SECCOMP_USER_NOTIF_FLAG_CONTINUE;
    } else if (!answer_by_helper(inst, call, &error)) { /* I3 */
        haw_warn("inst.syscall_failed", KS("inst", inst_name(inst)), KU("call", notif->data.nr),
                 KS("why", error->message));
    }
}

/* ---- the socket ---- */

static bool
receive(int fd, Call *ret)
{
    char control[CMSG_SPACE(sizeof(int) * FDS)];
    struct iovec iov[] = {{&ret->message, sizeof ret->message}, {ret->cookie, COOKIE_MAX}};
    struct msghdr msg = {.msg_iov = iov,
                         .msg_iovlen = G_N_ELEMENTS(iov),
                         .msg_control = control,
                         .msg_controllen = sizeof control};
    ssize_t size = recvmsg(fd, &msg, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    struct cmsghdr *cmsg = size > 0 ? CMSG_FIRSTHDR(&msg) : NULL;
    if (cmsg != NULL && cmsg->cmsg_type == SCM_RIGHTS) {
        memcpy(ret->fds, CMSG_DATA(cmsg), MIN(sizeof ret->fds, cmsg->cmsg_len - CMSG_LEN(0)));
    }
    const struct seccomp_notif_sizes *sizes = &ret->message.head.sizes;
    return size >= (ssize_t) sizeof ret->message && ret->message.head.reserved == 0 &&
           sizes->seccomp_notif == sizeof ret->message.notif &&
           sizes->seccomp_notif_resp == sizeof ret->message.answer && ret->fds[FDS - 1] >= 0;
}

static bool
send_answer(int fd, const Call *call)
{
    return send(fd, &call->message, sizeof call->message, MSG_NOSIGNAL) ==
           (ssize_t) sizeof call->message;
}

static void
serve_monitor(void *data)
{
    g_autofree Monitor *monitor = data;
    bool ok = true;
    while (ok && fiber_wait_fd(monitor->fd, G_IO_IN, -1, monitor->agent->stopping, NULL)) {
        g_auto(Call) call = {.fds = {-1, -1, -1}};
        ok = receive(monitor->fd, &call);
        if (ok) { /* I4 */
            answer(monitor, &call);
            ok = send_answer(monitor->fd, &call);
        }
    }
    close(monitor->fd);
}

static void
accept_monitors(void *data)
{
    g_autofree Monitor *door = data;
    while (fiber_wait_fd(door->fd, G_IO_IN, -1, door->agent->stopping, NULL)) {
        int fd = accept4(door->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd < 0) {
            if (errno == EMFILE || errno == ENFILE) {
                fiber_sleep_ms(100, NULL, NULL);
            }
            continue;
        }
        Monitor *monitor = g_new(Monitor, 1);
        *monitor = (Monitor){.agent = door->agent, .fd = fd};
        fiber_start("system calls", serve_monitor, monitor);
    }
    close(door->fd);
}

char *
intercept_path(Agent *agent)
{
    return agent_path(agent, "seccomp.socket");
}

bool
intercept_start(Agent *agent, GError **error)
{
    g_autofree char *path = intercept_path(agent);
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    haw_autofd int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (strlen(path) >= sizeof addr.sun_path) {
        return haw_fail(error, HAW_INVALID, "the path '%s' is too long for a socket", path);
    }
    g_strlcpy(addr.sun_path, path, sizeof addr.sun_path);
    unlink(path);
    if (fd < 0 || bind(fd, (struct sockaddr *) &addr, sizeof addr) < 0 || chmod(path, 0600) < 0 ||
        listen(fd, 128) < 0) {
        return haw_fail_errno(error, errno, "listen on '%s'", path);
    }
    Monitor *door = g_new(Monitor, 1);
    *door = (Monitor){.agent = agent, .fd = fd_steal(&fd)};
    fiber_start("system calls", accept_monitors, door);
    return true;
}
