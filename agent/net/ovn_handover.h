/* ovn_handover.h: the OVN ports of a virtual machine that has come from another server while it ran.
 * Threads: main loop, inside fibers. */
#pragma once
#include "agent/agent.h"

/* The guest runs here: its ports on shared networks are this server's. What fails is logged, and mended by the
 * reconciler when the source's row goes. Yields. */
void ovn_handover_take(Agent *agent, gint64 instance_id);
