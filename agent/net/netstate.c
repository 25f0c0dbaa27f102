/* What the kernel says of interfaces, in the shapes of REST: the state of an instance's NICs, of a
 * network, and the interfaces that are no networks of ours.
 * Called by agent/inst (state) and net_api.c. */
#include "agent/net/netstate.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_link.h>
#include <net/if_arp.h>
#include <linux/rtnetlink.h>
#include <string.h>
#include <unistd.h>

#include "agent/net/netjob.h"
#include "base/fd.h"
#include "hw/inet.h"
#include "hw/link.h"

static json_t *
counters_json(const struct link_counters *c)
{
    return json_pack(
        "{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "bytes_received", (json_int_t) c->rx_bytes,
        "bytes_sent", (json_int_t) c->tx_bytes, "packets_received", (json_int_t) c->rx_packets,
        "packets_sent", (json_int_t) c->tx_packets, "errors_received", (json_int_t) c->rx_errors,
        "errors_sent", (json_int_t) c->tx_errors, "packets_dropped_outbound",
        (json_int_t) c->tx_dropped, "packets_dropped_inbound", (json_int_t) c->rx_dropped);
}

static const char *
scope_name(const struct inet_address *address)
{
    switch (address->scope) {
    case RT_SCOPE_HOST:
        return "local";
    case RT_SCOPE_LINK:
        return "link";
    default:
        return g_str_has_prefix(address->text, "127.") ? "local" : "global";
    }
}

static json_t *
addresses_json(const GArray *addresses, int ifindex)
{
    json_t *list = json_array();
    for (guint i = 0; i < addresses->len; i++) {
        const struct inet_address *one = &g_array_index(addresses, struct inet_address, i);
        if (one->ifindex == ifindex) {
            g_autofree char *netmask = g_strdup_printf("%d", one->prefix);
            json_array_append_new(list, json_pack("{s:s, s:s, s:s, s:s}", "family",
                                                  one->family == AF_INET ? "inet" : "inet6",
                                                  "address", one->text, "netmask", netmask, "scope",
                                                  scope_name(one)));
        }
    }
    return list;
}

static const char *
type_name(const struct link_info *info)
{
    if ((info->flags & IFF_LOOPBACK) != 0) {
        return "loopback";
    }
    if ((info->flags & IFF_POINTOPOINT) != 0) {
        return "point-to-point";
    }
    return (info->flags & IFF_BROADCAST) != 0 ? "broadcast" : "unknown";
}

static json_t *
link_json(const struct link_info *info, const GArray *addresses)
{
    return json_pack("{s:o, s:o, s:s, s:i, s:s, s:s}", "addresses",
                     addresses_json(addresses, info->index), "counters",
                     counters_json(&info->counters), "hwaddr", info->mac, "mtu", (int) info->mtu,
                     "state", (info->flags & IFF_UP) != 0 ? "up" : "down", "type", type_name(info));
}

/* ---- instances ---- */

struct pid_job {
    pid_t pid;
    json_t *result; /* owned by the waiting fiber once it is back */
};

/* The name of a veth's other end, when that is in our namespace. */
static const char *
peer_name(const struct link_info *info, int our_id, const GArray *ours)
{
    if (strcmp(info->kind, "veth") != 0 || our_id < 0 || info->parent_netnsid != our_id) {
        return "";
    }
    for (guint i = 0; i < ours->len; i++) {
        const struct link_info *host = &g_array_index(ours, struct link_info, i);
        if (host->index == info->parent) {
            return host->name;
        }
    }
    return "";
}

static bool
pid_job(NlSock *sock, void *data, GError **error)
{
    struct pid_job *job = data;
    g_autofree char *path = job->pid != 0 ? g_strdup_printf("/proc/%d/ns/net", (int) job->pid)
                                          : g_strdup("/proc/thread-self/ns/net");
    haw_autofd int netns = open(path, O_RDONLY | O_CLOEXEC);
    haw_autofd int home = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
    if (netns < 0 || home < 0) {
        return haw_fail_errno(error, errno, "open '%s'", path);
    }
    g_autoptr(NlSock) inside = nlsock_open_in(netns, error);
    g_autoptr(GArray) links = inside != NULL ? link_list(inside, error) : NULL;
    g_autoptr(GArray) addresses = links != NULL ? inet_addresses(inside, error) : NULL;
    g_autoptr(GArray) ours = addresses != NULL ? link_list(sock, error) : NULL;
    if (ours == NULL) {
        return false;
    }
    int our_id = link_netnsid(inside, home);
    job->result = json_object();
    for (guint i = 0; i < links->len; i++) {
        const struct link_info *info = &g_array_index(links, struct link_info, i);
        json_t *state = link_json(info, addresses);
        json_object_set_new(state, "host_name", json_string(peer_name(info, our_id, ours)));
        json_object_set_new(job->result, info->name, state);
    }
    return true;
}

json_t *
net_state_of_pid(pid_t pid, GError **error)
{
    struct pid_job job = {.pid = pid};
    if (!netjob_run(pid_job, &job, error)) {
        json_decref(job.result);
        return NULL;
    }
    return job.result;
}

/* ---- networks ---- */

struct name_job {
    const char *name;
    json_t *result; /* owned by the waiting fiber once it is back */
};

