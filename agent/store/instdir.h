/* instdir.h: what a container's volume must be before anybody opens names in it.
 * Threads: main loop, inside fibers; yields. */
#pragma once
#include "base/error.h"

/* INVALID unless <dir>/rootfs is a directory, and no link to one. */
bool instdir_check(const char *dir, GError **error);
/* The same of what another server has sent, which may have nothing in it that storage drivers read. */
bool instdir_check_foreign(const char *dir, GError **error);
