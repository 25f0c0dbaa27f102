/* What an uplink offers, read from its config, and the choice of a router's address on it.
 * U1  A bridge's own address is the gateway, a physical network names it.
 * Called by ovn_input.c, ovn_net.c and ovn_check.c. */
#include "agent/net/ovn_uplink.h"

#include <string.h>

#include "agent/net/subnet.h"
#include "proto/grammar.h"
#include "proto/keys.h"

enum { PICK_TRIES = 65536 };

static const char *
key(json_t *config, int family, const char *tail)
{
    g_autofree char *name = g_strdup_printf("ipv%d.%s", family == 0 ? 4 : 6, tail);
    return keys_get(config, name);
}

static char **
servers(json_t *config, int family, const char *gateway)
{
    g_auto(GStrv) all = grammar_list(keys_get(config, "dns.nameservers"));
    g_autoptr(GPtrArray) list = g_ptr_array_new();
    for (char **one = all; *one != NULL; one++) {
        if ((strchr(*one, ':') != NULL) == (family == 1)) {
            g_ptr_array_add(list, g_strdup(*one));
        }
    }
    if (*all == NULL && gateway != NULL) {
        g_ptr_array_add(list, g_strdup(gateway));
    }
    g_ptr_array_add(list, NULL);
    return (char **) g_ptr_array_free(g_steal_pointer(&list), FALSE);
}

OvnUplink *
ovn_uplink_of(const char *name, const char *type, json_t *config)
{
    OvnUplink *uplink = g_new0(OvnUplink, 1);
    bool bridge = strcmp(type, "bridge") == 0;
    const char *mode = keys_get(config, "ovn.ingress_mode");
    uplink->name = g_strdup(name);
    uplink->type = g_strdup(type);
    uplink->l2proxy = mode == NULL || strcmp(mode, "l2proxy") == 0;
    for (int i = 0; i < 2; i++) {
        struct subnet parsed;
        const char *cidr = key(config, i, bridge ? "address" : "gateway"); /* U1 */
        if (cidr != NULL && strchr(cidr, '/') != NULL && subnet_parse(cidr, &parsed)) {
            uplink->cidr[i] = g_strdup(cidr);
            uplink->gateway[i] = subnet_address(&parsed);
        }
        uplink->dns[i] = servers(config, i, uplink->gateway[i]);
        uplink->ranges[i] = grammar_list(key(config, i, "ovn.ranges"));
        uplink->routes[i] = grammar_list(key(config, i, "routes"));
        uplink->anycast[i] = grammar_parse_bool(key(config, i, "routes.anycast"), false);
    }
    return uplink;
}

void
ovn_uplink_free(OvnUplink *uplink)
{
    if (uplink == NULL) {
        return;
    }
    g_free(uplink->name);
    g_free(uplink->type);
    for (int i = 0; i < 2; i++) {
        g_free(uplink->gateway[i]);
        g_free(uplink->cidr[i]);
        g_strfreev(uplink->dns[i]);
        g_strfreev(uplink->ranges[i]);
        g_strfreev(uplink->routes[i]);
    }
    g_free(uplink);
}

bool
ovn_uplink_check(const OvnUplink *uplink, GError **error)
{
    if (strcmp(uplink->type, "bridge") != 0 && strcmp(uplink->type, "physical") != 0) {
        return haw_fail(error, HAW_INVALID,
                        "Network \"%s\" of type \"%s\" cannot be an uplink (needs \"bridge\" or "
                        "\"physical\")",
                        uplink->name, uplink->type);
    }
    if (uplink->gateway[0] == NULL && uplink->gateway[1] == NULL) {
        return haw_fail(error, HAW_INVALID,
                        "Uplink network \"%s\" has no gateway: set its \"ipv4.%s\" or \"ipv6.%s\"",
                        uplink->name, strcmp(uplink->type, "bridge") == 0 ? "address" : "gateway",
                        strcmp(uplink->type, "bridge") == 0 ? "address" : "gateway");
    }
    if (uplink->gateway[0] != NULL && uplink->ranges[0][0] == NULL) {
        return haw_fail(error, HAW_INVALID,
                        "Missing required \"ipv4.ovn.ranges\" config key on uplink network \"%s\"",
                        uplink->name);
    }
    return true;
}

char *
ovn_uplink_with_prefix(const OvnUplink *uplink, int family, const char *address)
{
    struct subnet net;
    return subnet_parse(uplink->cidr[family], &net) ? g_strdup_printf("%s/%d", address, net.prefix)
                                                    : NULL;
}

/* The first free one of "first-last"; NULL when there is none. */
static char *
pick_in(const char *range, GHashTable *taken)
{
    struct subnet at;
    g_auto(GStrv) ends = g_strsplit(range, "-", 2);
    if (!subnet_parse(g_strstrip(ends[0]), &at)) {
        return NULL;
    }
    at.prefix = 0;
    for (int i = 0; i < PICK_TRIES; i++, subnet_step(&at)) {
        g_autofree char *address = subnet_address(&at);
        if (ends[1] == NULL ? i > 0 : !subnet_range_contains(range, address)) {
            return NULL;
        }
        if (!g_hash_table_contains(taken, address)) {
            return g_steal_pointer(&address);
        }
    }
    return NULL;
}

char *
ovn_uplink_pick(const OvnUplink *uplink, int family, const char *mac, GHashTable *taken,
                GError **error)
{
    struct subnet net;
    if (!subnet_parse(uplink->cidr[family], &net)) {
        return NULL;
    }
    for (char **range = uplink->ranges[family]; *range != NULL; range++) {
        g_autofree char *address = pick_in(*range, taken);
        if (address != NULL) {
            return ovn_uplink_with_prefix(uplink, family, address);
        }
    }
    if (family == 1 && uplink->ranges[1][0] == NULL) {
        g_autofree char *own = subnet_eui64(&net, mac);
        if (own != NULL && !g_hash_table_contains(taken, own)) {
            return ovn_uplink_with_prefix(uplink, family, own);
        }
    }
    haw_fail(error, HAW_LIMIT,
             "No address is left for another router in \"ipv%d.ovn.ranges\" of uplink network "
             "\"%s\"",
             family == 0 ? 4 : 6, uplink->name);
    return NULL;
}
