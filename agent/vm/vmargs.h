/* vmargs.h: QEMU's arguments as sections that raw.qemu.conf can change, and as an argument list.
 * Threads: any, one at a time. */
#pragma once
#include "base/error.h"

typedef struct VmArgs VmArgs;
VmArgs *vmargs_new(void);
void vmargs_free(VmArgs *args);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(VmArgs, vmargs_free)

/* A section: vmargs_add(args, "device", "scsi", "driver", "virtio-scsi-pci", …, NULL): names and values
 * in pairs; 'id' may be NULL. A NULL value leaves its pair out. */
void vmargs_add(VmArgs *args, const char *name, const char *id, ...) G_GNUC_NULL_TERMINATED;
/* One more pair of the section added last; 'value' is formatted. */
void vmargs_set(VmArgs *args, const char *key, const char *format, ...) G_GNUC_PRINTF(3, 4);
/* An option that is no section: "-S", or "-name" with its value. 'value' may be NULL. */
void vmargs_plain(VmArgs *args, const char *option, const char *value);
/* LXD's grammar: [name], [name "id"], each with an optional [index]; without keys the section goes; an
 * empty value takes the key away; a section that is not there is added. INVALID with the line. */
bool vmargs_override(VmArgs *args, const char *text, GError **error);
/* Appends to 'argv' (of owned strings): the plain options, then the sections, in order. */
void vmargs_render(const VmArgs *args, GPtrArray *argv);
