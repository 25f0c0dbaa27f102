/* vmitem.h: what a device's start hands to a VM: one JSON object a device, made on the host's side (disk,
 * network), plugged by vmplug.c. Beside "device" and "type":
 *   nic   "kind": "tap", "link", "mac", "mtu";  "macvtap", "link", "mac";  "vfio", "pci";  "vdpa", "id", "mac"
 *   disk  "kind": "file" or "block", "path", "readonly", "cdrom", "cache", "direct";
 *         "share", "path", "target", "readonly" (the guest agent's)
 *   tpm   nothing;   pci  "pci"
 * and "boot" (number, higher boots first; may be missing). Threads: any. */
#pragma once
#include <glib.h>
#include <jansson.h>

/* The text of a member, NULL when there is none. */
const char *vmitem_get(json_t *item, const char *key);
/* QEMU's ids of a device: "lxd_NAME" of its back end and "dev-lxd_NAME" of what the guest sees; what QEMU
 * cannot spell is written as _xx, what is too long as a checksum. Caller frees. */
char *vmitem_node(const char *device);
char *vmitem_id(const char *device);
