/* What stands in the way of a live move, at the source: all of it is found, so that it can be said at once.
 * Called by liveout.c. */
#include "agent/move/livecheck.h"

#include "agent/move/livehello.h"
#include "agent/move/liveswap.h"
#include "agent/vm/vm.h"
#include "agent/vm/vmitem.h"
#include "proto/keys.h"

#include <string.h>

static void
look_at_device(const char *name, json_t *device, GPtrArray *disks, json_t *blockers)
{
    static const char *const fixed[] = {"gpu",       "usb",        "pci",          "infiniband",
                                        "unix-char", "unix-block", "unix-hotplug", NULL};
    const char *type = keys_get(device, "type"), *nictype = keys_get(device, "nictype");
    const char *path = keys_get(device, "path"), *source = keys_get(device, "source");
    if (type == NULL) {
        return;
    }
    if (g_strv_contains(fixed, type)) {
        livehello_block(blockers, "device \"%s\" (%s) is this host's", name, type);
    } else if (strcmp(type, "nic") == 0 && nictype != NULL &&
               (strcmp(nictype, "physical") == 0 || strcmp(nictype, "sriov") == 0)) {
        livehello_block(blockers, "NIC \"%s\" is a function of this host's hardware", name);
    } else if (strcmp(type, "disk") == 0 && g_strcmp0(path, "/") == 0) {
        g_ptr_array_add(disks, vmitem_node(name));
    } else if (strcmp(type, "disk") == 0 && source != NULL && strstr(source, ":config") == NULL) {
        livehello_block(
            blockers, "disk \"%s\": only the root disk moves with a running virtual machine", name);
    }
}

/* What QEMU itself would refuse at the very end. */
static void
look_at_qemu(Inst *inst, json_t *blockers)
{
    size_t i;
    json_t *each;
    json_auto_t *info = qmp_call(vm_qmp(vm_session(inst)), "query-migrate", NULL, NULL);
    json_array_foreach (json_object_get(info, "blocked-reasons"), i, each) {
        livehello_block(blockers, "QEMU: %s", json_string_value(each));
    }
}

json_t *
livecheck_blockers(Inst *inst, GPtrArray *disks)
{
    const char *name;
    bool swapped = false;
    json_t *device, *blockers = json_array();
    json_auto_t *devices = json_incref(inst->expanded_devices);
    json_object_foreach (devices, name, device) {
        look_at_device(name, device, disks, blockers);
        swapped = swapped || liveswap_can(device);
    }
    if (inst_get_bool(inst, "security.sev", false)) {
        livehello_block(blockers, "its memory is encrypted (security.sev)");
    }
    if (!swapped) {
        look_at_qemu(inst, blockers);
    }
    return blockers;
}

bool
livecheck_qemu(Inst *inst, GError **error)
{
    json_auto_t *none = json_array(), *blockers = json_array();
    look_at_qemu(inst, blockers);
    return livehello_check(none, blockers, error);
}
