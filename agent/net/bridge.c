/* The interface of a bridge network.
 * The wanted state is a plan: plain data made from the config on the main loop; a worker thread then
 * holds it against what the kernel has.
 * B1  Repeating bridge_up() changes nothing: a restart of the agent does not disturb traffic.
 * B2  A new address is there before an old one goes, so that routes of instances survive a change.
 * B3  Tunnels are named BRIDGE-TUNNEL; only such of kind vxlan or gretap are ever removed.
 * The MTU of a bridge that was set once stays, whatever its ports have (Linux 4.17), so there is no
 * dummy port to hold it.
 * Not here: DHCP and DNS (dnsmasq.c), filters (firewall.c), members of instances (nic_bridged.c). */
#include "agent/net/bridge.h"

#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <string.h>

#include "agent/net/netjob.h"
#include "agent/net/subnet.h"
#include "base/log.h"
#include "hw/inet.h"
#include "hw/link.h"
#include "proto/grammar.h"
#include "proto/keys.h"

enum { MTU_PLAIN = 1500, MTU_TUNNEL = 1400 };

struct plan {
    const char *name; /* strings are borrowed from the network, which is locked */
    const char *mac;
    guint mtu;
    struct family_plan {
        int family;
        const char *address;
        char **routes; /* owned */
        bool forward;
    } families[2];
    char **externals, **old_externals; /* owned */
    char **tunnels;                    /* owned */
    json_t *config;                    /* borrowed */
    bool changed;                      /* tunnels are made anew */
};

static void
plan_done(struct plan *plan)
{
    for (int i = 0; i < 2; i++) {
        g_strfreev(plan->families[i].routes);
    }
    g_strfreev(plan->externals);
    g_strfreev(plan->old_externals);
    g_strfreev(plan->tunnels);
}

static int
by_text(gconstpointer a, gconstpointer b)
{
    return strcmp(*(const char *const *) a, *(const char *const *) b);
}

char **
bridge_tunnels(json_t *config)
{
    g_autoptr(GPtrArray) names = g_ptr_array_new();
    const char *key;
    json_t *value;
    json_object_foreach (config, key, value) {
        g_auto(GStrv) parts = g_strsplit(key, ".", 3);
        if (strcmp(parts[0], "tunnel") != 0 || g_strv_length(parts) != 3 ||
            g_ptr_array_find_with_equal_func(names, parts[1], g_str_equal, NULL)) {
            continue;
        }
        g_ptr_array_add(names, g_strdup(parts[1]));
    }
    g_ptr_array_sort(names, by_text);
    g_ptr_array_add(names, NULL);
    return (char **) g_ptr_array_free(g_steal_pointer(&names), FALSE);
}

guint
bridge_mtu(json_t *config)
{
    const char *set = keys_get(config, "bridge.mtu");
    if (set != NULL) {
        return (guint) g_ascii_strtoull(set, NULL, 10);
    }
    g_auto(GStrv) tunnels = bridge_tunnels(config);
    return tunnels[0] != NULL ? MTU_TUNNEL : MTU_PLAIN;
}

/* ---- on the worker ---- */

static bool
make_bridge(NlSock *sock, const struct plan *plan, struct link_info *ret_info, GError **error)
{
    g_autoptr(GError) missing = NULL;
    if (!link_get(sock, plan->name, ret_info, &missing)) {
        if (haw_code(missing) != HAW_NOT_FOUND) {
            g_propagate_error(error, g_steal_pointer(&missing));
            return false;
        }
        if (!link_add(sock, plan->name, "bridge", error) ||
            !link_get(sock, plan->name, ret_info, error)) {
            return false;
        }
    }
    if (strcmp(ret_info->kind, "bridge") != 0) {
        return haw_fail(error, HAW_EXISTS, "Interface \"%s\" exists and is no bridge", plan->name);
    }
    return true;
}

/* VLAN filtering is a wish: without it only the vlan keys of NICs do not work. */
static void
filter_vlans(NlSock *sock, const struct plan *plan, const struct link_info *info)
{
    g_autoptr(GError) why = NULL;
    if (!info->vlan_filtering &&
        (!link_set_bridge(sock, plan->name, IFLA_BR_VLAN_FILTERING, 1, 1, &why) ||
         !link_set_bridge(sock, plan->name, IFLA_BR_VLAN_DEFAULT_PVID, 1, 2, &why))) {
        haw_debug("network.no_vlan_filtering", KS("network", plan->name), KS("why", why->message));
    }
}

