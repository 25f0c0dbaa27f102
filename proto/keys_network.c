/* Configuration of networks (lxd-api network-options §2). */
#include "proto/grammar.h"
#include "proto/keys.h"

#include <string.h>

static bool
one_of(const char *v, const char *list, GError **error)
{
    g_auto(GStrv) words = g_strsplit(list, " ", -1);
    return g_strv_contains((const char *const *) words, v) ||
           haw_fail(error, HAW_INVALID, "Invalid value \"%s\" (not one of [%s])", v, list);
}

static bool
auto_none(const char *v)
{
    return strcmp(v, "none") == 0 || strcmp(v, "auto") == 0;
}

static bool
address4(const char *v, GError **error)
{
    return auto_none(v) || grammar_cidr4(v, error);
}

static bool
address6(const char *v, GError **error)
{
    return auto_none(v) || grammar_cidr6(v, error);
}

static bool
bridge_driver(const char *v, GError **error)
{
    return one_of(v, "native openvswitch", error);
}

static bool
bridge_mode(const char *v, GError **error)
{
    return one_of(v, "standard fan", error);
}

static bool
dns_mode(const char *v, GError **error)
{
    return one_of(v, "dynamic managed none", error);
}

static bool
nat_order(const char *v, GError **error)
{
    return one_of(v, "before after", error);
}

static bool
ingress_mode(const char *v, GError **error)
{
    return one_of(v, "l2proxy routed", error);
}

static bool
acl_action(const char *v, GError **error)
{
    return one_of(v, "allow drop reject", error);
}

static bool
tunnel_protocol(const char *v, GError **error)
{
    return one_of(v, "gre vxlan", error);
}

static bool
tunnel_ttl(const char *v, GError **error)
{
    return grammar_uint8(v, error);
}

static bool
interface_list(const char *v, GError **error)
{
    return grammar_each(v, grammar_ifname, error);
}

/* What dnsmasq takes as a lease time, and nothing that could end its line. */
static bool
lease_time(const char *v, GError **error)
{
    size_t digits = strspn(v, "0123456789");
    const char *unit = v + digits;
    bool good = strcmp(v, "infinite") == 0 ||
                (digits > 0 && digits < 10 &&
                 (*unit == '\0' || (strchr("smhdw", *unit) != NULL && unit[1] == '\0')));
    return good || haw_fail(error, HAW_INVALID, "Invalid value for a lease time \"%s\"", v);
}

static bool
domain(const char *v, GError **error)
{
    for (const char *at = v; *at != '\0'; at++) {
        if (!g_ascii_isalnum(*at) && strchr("-._", *at) == NULL) {
            return haw_fail(error, HAW_INVALID, "Invalid domain name \"%s\"", v);
        }
    }
    return strlen(v) <= 253 || haw_fail(error, HAW_INVALID, "Domain name is too long");
}

static bool
domain_list(const char *v, GError **error)
{
    return grammar_each(v, domain, error);
}

#define N(name, type, check, fallback, help)                                                       \
    {                                                                                              \
        name, type, check, fallback, KEY_LIVE, help                                                \
    }
#define ACL_KEYS                                                                                   \
    N("security.acls", "list", NULL, NULL, "ACLs of the network."),                                \
        N("security.acls.default.ingress.action", "action", acl_action, "reject",                  \
          "What happens to inbound traffic that no rule names."),                                  \
        N("security.acls.default.egress.action", "action", acl_action, "reject",                   \
          "What happens to outbound traffic that no rule names."),                                 \
        N("security.acls.default.ingress.logged", "bool", grammar_bool, "false",                   \
          "Whether such inbound traffic is logged."),                                              \
        N("security.acls.default.egress.logged", "bool", grammar_bool, "false",                    \
          "Whether such outbound traffic is logged.")
#define ZONE_KEYS                                                                                  \
    N("dns.zone.forward", "list", domain_list, NULL, "Zones that tell the names of instances."),   \
        N("dns.zone.reverse.ipv4", "zone", domain, NULL, "Zone of pointers from IPv4 addresses."), \
        N("dns.zone.reverse.ipv6", "zone", domain, NULL, "Zone of pointers from IPv6 addresses.")
#define USER_KEYS                                                                                  \
    {"user.", "any", NULL, NULL, KEY_LIVE | KEY_PREFIX, "Free form."},                             \
    {                                                                                              \
        NULL                                                                                       \
    }

