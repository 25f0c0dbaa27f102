/* intercept.h: system calls of containers that the agent makes for them (security.syscalls.intercept.*).
 * Threads: main loop, inside fibers. */
#pragma once
#include "agent/inst/inst.h"

/* Listens for liblxc's monitors, which pass on what seccomp holds back. */
bool intercept_start(Agent *agent, GError **error);
/* The socket they pass it to; caller frees. */
char *intercept_path(Agent *agent);
/* Which file systems a container may mount, by its config: type → "", or the FUSE program that does it. A
 * new reference; INVALID for a broken list, or a type that is in both. */
json_t *intercept_mounts(json_t *config, GError **error);
