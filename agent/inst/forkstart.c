/* The process that starts a container: it makes the container's user and network namespaces ahead, and
 * then calls liblxc.
 * B1  It is started before it is needed, and makes the namespaces while the agent mounts the volume: NICs
 *     are made right inside, and liblxc need not wait for a new network namespace.
 * B2  A holder process keeps them until liblxc's init has joined them. It ends with us, however we end.
 * B3  The network namespace belongs to the container's user namespace: its root may configure it.
 * B4  When the channel closes before the word to go, nothing has been started and nothing is left.
 * K1 to K3 of forklxc.c hold here, too. Called by fork.c of hawserd; launch.c is the other end. */
#include "agent/inst/forkstart.h"

#include <errno.h>
#include <fcntl.h>
#include <lxc/lxccontainer.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/inst/forkserve.h"
#include "agent/inst/instdriver.h"
#include "base/fd.h"

struct holder {
    pid_t pid;   /* 0: none */
    int channel; /* our end; its end of file is the holder's end (B2) */
    bool mapped; /* it has a user namespace */
};

/* ---- the holder ---- */

static bool
bring_lo_up(void)
{
    struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP};
    haw_autofd int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    return fd >= 0 && ioctl(fd, SIOCSIFFLAGS, &request) == 0;
}

/* One byte each way a step. Never returns. */
static void
hold(int channel, bool mapped)
{
    char word = 0;
    bool ok = !mapped || (unshare(CLONE_NEWUSER) == 0 && write(channel, &word, 1) == 1 &&
                          read(channel, &word, 1) == 1);
    ok =
        ok && unshare(CLONE_NEWNET) == 0 && bring_lo_up() && write(channel, &word, 1) == 1; /* B3 */
    while (ok && read(channel, &word, 1) > 0) {                                             /* B2 */
    }
    _exit(0);
}

static void
holder_end(struct holder *holder)
{
    if (holder->pid > 0) {
        kill(holder->pid, SIGKILL);
        waitpid(holder->pid, NULL, 0);
        holder->pid = 0;
    }
    fd_close(&holder->channel);
}

static bool
await_step(const struct holder *holder, const char *step, GError **error)
{
    char word;
    return read(holder->channel, &word, 1) == 1 ||
           haw_fail(error, HAW_FAILED, "make the container's %s namespace", step);
}

static bool
write_map(const struct holder *holder, json_t *request, const char *which, GError **error)
{
    const char *map = json_string_value(json_object_get(request, which));
    g_autofree char *path = g_strdup_printf("/proc/%d/%s", (int) holder->pid, which);
    return map != NULL && fd_write_kernel(path, map, error);
}

static bool
map_ids(const struct holder *holder, json_t *request, GError **error)
{
    return await_step(holder, "user", error) && write_map(holder, request, "uid_map", error) &&
           write_map(holder, request, "gid_map", error) &&
           (write(holder->channel, "", 1) == 1 || haw_fail_errno(error, errno, "go on"));
}

/* The network namespace's descriptor, the caller's; -1. */
static int
holder_start(struct holder *holder, json_t *request, GError **error)
{
    int pair[2];
    holder->mapped = json_object_get(request, "uid_map") != NULL;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0) {
        haw_fail_errno(error, errno, "open a channel");
        return -1;
    }
    holder->channel = pair[0];
    holder->pid = fork();
    if (holder->pid == 0) {
        close(pair[0]);
        close(FORKSERVE_FD);
        hold(pair[1], holder->mapped);
    }
    close(pair[1]);
    if ((holder->mapped && !map_ids(holder, request, error)) ||
        !await_step(holder, "network", error)) {
        return -1;
    }
    g_autofree char *path = g_strdup_printf("/proc/%d/ns/net", (int) holder->pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        haw_fail_errno(error, errno, "open '%s'", path);
    }
    return fd;
}

/* ---- liblxc ---- */

static bool
share(struct lxc_container *c, const struct holder *holder)
{
    char pid[16];
    snprintf(pid, sizeof pid, "%d", (int) holder->pid);
    return holder->pid == 0 ||
           (c->set_config_item(c, "lxc.namespace.share.net", pid) &&
            (!holder->mapped || c->set_config_item(c, "lxc.namespace.share.user", pid)));
}

/* Init's pid, or -1. */
static pid_t
start(char **argv, const struct holder *holder, GError **error)
{
    pid_t pid = -1;
    struct lxc_container *c = forklxc_load(argv, error);
    if (c == NULL) {
        return -1;
    }
    c->want_daemonize(c, true);
    c->want_close_all_fds(c, true);
    if (share(c, holder) && c->start(c, 0, NULL)) {
        pid = c->init_pid(c);
    } else {
        haw_fail(error, HAW_FAILED, "liblxc: %s",
                 c->error_string != NULL ? c->error_string : "start failed");
    }
    lxc_container_put(c);
    return pid;
}

static int
answer(json_t *reply, int fd, const GError *failure)
{
    return forkserve_answer(reply, fd, failure) && failure == NULL ? 0 : 1;
}

int
forkstart_main(int argc, char **argv)
{
    struct holder holder = {.channel = -1};
    g_autoptr(GError) error = NULL;
    haw_autofd int netns = -1;
    json_t *request = argc == 4 ? forkserve_take(&error) : NULL;
    if (request == NULL) {
        return 2;
    }
    umask(0022);
    fcntl(FORKSERVE_FD, F_SETFD, FD_CLOEXEC);
    bool inside = json_is_true(json_object_get(request, "inside"));
    if (inside) {
        netns = holder_start(&holder, request, &error);
        answer(NULL, netns, error);
        fd_close(&netns);
    }
    json_decref(request);
    request = error == NULL ? forkserve_take(NULL) : NULL; /* B4 */
    pid_t pid = request != NULL ? start(argv, &holder, &error) : -1;
    holder_end(&holder);
    if (request == NULL) {
        return 1;
    }
    json_decref(request);
    return answer(json_pack("{s:i}", "pid", (int) pid), -1, error);
}
