/* NICs in a bridge: nictype bridged, on a network of ours or on any bridge of the host; and p2p, which
 * is the same pair without a bridge.
 * G1  A NIC on a network of ours has a file in dnsmasq.hosts from its first start until it is removed:
 *     its static addresses are reserved while it is stopped, too.
 * G2  With address filtering and no static address one is chosen once, and kept in that file.
 * G3  Filter rules are there before the instance's end of the pair is up.
 * Not here: the pair itself (veth.c), the rules' text (firewall.c). */
#include <string.h>

#include "agent/net/dnsmasq.h"
#include "agent/net/firewall.h"
#include "agent/net/nicuse.h"
#include "agent/net/subnet.h"
#include "agent/net/veth.h"
#include "proto/grammar.h"
#include "proto/keys.h"

enum { PICK_TRIES = 4096 };

/* ---- addresses ---- */

static bool
is_taken(Network *net, const char *label, const char *address)
{
    g_autoptr(GPtrArray) hosts = dnsmasq_hosts(net);
    for (guint i = 0; i < hosts->len; i++) {
        const struct dnsmasq_host *host = g_ptr_array_index(hosts, i);
        if (strcmp(host->label, label) != 0 &&
            ((host->ipv4 != NULL && subnet_same_address(host->ipv4, address)) ||
             (host->ipv6 != NULL && subnet_same_address(host->ipv6, address)))) {
            return true;
        }
    }
    g_autoptr(GPtrArray) leases = dnsmasq_leases(net);
    for (guint i = 0; i < leases->len; i++) {
        const struct dnsmasq_lease *lease = g_ptr_array_index(leases, i);
        if (subnet_same_address(lease->address, address)) {
            return true;
        }
    }
    return subnet_same_address(address, netobj_address(net, strchr(address, ':') ? 6 : 4));
}

/* Bounds of the addresses that may be given: the DHCP ranges, or the whole network but its ends. */
static char **
ranges_of(Network *net, int family)
{
    struct subnet whole;
    const char *set = netobj_get(net, family == 4 ? "ipv4.dhcp.ranges" : "ipv6.dhcp.ranges");
    if (set != NULL || !subnet_parse(netobj_address(net, family), &whole)) {
        return grammar_list(set);
    }
    g_autofree char *first = subnet_nth(&whole, 2);
    g_autofree char *last = subnet_nth(&whole, family == 4 ? -2 : -1);
    g_autofree char *range = g_strdup_printf("%s-%s", first, last);
    return grammar_list(first != NULL && last != NULL ? range : NULL);
}

static bool
in_ranges(Network *net, int family, const char *address)
{
    g_auto(GStrv) ranges = ranges_of(net, family);
    for (char **range = ranges; *range != NULL; range++) {
        if (subnet_range_contains(*range, address)) {
            return true;
        }
    }
    return false;
}

/* The first free address of the ranges. */
static char *
pick_address(Network *net, const char *label, int family)
{
    g_auto(GStrv) ranges = ranges_of(net, family);
    for (char **range = ranges; *range != NULL; range++) {
        struct subnet at;
        g_auto(GStrv) ends = g_strsplit(*range, "-", 2);
        if (!subnet_parse(g_strstrip(ends[0]), &at)) {
            continue;
        }
        at.prefix = 0;
        for (int i = 0; i < PICK_TRIES; i++, subnet_step(&at)) {
            g_autofree char *address = subnet_address(&at);
            if (!subnet_range_contains(*range, address)) {
                break;
            }
            if (!is_taken(net, label, address)) {
                return g_steal_pointer(&address);
            }
        }
    }
    return NULL;
}

static struct dnsmasq_host *
own_host(Network *net, const char *label)
{
    g_autoptr(GPtrArray) hosts = dnsmasq_hosts(net);
    for (guint i = 0; i < hosts->len; i++) {
        const struct dnsmasq_host *host = g_ptr_array_index(hosts, i);
        if (strcmp(host->label, label) == 0) {
            return g_ptr_array_steal_index(hosts, i);
        }
    }
    return NULL;
}

