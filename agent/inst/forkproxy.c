/* `hawserd forkproxy`: sockets are opened where they belong, then the relay runs.
 * X1  Listening sockets first, in their namespaces; then the process moves to where it connects and
 *     stays there. Before it carries a byte it has given up what it no longer needs: connecting
 *     inside a container it is in the container's user namespace; on the host it keeps the
 *     capabilities to walk directories, or none with security.uid.
 * X2  It ends with the container (its init's pidfd) or with SIGTERM, and takes its socket file along
 *     where it still may (on the host, proxy.c removes it).
 * X3  A unix socket inside a container is made with the ids of the container's root, resolved below
 *     its root directory, and replaces nothing but a socket.
 * The answer to the agent comes once everything listens. */
#include "agent/inst/forkproxy.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <linux/capability.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/confine.h"
#include "agent/inst/enter.h"
#include "agent/inst/forkserve.h"
#include "agent/inst/relay.h"
#include "agent/inst/shift.h"
#include "base/fd.h"

#define FORKPROXY_PIDFD   (FORKSERVE_FD + 1)
#define FORKPROXY_BACKLOG 1024

typedef struct {
    ProxyAddr *listen, *connect;
    pid_t pid;
    bool bind_guest; /* listens in the container */
    bool proxy_protocol;
    mode_t mode;
    gint64 uid, gid; /* of a unix socket that listens, on its side */
    gid_t security_gid;
    uid_t security_uid;
    json_t *idmap;  /* of the side that listens; read before /proc is the container's */
    int socket_dir; /* of the unix socket, for its removal */
    char *socket_name;
} Setup;

static gint64
number_of(json_t *request, const char *key)
{
    return json_integer_value(json_object_get(request, key));
}

static bool
setup_read(json_t *request, Setup *setup, GError **error)
{
    const char *listen = json_string_value(json_object_get(request, "listen"));
    const char *target = json_string_value(json_object_get(request, "connect"));

    setup->listen = proxyaddr_parse(listen != NULL ? listen : "", error);
    setup->connect =
        setup->listen != NULL ? proxyaddr_parse(target != NULL ? target : "", error) : NULL;
    setup->pid = (pid_t) number_of(request, "pid");
    setup->bind_guest = json_is_true(json_object_get(request, "guest"));
    setup->proxy_protocol = json_is_true(json_object_get(request, "proxy_protocol"));
    setup->mode = (mode_t) number_of(request, "mode");
    setup->uid = number_of(request, "uid");
    setup->gid = number_of(request, "gid");
    setup->security_uid = (uid_t) number_of(request, "security_uid");
    setup->security_gid = (gid_t) number_of(request, "security_gid");
    setup->idmap = setup->bind_guest ? shift_of_pid(setup->pid) : json_array();
    setup->socket_dir = -1;
    return setup->connect != NULL;
}

/* ---- listening ---- */

static bool
listen_inet(Relay *relay, const ProxyAddr *addr, guint index, GError **error)
{
    bool any = addr->address[0] == '\0', v6 = any || proxyaddr_ipv6(addr);
    struct sockaddr_in in4 = {.sin_family = AF_INET, .sin_port = htons(addr->ports[index])};
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons(addr->ports[index])};
    int one = 1, v6only = !proxyaddr_wildcard(addr);
    int type = addr->kind == PROXYADDR_UDP ? SOCK_DGRAM : SOCK_STREAM;
    haw_autofd int fd = socket(v6 ? AF_INET6 : AF_INET, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd < 0 && any && errno == EAFNOSUPPORT) {
        v6 = false;
        fd = socket(AF_INET, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    }
    inet_pton(AF_INET, addr->address, &in4.sin_addr);
    inet_pton(AF_INET6, any ? "::" : addr->address, &in6.sin6_addr);
    if (type == SOCK_STREAM) {
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    }
    if (v6) {
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &v6only, sizeof(v6only));
    }
    int bound = v6 ? bind(fd, (struct sockaddr *) &in6, sizeof(in6))
                   : bind(fd, (struct sockaddr *) &in4, sizeof(in4));
    if (fd < 0 || bound < 0 || (type == SOCK_STREAM && listen(fd, FORKPROXY_BACKLOG) < 0)) {
        return haw_fail_errno(error, errno, "Failed to listen on %s:%s:%u", proxyaddr_kind(addr),
                              addr->address, addr->ports[index]);
    }
    return relay_add(relay, fd_steal(&fd), index, error);
}

