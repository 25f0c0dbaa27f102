/* recover.h: volumes without rows become instances and volumes again. Threads: main loop. */
#pragma once
#include "agent/api/server.h"

/* POST /internal/recover/validate and …/import, as 'lxd recover' and 'hawser recover' ask them. */
extern const Route recover_routes[];
