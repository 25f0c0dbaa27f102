/* hardware.h: /1.0/hawser/hw: the host's accelerated NICs: what there is, what stands in the way, and
 * preparing a PF. */
#pragma once
#include "agent/api/server.h"

extern const Route hardware_routes[];
