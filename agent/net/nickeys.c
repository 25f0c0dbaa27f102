/* The keys of NICs: which kind takes which, and what values are right (lxd-api instance-options 4.1).
 * One table; a letter a kind says who takes the key: b bridged, m macvlan, s sriov, h physical
 * ("hardware"), p p2p, r routed, i ipvlan, o ovn. */
#include <string.h>

#include "agent/net/nicuse.h"
#include "agent/net/subnet.h"
#include "proto/grammar.h"

typedef bool (*Check)(const char *value, GError **error);

static bool
any(const char *value, GError **error)
{
    return true;
}

static bool
each(const char *value, Check check, GError **error)
{
    g_auto(GStrv) list = g_strsplit(value, ",", -1);
    for (char **item = list; *item != NULL; item++) {
        if (!check(g_strstrip(*item), error)) {
            return false;
        }
    }
    return true;
}

static bool
none_or(const char *value, Check check, GError **error)
{
    return strcmp(value, "none") == 0 || check(value, error);
}

static bool
address4(const char *value, GError **error)
{
    return none_or(value, grammar_ipv4, error);
}

static bool
address6(const char *value, GError **error)
{
    return none_or(value, grammar_ipv6, error);
}

static bool
addresses4(const char *value, GError **error)
{
    return each(value, grammar_ipv4, error);
}

static bool
addresses6(const char *value, GError **error)
{
    return each(value, grammar_ipv6, error);
}

static bool
one_of(const char *value, const char *list, GError **error)
{
    g_auto(GStrv) words = g_strsplit(list, " ", -1);
    return g_strv_contains((const char *const *) words, value) ||
           haw_fail(error, HAW_INVALID, "Invalid value \"%s\" (not one of [%s])", value, list);
}

static bool
gateway(const char *value, GError **error)
{
    return one_of(value, "auto none", error);
}

static bool
acceleration(const char *value, GError **error)
{
    return one_of(value, "none sriov vdpa", error);
}

static bool
ipvlan_mode(const char *value, GError **error)
{
    return one_of(value, "l3s l2", error);
}

static bool
acl_action(const char *value, GError **error)
{
    return one_of(value, "allow drop reject", error);
}

static bool
vlan_or_none(const char *value, GError **error)
{
    return none_or(value, grammar_vlan, error);
}

static bool
vlan_range(const char *value, GError **error)
{
    g_auto(GStrv) ends = g_strsplit(value, "-", 2);
    if (!grammar_vlan(ends[0], error) || (ends[1] != NULL && !grammar_vlan(ends[1], error))) {
        return false;
    }
    return ends[1] == NULL ||
           g_ascii_strtoull(ends[0], NULL, 10) < g_ascii_strtoull(ends[1], NULL, 10) ||
           haw_fail(error, HAW_INVALID, "Invalid VLAN range \"%s\"", value);
}

static bool
vlan_list(const char *value, GError **error)
{
    return each(value, vlan_range, error);
}

static const struct {
    const char *name, *kinds;
    Check check;
} keys[] = {
    {"name", "bmshproi", grammar_ifname},
    {"network", "bmsho", any},
    {"nictype", "bmshproi", any},
    {"parent", "bmshri", grammar_ifname},
    {"mtu", "bmshpri", grammar_mtu},
    {"queue.tx.length", "bp", grammar_uint32},
    {"hwaddr", "bmshproi", grammar_mac},
    {"host_name", "bpro", grammar_ifname},
    {"vlan", "b", vlan_or_none},
    {"vlan", "mshri", grammar_vlan},
    {"vlan.tagged", "b", vlan_list},
    {"gvrp", "mhri", grammar_bool},
    {"limits.ingress", "bpr", grammar_bitsize},
    {"limits.egress", "bpr", grammar_bitsize},
    {"limits.max", "bpr", grammar_bitsize},
    {"vlan", "o", grammar_vlan},
    {"nested", "o", any},
    {"acceleration", "o", acceleration},
    {"acceleration.parent", "o", any},
    {"hawser.acceleration.fallback", "o", grammar_bool},
    {"hawser.poll", "o", grammar_bool},
    {"hawser.port_security", "o", grammar_bool},
    {"ipv4.address", "o", grammar_ipv4},
    {"ipv6.address", "o", grammar_ipv6},
    {"security.acls", "o", any},
    {"security.acls.default.ingress.action", "o", acl_action},
    {"security.acls.default.egress.action", "o", acl_action},
    {"security.acls.default.ingress.logged", "o", grammar_bool},
    {"security.acls.default.egress.logged", "o", grammar_bool},
    {"ipv4.address", "b", address4},
    {"ipv6.address", "b", address6},
    {"ipv4.address", "r", addresses4},
    {"ipv6.address", "r", addresses6},
    {"ipv4.routes", "bpro", grammar_net4_list},
    {"ipv6.routes", "bpro", grammar_net6_list},
    {"ipv4.routes.external", "bo", grammar_net4_list},
    {"ipv6.routes.external", "bo", grammar_net6_list},
    {"ipv4.gateway", "r", gateway},
    {"ipv6.gateway", "r", gateway},
    {"ipv4.host_address", "r", grammar_ipv4},
    {"ipv6.host_address", "r", grammar_ipv6},
    {"ipv4.host_table", "ri", grammar_uint32},
    {"ipv6.host_table", "ri", grammar_uint32},
    {"mode", "i", ipvlan_mode},
    {"ipv4.address", "i", any}, /* what is right depends on the mode: the kind checks */
    {"ipv6.address", "i", any},
    {"ipv4.gateway", "i", any},
    {"ipv6.gateway", "i", any},
    {"ipv4.neighbor_probe", "r", grammar_bool},
    {"ipv6.neighbor_probe", "r", grammar_bool},
    {"security.mac_filtering", "bs", grammar_bool},
    {"security.ipv4_filtering", "b", grammar_bool},
    {"security.ipv6_filtering", "b", grammar_bool},
    {"security.port_isolation", "b", grammar_bool},
    {"boot.priority", "bmshpo", grammar_uint32},
    {"maas.subnet.ipv4", "bmsh", any},
    {"maas.subnet.ipv6", "bmsh", any},
};

static char
letter_of(const NicUse *use)
{
    return use->driver == &nic_physical ? 'h' : use->driver->nictype[0];
}

static bool
check_one(const NicUse *use, const char *key, json_t *value, GError **error)
{
    const char *text = json_string_value(value);
    if (text == NULL) {
        return haw_fail(error, HAW_INVALID, "Invalid value for device option \"%s\"", key);
    }
    if (strcmp(key, "type") == 0 || g_str_has_prefix(key, "user.")) {
        return true;
    }
    for (size_t i = 0; i < G_N_ELEMENTS(keys); i++) {
        if (strcmp(keys[i].name, key) == 0 && strchr(keys[i].kinds, letter_of(use)) != NULL) {
            return *text == '\0' || keys[i].check(text, error) ||
                   haw_push(error, "Invalid value for device option \"%s\"", key);
        }
    }
    return haw_fail(error, HAW_INVALID, "Invalid device option \"%s\"", key);
}

bool
nickeys_check(const NicUse *use, GError **error)
{
    const char *key;
    json_t *value;
    json_object_foreach (use->nic->config, key, value) {
        if (!check_one(use, key, value, error)) {
            return false;
        }
    }
    return true;
}
