/* instdir.h: what a container's volume must be before anybody opens names in it.
 * Threads: main loop, inside fibers; yields. */
#pragma once
#include "base/error.h"

/* INVALID unless <dir>/rootfs is a directory, and no link to one. */
bool instdir_check(const char *dir, GError **error);
