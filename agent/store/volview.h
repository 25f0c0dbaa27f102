/* volview.h: a volume's content to be read by a child process, as it is on disk: ids unmapped, layers
 * put together, unchanging where the driver can have that at once.
 * Threads: main loop, inside fibers; both Yield. */
#pragma once
#include "agent/store/shelf.h"

typedef struct {
    Pool *pool; /* borrows */
    char *path;
    bool cloned, viewed; /* path is ours to take away */
} VolView;
bool volview_open(PoolTable *table, const Vol *vol, VolView *ret, GError **error);
void volview_close(VolView *view);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(VolView, volview_close)
/* Whether what volview_open() shows keeps changing while the volume is used. */
bool volview_moves(PoolTable *table, const Vol *vol);
