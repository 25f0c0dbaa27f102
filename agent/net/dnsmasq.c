/* dnsmasq: one process a network, started with everything on its command line.
 * M1  The process is known by pid, start time and arguments, kept in dnsmasq.pid; what does not match
 *     all three is not ours and is never signalled. It is not looked for by name.
 * M2  Signals go through a pidfd, so they cannot meet a stranger that got the number.
 * M3  It outlives the agent; the next one adopts it when its arguments are still the wanted ones.
 * M4  When it dies by itself it is started again, ever more slowly.
 * It drops root for the user 'dnsmasq' (or 'nobody') where that user can reach its files.
 * Not here: the files that it reads and writes (dnsmasq_files.c). */
#include "agent/net/dnsmasq.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <signal.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/net/bridge.h"
#include "agent/net/subnet.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/proc.h"
#include "proto/grammar.h"
#include "proto/keys.h"

enum {
    SETTLE_MS = 1000, /* a bad configuration shows within this */
    SETTLE_STEP_MS = 5,
    END_MS = 3000,  /* from SIGTERM to SIGKILL */
    AGAIN_MS = 500, /* first pause before it is started again; doubles */
    AGAIN_MOST_MS = 30000,
    FILE_MOST = 256 * 1024,
};

struct Dnsmasq {
    pid_t pid;
    int pidfd;          /* owned */
    guint64 started;    /* /proc/PID/stat: start time */
    char **argv;        /* owned */
    GCancellable *stop; /* owned; ends the watching fiber */
};

/* ---- arguments ---- */

static void add(GPtrArray *argv, const char *format, ...) G_GNUC_PRINTF(2, 3);
static void
add(GPtrArray *argv, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    g_ptr_array_add(argv, g_strdup_vprintf(format, args));
    va_end(args);
}

static void
add_dhcp_files(GPtrArray *argv, const struct dnsmasq_spec *spec)
{
    for (guint i = 0; i < argv->len; i++) {
        if (strcmp(g_ptr_array_index(argv, i), "--dhcp-no-override") == 0) {
            return;
        }
    }
    add(argv, "--dhcp-no-override");
    add(argv, "--dhcp-authoritative");
    add(argv, "--dhcp-leasefile=%s/dnsmasq.leases", spec->dir);
    add(argv, "--dhcp-hostsfile=%s/dnsmasq.hosts", spec->dir);
}

static const char *
expiry_of(json_t *config, const char *key)
{
    const char *set = keys_get(config, key);
    return set != NULL ? set : "1h";
}

/* "a-b, c-d": one --dhcp-range each, with what follows. */
static void
add_ranges(GPtrArray *argv, const char *ranges, const char *rest)
{
    g_auto(GStrv) list = grammar_list(ranges);
    for (char **range = list; *range != NULL; range++) {
        g_auto(GStrv) ends = g_strsplit(*range, "-", 2);
        add(argv, "--dhcp-range");
        add(argv, "%s,%s,%s", g_strstrip(ends[0]), ends[1] != NULL ? g_strstrip(ends[1]) : ends[0],
            rest);
    }
}

static void
add_ipv4(GPtrArray *argv, const struct dnsmasq_spec *spec, const struct subnet *net)
{
    json_t *config = spec->config;
    g_autofree char *address = subnet_address(net);
    add(argv, "--listen-address=%s", address);
    if (!keys_get_bool(config, "ipv4.dhcp", true)) {
        return;
    }
    add_dhcp_files(argv, spec);
    if (keys_get(config, "ipv4.dhcp.gateway") != NULL) {
        add(argv, "--dhcp-option-force=3,%s", keys_get(config, "ipv4.dhcp.gateway"));
    }
    if (spec->mtu != 1500) {
        add(argv, "--dhcp-option-force=26,%u", spec->mtu);
    }
    if (keys_get(config, "dns.search") != NULL) {
        g_autofree char *search = g_strdup(keys_get(config, "dns.search"));
        add(argv, "--dhcp-option-force=119,%s", g_strstrip(search));
    }
    const char *expiry = expiry_of(config, "ipv4.dhcp.expiry");
    if (keys_get(config, "ipv4.dhcp.ranges") != NULL) {
        add_ranges(argv, keys_get(config, "ipv4.dhcp.ranges"), expiry);
    } else {
        g_autofree char *first = subnet_nth(net, 2);
        g_autofree char *last = subnet_nth(net, -2);
        if (first != NULL && last != NULL) {
            add(argv, "--dhcp-range");
            add(argv, "%s,%s,%s", first, last, expiry);
        }
    }
}

