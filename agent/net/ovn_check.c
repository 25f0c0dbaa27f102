/* Checks of ovn networks and their NICs.
 * C1  Whoever is refused hears both parties: the network and its uplink, or the two users of a subnet.
 * C2  Addresses behind NAT are the network's own affair and may be used by others, too; what is seen
 *     outside must come from the uplink's routes and belong to one user.
 * Called by netlife.c and nic_ovn.c; ovn_net_check_external() is in ovn_external.c. */
#include "agent/net/ovn_check.h"

#include <string.h>

#include "agent/auth/project.h"
#include "agent/net/netacl.h"
#include "agent/net/ovn_acluse.h"
#include "agent/net/ovn_external.h"
#include "agent/net/ovn_peer.h"
#include "agent/net/ovn_net.h"
#include "agent/net/ovn_uplink.h"
#include "agent/net/subnet.h"
#include "agent/state/ovn_ports.h"
#include "proto/grammar.h"
#include "proto/keys.h"

enum { RA_PREFIX = 64, PROXY_PREFIX4 = 26, PROXY_PREFIX6 = 122 };

static const char *
family_key(json_t *config, int family, const char *tail)
{
    g_autofree char *key = g_strdup_printf("ipv%d.%s", family, tail);
    return keys_get(config, key);
}

static bool
family_subnet(json_t *config, int family, struct subnet *ret)
{
    const char *text = family_key(config, family, "address");
    return text != NULL && strchr(text, '/') != NULL && subnet_parse(text, ret);
}

/* ---- new networks ---- */

/* May networks of the project use this uplink? */
static bool
uplink_allowed(NetTable *table, const char *project, const char *uplink)
{
    json_t *config = project_config(netobj_agent(table), project, NULL);
    const char *allowed = keys_get(config, "restricted.networks.uplinks");
    g_auto(GStrv) list = grammar_list(allowed);
    bool ok = !keys_get_bool(config, "restricted", false) ||
              g_strv_contains((const char *const *) list, uplink);
    json_decref(config);
    return ok;
}

static char *
only_uplink(NetTable *table, const char *project)
{
    g_autoptr(GPtrArray) networks = netobj_list(table);
    const Network *only = NULL;
    for (guint i = 0; i < networks->len; i++) {
        const Network *net = g_ptr_array_index(networks, i);
        g_autoptr(OvnUplink) uplink =
            ovn_uplink_of(net->row->name, net->row->type, net->row->config);
        if (strcmp(net->row->project, "default") != 0 || !ovn_uplink_check(uplink, NULL) ||
            !uplink_allowed(table, project, net->row->name)) {
            continue;
        }
        if (only != NULL) {
            return NULL;
        }
        only = net;
    }
    return only != NULL ? g_strdup(only->row->name) : NULL;
}

static void
default_to(json_t *config, const char *key, const char *value)
{
    if (keys_get(config, key) == NULL) {
        json_object_set_new(config, key, json_string(value));
    }
}

bool
ovn_check_fill(NetTable *table, const char *project, json_t *config, GError **error)
{
    for (int family = 4; family <= 6; family += 2) {
        g_autofree char *address = g_strdup_printf("ipv%d.address", family);
        g_autofree char *nat = g_strdup_printf("ipv%d.nat", family);
        default_to(config, address, "auto");
        if (strcmp(keys_get(config, address), "auto") == 0) {
            default_to(config, nat, "true");
        }
    }
    if (keys_get(config, "network") == NULL) {
        g_autofree char *uplink = only_uplink(table, project);
        if (uplink == NULL) {
            return haw_fail(
                error, HAW_INVALID,
                "No uplink network specified, and there is not exactly one that the "
                "project may use: set \"network\" (\"none\" for a network without one)");
        }
        json_object_set_new(config, "network", json_string(uplink));
    }
    return true;
}

/* ---- keys of one network ---- */

static bool
has_address(json_t *config, int family)
{
    const char *address = family_key(config, family, "address");
    return address != NULL && strcmp(address, "none") != 0;
}

static bool
check_prefix(const char *name, json_t *config, GError **error)
{
    struct subnet four;
    struct subnet six;
    if (family_subnet(config, 6, &six) && six.prefix < RA_PREFIX) {
        return haw_fail(error, HAW_INVALID,
                        "Invalid value for network \"%s\" option \"ipv6.address\": subnet \"%s\" "
                        "is larger than a /64",
                        name, family_key(config, 6, "address"));
    }
    if (family_subnet(config, 4, &four) && four.prefix > 30) {
        return haw_fail(error, HAW_INVALID,
                        "Invalid value for network \"%s\" option \"ipv4.address\": subnet \"%s\" "
                        "has no room for instances",
                        name, family_key(config, 4, "address"));
    }
    return true;
}

