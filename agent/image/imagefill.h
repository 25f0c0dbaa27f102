/* imagefill.h: unpacks an image's files into a directory. Threads: main loop, inside fibers. */
#pragma once
#include "agent/agent.h"
#include "agent/api/operation.h"

/* The files of the image are here, and stay so. 'op' may be NULL. Yields. */
bool imagefill(Agent *agent, Operation *op, const char *fingerprint, const char *path,
               GError **error);