static void
add_ipv6(GPtrArray *argv, const struct dnsmasq_spec *spec, const struct subnet *net)
{
    json_t *config = spec->config;
    g_autofree char *address = subnet_address(net);
    add(argv, "--listen-address=%s", address);
    add(argv, "--enable-ra");
    if (!keys_get_bool(config, "ipv6.dhcp", true)) {
        add(argv, "--dhcp-range");
        add(argv, "::,constructor:%s,ra-only", spec->name);
        return;
    }
    add_dhcp_files(argv, spec);
    if (!keys_get_bool(config, "ipv6.dhcp.stateful", false)) {
        add(argv, "--dhcp-range");
        add(argv, "::,constructor:%s,ra-stateless,ra-names", spec->name);
        return;
    }
    g_autofree char *rest =
        g_strdup_printf("%d,%s", net->prefix, expiry_of(config, "ipv6.dhcp.expiry"));
    if (keys_get(config, "ipv6.dhcp.ranges") != NULL) {
        add_ranges(argv, keys_get(config, "ipv6.dhcp.ranges"), rest);
    } else {
        g_autofree char *first = subnet_nth(net, 2);
        g_autofree char *last = subnet_nth(net, -1);
        add(argv, "--dhcp-range");
        add(argv, "%s,%s,%s", first, last, rest);
    }
}

static bool
address_of(json_t *config, const char *key, struct subnet *ret)
{
    const char *set = keys_get(config, key);
    return set != NULL && strcmp(set, "none") != 0 && subnet_parse(set, ret);
}

char **
dnsmasq_argv(const struct dnsmasq_spec *spec)
{
    GPtrArray *argv = g_ptr_array_new();
    struct subnet net;
    /* --no-ping: a ping before each lease holds up everybody else's. */
    static const char *const first[] = {
        "dnsmasq",           "--keep-in-foreground",  "--strict-order",
        "--bind-interfaces", "--except-interface=lo", "--pid-file=",
        "--no-ping"};
    for (size_t i = 0; i < G_N_ELEMENTS(first); i++) {
        add(argv, "%s", first[i]);
    }
    add(argv, "--interface=%s", spec->name);
    add(argv, "--dhcp-rapid-commit");
    add(argv, "--no-negcache");
    if (!spec->debug) {
        add(argv, "--quiet-dhcp");
        add(argv, "--quiet-dhcp6");
        add(argv, "--quiet-ra");
    }
    if (address_of(spec->config, "ipv4.address", &net)) {
        add_ipv4(argv, spec, &net);
    }
    if (address_of(spec->config, "ipv6.address", &net)) {
        add_ipv6(argv, spec, &net);
    }
    const char *mode = keys_get(spec->config, "dns.mode");
    const char *domain = keys_get(spec->config, "dns.domain");
    if (mode == NULL || strcmp(mode, "none") != 0) {
        domain = domain != NULL ? domain : "lxd";
        add(argv, "-s");
        add(argv, "%s", domain);
        add(argv, "--interface-name");
        add(argv, "_gateway.%s,%s", domain, spec->name);
        add(argv, "-S");
        add(argv, "/%s/", domain);
    }
    add(argv, "--conf-file=%s/dnsmasq.raw", spec->dir);
    add(argv, "-u");
    add(argv, "%s", spec->user != NULL ? spec->user : "root");
    add(argv, "-g");
    add(argv, "%s", spec->group != NULL ? spec->group : "root");
    g_ptr_array_add(argv, NULL);
    return (char **) g_ptr_array_free(argv, FALSE);
}

/* ---- who it is: M1 ---- */

/* LXD's layout, and our start time. */
static bool
pid_file_write(const char *dir, const struct Dnsmasq *dnsmasq, GError **error)
{
    g_autoptr(GString) text = g_string_new("name: dnsmasq\nargs:\n");
    for (char **arg = dnsmasq->argv + 1; *arg != NULL; arg++) {
        g_string_append_printf(text, "- \"%s\"\n", *arg);
    }
    g_string_append_printf(text, "apparmor: \"\"\npid: %d\nstarted: %" G_GUINT64_FORMAT "\n",
                           (int) dnsmasq->pid, dnsmasq->started);
    g_autofree char *path = g_build_filename(dir, "dnsmasq.pid", NULL);
    return fd_write_atomic(path, text->str, text->len, 0600, error);
}

