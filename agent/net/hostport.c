/* Host interfaces on the integration bridge.
 * P1  Never on br-int before it is ready: without ovn-controller's flows a bridge would switch frames
 *     between strangers. An iface-id is on one interface at most.
 * P2  A userspace datapath reads raw frames: what is sent into a veth must have its checksum, so both
 *     ends give up that offload before the first packet. On the fast path a slow pair stands between, and
 *     completes what passes there.
 * Called by nic_ovn.c. */
#include "agent/net/hostport.h"

#include <string.h>

#include "agent/dpd/dpdclient.h"
#include "agent/net/fastzone.h"
#include "agent/net/ovs_local.h"
#include "agent/ovn/ovn.h"
#include "base/clock.h"

/* hawser-dpd does it: the port's id there is the logical port's name. */
static void
describe(Agent *agent, const HostPort *port, Dpd__Port *ret)
{
    dpd__port__init(ret);
    ret->id = (char *) (guintptr) port->iface_id;
    ret->kind = port->kind == HOSTPORT_TAP ? DPD__KIND__TAP : DPD__KIND__VETH;
    ret->netdev = (char *) (guintptr) port->netdev;
    ret->iface_id = (char *) (guintptr) port->iface_id;
    ret->bridge = (char *) (guintptr) ovn_integration_bridge(agent);
    ret->mac = (char *) (guintptr) (port->mac != NULL ? port->mac : "");
    ret->mtu = port->mtu;
    ret->peer = (char *) (guintptr) (port->peer != NULL ? port->peer : "");
    ret->plain = g_strcmp0(ovn_datapath_type(agent), "netdev") == 0; /* P2 */
    ret->fast = fastzone_describe(agent, port->iface_id);
    ret->poll = port->poll;
}

bool
hostport_bind(Agent *agent, const HostPort *port, GError **error)
{
    Dpd__Port spec;
    describe(agent, port, &spec);
    bool ok = dpdclient_put(agent->dpd, &spec, NULL, error);
    fastzone_describe_free(spec.fast);
    return ok;
}

void
hostport_adopt(Agent *agent, const HostPort *port)
{
    Dpd__Port spec;
    describe(agent, port, &spec);
    dpdclient_adopt(agent->dpd, &spec);
    fastzone_describe_free(spec.fast);
}

bool
hostport_unbind(Agent *agent, const char *iface_id, GError **error)
{
    return dpdclient_drop(agent->dpd, iface_id, error);
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
