/* NICs of nictype routed: a veth pair whose host side has a link-local address that is the instance's
 * gateway; the instance's own addresses are routed to it, and announced on the parent by proxy ARP
 * and NDP.
 * R1  What was set on the parent (proxied neighbours) goes at the stop; routes go with the pair.
 * R2  The instance can only send from addresses that are routed to it.
 * R3  An address that somebody on the parent's network answers for is refused (neighbor_probe). */
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/rtnetlink.h>
#include <string.h>
#include <unistd.h>

#include "agent/net/firewall.h"
#include "agent/net/netjob.h"
#include "agent/net/nicuse.h"
#include "agent/net/proxyparent.h"
#include "agent/net/subnet.h"
#include "agent/net/veth.h"
#include "base/fd.h"
#include "hw/inet.h"
#include "hw/link.h"
#include "proto/grammar.h"

enum { PROBE_MS = 600, PROBE_STEP_MS = 20, PROBE_PORT = 9 /* discard */ };

static const int families[] = {4, 6};

struct job {
    NicUse *use; /* only its config is read while the fiber waits */
    const char *host;
    struct proxyparent parent;
    char **routes[2];       /* owned */
    const char *gateway[2]; /* the host side's addresses */
    guint parent_mtu;
    pid_t pid;
    const char *name;
};

static void
job_done(struct job *job)
{
    proxyparent_done(&job->parent);
    g_strfreev(job->routes[0]);
    g_strfreev(job->routes[1]);
}

static struct job
job_of(NicUse *use)
{
    static const char *const fallback[] = {"169.254.0.1", "fe80::1"};
    struct job job = {.use = use, .host = nicuse_volatile(use, "host_name")};
    job.parent = proxyparent_of(use, "Routed mode");
    for (int i = 0; i < 2; i++) {
        const char *set = nicuse_ip(use, families[i], "host_address");
        job.gateway[i] = set != NULL ? set : fallback[i];
        job.routes[i] = grammar_list(nicuse_ip(use, families[i], "routes"));
    }
    return job;
}

static guint
host_table(const struct job *job, int i)
{
    const char *table = nicuse_ip(job->use, families[i], "host_table");
    return table != NULL ? (guint) g_ascii_strtoull(table, NULL, 10) : 0;
}

/* ---- on the worker ---- */

/* The instance may not be told anything by the host side but what we tell it. */
static void
set_switches(const struct job *job)
{
    netjob_sysctl("1", NULL, "net/ipv4/conf/%s/forwarding", job->host);
    netjob_sysctl("1", NULL, "net/ipv4/conf/%s/rp_filter", job->host);
    netjob_sysctl("0", NULL, "net/ipv6/conf/%s/accept_ra", job->host);
    netjob_sysctl("1", NULL, "net/ipv6/conf/%s/forwarding", job->host);
}

static bool
route_in(NlSock *sock, const struct job *job, int i, int ifindex, GError **error)
{
    int family = i == 0 ? AF_INET : AF_INET6;
    for (char **address = job->parent.addresses[i]; *address != NULL; address++) {
        g_autofree char *single = g_strdup_printf("%s/%d", *address, i == 0 ? 32 : 128);
        struct inet_route route = {
            .prefix = single, .family = family, .ifindex = ifindex, .proto = RTPROT_BOOT};
        if (!inet_add_route(sock, &route, error)) {
            return false;
        }
        route.table = host_table(job, i);
        if (route.table != 0 && !inet_add_route(sock, &route, error)) {
            return false;
        }
    }
    for (char **prefix = job->routes[i]; *prefix != NULL; prefix++) {
        struct inet_route route = {.prefix = *prefix,
                                   .gateway = job->parent.addresses[i][0],
                                   .family = family,
                                   .ifindex = ifindex,
                                   .proto = RTPROT_BOOT};
        if (!inet_add_route(sock, &route, error)) {
            return false;
        }
    }
    return true;
}

static bool
set_job(NlSock *sock, void *data, GError **error)
{
    const struct job *job = data;
    int ifindex = link_index(sock, job->host);
    set_switches(job);
    for (int i = 0; i < 2; i++) {
        if (job->parent.addresses[i][0] == NULL) {
            continue;
        }
        g_autofree char *single = g_strdup_printf("%s/%d", job->gateway[i], i == 0 ? 32 : 128);
        if (!inet_add_address(sock, ifindex, single, error) ||
            !route_in(sock, job, i, ifindex, error)) {
            return false;
        }
    }
    return proxyparent_announce(sock, &job->parent, error);
}

