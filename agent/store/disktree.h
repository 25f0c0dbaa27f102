/* disktree.h: copying and removing whole directory trees, everything kept.
 * Threads: a worker (fiber_run), never the main loop: it blocks, and starts threads of its own. */
#pragma once
#include "base/error.h"
#include <gio/gio.h>

/* Copies what is in 'from' into 'to' (which must exist, have nothing but directories, and gets from's own
 * owner, mode, times, xattrs too): ownership, modes, nanosecond times, xattrs with ACLs and capabilities, hard
 * links, holes, symlinks, devices, fifos. File contents are shared (reflinked) where the filesystem
 * can. What vanishes meanwhile is left out. Symlinks are never followed, mounts never entered.
 * LIMIT when the disk is full, CANCELLED. */
bool disktree_copy(const char *from, const char *to, GCancellable *cancel, GError **error);
/* A regular file's content and holes; 'to' is created with the mode of 'from'. */
bool disktree_copy_file(const char *from, const char *to, GError **error);
/* rm -rf that takes immutable flags off as well. Not there is success. */
bool disktree_remove(const char *path, GError **error);
/* Empty, or not there. */
bool disktree_is_empty(const char *path);
