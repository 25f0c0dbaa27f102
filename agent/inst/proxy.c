/* Proxy devices: a forkproxy process for each, or (nat=true) rules in nftables.
 * P1  The process leads its own session and goes on when the agent restarts; it ends by itself with
 *     the container. Its pid and start time are in <dir>/devices/NAME/proxy.DEV: a recycled pid is
 *     never signalled.
 * P2  What listens is told to the agent before the start counts as done: a port that is in use fails
 *     the start with its reason.
 * P3  nat: chains prert, out and pstrt of table inet lxd, labelled INSTANCE.DEVICE as LXD has them;
 *     each change is one transaction that begins with their removal.
 * Row of devtype.h; main loop. */
#include "agent/inst/devtype.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/auth/project.h"
#include "agent/inst/enter.h"
#include "agent/inst/forkcall.h"
#include "agent/inst/proxyaddr.h"
#include "agent/inst/record.h"
#include "base/fd.h"
#include "base/fiber.h"
#include "base/proc.h"
#include "base/log.h"
#include "proto/grammar.h"
#include "proto/keys.h"
#include "hw/nft.h"

#define PROXY_WAIT_MS 10000
#define PROXY_STOP_MS 2000

/* ---- validation ---- */

static bool
check_address(const char *value, GError **error)
{
    g_autoptr(ProxyAddr) addr = proxyaddr_parse(value, error);

    return addr != NULL;
}

static bool
check_bind(const char *value, GError **error)
{
    static const char *const known[] = {"host", "instance", "guest", "container", NULL};

    return g_strv_contains(known, value) ||
           haw_fail(error, HAW_INVALID,
                    "Invalid binding side given. Must be \"host\" or "
                    "\"instance\"");
}

static const DevtypeOption options[] = {{"listen", check_address, true},
                                        {"connect", check_address, true},
                                        {"bind", check_bind, false},
                                        {"nat", grammar_bool, false},
                                        {"mode", grammar_octal, false},
                                        {"uid", grammar_uint32, false},
                                        {"gid", grammar_uint32, false},
                                        {"security.uid", grammar_uint32, false},
                                        {"security.gid", grammar_uint32, false},
                                        {"proxy_protocol", grammar_bool, false},
                                        {NULL}};

static bool
on_host(const Device *device)
{
    const char *bind = devtype_get(device, "bind");

    return bind == NULL || g_str_equal(bind, "host");
}

static bool
validate_nat(Agent *agent, const char *project, const Device *device, const ProxyAddr *listen,
             const ProxyAddr *target, GError **error)
{
    if (!on_host(device)) {
        return haw_fail(error, HAW_INVALID, "Only host-bound proxies can use NAT");
    }
    if (listen->kind == PROXYADDR_UNIX || listen->kind != target->kind) {
        return haw_fail(error, HAW_INVALID, "Proxying %s <-> %s is not supported when using NAT",
                        proxyaddr_kind(listen), proxyaddr_kind(target));
    }
    if (proxyaddr_wildcard(listen)) {
        return haw_fail(error, HAW_INVALID,
                        "Cannot listen on wildcard address \"%s\" when in nat mode",
                        listen->address);
    }
    if (!proxyaddr_wildcard(target) && proxyaddr_ipv6(listen) != proxyaddr_ipv6(target)) {
        return haw_fail(error, HAW_INVALID,
                        "Cannot mix IP versions between listen and connect in nat mode");
    }
    if (device->inst != NULL && !g_str_equal(project_for_networks(agent, project), "default")) {
        return haw_fail(error, HAW_INVALID,
                        "NAT mode cannot be used in projects that have the networks feature");
    }
    return true;
}