static bool
is_host_address(const struct subnet *net)
{
    g_autofree char *own = subnet_address(net);
    g_autofree char *first = subnet_nth(net, 0);
    g_autofree char *last = net->family == AF_INET ? subnet_nth(net, -1) : NULL;
    return g_strcmp0(own, first) != 0 && g_strcmp0(own, last) != 0;
}

static bool
check_router(const char *name, json_t *config, int family, GError **error)
{
    struct subnet net;
    return !family_subnet(config, family, &net) || is_host_address(&net) ||
           haw_fail(error, HAW_INVALID,
                    "Invalid value for network \"%s\" option \"ipv%d.address\": \"%s\" is not the "
                    "address of a host in its subnet",
                    name, family, family_key(config, family, "address"));
}

bool
ovn_check_config(const char *name, json_t *config, GError **error)
{
    if (!has_address(config, 4) && !has_address(config, 6)) {
        return haw_fail(error, HAW_INVALID,
                        "Either \"ipv4.address\" or \"ipv6.address\" must be specified on network "
                        "\"%s\"",
                        name);
    }
    if (keys_get_bool(config, "ipv6.l3only", false) && has_address(config, 6) &&
        keys_get_bool(config, "ipv6.dhcp", true) &&
        !keys_get_bool(config, "ipv6.dhcp.stateful", false)) {
        return haw_fail(error, HAW_INVALID,
                        "The \"ipv6.dhcp.stateful\" setting must be enabled when using "
                        "\"ipv6.l3only\" mode with DHCPv6 enabled");
    }
    return check_prefix(name, config, error) && check_router(name, config, 4, error) &&
           check_router(name, config, 6, error);
}

/* ---- against others ---- */

static OvnUplink *
find_uplink(NetTable *table, const char *project, const char *name, const char *uplink,
            GError **error)
{
    g_autoptr(Network) found = netobj_find(table, "default", uplink);
    if (found == NULL) {
        haw_fail(error, HAW_INVALID, "Uplink network \"%s\" of network \"%s\" not found", uplink,
                 name);
        return NULL;
    }
    if (!uplink_allowed(table, project, uplink)) {
        haw_fail(error, HAW_INVALID,
                 "Uplink network \"%s\" is not allowed in project \"%s\" "
                 "(restricted.networks.uplinks)",
                 uplink, project);
        return NULL;
    }
    g_autoptr(OvnUplink) offer =
        ovn_uplink_of(found->row->name, found->row->type, found->row->config);
    return ovn_uplink_check(offer, error) ? g_steal_pointer(&offer) : NULL;
}

static bool
check_beside_uplink(const char *name, const OvnUplink *uplink, json_t *config, GError **error)
{
    for (int i = 0; i < 2; i++) {
        struct subnet own;
        struct subnet theirs;
        if (family_subnet(config, i == 0 ? 4 : 6, &own) && uplink->cidr[i] != NULL &&
            subnet_parse(uplink->cidr[i], &theirs) && subnet_overlap(&own, &theirs)) {
            g_autofree char *mine = subnet_network(&own);
            g_autofree char *other = subnet_network(&theirs);
            return haw_fail(error, HAW_INVALID,
                            "Subnet \"%s\" of network \"%s\" overlaps with subnet \"%s\" of its "
                            "uplink network \"%s\"",
                            mine, name, other, uplink->name);
        }
    }
    return true;
}

/* C2 */
static bool
check_seen_outside(NetTable *table, const struct ovn_external *base, json_t *config, int family,
                   const OvnUplink *uplink, GError **error)
{
    struct subnet net;
    const char *nat_address = family_key(config, family, "nat.address");
    g_autofree char *nat_key = g_strdup_printf("ipv%d.nat", family);
    bool nat = keys_get_bool(config, nat_key, false);
    struct ovn_external use = *base;
    if (family_subnet(config, family, &net) && !nat) {
        g_autofree char *network = subnet_network(&net);
        use.what = "Subnet";
        use.cidr = network;
        if (!ovn_external_check(table, &use, error)) {
            return false;
        }
    }
    if (nat_address == NULL) {
        return true;
    }
    if (uplink->l2proxy) {
        return haw_fail(error, HAW_INVALID,
                        "Cannot use \"ipv%d.nat.address\" on network \"%s\": its uplink network "
                        "\"%s\" is not in \"ovn.ingress_mode=routed\"",
                        family, base->network, uplink->name);
    }
    use.what = "NAT address";
    use.cidr = nat_address;
    return ovn_external_check(table, &use, error);
}

