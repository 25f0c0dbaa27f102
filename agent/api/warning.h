/* warning.h: warnings that stay until somebody acts: /1.0/warnings. Threads: main loop, in fibers. */
#pragma once
#include "agent/agent.h"
#include "agent/api/server.h"

/* LXD's type codes. */
typedef enum {
    WARNING_UNDEFINED = 0,
    WARNING_MISSING_CGROUP_BLKIO = 1,
    WARNING_NETWORK_UNAVAILABLE = 20,
    WARNING_INSTANCE_AUTOSTART_FAILURE = 22,
    WARNING_STORAGE_POOL_UNAVAILABLE = 24,
} WarningType;
/* Raises it (counts up when it is there), or marks it resolved. entity_url may be "". Yields. */
void warning_raise(Agent *agent, WarningType type, const char *project, const char *entity_url,
                   const char *message);
void warning_resolve(Agent *agent, WarningType type, const char *project, const char *entity_url);
extern const Route warning_routes[];
