/* dataprobe.h: what hawser-dpd and the hardware say: looked at together with the instances.
 * Threads: main loop, inside fibers. */
#pragma once
#include "agent/agent.h"
#include "agent/metrics/exposition.h"

/* Adds ports, functions, representors. Yields. */
void dataprobe_read(Agent *agent, Exposition *samples);
