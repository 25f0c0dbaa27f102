/* plain.h: volumes that are plain directories: what 'dir' does, and 'overlay' where it need not do
 * better. Threads: workers; see pooldriver.h. */
#pragma once
#include "agent/store/pooldriver.h"

/* A pool that is a directory: DriverPool calls. */
bool plain_pool_create(const DriverPool *pool, GError **error);
bool plain_pool_mount(const DriverPool *pool, GError **error);
bool plain_pool_unmount(const DriverPool *pool, GError **error);
bool plain_pool_delete(const DriverPool *pool, GError **error);

bool plain_create(const DriverVol *vol, GError **error);
bool plain_clone(const DriverVol *from, const DriverVol *to, GCancellable *cancel, GError **error);
bool plain_remove(const DriverVol *vol, GError **error);
bool plain_set_quota(const DriverVol *vol, gint64 bytes, GError **error);
bool plain_usage(const DriverVol *vol, gint64 *ret_used, gint64 *ret_total);
