/* Peerings of ovn networks: the routers of both know each other's subnets.
 * P1  Each side has a port that leads to the other's, and a route to each prefix behind it; so a packet
 *     from network to network takes both routers and nothing else: it is not translated, for that is
 *     done where a router meets its uplink.
 * P2  What comes from the uplink with the address of a peer is forged, and dropped.
 * P3  No two networks that one router reaches may overlap.
 * Each network has the rows of its own side; whoever changes one applies both (ovn_peer_dependents).
 * Called by ovn_rows.c, ovn_input.c, ovn_net.c, peer_api.c. */
#include "agent/net/ovn_peer.h"

#include <string.h>

#include "agent/net/ovn_input.h"
#include "agent/net/ovn_net.h"
#include "agent/net/ovn_stored.h"
#include "agent/net/subnet.h"
#include "agent/ovn/plan.h"
#include "agent/state/peers.h"
#include "proto/keys.h"

OvnPeer *
ovn_peer_new(gint64 id)
{
    OvnPeer *peer = g_new0(OvnPeer, 1);
    peer->id = id;
    return peer;
}

void
ovn_peer_free(OvnPeer *peer)
{
    if (peer != NULL) {
        for (int family = 0; family < 2; family++) {
            g_free(peer->router[family]);
            g_strfreev(peer->prefixes[family]);
        }
        g_free(peer);
    }
}

/* ---- rows ---- */

static char *
port_name(gint64 net, gint64 peer)
{
    return g_strdup_printf("lxd-net%" G_GINT64_FORMAT "-lr-lrp-peer-net%" G_GINT64_FORMAT, net,
                           peer);
}

/* P1 */
static void
put_port(OvnNetRows *rows, const OvnPeer *peer, const char *port)
{
    static const int whole[2] = {32, 128};
    json_t *networks = json_array();
    for (int family = 0; family < 2; family++) {
        const char *router = rows->in->family[family].router;
        if (router != NULL) {
            json_array_append_new(networks, json_sprintf("%s/%d", router, whole[family]));
        }
    }
    g_autofree char *theirs = port_name(peer->id, rows->in->id);
    json_t *columns = json_pack("{s:s, s:s, s:o, s:s}", "name", port, "mac", rows->in->mac,
                                "networks", networks, "peer", theirs);
    ovn_rows_add(rows, "Logical_Router_Port", port, columns, OVN_IN_ROUTER_PORTS);
}

static void
put_routes(OvnNetRows *rows, const OvnPeer *peer, const char *port)
{
    for (int family = 0; family < 2; family++) {
        bool both = rows->in->family[family].router != NULL && peer->router[family] != NULL;
        for (char **prefix = both ? peer->prefixes[family] : NULL;
             prefix != NULL && *prefix != NULL; prefix++) {
            ovn_rows_route(rows, *prefix, peer->router[family], port);
        }
    }
}

/* P2 */
static void
put_policy(OvnNetRows *rows, const OvnPeer *peer, const char *port)
{
    if (rows->in->family[0].ext == NULL && rows->in->family[1].ext == NULL) {
        return;
    }
    g_autofree char *ext = ovn_rows_name(rows->in->id, OVN_ROWS_LRP_EXT);
    g_autofree char *router = ovn_rows_name(rows->in->id, OVN_ROWS_ROUTER);
    g_autofree char *set4 = ovn_rows_set(peer->id, 4);
    g_autofree char *set6 = ovn_rows_set(peer->id, 6);
    g_autofree char *match = g_strdup_printf("(inport == \"%s\" && ip6 && ip6.src == $%s) || "
                                             "(inport == \"%s\" && ip4 && ip4.src == $%s) // %s",
                                             ext, set6, ext, set4, port);
    g_autofree char *key = g_strdup_printf("%s/policy/peer-net%" G_GINT64_FORMAT, router, peer->id);
    json_t *columns =
        json_pack("{s:i, s:s, s:s}", "priority", 500, "action", "drop", "match", match);
    ovn_rows_add(rows, "Logical_Router_Policy", key, columns, OVN_IN_ROUTER_POLICIES);
}

