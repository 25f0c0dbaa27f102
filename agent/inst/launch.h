/* launch.h: the start of a container's init by the helper that runs liblxc.
 * Threads: main loop, inside fibers. */
#pragma once
#include "agent/inst/inst.h"

typedef struct Launch Launch;
/* Starts the helper, which loads its libraries and makes the namespaces while the caller goes on. 'map' is
 * the container's (empty: privileged); 'inside': it gets its network namespace ahead. */
Launch *launch_new(Inst *inst, const char *conf_path, const GArray *map, bool inside,
                   GError **error);
/* Its network namespace: a descriptor, borrowed; 0 for one without 'inside', -1 on failure. Yields. */
int launch_netns(Launch *launch, GError **error);
/* Runs what the file at 'conf_path' describes. Returns once init runs; *ret_pid is init's. Yields. */
bool launch_go(Launch *launch, pid_t *ret_pid, GError **error);
/* Takes NULL. What has not been told to go ends, and its namespaces with it. */
void launch_free(Launch *launch);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(Launch, launch_free)
