/* change.h: changes of an instance's configuration and name, live where it runs.
 * Threads: main loop, inside fibers; all yield. */
#pragma once
#include "agent/inst/record.h"

/* Local config, devices, profiles, description, ephemeral as in 'wanted'; what fails to apply is taken
 * back as a whole. */
bool change_update(Inst *inst, const InstRow *wanted, const Caller *caller, GError **error);
bool change_rename(Inst *inst, const char *name, const Caller *caller, GError **error);
/* What a request may not change of the keys that are ours ('from' has them), put into 'to' where it was left out. */
bool change_keep_volatile(json_t *from, json_t *to, GError **error);
/* After a rename: logs and backups, whose directories carry the name. May be repeated. */
void change_follow(Inst *inst, const char *old_name);
