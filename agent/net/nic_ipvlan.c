/* NICs of nictype ipvlan: an interface with its parent's MAC, made inside the container by liblxc. In mode l3s its
 * addresses are routed to it and announced on the parent; in l2 the container may have others beside.
 * V1  liblxc sets routes and proxied neighbours for l3s; when it died, they are taken back here all the same.
 * V2  It can't be plugged into a running container. */
#include <string.h>
#include <sys/socket.h>

#include "agent/net/netjob.h"
#include "agent/net/nicuse.h"
#include "agent/net/proxyparent.h"
#include "hw/inet.h"
#include "hw/link.h"
#include "proto/grammar.h"

static const int families[] = {4, 6};

struct job {
    struct proxyparent parent;
    guint table[2]; /* more routes to the addresses, 0: none */
};

static bool
is_l2(const NicUse *use)
{
    return g_strcmp0(nicuse_get(use, "mode"), "l2") == 0;
}

static struct job
job_of(const NicUse *use)
{
    struct job job = {.parent = proxyparent_of(use, is_l2(use) ? NULL : "IPVLAN in L3S mode")};
    for (int i = 0; i < 2; i++) {
        const char *table = nicuse_ip(use, families[i], "host_table");
        job.table[i] = table != NULL ? (guint) g_ascii_strtoull(table, NULL, 10) : 0;
    }
    return job;
}

/* The address with the length that the mode gives to one without: l3s has single addresses. */
static char *
with_length(const NicUse *use, int i, const char *address)
{
    static const int single[] = {32, 128}, network[] = {24, 64};
    if (strchr(address, '/') != NULL) {
        return g_strdup(address);
    }
    return g_strdup_printf("%s/%d", address, is_l2(use) ? network[i] : single[i]);
}

/* ---- on the worker ---- */

typedef bool (*RouteChange)(NlSock *sock, const struct inet_route *route, GError **error);

static bool
each_route(NlSock *sock, const struct job *job, int i, guint table, RouteChange fn, GError **error)
{
    for (char **address = job->parent.addresses[i]; *address != NULL; address++) {
        g_autofree char *prefix = with_length(job->parent.use, i, *address);
        struct inet_route route = {.prefix = prefix,
                                   .family = i == 0 ? AF_INET : AF_INET6,
                                   .ifindex = link_index(sock, "lo"),
                                   .table = table};
        if (!fn(sock, &route, error)) {
            return false;
        }
    }
    return true;
}

static bool
start_job(NlSock *sock, void *data, GError **error)
{
    struct job *job = data;
    bool ok = proxyparent_make(sock, &job->parent, error);
    for (int i = 0; ok && i < 2; i++) {
        ok = job->table[i] == 0 || each_route(sock, job, i, job->table[i], inet_add_route, error);
    }
    if (!ok) {
        proxyparent_withdraw(sock, &job->parent, NULL);
    }
    return ok;
}

/* V1 */
static bool
stop_job(NlSock *sock, void *data, GError **error)
{
    const struct job *job = data;
    bool l3s = job->parent.mode != NULL;
    for (int i = 0; i < 2; i++) {
        if ((l3s && !each_route(sock, job, i, 0, inet_del_route, error)) ||
            (job->table[i] != 0 &&
             !each_route(sock, job, i, job->table[i], inet_del_route, error))) {
            return false;
        }
    }
    return proxyparent_withdraw(sock, &job->parent, error);
}

/* ---- steps ---- */

static bool
ipvlan_start(NicUse *use, char **ret_link, GError **error)
{
    struct job job = job_of(use);
    bool ok = netjob_run(start_job, &job, error);
    if (ok) {
        nicuse_set_volatile(use, "last_state.created", job.parent.created ? "true" : "false");
        *ret_link = g_strdup(job.parent.ifname);
    }
    proxyparent_done(&job.parent);
    return ok;
}

static bool
ipvlan_stop(NicUse *use, GError **error)
{
    if (nicuse_volatile(use, "last_state.created") == NULL) {
        return true; /* never started */
    }
    struct job job = job_of(use);
    bool ok = netjob_run(stop_job, &job, error);
    proxyparent_done(&job.parent);
    if (ok) {
        nicuse_set_volatile(use, "last_state.created", NULL);
    }
    return ok;
}