/* What an address filter lets through when nothing is configured (G2). */
static char *
filtered_address(NicUse *use, int family, const char *reserved)
{
    struct subnet whole;
    if (!subnet_parse(netobj_address(use->net, family), &whole)) {
        return NULL;
    }
    if (reserved != NULL && subnet_contains(&whole, reserved) &&
        (family == 6 || in_ranges(use->net, family, reserved))) {
        return g_strdup(reserved);
    }
    g_autoptr(GPtrArray) leases = dnsmasq_leases(use->net);
    for (guint i = 0; i < leases->len; i++) {
        const struct dnsmasq_lease *lease = g_ptr_array_index(leases, i);
        if (g_ascii_strcasecmp(lease->mac, nicuse_mac(use)) == 0 &&
            subnet_contains(&whole, lease->address) &&
            in_ranges(use->net, family, lease->address)) {
            return g_strdup(lease->address);
        }
    }
    g_autofree char *own = family == 6 ? subnet_eui64(&whole, nicuse_mac(use)) : NULL;
    if (own != NULL && (!netobj_dhcp6_stateful(use->net) || !is_taken(use->net, use->label, own))) {
        return g_steal_pointer(&own);
    }
    return pick_address(use->net, use->label, family);
}

static const char *
filter_key(int family)
{
    return family == 4 ? "security.ipv4_filtering" : "security.ipv6_filtering";
}

/* The NIC's address of a family: configured, or needed by a filter; NULL for none. *ret_none: it may
 * use no address at all. */
static char *
address_of(NicUse *use, int family, const char *reserved, bool *ret_none)
{
    const char *set = nicuse_ip(use, family, "address");
    *ret_none = set != NULL && strcmp(set, "none") == 0;
    if (set != NULL) {
        return *ret_none ? NULL : g_strdup(set);
    }
    bool served = use->net != NULL && (family == 6 || netobj_dhcp4(use->net));
    return served && nicuse_bool(use, filter_key(family)) ? filtered_address(use, family, reserved)
                                                          : NULL;
}

/* ---- filters and leases ---- */

static char **
allowed(NicUse *use, int family, const char *address)
{
    g_auto(GStrv) routes = nicuse_routes(use, family);
    g_autoptr(GPtrArray) list = g_ptr_array_new();
    if (address != NULL) {
        g_ptr_array_add(list, g_strdup(address));
    }
    for (char **route = routes; address != NULL && *route != NULL; route++) {
        g_ptr_array_add(list, g_strdup(*route));
    }
    g_ptr_array_add(list, NULL);
    return (char **) g_ptr_array_free(g_steal_pointer(&list), FALSE);
}

static bool
filters(const NicUse *use)
{
    return nicuse_bool(use, "security.mac_filtering") ||
           nicuse_bool(use, "security.ipv4_filtering") ||
           nicuse_bool(use, "security.ipv6_filtering");
}

static bool
set_filter(NicUse *use, const char *host, const char *address4, const char *address6,
           GError **error)
{
    if (!filters(use)) {
        return true;
    }
    g_auto(GStrv) four = allowed(use, 4, address4);
    g_auto(GStrv) six = allowed(use, 6, address6);
    struct firewall_nic nic = {.label = use->label,
                               .host_name = host,
                               .mac = nicuse_mac(use),
                               .filter4 = nicuse_bool(use, filter_key(4)),
                               .filter6 = nicuse_bool(use, filter_key(6)),
                               .addresses4 = four,
                               .addresses6 = six};
    return firewall_nic_set(&nic, error);
}

/* G1 */
static bool
set_lease(NicUse *use, const char *address4, const char *address6, GError **error)
{
    if (use->net == NULL ||
        (netobj_address(use->net, 4) == NULL && netobj_address(use->net, 6) == NULL)) {
        return true;
    }
    return dnsmasq_set_host(use->net, use->label, nicuse_mac(use), address4, address6,
                            use->nic->inst, error);
}

/* Lease and filter, as the config says. Under the network's lock, as addresses are chosen here. */
static bool
apply(NicUse *use, const char *host, GError **error)
{
    bool none4;
    bool none6;
    g_auto(FiberHold) hold = use->net != NULL ? fiber_hold(&use->net->lock) : NULL;
    struct dnsmasq_host *reserved = use->net != NULL ? own_host(use->net, use->label) : NULL;
    g_autofree char *four = address_of(use, 4, reserved != NULL ? reserved->ipv4 : NULL, &none4);
    g_autofree char *six = address_of(use, 6, reserved != NULL ? reserved->ipv6 : NULL, &none6);
    dnsmasq_host_free(reserved);
    return set_lease(use, four, six, error) &&
           (host == NULL || set_filter(use, host, four, six, error));
}

