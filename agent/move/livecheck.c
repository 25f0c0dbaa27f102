/* What stands in the way of a live move, at either end: all of it is found, so that it can be said at once.
 * Called by liveout.c and livein.c. */
#include "agent/move/livecheck.h"

#include "agent/move/livedisk.h"
#include "agent/move/liveswap.h"
#include "agent/vm/vm.h"
#include "agent/vm/vmhost.h"
#include "base/fd.h"
#include "proto/keys.h"

#include <string.h>

static void
look_at_device(const char *name, json_t *device, json_t *blockers)
{
    static const char *const fixed[] = {"gpu",       "usb",        "pci",          "infiniband",
                                        "unix-char", "unix-block", "unix-hotplug", NULL};
    const char *type = keys_get(device, "type"), *nictype = keys_get(device, "nictype");
    if (type == NULL) {
        return;
    }
    if (g_strv_contains(fixed, type)) {
        livehello_block(blockers, "device \"%s\" (%s) is this host's", name, type);
    } else if (strcmp(type, "nic") == 0 && nictype != NULL &&
               (strcmp(nictype, "physical") == 0 || strcmp(nictype, "sriov") == 0)) {
        livehello_block(blockers, "NIC \"%s\" is a function of this host's hardware", name);
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
        look_at_device(name, device, blockers);
        swapped = swapped || liveswap_can(device);
    }
    livedisk_list(inst, disks, blockers);
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

/* ---- target ---- */

static gint64
available_bytes(void)
{
    g_autofree char *text = fd_read_file("/proc/meminfo", 65536, NULL, NULL);
    const char *at = text != NULL ? strstr(text, "MemAvailable:") : NULL;
    return at != NULL ? g_ascii_strtoll(at + 13, NULL, 10) * 1024 : G_MAXINT64;
}

json_t *
livecheck_here(Inst *inst, const struct live_hello *hello)
{
    json_t *blockers = json_array();
    g_autoptr(GError) error = NULL;
    g_autofree char *why = NULL;
    const char *accel = vmhost_accel(NULL, &why, &error);
    const char *theirs = json_string_value(json_object_get(hello->layout, "accel"));
    gint64 available = available_bytes();
    if (vmhost_qemu(inst->architecture, &error) == NULL) {
        livehello_block(blockers, "at the target: %s", error->message);
        g_clear_error(&error);
    }
    if (accel != NULL && g_strcmp0(theirs, accel) != 0 && g_strcmp0(theirs, "kvm") == 0) {
        livehello_block(blockers, "the target has no KVM (%s)", why != NULL ? why : accel);
    }
    g_autofree char *ours = vmhost_cpu_features(NULL);
    g_autofree char *lacks = vmhost_cpu_lacks(hello->cpu, ours);
    if (lacks != NULL) {
        livehello_block(blockers, "the target's CPU lacks what the guest has found: %s", lacks);
    }
    livedisk_check(inst, hello, blockers);
    if (hello->memory > available) {
        livehello_block(blockers,
                        "the target has %" G_GINT64_FORMAT
                        " MiB of memory left, and %" G_GINT64_FORMAT " MiB are needed",
                        available >> 20, hello->memory >> 20);
    }
    return blockers;
}
