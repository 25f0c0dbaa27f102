/* Accelerated NICs: what the device asks for, as a port of hawser-dpd.
 * X1  The port's id is the device's, not the logical port's: it can be given back when the network, or
 *     what was known of it, is gone.
 * X2  volatile.NIC.last_state.vf.id says that the NIC has a function: such a host interface is handed
 *     back, never deleted.
 * X3  The ladder of hawser.acceleration.fallback is vdpa, sriov, software; only "there is none here"
 *     leads to the next rung, a failure does not.
 * Called by nic_ovn.c and nic.c. */
#include "agent/net/nic_accel.h"

#include <stdlib.h>
#include <string.h>

#include "agent/net/nicvf.h"
#include "agent/ovn/ovn.h"
#include "base/log.h"
#include "proto/grammar.h"
#include "proto/keys.h"

bool
nic_accel_wanted(const NicUse *use)
{
    const char *kind = nicuse_get(use, "acceleration");
    bool plain = nicuse_volatile(use, "hawser.plain") != NULL; /* move/liveswap.c */
    return kind != NULL && strcmp(kind, "none") != 0 && !plain;
}

bool
nic_accel_running(const NicUse *use)
{
    return use->nic->volatiles != NULL && nicuse_volatile(use, "last_state.vf.id") != NULL;
}

static char *
id_of(const Nic *nic)
{
    return dpdclient_id(nic->project, nic->inst, nic->device);
}

/* What the texts of a port's description live in. */
typedef struct {
    char *id, **parents;
} Texts;

static void
texts_done(Texts *texts)
{
    g_free(texts->id);
    g_strfreev(texts->parents);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(Texts, texts_done)

static void
describe(NicUse *use, const char *kind, const char *lsp, const char *mac, Texts *texts,
         Dpd__Port *ret)
{
    Agent *agent = netobj_agent(use->table);
    const char *mtu = use->net != NULL ? netobj_get(use->net, "bridge.mtu") : NULL;
    texts->id = id_of(use->nic);
    texts->parents = grammar_list(nicuse_get(use, "acceleration.parent"));
    dpd__port__init(ret);
    ret->id = texts->id;
    ret->kind = strcmp(kind, "vdpa") == 0 ? DPD__KIND__VDPA : DPD__KIND__VF;
    ret->vfio = nicuse_is_vm(use) && ret->kind == DPD__KIND__VF;
    ret->iface_id = (char *) (guintptr) lsp;
    ret->bridge = (char *) (guintptr) ovn_integration_bridge(agent);
    ret->mac = (char *) (guintptr) mac;
    ret->mtu = mtu != NULL ? (guint) atoi(mtu) : 0;
    ret->parents = texts->parents;
    ret->n_parents = g_strv_length(texts->parents);
    ret->plain = g_strcmp0(ovn_datapath_type(agent), "netdev") == 0;
}

/* Offloaded flows are what acceleration is for; a simulated NIC has no hardware to put them in. */
static bool
check_offload(NicUse *use, GError **error)
{
    Ovsdb *local = ovn_local(netobj_agent(use->table));
    const char *backend = g_getenv("HAWSER_HW");
    if (local == NULL || (backend != NULL && g_str_has_prefix(backend, "sim:"))) {
        return true;
    }
    g_autoptr(GPtrArray) roots = ovsdb_list(local, "Open_vSwitch", NULL, NULL);
    const char *on =
        roots->len > 0 ? ovsdb_map_text(roots->pdata[0], "other_config", "hw-offload") : NULL;
    return g_strcmp0(on, "true") == 0 ||
           haw_fail(error, HAW_UNSUPPORTED,
                    "SR-IOV acceleration requires hardware offloading be enabled in OVS: "
                    "ovs-vsctl set Open_vSwitch . other_config:hw-offload=true, and restart "
                    "ovs-vswitchd ('hawser hw doctor' checks it)");
}

static bool
put(NicUse *use, const char *kind, const char *lsp, const char *mac, char **ret_link,
    GError **error)
{
    DpdPort port;
    Dpd__Port spec;
    g_auto(Texts) texts = {NULL, NULL};
    if (strcmp(kind, "vdpa") == 0 && !nicuse_is_vm(use)) {
        return haw_fail(error, HAW_UNSUPPORTED,
                        "VDPA acceleration is for virtual machines only: a container takes "
                        "acceleration=sriov");
    }
    describe(use, kind, lsp, mac, &texts, &spec);
    if (!check_offload(use, error) ||
        !dpdclient_put(netobj_agent(use->table)->dpd, &spec, &port, error)) {
        return false;
    }
    nicvf_note(use, &port);
    *ret_link = g_strdup(port.netdev[0] != '\0' ? port.netdev : port.representor);
    return true;
}

/* X3 */
static bool
is_lack(const GError *error)
{
    HawCode code = haw_code(error);
    return code == HAW_UNSUPPORTED || code == HAW_LIMIT || code == HAW_NOT_FOUND;
}

bool
nic_accel_start(NicUse *use, const char *lsp, const char *mac, char **ret_link, GError **error)
{
    const char *wanted = nicuse_get(use, "acceleration");
    bool fallback = nicuse_bool(use, "hawser.acceleration.fallback");
    const char *const rungs[] = {"vdpa", "sriov"};
    for (size_t i = strcmp(wanted, "vdpa") == 0 ? 0 : 1; i < G_N_ELEMENTS(rungs); i++) {
        g_autoptr(GError) why = NULL;
        if (put(use, rungs[i], lsp, mac, ret_link, &why)) {
            return true;
        }
        if (!fallback || !is_lack(why)) {
            g_propagate_error(error, g_steal_pointer(&why));
            return false;
        }
        haw_warn("nic.fallback", KS("inst", use->nic->inst), KS("nic", use->nic->device),
                 KS("without", rungs[i]), KS("why", why->message));
    }
    *ret_link = NULL;
    return true;
}

void
nic_accel_vm(NicUse *use, json_t *item)
{
    if (!nic_accel_running(use)) {
        return;
    }
    nicvf_item(use, item);
    if (nicuse_volatile(use, "last_state.vdpa.name") != NULL) {
        g_autofree char *id = id_of(use->nic);
        json_object_set_new(item, "kind", json_string("vdpa"));
        json_object_set_new(item, "id", json_string(id));
    }
}

bool
nic_accel_stop(const Nic *nic, Agent *agent, GError **error)
{
    g_autofree char *id = id_of(nic); /* X1 */
    if (!dpdclient_drop(agent->dpd, id, error)) {
        return false;
    }
    nicvf_forget(nic);
    return true;
}

void
nic_accel_adopt(NicUse *use, const char *lsp, const char *mac)
{
    Dpd__Port spec;
    g_auto(Texts) texts = {NULL, NULL};
    bool vdpa = nicuse_volatile(use, "last_state.vdpa.name") != NULL;
    describe(use, vdpa ? "vdpa" : "sriov", lsp, mac, &texts, &spec);
    dpdclient_adopt(netobj_agent(use->table)->dpd, &spec);
}
