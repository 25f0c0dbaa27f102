/* Forwards and load balancers of ovn networks. OVN's load balancer is both: a forward has one target a
 * port, and its default target is a virtual address without a port, which takes what the ports left.
 * L1  Each listen address has at most two rows: one with TCP ports and the default target, one with UDP
 *     ports. A row without any virtual address is not there.
 * L2  The rows hang on the router, for what comes from the uplink and from peers, and on the internal
 *     switch, for what instances of the network send to the listen address.
 * Called by ovn_rows.c, ovn_input.c. */
#include "agent/net/ovn_lb.h"

#include <string.h>

#include "agent/net/forward.h"
#include "agent/net/ovn_input.h"
#include "agent/net/ovn_stored.h"
#include "agent/net/subnet.h"
#include "agent/state/balancers.h"
#include "agent/state/forwards.h"
#include "proto/keys.h"

static OvnBalancer *
balancer_new(const char *listen)
{
    OvnBalancer *balancer = g_new0(OvnBalancer, 1);
    balancer->listen = g_strdup(listen);
    balancer->tcp = json_object();
    balancer->udp = json_object();
    return balancer;
}

void
ovn_lb_free(OvnBalancer *balancer)
{
    if (balancer != NULL) {
        g_free(balancer->listen);
        json_decref(balancer->tcp);
        json_decref(balancer->udp);
        g_free(balancer);
    }
}

static char *
with_port(const char *address, guint port)
{
    return g_strdup_printf(strchr(address, ':') != NULL ? "[%s]:%u" : "%s:%u", address, port);
}

static json_t *
map_of(OvnBalancer *balancer, json_t *spec)
{
    return g_strcmp0(keys_get(spec, "protocol"), "udp") == 0 ? balancer->udp : balancer->tcp;
}

/* One more target of a virtual address. */
static void
add_target(json_t *map, const char *listen, guint port, const char *target, guint target_port)
{
    g_autofree char *vip = with_port(listen, port);
    g_autofree char *goal = with_port(target, target_port);
    const char *before = json_string_value(json_object_get(map, vip));
    json_object_set_new(map, vip,
                        before != NULL ? json_sprintf("%s,%s", before, goal) : json_string(goal));
}

/* Every listen port to its target port: the same, the only one, or the one at the same place. */
static void
add_targets(json_t *map, const char *listen, const char *listen_ports, const char *target,
            const char *target_ports)
{
    g_autoptr(GArray) from = forward_ports(listen_ports, NULL);
    g_autoptr(GArray) to = forward_ports(target_ports, NULL);
    g_autofree char *address = subnet_canonical(target);
    for (guint i = 0; from != NULL && to != NULL && address != NULL && i < from->len; i++) {
        guint port = g_array_index(from, guint16, i);
        guint goal = to->len == 0   ? port
                     : to->len == 1 ? g_array_index(to, guint16, 0)
                     : i < to->len  ? g_array_index(to, guint16, i)
                                    : port;
        add_target(map, listen, port, address, goal);
    }
}

OvnBalancer *
ovn_lb_of_forward(const char *listen, json_t *config, json_t *ports)
{
    OvnBalancer *balancer = balancer_new(listen);
    const char *fallback = keys_get(config, "target_address");
    g_autofree char *target = fallback != NULL ? subnet_canonical(fallback) : NULL;
    json_t *spec;
    size_t i;
    json_array_foreach (ports, i, spec) {
        add_targets(map_of(balancer, spec), listen, keys_get(spec, "listen_port"),
                    keys_get(spec, "target_address"), keys_get(spec, "target_port"));
    }
    if (target != NULL) {
        json_object_set_new(balancer->tcp, listen, json_string(target));
    }
    return balancer;
}

static json_t *
backend_named(json_t *backends, const char *name)
{
    json_t *backend;
    size_t i;
    json_array_foreach (backends, i, backend) {
        if (g_strcmp0(json_string_value(json_object_get(backend, "name")), name) == 0) {
            return backend;
        }
    }
    return NULL;
}

OvnBalancer *
ovn_lb_of_balancer(const char *listen, json_t *backends, json_t *ports)
{
    OvnBalancer *balancer = balancer_new(listen);
    json_t *spec;
    json_t *name;
    size_t i;
    size_t k;
    json_array_foreach (ports, i, spec) {
        json_array_foreach (json_object_get(spec, "target_backend"), k, name) {
            json_t *backend = backend_named(backends, json_string_value(name));
            if (backend != NULL) {
                add_targets(map_of(balancer, spec), listen, keys_get(spec, "listen_port"),
                            keys_get(backend, "target_address"), keys_get(backend, "target_port"));
            }
        }
    }
    return balancer;
}

/* ---- rows ---- */

static void
put_row(OvnNetRows *rows, const char *listen, const char *protocol, json_t *vips)
{
    if (json_object_size(vips) == 0) { /* L1 */
        return;
    }
    g_autofree char *name =
        g_strdup_printf("lxd-net%" G_GINT64_FORMAT "-lb-%s-%s", rows->in->id, listen, protocol);
    json_t *columns =
        json_pack("{s:s, s:s, s:O}", "name", name, "protocol", protocol, "vips", vips);
    ovn_rows_add(rows, "Load_Balancer", name, columns, OVN_IN_ROUTER_BALANCERS); /* L2 */
    ovn_rows_into(rows, "Load_Balancer", name, OVN_IN_SWITCH_BALANCERS);
}

void
ovn_lb_rows(OvnNetRows *rows)
{
    for (guint i = 0; rows->in->balancers != NULL && i < rows->in->balancers->len; i++) {
        const OvnBalancer *balancer = g_ptr_array_index(rows->in->balancers, i);
        put_row(rows, balancer->listen, "tcp", balancer->tcp);
        put_row(rows, balancer->listen, "udp", balancer->udp);
    }
}

bool
ovn_lb_gather(Network *net, OvnNetInput *in, GError **error)
{
    Agent *agent = netobj_agent(net->table);
    g_autoptr(GPtrArray) forwards = ovn_stored(agent, OVN_STORED_FORWARDS, net->row->id, error);
    g_autoptr(GPtrArray) balancers =
        forwards != NULL ? ovn_stored(agent, OVN_STORED_BALANCERS, net->row->id, error) : NULL;
    if (balancers == NULL) {
        return false;
    }
    in->balancers = g_ptr_array_new_with_free_func((GDestroyNotify) (void (*)(void)) ovn_lb_free);
    for (guint i = 0; i < forwards->len; i++) {
        const ForwardRow *row = g_ptr_array_index(forwards, i);
        g_ptr_array_add(in->balancers, ovn_lb_of_forward(row->listen, row->config, row->ports));
    }
    for (guint i = 0; i < balancers->len; i++) {
        const BalancerRow *row = g_ptr_array_index(balancers, i);
        g_ptr_array_add(in->balancers, ovn_lb_of_balancer(row->listen, row->backends, row->ports));
    }
    return true;
}