/* Whether somebody on the parent's network answers for the address: a packet to it makes the kernel
 * ask, and the answer shows in its neighbour table. */
static bool
is_answered(NlSock *sock, const struct job *job, const char *address)
{
    struct subnet to;
    struct sockaddr_in to4 = {.sin_family = AF_INET, .sin_port = htons(PROBE_PORT)};
    struct sockaddr_in6 to6 = {.sin6_family = AF_INET6, .sin6_port = htons(PROBE_PORT)};
    if (!subnet_parse(address, &to)) {
        return false;
    }
    memcpy(&to4.sin_addr, to.address, 4);
    memcpy(&to6.sin6_addr, to.address, 16);
    haw_autofd int fd = socket(to.family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, job->parent.ifname,
                             (socklen_t) strlen(job->parent.ifname)) < 0) {
        return false;
    }
    int parent = link_index(sock, job->parent.ifname);
    inet_forget_neighbour(sock, parent, address, NULL); /* it may be of a former owner */
    sendto(fd, "", 0, 0, to.family == AF_INET ? (struct sockaddr *) &to4 : (struct sockaddr *) &to6,
           to.family == AF_INET ? sizeof(to4) : sizeof(to6));
    for (int waited = 0; waited < PROBE_MS; waited += PROBE_STEP_MS) {
        g_usleep(PROBE_STEP_MS * 1000);
        g_autoptr(GArray) list = inet_neighbours(sock, NULL);
        for (guint i = 0; list != NULL && i < list->len; i++) {
            const struct inet_neighbour *one = &g_array_index(list, struct inet_neighbour, i);
            if (one->ifindex == parent && subnet_same_address(one->text, address)) {
                return true;
            }
        }
    }
    return false;
}

static bool
probe(NlSock *sock, const struct job *job, GError **error)
{
    for (int i = 0; job->parent.ifname != NULL && i < 2; i++) {
        const char *set = nicuse_ip(job->use, families[i], "neighbor_probe");
        if (set != NULL && !grammar_parse_bool(set, true)) {
            continue;
        }
        for (char **address = job->parent.addresses[i]; *address != NULL; address++) {
            if (is_answered(sock, job, *address)) {
                return haw_fail(error, HAW_CONFLICT,
                                "IP address \"%s\" in use on parent network "
                                "\"%s\"",
                                *address, job->parent.ifname);
            }
        }
    }
    return true;
}

static bool
check_job(NlSock *sock, void *data, GError **error)
{
    struct job *job = data;
    struct link_info parent;
    const char *ifname = job->parent.ifname;
    bool made = proxyparent_make(sock, &job->parent, error);
    if (made && ifname != NULL && link_get(sock, ifname, &parent, NULL)) {
        job->parent_mtu = parent.mtu;
    }
    if (made && probe(sock, job, error)) {
        return true;
    }
    if (job->parent.created) {
        link_del(sock, ifname, NULL);
    }
    return false;
}

/* R1 */
static bool
unset_job(NlSock *sock, void *data, GError **error)
{
    const struct job *job = data;
    return proxyparent_withdraw(sock, &job->parent, error);
}

static bool
wants_gateway(const struct job *job, int i)
{
    const char *set = nicuse_ip(job->use, families[i], "gateway");
    return job->parent.addresses[i][0] != NULL && (set == NULL || strcmp(set, "auto") == 0);
}

static bool
inside_job(NlSock *sock, void *data, GError **error)
{
    const struct job *job = data;
    g_autofree char *path = g_strdup_printf("/proc/%d/ns/net", (int) job->pid);
    haw_autofd int netns = open(path, O_RDONLY | O_CLOEXEC);
    g_autoptr(NlSock) inside = netns >= 0 ? nlsock_open_in(netns, error) : NULL;
    if (inside == NULL) {
        return false;
    }
    int ifindex = link_index(inside, job->name);
    for (int i = 0; i < 2; i++) {
        for (char **address = job->parent.addresses[i]; *address != NULL; address++) {
            g_autofree char *single = g_strdup_printf("%s/%d", *address, i == 0 ? 32 : 128);
            if (!inet_add_address(inside, ifindex, single, error)) {
                return false;
            }
        }
        if (!wants_gateway(job, i)) {
            continue;
        }
        g_autofree char *single = g_strdup_printf("%s/%d", job->gateway[i], i == 0 ? 32 : 128);
        int family = i == 0 ? AF_INET : AF_INET6;
        struct inet_route link = {.prefix = single, .family = family, .ifindex = ifindex};
        struct inet_route all = {.gateway = job->gateway[i], .family = family, .ifindex = ifindex};
        if ((i == 0 && !inet_add_route(inside, &link, error)) ||
            !inet_add_route(inside, &all, error)) {
            return false;
        }
    }
    return true;
}

