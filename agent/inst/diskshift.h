/* diskshift.h: the owners of a custom volume's files, as a container wants them on disk.
 * Threads: main loop, inside fibers. */
#pragma once
#include "agent/inst/devtype.h"
#include "agent/store/pool.h"

/* 'path' is where the volume is mounted, 'config' its config; 'plain': ids on disk are those inside (privileged
 * containers, security.shifted), else they are the container's. Yields: the first time it walks the whole volume. */
bool diskshift(Agent *agent, const Device *device, const Vol *vol, const char *path, json_t *config,
               bool plain, GError **error);
