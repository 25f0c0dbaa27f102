/* console.h: /1.0/instances/NAME/console. Threads: main loop. */
#pragma once
#include "agent/api/server.h"

extern const Route console_routes[];