/* ---- steps ---- */

static bool
routed_stop(NicUse *use, GError **error)
{
    g_autofree char *host = g_strdup(nicuse_volatile(use, "host_name"));
    struct job job = job_of(use);
    bool ok =
        host == NULL || (netjob_run(unset_job, &job, error) && veth_remove(host, error) &&
                         firewall_rpf_clear(use->label, error) && veth_clear_limits(use, error));
    job_done(&job);
    if (ok) {
        nicuse_set_volatile(use, "last_state.created", NULL);
    }
    return ok;
}

static bool
routed_start(NicUse *use, char **ret_link, GError **error)
{
    struct job job = job_of(use);
    struct veth_spec spec = {0};
    bool ok = netjob_run(check_job, &job, error);
    use->mtu = use->mtu != 0 ? use->mtu : job.parent_mtu;
    ok = ok && veth_make(use, &spec, error);
    if (ok) {
        job.host = spec.host;
        nicuse_set_volatile(use, "last_state.created", job.parent.created ? "true" : "false");
        ok = netjob_run(set_job, &job, error) &&
             firewall_rpf_set(use->label, spec.host, error); /* R2 */
        if (ok) {
            *ret_link = g_strdup(spec.peer);
        } else {
            routed_stop(use, NULL);
            nicuse_set_volatile(use, "host_name", NULL);
        }
    }
    veth_spec_done(&spec);
    job_done(&job);
    return ok;
}

static bool
routed_plugged(NicUse *use, pid_t pid, GError **error)
{
    struct job job = job_of(use);
    job.pid = pid;
    job.name = nicuse_name(use);
    bool ok = netjob_run(inside_job, &job, error);
    job_done(&job);
    return ok;
}

/* liblxc configures addresses and gateways; more than one address makes the value an array. */
static void
routed_lxc(NicUse *use, json_t *lxc)
{
    static const char *const keys[] = {"lxc.net.%d.ipv4.address", "lxc.net.%d.ipv6.address"};
    static const char *const gateways[] = {"lxc.net.%d.ipv4.gateway", "lxc.net.%d.ipv6.gateway"};
    struct job job = job_of(use);
    for (int i = 0; i < 2; i++) {
        json_t *list = json_array();
        for (char **address = job.parent.addresses[i]; *address != NULL; address++) {
            g_autofree char *single = g_strdup_printf("%s/%d", *address, i == 0 ? 32 : 128);
            json_array_append_new(list, json_string(single));
        }
        if (json_array_size(list) == 1) {
            json_object_set(lxc, keys[i], json_array_get(list, 0));
        } else if (json_array_size(list) > 1) {
            json_object_set(lxc, keys[i], list);
        }
        json_decref(list);
        if (wants_gateway(&job, i)) {
            json_object_set_new(lxc, gateways[i], json_string(job.gateway[i]));
        }
    }
    job_done(&job);
}

static bool
routed_check(NicUse *use, GError **error)
{
    for (int i = 0; i < 2; i++) {
        const char *address = nicuse_ip(use, families[i], "address");
        if (nicuse_ip(use, families[i], "routes") != NULL && address == NULL) {
            return haw_fail(error, HAW_INVALID, "ipv%d.routes requires ipv%d.address to be set",
                            families[i], families[i]);
        }
        g_auto(GStrv) list = grammar_list(address);
        for (char **one = list; *one != NULL; one++) {
            for (char **other = list; other < one; other++) {
                if (strcmp(*one, *other) == 0) {
                    return haw_fail(error, HAW_INVALID,
                                    "Duplicate address \"%s\" in \"ipv%d.address\"", *one,
                                    families[i]);
                }
            }
        }
    }
    if (use->vlan != NULL && use->parent == NULL) {
        return haw_fail(error, HAW_INVALID,
                        "The vlan setting can only be used when combined with "
                        "a parent interface");
    }
    return true;
}

static bool
routed_update(NicUse *use, json_t *old_config, GError **error)
{
    return veth_set_limits(use, error);
}

const struct nic_driver nic_routed = {
    .nictype = "routed",
    .fixed_by_network = "",
    .start = routed_start,
    .stop = routed_stop,
    .plugged = routed_plugged,
    .lxc = routed_lxc,
    .check = routed_check,
    .update = routed_update,
};