/* The process that the file tells of, when it is still there; pidfd -1 otherwise. */
static int
pid_file_open(const char *dir, pid_t *ret_pid, guint64 *ret_started)
{
    g_autofree char *path = g_build_filename(dir, "dnsmasq.pid", NULL);
    g_autofree char *text = fd_read_file(path, FILE_MOST, NULL, NULL);
    const char *pid_at = text != NULL ? strstr(text, "\npid: ") : NULL;
    const char *started_at = text != NULL ? strstr(text, "\nstarted: ") : NULL;
    if (pid_at == NULL || started_at == NULL) {
        return -1;
    }
    pid_t pid = (pid_t) g_ascii_strtoll(pid_at + strlen("\npid: "), NULL, 10);
    guint64 started = g_ascii_strtoull(started_at + strlen("\nstarted: "), NULL, 10);
    haw_autofd int pidfd = pid > 0 ? (int) pidfd_open(pid, 0) : -1;
    if (pidfd < 0 || proc_start_time(pid) != started) {
        return -1;
    }
    *ret_pid = pid;
    *ret_started = started;
    return fd_steal(&pidfd);
}

/* ---- its life ---- */

static Dnsmasq *
dnsmasq_new(pid_t pid, int *pidfd, guint64 started, char **argv /* stolen */)
{
    Dnsmasq *dnsmasq = g_new0(Dnsmasq, 1);
    dnsmasq->pid = pid;
    dnsmasq->pidfd = fd_steal(pidfd);
    dnsmasq->started = started;
    dnsmasq->argv = argv;
    dnsmasq->stop = g_cancellable_new();
    return dnsmasq;
}

void
dnsmasq_unwatch(Dnsmasq *dnsmasq)
{
    if (dnsmasq != NULL) {
        g_cancellable_cancel(dnsmasq->stop);
    }
}

void
dnsmasq_free(Dnsmasq *dnsmasq)
{
    if (dnsmasq != NULL) {
        g_cancellable_cancel(dnsmasq->stop);
        g_object_unref(dnsmasq->stop);
        fd_close(&dnsmasq->pidfd);
        g_strfreev(dnsmasq->argv);
        g_free(dnsmasq);
    }
}

/* SIGTERM, then SIGKILL, until it is gone (M2); reaps it when it is our child. */
static void
end_process(pid_t pid, int pidfd)
{
    g_autoptr(GError) slow = NULL;
    syscall(SYS_pidfd_send_signal, pidfd, SIGTERM, NULL, 0);
    if (!fiber_wait_fd(pidfd, G_IO_IN, END_MS, NULL, &slow)) {
        syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0);
        fiber_wait_fd(pidfd, G_IO_IN, END_MS, NULL, NULL);
    }
    waitpid(pid, NULL, WNOHANG);
}

void
dnsmasq_reload(Network *net)
{
    if (net->dnsmasq != NULL) {
        syscall(SYS_pidfd_send_signal, net->dnsmasq->pidfd, SIGHUP, NULL, 0);
    }
}

void
dnsmasq_end_stray(const char *dir)
{
    pid_t pid;
    guint64 started;
    haw_autofd int pidfd = pid_file_open(dir, &pid, &started);
    if (pidfd >= 0) {
        end_process(pid, pidfd);
    }
    g_autofree char *path = g_build_filename(dir, "dnsmasq.pid", NULL);
    unlink(path);
}

void
dnsmasq_down(Network *net)
{
    Dnsmasq *dnsmasq = g_steal_pointer(&net->dnsmasq);
    if (dnsmasq != NULL) {
        g_cancellable_cancel(dnsmasq->stop);
        end_process(dnsmasq->pid, dnsmasq->pidfd);
        dnsmasq_free(dnsmasq);
    }
    g_autofree char *dir = netobj_path(net, NULL);
    dnsmasq_end_stray(dir);
}

/* The last lines of its log, for the error. */
static char *
last_words(const char *log_path)
{
    g_autofree char *text = fd_read_file(log_path, FILE_MOST, NULL, NULL);
    if (text == NULL) {
        return g_strdup("");
    }
    g_strchomp(text);
    char *newline = strrchr(text, '\n');
    return g_strdup(newline != NULL ? newline + 1 : text);
}

