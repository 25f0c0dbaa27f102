/* /1.0/hawser/ovn: what an operator wants to know about the OVN behind the networks. Ours, not LXD's. */
#include "agent/ovn/ovnobj.h"

static json_t *
session_json(const Ovsdb *db)
{
    if (db == NULL) {
        return json_pack("{s:b}", "connected", 0);
    }
    return json_pack("{s:b, s:s*, s:s*, s:I}", "connected", ovsdb_ready(db), "remote",
                     ovsdb_remote(db), "error", ovsdb_trouble(db), "transactions",
                     (json_int_t) ovsdb_transactions(db));
}

json_t *
ovn_status(Agent *agent)
{
    const Ovn *ovn = agent->ovn;
    const char *mode = ovn->nb == NULL ? "off" : ovn->embedded ? "embedded" : "external";
    return json_pack(
        "{s:s, s:s*, s:s*, s:s, s:s*, s:b, s:o, s:o, s:o, s:o, s:I, s:I, s:I, s:I, s:s*}", "mode",
        mode, "system_id", ovn->system_id, "integration_bridge", ovn->bridge, "datapath",
        ovn->kernel ? "kernel" : "userspace", "owner", ovn->owner, "conntrack_liberal",
        switchd_liberal(ovn->switchd), "northbound", session_json(ovn->nb), "southbound",
        session_json(ovn->sb), "local", session_json(ovn->local), "daemons",
        ovn->own != NULL ? embedded_json(ovn->own) : json_array(), "applies",
        (json_int_t) ovn->applies, "failures", (json_int_t) ovn->failures, "steps",
        (json_int_t) ovn->steps, "waiting", (json_int_t) g_hash_table_size(ovn->dirty),
        "last_error", ovn->last_error);
}

static bool
get_status(Request *req, GError **error)
{
    return req_reply(req, ovn_status(req_agent(req)));
}

/* Steps that would make the found rows the wanted ones; none is the normal case. */
static bool
get_diff(Request *req, GError **error)
{
    json_t *steps = ovn_diff(req_agent(req), error);
    return steps != NULL && req_reply(req, steps);
}

static bool
post_reconcile(Request *req, GError **error)
{
    return ovn_reconcile(req_agent(req), OVN_WAIT_SB, error) && req_reply(req, NULL);
}

const Route ovn_routes[] = {
    {"GET", "/1.0/hawser/ovn", get_status, ROUTE_ADMIN},
    {"GET", "/1.0/hawser/ovn/diff", get_diff, ROUTE_ADMIN},
    {"POST", "/1.0/hawser/ovn/reconcile", post_reconcile, ROUTE_ADMIN},
    {NULL, NULL, NULL, 0},
};