/* Reserved addresses of NICs stay inside. */
static bool
check_fixed(NetTable *table, const char *name, gint64 id, json_t *config, GError **error)
{
    g_autoptr(GPtrArray) ports =
        id != 0 ? ovn_ports_list(netobj_agent(table)->db, id, error) : NULL;
    for (guint i = 0; ports != NULL && i < ports->len; i++) {
        const OvnPort *port = g_ptr_array_index(ports, i);
        for (int family = 4; family <= 6; family += 2) {
            const char *fixed = family_key(port->config, family, "address");
            struct subnet net;
            if (fixed != NULL &&
                (!family_subnet(config, family, &net) || !subnet_contains(&net, fixed))) {
                const char *now = family_key(config, family, "address");
                return haw_fail(error, HAW_INVALID,
                                "Address \"%s\" of device \"%s\" of instance \"%s\" would not be "
                                "within subnet \"%s\" of network \"%s\"",
                                fixed, port->device, port->inst, now != NULL ? now : "none", name);
            }
        }
    }
    return id == 0 || ports != NULL;
}

bool
ovn_check_network(NetTable *table, const char *project, const char *name, gint64 id, json_t *config,
                  GError **error)
{
    const char *network = keys_get(config, "network");
    if (network == NULL) {
        return haw_fail(error, HAW_INVALID,
                        "Invalid value for network \"%s\" option \"network\": Required value",
                        name);
    }
    if (!check_fixed(table, name, id, config, error)) {
        return false;
    }
    if (strcmp(network, "none") == 0) {
        return true;
    }
    g_autoptr(OvnUplink) uplink = find_uplink(table, project, name, network, error);
    struct ovn_external base = {
        .uplink = uplink, .project = project, .network = name, .network_id = id};
    return uplink != NULL && check_beside_uplink(name, uplink, config, error) &&
           check_seen_outside(table, &base, config, 4, uplink, error) &&
           check_seen_outside(table, &base, config, 6, uplink, error);
}

void
ovn_check_subnets(NetTable *table, GArray *subnets)
{
    g_autoptr(GPtrArray) networks = netobj_list(table);
    for (guint i = 0; i < networks->len; i++) {
        const Network *net = g_ptr_array_index(networks, i);
        for (int family = 4; family <= 6; family += 2) {
            struct subnet one;
            if (family_subnet(net->row->config, family, &one)) {
                g_array_append_val(subnets, one);
            }
        }
    }
}

bool
ovn_check_uplink_of(Network *uplink, json_t *config, GError **error)
{
    g_autoptr(GPtrArray) networks = netobj_list(uplink->table);
    g_autoptr(OvnUplink) offer = ovn_uplink_of(uplink->row->name, uplink->row->type, config);
    for (guint i = 0; i < networks->len; i++) {
        const Network *child = g_ptr_array_index(networks, i);
        if (!netobj_is(child, "ovn") ||
            g_strcmp0(netobj_get(child, "network"), uplink->row->name) != 0 ||
            strcmp(uplink->row->project, "default") != 0) {
            continue;
        }
        if (!ovn_uplink_check(offer, error) ||
            !check_beside_uplink(child->row->name, offer, child->row->config, error)) {
            return haw_push(error, "Network \"%s\" is the uplink of network \"%s\"",
                            uplink->row->name, child->row->name);
        }
    }
    return true;
}

/* ---- NICs ---- */

static bool
check_address(NicUse *use, int family, GError **error)
{
    const char *address = nicuse_ip(use, family, "address");
    const char *network = use->net->row->name;
    struct subnet net;
    if (address == NULL) {
        return true;
    }
    if (!family_subnet(use->net->row->config, family, &net) || !subnet_contains(&net, address)) {
        return haw_fail(error, HAW_INVALID,
                        "Device IP address \"%s\" not within network \"%s\" subnet", address,
                        network);
    }
    g_autofree char *router = subnet_address(&net);
    if (subnet_same_address(router, address)) {
        return haw_fail(error, HAW_INVALID,
                        "Device IP address \"%s\" is the address of the router of network \"%s\"",
                        address, network);
    }
    if (family == 4 ? !netobj_dhcp4(use->net) : !netobj_dhcp6_stateful(use->net)) {
        return haw_fail(error, HAW_INVALID,
                        family == 4
                            ? "Cannot specify \"ipv4.address\" when DHCP is disabled on network "
                              "\"%s\""
                            : "Cannot specify \"ipv6.address\" when DHCP or "
                              "\"ipv6.dhcp.stateful\" are disabled on network \"%s\"",
                        network);
    }
    return true;
}

