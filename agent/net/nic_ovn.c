/* NICs on ovn networks.
 * V1  The table of ports (state/ovn_ports.h) says what the network's rows in OVN are to have: a row is
 *     written before OVN hears of the NIC, and taken back when the start fails. A crash in between is
 *     repaired by the reconciler, or by nic_stop() of an instance that turns out not to run.
 * V2  A stop always ends: what OVN could not be told now, it is told once it can be reached.
 * V3  The instance gets its end when its port is bound, its flows are installed and, where OVN allots
 *     addresses, they are there: a guest's first question (a router solicitation, say) is asked again
 *     only seconds later.
 * V4  A nested NIC has no host side: its frames come tagged through its parent's.
 * V5  A port that is another server's still (a virtual machine on its way here) is bound beside the other one,
 *     and given back when it is not to be.
 * Called through nic.c. */
#include <string.h>

#include "agent/inst/inst.h"
#include "agent/net/hostport.h"
#include "agent/net/nic_accel.h"
#include "agent/net/nicuse.h"
#include "agent/net/ovn_check.h"
#include "agent/net/ovn_input.h"
#include "agent/net/ovn_net.h"
#include "agent/net/veth.h"
#include "agent/ovn/handover.h"
#include "agent/ovn/ovn.h"
#include "agent/state/ovn_ports.h"
#include "base/clock.h"
#include "base/crash.h"
#include "base/log.h"
#include "proto/keys.h"

enum { ADDRESS_MS = 5000, FLOWS_MS = 3000 };

static Db *
db_of(const NicUse *use)
{
    return netobj_agent(use->table)->db;
}

/* ---- its row ---- */

static char *
new_lsp(const NicUse *use, GError **error)
{
    Agent *agent = netobj_agent(use->table);
    g_autoptr(Inst) inst = agent->instances != NULL ? inst_find(agent->instances, use->nic->project,
                                                                use->nic->inst, NULL)
                                                    : NULL;
    const char *uuid = inst != NULL ? keys_get(inst_config(inst), "volatile.uuid") : NULL;
    if (uuid == NULL) {
        haw_fail(error, HAW_FAILED, "Instance \"%s\" has no volatile.uuid", use->nic->inst);
        return NULL;
    }
    g_autofree char *prefix = ovn_rows_name(use->net->row->id, "-instance-");
    return g_strdup_printf("%s%s-%s", prefix, uuid, use->nic->device);
}

/* The device's row as it ought to be: a port that runs keeps its name. */
static OvnPort *
port_of(const NicUse *use, bool running, GError **error)
{
    g_autoptr(GError) mine = NULL;
    g_autoptr(OvnPort) old = ovn_ports_find(db_of(use), use->nic->inst_id, use->nic->device, &mine);
    if (mine != NULL) {
        g_propagate_error(error, g_steal_pointer(&mine));
        return NULL;
    }
    bool keep = old != NULL && old->running && old->network_id == use->net->row->id;
    g_autofree char *lsp = keep ? g_strdup(old->lsp) : new_lsp(use, error);
    if (lsp == NULL) {
        return NULL;
    }
    OvnPort *port = g_new0(OvnPort, 1);
    port->network_id = use->net->row->id;
    port->instance_id = use->nic->inst_id;
    port->device = g_strdup(use->nic->device);
    port->lsp = g_steal_pointer(&lsp);
    port->mac = g_ascii_strdown(nicuse_mac(use), -1);
    port->config = json_incref(use->nic->config);
    port->running = running || keep;
    return port;
}

/* V2 */
static void
apply_or_later(NicUse *use)
{
    g_autoptr(GError) error = NULL;
    Ovsdb *nb = ovn_nb(netobj_agent(use->table));
    if (nb == NULL || !ovsdb_ready(nb)) {
        ovn_net_kick(use->net);
    } else if (!ovn_net_apply(use->net, &error)) {
        haw_warn("ovn.later", KS("network", use->net->row->name), KS("inst", use->nic->inst),
                 KS("why", error->message));
        ovn_net_kick(use->net);
    }
}

