/* Names of devices, as QEMU's ids. An id begins with a letter, has letters, digits, "-", "." and "_", and a
 * node of the block layer at most 31 bytes. */
#include "agent/vm/vmitem.h"

#include <string.h>

#include "proto/keys.h"

enum { NAME_MAX_BYTES = 25 };

const char *
vmitem_get(json_t *item, const char *key)
{
    return keys_get(item, key);
}

char *
vmitem_node(const char *device)
{
    g_autoptr(GString) text = g_string_new("lxd_");
    for (const char *at = device; *at != '\0'; at++) {
        if (g_ascii_isalnum(*at) || *at == '-' || *at == '.') {
            g_string_append_c(text, *at);
        } else {
            g_string_append_printf(text, "_%02x", (guint8) *at);
        }
    }
    if (text->len > NAME_MAX_BYTES + strlen("lxd_")) {
        g_autofree char *sum = g_compute_checksum_for_string(G_CHECKSUM_SHA256, device, -1);
        g_string_printf(text, "lxd_%.*s", NAME_MAX_BYTES, sum);
    }
    return g_string_free(g_steal_pointer(&text), FALSE);
}

char *
vmitem_id(const char *device)
{
    g_autofree char *node = vmitem_node(device);
    return g_strconcat("dev-", node, NULL);
}