static bool
validate(Agent *agent, const char *project, const Device *device, GError **error)
{
    g_autoptr(ProxyAddr) listen = proxyaddr_parse(devtype_get(device, "listen"), error);
    g_autoptr(ProxyAddr) target =
        listen != NULL ? proxyaddr_parse(devtype_get(device, "connect"), error) : NULL;

    if (target == NULL || !proxyaddr_match(listen, target, error)) {
        return false;
    }
    bool nat = devtype_get_bool(device, "nat", false);
    if (!nat && g_strcmp0(device->inst_type, "virtual-machine") == 0) {
        return haw_fail(error, HAW_INVALID,
                        "Only NAT mode is supported for proxies on VM instances");
    }
    if (devtype_get_bool(device, "proxy_protocol", false) &&
        (target->kind != PROXYADDR_TCP || nat)) {
        return haw_fail(error, HAW_INVALID,
                        "The PROXY header can only be sent to tcp servers in non-nat mode");
    }
    if ((listen->kind != PROXYADDR_UNIX || proxyaddr_abstract(listen)) &&
        (devtype_get(device, "uid") != NULL || devtype_get(device, "gid") != NULL ||
         devtype_get(device, "mode") != NULL)) {
        return haw_fail(error, HAW_INVALID,
                        "Only proxy devices for non-abstract unix sockets can carry uid, gid, or "
                        "mode properties");
    }
    return !nat || validate_nat(agent, project, device, listen, target, error);
}

/* ---- NAT (P3) ---- */

typedef struct {
    const char *text;
    GError *error;
    bool ok;
} NftJob;

static void
nft_work(void *data)
{
    NftJob *job = data;
    job->ok = nft_load(job->text, &job->error);
}

static bool
nft_apply(const char *text, GError **error)
{
    NftJob job = {.text = text};

    fiber_run(nft_work, &job);
    g_autoptr(GError) failure = job.error;
    return job.ok ||
           haw_fail(error, HAW_FAILED, "Failed to apply nftables rules: %s", failure->message);
}

static const char *const nat_chains[][3] = {
    {"prert", "prerouting", "-100"}, {"out", "output", "-100"}, {"pstrt", "postrouting", "100"}};

static char *
nat_label(const Device *device)
{
    g_autofree char *object =
        project_object_name(inst_project(device->inst), inst_name(device->inst));

    return g_strdup_printf("%s.%s", object, device->name);
}

static void
nat_clear_text(GString *text, const char *label)
{
    g_string_append(text, "add table inet lxd\n");
    for (size_t i = 0; i < G_N_ELEMENTS(nat_chains); i++) {
        g_string_append_printf(text,
                               "add chain inet lxd %s.%s { type nat hook %s priority %s; policy "
                               "accept; }\nflush chain inet lxd %s.%s\ndelete chain inet lxd "
                               "%s.%s\n",
                               nat_chains[i][0], label, nat_chains[i][1], nat_chains[i][2],
                               nat_chains[i][0], label, nat_chains[i][0], label);
    }
}

/* How many ports from 'first' on one rule can say: they follow each other, and lead all to one port or each
 * to itself (*ret_same: no port in the rule). */
static guint
nat_run(const ProxyAddr *listen, const ProxyAddr *target, guint first, bool *ret_same)
{
    guint count = 1;
    bool same = target->count > 1 && target->ports[first] == listen->ports[first];

    while (first + count < listen->count &&
           listen->ports[first + count] == listen->ports[first] + count &&
           (target->count == 1 ||
            (same && target->ports[first + count] == listen->ports[first + count]))) {
        count++;
    }
    *ret_same = same && count > 1;
    return count;
}

static void
nat_rules_text(GString *text, const char *label, const ProxyAddr *listen, const ProxyAddr *target,
               const char *address)
{
    const char *family = proxyaddr_ipv6(listen) ? "ip6" : "ip";
    const char *open = proxyaddr_ipv6(listen) ? "[" : "", *close = open[0] != '\0' ? "]" : "";
    const char *kind = proxyaddr_kind(listen);

    for (size_t i = 0; i < G_N_ELEMENTS(nat_chains); i++) {
        g_string_append_printf(
            text, "add chain inet lxd %s.%s { type nat hook %s priority %s; policy accept; }\n",
            nat_chains[i][0], label, nat_chains[i][1], nat_chains[i][2]);
    }
    for (guint i = 0, run; i < listen->count; i += run) {
        bool same;
        run = nat_run(listen, target, i, &same);
        guint16 port = target->ports[target->count == 1 ? 0 : i];
        g_autofree char *from =
            run > 1 ? g_strdup_printf("%u-%u", listen->ports[i], listen->ports[i] + run - 1)
                    : g_strdup_printf("%u", listen->ports[i]);
        g_autofree char *to =
            same ? g_strdup(address) : g_strdup_printf("%s%s%s:%u", open, address, close, port);
        for (int chain = 0; chain < 2; chain++) {
            g_string_append_printf(
                text, "add rule inet lxd %s.%s %s daddr %s %s dport %s dnat %s to %s\n",
                nat_chains[chain][0], label, family, listen->address, kind, from, family, to);
        }
        g_autofree char *there = same ? g_strdup(from) : g_strdup_printf("%u", port);
        g_string_append_printf(
            text, "add rule inet lxd pstrt.%s %s saddr %s %s daddr %s %s dport %s masquerade\n",
            label, family, address, family, address, kind, there);
    }
}

