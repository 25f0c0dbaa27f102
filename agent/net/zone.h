/* zone.h: network zones: what DNS secondaries are told of instances.
 * Threads: main loop, inside fibers. */
#pragma once
#include "agent/net/netobj.h"
#include "agent/net/zonewire.h"
#include "agent/state/zones.h"

/* The zone as it is now: its records, and the addresses of the networks that name it. What cannot be
 * told in DNS is left out. Yields. */
ZoneContent *zone_content(Agent *agent, const ZoneRow *row, GError **error);
/* The zone with that name, in lower case; NULL with NOT_FOUND. Yields. */
ZoneRow *zone_find(Agent *agent, const char *name, GError **error);
/* Does the network name the zone? */
bool zone_named_by(json_t *net_config, const char *zone);
/* The zones that a network would name: they exist, and are no more than one forward zone a project.
 * INVALID. Yields. */
bool zone_check_network(Agent *agent, json_t *net_config, GError **error);

extern const Route zone_routes[], zone_record_routes[];
