/* The wiring of uplinks on this host (lxd-api network-options 5.6).
 * W1  Each step looks whether it is done, so a crash at any line is repaired by the next start.
 * W2  An interface that leads elsewhere, with addresses of its own, is never taken.
 * W3  With a userspace datapath nothing may leave the host's stack towards OVS without its checksum.
 * Called by ovn_net.c under the child network's lock. */
#include "agent/net/ovn_uplink.h"

#include <linux/rtnetlink.h>
#include <string.h>

#include "agent/net/netjob.h"
#include "agent/net/ovs_local.h"
#include "agent/net/parent.h"
#include "agent/ovn/ovn.h"
#include "base/crash.h"
#include "hw/inet.h"
#include "hw/link.h"
#include "hw/offload.h"

struct wire {
    char *ovs_bridge, *near, *far; /* owned: "lxdovn4", "lxdovn4a", "lxdovn4b" */
    char *parent;                  /* owned: the bridge or interface behind the uplink */
    bool userspace;
    bool native; /* result: the parent is a Linux bridge, so that a veth pair leads to it */
};

static void
wire_done(struct wire *wire)
{
    g_free(wire->ovs_bridge);
    g_free(wire->near);
    g_free(wire->far);
    g_free(wire->parent);
}

static void
wire_init(struct wire *wire, Network *uplink)
{
    const char *datapath = ovn_datapath_type(netobj_agent(uplink->table));
    wire->ovs_bridge = g_strdup_printf("lxdovn%" G_GINT64_FORMAT, uplink->row->id);
    wire->near = g_strconcat(wire->ovs_bridge, "a", NULL);
    wire->far = g_strconcat(wire->ovs_bridge, "b", NULL);
    wire->parent = netobj_is(uplink, "bridge")
                       ? g_strdup(uplink->row->name)
                       : parent_ifname(netobj_get(uplink, "parent"), netobj_get(uplink, "vlan"));
    wire->userspace = g_strcmp0(datapath, "netdev") == 0;
}

static void
silence(const char *ifname)
{
    if (netjob_have_ipv6()) {
        netjob_sysctl("1", NULL, "net/ipv6/conf/%s/disable_ipv6", ifname);
    }
}

static bool
make_pair(NlSock *sock, const struct wire *wire, guint mtu, GError **error)
{
    if (link_index(sock, wire->near) != 0 && link_index(sock, wire->far) == 0 &&
        !link_del(sock, wire->near, error)) {
        return false;
    }
    if (link_index(sock, wire->near) == 0 &&
        !link_add_veth(sock, wire->near, wire->far, mtu, 0, NULL, error)) {
        return false;
    }
    silence(wire->near);
    silence(wire->far);
    return (!wire->userspace || (offload_set_checksum(wire->near, false, error) &&
                                 offload_set_checksum(wire->far, false, error))) && /* W3 */
           link_set_mtu(sock, wire->near, mtu, error) &&
           link_set_mtu(sock, wire->far, mtu, error) &&
           link_set_master(sock, wire->near, wire->parent, error) &&
           link_set_up(sock, wire->near, true, error) && link_set_up(sock, wire->far, true, error);
}

/* W2 */
static bool
check_bare(NlSock *sock, const struct link_info *info, GError **error)
{
    g_autoptr(GArray) addresses = inet_addresses(sock, error);
    for (guint i = 0; addresses != NULL && i < addresses->len; i++) {
        const struct inet_address *one = &g_array_index(addresses, struct inet_address, i);
        if (one->ifindex == info->index && one->scope == RT_SCOPE_UNIVERSE) {
            return haw_fail(error, HAW_INVALID,
                            "Cannot start network as uplink network interface \"%s\" has one or "
                            "more IP addresses configured on it",
                            info->name);
        }
    }
    return addresses != NULL;
}

static bool
links_job(NlSock *sock, void *data, GError **error)
{
    struct wire *wire = data;
    struct link_info info;
    if (!link_get(sock, wire->parent, &info, NULL)) {
        return haw_fail(error, HAW_NOT_FOUND, "Uplink interface \"%s\" not found", wire->parent);
    }
    wire->native = strcmp(info.kind, "bridge") == 0;
    if (wire->native) {
        return make_pair(sock, wire, info.mtu, error);
    }
    if (!check_bare(sock, &info, error)) {
        return false;
    }
    silence(wire->parent);
    return (!wire->userspace || offload_set_merge(wire->parent, false, error)) &&
           link_set_up(sock, wire->parent, true, error);
}

bool
ovn_wire_up(Network *uplink, GError **error)
{
    Agent *agent = netobj_agent(uplink->table);
    struct wire wire __attribute__((cleanup(wire_done))) = {0};
    wire_init(&wire, uplink);
    if (ovs_local_has_bridge(agent, wire.parent)) {
        return ovs_local_map(agent, uplink->row->name, wire.parent, error);
    }
    if (!netjob_run(links_job, &wire, error)) {
        return false;
    }
    crash_point("ovn_wire");
    if (!ovs_local_add_bridge(agent, wire.ovs_bridge, error)) {
        return false;
    }
    crash_point("ovn_wire");
    return ovs_local_add_port(agent, wire.ovs_bridge, wire.native ? wire.far : wire.parent, NULL,
                              error) &&
           ovs_local_map(agent, uplink->row->name, wire.ovs_bridge, error);
}

static bool
unlink_job(NlSock *sock, void *data, GError **error)
{
    const struct wire *wire = data;
    return link_del(sock, wire->near, error);
}

bool
ovn_wire_down(Network *uplink, GError **error)
{
    Agent *agent = netobj_agent(uplink->table);
    struct wire wire __attribute__((cleanup(wire_done))) = {0};
    wire_init(&wire, uplink);
    if (!ovs_local_map(agent, uplink->row->name, NULL, error)) {
        return false;
    }
    crash_point("ovn_wire");
    return ovs_local_del_bridge(agent, wire.ovs_bridge, error) &&
           netjob_run(unlink_job, &wire, error);
}
