/* zone_server.h: the DNS server that hands zones to secondaries (core.dns_address).
 * Threads: main loop. */
#pragma once
#include "agent/agent.h"

ZoneServer *zone_server_new(Agent *agent);
void zone_server_free(ZoneServer *server);
/* Listens on UDP and TCP; NULL or "" stops. On failure the former listeners go on. A SettingsApply for
 * core.dns_address. Yields. */
bool zone_server_listen(Agent *agent, const char *key, const char *address, GError **error);
