/* publish.h: instances and snapshots made into images. Threads: main loop, inside fibers. */
#pragma once
#include "agent/image/image.h"
#include "agent/image/intake.h"

/* From an ImagesPost whose source.type is "instance", "container", "virtual-machine" or "snapshot":
 * an inspected intake, to be committed. Yields. */
Intake *publish_instance(Agent *agent, Operation *op, const char *project, json_t *request,
                         GError **error);
