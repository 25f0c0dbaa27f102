/* ovn_world.h: networks with NICs, peered in a row, as the reconciler's tests want them: 'nets' says which there are,
 * 'net_builder' plans their rows. Threads: main loop, inside fibers. */
#pragma once
#include "agent/ovn/ovn.h"
#include "agent/ovn/ovnobj.h"
#include "base/fiber.h"

enum { NETS = 5, NICS = 8 };

static struct {
    bool there;
    bool nic[NICS];
    bool peered; /* with the next one */
    int mtu;
    const char *clash; /* an address set of this name */
    bool shared;
} nets[NETS + 1]; /* 1 … NETS */

static inline json_t *
named(const char *name)
{
    return json_pack("{s:s}", "name", name);
}

static inline void
build_nic(OvnPlan *plan, const char *scope, gint64 id, int nic)
{
    g_autofree char *lsp = g_strdup_printf("net%d-nic%d", (int) id, nic);
    g_autofree char *ls = g_strdup_printf("net%d-ls", (int) id);
    g_autofree char *group = g_strdup_printf("net%d_pg", (int) id);
    g_autofree char *mac = g_strdup_printf("00:16:3e:00:%02x:%02x", (guint) id, (guint) nic);
    g_autofree char *address = g_strdup_printf("10.%d.0.%d", (int) id, nic + 2);
    g_autofree char *set = g_strdup_printf("net%d_ip4", (int) id);
    ovnplan_row(plan, scope, "Logical_Switch_Port", lsp,
                json_pack("{s:s, s:[s], s:n}", "name", lsp, "addresses", mac, "parent_name"));
    ovnplan_into(plan, "Logical_Switch_Port", lsp, "Logical_Switch", ls, "ports");
    ovnplan_into(plan, "Logical_Switch_Port", lsp, "Port_Group", group, "ports");
    ovnplan_add(plan, "Address_Set", set, "addresses", json_string(address));
    ovnplan_row(plan, scope, "DNS", lsp,
                json_pack("{s:{s:s}, s:{s:s}}", "records", lsp, address, "external_ids",
                          "lxd_switch_port", lsp));
    ovnplan_into(plan, "DNS", lsp, "Logical_Switch", ls, "dns_records");
}

static inline void
build_peer(OvnPlan *plan, const char *scope, int near, int far)
{
    g_autofree char *port = g_strdup_printf("net%d-lrp-net%d", near, far);
    g_autofree char *other = g_strdup_printf("net%d-lrp-net%d", far, near);
    g_autofree char *lr = g_strdup_printf("net%d-lr", near);
    g_autofree char *route = g_strdup_printf("net%d-lr/route/10.%d.0.0/24", near, far);
    g_autofree char *prefix = g_strdup_printf("10.%d.0.0/24", far);
    g_autofree char *hop = g_strdup_printf("10.%d.0.1", far);
    g_autofree char *network = g_strdup_printf("10.%d.0.1/32", near);
    ovnplan_row(plan, scope, "Logical_Router_Port", port,
                json_pack("{s:s, s:s, s:[s], s:s}", "name", port, "mac", "00:16:3e:01:00:01",
                          "networks", network, "peer", other));
    ovnplan_into(plan, "Logical_Router_Port", port, "Logical_Router", lr, "ports");
    ovnplan_row(
        plan, scope, "Logical_Router_Static_Route", route,
        json_pack("{s:s, s:s, s:s}", "ip_prefix", prefix, "nexthop", hop, "output_port", port));
    ovnplan_into(plan, "Logical_Router_Static_Route", route, "Logical_Router", lr, "static_routes");
}

static inline bool
build_net(Agent *agent, gint64 id, OvnPlan *plan, GError **error)
{
    fiber_yield(); /* as those that read the database do */
    if (id > NETS || !nets[id].there) {
        return true;
    }
    g_autofree char *scope = g_strdup_printf("net%d", (int) id);
    g_autofree char *ls = g_strdup_printf("net%d-ls", (int) id);
    g_autofree char *lr = g_strdup_printf("net%d-lr", (int) id);
    g_autofree char *group = g_strdup_printf("net%d_pg", (int) id);
    g_autofree char *set =
        nets[id].clash != NULL ? g_strdup(nets[id].clash) : g_strdup_printf("net%d_ip4", (int) id);
    g_autofree char *mtu = g_strdup_printf("%d", nets[id].mtu);
    ovnplan_row(plan, scope, "Logical_Switch", ls,
                json_pack("{s:s, s:{s:s}}", "name", ls, "other_config", "mtu", mtu));
    ovnplan_row(plan, scope, "Logical_Router", lr, named(lr));
    ovnplan_row(plan, scope, "Port_Group", group, named(group));
    ovnplan_row(plan, scope, "Address_Set", set, json_pack("{s:s, s:n}", "name", set, "addresses"));
    g_autofree char *acl = g_strdup_printf("net%d_pg/acl/0", (int) id);
    ovnplan_row(plan, scope, "ACL", acl,
                json_pack("{s:i, s:s, s:s, s:s}", "priority", 5, "direction", "to-lport", "match",
                          "ip4", "action", "allow"));
    ovnplan_into(plan, "ACL", acl, "Port_Group", group, "acls");
    return true;
}

static inline bool
build_all(Agent *agent, gint64 id, OvnPlan *plan, GError **error)
{
    if (!build_net(agent, id, plan, error)) {
        return false;
    }
    g_autofree char *scope = g_strdup_printf("net%d", (int) id);
    if (id <= NETS && nets[id].shared) {
        ovnplan_share(plan, scope);
    }
    for (int nic = 0; id <= NETS && nets[id].there && nic < NICS; nic++) {
        if (nets[id].nic[nic]) {
            build_nic(plan, scope, id, nic);
        }
    }
    if (id < NETS && nets[id].there && nets[id].peered && nets[id + 1].there) {
        build_peer(plan, scope, (int) id, (int) id + 1);
    }
    if (id > 1 && id <= NETS && nets[id].there && nets[id - 1].peered && nets[id - 1].there) {
        build_peer(plan, scope, (int) id, (int) id - 1);
    }
    return true;
}

static inline bool
list_nets(Agent *agent, GArray *ids, GError **error)
{
    for (gint64 id = 1; id <= NETS; id++) {
        if (nets[id].there) {
            g_array_append_val(ids, id);
        }
    }
    return true;
}

static const OvnBuilder net_builder = {"net", build_all, list_nets};
