/* guestimage.h: an image's files for a guest with security.devlxd.images.
 * Threads: main loop, inside fibers. */
#pragma once
#include "agent/inst/inst.h"

/* Answers on 'fd' with one file, or with metadata and root file system as multipart; 404 for an image that
 * is neither public nor cached. False when the guest is gone. */
bool guestimage_export(Agent *agent, Inst *inst, int fd, const char *fingerprint);