static void
put_addresses(NicUse *use, int i, json_t *lxc)
{
    g_autofree char *key = g_strdup_printf("lxc.net.%%d.ipv%d.address", families[i]);
    g_autofree char *gateway_key = g_strdup_printf("lxc.net.%%d.ipv%d.gateway", families[i]);
    const char *gateway = nicuse_ip(use, families[i], "gateway");
    g_auto(GStrv) addresses = grammar_list(nicuse_ip(use, families[i], "address"));
    if (addresses[0] == NULL) {
        return;
    }
    json_t *list = json_array();
    for (char **address = addresses; *address != NULL; address++) {
        g_autofree char *one = with_length(use, i, *address);
        json_array_append_new(list, json_string(one));
    }
    json_object_set_new(lxc, key, list);
    if (is_l2(use) && gateway != NULL) {
        json_object_set_new(lxc, gateway_key, json_string(gateway));
    } else if (!is_l2(use) && g_strcmp0(gateway, "none") != 0) {
        json_object_set_new(lxc, gateway_key, json_string("dev"));
    }
}

static void
ipvlan_lxc(NicUse *use, json_t *lxc)
{
    json_object_set_new(lxc, "lxc.net.%d.type", json_string("ipvlan"));
    json_object_set_new(lxc, "lxc.net.%d.ipvlan.mode", json_string(is_l2(use) ? "l2" : "l3s"));
    json_object_set_new(lxc, "lxc.net.%d.ipvlan.isolation", json_string("bridge"));
    if (!is_l2(use)) {
        json_object_set_new(lxc, "lxc.net.%d.l2proxy", json_string("1"));
    }
    if (use->mtu != 0) {
        g_autofree char *mtu = g_strdup_printf("%u", use->mtu);
        json_object_set_new(lxc, "lxc.net.%d.mtu", json_string(mtu));
    }
    put_addresses(use, 0, lxc);
    put_addresses(use, 1, lxc);
}

/* What is a right address or gateway depends on the mode. */
static bool
check_family(NicUse *use, int i, GError **error)
{
    static bool (*const address_of[])(const char *, GError **) = {grammar_ipv4, grammar_ipv6};
    static bool (*const cidr_of[])(const char *, GError **) = {grammar_cidr4, grammar_cidr6};
    const char *gateway = nicuse_ip(use, families[i], "gateway");
    g_auto(GStrv) addresses = grammar_list(nicuse_ip(use, families[i], "address"));
    for (char **address = addresses; *address != NULL; address++) {
        bool cidr = is_l2(use) && strchr(*address, '/') != NULL;
        if (!(cidr ? cidr_of : address_of)[i](*address, error)) {
            return haw_push(error, "Invalid value for device option \"ipv%d.address\"",
                            families[i]);
        }
    }
    if (gateway == NULL) {
        return true;
    }
    bool right = is_l2(use) ? address_of[i](gateway, error)
                            : strcmp(gateway, "auto") == 0 || strcmp(gateway, "none") == 0 ||
                                  haw_fail(error, HAW_INVALID, "Invalid gateway: %s", gateway);
    return right ||
           haw_push(error, "Invalid value for device option \"ipv%d.gateway\"", families[i]);
}

static bool
ipvlan_check(NicUse *use, GError **error)
{
    if (nicuse_is_vm(use)) {
        return haw_fail(error, HAW_INVALID, "Unsupported device type");
    }
    if (use->parent == NULL) {
        return haw_fail(error, HAW_INVALID, "Missing required option \"parent\"");
    }
    return check_family(use, 0, error) && check_family(use, 1, error);
}

const struct nic_driver nic_ipvlan = {
    .nictype = "ipvlan",
    .fixed_by_network = "",
    .start = ipvlan_start,
    .stop = ipvlan_stop,
    .lxc = ipvlan_lxc,
    .check = ipvlan_check,
    .cold = true,
};
