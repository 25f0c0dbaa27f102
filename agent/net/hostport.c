/* Host interfaces on the integration bridge.
 * P1  Never on br-int before it is ready: without ovn-controller's flows a bridge would switch frames
 *     between strangers. An iface-id is on one interface at most.
 * P2  A userspace datapath reads raw frames: what is sent into a veth must have its checksum, so both
 *     ends give up that offload before the first packet.
 * Called by nic_ovn.c. */
#include "agent/net/hostport.h"

#include <string.h>

#include "agent/net/netjob.h"
#include "agent/net/ovs_local.h"
#include "agent/ovn/ovn.h"
#include "base/clock.h"
#include "hw/link.h"
#include "hw/offload.h"

struct job {
    const HostPort *port;
    bool userspace;
};

static bool
prepare_job(NlSock *sock, void *data, GError **error)
{
    const struct job *job = data;
    const HostPort *port = job->port;
    if (job->userspace && port->kind == HOSTPORT_VETH && /* P2 */
        (!offload_set_checksum(port->netdev, false, error) ||
         (port->peer != NULL && !offload_set_checksum(port->peer, false, error)))) {
        return false;
    }
    return (port->mtu == 0 || link_set_mtu(sock, port->netdev, port->mtu, error)) &&
           link_set_up(sock, port->netdev, true, error);
}

bool
hostport_bind(Agent *agent, const HostPort *port, GError **error)
{
    const char *datapath = ovn_datapath_type(agent);
    struct job job = {.port = port, .userspace = g_strcmp0(datapath, "netdev") == 0};
    return netjob_run(prepare_job, &job, error) &&
           ovs_local_add_port(agent, ovn_integration_bridge(agent), port->netdev, port->iface_id,
                              error);
}

bool
hostport_unbind(Agent *agent, const char *iface_id, GError **error)
{
    g_autofree char *netdev = ovs_local_find(agent, iface_id);
    return netdev == NULL || ovs_local_del_port(agent, netdev, error);
}

char *
hostport_find(Agent *agent, const char *iface_id)
{
    return ovs_local_find(agent, iface_id);
}

bool
hostport_wait(Agent *agent, const char *iface_id, gint64 wait_ms, GError **error)
{
    Ovsdb *db = ovn_local(agent);
    gint64 until = clock_mono_us() / 1000 + wait_ms;
    while (db != NULL) {
        const OvsdbRow *iface = ovsdb_find(db, "Interface", "external_ids:iface-id", iface_id);
        gint64 left = until - clock_mono_us() / 1000;
        if (iface != NULL &&
            g_strcmp0(ovsdb_map_text(iface, "external_ids", "ovn-installed"), "true") == 0) {
            return true;
        }
        if (left <= 0 || !fiber_signal_wait(ovsdb_changed(db), left, NULL, NULL)) {
            break;
        }
    }
    return haw_fail(error, HAW_TIMEOUT, "Logical port \"%s\" has no flows on this host", iface_id);
}
