/* movecustom.h: custom volumes between servers, by LXD's migration protocol.
 * Threads: main loop; the operations run in fibers of their own. */
#pragma once
#include "agent/api/server.h"
#include "agent/store/pool.h"

/* POST …/volumes/custom/{volume} with "migration": the volume as a source. */
bool movecustom_send(Request *req, const Vol *vol, GError **error);
/* POST …/volumes/custom with a source of type "migration": 'to' is new, or is refreshed. 'config' and
 * 'description' are the body's. */
bool movecustom_receive(Request *req, const Vol *to, json_t *source, json_t *config,
                        const char *description, const char *content_type, GError **error);
