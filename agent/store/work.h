/* work.h: a driver's volume calls, made from a fiber: each runs on a worker and yields.
 * Threads: main loop, inside fibers. */
#pragma once
#include "agent/store/pooldriver.h"

bool work_create(const Driver *driver, const DriverVol *vol, GError **error);
bool work_clone(const Driver *driver, const DriverVol *from, const DriverVol *to,
                GCancellable *cancel, GError **error);
/* Between pools: the content of 'from' (seen through its driver's view, made under 'scratch') into a
 * new 'to'. */
bool work_carry(const Driver *driver, const DriverVol *from, const char *scratch,
                const Driver *to_driver, const DriverVol *to, GCancellable *cancel, GError **error);
/* The driver's view at 'target', a new directory; work_unview() takes it away again. */
bool work_view(const Driver *driver, const DriverVol *vol, const char *target, GError **error);
void work_unview(const char *target);
bool work_seal(const Driver *driver, const DriverVol *vol, bool on, GError **error);
bool work_remove(const Driver *driver, const DriverVol *vol, GError **error);
bool work_quota(const Driver *driver, const DriverVol *vol, gint64 bytes, GError **error);
bool work_usage(const Driver *driver, const DriverVol *vol, gint64 *ret_used, gint64 *ret_total);
bool work_mount(const Driver *driver, const DriverVol *vol, const struct mnt_idmap *map,
                size_t map_count, GError **error);
bool work_unmount(const Driver *driver, const DriverVol *vol, bool lazy, GError **error);
/* Grows (or makes) the raw file of a block volume. */
bool work_block_size(const DriverVol *vol, gint64 bytes, GError **error);
bool work_can_idmap(const char *path);
