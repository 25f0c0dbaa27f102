/* subvol.h: btrfs subvolumes and quota groups by ioctl, and nothing forked.
 * Threads: workers; all block. */
#pragma once
#include "base/error.h"
#include <gio/gio.h>

/* Whether 'path' is the root of a subvolume. */
bool subvol_is(const char *path);
bool subvol_create(const char *path, GError **error);
/* A writable snapshot of 'from' at 'to', with the subvolumes below it: those are read-only where they were. */
bool subvol_snapshot(const char *from, const char *to, GError **error);
/* Where 'from' has subvolumes below it, 'to' gets empty ones, and the directories between. */
bool subvol_shape(const char *from, const char *to, GError **error);
/* Of the subvolumes below 'to' those become read-only that are so below 'from'. */
bool subvol_seal_below(const char *from, const char *to, GError **error);
/* Removes the subvolume, or a plain directory with subvolumes somewhere below. Not there is success. */
bool subvol_remove(const char *path, GError **error);
/* Paths ("a/b") of the subvolumes below the subvolume 'path', parents first; caller unrefs. */
GPtrArray *subvol_list_below(const char *path, GError **error);
/* 'on': read-only from now on. Not a subvolume: nothing happens. */
bool subvol_set_readonly(const char *path, bool on, GError **error);
bool subvol_is_readonly(const char *path);
/* A limit on what the subvolume refers to; 0 takes it away. Turns quotas on for the filesystem at the
 * first limit. */
bool subvol_limit(const char *path, gint64 bytes, GError **error);
/* Bytes referred to and the limit (0: none); false while quotas are off. */
bool subvol_usage(const char *path, gint64 *ret_used, gint64 *ret_total);
/* The filesystem grows to the size of its device. */
bool subvol_resize_max(const char *mount, GError **error);
