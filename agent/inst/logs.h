/* logs.h: /1.0/instances/NAME/logs. Threads: main loop. */
#pragma once
#include "agent/api/server.h"

extern const Route logs_routes[];
