/* diskimg.h: disks between the form that images have (qcow2) and that of volumes (raw).
 * Threads: main loop, inside fibers; the work is done by a confined child. Both Yield. */
#pragma once
#include "agent/agent.h"
#include <gio/gio.h>

/* The qcow2 file becomes a sparse raw file at 'path' (not there yet). Either is refused as qcow.h says.
 * On failure nothing is left at 'path'. */
bool diskimg_to_raw(Agent *agent, int qcow_fd, const char *path, GCancellable *cancel,
                    GError **error);
/* The raw file becomes a qcow2 file at 'path' (not there yet). */
bool diskimg_to_qcow(Agent *agent, int raw_fd, const char *path, bool compress,
                     GCancellable *cancel, GError **error);
