/* What requests below networks, zones and ACLs have in common. */
#include "agent/net/netreq.h"

#include "agent/auth/project.h"
#include "agent/net/netcheck.h"

Network *
netreq_network(Request *req, const char *const *drivers, const char *what, GError **error)
{
    const char *name = req_arg(req, "name");
    g_autoptr(Network) net =
        project_allow_network(req_agent(req), req_project(req), name, true, NULL)
            ? netobj_find(req_agent(req)->networks, req_project(req), name)
            : NULL;
    if (net == NULL) {
        haw_fail(error, HAW_NOT_FOUND, "Network not found");
        return NULL;
    }
    if (drivers != NULL && !g_strv_contains(drivers, net->row->type)) {
        haw_fail(error, HAW_INVALID, "Network driver \"%s\" does not support %s", net->row->type,
                 what);
        return NULL;
    }
    return g_steal_pointer(&net);
}

void
netreq_config(json_t **row_config, json_t *config, bool merge)
{
    json_t *made = merge ? json_deep_copy(*row_config) : json_object();
    json_object_update(made, config);
    netcheck_drop_empty(made);
    json_decref(config);
    json_decref(*row_config);
    *row_config = made;
}
