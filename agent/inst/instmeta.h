/* instmeta.h: /1.0/instances/NAME/metadata and its templates. Threads: main loop. */
#pragma once
#include "agent/api/server.h"

extern const Route instmeta_routes[];
