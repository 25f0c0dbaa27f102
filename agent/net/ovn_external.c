/* External addresses: subnets without NAT, NAT addresses, external routes of NICs, listen addresses.
 * E1  Each lies in the uplink's routes and, in a restricted project, in what the project may use.
 * E2  Nobody else on the uplink uses it, unless the uplink is routed and says that they may overlap.
 * Called by ovn_check.c and, through ovn_net_check_external(), by forwards and load balancers. */
#include "agent/net/ovn_external.h"

#include <string.h>

#include "agent/auth/project.h"
#include "agent/net/ovn_net.h"
#include "agent/net/subnet.h"
#include "agent/state/balancers.h"
#include "agent/state/forwards.h"
#include "agent/state/ovn_ports.h"
#include "proto/grammar.h"
#include "proto/keys.h"

static bool
inside(const char *cidr, const char *whole)
{
    struct subnet inner;
    struct subnet outer;
    if (!subnet_parse(cidr, &inner) || !subnet_parse(whole, &outer)) {
        return false;
    }
    g_autofree char *first = subnet_address(&inner);
    return inner.family == outer.family && inner.prefix >= outer.prefix &&
           subnet_contains(&outer, first);
}

static bool
inside_any(const char *cidr, char **list)
{
    for (char **one = list; *one != NULL; one++) {
        if (inside(cidr, *one)) {
            return true;
        }
    }
    return false;
}

/* E1 */
static bool
check_project(NetTable *table, const struct ovn_external *use, GError **error)
{
    json_t *config = project_config(netobj_agent(table), use->project, NULL);
    g_auto(GStrv) list = grammar_list(keys_get(config, "restricted.networks.subnets"));
    bool allowed = !keys_get_bool(config, "restricted", false);
    json_decref(config);
    for (char **one = list; !allowed && *one != NULL; one++) {
        size_t length = strlen(use->uplink->name);
        allowed = strncmp(*one, use->uplink->name, length) == 0 && (*one)[length] == ':' &&
                  inside(use->cidr, *one + length + 1);
    }
    return allowed || haw_fail(error, HAW_INVALID,
                               "Project \"%s\" doesn't contain \"%s\" in its restricted uplink "
                               "subnets",
                               use->project, use->cidr);
}

/* E2 */
static bool
clashes(const struct ovn_external *use, const char *theirs, const char *what, const char *who,
        GError **error)
{
    struct subnet one;
    struct subnet other;
    if (theirs == NULL || !subnet_parse(use->cidr, &one) || !subnet_parse(theirs, &other) ||
        one.family != other.family || !subnet_overlap(&one, &other)) {
        return false;
    }
    haw_fail(error, HAW_EXISTS, "%s \"%s\" of network \"%s\" overlaps with %s \"%s\" of %s",
             use->what, use->cidr, use->network, what, theirs, who);
    return true;
}

static bool
check_network(const struct ovn_external *use, const Network *net, GError **error)
{
    g_autofree char *who =
        g_strdup_printf("network \"%s\" in project \"%s\"", net->row->name, net->row->project);
    bool own = net->row->id == use->network_id;
    for (int family = 4; !own && family <= 6; family += 2) {
        g_autofree char *nat = g_strdup_printf("ipv%d.nat", family);
        g_autofree char *address = g_strdup_printf("ipv%d.nat.address", family);
        g_autofree char *router = g_strdup_printf("volatile.network.ipv%d.address", family);
        struct subnet net_subnet;
        if (!netobj_bool(net, nat, false) &&
            subnet_parse(netobj_address(net, family), &net_subnet)) {
            g_autofree char *subnet = subnet_network(&net_subnet);
            if (clashes(use, subnet, "subnet", who, error)) {
                return false;
            }
        }
        if (clashes(use, netobj_get(net, address), "NAT address", who, error) ||
            clashes(use, netobj_get(net, router), "router address", who, error)) {
            return false;
        }
    }
    return true;
}

static bool
on_uplink(NetTable *table, const struct ovn_external *use, gint64 network_id)
{
    g_autoptr(GPtrArray) list = netobj_list(table);
    for (guint i = 0; i < list->len; i++) {
        const Network *net = g_ptr_array_index(list, i);
        if (net->row->id == network_id) {
            return netobj_is(net, "ovn") &&
                   g_strcmp0(netobj_get(net, "network"), use->uplink->name) == 0;
        }
    }
    return false;
}