static bool
set_family_switches(const struct plan *plan, GError **error)
{
    if (plan->families[1].address == NULL) {
        return true;
    }
    if (!netjob_have_ipv6()) {
        return haw_fail(error, HAW_UNSUPPORTED,
                        "Network has ipv6.address but kernel IPv6 support is missing");
    }
    return netjob_sysctl("0", error, "net/ipv6/conf/%s/disable_ipv6", plan->name) &&
           netjob_sysctl("0", error, "net/ipv6/conf/%s/autoconf", plan->name) &&
           netjob_sysctl("0", error, "net/ipv6/conf/%s/accept_dad", plan->name);
}

static bool
set_link(NlSock *sock, const struct plan *plan, const struct link_info *info, GError **error)
{
    /* Set even when equal: an MTU that was never set follows the smallest port. */
    if (!link_set_mtu(sock, plan->name, plan->mtu, error)) {
        return false;
    }
    if (plan->mac != NULL && strcmp(info->mac, plan->mac) != 0 &&
        !link_set_mac(sock, plan->name, plan->mac, error)) {
        return false;
    }
    filter_vlans(sock, plan, info);
    return (info->flags & IFF_UP) != 0 || link_set_up(sock, plan->name, true, error);
}

/* Whether somebody uses the interface already: it has an address that is not link-local. */
static bool
is_configured(NlSock *sock, int ifindex)
{
    g_autoptr(GArray) list = inet_addresses(sock, NULL);
    for (guint i = 0; list != NULL && i < list->len; i++) {
        const struct inet_address *address = &g_array_index(list, struct inet_address, i);
        if (address->ifindex == ifindex && address->scope == RT_SCOPE_UNIVERSE) {
            return true;
        }
    }
    return false;
}

static bool
set_externals(NlSock *sock, const struct plan *plan, int bridge_index, GError **error)
{
    for (char **name = plan->old_externals; *name != NULL; name++) {
        struct link_info info;
        if (!g_strv_contains((const char *const *) plan->externals, *name) &&
            link_get(sock, *name, &info, NULL) && info.master == bridge_index &&
            !link_set_master(sock, *name, NULL, error)) {
            return false;
        }
    }
    for (char **name = plan->externals; *name != NULL; name++) {
        struct link_info info;
        if (!link_get(sock, *name, &info, NULL)) {
            haw_warn("network.no_external_interface", KS("network", plan->name),
                     KS("interface", *name));
            continue;
        }
        if (info.master == bridge_index) {
            continue;
        }
        if (is_configured(sock, info.index)) {
            return haw_fail(error, HAW_CONFLICT,
                            "Only unconfigured network interfaces can be bridged");
        }
        if (!link_set_master(sock, *name, plan->name, error) ||
            !link_set_up(sock, *name, true, error)) {
            return false;
        }
    }
    return true;
}

static bool
set_routes(NlSock *sock, const struct family_plan *plan, int ifindex, GError **error)
{
    g_autoptr(GArray) found = inet_routes(sock, plan->family, error);
    if (found == NULL) {
        return false;
    }
    for (guint i = 0; i < found->len; i++) {
        const struct inet_route_row *row = &g_array_index(found, struct inet_route_row, i);
        if (row->ifindex == ifindex && row->proto == RTPROT_STATIC &&
            !g_strv_contains((const char *const *) plan->routes, row->prefix)) {
            struct inet_route route = {.prefix = row->prefix,
                                       .family = row->family,
                                       .ifindex = ifindex,
                                       .proto = RTPROT_STATIC};
            if (!inet_del_route(sock, &route, error)) {
                return false;
            }
        }
    }
    for (char **prefix = plan->routes; *prefix != NULL; prefix++) {
        struct inet_route route = {
            .prefix = *prefix, .family = plan->family, .ifindex = ifindex, .proto = RTPROT_STATIC};
        if (!inet_add_route(sock, &route, error)) {
            return false;
        }
    }
    return true;
}

static bool
forward4(GError **error)
{
    return netjob_sysctl("1", error, "net/ipv4/ip_forward");
}

/* Forwarding turns off router advertisements for the host itself unless accept_ra is 2. */
static bool
forward6(GError **error)
{
    g_autoptr(GDir) interfaces = g_dir_open("/proc/sys/net/ipv6/conf", 0, NULL);
    const char *name;
    while (interfaces != NULL && (name = g_dir_read_name(interfaces)) != NULL) {
        g_autofree char *accept = netjob_sysctl_get("net/ipv6/conf/%s/accept_ra", name);
        if (g_strcmp0(accept, "1") == 0) {
            netjob_sysctl("2", NULL, "net/ipv6/conf/%s/accept_ra", name);
        }
    }
    return netjob_sysctl("1", error, "net/ipv6/conf/all/forwarding") &&
           netjob_sysctl("1", error, "net/ipv6/conf/default/forwarding");
}

