/* Any bytes as what a QEMU sends on its monitor: framing and messages. Never a crash; what came in pieces is
 * what came whole; a message is of one kind and its parts are its own. Beside it a layout that came with a
 * saved or moved state. */
#include "agent/vm/qmp.h"
#include "agent/vm/vmargs.h"
#include "agent/vm/vmlayout.h"
#include "proto/jsonscan.h"

#include <stdint.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static void
look(json_t *object, GString *seen)
{
    g_autoptr(GError) error = NULL;
    QmpMessage message = {0};
    if (!qmp_read(object, &message, &error)) {
        g_assert_nonnull(error);
        g_string_append_c(seen, '?');
        return;
    }
    g_assert_null(error);
    g_assert_true(message.kind != QMP_EVENT || message.name != NULL);
    g_assert_true(message.kind != QMP_ERROR || (message.name != NULL && message.text != NULL));
    g_assert_true(message.kind != QMP_RETURN || message.data != NULL);
    g_string_append_printf(seen, "%d:%" G_GUINT64_FORMAT " ", (int) message.kind, message.id);
    if (message.kind == QMP_RETURN && json_is_object(message.data)) {
        json_t *layout = json_deep_copy(message.data);
        if (vmlayout_check(layout, NULL)) {
            int port = vmlayout_port(layout, "eth0", NULL);
            g_assert_cmpint(port, <, VMLAYOUT_PORTS_MAX);
        }
        json_decref(layout);
    }
}

static char *
scan(const uint8_t *bytes, size_t size, size_t step)
{
    g_autoptr(JsonScan) scanner = jsonscan_new(64 * 1024);
    g_autoptr(GString) seen = g_string_new(NULL);
    bool broken = false;
    for (size_t at = 0; !broken && at < size; at += step) {
        jsonscan_feed(scanner, bytes + at, MIN(step, size - at));
        for (json_t *object = NULL; !broken; json_decref(object)) {
            object = NULL;
            broken = !jsonscan_next(scanner, &object, NULL);
            if (broken || object == NULL) {
                break;
            }
            look(object, seen);
        }
    }
    g_string_append_c(seen, broken ? '!' : '.');
    return g_string_free(g_steal_pointer(&seen), FALSE);
}

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    g_autofree char *whole = scan(bytes, size, MAX(size, 1)), *pieces = scan(bytes, size, 5);
    g_assert_cmpstr(whole, ==, pieces);
    g_autofree char *text = g_strndup(size > 0 ? (const char *) bytes : "", size);
    g_autoptr(VmArgs) args = vmargs_new();
    g_autoptr(GPtrArray) argv = g_ptr_array_new_with_free_func(g_free);
    g_autoptr(GError) error = NULL;
    vmargs_add(args, "device", "scsi", "driver", "virtio-scsi-pci", NULL);
    if (g_utf8_validate(text, -1, NULL) && vmargs_override(args, text, &error)) {
        vmargs_render(args, argv);
    }
    return 0;
}