void
ovn_peer_rows(OvnNetRows *rows)
{
    for (guint i = 0; rows->in->peers != NULL && i < rows->in->peers->len; i++) {
        const OvnPeer *peer = g_ptr_array_index(rows->in->peers, i);
        g_autofree char *port = port_name(rows->in->id, peer->id);
        put_port(rows, peer, port);
        put_routes(rows, peer, port);
        put_policy(rows, peer, port);
    }
}

/* ---- inputs ---- */

/* Prefixes without those that another one covers. */
static char **
outermost(char **prefixes /* stolen */)
{
    g_autoptr(GPtrArray) kept = g_ptr_array_new();
    guint count = g_strv_length(prefixes);
    for (guint i = 0; i < count; i++) {
        struct subnet mine;
        bool covered = !subnet_parse(prefixes[i], &mine);
        for (guint k = 0; k < count && !covered; k++) {
            struct subnet other;
            covered = k != i && subnet_parse(prefixes[k], &other) &&
                      subnet_overlap(&mine, &other) &&
                      (other.prefix < mine.prefix || (other.prefix == mine.prefix && k < i));
        }
        if (covered) {
            g_free(prefixes[i]);
        } else {
            g_ptr_array_add(kept, prefixes[i]);
        }
    }
    g_free(prefixes);
    g_ptr_array_add(kept, NULL);
    return (char **) g_ptr_array_free(g_steal_pointer(&kept), FALSE);
}

static OvnPeer *
peer_of(Network *other, GError **error)
{
    g_autoptr(OvnNetInput) in = ovn_input_routes(other, error);
    if (in == NULL) {
        return NULL;
    }
    OvnPeer *peer = ovn_peer_new(in->id);
    for (int family = 0; family < 2; family++) {
        peer->router[family] = g_strdup(in->family[family].router);
        peer->prefixes[family] = outermost(ovn_rows_prefixes(in, family));
    }
    return peer;
}

/* The other networks of peerings that hold, referenced; NULL on failure. */
static GPtrArray *
joined(Network *net, GError **error)
{
    g_autoptr(GPtrArray) rows =
        ovn_stored(netobj_agent(net->table), OVN_STORED_PEERS, net->row->id, error);
    if (rows == NULL) {
        return NULL;
    }
    GPtrArray *list =
        g_ptr_array_new_with_free_func((GDestroyNotify) (void (*)(void)) netobj_unref);
    for (guint i = 0; i < rows->len; i++) {
        const PeerRow *row = g_ptr_array_index(rows, i);
        Network *other = strcmp(row->status, PEERROW_CREATED) == 0
                             ? ovn_input_network(net->table, row->target_id)
                             : NULL;
        if (other != NULL) {
            g_ptr_array_add(list, other);
        }
    }
    return list;
}

bool
ovn_peer_gather(Network *net, OvnNetInput *in, GError **error)
{
    g_autoptr(GPtrArray) others = joined(net, error);
    if (others == NULL) {
        return false;
    }
    in->peers = g_ptr_array_new_with_free_func((GDestroyNotify) (void (*)(void)) ovn_peer_free);
    for (guint i = 0; i < others->len; i++) {
        Network *other = g_ptr_array_index(others, i);
        OvnPeer *peer = peer_of(other, error);
        if (peer == NULL) {
            return haw_push(error, "Failed looking at peer network \"%s\"", other->row->name);
        }
        g_ptr_array_add(in->peers, peer);
    }
    return true;
}

GPtrArray *
ovn_peer_dependents(Network *net)
{
    GPtrArray *list = joined(net, NULL);
    return list != NULL
               ? list
               : g_ptr_array_new_with_free_func((GDestroyNotify) (void (*)(void)) netobj_unref);
}

