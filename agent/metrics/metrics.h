/* metrics.h: GET /1.0/metrics. Threads: main loop. */
#pragma once
#include "agent/api/server.h"

extern const Route metrics_routes[];
