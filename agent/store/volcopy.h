/* volcopy.h: custom volumes copied, refreshed or moved within the server, by operations that answer the request.
 * Threads: main loop, inside fibers. */
#pragma once
#include "agent/api/request.h"
#include "agent/store/pool.h"

/* 'to' from what the body's "source" names; DENIED when that is in a project that is not the caller's. */
bool volcopy_start(Request *req, const Vol *to, json_t *source, json_t *config,
                   const char *description, GError **error);
/* To another pool or project, its name included. */
bool volcopy_start_move(Request *req, const Vol *from, const Vol *to, GError **error);