/* It has read its configuration and bound its sockets when it has dropped root; a bad configuration
 * ends it before. A dnsmasq that stays root is given a moment. */
static bool
settled(pid_t pid, const char *user)
{
    if (user == NULL) {
        return false;
    }
    g_autofree char *path = g_strdup_printf("/proc/%d", (int) pid);
    struct stat status;
    const struct passwd *entry = getpwnam(user);
    return entry != NULL && stat(path, &status) == 0 && status.st_uid == entry->pw_uid;
}

static bool
wait_settled(pid_t pid, int pidfd, const struct dnsmasq_spec *spec, const char *log_path,
             GError **error)
{
    int most = spec->user != NULL ? SETTLE_MS : SETTLE_MS / 5;
    for (int waited = 0; waited < most && !settled(pid, spec->user); waited += SETTLE_STEP_MS) {
        if (fiber_wait_fd(pidfd, G_IO_IN, SETTLE_STEP_MS, NULL, NULL)) {
            int status = 0;
            waitpid(pid, &status, 0);
            g_autofree char *words = last_words(log_path);
            return haw_fail(error, HAW_FAILED,
                            "The DNS and DHCP service exited prematurely: exit status %d (\"%s\")",
                            WIFEXITED(status) ? WEXITSTATUS(status) : 128, words);
        }
    }
    return true;
}

static void watch_start(Network *net);

static bool
start_process(Network *net, const struct dnsmasq_spec *spec, char **argv /* stolen */,
              GError **error)
{
    g_auto(GStrv) mine = argv;
    g_autofree char *log_path = netobj_path(net, "dnsmasq.log");
    unlink(log_path);
    pid_t pid = proc_spawn((const char *const *) mine, NULL, log_path, NULL, 0, error);
    if (pid < 0) {
        return haw_push(error, "dnsmasq is required for managed bridges");
    }
    haw_autofd int pidfd = (int) pidfd_open(pid, 0);
    if (pidfd < 0) {
        return haw_fail_errno(error, errno, "watch dnsmasq");
    }
    if (!wait_settled(pid, pidfd, spec, log_path, error)) {
        return false;
    }
    net->dnsmasq = dnsmasq_new(pid, &pidfd, proc_start_time(pid), g_steal_pointer(&mine));
    if (!pid_file_write(spec->dir, net->dnsmasq, error)) {
        dnsmasq_down(net);
        return false;
    }
    watch_start(net);
    return true;
}

struct watch {
    Network *net;       /* shares */
    GCancellable *stop; /* shares */
    int pidfd;          /* owned: a duplicate */
};

/* M4: one that ran for long starts from the shortest pause again. */
static gint64
pause_before(Network *net, gint64 began_us)
{
    gint64 pause_ms = net->dnsmasq_pause_ms;
    if (pause_ms == 0 || clock_mono_us() - began_us > 2000 * (gint64) AGAIN_MOST_MS) {
        pause_ms = AGAIN_MS;
    }
    net->dnsmasq_pause_ms = MIN(pause_ms * 2, AGAIN_MOST_MS);
    return pause_ms;
}

static void
watch_run(void *data)
{
    struct watch *watch = data;
    Network *net = watch->net;
    gint64 began_us = clock_mono_us();
    if (fiber_wait_fd(watch->pidfd, G_IO_IN, -1, watch->stop, NULL) &&
        !g_cancellable_is_cancelled(watch->stop)) {
        haw_warn("network.dnsmasq_died", KS("network", net->row->name));
        if (fiber_sleep_ms(pause_before(net, began_us), watch->stop, NULL)) {
            g_auto(FiberHold) hold = fiber_hold(&net->lock);
            if (net->dnsmasq != NULL && net->dnsmasq->stop == watch->stop) {
                g_autoptr(GError) error = NULL;
                waitpid(net->dnsmasq->pid, NULL, WNOHANG);
                dnsmasq_free(g_steal_pointer(&net->dnsmasq));
                if (!dnsmasq_up(net, &error)) {
                    net->up = false; /* the table tries again each minute */
                    haw_error("network.dnsmasq", KS("network", net->row->name),
                              KS("why", error->message));
                } else if (net->dnsmasq != NULL) {
                    haw_info("network.dnsmasq_restarted", KS("network", net->row->name));
                }
            }
        }
    }
    fd_close(&watch->pidfd);
    g_object_unref(watch->stop);
    netobj_unref(net);
    g_free(watch);
}

