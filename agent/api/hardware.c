/* /1.0/hawser/hw: looking at NICs and preparing them. Looking takes milliseconds, preparing seconds, so
 * workers do both; one preparation at a time.
 *
 *   GET  /1.0/hawser/hw             the inventory
 *   GET  /1.0/hawser/hw/pfs         its PFs alone
 *   GET  /1.0/hawser/hw/doctor      what stands in the way of acceleration, with next steps
 *   GET  /1.0/hawser/hw/pfs/{pf}    one PF, by interface or address
 *   PUT  /1.0/hawser/hw/pfs/{pf}    {"vfs": 8, "mode": "switchdev"}: makes it so, now and at each boot
 *
 * Nothing but that PUT changes the number of VFs or an eswitch's mode. */
#include "agent/api/hardware.h"

#include "agent/dpd/dpdclient.h"
#include "agent/ovn/ovn.h"
#include "base/fiber.h"
#include "hw/doctor.h"
#include "hw/prepare.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { OVS_WAIT_MS = 1000, VFS_MAX = 4096 };

/* One visit to the hardware, on a worker. */
struct visit {
    const struct prepare_want *want; /* NULL: only look */
    const char *keep;                /* file of what is prepared */
    char **claimed;                  /* owned: VFs that ports have, NULL */
    json_t *claims;                  /* owned: what hawser-dpd says of them, NULL */
    struct doctor_facts *facts;      /* NULL: no checks */
    json_t *inventory, *checks, *steps;
    GError *error;
};

static void
visit_done(struct visit *visit)
{
    g_strfreev(visit->claimed);
    json_decref(visit->claims);
    json_decref(visit->inventory);
    json_decref(visit->checks);
    json_decref(visit->steps);
    g_clear_error(&visit->error);
}

static void
visit_run(void *data)
{
    struct visit *visit = data;
    g_autoptr(HwBackend) hw = hw_open(NULL, &visit->error);
    if (hw == NULL) {
        return;
    }
    if (visit->want != NULL && (!prepare_pf(hw, visit->want, (const char *const *) visit->claimed,
                                            &visit->steps, &visit->error) ||
                                !prepare_keep(hw, visit->keep, visit->want, &visit->error))) {
        return;
    }
    g_autoptr(HwInventory) inventory = hw_inventory(hw, &visit->error);
    if (inventory != NULL && visit->facts != NULL) {
        doctor_facts_read(visit->facts);
        visit->checks = doctor_checks(inventory, visit->facts);
    }
    visit->inventory = inventory != NULL ? hw_inventory_json(inventory) : NULL;
}

/* Which VFs hawser-dpd's ledger has given to ports. A host without a running dpd has none. Yields. */
static void
ask_claims(Agent *agent, struct visit *visit)
{
    g_autoptr(GStrvBuilder) claimed = g_strv_builder_new();
    json_auto_t *status = dpdclient_status(agent->dpd, NULL);
    size_t i;
    json_t *claim;
    visit->claims = json_incref(json_object_get(status, "claims"));
    json_array_foreach (visit->claims, i, claim) {
        g_strv_builder_add(claimed, json_string_value(json_object_get(claim, "vf")));
    }
    visit->claimed = g_strv_builder_end(claimed);
}

/* Names the port in each VF that one has. */
static void
put_claims(const struct visit *visit)
{
    size_t i, j, k;
    json_t *pf, *vf, *claim;
    json_array_foreach (json_object_get(visit->inventory, "pfs"), i, pf) {
        json_array_foreach (json_object_get(pf, "vfs"), j, vf) {
            json_array_foreach (visit->claims, k, claim) {
                if (json_equal(json_object_get(claim, "vf"), json_object_get(vf, "device"))) {
                    json_object_set_new(vf, "state", json_string("used"));
                    json_object_set(vf, "used_by", json_object_get(claim, "port"));
                }
            }
        }
    }
}

/* False with the visit's error. Yields. */
static bool
visit_make(Agent *agent, struct visit *visit, GError **error)
{
    ask_claims(agent, visit);
    fiber_run(visit_run, visit);
    if (visit->error != NULL) {
        g_propagate_error(error, g_steal_pointer(&visit->error));
        return false;
    }
    put_claims(visit);
    return true;
}

static bool
get_all(Request *req, GError **error)
{
    struct visit visit = {0};
    bool seen = visit_make(req_agent(req), &visit, error);
    if (seen) {
        req_reply(req, g_steal_pointer(&visit.inventory));
    }
    visit_done(&visit);
    return seen;
}

static bool
get_pfs(Request *req, GError **error)
{
    struct visit visit = {0};
    bool seen = visit_make(req_agent(req), &visit, error);
    if (seen) {
        req_reply(req, json_incref(json_object_get(visit.inventory, "pfs")));
    }
    visit_done(&visit);
    return seen;
}

static void
read_ovs(Agent *agent, Ovsdb *db, struct doctor_facts *facts)
{
    g_autoptr(GPtrArray) roots = ovsdb_list(db, "Open_vSwitch", NULL, NULL);
    const char *on =
        roots->len > 0 ? ovsdb_map_text(roots->pdata[0], "other_config", "hw-offload") : NULL;
    const OvsdbRow *bridge = ovsdb_find(db, "Bridge", "name", ovn_integration_bridge(agent));
    facts->ovs_hw_offload = g_strcmp0(on, "true") == 0;
    facts->ovs_userspace =
        bridge != NULL && g_strcmp0(ovsdb_text(bridge, "datapath_type"), "netdev") == 0;
}

