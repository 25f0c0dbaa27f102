/* exec.h: POST /1.0/instances/NAME/exec. Threads: main loop. */
#pragma once
#include "agent/api/server.h"

extern const Route exec_routes[];
