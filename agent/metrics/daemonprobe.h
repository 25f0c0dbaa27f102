/* daemonprobe.h: what the agent knows of itself and of its parts. Threads: main loop, inside fibers. */
#pragma once
#include "agent/agent.h"
#include "agent/metrics/exposition.h"

/* Everything that costs no more than looking: fresh with each scrape. */
void daemonprobe_read(Agent *agent, Exposition *samples);
/* Instances by status of the projects for which 'may' is true. */
typedef bool (*DaemonprobeMay)(const char *project, const void *data);
void daemonprobe_instances(Agent *agent, DaemonprobeMay may, const void *data, Exposition *samples);
