/* diskvm.h: what a disk device shows to a virtual machine.
 * Threads: main loop, inside fibers. */
#pragma once
#include "agent/inst/devtype.h"

/* Whether a source is a disc that is made of the configuration. */
bool diskvm_is_config(const char *source);
/* Fills 'item' (vm/vmitem.h): a file or block device for a disk, a directory for a share. Empty for a
 * source that is not there and not required. diskvm_stop() undoes it. Yields. */
bool diskvm_start(Agent *agent, const Device *device, json_t *item, GError **error);
bool diskvm_stop(Agent *agent, const Device *device, GError **error);
