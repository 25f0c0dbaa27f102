/* instbackup.h: backups of instances: …/backups, and import of one. Threads: main loop, in fibers. */
#pragma once
#include "agent/inst/record.h"

extern const Route instbackup_routes[];
/* POST /1.0/instances with an archive as its body: a new instance from a backup. */
bool instbackup_import(Request *req, GError **error);
/* As they stand in an instance's recursion=2; a new array. Yields. */
json_t *instbackup_show(Inst *inst);
/* The files follow a renamed or deleted instance; 'to' NULL: deleted. */
void instbackup_follow(Agent *agent, const char *from_object, const char *to_object);
/* Removes what has expired. Yields. */
void instbackup_expire(InstTable *table);
