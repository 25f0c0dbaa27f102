/* devlxd.h: the API that guests have: /dev/lxd/sock. Threads: main loop, inside fibers. */
#pragma once
#include "agent/inst/inst.h"

/* Listens on <dir>/devlxd/sock, which containers see as /dev/lxd/sock. */
bool devlxd_start(Agent *agent, GError **error);
/* A connection of that instance's guest, by the user id 'uid' in it: until it ends. Takes the descriptor.
 * Yields. */
void devlxd_serve(Agent *agent, Inst *inst, int *fd, uid_t uid);
/* Tells the guest's listeners: type "config" with {"key","old_value","value"}, or "device" with
 * {"action","name","config"}. 'metadata' is stolen. */
void devlxd_event(Inst *inst, const char *type, json_t *metadata);
/* What a change of an instance's expanded maps means to its guest: config events for user.*, device
 * events added, removed, updated. */
void devlxd_changed(Inst *inst, json_t *old_config, json_t *old_devices);
