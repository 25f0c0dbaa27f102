/* From the moment that QEMU answers to the guest's first instruction: what is plugged, in which order it boots, and
 * what the machine is from now on.
 * Called by vmboot.c. Main loop, inside a fiber. */

#include "agent/vm/vmrun.h"

#include <string.h>

#include "agent/vm/vmitem.h"
#include "base/clock.h"
#include "base/crash.h"

enum { RESET_MS = 60000 };

/* "q35" is another machine with each release of QEMU: the state has to know which. */
static void
pin_machine(VmSession *vm)
{
    json_t *type = qmp_call(vm->qmp, "qom-get",
                            json_pack("{s:s,s:s}", "path", "/machine", "property", "type"), NULL);
    const char *name = json_string_value(type);
    if (name != NULL && g_str_has_suffix(name, "-machine")) {
        json_object_set_new(vm->layout, "machine",
                            json_stringn(name, strlen(name) - strlen("-machine")));
    }
    json_decref(type);
}

static int
by_boot_order(const void *a, const void *b)
{
    json_t *x = *(json_t *const *) a, *y = *(json_t *const *) b;
    json_int_t first = json_integer_value(json_object_get(x, "boot"));
    json_int_t second = json_integer_value(json_object_get(y, "boot"));
    return first == second ? 0 : first > second ? -1 : 1;
}

/* "boot" as configured becomes "bootindex": the lowest boots first; equal ones in the order of their start.
 * 0 is that of a kernel which raw.qemu names. */
static void
number_boot_order(json_t *items)
{
    g_autoptr(GPtrArray) order = g_ptr_array_new();
    size_t i;
    json_t *item;
    json_array_foreach (items, i, item) {
        if (json_object_get(item, "boot") != NULL) {
            g_ptr_array_add(order, item);
        }
    }
    g_ptr_array_sort(order, by_boot_order);
    for (guint n = 0; n < order->len; n++) {
        json_object_set_new(order->pdata[n], "bootindex", json_integer(n + 1));
    }
}

static bool
plug_items(VmSession *vm, json_t *items, GError **error)
{
    size_t i;
    json_t *item;
    number_boot_order(items);
    json_array_foreach (items, i, item) {
        if (!vmplug_add(vm, item, error)) {
            return haw_push(error, "Failed to start device \"%s\"", vmitem_get(item, "device"));
        }
    }
    return true;
}

/* QEMU heeds the boot order of what was plugged since its start only after a reset; and does that when it
 * comes round to it. */
static bool
reset(VmSession *vm, GError **error)
{
    gint64 until = clock_mono_us() / 1000 + RESET_MS;
    vm->was_reset = false;
    if (!qmp_do(vm->qmp, "system_reset", NULL, error)) {
        return false;
    }
    while (!vm->was_reset && qmp_alive(vm->qmp)) {
        gint64 left = until - clock_mono_us() / 1000;
        if (left <= 0) {
            return haw_fail(error, HAW_TIMEOUT, "QEMU does not reset");
        }
        fiber_signal_wait(&vm->happened, left, NULL, NULL);
    }
    return vm->was_reset || haw_fail(error, HAW_UNAVAILABLE, "QEMU closed its monitor");
}

bool
vmsettle_run(VmSession *vm, json_t *items, GError **error)
{
    Qmp *qmp = vm->qmp;
    if (!plug_items(vm, items, error) || !vmcpu_settle(vm, error)) {
        return false;
    }
    pin_machine(vm);
    vmsession_store_layout(vm);
    crash_point("vm_start");
    if (!vm->incoming && !reset(vm, error)) {
        return false;
    }
    return qmp_do(qmp, "set-action", json_pack("{s:s}", "reboot", "shutdown"), error) &&
           (vm->incoming || qmp_do(qmp, "cont", NULL, error));
}