static int
bind_abstract(const char *name, GError **error)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    size_t size = strlen(name);
    haw_autofd int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    memcpy(un.sun_path + 1, name + 1, size - 1);
    if (fd < 0 || bind(fd, (struct sockaddr *) &un,
                       (socklen_t) (offsetof(struct sockaddr_un, sun_path) + size)) < 0) {
        haw_fail_errno(error, errno, "Failed to listen on unix:%s", name);
        return -1;
    }
    return fd_steal(&fd);
}

/* In the directory itself, by a relative name: nothing of the path is resolved twice (X3). */
static int
bind_path(Setup *setup, GError **error)
{
    char buf[PATH_MAX];
    const char *path = setup->listen->address, *name = NULL;
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    struct stat st;
    haw_autofd int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    haw_autofd int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    setup->socket_dir = confine_parent(root, path, buf, &name);
    if (setup->socket_dir < 0 || fd < 0 || fchdir(setup->socket_dir) < 0) {
        haw_fail_errno(error, errno, "Failed to listen on unix:%s", path);
        return -1;
    }
    if (fstatat(setup->socket_dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISSOCK(st.st_mode)) {
        unlinkat(setup->socket_dir, name, 0);
    }
    g_strlcpy(un.sun_path, name, sizeof(un.sun_path));
    mode_t mask = umask(0777 & ~setup->mode);
    int bound = bind(fd, (struct sockaddr *) &un, sizeof(un));
    umask(mask);
    if (bound < 0) {
        haw_fail_errno(error, errno, "Failed to listen on unix:%s", path);
        return -1;
    }
    setup->socket_name = g_strdup(name);
    return fd_steal(&fd);
}

static bool
listen_unix(Relay *relay, Setup *setup, GError **error)
{
    json_t *idmap = setup->idmap;
    gint64 uid = shift_to_host(idmap, SHIFT_UID, setup->uid);
    gint64 gid = shift_to_host(idmap, SHIFT_GID, setup->gid);
    gint64 root_uid = shift_to_host(idmap, SHIFT_UID, 0);
    gint64 root_gid = shift_to_host(idmap, SHIFT_GID, 0);
    haw_autofd int fd = -1;

    if (uid == SHIFT_NONE || gid == SHIFT_NONE) {
        return haw_fail(error, HAW_INVALID, "uid or gid of the socket is not mapped");
    }
    if (proxyaddr_abstract(setup->listen)) {
        fd = bind_abstract(setup->listen->address, error);
    } else {
        setfsgid((gid_t) root_gid);
        setfsuid((uid_t) root_uid);
        fd = bind_path(setup, error);
        setfsuid(0);
        setfsgid(0);
        if (fd >= 0 && (fchownat(setup->socket_dir, setup->socket_name, (uid_t) uid, (gid_t) gid,
                                 AT_SYMLINK_NOFOLLOW) < 0)) {
            return haw_fail_errno(error, errno, "set the owner of '%s'", setup->listen->address);
        }
    }
    if (fd < 0) {
        return false;
    }
    if (listen(fd, FORKPROXY_BACKLOG) < 0) {
        return haw_fail_errno(error, errno, "Failed to listen on unix:%s", setup->listen->address);
    }
    return relay_add(relay, fd_steal(&fd), 0, error);
}

static bool
listen_all(Relay *relay, Setup *setup, GError **error)
{
    if (setup->listen->kind == PROXYADDR_UNIX) {
        return listen_unix(relay, setup, error);
    }
    for (guint i = 0; i < setup->listen->count; i++) {
        if (!listen_inet(relay, setup->listen, i, error)) {
            return false;
        }
    }
    return true;
}

/* ---- places and privileges ---- */

static bool
keep_capabilities(unsigned keep)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2] = {{.effective = keep, .permitted = keep}, {0}};

    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && syscall(SYS_capset, &header, data) == 0;
}

