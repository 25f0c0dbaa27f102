/* fastzone.h: what the fast path has to know of OVN: zones of networks that reach each other, the ports'
 * addresses, and when what it has learned holds no longer.
 * Threads: main loop, inside fibers where marked "Yields". */
#pragma once
#include "agent/agent.h"
#include "proto/dpd.pb-c.h"

FastZones *fastzone_new(Agent *agent);
void fastzone_free(FastZones *zones);

/* A description of the logical port for hawser-dpd, the caller's: NULL when its network says
 * hawser.fastpath=false. Comes back at once. */
Dpd__Fast *fastzone_describe(Agent *agent, const char *lsp);
void fastzone_describe_free(Dpd__Fast *fast);

/* Tells hawser-dpd of ports whose zone, addresses or permission are others now. Failures are logged: what
 * is fast was allowed, and what was revoked is flushed by its bump. Yields. */
void fastzone_refresh(Agent *agent);
/* The same soon, in the background. */
void fastzone_kick(Agent *agent);
/* "project/instance/device" of a logical port in hawser-dpd's answers, by lsp; owned strings. Yields. */
GHashTable *fastzone_names(Agent *agent);