/* The static address of a NIC that the rules lead to, borrowed from the instance's devices. */
static const char *
nat_address(const Device *device, const ProxyAddr *listen, const ProxyAddr *target,
            const char **ret_nic)
{
    const char *key = proxyaddr_ipv6(listen) ? "ipv6.address" : "ipv4.address", *name;
    json_t *other;

    json_object_foreach (inst_expanded_devices(device->inst), name, other) {
        const char *address = keys_get(other, key);
        if (g_strcmp0(keys_get(other, "type"), "nic") == 0 && address != NULL &&
            (proxyaddr_wildcard(target) || g_str_equal(target->address, address))) {
            *ret_nic = name;
            return address;
        }
    }
    return NULL;
}

/* Lets the container reach itself by the listening address. */
static void
nat_hairpin(const Device *device, const char *nic)
{
    g_autofree char *key = g_strdup_printf("volatile.%s.host_name", nic);
    const char *host_name = inst_get(device->inst, key);

    if (host_name != NULL && grammar_ifname(host_name, NULL)) {
        g_autofree char *path = g_strdup_printf("/sys/class/net/%s/brport/hairpin_mode", host_name);
        fd_write_kernel(path, "1", NULL);
    }
}

static bool
nat_start(const Device *device, const ProxyAddr *listen, const ProxyAddr *target, GError **error)
{
    const char *nic = NULL, *address = nat_address(device, listen, target, &nic);
    g_autofree char *label = nat_label(device);
    g_autoptr(GString) text = g_string_new(NULL);

    if (address == NULL) {
        return haw_fail(error, HAW_INVALID,
                        "Proxy connect IP cannot be used with any of the instance NICs static IPs");
    }
    nat_clear_text(text, label);
    nat_rules_text(text, label, listen, target, address);
    nat_hairpin(device, nic);
    return nft_apply(text->str, error);
}

static bool
nat_stop(const Device *device, GError **error)
{
    g_autofree char *label = nat_label(device);
    g_autoptr(GString) text = g_string_new(NULL);

    nat_clear_text(text, label);
    return nft_apply(text->str, error);
}

/* ---- the process ---- */

static void
reap(void *data)
{
    int status;

    fiber_wait_pid((pid_t) GPOINTER_TO_INT(data), -1, NULL, &status, NULL);
}

static bool
remember(Agent *agent, const Device *device, pid_t pid, GError **error)
{
    g_autofree char *path = devtype_path(agent, device, "proxy", NULL);
    g_autofree char *dir = devtype_dir(agent, device);
    g_autofree char *text =
        g_strdup_printf("pid: %d\nstart: %" G_GUINT64_FORMAT "\n", (int) pid, proc_start_time(pid));

    return fd_mkdir_p(dir, 0711, error) && fd_write_atomic(path, text, strlen(text), 0600, error);
}

static json_t *
proxy_request(const Device *device, pid_t pid)
{
    const char *mode = devtype_get(device, "mode"), *uid = devtype_get(device, "uid"),
               *gid = devtype_get(device, "gid"), *drop_uid = devtype_get(device, "security.uid"),
               *drop_gid = devtype_get(device, "security.gid");

    return json_pack("{s:s,s:s,s:i,s:b,s:b,s:i,s:I,s:I,s:I,s:I}", "listen",
                     devtype_get(device, "listen"), "connect", devtype_get(device, "connect"),
                     "pid", (int) pid, "guest", !on_host(device), "proxy_protocol",
                     devtype_get_bool(device, "proxy_protocol", false), "mode",
                     mode != NULL ? (int) strtol(mode, NULL, 8) : 0644, "uid",
                     (json_int_t) (uid != NULL ? atoll(uid) : 0), "gid",
                     (json_int_t) (gid != NULL ? atoll(gid) : 0), "security_uid",
                     (json_int_t) (drop_uid != NULL ? atoll(drop_uid) : 0), "security_gid",
                     (json_int_t) (drop_gid != NULL ? atoll(drop_gid) : 0));
}