const Key keys_network_bridge[] = {
    N("bridge.driver", "native|openvswitch", bridge_driver, "native", "What makes the bridge."),
    {"bridge.external_interfaces", "interfaces", interface_list, NULL, KEY_LIVE | KEY_LOCAL,
     "Interfaces to put into the bridge."},
    N("bridge.hwaddr", "mac", grammar_mac, NULL, "The bridge's MAC address."),
    N("bridge.mode", "standard|fan", bridge_mode, "standard", "How it works."),
    N("bridge.mtu", "mtu", grammar_mtu, NULL, "The bridge's MTU."),
    N("dns.domain", "domain", domain, "lxd", "Domain of the instances."),
    N("dns.mode", "managed|dynamic|none", dns_mode, "managed", "Who names the instances."),
    N("dns.search", "domains", domain_list, NULL, "Search list; dns.domain unless set."),
    ZONE_KEYS,
    N("ipv4.address", "cidr4|none|auto", address4, NULL, "The bridge's IPv4 address."),
    N("ipv4.dhcp", "bool", grammar_bool, "true", "Serves DHCP."),
    N("ipv4.dhcp.expiry", "time", lease_time, "1h", "Life of a lease."),
    N("ipv4.dhcp.gateway", "ipv4", grammar_ipv4, NULL, "The gateway that is told."),
    N("ipv4.dhcp.ranges", "ranges", grammar_range4_list, NULL, "Addresses to lease."),
    N("ipv4.firewall", "bool", grammar_bool, "true", "Makes firewall rules."),
    N("ipv4.nat", "bool", grammar_bool, "false", "Translates addresses on the way out."),
    N("ipv4.nat.address", "ipv4", grammar_ipv4, NULL, "The address seen outside."),
    N("ipv4.nat.order", "before|after", nat_order, "before", "Before or after others' rules."),
    N("ipv4.ovn.ranges", "ranges", grammar_range4_list, NULL, "Addresses of routers of OVN."),
    N("ipv4.routes", "subnets", grammar_net4_list, NULL, "Further subnets behind the bridge."),
    N("ipv4.routing", "bool", grammar_bool, "true", "Forwards packets."),
    N("ipv6.address", "cidr6|none|auto", address6, NULL, "The bridge's IPv6 address."),
    N("ipv6.dhcp", "bool", grammar_bool, "true", "Serves DHCPv6."),
    N("ipv6.dhcp.expiry", "time", lease_time, "1h", "Life of a lease."),
    N("ipv6.dhcp.ranges", "ranges", grammar_range6_list, NULL, "Addresses to lease."),
    N("ipv6.dhcp.stateful", "bool", grammar_bool, "false", "Leases addresses, too."),
    N("ipv6.firewall", "bool", grammar_bool, "true", "Makes firewall rules."),
    N("ipv6.nat", "bool", grammar_bool, "false", "Translates addresses on the way out."),
    N("ipv6.nat.address", "ipv6", grammar_ipv6, NULL, "The address seen outside."),
    N("ipv6.nat.order", "before|after", nat_order, "before", "Before or after others' rules."),
    N("ipv6.ovn.ranges", "ranges", grammar_range6_list, NULL, "Addresses of routers of OVN."),
    N("ipv6.routes", "subnets", grammar_net6_list, NULL, "Further subnets behind the bridge."),
    N("ipv6.routing", "bool", grammar_bool, "true", "Forwards packets."),
    N("raw.dnsmasq", "blob", NULL, NULL, "Lines for dnsmasq's configuration."),
    ACL_KEYS,
    N("tunnel.*.group", "ip", grammar_ip, "239.0.0.1", "Multicast group of a vxlan."),
    N("tunnel.*.id", "int64", grammar_int64, "0", "The vxlan's id."),
    N("tunnel.*.interface", "ifname", grammar_ifname, NULL, "Host interface of the tunnel."),
    N("tunnel.*.local", "ip", grammar_ip, NULL, "Our end; not needed for multicast."),
    N("tunnel.*.port", "port", grammar_port, "0", "Port of a vxlan."),
    N("tunnel.*.protocol", "gre|vxlan", tunnel_protocol, NULL, "The tunnel's kind."),
    N("tunnel.*.remote", "ip", grammar_ip, NULL, "The other end; not needed for multicast."),
    N("tunnel.*.ttl", "uint8", tunnel_ttl, "1", "Time to live of multicast packets."),
    {"volatile.", "any", NULL, NULL, KEY_PREFIX | KEY_INTERNAL, "The agent's notes."},
    USER_KEYS,
};

#define PARENT_KEY                                                                                 \
    {                                                                                              \
        "parent", "ifname", grammar_ifname, NULL, KEY_LOCAL, "The host interface."                 \
    }

