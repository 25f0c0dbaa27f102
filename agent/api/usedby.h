/* usedby.h: "used_by" of what a restricted caller is shown.
 * Threads: any. */
#pragma once
#include "agent/api/request.h"

/* 'metadata' (an object or a list of them; stolen) without the URLs in "used_by" that lead to projects which the
 * caller may not use. A new reference. */
json_t *usedby_seen_by(const Caller *caller, json_t *metadata);