/* ---- steps ---- */

static bool
bridged_start(NicUse *use, char **ret_link, GError **error)
{
    struct veth_spec spec = {.bridge = use->parent,
                             .routes = {nicuse_routes(use, 4), nicuse_routes(use, 6)},
                             .route_dev = use->parent,
                             .vlan = use->vlan,
                             .vlan_tagged = nicuse_get(use, "vlan.tagged"),
                             .isolated = nicuse_bool(use, "security.port_isolation"),
                             .hairpin = use->net != NULL && use->net->hairpin,
                             .no_ipv6 = true};
    bool ok = veth_make(use, &spec, error);
    if (ok && !apply(use, spec.host, error)) { /* G3: the instance's end comes up after this */
        veth_remove(spec.host, NULL);
        nicuse_set_volatile(use, "host_name", NULL);
        ok = false;
    }
    if (ok) {
        *ret_link = veth_to_move(&spec);
    }
    veth_spec_done(&spec);
    return ok;
}

static bool
drop_routes(NicUse *use, const char *dev, GError **error)
{
    for (int family = 4; family <= 6; family += 2) {
        g_auto(GStrv) routes = nicuse_routes(use, family);
        if (!veth_set_routes(dev, family, routes, NULL, error)) {
            return false;
        }
    }
    return true;
}

static bool
bridged_stop(NicUse *use, GError **error)
{
    g_autofree char *host = g_strdup(nicuse_volatile(use, "host_name"));
    if (host == NULL) {
        return true;
    }
    return veth_remove(host, error) && drop_routes(use, use->parent, error) &&
           veth_clear_limits(use, error) &&
           (!filters(use) || firewall_nic_clear(use->label, error));
}

static void
old_routes(json_t *config, int family, char ***ret)
{
    g_autofree char *inside = g_strdup_printf("ipv%d.routes", family);
    g_autofree char *outside = g_strdup_printf("ipv%d.routes.external", family);
    g_autofree char *both =
        g_strdup_printf("%s,%s", keys_get(config, inside) != NULL ? keys_get(config, inside) : "",
                        keys_get(config, outside) != NULL ? keys_get(config, outside) : "");
    *ret = grammar_list(both);
}

static bool
update_routes(NicUse *use, const char *dev, json_t *old_config, GError **error)
{
    for (int family = 4; family <= 6; family += 2) {
        g_auto(GStrv) now = nicuse_routes(use, family);
        g_auto(GStrv) old = NULL;
        old_routes(old_config, family, &old);
        if (!veth_set_routes(dev, family, old, now, error)) {
            return false;
        }
    }
    return true;
}

static bool
same_key(NicUse *use, json_t *old_config, const char *key)
{
    return g_strcmp0(keys_get(use->nic->config, key), keys_get(old_config, key)) == 0;
}

static bool
update_limits(NicUse *use, json_t *old_config, GError **error)
{
    return (same_key(use, old_config, "limits.max") &&
            same_key(use, old_config, "limits.ingress") &&
            same_key(use, old_config, "limits.egress")) ||
           veth_set_limits(use, error);
}

static bool
bridged_update(NicUse *use, json_t *old_config, GError **error)
{
    g_autofree char *host = g_strdup(nicuse_volatile(use, "host_name"));
    if (host == NULL) { /* stopped: only what the network serves */
        return use->net == NULL || !use->net->up || apply(use, NULL, error);
    }
    if (!filters(use) &&
        (keys_get_bool(old_config, "security.mac_filtering", false) ||
         keys_get_bool(old_config, "security.ipv4_filtering", false) ||
         keys_get_bool(old_config, "security.ipv6_filtering", false)) &&
        !firewall_nic_clear(use->label, error)) {
        return false;
    }
    return update_limits(use, old_config, error) &&
           update_routes(use, use->parent, old_config, error) && apply(use, host, error);
}

