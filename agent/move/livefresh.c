/* A NIC's address is part of the state that a copied guest goes on from: on one segment, both would answer to it.
 * F1  The copy's NICs have no link from before its first instruction on, so that nothing of it is heard under the
 *     first one's address.
 * F2  Each is unplugged and plugged again, with the address that the copy has in its row. A guest that does not let go
 *     keeps a NIC without a link until it is started anew, and its log says so.
 * F3  An address that the configuration names is wanted at both, and stays.
 * Called by livein.c. */
#include "agent/move/livefresh.h"

#include "agent/inst/plugpart.h"
#include "agent/vm/vm.h"
#include "agent/vm/vmitem.h"
#include "base/log.h"
#include "proto/keys.h"

/* F3 */
static bool
gets_new_address(json_t *device)
{
    return plugpart_is_type(device, "nic") && keys_get(device, "hwaddr") == NULL;
}

static bool
cut_one(Inst *inst, const struct plugpart *nic, GError **error)
{
    g_autofree char *id = vmitem_id(nic->name);
    VmSession *vm = vm_session(inst);
    if (vm == NULL) {
        return haw_fail(error, HAW_FAILED, "QEMU ended at the target");
    }
    return qmp_do(vm_qmp(vm), "set_link", json_pack("{s:s,s:b}", "name", id, "up", 0), error) ||
           haw_push(error, "NIC \"%s\" of the copy", nic->name);
}

bool
livefresh_cut(Inst *inst, GError **error)
{
    return plugpart_each(inst, gets_new_address, cut_one, error);
}

/* F2 */
static bool
renew_one(Inst *inst, const struct plugpart *nic, GError **error)
{
    g_autoptr(GError) why = NULL;
    json_t *changes = json_object();
    (void) error;
    if (vm_session(inst) == NULL) { /* it has ended meanwhile */
        json_decref(changes);
        return true;
    }
    vm_keep_place(vm_session(inst), nic->name);
    bool ok = plugpart_hot_remove_vm(inst, nic, changes, &why) &&
              plugpart_hot_add_vm(inst, nic, changes, &why);
    if (vm_session(inst) != NULL) {
        vm_keep_place(vm_session(inst), NULL);
    }
    ok = inst_set_config(inst, changes, why == NULL ? &why : NULL) && ok;
    if (ok) {
        haw_info("live.fresh_nic", KS("inst", inst->name), KS("nic", nic->name));
    } else {
        haw_warn("live.fresh_nic", KS("inst", inst->name), KS("nic", nic->name),
                 KS("why", why->message));
    }
    return true;
}

static void
renew(void *data)
{
    g_autoptr(Inst) inst = data;
    g_auto(FiberHold) hold = inst_hold(inst, "update", NULL);
    if (hold != NULL) {
        plugpart_each(inst, gets_new_address, renew_one, NULL);
    }
}

void
livefresh_start(Inst *inst)
{
    fiber_start("live-fresh", renew, inst_ref(inst));
}
