/* vmdir.h: what came from elsewhere into the volume of a virtual machine, or into a block volume.
 * Threads: main loop, inside fibers; all Yield. */
#pragma once
#include "base/error.h"

/* The disk that was unpacked as 'name' becomes the volume's, DRIVER_BLOCK_FILE. INVALID when it is no
 * plain file. */
bool vmdir_take_disk(const char *dir, const char *name, GError **error);
/* The directory has nothing but plain files and directories, so that whoever opens a name in it opens what
 * lies in it. A firmware's variables that are a link within it (LXD's are) become a plain file. INVALID
 * names the offender. */
bool vmdir_check(const char *dir, GError **error);