static json_t *
bridge_json(const struct link_info *bridge, const GArray *links)
{
    json_t *upper = json_array();
    for (guint i = 0; i < links->len; i++) {
        const struct link_info *info = &g_array_index(links, struct link_info, i);
        if (info->master == bridge->index) {
            json_array_append_new(upper, json_string(info->name));
        }
    }
    return json_pack("{s:s, s:I, s:I, s:b, s:b, s:o}", "id", bridge->bridge_id, "forward_delay",
                     (json_int_t) bridge->forward_delay, "vlan_default", (json_int_t) 1, "stp",
                     bridge->stp, "vlan_filtering", bridge->vlan_filtering, "upper_devices", upper);
}

static const struct link_info *
by_index(const GArray *links, int index)
{
    for (guint i = 0; i < links->len; i++) {
        const struct link_info *info = &g_array_index(links, struct link_info, i);
        if (info->index == index) {
            return info;
        }
    }
    return NULL;
}

static bool
name_job(NlSock *sock, void *data, GError **error)
{
    struct name_job *job = data;
    g_autoptr(GArray) links = link_list(sock, error);
    g_autoptr(GArray) addresses = links != NULL ? inet_addresses(sock, error) : NULL;
    for (guint i = 0; addresses != NULL && i < links->len; i++) {
        const struct link_info *info = &g_array_index(links, struct link_info, i);
        if (strcmp(info->name, job->name) != 0) {
            continue;
        }
        const struct link_info *lower = by_index(links, info->parent);
        job->result = link_json(info, addresses);
        bool bridge = strcmp(info->kind, "bridge") == 0;
        bool vlan = strcmp(info->kind, "vlan") == 0;
        json_object_set_new(job->result, "bridge", bridge ? bridge_json(info, links) : json_null());
        json_object_set_new(job->result, "vlan",
                            vlan ? json_pack("{s:s, s:I}", "lower_device",
                                             lower != NULL ? lower->name : "", "vid",
                                             (json_int_t) info->vlan_id)
                                 : json_null());
        json_object_set_new(job->result, "bond", json_null());
        json_object_set_new(job->result, "ovn", json_null());
        return true;
    }
    return addresses != NULL &&
           haw_fail(error, HAW_NOT_FOUND, "Network interface \"%s\" not found", job->name);
}

json_t *
netstate_of(const char *ifname, GError **error)
{
    struct name_job job = {.name = ifname};
    return netjob_run(name_job, &job, error) ? job.result : NULL;
}

json_t *
netstate_unavailable(void)
{
    struct link_counters none = {0};
    return json_pack("{s:[], s:o, s:s, s:i, s:s, s:s, s:n, s:n, s:n, s:n}", "addresses", "counters",
                     counters_json(&none), "hwaddr", "", "mtu", 0, "state", "unavailable", "type",
                     "unknown", "bridge", "bond", "vlan", "ovn");
}

static const char *
interface_type(const struct link_info *info)
{
    if ((info->flags & IFF_LOOPBACK) != 0) {
        return "loopback";
    }
    if (strcmp(info->kind, "bridge") == 0 || strcmp(info->kind, "vlan") == 0 ||
        strcmp(info->kind, "bond") == 0) {
        return info->kind;
    }
    g_autofree char *device = g_strdup_printf("/sys/class/net/%s/device", info->name);
    return access(device, F_OK) == 0 ? "physical" : "unknown";
}

static bool
interfaces_job(NlSock *sock, void *data, GError **error)
{
    json_t *result = data;
    g_autoptr(GArray) links = link_list(sock, error);
    for (guint i = 0; links != NULL && i < links->len; i++) {
        const struct link_info *info = &g_array_index(links, struct link_info, i);
        if (!g_str_has_prefix(info->name, "veth")) {
            json_object_set_new(result, info->name, json_string(interface_type(info)));
        }
    }
    return links != NULL;
}

json_t *
netstate_interfaces(GError **error)
{
    json_t *result = json_object();
    if (!netjob_run(interfaces_job, result, error)) {
        json_decref(result);
        return NULL;
    }
    return result;
}

static bool
taken_job(NlSock *sock, void *data, GError **error)
{
    GArray *taken = data;
    const int families[] = {AF_INET, AF_INET6};
    g_autoptr(GArray) addresses = inet_addresses(sock, error);
    for (guint i = 0; addresses != NULL && i < addresses->len; i++) {
        const struct inet_address *one = &g_array_index(addresses, struct inet_address, i);
        g_autofree char *cidr = g_strdup_printf("%s/%d", one->text, one->prefix);
        struct subnet net;
        if (subnet_parse(cidr, &net)) {
            g_array_append_val(taken, net);
        }
    }
    for (int f = 0; f < 2; f++) {
        g_autoptr(GArray) routes = inet_routes(sock, families[f], NULL);
        for (guint i = 0; routes != NULL && i < routes->len; i++) {
            const struct inet_route_row *row = &g_array_index(routes, struct inet_route_row, i);
            struct subnet net;
            if (row->prefix[0] != '\0' && subnet_parse(row->prefix, &net)) {
                g_array_append_val(taken, net);
            }
        }
    }
    return addresses != NULL;
}

GArray *
netstate_taken(GError **error)
{
    g_autoptr(GArray) taken = g_array_new(FALSE, FALSE, sizeof(struct subnet));
    return netjob_run(taken_job, taken, error) ? g_steal_pointer(&taken) : NULL;
}
