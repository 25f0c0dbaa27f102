/* fastattach.h: where the fast path's programs are attached: tc of an interface, for longer than we live.
 * Threads: one, the daemon's. Nothing Yields. */
#pragma once
#include "base/error.h"

/* At ingress, or 'egress', instead of one of ours that is there. Links are pinned in 'pin_dir'. */
bool fastattach_put(const char *pin_dir, int program, guint32 ifindex, bool egress, GError **error);
/* Not there is no error. */
void fastattach_drop(const char *pin_dir, guint32 ifindex, bool egress);
/* Attaches by clsact in this process, as on older kernels. */
void fastattach_without_tcx(void);