static bool
process_start(Agent *agent, const Device *device, GError **error)
{
    g_autofree char *logs = inst_log_dir(device->inst);
    g_autofree char *log = g_strdup_printf("%s/proxy.%s.log", logs, device->name);
    pid_t init = device->inst->pid; /* not inst_pid(): in a start it isn't running yet */
    haw_autofd int pidfd = -1;

    if (init <= 0) {
        return haw_fail(error, HAW_CONFLICT, "The instance is not running");
    }
    pidfd = enter_pidfd(init, error);
    if (pidfd < 0 || !fd_mkdir_p(logs, 0700, error)) {
        return false;
    }
    g_strdelimit(log + strlen(logs) + 1, "/", '-');
    pid_t pid = forkcall_spawn(agent, "forkproxy", proxy_request(device, init), &pidfd, 1, log,
                               PROXY_WAIT_MS, error);
    if (pid < 0) {
        return haw_push(error, "Error occurred when starting proxy device");
    }
    fiber_start("proxy reaper", reap, GINT_TO_POINTER((int) pid));
    return remember(agent, device, pid, error);
}

/* False when none was started. */
static bool
process_stop(Agent *agent, const Device *device)
{
    g_autofree char *path = devtype_path(agent, device, "proxy", NULL);
    g_autofree char *text = fd_read_file(path, 4096, NULL, NULL);
    int pid = 0;
    guint64 start = 0;

    if (text == NULL || sscanf(text, "pid: %d\nstart: %" G_GUINT64_FORMAT, &pid, &start) != 2 ||
        pid <= 1) {
        return false;
    }
    haw_autofd int pidfd = pidfd_open(pid, 0);
    if (pidfd >= 0 && proc_start_time(pid) == start) { /* P1 */
        pidfd_send_signal(pidfd, SIGTERM, NULL, 0);
        if (!fiber_wait_fd(pidfd, G_IO_IN, PROXY_STOP_MS, NULL, NULL)) {
            pidfd_send_signal(pidfd, SIGKILL, NULL, 0);
        }
    }
    return unlink(path) == 0;
}

static void
remove_socket(const Device *device)
{
    g_autoptr(ProxyAddr) listen = proxyaddr_parse(devtype_get(device, "listen"), NULL);
    struct stat st;

    if (listen != NULL && listen->kind == PROXYADDR_UNIX && !proxyaddr_abstract(listen) &&
        on_host(device) && lstat(listen->address, &st) == 0 && S_ISSOCK(st.st_mode)) {
        unlink(listen->address);
    }
}

/* ---- steps ---- */

static bool
post_start(Agent *agent, const Device *device, GError **error)
{
    g_autoptr(ProxyAddr) listen = proxyaddr_parse(devtype_get(device, "listen"), error);
    g_autoptr(ProxyAddr) target =
        listen != NULL ? proxyaddr_parse(devtype_get(device, "connect"), error) : NULL;

    if (target == NULL) {
        return false;
    }
    return devtype_get_bool(device, "nat", false) ? nat_start(device, listen, target, error)
                                                  : process_start(agent, device, error);
}

static bool
stop(Agent *agent, const Device *device, GError **error)
{
    if (devtype_get_bool(device, "nat", false)) {
        return nat_stop(device, error);
    }
    if (process_stop(agent, device)) {
        remove_socket(device);
    }
    return true;
}

const Devtype proxy_devtype = {.type = "proxy",
                               .hotplug = true,
                               .options = options,
                               .validate = validate,
                               .post_start = post_start,
                               .stop = stop,
                               .plug = post_start,
                               .unplug = stop};
