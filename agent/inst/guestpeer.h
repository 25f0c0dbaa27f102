/* guestpeer.h: which instance a process belongs to. Threads: main loop, inside fibers. */
#pragma once
#include "agent/inst/inst.h"

/* The running container in whose pid namespace (or one below it) 'pid' is: a reference, or NULL. */
Inst *guestpeer_find(InstTable *table, pid_t pid);
/* Whether the host's 'uid' is root inside. */
bool guestpeer_is_root(Inst *inst, uid_t uid);
