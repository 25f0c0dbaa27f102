/* Checks of networks, and the choice of addresses.
 * Single keys are proto/keys_network.c's; here are the rules between keys.
 * Called by netlife.c. */
#include "agent/net/netcheck.h"

#include <string.h>

#include "agent/net/bridge.h"
#include "agent/net/netjob.h"
#include "agent/net/netstate.h"
#include "agent/net/ovn_check.h"
#include "proto/grammar.h"
#include "proto/keys.h"

enum { IFNAME_MOST = 15 };

static bool
check_key(const char *name, const Key *table, const char *key, json_t *value, GError **error)
{
    const char *text = json_string_value(value);
    const Key *known = keys_find(table, key);
    if (known == NULL) {
        return haw_fail(error, HAW_INVALID, "Invalid option for network \"%s\" option \"%s\"", name,
                        key);
    }
    if (text == NULL) {
        return haw_fail(error, HAW_INVALID,
                        "Invalid value for network \"%s\" option \"%s\": not a string", name, key);
    }
    return *text == '\0' || known->check == NULL || known->check(text, error) ||
           haw_push(error, "Invalid value for network \"%s\" option \"%s\"", name, key);
}

static bool
check_tunnels(const char *name, json_t *config, GError **error)
{
    g_auto(GStrv) tunnels = bridge_tunnels(config);
    for (char **tunnel = tunnels; *tunnel != NULL; tunnel++) {
        if (strlen(name) + strlen(*tunnel) + 1 > IFNAME_MOST) {
            return haw_fail(error, HAW_INVALID, "Network name too long for tunnel interface: %s-%s",
                            name, *tunnel);
        }
    }
    return true;
}

/* Every range of a list inside the subnet. */
static bool
check_ranges(const char *name, json_t *config, int family, const char *tail, const char *within,
             GError **error)
{
    g_autofree char *key = g_strdup_printf("ipv%d.%s", family, tail);
    g_autofree char *address = g_strdup_printf("ipv%d.%s", family, within);
    g_auto(GStrv) ranges = grammar_list(keys_get(config, key));
    struct subnet net;
    if (!subnet_parse(keys_get(config, address), &net)) {
        return true;
    }
    for (char **range = ranges; *range != NULL; range++) {
        g_auto(GStrv) ends = g_strsplit(*range, "-", 2);
        for (char **end = ends; *end != NULL; end++) {
            if (!subnet_contains(&net, g_strstrip(*end))) {
                return haw_fail(error, HAW_INVALID,
                                "Invalid value for network \"%s\" option \"%s\": \"%s\" is not "
                                "inside the network's subnet",
                                name, key, *range);
            }
        }
    }
    return true;
}

/* Routers' addresses of child networks: inside the subnet. */
static bool
check_uplink_ranges(const char *name, json_t *config, const char *within, GError **error)
{
    return check_ranges(name, config, 4, "ovn.ranges", within, error) &&
           check_ranges(name, config, 6, "ovn.ranges", within, error);
}

static bool
ranges_overlap(const char *one, const char *other)
{
    g_auto(GStrv) a = g_strsplit(one, "-", 2);
    g_auto(GStrv) b = g_strsplit(other, "-", 2);
    return subnet_range_contains(one, g_strstrip(b[0])) ||
           subnet_range_contains(other, g_strstrip(a[0]));
}

/* dnsmasq must not lease what a router has. */
static bool
check_beside_dhcp(const char *name, json_t *config, GError **error)
{
    for (int family = 4; family <= 6; family += 2) {
        g_autofree char *dhcp_key = g_strdup_printf("ipv%d.dhcp", family);
        g_autofree char *dhcp = g_strdup_printf("ipv%d.dhcp.ranges", family);
        g_autofree char *ovn = g_strdup_printf("ipv%d.ovn.ranges", family);
        g_auto(GStrv) theirs = grammar_list(keys_get(config, dhcp));
        g_auto(GStrv) ours = grammar_list(keys_get(config, ovn));
        bool clash = *theirs == NULL;
        if (*ours == NULL || !keys_get_bool(config, dhcp_key, true) ||
            (family == 6 && !keys_get_bool(config, "ipv6.dhcp.stateful", false))) {
            continue;
        }
        for (char **one = theirs; *one != NULL; one++) {
            for (char **other = ours; *other != NULL; other++) {
                clash |= ranges_overlap(*one, *other);
            }
        }
        if (clash) {
            return haw_fail(error, HAW_INVALID,
                            "\"ipv%d.ovn.ranges\" must be used in conjunction with "
                            "non-overlapping \"ipv%d.dhcp.ranges\" when DHCPv%d is enabled",
                            family, family, family);
        }
    }
    return true;
}