/* OVN chooses both addresses of a port or none. */
static bool
check_both(NicUse *use, GError **error)
{
    return nicuse_ip(use, 6, "address") == NULL || nicuse_ip(use, 4, "address") != NULL ||
           !netobj_dhcp4(use->net) ||
           haw_fail(error, HAW_INVALID,
                    "Cannot specify \"ipv6.address\" without \"ipv4.address\" when DHCP is enabled "
                    "on network \"%s\"",
                    use->net->row->name);
}

static bool
check_external_routes(NicUse *use, const OvnUplink *uplink, int family, GError **error)
{
    g_auto(GStrv) routes = grammar_list(nicuse_ip(use, family, "routes.external"));
    g_autofree char *owner =
        g_strdup_printf("%" G_GINT64_FORMAT "/%s", use->nic->inst_id, use->nic->device);
    struct ovn_external base = {.uplink = uplink,
                                .project = use->net->row->project,
                                .network = use->net->row->name,
                                .network_id = use->net->row->id,
                                .what = "External route",
                                .own_nic = owner};
    for (char **route = routes; *route != NULL; route++) {
        struct subnet net;
        int least = family == 4 ? PROXY_PREFIX4 : PROXY_PREFIX6;
        if (uplink == NULL) {
            return haw_fail(error, HAW_INVALID,
                            "Cannot use external routes on network \"%s\", which has no uplink",
                            use->net->row->name);
        }
        if (uplink->l2proxy && subnet_parse(*route, &net) && net.prefix < least) {
            return haw_fail(error, HAW_INVALID,
                            "External route \"%s\" is too large: at most a /%d in l2proxy mode of "
                            "uplink network \"%s\"",
                            *route, least, uplink->name);
        }
        base.cidr = *route;
        if (!ovn_external_check(use->table, &base, error)) {
            return false;
        }
    }
    return true;
}

static bool
check_peers(NicUse *use, int family, GError **error)
{
    g_auto(GStrv) routes = nicuse_routes(use, family);
    return ovn_peer_check_routes(use->net, routes, error);
}

static bool
check_nesting(NicUse *use, GError **error)
{
    const char *nested = nicuse_get(use, "nested");
    const char *vlan = nicuse_get(use, "vlan");
    if (nested != NULL && vlan == NULL) {
        return haw_fail(error, HAW_INVALID, "VLAN must be specified when using a nested NIC");
    }
    if (vlan != NULL && nested == NULL) {
        return haw_fail(error, HAW_INVALID, "Specifying a VLAN requires that this NIC be nested");
    }
    return nested == NULL || strcmp(nested, use->nic->device) != 0 ||
           haw_fail(error, HAW_INVALID, "Device \"%s\" cannot be nested in itself", nested);
}

bool
ovn_check_nic(NicUse *use, GError **error)
{
    if (use->net == NULL) {
        return haw_fail(error, HAW_INVALID, "Missing required option \"network\"");
    }
    const char *acls = nicuse_get(use, "security.acls");
    const char *name = netobj_get(use->net, "network");
    g_autoptr(Network) above =
        name != NULL && strcmp(name, "none") != 0 ? netobj_find(use->table, "default", name) : NULL;
    g_autoptr(OvnUplink) uplink =
        above != NULL ? ovn_uplink_of(above->row->name, above->row->type, above->row->config)
                      : NULL;
    return check_address(use, 4, error) && check_address(use, 6, error) && check_both(use, error) &&
           check_nesting(use, error) &&
           (acls == NULL ||
            (netacl_check_exist(netobj_agent(use->table), use->net->row->project, acls, error) &&
             ovn_acluse_check(netobj_agent(use->table), use->net->row->project, use->net->row->name,
                              acls, error))) &&
           check_external_routes(use, uplink, 4, error) &&
           check_external_routes(use, uplink, 6, error) && check_peers(use, 4, error) &&
           check_peers(use, 6, error);
}