/* ---- start ---- */

static bool
check_parent(NicUse *use, GError **error)
{
    const char *nested = nicuse_get(use, "nested");
    g_autoptr(OvnPort) parent =
        nested != NULL ? ovn_ports_find(db_of(use), use->nic->inst_id, nested, NULL) : NULL;
    return nested == NULL || (parent != NULL && parent->network_id == use->net->row->id) ||
           haw_fail(error, HAW_INVALID,
                    "Parent NIC \"%s\" of nested NIC \"%s\" is not on network \"%s\" of instance "
                    "\"%s\"",
                    nested, use->nic->device, use->net->row->name, use->nic->inst);
}

/* Only ends of a veth pair are: what a guest sends into its tap has unfinished checksums, and may be larger than a
 * frame. */
static bool
is_polled(const NicUse *use)
{
    return !nicuse_is_vm(use) && nicuse_bool(use, "hawser.poll");
}

/* A wish that has no effect is said, not swallowed. */
static void
warn_unpolled(const NicUse *use)
{
    if (nicuse_bool(use, "hawser.poll") && !is_polled(use)) {
        haw_warn("nic.unpolled", KS("inst", use->nic->inst), KS("nic", use->nic->device),
                 KS("why", "NICs of virtual machines are not polled"));
    }
}

static bool
make_link(NicUse *use, const OvnPort *port, char **ret_link, GError **error)
{
    if (nic_accel_wanted(use)) {
        bool ok = nic_accel_start(use, port->lsp, port->mac, ret_link, error);
        if (!ok || *ret_link != NULL) {
            return ok;
        }
    }
    struct veth_spec spec = {.no_ipv6 = true};
    if (!veth_make(use, &spec, error)) {
        return false;
    }
    crash_point("ovn_nic");
    HostPort host = {.kind = spec.tap ? HOSTPORT_TAP : HOSTPORT_VETH,
                     .netdev = spec.host,
                     .iface_id = port->lsp,
                     .mac = port->mac,
                     .peer = spec.tap ? NULL : spec.peer,
                     .poll = is_polled(use)};
    bool ok = hostport_bind(netobj_agent(use->table), &host, error);
    if (ok) {
        warn_unpolled(use);
        *ret_link = g_strdup(spec.peer);
    }
    veth_spec_done(&spec);
    return ok;
}

/* The NIC as the network's input has it now; borrowed. */
static const OvnNic *
find_nic(const OvnNetInput *in, const char *lsp)
{
    for (guint i = 0; i < in->nics->len; i++) {
        const OvnNic *nic = g_ptr_array_index(in->nics, i);
        if (strcmp(nic->lsp, lsp) == 0) {
            return nic;
        }
    }
    return NULL;
}

/* Which family has OVN still to allot? */
static bool
is_waiting(const NicUse *use, const char *lsp, const char **ret_family, GError **error)
{
    g_autoptr(OvnNetInput) in = ovn_input_plain(use->net, error);
    const OvnNic *nic = in != NULL ? find_nic(in, lsp) : NULL;
    *ret_family = NULL;
    if (nic != NULL && nic->guessed[0] && in->family[0].dhcp) {
        *ret_family = "IPv4";
    } else if (nic != NULL && nic->guessed[1] && in->family[1].dhcp) {
        *ret_family = "IPv6";
    }
    return *ret_family != NULL;
}

/* V3 */
static bool
await_addresses(NicUse *use, const char *lsp, GError **error)
{
    Ovsdb *nb = ovn_nb(netobj_agent(use->table));
    gint64 until = clock_mono_us() / 1000 + ADDRESS_MS;
    const char *family;
    while (is_waiting(use, lsp, &family, error)) {
        gint64 left = until - clock_mono_us() / 1000;
        if (left <= 0 || !fiber_signal_wait(ovsdb_changed(nb), left, NULL, NULL)) {
            return haw_fail(error, HAW_LIMIT,
                            "Insufficient dynamic addresses allocated: no %s address is left on "
                            "network \"%s\"",
                            family, use->net->row->name);
        }
    }
    return true;
}

