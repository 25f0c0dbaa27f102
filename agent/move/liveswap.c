/* NICs with acceleration=sriov or vdpa can't move with a guest: a virtio NIC of software takes their place before
 * memory is tracked, and gives it back once the guest has settled.
 * W1  volatile.NIC.hawser.plain says that software stands in. It is stored before the NIC is touched, so that an
 *     agent that dies in the middle finds it at its start; the NIC's stop takes it away (nic.c), so that a guest
 *     which is started again has its function.
 * W2  MAC, addresses and the logical port stay, and so does the place in the machine: the guest sees a NIC go
 *     and the same come back, as it would at any hot plug.
 * W3  The guest has to let go. One that does not keeps its NIC, and does not move.
 * Called by liveout.c, livein.c and livedecide.c. */
#include "agent/move/liveswap.h"

#include "agent/inst/instdriver.h"
#include "agent/inst/plugpart.h"
#include "agent/vm/vm.h"
#include "base/crash.h"
#include "base/log.h"
#include "proto/keys.h"

#include <string.h>

bool
liveswap_can(json_t *device)
{
    const char *kind = keys_get(device, "acceleration");
    return plugpart_is_type(device, "nic") && kind != NULL && strcmp(kind, "none") != 0;
}

static char *
key_of(const char *nic, const char *key)
{
    return g_strdup_printf("volatile.%s.%s", nic, key);
}

static bool
is_plain(Inst *inst, const char *nic)
{
    g_autofree char *key = key_of(nic, "hawser.plain");
    return inst_get(inst, key) != NULL;
}

static bool
has_function(Inst *inst, const char *nic)
{
    g_autofree char *key = key_of(nic, "last_state.vf.id");
    return inst_get(inst, key) != NULL;
}

static void
mark(json_t *changes, const char *nic, bool plain)
{
    g_autofree char *key = key_of(nic, "hawser.plain");
    json_object_set_new(changes, key, plain ? json_string("true") : json_null());
}

/* W1 */
static bool
store_mark(Inst *inst, const char *nic, GError **error)
{
    json_t *changes = json_object();
    mark(changes, nic, true);
    return inst_set_config(inst, changes, error);
}

/* Out of the machine and in again, as the other kind. Where there is no function, software goes on (W1). */
static bool
plug_again(Inst *inst, const struct plugpart *nic, bool plain, json_t *changes, GError **error)
{
    if (!plugpart_hot_remove_vm(inst, nic, changes, error)) { /* W3 */
        return false;
    }
    crash_point("live_swap");
    mark(changes, nic->name, plain);
    if (plugpart_hot_add_vm(inst, nic, changes, error)) {
        return true;
    }
    mark(changes, nic->name, true);
    if (!plain && !plugpart_hot_add_vm(inst, nic, changes, NULL)) {
        haw_error("live.swap", KS("inst", inst->name), KS("nic", nic->name),
                  KS("why", "neither its function nor software could be plugged"));
    }
    return false;
}

static bool
swap(Inst *inst, const struct plugpart *nic, bool plain, GError **error)
{
    json_t *changes = json_object();
    vm_keep_place(vm_session(inst), nic->name); /* W2 */
    bool ok = plug_again(inst, nic, plain, changes, error);
    if (vm_session(inst) != NULL) {
        vm_keep_place(vm_session(inst), NULL);
    }
    crash_point("live_swap");
    g_autoptr(GError) unsaved = NULL;
    if (!inst_set_config(inst, changes, &unsaved)) {
        haw_warn("live.swap", KS("inst", inst->name), KS("why", unsaved->message));
    }
    if (ok) {
        haw_info("live.swapped", KS("inst", inst->name), KS("nic", nic->name),
                 KS("to", plain ? "software" : "function"));
    }
    return ok;
}

/* ---- for each ---- */

static bool
swap_one_out(Inst *inst, const struct plugpart *nic, GError **error)
{
    if (!has_function(
            inst, nic->name)) { /* the ladder of hawser.acceleration.fallback ended in software */
        return true;
    }
    return (store_mark(inst, nic->name, error) && swap(inst, nic, true, error)) ||
           haw_push(error, "NIC \"%s\" can't give its function back for the move", nic->name);
}

bool
liveswap_out(Inst *inst, GError **error)
{
    return plugpart_each(inst, liveswap_can, swap_one_out, error);
}

static bool
expect_one(Inst *inst, const struct plugpart *nic, GError **error)
{
    return store_mark(inst, nic->name, error);
}

bool
liveswap_expect(Inst *inst, GError **error)
{
    return plugpart_each(inst, liveswap_can, expect_one, error);
}

static bool
swap_one_back(Inst *inst, const struct plugpart *nic, GError **error)
{
    g_autoptr(GError) why = NULL;
    (void) error;
    if (is_plain(inst, nic->name) && vm_session(inst) != NULL && !swap(inst, nic, false, &why)) {
        haw_warn("live.swap_back", KS("inst", inst->name), KS("nic", nic->name),
                 KS("why", why->message));
    }
    return true;
}

void
liveswap_back(Inst *inst)
{
    plugpart_each(inst, liveswap_can, swap_one_back, NULL);
}
