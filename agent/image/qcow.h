/* qcow.h: what a qcow2 file says about itself, before anything else opens it.
 * Threads: any; blocks on the disk. */
#pragma once
#include "base/error.h"

/* Of the disk in it, in bytes. INVALID for what is no qcow2 file, and for one that names other files
 * (a backing file, an external data file), is encrypted, or needs what is not known here. */
bool qcow_check(int fd, gint64 *ret_size, GError **error);
/* The same for a header in memory: the file's first bytes. */
bool qcow_check_bytes(const guint8 *bytes, size_t size, gint64 *ret_size, GError **error);