/* Names, routes and NAT follow the address that OVN chose, where it is not the one foreseen. */
static bool
finish_dynamic(NicUse *use, const char *lsp, GError **error)
{
    bool fixed = nicuse_get(use, "ipv4.address") != NULL || nicuse_get(use, "ipv6.address") != NULL;
    return fixed || (await_addresses(use, lsp, error) && ovn_net_apply(use->net, error));
}

/* While a port is handed over between chassis, its flows are the other one's business. */
static bool
awaits_flows(Agent *agent, const char *lsp)
{
    Ovsdb *nb = ovn_nb(agent), *local = ovn_local(agent);
    const OvsdbRow *port = nb != NULL ? ovsdb_find(nb, "Logical_Switch_Port", "name", lsp) : NULL;
    const OvsdbRow *row =
        local != NULL ? ovsdb_find(local, "Interface", "external_ids:iface-id", lsp) : NULL;
    return port != NULL && ovsdb_map_text(port, "options", "requested-chassis") == NULL &&
           row != NULL &&
           g_strcmp0(ovsdb_map_text(row, "external_ids", "ovn-installed"), "true") != 0;
}

/* V3. A controller that is late makes the start slow, not impossible. */
static void
await_flows(NicUse *use, const char *lsp)
{
    Agent *agent = netobj_agent(use->table);
    gint64 until = clock_mono_us() / 1000 + FLOWS_MS;
    while (awaits_flows(agent, lsp)) {
        gint64 left = until - clock_mono_us() / 1000;
        if (left <= 0 || !fiber_signal_wait(ovsdb_changed(ovn_local(agent)), left, NULL, NULL)) {
            haw_info("ovn.flows_late", KS("port", lsp));
            return;
        }
    }
}

static void
take_back(NicUse *use, const OvnPort *port)
{
    Agent *agent = netobj_agent(use->table);
    const char *host = nicuse_volatile(use, "host_name");
    ovn_ports_run(agent->db, use->nic->inst_id, use->nic->device, false, NULL);
    if (nic_accel_running(use)) {
        nic_accel_stop(use->nic, agent, NULL);
    } else {
        if (ovn_local(agent) != NULL) {
            hostport_unbind(agent, port->lsp, NULL);
        }
        veth_remove(host, NULL);
    }
    nicuse_set_volatile(use, "host_name", NULL);
    handover_cancel(agent, port->lsp); /* V5 */
    apply_or_later(use);
}

static bool
ovn_start_nic(NicUse *use, char **ret_link, GError **error)
{
    g_autofree char *link = NULL;
    bool nested = nicuse_get(use, "nested") != NULL;
    g_autoptr(OvnPort) port = check_parent(use, error) ? port_of(use, true, error) : NULL;
    if (port == NULL || !ovn_ports_put(db_of(use), port, error)) { /* V1 */
        return false;
    }
    crash_point("ovn_nic");
    if (!handover_begin(netobj_agent(use->table), port->lsp, error) || /* V5 */
        (!nested && !make_link(use, port, &link, error)) || !ovn_net_apply(use->net, error) ||
        !finish_dynamic(use, port->lsp, error)) {
        take_back(use, port);
        return false;
    }
    if (!nested && handover_is_theirs(netobj_agent(use->table), port->lsp)) {
        handover_await(netobj_agent(use->table), port->lsp, FLOWS_MS);
    } else if (!nested) {
        await_flows(use, port->lsp);
    }
    crash_point("ovn_nic");
    *ret_link = g_steal_pointer(&link);
    return true;
}

/* ---- stop ---- */