static bool
check_bridge(const char *name, json_t *config, GError **error)
{
    const char *driver = keys_get(config, "bridge.driver");
    const char *mode = keys_get(config, "bridge.mode");
    const char *key;
    json_t *value;
    if (driver != NULL && strcmp(driver, "openvswitch") == 0) {
        return haw_fail(error, HAW_UNSUPPORTED, "Open vSwitch isn't installed on this system");
    }
    if (mode != NULL && strcmp(mode, "fan") == 0) {
        return haw_fail(error, HAW_UNSUPPORTED, "This kernel has no FAN support");
    }
    json_object_foreach (config, key, value) {
        if (g_str_has_prefix(key, "fan.") && *json_string_value(value) != '\0') {
            return haw_fail(error, HAW_INVALID,
                            "FAN configuration may only be set when in 'fan' mode");
        }
    }
    return check_tunnels(name, config, error) &&
           check_ranges(name, config, 4, "dhcp.ranges", "address", error) &&
           check_ranges(name, config, 6, "dhcp.ranges", "address", error) &&
           check_uplink_ranges(name, config, "address", error) &&
           check_beside_dhcp(name, config, error);
}

bool
netcheck_config(const char *name, const char *type, json_t *config, GError **error)
{
    const Key *table = keys_of_network(type);
    const char *key;
    json_t *value;
    json_object_foreach (config, key, value) {
        if (!check_key(name, table, key, value, error)) {
            return false;
        }
    }
    if (strcmp(type, "bridge") == 0) {
        return check_bridge(name, config, error);
    }
    if (strcmp(type, "ovn") == 0) {
        return ovn_check_config(name, config, error);
    }
    if (strcmp(type, "physical") == 0 && !check_uplink_ranges(name, config, "gateway", error)) {
        return false;
    }
    return keys_get(config, "parent") != NULL ||
           haw_fail(error, HAW_INVALID,
                    "Invalid value for network \"%s\" option \"parent\": Required value", name);
}

bool
netcheck_name(const char *name, const char *type, GError **error)
{
    if (*name == '\0') {
        return haw_fail(error, HAW_INVALID, "No name provided");
    }
    for (const char *at = name; *at != '\0'; at++) {
        if (strchr("/?&+:", *at) != NULL || g_ascii_iscntrl(*at)) {
            return haw_fail(error, HAW_INVALID,
                            "Invalid network name \"%s\": Cannot contain \"%c\"", name, *at);
        }
    }
    if (strcmp(type, "ovn") == 0) {
        return grammar_url_segment(name, error) ||
               haw_push(error, "Invalid network name \"%s\"", name);
    }
    return grammar_ifname(name, error) || haw_push(error, "Invalid network name \"%s\"", name);
}

void
netcheck_drop_empty(json_t *config)
{
    const char *key;
    json_t *value;
    void *next;
    json_object_foreach_safe (config, next, key, value) {
        if (json_is_string(value) && *json_string_value(value) == '\0') {
            json_object_del(config, key);
        }
    }
}

static void
set_default(json_t *config, const char *key, const char *value)
{
    if (keys_get(config, key) == NULL) {
        json_object_set_new(config, key, json_string(value));
    }
}

static bool
is_auto(json_t *config, const char *key)
{
    return g_strcmp0(keys_get(config, key), "auto") == 0;
}

void
netcheck_fill(const char *type, json_t *config)
{
    if (strcmp(type, "bridge") != 0) {
        return;
    }
    set_default(config, "ipv4.address", "auto");
    if (is_auto(config, "ipv4.address")) {
        set_default(config, "ipv4.nat", "true");
    }
    g_autofree char *off = netjob_sysctl_get("net/ipv6/conf/default/disable_ipv6");
    set_default(config, "ipv6.address", g_strcmp0(off, "0") == 0 ? "auto" : "none");
    if (is_auto(config, "ipv6.address")) {
        set_default(config, "ipv6.nat", "true");
    }
}

bool
netcheck_resolve_auto(json_t *config, GArray *also, GError **error)
{
    static const struct {
        const char *key;
        int family;
    } addresses[] = {{"ipv4.address", AF_INET}, {"ipv6.address", AF_INET6}};
    for (size_t i = 0; i < G_N_ELEMENTS(addresses); i++) {
        if (!is_auto(config, addresses[i].key)) {
            continue;
        }
        g_autoptr(GArray) taken = netstate_taken(error);
        if (taken == NULL) {
            return false;
        }
        if (also != NULL) {
            g_array_append_vals(taken, also->data, also->len);
        }
        g_autofree char *address = subnet_random(addresses[i].family, taken);
        if (address == NULL) {
            return haw_fail(error, HAW_FAILED,
                            "Failed to automatically find an unused IPv%d subnet, manual "
                            "configuration required",
                            addresses[i].family == AF_INET ? 4 : 6);
        }
        json_object_set_new(config, addresses[i].key, json_string(address));
    }
    return true;
}
