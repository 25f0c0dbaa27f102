/* upkeep.h: what happens to images by themselves. Threads: main loop, inside fibers. All Yield. */
#pragma once
#include "agent/image/image.h"

/* After a crash: half-made files, files and volumes without a row. */
bool upkeep_clean(Agent *agent, GError **error);
/* Images past their expiry, cached ones that nobody used for images.remote_cache_expiry days. */
bool upkeep_expire(Agent *agent, Operation *op, GError **error);
/* Every image with auto_update whose source now has another one. */
bool upkeep_update_all(Agent *agent, Operation *op, GError **error);
/* One image: *ret_refreshed tells whether its source had another one. */
bool upkeep_refresh(Agent *agent, Operation *op, const char *project, json_t *image,
                    bool *ret_refreshed, GError **error);