static bool
ovn_stop_nic(NicUse *use, GError **error)
{
    Agent *agent = netobj_agent(use->table);
    bool accelerated = nic_accel_running(use);
    g_autofree char *host = g_strdup(nicuse_volatile(use, "host_name"));
    g_autoptr(OvnPort) port = ovn_ports_find(agent->db, use->nic->inst_id, use->nic->device, NULL);
    if (accelerated && !nic_accel_stop(use->nic, agent, error)) {
        return false;
    }
    if (port != NULL) {
        g_autoptr(GError) mine = NULL;
        bool ran = port->running;
        if (ran && !ovn_ports_run(agent->db, port->instance_id, port->device, false, error)) {
            return false;
        }
        crash_point("ovn_nic");
        if (!accelerated && ovn_local(agent) != NULL &&
            !hostport_unbind(agent, port->lsp, &mine)) { /* V2 */
            haw_warn("ovn.unbind", KS("port", port->lsp), KS("why", mine->message));
        }
        if (ran) {
            handover_cancel(agent, port->lsp); /* V5 */
            apply_or_later(use);
        }
    }
    return accelerated || veth_remove(host, error);
}

/* The agent was restarted: the port is still wanted. */
static bool
ovn_adopt_nic(NicUse *use, GError **error)
{
    Agent *agent = netobj_agent(use->table);
    const char *host = nicuse_volatile(use, "host_name");
    g_autoptr(GError) mine = NULL;
    g_autoptr(OvnPort) port = ovn_ports_find(agent->db, use->nic->inst_id, use->nic->device, &mine);
    if (mine != NULL) {
        g_propagate_error(error, g_steal_pointer(&mine));
        return false;
    }
    if (port != NULL && nic_accel_running(use)) {
        nic_accel_adopt(use, port->lsp, port->mac);
    } else if (port != NULL && host != NULL) {
        HostPort bound = {.kind = nicuse_is_vm(use) ? HOSTPORT_TAP : HOSTPORT_VETH,
                          .netdev = host,
                          .iface_id = port->lsp,
                          .mac = port->mac,
                          .poll = is_polled(use)};
        hostport_adopt(agent, &bound);
    }
    return true;
}

/* ---- changes ---- */

/* A device that came, or changed in place: its name in DNS, its reservation, its ACLs. */
static bool
ovn_update_nic(NicUse *use, json_t *old_config, GError **error)
{
    g_autoptr(OvnPort) port = port_of(use, false, error);
    if (port == NULL || !ovn_ports_put(db_of(use), port, error)) {
        return false;
    }
    crash_point("ovn_nic");
    if (ovn_net_apply(use->net, error)) {
        return true;
    }
    if (old_config == NULL) { /* V1 */
        ovn_ports_drop(db_of(use), port->instance_id, port->device, NULL);
    } else {
        json_decref(port->config);
        port->config = json_incref(old_config);
        ovn_ports_put(db_of(use), port, NULL);
    }
    ovn_net_kick(use->net);
    return false;
}

static bool
ovn_remove_nic(NicUse *use, GError **error)
{
    if (!ovn_ports_drop(db_of(use), use->nic->inst_id, use->nic->device, error)) {
        return false;
    }
    crash_point("ovn_nic");
    apply_or_later(use);
    return true;
}

const struct nic_driver nic_ovn = {
    .nictype = "ovn",
    .fixed_by_network = "nictype parent mtu maas.subnet.ipv4 maas.subnet.ipv6",
    .live_keys = "security.acls security.acls.default.ingress.action "
                 "security.acls.default.egress.action security.acls.default.ingress.logged "
                 "security.acls.default.egress.logged ipv4.routes ipv6.routes "
                 "ipv4.routes.external ipv6.routes.external hawser.port_security",
    .start = ovn_start_nic,
    .stop = ovn_stop_nic,
    .check = ovn_check_nic,
    .update = ovn_update_nic,
    .remove = ovn_remove_nic,
    .adopt = ovn_adopt_nic,
    .vm = nic_accel_vm,
};