static bool
check_static(NicUse *use, int family, GError **error)
{
    const char *address = nicuse_ip(use, family, "address");
    bool filter = nicuse_bool(use, filter_key(family));
    bool four = family == 4;
    struct subnet whole;
    if (use->net == NULL) {
        if (filter && address == NULL) {
            return haw_fail(error, HAW_INVALID,
                            "IPv%d filtering requires a manually specified ipv%d.address when "
                            "using an unmanaged parent bridge",
                            family, family);
        }
        if (!filter && address != NULL) {
            return haw_fail(error, HAW_INVALID,
                            "Cannot use manually specified ipv%d.address when using unmanaged "
                            "parent bridge",
                            family);
        }
        return true;
    }
    if (address == NULL) {
        return true; /* a filter on a network that gives no addresses lets none through */
    }
    if (strcmp(address, "none") == 0) {
        return filter || haw_fail(error, HAW_INVALID,
                                  "Cannot have ipv%d.address=none unless using "
                                  "security.ipv%d_filtering",
                                  family, family);
    }
    if (!filter && !(four ? netobj_dhcp4(use->net) : netobj_dhcp6_stateful(use->net))) {
        return haw_fail(error, HAW_INVALID,
                        four ? "Cannot specify \"ipv4.address\" when DHCP is disabled (unless "
                               "using security.ipv4_filtering) on network \"%s\""
                             : "Cannot specify \"ipv6.address\" when DHCP or "
                               "\"ipv6.dhcp.stateful\" are disabled (unless using "
                               "security.ipv6_filtering) on network \"%s\"",
                        use->net->row->name);
    }
    if (subnet_parse(netobj_address(use->net, family), &whole) &&
        !subnet_contains(&whole, address)) {
        return haw_fail(error, HAW_INVALID,
                        "Device IP address \"%s\" not within network \"%s\" subnet", address,
                        use->net->row->name);
    }
    return true;
}

static bool
bridged_check(NicUse *use, GError **error)
{
    bool filter =
        nicuse_bool(use, "security.ipv4_filtering") || nicuse_bool(use, "security.ipv6_filtering");
    if (use->parent == NULL) {
        return haw_fail(error, HAW_INVALID, "Missing required option \"parent\"");
    }
    if (filter && (use->vlan != NULL || nicuse_get(use, "vlan.tagged") != NULL)) {
        return haw_fail(error, HAW_INVALID,
                        "IP filtering cannot be used with \"vlan\" or \"vlan.tagged\"");
    }
    if (use->net != NULL && g_strcmp0(use->vlan, "0") == 0) {
        return haw_fail(error, HAW_INVALID, "VLAN ID 0 is not allowed for native Linux bridges");
    }
    return check_static(use, 4, error) && check_static(use, 6, error);
}

/* G1: its static lease and its place in DNS go; the server hears that dynamic leases are free. */
static bool
bridged_remove(NicUse *use, GError **error)
{
    if (use->net == NULL) {
        return true;
    }
    g_auto(FiberHold) hold = fiber_hold(&use->net->lock);
    const char *mac = nicuse_get(use, "hwaddr");
    mac = mac != NULL ? mac : nicuse_volatile(use, "hwaddr");
    if (mac != NULL) {
        dnsmasq_release(use->net, mac, use->nic->inst);
    }
    return dnsmasq_drop_host(use->net, use->label, error);
}

const struct nic_driver nic_bridged = {
    .nictype = "bridged",
    .fixed_by_network = "nictype parent mtu maas.subnet.ipv4 maas.subnet.ipv6",
    .start = bridged_start,
    .stop = bridged_stop,
    .check = bridged_check,
    .update = bridged_update,
    .inside = true,
    .remove = bridged_remove,
};

/* ---- p2p ---- */

static bool
p2p_start(NicUse *use, char **ret_link, GError **error)
{
    struct veth_spec spec = {.routes = {nicuse_routes(use, 4), nicuse_routes(use, 6)}};
    bool ok = veth_make(use, &spec, error);
    if (ok) {
        *ret_link = veth_to_move(&spec);
    }
    veth_spec_done(&spec);
    return ok;
}

static bool
p2p_stop(NicUse *use, GError **error)
{
    g_autofree char *host = g_strdup(nicuse_volatile(use, "host_name"));
    return host == NULL || (veth_remove(host, error) && veth_clear_limits(use, error));
}

static bool
p2p_update(NicUse *use, json_t *old_config, GError **error)
{
    g_autofree char *host = g_strdup(nicuse_volatile(use, "host_name"));
    return host == NULL ||
           (update_limits(use, old_config, error) && update_routes(use, host, old_config, error));
}

const struct nic_driver nic_p2p = {
    .nictype = "p2p",
    .fixed_by_network = "",
    .start = p2p_start,
    .stop = p2p_stop,
    .update = p2p_update,
    .inside = true,
};
