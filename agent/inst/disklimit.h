/* disklimit.h: how fast a disk device may be read and written.
 * Threads: main loop, inside fibers. */
#pragma once
#include "agent/inst/devtype.h"

/* "30MB" (a second) or "200iops". */
bool disklimit_check(const char *value, GError **error);
/* For a start: appends [key, value] pairs to 'lxc'. */
bool disklimit_to_lxc(Agent *agent, const Device *device, json_t *lxc, GError **error);
/* On the running instance; 'all' also lifts what isn't limited (any more). */
bool disklimit_live(Agent *agent, const Device *device, bool all, GError **error);