/* What the local Open vSwitch says, over the session that OVN networks have or one for the moment;
 * unknown when it doesn't answer in time. Yields. */
static void
ask_ovs(Agent *agent, struct doctor_facts *facts)
{
    static const char *const root_columns[] = {"other_config", NULL};
    static const char *const bridge_columns[] = {"name", "datapath_type", NULL};
    static const OvsdbTable tables[] = {
        {"Open_vSwitch", root_columns}, {"Bridge", bridge_columns}, {NULL, NULL}};
    facts->ovs_hw_offload = -1;
    facts->ovs_embedded = ovn_is_embedded(agent);
    if (ovn_local(agent) != NULL) {
        if (ovsdb_ready(ovn_local(agent))) {
            read_ovs(agent, ovn_local(agent), facts);
        }
        return;
    }
    if (access("/run/openvswitch/db.sock", R_OK | W_OK) < 0) {
        return;
    }
    facts->ovs_embedded = false;
    g_autoptr(Ovsdb) db = ovsdb_open(&(OvsdbOptions){.name = "Open_vSwitch",
                                                     .remotes = "unix:/run/openvswitch/db.sock",
                                                     .database = "Open_vSwitch",
                                                     .tables = tables});
    if (ovsdb_wait_ready(db, OVS_WAIT_MS, NULL)) {
        read_ovs(agent, db, facts);
    }
}

static bool
get_doctor(Request *req, GError **error)
{
    struct doctor_facts facts = {0};
    struct visit visit = {.facts = &facts};
    ask_ovs(req_agent(req), &facts);
    bool seen = visit_make(req_agent(req), &visit, error);
    if (seen) {
        req_reply(req, g_steal_pointer(&visit.checks));
    }
    doctor_facts_clear(&facts);
    visit_done(&visit);
    return seen;
}

/* A new reference, NOT_FOUND. */
static json_t *
pick_pf(const json_t *inventory, const char *name, GError **error)
{
    size_t i;
    json_t *pf;
    json_array_foreach (json_object_get(inventory, "pfs"), i, pf) {
        if (g_strcmp0(json_string_value(json_object_get(pf, "netdev")), name) == 0 ||
            g_strcmp0(json_string_value(json_object_get(pf, "device")), name) == 0) {
            return json_incref(pf);
        }
    }
    haw_fail(error, HAW_NOT_FOUND,
             "there is no PF '%s' (`hawser hw list` shows those that there are)", name);
    return NULL;
}

static bool
get_pf(Request *req, GError **error)
{
    struct visit visit = {0};
    json_t *pf = visit_make(req_agent(req), &visit, error)
                     ? pick_pf(visit.inventory, req_arg(req, "pf"), error)
                     : NULL;
    visit_done(&visit);
    return pf != NULL && req_reply(req, pf);
}

static bool
read_want(Request *req, struct prepare_want *ret_want, GError **error)
{
    json_t *vfs = json_object_get(req_json(req), "vfs");
    const char *mode = json_string_value(json_object_get(req_json(req), "mode"));
    json_int_t count = json_integer_value(vfs);
    if (!json_is_integer(vfs) || count < 0 || count > VFS_MAX) {
        return haw_fail(error, HAW_INVALID, "\"vfs\" is a number from 0 to %d", VFS_MAX);
    }
    if (g_strcmp0(mode, "switchdev") != 0 && g_strcmp0(mode, "legacy") != 0) {
        return haw_fail(error, HAW_INVALID, "\"mode\" is \"switchdev\" or \"legacy\"");
    }
    *ret_want =
        (struct prepare_want){.pf = req_arg(req, "pf"),
                              .vfs = (guint) count,
                              .mode = *mode == 's' ? HW_ESWITCH_SWITCHDEV : HW_ESWITCH_LEGACY};
    return true;
}

/* Answers with the steps that were needed (none when it was so already) and the PF as it is now. */
static bool
put_pf(Request *req, GError **error)
{
    static FiberLock one = FIBER_LOCK_INIT;
    g_autofree char *keep = agent_path(req_agent(req), "hw-prepare.json");
    struct prepare_want want;
    if (!read_want(req, &want, error)) {
        return false;
    }
    struct visit visit = {.want = &want, .keep = keep};
    g_auto(FiberHold) hold = fiber_hold(&one);
    json_t *pf =
        visit_make(req_agent(req), &visit, error) ? pick_pf(visit.inventory, want.pf, error) : NULL;
    bool done =
        pf != NULL && req_reply(req, json_pack("{s:O,s:o}", "steps", visit.steps, "pf", pf));
    visit_done(&visit);
    return done;
}

const Route hardware_routes[] = {
    {"GET", "/1.0/hawser/hw", get_all, ROUTE_ADMIN},
    {"GET", "/1.0/hawser/hw/doctor", get_doctor, ROUTE_ADMIN},
    {"GET", "/1.0/hawser/hw/pfs", get_pfs, ROUTE_ADMIN},
    {"GET", "/1.0/hawser/hw/pfs/{pf}", get_pf, ROUTE_ADMIN},
    {"PUT", "/1.0/hawser/hw/pfs/{pf}", put_pf, ROUTE_ADMIN | ROUTE_BODY_JSON},
    {NULL},
};
