/* NICs that are a virtual function of a host interface; hawser-dpd claims it, sets it up and gives it
 * back as it was (its ledger survives both of us).
 * R1  The function is dpd's until it is ready, and again from the moment that the instance has let go
 *     of the interface; last_state.* only shows what it was, as LXD does. */
#include <stdlib.h>
#include <string.h>

#include "agent/net/nicvf.h"

static bool
need_parent(NicUse *use, GError **error)
{
    return use->parent != NULL ||
           haw_fail(error, HAW_INVALID, "Missing required option \"parent\"");
}

/* The texts of 'ret' are borrowed from the NIC, 'parents' and 'id'. */
static void
describe(NicUse *use, char *id, char **parents, Dpd__Port *ret)
{
    dpd__port__init(ret);
    ret->id = id;
    ret->kind = DPD__KIND__VF;
    ret->vfio = nicuse_is_vm(use);
    ret->mac = (char *) (guintptr) nicuse_mac(use);
    ret->mtu = use->mtu;
    ret->parents = parents;
    ret->n_parents = 1;
    ret->vlan = use->vlan != NULL ? (guint) atoi(use->vlan) : 0;
    ret->spoof_check =
        nicuse_bool(use, "security.mac_filtering") ? DPD__CHOICE__ON : DPD__CHOICE__OFF;
}

static char *
id_of(const NicUse *use)
{
    return dpdclient_id(use->nic->project, use->nic->inst, use->nic->device);
}

static bool
sriov_start(NicUse *use, char **ret_link, GError **error)
{
    if (!need_parent(use, error)) {
        return false;
    }
    DpdPort port;
    Dpd__Port spec;
    g_autofree char *id = id_of(use);
    describe(use, id, &use->parent, &spec);
    if (!dpdclient_put(netobj_agent(use->table)->dpd, &spec, &port, error)) {
        return false;
    }
    nicvf_note(use, &port);
    *ret_link = port.netdev[0] != '\0' ? g_strdup(port.netdev) : NULL;
    return true;
}

static bool
sriov_stop(NicUse *use, GError **error)
{
    g_autofree char *id = id_of(use);
    if (!dpdclient_drop(netobj_agent(use->table)->dpd, id, error)) {
        return false;
    }
    nicvf_forget(use->nic);
    return true;
}

static bool
sriov_adopt(NicUse *use, GError **error)
{
    Dpd__Port spec;
    g_autofree char *id = id_of(use);
    if (use->parent != NULL) {
        describe(use, id, &use->parent, &spec);
        dpdclient_adopt(netobj_agent(use->table)->dpd, &spec);
    }
    return true;
}

const struct nic_driver nic_sriov = {
    .nictype = "sriov",
    .fixed_by_network = "nictype parent mtu vlan maas.subnet.ipv4 maas.subnet.ipv6",
    .start = sriov_start,
    .stop = sriov_stop,
    .check = need_parent,
    .adopt = sriov_adopt,
    .vm = nicvf_item,
    .gives_back = true,
};