/* To where the target is, for good (X1). */
static bool
settle(Setup *setup, int host_net, int host_mount, GError **error)
{
    unsigned keep = 1U << CAP_DAC_OVERRIDE | 1U << CAP_DAC_READ_SEARCH | 1U << CAP_FOWNER;
    int what = CLONE_NEWNET | CLONE_NEWNS;

    if (setup->bind_guest) {
        if (setns(host_net, CLONE_NEWNET) < 0 || setns(host_mount, CLONE_NEWNS) < 0) {
            return haw_fail_errno(error, errno, "return to the host's namespaces");
        }
    } else {
        int user = 0;
        if (!enter_user_flag(setup->pid, &user, error)) {
            return false;
        }
        if (setns(FORKPROXY_PIDFD, what | user) < 0) {
            return haw_fail_errno(error, errno, "enter the container's namespaces");
        }
    }
    if (chdir("/") < 0 || setgroups(0, NULL) < 0 ||
        setresgid(setup->security_gid, setup->security_gid, setup->security_gid) < 0 ||
        setresuid(setup->security_uid, setup->security_uid, setup->security_uid) < 0) {
        return haw_fail_errno(error, errno, "become uid %u, gid %u", (unsigned) setup->security_uid,
                              (unsigned) setup->security_gid);
    }
    return keep_capabilities(setup->security_uid == 0 ? keep : 0) ||
           haw_fail_errno(error, errno, "give up capabilities");
}

static bool
open_up(Setup *setup, Relay *relay, GError **error)
{
    haw_autofd int host_net = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    haw_autofd int host_mount = open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);

    if (setup->bind_guest && setns(FORKPROXY_PIDFD, CLONE_NEWNET | CLONE_NEWNS) < 0) {
        return haw_fail_errno(error, errno, "enter the container's namespaces");
    }
    return listen_all(relay, setup, error) && settle(setup, host_net, host_mount, error);
}

static void
raise_limits(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

int
forkproxy_main(int argc, char **argv)
{
    g_autoptr(GError) error = NULL;
    json_t *request = forkserve_take(&error);
    Setup setup = {.socket_dir = -1};
    sigset_t stop;

    if (request == NULL) {
        fprintf(stderr, "%s\n", error->message);
        return 1;
    }
    sigemptyset(&stop);
    sigaddset(&stop, SIGTERM);
    sigaddset(&stop, SIGINT);
    sigprocmask(SIG_BLOCK, &stop, NULL);
    signal(SIGPIPE, SIG_IGN);
    raise_limits();
    int stop_fd = signalfd(-1, &stop, SFD_CLOEXEC | SFD_NONBLOCK);
    bool ok = setup_read(request, &setup, &error);
    g_autoptr(Relay) relay =
        ok ? relay_new(setup.listen, setup.connect, setup.proxy_protocol) : NULL;
    ok = ok && open_up(&setup, relay, &error);
    ok = forkserve_answer(NULL, -1, error) && ok;
    close(FORKSERVE_FD);
    if (ok) {
        relay_run(relay, FORKPROXY_PIDFD, stop_fd);
    }
    if (setup.socket_name != NULL) {
        unlinkat(setup.socket_dir, setup.socket_name, 0); /* X2 */
    }
    proxyaddr_free(setup.listen);
    proxyaddr_free(setup.connect);
    g_free(setup.socket_name);
    json_decref(setup.idmap);
    json_decref(request);
    return ok ? 0 : 1;
}