static bool
set_family(NlSock *sock, const struct family_plan *plan, int ifindex, GError **error)
{
    const char *keep[] = {plan->address, NULL};
    if (plan->family == AF_INET6 && !netjob_have_ipv6()) {
        return true;
    }
    if (plan->address != NULL) {
        if (plan->forward && !(plan->family == AF_INET ? forward4(error) : forward6(error))) {
            return false;
        }
        if (!inet_add_address(sock, ifindex, plan->address, error)) { /* B2 */
            return false;
        }
    }
    return inet_flush_addresses(sock, ifindex, plan->family, keep, error) &&
           (plan->address == NULL || set_routes(sock, plan, ifindex, error));
}

static const char *
tunnel_get(json_t *config, const char *tunnel, const char *key)
{
    g_autofree char *name = g_strdup_printf("tunnel.%s.%s", tunnel, key);
    return keys_get(config, name);
}

static guint
tunnel_number(json_t *config, const char *tunnel, const char *key, guint fallback)
{
    const char *text = tunnel_get(config, tunnel, key);
    return text != NULL ? (guint) g_ascii_strtoull(text, NULL, 10) : fallback;
}

static bool
add_vxlan(NlSock *sock, json_t *config, const char *tunnel, const char *ifname, GError **error)
{
    char lower[IFNAMSIZ] = "";
    struct link_tunnel spec = {.local = tunnel_get(config, tunnel, "local"),
                               .remote = tunnel_get(config, tunnel, "remote"),
                               .id = tunnel_number(config, tunnel, "id", 1),
                               .port = tunnel_number(config, tunnel, "port", 0),
                               .ttl = tunnel_number(config, tunnel, "ttl", 1)};
    if (spec.local == NULL || spec.remote == NULL) {
        const char *group = tunnel_get(config, tunnel, "group");
        spec.local = spec.remote = NULL;
        spec.group = group != NULL ? group : "239.0.0.1";
        spec.dev = tunnel_get(config, tunnel, "interface");
        if (spec.dev == NULL) {
            int index = inet_default_ifindex(sock, AF_INET, NULL);
            if (index == 0 || if_indextoname((guint) index, lower) == NULL) {
                return haw_fail(error, HAW_NOT_FOUND, "No default gateway for IPv4");
            }
            spec.dev = lower;
        }
    }
    return link_add_vxlan(sock, ifname, &spec, error);
}

static bool
add_tunnel(NlSock *sock, const struct plan *plan, const char *tunnel, GError **error)
{
    const char *protocol = tunnel_get(plan->config, tunnel, "protocol");
    g_autofree char *ifname = g_strdup_printf("%s-%s", plan->name, tunnel);
    if (protocol == NULL || link_index(sock, ifname) != 0) {
        return true;
    }
    if (strcmp(protocol, "gre") == 0) {
        struct link_tunnel spec = {.local = tunnel_get(plan->config, tunnel, "local"),
                                   .remote = tunnel_get(plan->config, tunnel, "remote")};
        if (spec.local == NULL || spec.remote == NULL) {
            return true; /* half configured: not yet */
        }
        if (!link_add_gretap(sock, ifname, &spec, error)) {
            return false;
        }
    } else if (!add_vxlan(sock, plan->config, tunnel, ifname, error)) {
        return false;
    }
    return link_set_master(sock, ifname, plan->name, error) &&
           link_set_mtu(sock, ifname, plan->mtu, error) && link_set_up(sock, ifname, true, error);
}

/* B3 */
static bool
drop_tunnels(NlSock *sock, const char *bridge, char **keep, GError **error)
{
    g_autoptr(GArray) list = link_list(sock, error);
    g_autofree char *start = g_strdup_printf("%s-", bridge);
    if (list == NULL) {
        return false;
    }
    for (guint i = 0; i < list->len; i++) {
        const struct link_info *info = &g_array_index(list, struct link_info, i);
        bool tunnel = strcmp(info->kind, "vxlan") == 0 || g_str_has_suffix(info->kind, "gretap");
        if (!tunnel || !g_str_has_prefix(info->name, start) ||
            (keep != NULL &&
             g_strv_contains((const char *const *) keep, info->name + strlen(start)))) {
            continue;
        }
        if (!link_del(sock, info->name, error)) {
            return false;
        }
    }
    return true;
}

