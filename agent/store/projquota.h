/* projquota.h: project quotas of ext4 and xfs: a limit on a directory tree.
 * Threads: any; blocks. */
#pragma once
#include "base/error.h"

/* Whether the filesystem that holds 'path' accounts by project. */
bool projquota_on(const char *path);
/* The project of a directory and all that is made below it from now on; with 'deep' also what is
 * there already. */
bool projquota_assign(const char *path, guint32 project, bool deep, GError **error);
/* 0 takes the limit away. */
bool projquota_limit(const char *path, guint32 project, gint64 bytes, GError **error);
/* False when it cannot tell. */
bool projquota_usage(const char *path, guint32 project, gint64 *ret_used, gint64 *ret_total);
