/* hardware.h: /1.0/hawser/hw: the host's accelerated NICs: what there is, what stands in the way, and
 * preparing a PF. */
#pragma once
#include "agent/api/server.h"

/* Keeps what was prepared: "<dir>/hw-prepare.json", which 'hawserd forkprepare' carries out at boot. */
int hardware_fork_prepare(int argc, char **argv);
extern const Route hardware_routes[];