static bool
apply(NlSock *sock, void *data, GError **error)
{
    const struct plan *plan = data;
    struct link_info info;
    if (!make_bridge(sock, plan, &info, error) || !set_family_switches(plan, error) ||
        !set_link(sock, plan, &info, error) || !set_externals(sock, plan, info.index, error) ||
        !drop_tunnels(sock, plan->name, plan->changed ? NULL : plan->tunnels, error)) {
        return false;
    }
    for (int i = 0; i < 2; i++) {
        if (!set_family(sock, &plan->families[i], info.index, error)) {
            return false;
        }
    }
    for (char **tunnel = plan->tunnels; *tunnel != NULL; tunnel++) {
        if (!add_tunnel(sock, plan, *tunnel, error)) {
            return false;
        }
    }
    return true;
}

static bool
remove_all(NlSock *sock, void *data, GError **error)
{
    const char *name = data;
    struct link_info info;
    if (!drop_tunnels(sock, name, NULL, error)) {
        return false;
    }
    /* What took the name since is not ours. */
    if (!link_get(sock, name, &info, NULL) || strcmp(info.kind, "bridge") != 0) {
        return true;
    }
    return link_del(sock, name, error);
}

/* ---- on the main loop ---- */

/* Prefixes as the kernel spells them. */
static char **
route_list(const Network *net, const char *key)
{
    g_auto(GStrv) list = grammar_list(netobj_get(net, key) != NULL ? netobj_get(net, key) : "");
    for (char **item = list; *item != NULL; item++) {
        struct subnet parsed;
        if (subnet_parse(*item, &parsed)) {
            g_free(*item);
            *item = subnet_network(&parsed);
        }
    }
    return g_steal_pointer(&list);
}

static bool
tunnels_changed(json_t *now, json_t *old)
{
    json_t *maps[2] = {now, old};
    for (int i = 0; i < 2; i++) {
        const char *key;
        json_t *value;
        json_object_foreach (maps[i], key, value) {
            if ((g_str_has_prefix(key, "tunnel.") || strcmp(key, "bridge.mtu") == 0) &&
                !json_equal(value, json_object_get(maps[1 - i], key))) {
                return true;
            }
        }
    }
    return false;
}

bool
bridge_up(Network *net, json_t *old_config, GError **error)
{
    const char *external = netobj_get(net, "bridge.external_interfaces");
    const char *old = old_config != NULL ? keys_get(old_config, "bridge.external_interfaces") : "";
    const char *mac = netobj_get(net, "bridge.hwaddr");
    struct plan plan = {
        .name = net->row->name,
        .mac = mac != NULL ? mac : net->row->hwaddr,
        .mtu = bridge_mtu(net->row->config),
        .families = {{.family = AF_INET,
                      .address = netobj_address(net, 4),
                      .routes = route_list(net, "ipv4.routes"),
                      .forward = netobj_bool(net, "ipv4.routing", true)},
                     {.family = AF_INET6,
                      .address = netobj_address(net, 6),
                      .routes = route_list(net, "ipv6.routes"),
                      .forward = netobj_bool(net, "ipv6.routing", true)}},
        .externals = grammar_list(external != NULL ? external : ""),
        .old_externals = grammar_list(old != NULL ? old : ""),
        .tunnels = bridge_tunnels(net->row->config),
        .config = net->row->config,
        .changed = old_config != NULL && tunnels_changed(net->row->config, old_config),
    };
    bool ok = netjob_run(apply, &plan, error);
    plan_done(&plan);
    return ok;
}

bool
bridge_down(const char *name, GError **error)
{
    g_autofree char *copy = g_strdup(name);
    return netjob_run(remove_all, copy, error);
}

bool
bridge_needs_hairpin(void)
{
    g_autofree char *four = netjob_sysctl_get("net/bridge/bridge-nf-call-iptables");
    g_autofree char *six = netjob_sysctl_get("net/bridge/bridge-nf-call-ip6tables");
    return g_strcmp0(four, "1") == 0 || g_strcmp0(six, "1") == 0;
}

static bool
hairpin_job(NlSock *sock, void *data, GError **error)
{
    int bridge = link_index(sock, data);
    g_autoptr(GArray) list = link_list(sock, error);
    for (guint i = 0; bridge != 0 && list != NULL && i < list->len; i++) {
        const struct link_info *info = &g_array_index(list, struct link_info, i);
        if (info->master == bridge && strcmp(info->kind, "veth") == 0 &&
            !link_set_port_hairpin(sock, info->name, true, error)) {
            return false;
        }
    }
    return list != NULL;
}

bool
bridge_set_hairpin(const char *name, GError **error)
{
    g_autofree char *copy = g_strdup(name);
    return netjob_run(hairpin_job, copy, error);
}