static bool
check_nics(NetTable *table, const struct ovn_external *use, GError **error)
{
    g_autoptr(GPtrArray) ports = ovn_ports_list(netobj_agent(table)->db, 0, error);
    for (guint i = 0; ports != NULL && i < ports->len; i++) {
        const OvnPort *port = g_ptr_array_index(ports, i);
        g_autofree char *owner =
            g_strdup_printf("%" G_GINT64_FORMAT "/%s", port->instance_id, port->device);
        g_autofree char *who = g_strdup_printf("device \"%s\" of instance \"%s\" in project \"%s\"",
                                               port->device, port->inst, port->project);
        if (g_strcmp0(owner, use->own_nic) == 0 || !on_uplink(table, use, port->network_id)) {
            continue;
        }
        for (int family = 4; family <= 6; family += 2) {
            g_autofree char *key = g_strdup_printf("ipv%d.routes.external", family);
            g_auto(GStrv) routes = grammar_list(keys_get(port->config, key));
            for (char **route = routes; *route != NULL; route++) {
                if (clashes(use, *route, "external route", who, error)) {
                    return false;
                }
            }
        }
    }
    return ports != NULL;
}

/* One listen address of a network; its kind is "forward" or "load balancer". */
static bool
check_listener(NetTable *table, const struct ovn_external *use, gint64 network_id,
               const char *listen, const char *kind, GError **error)
{
    if (!on_uplink(table, use, network_id) ||
        (network_id == use->network_id && use->own_listen != NULL &&
         subnet_same_address(listen, use->own_listen))) {
        return true;
    }
    g_autofree char *who = g_strdup_printf("a %s of network %" G_GINT64_FORMAT, kind, network_id);
    return !clashes(use, listen, "listen address", who, error);
}

static bool
check_listeners(NetTable *table, const struct ovn_external *use, GError **error)
{
    Db *db = netobj_agent(table)->db;
    g_autoptr(GPtrArray) forwards = forwardrow_list(db, 0, error);
    g_autoptr(GPtrArray) balancers = forwards != NULL ? balancerrow_list(db, 0, error) : NULL;
    bool ok = balancers != NULL;
    for (guint i = 0; ok && i < forwards->len; i++) {
        const ForwardRow *row = g_ptr_array_index(forwards, i);
        ok = check_listener(table, use, row->network_id, row->listen, "forward", error);
    }
    for (guint i = 0; ok && i < balancers->len; i++) {
        const BalancerRow *row = g_ptr_array_index(balancers, i);
        ok = check_listener(table, use, row->network_id, row->listen, "load balancer", error);
    }
    return ok;
}

FiberHold
ovn_external_hold(void)
{
    static FiberLock lock = FIBER_LOCK_INIT;
    return fiber_hold(&lock);
}

bool
ovn_external_check(NetTable *table, const struct ovn_external *use, GError **error)
{
    int family = strchr(use->cidr, ':') != NULL ? 1 : 0;
    if (!inside_any(use->cidr, use->uplink->routes[family])) { /* E1 */
        return haw_fail(error, HAW_INVALID,
                        "%s \"%s\" of network \"%s\": uplink network \"%s\" doesn't contain it in "
                        "its \"ipv%d.routes\"",
                        use->what, use->cidr, use->network, use->uplink->name, family == 0 ? 4 : 6);
    }
    if (!check_project(table, use, error)) {
        return false;
    }
    if (!use->uplink->l2proxy && use->uplink->anycast[family]) { /* E2 */
        return true;
    }
    g_autoptr(GPtrArray) list = netobj_list(table);
    for (guint i = 0; i < list->len; i++) {
        const Network *net = g_ptr_array_index(list, i);
        if (netobj_is(net, "ovn") &&
            g_strcmp0(netobj_get(net, "network"), use->uplink->name) == 0 &&
            !check_network(use, net, error)) {
            return false;
        }
    }
    return check_nics(table, use, error) && check_listeners(table, use, error);
}

bool
ovn_net_check_external(Network *net, const char *what, const char *cidr, const char *except,
                       GError **error)
{
    const char *name = netobj_get(net, "network");
    g_autoptr(Network) above =
        name != NULL && strcmp(name, "none") != 0 ? netobj_find(net->table, "default", name) : NULL;
    if (above == NULL) {
        return haw_fail(error, HAW_INVALID,
                        "%s \"%s\": network \"%s\" has no uplink that could lead to it", what, cidr,
                        net->row->name);
    }
    g_autoptr(OvnUplink) uplink =
        ovn_uplink_of(above->row->name, above->row->type, above->row->config);
    struct ovn_external use = {.uplink = uplink,
                               .project = net->row->project,
                               .network = net->row->name,
                               .network_id = net->row->id,
                               .what = what,
                               .cidr = cidr,
                               .own_listen = except};
    return ovn_external_check(net->table, &use, error);
}