static void
watch_start(Network *net)
{
    struct watch *watch = g_new0(struct watch, 1);
    watch->net = netobj_ref(net);
    watch->stop = g_object_ref(net->dnsmasq->stop);
    watch->pidfd = fcntl(net->dnsmasq->pidfd, F_DUPFD_CLOEXEC, 3);
    fiber_start("dnsmasq-watch", watch_run, watch);
}

/* ---- what the network wants ---- */

/* Whether everybody may pass through every directory down to 'path'. */
static bool
reachable(const char *path)
{
    g_autofree char *at = g_strdup(path);
    for (;;) {
        struct stat status;
        if (stat(at, &status) < 0 || (status.st_mode & S_IXOTH) == 0) {
            return false;
        }
        char *slash = strrchr(at, '/');
        if (slash == NULL || slash == at) {
            return true;
        }
        *slash = '\0';
    }
}

static const char *
service_user(const char *dir)
{
    static const char *const users[] = {"dnsmasq", "nobody"};
    for (size_t i = 0; i < G_N_ELEMENTS(users) && reachable(dir); i++) {
        if (getpwnam(users[i]) != NULL) {
            return users[i];
        }
    }
    return NULL;
}

/* dnsmasq.raw also keeps it from reading /etc/dnsmasq.conf. */
static bool
prepare_files(const struct dnsmasq_spec *spec, bool *ret_raw_changed, GError **error)
{
    const char *raw = keys_get(spec->config, "raw.dnsmasq");
    g_autofree char *text = g_strdup_printf("%s\n", raw != NULL ? raw : "");
    g_autofree char *path = g_build_filename(spec->dir, "dnsmasq.raw", NULL);
    g_autofree char *hosts = g_build_filename(spec->dir, "dnsmasq.hosts", NULL);
    g_autofree char *before = fd_read_file(path, FILE_MOST, NULL, NULL);
    *ret_raw_changed = g_strcmp0(before, text) != 0;
    return fd_mkdir_p(spec->dir, 0711, error) && fd_mkdir_p(hosts, 0755, error) &&
           (!*ret_raw_changed || fd_write_atomic(path, text, strlen(text), 0644, error));
}

static char *
group_of(const char *user)
{
    const struct passwd *entry = user != NULL ? getpwnam(user) : NULL;
    const struct group *group = entry != NULL ? getgrgid(entry->pw_gid) : NULL;
    return group != NULL ? g_strdup(group->gr_name) : NULL;
}

bool
dnsmasq_up(Network *net, GError **error)
{
    g_autofree char *dir = netobj_path(net, NULL);
    if (netobj_address(net, 4) == NULL && netobj_address(net, 6) == NULL) {
        g_autofree char *leases = netobj_path(net, "dnsmasq.leases");
        dnsmasq_down(net);
        unlink(leases);
        return true;
    }
    struct dnsmasq_spec spec = {.dir = dir,
                                .name = net->row->name,
                                .config = net->row->config,
                                .mtu = bridge_mtu(net->row->config),
                                .debug = netobj_agent(net->table)->debug};
    bool raw_changed = true;
    if (!prepare_files(&spec, &raw_changed, error)) {
        return false;
    }
    spec.user = service_user(dir);
    g_autofree char *group = group_of(spec.user);
    spec.group = group;
    g_auto(GStrv) argv = dnsmasq_argv(&spec);

    if (net->dnsmasq == NULL) { /* M3 */
        pid_t pid;
        guint64 started;
        haw_autofd int pidfd = pid_file_open(dir, &pid, &started);
        if (pidfd >= 0 && !raw_changed && proc_has_argv(pid, (const char *const *) argv)) {
            net->dnsmasq = dnsmasq_new(pid, &pidfd, started, g_steal_pointer(&argv));
            watch_start(net);
            return true;
        }
    } else if (!raw_changed &&
               g_strv_equal((const char *const *) net->dnsmasq->argv, (const char *const *) argv)) {
        return true;
    }
    dnsmasq_down(net);
    return start_process(net, &spec, g_steal_pointer(&argv), error);
}
