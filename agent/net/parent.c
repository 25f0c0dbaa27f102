/* Networks that name a parent interface. Only physical ones change anything on the host: the VLAN
 * interface and the MTU, both given back when the network goes.
 * P1  volatile.last_state.created in the config says that the VLAN interface is ours to remove. */
#include "agent/net/parent.h"

#include <string.h>

#include "agent/net/netjob.h"
#include "hw/link.h"
#include "proto/keys.h"

enum { MTU_PLAIN = 1500 };

struct job {
    const char *parent, *vlan; /* borrowed */
    const char *ifname;
    guint mtu; /* 0: as it is */
    bool gvrp, physical, created;
};

char *
parent_ifname(const char *parent, const char *vlan)
{
    return vlan != NULL ? g_strdup_printf("%s.%s", parent, vlan) : g_strdup(parent);
}

static bool
up_job(NlSock *sock, void *data, GError **error)
{
    struct job *job = data;
    if (link_index(sock, job->parent) == 0) {
        return haw_fail(error, HAW_NOT_FOUND, "Parent interface \"%s\" not found", job->parent);
    }
    if (!job->physical) {
        return true;
    }
    if (job->vlan != NULL && link_index(sock, job->ifname) == 0) {
        if (!link_add_vlan(sock, job->ifname, job->parent,
                           (guint) g_ascii_strtoull(job->vlan, NULL, 10), job->gvrp, error)) {
            return false;
        }
        job->created = true;
    }
    return (job->mtu == 0 || link_set_mtu(sock, job->ifname, job->mtu, error)) &&
           link_set_up(sock, job->ifname, true, error);
}

static bool
down_job(NlSock *sock, void *data, GError **error)
{
    const struct job *job = data;
    if (job->created) {
        return link_del(sock, job->ifname, error);
    }
    if (job->physical && job->mtu != 0 && link_index(sock, job->ifname) != 0) {
        return link_set_mtu(sock, job->ifname, MTU_PLAIN, error);
    }
    return true;
}

static bool
run(Network *net, json_t *config, NetJobFn fn, bool *ret_created, GError **error)
{
    const char *mtu = keys_get(config, "mtu");
    g_autofree char *ifname = parent_ifname(keys_get(config, "parent"), keys_get(config, "vlan"));
    struct job job = {.parent = keys_get(config, "parent"),
                      .vlan = keys_get(config, "vlan"),
                      .ifname = ifname,
                      .mtu = mtu != NULL ? (guint) g_ascii_strtoull(mtu, NULL, 10) : 0,
                      .gvrp = keys_get_bool(config, "gvrp", false),
                      .physical = netobj_is(net, "physical"),
                      .created = *ret_created};
    bool ok = netjob_run(fn, &job, error);
    *ret_created = job.created;
    return ok;
}

static bool
note_created(Network *net, bool created, GError **error)
{
    json_t *config = net->row->config;
    if (created == (keys_get(config, "volatile.last_state.created") != NULL)) {
        return true;
    }
    if (created) {
        json_object_set_new(config, "volatile.last_state.created", json_string("true"));
    } else {
        json_object_del(config, "volatile.last_state.created");
    }
    return netrow_update(netobj_agent(net->table)->db, net->row->id, net->row->description, config,
                         error);
}

bool
parent_up(Network *net, json_t *old_config, GError **error)
{
    bool created = netobj_bool(net, "volatile.last_state.created", false);
    if (netobj_get(net, "parent") == NULL) {
        return haw_fail(error, HAW_INVALID, "Required option \"parent\" is missing");
    }
    if (old_config != NULL && keys_get(old_config, "parent") != NULL) {
        if (!run(net, old_config, down_job, &created, error)) {
            return false;
        }
        created = false;
    }
    return run(net, net->row->config, up_job, &created, error) &&
           note_created(net, created, error); /* P1 */
}

bool
parent_down(Network *net, GError **error)
{
    bool created = netobj_bool(net, "volatile.last_state.created", false);
    return netobj_get(net, "parent") == NULL ||
           (run(net, net->row->config, down_job, &created, error) &&
            note_created(net, false, error));
}
