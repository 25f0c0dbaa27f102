/* voledit.h: changes of custom volumes that touch more than one of: row, disk, devices that use it.
 * Threads: main loop, inside fibers; all yield. */
#pragma once
#include "agent/store/shelf.h"

/* New description and config (stolen by nobody); size takes effect. LXD's texts. */
bool voledit_update(PoolTable *table, const Vol *vol, const VolumeRow *row, const char *description,
                    json_t *config, GError **error);
/* Devices of instances and profiles that name the volume 'from' name 'to' from now on. */
bool voledit_devices(PoolTable *table, const Vol *from, const Vol *to, GError **error);
/* To another pool or project: copy with snapshots, devices follow, then the original goes. */
bool voledit_move(PoolTable *table, const Vol *from, const Vol *to, GCancellable *cancel,
                  GError **error);
/* Makes 'to' (which exists) equal to 'from': missing snapshots come, surplus ones go, the content is
 * replaced whole. */
bool voledit_refresh(PoolTable *table, const Vol *from, const Vol *to, bool with_snapshots,
                     GCancellable *cancel, GError **error);
