/* What a NIC remembers of its virtual function. hawser-dpd's ledger is what the function is given back by;
 * these keys show it, as LXD's do.
 * Called by nic_sriov.c and nic_accel.c. */
#include "agent/net/nicvf.h"

static void
set_text(const NicUse *use, const char *key, const char *text)
{
    nicuse_set_volatile(use, key, text[0] != '\0' ? text : NULL);
}

void
nicvf_note(const NicUse *use, const DpdPort *port)
{
    nicuse_set_volatile(use, "last_state.created", "false");
    nicuse_set_volatile(use, "last_state.hwaddr", port->old_mac);
    nicuse_set_number(use, "last_state.mtu", port->old_mtu);
    nicuse_set_volatile(use, "last_state.vf.parent", port->pf);
    nicuse_set_number(use, "last_state.vf.id", port->vf);
    nicuse_set_volatile(use, "last_state.vf.hwaddr", port->old_vf_mac);
    nicuse_set_number(use, "last_state.vf.vlan", MAX(port->old_vlan, 0));
    nicuse_set_volatile(use, "last_state.vf.spoofcheck",
                        port->old_spoof_check > 0 ? "true" : "false");
    set_text(use, "last_state.vdpa.name", port->vdpa);
    set_text(use, "last_state.pci.slot.name", port->pci);
    set_text(use, "host_name", port->netdev[0] != '\0' ? port->netdev : port->representor);
}

void
nicvf_forget(const Nic *nic)
{
    static const char *const keys[] = {"last_state.created",
                                       "last_state.hwaddr",
                                       "last_state.mtu",
                                       "last_state.vf.id",
                                       "last_state.vf.parent",
                                       "last_state.vf.hwaddr",
                                       "last_state.vf.vlan",
                                       "last_state.vf.spoofcheck",
                                       "last_state.vdpa.name",
                                       "last_state.pci.slot.name",
                                       "host_name"};
    for (size_t i = 0; i < G_N_ELEMENTS(keys); i++) {
        json_object_del(nic->volatiles, keys[i]);
    }
}

void
nicvf_item(NicUse *use, json_t *item)
{
    const char *pci = nicuse_volatile(use, "last_state.pci.slot.name");
    json_object_set_new(item, "kind", json_string("vfio"));
    if (pci != NULL) {
        json_object_set_new(item, "pci", json_string(pci));
    }
}
