/* event.h: what happened, to whoever listens on /1.0/events. Threads: main loop. */
#pragma once
#include "agent/agent.h"
#include "agent/api/server.h"

EventHub *event_hub_new(Agent *agent);
void event_hub_free(EventHub *hub);
/* Disconnects every listener (shutdown). */
void event_hub_close(EventHub *hub);

/* action: "instance-started"; source: "/1.0/instances/c1" (project is added when not default).
 * 'context' (stolen) may be NULL. 'caller' may be NULL for what the agent does by itself. */
void event_lifecycle(Agent *agent, const char *project, const Caller *caller, json_t *context,
                     const char *action, const char *source_format, ...) G_GNUC_PRINTF(6, 7);
/* type: "operation", "logging"; 'metadata' is stolen. */
void event_send(Agent *agent, const char *type, const char *project, json_t *metadata);
extern const Route event_routes[];