void
ovn_peer_used_by(Network *net, json_t *list)
{
    g_autoptr(GPtrArray) others = ovn_peer_dependents(net);
    for (guint i = 0; i < others->len; i++) {
        const NetRow *row = ((Network *) g_ptr_array_index(others, i))->row;
        bool plain = strcmp(row->project, "default") == 0;
        json_array_append_new(
            list, plain ? json_sprintf("/1.0/networks/%s", row->name)
                        : json_sprintf("/1.0/networks/%s?project=%s", row->name, row->project));
    }
}

/* ---- checks ---- */

static bool
check_pair(const NetRow *a, json_t *a_config, const NetRow *b, json_t *b_config, GError **error)
{
    static const char *const keys[] = {"ipv4.address", "ipv6.address"};
    for (size_t i = 0; i < G_N_ELEMENTS(keys); i++) {
        struct subnet one;
        struct subnet other;
        const char *mine = keys_get(a_config, keys[i]);
        const char *theirs = keys_get(b_config, keys[i]);
        if (mine != NULL && theirs != NULL && subnet_parse(mine, &one) &&
            subnet_parse(theirs, &other) && subnet_overlap(&one, &other)) {
            g_autofree char *one_net = subnet_network(&one);
            g_autofree char *other_net = subnet_network(&other);
            return haw_fail(
                error, HAW_INVALID,
                "Subnet \"%s\" of network \"%s\" in project \"%s\" overlaps with subnet "
                "\"%s\" of network \"%s\" in project \"%s\"",
                one_net, a->name, a->project, other_net, b->name, b->project);
        }
    }
    return true;
}

/* One more network that the router of 'via' would reach beside the others. */
static bool
check_beside(Network *net, json_t *config, GPtrArray *others, Network *via, GError **error)
{
    for (guint i = 0; i < others->len; i++) {
        Network *other = g_ptr_array_index(others, i);
        if (other != net && !check_pair(net->row, config, other->row, other->row->config, error)) {
            return haw_push(error, "Both would be peers of network \"%s\"", via->row->name);
        }
    }
    return true;
}

/* P3 */
bool
ovn_peer_check(Network *net, json_t *config, Network *extra, GError **error)
{
    g_autoptr(GPtrArray) direct = joined(net, error);
    if (direct == NULL ||
        (extra != NULL && !check_beside(extra, extra->row->config, direct, net, error))) {
        return false;
    }
    if (extra != NULL) {
        g_ptr_array_add(direct, netobj_ref(extra));
    }
    for (guint i = 0; i < direct->len; i++) {
        Network *other = g_ptr_array_index(direct, i);
        if (!check_pair(net->row, config, other->row, other->row->config, error)) {
            return false;
        }
        g_autoptr(GPtrArray) beyond = joined(other, error);
        if (beyond == NULL || !check_beside(net, config, beyond, other, error)) {
            return false;
        }
    }
    return true;
}

static bool
check_route(const char *route, const NetRow *other, GError **error)
{
    static const char *const keys[] = {"ipv4.address", "ipv6.address"};
    struct subnet mine;
    for (size_t i = 0; i < G_N_ELEMENTS(keys) && subnet_parse(route, &mine); i++) {
        struct subnet theirs;
        const char *subnet = keys_get(other->config, keys[i]);
        if (subnet != NULL && subnet_parse(subnet, &theirs) && subnet_overlap(&mine, &theirs)) {
            return haw_fail(error, HAW_INVALID,
                            "Route \"%s\" overlaps with subnet \"%s\" of peer network \"%s\" in "
                            "project \"%s\"",
                            route, subnet, other->name, other->project);
        }
    }
    return true;
}

bool
ovn_peer_check_routes(Network *net, char *const *routes, GError **error)
{
    g_autoptr(GPtrArray) others = routes[0] != NULL ? joined(net, error) : NULL;
    if (routes[0] != NULL && others == NULL) {
        return false;
    }
    for (; *routes != NULL; routes++) {
        for (guint i = 0; i < others->len; i++) {
            if (!check_route(*routes, ((Network *) g_ptr_array_index(others, i))->row, error)) {
                return false;
            }
        }
    }
    return true;
}
