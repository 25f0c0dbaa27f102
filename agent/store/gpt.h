/* gpt.h: a partition table that follows its disk when that grows.
 * Threads: a worker; blocks on the disk. */
#pragma once
#include "base/error.h"

/* The disk in 'fd' has 'bytes' now: the copy of its table that lies at the end is written at the new
 * end, and what is between becomes usable. A disk without a (whole) table is left as it is. */
bool gpt_follow(int fd, gint64 bytes, GError **error);
