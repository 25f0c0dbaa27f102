/* farside.h: what hawser-dpd has to know to be fast between hosts: networks' tunnel keys, and uplinks.
 * Threads: main loop, inside fibers. */
#pragma once
#include "agent/agent.h"

typedef struct FarSide FarSide;
FarSide *farside_new(Agent *agent);
void farside_free(FarSide *side);
/* 'zone_of' says the zone of a network by its id, 0 for none. Tells hawser-dpd when something differs from what it was
 * told last, and goes on doing so as the southbound database changes, for as long as ports may be fast.
 * Failures are logged: packets take the switch. Yields. */
typedef guint (*FarZoneOf)(gint64 network, void *data);
void farside_refresh(FarSide *side, FarZoneOf zone_of, void *data);