const Key keys_network_physical[] = {
    PARENT_KEY,
    N("mtu", "mtu", grammar_mtu, NULL, "The interface's MTU."),
    N("vlan", "vlan", grammar_vlan, NULL, "The VLAN to use."),
    N("gvrp", "bool", grammar_bool, "false", "Announces the VLAN by GVRP."),
    N("ipv4.gateway", "cidr4", grammar_cidr4, NULL, "Gateway and subnet of child networks."),
    N("ipv6.gateway", "cidr6", grammar_cidr6, NULL, "Gateway and subnet of child networks."),
    N("ipv4.ovn.ranges", "ranges", grammar_range4_list, NULL, "Addresses of routers of OVN."),
    N("ipv6.ovn.ranges", "ranges", grammar_range6_list, NULL, "Addresses of routers of OVN."),
    N("ipv4.routes", "subnets", grammar_net4_list, NULL, "External subnets for children."),
    N("ipv6.routes", "subnets", grammar_net6_list, NULL, "External subnets for children."),
    N("ipv4.routes.anycast", "bool", grammar_bool, "false", "Whether those may overlap."),
    N("ipv6.routes.anycast", "bool", grammar_bool, "false", "Whether those may overlap."),
    N("dns.nameservers", "ips", grammar_ip_list, NULL, "DNS servers for children."),
    N("ovn.ingress_mode", "l2proxy|routed", ingress_mode, "l2proxy",
      "How packets for children's external addresses get here."),
    {"volatile.", "any", NULL, NULL, KEY_PREFIX | KEY_INTERNAL, "The agent's notes."},
    USER_KEYS,
};

const Key keys_network_macvlan[] = {
    PARENT_KEY,
    N("mtu", "mtu", grammar_mtu, NULL, "The MTU of NICs."),
    N("vlan", "vlan", grammar_vlan, NULL, "The VLAN to use."),
    N("gvrp", "bool", grammar_bool, "false", "Announces the VLAN by GVRP."),
    USER_KEYS,
};

const Key keys_network_sriov[] = {
    PARENT_KEY,
    N("mtu", "mtu", grammar_mtu, NULL, "The MTU of NICs."),
    N("vlan", "vlan", grammar_vlan, NULL, "The VLAN to use."),
    USER_KEYS,
};

/* An uplink's name, or that there is none. */
static bool
uplink(const char *v, GError **error)
{
    return strcmp(v, "none") == 0 || grammar_url_segment(v, error);
}

static bool
ovn_mtu(const char *v, GError **error)
{
    enum { LEAST = 1280, MOST = 16384 };
    gint64 mtu;
    return grammar_parse_int64(v, &mtu, NULL) && mtu >= LEAST && mtu <= MOST
               ? true
               : haw_fail(error, HAW_INVALID, "Invalid MTU \"%s\": Must be between %d and %d", v,
                          LEAST, MOST);
}

const Key keys_network_ovn[] = {
    N("network", "network|none", uplink, NULL, "The uplink network; none: there is none."),
    N("bridge.hwaddr", "mac", grammar_mac, NULL, "The router's MAC address."),
    N("bridge.mtu", "mtu", ovn_mtu, NULL, "The MTU inside; by the underlay's unless set."),
    N("dns.domain", "domain", domain, "lxd", "Domain of the instances."),
    N("dns.search", "domains", domain_list, NULL, "Search list; dns.domain unless set."),
    ZONE_KEYS,
    N("ipv4.address", "cidr4|none|auto", address4, NULL, "The router's IPv4 address."),
    N("ipv4.dhcp", "bool", grammar_bool, "true", "Serves DHCP."),
    N("ipv4.l3only", "bool", grammar_bool, "false", "Gives /32 addresses: no neighbours."),
    N("ipv4.nat", "bool", grammar_bool, "false", "Translates addresses on the way out."),
    N("ipv4.nat.address", "ipv4", grammar_ipv4, NULL, "The address seen outside."),
    N("ipv6.address", "cidr6|none|auto", address6, NULL, "The router's IPv6 address."),
    N("ipv6.dhcp", "bool", grammar_bool, "true", "Serves DHCPv6."),
    N("ipv6.dhcp.stateful", "bool", grammar_bool, "false", "Leases addresses, too."),
    N("ipv6.l3only", "bool", grammar_bool, "false", "Gives /128 addresses: no neighbours."),
    N("ipv6.nat", "bool", grammar_bool, "false", "Translates addresses on the way out."),
    N("ipv6.nat.address", "ipv6", grammar_ipv6, NULL, "The address seen outside."),
    N("hawser.fastpath", "bool", grammar_bool, "true",
      "Packets between instances skip the switch once OVN let them through."),
    N("hawser.shared", "bool", grammar_bool, "false",
      "One network with those of this name and project on other servers of the same northbound "
      "database; given when it is made."),
    ACL_KEYS,
    {"volatile.", "any", NULL, NULL, KEY_PREFIX | KEY_INTERNAL, "The agent's notes."},
    USER_KEYS,
};

const Key *
keys_of_network(const char *type)
{
    static const struct {
        const char *type;
        const Key *table;
    } known[] = {{"bridge", keys_network_bridge},
                 {"physical", keys_network_physical},
                 {"macvlan", keys_network_macvlan},
                 {"sriov", keys_network_sriov},
                 {"ovn", keys_network_ovn}};
    for (size_t i = 0; i < G_N_ELEMENTS(known); i++) {
        if (strcmp(known[i].type, type) == 0) {
            return known[i].table;
        }
    }
    return NULL;
}
